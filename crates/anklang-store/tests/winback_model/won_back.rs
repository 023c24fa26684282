//! Orders that win customers back: the statement does what the domain's rule says.

use anklang_domain::winback::{Case, OnOrder, Settings, on_order};
use anklang_store::winback::won_back;
use chrono::{Days, NaiveDate};

use crate::analysis::uuid;
use crate::{Lab, day};

/// The day on which all is looked at.
const TODAY: &str = "2026-11-22";

/// How a mail stands: state and attempts of its message.
type Mail = (&'static str, i32);

/// A mail that waits to be sent.
const WAITS: Mail = ("queued", 0);

/// Those that came to nothing are the last two.
const MAILS: [Mail; 6] = [
    ("sent", 1),
    ("ambiguous", 1),
    // It may have arrived before it was queued again.
    ("queued", 1),
    WAITS,
    ("suppressed", 0),
    ("bounced", 1),
];

/// Something that was done to reach a customer.
struct Deed {
    on: NaiveDate,
    /// Of a mail; empty for a request for an offer.
    template: &'static str,
    mail: Option<Mail>,
}

impl Deed {
    fn waits(&self) -> bool {
        self.mail == Some(WAITS)
    }

    fn is_undone(&self) -> bool {
        self.mail.is_some_and(|mail| MAILS[4..].contains(&mail))
    }
}

/// A customer with a case, what was done, and when they ordered, with the amounts in cents.
struct Story {
    opened: NaiveDate,
    deeds: Vec<Deed>,
    orders: Vec<(NaiveDate, i64)>,
}

/// Numbers that look as if by chance, and are the same each time.
pub(crate) fn dice(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

fn stories() -> Vec<Story> {
    let mut roll = dice(0x5eed);
    let base = day("2026-06-01");
    let mut stories = Vec::new();
    for _ in 0..400 {
        let opened = base + Days::new(roll(40));
        let mut deeds = Vec::new();
        for template in ["", "standard", "voucher"] {
            if roll(3) == 0 {
                deeds.push(Deed {
                    on: opened + Days::new(roll(50)),
                    template,
                    mail: (!template.is_empty()).then(|| MAILS[usize::try_from(roll(6)).unwrap()]),
                });
            }
        }
        let orders = (0..roll(4)).map(|_| {
            let on = base + Days::new(roll(190));
            // Some are returns, or come to nothing.
            (on, i64::try_from(roll(5)).unwrap() * 1_000 - 1_000)
        });
        let orders = orders.collect();
        stories.push(Story {
            opened,
            deeds,
            orders,
        });
    }
    stories
}

impl Story {
    /// The days on which the customer was contacted.
    fn contacts(&self) -> Vec<NaiveDate> {
        let counts = |deed: &&Deed| !deed.is_undone() && !deed.waits();
        self.deeds.iter().filter(counts).map(|d| d.on).collect()
    }

    /// The last day of all that did not come to nothing, as the case has it.
    fn last(&self) -> Option<NaiveDate> {
        let stays = |deed: &&Deed| !deed.is_undone();
        self.deeds.iter().filter(stays).map(|d| d.on).max()
    }
}

/// The day of the winning order, and whether it came after one of these contacts.
fn expected(story: &Story, contacts: &[NaiveDate], window: u32) -> Option<(NaiveDate, bool)> {
    let case = Case {
        contacted_on: story.last(),
        ..Case::open(story.opened)
    };
    let mut days: Vec<NaiveDate> = story
        .orders
        .iter()
        .filter(|(on, cents)| *cents > 0 && *on <= day(TODAY))
        .map(|(on, _)| *on)
        .collect();
    days.sort_unstable();
    days.into_iter()
        .find_map(|on| match on_order(&case, contacts, on, window) {
            OnOrder::WonBack { after_contact, .. } => Some((on, after_contact)),
            _ => None,
        })
}

/// The history of the case of the customer K`i`, and its mails.
fn history(i: usize, story: &Story) -> String {
    let case =
        format!("winback_case k JOIN customer c ON c.id = k.customer_id WHERE c.number = 'K{i}'");
    let mut sql = String::new();
    for (n, deed) in story.deeds.iter().enumerate() {
        // Just after midnight in Berlin: still the day before in UTC.
        let time = format!("'{} 00:30 Europe/Berlin'", deed.on);
        let Some((state, attempt)) = deed.mail else {
            sql += &format!(
                "INSERT INTO winback_case_event (tenant_id, id, case_id, kind, created_at)
                 SELECT k.tenant_id, anklang_uuid7(), k.id, 'offer_requested', {time} FROM {case};"
            );
            continue;
        };
        let (message, template) = (uuid(8, i * 3 + n), deed.template);
        let undone = deed.is_undone();
        let voucher = match template {
            "voucher" => uuid(9, i),
            _ => "NULL".into(),
        };
        sql += &format!(
            "INSERT INTO winback_case_event (tenant_id, id, case_id, kind, detail, created_at)
             SELECT k.tenant_id, anklang_uuid7(), k.id, 'mailed',
                 jsonb_build_object('template', '{template}', 'message', 'messages/' || {message}),
                 {time} FROM {case};
             INSERT INTO message (tenant_id, id, phase_id, winback_case_id, customer_id, channel, account,
                 address, address_hash, purpose, state, attempt)
             SELECT k.tenant_id, {message}, {message}, k.id, c.id, 'mail', 'mail', 'x', '', 'x',
                 '{state}', {attempt} FROM {case};
             INSERT INTO winback_mail (tenant_id, message_id, case_id, template, brand_id, voucher_id,
                 undone, created_at)
             SELECT k.tenant_id, {message}, k.id, '{template}', {message}, {voucher}, {undone}, {time}
             FROM {case};"
        );
    }
    sql
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_are_won_back_by_the_orders_that_the_rule_names() {
    let lab = Lab::open().await;
    let stories = stories();
    let numbers: Vec<String> = (0..stories.len()).map(|i| format!("K{i}")).collect();
    let names: Vec<&str> = numbers.iter().map(|n| &n[..]).collect();
    lab.customers(&names).await;
    let mut orders = Vec::new();
    for (i, story) in stories.iter().enumerate() {
        for (n, (on, cents)) in story.orders.iter().enumerate() {
            // Just after midnight in Berlin: still the day before in UTC.
            let time = format!("{on} 00:{:02} Europe/Berlin", n + 1);
            let amount = format!("{}.{:02}", cents / 100, cents.abs() % 100);
            orders.push((format!("O{i}-{n}"), names[i], time, amount));
        }
    }
    lab.orders(&orders).await;
    let owner = lab.connect().await;
    for (i, story) in stories.iter().enumerate() {
        let contacted = story.last().map_or("NULL".into(), |on| format!("'{on}'"));
        // Some are held by somebody, and some wait for a reminder.
        let (state, due) = if i % 3 == 0 {
            ("reminder", "'2027-01-01'")
        } else {
            ("declining", "NULL")
        };
        let held = match i % 2 {
            0 => "'bea', now() + interval '1 hour', anklang_uuid7()",
            _ => "NULL, NULL, NULL",
        };
        let sql = format!(
            "INSERT INTO winback_case (tenant_id, id, customer_id, state, due_on, opened_on, opened_by,
                 seen_by, contacted_on, held_by, held_until, claim_id, revenue_then, revenue_now,
                 known_days, season, expected, actual, drop_amount, drop_percent, last_order, currency)
             SELECT c.tenant_id, anklang_uuid7(), c.id, '{state}', {due}, '{}', anklang_uuid7(),
                 anklang_uuid7(), {contacted}, {held}, 1, 0, 1, 1, 1, 0, 1, 100, '2026-01-01', 'EUR'
             FROM customer c WHERE number = 'K{i}'",
            story.opened
        );
        owner.batch_execute(&sql).await.unwrap();
    }
    // Brands and vouchers that there are not would be refused.
    let mut histories = "SET session_replication_role = replica;".to_owned();
    for (i, story) in stories.iter().enumerate() {
        histories += &history(i, story);
    }
    lab.connect().await.batch_execute(&histories).await.unwrap();
    // Rejected and foreign orders do not count.
    owner
        .batch_execute(
            "INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency)
             SELECT tenant_id, anklang_uuid7(), 'F' || number, id, '2026-08-01', 'CHF' FROM customer;
             INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency, state,
                 taken_number)
             SELECT tenant_id, anklang_uuid7(), 'R' || number, id, '2026-08-01', 'EUR', 'rejected',
                 'R' || number FROM customer;
             INSERT INTO order_line (tenant_id, order_id, line, quantity, unit_price)
             SELECT tenant_id, id, 1, 1, 99 FROM sales_order WHERE number ~ '^[FR]'",
        )
        .await
        .unwrap();

    let settings = Settings {
        win_window_days: 60,
        ..Settings::default()
    };
    let mut closed = 0;
    loop {
        let mut tx = lab.store.begin(lab.tenant.id).await.unwrap();
        let some = won_back::close(&mut tx, &lab.tenant, &settings, day(TODAY), 37).await;
        tx.commit().await.unwrap();
        match some.unwrap() {
            0 => break,
            some => closed += some,
        }
    }
    let rows =
        "SELECT c.number, (o.ordered_at AT TIME ZONE 'Europe/Berlin')::date, k.won_contacted,
                       k.closed_on, k.held_by IS NULL AND k.due_on IS NULL AND k.claim_id IS NULL,
                       k.won_revenue > 0, (SELECT count(*) FROM winback_case_event e
                                           WHERE e.case_id = k.id AND e.kind = 'won_back'
                                             AND e.from_state <> '' AND e.to_state = 'won_back')
                FROM winback_case k JOIN customer c ON c.id = k.customer_id
                LEFT JOIN sales_order o ON o.id = k.won_order_id
                WHERE k.state = 'won_back'";
    let rows = owner.query(rows, &[]).await.unwrap();
    let mut won = std::collections::BTreeMap::new();
    for row in &rows {
        assert_eq!(row.get::<_, NaiveDate>(3), day(TODAY));
        assert!(row.get::<_, bool>(4) && row.get::<_, bool>(5));
        assert_eq!(row.get::<_, i64>(6), 1);
        let how: (NaiveDate, bool) = (row.get(1), row.get(2));
        won.insert(row.get::<_, String>(0), how);
    }
    assert_eq!(won.len(), closed);
    let mut all = std::collections::BTreeMap::new();
    let mut earlier = 0;
    for (number, story) in numbers.iter().zip(&stories) {
        let window = settings.win_window_days;
        let Some(how) = expected(story, &story.contacts(), window) else {
            continue;
        };
        // By a contact before the last day, whose mail waits still, or which is after the order.
        let last = story.last();
        let is_after = last.is_some_and(|on| on > how.0);
        let waits = story.deeds.iter().any(|d| Some(d.on) == last && d.waits());
        earlier += usize::from(how.1 && (is_after || waits));
        all.insert(number.clone(), how);
    }
    assert!(earlier > 0, "{earlier}");
    assert!(all.len() > 50 && all.len() < 350, "{}", all.len());
    assert!(all.values().any(|how| how.1) && all.values().any(|how| !how.1));
    assert_eq!(won, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_in_between_goes_first() {
    let lab = Lab::open().await;
    lab.customers(&["A", "B"]).await;
    let order = |number: &str, customer| {
        let time = "2026-10-02 12:00 Europe/Berlin";
        (
            number.to_owned(),
            customer,
            time.to_owned(),
            "10".to_owned(),
        )
    };
    lab.orders(&[order("1", "A"), order("2", "B")]).await;
    let mut person = lab.connect().await;
    let cases = "INSERT INTO winback_case (tenant_id, id, customer_id, opened_on, opened_by, seen_by,
                     revenue_then, revenue_now, known_days, season, expected, actual, drop_amount,
                     drop_percent, last_order, currency)
                 SELECT tenant_id, anklang_uuid7(), id, '2026-10-01', anklang_uuid7(), anklang_uuid7(),
                     1, 0, 1, 1, 1, 0, 1, 100, '2026-01-01', 'EUR'
                 FROM customer";
    person.execute(cases, &[]).await.unwrap();
    // Somebody closes the case of A, and is not done when the service looks.
    let closing = person.transaction().await.unwrap();
    let close = "UPDATE winback_case SET state = 'no_interest', no_interest = 'price',
                     closed_on = '2026-10-05'
                 WHERE customer_id = (SELECT id FROM customer WHERE number = 'A')";
    assert_eq!(closing.execute(close, &[]).await.unwrap(), 1);
    let service = async {
        let mut tx = lab.store.begin(lab.tenant.id).await.unwrap();
        let settings = Settings::default();
        let closed = won_back::close(&mut tx, &lab.tenant, &settings, day(TODAY), 10).await;
        tx.commit().await.unwrap();
        closed.unwrap()
    };
    let person = async {
        let owner = lab.connect().await;
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        for _ in 0..300 {
            let row = owner.query_one(waiting, &[]).await.unwrap();
            if row.get::<_, i64>(0) > 0 {
                closing.commit().await.unwrap();
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        false
    };
    let (closed, has_waited) = futures::join!(service, person);
    assert!(has_waited);
    assert_eq!(closed, 1);
    let states = "SELECT string_agg(c.number || ' ' || k.state, ', ' ORDER BY c.number)
                  FROM winback_case k JOIN customer c ON c.id = k.customer_id";
    let row = lab.connect().await.query_one(states, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "A no_interest, B won_back");
}
