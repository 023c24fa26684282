//! Figures of random histories, against those of counting one by one.

use std::collections::{BTreeMap, BTreeSet};

use anklang_store::winback::analysis::{
    self, Analysis, Dimension, Figures, MAX_DIMENSIONS, Price, Question,
};
use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use crate::won_back::dice;
use crate::{Lab, day};

const ZONE: Tz = Tz::Europe__Berlin;
const CASES: usize = 400;
const BRANDS: [&str; 3] = ["Zoo", "garten", "markt"];
const GROUPS: [&str; 3] = ["", "Brot", "Obst"];
const WORKERS: [&str; 3] = ["users/Zoe", "users/anna", "users/bert"];
const REASONS: [&str; 3] = ["price", "gone", "other"];
const STATES: [&str; 9] = [
    "queued",
    "sending",
    "sent",
    "delivered",
    "failed",
    "bounced",
    "suppressed",
    "ambiguous",
    "cancelled",
];
/// Accounts with what a message costs in euros: two of the tenant's own have none, or one in francs; one
/// hides that of the configuration file.
const ACCOUNTS: [(&str, Option<&str>); 5] = [
    ("own", Some("0.015000")),
    ("free", None),
    ("francs", None),
    ("hidden", None),
    ("configured", Some("0.0015")),
];
const DIMENSIONS: [Dimension; MAX_DIMENSIONS] = [
    Dimension::Week,
    Dimension::Worker,
    Dimension::Template,
    Dimension::Brand,
    Dimension::Reason,
];

/// What is kept of a mail besides its line in the history.
struct Mail {
    brand: usize,
    state: &'static str,
    account: usize,
}

/// A line in the history of a case.
struct Step {
    at: DateTime<Utc>,
    kind: &'static str,
    actor: &'static str,
    /// Of a mail.
    template: &'static str,
    mail: Option<Mail>,
}

struct Order {
    at: DateTime<Utc>,
    brand: Option<usize>,
    currency: &'static str,
    is_rejected: bool,
}

/// A customer with a case.
struct Story {
    group: &'static str,
    orders: Vec<Order>,
    opened: NaiveDate,
    currency: &'static str,
    steps: Vec<Step>,
    reason: Option<&'static str>,
    /// When the last of the orders won the customer back.
    bought: Option<DateTime<Utc>>,
    won_contacted: bool,
    revenue: Decimal,
}

fn pick<T: Copy>(roll: &mut impl FnMut(u64) -> u64, of: &[T]) -> T {
    of[usize::try_from(roll(of.len() as u64)).unwrap()]
}

fn story(roll: &mut impl FnMut(u64) -> u64) -> Story {
    // Clocks are put back on 25 October 2026.
    let base = day("2026-10-12");
    let opened = base + Days::new(roll(25));
    let mut at = opened.and_hms_opt(20, 0, 0).unwrap().and_utc();
    let mut steps = Vec::new();
    let mut step = |roll: &mut dyn FnMut(u64) -> u64, kind, template| {
        at += TimeDelta::minutes(i64::try_from(roll(5_000)).unwrap() + 1);
        // Whoever mails many at once is nobody, and of some mails nothing is left.
        let actor = match (kind, roll(4)) {
            ("won_back", _) | ("mailed", 0) => "",
            (_, n) => WORKERS[usize::try_from(n % 3).unwrap()],
        };
        let mail = (kind == "mailed" && roll(8) > 0).then(|| Mail {
            brand: usize::try_from(roll(3)).unwrap(),
            state: STATES[usize::try_from(roll(9)).unwrap()],
            account: usize::try_from(roll(5)).unwrap(),
        });
        steps.push(Step {
            at,
            kind,
            actor,
            template,
            mail,
        });
    };
    let mut templates = vec!["standard", "voucher"];
    for _ in 0..roll(5) {
        match roll(5) {
            0 | 1 => {
                if !templates.is_empty() {
                    let i = usize::try_from(roll(templates.len() as u64)).unwrap();
                    step(roll, "mailed", templates.remove(i));
                }
            }
            2 => step(roll, "offer_requested", ""),
            3 => step(roll, "reminder", ""),
            _ => step(roll, "remark", ""),
        }
    }
    let end = roll(3);
    match end {
        0 => step(roll, "no_interest", ""),
        1 => step(roll, "won_back", ""),
        _ => {}
    }
    let is_contacted = steps
        .iter()
        .any(|step| ["mailed", "offer_requested"].contains(&step.kind));
    let orders = (0..roll(4)).map(|n| Order {
        at: base.and_hms_opt(0, 0, 0).unwrap().and_utc()
            - TimeDelta::minutes(i64::try_from(roll(9_000) * 4 + n).unwrap()),
        brand: usize::try_from(roll(4)).ok().filter(|b| *b < 3),
        currency: if roll(5) == 0 { "CHF" } else { "EUR" },
        is_rejected: roll(5) == 0,
    });
    let mut orders: Vec<Order> = orders.collect();
    // It may be known late, when people have done something since.
    let bought = (end == 1).then(|| at - TimeDelta::minutes(i64::try_from(roll(9_000)).unwrap()));
    orders.extend(bought.map(|at| Order {
        at,
        brand: usize::try_from(roll(4)).ok().filter(|b| *b < 3),
        currency: "EUR",
        is_rejected: false,
    }));
    Story {
        group: pick(roll, &GROUPS),
        orders,
        opened,
        currency: if roll(6) == 0 { "CHF" } else { "EUR" },
        steps,
        reason: (end == 0).then(|| pick(roll, &REASONS)),
        bought,
        // What arrives late is no answer.
        won_contacted: end == 1 && is_contacted && roll(4) > 0,
        revenue: Decimal::new(i64::try_from(roll(100_000)).unwrap() + 1, 2),
    }
}

pub(crate) fn uuid(kind: u128, n: usize) -> String {
    let id = uuid::Uuid::from_u128((kind << 100) + n as u128);
    format!("'{id}'")
}

fn time(at: DateTime<Utc>) -> String {
    format!("'{}'", at.format("%Y-%m-%d %H:%M:%S%.6f+00"))
}

fn quoted(text: Option<&str>) -> String {
    text.map_or("NULL".into(), |text| format!("'{text}'"))
}

fn rows(tenant: &str, stories: &[Story]) -> String {
    let t = tenant;
    // Detections, pools and phases that there are not would be refused.
    let mut sql = "SET session_replication_role = replica;".to_owned();
    for (i, code) in BRANDS.iter().enumerate() {
        sql += &format!(
            "INSERT INTO brand (tenant_id, id, code, name, sender_email)
             VALUES ({t}, {}, '{code}', '{code}', 'a@b.example');",
            uuid(1, i)
        );
    }
    for (id, cost, currency) in [
        ("own", "0.015", "'EUR'"),
        ("free", "NULL", "NULL"),
        ("francs", "0.02", "'CHF'"),
        ("hidden", "NULL", "NULL"),
    ] {
        sql += &format!(
            "INSERT INTO channel_account (tenant_id, id, display_name, plugin, channel, config,
                 ambiguous, batch, calls, cost, cost_currency)
             VALUES ({t}, '{id}', 'x', 'smtp', 'mail', '{{}}', 'hold', 1, 1, {cost}, {currency});"
        );
    }
    let (mut orders, mut events) = (0, 0);
    for (i, s) in stories.iter().enumerate() {
        let (case, customer) = (uuid(2, i), uuid(3, i));
        sql += &format!(
            "INSERT INTO customer (tenant_id, id, number, kind, customer_group)
             VALUES ({t}, {customer}, 'K{i}', 'person', '{}');",
            s.group
        );
        for o in &s.orders {
            orders += 1;
            let brand = o.brand.map_or("NULL".into(), |b| uuid(1, b));
            let (state, taken) = match o.is_rejected {
                true => ("rejected", format!("T{orders}")),
                false => ("", String::new()),
            };
            sql += &format!(
                "INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency,
                     brand_id, state, taken_number)
                 VALUES ({t}, {}, 'O{orders}', {customer}, {}, '{}', {brand}, '{state}', '{taken}');",
                uuid(4, orders),
                time(o.at),
                o.currency,
            );
        }
        let won = s.steps.last().is_some_and(|step| step.kind == "won_back");
        let state = match (s.reason, won) {
            (Some(_), _) => "no_interest",
            (None, true) => "won_back",
            (None, false) => "declining",
        };
        let closed = if state == "declining" {
            "NULL"
        } else {
            "'2026-12-01'"
        };
        let (contacted, revenue, order) = match won {
            true => (
                s.won_contacted.to_string(),
                s.revenue.to_string(),
                uuid(4, orders),
            ),
            false => ("NULL".into(), "NULL".into(), "NULL".into()),
        };
        sql += &format!(
            "INSERT INTO winback_case (tenant_id, id, customer_id, state, opened_on, opened_by, seen_by,
                 no_interest, closed_on, revenue_then, revenue_now, known_days, season, expected, actual,
                 drop_amount, drop_percent, last_order, currency, won_contacted, won_revenue,
                 won_order_id)
             VALUES ({t}, {case}, {customer}, '{state}', '{}', {case}, {case}, {}, {closed}, 1, 0, 1, 1,
                     1, 0, 1, 100, '2026-01-01', '{}', {contacted}, {revenue}, {order});",
            s.opened,
            quoted(s.reason),
            s.currency,
        );
        for step in &s.steps {
            events += 1;
            let detail = match (step.template, &step.mail) {
                ("", _) => "{}".into(),
                (template, None) => format!("{{\"template\": \"{template}\"}}"),
                (template, Some(_)) => format!(
                    "{{\"template\": \"{template}\", \"message\": \"messages/{}\"}}",
                    uuid(6, events).trim_matches('\'')
                ),
            };
            sql += &format!(
                "INSERT INTO winback_case_event (tenant_id, id, case_id, kind, actor, detail, created_at)
                 VALUES ({t}, {}, {case}, '{}', '{}', '{detail}', {});",
                uuid(5, events),
                step.kind,
                step.actor,
                time(step.at),
            );
            let Some(mail) = &step.mail else { continue };
            let message = uuid(6, events);
            let voucher = match step.template {
                "voucher" => uuid(7, events),
                _ => "NULL".into(),
            };
            sql += &format!(
                "INSERT INTO message (tenant_id, id, phase_id, winback_case_id, customer_id, channel,
                     account, address, address_hash, purpose, state)
                 VALUES ({t}, {message}, {message}, {case}, {customer}, 'mail', '{}', 'x', '', 'x', '{}');
                 INSERT INTO winback_mail (tenant_id, message_id, case_id, template, brand_id, voucher_id)
                 VALUES ({t}, {message}, {case}, '{}', {}, {voucher});",
                ACCOUNTS[mail.account].0,
                mail.state,
                step.template,
                uuid(1, mail.brand),
            );
        }
    }
    sql
}

/// Something that happened to a case.
struct Fact<'a> {
    case: usize,
    kind: &'static str,
    day: NaiveDate,
    worker: &'a str,
    template: &'a str,
    brand: &'a str,
    reason: &'a str,
    mail: Option<&'a Mail>,
}

impl Fact<'_> {
    fn key(&self, by: Dimension) -> String {
        match by {
            Dimension::Week => {
                let since = self.day.weekday().num_days_from_monday();
                (self.day - Days::new(since.into())).to_string()
            }
            Dimension::Worker => self.worker.into(),
            Dimension::Template => self.template.into(),
            Dimension::Brand => self.brand.into(),
            Dimension::Reason => self.reason.into(),
        }
    }
}

/// The brand of the newest order.
fn newest(s: &Story) -> &'static str {
    let counts = |o: &&Order| !o.is_rejected;
    let newest = s.orders.iter().filter(counts).max_by_key(|o| o.at);
    newest.and_then(|o| o.brand).map_or("", |b| BRANDS[b])
}

fn facts(stories: &[Story]) -> Vec<Fact<'_>> {
    let mut facts = Vec::new();
    for (case, s) in stories.iter().enumerate() {
        facts.push(Fact {
            case,
            kind: "opened",
            day: s.opened,
            worker: "",
            template: "",
            brand: newest(s),
            reason: "",
            mail: None,
        });
        let of_zone = |at: DateTime<Utc>| at.with_timezone(&ZONE).date_naive();
        let mut contacts: Vec<&Step> = Vec::new();
        for step in &s.steps {
            let counts = match step.kind {
                "remark" => continue,
                "won_back" => s.won_contacted,
                "no_interest" => true,
                _ => false,
            };
            let in_time = |contact: &&&Step| match (step.kind, s.bought) {
                ("won_back", Some(bought)) => of_zone(contact.at) <= of_zone(bought),
                _ => true,
            };
            let last = contacts.iter().rev().find(in_time).copied();
            let contact = last.filter(|_| counts);
            // The mail whose template and brand count.
            let of = if step.kind == "mailed" {
                Some(step)
            } else {
                contact
            };
            let mail = of.and_then(|step| step.mail.as_ref());
            facts.push(Fact {
                case,
                kind: step.kind,
                day: of_zone(step.at),
                worker: match step.kind {
                    "won_back" => contact.map_or("", |contact| contact.actor),
                    _ => step.actor,
                },
                template: of.map_or("", |step| step.template),
                brand: mail.map_or_else(|| newest(s), |mail| BRANDS[mail.brand]),
                reason: match step.kind {
                    "no_interest" => s.reason.unwrap(),
                    _ => "",
                },
                mail: step.mail.as_ref(),
            });
            // What waits, or waited until the case was closed, has contacted nobody.
            let waits = |mail: &Mail| ["queued", "cancelled"].contains(&mail.state);
            let is_contact = ["mailed", "offer_requested"].contains(&step.kind);
            if is_contact && !step.mail.as_ref().is_some_and(waits) {
                contacts.push(step);
            }
        }
    }
    facts
}

fn figures(keys: Vec<String>, is_group: bool, stories: &[Story], facts: &[&Fact<'_>]) -> Figures {
    let count = |takes: &dyn Fn(&Fact<'_>) -> bool| {
        let taken = facts.iter().filter(|f| takes(f)).count();
        i64::try_from(taken).unwrap()
    };
    let of = |kind: &'static str| count(&|f| f.kind == kind);
    let is_contact = |f: &Fact<'_>| ["mailed", "offer_requested"].contains(&f.kind);
    let contacted: BTreeSet<usize> = facts
        .iter()
        .filter(|f| is_contact(f))
        .map(|f| f.case)
        .collect();
    let recovered = contacted
        .iter()
        .filter(|case| stories[**case].won_contacted);
    let is_sent = |f: &Fact<'_>| {
        let accepted = ["sent", "delivered", "bounced"];
        f.mail.is_some_and(|mail| accepted.contains(&mail.state))
    };
    let cost = |f: &Fact<'_>| -> Option<Decimal> {
        let (_, cost) = ACCOUNTS[f.mail?.account];
        cost.map(|cost| cost.parse().unwrap())
    };
    let in_euros = |f: &&&Fact<'_>| f.kind == "won_back" && stories[f.case].currency == "EUR";
    let revenue = |takes: &dyn Fn(&Fact<'_>) -> bool| -> Decimal {
        let won = facts.iter().filter(in_euros).filter(|f| takes(f));
        won.map(|f| stories[f.case].revenue).sum()
    };
    Figures {
        is_group,
        keys,
        opened: of("opened"),
        mails: of("mailed"),
        offer_requests: of("offer_requested"),
        contacted: i64::try_from(contacted.len()).unwrap(),
        recovered: i64::try_from(recovered.count()).unwrap(),
        reminders: of("reminder"),
        no_interest: of("no_interest"),
        won_back: of("won_back"),
        won_after_contact: count(&|f| f.kind == "won_back" && stories[f.case].won_contacted),
        revenue: revenue(&|_| true),
        revenue_after_contact: revenue(&|f| stories[f.case].won_contacted),
        other_currency: count(&|f| f.kind == "won_back" && stories[f.case].currency == "CHF"),
        sent: count(&is_sent),
        cost: facts
            .iter()
            .filter(|f| is_sent(f))
            .filter_map(|f| cost(f))
            .sum(),
        unknown_cost: count(&|f| is_sent(f) && cost(f).is_none()),
        vouchers: count(&|f| f.kind == "mailed" && f.mail.is_some() && f.template == "voucher"),
    }
}

fn naive(stories: &[Story], q: &Question<'_>) -> Analysis {
    let all = facts(stories);
    let has = |of: &[String], what: &str| of.is_empty() || of.iter().any(|o| o == what);
    let asked_for = |f: &&Fact<'_>| {
        (q.first..=q.last).contains(&f.day)
            && has(q.workers, f.worker)
            && has(q.brands, f.brand)
            && (q.groups.is_empty() || q.groups.contains(&stories[f.case].group))
    };
    let asked: Vec<&Fact<'_>> = all.iter().filter(asked_for).collect();
    let mut groups: BTreeMap<Vec<String>, Vec<&Fact<'_>>> = BTreeMap::new();
    for fact in &asked {
        let mut keys: Vec<String> = q.group_by.iter().map(|by| fact.key(*by)).collect();
        keys.resize(MAX_DIMENSIONS, String::new());
        groups.entry(keys).or_default().push(fact);
    }
    let more = groups.len() > q.limit;
    let groups = groups.into_iter().take(q.limit);
    Analysis {
        groups: groups
            .map(|(keys, of)| figures(keys, true, stories, &of))
            .collect(),
        more,
        total: figures(Vec::new(), false, stories, &asked),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_those_of_counting_one_by_one() {
    let lab = Lab::open().await;
    let mut roll = dice(815);
    let stories: Vec<Story> = (0..CASES).map(|_| story(&mut roll)).collect();
    let tenant = format!("'{}'", lab.tenant.id.0);
    let sql = rows(&tenant, &stories);
    lab.connect().await.batch_execute(&sql).await.unwrap();
    let price = |account: &str, cost: &str| Price {
        account: account.into(),
        cost: cost.parse().unwrap(),
    };
    let prices = [price("configured", "0.0015"), price("hidden", "0.5")];
    let mut tx = lab.store.begin_snapshot(lab.tenant.id).await.unwrap();
    let (mut full, mut cut, mut not_the_sum) = (0, 0, 0);
    for round in 0..250 {
        let mut group_by = DIMENSIONS.to_vec();
        while roll(3) > 0 && !group_by.is_empty() {
            let i = usize::try_from(roll(group_by.len() as u64)).unwrap();
            group_by.remove(i);
        }
        // Each of them alone at first.
        if let Some(one) = DIMENSIONS.get(round) {
            group_by = vec![*one];
        }
        let mut some = |of: &[&str]| -> Vec<String> {
            let n = [0, 0, 1, 2][usize::try_from(roll(4)).unwrap()];
            (0..n).map(|_| pick(&mut roll, of).to_owned()).collect()
        };
        let (workers, brands, groups) = (some(&WORKERS), some(&BRANDS), some(&GROUPS));
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let first = day("2026-10-12") + Days::new(roll(40));
        let question = Question {
            first,
            last: first + Days::new(roll(40)),
            time_zone: ZONE.name(),
            group_by: &group_by,
            workers: &workers,
            brands: &brands,
            groups: &groups,
            currency: "EUR",
            prices: &prices,
            limit: pick(&mut roll, &[1, 5, 1_000]),
        };
        let mut found = analysis::analyse(&mut tx, lab.tenant.id, &question)
            .await
            .unwrap();
        found.total.keys.clear();
        assert_eq!(found, naive(&stories, &question), "{question:?}");
        let total = &found.total;
        full +=
            usize::from(total.recovered > 0 && total.unknown_cost > 0 && total.other_currency > 0);
        cut += usize::from(found.more);
        let sum: i64 = found.groups.iter().map(|group| group.contacted).sum();
        not_the_sum += usize::from(!found.more && sum > total.contacted);
    }
    assert!(
        full > 50 && cut > 20 && not_the_sum > 20,
        "{full} {cut} {not_the_sum}"
    );
}
