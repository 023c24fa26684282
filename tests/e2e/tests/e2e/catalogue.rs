//! Contracts, products and their versions, orders and brands over the API.

use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::contracts::v1 as contracts;
use anklang_proto::anklang::customers::v1::attribute_value::Value;
use anklang_proto::anklang::orders::v1 as orders;
use anklang_proto::anklang::products::v1 as products;
use anklang_proto::google::r#type::Money;
use anklang_testkit::TestServer;
use anyhow::Result;
use tonic::Code;

use crate::master_data::{at, attribute, brand, customer, date, eur, fields, put, put_brand};

#[tokio::test(flavor = "multi_thread")]
async fn contracts_know_their_customer_brand_and_product_version() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    put_brand(&client).await?;
    put(&client, customer("1")).await?;
    let product = products::Product {
        number: "T 1".into(),
        display_name: "Klassik".into(),
        division: "electricity".into(),
        brand: "brands/SW".into(),
        ..Default::default()
    };
    let request = products::UpdateProductRequest {
        product: Some(product),
        allow_missing: true,
        ..Default::default()
    };
    let product = client
        .products()
        .update_product(request)
        .await?
        .into_inner();
    let version = products::ProductVersion {
        name: format!("{}/versions/2025", product.name),
        code: "2025".into(),
        display_name: "Klassik 2025".into(),
        valid_from: date(2025, 1, 1),
        base_price_per_year: eur(120, 500_000_000),
        unit_price_per_kwh: eur(0, 324_900_000),
        ..Default::default()
    };
    let request = products::UpdateProductVersionRequest {
        product_version: Some(version.clone()),
        allow_missing: true,
        ..Default::default()
    };
    let stored = client
        .products()
        .update_product_version(request)
        .await?
        .into_inner();
    assert_eq!(
        (&stored.unit_price_per_kwh, &stored.name),
        (&version.unit_price_per_kwh, &version.name)
    );

    let contract = contracts::Contract {
        number: "K1".into(),
        customer: "customers/1".into(),
        brand: "brands/SW".into(),
        division: "electricity".into(),
        annual_quantity_kwh: "3200.50".into(),
        product_version: stored.name.clone(),
        items: vec![contracts::ContractItem {
            code: "METER".into(),
            quantity: "1".into(),
            ..Default::default()
        }],
        attributes: [("smart".to_owned(), attribute(Value::Flag(true)))].into(),
        ..Default::default()
    };
    let update = |contract: contracts::Contract| {
        let mut calls = client.contracts();
        async move {
            let request = contracts::UpdateContractRequest {
                contract: Some(contract),
                allow_missing: true,
                ..Default::default()
            };
            calls.update_contract(request).await.map(|r| r.into_inner())
        }
    };
    let stored = update(contract.clone()).await?;
    assert_eq!(
        (stored.annual_quantity_kwh.as_str(), &stored.product_version),
        ("3200.5", &contract.product_version)
    );
    assert_eq!((stored.items.len(), stored.attributes.len()), (1, 1));

    let unknown = contracts::Contract {
        customer: "customers/404".into(),
        product_version: "products/T%201/versions/1999".into(),
        ..contract.clone()
    };
    assert_eq!(
        fields(&update(unknown).await.unwrap_err()),
        ["contract.customer", "contract.product_version"]
    );
    let bad = contracts::Contract {
        brand: "brand/SW".into(),
        product_version: "products/T%201".into(),
        annual_quantity_kwh: "3.200,5".into(),
        items: vec![contracts::ContractItem::default()],
        start_date: date(2025, 2, 1),
        end_date: date(2025, 1, 1),
        ..contract
    };
    assert_eq!(
        fields(&update(bad).await.unwrap_err()),
        [
            "contract.items[0].code",
            "contract.product_version",
            "contract.brand",
            "contract.annual_quantity_kwh",
            "contract.end_date"
        ]
    );
    let list = |customer: &str| {
        let (mut calls, customer) = (client.contracts(), customer.to_owned());
        async move {
            let request = contracts::ListContractsRequest {
                customer,
                ..Default::default()
            };
            calls
                .list_contracts(request)
                .await
                .map(|r| r.into_inner().contracts)
        }
    };
    assert_eq!(list("customers/1").await?, [stored]);
    assert_eq!(list("customers/2").await?, []);
    assert_eq!(fields(&list("1").await.unwrap_err()), ["customer"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn products_and_versions_are_checked_and_listed() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    put_brand(&client).await?;
    let csv = "number,name,division,brand_code\nA,a,gas,SW\nB,b,gas,SW\n";
    client
        .import(
            anklang_proto::anklang::imports::v1::ImportEntity::Products,
            csv,
        )
        .await?;
    let version = |name: &str| products::ProductVersion {
        name: name.into(),
        code: name.rsplit('/').next().unwrap().into(),
        display_name: "v".into(),
        valid_from: date(2025, 1, 1),
        base_price_per_year: eur(1, 0),
        unit_price_per_kwh: eur(0, 1_000),
        ..Default::default()
    };
    let update = |version: products::ProductVersion| {
        let mut calls = client.products();
        async move {
            let request = products::UpdateProductVersionRequest {
                product_version: Some(version),
                allow_missing: true,
                ..Default::default()
            };
            calls
                .update_product_version(request)
                .await
                .map(|r| r.into_inner())
        }
    };
    for name in [
        "products/B/versions/1",
        "products/A/versions/2",
        "products/A/versions/1",
    ] {
        update(version(name)).await?;
    }
    let status = update(version("products/C/versions/1")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "products/C does not exist")
    );
    let bad = products::ProductVersion {
        code: "other".into(),
        valid_to: date(2024, 12, 31),
        base_price_per_year: eur(-1, 0),
        unit_price_per_kwh: Some(Money {
            currency_code: "USD".into(),
            units: 0,
            nanos: 1,
        }),
        ..version("products/A/versions/1")
    };
    let mut found = fields(&update(bad).await.unwrap_err());
    found.sort();
    assert_eq!(
        found,
        [
            "product_version.base_price_per_year",
            "product_version.code",
            "product_version.unit_price_per_kwh",
            "product_version.unit_price_per_kwh.currency_code",
            "product_version.valid_to",
        ]
    );
    let mut request = products::ListProductVersionsRequest {
        parent: "products/-".into(),
        page_size: 2,
        ..Default::default()
    };
    let page = client
        .products()
        .list_product_versions(request.clone())
        .await?
        .into_inner();
    let names = |page: &products::ListProductVersionsResponse| {
        page.product_versions
            .iter()
            .map(|v| v.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&page),
        ["products/A/versions/1", "products/A/versions/2"]
    );
    request.page_token = page.next_page_token;
    let page = client
        .products()
        .list_product_versions(request.clone())
        .await?
        .into_inner();
    assert_eq!(
        (names(&page), page.next_page_token.as_str()),
        (vec!["products/B/versions/1".to_owned()], "")
    );
    request.parent = "products/A".into();
    let status = client
        .products()
        .list_product_versions(request.clone())
        .await
        .unwrap_err();
    assert_eq!(fields(&status), ["page_token"], "a token of another list");
    request.parent = "products/404".into();
    request.page_token = String::new();
    assert_eq!(
        client
            .products()
            .list_product_versions(request)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_add_up() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    put(&client, customer("1")).await?;
    let line = |line: i32, quantity: &str, price: Option<Money>| orders::OrderLine {
        line,
        quantity: quantity.into(),
        unit_price: price,
        ..Default::default()
    };
    let order = orders::Order {
        number: "O1".into(),
        customer: "customers/1".into(),
        order_time: at(1_700_000_000),
        currency_code: "EUR".into(),
        lines: vec![
            line(2, "-1", eur(1, 5_000_000)),
            line(1, "2.5", eur(9, 990_000_000)),
        ],
        ..Default::default()
    };
    let update = |order: orders::Order| {
        let mut calls = client.orders();
        async move {
            let request = orders::UpdateOrderRequest {
                order: Some(order),
                allow_missing: true,
                ..Default::default()
            };
            calls.update_order(request).await.map(|r| r.into_inner())
        }
    };
    let stored = update(order.clone()).await?;
    // 2.5 × 9.99 − 1.005 = 23.97.
    assert_eq!(stored.total, eur(23, 970_000_000));
    assert_eq!(
        stored.lines.iter().map(|l| l.line).collect::<Vec<_>>(),
        [1, 2]
    );
    let one = update(orders::Order {
        lines: vec![line(1, "1", eur(1, 0))],
        ..order.clone()
    })
    .await?;
    assert_eq!((one.total, one.lines.len()), (eur(1, 0), 1));

    let bad = orders::Order {
        currency_code: "EURO".into(),
        lines: vec![
            line(0, "", None),
            line(1, "1", eur(1, 0)),
            line(1, "1", eur(1, 0)),
        ],
        ..order.clone()
    };
    assert_eq!(
        fields(&update(bad).await.unwrap_err()),
        [
            "order.lines[0].line",
            "order.lines[0].quantity",
            "order.lines[0].unit_price",
            "order.lines[1].unit_price.currency_code",
            "order.lines[2].unit_price.currency_code",
            "order.currency_code",
            "order.currency_code",
        ]
    );
    let twice = orders::Order {
        lines: vec![line(1, "1", eur(1, 0)), line(1, "2", eur(1, 0))],
        ..order
    };
    assert_eq!(
        fields(&update(twice).await.unwrap_err()),
        ["order.lines[1]"]
    );
    let list = orders::ListOrdersRequest {
        customer: "customers/1".into(),
        ..Default::default()
    };
    assert_eq!(
        client
            .orders()
            .list_orders(list)
            .await?
            .into_inner()
            .orders
            .len(),
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brands_are_replaced_and_listed_page_by_page() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let stored = put_brand(&client).await?;
    assert_eq!(
        (
            stored.name.as_str(),
            stored.sender_email.as_str(),
            stored.country.as_str()
        ),
        ("brands/SW", "Info@stadtwerke.example.de", "DE")
    );
    let request = brands::UpdateBrandRequest {
        brand: Some(brands::Brand {
            city: "Gießen".into(),
            ..brand()
        }),
        allow_missing: false,
        ..Default::default()
    };
    assert_eq!(
        client
            .brands()
            .update_brand(request)
            .await?
            .into_inner()
            .city,
        "Gießen"
    );
    let bad = brands::Brand {
        code: String::new(),
        display_name: "a\r\nBcc: x@y.de".into(),
        sender_email: "a".into(),
        reply_to: "b".into(),
        ..brand()
    };
    let request = brands::UpdateBrandRequest {
        brand: Some(bad),
        allow_missing: true,
        ..Default::default()
    };
    let mut found = fields(&client.brands().update_brand(request).await.unwrap_err());
    found.sort();
    assert_eq!(
        found,
        [
            "brand.code",
            "brand.display_name",
            "brand.reply_to",
            "brand.sender_email"
        ]
    );

    let mut csv = "code,name,sender_email\n".to_owned();
    for i in 0..5 {
        csv += &format!("B{i},Brand {i},x@b{i}.example.de\n");
    }
    client
        .import(
            anklang_proto::anklang::imports::v1::ImportEntity::Brands,
            csv,
        )
        .await?;
    let (mut codes, mut token) = (Vec::new(), String::new());
    loop {
        let request = brands::ListBrandsRequest {
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let page = client.brands().list_brands(request).await?.into_inner();
        codes.extend(page.brands.into_iter().map(|b| b.code));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(codes, ["B0", "B1", "B2", "B3", "B4", "SW"]);
    for (name, code) in [
        ("brands/none", Code::NotFound),
        ("brand/SW", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let request = brands::GetBrandRequest { name: name.into() };
        assert_eq!(
            client.brands().get_brand(request).await.unwrap_err().code(),
            code,
            "{name}"
        );
    }
    Ok(())
}
