//! Filters and orders of lists, and the tokens of their pages.

use anklang_proto::anklang::contracts::v1 as contracts;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{Client, TestServer, violations};
use serde_json::json;
use tonic::{Code, Status};

use crate::raw::{self, Raw};
use crate::refused;
use crate::world::populate;

async fn import(client: &Client) {
    let files = [
        (
            ImportEntity::Brands,
            "code,name,sender_email\nlinden,Linden,post@linden.example\n",
        ),
        (
            ImportEntity::Products,
            "number,name,division,brand_code\nS,Strom,electricity,linden\n",
        ),
        (
            ImportEntity::ProductVersions,
            "product_number,code,name,valid_from,base_price_per_year,unit_price_per_kwh,currency\n\
            S,A,A,2026-01-01,100,0.30,EUR\nS,B,B,2026-01-01,100,0.30,EUR\n",
        ),
        (
            ImportEntity::Customers,
            "number,kind,last_name,company_name,birth_date,city\n\
            1,person,Ärger,,1980-02-29,Gießen\n2,person,Brandt,,,Marburg\n3,company,,Obst & Co,,\n",
        ),
        (
            ImportEntity::Contracts,
            "number,customer_number,brand_code,division,supply_status,site_postal_code,annual_quantity_kwh,product_number,product_version_code,end_date\n\
            V1,1,linden,electricity,AU,35390,2500,S,A,\n\
            V2,1,linden,electricity,AB,35037,8000.5,S,B,2030-12-31\n\
            V3,2,linden,electricity,XX,35390,,S,A,2027-12-31\n\
            V4,3,linden,gas,,60311,12000,,,\n",
        ),
    ];
    for (entity, csv) in files {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, [], "{entity:?}");
    }
}

async fn contracts_by(client: &Client, filter: &str, order_by: &str) -> Result<String, Status> {
    let request = contracts::ListContractsRequest {
        filter: filter.into(),
        order_by: order_by.into(),
        ..Default::default()
    };
    let listed = client.contracts().list_contracts(request).await?;
    let numbers: Vec<String> = listed
        .into_inner()
        .contracts
        .into_iter()
        .map(|c| c.number)
        .collect();
    Ok(numbers.join(" "))
}

#[tokio::test]
async fn contracts_are_filtered_by_all_they_hold() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    import(&client).await;
    for (filter, expected) in [
        ("", "V1 V2 V3 V4"),
        ("number = V2", "V2"),
        ("supply_status = AU OR supply_status = AB", "V1 V2"),
        ("customer = customers/1 AND NOT supply_status = AB", "V1"),
        // OR binds tighter than AND.
        (
            "division = electricity AND supply_status = XX OR supply_status = \"\"",
            "V3",
        ),
        (
            "(division = electricity AND supply_status = XX) OR supply_status = \"\"",
            "V3 V4",
        ),
        ("annual_quantity_kwh >= 2500 annual_quantity_kwh", ""),
        (
            "annual_quantity_kwh > 2500 AND annual_quantity_kwh <= 8000.50",
            "V2",
        ),
        // Without a value, a comparison does not hold, its NOT does.
        ("annual_quantity_kwh < 1000000", "V1 V2 V4"),
        ("NOT annual_quantity_kwh < 1000000", "V3"),
        ("-annual_quantity_kwh:*", "V3"),
        ("site_postal_code:353", "V1 V3"),
        ("end_date > 2027-12-31", "V2"),
        ("end_date <= \"2027-12-31\"", "V3"),
        ("product_version = products/S/versions/A", "V1 V3"),
        ("product_version != products/S/versions/A", "V2"),
        (
            "brand = \"brands/linden\" AND create_time > 2020-01-01T00:00:00Z",
            "V1 V2 V3 V4",
        ),
        ("number = \"'; DROP TABLE contract; --\"", ""),
        ("site_postal_code:\"%\"", ""),
    ] {
        let found = contracts_by(&client, filter, "").await;
        if filter.ends_with("kwh") {
            refused::names(&found.unwrap_err(), &["filter"]);
        } else {
            assert_eq!(found.unwrap(), expected, "{filter}");
        }
    }
    for (order_by, expected) in [
        ("number desc", "V4 V3 V2 V1"),
        ("annual_quantity_kwh", "V1 V2 V4 V3"),
        ("annual_quantity_kwh desc", "V3 V4 V2 V1"),
        ("site_postal_code, annual_quantity_kwh desc", "V2 V3 V1 V4"),
        ("division, end_date desc, number desc", "V1 V2 V3 V4"),
    ] {
        let found = contracts_by(&client, "", order_by).await.unwrap();
        assert_eq!(found, expected, "{order_by}");
    }
}

#[tokio::test]
async fn customers_are_filtered_by_kind_and_day() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    import(&client).await;
    let numbers = async |filter: &str| {
        let request = customers::ListCustomersRequest {
            filter: filter.into(),
            ..Default::default()
        };
        let listed = client.customers().list_customers(request).await.unwrap();
        let customers = listed.into_inner().customers.into_iter();
        customers.map(|c| c.number).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(numbers("kind = COMPANY").await, "3");
    assert_eq!(numbers("kind != CUSTOMER_KIND_COMPANY").await, "1 2");
    assert_eq!(
        numbers("last_name:ärg OR company_name:\"& co\"").await,
        "1 3"
    );
    assert_eq!(numbers("birth_date = 1980-02-29").await, "1");
    assert_eq!(numbers("NOT birth_date:*").await, "2 3");
}

#[tokio::test]
async fn filters_work_together_with_the_other_fields_of_a_request() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let count = async |filter: &str, customer: &str, states: Vec<i32>| {
        let request = offers::ListOffersRequest {
            campaign: world.campaign.clone(),
            customer: customer.into(),
            states,
            filter: filter.into(),
            ..Default::default()
        };
        let listed = world.client.offers().list_offers(request).await.unwrap();
        listed.into_inner().offers.len()
    };
    let members = world.utility.members().len();
    let open = offers::OfferState::Open.into();
    assert_eq!(count("state = OPEN", "", vec![]).await, members);
    assert_eq!(count("state = ACCEPTED", "", vec![open]).await, 0);
    let one = format!("phase = {} AND annual_amount > 0", world.phase);
    assert_eq!(count(&one, &world.customer, vec![open]).await, 1);
    assert_eq!(
        count(&format!("contract = {}", world.contract), "", vec![]).await,
        1
    );

    let request = messages::ListMessagesRequest {
        filter: format!("campaign = {} AND state != QUEUED", world.campaign),
        order_by: "send_time desc, customer_x".into(),
        states: vec![messages::MessageState::Sent.into(); 10],
        ..Default::default()
    };
    let status = world.client.messages().list_messages(request.clone()).await;
    refused::names(&status.unwrap_err(), &["order_by", "states"]);
    let request = messages::ListMessagesRequest {
        order_by: "send_time desc, attempt_count".into(),
        states: vec![messages::MessageState::Sent.into()],
        ..request
    };
    let listed = world
        .client
        .messages()
        .list_messages(request)
        .await
        .unwrap();
    let times: Vec<_> = listed
        .into_inner()
        .messages
        .into_iter()
        .map(|m| m.send_time.map(|t| (t.seconds, t.nanos)))
        .collect();
    assert_eq!(times.len(), members);
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
}

#[tokio::test]
async fn wrong_filters_are_refused_with_the_place_and_all_reasons() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let wrong = contracts_by(
        &client,
        "annual_quantity_kwh = much AND (colour = red OR end_date > 2026-02-30)",
        "colour, product_version",
    );
    let status = wrong.await.unwrap_err();
    refused::names(
        &status,
        &["filter", "filter", "filter", "order_by", "order_by"],
    );
    let told: Vec<String> = violations(&status).into_iter().map(|(_, r)| r).collect();
    assert!(told[0].starts_with("at character 23: annual_quantity_kwh must be a number"));
    assert!(told[1].starts_with("at character 33: colour is no field"));
    assert!(
        told[1].contains("known are number, customer, brand"),
        "{told:?}"
    );
    assert!(told[2].starts_with("at character 60: end_date must be a date"));
    assert!(told[4].starts_with("at character 9: there is no order by product_version"));

    let mib = "x".repeat(1 << 20);
    for filter in [
        mib.clone(),
        format!("number = \"{mib}\""),
        vec!["number = 1"; 100_000].join(" OR "),
        "(".repeat(3_000),
        "NOT ".repeat(1_500),
        vec!["number = 1"; 65].join(" OR "),
        "number = \"a\0b\"".into(),
    ] {
        let status = contracts_by(&client, &filter, "").await.unwrap_err();
        refused::names(&status, &["filter"]);
    }
    for order_by in [mib, "number,".repeat(200), "number, number".into()] {
        let status = contracts_by(&client, "", &order_by).await.unwrap_err();
        refused::names(&status, &["order_by"]);
    }
}

/// Every List call with pages knows `filter` and tells the fields that it has.
#[tokio::test]
async fn every_list_has_a_filter() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    import(&client).await;
    let raw = Raw::connect(server.addr).await;
    let mut seen = 0;
    for method in raw::methods().filter(|m| m.input().get_field_by_name("page_token").is_some()) {
        let path = raw::path(&method);
        let ours = !path.starts_with("google.");
        let mut request = json!({"filter": "nothing = 1"});
        let mut fields = vec!["filter"];
        if ours {
            request["orderBy"] = "nothing".into();
            fields.push("order_by");
        }
        if method.input().get_field_by_name("parent").is_some() {
            request["parent"] = "x".into();
            fields.push("parent");
        }
        if method.input().oneofs().any(|of| of.name() == "source") {
            fields.push("criteria");
        }
        let status = raw.call(Some("linden"), &path, &request).await.unwrap_err();
        refused::names(&status, &fields);
        let told = violations(&status);
        assert!(
            told.iter().any(|(_, r)| r.contains("known are ")),
            "{path}: {told:?}"
        );
        seen += 1;
    }
    assert!(seen >= 15, "{seen}");
}

#[tokio::test]
async fn a_token_is_for_one_tenant_and_one_key() {
    let mut server = TestServer::start().await.unwrap();
    let linden = server.client("linden").await.unwrap();
    let esche = server.client("esche").await.unwrap();
    for client in [&linden, &esche] {
        import(client).await;
    }
    let page = async |client: &Client, token: &str| {
        let request = contracts::ListContractsRequest {
            page_size: 1,
            page_token: token.into(),
            order_by: "annual_quantity_kwh desc".into(),
            ..Default::default()
        };
        let listed = client.contracts().list_contracts(request).await?;
        Ok::<_, Status>(listed.into_inner())
    };
    let first = page(&linden, "").await.unwrap();
    assert_eq!(first.contracts[0].number, "V3");
    let token = first.next_page_token;
    let again = page(&linden, "").await.unwrap().next_page_token;
    assert_ne!(token, again, "sealed anew each time");
    let second = page(&linden, &token).await.unwrap();
    assert_eq!(second.contracts[0].number, "V4");

    let foreign = page(&esche, &token).await.unwrap_err();
    refused::is(&foreign, Code::InvalidArgument, "INVALID_ARGUMENT");
    refused::names(&foreign, &["page_token"]);
    let long = "A".repeat(1 << 20);
    for forged in [
        &token[..token.len() - 1],
        &long,
        "%%%",
        &token.to_lowercase(),
    ] {
        refused::names(&page(&linden, forged).await.unwrap_err(), &["page_token"]);
    }
    // Another server with the same key goes on where the first one was, one with another does not.
    let further = server.further().await.unwrap();
    let client = Client::connect(further.addr, "linden").await.unwrap();
    assert_eq!(
        page(&client, &token).await.unwrap().contracts[0].number,
        "V4"
    );
    let owner = server.database.connect().await.unwrap();
    let other = "UPDATE server_key SET key = sha256(key)";
    owner.execute(other, &[]).await.unwrap();
    server.restart().await.unwrap();
    let client = server.client("linden").await.unwrap();
    refused::names(&page(&client, &token).await.unwrap_err(), &["page_token"]);
}
