//! The primary is killed or stopped while letters and mails of a launch are made and clients call; its standby takes
//! its place. What was acknowledged is there afterwards, and each recipient has one mail, or the ledger says that nobody
//! knows. What else calls meet then: connections that the database ends, in its language, and a standby.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anklang_local::cluster::{Cluster, Options as ClusterOptions, Pooler};
use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_testkit::{Client, Options, TestServer};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{NAME, Pair, database, room};
use crate::mailing::{
    SLIP, TENANT, address, balanced, begin, check_rows, launched, over, save_message, tenant,
    until, until_over,
};

const MEMBERS: usize = 300;

/// A server whose mail server takes its time for each mail, so that there is a middle to be interrupted in.
async fn server(url: String, database_settings: String) -> TestServer {
    let options = Options {
        ambiguous: "hold",
        database_settings,
        ..Default::default()
    };
    let server = TestServer::start_on(database(url), options).await.unwrap();
    let slow = Fault::Slow(Duration::from_millis(20));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    server
}

/// What clients were told who call all the time.
#[derive(Debug, Default)]
struct Told {
    /// Templates that were saved, as the server said.
    saved: BTreeSet<String>,
    answers: usize,
    unavailable: usize,
}

impl Told {
    /// A call has succeeded, or was told to come again.
    fn heard<T>(&mut self, answer: Result<T, Status>) -> Option<T> {
        self.answers += 1;
        match answer {
            Ok(answer) => Some(answer),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                let again = status.get_details_retry_info();
                assert!(
                    again.is_some_and(|info| info.retry_delay.is_some()),
                    "{status:?}"
                );
                self.unavailable += 1;
                None
            }
        }
    }
}

/// Calls again and again until told to stop: a change, and figures.
fn calling(
    client: Client,
    campaign: String,
    caller: usize,
    stop: Arc<AtomicBool>,
) -> JoinHandle<Told> {
    tokio::spawn(async move {
        let mut told = Told::default();
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("brands/sw/templates/of_{caller}_{round}.de");
            let saved = save_message(&client, &name, "Betreff", "Guten Tag").await;
            let saved = told.heard(saved).map(|template| template.name);
            told.saved.extend(saved);
            let board = campaigns::GetInfoboardRequest {
                name: campaign.clone(),
            };
            told.heard(client.campaigns().get_infoboard(board).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        told
    })
}

/// The tenant's templates.
async fn saved(client: &Client) -> BTreeSet<String> {
    let mut request = templates::ListTemplatesRequest {
        parent: "brands/sw".into(),
        page_size: 1_000,
        ..Default::default()
    };
    let mut names = BTreeSet::new();
    loop {
        let page = client.templates().list_templates(request.clone()).await;
        let page = page.unwrap().into_inner();
        names.extend(page.templates.into_iter().map(|template| template.name));
        if page.next_page_token.is_empty() {
            return names;
        }
        request.page_token = page.next_page_token;
    }
}

/// How a primary ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    /// As for a switchover: whoever is connected is told (SQLSTATE 57P01), and the standby has all there is.
    Stopped,
}

/// Launches, ends the primary when some mails have arrived, promotes the standby, and looks at what came of it.
/// Gives the new primary and its folder.
async fn survives(
    pair: Pair,
    server: &TestServer,
    pooler: Option<&Pooler>,
    end: End,
) -> (Cluster, TempDir) {
    let client = tenant(server, MEMBERS).await;
    let operation = begin(&client, SLIP).await;
    let launch = launched(&over(&client, &operation.name).await);
    let campaign = launch.campaign.unwrap().name;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|caller| calling(client.clone(), campaign.clone(), caller, Arc::clone(&stop)))
        .collect();

    until("some mails", async || server.sink.count() >= 40).await;
    let Pair {
        primary,
        standby,
        room,
    } = pair;
    match end {
        End::Killed => primary.kill().await.unwrap(),
        End::Stopped => primary.stop().await.unwrap(),
    }
    assert!(
        server.sink.count() < MEMBERS as u64,
        "nothing is left to send"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    standby.promote().await.unwrap();
    if let Some(pooler) = pooler {
        pooler.lead_to(&standby).unwrap();
    }

    until_over(&client, &campaign).await;
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut unavailable) = (BTreeSet::new(), 0);
    for caller in callers {
        let told = caller.await.unwrap();
        assert!(told.answers > told.unavailable, "no call came through");
        unavailable += told.unavailable;
        acknowledged.extend(told.saved);
    }
    // A pooler has who comes meanwhile wait for the new one.
    assert!(pooler.is_some() || unavailable > 0, "nobody has noticed");
    let there = saved(&client).await;
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");

    check_rows(server, MEMBERS).await;
    let books = balanced(server, &client, &campaign, MEMBERS).await;
    let doubtful = books.in_state(MessageState::Ambiguous);
    for customer in 0..MEMBERS {
        let arrived = books.arrivals(customer);
        let is_doubtful = doubtful.contains(&&address(customer)[..]);
        let fits = arrived == 1 || (arrived == 0 && is_doubtful);
        assert!(fits, "{arrived} mails: {:?}", books.message(customer));
    }
    (standby, room)
}

#[tokio::test]
async fn a_launch_survives_the_death_of_the_primary() {
    let pair = Pair::start().await;
    let server = server(pair.url(), String::new()).await;
    let _primary = survives(pair, &server, None, End::Killed).await;
    // Further servers find the new primary by the same URL.
    let further = server.further().await.unwrap();
    let client = Client::connect(further.addr, TENANT).await.unwrap();
    let saved = save_message(
        &client,
        "brands/sw/templates/after.de",
        "Danach",
        "Guten Tag",
    )
    .await;
    saved.unwrap();
}

#[tokio::test]
async fn a_launch_survives_the_death_of_the_primary_behind_a_pooler() {
    let pair = Pair::start().await;
    let folder = pair.room.path().join("pooler");
    let pooler = Pooler::start(folder, &pair.primary, NAME, 4).await.unwrap();
    let settings = format!("pooler = 'transaction'\ndirect_url = \"{}\"", pair.url());
    let server = server(pooler.url(), settings).await;
    survives(pair, &server, Some(&pooler), End::Killed).await;
}

#[tokio::test]
async fn a_launch_survives_a_switchover() {
    let pair = Pair::start().await;
    let server = server(pair.url(), String::new()).await;
    survives(pair, &server, None, End::Stopped).await;
}

/// Saves a template again and again until clients were told enough.
async fn save_until(client: &Client, enough: impl Fn(&Told) -> bool) {
    let mut told = Told::default();
    while !enough(&told) {
        assert!(told.answers < 2_000, "{told:?}");
        let name = "brands/sw/templates/again.de";
        let saved = save_message(client, name, "Betreff", "Guten Tag").await;
        told.heard(saved);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_change_that_meets_a_standby_is_told_to_come_again() {
    let pair = Pair::start().await;
    let folder = pair.room.path().join("pooler");
    let pooler = Pooler::start(folder, &pair.primary, NAME, 4).await.unwrap();
    let settings = format!("pooler = 'transaction'\ndirect_url = \"{}\"", pair.url());
    let server = server(pooler.url(), settings).await;
    let client = tenant(&server, 1).await;

    // The address leads to what has become a standby.
    pooler.lead_to(&pair.standby).unwrap();
    save_until(&client, |told| told.unavailable >= 10).await;
    let log = server.log();
    assert!(log.contains("in a read-only transaction"), "{log}");

    pooler.lead_to(&pair.primary).unwrap();
    save_until(&client, |told| told.answers > told.unavailable).await;
}

#[tokio::test]
async fn a_call_whose_connection_the_database_ends_is_told_to_come_again_in_any_language() {
    for language in ["en", "de"] {
        let room = room();
        let options = ClusterOptions::test(room.path().join("postgresql")).speaking(language);
        let cluster = Cluster::start(options).await.unwrap();
        cluster.ensure_database(NAME).await.unwrap();
        let url = cluster.url(NAME);
        let server = TestServer::start_on(database(url.clone()), Options::default());
        let server = server.await.unwrap();
        let client = server.client(TENANT).await.unwrap();
        let owner = database(url.clone()).connect().await.unwrap();
        let says = owner.batch_execute("SELECT 1 / 0").await.unwrap_err();
        // Without its catalogue it speaks English.
        let is_foreign = says.as_db_error().unwrap().message() != "division by zero";
        until("its words are known", async || {
            server.log().contains("it is known how it says") == is_foreign
        })
        .await;

        let lock = "BEGIN; LOCK TABLE customer IN ACCESS EXCLUSIVE MODE";
        owner.batch_execute(lock).await.unwrap();
        let calling = {
            let client = client.clone();
            let list = customers::ListCustomersRequest::default();
            tokio::spawn(async move { client.customers().list_customers(list).await })
        };
        until("its connection is ended", async || {
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND query LIKE '%customer%'
                    AND backend_type = 'client backend'";
            database(url.clone()).one(end).await.unwrap();
            calling.is_finished()
        })
        .await;
        let mut told = Told::default();
        let answer = told.heard(calling.await.unwrap());
        assert!(answer.is_none(), "the call was not ended");
        owner.batch_execute("ROLLBACK").await.unwrap();
        let list = customers::ListCustomersRequest::default();
        client.customers().list_customers(list).await.unwrap();
    }
}
