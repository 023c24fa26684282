//! Which cases a mailing takes, by tile, saved selection and filter; what it leaves as it is, who is left alone
//! for it, and who was contacted all the same.

use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::winback::v1::{self as pb, WinbackTile as Tile};
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use pb::WinbackTemplate::{Standard, Voucher};
use tonic::Status;

use super::desk::{asks, get, next_customer};
use super::mails::{case_of, execute, ready};
use super::results::mailed;
use super::{number_is, save_selection};
use crate::mailing::{import, over, until};
use crate::planning::date;
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

/// All cases as they are: number, state, day to come back, and whether they were contacted today.
const STANDINGS: &str =
    "SELECT string_agg(concat_ws(' ', c.number, w.state, w.due_on - current_date,
        CASE WHEN w.standard_on IS NOT NULL AND w.contacted_on = w.standard_on THEN 'mailed' END),
        ',' ORDER BY c.number)
    FROM winback_case w JOIN customer c ON c.id = w.customer_id";

#[tokio::test]
async fn a_mailing_keeps_what_people_have_promised() {
    let server = quiet().await;
    let client = desk(&server).await;
    let request = pb::MailWinbackCasesRequest {
        template: Standard.into(),
        ..Default::default()
    };
    let (numbers, _) = done(&server, &client, request).await;
    assert_eq!(numbers, "0000 0001 0002 0003 0004 0005 0006 0007");
    assert_eq!(
        server.database.one(STANDINGS).await.unwrap(),
        "0000 mailed mailed,0001 mailed mailed,0002 reminder -1 mailed,0003 reminder -3 mailed,\
         0004 reminder 5 mailed,0005 offer_requested mailed,0006 offer_requested mailed,\
         0007 mailed mailed"
    );
    let told = "SELECT string_agg(DISTINCT from_state || '-' || to_state, ',')
                FROM winback_case_event WHERE kind = 'mailed'";
    assert_eq!(
        server.database.one(told).await.unwrap(),
        "declining-mailed,mailed-mailed,offer_requested-offer_requested,reminder-reminder"
    );
}

/// A mailing that another worker has drawn: its cases of even numbers are left alone, the others are members
/// on whom was not decided yet.
const ANOTHER: &str = "
    INSERT INTO winback_mailing (tenant_id, id, template, control_percent, window_days, currency,
                                 drawn_on, drawn_at)
    SELECT id, gen_random_uuid(), 'standard', 50, 10, 'EUR', current_date - 3,
           now() - interval '3 days'
    FROM tenant WHERE EXISTS (SELECT FROM winback_case w WHERE w.tenant_id = tenant.id);
    INSERT INTO winback_control (tenant_id, mailing_id, customer_id, case_id)
    SELECT m.tenant_id, m.id, c.id, w.id FROM winback_mailing m, winback_case w
    JOIN customer c ON c.id = w.customer_id WHERE c.number::int % 2 = 0;
    INSERT INTO winback_mailing_member (tenant_id, mailing_id, case_id, customer_id)
    SELECT m.tenant_id, m.id, w.id, c.id FROM winback_mailing m, winback_case w
    JOIN customer c ON c.id = w.customer_id WHERE c.number::int % 2 = 1;
    INSERT INTO operation (tenant_id, id, kind, resource, request, state, lease_until)
    SELECT tenant_id, id, 'MailWinbackCases', 'winbackMailings/' || id, '{}', 'running',
           now() + interval '1 hour' FROM winback_mailing";

async fn report(client: &Client, name: &str) -> pb::ReportWinbackMailingResponse {
    let request = pb::ReportWinbackMailingRequest {
        name: name.into(),
        ..Default::default()
    };
    let report = client.winback_mails().report_winback_mailing(request).await;
    report.unwrap().into_inner()
}

#[tokio::test]
async fn mailings_keep_out_of_each_others_groups() {
    let server = quiet().await;
    let client = ready(&server, 8, 8).await;
    execute(&server, ANOTHER).await;
    let request = pb::MailWinbackCasesRequest {
        template: Voucher.into(),
        ..Default::default()
    };
    // Half is left alone for it, and of the others it is not known yet.
    assert_eq!(would(&client, &request).await, 0);
    execute(
        &server,
        "UPDATE winback_mailing_member m SET is_decided = true
         FROM customer c WHERE c.id = m.customer_id AND c.number = '0003'",
    )
    .await;
    assert_eq!(would(&client, &request).await, 1);
    execute(&server, "UPDATE operation SET state = 'cancelled'").await;
    assert_eq!(would(&client, &request).await, 4);

    // Draws take turns: what one has drawn the next one sees.
    let other = server.database.connect().await.unwrap();
    other
        .batch_execute(
            "BEGIN;
             SELECT pg_advisory_xact_lock(hashtextextended('winback draws ' || tenant_id::text, 0))
             FROM winback_mailing;
             INSERT INTO winback_control (tenant_id, mailing_id, customer_id, case_id)
             SELECT m.tenant_id, m.id, c.id, w.id FROM winback_mailing m, winback_case w
             JOIN customer c ON c.id = w.customer_id WHERE c.number IN ('0001', '0005')",
        )
        .await
        .unwrap();
    let operation = ask(&client, request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    other.batch_execute("COMMIT").await.unwrap();
    let (numbers, _) = over_then(&server, &client, &operation).await;
    assert_eq!(numbers, "0003 0007");
}

#[tokio::test]
async fn who_is_left_alone_is_marked_and_passed_over() {
    let server = quiet().await;
    let client = ready(&server, 2, 0).await;
    execute(
        &server,
        "UPDATE winback_case w SET at_stake = 900
         FROM customer c WHERE c.id = w.customer_id AND c.number = '0000'",
    )
    .await;
    execute(&server, ANOTHER).await;
    let until = "SELECT to_char(current_date + 7, 'YYYY-MM-DD')";
    let until = date(&server.database.one(until).await.unwrap());
    let name = case_of(&server, "0000").await;
    let shown = get(&client, &name).await;
    assert_eq!(shown.control_until_date, until);
    let other = get(&client, &case_of(&server, "0001").await).await;
    assert_eq!(other.control_until_date, None);
    let request = pb::ListWinbackCasesRequest {
        filter: "control_until_date > \"2020-01-01\"".into(),
        ..Default::default()
    };
    let listed = client.winback_cases().list_winback_cases(request).await;
    let listed = listed.unwrap().into_inner().winback_cases;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0].name, &listed[0].etag), (&name, &shown.etag));

    let with = pb::NextWinbackCaseRequest {
        include_control: true,
        validate_only: true,
        ..asks("anna")
    };
    assert_eq!(next_customer(&client, with).await, "0000");
    assert_eq!(next_customer(&client, asks("anna")).await, "0001");
    assert_eq!(next_customer(&client, asks("ben")).await, "-");
    // Its last day is over.
    execute(
        &server,
        "UPDATE winback_mailing SET drawn_on = current_date - 11",
    )
    .await;
    let after = get(&client, &name).await;
    assert_eq!((after.control_until_date, after.etag), (None, shown.etag));
    assert_eq!(next_customer(&client, asks("ben")).await, "0000");
}

#[tokio::test]
async fn contacts_of_the_control_group_count_on_its_days() {
    let server = quiet().await;
    let client = ready(&server, 12, 0).await;
    execute(&server, ANOTHER).await;
    execute(
        &server,
        "UPDATE winback_mailing SET drawn_on = current_date - 20, done_at = now(),
                drawn_at = now() - interval '20 days', created_at = now() - interval '30 days';
         INSERT INTO winback_case_event (tenant_id, id, case_id, kind, actor, created_at)
         SELECT w.tenant_id, gen_random_uuid(), w.id, e.kind, 'users/anna',
                now() - make_interval(days => e.ago)
         FROM (VALUES ('0000', 'offer_requested', 15), ('0002', 'mailed', 25), ('0004', 'mailed', 5),
                      ('0006', 'remark', 15), ('0008', 'mailed', 15)) AS e (number, kind, ago)
         JOIN customer c ON c.number = e.number JOIN winback_case w ON w.customer_id = c.id",
    )
    .await;
    let name = "SELECT 'winbackMailings/' || id FROM winback_mailing";
    let name = server.database.one(name).await.unwrap();
    assert_eq!(report(&client, &name).await.control_mailed_count, 2);
}

#[tokio::test]
async fn a_mailing_that_was_cancelled_compares_those_it_has_come_to() {
    let server = quiet().await;
    let client = ready(&server, 10, 0).await;
    execute(&server, ANOTHER).await;
    let name = "SELECT 'winbackMailings/' || id FROM winback_mailing";
    let name = server.database.one(name).await.unwrap();
    let counts = async || {
        let found = report(&client, &name).await;
        let count =
            |group: &Option<pb::WinbackRevenueGroup>| group.as_ref().unwrap().customer_count;
        (count(&found.contacted), count(&found.control))
    };
    assert_eq!(counts().await, (0, 0));
    execute(
        &server,
        "UPDATE winback_mailing_member m SET is_decided = true
         WHERE case_id IN (SELECT case_id FROM winback_mailing_member ORDER BY case_id LIMIT 3);
         UPDATE operation SET state = 'cancelled'",
    )
    .await;
    let before = "SELECT count(*) FROM winback_control WHERE case_id < (
                      SELECT case_id FROM winback_mailing_member WHERE is_decided
                      ORDER BY case_id DESC LIMIT 1)";
    let before: i64 = server.database.one(before).await.unwrap().parse().unwrap();
    assert_eq!(counts().await, (3, before));
    execute(&server, "UPDATE winback_mailing SET done_at = now()").await;
    assert_eq!(counts().await, (5, 5));
}

#[tokio::test]
async fn lots_are_drawn_of_those_who_can_be_mailed() {
    let server = quiet().await;
    let client = ready(&server, 20, 0).await;
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    0001,mail,marketing,withdrawn,2026-05-01T10:00:00Z\n\
                    0002,mail,marketing,withdrawn,2026-05-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, consents).await;
    execute(
        &server,
        "DELETE FROM contact_point p USING customer c
         WHERE c.id = p.customer_id AND c.number IN ('0003', '0004', '0005')",
    )
    .await;
    let request = pb::MailWinbackCasesRequest {
        template: Standard.into(),
        control_percent: Some(40.0),
        ..Default::default()
    };
    let trial = pb::MailWinbackCasesRequest {
        validate_only: true,
        ..request.clone()
    };
    let trial = mailed(&ask(&client, trial).await.unwrap());
    assert_eq!((trial.mailed_count, trial.control_count), (9, 6));
    let operation = ask(&client, request.clone()).await.unwrap();
    let operation = over(&client, &operation.name).await;
    let done = mailed(&operation);
    assert_eq!(done.mailed_count + done.control_count, 15);
    assert_eq!((done.refused_count, trial.refused_count), (5, 5));
    assert_eq!(done.refusals, trial.refusals);
    use pb::WinbackRefusal::{NoAddress, NoConsent};
    let told = done.refusals.iter().map(|r| (r.refusal(), r.count));
    assert_eq!(told.collect::<Vec<_>>(), [(NoAddress, 3), (NoConsent, 2)]);
    let found = report(&client, &done.mailing).await;
    let count = |group: &Option<pb::WinbackRevenueGroup>| group.as_ref().unwrap().customer_count;
    assert_eq!(
        (count(&found.contacted), count(&found.control)),
        (done.mailed_count, done.control_count)
    );
    // The vouchers have no day left: nobody can get one.
    execute(
        &server,
        "UPDATE voucher_pool SET valid_until = current_date - 2; DELETE FROM winback_control",
    )
    .await;
    let voucher = pb::MailWinbackCasesRequest {
        template: Voucher.into(),
        validate_only: true,
        ..request
    };
    let voucher = mailed(&ask(&client, voucher).await.unwrap());
    assert_eq!((voucher.mailed_count, voucher.control_count), (0, 0));
    assert_eq!(voucher.refused_count, 20);

    // What it did was counted once.
    execute(&server, "DELETE FROM winback_mailing_member").await;
    assert_eq!(mailed(&over(&client, &operation.name).await), done);
}

#[tokio::test]
async fn a_case_in_hand_is_tried_again_at_the_end() {
    const CASES: usize = 520;
    let server = quiet().await;
    let client = ready(&server, CASES, 0).await;
    let hold = |place: usize, until: &str| {
        format!(
            "UPDATE winback_case SET held_by = 'users/ben', claim_id = gen_random_uuid(),
                    held_until = now() + interval '{until}'
             WHERE id = (SELECT id FROM winback_case ORDER BY id OFFSET {place} LIMIT 1)"
        )
    };
    execute(&server, &hold(3, "1 hour")).await;
    execute(&server, &hold(4, "1 hour")).await;
    // The second chunk waits for this one.
    let other = server.database.connect().await.unwrap();
    other
        .batch_execute(
            "BEGIN; SELECT FROM winback_case
             WHERE id = (SELECT id FROM winback_case ORDER BY id OFFSET 510 LIMIT 1) FOR UPDATE",
        )
        .await
        .unwrap();
    let request = pb::MailWinbackCasesRequest {
        template: Standard.into(),
        ..Default::default()
    };
    let operation = ask(&client, request).await.unwrap();
    let sent = "SELECT count(*) FROM winback_mail";
    until("the first chunk", async || {
        server.database.one(sent).await.unwrap() == "498"
    })
    .await;
    execute(&server, &hold(3, "-1 second")).await;
    other.batch_execute("COMMIT").await.unwrap();
    let done = mailed(&over(&client, &operation.name).await);
    assert_eq!((done.mailed_count, done.refused_count), (519, 1));
    assert_eq!(done.refusals[0].refusal(), pb::WinbackRefusal::Held);
}
