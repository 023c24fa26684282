//! Pools of vouchers: where their codes are from, and that each is given out once.

use std::collections::BTreeSet;
use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_proto::google::r#type::Date;
use anklang_testkit::{Client, Options, TestServer};
use mail_parser::MessageParser;
use winback::WinbackTemplate::Voucher;

use super::mails::{case_of, mail, ready};
use crate::mailing::until;
use crate::refused;

/// The pool of the tenant that is ready.
pub const POOL: &str = "brands/sw/voucherPools/sommer";

/// Makes a pool, and draws codes for it.
pub async fn save_pool(client: &Client, name: &str, codes: i32) {
    let request = winback::UpdateVoucherPoolRequest {
        voucher_pool: Some(winback::VoucherPool {
            name: name.into(),
            display_name: "Sommer".into(),
            value_text: "10 € ab 50 €".into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let mut calls = client.winback_templates();
    calls.update_voucher_pool(request).await.unwrap();
    if codes > 0 {
        let request = winback::GenerateVouchersRequest {
            name: name.into(),
            count: codes,
            prefix: "S-".into(),
            ..Default::default()
        };
        calls.generate_vouchers(request).await.unwrap();
    }
}

/// `POOL` as it is.
pub async fn pool(client: &Client) -> winback::VoucherPool {
    let request = winback::GetVoucherPoolRequest { name: POOL.into() };
    let found = client.winback_templates().get_voucher_pool(request).await;
    found.unwrap().into_inner()
}

#[tokio::test]
async fn a_code_that_somebody_may_give_back_is_waited_for() {
    let server = TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, 1, 1).await;
    let other = server.database.connect().await.unwrap();
    let lock = "BEGIN; SELECT FROM voucher FOR UPDATE";
    other.batch_execute(lock).await.unwrap();
    let case = case_of(&server, "0000").await;
    let mailing = tokio::spawn(async move { mail(&client, &case, Voucher).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    let mailed = mailing.await.unwrap().unwrap();
    assert!(mailed.voucher_code.starts_with("S-"), "{mailed:?}");
}

#[tokio::test]
async fn each_voucher_is_given_out_once() {
    let server = TestServer::start().await.unwrap();
    let client = ready(&server, 12, 6).await;
    let csv = "brand_code,pool,code\nsw,sommer,EIGEN-1\nsw,sommer,EIGEN-2\nsw,sommer,EIGEN-1\n\
               sw,winter,EIGEN-3\nsw,sommer,mit leer\nsw,sommer,EIGEN-4\nsw,sommer,EIGEN-5\n";
    let sums = client.import(ImportEntity::Vouchers, csv).await.unwrap();
    let told: Vec<(i64, &str)> = sums.errors.iter().map(|e| (e.line, &e.field[..])).collect();
    assert_eq!(
        told,
        [(4, ""), (5, "pool"), (6, "code")],
        "{:?}",
        sums.errors
    );
    assert_eq!(sums.errors[0].reason, "repeats line 2");
    assert_eq!((sums.created, sums.failed), (4, 3));
    // In another pool the same code is another shop's mistake; in its own it is known.
    save_pool(&client, "brands/sw/voucherPools/winter", 0).await;
    let csv = "brand_code,pool,code\nsw,winter,EIGEN-1\nsw,sommer,EIGEN-2\n";
    let sums = client.import(ImportEntity::Vouchers, csv).await.unwrap();
    assert_eq!((sums.unchanged, sums.failed), (1, 1));
    assert!(
        sums.errors[0].reason.contains("another pool"),
        "{:?}",
        sums.errors
    );

    let mut calls = Vec::new();
    for customer in 0..12 {
        let (client, case) = (
            client.clone(),
            case_of(&server, &format!("{customer:04}")).await,
        );
        calls.push(tokio::spawn(
            async move { mail(&client, &case, Voucher).await },
        ));
    }
    let (mut codes, mut refusals) = (Vec::new(), 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(mailed) => codes.push(mailed.voucher_code),
            Err(status) => {
                assert_eq!(refused::precondition(&status, "PRECONDITION").0, POOL);
                refusals += 1;
            }
        }
    }
    assert_eq!((codes.len(), refusals), (10, 2));
    let all: BTreeSet<&String> = codes.iter().collect();
    assert_eq!(all.len(), 10, "each once: {codes:?}");
    assert!(codes.contains(&"EIGEN-5".to_owned()));
    assert_eq!(pool(&client).await.left_count, 0);
    let request = winback::ListVouchersRequest {
        parent: POOL.into(),
        filter: "state = GIVEN AND customer != \"customers/0000\"".into(),
        ..Default::default()
    };
    let listed = client.winback_templates().list_vouchers(request).await;
    for voucher in listed.unwrap().into_inner().vouchers {
        assert!(codes.contains(&voucher.code) && voucher.give_time.is_some());
    }
    // The text of each mail has its own.
    until("the mails", async || server.sink.count() == 10).await;
    let texts: BTreeSet<String> = server
        .sink
        .received()
        .iter()
        .map(|mail| {
            let parsed = MessageParser::default().parse(&mail.data).unwrap();
            parsed.body_text(0).unwrap().trim().to_owned()
        })
        .collect();
    let wanted = codes.iter().map(|code| format!("Ihr Code: {code}"));
    assert_eq!(texts, wanted.collect());

    // The last day of a pool.
    let request = winback::UpdateVoucherPoolRequest {
        voucher_pool: Some(winback::VoucherPool {
            name: POOL.into(),
            valid_until_date: Some(Date {
                year: 2026,
                month: 1,
                day: 31,
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let saved = client
        .winback_templates()
        .update_voucher_pool(request)
        .await;
    assert_eq!(saved.unwrap().into_inner().voucher_count, 10);
    let left = server
        .database
        .one(
            "SELECT min(c.number) FROM winback_case w JOIN customer c ON c.id = w.customer_id
             WHERE w.voucher_on IS NULL",
        )
        .await
        .unwrap();
    let status = mail(&client, &case_of(&server, &left).await, Voucher).await;
    let (_, description) = refused::precondition(&status.unwrap_err(), "PRECONDITION");
    assert!(description.contains("last day"), "{description}");
}
