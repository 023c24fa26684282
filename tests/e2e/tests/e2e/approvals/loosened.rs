//! Whoever loosens the policy is not let go by that: what was in force before counts for them as long as it said.

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, TestServer};
use tonic::Code;

use super::together::{ask, for_hours};
use super::{House, limit, look, waiting};
use crate::dry_runs::dry_run;
use crate::mailing::{TENANT, over};
use crate::refused;
use crate::utility::{Utility, launch, until_sent};
use crate::winback::mails::{execute, ready};
use crate::winback::results::mailed;

/// Whether the utility's launch by that caller would wait.
async fn would_wait(client: &Client, utility: &Utility) -> bool {
    let request = pb::DryRunLaunchRequest {
        launch: Some(utility.launch()),
        ..Default::default()
    };
    dry_run(client, request).await.1.needs_approval
}

/// Lets time go by since the policy was loosened.
async fn later(server: &TestServer, interval: &str) {
    let sql = format!(
        "UPDATE former_approval_policy SET replaced_at = replaced_at - interval '{interval}'"
    );
    execute(server, &sql).await;
}

#[tokio::test]
async fn whoever_lifts_the_limit_launches_nothing_large_alone() {
    let (house, utility) = House::with_limit(3).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    assert_eq!(limit(anna, None).await.unwrap().members_over, None);
    let request = pb::GetApprovalPolicyRequest {};
    let policy = ben.approvals().get_approval_policy(request).await;
    assert_eq!(policy.unwrap().into_inner().members_over, None);

    assert!(would_wait(anna, &utility).await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    let seen = look(&ben, &phase).await.unwrap();
    assert_eq!((seen.members_over, seen.members), (3, 4));
    // For others it is lifted: two people have acted.
    assert!(!would_wait(&ben, &utility).await);
    let of_ben = launch(&ben, utility.launch()).await;
    until_sent(&ben, &of_ben.campaign.unwrap().name, 4).await;

    // Neither tightened back nor loosened again: it is still she who wanted it.
    for members_over in [Some(3), Some(1_000)] {
        limit(anna, members_over).await.unwrap();
        assert!(would_wait(anna, &utility).await, "{members_over:?}");
    }
    waiting(anna, utility.launch()).await;

    later(&house.server, "19 hours 50 minutes").await;
    assert!(would_wait(anna, &utility).await);
    later(&house.server, "10 minutes").await;
    assert!(!would_wait(anna, &utility).await);
    let last = launch(anna, utility.launch()).await;
    until_sent(anna, &last.campaign.unwrap().name, 4).await;
}

#[tokio::test]
async fn whoever_has_lifted_the_limit_sees_it_and_somebody_else_lets_them_go() {
    let (house, utility) = House::with_limit(3).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let stricter = async |client: &Client| {
        let request = pb::GetApprovalPolicyRequest {};
        let policy = client.approvals().get_approval_policy(request).await;
        policy.unwrap().into_inner().stricter
    };
    assert_eq!(stricter(anna).await, None);
    let lifted = limit(anna, None).await.unwrap();
    let seen = stricter(anna).await.unwrap();
    assert_eq!(lifted.stricter.as_ref(), Some(&seen));
    assert_eq!((seen.members_over, seen.window_hours), (3, 20));
    let (set, end) = (lifted.update_time.unwrap(), seen.end_time.unwrap());
    assert_eq!(end.seconds - set.seconds, 20 * 60 * 60);
    assert_eq!(stricter(&ben).await, None);

    // The policy is the same for whoever sets it by what they have read.
    let request = pb::UpdateApprovalPolicyRequest {
        approval_policy: Some(pb::ApprovalPolicy {
            members_over: Some(1_000),
            ..lifted
        }),
        ..Default::default()
    };
    let set = anna.approvals().update_approval_policy(request).await;
    assert!(set.unwrap().into_inner().stricter.is_some());
    assert!(would_wait(anna, &utility).await);

    // Ben has seen what she did, and wants it as well.
    limit(&ben, None).await.unwrap();
    assert_eq!(stricter(anna).await, None);
    assert!(!would_wait(anna, &utility).await);
    // It is he now who wants more than both did.
    assert_eq!(stricter(&ben).await.unwrap().members_over, 1_000);
}

#[tokio::test]
async fn whoever_shortens_the_hours_stays_under_the_longer_ones() {
    let (house, utility) = House::with_limit(4).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let first = launch(anna, utility.launch()).await;
    until_sent(anna, &first.campaign.unwrap().name, 4).await;
    for_hours(anna, 1).await.unwrap();
    execute(
        &house.server,
        "UPDATE audience SET frozen_at = frozen_at - interval '2 hours'",
    )
    .await;
    assert!(would_wait(anna, &utility).await);
    assert!(!would_wait(&ben, &utility).await);

    // The next step is looked at after the hours that count for her, not after the shorter ones.
    later(&house.server, "19 hours").await;
    limit(anna, None).await.unwrap();
    later(&house.server, "2 hours").await;
    assert!(would_wait(anna, &utility).await);
    later(&house.server, "18 hours").await;
    assert!(!would_wait(anna, &utility).await);
}

#[tokio::test]
async fn whoever_lifts_the_limit_mails_no_more_than_before() {
    let house = House::open("").await;
    let anna = ready(&house.server, 5, 1).await;
    let ben = house.as_of(1, TENANT).await;
    limit(&anna, Some(4)).await.unwrap();
    limit(&anna, None).await.unwrap();
    let status = ask(&anna, "", true).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "approvalPolicy");
    assert!(why.contains("5 customers"), "{why}");
    assert!(
        why.contains("who has loosened the approval policy"),
        "{why}"
    );
    let asked = ask(&anna, "", false).await.unwrap();
    let failed = over(&anna, &asked.name).await;
    let Some(lro::operation::Result::Error(error)) = failed.result else {
        panic!("it went out");
    };
    assert_eq!(error.code, i32::from(Code::FailedPrecondition));
    let asked = ask(&ben, "", false).await.unwrap();
    assert_eq!(mailed(&over(&ben, &asked.name).await).mailed_count, 5);
}
