//! What comes of a mailing: each customer is mailed once though the server is killed, whom it left out, and what
//! it brought.

use std::collections::BTreeMap;
use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use prost::Message as _;
use rand::RngExt;
use tonic::{Code, Status};
use winback::WinbackTemplate::{Standard, Voucher};

use super::desk::{date, day, get};
use super::mails::{case_of, execute, mail, ready, require_control};
use crate::mailing::{TENANT, import, over, seeded, until};
use crate::refused;

async fn mail_all(
    client: &Client,
    template: winback::WinbackTemplate,
    filter: &str,
    percent: f64,
) -> Result<lro::Operation, Status> {
    let request = winback::MailWinbackCasesRequest {
        template: template.into(),
        filter: filter.into(),
        control_percent: Some(percent),
        ..Default::default()
    };
    let asked = client.winback_mails().mail_winback_cases(request).await?;
    Ok(asked.into_inner())
}

pub fn mailed(operation: &lro::Operation) -> winback::MailWinbackCasesResponse {
    match &operation.result {
        Some(lro::operation::Result::Response(any)) => {
            winback::MailWinbackCasesResponse::decode(&any.value[..]).unwrap()
        }
        other => panic!("the mailing did not succeed: {other:?}"),
    }
}

#[tokio::test]
async fn a_mailing_survives_kills_at_any_moment() {
    const CASES: usize = 1_600;
    let mut random = seeded();
    let mut server = TestServer::start_with(Options {
        ambiguous: "hold",
        lease_seconds: 1,
        ..Default::default()
    })
    .await
    .unwrap();
    let first = ready(&server, CASES, 1_500).await;
    let operation = mail_all(&first, Voucher, "at_stake > 200 AND alive < 0.4", 20.0).await;
    let operation = operation.unwrap();
    let over_now = "SELECT state NOT IN ('queued', 'running') FROM operation
                    WHERE kind = 'MailWinbackCases'";
    let control = "SELECT coalesce(string_agg(customer_id::text, ',' ORDER BY customer_id), '')
                   FROM winback_control";
    let taken_up = "SELECT attempt FROM operation WHERE kind = 'MailWinbackCases'";
    let (mut drawn, mut interrupted) = (String::new(), false);
    for round in 1..=5 {
        // Only a worker that has taken the mailing up can be interrupted at it.
        until("a worker", async || {
            let attempt: i32 = server
                .database
                .one(taken_up)
                .await
                .unwrap()
                .parse()
                .unwrap();
            attempt >= round || server.database.one(over_now).await.unwrap() == "t"
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        let is_over = server.database.one(over_now).await.unwrap() == "t";
        server.restart().await.unwrap();
        interrupted |= !is_over;
        // Once drawn it stays.
        let now = server.database.one(control).await.unwrap();
        assert!(drawn.is_empty() || drawn == now);
        drawn = now;
    }
    assert!(interrupted, "no kill interrupted the mailing");
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    let response = mailed(&over(&client, &operation.name).await);
    let count = |n: i64| usize::try_from(n).unwrap();
    let (sent, alone) = (count(response.mailed_count), count(response.control_count));
    assert_eq!(
        (sent + alone, response.refused_count),
        (CASES, 0),
        "{response:?}"
    );
    // 20 % of 1,600 are 320, give or take five times their spread of 16.
    assert!((240..=400).contains(&alone), "{alone}");

    let books = "SELECT count(*) || ' ' || count(DISTINCT m.customer_id) || ' '
                        || count(DISTINCT w.voucher_id) || ' ' || count(DISTINCT w.case_id)
                 FROM message m JOIN winback_mail w ON w.message_id = m.id";
    assert_eq!(
        server.database.one(books).await.unwrap(),
        format!("{sent} {sent} {sent} {sent}")
    );
    let given = "SELECT count(*) || ' ' || count(DISTINCT customer_id) FROM voucher
                 WHERE given_at IS NOT NULL";
    assert_eq!(
        server.database.one(given).await.unwrap(),
        format!("{sent} {sent}")
    );
    let touched = "SELECT count(*) FROM winback_control k
                   JOIN winback_case w ON w.id = k.case_id
                   WHERE w.state <> 'declining' OR w.voucher_on IS NOT NULL
                      OR EXISTS (SELECT FROM message m WHERE m.customer_id = k.customer_id)
                      OR EXISTS (SELECT FROM voucher v WHERE v.customer_id = k.customer_id)";
    assert_eq!(server.database.one(touched).await.unwrap(), "0");
    let events = "SELECT count(*) FROM winback_case_event WHERE kind = 'mailed'";
    assert_eq!(server.database.one(events).await.unwrap(), sent.to_string());

    let waiting = "SELECT count(*) FROM message WHERE state IN ('queued', 'sending')";
    until("all are over", async || {
        server.database.one(waiting).await.unwrap() == "0"
    })
    .await;
    let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
    for mail in server.sink.received() {
        *arrived.entry(mail.rcpt_to[0].clone()).or_default() += 1;
    }
    assert!(arrived.values().all(|n| *n == 1), "nobody twice");
    // What is in doubt is held, and may have arrived.
    let doubt = "SELECT count(*) FROM message WHERE state = 'ambiguous'";
    let doubt: usize = server.database.one(doubt).await.unwrap().parse().unwrap();
    assert!(arrived.len() <= sent && arrived.len() + doubt >= sent);
}

#[tokio::test]
async fn a_mailing_tells_whom_it_left_out() {
    let server = TestServer::start().await.unwrap();
    let client = ready(&server, 10, 5).await;
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    0001,mail,marketing,withdrawn,2026-05-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, consents).await;
    execute(
        &server,
        "UPDATE winback_case w SET held_by = 'users/ben', claim_id = gen_random_uuid(),
                held_until = now() + interval '5 minutes'
         FROM customer c WHERE c.id = w.customer_id AND c.number = '0002';
         UPDATE winback_case w SET at_stake = 10
         FROM customer c WHERE c.id = w.customer_id AND c.number = '0003'",
    )
    .await;
    let mut wrong = winback::MailWinbackCasesRequest {
        filter: "at_steak > 3".into(),
        control_percent: Some(60.0),
        ..Default::default()
    };
    let refused = client
        .winback_mails()
        .mail_winback_cases(wrong.clone())
        .await;
    refused::names(
        &refused.unwrap_err(),
        &["template", "filter", "control_percent"],
    );
    // What the settings require is the least.
    require_control(&client, 10.0).await;
    wrong.filter = String::new();
    wrong.template = Voucher.into();
    wrong.control_percent = Some(5.0);
    let refused = client.winback_mails().mail_winback_cases(wrong).await;
    refused::names(&refused.unwrap_err(), &["control_percent"]);
    require_control(&client, 0.0).await;

    let operation = mail_all(&client, Voucher, "at_stake > 200", 0.0)
        .await
        .unwrap();
    let response = mailed(&over(&client, &operation.name).await);
    assert_eq!((response.mailed_count, response.control_count), (5, 0));
    let refusals: BTreeMap<i32, i64> = response
        .refusals
        .iter()
        .map(|r| (r.refusal, r.count))
        .collect();
    use winback::WinbackRefusal::{Held, NoConsent, PoolEmpty};
    let of = |refusal: winback::WinbackRefusal| refusals.get(&refusal.into()).copied();
    assert_eq!(
        (of(NoConsent), of(Held), of(PoolEmpty)),
        (Some(1), Some(1), Some(2))
    );
    assert_eq!(response.refused_count, 4);
    // A second one takes who has not got it; the report tells of both.
    let operation = mail_all(&client, Voucher, "", 0.0).await.unwrap();
    let second = mailed(&over(&client, &operation.name).await);
    assert_eq!((second.mailed_count, second.refused_count), (0, 5));
}

#[tokio::test]
async fn what_it_brought_is_told_against_the_control_group() {
    const CASES: usize = 400;
    let server = TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, CASES, 0).await;
    let operation = mail_all(&client, Standard, "", 50.0).await.unwrap();
    let response = mailed(&over(&client, &operation.name).await);
    let (n, k) = (response.mailed_count, response.control_count);
    let report = async |confidence: f64| {
        let request = winback::ReportWinbackMailingRequest {
            name: response.mailing.clone(),
            confidence,
        };
        let report = client.winback_mails().report_winback_mailing(request).await;
        report.map(tonic::Response::into_inner)
    };
    // Nobody has bought: nothing measures chance.
    let before = report(0.0).await.unwrap();
    assert_eq!(before.recovered_revenue, None);
    assert!(
        before.explanation.contains("nothing measures chance"),
        "{before:?}"
    );
    refused::names(&report(0.3).await.unwrap_err(), &["confidence"]);

    // Whoever was mailed buys for 30 to 49, of the control group every other one for 10; and what does
    // not count: other currencies, rejected orders, orders of before.
    execute(
        &server,
        "INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency)
         SELECT c.tenant_id, gen_random_uuid(), 'N' || c.number, c.id, now(), 'EUR' FROM customer c
         WHERE EXISTS (SELECT FROM winback_mailing_member m WHERE m.customer_id = c.id)
            OR c.number::integer % 2 = 0;
         INSERT INTO order_line (tenant_id, order_id, line, quantity, unit_price)
         SELECT o.tenant_id, o.id, 1, 1, CASE WHEN EXISTS (
                    SELECT FROM winback_mailing_member m WHERE m.customer_id = o.customer_id)
                THEN 30 + c.number::integer % 20 ELSE 10 END
         FROM sales_order o JOIN customer c ON c.id = o.customer_id;
         INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency, state,
                                  taken_number)
         SELECT c.tenant_id, gen_random_uuid(), w.kind || c.number, c.id,
                now() - CASE w.kind WHEN 'ALT' THEN interval '3 days' ELSE interval '0' END,
                CASE w.kind WHEN 'CHF' THEN 'CHF' ELSE 'EUR' END,
                CASE w.kind WHEN 'NEIN' THEN 'rejected' ELSE '' END,
                CASE w.kind WHEN 'NEIN' THEN 'T' || c.number ELSE '' END
         FROM customer c CROSS JOIN (VALUES ('CHF'), ('NEIN'), ('ALT')) w (kind);
         INSERT INTO order_line (tenant_id, order_id, line, quantity, unit_price)
         SELECT tenant_id, id, 1, 1, 1000 FROM sales_order WHERE number NOT LIKE 'N0%'",
    )
    .await;
    let found = report(0.0).await.unwrap();
    let (contacted, control) = (found.contacted.unwrap(), found.control.unwrap());
    assert_eq!((contacted.customer_count, control.customer_count), (n, k));
    assert_eq!(contacted.buyer_count, n);
    let naive = "SELECT round(sum(l.unit_price)) FROM winback_mailing_member m
                 JOIN sales_order o ON o.customer_id = m.customer_id AND o.number LIKE 'N0%'
                 JOIN order_line l ON l.order_id = o.id";
    let naive: f64 = server.database.one(naive).await.unwrap().parse().unwrap();
    let money = |money: &Option<anklang_proto::google::r#type::Money>| {
        let money = money.as_ref().unwrap();
        assert_eq!(money.currency_code, "EUR");
        money.units as f64 + f64::from(money.nanos) / 1e9
    };
    assert!((money(&found.naive_revenue) - naive).abs() < 0.01);
    let others = 10.0 * control.buyer_count as f64 / k as f64;
    let expected = naive - others * n as f64;
    let recovered = money(&found.recovered_revenue);
    assert!(
        (recovered - expected).abs() < 0.02,
        "{recovered} {expected}"
    );
    let (low, high) = (money(&found.recovered_low), money(&found.recovered_high));
    assert!(low < recovered && recovered < high && low > 0.0 && found.is_proven);
    assert!(found.confidence == 0.95 && !found.is_complete);
    assert!(
        found.explanation.contains("left alone"),
        "{}",
        found.explanation
    );
    assert_eq!((found.mailed_count, found.control_mailed_count), (n, 0));
    let wider = report(0.99).await.unwrap();
    assert!(money(&wider.recovered_low) < low && money(&wider.recovered_high) > high);

    // Somebody of the control group is mailed all the same: told, and left alone by another mailing.
    let case = "SELECT 'winbackCases/' || min(case_id::text) FROM winback_control";
    let case = server.database.one(case).await.unwrap();
    mail(&client, &case, Standard).await.unwrap();
    assert_eq!(report(0.0).await.unwrap().control_mailed_count, 1);
    let again = mail_all(&client, Standard, "", 0.0).await.unwrap();
    let again = mailed(&over(&client, &again.name).await);
    assert_eq!((again.mailed_count, again.refused_count), (0, 0));
    let unknown = winback::ReportWinbackMailingRequest {
        name: format!("winbackMailings/{}", uuid::Uuid::now_v7()),
        ..Default::default()
    };
    let status = client.winback_mails().report_winback_mailing(unknown).await;
    assert_eq!(status.unwrap_err().code(), Code::NotFound);
}

/// A standard mail went out, a voucher waits, and the customer buys.
#[tokio::test]
async fn a_mail_that_waits_takes_nothing_from_a_contact_before() {
    let mut server = TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, 2, 2).await;
    let contacted = case_of(&server, "0000").await;
    let waiting = case_of(&server, "0001").await;
    mail(&client, &contacted, Standard).await.unwrap();
    execute(
        &server,
        "UPDATE message SET state = 'sent', attempt = 1;
         UPDATE winback_mail SET created_at = created_at - interval '5 days';
         UPDATE winback_case_event SET created_at = created_at - interval '5 days';
         UPDATE winback_case SET standard_on = standard_on - 5, contacted_on = contacted_on - 5",
    )
    .await;
    mail(&client, &contacted, Voucher).await.unwrap();
    mail(&client, &waiting, Voucher).await.unwrap();
    let now = chrono::Utc::now().to_rfc3339();
    let bought = [
        ("W0", "0000", &now[..], "40", "Obst"),
        ("W1", "0001", &now[..], "30", "Obst"),
    ];
    super::orders(&client, &bought).await;
    // Who comes back is looked for when a server begins.
    server.restart().await.unwrap();
    let won = "SELECT count(*) FROM winback_case WHERE state = 'won_back'";
    until("both are won back", async || {
        server.database.one(won).await.unwrap() == "2"
    })
    .await;
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    assert!(get(&client, &contacted).await.won_after_contact);
    assert!(!get(&client, &waiting).await.won_after_contact);
    // It counts for the mail that went out.
    let request = winback::AnalyseWinbackRequest {
        first_date: Some(date(day(-21))),
        last_date: Some(date(day(1))),
        group_by: vec![winback::WinbackDimension::Template.into()],
        ..Default::default()
    };
    let found = client.winback_cases().analyse_winback(request).await;
    let groups = found.unwrap().into_inner().groups;
    let won = groups.iter().map(|group| {
        let figures = group.figures.as_ref().unwrap();
        (group.template(), figures.won_back_count)
    });
    assert_eq!(
        won.collect::<Vec<_>>(),
        [
            (winback::WinbackTemplate::Unspecified, 1),
            (Standard, 1),
            (Voucher, 0)
        ]
    );
}
