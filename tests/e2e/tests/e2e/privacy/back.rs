//! Who is erased does not come back; trials; and what others keep.

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::documents::v1 as documents;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::privacy::v1 as pb;
use tonic::Code;

use super::left;
use super::marked::{CUSTOMER, MARK, Marked, mark};
use super::{asks, done, erase, export, request_of};
use crate::changes::{is_as_before, stored};
use crate::mailing::{self, SLIP};
use crate::refused;

#[tokio::test]
async fn who_is_erased_does_not_come_back() {
    let marked = Marked::start().await;
    let (client, server) = (&marked.probe.client, marked.server());
    done(client, erase(client, CUSTOMER).await).await;
    for (entity, csv) in [
        (
            ImportEntity::Customers,
            "number,kind,last_name\n0000,person,Wieder\n",
        ),
        (
            ImportEntity::ContactPoints,
            "customer_number,channel,address\n0000,mail,wieder@post.example\n",
        ),
        (
            ImportEntity::Consents,
            "customer_number,channel,purpose,state,recorded_at\n\
             0000,mail,marketing,granted,2026-05-01T10:00:00Z\n",
        ),
        (
            ImportEntity::Contracts,
            "number,customer_number,brand_code,division\nV9,0000,sw,electricity\n",
        ),
        (
            ImportEntity::Contracts,
            "number,customer_number,brand_code,division\nV0000,0001,sw,electricity\n",
        ),
        (
            ImportEntity::Attributes,
            "entity,number,key,type,value\ncontract,V0000,meter,text,x\n",
        ),
        (
            ImportEntity::Orders,
            "number,customer_number,ordered_at,currency\nO9,0000,2026-05-01T10:00:00Z,EUR\n",
        ),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(
            (sums.created, sums.updated, sums.failed),
            (0, 0, 1),
            "{entity:?}"
        );
        let reason = &sums.errors[0].reason;
        assert!(
            reason.contains("customer was erased"),
            "{entity:?}: {reason}"
        );
    }
    let update = customers::UpdateCustomerRequest {
        customer: Some(customers::Customer {
            number: "0000".into(),
            kind: customers::CustomerKind::Person.into(),
            last_name: "Wieder".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = client.customers().update_customer(update).await;
    assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    left::cannot_be_contacted(server).await;

    // Nor under another number by the same address.
    let mail = mark("mail@post.example");
    for (entity, csv) in [
        (
            ImportEntity::Customers,
            "number,kind,last_name\n0007,person,Neu\n".to_owned(),
        ),
        (
            ImportEntity::ContactPoints,
            format!("customer_number,channel,address\n0007,mail,{mail}\n"),
        ),
        (
            ImportEntity::Consents,
            "customer_number,channel,purpose,state,recorded_at\n\
             0007,mail,marketing,granted,2026-05-01T10:00:00Z\n"
                .into(),
        ),
        (
            ImportEntity::Contracts,
            "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,\
             product_number,product_version_code\nV0007,0007,sw,electricity,AU,3000,P,OLD\n"
                .into(),
        ),
    ] {
        mailing::import(client, entity, csv).await;
    }
    let mails = server.sink.received().len();
    let campaign = mailing::launch(client, SLIP).await;
    mailing::until_over(client, &campaign).await;
    let told = left::reach(client, &campaign).await;
    left::adds_up(&told);
    assert_eq!((told.candidates, told.members), (4, 3), "{told:?}");
    let sent = server.sink.received();
    assert_eq!(sent.len(), mails + 3);
    let to = sent[mails..].iter().flat_map(|mail| &mail.rcpt_to);
    assert!(to.clone().count() == 3 && to.clone().all(|to| !to.contains(MARK)));
}

#[tokio::test]
async fn a_trial_counts_and_changes_nothing() {
    let marked = Marked::start().await;
    let (client, server) = (&marked.probe.client, marked.server());
    let before = stored(server).await;
    let trial = pb::ErasePersonalDataRequest {
        validate_only: true,
        ..asks(CUSTOMER)
    };
    let tried = client.privacy().erase_personal_data(trial).await;
    let tried = tried.unwrap().into_inner();
    assert_eq!((&tried.name[..], tried.done), ("", true));
    let told = request_of(&tried);
    assert_eq!(told.customer, CUSTOMER);
    for table in ["customer", "contact_point", "message", "customer_event"] {
        assert!(told.rows.get(table) > Some(&0), "{table}: {told:?}");
    }
    is_as_before(server, &before).await;

    // What is wrong, all at once; who is not there; and who is erased has nothing to be exported.
    let wrong = pb::ErasePersonalDataRequest {
        customer: "0000".into(),
        ..Default::default()
    };
    let status = client.privacy().erase_personal_data(wrong).await;
    refused::names(&status.unwrap_err(), &["customer", "reason"]);
    let status = client
        .privacy()
        .erase_personal_data(asks("customers/nobody"))
        .await;
    refused::not_found(&status.unwrap_err());
    let first = done(client, erase(client, CUSTOMER).await).await;
    let status = export(client, CUSTOMER).await.unwrap_err();
    refused::is(&status, Code::FailedPrecondition, "PRECONDITION");
    // Once more for what came late: nothing did.
    let again = done(client, erase(client, CUSTOMER).await).await;
    assert_eq!(again.rows.get("message"), None, "{again:?}");
    let list = pb::ListPrivacyRequestsRequest {
        filter: format!("customer = \"{CUSTOMER}\" AND state = DONE"),
        ..Default::default()
    };
    let listed = client.privacy().list_privacy_requests(list).await.unwrap();
    assert_eq!(listed.into_inner().privacy_requests, [again, first]);
    let other = server.client("other").await.unwrap();
    let get = pb::ListPrivacyRequestsRequest::default();
    let listed = other.privacy().list_privacy_requests(get).await.unwrap();
    assert_eq!(listed.into_inner().privacy_requests, []);
}

#[tokio::test]
async fn letters_to_others_stay_in_the_store() {
    let marked = Marked::start().await;
    let client = &marked.probe.client;
    done(client, erase(client, CUSTOMER).await).await;
    let request = documents::ListDocumentsRequest {
        parent: crate::documents::outbound(&marked.mailing),
        ..Default::default()
    };
    let listed = client.documents().list_documents(request).await.unwrap();
    let listed = listed.into_inner().documents;
    assert_eq!(listed.len(), 3);
    for letter in listed {
        crate::documents::download(client, &letter.name).await;
    }
    let gone = documents::DownloadFileRequest {
        name: format!("{}/document", marked.accepted),
        ..Default::default()
    };
    let status = client.documents().download_file(gone).await.unwrap_err();
    refused::not_found(&status);
}
