//! Screens that show the work list, whatever happens on whichever server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anklang_proto::anklang::planning::v1::{
    self as pb, OutcomeClass, PlannedContactState as State, WorkListChangeKind as Kind,
};
use anklang_testkit::{Client, TestServer};
use chrono::{TimeDelta, Utc};
use tonic::{Code, Status, Streaming};

use super::{claim, create, desk, due, plan, record, rules, says, sql, timestamp};
use crate::refused;

/// A screen, and what it shows.
struct Screen {
    stream: Streaming<pb::WatchWorkListResponse>,
    shows: BTreeMap<String, pb::PlannedContact>,
    token: String,
    /// What it was told, one by one.
    told: Vec<(Kind, String)>,
    caught_up: bool,
    more: bool,
}

fn of(filter: &str) -> pb::WatchWorkListRequest {
    pb::WatchWorkListRequest {
        filter: filter.into(),
        ..Default::default()
    }
}

async fn watch(
    client: &Client,
    request: pb::WatchWorkListRequest,
) -> Result<Streaming<pb::WatchWorkListResponse>, Status> {
    let stream = client.work_list().watch_work_list(request).await;
    stream.map(tonic::Response::into_inner)
}

impl Screen {
    /// A screen that has shown its beginning.
    async fn open(client: &Client, request: pb::WatchWorkListRequest) -> Screen {
        Screen::with(client, request, BTreeMap::new()).await
    }

    /// The same list as before, on another connection.
    async fn reopen(self, client: &Client, mut request: pb::WatchWorkListRequest) -> Screen {
        let Screen { shows, token, .. } = self;
        request.resume_token = token;
        Screen::with(client, request, shows).await
    }

    async fn with(
        client: &Client,
        request: pb::WatchWorkListRequest,
        shows: BTreeMap<String, pb::PlannedContact>,
    ) -> Screen {
        let mut screen = Screen {
            stream: watch(client, request).await.unwrap(),
            shows,
            token: String::new(),
            told: Vec::new(),
            caught_up: false,
            more: false,
        };
        while !screen.caught_up {
            screen.next().await.unwrap();
        }
        assert_ne!(screen.token, "");
        screen
    }

    async fn next(&mut self) -> Result<(), Status> {
        let soon = Duration::from_secs(120);
        let told = tokio::time::timeout(soon, self.stream.message()).await;
        let told = told.expect("something is told within two minutes")?;
        let told = told.expect("a stream has no end without an error");
        assert!(told.changes.len() <= 100, "{}", told.changes.len());
        for change in told.changes {
            self.told.push((change.kind(), change.name.clone()));
            match change.kind() {
                Kind::Removed => {
                    self.shows.remove(&change.name);
                }
                _ => {
                    let contact = change.planned_contact.unwrap();
                    assert_eq!(contact.name, change.name);
                    self.shows.insert(change.name, contact);
                }
            }
        }
        if !told.resume_token.is_empty() {
            self.token = told.resume_token;
        }
        assert!(!(told.caught_up && self.caught_up), "once");
        self.caught_up |= told.caught_up;
        self.more |= told.more;
        Ok(())
    }

    async fn until(&mut self, what: &str, shows: impl Fn(&Screen) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(120);
        while !shows(self) {
            assert!(
                tokio::time::Instant::now() < end,
                "not within two minutes: {what}"
            );
            self.next().await.unwrap();
        }
    }

    /// Until it shows the contact as it is.
    async fn shows(&mut self, client: &Client, name: &str) {
        let request = pb::GetPlannedContactRequest { name: name.into() };
        let is = client.planned_contacts().get_planned_contact(request).await;
        let is = is.unwrap().into_inner();
        self.until(name, |screen| screen.shows.get(name) == Some(&is))
            .await;
    }

    async fn shows_no(&mut self, name: &str) {
        self.until(name, |screen| !screen.shows.contains_key(name))
            .await;
    }

    /// The status with which it ends.
    async fn end(mut self) -> (Status, String) {
        loop {
            if let Err(status) = self.next().await {
                return (status, self.token);
            }
        }
    }
}

fn names(screen: &Screen) -> BTreeSet<&str> {
    screen.shows.keys().map(String::as_str).collect()
}

async fn listed(client: &Client, filter: &str) -> BTreeMap<String, pb::PlannedContact> {
    let request = pb::ListPlannedContactsRequest {
        page_size: 1_000,
        filter: filter.into(),
        ..Default::default()
    };
    let page = client
        .planned_contacts()
        .list_planned_contacts(request)
        .await;
    let contacts = page.unwrap().into_inner().planned_contacts;
    contacts.into_iter().map(|c| (c.name.clone(), c)).collect()
}

/// Many contacts with customer K1, at no matter which server.
async fn many(server: &TestServer, count: usize, responsible: &str) {
    let make = format!(
        "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date, contact_date,
             contact_at, window_from, window_to, next_at, responsible)
         SELECT c.tenant_id, gen_random_uuid(), 'manual', c.id, current_date, current_date, now(), now(),
                now(), now(), '{responsible}'
         FROM customer c CROSS JOIN generate_series(1, {count})
         WHERE c.number = 'K1'"
    );
    sql(server, &make).await;
}

#[tokio::test]
async fn screens_show_what_other_servers_do() {
    let server = TestServer::start().await.unwrap();
    let here = desk(&server).await;
    let further = server.further().await.unwrap();
    let there = Client::connect(further.addr, "linden").await.unwrap();
    let first = create(&there, due("K1")).await.name;
    let mut screen = Screen::open(&here, of("")).await;
    assert_eq!(screen.told, [(Kind::Listed, first.clone())]);
    assert!(!screen.more);
    screen.shows(&there, &first).await;

    let second = create(&there, due("K2")).await.name;
    screen.shows(&there, &second).await;
    assert_eq!(screen.told[1], (Kind::Added, second.clone()));

    let claimed = claim(&there, &first, "anna").await.unwrap();
    screen.shows(&there, &first).await;
    assert_eq!(screen.shows[&first].claimed_by, "users/anna");
    assert_eq!(screen.told[2], (Kind::Changed, first.clone()));
    let request = pb::ExtendClaimRequest {
        name: first.clone(),
        claim: claimed.claim.clone(),
        claim_seconds: 3_000,
        ..Default::default()
    };
    there.work_list().extend_claim(request).await.unwrap();
    screen.shows(&there, &first).await;
    let request = pb::ReleaseContactRequest {
        name: first.clone(),
        claim: claimed.claim.clone(),
        ..Default::default()
    };
    there.work_list().release_contact(request).await.unwrap();
    screen.shows(&there, &first).await;
    assert_eq!(screen.shows[&first].state(), State::Open);

    // What came of it.
    let claimed = claim(&there, &first, "anna").await.unwrap();
    let recorded = record(&there, says(&claimed, OutcomeClass::NotReached)).await;
    recorded.unwrap();
    screen.shows(&there, &first).await;
    assert_eq!(screen.shows[&first].state(), State::Waiting);

    // A claim that runs out, which whoever asks next finds.
    claim(&there, &second, "anna").await.unwrap();
    screen.shows(&there, &second).await;
    sql(
        &server,
        "UPDATE planned_contact SET claim_until = now() WHERE state = 'claimed'",
    )
    .await;
    super::next(
        &there,
        pb::ClaimNextContactRequest {
            customer_groups: vec!["nobody is of it".into()],
            ..super::asks("bert")
        },
    )
    .await;
    screen.shows(&there, &second).await;
    assert_eq!(screen.shows[&second].state(), State::Open);

    // By hand.
    let later = Utc::now() + TimeDelta::days(1);
    let request = pb::MovePlannedContactRequest {
        name: second.clone(),
        contact_time: Some(timestamp(later)),
        ..Default::default()
    };
    there
        .work_list()
        .move_planned_contact(request)
        .await
        .unwrap();
    screen.shows(&there, &second).await;
    let request = pb::PinPlannedContactRequest {
        name: second.clone(),
        pinned: true,
        ..Default::default()
    };
    there
        .work_list()
        .pin_planned_contact(request)
        .await
        .unwrap();
    screen.shows(&there, &second).await;
    let request = pb::CancelPlannedContactRequest {
        name: second.clone(),
        ..Default::default()
    };
    there
        .work_list()
        .cancel_planned_contact(request)
        .await
        .unwrap();
    screen.shows(&there, &second).await;
    assert_eq!(screen.shows[&second].state(), State::Cancelled);

    // Gone.
    sql(
        &server,
        "DELETE FROM planned_contact WHERE state = 'cancelled'",
    )
    .await;
    screen.shows_no(&second).await;
    assert_eq!(names(&screen), [&first[..]].into());

    // All of it was this tenant's.
    let other = server.client("other").await.unwrap();
    let screen = Screen::open(&other, of("")).await;
    assert_eq!(screen.told, []);
}

#[tokio::test]
async fn contacts_come_into_a_filter_and_leave_it() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    plan(
        &server,
        "DI",
        "",
        &rules(45, 5, &serde_json::json!("close")),
    )
    .await;
    let of_plan = |customer: &str, responsible: &str| pb::NewPlannedContact {
        contact_plan: "contactPlans/DI".into(),
        responsible: responsible.into(),
        ..due(customer)
    };
    let inside = create(&client, of_plan("K1", "users/anna")).await;
    let date = inside.contact_date.unwrap();
    let inside = inside.name;
    let of_others = create(&client, of_plan("K2", "users/bert")).await.name;
    // Of another group, and of no plan.
    let brot = create(&client, of_plan("K5", "users/anna")).await.name;
    let without = pb::NewPlannedContact {
        responsible: "users/anna".into(),
        ..due("K1")
    };
    let without = create(&client, without).await.name;
    let filter = format!(
        "contact_plan = contactPlans/DI AND responsible = users/anna AND (state = OPEN OR \
         state = CLAIMED) AND contact_date = {}-{:02}-{:02}",
        date.year, date.month, date.day
    );
    let request = pb::WatchWorkListRequest {
        customer_groups: vec!["Obst".into()],
        ..of(&filter)
    };
    let mut screen = Screen::open(&client, request).await;
    assert_eq!(screen.told, [(Kind::Listed, inside.clone())]);

    // What is outside of it is not told.
    for name in [&of_others, &brot, &without] {
        claim(&client, name, "carl").await.unwrap();
    }
    let first = claim(&client, &inside, "anna").await.unwrap();
    screen.until("claimed", |s| s.told.len() == 2).await;
    assert_eq!(screen.told[1], (Kind::Changed, inside.clone()));
    record(&client, says(&first, OutcomeClass::Busy))
        .await
        .unwrap();
    screen.shows_no(&inside).await;
    assert_eq!(screen.told[2], (Kind::Removed, inside.clone()));
    // It has left: what becomes of it is no matter of this screen. Somebody hands another one over.
    record(
        &client,
        says(
            &claim(&client, &inside, "anna").await.unwrap(),
            OutcomeClass::Busy,
        ),
    )
    .await
    .unwrap();
    sql(
        &server,
        "UPDATE planned_contact SET responsible = 'users/anna' WHERE responsible = 'users/bert'",
    )
    .await;
    screen.shows(&client, &of_others).await;
    let expected = [
        (Kind::Listed, &inside),
        (Kind::Changed, &inside),
        (Kind::Removed, &inside),
        (Kind::Added, &of_others),
    ];
    let told: Vec<(Kind, &String)> = screen.told.iter().map(|(k, n)| (*k, n)).collect();
    assert_eq!(
        told.iter()
            .filter(|(_, n)| *n != &inside)
            .collect::<Vec<_>>(),
        [&expected[3]]
    );
    // Between two looks it may have been claimed again.
    assert_eq!(told[..3], expected[..3]);
}

#[tokio::test]
async fn a_screen_that_was_away_misses_nothing() {
    let server = TestServer::start().await.unwrap();
    let here = desk(&server).await;
    let further = server.further().await.unwrap();
    let there = Client::connect(further.addr, "linden").await.unwrap();
    let mut contacts = Vec::new();
    for i in 1..=6 {
        contacts.push(create(&here, due(&format!("K{i}"))).await.name);
    }
    let filter = "state = OPEN OR state = WAITING";
    // Somebody's change that takes long: begun before the screen, done after all.
    let slow = server.database.connect().await.unwrap();
    let change = |name: &str| {
        let id = name.trim_start_matches("plannedContacts/").to_owned();
        format!("UPDATE planned_contact SET priority = 77 WHERE id = '{id}'")
    };
    slow.batch_execute(&format!("BEGIN; {}", change(&contacts[0])))
        .await
        .unwrap();
    let mut screen = Screen::open(&here, of(filter)).await;
    assert_eq!(screen.shows.len(), 6);
    // Not held up by it.
    let quick = create(&there, due("K7")).await.name;
    screen.shows(&there, &quick).await;
    assert_eq!(screen.shows[&contacts[0]].priority, 0);

    let token = screen.token.clone();
    let Screen { shows, .. } = screen;
    // Away: one is done, one gone, one changed, one new, and the slow one comes to its end.
    let done = claim(&there, &contacts[1], "anna").await.unwrap();
    record(&there, says(&done, OutcomeClass::Done))
        .await
        .unwrap();
    let id = contacts[2]
        .trim_start_matches("plannedContacts/")
        .to_owned();
    sql(
        &server,
        &format!("DELETE FROM planned_contact WHERE id = '{id}'"),
    )
    .await;
    sql(&server, &change(&contacts[3])).await;
    let new = create(&there, due("K8")).await.name;
    slow.batch_execute("COMMIT").await.unwrap();

    let request = pb::WatchWorkListRequest {
        resume_token: token.clone(),
        ..of(filter)
    };
    let mut screen = Screen::with(&there, request, shows).await;
    assert_eq!(screen.shows, listed(&here, filter).await);
    assert_eq!(screen.shows[&contacts[0]].priority, 77);
    let told: BTreeSet<&str> = screen.told.iter().map(|(_, name)| &name[..]).collect();
    let changed = [&contacts[0], &contacts[1], &contacts[2], &contacts[3], &new];
    assert_eq!(
        told,
        changed.map(String::as_str).into(),
        "nothing else is told again"
    );
    // It goes on, and knows what the screen has.
    let done = claim(&here, &contacts[4], "anna").await.unwrap();
    record(&here, says(&done, OutcomeClass::Done))
        .await
        .unwrap();
    screen.shows_no(&contacts[4]).await;
    let screen = screen.reopen(&here, of(filter)).await;
    assert_eq!(screen.shows, listed(&here, filter).await);

    // The token is of this list alone.
    let other = server.client("other").await.unwrap();
    let with = |filter: &str, resume_token: &str| pb::WatchWorkListRequest {
        resume_token: resume_token.into(),
        ..of(filter)
    };
    for (client, wrong) in [
        (&here, with("state = OPEN", &token)),
        (&other, with(filter, &token)),
        (&here, with(filter, "x")),
        (&here, with(filter, &token[1..])),
    ] {
        let status = watch(client, wrong).await.unwrap_err();
        refused::names(&status, &["resume_token"]);
    }
}

#[tokio::test]
async fn who_has_missed_too_much_begins_anew() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let (all, annas) = (of(""), of("responsible = users/anna"));
    let everything = Screen::open(&client, all.clone()).await;
    let mine = Screen::open(&client, annas.clone()).await;
    many(&server, 1_001, "").await;
    let resumed = |request: &pb::WatchWorkListRequest, token: &str| pb::WatchWorkListRequest {
        resume_token: token.into(),
        ..request.clone()
    };
    let status = watch(&client, resumed(&all, &everything.token))
        .await
        .unwrap_err();
    refused::precondition(&status, "RESUME_TOKEN_EXPIRED");
    // Whose list has none of these has not missed much.
    let mine = mine.reopen(&client, annas.clone()).await;
    assert_eq!(mine.shows, BTreeMap::new());
    many(&server, 20_001, "").await;
    let status = watch(&client, resumed(&annas, &mine.token))
        .await
        .unwrap_err();
    refused::precondition(&status, "RESUME_TOKEN_EXPIRED");

    // Anew: the first of them.
    let mut first = pb::WatchWorkListRequest {
        max_contacts: 1_000,
        ..all
    };
    let screen = Screen::open(&client, first.clone()).await;
    assert_eq!((screen.shows.len(), screen.more), (1_000, true));
    let most = pb::NewPlannedContact {
        priority: 9,
        ..due("K2")
    };
    let most = create(&client, most).await.name;
    (first.max_contacts, first.order_by) = (1, "priority desc".into());
    let screen = Screen::open(&client, first).await;
    assert_eq!(screen.told, [(Kind::Listed, most)]);
}

#[tokio::test]
async fn a_client_that_is_too_slow_is_sent_away_and_loses_nothing() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let slow = Screen::open(&client, of("")).await;
    // Another one on the same server, which keeps up.
    let mut quick = Screen::open(&client, of("customer = customers/K2")).await;
    many(&server, 60_000, "").await;
    let last = create(&client, due("K2")).await.name;
    quick.shows(&client, &last).await;
    assert_eq!(names(&quick), [&last[..]].into());
    // Only now it takes what has been sent.
    let (status, token) = slow.end().await;
    refused::is(&status, Code::Unavailable, "UNAVAILABLE");
    let request = pb::WatchWorkListRequest {
        resume_token: token,
        ..of("")
    };
    let status = watch(&client, request).await.unwrap_err();
    refused::precondition(&status, "RESUME_TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_screen_goes_on_at_another_server_when_its_own_stops() {
    let mut server = TestServer::start().await.unwrap();
    let here = desk(&server).await;
    let further = server.further().await.unwrap();
    let there = Client::connect(further.addr, "linden").await.unwrap();
    let screen = Screen::open(&here, of("")).await;
    let stopping = tokio::spawn(async move {
        server.terminate().await.unwrap();
        server
    });
    let (status, token) = screen.end().await;
    refused::is(&status, Code::Unavailable, "UNAVAILABLE");
    let new = create(&there, due("K1")).await.name;
    let request = pb::WatchWorkListRequest {
        resume_token: token,
        ..of("")
    };
    let screen = Screen::open(&there, request).await;
    assert_eq!(screen.told, [(Kind::Changed, new)]);
    stopping.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let wrong = pb::WatchWorkListRequest {
        filter: "colour = red".into(),
        order_by: "colour".into(),
        customer_groups: vec![String::new()],
        max_contacts: 1_001,
        ..Default::default()
    };
    let status = watch(&client, wrong).await.unwrap_err();
    let fields = ["filter", "order_by", "customer_groups[0]", "max_contacts"];
    refused::names(&status, &fields);
}
