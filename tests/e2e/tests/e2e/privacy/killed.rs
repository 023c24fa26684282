//! Erasures whose server dies: what is begun is brought to its end, and what people have in hand is waited for.

use std::time::Duration;

use anklang_proto::anklang::operations::v1::OperationMetadata;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::Client;
use prost::Message;
use serde_json::json;

use super::marked::{CUSTOMER, Marked, call};
use super::{done, erase, files, is_nowhere, of_others};
use crate::mailing::{over, until};
use crate::refused;

/// The names of what an operation says it waits for.
async fn waited_for(client: &Client, operation: &lro::Operation) -> Vec<String> {
    let request = lro::GetOperationRequest {
        name: operation.name.clone(),
    };
    let found = client.operations().get_operation(request).await.unwrap();
    let metadata = found.into_inner().metadata.unwrap();
    let metadata = OperationMetadata::decode(&metadata.value[..]).unwrap();
    let waits = metadata.last_errors.iter();
    waits
        .map(|line| line.strip_prefix("waits for ").unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn who_talks_to_the_customer_is_waited_for() {
    let mut marked = Marked::start().await;
    let list = "planning.v1.WorkListService";
    let request = json!({"name": marked.planned, "worker": "users/bea"});
    let claim = marked.call(&format!("{list}/ClaimContact"), request).await["claim"].clone();
    let operation = erase(&marked.probe.client, CUSTOMER).await;
    let begun = "SELECT count(*) FROM customer WHERE erased_at IS NOT NULL";
    until("the erasure has begun", async || {
        marked.probe.look(begun).await == "1"
    })
    .await;
    marked.probe.restart().await;
    // Long enough for the erasure to be taken up again, and to look.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let waits = "SELECT count(*) FROM customer WHERE number = '0000' AND last_name <> ''";
    assert_eq!(marked.probe.look(waits).await, "1");
    let client = &marked.probe.client;
    assert_eq!(waited_for(client, &operation).await, [&marked.planned[..]]);
    // What has begun is not left half done.
    let cancel = lro::CancelOperationRequest {
        name: operation.name.clone(),
    };
    client.operations().cancel_operation(cancel).await.unwrap();

    let outcome = json!({
        "name": marked.planned, "claim": claim, "outcomeClass": "OUTCOME_CLASS_NOT_REACHED",
        "note": super::marked::mark("late"),
    });
    call(marked.server(), &format!("{list}/RecordOutcome"), outcome).await;
    done(client, operation).await;
    is_nowhere(marked.server()).await;
}

#[tokio::test]
async fn a_killed_erasure_goes_on() {
    let mut marked = Marked::start().await;
    let others = of_others(marked.server()).await;
    let operation = erase(&marked.probe.client, CUSTOMER).await;
    for wait in [3, 30, 80, 150, 300, 700] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        marked.probe.restart().await;
    }
    let client = &marked.probe.client;
    done(client, operation).await;
    is_nowhere(marked.server()).await;
    assert_eq!(of_others(marked.server()).await, others);
    // Three letters to others, their print file and its index.
    let left = files(&marked.server().documents());
    assert_eq!(left.len(), 5, "{left:?}");
    let listed = marked.probe.look("SELECT count(*) FROM erased_file").await;
    assert_eq!(listed, "0");

    // What comes late is looked for again.
    let late = "UPDATE privacy_request SET again_at = now();
                INSERT INTO request_log (tenant_id, request_id, method, body_hash, response)
                SELECT tenant_id, gen_random_uuid(), 'x', 'x',
                       '\\x0e'::bytea || 'customers/0000zwetschgenkern'::bytea
                FROM customer WHERE number = '0000' AND erased_at IS NOT NULL;
                UPDATE message SET provider_message_id = CASE channel WHEN 'mail' THEN 'young' ELSE 'old' END,
                    sent_at = now() - CASE channel WHEN 'mail' THEN interval '29 days'
                                                   ELSE interval '31 days' END
                WHERE customer_id = (SELECT id FROM customer WHERE number = '0000'
                                     AND erased_at IS NOT NULL);
                UPDATE message_attempt SET detail = 'zwetschgenkern' WHERE message_id IN (
                    SELECT m.id FROM message m JOIN customer c ON c.id = m.customer_id
                    WHERE c.number = '0000')";
    let database = marked.server().database.connect().await.unwrap();
    database.batch_execute(late).await.unwrap();
    marked.probe.restart().await;
    let rounds = "SELECT rounds || ' ' || (again_at > now() + interval '23 hours')
                  FROM privacy_request WHERE again_at IS NOT NULL";
    until("another round", async || {
        let found = marked.server().database.one(rounds).await;
        found.is_ok_and(|found| found == "1 true")
    })
    .await;
    is_nowhere(marked.server()).await;
    // By the provider's ids reports are known as long as they may come, and no longer.
    let ids = "SELECT string_agg(DISTINCT provider_message_id, ' ') FROM message
               WHERE provider_message_id IN ('young', 'old')";
    assert_eq!(marked.probe.look(ids).await, "young");
    let hashes = "SELECT count(*) FROM message m JOIN customer c ON c.id = m.customer_id
                  WHERE c.erased_at IS NOT NULL AND m.address_hash <> ''";
    assert_eq!(marked.probe.look(hashes).await, "0");
}

#[tokio::test]
async fn an_answer_that_was_erased_is_not_given_again() {
    let marked = Marked::start().await;
    let request = json!({
        "suppression": {"channel": "testing", "address": "x"},
        "requestId": uuid::Uuid::now_v7().to_string(),
    });
    let method = "customers.v1.CustomerService/CreateSuppression";
    let first = marked.call(method, request.clone()).await;
    let customer = json!({"number": "0000", "kind": "CUSTOMER_KIND_PERSON", "lastName": "Neu"});
    let update = json!({"customer": customer, "requestId": uuid::Uuid::now_v7().to_string()});
    let update_method = "customers.v1.CustomerService/UpdateCustomer";
    marked.call(update_method, update.clone()).await;
    let operation = erase(&marked.probe.client, CUSTOMER).await;
    over(&marked.probe.client, &operation.name).await;
    // Another's stays.
    assert_eq!(marked.call(method, request).await, first);
    let raw = crate::raw::Raw::connect(marked.server().addr).await;
    let method = format!("anklang.{update_method}");
    let status = raw
        .call(Some(crate::mailing::TENANT), &method, &update)
        .await;
    refused::is(
        &status.unwrap_err(),
        tonic::Code::FailedPrecondition,
        "PRECONDITION",
    );
}

#[tokio::test]
async fn a_bundle_that_is_being_made_is_waited_for() {
    let marked = Marked::start().await;
    // One that nobody goes on with.
    let making = "INSERT INTO operation (tenant_id, id, kind, resource, request, run_at)
                  SELECT tenant_id, '00000000-0000-7000-8000-00000000000b', 'MakeBundle', '', '{}',
                         'infinity'
                  FROM bundle;
                  UPDATE bundle SET state = 'making',
                      operation_id = '00000000-0000-7000-8000-00000000000b'";
    let database = marked.server().database.connect().await.unwrap();
    database.batch_execute(making).await.unwrap();
    let operation = erase(&marked.probe.client, CUSTOMER).await;
    let id = operation.name.replace("operations/", "");
    let waits = format!("SELECT step || ' ' || total FROM operation WHERE id = '{id}'");
    until("it waits", async || {
        marked.probe.look(&waits).await == "withdraw 1"
    })
    .await;
    let client = &marked.probe.client;
    assert_eq!(
        waited_for(client, &operation).await,
        [&marked.bundle.name[..]]
    );
    // The letter is still where it was.
    let letters = "SELECT count(*) FROM document WHERE erased_at IS NOT NULL";
    assert_eq!(marked.probe.look(letters).await, "0");

    let made = "UPDATE bundle SET state = 'ready'";
    database.batch_execute(made).await.unwrap();
    let name = operation.name.clone();
    done(client, operation).await;
    let over = over(client, &name).await;
    assert!(waited_for(client, &over).await.is_empty());
    super::left::printed(&marked).await;
}
