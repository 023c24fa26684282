//! Two servers of every role on one database, of which one of each is killed while a campaign runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_testkit::{Client, Options, TestServer};
use campaigns::PhaseState;
use campaigns::launch_campaign_request::CampaignTarget;
use messages::{MessageResolution, MessageState};

use crate::audit::{audit, sealed};
use crate::campaigns::{ask, phases};
use crate::mailing::{
    SLIP, TENANT, begin, launched, over, request, tenant, until_figures, until_over,
};
use crate::phases::{after_previous, run_sql};

/// Everybody gets a mail of the first phase, and one of the follow-up.
const MEMBERS: usize = 400;

/// A further phase for those who have let their offers of a phase expire.
fn follow_up(phase: &str) -> campaigns::LaunchCampaignRequest {
    let campaign = phase.split("/phases/").next().unwrap();
    campaigns::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::Campaign(campaign.into())),
        audience: None,
        reaction: Some(campaigns::Reaction {
            phase: phase.into(),
            kind: campaigns::ReactionKind::Expired.into(),
            ..Default::default()
        }),
        schedule: Some(after_previous()),
        ..request(SLIP)
    }
}

/// Ids of messages whose mail came, with who got it, as often as it did.
fn arrived(server: &TestServer) -> Vec<(String, String)> {
    let mails = server.sink.received().into_iter();
    let mails = mails.map(|mail| {
        let id = mail.message_id.as_deref().unwrap();
        let id = id.strip_prefix('<').unwrap().strip_suffix("@sw.example>");
        (id.unwrap().to_owned(), mail.rcpt_to.join(","))
    });
    mails.collect()
}

/// Checks that the mail of each message came once, and none besides; gives how many each phase has.
async fn each_once(server: &TestServer) -> BTreeMap<i32, usize> {
    let database = server.database.connect().await.unwrap();
    let sql = "SELECT m.id::text, m.address, p.number FROM message m
               JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id";
    let rows = database.query(sql, &[]).await.unwrap();
    let wanted: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let came = arrived(server);
    assert_eq!(came.len(), wanted.len());
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), wanted);
    let mut recipients: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
    for row in &rows {
        let of_phase = recipients.entry(row.get(2)).or_default();
        assert!(of_phase.insert(row.get(1)), "two messages to one address");
    }
    let counts = recipients
        .into_iter()
        .map(|(phase, all)| (phase, all.len()));
    counts.collect()
}

/// Settles what nobody knows of, as somebody does who looks at the mail server: what came was sent, and the rest is
/// sent again.
async fn settle(server: &TestServer, client: &Client, campaign: &str) {
    let request = messages::ListMessagesRequest {
        page_size: 1_000,
        campaign: campaign.into(),
        states: vec![MessageState::Ambiguous.into()],
        ..Default::default()
    };
    let listed = client.messages().list_messages(request).await.unwrap();
    let came: BTreeSet<String> = arrived(server).into_iter().map(|(id, _)| id).collect();
    let listed = listed.into_inner().messages.into_iter();
    let (sent, lost): (Vec<String>, Vec<String>) = listed
        .map(|message| message.name)
        .partition(|name| came.contains(name.trim_start_matches("messages/")));
    for (names, resolution) in [
        (sent, MessageResolution::Sent),
        (lost, MessageResolution::Resend),
    ] {
        if !names.is_empty() {
            let request = messages::BatchResolveMessagesRequest {
                names,
                resolution: resolution.into(),
                ..Default::default()
            };
            let settled = client.messages().batch_resolve_messages(request).await;
            settled.unwrap();
        }
    }
}

fn slowly(milliseconds: u64) -> Faults {
    let slow = Fault::Slow(Duration::from_millis(milliseconds));
    Faults::none().with(Matching::All, slow)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_every_role_do_a_campaign_though_one_of_each_is_killed() {
    let mut server = TestServer::start_with(Options {
        roles: vec!["api"],
        ambiguous: "hold",
        // What is under way is nobody else's because a machine is slow.
        lease_seconds: 10,
        ..Default::default()
    })
    .await
    .unwrap();
    server.sink.set_faults(slowly(400));
    let api = server.further_as(&["api"]).await.unwrap();
    let worker = server.further_as(&["worker"]).await.unwrap();
    let _other_worker = server.further_as(&["worker"]).await.unwrap();
    let scheduler = server.further_as(&["scheduler"]).await.unwrap();
    let _other_scheduler = server.further_as(&["scheduler"]).await.unwrap();

    // Asked for at one, followed at the other.
    let first = tenant(&server, MEMBERS).await;
    let client = Client::connect(api.addr, TENANT).await.unwrap();
    let operation = begin(&first, SLIP).await;
    let launch = launched(&over(&client, &operation.name).await);
    let campaign = launch.campaign.unwrap().name;
    let phase = launch.phase.unwrap().name;
    let planned = ask(&first, follow_up(&phase)).await.unwrap();

    // In the middle of sending.
    let patience = Duration::from_secs(120);
    server.sink.wait_for(20, patience).await.unwrap();
    drop((worker, scheduler));
    server.kill();
    let sent = usize::try_from(server.sink.count()).unwrap();
    assert!(sent < MEMBERS, "nothing was left to do");
    // Calls go on at the other, and others take the places of the dead.
    assert_eq!(phases(&client, &campaign).await.len(), 2);
    server.sink.set_faults(slowly(5));
    let _third_worker = server.further_as(&["worker"]).await.unwrap();
    let _third_scheduler = server.further_as(&["scheduler"]).await.unwrap();
    until_over(&client, &campaign).await;
    settle(&server, &client, &campaign).await;
    let members = i64::try_from(MEMBERS).unwrap();
    until_figures(&client, &campaign, |m| m.sent == members).await;
    assert_eq!(each_once(&server).await, [(1, MEMBERS)].into());

    // Nobody has answered in time: the phase is over, and what follows begins, once.
    run_sql(&server, "UPDATE offer SET valid_until = current_date - 2").await;
    let followed = launched(&over(&client, &planned.name).await);
    assert_eq!(followed.members, members);
    until_figures(&client, &campaign, |m| m.sent == 2 * members).await;
    let states = phases(&client, &campaign).await;
    let states: Vec<PhaseState> = states.iter().map(campaigns::Phase::state).collect();
    assert_eq!(states, [PhaseState::Completed, PhaseState::Active]);
    assert_eq!(
        each_once(&server).await,
        [(1, MEMBERS), (2, MEMBERS)].into()
    );
    let numbers = "SELECT concat_ws(' ', count(*), count(DISTINCT number), max(substr(number, 3)::bigint),
                          (SELECT count(*) FROM operation WHERE kind = 'LaunchCampaign')) FROM offer";
    let all = 2 * MEMBERS;
    assert_eq!(
        server.database.one(numbers).await.unwrap(),
        format!("{all} {all} {all} 2")
    );

    // What was done is in one chain, whoever has written it.
    sealed(&server).await;
    let at = format!("http://{}", api.addr);
    let (code, said) = audit(&["verify", "--server", &at, "--tenant", TENANT]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the chain is whole"), "{said}");
}
