//! The work list in a real database: who gets which contact, what follows, and who is fenced off.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anklang_domain::TenantId;
use anklang_domain::planning::OutcomeClass;
use anklang_local::cluster::{Cluster, Options};
use anklang_store::planning::contact::{self, Contact};
use anklang_store::planning::work::change::{self, NewContact};
use anklang_store::planning::work::claim::{self, Claim, Next, Terms, Wanted};
use anklang_store::planning::work::record::{self, Outcome, Recorded, Report, Wish};
use anklang_store::planning::work::{Warning, attempt, outcome, watch};
use anklang_store::{Store, StoreError, migrate, tenant};
use chrono::{NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

const ZONE: Tz = Tz::Europe__Berlin;
const WORKERS: usize = 200;
const CONTACTS: usize = 10_000;

struct Lab {
    tenant: TenantId,
    store: Store,
    client: tokio_postgres::Client,
    // After the store: connections end before the server does, the folder goes last.
    _cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Lab {
    /// A tenant with customers K1 to K9, each with a phone number.
    async fn open() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = Cluster::start(Options::test(folder.path().join("db")))
            .await
            .unwrap();
        cluster.ensure_database("work").await.unwrap();
        let url = cluster.url("work");
        let store = Store::new(&url, 50).unwrap();
        migrate::up(&store).await.unwrap();
        let tenant = tenant::upsert(&store, "one", "One", ZONE).await.unwrap().id;
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let lab = Lab {
            tenant,
            store,
            client,
            _cluster: cluster,
            _folder: folder,
        };
        let t = tenant.0;
        lab.sql(&format!(
            "INSERT INTO customer (tenant_id, id, number, kind, last_name, customer_group)
             SELECT '{t}', gen_random_uuid(), 'K' || n, 'person', 'Kunde' || n,
                    CASE WHEN n < 5 THEN 'Obst' ELSE 'Brot' END
             FROM generate_series(1, 9) n;
             INSERT INTO contact_point (tenant_id, id, customer_id, channel, address, address_hash)
             SELECT tenant_id, gen_random_uuid(), id, 'phone', '+4930123450' || right(number, 1), ''
             FROM customer"
        ))
        .await;
        lab
    }

    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn one(&self, sql: &str) -> String {
        let row = self.client.query_one(sql, &[]).await.unwrap();
        row.get(0)
    }

    /// A plan of which all rules are the same.
    async fn plan(&self, code: &str, attempts: u32, then: &str) {
        let rule = format!(
            "{{\"first_minutes\": 45, \"factor_percent\": 100, \"longest_minutes\": 45,
              \"max_attempts\": {attempts}, \"then\": {then}}}"
        );
        self.sql(&format!(
            "INSERT INTO contact_plan (tenant_id, code, name, recurrence, valid_from, time_zone,
                 holiday_rule, outcome_rules)
             VALUES ('{}', '{code}', 'x', '{{}}', '2020-01-01', 'Europe/Berlin', 'skip',
                     '{{\"not_reached\": {rule}, \"busy\": {rule}, \"call_later\": {rule}}}')",
            self.tenant.0
        ))
        .await;
    }

    async fn create(&self, new: &NewContact<'_>) -> Result<Contact, StoreError> {
        let mut tx = self.store.begin(self.tenant).await.unwrap();
        let made = change::create(&mut tx, self.tenant, new, ZONE, Utc::now()).await?;
        tx.commit().await.unwrap();
        Ok(made)
    }

    async fn due(&self, customer: &str) -> Contact {
        self.create(&due(customer)).await.unwrap()
    }

    async fn of_plan(&self, customer: &str, plan: &str) -> Contact {
        let new = NewContact {
            plan,
            ..due(customer)
        };
        self.create(&new).await.unwrap()
    }

    async fn next_of(&self, worker: &str, wanted: &Wanted<'_>) -> Option<Claim> {
        let terms = Terms {
            worker,
            seconds: 3_600,
        };
        loop {
            let mut tx = self.store.begin_in_order(self.tenant).await.unwrap();
            let next = claim::next(&mut tx, self.tenant, wanted, terms).await;
            tx.commit().await.unwrap();
            match next.unwrap() {
                Next::Claim(claim) => return Some(*claim),
                Next::Nothing => return None,
                Next::PutAside => {}
            }
        }
    }

    async fn next(&self, worker: &str) -> Option<Claim> {
        self.next_of(worker, &wanted(&[worker, ""])).await
    }

    /// The customer of the next contact; "-" for none.
    async fn customer(&self, worker: &str) -> String {
        let next = self.next(worker).await;
        next.map_or_else(|| "-".into(), |claim| claim.contact.customer_number)
    }

    async fn take(&self, id: uuid::Uuid, worker: &str) -> Result<Claim, StoreError> {
        let mut tx = self.store.begin_work(self.tenant).await.unwrap();
        let terms = Terms {
            worker,
            seconds: 300,
        };
        let taken = claim::this(&mut tx, self.tenant, id, terms).await?;
        tx.commit().await.unwrap();
        Ok(taken)
    }

    async fn say(&self, claim: &Claim, report: &Report<'_>) -> Result<Recorded, StoreError> {
        let mut tx = self.store.begin_work(self.tenant).await.unwrap();
        let id = claim.contact.id;
        let said = record::record(&mut tx, self.tenant, id, claim.id, report).await?;
        tx.commit().await.unwrap();
        Ok(said)
    }

    async fn attempts(&self, contact: uuid::Uuid) -> Vec<attempt::Attempt> {
        let tx = self.store.begin(self.tenant).await.unwrap();
        let all = attempt::LISTABLE.all(100);
        let page = attempt::list(&tx, self.tenant, contact, &all).await;
        page.unwrap().rows
    }

    /// Brings back what was put aside, as if its time had come.
    async fn look_again(&self) {
        self.sql("UPDATE planned_contact SET not_before = NULL")
            .await;
    }

    /// Makes what waits due.
    async fn wait(&self) {
        self.sql("UPDATE planned_contact SET next_at = now() WHERE state = 'waiting'")
            .await;
    }
}

fn wanted<'a>(responsibles: &'a [&'a str]) -> Wanted<'a> {
    Wanted {
        responsibles,
        skills: &[],
        plans: &[],
        groups: &[],
        first_date: None,
        time_zone: "Europe/Berlin",
    }
}

fn due(customer: &str) -> NewContact<'_> {
    NewContact {
        customer,
        plan: "",
        contact_at: Utc::now(),
        delivery_date: None,
        responsible: "",
        priority: 0,
        skills: &[],
        contact_person: "",
        phone: "",
        note: "",
    }
}

fn said(class: OutcomeClass) -> Report<'static> {
    Report {
        outcome: Outcome::Class(class),
        note: "",
        talk_seconds: 0,
        wish: None,
        escalate_to: "",
    }
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(result: Result<T, StoreError>, why: &str) {
    match result {
        Err(StoreError::Refused { reason, .. }) => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn names<T: std::fmt::Debug>(result: Result<T, StoreError>, fields: &[&str]) {
    let Err(StoreError::Invalid(violations)) = result else {
        panic!("{result:?}");
    };
    let found: Vec<_> = violations.iter().map(|v| v.field.clone()).collect();
    assert_eq!(found, fields, "{violations}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_people_get_each_contact_once() {
    let lab = Lab::open().await;
    lab.sql(&format!(
        "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date, contact_date,
             contact_at, window_from, window_to, next_at, priority)
         SELECT c.tenant_id, gen_random_uuid(), 'manual', c.id, d.day, d.day, d.midnight, d.midnight,
                d.midnight + interval '1 day', now(), n % 7
         FROM customer c
         CROSS JOIN (SELECT (now() AT TIME ZONE 'Europe/Berlin')::date AS day,
                            date_trunc('day', now() AT TIME ZONE 'Europe/Berlin')
                            AT TIME ZONE 'Europe/Berlin' AS midnight) d
         CROSS JOIN generate_series(1, {CONTACTS}) n
         WHERE c.number = 'K1'"
    ))
    .await;
    let working: Vec<_> = (0..WORKERS)
        .map(|i| {
            let (store, tenant) = (lab.store.clone(), lab.tenant);
            tokio::spawn(async move { works(&store, tenant, &format!("users/agent{i}")).await })
        })
        .collect();
    let mut taken = Vec::new();
    for worker in working {
        taken.extend(worker.await.unwrap());
    }
    let each: BTreeSet<_> = taken.iter().collect();
    assert_eq!((taken.len(), each.len()), (CONTACTS, CONTACTS));
    let order = "SELECT count(*)::text FROM planned_contact WHERE state = 'claimed'";
    assert_eq!(lab.one(order).await, CONTACTS.to_string());
}

/// Takes contacts until there is none.
async fn works(store: &Store, tenant: TenantId, worker: &str) -> Vec<uuid::Uuid> {
    let mut taken = Vec::new();
    loop {
        let mut tx = match store.begin_in_order(tenant).await {
            Ok(tx) => tx,
            // A slow machine has no connection left for a while.
            Err(StoreError::Pool(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        let terms = Terms {
            worker,
            seconds: 3_600,
        };
        let responsibles = [worker, "roles/x", ""];
        let next = claim::next(&mut tx, tenant, &wanted(&responsibles), terms).await;
        tx.commit().await.unwrap();
        match next.unwrap() {
            Next::Claim(claim) => taken.push(claim.contact.id),
            Next::Nothing => return taken,
            Next::PutAside => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_stands_where_it_was_when_that_is_over() {
    let lab = Lab::open().await;
    for customer in ["K1", "K2"] {
        lab.due(customer).await;
    }
    lab.sql(
        "UPDATE planned_contact SET next_at = now() - interval '1 hour';
         UPDATE planned_contact k
         SET next_at = now() - interval '1 day', not_before = now() - interval '1 minute',
             passed_over = 'no_consent'
         FROM customer c WHERE c.id = k.customer_id AND c.number = 'K1'",
    )
    .await;
    let back = claim::take_all_back(&lab.store, lab.tenant).await;
    assert_eq!(back.unwrap(), 0);
    assert_eq!(lab.customer("users/anna").await, "K1");
    assert_eq!(lab.customer("users/anna").await, "K2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_has_run_out_is_no_bar_for_who_asks_by_name() {
    let lab = Lab::open().await;
    lab.due("K1").await;
    let first = lab.next("users/anna").await.unwrap();
    lab.sql("UPDATE planned_contact SET claim_until = now()")
        .await;
    let second = lab.take(first.contact.id, "users/bert").await.unwrap();
    assert_eq!(second.contact.claimed_by.as_deref(), Some("users/bert"));
    assert_ne!(second.id, first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_another_database_are_no_changes() {
    let lab = Lab::open().await;
    lab.due("K1").await;
    let since = watch::now(&lab.store, lab.tenant).await.unwrap();
    // As after a dump and restore.
    lab.sql(
        "ALTER TABLE planned_contact DISABLE TRIGGER planned_contact_written;
         UPDATE planned_contact SET changed_in = '999999999999'",
    )
    .await;
    let mut tx = lab.store.begin_snapshot(lab.tenant).await.unwrap();
    let changed = watch::changed(&mut tx, lab.tenant, &since.snapshot, None, 10).await;
    assert_eq!(changed.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_is_fenced_off_and_one_of_many_is_believed() {
    let lab = Lab::open().await;
    lab.due("K1").await;
    let first = lab.next("users/anna").await.unwrap();
    assert_eq!(first.customer_name, "Kunde1");
    assert_eq!(first.warnings, []);
    assert_eq!(first.contact.claimed_by.as_deref(), Some("users/anna"));
    assert_eq!(lab.customer("users/bert").await, "-");
    is_refused(lab.take(first.contact.id, "users/bert").await, "users/anna");

    lab.sql("UPDATE planned_contact SET claim_until = now()")
        .await;
    let second = lab.next("users/bert").await.unwrap();
    assert_eq!(second.contact.id, first.contact.id);
    let late = lab.say(&first, &said(OutcomeClass::Done)).await;
    is_refused(late, "the claim is over");
    let mut tx = lab.store.begin_work(lab.tenant).await.unwrap();
    let id = first.contact.id;
    is_refused(
        claim::extend(&mut tx, lab.tenant, id, first.id, 300).await,
        "the claim is over",
    );
    is_refused(
        claim::release(&mut tx, lab.tenant, id, first.id).await,
        "the claim is over",
    );
    let longer = claim::extend(&mut tx, lab.tenant, id, second.id, 3_600).await;
    assert!(longer.unwrap().contact.claim_until >= second.contact.claim_until);
    let free = claim::release(&mut tx, lab.tenant, id, second.id).await;
    assert_eq!(free.unwrap().state, "open");
    tx.commit().await.unwrap();

    // Nobody asks: the sweep takes back.
    let third = lab.next("users/anna").await.unwrap();
    lab.sql("UPDATE planned_contact SET claim_until = now()")
        .await;
    let back = claim::take_all_back(&lab.store, lab.tenant).await;
    assert_eq!(back.unwrap(), 1);
    is_refused(lab.say(&third, &said(OutcomeClass::Done)).await, "over");

    let fourth = lab.next("users/anna").await.unwrap();
    let reports = [
        said(OutcomeClass::Done),
        said(OutcomeClass::Busy),
        said(OutcomeClass::OrderTaken),
    ];
    let (a, b, c) = tokio::join!(
        lab.say(&fourth, &reports[0]),
        lab.say(&fourth, &reports[1]),
        lab.say(&fourth, &reports[2]),
    );
    let believed = [&a, &b, &c].iter().filter(|said| said.is_ok()).count();
    assert_eq!(believed, 1, "{a:?} {b:?} {c:?}");
    assert_eq!(lab.attempts(id).await.len(), 1);
    let lines = "SELECT count(*)::text FROM customer_event WHERE kind LIKE 'contact.%'";
    assert_eq!(lab.one(lines).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_lead_where_the_plan_says() {
    let lab = Lab::open().await;
    lab.plan("CLOSE", 2, "\"close\"").await;
    lab.plan("CHEF", 1, "{\"escalate\": {\"role\": \"chef\"}}")
        .await;
    lab.plan("SMS", 1, "{\"channel\": \"sms\"}").await;

    let made = lab.of_plan("K1", "CLOSE").await;
    let first = lab.next("users/anna").await.unwrap();
    let now = lab
        .say(&first, &said(OutcomeClass::NotReached))
        .await
        .unwrap();
    assert_eq!(now.contact.state, "waiting");
    assert!(now.contact.worked_on && now.contact.next_at > Some(Utc::now()));
    assert_eq!(lab.customer("users/anna").await, "-");
    lab.wait().await;
    let again = lab.next("users/anna").await.unwrap();
    let now = lab.say(&again, &said(OutcomeClass::Busy)).await.unwrap();
    assert_eq!(
        (&now.contact.state[..], now.contact.next_at),
        ("given_up", None)
    );
    is_refused(
        lab.say(&again, &said(OutcomeClass::Done)).await,
        "it is over",
    );
    is_refused(lab.take(made.id, "users/anna").await, "it is over");
    let told = lab.attempts(made.id).await;
    let classes: Vec<&str> = told.iter().map(|a| &a.outcome_class[..]).collect();
    assert_eq!(classes, ["not_reached", "busy"]);

    lab.of_plan("K2", "CHEF").await;
    let first = lab.next("users/anna").await.unwrap();
    let now = lab
        .say(&first, &said(OutcomeClass::NotReached))
        .await
        .unwrap();
    assert_eq!(now.contact.responsible, "roles/chef");
    lab.wait().await;
    assert_eq!(lab.customer("users/anna").await, "-");
    let chef = lab.next("roles/chef").await.unwrap();
    let now = lab
        .say(&chef, &said(OutcomeClass::NotReached))
        .await
        .unwrap();
    assert_eq!(now.contact.state, "given_up");

    let t = lab.tenant.0;
    lab.sql(&format!(
        "INSERT INTO webhook (tenant_id, id, display_name, url)
         VALUES ('{t}', gen_random_uuid(), 'x', 'https://x.example')"
    ))
    .await;
    lab.of_plan("K3", "SMS").await;
    let first = lab.next("users/anna").await.unwrap();
    let now = lab.say(&first, &said(OutcomeClass::Busy)).await.unwrap();
    assert_eq!(now.contact.state, "given_up");
    let event = "SELECT type || ' ' || (data->>'channel') || ' ' || (data->>'customer')
                 FROM handover_event e JOIN handover_delivery d ON d.event_id = e.id";
    assert_eq!(lab.one(event).await, "anklang.contact.follow_up.v1 sms K3");

    for (class, state) in [
        (OutcomeClass::Done, "done"),
        (OutcomeClass::OrderTaken, "done"),
        (OutcomeClass::Cancelled, "cancelled"),
    ] {
        lab.due("K4").await;
        let claim = lab.next("users/anna").await.unwrap();
        let now = lab.say(&claim, &said(class)).await.unwrap();
        assert_eq!(now.contact.state, state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_say_when() {
    let lab = Lab::open().await;
    let made = lab.due("K1").await;
    let claim = lab.next("users/anna").await.unwrap();
    let later = |wish| Report {
        wish: Some(wish),
        ..said(OutcomeClass::CallLater)
    };
    let now = Utc::now();
    for wrong in [now - TimeDelta::minutes(1), now + TimeDelta::days(400)] {
        let result = lab.say(&claim, &later(Wish::At(wrong))).await;
        names(result, &["call_later_time"]);
    }
    // The last Sunday of March 2027: clocks in Berlin go from two to three.
    let gap = NaiveDate::from_ymd_opt(2027, 3, 28)
        .unwrap()
        .and_hms_opt(2, 30, 0)
        .unwrap();
    let result = lab.say(&claim, &later(Wish::Local(gap))).await;
    names(result, &["call_later_local_time"]);
    let busy = Report {
        wish: Some(Wish::At(now + TimeDelta::hours(1))),
        ..said(OutcomeClass::Busy)
    };
    names(lab.say(&claim, &busy).await, &["call_later_time"]);
    let own = Report {
        outcome: Outcome::Own("keiner"),
        ..said(OutcomeClass::Busy)
    };
    names(lab.say(&claim, &own).await, &["outcome"]);
    let role = Report {
        escalate_to: "roles/chef",
        ..said(OutcomeClass::Done)
    };
    names(lab.say(&claim, &role).await, &["escalate_to"]);

    lab.sql(
        "UPDATE planned_contact SET window_from = now() - interval '3 hours',
             window_to = now() - interval '2 hours'",
    )
    .await;
    let wish = now + TimeDelta::minutes(10);
    let said = lab.say(&claim, &later(Wish::At(wish))).await.unwrap();
    assert_eq!(said.warnings, [Warning::OutsideWindow]);
    let at = said.contact.next_at.unwrap();
    assert_eq!(at.timestamp_micros(), wish.timestamp_micros());
    lab.wait().await;
    let again = lab.next("users/bert").await.unwrap();
    assert_eq!((again.contact.id, &again.warnings[..]), (made.id, &[][..]));
    assert!(lab.attempts(made.id).await[0].outside_window);

    // Their words for it.
    let mut tx = lab.store.begin(lab.tenant).await.unwrap();
    let class = OutcomeClass::NotReached;
    outcome::replace(&mut tx, lab.tenant, "band", "Anrufbeantworter", class, true)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let own = Report {
        outcome: Outcome::Own("band"),
        note: "n",
        talk_seconds: 7,
        wish: None,
        escalate_to: "roles/chef",
    };
    let said = lab.say(&again, &own).await.unwrap();
    assert_eq!(said.contact.outcome, "contactOutcomes/band");
    assert_eq!(said.contact.outcome_class.as_deref(), Some("not_reached"));
    assert_eq!(said.contact.responsible, "roles/chef");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_by_priority_skills_filters_and_hours() {
    let lab = Lab::open().await;
    for (customer, priority, responsible, skills) in [
        ("K1", 0, "", &[][..]),
        ("K2", 5, "roles/obst", &[]),
        ("K3", -3, "users/anna", &[]),
        ("K5", 900, "users/bert", &[]),
        ("K6", 100, "", &["french", "wine"]),
    ] {
        let new = NewContact {
            priority,
            responsible,
            skills,
            ..due(customer)
        };
        lab.create(&new).await.unwrap();
    }
    let responsibles = ["users/anna", "roles/obst", ""];
    let filter = |skills: &'static [&'static str], groups: &'static [&'static str]| Wanted {
        skills,
        groups,
        ..wanted(&["users/anna", "roles/obst", ""])
    };
    let next = async |wanted: &Wanted<'_>| {
        let next = lab.next_of("users/anna", wanted).await;
        next.map_or_else(|| "-".into(), |claim| claim.contact.customer_number)
    };
    assert_eq!(next(&filter(&["wine"], &["Brot"])).await, "-");
    assert_eq!(
        next(&filter(&["wine", "french", "x"], &["Brot"])).await,
        "K6"
    );
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(next(&wanted(&responsibles)).await);
    }
    assert_eq!(order, ["K2", "K1", "K3", "-"]);

    // Yesterday's contact at today's hours; and one whose hours are over.
    lab.due("K7").await;
    lab.due("K8").await;
    lab.sql(
        "UPDATE planned_contact k
         SET contact_date = contact_date - 1, plan_date = plan_date - 1,
             next_at = next_at - interval '1 day', window_from = window_from - interval '1 day',
             window_to = window_to - interval '1 day'
         FROM customer c WHERE c.id = k.customer_id AND c.number = 'K7';
         UPDATE planned_contact k
         SET window_from = now() - interval '3 hours', window_to = now() - interval '2 hours'
         FROM customer c WHERE c.id = k.customer_id AND c.number = 'K8'",
    )
    .await;
    let recent = Wanted {
        first_date: Some(Utc::now().with_timezone(&ZONE).date_naive()),
        ..wanted(&responsibles)
    };
    assert_eq!(next(&recent).await, "-");
    assert_eq!(next(&wanted(&responsibles)).await, "K7");
    assert_eq!(next(&wanted(&responsibles)).await, "-");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_not_be_called_is_passed_over() {
    let lab = Lab::open().await;
    let t = lab.tenant.0;
    let blocked = lab.due("K1").await;
    let other_number = NewContact {
        phone: "+49301234599",
        ..due("K2")
    };
    lab.create(&other_number).await.unwrap();
    lab.due("K3").await;
    lab.due("K4").await;
    let hash = |address: &str| {
        let hash = anklang_domain::master::contact::address_hash(lab.tenant, "phone", address);
        hash.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    for address in ["+49301234501", "+49301234599"] {
        lab.sql(&format!(
            "INSERT INTO suppression (tenant_id, channel, address_hash)
             VALUES ('{t}', 'phone', '\\x{}')",
            hash(address)
        ))
        .await;
    }
    lab.sql(&format!(
        "INSERT INTO consent (tenant_id, customer_id, channel, purpose, state, recorded_at)
         SELECT '{t}', id, 'phone', CASE number WHEN 'K3' THEN 'call' ELSE 'news' END, 'withdrawn', now()
         FROM customer WHERE number IN ('K3', 'K4')"
    ))
    .await;
    assert_eq!(lab.customer("users/anna").await, "K4");
    assert_eq!(lab.customer("users/anna").await, "-");
    is_refused(lab.take(blocked.id, "users/anna").await, "blocked");

    // The budget: while somebody calls, and after somebody was reached.
    lab.sql(&format!(
        "INSERT INTO contact_budget (tenant_id, max_contacts, window_days) VALUES ('{t}', 1, 7)"
    ))
    .await;
    lab.due("K5").await;
    let second = lab.due("K5").await;
    let first = lab.next("users/anna").await.unwrap();
    assert_eq!(lab.customer("users/bert").await, "-");
    is_refused(lab.take(second.id, "users/bert").await, "budget");
    lab.say(&first, &said(OutcomeClass::NotReached))
        .await
        .unwrap();
    lab.look_again().await;
    let again = lab.next("users/bert").await.unwrap();
    lab.say(&again, &said(OutcomeClass::Done)).await.unwrap();
    lab.due("K5").await;
    assert_eq!(lab.customer("users/anna").await, "-");
    lab.sql("UPDATE contact_budget SET exempt_purposes = '{call}'")
        .await;
    lab.look_again().await;
    assert_eq!(lab.customer("users/anna").await, "K5");
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_made_moved_pinned_and_called_off() {
    let lab = Lab::open().await;
    lab.plan("NORD", 3, "\"close\"").await;
    lab.sql(
        "UPDATE contact_plan SET earliest = '00:00', latest = '23:59', responsible = 'roles/obst'",
    )
    .await;
    let made = lab.of_plan("K1", "NORD").await;
    assert_eq!(
        (&made.source[..], &made.responsible[..]),
        ("manual", "roles/obst")
    );
    assert_eq!(made.phone, "+49301234501");
    assert!((23..=25).contains(&(made.window_to - made.window_from).num_hours()));
    let wrong = NewContact {
        plan: "KEINER",
        contact_at: Utc::now() - TimeDelta::days(2),
        delivery_date: NaiveDate::from_ymd_opt(2000, 1, 1),
        ..due("NIEMAND")
    };
    names(
        lab.create(&wrong).await,
        &["customer", "plan", "contact_at", "delivery_date"],
    );

    let t = lab.tenant;
    let mut tx = lab.store.begin(t).await.unwrap();
    let to = Utc::now() + TimeDelta::days(3);
    let moved = change::shift(&mut tx, t, made.id, to, None).await.unwrap();
    assert!(moved.moved && (moved.window_from..moved.window_to).contains(&to));
    assert_eq!(moved.next_at, Some(moved.contact_at));
    assert_eq!((moved.contact_date - made.contact_date).num_days(), 3);
    assert_eq!(moved.plan_date, made.plan_date);
    let far = change::shift(&mut tx, t, made.id, to + TimeDelta::days(400), None).await;
    names(far, &["contact_at"]);
    assert!(change::pin(&mut tx, t, made.id, true).await.unwrap().pinned);
    let free = change::pin(&mut tx, t, made.id, false).await.unwrap();
    assert!(!free.pinned && free.moved);
    let off = change::cancel(&mut tx, t, made.id, "n").await.unwrap();
    assert_eq!((&off.state[..], off.next_at), ("cancelled", None));
    is_refused(change::cancel(&mut tx, t, made.id, "n").await, "it is over");
    is_refused(change::pin(&mut tx, t, made.id, true).await, "it is over");
    let missing = change::pin(&mut tx, t, uuid::Uuid::nil(), true).await;
    assert!(
        matches!(missing, Err(StoreError::Missing(_))),
        "{missing:?}"
    );
    tx.commit().await.unwrap();

    let busy = lab.due("K2").await;
    lab.take(busy.id, "users/anna").await.unwrap();
    let mut tx = lab.store.begin(t).await.unwrap();
    is_refused(
        change::shift(&mut tx, t, busy.id, to, None).await,
        "users/anna",
    );
    is_refused(change::cancel(&mut tx, t, busy.id, "").await, "users/anna");
    let stands = contact::get(&tx, t, busy.id).await.unwrap().unwrap();
    assert_eq!(stands.state, "claimed");
}
