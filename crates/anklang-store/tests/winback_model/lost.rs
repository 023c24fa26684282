//! Mails that came to nothing: their cases are where they were before.

use anklang_store::winback::lost;
use chrono::{Days, NaiveDate, Utc};

use crate::{Lab, day};

/// Days of a case: standard template, voucher template, last contact, reminder.
type Dates = [Option<NaiveDate>; 4];

impl Lab {
    /// Opens a case of a new customer in a state, with mails of a template whose messages are in a state.
    async fn story(&self, number: &str, state: &str, mails: &[(&str, &str, &str)]) {
        self.customers(&[number]).await;
        let mut sql = format!(
            "INSERT INTO winback_case (tenant_id, id, customer_id, state, due_on, opened_on, opened_by,
                 seen_by, revenue_then, revenue_now, known_days, season, expected, actual, drop_amount,
                 drop_percent, last_order, currency, closed_on, no_interest)
             SELECT tenant_id, anklang_uuid7(), id, '{state}',
                 CASE '{state}' WHEN 'reminder' THEN date '2026-12-24' END, '2026-10-01',
                 anklang_uuid7(), anklang_uuid7(), 1, 0, 1, 1, 1, 0, 1, 100, '2026-01-01', 'EUR',
                 CASE '{state}' WHEN 'no_interest' THEN date '2026-11-11' END,
                 CASE '{state}' WHEN 'no_interest' THEN 'price' END
             FROM customer WHERE number = '{number}';"
        );
        for (place, (template, from, message)) in mails.iter().enumerate() {
            sql += &format!(
                "WITH mailed AS (
                     UPDATE winback_case k
                     SET contacted_on = date '2026-11-01' + {place},
                         standard_on = CASE '{template}' WHEN 'standard'
                             THEN date '2026-11-01' + {place} ELSE standard_on END,
                         voucher_on = CASE '{template}' WHEN 'voucher'
                             THEN date '2026-11-01' + {place} ELSE voucher_on END
                     FROM customer c WHERE c.id = k.customer_id AND c.number = '{number}'
                     RETURNING k.tenant_id, k.id, k.customer_id),
                 coded AS (
                     INSERT INTO voucher (tenant_id, pool_id, code)
                     SELECT tenant_id, (SELECT id FROM voucher_pool), gen_random_uuid()::text
                     FROM mailed WHERE '{template}' = 'voucher' RETURNING id),
                 written AS (
                     INSERT INTO message (tenant_id, id, phase_id, winback_case_id, customer_id, channel,
                         account, address, address_hash, purpose, state)
                     SELECT tenant_id, anklang_uuid7(), gen_random_uuid(), id, customer_id, 'mail',
                         'mail', 'x', '', 'x', '{message}' FROM mailed
                     RETURNING tenant_id, id, winback_case_id),
                 told AS (
                     INSERT INTO winback_case_event (tenant_id, id, case_id, kind, from_state, to_state,
                         detail, created_at)
                     SELECT tenant_id, anklang_uuid7(), winback_case_id, 'mailed', '{from}', 'mailed',
                         jsonb_build_object('template', '{template}', 'message', 'messages/' || id),
                         timestamptz '2026-11-01' + {place} * interval '1 day' FROM written)
                 INSERT INTO winback_mail (tenant_id, message_id, case_id, template, brand_id, voucher_id)
                 SELECT tenant_id, id, winback_case_id, '{template}', (SELECT id FROM brand),
                        (SELECT id FROM coded) FROM written;"
            );
        }
        self.connect().await.batch_execute(&sql).await.unwrap();
    }

    async fn stands(&self, number: &str) -> (String, Dates, i64) {
        let sql = "SELECT k.state, k.standard_on, k.voucher_on, k.contacted_on, k.due_on,
                          (SELECT count(*) FROM winback_case_event e
                           WHERE e.case_id = k.id AND e.kind = 'moved' AND e.to_state = k.state
                             AND e.detail ? 'message')
                   FROM winback_case k JOIN customer c ON c.id = k.customer_id WHERE c.number = $1";
        let row = self.connect().await.query_one(sql, &[&number]).await;
        let row = row.unwrap();
        let dates = [row.get(1), row.get(2), row.get(3), row.get(4)];
        (row.get(0), dates, row.get(5))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_came_to_nothing_leaves_its_case_as_it_was() {
    let lab = Lab::open().await;
    let pool = "INSERT INTO brand (tenant_id, id, code, name, sender_email)
                SELECT id, anklang_uuid7(), 'sw', 'SW', 'a@b.example' FROM tenant;
                INSERT INTO voucher_pool (tenant_id, brand_id, code)
                SELECT tenant_id, id, 'sommer' FROM brand";
    lab.connect().await.batch_execute(pool).await.unwrap();
    let (standard, voucher) = ("standard", "voucher");
    lab.story("new", "mailed", &[(standard, "declining", "suppressed")])
        .await;
    lab.story("sent", "mailed", &[(standard, "declining", "sent")])
        .await;
    let one_of_two = [
        (standard, "declining", "delivered"),
        (voucher, "mailed", "failed"),
    ];
    lab.story("one of two", "mailed", &one_of_two).await;
    let both = [
        (standard, "offer_requested", "bounced"),
        (voucher, "mailed", "failed"),
    ];
    lab.story("both", "mailed", &both).await;
    lab.story("put off", "mailed", &[(standard, "reminder", "failed")])
        .await;
    // Mailed, put off, and mailed again: that one came to nothing.
    let put_off_between = [
        (standard, "declining", "delivered"),
        (voucher, "reminder", "bounced"),
    ];
    lab.story("put off between", "mailed", &put_off_between)
        .await;
    // Put off again after the mail: the day that somebody named stays.
    lab.story("later", "reminder", &[(standard, "declining", "failed")])
        .await;
    lab.story("over", "no_interest", &[(standard, "declining", "failed")])
        .await;
    let asked = "INSERT INTO winback_case_event (tenant_id, id, case_id, kind, from_state, to_state,
                     created_at)
                 SELECT k.tenant_id, anklang_uuid7(), k.id, 'offer_requested', 'declining',
                     'offer_requested', '2026-10-20 23:30+00'
                 FROM winback_case k JOIN customer c ON c.id = k.customer_id WHERE c.number = 'both'";
    lab.connect().await.batch_execute(asked).await.unwrap();

    let mut undone = 0;
    loop {
        let mut tx = lab.store.begin(lab.tenant.id).await.unwrap();
        let some = lost::undo(&mut tx, &lab.tenant, 2).await.unwrap();
        tx.commit().await.unwrap();
        if some == 0 {
            break;
        }
        undone += some;
    }
    assert_eq!(undone, 8);
    let first = day("2026-11-01");
    let stands = async |number| lab.stands(number).await;
    let today = lab.tenant.day(Utc::now());
    assert_eq!(stands("new").await, ("declining".into(), [None; 4], 1));
    let dates = [Some(first), None, Some(first), None];
    assert_eq!(stands("sent").await, ("mailed".into(), dates, 0));
    assert_eq!(stands("one of two").await, ("mailed".into(), dates, 1));
    let (state, dates, told) = stands("both").await;
    assert_eq!((&state[..], told), ("offer_requested", 2));
    assert_eq!(dates, [None, None, Some(day("2026-10-21")), None]);
    let (state, dates, _) = stands("put off").await;
    assert_eq!(
        (&state[..], dates[..3].to_vec()),
        ("reminder", vec![None; 3])
    );
    // Midnight may have passed.
    let due = dates[3].unwrap();
    assert!((today - Days::new(1)..=today).contains(&due), "{due}");
    let (state, dates, _) = stands("put off between").await;
    assert_eq!((&state[..], dates[0]), ("reminder", Some(first)));
    assert_eq!(dates[1..3], [None, Some(first)]);
    assert!(dates[3].is_some());
    let dates = [None, None, None, Some(day("2026-12-24"))];
    assert_eq!(stands("later").await, ("reminder".into(), dates, 1));
    let dates = [Some(first), None, Some(first), None];
    assert_eq!(stands("over").await, ("no_interest".into(), dates, 0));

    // The template may go out again, and that one counts.
    let again = "INSERT INTO message (tenant_id, id, phase_id, winback_case_id, customer_id, channel,
                     account, address, address_hash, purpose)
                 SELECT m.tenant_id, anklang_uuid7(), gen_random_uuid(), winback_case_id, customer_id,
                     channel, account, address, address_hash, purpose
                 FROM message m JOIN customer c ON c.id = m.customer_id WHERE c.number = 'new';
                 INSERT INTO winback_mail (tenant_id, message_id, case_id, template, brand_id)
                 SELECT tenant_id, id, winback_case_id, 'standard', (SELECT id FROM brand)
                 FROM message WHERE state = 'queued'";
    lab.connect().await.batch_execute(again).await.unwrap();
}
