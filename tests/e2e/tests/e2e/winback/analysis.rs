//! Figures of cases and of what was done with them, by hand.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_proto::anklang::winback::v1::{self as pb, WinbackDimension as By};
use anklang_proto::google::r#type::Money;
use anklang_testkit::{Client, Options, TestServer};
use pb::WinbackTemplate::{Standard, Voucher};

use super::desk::{close, closes, date, day, remind, reminds, request_offer, wants_offer};
use super::mails::{case_of, execute, mail, ready, until_state};
use super::orders;
use super::results::mailed;
use crate::mailing::{TENANT, import, over, until};
use crate::refused;

/// The last three weeks, and tomorrow: days of the database are not those of the tenant.
fn lately(group_by: &[By]) -> pb::AnalyseWinbackRequest {
    pb::AnalyseWinbackRequest {
        first_date: Some(date(day(-21))),
        last_date: Some(date(day(1))),
        group_by: group_by.iter().map(|by| (*by).into()).collect(),
        ..Default::default()
    }
}

async fn analyse(
    client: &Client,
    request: pb::AnalyseWinbackRequest,
) -> pb::AnalyseWinbackResponse {
    let found = client.winback_cases().analyse_winback(request).await;
    found.unwrap().into_inner()
}

fn cents(cents: i64) -> Option<Money> {
    Some(Money {
        currency_code: "EUR".into(),
        units: cents / 100,
        nanos: i32::try_from(cents % 100).unwrap() * 10_000_000,
    })
}

/// Six cases: 0000 and 0001 are won back after mails, the first one after an offer was asked for as well, and
/// 0004 without anything; 0002 has no interest after a voucher, 0003 is put off, and 0005 is in a mailing.
async fn histories(server: &mut TestServer) -> Client {
    let client = ready(server, 6, 1).await;
    let mut messages = Vec::new();
    for (number, template) in [("0000", Standard), ("0001", Standard), ("0002", Voucher)] {
        let case = case_of(server, number).await;
        messages.push(mail(&client, &case, template).await.unwrap().message);
    }
    let request = pb::MailWinbackCasesRequest {
        template: Standard.into(),
        filter: "customer = \"customers/0005\"".into(),
        ..Default::default()
    };
    let asked = client.winback_mails().mail_winback_cases(request).await;
    let asked = asked.unwrap().into_inner();
    assert_eq!(mailed(&over(&client, &asked.name).await).mailed_count, 1);
    let of_mailing =
        "SELECT 'messages/' || message_id FROM winback_mail WHERE mailing_id IS NOT NULL";
    messages.push(server.database.one(of_mailing).await.unwrap());
    for message in &messages {
        until_state(&client, message, MessageState::Sent).await;
    }
    let case = async |number| case_of(server, number).await;
    request_offer(&client, wants_offer(&case("0000").await, "bert"))
        .await
        .unwrap();
    close(&client, closes(&case("0002").await, "bert"))
        .await
        .unwrap();
    remind(&client, reminds(&case("0003").await, "bert"))
        .await
        .unwrap();

    let now = chrono::Utc::now().to_rfc3339();
    let bought = [("0000", "40"), ("0001", "30.50"), ("0004", "5")];
    let names = bought.map(|(number, _)| format!("W{number}"));
    let rows: Vec<_> = (bought.iter().zip(&names))
        .map(|((number, amount), name)| (&name[..], *number, &now[..], *amount, "Obst"))
        .collect();
    orders(&client, &rows).await;
    import(
        &client,
        ImportEntity::Orders,
        format!("number,customer_number,ordered_at,currency,brand_code\nW0001,0001,{now},EUR,sw\n"),
    )
    .await;
    // Who comes back is looked for when a server begins.
    server.restart().await.unwrap();
    let won = "SELECT count(*) FROM winback_case WHERE state = 'won_back'";
    until("three are won back", async || {
        server.database.one(won).await.unwrap() == "3"
    })
    .await;
    Client::connect(server.addr, TENANT).await.unwrap()
}

#[tokio::test]
async fn figures_are_those_of_what_happened() {
    let mut server = TestServer::start_with(Options {
        account: "cost_per_message = '0.0150 EUR'".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = histories(&mut server).await;
    let found = analyse(&client, lately(&[])).await;
    let expected = pb::WinbackFigures {
        opened_count: 6,
        mail_count: 4,
        offer_request_count: 1,
        contacted_count: 4,
        recovered_count: 2,
        recovered_share: 0.5,
        reminder_count: 1,
        no_interest_count: 1,
        won_back_count: 3,
        won_after_contact_count: 2,
        revenue: cents(7_550),
        revenue_after_contact: cents(7_050),
        other_currency_count: 0,
        sent_count: 4,
        cost: cents(6),
        unknown_cost_count: 0,
        voucher_count: 1,
    };
    assert_eq!(found.total, Some(expected.clone()));
    let [all] = &found.groups[..] else {
        panic!("{found:?}");
    };
    assert_eq!(all.figures, Some(expected));

    let lines = async |request: pb::AnalyseWinbackRequest, key: fn(&pb::WinbackGroup) -> String| {
        let found = analyse(&client, request).await;
        let line = |group: &pb::WinbackGroup| {
            let f = group.figures.as_ref().unwrap();
            format!(
                "{}: {} opened, {} mails, {}/{} contacted, {} lost, {} won",
                key(group),
                f.opened_count,
                f.mail_count,
                f.recovered_count,
                f.contacted_count,
                f.no_interest_count,
                f.won_back_count
            )
        };
        found.groups.iter().map(line).collect::<Vec<_>>()
    };
    // A case counts for each person who has contacted its customer, and once in all.
    assert_eq!(
        lines(lately(&[By::Worker]), |g| g.worker.clone()).await,
        [
            ": 6 opened, 1 mails, 0/1 contacted, 0 lost, 1 won",
            "users/anna: 0 opened, 3 mails, 2/3 contacted, 0 lost, 1 won",
            "users/bert: 0 opened, 0 mails, 1/1 contacted, 1 lost, 1 won",
        ]
    );
    assert_eq!(
        lines(lately(&[By::Template]), |g| format!("{:?}", g.template())).await,
        [
            "Unspecified: 6 opened, 0 mails, 1/1 contacted, 0 lost, 2 won",
            "Standard: 0 opened, 3 mails, 2/3 contacted, 0 lost, 1 won",
            "Voucher: 0 opened, 1 mails, 0/1 contacted, 1 lost, 0 won",
        ]
    );
    // Only one has a last order that names its brand.
    assert_eq!(
        lines(lately(&[By::Brand]), |g| g.brand.clone()).await,
        [
            ": 5 opened, 0 mails, 1/1 contacted, 0 lost, 2 won",
            "brands/sw: 1 opened, 4 mails, 2/4 contacted, 1 lost, 1 won",
        ]
    );
    assert_eq!(
        lines(lately(&[By::Reason]), |g| format!("{:?}", g.reason())).await,
        [
            "Unspecified: 6 opened, 4 mails, 2/4 contacted, 0 lost, 3 won",
            "Competitor: 0 opened, 0 mails, 0/0 contacted, 1 lost, 0 won",
        ]
    );
    // What was found ten days ago was found in an earlier week.
    let weeks = analyse(&client, lately(&[By::Week])).await;
    let first = &weeks.groups[0];
    let monday = "SELECT date_trunc('week', opened_on::timestamp)::date FROM winback_case LIMIT 1";
    let monday = server.database.one(monday).await.unwrap();
    assert_eq!(first.week, Some(date(monday.parse().unwrap())));
    let figures = first.figures.as_ref().unwrap();
    assert_eq!((figures.opened_count, figures.mail_count), (6, 0));
    assert_eq!(weeks.groups.len(), 2);

    // Filters, and a bound.
    let request = pb::AnalyseWinbackRequest {
        workers: vec!["users/anna".into()],
        brands: vec!["brands/sw".into()],
        ..lately(&[By::Template, By::Worker])
    };
    let key = |g: &pb::WinbackGroup| format!("{:?} {}", g.template(), g.worker);
    assert_eq!(
        lines(request.clone(), key).await,
        [
            "Standard users/anna: 0 opened, 2 mails, 2/2 contacted, 0 lost, 1 won",
            "Voucher users/anna: 0 opened, 1 mails, 0/1 contacted, 0 lost, 0 won",
        ]
    );
    let bounded = pb::AnalyseWinbackRequest {
        max_groups: 1,
        ..request
    };
    let bounded = analyse(&client, bounded).await;
    assert!(bounded.more && bounded.groups.len() == 1);
    assert_eq!(bounded.total.unwrap().mail_count, 3);
    let nobodys = pb::AnalyseWinbackRequest {
        customer_groups: vec!["Obst".into()],
        ..lately(&[By::Week])
    };
    assert_eq!(analyse(&client, nobodys).await.groups, []);

    // A message that came back has cost as well, one that was never taken nothing.
    execute(
        &server,
        "UPDATE message SET state = 'bounced'
         WHERE id = (SELECT min(message_id::text)::uuid FROM winback_mail);
         UPDATE message SET state = 'failed'
         WHERE id = (SELECT max(message_id::text)::uuid FROM winback_mail)",
    )
    .await;
    let total = analyse(&client, lately(&[])).await.total.unwrap();
    assert_eq!((total.sent_count, total.mail_count), (3, 4));
    assert_eq!(
        total.cost.unwrap().nanos,
        45_000_000,
        "three times 1.5 cents"
    );

    let other = server.client("other").await.unwrap();
    let nothing = analyse(&other, lately(&[By::Worker])).await;
    assert_eq!(nothing.groups, []);
    assert_eq!(nothing.total.unwrap().opened_count, 0);
}

#[tokio::test]
async fn what_cannot_be_analysed_is_refused() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let call = async |request| {
        let refused = client.winback_cases().analyse_winback(request).await;
        refused.unwrap_err()
    };
    let status = call(pb::AnalyseWinbackRequest {
        group_by: vec![0, By::Week.into(), By::Week.into(), 77],
        workers: vec!["roles/anna".into()],
        brands: vec!["sw".into()],
        customer_groups: vec![String::new()],
        max_groups: -1,
        ..Default::default()
    })
    .await;
    refused::names(
        &status,
        &[
            "first_date",
            "last_date",
            "group_by[0]",
            "group_by[2]",
            "group_by[3]",
            "workers[0]",
            "brands[0]",
            "customer_groups[0]",
            "max_groups",
        ],
    );
    let status = call(pb::AnalyseWinbackRequest {
        first_date: Some(date(day(-367))),
        last_date: Some(date(day(0))),
        ..Default::default()
    })
    .await;
    refused::names(&status, &["last_date"]);
}
