//! What one caller launches and mails within the policy's hours counts together, whatever campaigns it is of.

use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::Client;
use tokio::time::timeout;
use tonic::{Code, Status};
use winback::WinbackTemplate::Standard;

use super::{House, limit, look, waiting};
use crate::dry_runs::dry_run;
use crate::mailing::{TENANT, over};
use crate::refused;
use crate::utility::{launch, until_sent};
use crate::winback::mails::{execute, ready};
use crate::winback::results::mailed;

/// Long for a call that waits for nobody.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn for_hours(client: &Client, hours: i32) -> Result<pb::ApprovalPolicy, Status> {
    let request = pb::UpdateApprovalPolicyRequest {
        approval_policy: Some(pb::ApprovalPolicy {
            members_over: Some(4),
            window_hours: Some(hours),
            ..Default::default()
        }),
        ..Default::default()
    };
    let set = client.approvals().update_approval_policy(request).await;
    set.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn campaigns_of_one_caller_are_counted_together_for_some_hours() {
    let (house, utility) = House::with_limit(4).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let request = pb::GetApprovalPolicyRequest {};
    let policy = anna.approvals().get_approval_policy(request).await;
    assert_eq!(policy.unwrap().into_inner().window_hours, Some(20));
    for hours in [0, 8_761] {
        let status = for_hours(anna, hours).await.unwrap_err();
        refused::names(&status, &["approval_policy.window_hours"]);
    }
    // Whoever shortens them stays under the longer ones.
    assert_eq!(for_hours(&ben, 2).await.unwrap().window_hours, Some(2));

    let first = launch(anna, utility.launch()).await;
    until_sent(anna, &first.campaign.unwrap().name, 4).await;
    let dry = pb::DryRunLaunchRequest {
        launch: Some(utility.launch()),
        ..Default::default()
    };
    assert!(dry_run(anna, dry.clone()).await.1.needs_approval);
    assert!(!dry_run(&ben, dry.clone()).await.1.needs_approval);
    let (_, phase) = waiting(anna, utility.launch()).await;
    assert_eq!(look(&ben, &phase).await.unwrap().members, 4);
    // What somebody else launches is theirs.
    let other = launch(&ben, utility.launch()).await;
    until_sent(&ben, &other.campaign.unwrap().name, 4).await;

    // What was launched before does not count any more, and what waits goes on waiting.
    execute(
        &house.server,
        "UPDATE audience SET frozen_at = frozen_at - interval '121 minutes'",
    )
    .await;
    assert!(!dry_run(anna, dry).await.1.needs_approval);
    let last = launch(anna, utility.launch()).await;
    until_sent(anna, &last.campaign.unwrap().name, 4).await;
    let waits = look(&ben, &phase).await.unwrap();
    assert_eq!(waits.state(), pb::LaunchApprovalState::Awaiting);
}

#[tokio::test]
async fn workloads_of_one_mapping_are_counted_together() {
    let (house, utility) = House::with_limit(4).await;
    let anna = &house.anna;
    // As a workload that has another name each time it is started.
    execute(
        &house.server,
        "CREATE FUNCTION by_a_pod() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.launched_by := 'certificates/crm/pod-' || NEW.id; RETURN NEW; END $$;
         CREATE TRIGGER by_a_pod BEFORE INSERT ON phase
             FOR EACH ROW EXECUTE FUNCTION by_a_pod()",
    )
    .await;
    let first = launch(anna, utility.launch()).await;
    until_sent(anna, &first.campaign.unwrap().name, 4).await;
    let (_, phase) = waiting(anna, utility.launch()).await;
    let waits = look(anna, &phase).await.unwrap();
    assert!(waits.launcher.starts_with("certificates/crm/pod-"));
    // Those of other mappings have their own count.
    let others = "UPDATE phase SET launched_by = replace(launched_by, '/crm/', '/erp/')";
    execute(&house.server, others).await;
    let last = launch(anna, utility.launch()).await;
    until_sent(anna, &last.campaign.unwrap().name, 4).await;
}

pub(super) async fn ask(
    client: &Client,
    filter: &str,
    trial: bool,
) -> Result<lro::Operation, Status> {
    let request = winback::MailWinbackCasesRequest {
        template: Standard.into(),
        filter: filter.into(),
        validate_only: trial,
        ..Default::default()
    };
    let asked = client.winback_mails().mail_winback_cases(request).await?;
    Ok(asked.into_inner())
}

#[tokio::test]
async fn mailings_that_a_server_of_the_version_before_was_asked_for_are_nobodys() {
    let house = House::open("").await;
    let anna = ready(&house.server, 5, 1).await;
    // It does not say who asks.
    execute(
        &house.server,
        "UPDATE winback_case w SET at_stake = CASE WHEN c.number < '0002' THEN 50 ELSE 200 END
         FROM customer c WHERE c.id = w.customer_id;
         CREATE FUNCTION asked_as_before() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.launched_by := ''; RETURN NEW; END $$;
         CREATE TRIGGER asked_as_before BEFORE INSERT ON winback_mailing
             FOR EACH ROW EXECUTE FUNCTION asked_as_before()",
    )
    .await;
    limit(&anna, Some(4)).await.unwrap();
    for (filter, count) in [("at_stake > 100", 3), ("at_stake < 100", 2)] {
        let asked = ask(&anna, filter, false).await.unwrap();
        let over = over(&anna, &asked.name).await;
        assert_eq!(mailed(&over).mailed_count, count, "{filter}");
    }
}

#[tokio::test]
async fn winback_mailings_are_not_a_way_around() {
    let house = House::open("").await;
    let anna = ready(&house.server, 5, 1).await;
    let ben = house.as_of(1, TENANT).await;
    let (rich, poor) = ("at_stake > 100", "at_stake < 100");
    execute(
        &house.server,
        "UPDATE winback_case w SET at_stake = CASE WHEN c.number < '0002' THEN 50 ELSE 200 END
         FROM customer c WHERE c.id = w.customer_id",
    )
    .await;
    limit(&anna, Some(4)).await.unwrap();

    // Five are too many, and nobody of them is mailed. A trial does not wait for who launches at the moment.
    let launches = house.server.database.connect().await.unwrap();
    let turn = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('launches ' || id::text, 0)) FROM tenant";
    launches.batch_execute(turn).await.unwrap();
    let trial = timeout(PATIENCE, ask(&anna, "", true)).await;
    let status = trial.expect("it waits for nobody").unwrap_err();
    launches.batch_execute("ROLLBACK").await.unwrap();
    let (subject, why) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "approvalPolicy");
    assert!(
        why.contains("5 customers") && why.contains("campaign"),
        "{why}"
    );
    let asked = ask(&anna, "", false).await.unwrap();
    let Some(lro::operation::Result::Error(error)) = over(&anna, &asked.name).await.result else {
        panic!("it went out");
    };
    assert_eq!(error.code, i32::from(Code::FailedPrecondition));
    assert!(error.message.contains("5 customers"), "{error:?}");
    assert_eq!(
        house
            .server
            .database
            .one("SELECT count(*)::text FROM message")
            .await
            .unwrap(),
        "0"
    );

    // Three are not, and two more are.
    let asked = ask(&anna, rich, false).await.unwrap();
    assert_eq!(mailed(&over(&anna, &asked.name).await).mailed_count, 3);
    let status = ask(&anna, poor, true).await.unwrap_err();
    let (_, why) = refused::precondition(&status, "PRECONDITION");
    assert!(why.contains("2 customers, after 3"), "{why}");
    // Somebody else has sent none.
    let asked = ask(&ben, poor, false).await.unwrap();
    assert_eq!(mailed(&over(&ben, &asked.name).await).mailed_count, 2);
}
