//! Single updates, lists and names of master data.

use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::customers::v1::attribute_value::Value;
use anklang_proto::anklang::orders::v1 as orders;
use anklang_proto::google::r#type::{Date, Money};
use anklang_testkit::{Client, TestServer, reason, violations};
use anyhow::Result;
use prost_types::Timestamp;
use tonic::Code;

pub const fn date(year: i32, month: i32, day: i32) -> Option<Date> {
    Some(Date { year, month, day })
}

pub fn eur(units: i64, nanos: i32) -> Option<Money> {
    Some(Money {
        currency_code: "EUR".into(),
        units,
        nanos,
    })
}

pub const fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

pub fn fields(status: &tonic::Status) -> Vec<String> {
    violations(status)
        .into_iter()
        .map(|(field, _)| field)
        .collect()
}

pub fn brand() -> brands::Brand {
    brands::Brand {
        code: "SW".into(),
        display_name: "Stadtwerke".into(),
        sender_email: "Info@Stadtwerke.Example.de".into(),
        ..Default::default()
    }
}

pub async fn put_brand(client: &Client) -> Result<brands::Brand, tonic::Status> {
    let request = brands::UpdateBrandRequest {
        brand: Some(brand()),
        allow_missing: true,
        ..Default::default()
    };
    Ok(client.brands().update_brand(request).await?.into_inner())
}

pub fn customer(number: &str) -> customers::Customer {
    customers::Customer {
        number: number.into(),
        kind: customers::CustomerKind::Person.into(),
        last_name: "Müller".into(),
        ..Default::default()
    }
}

pub async fn put(
    client: &Client,
    customer: customers::Customer,
) -> Result<customers::Customer, tonic::Status> {
    let request = customers::UpdateCustomerRequest {
        customer: Some(customer),
        allow_missing: true,
        ..Default::default()
    };
    Ok(client
        .customers()
        .update_customer(request)
        .await?
        .into_inner())
}

fn point(channel: &str, address: &str) -> customers::ContactPoint {
    customers::ContactPoint {
        channel: channel.into(),
        address: address.into(),
    }
}

fn consent(channel: &str, state: customers::ConsentState, seconds: i64) -> customers::Consent {
    customers::Consent {
        channel: channel.into(),
        purpose: "marketing".into(),
        state: state.into(),
        record_time: at(seconds),
        ..Default::default()
    }
}

pub fn attribute(value: Value) -> customers::AttributeValue {
    customers::AttributeValue { value: Some(value) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_replaced_with_all_that_belongs_to_it() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let full = customers::Customer {
        country: "AT".into(),
        contact_points: vec![
            point("mail", "b@Example.de"),
            point("mail", "a@example.de"),
            point("phone", "01 5134567"),
        ],
        consents: vec![consent("mail", customers::ConsentState::Granted, 1_000)],
        attributes: [
            ("score".to_owned(), attribute(Value::Number("12.50".into()))),
            (
                "since".to_owned(),
                attribute(Value::Date(date(2020, 2, 29).unwrap())),
            ),
        ]
        .into(),
        ..customer("4711 / a")
    };
    let missing = customers::UpdateCustomerRequest {
        customer: Some(full.clone()),
        allow_missing: false,
        ..Default::default()
    };
    let status = client
        .customers()
        .update_customer(missing)
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "NOT_FOUND")
    );

    let stored = put(&client, full.clone()).await?;
    assert_eq!(stored.name, "customers/4711%20%2F%20a");
    let addresses: Vec<_> = stored
        .contact_points
        .iter()
        .map(|p| p.address.as_str())
        .collect();
    assert_eq!(
        addresses,
        ["b@example.de", "a@example.de", "+4315134567"],
        "the order given; a phone of Austria"
    );
    assert_eq!(
        stored.attributes["score"],
        attribute(Value::Number("12.5".into()))
    );
    assert_eq!(
        put(&client, stored.clone()).await?,
        stored,
        "the same again changes nothing"
    );

    let smaller = customers::Customer {
        contact_points: vec![point("mail", "a@example.de")],
        consents: vec![],
        attributes: [(
            "since".to_owned(),
            attribute(Value::Date(date(2021, 1, 1).unwrap())),
        )]
        .into(),
        ..full
    };
    let stored = put(&client, smaller).await?;
    assert_eq!(
        (
            stored.contact_points.len(),
            stored.consents.len(),
            stored.attributes.len()
        ),
        (1, 0, 1)
    );
    assert!(stored.update_time != stored.create_time);
    let events = client
        .customers()
        .list_customer_events(customers::ListCustomerEventsRequest {
            parent: stored.name,
            page_size: 1,
            ..Default::default()
        })
        .await?
        .into_inner();
    assert_eq!(events.customer_events[0].kind, "consent.removed");
    let next = customers::ListCustomerEventsRequest {
        parent: "customers/4711%20%2F%20a".into(),
        page_size: 1,
        page_token: events.next_page_token,
        ..Default::default()
    };
    let events = client
        .customers()
        .list_customer_events(next)
        .await?
        .into_inner();
    assert_eq!(events.customer_events[0].kind, "consent.granted");
    assert_eq!(
        (
            events.customer_events[0].event_time,
            events.next_page_token.as_str()
        ),
        (at(1_000), "")
    );
    Ok(())
}

/// A CRM that does not know of a withdrawal neither takes it back nor opens the way for an old list.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_outlives_an_update_that_leaves_it_out() -> Result<()> {
    use customers::ConsentState::{Granted, Withdrawn};
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let with = |consents| customers::Customer {
        consents,
        ..customer("1")
    };
    let withdrawn = consent("mail", Withdrawn, 2_000);
    put(
        &client,
        with(vec![withdrawn.clone(), consent("sms", Granted, 1_000)]),
    )
    .await?;
    assert_eq!(
        put(&client, with(vec![])).await?.consents,
        std::slice::from_ref(&withdrawn)
    );
    let older = with(vec![consent("mail", Granted, 1_000)]);
    assert_eq!(put(&client, older).await?.consents, [withdrawn]);
    let newer = consent("mail", Granted, 3_000);
    assert_eq!(
        put(&client, with(vec![newer.clone()])).await?.consents,
        [newer]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_refused_with_all_that_is_wrong() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let bad = customers::Customer {
        name: "customers/other".into(),
        number: "1".into(),
        kind: 0,
        salutation: 99,
        birth_date: date(2025, 2, 30),
        time_zone: "Mars/Olympus".into(),
        contact_points: vec![
            point("mail", "nobody"),
            point("", "x"),
            point("phone", "12"),
        ],
        consents: vec![consent(
            "mail",
            customers::ConsentState::Unspecified,
            i64::MAX,
        )],
        attributes: [
            ("Bad Key".to_owned(), attribute(Value::Number("1,5".into()))),
            ("none".to_owned(), customers::AttributeValue::default()),
        ]
        .into(),
        ..Default::default()
    };
    let status = put(&client, bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut found = fields(&status);
    found.sort();
    assert_eq!(
        found,
        [
            "customer.attributes[\"Bad Key\"].key",
            "customer.attributes[\"Bad Key\"].value",
            "customer.attributes[\"none\"].value",
            "customer.birth_date",
            "customer.consents[0].record_time",
            "customer.consents[0].state",
            "customer.contact_points[0].address",
            "customer.contact_points[1].channel",
            "customer.contact_points[2].address",
            "customer.kind",
            "customer.name",
            "customer.salutation",
            "customer.time_zone",
        ]
    );
    let twice = customers::Customer {
        contact_points: vec![point("mail", "a@B.de"), point("mail", "a@b.de")],
        ..customer("1")
    };
    let status = put(&client, twice).await.unwrap_err();
    assert_eq!(
        violations(&status),
        [(
            "customer.contact_points[1]".to_owned(),
            "repeats contact_points[0]".to_owned()
        )]
    );
    let many = customers::Customer {
        contact_points: (0..51)
            .map(|i| point("mail", &format!("a{i}@b.de")))
            .collect(),
        ..customer("1")
    };
    assert_eq!(
        fields(&put(&client, many).await.unwrap_err()),
        ["customer.contact_points"]
    );

    put(
        &client,
        customers::Customer {
            attributes: [("k".to_owned(), attribute(Value::Flag(true)))].into(),
            ..customer("1")
        },
    )
    .await?;
    let other = customers::Customer {
        attributes: [("k".to_owned(), attribute(Value::Text("yes".into())))].into(),
        last_name: "New".into(),
        ..customer("1")
    };
    let status = put(&client, other).await.unwrap_err();
    assert_eq!(fields(&status), ["customer.attributes[\"k\"]"]);
    let get = customers::GetCustomerRequest {
        name: "customers/1".into(),
    };
    let stored = client.customers().get_customer(get).await?.into_inner();
    assert_eq!(
        stored.last_name, "Müller",
        "a refused update changes nothing at all"
    );
    let status = client
        .customers()
        .update_customer(customers::UpdateCustomerRequest::default())
        .await
        .unwrap_err();
    assert_eq!(fields(&status), ["customer"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_other() -> Result<()> {
    let server = TestServer::start().await?;
    let (acme, other) = (server.client("acme").await?, server.client("other").await?);
    put_brand(&acme).await?;
    put(&acme, customer("1")).await?;
    let get = customers::GetCustomerRequest {
        name: "customers/1".into(),
    };
    assert_eq!(
        other
            .customers()
            .get_customer(get)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let list = other
        .customers()
        .list_customers(customers::ListCustomersRequest::default())
        .await?;
    assert_eq!(list.into_inner().customers, []);
    let order = orders::UpdateOrderRequest {
        order: Some(orders::Order {
            number: "O1".into(),
            customer: "customers/1".into(),
            brand: "brands/SW".into(),
            order_time: at(0),
            currency_code: "EUR".into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let status = other
        .orders()
        .update_order(order.clone())
        .await
        .unwrap_err();
    assert_eq!(fields(&status), ["order.customer", "order.brand"]);
    assert_eq!(
        acme.orders().update_order(order).await?.into_inner().total,
        eur(0, 0)
    );

    let block = |client: &Client| {
        let mut calls = client.customers();
        async move {
            let get = customers::GetSuppressionRequest {
                channel: "mail".into(),
                address: "a@b.de".into(),
            };
            calls.get_suppression(get).await.map(|r| r.into_inner())
        }
    };
    let suppression = customers::Suppression {
        channel: "mail".into(),
        address: " a@B.DE ".into(),
        reason: "asked".into(),
        create_time: None,
        ..Default::default()
    };
    let create = customers::CreateSuppressionRequest {
        suppression: Some(suppression),
        ..Default::default()
    };
    let made = acme
        .customers()
        .create_suppression(create.clone())
        .await?
        .into_inner();
    assert_eq!(
        (made.address.as_str(), made.reason.as_str()),
        ("", "asked"),
        "the address is never returned"
    );
    assert_eq!(
        acme.customers()
            .create_suppression(create)
            .await?
            .into_inner(),
        made
    );
    assert_eq!(block(&acme).await?, made);
    assert_eq!(block(&other).await.unwrap_err().code(), Code::NotFound);
    let lift = customers::DeleteSuppressionRequest {
        channel: "mail".into(),
        address: "a@b.de".into(),
        ..Default::default()
    };
    acme.customers().delete_suppression(lift.clone()).await?;
    let status = acme.customers().delete_suppression(lift).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(!status.message().contains("a@b.de"), "{}", status.message());
    let bad = customers::GetSuppressionRequest {
        channel: String::new(),
        address: "?".into(),
    };
    let status = acme.customers().get_suppression(bad).await.unwrap_err();
    assert_eq!(fields(&status), ["channel"]);
    Ok(())
}
