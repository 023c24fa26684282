//! Figures of random histories, against those of counting one by one.

use std::collections::BTreeMap;

use anklang_store::planning::work::analysis::{
    self, Analysis, CLASSES, Dimension, Figures, Question,
};
use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use super::{Dice, GROUPS, Lab, customer};

const ZONE: Tz = Tz::Europe__Berlin;
const PLANS: [&str; 3] = ["", "P", "Q"];
const RESPONSIBLES: [&str; 3] = ["", "users/anna", "roles/innen"];
const WORKERS: [&str; 3] = ["users/anna", "users/bert", "users/Zoe"];
const STATES: [&str; 6] = [
    "open",
    "claimed",
    "waiting",
    "done",
    "given_up",
    "cancelled",
];
const DIMENSIONS: [Dimension; 9] = [
    Dimension::ContactPlan,
    Dimension::Worker,
    Dimension::CustomerGroup,
    Dimension::Day,
    Dimension::Week,
    Dimension::Month,
    Dimension::Weekday,
    Dimension::Hour,
    Dimension::OutcomeClass,
];

/// Clocks are put back on 25 October 2026.
fn day(n: usize) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 10, 20).unwrap() + Days::new(n as u64)
}

const DAYS: usize = 20;

struct Attempt {
    worker: &'static str,
    at: DateTime<Utc>,
    talk: i64,
    class: &'static str,
    claimed: Option<DateTime<Utc>>,
}

struct Contact {
    id: Uuid,
    customer: usize,
    plan: &'static str,
    responsible: &'static str,
    outbound: Option<usize>,
    date: NaiveDate,
    at: DateTime<Utc>,
    window: [DateTime<Utc>; 2],
    state: &'static str,
    attempts: Vec<Attempt>,
}

fn made_up(n: usize, dice: &mut Dice) -> Contact {
    let date = day(dice.roll(DAYS));
    let local = date
        .and_hms_opt(u32::try_from(dice.roll(24)).unwrap(), 30, 0)
        .unwrap();
    let at = ZONE
        .from_local_datetime(&local)
        .earliest()
        .unwrap()
        .to_utc();
    let window = [at - TimeDelta::minutes(45), at + TimeDelta::minutes(90)];
    let mut last = at - TimeDelta::hours(2);
    let mut attempts = Vec::new();
    for _ in 0..[0, 0, 1, 1, 2, 3][dice.roll(6)] {
        last += TimeDelta::microseconds(i64::try_from(dice.roll(4 * 3_600_000_000)).unwrap());
        // At the borders of the window as well.
        last = match dice.roll(8) {
            0 if attempts.is_empty() => window[0],
            1 if attempts.is_empty() => window[1],
            2 if last < window[1] => window[1] - TimeDelta::microseconds(1),
            _ => last,
        };
        let claimed =
            last - TimeDelta::microseconds(i64::try_from(dice.roll(900_000_000)).unwrap());
        attempts.push(Attempt {
            worker: dice.pick(&WORKERS),
            at: last,
            talk: i64::try_from(dice.roll(600)).unwrap(),
            class: CLASSES[dice.roll(CLASSES.len())].as_str(),
            claimed: (dice.roll(4) > 0).then_some(claimed),
        });
    }
    Contact {
        id: Uuid::from_u128(n as u128 + 1),
        customer: dice.roll(9),
        plan: dice.pick(&PLANS),
        responsible: dice.pick(&RESPONSIBLES),
        outbound: [None, Some(0), Some(1)][dice.roll(3)],
        date,
        at,
        window,
        state: dice.pick(&STATES),
        attempts,
    }
}

fn time(at: DateTime<Utc>) -> String {
    format!("'{}'", at.format("%Y-%m-%d %H:%M:%S%.6f+00"))
}

fn outbound(n: usize) -> Uuid {
    Uuid::from_u128((2 << 100) + n as u128)
}

/// The campaign of an outbound.
fn campaign(n: usize) -> Uuid {
    Uuid::from_u128((3 << 100) + n as u128)
}

fn rows(lab: &Lab, contacts: &[Contact]) -> String {
    let t = lab.tenant.0;
    // Phases without campaigns and contacts without plans would be refused.
    let mut sql = "SET session_replication_role = replica;".to_owned();
    for n in 0..2 {
        sql += &format!(
            "INSERT INTO phase (tenant_id, id, campaign_id, number, name, product_version_id,
                 offer_valid_until, operation_id)
             VALUES ('{t}', '{0}', '{1}', 1, 'x', '{0}', '2026-01-01', '{0}');
             INSERT INTO outbound (tenant_id, id, phase_id, number, channel, account,
                 message_template, document_template, purpose)
             VALUES ('{t}', '{0}', '{0}', 1, 'phone', 'x', 'x', 'x', 'x');",
            outbound(n),
            campaign(n)
        );
    }
    for c in contacts {
        let (date, is_over) = (c.date, STATES[3..].contains(&c.state));
        let next = if is_over { "NULL".into() } else { time(c.at) };
        let claim = match c.state {
            "claimed" => "'users/x', now(), gen_random_uuid()",
            _ => "NULL, NULL, NULL",
        };
        let outbound = c
            .outbound
            .map_or("NULL".into(), |n| format!("'{}'", outbound(n)));
        let class = c
            .attempts
            .last()
            .map_or("NULL".into(), |a| format!("'{}'", a.class));
        sql += &format!(
            "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_code, responsible,
                 outbound_id, plan_date, contact_date, contact_at, window_from, window_to, next_at,
                 state, claimed_by, claim_until, claim_id, attempts, outcome_class)
             VALUES ('{t}', '{}', 'plan', '{}', nullif('{}', ''), '{}', {outbound}, '{date}', '{date}', {},
                     {}, {}, {next}, '{}', {claim}, {}, {class});",
            c.id,
            customer(c.customer),
            c.plan,
            c.responsible,
            time(c.at),
            time(c.window[0]),
            time(c.window[1]),
            c.state,
            c.attempts.len(),
        );
        for (i, a) in c.attempts.iter().enumerate() {
            sql += &format!(
                "INSERT INTO contact_attempt (tenant_id, contact_id, attempt, customer_id, worker,
                     purpose, recorded_at, talk_seconds, outcome_class, outside_window, claimed_at)
                 VALUES ('{t}', '{}', {}, '{}', '{}', 'call', {}, {}, '{}', false, {});",
                c.id,
                i + 1,
                customer(c.customer),
                a.worker,
                time(a.at),
                a.talk,
                a.class,
                a.claimed.map_or("NULL".into(), time),
            );
        }
    }
    sql
}

/// What a contact or attempt on that day and at that time is grouped by.
fn key(
    by: Dimension,
    contact: &Contact,
    worker: &str,
    class: &str,
    date: NaiveDate,
    at: DateTime<Utc>,
) -> String {
    match by {
        Dimension::ContactPlan => contact.plan.into(),
        Dimension::Worker => worker.into(),
        Dimension::CustomerGroup => GROUPS[contact.customer % GROUPS.len()].into(),
        Dimension::Day => date.to_string(),
        Dimension::Week => {
            (date - Days::new(date.weekday().num_days_from_monday().into())).to_string()
        }
        Dimension::Month => date.with_day(1).unwrap().to_string(),
        Dimension::Weekday => date.weekday().number_from_monday().to_string(),
        Dimension::Hour => format!("{:02}", at.with_timezone(&ZONE).hour()),
        Dimension::OutcomeClass => class.into(),
    }
}

fn none(keys: Vec<String>, is_group: bool) -> Figures {
    Figures {
        is_group,
        keys,
        planned: 0,
        done: 0,
        given_up: 0,
        cancelled: 0,
        tried: 0,
        reached: 0,
        ordered: 0,
        punctual: 0,
        late: 0,
        late_micros: 0,
        attempts: vec![0; 6],
        talk_seconds: vec![0; 6],
        claimed_micros: vec![0; 6],
        timed: vec![0; 6],
    }
}

fn add_contact(f: &mut Figures, c: &Contact) {
    f.planned += 1;
    match c.state {
        "done" => f.done += 1,
        "given_up" => f.given_up += 1,
        "cancelled" => f.cancelled += 1,
        _ => {}
    }
    let of = |classes: &[&str]| c.attempts.iter().any(|a| classes.contains(&a.class));
    f.reached += i64::from(of(&["done", "order_taken", "call_later"]));
    f.ordered += i64::from(of(&["order_taken"]));
    let Some(first) = c.attempts.first() else {
        return;
    };
    f.tried += 1;
    if first.at >= c.window[1] {
        f.late += 1;
        f.late_micros += (first.at - c.window[1]).num_microseconds().unwrap();
    } else if first.at >= c.window[0] {
        f.punctual += 1;
    }
}

fn add_attempt(f: &mut Figures, a: &Attempt) {
    let i = CLASSES
        .iter()
        .position(|class| class.as_str() == a.class)
        .unwrap();
    f.attempts[i] += 1;
    f.talk_seconds[i] += a.talk;
    if let Some(claimed) = a.claimed {
        f.claimed_micros[i] += (a.at - claimed).num_microseconds().unwrap();
        f.timed[i] += 1;
    }
}

fn naive(contacts: &[Contact], q: &Question<'_>) -> Analysis {
    let mut groups: BTreeMap<Vec<String>, Figures> = BTreeMap::new();
    let mut total = none(Vec::new(), false);
    for c in contacts {
        let group = GROUPS[c.customer % GROUPS.len()];
        let asked_for = (q.plans.is_empty() || q.plans.iter().any(|p| p == c.plan))
            && (q.responsibles.is_empty() || q.responsibles.iter().any(|r| r == c.responsible))
            && (q.groups.is_empty() || q.groups.contains(&group))
            && (q.campaigns.is_empty()
                || c.outbound
                    .is_some_and(|n| q.campaigns.contains(&campaign(n))));
        if !asked_for {
            continue;
        }
        let last = c.attempts.last();
        if (q.first..=q.last).contains(&c.date) {
            let (worker, class) = last.map_or(("", ""), |a| (a.worker, a.class));
            let keys = keys(q, c, worker, class, c.date, c.at);
            add_contact(
                groups
                    .entry(keys.clone())
                    .or_insert_with(|| none(keys, true)),
                c,
            );
            add_contact(&mut total, c);
        }
        for a in &c.attempts {
            let date = a.at.with_timezone(&ZONE).date_naive();
            if (q.first..=q.last).contains(&date) {
                let keys = keys(q, c, a.worker, a.class, date, a.at);
                add_attempt(
                    groups
                        .entry(keys.clone())
                        .or_insert_with(|| none(keys, true)),
                    a,
                );
                add_attempt(&mut total, a);
            }
        }
    }
    let more = groups.len() > q.limit;
    Analysis {
        groups: groups.into_values().take(q.limit).collect(),
        more,
        total,
    }
}

fn keys(
    q: &Question<'_>,
    contact: &Contact,
    worker: &str,
    class: &str,
    date: NaiveDate,
    at: DateTime<Utc>,
) -> Vec<String> {
    let keys = q.group_by.iter();
    let keys = keys.map(|by| key(*by, contact, worker, class, date, at));
    let mut keys: Vec<String> = keys.collect();
    keys.resize(analysis::MAX_DIMENSIONS, String::new());
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_those_of_counting_one_by_one() {
    let lab = Lab::open().await;
    let mut dice = Dice(815);
    let contacts: Vec<Contact> = (0..400).map(|n| made_up(n, &mut dice)).collect();
    let sql = lab.connect().await;
    sql.batch_execute(&rows(&lab, &contacts)).await.unwrap();
    let mut tx = lab.store.begin_snapshot(lab.tenant).await.unwrap();
    let (mut full, mut cut) = (0, 0);
    for round in 0..250 {
        let first = day(dice.roll(DAYS));
        let mut group_by: Vec<Dimension> =
            (0..dice.roll(4)).map(|_| dice.pick(&DIMENSIONS)).collect();
        // Each of them alone at first.
        if let Some(one) = DIMENSIONS.get(round) {
            group_by = vec![*one];
        }
        group_by.dedup();
        let some = |dice: &mut Dice, of: &[&str]| -> Vec<String> {
            let n = [0, 0, 1, 2][dice.roll(4)];
            (0..n).map(|_| dice.pick(of).to_owned()).collect()
        };
        let plans = some(&mut dice, &PLANS[1..]);
        let responsibles = some(&mut dice, &RESPONSIBLES[1..]);
        let groups = some(&mut dice, &GROUPS);
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let campaigns = [
            vec![],
            vec![],
            vec![campaign(0)],
            vec![campaign(1), campaign(7)],
        ];
        let question = Question {
            first,
            last: first + Days::new(dice.roll(DAYS) as u64),
            time_zone: ZONE.name(),
            group_by: &group_by,
            plans: &plans,
            responsibles: &responsibles,
            groups: &groups,
            campaigns: &campaigns[dice.roll(4)],
            limit: dice.pick(&[1, 5, 1_000]),
        };
        let mut found = analysis::analyse(&mut tx, lab.tenant, &question)
            .await
            .unwrap();
        found.total.keys.clear();
        assert_eq!(found, naive(&contacts, &question), "{question:?}");
        full += usize::from(found.total.punctual > 0 && found.total.late > 0);
        cut += usize::from(found.more);
    }
    assert!(full > 50 && cut > 20, "{full} {cut}");
}
