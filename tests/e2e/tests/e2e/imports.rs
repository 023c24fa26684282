//! Bulk imports: what comes in, what is refused and why, what stays.

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::{ImportEntity, ImportHeader, ImportResponse};
use anklang_testkit::{Client, TestServer, reason, violations};
use anyhow::Result;

/// Created, updated, unchanged, failed; they add up to the rows.
pub fn sums(response: &ImportResponse) -> [i64; 4] {
    let sums = [
        response.created,
        response.updated,
        response.unchanged,
        response.failed,
    ];
    assert_eq!(response.rows, sums.iter().sum::<i64>(), "{response:?}");
    assert!(response.done);
    sums
}

/// Lines and fields of the bad rows.
pub fn faults(response: &ImportResponse) -> Vec<(i64, &str)> {
    response
        .errors
        .iter()
        .map(|e| (e.line, e.field.as_str()))
        .collect()
}

/// A file of each entity, each row good.
pub const FILES: [(ImportEntity, &str); 12] = [
    (
        ImportEntity::Brands,
        "code,name,sender_email\nSW,Stadtwerke,info@stadtwerke.example.de\nB2,Grün,x@gruen.example.de\n",
    ),
    (
        ImportEntity::Products,
        "number,name,division,brand_code\nT1,Klassik,electricity,SW\nT2,Gas,gas,SW\n",
    ),
    (
        ImportEntity::ProductVersions,
        "product_number,code,name,valid_from,valid_to,base_price_per_year,unit_price_per_kwh,currency\nT1,2025,Klassik 2025,2025-01-01,2025-12-31,120.50,0.3249,EUR\nT1,2026,Klassik 2026,2026-01-01,,130,0.34,EUR\n",
    ),
    (
        ImportEntity::Customers,
        "number,kind,first_name,last_name,company_name,birth_date,city\n1,person,Erika,Müller,,1980-02-29,Gießen\n2,company,,,Bäckerei & Söhne,,Wetzlar\n",
    ),
    (
        ImportEntity::ContactPoints,
        "customer_number,channel,address,position\n1,mail,Erika@Example.DE,1\n1,mobile,0171 39200 00,1\n2,mail,info@bäckerei.example.de,1\n",
    ),
    (
        ImportEntity::Consents,
        "customer_number,channel,purpose,state,recorded_at,source,evidence\n1,mail,marketing,granted,2025-05-01T10:00:00+02:00,web form,\"line one\nline two\"\n2,mail,marketing,withdrawn,2025-05-01T10:00:00Z,call,\n",
    ),
    (
        ImportEntity::Suppressions,
        "channel,address,reason\nmail,Gone@Example.de,bounced\n",
    ),
    (
        ImportEntity::Contracts,
        "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,product_number,product_version_code,start_date\nK1,1,SW,electricity,AU,3200.5,T1,2025,2024-01-01\nK2,2,B2,gas,AB,,,,\n",
    ),
    (
        ImportEntity::ContractItems,
        "contract_number,code,name,quantity\nK1,METER,Zähler,1\nK1,GLASS,Glas,\n",
    ),
    (
        ImportEntity::Orders,
        "number,customer_number,ordered_at,currency,brand_code\nO1,1,2025-11-02T08:00:00Z,EUR,SW\nO2,2,2025-11-03T08:00:00Z,EUR,\n",
    ),
    (
        ImportEntity::OrderLines,
        "order_number,line,quantity,unit_price,product_group\nO1,1,2,9.995,Obst\nO1,2,-1,1.005,Obst\n",
    ),
    (
        ImportEntity::Attributes,
        "entity,number,key,type,value\ncustomer,1,score,number,12.5\ncustomer,1,vip,bool,true\ncontract,K1,meter_date,date,2025-01-02\n",
    ),
];

async fn import_all(client: &Client) -> Result<Vec<ImportResponse>> {
    let mut all = Vec::new();
    for (entity, csv) in FILES {
        all.push(client.import(entity, csv).await?);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn importing_twice_changes_nothing() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    for (response, (entity, csv)) in import_all(&client).await?.iter().zip(FILES) {
        assert_eq!(response.errors, [], "{entity:?}");
        assert_eq!(sums(response), [response.rows, 0, 0, 0], "{entity:?} {csv}");
    }
    let stamps =
        "SELECT string_agg(updated_at::text || xmin::text, ',' ORDER BY number) FROM customer";
    let before = server.database.one(stamps).await?;
    for (response, (entity, _)) in import_all(&client).await?.iter().zip(FILES) {
        assert_eq!(sums(response), [0, 0, response.rows, 0], "{entity:?}");
    }
    assert_eq!(
        server.database.one(stamps).await?,
        before,
        "no row was written again"
    );

    let moved = FILES[3].1.replace("Wetzlar", "Marburg");
    let response = client.import(ImportEntity::Customers, moved).await?;
    assert_eq!(sums(&response), [0, 1, 1, 0]);

    let get = customers::GetCustomerRequest {
        name: "customers/1".into(),
    };
    let customer = client.customers().get_customer(get).await?.into_inner();
    let points: Vec<_> = customer
        .contact_points
        .iter()
        .map(|p| p.address.as_str())
        .collect();
    assert_eq!(points, ["Erika@example.de", "+491713920000"]);
    assert_eq!(customer.consents[0].evidence, "line one\nline two");
    assert_eq!(customer.attributes.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_told_by_line_and_good_ones_stay() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let mut csv = b"\xef\xbb\xbfnumber;kind;last_name;birth_date\r\n".to_vec();
    csv.extend(b"1;person;M\xc3\xbcller;1980-01-31\r\n"); // 2
    csv.extend(b"2;person;M\xfcller;\r\n"); // 3: Latin-1
    csv.extend(b"3;human;;31.01.1980\r\n"); // 4: two faults
    csv.extend(b"\r\n"); // 5: empty
    csv.extend(b"4;person;\"two\r\nlines\";\r\n"); // 6 and 7
    csv.extend(b"5;person;few\r\n"); // 8
    csv.extend(b"6;person;many;;;\r\n"); // 9
    csv.extend(b"1;person;again;\r\n"); // 10
    csv.extend(b"7;person;\"Good; \"\"quoted\"\"\";2000-02-29"); // 11, without a line break
    let header = ImportHeader {
        entity: ImportEntity::Customers.into(),
        delimiter: ";".into(),
        ..Default::default()
    };
    let response = client.import_with(header, csv).await?;
    assert_eq!(sums(&response), [2, 0, 0, 6]);
    assert_eq!(
        faults(&response),
        [
            (3, "last_name"),
            (4, "kind"),
            (4, "birth_date"),
            (6, "last_name"),
            (8, ""),
            (9, ""),
            (10, "")
        ]
    );
    let why = |line| {
        response
            .errors
            .iter()
            .find(|e| e.line == line)
            .unwrap()
            .reason
            .as_str()
    };
    assert!(why(3).contains("UTF-8 (at byte 2"), "{}", why(3));
    assert!(why(6).contains("line breaks"));
    assert!(why(8).contains("3 values") && why(9).contains("6 values"));
    assert_eq!(why(10), "repeats line 2");

    let request = customers::ListCustomersRequest::default();
    let list = client
        .customers()
        .list_customers(request)
        .await?
        .into_inner();
    let names: Vec<_> = list.customers.into_iter().map(|c| c.last_name).collect();
    assert_eq!(names, ["Müller", "Good; \"quoted\""]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_header_is_refused_as_a_whole() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let refused = |csv: &'static str| {
        let client = client.clone();
        async move {
            let status = client
                .import(ImportEntity::Products, csv)
                .await
                .unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert_eq!(reason(&status), "INVALID_ARGUMENT");
            violations(&status)
                .into_iter()
                .map(|(_, why)| why)
                .collect::<Vec<_>>()
        }
    };
    let all = refused("number,name,colour,name,DIVISION\n1,2,3,4,5\n").await;
    let has = |text: &str| assert!(all.iter().any(|why| why.contains(text)), "{text}: {all:?}");
    has("\"colour\" is not known");
    has("\"name\" is there twice");
    has("\"DIVISION\" is not known");
    has("\"division\" is missing");
    has("\"brand_code\" is missing");
    assert_eq!(all.len(), 5);

    let all = refused("number;name;division;brand_code\n").await;
    assert!(all[0].contains("delimiter"), "{all:?}");
    assert!(refused("").await[0].contains("empty"));
    assert!(refused("\u{feff}").await[0].contains("empty"));
    let header = ImportHeader {
        entity: ImportEntity::Products.into(),
        delimiter: "ab".into(),
        ..Default::default()
    };
    let status = client.import_with(header, "").await.unwrap_err();
    assert_eq!(violations(&status)[0].0, "header.delimiter");
    let status = client
        .import(ImportEntity::Unspecified, "a")
        .await
        .unwrap_err();
    assert_eq!(violations(&status)[0].0, "header.entity");
    let open = format!(
        "number,name,division,brand_code\n1,\"{}",
        "x,y\n".repeat(400_000)
    );
    let status = client
        .import(ImportEntity::Products, open)
        .await
        .unwrap_err();
    assert!(status.message().contains("line 2"), "{}", status.message());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rows_refer_to_must_be_there_in_the_same_tenant() -> Result<()> {
    let server = TestServer::start().await?;
    let (acme, other) = (server.client("acme").await?, server.client("other").await?);
    import_all(&acme).await?;
    for (entity, csv) in &FILES[1..] {
        let response = other.import(*entity, *csv).await?;
        match entity {
            ImportEntity::Customers | ImportEntity::Suppressions => {}
            _ => assert_eq!(sums(&response)[..3], [0, 0, 0], "{entity:?}"),
        }
        if *entity == ImportEntity::Customers {
            // Were they there, contracts would still miss their brand.
            server.database.connect().await?.execute(
                "DELETE FROM customer WHERE tenant_id = (SELECT id FROM tenant WHERE slug = 'other')",
                &[],
            ).await?;
        }
    }
    let csv = "number,customer_number,brand_code,division,product_number,product_version_code\n\
               K7,404,NO,gas,,\nK8,1,SW,gas,T1,1999\nK9,1,SW,gas,T9,2025\nK10,1,SW,gas,T1,2026\nK11,1,SW,gas,T1,\n";
    let response = acme.import(ImportEntity::Contracts, csv).await?;
    assert_eq!(sums(&response), [1, 0, 0, 4]);
    assert_eq!(
        faults(&response),
        [
            (2, "customer_number"),
            (2, "brand_code"),
            (3, "product_version_code"),
            (4, "product_number"),
            (6, "product_version_code")
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_data_and_nothing_else() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let evil = [
        "'; DROP TABLE customer; --",
        "$1 || \\ %s {0}",
        "../../etc/passwd",
        "a/b?c#d e%20",
        "=cmd()|'x'",
        "\u{202e}txt",
    ];
    let mut csv = "number,kind,last_name\n".to_owned();
    for text in evil {
        csv += &format!("\"{text}\",person,\"{text}\"\n");
    }
    let response = client.import(ImportEntity::Customers, csv).await?;
    assert_eq!(sums(&response), [6, 0, 0, 0]);
    let list = client
        .customers()
        .list_customers(customers::ListCustomersRequest::default())
        .await?;
    for customer in list.into_inner().customers {
        assert!(evil.contains(&&*customer.number) && customer.last_name == customer.number);
        assert_eq!(customer.name.matches('/').count(), 1, "{}", customer.name);
        let get = customers::GetCustomerRequest {
            name: customer.name.clone(),
        };
        assert_eq!(
            client.customers().get_customer(get).await?.into_inner(),
            customer
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_come_in_chunks_and_every_fault_is_told() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let mut csv = "number,kind,last_name\n".to_owned();
    for i in 1..=25_000 {
        let kind = if i % 10 == 0 { "robot" } else { "person" };
        csv += &format!("{i},{kind},Name {i}\n");
    }
    csv += "1,person,Again\n";
    let response = client.import(ImportEntity::Customers, csv.clone()).await?;
    assert_eq!(sums(&response), [22_500, 0, 0, 2_501]);
    assert_eq!(response.errors.len(), 2_501);
    let last = response.errors.last().unwrap();
    assert_eq!(
        (last.line, last.reason.as_str()),
        (25_002, "repeats line 2")
    );

    let reversed: Vec<&str> = csv.lines().skip(1).take(20_000).collect();
    let reversed: String = reversed.iter().rev().map(|l| format!("{l}!\n")).collect();
    let reversed = format!("number,kind,last_name\n{reversed}");
    let forward = csv.replace("Name", "Other");
    let (a, b) = tokio::join!(
        client.import(ImportEntity::Customers, reversed),
        client.import(ImportEntity::Customers, forward),
    );
    assert_eq!(
        (a?.failed, b?.failed),
        (2_000, 2_501),
        "two imports at once do not get into each other's way"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_changes_nothing() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let header = ImportHeader {
        entity: ImportEntity::Brands.into(),
        validate_only: true,
        ..Default::default()
    };
    let response = client.import_with(header, FILES[0].1).await?;
    assert_eq!(sums(&response), [2, 0, 0, 0]);
    assert_eq!(
        server.database.one("SELECT count(*) FROM brand").await?,
        "0"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_not_there_stay_as_they_are() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import_all(&client).await?;
    let csv = "number,kind,last_name,customer_group\n1,person,Schmidt,A\n2,company,,A\n";
    let response = client.import(ImportEntity::Customers, csv).await?;
    assert_eq!(
        faults(&response),
        [(3, "company_name")],
        "a row must agree with itself"
    );
    let get = customers::GetCustomerRequest {
        name: "customers/1".into(),
    };
    let customer = client.customers().get_customer(get).await?.into_inner();
    assert_eq!(
        (&*customer.last_name, &*customer.first_name, &*customer.city),
        ("Schmidt", "Erika", "Gießen")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_consent_does_not_undo_a_newer_one() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import_all(&client).await?;
    let row = |state: &str, at: &str| {
        format!(
            "customer_number,channel,purpose,state,recorded_at\n1,mail,marketing,{state},{at}\n"
        )
    };
    for (state, at, expected) in [
        ("withdrawn", "2025-06-01T00:00:00Z", [0, 1, 0, 0]),
        ("granted", "2025-05-31T00:00:00Z", [0, 0, 1, 0]),
        ("granted", "2025-06-01 00:00", [0, 0, 0, 1]),
    ] {
        let response = client
            .import(ImportEntity::Consents, row(state, at))
            .await?;
        assert_eq!(sums(&response), expected, "{state} {at}");
    }
    let list = customers::ListCustomerEventsRequest {
        parent: "customers/1".into(),
        ..Default::default()
    };
    let events = client
        .customers()
        .list_customer_events(list)
        .await?
        .into_inner()
        .customer_events;
    let kinds: Vec<_> = events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["consent.withdrawn", "consent.granted"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_value_of_an_attribute_fixes_its_type() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import_all(&client).await?;
    let csv = "entity,number,key,type,value\n\
               customer,404,colour,number,1\n\
               customer,1,colour,text,red\n\
               customer,2,colour,number,1\n\
               contract,K1,colour,number,1\n\
               customer,2,score,text,high\n";
    let response = client.import(ImportEntity::Attributes, csv).await?;
    assert_eq!(sums(&response), [2, 0, 0, 3]);
    assert_eq!(faults(&response), [(2, "number"), (4, "type"), (6, "type")]);
    assert_eq!(
        response.errors[1].reason,
        "is number, but the values of this key are text"
    );
    Ok(())
}
