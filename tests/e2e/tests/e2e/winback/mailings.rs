//! Which cases a mailing takes: by tile, saved selection and filter.

use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::winback::v1::{self as pb, WinbackTile as Tile};
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use pb::WinbackTemplate::{Standard, Voucher};
use tonic::Status;

use super::mails::{execute, mailed, ready};
use super::{number_is, save_selection};
use crate::mailing::over;
use crate::refused;

/// Eight customers with open cases: 0000 and 0001 have not been worked on, 0002 and 0003 are due, 0004 is not
/// due yet, of 0005 and 0006 offers were asked for, and 0007 was mailed before.
async fn desk(server: &TestServer) -> Client {
    let client = ready(server, 8, 8).await;
    execute(
        server,
        "UPDATE winback_case w SET (state, due_on, voucher_on) = (
             SELECT s.state, current_date + s.due, current_date + s.mailed
             FROM (VALUES ('0000', 'declining', NULL::int, NULL::int), ('0001', 'declining', NULL, NULL),
                          ('0002', 'reminder', -1, NULL), ('0003', 'reminder', -3, NULL),
                          ('0004', 'reminder', 5, NULL), ('0005', 'offer_requested', NULL, NULL),
                          ('0006', 'offer_requested', NULL, NULL), ('0007', 'mailed', NULL, -2))
                  AS s (number, state, due, mailed)
             JOIN customer c ON c.number = s.number AND c.id = w.customer_id);
         UPDATE winback_case w SET at_stake = 50
         FROM customer c WHERE c.id = w.customer_id AND c.number IN ('0001', '0003', '0005')",
    )
    .await;
    client
}

async fn ask(
    client: &Client,
    request: pb::MailWinbackCasesRequest,
) -> Result<lro::Operation, Status> {
    let asked = client.winback_mails().mail_winback_cases(request).await?;
    Ok(asked.into_inner())
}

/// How many a mailing would mail.
async fn would(client: &Client, request: &pb::MailWinbackCasesRequest) -> i64 {
    let request = pb::MailWinbackCasesRequest {
        validate_only: true,
        ..request.clone()
    };
    mailed(&ask(client, request).await.unwrap()).mailed_count
}

/// Mails; gives the numbers of those who were mailed, and the name of the mailing.
async fn done(
    server: &TestServer,
    client: &Client,
    request: pb::MailWinbackCasesRequest,
) -> (String, String) {
    let operation = ask(client, request).await.unwrap();
    over_then(server, client, &operation).await
}

async fn over_then(
    server: &TestServer,
    client: &Client,
    operation: &lro::Operation,
) -> (String, String) {
    let response = mailed(&over(client, &operation.name).await);
    assert_eq!((response.refused_count, response.control_count), (0, 0));
    let id = response.mailing.strip_prefix("winbackMailings/").unwrap();
    let sql = format!(
        "SELECT coalesce(string_agg(c.number, ' ' ORDER BY c.number), '') FROM winback_mail m
         JOIN winback_case w ON w.id = m.case_id JOIN customer c ON c.id = w.customer_id
         WHERE m.mailing_id = '{id}'"
    );
    (server.database.one(&sql).await.unwrap(), response.mailing)
}

async fn list(client: &Client, filter: &str) -> Vec<pb::WinbackMailing> {
    let request = pb::ListWinbackMailingsRequest {
        filter: filter.into(),
        ..Default::default()
    };
    let listed = client.winback_mails().list_winback_mailings(request).await;
    listed.unwrap().into_inner().winback_mailings
}

async fn quiet() -> TestServer {
    TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_mailing_takes_the_cases_of_a_tile() {
    let server = quiet().await;
    let client = desk(&server).await;
    let of = |tile: Tile, filter: &str| pb::MailWinbackCasesRequest {
        template: Voucher.into(),
        tile: tile.into(),
        filter: filter.into(),
        ..Default::default()
    };
    // Who has got this template gets it no more.
    assert_eq!(would(&client, &of(Tile::Unspecified, "")).await, 7);
    assert_eq!(would(&client, &of(Tile::Mailed, "")).await, 0);
    assert_eq!(would(&client, &of(Tile::OfferRequested, "")).await, 2);
    assert_eq!(
        would(&client, &of(Tile::OfferRequested, "at_stake > 200")).await,
        1
    );
    let (numbers, due) = done(&server, &client, of(Tile::ReminderDue, "")).await;
    assert_eq!(numbers, "0002 0003");
    let rich = "at_stake > 200 AND state = DECLINING";
    let (numbers, rich) = done(&server, &client, of(Tile::Declining, rich)).await;
    assert_eq!(numbers, "0000");

    let listed = list(&client, "tile = REMINDER_DUE").await;
    let [shown] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!((&shown.name, shown.tile()), (&due, Tile::ReminderDue));
    assert_eq!((&shown.selection[..], shown.selection_version), ("", 0));
    let others = list(&client, "NOT tile = REMINDER_DUE").await;
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].name, rich);

    // What belongs to the last order is known to filters as well.
    execute(
        &server,
        "INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency, brand_id)
         SELECT c.tenant_id, gen_random_uuid(), 'X', c.id, now(), 'EUR', b.id
         FROM customer c JOIN brand b ON b.tenant_id = c.tenant_id AND b.code = 'sw'
         WHERE c.number = '0006'",
    )
    .await;
    let brand = of(Tile::OfferRequested, "last_order_brand = \"brands/sw\"");
    let (numbers, _) = done(&server, &client, brand).await;
    assert_eq!(numbers, "0006");
}

#[tokio::test]
async fn a_mailing_takes_a_selection_as_it_was() {
    let server = quiet().await;
    let client = desk(&server).await;
    let selection = save_selection(&client, "0001").await;
    let ticks = selections::UpdateSelectionTicksRequest {
        name: selection.clone(),
        include: vec!["customers/0003".into(), "customers/0006".into()],
        ..Default::default()
    };
    let mut calls = client.selections();
    calls.update_selection_ticks(ticks).await.unwrap();
    let request = pb::MailWinbackCasesRequest {
        template: Standard.into(),
        selection: selection.clone(),
        ..Default::default()
    };
    assert_eq!(would(&client, &request).await, 3);
    // All must hold.
    let all = pb::MailWinbackCasesRequest {
        tile: Tile::ReminderDue.into(),
        filter: "at_stake < 100".into(),
        ..request.clone()
    };
    assert_eq!(would(&client, &all).await, 1);
    let (numbers, first) = done(&server, &client, all.clone()).await;
    assert_eq!(numbers, "0003");

    // Another version finds others; it is asked for with the first one, which is gone at once.
    let operation = ask(&client, request.clone()).await.unwrap();
    let changed = selections::UpdateSelectionRequest {
        selection: Some(selections::Selection {
            name: selection.clone(),
            display_name: "Andere".into(),
            criteria: Some(number_is("0000")),
            subject: selections::Subject::Customer.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    calls.update_selection(changed).await.unwrap();
    let delete = selections::DeleteSelectionRequest {
        name: selection.clone(),
        ..Default::default()
    };
    calls.delete_selection(delete).await.unwrap();
    let (numbers, second) = over_then(&server, &client, &operation).await;
    assert_eq!(numbers, "0001 0006");

    let listed = list(&client, &format!("selection = \"{selection}\"")).await;
    let names: Vec<&String> = listed.iter().map(|mailing| &mailing.name).collect();
    assert_eq!(names, [&second, &first]);
    assert!(
        listed
            .iter()
            .all(|m| m.selection == selection && m.selection_version == 1)
    );
    assert_eq!(listed[1].tile(), Tile::ReminderDue);

    // It is gone for those who ask now.
    let status = ask(&client, request).await.unwrap_err();
    refused::names(&status, &["selection"]);
}

#[tokio::test]
async fn what_a_mailing_cannot_take_is_told_at_once() {
    let server = quiet().await;
    let client = desk(&server).await;
    let wrong = pb::MailWinbackCasesRequest {
        filter: "at_steak > 3".into(),
        tile: Tile::WonBack.into(),
        selection: "selections/1".into(),
        control_percent: Some(60.0),
        ..Default::default()
    };
    let status = ask(&client, wrong).await.unwrap_err();
    refused::names(
        &status,
        &["template", "filter", "tile", "selection", "control_percent"],
    );
    let request = selections::CreateSelectionRequest {
        selection: Some(selections::Selection {
            display_name: "Verträge".into(),
            subject: selections::Subject::Contract.into(),
            criteria: Some(number_is("V0001")),
            ..Default::default()
        }),
        ..Default::default()
    };
    let contracts = client.selections().create_selection(request).await.unwrap();
    let of_contracts = pb::MailWinbackCasesRequest {
        template: Standard.into(),
        selection: contracts.into_inner().name,
        tile: 99,
        ..Default::default()
    };
    let status = ask(&client, of_contracts).await.unwrap_err();
    refused::names(&status, &["tile", "selection"]);
}
