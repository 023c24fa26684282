//! Updates of named fields alone, and etags of what was seen.

use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{Client, TestServer};
use prost_types::FieldMask;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::raw::Raw;
use crate::refused;
use crate::utility::{Case, TARGET};
use crate::world::populate;

async fn brand(client: &Client) -> brands::Brand {
    let request = brands::GetBrandRequest {
        name: "brands/linden".into(),
    };
    client
        .brands()
        .get_brand(request)
        .await
        .unwrap()
        .into_inner()
}

async fn update(
    client: &Client,
    brand: brands::Brand,
    paths: &[&str],
) -> Result<brands::Brand, Status> {
    let request = brands::UpdateBrandRequest {
        brand: Some(brand),
        update_mask: mask(paths),
        ..Default::default()
    };
    let updated = client.brands().update_brand(request).await;
    updated.map(tonic::Response::into_inner)
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(|p| (*p).to_owned()).collect();
    Some(FieldMask { paths })
}

#[tokio::test]
async fn etags_follow_their_resources() {
    let mut server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let client = &world.client;
    let seen = brand(client).await;
    let listed = client
        .brands()
        .list_brands(brands::ListBrandsRequest::default())
        .await;
    assert_eq!(listed.unwrap().into_inner().brands[0].etag, seen.etag);
    let same = update(client, seen.clone(), &[]).await.unwrap();
    assert_eq!(same, seen, "nothing has changed");

    // Of many with one etag one wins.
    let mut racing = Vec::new();
    for n in 0..8 {
        let client = client.clone();
        let mut brand = seen.clone();
        brand.phone = format!("+49 641 100{n}");
        racing.push(tokio::spawn(
            async move { update(&client, brand, &[]).await },
        ));
    }
    let mut won = Vec::new();
    for result in racing {
        match result.await.unwrap() {
            Ok(brand) => won.push(brand),
            Err(status) => refused::is(&status, Code::Aborted, "ETAG_MISMATCH"),
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
    // A code with blanks around it is the same brand's: what is not named stays.
    let blank = brands::Brand {
        code: " linden ".into(),
        phone: won[0].phone.clone(),
        ..Default::default()
    };
    let request = brands::UpdateBrandRequest {
        brand: Some(blank),
        update_mask: mask(&["phone"]),
        allow_missing: true,
        ..Default::default()
    };
    let same = client.brands().update_brand(request).await.unwrap();
    assert_eq!(same.into_inner(), won[0]);
    for name in ["brands/linden%20", "brands/%20linden"] {
        let request = brands::UpdateBrandRequest {
            brand: Some(brands::Brand {
                name: name.into(),
                ..Default::default()
            }),
            update_mask: mask(&["phone"]),
            allow_missing: true,
            ..Default::default()
        };
        let status = client.brands().update_brand(request).await.unwrap_err();
        refused::names(&status, &["brand.name"]);
    }
    let now = brand(client).await;
    assert_eq!(won[0], now);
    assert_ne!(now.etag, seen.etag);

    // What comes in otherwise changes it as well, and every server has the same.
    let csv = "code,name,sender_email\nlinden,Linden,linden@post.example\n";
    let entity = anklang_proto::anklang::imports::v1::ImportEntity::Brands;
    client.import(entity, csv).await.unwrap();
    refused::is(
        &update(client, now, &["phone"]).await.unwrap_err(),
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let imported = brand(client).await;
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    assert_eq!(brand(&client).await, imported);

    // What is answered is not what was seen.
    let request = offers::GetOfferRequest {
        name: world.offer.clone(),
    };
    let offer = client
        .offers()
        .get_offer(request)
        .await
        .unwrap()
        .into_inner();
    let accept = offers::AcceptOfferRequest {
        name: world.offer.clone(),
        etag: offer.etag.clone(),
        ..Default::default()
    };
    let accepted = client
        .offers()
        .accept_offer(accept.clone())
        .await
        .unwrap()
        .into_inner();
    assert_ne!(accepted.etag, offer.etag);
    let status = client.offers().accept_offer(accept).await.unwrap_err();
    refused::is(&status, Code::Aborted, "ETAG_MISMATCH");
}

#[tokio::test]
async fn an_update_is_about_what_it_names() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let client = &world.client;
    let get = async || {
        let request = customers::GetCustomerRequest {
            name: "customers/K0001".into(),
        };
        client
            .customers()
            .get_customer(request)
            .await
            .unwrap()
            .into_inner()
    };
    let before = get().await;
    assert!(!before.contact_points.is_empty() && !before.attributes.is_empty());
    let request = customers::UpdateCustomerRequest {
        customer: Some(customers::Customer {
            name: "customers/K0001".into(),
            city: "Neustadt".into(),
            last_name: "left out".into(),
            ..Default::default()
        }),
        update_mask: mask(&["city", "title"]),
        ..Default::default()
    };
    let updated = client
        .customers()
        .update_customer(request)
        .await
        .unwrap()
        .into_inner();
    let wanted = customers::Customer {
        city: "Neustadt".into(),
        title: String::new(),
        etag: updated.etag.clone(),
        update_time: updated.update_time,
        ..before
    };
    assert_eq!(updated, wanted);
    assert_eq!(get().await, wanted);

    // All wrong paths at once; and the merged whole is checked as a whole.
    let wrong = [
        "colour",
        "code",
        "etag",
        "create_time",
        "sender_email.x",
        "*",
    ];
    let status = update(client, brand(client).await, &wrong)
        .await
        .unwrap_err();
    refused::names(&status, &["update_mask"; 6]);
    let of = brands::Brand {
        code: "linden".into(),
        ..Default::default()
    };
    let status = update(client, of.clone(), &["sender_email"])
        .await
        .unwrap_err();
    refused::names(&status, &["brand.sender_email"]);
    let nobody = brands::Brand {
        code: "none".into(),
        ..of.clone()
    };
    refused::not_found(&update(client, nobody, &["phone"]).await.unwrap_err());
    let other = brands::Brand {
        name: "brands/esche".into(),
        ..of
    };
    refused::names(
        &update(client, other, &["phone"]).await.unwrap_err(),
        &["brand.name"],
    );
}

#[tokio::test]
async fn masks_go_into_messages_and_are_known_everywhere() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let template = "brands/linden/templates/spring_mail.de";
    // Method of the update, its field, the resource's name, paths, and what is given for them.
    let updates = [
        (
            "anklang.templates.v1.TemplateService/UpdateTemplate",
            "template",
            template,
            "message.subject",
            json!({"message": {"subject": "Neu"}}),
        ),
        (
            "anklang.contracts.v1.ContractService/UpdateContract",
            "contract",
            &world.contract,
            "supplyStatus,siteCity",
            json!({"siteCity": "Neustadt"}),
        ),
        (
            "anklang.products.v1.ProductService/UpdateProduct",
            "product",
            "products/S-BASIS",
            "displayName",
            json!({"displayName": "Neu"}),
        ),
        (
            "anklang.products.v1.ProductService/UpdateProductVersion",
            "productVersion",
            TARGET,
            "displayName",
            json!({"displayName": "Neu"}),
        ),
        (
            "anklang.orders.v1.OrderService/UpdateOrder",
            "order",
            "orders/O1",
            "brand",
            json!({"brand": "brands/linden"}),
        ),
        (
            "anklang.selections.v1.SelectionService/UpdateSelection",
            "selection",
            &world.selection,
            "displayName",
            json!({"displayName": "Neu"}),
        ),
        (
            "anklang.selections.v1.PresetService/UpdatePreset",
            "preset",
            &world.preset,
            "description",
            json!({"description": "Neu"}),
        ),
        (
            "anklang.handover.v1.WebhookService/UpdateWebhook",
            "webhook",
            &world.webhook,
            "displayName",
            json!({"displayName": "Neu"}),
        ),
    ];
    for (method, field, name, paths, given) in updates {
        let get = method.replace("/Update", "/Get");
        let before = raw
            .call(Some("linden"), &get, &json!({"name": name}))
            .await
            .unwrap();
        let mut resource = given.clone();
        resource["name"] = json!(name);
        resource["etag"] = before["etag"].clone();
        let request = json!({field: resource, "updateMask": paths});
        let updated = raw
            .call(Some("linden"), method, &request)
            .await
            .expect(method);
        let after = raw
            .call(Some("linden"), &get, &json!({"name": name}))
            .await
            .unwrap();
        assert_eq!(updated, after, "{method}");
        assert_ne!(after["etag"], before["etag"], "{method}");
        let mut wanted = before.clone();
        merge(&mut wanted, &given);
        for by_server in ["etag", "updateTime", "createTime", "version"] {
            wanted[by_server] = after[by_server].clone();
        }
        if wanted["supplyStatus"] != after["supplyStatus"] {
            assert_eq!(
                after.get("supplyStatus"),
                None,
                "{method}: named and not given"
            );
            wanted["supplyStatus"] = Value::Null;
        }
        strip(&mut wanted);
        assert_eq!(after, wanted, "{method}");
    }
    let budget = json!({"contactBudget": {"maxContacts": 7}, "updateMask": "maxContacts"});
    let method = "anklang.messages.v1.MessageService/UpdateContactBudget";
    let budget = raw.call(Some("linden"), method, &budget).await.unwrap();
    assert_eq!(
        (&budget["maxContacts"], &budget["windowDays"]),
        (&json!(7), &json!(1))
    );
    let range = json!({"offerNumberRange": {"prefix": "C-"}, "updateMask": "prefix"});
    let method = "anklang.offers.v1.OfferService/UpdateOfferNumberRange";
    let range = raw.call(Some("linden"), method, &range).await.unwrap();
    assert_eq!(range["prefix"], "C-");
    assert_ne!(range["nextNumber"], Value::Null);
    let made = world.utility.switch(world.utility.first(Case::Plain));
    let made = world
        .client
        .offers()
        .create_offer(made)
        .await
        .unwrap()
        .into_inner();
    assert!(made.number.starts_with("C-"), "{}", made.number);
}

/// Puts what is given into what there is.
fn merge(into: &mut Value, given: &Value) {
    for (key, value) in given.as_object().unwrap() {
        match value {
            Value::Object(_) => merge(&mut into[key], value),
            _ => into[key] = value.clone(),
        }
    }
}

/// Without fields that have no value.
fn strip(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}
