//! Data of persons: an export holds all of it, and after an erasure there is nothing of it anywhere.

mod back;
mod killed;
mod late;
mod left;
pub mod marked;
mod told;
mod unrecorded;

use std::path::Path;

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::privacy::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, TestServer};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::mailing::{figures, over, until};
use crate::refused;
use crate::world::World;
use marked::{CUSTOMER, MARK, Marked};

/// Two exports of a customer, which are done; gives the name of one.
pub async fn populate(client: &Client, customer: &str) -> String {
    let mut names = Vec::new();
    for _ in 0..2 {
        names.push(
            done(client, export(client, customer).await.unwrap())
                .await
                .name,
        );
    }
    names.remove(0)
}

/// Calls that name something of a world; the last of them erases a customer of whom nothing else is wanted.
pub fn named(w: &World) -> Vec<(&'static str, serde_json::Value)> {
    use serde_json::json;
    let nobody = w.utility.first(crate::utility::Case::NeverAsked);
    let nobody = format!("customers/{}", w.utility.customer_of(nobody).number);
    vec![
        (
            "anklang.privacy.v1.PrivacyService/ExportPersonalData",
            json!({"customer": w.customer}),
        ),
        (
            "anklang.privacy.v1.PrivacyService/DownloadPersonalData",
            json!({"name": w.export}),
        ),
        (
            "anklang.privacy.v1.PrivacyService/GetPrivacyRequest",
            json!({"name": w.export}),
        ),
        (
            "anklang.privacy.v1.PrivacyService/ErasePersonalData",
            json!({"customer": nobody, "reason": "ERASURE_REASON_OBJECTION"}),
        ),
    ]
}

async fn export(client: &Client, customer: &str) -> Result<lro::Operation, Status> {
    let request = pb::ExportPersonalDataRequest {
        customer: customer.into(),
        ..Default::default()
    };
    let asked = client.privacy().export_personal_data(request).await?;
    Ok(asked.into_inner())
}

fn asks(customer: &str) -> pb::ErasePersonalDataRequest {
    pb::ErasePersonalDataRequest {
        customer: customer.into(),
        reason: pb::ErasureReason::Objection.into(),
        ..Default::default()
    }
}

async fn erase(client: &Client, customer: &str) -> lro::Operation {
    let asked = client.privacy().erase_personal_data(asks(customer)).await;
    asked.unwrap().into_inner()
}

/// The request of an operation that has succeeded.
async fn done(client: &Client, operation: lro::Operation) -> pb::PrivacyRequest {
    let done = request_of(&over(client, &operation.name).await);
    assert_eq!(done.state(), pb::PrivacyRequestState::Done, "{done:?}");
    done
}

fn request_of(operation: &lro::Operation) -> pb::PrivacyRequest {
    match &operation.result {
        Some(lro::operation::Result::Response(any)) => {
            pb::PrivacyRequest::decode(&any.value[..]).unwrap()
        }
        other => panic!("no request: {other:?}"),
    }
}

async fn download(client: &Client, name: &str) -> Result<Vec<u8>, Status> {
    let request = pb::DownloadPersonalDataRequest {
        name: name.into(),
        ..Default::default()
    };
    let stream = client.privacy().download_personal_data(request).await?;
    let (mut stream, mut bytes) = (stream.into_inner(), Vec::new());
    while let Some(part) = stream.message().await? {
        assert_eq!(part.offset, i64::try_from(bytes.len()).unwrap());
        bytes.extend_from_slice(&part.data);
    }
    Ok(bytes)
}

async fn customer(client: &Client) -> customers::Customer {
    let request = customers::GetCustomerRequest {
        name: CUSTOMER.into(),
    };
    let found = client.customers().get_customer(request).await;
    found.unwrap().into_inner()
}

/// Nothing of the person is in any table, as text or as bytes.
async fn is_nowhere(server: &TestServer) {
    let rows = crate::accounts::rows(server).await;
    for what in [MARK.to_owned(), hex::encode(MARK)] {
        let found = rows.lines().filter(|line| line.contains(&what));
        let found: Vec<&str> = found.collect();
        assert!(found.is_empty(), "{what}: {found:#?}");
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Rows of all customers but the erased one, of all tenants.
async fn of_others(server: &TestServer) -> Vec<String> {
    let database = server.database.connect().await.unwrap();
    let tables = "SELECT table_name::text FROM information_schema.columns
                  WHERE table_schema = 'public' AND column_name = 'customer_id' ORDER BY 1";
    let mut all = Vec::new();
    let mut add = async |table: &str, condition: &str| {
        let sql = format!(
            "SELECT '{table} ' || coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')
             FROM {table} t WHERE {condition}"
        );
        let rows: String = database.query_one(&sql, &[]).await.unwrap().get(0);
        all.push(rows);
    };
    for table in database.query(tables, &[]).await.unwrap() {
        let whose = "t.customer_id NOT IN (SELECT id FROM customer WHERE number = '0000')";
        add(table.get(0), whose).await;
    }
    add("customer", "t.number <> '0000'").await;
    all
}

#[tokio::test]
async fn an_export_holds_all_that_is_known() {
    let marked = Marked::start().await;
    let client = &marked.probe.client;
    let trial = pb::ExportPersonalDataRequest {
        customer: CUSTOMER.into(),
        validate_only: true,
        ..Default::default()
    };
    let tried = client.privacy().export_personal_data(trial).await.unwrap();
    let tried = request_of(&tried.into_inner());
    let asked = export(client, CUSTOMER).await.unwrap();
    let done = done(client, asked).await;
    for table in ["customer", "contact_point", "consent", "message"] {
        assert!(done.rows[table] > 0, "{table}: {done:?}");
        assert_eq!(tried.rows[table], done.rows[table], "{table}");
    }
    assert_eq!(done.kind(), pb::PrivacyRequestKind::Export);
    assert_eq!(done.customer, CUSTOMER);
    assert_eq!(done.requested_by, "anybody");
    let bytes = download(client, &done.name).await.unwrap();
    let file = done.file.unwrap();
    assert_eq!(file.sha256, hex::encode(Sha256::digest(&bytes)));
    assert_eq!(file.size_bytes, i64::try_from(bytes.len()).unwrap());
    let text = String::from_utf8(bytes).unwrap();
    for told in &marked.told {
        assert!(text.contains(&told[..]), "{told}");
    }
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["customer"], CUSTOMER);
    for (table, rows) in &done.rows {
        let listed = told["tables"][table].as_array().unwrap().len();
        assert_eq!(i64::try_from(listed).unwrap(), *rows, "{table}");
    }
    // Nobody else is in it.
    assert!(!text.contains("kunde0001") && !text.contains("Muster"));
    let letter = &told["files"][0];
    let name = letter["name"].as_str().unwrap();
    assert_eq!(name, format!("{}/document", marked.accepted));
    let bytes = crate::documents::download(client, name).await;
    assert_eq!(letter["sha256"], hex::encode(Sha256::digest(&bytes)));

    // From the middle on, and no further than its end.
    let mut request = pb::DownloadPersonalDataRequest {
        name: done.name.clone(),
        offset: file.size_bytes - 3,
    };
    let mut calls = client.privacy();
    let stream = calls.download_personal_data(request.clone()).await;
    let part = stream.unwrap().into_inner().message().await.unwrap();
    assert_eq!(part.unwrap().data, &text.as_bytes()[text.len() - 3..]);
    request.offset = file.size_bytes + 1;
    let status = calls.download_personal_data(request).await.unwrap_err();
    refused::names(&status, &["offset"]);

    // Its time is over, and the file goes.
    let expire = "UPDATE privacy_request SET expires_at = now() - interval '1 second'";
    let database = marked.server().database.connect().await.unwrap();
    database.batch_execute(expire).await.unwrap();
    refused::not_found(&download(client, &done.name).await.unwrap_err());
    let mut marked = marked;
    // It looks when it starts, and every minute.
    marked.probe.restart().await;
    let exports = marked.server().documents().join("exports");
    until("the file is gone", async || files(&exports).is_empty()).await;
}

#[tokio::test]
async fn who_has_downloaded_an_export_is_in_the_audit_log() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let csv = "number,kind,last_name\nK1,person,Kunde\n";
    let sums = client.import(ImportEntity::Customers, csv.to_owned()).await;
    assert_eq!(sums.unwrap().created, 1);
    let asked = export(&client, "customers/K1").await.unwrap();
    let done = done(&client, asked).await;
    let told = async || crate::audit::list(&client, "method:DownloadPersonalData").await;
    assert_eq!(told().await, []);
    for times in 1..=2 {
        assert!(!download(&client, &done.name).await.unwrap().is_empty());
        let entries = told().await;
        assert_eq!(entries.len(), times);
        for entry in entries {
            assert_eq!(entry.caller, "anybody");
            assert_eq!(entry.resources, [&done.name[..], "customers/K1"]);
        }
    }
    let unknown = "privacyRequests/01930000-0000-7000-8000-000000000001";
    refused::not_found(&download(&client, unknown).await.unwrap_err());
    assert_eq!(told().await.len(), 2);
    let exported = crate::audit::list(&client, "method:ExportPersonalData").await;
    let [exported] = &exported[..] else {
        panic!("{exported:?}")
    };
    assert!(
        exported.resources.iter().any(|r| r == "customers/K1"),
        "{exported:?}"
    );
}

#[tokio::test]
async fn an_erasure_leaves_nothing_of_the_person() {
    let marked = Marked::start().await;
    let (client, server) = (&marked.probe.client, marked.server());
    let exported = export(client, CUSTOMER).await.unwrap();
    let exported = done(client, exported).await.name;
    let single = serde_json::json!({
        "contract": "contracts/V0000", "productVersion": "products/P/versions/NEW",
        "validUntilDate": {"year": 2027, "month": 6, "day": 1}, "documentTemplate": "slip",
    });
    let open = marked
        .call("offers.v1.OfferService/CreateOffer", single)
        .await;
    // Else it would be waited for: letters of drafts are made at this moment.
    assert_eq!(open["state"], "OFFER_STATE_OPEN");
    let letters = sha256s(server).await;
    assert!(!letters.is_empty());
    let before = figures(client, marked.campaign()).await.unwrap();
    let reach = left::reach(client, marked.campaign()).await;
    left::adds_up(&reach);
    let others = of_others(server).await;

    let erased = done(client, erase(client, CUSTOMER).await).await;
    assert_eq!(erased.kind(), pb::PrivacyRequestKind::Erasure);
    assert_eq!(erased.reason(), pb::ErasureReason::Objection);
    for table in [
        "customer",
        "contact_point",
        "consent",
        "message",
        "request_log",
        "files",
    ] {
        assert!(erased.rows.get(table) > Some(&0), "{table}: {erased:?}");
    }

    is_nowhere(server).await;
    let all = files(&server.documents());
    assert!(!all.is_empty());
    for file in &all {
        let bytes = std::fs::read(file).unwrap();
        let found = bytes.windows(MARK.len()).any(|b| b == MARK.as_bytes());
        assert!(!found, "{}", file.display());
    }
    for letter in letters {
        let there = all.iter().any(|f| f.to_string_lossy().contains(&letter));
        assert!(!there, "{letter}");
    }
    assert_eq!(of_others(server).await, others);
    refused::not_found(&download(client, &exported).await.unwrap_err());
    let rest = customer(client).await;
    assert!(rest.erase_time.is_some(), "{rest:?}");
    assert_eq!((&rest.number[..], &rest.last_name[..]), ("0000", ""));

    // What was still to come is called off.
    let find = |name: &str| serde_json::json!({ "name": name });
    let offer = find(open["name"].as_str().unwrap());
    let offer = marked.call("offers.v1.OfferService/GetOffer", offer).await;
    assert_eq!(offer["state"], "OFFER_STATE_WITHDRAWN");
    assert_eq!(offer["annualAmount"], open["annualAmount"]);
    let method = "planning.v1.PlannedContactService/GetPlannedContact";
    let contact = marked.call(method, find(&marked.planned)).await;
    assert_eq!(contact["state"], "PLANNED_CONTACT_STATE_CANCELLED");
    let method = "winback.v1.WinbackCaseService/GetWinbackCase";
    let case = marked.call(method, find(&marked.case)).await;
    // Perhaps by the order that was taken, if that was seen before.
    let closed = [
        "WINBACK_CASE_STATE_NO_INTEREST",
        "WINBACK_CASE_STATE_WON_BACK",
    ];
    assert!(closed.contains(&case["state"].as_str().unwrap()), "{case}");

    // Statements add up as before: the message was sent, whoever it was to.
    let after = figures(client, marked.campaign()).await.unwrap();
    assert_eq!(after.messages, before.messages);
    assert_eq!(after.audience, before.audience);
    let told = left::reach(client, marked.campaign()).await;
    left::adds_up(&told);
    assert_eq!(told.candidates, reach.candidates);
    left::printed(&marked).await;
    left::told_to_webhooks(&marked).await;
    left::is_not_logged(server);
}

/// Hashes of the letters to the customer.
async fn sha256s(server: &TestServer) -> Vec<String> {
    let sql = "SELECT coalesce(string_agg(encode(d.sha256, 'hex'), ','), '') FROM document d
               JOIN offer o ON o.id = d.offer_id JOIN customer c ON c.id = o.customer_id
               WHERE c.number = '0000'";
    let hashes = server.database.one(sql).await.unwrap();
    hashes.split(',').map(str::to_owned).collect()
}
