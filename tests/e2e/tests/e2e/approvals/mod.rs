//! Launches over a size wait for a second person, who approves just what then goes out.

mod changers;
mod covered;
mod loosened;
mod together;
mod unseen;
mod voids;

use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use pb::{LaunchApprovalState as State, LaunchDecisionKind as Kind, PhaseState};
use tonic::{Code, Status};

use crate::campaigns::{ask, get_operation, metadata};
use crate::dry_runs::dry_run;
use crate::identity::{knows, new_token};
use crate::phases::{after_previous, answer_all, cancel, further, phase, until_state};
use crate::refused;
use crate::utility::{
    FEW, Reason, TARGET, Utility, figures, launch, launched, money, offers_of, until, until_sent,
    with_utility,
};

/// Long enough for something to go out that must not.
const A_WHILE: Duration = Duration::from_secs(2);

/// Anna launches, Ben and Cleo run the tenant's outreach as well, the shop is another system.
struct House {
    server: TestServer,
    anna: Client,
    tokens: [String; 4],
}

impl House {
    async fn open(config: &str) -> House {
        let tokens = [(); 4].map(|()| new_token());
        let known = |i: usize, id: &str, role: &str| knows(id, &tokens[i], &["*"], &[role]);
        let auth = [
            known(0, "anna", "central"),
            known(1, "ben", "central"),
            known(2, "cleo", "central"),
            known(3, "shop", "service"),
        ];
        let server = TestServer::start_with(Options {
            config: format!("{config}\n[auth]\nmode = \"token\"\n{}", auth.concat()),
            token: Some(tokens[0].clone()),
            ambiguous: "hold",
            plugins: "for_tenants = ['mail']".into(),
            ..Default::default()
        })
        .await
        .unwrap();
        let anna = server.client("linden").await.unwrap();
        House {
            server,
            anna,
            tokens,
        }
    }

    /// The house with a utility, where launches over that size need an approval.
    async fn with_limit(members_over: i64) -> (House, Utility) {
        let house = House::open("").await;
        let (_, utility) = with_utility(&house.server, FEW).await;
        limit(&house.anna, Some(members_over)).await.unwrap();
        (house, utility)
    }

    async fn as_of(&self, who: usize, tenant: &str) -> Client {
        let token = Some(&self.tokens[who][..]);
        let client = Client::connect_as(self.server.addr, Some(tenant), token).await;
        client.unwrap()
    }

    async fn ben(&self) -> Client {
        self.as_of(1, "linden").await
    }
}

async fn limit(client: &Client, members_over: Option<i64>) -> Result<pb::ApprovalPolicy, Status> {
    let request = pb::UpdateApprovalPolicyRequest {
        approval_policy: Some(pb::ApprovalPolicy {
            members_over,
            ..Default::default()
        }),
        ..Default::default()
    };
    let set = client.approvals().update_approval_policy(request).await;
    set.map(tonic::Response::into_inner)
}

async fn look(client: &Client, phase: &str) -> Result<pb::LaunchApproval, Status> {
    let request = pb::GetLaunchApprovalRequest {
        phase: phase.into(),
    };
    let found = client.approvals().get_launch_approval(request).await;
    found.map(tonic::Response::into_inner)
}

async fn approve(client: &Client, phase: &str, hash: &str) -> Result<pb::LaunchApproval, Status> {
    let request = pb::ApproveLaunchRequest {
        phase: phase.into(),
        hash: hash.into(),
        remark: "Gelesen".into(),
        ..Default::default()
    };
    let approved = client.approvals().approve_launch(request).await;
    approved.map(tonic::Response::into_inner)
}

async fn refuse(client: &Client, phase: &str, reason: &str) -> Result<pb::LaunchApproval, Status> {
    let request = pb::RefuseLaunchRequest {
        phase: phase.into(),
        reason: reason.into(),
        ..Default::default()
    };
    let refused = client.approvals().refuse_launch(request).await;
    refused.map(tonic::Response::into_inner)
}

/// Looks, and approves what is there.
async fn read_and_approve(client: &Client, phase: &str) -> pb::LaunchApproval {
    let seen = look(client, phase).await.unwrap();
    assert_eq!(seen.state(), State::Awaiting);
    approve(client, phase, &seen.hash).await.unwrap()
}

/// Launches what then waits; gives its operation and its phase.
async fn waiting(client: &Client, request: pb::LaunchCampaignRequest) -> (lro::Operation, String) {
    let operation = ask(client, request).await.unwrap();
    let phase = metadata(&operation).resource;
    until_state(client, &phase, PhaseState::AwaitingApproval).await;
    (operation, phase)
}

fn campaign_of(phase: &str) -> &str {
    phase.split("/phases/").next().unwrap()
}

#[tokio::test]
async fn the_command_line_says_who_has_to_act_and_is_how_they_do() {
    let (house, utility) = House::with_limit(3).await;
    let address = house.server.addr.to_string();
    let run = async |who: usize, line: &str| {
        let token = &house.tokens[who];
        let mut command = crate::cli::command(&address, line);
        let output = command.args(["--token", token, "--json"]).output().await;
        let output = output.unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        let [out, err] = texts;
        (output.status.code().unwrap(), out, err)
    };
    let (_folder, file) = crate::cli::launch_file(&utility.launch());
    let (code, out, err) = run(0, &format!("campaigns launch --file {file}")).await;
    assert_eq!(code, 3, "{err}");
    let operation: serde_json::Value = serde_json::from_str(&out).unwrap();
    let phase = operation["metadata"]["resource"].as_str().unwrap();
    let approve = format!("approvals approve {phase} --hash");
    assert!(
        err.contains("campaigns.approve") && err.contains(&approve),
        "{err}"
    );

    let (code, out, err) = run(1, &format!("approvals get {phase}")).await;
    assert_eq!(code, 0, "{err}");
    let seen: serde_json::Value = serde_json::from_str(&out).unwrap();
    let approve = format!("{approve} {}", seen["hash"].as_str().unwrap());
    let (code, _, err) = run(0, &approve).await;
    assert_eq!(code, 1, "her own: {err}");
    let (code, _, err) = run(1, &approve).await;
    assert_eq!(code, 0, "{err}");
    let watch = format!("operations watch {}", operation["name"].as_str().unwrap());
    let (code, _, err) = run(0, &watch).await;
    assert_eq!(code, 0, "{err}");
}

#[tokio::test]
async fn small_launches_go_and_large_ones_wait_for_somebody_else() {
    let (house, utility) = House::with_limit(4).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let dry = pb::DryRunLaunchRequest {
        launch: Some(utility.launch()),
        ..Default::default()
    };
    assert!(!dry_run(anna, dry.clone()).await.1.needs_approval);
    let first = launch(anna, utility.launch()).await;
    until_sent(anna, &first.campaign.unwrap().name, 4).await;
    let status = look(anna, &first.phase.unwrap().name).await.unwrap_err();
    refused::not_found(&status);

    let policy = limit(anna, Some(3)).await.unwrap();
    assert_eq!(
        (policy.members_over, &policy.updater[..]),
        (Some(3), "tokens/anna")
    );
    assert!(dry_run(anna, dry).await.1.needs_approval);
    let (operation, phase) = waiting(anna, utility.launch()).await;
    let campaign = campaign_of(&phase);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 4, "nothing of the second one");
    let running = get_operation(anna, &operation.name).await.unwrap();
    assert!(!running.done);
    assert_eq!(metadata(&running).phase, "approval");
    let made = offers_of(anna, campaign).await;
    let states: Vec<_> = made.values().map(offers::Offer::state).collect();
    assert_eq!(states, [offers::OfferState::Draft; 4]);
    let request = pb::ListPhasesRequest {
        parent: campaign.into(),
        filter: "state = AWAITING_APPROVAL".into(),
        ..Default::default()
    };
    let listed = anna.campaigns().list_phases(request).await.unwrap();
    assert_eq!(listed.into_inner().phases[0].name, phase);

    // What there is to see.
    let seen = look(&ben, &phase).await.unwrap();
    assert_eq!(seen.state(), State::Awaiting);
    assert_eq!((seen.members_over, seen.members, seen.documents), (3, 4, 4));
    assert_eq!((seen.candidates, seen.failed_documents), (9, 0));
    let out: i64 = seen.exclusions.iter().map(|e| e.count).sum();
    assert_eq!(out, 5);
    let ended = seen
        .exclusions
        .iter()
        .find(|e| e.reason() == Reason::ContractEnded);
    assert_eq!(ended.unwrap().count, 1);
    assert_eq!(seen.launcher, "tokens/anna");
    assert_eq!(seen.target_product_version, TARGET);
    assert_eq!(seen.outbound.as_ref().unwrap().channel, "mail");
    // Neither brand has a mail of its own.
    assert_eq!(seen.templates.len(), 1);
    assert_eq!(
        (&seen.templates[0].template[..], seen.templates[0].version),
        ("", 0)
    );
    let cents: i128 = utility.members().values().map(|c| c.annual_cents()).sum();
    assert_eq!(seen.annual_amount, Some(money(cents)));
    let sample: Vec<&str> = seen.sample.iter().map(|m| &m.contract[..]).collect();
    let members = utility.members();
    assert_eq!(sample, members.keys().map(|c| &c[..]).collect::<Vec<_>>());
    assert_eq!(seen.hash.len(), 64);
    assert_eq!(look(&ben, &phase).await.unwrap(), seen, "it stays the same");

    // Not by oneself, not by another system, not something else.
    let status = approve(anna, &phase, &seen.hash).await.unwrap_err();
    refused::is(&status, Code::PermissionDenied, "PERMISSION_DENIED");
    let shop = house.as_of(3, "linden").await;
    let status = approve(&shop, &phase, &seen.hash).await.unwrap_err();
    refused::is(&status, Code::PermissionDenied, "PERMISSION_DENIED");
    let status = limit(&shop, None).await.unwrap_err();
    refused::is(&status, Code::PermissionDenied, "PERMISSION_DENIED");
    let status = approve(&ben, &phase, &"0".repeat(64)).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    let status = approve(&ben, &phase, "x").await.unwrap_err();
    refused::names(&status, &["hash"]);
    // Loosening the policy lets nothing go that waits.
    limit(&ben, None).await.unwrap();
    assert_eq!(look(&ben, &phase).await.unwrap().state(), State::Awaiting);
    assert_eq!(house.server.sink.count(), 4);

    let approved = approve(&ben, &phase, &seen.hash).await.unwrap();
    assert_eq!(approved.state(), State::Approved);
    let decision = &approved.decisions[0];
    assert_eq!(
        (decision.kind(), &decision.decider[..], &decision.remark[..]),
        (Kind::Approved, "tokens/ben", "Gelesen")
    );
    assert_eq!(decision.hash, seen.hash);
    let over = launched(&anna.finished(&operation).await.unwrap());
    assert_eq!((over.members, over.failed_documents), (4, 0));
    until_sent(anna, campaign, 4).await;
    assert_eq!(house.server.sink.count(), 8);
    let after = look(&ben, &phase).await.unwrap();
    assert_eq!((after.state(), &after.hash), (State::Approved, &seen.hash));
    let status = approve(&ben, &phase, &seen.hash).await.unwrap_err();
    refused::precondition(&status, "ILLEGAL_TRANSITION");
}

#[tokio::test]
async fn what_is_refused_or_cancelled_never_goes_out() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (operation, phase) = waiting(anna, utility.launch()).await;
    let status = refuse(&ben, &phase, "").await.unwrap_err();
    refused::names(&status, &["reason"]);
    let status = refuse(anna, &phase, "Doch nicht").await.unwrap_err();
    refused::is(&status, Code::PermissionDenied, "PERMISSION_DENIED");
    let seen = look(&ben, &phase).await.unwrap();
    let refusal = refuse(&ben, &phase, "Zu teuer").await.unwrap();
    assert_eq!(refusal.state(), State::Refused);
    assert_eq!(refusal, look(&ben, &phase).await.unwrap());
    assert_eq!((&refusal.hash[..], refusal.members), ("", 0));
    let decision = &refusal.decisions[0];
    assert_eq!(
        (decision.kind(), &decision.decider[..], &decision.remark[..]),
        (Kind::Refused, "tokens/ben", "Zu teuer")
    );
    until_state(anna, &phase, PhaseState::Cancelled).await;
    let ended = anna.finished(&operation).await.unwrap();
    let Some(lro::operation::Result::Error(error)) = &ended.result else {
        panic!("cancelled: {ended:?}");
    };
    assert_eq!(error.code, i32::from(Code::Cancelled));
    let status = approve(&ben, &phase, &seen.hash).await.unwrap_err();
    refused::precondition(&status, "ILLEGAL_TRANSITION");

    let (_, other) = waiting(anna, utility.launch()).await;
    let cancelled = cancel(anna, &other).await.unwrap();
    assert_eq!(cancelled.state(), PhaseState::Cancelled);
    assert_eq!(look(&ben, &other).await.unwrap().state(), State::Ended);

    for phase in [&phase, &other] {
        until("the offers are withdrawn", async || {
            let offers = figures(anna, campaign_of(phase)).await.offers.unwrap();
            (offers.made, offers.withdrawn) == (4, 4)
        })
        .await;
    }
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 0);
}

#[tokio::test]
async fn a_killed_server_goes_on_where_it_was() {
    let (mut house, utility) = House::with_limit(0).await;
    let (operation, phase) = waiting(&house.anna, utility.launch()).await;
    house.server.restart().await.unwrap();
    let ben = house.ben().await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 0);
    read_and_approve(&ben, &phase).await;
    house.server.restart().await.unwrap();
    let anna = house.as_of(0, "linden").await;
    launched(&anna.finished(&operation).await.unwrap());
    until_sent(&anna, campaign_of(&phase), 4).await;
    assert_eq!(house.server.sink.count(), 4);
}

#[tokio::test]
async fn phases_after_one_that_waits_wait_as_well_and_follow_ups_need_their_own() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, first) = waiting(anna, utility.launch()).await;
    let campaign = campaign_of(&first);
    let mut follow_up = further(&utility, campaign, after_previous());
    follow_up.audience = None;
    follow_up.deselected_contracts.clear();
    follow_up.reaction = Some(pb::Reaction {
        phase: first.clone(),
        kind: pb::ReactionKind::Rejected.into(),
        ..Default::default()
    });
    let planned = ask(anna, follow_up).await.unwrap();
    let second = metadata(&planned).resource;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(phase(anna, &second).await.state(), PhaseState::Planned);
    let status = look(&ben, &second).await.unwrap_err();
    refused::not_found(&status);

    read_and_approve(&ben, &first).await;
    until_sent(anna, campaign, 4).await;
    answer_all(anna, &first).await;
    until_state(anna, &second, PhaseState::AwaitingApproval).await;
    assert_eq!(look(&ben, &second).await.unwrap().members, 4);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 4);
    read_and_approve(&ben, &second).await;
    until_sent(anna, campaign, 8).await;
}

#[tokio::test]
async fn another_tenant_finds_nothing_and_without_callers_there_is_no_policy() {
    let (house, utility) = House::with_limit(0).await;
    let (_, phase) = waiting(&house.anna, utility.launch()).await;
    house.server.add_tenant("other").await.unwrap();
    let other = house.as_of(1, "other").await;
    let hash = "0".repeat(64);
    refused::not_found(&look(&other, &phase).await.unwrap_err());
    refused::not_found(&approve(&other, &phase, &hash).await.unwrap_err());
    refused::not_found(&refuse(&other, &phase, "Nein").await.unwrap_err());
    let request = pb::GetApprovalPolicyRequest {};
    let policy = other.approvals().get_approval_policy(request).await;
    assert_eq!(policy.unwrap().into_inner().members_over, None);

    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let status = limit(&client, Some(10)).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "approvalPolicy");
    assert!(why.contains("auth.mode"), "{why}");
    assert_eq!(limit(&client, None).await.unwrap().members_over, None);
    let status = limit(&client, Some(-1)).await.unwrap_err();
    refused::names(&status, &["approval_policy.members_over"]);
}
