//! Several people at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1::{
    self as pb, NoInterestReason, WinbackCaseState as State, WinbackTile as Tile,
};
use anklang_testkit::{Client, TestServer};
use tonic::{Code, Status};
use uuid::Uuid;

use super::desk::{
    asks, case, claim, close, closes, events, get, next, next_customer, open, open_in, remark,
    remind, reminds, request_offer, shop, sql, wants_offer,
};
use crate::accounts;
use crate::mailing::until;
use crate::refused;

const WORKERS: usize = 20;
const CASES: usize = 200;

/// A tenant with so many open cases of customers W000, W001 …
async fn crowded(server: &TestServer) -> Client {
    let client = shop(server).await;
    let mut customers = "number,kind,last_name,customer_group\n".to_owned();
    for i in 0..CASES {
        customers += &format!("W{i:03},person,Kunde,G{}\n", i % 2);
    }
    let sums = client.import(ImportEntity::Customers, customers).await;
    assert_eq!(sums.unwrap().errors, []);
    let make = "
        INSERT INTO winback_case (tenant_id, id, customer_id, opened_on, opened_by, seen_by,
            revenue_then, revenue_now, known_days, season, expected, actual, drop_amount,
            drop_percent, last_order, currency, at_stake)
        SELECT tenant_id, gen_random_uuid(), id, '2026-01-01', id, id, 1, 1, 1, 1, 1, 1, 1, 1,
               '2026-01-01', 'EUR', nullif(substr(number, 2)::int % 17, 0)
        FROM customer WHERE number LIKE 'W%'";
    sql(server, make).await;
    client
}

/// Takes cases until there is none.
async fn works(
    client: Client,
    request: pb::NextWinbackCaseRequest,
    taken: Arc<Mutex<Vec<String>>>,
) {
    loop {
        match client
            .winback_cases()
            .next_winback_case(request.clone())
            .await
        {
            Ok(answer) => match answer.into_inner().winback_case_claim {
                Some(claim) => taken.lock().unwrap().push(case(&claim).name.clone()),
                None => return,
            },
            // A slow machine has no connection left for a while.
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_people_get_each_case_once() {
    let server = TestServer::start().await.unwrap();
    let client = crowded(&server).await;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let working: Vec<_> = (0..WORKERS)
        .map(|i| {
            let request = pb::NextWinbackCaseRequest {
                claim_seconds: 3_600,
                // Some for a group alone, some for whatever is due and new.
                customer_groups: (i % 4 == 0).then(|| "G1".into()).into_iter().collect(),
                tile: if i % 2 == 0 {
                    Tile::Declining.into()
                } else {
                    0
                },
                ..asks(&format!("agent{i}"))
            };
            tokio::spawn(works(client.clone(), request, Arc::clone(&taken)))
        })
        .collect();
    for worker in working {
        worker.await.unwrap();
    }
    {
        let taken = taken.lock().unwrap();
        let each: BTreeSet<&String> = taken.iter().collect();
        assert_eq!((taken.len(), each.len()), (CASES, CASES));
    }
    let held = "SELECT count(*) || ' ' || count(DISTINCT claim_id) FROM winback_case
                WHERE held_until > now() + interval '50 minutes'";
    let held = server.database.one(held).await.unwrap();
    assert_eq!(held, format!("{CASES} {CASES}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_twenty_gets_the_case_that_all_want() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(&server, "K1", &[]).await;
    let wanting: Vec<_> = (0..WORKERS)
        .map(|i| {
            let (client, name) = (client.clone(), name.clone());
            tokio::spawn(async move { claim(&client, &name, &format!("agent{i}")).await })
        })
        .collect();
    let mut got = Vec::new();
    for wanted in wanting {
        match wanted.await.unwrap() {
            Ok(claim) => got.push(case(&claim).held_by.clone()),
            Err(status) => {
                refused::precondition(&status, "PRECONDITION");
            }
        }
    }
    assert_eq!(got, [get(&client, &name).await.held_by]);
}

/// Says who has a case, and until when.
fn is_held_by(status: &Status, name: &str, worker: &str) {
    let (subject, description) = refused::precondition(status, "PRECONDITION");
    assert_eq!(subject, name);
    let begin = format!("users/{worker} works on the case until 20");
    assert!(description.starts_with(&begin), "{description}");
}

#[tokio::test]
async fn two_people_do_not_step_on_each_other() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(&server, "K1", &[]).await;
    let first = claim(&client, &name, "anna").await.unwrap();
    assert_eq!(case(&first).held_by, "users/anna");
    assert!(case(&first).hold_expire_time.is_some());
    for status in [
        claim(&client, &name, "ben").await.unwrap_err(),
        close(&client, closes(&name, "ben")).await.unwrap_err(),
        remind(&client, reminds(&name, "ben")).await.unwrap_err(),
        request_offer(&client, wants_offer(&name, "ben"))
            .await
            .unwrap_err(),
    ] {
        is_held_by(&status, &name, "anna");
    }
    assert_eq!(next(&client, asks("ben")).await, None);
    // A remark is no step.
    let remarked = remark(&client, &name, "ben", "kenne ich").await.unwrap();
    assert_eq!(remarked.held_by, "users/anna");

    // She works on it, and has it still; with another claim on another screen the first is over.
    let put_off = remind(&client, reminds(&name, "anna")).await.unwrap();
    assert_eq!(
        (put_off.state(), &put_off.held_by[..]),
        (State::Reminder, "users/anna")
    );
    let second = claim(&client, &name, "anna").await.unwrap();
    assert_ne!(second.claim, first.claim);
    let under = |claim: &pb::WinbackCaseClaim| pb::RemindWinbackCaseRequest {
        claim: claim.claim.clone(),
        ..reminds(&name, "anna")
    };
    let status = remind(&client, under(&first)).await.unwrap_err();
    let (_, description) = refused::precondition(&status, "PRECONDITION");
    assert!(
        description.starts_with("the claim is over"),
        "{description}"
    );
    remind(&client, under(&second)).await.unwrap();

    // Given back, anybody may.
    let release = |claim: &str| pb::ReleaseWinbackCaseRequest {
        name: name.clone(),
        claim: claim.into(),
        ..Default::default()
    };
    let released = client
        .winback_cases()
        .release_winback_case(release(&second.claim))
        .await;
    assert_eq!(released.unwrap().into_inner().held_by, "");
    let twice = client
        .winback_cases()
        .release_winback_case(release(&second.claim))
        .await;
    refused::precondition(&twice.unwrap_err(), "PRECONDITION");
    let asked = request_offer(&client, wants_offer(&name, "ben"))
        .await
        .unwrap();
    assert_eq!(
        (asked.state(), &asked.held_by[..]),
        (State::OfferRequested, "")
    );
    let status = remind(&client, under(&second)).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
}

#[tokio::test]
async fn a_claim_ends_by_itself() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(&server, "K1", &[]).await;
    let first = next(&client, asks("anna")).await.unwrap();
    let extend = |claim: &str, claim_seconds: i32| pb::ExtendWinbackCaseRequest {
        name: name.clone(),
        claim: claim.into(),
        claim_seconds,
        ..Default::default()
    };
    let extended = client
        .winback_cases()
        .extend_winback_case(extend(&first.claim, 3_600))
        .await;
    let extended = extended.unwrap().into_inner();
    assert_eq!(extended.claim, first.claim);
    let until = |claim: &pb::WinbackCaseClaim| case(claim).hold_expire_time.unwrap().seconds;
    assert!(until(&extended) > until(&first) + 3_000, "{extended:?}");
    assert_eq!(
        case(&extended).etag,
        case(&first).etag,
        "a claim is not the case"
    );

    sql(&server, "UPDATE winback_case SET held_until = now()").await;
    assert_eq!(get(&client, &name).await.held_by, "");
    let late = client
        .winback_cases()
        .extend_winback_case(extend(&first.claim, 0))
        .await;
    refused::precondition(&late.unwrap_err(), "PRECONDITION");
    // Whoever was refused may hold the row for a moment longer, and who asks passes by what is held.
    let second = loop {
        if let Some(claim) = next(&client, asks("ben")).await {
            break claim;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(case(&second).name, name);
    let late = close(&client, closes(&name, "anna")).await.unwrap_err();
    is_held_by(&late, &name, "ben");
    // What was hers is over also when nobody took it.
    sql(&server, "UPDATE winback_case SET held_until = now()").await;
    let request = pb::CloseWinbackCaseRequest {
        claim: second.claim.clone(),
        ..closes(&name, "ben")
    };
    refused::precondition(&close(&client, request).await.unwrap_err(), "PRECONDITION");
    close(&client, closes(&name, "carl")).await.unwrap();

    let wrong = pb::NextWinbackCaseRequest {
        worker: "roles/x".into(),
        tile: Tile::WonBack.into(),
        customer_groups: vec![" ".into()],
        brands: vec!["garten".into()],
        after: "x".into(),
        claim_seconds: 5,
        ..Default::default()
    };
    let status = client
        .winback_cases()
        .next_winback_case(wrong)
        .await
        .unwrap_err();
    let fields = [
        "worker",
        "tile",
        "customer_groups[0]",
        "brands[0]",
        "after",
        "claim_seconds",
    ];
    refused::names(&status, &fields);
    let wrong = pb::NextWinbackCaseRequest {
        after: name.clone(),
        ..asks("anna")
    };
    let status = client
        .winback_cases()
        .next_winback_case(wrong)
        .await
        .unwrap_err();
    refused::names(&status, &["after"]);
}

#[tokio::test]
async fn the_next_one_is_the_most_at_stake() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    for (customer, stake) in [
        ("K1", "5"),
        ("K2", "NULL"),
        ("K5", "90"),
        ("K6", "90"),
        ("K7", "7"),
    ] {
        open(&server, customer, &[("at_stake", stake)]).await;
    }
    open_in(&server, "K3", "mailed").await;
    open_in(&server, "K4", "no_interest").await;
    let due = |days: &'static str, stake: &'static str| {
        [
            ("state", "'reminder'"),
            ("due_on", days),
            ("at_stake", stake),
        ]
    };
    let late = open(&server, "K8", &due("current_date - 9", "1")).await;
    open(&server, "K9", &due("current_date - 1", "99")).await;

    // Of groups and brands.
    let of = |tile: Tile| pb::NextWinbackCaseRequest {
        tile: tile.into(),
        ..asks("zoe")
    };
    let fruit = pb::NextWinbackCaseRequest {
        customer_groups: vec!["Obst".into(), "Gemüse".into()],
        ..of(Tile::Declining)
    };
    let garden = pb::NextWinbackCaseRequest {
        brands: vec!["brands/garten".into()],
        ..of(Tile::Declining)
    };
    let tried = pb::NextWinbackCaseRequest {
        validate_only: true,
        ..fruit.clone()
    };
    for _ in 0..2 {
        assert_eq!(next_customer(&client, tried.clone()).await, "K1");
    }
    assert_eq!(next_customer(&client, fruit.clone()).await, "K1");
    assert_eq!(next_customer(&client, garden).await, "K2");
    assert_eq!(next_customer(&client, fruit).await, "-");
    sql(
        &server,
        "UPDATE winback_case SET held_by = NULL, held_until = NULL, claim_id = NULL",
    )
    .await;

    // One after the other: reminders first, then what is new; of equal ones the newer.
    let request = pb::NextWinbackCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        ..asks("anna")
    };
    for _ in 0..2 {
        assert_eq!(next_customer(&client, request.clone()).await, "K8");
    }
    let mut order = Vec::new();
    for _ in 0..7 {
        order.push(next_customer(&client, asks("anna")).await);
    }
    assert_eq!(order, ["K9", "K6", "K5", "K7", "K1", "K2", "-"]);
    assert_eq!(next_customer(&client, of(Tile::Mailed)).await, "K3");
    assert_eq!(next_customer(&client, of(Tile::OfferRequested)).await, "-");

    // Behind the one that was looked at, and given back.
    sql(
        &server,
        "UPDATE winback_case SET held_by = NULL, held_until = NULL, claim_id = NULL",
    )
    .await;
    let mut walked = Vec::new();
    let mut request = of(Tile::Declining);
    while let Some(claim) = next(&client, request.clone()).await {
        let request_of = pb::ReleaseWinbackCaseRequest {
            name: case(&claim).name.clone(),
            claim: claim.claim.clone(),
            ..Default::default()
        };
        client
            .winback_cases()
            .release_winback_case(request_of)
            .await
            .unwrap();
        walked.push(case(&claim).customer.replace("customers/", ""));
        request.after = case(&claim).name.clone();
    }
    assert_eq!(walked, ["K6", "K5", "K7", "K1", "K2"]);
    let behind = pb::NextWinbackCaseRequest {
        after: late,
        ..of(Tile::ReminderDue)
    };
    assert_eq!(next_customer(&client, behind).await, "K9");
    let nowhere = pb::NextWinbackCaseRequest {
        after: format!("winbackCases/{}", Uuid::nil()),
        ..of(Tile::Declining)
    };
    let status = client.winback_cases().next_winback_case(nowhere).await;
    refused::not_found(&status.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_ends_one_counts() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(&server, "K1", &[]).await;
    let reasons = [
        NoInterestReason::Price,
        NoInterestReason::Competitor,
        NoInterestReason::Quality,
        NoInterestReason::Gone,
    ];
    let closing: Vec<_> = (0..WORKERS)
        .map(|i| {
            let request = pb::CloseWinbackCaseRequest {
                reason: reasons[i % 4].into(),
                ..closes(&name, &format!("agent{i}"))
            };
            let client = client.clone();
            tokio::spawn(async move { close(&client, request).await })
        })
        .collect();
    let mut ended = Vec::new();
    for closing in closing {
        match closing.await.unwrap() {
            Ok(case) => ended.push(case.no_interest_reason()),
            Err(status) => {
                refused::precondition(&status, "PRECONDITION");
            }
        }
    }
    // Those who said the same are right as well.
    let reason = get(&client, &name).await.no_interest_reason();
    assert_eq!(ended, vec![reason; WORKERS / 4]);
    assert_eq!(events(&client, &name).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_while_their_account_is_replaced() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    for id in ["eins", "zwei"] {
        accounts::create(&client, id, "mail", accounts::relay(&server.sink)).await;
    }
    let settings = pb::WinbackSettings {
        offer_mail_to: "angebote@linden.example".into(),
        offer_mail_account: accounts::name("eins"),
        ..super::monthly()
    };
    super::set(&client, settings, "").await.unwrap();
    // Whoever deletes the account waits for it, and is there when it is changed in the settings.
    let holding = server.database.connect().await.unwrap();
    let hold = "BEGIN; SELECT FROM channel_account WHERE id = 'eins' FOR UPDATE";
    holding.batch_execute(hold).await.unwrap();
    let waiting = async |n: usize| {
        let waiting = format!(
            "SELECT count(*) >= {n} FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'"
        );
        until("they wait", async || {
            server.database.one(&waiting).await.unwrap() == "t"
        })
        .await;
    };
    let replacing = {
        let client = client.clone();
        tokio::spawn(
            async move { accounts::delete(&client, "eins", &accounts::name("zwei")).await },
        )
    };
    waiting(1).await;
    let changing = {
        let client = client.clone();
        let request = pb::UpdateWinbackSettingsRequest {
            winback_settings: Some(pb::WinbackSettings {
                reminder_days: 12,
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["reminder_days".into()],
            }),
            ..Default::default()
        };
        tokio::spawn(async move { client.winback().update_winback_settings(request).await })
    };
    waiting(2).await;
    holding.batch_execute("COMMIT").await.unwrap();
    replacing.await.unwrap().unwrap();
    let changed = changing.await.unwrap().unwrap().into_inner();
    assert_eq!(changed.reminder_days, 12);
    assert_eq!(changed.offer_mail_account, accounts::name("zwei"));
}
