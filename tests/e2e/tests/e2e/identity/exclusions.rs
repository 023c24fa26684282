//! Selections by which winback excludes customers: not everybody who may change selections may change these.

use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_testkit::Client;
use tonic::Status;

use super::{guarded, knows, lacking, new_token};
use crate::winback::{monthly, number_is, save_selection, set};

/// Settings with these selections as exclusions.
fn excluding(names: &[&str]) -> winback::WinbackSettings {
    let exclusion = |selection: &&str| winback::WinbackExclusion {
        display_name: "Offene Reklamation".into(),
        selection: (*selection).to_owned(),
    };
    winback::WinbackSettings {
        exclusions: names.iter().map(exclusion).collect(),
        ..monthly()
    }
}

/// Has a selection find another customer.
async fn update(client: &Client, name: &str, number: &str) -> Result<(), Status> {
    let request = selections::UpdateSelectionRequest {
        selection: Some(selections::Selection {
            name: name.into(),
            display_name: "Anders".into(),
            subject: selections::Subject::Customer.into(),
            criteria: Some(number_is(number)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let updated = client.selections().update_selection(request).await;
    updated.map(|_| ())
}

async fn restore(client: &Client, name: &str) -> Result<(), Status> {
    let request = selections::RestoreSelectionVersionRequest {
        name: format!("{name}/versions/1"),
        ..Default::default()
    };
    let restored = client.selections().restore_selection_version(request).await;
    restored.map(|_| ())
}

async fn delete(client: &Client, name: &str) -> Result<(), Status> {
    let request = selections::DeleteSelectionRequest {
        name: name.into(),
        ..Default::default()
    };
    let deleted = client.selections().delete_selection(request).await;
    deleted.map(|_| ())
}

#[track_caller]
fn refused(result: Result<(), Status>) {
    let status = result.unwrap_err();
    let needs = lacking(&status);
    assert_eq!(needs.as_deref(), Some("winback.manage"), "{status:?}");
    assert!(
        status.message().contains("Offene Reklamation"),
        "{status:?}"
    );
}

#[tokio::test]
async fn an_exclusion_of_winback_is_changed_by_those_who_may_set_winback() {
    let (clerk, central) = (new_token(), new_token());
    let trusts = [
        knows("clerk", &clerk, &["linden"], &["clerk"]),
        knows("central", &central, &["linden"], &["central"]),
    ];
    let (server, _) = guarded("", &trusts.concat()).await;
    let connect = async |token: &str| {
        let client = Client::connect_as(server.addr, Some("linden"), Some(token));
        client.await.unwrap()
    };
    let (clerk, central) = (connect(&clerk).await, connect(&central).await);
    let exclusion = save_selection(&clerk, "1").await;
    let other = save_selection(&clerk, "2").await;
    update(&clerk, &exclusion, "3").await.unwrap();
    set(&central, excluding(&[&exclusion]), "").await.unwrap();

    refused(update(&clerk, &exclusion, "4").await);
    refused(restore(&clerk, &exclusion).await);
    refused(delete(&clerk, &exclusion).await);
    // It is as it was, and others are theirs as ever.
    let request = selections::GetSelectionRequest {
        name: exclusion.clone(),
    };
    let found = clerk.selections().get_selection(request).await.unwrap();
    let found = found.into_inner();
    assert_eq!((found.version, found.criteria), (2, Some(number_is("3"))));
    update(&clerk, &other, "5").await.unwrap();
    delete(&clerk, &other).await.unwrap();

    update(&central, &exclusion, "6").await.unwrap();
    restore(&central, &exclusion).await.unwrap();
    // Once winback does not exclude by it any more, it is like any other.
    set(&central, excluding(&[]), "").await.unwrap();
    update(&clerk, &exclusion, "7").await.unwrap();
    delete(&clerk, &exclusion).await.unwrap();
}
