//! Launches over a size wait for a second person, who approves just what then goes out.

use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::products::v1 as products;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::receiver::Receiver;
use anklang_testkit::{Client, Options, TestServer};
use mail_parser::MessageParser;
use pb::{LaunchApprovalState as State, LaunchDecisionKind as Kind, PhaseState};
use serde_json::json;
use tonic::{Code, Status};

use crate::campaigns::{ask, get_operation, metadata};
use crate::dry_runs::dry_run;
use crate::identity::{knows, new_token};
use crate::phases::{after_previous, cancel, further, pause, phase, resume, run_sql, until_state};
use crate::phone::{by_phone, callable, contacts};
use crate::refused;
use crate::utility::{
    FEW, Reason, TARGET, Utility, figures, launch, launched, money, offers_of, until, until_sent,
    with_utility,
};
use crate::work_list::claim;

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
        let known = |i: usize, id: &str, role: &str| knows(id, &tokens[i], &[], &[role]);
        let auth = [
            known(0, "anna", "central"),
            known(1, "ben", "central"),
            known(2, "cleo", "central"),
            known(3, "shop", "service"),
        ];
        let server = TestServer::start_with(Options {
            config: format!("{config}\n[auth]\nmode = \"token\"\n{}", auth.concat()),
            token: Some(tokens[0].clone()),
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

/// A mail of a brand says something else from now on.
async fn save_mail(client: &Client, brand: &str, text: &str) {
    let message = templates::MessageContent {
        subject: "Angebot".into(),
        text_body: text.into(),
        ..Default::default()
    };
    let request = templates::UpdateTemplateRequest {
        template: Some(templates::Template {
            name: format!("brands/{brand}/templates/offer_mail.de"),
            content: Some(templates::template::Content::Message(message)),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    client.templates().update_template(request).await.unwrap();
}

/// How many of the mails that arrived say that.
fn mails_saying(server: &TestServer, text: &str) -> usize {
    let says = |data: &[u8]| {
        let mail = MessageParser::default().parse(data).unwrap();
        mail.body_text(0).unwrap().contains(text)
    };
    let mails = server.sink.received();
    mails.iter().filter(|mail| says(&mail.data)).count()
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
async fn what_changes_has_to_be_approved_anew() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    // While it waits: the hash is another one.
    let seen = look(&ben, &phase).await.unwrap();
    save_mail(anna, "linden", "Fassung-Eins").await;
    let status = approve(&ben, &phase, &seen.hash).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    let again = look(&ben, &phase).await.unwrap();
    assert_ne!(again.hash, seen.hash);
    let own = &again.templates[0];
    assert_eq!(
        (&own.template[..], own.version),
        ("brands/linden/templates/offer_mail.de", 1)
    );
    // Held, so that it is approved and nothing is sent yet.
    pause(anna, &phase).await.unwrap();
    approve(&ben, &phase, &again.hash).await.unwrap();
    until_state(anna, &phase, PhaseState::Active).await;

    // Something that it is not made of changes nothing.
    run_sql(
        &house.server,
        "INSERT INTO template (tenant_id, brand_id, key, language, version, kind)
         SELECT tenant_id, id, 'other_mail', 'de', 1, 'message' FROM brand",
    )
    .await;
    assert_eq!(look(&ben, &phase).await.unwrap().state(), State::Approved);
    save_mail(anna, "linden", "Fassung-Zwei").await;
    let void = look(&ben, &phase).await.unwrap();
    assert_eq!(void.state(), State::Awaiting);
    assert_eq!(void.decisions[0].kind(), Kind::Voided);
    assert!(
        void.decisions[0].remark.contains("offer_mail.de"),
        "{void:?}"
    );
    resume(anna, &phase).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 0);
    let status = approve(&ben, &phase, &again.hash).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");

    approve(&ben, &phase, &void.hash).await.unwrap();
    until_sent(anna, campaign_of(&phase), 4).await;
    assert_eq!(mails_saying(&house.server, "Fassung-Eins"), 0);
    assert_eq!(mails_saying(&house.server, "Fassung-Zwei"), 2);
    // When all is sent nothing waits any more, whatever changes.
    save_mail(anna, "linden", "Fassung-Drei").await;
    let over = crate::phases::phase(anna, &phase).await;
    assert_eq!(over.state(), PhaseState::Active);
    assert_eq!(look(&ben, &phase).await.unwrap().state(), State::Void);
}

#[tokio::test]
async fn prices_brands_and_dates_are_part_of_what_is_approved() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    pause(anna, &phase).await.unwrap();
    let version = products::GetProductVersionRequest {
        name: TARGET.into(),
    };
    let version = anna.products().get_product_version(version).await.unwrap();
    let mut dearer = version.into_inner();
    dearer.base_price_per_year.as_mut().unwrap().units += 1;
    dearer.etag.clear();
    let rounds = ["version", "brand", "phase"];
    for changed in rounds {
        let approved = read_and_approve(&ben, &phase).await;
        until_state(anna, &phase, PhaseState::Active).await;
        match changed {
            "version" => {
                let request = products::UpdateProductVersionRequest {
                    product_version: Some(dearer.clone()),
                    ..Default::default()
                };
                anna.products()
                    .update_product_version(request)
                    .await
                    .unwrap();
            }
            "brand" => {
                let sql = "UPDATE brand SET sender_name = 'Neu' WHERE code = 'nordlicht'";
                run_sql(&house.server, sql).await;
            }
            _ => {
                let request = pb::ReschedulePhaseRequest {
                    name: phase.clone(),
                    planned_end_date: utility.day(20),
                    ..Default::default()
                };
                anna.campaigns().reschedule_phase(request).await.unwrap();
            }
        }
        let void = look(&ben, &phase).await.unwrap();
        assert_eq!(void.state(), State::Awaiting, "{changed}");
        assert_ne!(void.hash, approved.hash, "{changed}");
        assert!(void.decisions[0].remark.contains(changed), "{void:?}");
        // The letters and their offers are made, and stay as they are.
        assert_eq!(void.annual_amount, approved.annual_amount);
    }
    // Each approval and each change is kept.
    let seen = look(&ben, &phase).await.unwrap();
    let kinds: Vec<Kind> = seen
        .decisions
        .iter()
        .map(pb::LaunchDecision::kind)
        .collect();
    assert_eq!(kinds, [[Kind::Voided, Kind::Approved]; 3].concat());
    read_and_approve(&ben, &phase).await;
    resume(anna, &phase).await.unwrap();
    until_sent(anna, campaign_of(&phase), 4).await;
    assert_eq!(house.server.sink.count(), 4);
}

#[tokio::test]
async fn an_approval_and_a_change_take_turns() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    let seen = look(&ben, &phase).await.unwrap();
    // A change under way that nobody can see yet.
    let changing = house.server.database.connect().await.unwrap();
    let change = "BEGIN; UPDATE brand SET sender_name = 'Neu' WHERE code = 'linden'";
    changing.batch_execute(change).await.unwrap();
    let approving = {
        let (ben, phase, hash) = (ben.clone(), phase.clone(), seen.hash.clone());
        tokio::spawn(async move { approve(&ben, &phase, &hash).await })
    };
    tokio::time::sleep(A_WHILE).await;
    assert!(!approving.is_finished(), "it waits for the change");
    changing.batch_execute("COMMIT").await.unwrap();
    let status = approving.await.unwrap().unwrap_err();
    refused::precondition(&status, "PRECONDITION");

    // Of two approvals one counts, and each customer gets one mail.
    let cleo = house.as_of(2, "linden").await;
    let hash = look(&ben, &phase).await.unwrap().hash;
    let (one, other) = tokio::join!(approve(&ben, &phase, &hash), approve(&cleo, &phase, &hash));
    let refusals: Vec<Status> = [one, other].into_iter().filter_map(Result::err).collect();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    refused::precondition(&refusals[0], "ILLEGAL_TRANSITION");
    until_sent(anna, campaign_of(&phase), 4).await;
    assert_eq!(house.server.sink.count(), 4);
    let decided = look(&ben, &phase).await.unwrap().decisions;
    assert_eq!(decided.len(), 1);
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
    crate::phases::answer_all(anna, &first).await;
    until_state(anna, &second, PhaseState::AwaitingApproval).await;
    assert_eq!(look(&ben, &second).await.unwrap().members, 4);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 4);
    read_and_approve(&ben, &second).await;
    until_sent(anna, campaign, 8).await;
}

#[tokio::test]
async fn nobody_is_called_without_an_approval() {
    let house = House::open("").await;
    let anna = callable(&house.server, 2).await;
    let ben = house.as_of(1, crate::mailing::TENANT).await;
    limit(&anna, Some(1)).await.unwrap();
    let (_, phase) = waiting(&anna, by_phone(pb::PhoneSpec::default())).await;
    assert!(contacts(&anna, &phase).await.is_empty());
    read_and_approve(&ben, &phase).await;
    until_state(&anna, &phase, PhaseState::Active).await;
    let planned = contacts(&anna, &phase).await;
    assert_eq!(planned.len(), 2);
    run_sql(&house.server, "UPDATE brand SET phone = '+49 641 1'").await;
    let state = crate::phases::phase(&anna, &phase).await.state();
    assert_eq!(state, PhaseState::AwaitingApproval);
    let status = claim(&anna, &planned[&0].name, "anna").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    read_and_approve(&ben, &phase).await;
    until("it is handed out again", async || {
        claim(&anna, &planned[&1].name, "anna").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn webhooks_hear_of_what_waits() {
    let house = House::open(crate::handover::QUICK).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, utility) = with_utility(&house.server, FEW).await;
    limit(anna, Some(0)).await.unwrap();
    let receiver = Receiver::start().await;
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "Chat".into(),
            url: receiver.url("/freigabe"),
            event_types: vec!["anklang.launch.awaiting_approval.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    anna.webhooks().create_webhook(request).await.unwrap();
    let (_, phase) = waiting(anna, utility.launch()).await;
    until("the event", async || receiver.calls().len() == 1).await;
    let event = receiver.calls()[0].event();
    assert_eq!(event["type"], "anklang.launch.awaiting_approval.v1");
    assert_eq!(event["subject"], phase);
    let mut data = event["data"].clone();
    assert!(data["event_time"].take().is_string());
    assert_eq!(
        data,
        json!({
            "campaign": campaign_of(&phase), "phase": 1, "campaign_name": "Ökostrom für alle",
            "phase_name": "Phase 1", "launched_by": "tokens/anna", "members": 4, "reason": "",
            "event_time": null,
        })
    );
    pause(anna, &phase).await.unwrap();
    read_and_approve(&ben, &phase).await;
    until_state(anna, &phase, PhaseState::Active).await;
    run_sql(&house.server, "UPDATE brand SET sender_name = 'Neu'").await;
    until("the second event", async || receiver.calls().len() == 2).await;
    let event = receiver.calls()[1].event();
    let reason = event["data"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("the brand "), "{reason}");
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
