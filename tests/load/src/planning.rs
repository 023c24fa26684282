//! Contact planning: generating contacts against the same rows by `INSERT … SELECT` into the same table, and
//! handing them out against bare claims by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anklang_proto::anklang::planning::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Date;
use anklang_testkit::Client;
use anyhow::{Context, Result, bail, ensure};
use chrono::{Datelike, Days, NaiveDate, Utc};
use prost::Message;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tonic::Code;

use crate::Bench;
use crate::data::TENANT;
use crate::report::{quantile, timed};

/// Weeks that are generated.
const WEEKS: u64 = 4;
/// Plans, one for each workday.
pub const PLANS: usize = 5;
/// People who ask for contacts at the same time.
const WORKERS: usize = 500;
/// Contacts that are due.
const DUE: usize = 120_000;
/// Of these so many are handed out.
const CLAIMS: usize = 20_000;
/// HTTP/2 connections that the workers share.
const CHANNELS: usize = 16;

const POLL: Duration = Duration::from_millis(100);

/// Generates, and hands out.
pub async fn run(bench: &mut Bench) -> Result<()> {
    plans(bench).await.context("plans")?;
    generation(bench).await.context("generation")?;
    claims(bench).await.context("claims")
}

/// Plans `P0` to `P4`, Monday to Friday, and their entries: each customer is in one, or where there are more
/// entries than customers in some.
async fn plans(bench: &Bench) -> Result<()> {
    let days = ["mon", "tue", "wed", "thu", "fri"];
    for (i, day) in days.into_iter().enumerate() {
        let plan = pb::ContactPlan {
            code: format!("P{i}"),
            display_name: format!("Tour {day}"),
            recurrence: Some(pb::Recurrence {
                rule: Some(pb::recurrence::Rule::Weekly(pb::WeeklyRecurrence {
                    weekdays: vec![day.into()],
                    every_weeks: 1,
                })),
            }),
            valid_from_date: Some(wire(Utc::now().date_naive())),
            time_zone: "Europe/Berlin".into(),
            ..Default::default()
        };
        let request = pb::UpdateContactPlanRequest {
            contact_plan: Some(plan),
            allow_missing: true,
            ..Default::default()
        };
        bench.client.plans().update_contact_plan(request).await?;
    }
    let (entries, accounts) = (bench.entries, bench.accounts);
    let sql = format!(
        "INSERT INTO plan_entry (tenant_id, id, plan_code, customer_id, contact_time)
         SELECT c.tenant_id, anklang_uuid7(), 'P' || (c.place + round) % {PLANS}, c.id,
                time '08:00' + make_interval(mins => (c.place % 480)::integer)
         FROM (SELECT tenant_id, id, row_number() OVER (ORDER BY number) - 1 AS place
               FROM customer) c
         CROSS JOIN generate_series(0, {PLANS} - 1) round
         WHERE round * {accounts} + c.place < {entries}"
    );
    bench.db.batch_execute(&sql).await?;
    bench.db.batch_execute("VACUUM ANALYZE").await?;
    Ok(())
}

fn wire(day: NaiveDate) -> Date {
    Date {
        year: day.year(),
        month: i32::try_from(day.month()).unwrap_or(1),
        day: i32::try_from(day.day()).unwrap_or(1),
    }
}

/// Generates for some weeks, once into the empty table and once with nothing to do; then by hand.
async fn generation(bench: &mut Bench) -> Result<()> {
    let first = Utc::now().date_naive() + Days::new(1);
    let last = first + Days::new(WEEKS * 7 - 1);
    bench.forget_peak_memory()?;
    let (made, ours) = timed(generate(bench, first, last)).await?;
    let rows = usize::try_from(made.added_count)?;
    bench.note_peak_memory("generation")?;
    bench
        .db
        .batch_execute("VACUUM ANALYZE planned_contact")
        .await?;
    let (again, nothing) = timed(generate(bench, first, last)).await?;
    ensure!(again.unchanged_count == made.added_count, "{again:?}");
    let empty = "TRUNCATE planned_contact CASCADE";
    bench.db.batch_execute(empty).await?;
    let sql = by_hand(first, last);
    let (hand, time) = timed(bench.db.execute(&sql, &[])).await?;
    ensure!(usize::try_from(hand)? == rows, "{hand} instead of {rows}");
    bench.db.batch_execute(empty).await?;
    let what = format!(
        "{rows} contacts of {} entries, {WEEKS} weeks",
        bench.entries
    );
    let baseline = ("the same rows by INSERT … SELECT into the same table", time);
    bench.report.add(&what, rows, ours, baseline);
    let what = "the same again, with nothing to change";
    bench.report.add(what, rows, nothing, baseline);
    Ok(())
}

async fn generate(
    bench: &Bench,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<pb::GeneratePlannedContactsResponse> {
    let request = pb::GeneratePlannedContactsRequest {
        first_date: Some(wire(first)),
        last_date: Some(wire(last)),
        ..Default::default()
    };
    let mut service = bench.client.planned_contacts();
    let begun = service.generate_planned_contacts(request).await?;
    let mut operation = begun.into_inner();
    while !operation.done {
        tokio::time::sleep(POLL).await;
        let name = operation.name.clone();
        let request = lro::GetOperationRequest { name };
        let mut operations = bench.client.operations();
        operation = operations.get_operation(request).await?.into_inner();
    }
    match operation.result {
        Some(lro::operation::Result::Response(any)) => Ok(Message::decode(&any.value[..])?),
        other => bail!("the generation did not succeed: {other:?}"),
    }
}

/// What is generated, without looking at what there is, at holidays or other plans.
fn by_hand(first: NaiveDate, last: NaiveDate) -> String {
    format!(
        "INSERT INTO planned_contact (tenant_id, id, source, plan_code, entry_id, customer_id,
             plan_date, contact_date, contact_at, window_from, window_to, next_at, responsible,
             priority, skills, holds_day, customer_group)
         SELECT e.tenant_id, anklang_uuid7(), 'plan', e.plan_code, e.id, e.customer_id, d.day, d.day,
                (d.day + e.contact_time) AT TIME ZONE 'Europe/Berlin',
                d.day::timestamp AT TIME ZONE 'Europe/Berlin',
                (d.day + 1)::timestamp AT TIME ZONE 'Europe/Berlin',
                (d.day + e.contact_time) AT TIME ZONE 'Europe/Berlin', p.responsible, e.priority,
                e.skills, true, c.customer_group
         FROM plan_entry e
         JOIN contact_plan p ON p.tenant_id = e.tenant_id AND p.code = e.plan_code
         JOIN customer c ON c.tenant_id = e.tenant_id AND c.id = e.customer_id
         JOIN (SELECT day::date FROM generate_series('{first}'::timestamp, '{last}', '1 day') day) d
              ON 'P' || extract(isodow FROM d.day) - 1 = e.plan_code"
    )
}

/// Contacts that are due, of all plans and several priorities, at any time of the day.
async fn fill(bench: &Bench) -> Result<()> {
    let sql = format!(
        "TRUNCATE planned_contact CASCADE;
         INSERT INTO planned_contact (tenant_id, id, source, plan_code, customer_id, plan_date,
             contact_date, contact_at, window_from, window_to, next_at, priority)
         SELECT c.tenant_id, anklang_uuid7(), 'plan', 'P' || n % {PLANS}, c.id, d.day, d.day, now(),
                d.midnight, d.midnight + interval '1 day', now() - make_interval(secs => n % 3600),
                n % 3
         FROM (SELECT tenant_id, id, row_number() OVER (ORDER BY number) - 1 AS place
               FROM customer) c
         JOIN generate_series(1, {DUE}) n ON n % {accounts} = c.place
         CROSS JOIN (SELECT (now() AT TIME ZONE 'Europe/Berlin')::date AS day,
                            date_trunc('day', now() AT TIME ZONE 'Europe/Berlin')
                            AT TIME ZONE 'Europe/Berlin' AS midnight) d",
        accounts = bench.accounts
    );
    bench.db.batch_execute(&sql).await?;
    bench
        .db
        .batch_execute("VACUUM ANALYZE planned_contact")
        .await?;
    Ok(())
}

/// What people did: how long all of it took, and each call.
struct Done {
    all: Duration,
    each: Vec<Duration>,
}

/// Claims alone, then what came of each contact, so that both have a rate of their own.
async fn claims(bench: &mut Bench) -> Result<()> {
    fill(bench).await?;
    let mut clients = Vec::new();
    for _ in 0..CHANNELS {
        clients.push(Client::connect(bench.server.addr, TENANT).await?);
    }
    let (claimed, ours) = claim_all(&clients).await?;
    let recorded = record_all(&clients, claimed).await?;
    fill(bench).await?;
    let connections = bench.connections()?;
    let hand = Arc::new(Hand::open(bench, connections).await?);
    let (claimed, bare) = hand.claim_all().await?;
    let written = hand.record_all(claimed).await?;
    let baseline = format!("bare claims by hand on {connections} connections");
    let outcomes = format!("bare outcomes by hand on {connections} connections");
    for (what, ours, by_hand, baseline) in [
        ("ClaimNextContact", ours, bare, &baseline),
        ("RecordOutcome after that", recorded, written, &outcomes),
    ] {
        let what = format!("{what}, {WORKERS} at once");
        let baseline = |time| (&baseline[..], time);
        bench
            .report
            .add(&what, CLAIMS, ours.all, baseline(by_hand.all));
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let of = |done: &Done| quantile(&done.each, share);
            let what = format!("{what}, {name}");
            bench
                .report
                .add(&what, 1, of(&ours), baseline(of(&by_hand)));
        }
    }
    Ok(())
}

/// A contact in somebody's hands: its name, and the claim.
type Claimed = (String, String);

/// Runs people side by side until all is done; gives what they got, and how long.
async fn side_by_side<T, F>(work: impl Fn(usize) -> F) -> Result<(Vec<T>, Done)>
where
    T: Send + 'static,
    F: Future<Output = Result<(Vec<T>, Vec<Duration>)>> + Send + 'static,
{
    let begin = Instant::now();
    let mut people: JoinSet<_> = (0..WORKERS).map(work).collect();
    let (mut got, mut each) = (Vec::new(), Vec::new());
    while let Some(done) = people.join_next().await {
        let (things, times) = done??;
        got.extend(things);
        each.extend(times);
    }
    let all = begin.elapsed();
    each.sort();
    Ok((got, Done { all, each }))
}

async fn claim_all(clients: &[Client]) -> Result<(Vec<Claimed>, Done)> {
    let left = Arc::new(AtomicUsize::new(CLAIMS));
    side_by_side(|worker| {
        let (client, left) = (clients[worker % CHANNELS].clone(), Arc::clone(&left));
        async move {
            let (mut got, mut times) = (Vec::new(), Vec::new());
            while take_one(&left) {
                let request = pb::ClaimNextContactRequest {
                    worker: format!("users/agent{worker}"),
                    roles: vec!["roles/sales".into()],
                    claim_seconds: 3_600,
                    ..Default::default()
                };
                let (claim, time) = timed(next(&client, request)).await?;
                got.push((claim.planned_contact.context("it")?.name, claim.claim));
                times.push(time);
            }
            Ok((got, times))
        }
    })
    .await
}

/// A contact, however long that takes: on a slow machine the server has no connection left for a while.
async fn next(client: &Client, request: pb::ClaimNextContactRequest) -> Result<pb::ContactClaim> {
    loop {
        let answer = client.work_list().claim_next_contact(request.clone()).await;
        match answer {
            Ok(answer) => return answer.into_inner().contact_claim.context("a contact"),
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => return Err(status.into()),
        }
    }
}

/// The same for what came of one.
async fn record(client: &Client, request: pb::RecordOutcomeRequest) -> Result<()> {
    loop {
        match client.work_list().record_outcome(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => return Err(status.into()),
        }
    }
}

/// Whether there is one more to do.
fn take_one(left: &AtomicUsize) -> bool {
    let one_less = |n: usize| n.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
        .is_ok()
}

async fn record_all(clients: &[Client], claimed: Vec<Claimed>) -> Result<Done> {
    let claimed = Arc::new(Mutex::new(claimed));
    let (_, done) = side_by_side(|worker| {
        let (client, claimed) = (clients[worker % CHANNELS].clone(), Arc::clone(&claimed));
        async move {
            let mut times = Vec::new();
            loop {
                let Some((name, claim)) = claimed.lock().await.pop() else {
                    return Ok((Vec::<()>::new(), times));
                };
                let request = pb::RecordOutcomeRequest {
                    name,
                    claim,
                    outcome_class: pb::OutcomeClass::Done.into(),
                    ..Default::default()
                };
                times.push(timed(record(&client, request)).await?.1);
            }
        }
    })
    .await?;
    Ok(done)
}

/// The same by hand, on as many connections as the server has.
struct Hand(Vec<Mutex<Connection>>);

struct Connection {
    client: tokio_postgres::Client,
    find: tokio_postgres::Statement,
    take: tokio_postgres::Statement,
    done: tokio_postgres::Statement,
    attempt: tokio_postgres::Statement,
    event: tokio_postgres::Statement,
}

impl Hand {
    async fn open(bench: &Bench, connections: usize) -> Result<Hand> {
        let tenant = "SELECT id::text FROM tenant";
        let tenant: String = bench.db.query_one(tenant, &[]).await?.get(0);
        let mut all = Vec::new();
        for _ in 0..connections {
            let client = bench.server.database.connect().await?;
            all.push(Mutex::new(Connection::prepare(client, &tenant).await?));
        }
        Ok(Hand(all))
    }

    async fn claim_all(self: &Arc<Self>) -> Result<(Vec<String>, Done)> {
        let left = Arc::new(AtomicUsize::new(CLAIMS));
        side_by_side(|worker| {
            let (hand, left) = (Arc::clone(self), Arc::clone(&left));
            async move {
                let (mut got, mut times) = (Vec::new(), Vec::new());
                while take_one(&left) {
                    let (id, time) = timed(hand.of(worker).claim()).await?;
                    got.push(id);
                    times.push(time);
                }
                Ok((got, times))
            }
        })
        .await
    }

    async fn record_all(self: &Arc<Self>, claimed: Vec<String>) -> Result<Done> {
        let claimed = Arc::new(Mutex::new(claimed));
        let (_, done) = side_by_side(|worker| {
            let (hand, claimed) = (Arc::clone(self), Arc::clone(&claimed));
            async move {
                let mut times = Vec::new();
                loop {
                    let Some(id) = claimed.lock().await.pop() else {
                        return Ok((Vec::<()>::new(), times));
                    };
                    times.push(timed(hand.of(worker).record(&id)).await?.1);
                }
            }
        })
        .await?;
        Ok(done)
    }

    fn of(&self, worker: usize) -> Turn<'_> {
        Turn(&self.0[worker % self.0.len()])
    }
}

/// Waits for its connection, which belongs to what is measured: callers of the server wait as well.
struct Turn<'a>(&'a Mutex<Connection>);

impl Turn<'_> {
    async fn claim(self) -> Result<String> {
        let c = self.0.lock().await;
        c.client.batch_execute("BEGIN").await?;
        let row = c.client.query_one(&c.find, &[]).await?;
        let id: String = row.get(0);
        c.client.execute(&c.take, &[&id]).await?;
        c.client.batch_execute("COMMIT").await?;
        Ok(id)
    }

    async fn record(self, id: &str) -> Result<()> {
        let c = self.0.lock().await;
        c.client.batch_execute("BEGIN").await?;
        for statement in [&c.done, &c.attempt, &c.event] {
            c.client.execute(statement, &[&id]).await?;
        }
        c.client.batch_execute("COMMIT").await?;
        Ok(())
    }
}

impl Connection {
    async fn prepare(client: tokio_postgres::Client, tenant: &str) -> Result<Connection> {
        let find = format!(
            "SELECT id::text FROM planned_contact
             WHERE tenant_id = '{tenant}' AND responsible = '' AND state IN ('open', 'waiting')
               AND greatest(next_at, not_before) <= now()
             ORDER BY priority DESC, greatest(next_at, not_before), id
             LIMIT 1 FOR UPDATE SKIP LOCKED"
        );
        let take = format!(
            "UPDATE planned_contact SET state = 'claimed', claimed_by = 'users/hand',
                 claim_id = gen_random_uuid(), claim_until = now() + interval '1 hour',
                 updated_at = now()
             WHERE tenant_id = '{tenant}' AND id = $1::text::uuid"
        );
        let done = format!(
            "UPDATE planned_contact SET state = 'done', next_at = NULL, outcome_class = 'done',
                 attempts = attempts + 1, claimed_by = NULL, claim_id = NULL, claim_until = NULL,
                 updated_at = now()
             WHERE tenant_id = '{tenant}' AND id = $1::text::uuid"
        );
        let attempt = format!(
            "INSERT INTO contact_attempt (tenant_id, contact_id, attempt, customer_id, worker,
                 purpose, outcome_class, outside_window)
             SELECT tenant_id, id, 1, customer_id, 'users/hand', 'call', 'done', false
             FROM planned_contact WHERE tenant_id = '{tenant}' AND id = $1::text::uuid"
        );
        let event = format!(
            "INSERT INTO customer_event (tenant_id, customer_id, kind, resource)
             SELECT tenant_id, customer_id, 'contact.done', 'plannedContacts/' || id
             FROM planned_contact WHERE tenant_id = '{tenant}' AND id = $1::text::uuid"
        );
        Ok(Connection {
            find: client.prepare(&find).await?,
            take: client.prepare(&take).await?,
            done: client.prepare(&done).await?,
            attempt: client.prepare(&attempt).await?,
            event: client.prepare(&event).await?,
            client,
        })
    }
}
