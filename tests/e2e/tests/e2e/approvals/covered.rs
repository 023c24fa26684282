//! What else goes out with a launch and so is part of what is approved: accounts, and messages to those whom nobody
//! reaches by phone.

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::channels::v1 as channels;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_testkit::Client;
use pb::launch_campaign_request::CampaignTarget;
use pb::{LaunchApprovalState as State, PhaseState};
use planning::OutcomeClass;

use super::{A_WHILE, House, campaign_of, limit, look, read_and_approve, waiting};
use crate::accounts::{self, relay};
use crate::campaigns::{ask, metadata};
use crate::dry_runs::dry_run;
use crate::mailing::{TENANT, save_message};
use crate::phases::{pause, resume, until_state};
use crate::phone::{by_phone, callable, contacts};
use crate::planning::{put_plan, weekly};
use crate::utility::{launch, until, until_sent};
use crate::work_list::{claim, record, says};

#[tokio::test]
async fn other_settings_of_an_account_need_another_approval() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let mut config = relay(&house.server.sink);
    accounts::create(anna, "relay", "mail", config.clone()).await;
    let mut request = utility.launch();
    request.outbound = Some(pb::OutboundSpec {
        channel_account: accounts::name("relay"),
        ..Default::default()
    });
    let (_, phase) = waiting(anna, request).await;
    pause(anna, &phase).await.unwrap();
    let approved = read_and_approve(&ben, &phase).await;
    until_state(anna, &phase, PhaseState::Active).await;
    // How fast it sends is no matter of what it sends.
    let slower = channels::ChannelAccount {
        rate: "50/second".into(),
        ..Default::default()
    };
    accounts::update(anna, "relay", slower, &["rate"])
        .await
        .unwrap();
    accounts::pause(anna, "relay", true).await;
    accounts::pause(anna, "relay", false).await;
    assert_eq!(look(&ben, &phase).await.unwrap().state(), State::Approved);
    config["host"] = "localhost".into();
    accounts::configure(anna, "relay", &config).await;
    let void = look(&ben, &phase).await.unwrap();
    assert_eq!(void.state(), State::Awaiting);
    assert_eq!(void.decisions[0].remark, "the account relay has changed");
    assert_ne!(void.hash, approved.hash);
    accounts::configure(anna, "relay", &relay(&house.server.sink)).await;
    read_and_approve(&ben, &phase).await;
    resume(anna, &phase).await.unwrap();
    until_sent(anna, campaign_of(&phase), 4).await;
}

#[tokio::test]
async fn launches_of_a_campaign_are_counted_together() {
    let (house, utility) = House::with_limit(4).await;
    let anna = &house.anna;
    let first = launch(anna, utility.launch()).await;
    let campaign = first.campaign.unwrap().name;
    until_sent(anna, &campaign, 4).await;
    let further = pb::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::Campaign(campaign.clone())),
        ..utility.launch()
    };
    let dry = pb::DryRunLaunchRequest {
        launch: Some(further.clone()),
        ..Default::default()
    };
    assert!(dry_run(anna, dry).await.1.needs_approval);
    let (_, phase) = waiting(anna, further).await;
    let ben = house.ben().await;
    assert_eq!(look(&ben, &phase).await.unwrap().members, 4);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 4);
    read_and_approve(&ben, &phase).await;
    until_sent(anna, &campaign, 8).await;
}

#[tokio::test]
async fn launches_take_turns_with_those_of_the_version_before() {
    let (house, utility) = House::with_limit(4).await;
    let (anna, database) = (&house.anna, &house.server.database);
    let first = launch(anna, utility.launch()).await;
    let campaign = first.campaign.unwrap().name;
    until_sent(anna, &campaign, 4).await;
    // As one of its servers that counts the campaign's launches, and is not done yet.
    let old = database.connect().await.unwrap();
    let key = "hashtextextended('launches ' || (SELECT id FROM campaign)::text, 0)";
    let turn = format!("BEGIN; SELECT pg_advisory_xact_lock({key})");
    old.batch_execute(&turn).await.unwrap();
    let further = pb::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::Campaign(campaign)),
        ..utility.launch()
    };
    let operation = ask(anna, further).await.unwrap();
    let waits = format!(
        "SELECT count(*) FROM pg_locks
         WHERE locktype = 'advisory' AND NOT granted AND (classid::bigint << 32 | objid::bigint) = {key}
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    until("it waits for its turn", async || {
        database.one(&waits).await.unwrap() == "1"
    })
    .await;
    old.batch_execute("COMMIT").await.unwrap();
    let phase = metadata(&operation).resource;
    until_state(anna, &phase, PhaseState::AwaitingApproval).await;
}

/// The plan NORD: whom nobody reaches at once gets this mail.
async fn plan(client: &Client, template: &str) -> String {
    let rule = planning::RetryRule {
        first_minutes: 30,
        max_attempts: 1,
        then: Some(planning::retry_rule::Then::FollowUpChannel(
            planning::FollowUpChannel::Mail.into(),
        )),
        ..Default::default()
    };
    let plan = planning::ContactPlan {
        outcome_rules: Some(planning::OutcomeRules {
            not_reached: Some(rule),
            ..Default::default()
        }),
        follow_up_messages: vec![planning::FollowUpMessage {
            channel: planning::FollowUpChannel::Mail.into(),
            account: "channelAccounts/mail".into(),
            brand: "brands/sw".into(),
            template: template.into(),
            purpose: "marketing".into(),
        }],
        ..weekly("NORD", &["mon"], "2020-01-01", "2098-12-31")
    };
    put_plan(client, plan).await.unwrap().name
}

async fn save(client: &Client, template: &str, text: &str) {
    let name = format!("brands/sw/templates/{template}.de");
    save_message(client, &name, "Schade", text).await.unwrap();
}

#[tokio::test]
async fn mails_to_whom_nobody_reaches_are_approved_with_the_calls() {
    let house = House::open("").await;
    let anna = callable(&house.server, 2).await;
    let ben = house.as_of(1, TENANT).await;
    limit(&anna, Some(0)).await.unwrap();
    save(&anna, "contact_missed_mail", "Erste Fassung").await;
    save(&anna, "contact_missed_other", "Anders").await;
    let phone = pb::PhoneSpec {
        contact_plan: plan(&anna, "contact_missed_mail").await,
        ..Default::default()
    };
    let (_, phase) = waiting(&anna, by_phone(phone)).await;
    let seen = look(&ben, &phase).await.unwrap();
    let templates: Vec<&str> = seen.templates.iter().map(|t| &t.template[..]).collect();
    assert_eq!(templates, ["brands/sw/templates/contact_missed_mail.de"]);
    read_and_approve(&ben, &phase).await;
    until_state(&anna, &phase, PhaseState::Active).await;

    // The mail changes while somebody calls: it is queued, and waits.
    let planned = contacts(&anna, &phase).await;
    let claimed = claim(&anna, &planned[&0].name, "anna").await.unwrap();
    save(&anna, "contact_missed_mail", "Zweite Fassung").await;
    let void = look(&ben, &phase).await.unwrap();
    assert_eq!(void.state(), State::Awaiting);
    assert!(
        void.decisions[0].remark.contains("missed_mail.de"),
        "{void:?}"
    );
    assert_ne!(void.hash, seen.hash);
    let missed = record(&anna, says(&claimed, OutcomeClass::NotReached)).await;
    missed.unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 0);
    read_and_approve(&ben, &phase).await;
    until("it is sent", async || house.server.sink.count() == 1).await;
    // Another mail in its place is another content as well.
    plan(&anna, "contact_missed_other").await;
    let void = look(&ben, &phase).await.unwrap();
    assert_eq!(void.state(), State::Awaiting);
    assert!(void.decisions[0].remark.contains("NORD"), "{void:?}");
}

#[tokio::test]
async fn the_mail_that_ships_for_whom_nobody_reaches_is_approved_as_well() {
    let house = House::open("").await;
    let anna = callable(&house.server, 2).await;
    let ben = house.as_of(1, TENANT).await;
    limit(&anna, Some(0)).await.unwrap();
    let phone = pb::PhoneSpec {
        contact_plan: plan(&anna, "").await,
        ..Default::default()
    };
    let (_, phase) = waiting(&anna, by_phone(phone)).await;
    let seen = look(&ben, &phase).await.unwrap();
    let [shipped] = &seen.templates[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((&shipped.template[..], shipped.version), ("", 0));
    assert_eq!(shipped.sha256.len(), 64);
    // Without it nothing that ships is part of a call.
    let plain = by_phone(pb::PhoneSpec::default());
    let (_, other) = waiting(&anna, plain).await;
    assert!(look(&ben, &other).await.unwrap().templates.is_empty());
    // Its hash is then what a server of the version before says, which knows nothing of these.
    read_and_approve(&ben, &other).await;
    let kept = "SELECT count(*) FROM launch_decision WHERE NOT content ? 'shipped_follow_ups'";
    assert_eq!(house.server.database.one(kept).await.unwrap(), "1");
    let approved = look(&ben, &other).await.unwrap();
    assert_eq!(approved.state(), State::Approved);
}

#[tokio::test]
async fn that_contracts_with_notice_are_left_out_is_approved_as_well() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    for leave_out in [false, true] {
        let mut request = utility.launch();
        request.leave_out_terminated = leave_out;
        let (_, phase) = waiting(anna, request).await;
        read_and_approve(&ben, &phase).await;
    }
    // The first has the hash that a server of the version before gives it, which does not know of this.
    let kept = "SELECT string_agg(coalesce(content ->> 'leave_out_terminated', 'not in it'), ', '
                                  ORDER BY id)
                FROM launch_decision WHERE kind = 'approved'";
    let kept = house.server.database.one(kept).await.unwrap();
    assert_eq!(kept, "not in it, true");
}
