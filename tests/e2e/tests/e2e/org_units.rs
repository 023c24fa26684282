//! Org units, and selections that are shared between them.

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::org::v1 as org;
use anklang_proto::anklang::selections::v1 as pb;
use anklang_testkit::{Client, TestServer};
use tonic::{Code, Status};

use crate::refused;
use crate::selections::{equal, import, selection};

async fn put(client: &Client, code: &str, parent: &str) -> Result<org::OrgUnit, Status> {
    let request = org::UpdateOrgUnitRequest {
        org_unit: Some(org::OrgUnit {
            code: code.into(),
            display_name: format!("Einheit {code}"),
            parent: parent.into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client.org_units().update_org_unit(request).await?;
    Ok(saved.into_inner())
}

async fn delete(client: &Client, name: &str) -> Result<(), Status> {
    let request = org::DeleteOrgUnitRequest {
        name: name.into(),
        ..Default::default()
    };
    client.org_units().delete_org_unit(request).await?;
    Ok(())
}

/// Central with the regions north and south; the agency Kiel is in the north.
async fn tree(client: &Client) {
    for (code, parent) in [
        ("central", ""),
        ("north", "orgUnits/central"),
        ("south", "orgUnits/central"),
        ("kiel", "orgUnits/north"),
    ] {
        put(client, code, parent).await.unwrap();
    }
}

#[tokio::test]
async fn a_tree_without_circles() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    tree(&client).await;
    let kiel = put(&client, "kiel", "orgUnits/north").await.unwrap();
    assert_eq!(kiel.name, "orgUnits/kiel");
    let get = org::GetOrgUnitRequest {
        name: "orgUnits/kiel".into(),
    };
    let got = client.org_units().get_org_unit(get).await.unwrap();
    assert_eq!(got.into_inner(), kiel, "the same again changes nothing");

    // Only what is named, and only on what was seen.
    let renamed = |etag: &str| org::UpdateOrgUnitRequest {
        org_unit: Some(org::OrgUnit {
            code: "kiel".into(),
            display_name: "Kiel".into(),
            etag: etag.into(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".into()],
        }),
        ..Default::default()
    };
    let update = client
        .org_units()
        .update_org_unit(renamed(&kiel.etag))
        .await;
    let update = update.unwrap().into_inner();
    assert_eq!(
        (&update.display_name[..], &update.parent[..]),
        ("Kiel", "orgUnits/north")
    );
    let stale = client
        .org_units()
        .update_org_unit(renamed(&kiel.etag))
        .await;
    refused::is(&stale.unwrap_err(), Code::Aborted, "ETAG_MISMATCH");

    for parent in ["orgUnits/central", "orgUnits/kiel", "orgUnits/nowhere"] {
        let status = put(&client, "central", parent).await.unwrap_err();
        refused::names(&status, &["org_unit.parent"]);
    }
    let status = put(&client, "", "regions/1").await.unwrap_err();
    refused::names(&status, &["org_unit.code", "org_unit.parent"]);
    let mut above = "orgUnits/kiel".to_owned();
    for level in 4..=10 {
        above = put(&client, &format!("l{level}"), &above)
            .await
            .unwrap()
            .name;
    }
    let status = put(&client, "l11", &above).await.unwrap_err();
    refused::names(&status, &["org_unit.parent"]);
    // With all below it.
    let status = put(&client, "top", "").await.map(|top| top.name);
    let status = put(&client, "central", &status.unwrap()).await.unwrap_err();
    refused::names(&status, &["org_unit.parent"]);

    let status = delete(&client, "orgUnits/north").await.unwrap_err();
    refused::is(&status, Code::FailedPrecondition, "PRECONDITION");
    delete(&client, "orgUnits/south").await.unwrap();
    let status = delete(&client, "orgUnits/south").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let request = org::UpdateOrgUnitRequest {
        org_unit: Some(org::OrgUnit {
            code: "south".into(),
            display_name: "Süd".into(),
            ..Default::default()
        }),
        allow_missing: false,
        ..Default::default()
    };
    let status = client
        .org_units()
        .update_org_unit(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

/// Two units that are each put below the other at the same time do not make a circle.
#[tokio::test]
async fn two_at_once_do_not_close_a_circle() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    for _ in 0..5 {
        for code in ["a", "b"] {
            put(&client, code, "").await.unwrap();
        }
        let (a, b) = tokio::join!(
            put(&client, "a", "orgUnits/b"),
            put(&client, "b", "orgUnits/a")
        );
        assert_ne!(a.is_ok(), b.is_ok(), "{a:?} {b:?}");
    }
}

/// The names of the selections that a unit works with, oldest first.
async fn visible(client: &Client, unit: &str) -> Vec<String> {
    let request = pb::ListSelectionsRequest {
        visible_to: unit.into(),
        order_by: "create_time".into(),
        ..Default::default()
    };
    let listed = client.selections().list_selections(request).await;
    let selections = listed.unwrap().into_inner().selections;
    selections.into_iter().map(|s| s.display_name).collect()
}

async fn of(client: &Client, name: &str, unit: &str) -> pb::Selection {
    let request = pb::CreateSelectionRequest {
        selection: Some(pb::Selection {
            display_name: name.into(),
            ..selection(pb::Subject::Contract, equal("division", "gas"))
        }),
        org_unit: unit.into(),
        ..Default::default()
    };
    let saved = client.selections().create_selection(request).await;
    saved.unwrap().into_inner()
}

async fn share(
    client: &Client,
    selection: &str,
    org_unit: &str,
    with: &[&str],
) -> Result<pb::Selection, Status> {
    let request = pb::ShareSelectionRequest {
        name: selection.into(),
        org_unit: org_unit.into(),
        shared_with: with.iter().map(|&w| w.into()).collect(),
        ..Default::default()
    };
    let shared = client.selections().share_selection(request).await?;
    Ok(shared.into_inner())
}

#[tokio::test]
async fn a_unit_sees_its_own_what_is_below_and_what_is_shared() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    tree(&client).await;
    of(&client, "all", "").await;
    let central = of(&client, "central", "orgUnits/central").await;
    of(&client, "north", "orgUnits/north").await;
    let kiel = of(&client, "kiel", "orgUnits/kiel").await;
    assert_eq!(kiel.org_unit, "orgUnits/kiel");
    assert_eq!(
        visible(&client, "").await,
        ["all", "central", "north", "kiel"]
    );
    let everything = ["all", "central", "north", "kiel"];
    assert_eq!(visible(&client, "orgUnits/central").await, everything);
    assert_eq!(
        visible(&client, "orgUnits/north").await,
        ["all", "north", "kiel"]
    );
    assert_eq!(visible(&client, "orgUnits/kiel").await, ["all", "kiel"]);
    assert_eq!(visible(&client, "orgUnits/south").await, ["all"]);

    // Shared with the north, and so with Kiel; the version stays.
    let shared = share(
        &client,
        &central.name,
        "orgUnits/central",
        &["orgUnits/north"],
    )
    .await;
    let shared = shared.unwrap();
    assert_eq!(
        (&shared.shared_with[..], shared.version),
        (&["orgUnits/north".to_owned()][..], 1)
    );
    assert_eq!(
        visible(&client, "orgUnits/kiel").await,
        ["all", "central", "kiel"]
    );
    assert_eq!(visible(&client, "orgUnits/south").await, ["all"]);
    // An update of the criteria leaves that as it is; a copy belongs to who made it.
    let update = pb::UpdateSelectionRequest {
        selection: Some(pb::Selection {
            display_name: "central 2".into(),
            ..shared.clone()
        }),
        ..Default::default()
    };
    let updated = client.selections().update_selection(update).await.unwrap();
    assert_eq!(updated.into_inner().shared_with, shared.shared_with);
    let copy = pb::CopySelectionRequest {
        name: central.name.clone(),
        display_name: "copy".into(),
        org_unit: "orgUnits/south".into(),
        ..Default::default()
    };
    let copied = client
        .selections()
        .copy_selection(copy)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (&copied.org_unit[..], copied.shared_with.len()),
        ("orgUnits/south", 0)
    );
    assert_eq!(visible(&client, "orgUnits/south").await, ["all", "copy"]);

    let status = delete(&client, "orgUnits/south").await.unwrap_err();
    refused::is(&status, Code::FailedPrecondition, "PRECONDITION");
    let status = share(
        &client,
        &central.name,
        "orgUnits/west",
        &["orgUnits/east", "x"],
    )
    .await;
    refused::names(
        &status.unwrap_err(),
        &["org_unit", "shared_with", "shared_with[1]"],
    );
    let request = pb::ListSelectionsRequest {
        visible_to: "orgUnits/west".into(),
        ..Default::default()
    };
    let status = client
        .selections()
        .list_selections(request)
        .await
        .unwrap_err();
    refused::names(&status, &["visible_to"]);
    let request = pb::ListSelectionsRequest {
        filter: "org_unit = orgUnits/kiel".into(),
        ..Default::default()
    };
    let listed = client
        .selections()
        .list_selections(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.selections.len(), 1);
}

#[tokio::test]
async fn customers_belong_to_a_unit() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    tree(&client).await;
    let csv = "number,kind,last_name,org_unit_code\n1,person,A,kiel\n2,person,B,\n3,person,C,nowhere\n\
               4,person,D, north \n";
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!((sums.created, sums.failed), (3, 1));
    let faults: Vec<_> = sums.errors.iter().map(|e| (e.line, &e.field[..])).collect();
    assert_eq!(faults, [(4, "org_unit_code")]);
    // A file that does not say it leaves it as it is.
    let csv = "number,kind,last_name\n1,person,Neu\n2,person,B\n";
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!((sums.updated, sums.failed), (1, 0));

    let get = async |number: &str| {
        let request = customers::GetCustomerRequest {
            name: format!("customers/{number}"),
        };
        let got = client.customers().get_customer(request).await.unwrap();
        got.into_inner()
    };
    let kiel = get("1").await;
    assert_eq!(
        (&kiel.org_unit[..], &kiel.last_name[..]),
        ("orgUnits/kiel", "Neu")
    );
    assert_eq!(get("2").await.org_unit, "");
    let listed = async |filter: &str| {
        let request = customers::ListCustomersRequest {
            filter: filter.into(),
            ..Default::default()
        };
        let listed = client.customers().list_customers(request).await.unwrap();
        let customers = listed.into_inner().customers.into_iter();
        customers.map(|c| c.number).collect::<Vec<_>>()
    };
    assert_eq!(listed("org_unit = orgUnits/kiel").await, ["1"]);
    assert_eq!(
        listed("org_unit = orgUnits/north").await,
        ["4"],
        "not those below it"
    );

    let put = async |org_unit: &str| {
        let customer = customers::Customer {
            org_unit: org_unit.into(),
            ..kiel.clone()
        };
        let request = customers::UpdateCustomerRequest {
            customer: Some(customer),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["org_unit".into()],
            }),
            ..Default::default()
        };
        let saved = client.customers().update_customer(request).await?;
        Ok::<_, Status>(saved.into_inner())
    };
    for wrong in ["orgUnits/nowhere", "kiel", "brands/kiel"] {
        refused::names(&put(wrong).await.unwrap_err(), &["customer.org_unit"]);
    }

    let status = delete(&client, "orgUnits/kiel").await.unwrap_err();
    let (subject, told) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "orgUnits/kiel");
    assert!(told.contains("1 customers belong to it"), "{told}");
    let none = customers::UpdateCustomerRequest {
        customer: Some(customers::Customer {
            org_unit: String::new(),
            ..kiel.clone()
        }),
        ..Default::default()
    };
    let saved = client.customers().update_customer(none).await.unwrap();
    assert_eq!(saved.into_inner().org_unit, "");
    delete(&client, "orgUnits/kiel").await.unwrap();
}
