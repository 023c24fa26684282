//! Selections as clients use them: what they find, what is refused, how they are kept.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::selections::v1 as pb;
use anklang_proto::google::r#type::Date;
use anklang_testkit::{Client, TestServer, reason, violations};
use anyhow::Result;
use chrono::{Datelike, Days, Utc};
use pb::criteria::Node;
use pb::preview_selection_request::Source;
use pb::value::Value;
use pb::{Operator, Quantifier, Subject};
use tonic::{Code, Status};

fn node(node: Node) -> pb::Criteria {
    pb::Criteria { node: Some(node) }
}

pub fn all(criteria: Vec<pb::Criteria>) -> pb::Criteria {
    node(Node::All(pb::CriteriaList { criteria }))
}

pub fn not(criteria: pb::Criteria) -> pb::Criteria {
    node(Node::Not(Box::new(criteria)))
}

pub fn compare(field: &str, operator: Operator, values: Vec<Value>) -> pb::Criteria {
    node(Node::Compare(pb::Compare {
        field: field.into(),
        operator: operator.into(),
        values: values
            .into_iter()
            .map(|v| pb::Value { value: Some(v) })
            .collect(),
    }))
}

pub fn texts(values: &[&str]) -> Vec<Value> {
    values.iter().map(|v| Value::Text((*v).into())).collect()
}

pub fn equal(field: &str, value: &str) -> pb::Criteria {
    compare(field, Operator::Equal, texts(&[value]))
}

pub fn related(relation: &str, quantifier: Quantifier, criteria: pb::Criteria) -> pb::Criteria {
    node(Node::Related(Box::new(pb::Related {
        relation: relation.into(),
        quantifier: quantifier.into(),
        count: None,
        criteria: Some(Box::new(criteria)),
    })))
}

pub fn selection(subject: Subject, criteria: pb::Criteria) -> pb::Selection {
    pb::Selection {
        display_name: "Auswahl".into(),
        subject: subject.into(),
        criteria: Some(criteria),
        ..Default::default()
    }
}

pub async fn create(
    client: &Client,
    selection: pb::Selection,
    request_id: &str,
) -> Result<pb::Selection, Status> {
    let request = pb::CreateSelectionRequest {
        selection: Some(selection),
        request_id: request_id.into(),
        ..Default::default()
    };
    Ok(client
        .selections()
        .create_selection(request)
        .await?
        .into_inner())
}

pub async fn preview(
    client: &Client,
    source: Source,
    sample_size: i32,
) -> Result<pb::PreviewSelectionResponse, Status> {
    let request = pb::PreviewSelectionRequest {
        source: Some(source),
        sample_size,
        ..Default::default()
    };
    Ok(client
        .selections()
        .preview_selection(request)
        .await?
        .into_inner())
}

/// Names of what criteria find.
async fn found(client: &Client, subject: Subject, criteria: pb::Criteria) -> Result<Vec<String>> {
    let given = pb::AdHocCriteria {
        subject: subject.into(),
        criteria: Some(criteria),
    };
    let preview = preview(client, Source::Criteria(given), 100).await?;
    let names: Vec<String> = preview
        .sample
        .into_iter()
        .map(|row| {
            if row.contract.is_empty() {
                row.customer
            } else {
                row.contract
            }
        })
        .collect();
    assert_eq!(usize::try_from(preview.count)?, names.len());
    Ok(names)
}

/// Customers 1 to 4 with contracts and orders.
pub async fn import(client: &Client) -> Result<()> {
    let ordered = |days| {
        Utc::now()
            .checked_sub_days(Days::new(days))
            .unwrap()
            .to_rfc3339()
    };
    let (recent, last_year, long_ago) = (ordered(30), ordered(200), ordered(500));
    let files = [
        (
            ImportEntity::Brands,
            "code,name,sender_email\nSW,Stadtwerke,info@stadtwerke.example.de\n".to_owned(),
        ),
        (
            ImportEntity::Products,
            "number,name,division,brand_code\nA,Klassik,electricity,SW\nB,Öko,electricity,SW\n"
                .to_owned(),
        ),
        (
            ImportEntity::ProductVersions,
            "product_number,code,name,valid_from,valid_to,base_price_per_year,unit_price_per_kwh,currency\n\
             A,2025,Klassik 2025,2025-01-01,,120,0.30,EUR\n\
             B,2025,Öko 2025,2025-01-01,,120,0.30,EUR\n\
             B,2026,Öko 2026,2025-01-01,,130,0.34,EUR\n"
                .to_owned(),
        ),
        (
            ImportEntity::Customers,
            "number,kind,first_name,last_name,company_name,postal_code,city\n\
             1,person,Erika,Müller,,35390,Gießen\n2,company,,,Bäckerei & Söhne,35576,Wetzlar\n\
             3,person,Max,Ärger,,,\n4,person,Eva,Nolte,,10115,Berlin\n"
                .to_owned(),
        ),
        (
            ImportEntity::Contracts,
            "number,customer_number,brand_code,division,supply_status,site_postal_code,annual_quantity_kwh,product_number,product_version_code\n\
             E1,1,SW,electricity,AU,35000,2500,A,2025\n\
             E2,2,SW,electricity,AB,35999,8000,B,2025\n\
             E3,3,SW,electricity,AU,36000,5000,A,2025\n\
             E4,4,SW,electricity,XX,35390,5000,A,2025\n\
             E5,4,SW,electricity,AB,35390,8000.001,B,2025\n\
             E6,4,SW,electricity,AU,35390,,,\n\
             M1,1,SW,motor,,,,,\nM2,2,SW,motor,,,,,\n"
                .to_owned(),
        ),
        (
            ImportEntity::ContractItems,
            "contract_number,code,name,quantity\nM1,glass,Glas,1\nM1,hail,Hagel,1\nM2,hail,Hagel,1\n"
                .to_owned(),
        ),
        (
            ImportEntity::Orders,
            format!(
                "number,customer_number,ordered_at,currency\nO1,1,{last_year},EUR\n\
                 O2,2,{last_year},EUR\nO3,2,{recent},EUR\nO4,3,{long_ago},EUR\nO5,4,{last_year},EUR\n\
                 O6,4,{recent},EUR\n"
            ),
        ),
        (
            ImportEntity::OrderLines,
            "order_number,line,quantity,unit_price,product_group\nO1,1,2,10,Obst\nO2,1,1,10,Obst\n\
             O3,1,1,10,Obst\nO4,1,1,10,Obst\nO5,1,1,10,Obst\nO5,2,1,10,Brot\nO6,1,1,10,Brot\n"
                .to_owned(),
        ),
        (
            ImportEntity::Attributes,
            "entity,number,key,type,value\ncustomer,1,score,number,12.5\ncustomer,2,score,number,7\n"
                .to_owned(),
        ),
    ];
    for (entity, csv) in files {
        let response = client.import(entity, csv).await?;
        assert_eq!(response.errors, [], "{entity:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn known_questions_are_one_selection_each() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import(&client).await?;

    let glass = || related("items", Quantifier::Any, equal("code", "glass"));
    let motor = |without| all(vec![equal("division", "motor"), without]);
    let without = found(&client, Subject::Contract, motor(not(glass()))).await?;
    assert_eq!(without, ["contracts/M2"]);
    let none = related("items", Quantifier::None, equal("code", "glass"));
    assert_eq!(
        found(&client, Subject::Contract, motor(none)).await?,
        without
    );

    let number = |n: &str| Value::Number(n.into());
    let versions = ["products/A/versions/2025", "products/B/versions/2025"];
    let tariff = all(vec![
        compare("product_version", Operator::In, texts(&versions)),
        compare(
            "annual_quantity_kwh",
            Operator::Between,
            vec![number("2500"), number("8000")],
        ),
        compare(
            "site_postal_code",
            Operator::Between,
            texts(&["35000", "35999"]),
        ),
        compare("supply_status", Operator::In, texts(&["AU", "AB"])),
    ]);
    let on_tariff = found(&client, Subject::Contract, tariff).await?;
    assert_eq!(on_tariff, ["contracts/E1", "contracts/E2"]);

    let bought = |quantifier, days| {
        let since = vec![Value::DaysAgo(days)];
        let fruit = related("lines", Quantifier::Any, equal("product_group", "Obst"));
        let order = all(vec![
            compare("order_time", Operator::GreaterOrEqual, since),
            fruit,
        ]);
        related("orders", quantifier, order)
    };
    let fruit = all(vec![
        bought(Quantifier::Any, 365),
        bought(Quantifier::None, 90),
    ]);
    let lapsed = found(&client, Subject::Customer, fruit).await?;
    assert_eq!(lapsed, ["customers/1", "customers/4"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_got_an_offer_and_did_not_answer() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import(&client).await?;
    let last_day = Utc::now().date_naive() + Days::new(30);
    let mut made = Vec::new();
    for contract in ["E1", "E2", "E3"] {
        let request = offers::CreateOfferRequest {
            contract: format!("contracts/{contract}"),
            product_version: "products/B/versions/2026".into(),
            valid_until_date: Some(Date {
                year: last_day.year(),
                month: last_day.month().try_into()?,
                day: last_day.day().try_into()?,
            }),
            ..Default::default()
        };
        made.push(
            client
                .offers()
                .create_offer(request)
                .await?
                .into_inner()
                .name,
        );
    }
    let accept = offers::AcceptOfferRequest {
        name: made[1].clone(),
        ..Default::default()
    };
    client.offers().accept_offer(accept).await?;

    let offered = |quantifier, state| {
        let mut what = vec![equal("product_version", "products/B/versions/2026")];
        what.extend(state);
        related("offers", quantifier, all(what))
    };
    let open = || Some(equal("state", "open"));
    let silent = found(&client, Subject::Contract, offered(Quantifier::Any, open())).await?;
    assert_eq!(silent, ["contracts/E1", "contracts/E3"]);
    let got_but_not_open = all(vec![
        offered(Quantifier::Any, None),
        offered(Quantifier::None, open()),
    ]);
    let answered = found(&client, Subject::Customer, got_but_not_open).await?;
    assert_eq!(answered, ["customers/2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_lives_through_its_versions() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import(&client).await?;
    let first = selection(Subject::Contract, equal("division", "motor"));
    let id = uuid::Uuid::now_v7().to_string();
    let created = create(&client, first.clone(), &id).await?;
    assert_eq!((created.version, &created.criteria), (1, &first.criteria));
    assert_eq!(
        create(&client, first.clone(), &id).await?,
        created,
        "the same request"
    );
    let other = selection(Subject::Contract, equal("division", "gas"));
    let refused = create(&client, other, &id).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");

    let shown = preview(&client, Source::Selection(created.name.clone()), 1).await?;
    assert_eq!(
        (shown.count, shown.customers, shown.sample.len()),
        (2, 2, 1)
    );
    let row = &shown.sample[0];
    assert_eq!(
        (&*row.contract, &*row.customer),
        ("contracts/M1", "customers/1")
    );
    assert_eq!((&*row.display_name, &*row.place), ("Erika Müller", ""));

    let criteria = equal("city", "Gießen");
    let update = |selection| pb::UpdateSelectionRequest {
        selection: Some(selection),
        ..Default::default()
    };
    let changed = pb::Selection {
        name: created.name.clone(),
        ..selection(Subject::Customer, criteria)
    };
    let refused = client
        .selections()
        .update_selection(update(changed))
        .await
        .unwrap_err();
    assert_eq!(violations(&refused)[0].0, "selection.subject");
    let electric = pb::Selection {
        name: created.name.clone(),
        description: "Strom".into(),
        ..selection(Subject::Contract, equal("division", "electricity"))
    };
    let updated = client
        .selections()
        .update_selection(update(electric))
        .await?
        .into_inner();
    assert_eq!((updated.version, &*updated.description), (2, "Strom"));
    let get = |name: &str| pb::GetSelectionRequest { name: name.into() };
    let read = client
        .selections()
        .get_selection(get(&created.name))
        .await?
        .into_inner();
    assert_eq!(read, updated);

    let newer = create(&client, first, "").await?;
    let mut names = Vec::new();
    let mut page = pb::ListSelectionsRequest {
        page_size: 1,
        ..Default::default()
    };
    loop {
        let got = client
            .selections()
            .list_selections(page.clone())
            .await?
            .into_inner();
        names.extend(got.selections.into_iter().map(|s| s.name));
        if got.next_page_token.is_empty() {
            break;
        }
        page.page_token = got.next_page_token;
    }
    assert_eq!(names, [newer.name, created.name.clone()]);

    // Another tenant sees nothing of it.
    let stranger = server.client("globex").await?;
    let hidden = stranger
        .selections()
        .get_selection(get(&created.name))
        .await
        .unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound);
    let everybody = compare("number", Operator::IsSet, vec![]);
    assert!(
        found(&stranger, Subject::Customer, everybody)
            .await?
            .is_empty()
    );

    let delete = pb::DeleteSelectionRequest {
        name: created.name.clone(),
        ..Default::default()
    };
    client.selections().delete_selection(delete.clone()).await?;
    let gone = client
        .selections()
        .delete_selection(delete)
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_named_at_once() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import(&client).await?;
    let mut unread = compare("site_city", Operator::Unspecified, texts(&["x"]));
    if let Some(Node::Compare(compare)) = &mut unread.node {
        compare.values.push(pb::Value { value: None });
    }
    let mut counted = related("items", Quantifier::Count, equal("colour", "red"));
    let criteria = all(vec![
        equal("no_such", "x"),
        unread,
        compare(
            "annual_quantity_kwh",
            Operator::Equal,
            vec![Value::Number("1_000".into())],
        ),
        compare("annual_quantity_kwh", Operator::StartsWith, texts(&["1"])),
        counted.clone(),
        pb::Criteria { node: None },
        all(vec![]),
        equal("attributes.score", "1"),
    ]);
    let wrong = pb::Selection {
        display_name: String::new(),
        ..selection(Subject::Contract, criteria)
    };
    let refused = create(&client, wrong, "no uuid").await.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
    let fields: Vec<String> = violations(&refused)
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    let at = |i: usize, rest: &str| format!("selection.criteria.all.criteria[{i}]{rest}");
    let expected = [
        "request_id".to_owned(),
        "selection.display_name".to_owned(),
        at(1, ".compare.operator"),
        at(1, ".compare.values[1]"),
        at(2, ".compare.values[0]"),
        at(4, ".related.count"),
        at(5, ""),
        at(6, ".all.criteria"),
        at(0, ".compare.field"),
        at(3, ".compare.operator"),
        at(3, ".compare.values[0]"),
        at(4, ".related.criteria.compare.field"),
        at(7, ".compare.field"),
    ];
    assert_eq!(fields, expected);

    // Deeper than protobuf allows is refused before it is read, less deep with the path.
    let given = |criteria| {
        let subject = Subject::Contract.into();
        Source::Criteria(pb::AdHocCriteria {
            subject,
            criteria: Some(criteria),
        })
    };
    for (levels, path) in [
        (8, "criteria.criteria".to_owned() + &".not".repeat(8)),
        (150, String::new()),
    ] {
        let deep = (0..levels).fold(equal("number", "x"), |inner, _| not(inner));
        let refused = preview(&client, given(deep), 0).await.unwrap_err();
        let first = violations(&refused)
            .into_iter()
            .next()
            .map(|(field, _)| field);
        assert_eq!(
            first.as_deref().unwrap_or_default(),
            path,
            "{levels}: {refused}"
        );
    }
    let none = pb::PreviewSelectionRequest {
        source: None,
        sample_size: 101,
        ..Default::default()
    };
    let refused = client
        .selections()
        .preview_selection(none)
        .await
        .unwrap_err();
    let fields: Vec<String> = violations(&refused)
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(fields, ["sample_size", "criteria"]);

    // The count is right: it finds nothing, and harms nothing.
    if let Some(Node::Related(related)) = &mut counted.node {
        related.count = Some(pb::CountCondition {
            operator: Operator::Equal.into(),
            value: 2,
        });
        related.criteria = Some(Box::new(equal("code", "'; DROP TABLE contract; --")));
    }
    assert!(found(&client, Subject::Contract, counted).await?.is_empty());
    let everything = compare("number", Operator::IsSet, vec![]);
    assert_eq!(
        found(&client, Subject::Contract, everything).await?.len(),
        8
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_criteria_can_use_is_listed() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import(&client).await?;
    let request = |subject: Subject| pb::ListSelectionFieldsRequest {
        subject: subject.into(),
    };
    let listed = client
        .selections()
        .list_selection_fields(request(Subject::Customer))
        .await?;
    let listed = listed.into_inner();
    let score = listed
        .fields
        .iter()
        .find(|f| f.field == "attributes.score")
        .unwrap();
    assert_eq!(score.r#type(), pb::FieldType::Number);
    // What is listed can be used.
    for field in &listed.fields {
        assert!(!field.description.is_empty(), "{}", field.field);
        let is_set = compare(&field.field, Operator::IsSet, vec![]);
        found(&client, Subject::Customer, is_set).await?;
    }
    let names: Vec<&str> = listed.relations.iter().map(|r| &*r.relation).collect();
    for name in [
        "contracts",
        "orders",
        "lines",
        "items",
        "offers",
        "messages",
        "consents",
        "reports",
        "replies",
        "inbound_messages",
        "planned_contacts",
        "attempts",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let high = compare(
        "attributes.score",
        Operator::Greater,
        vec![Value::Number("10".into())],
    );
    assert_eq!(
        found(&client, Subject::Customer, high).await?,
        ["customers/1"]
    );
    let refused = client
        .selections()
        .list_selection_fields(request(Subject::Unspecified))
        .await;
    assert_eq!(violations(&refused.unwrap_err())[0].0, "subject");
    Ok(())
}

/// What came back from customers, and what people did with them.
#[tokio::test]
async fn inbound_messages_and_contacts_are_relations() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    import(&client).await?;
    let rows = "
        INSERT INTO inbound_message (tenant_id, account, channel, key, sender, sender_name, recipient,
            address_hash, subject, body, provider_message_id, customer_id, asks_to_stop, received_at)
        SELECT tenant_id, 'mail', 'mail', sha256('1'), '', '', '', sha256('1'), '', 'Bitte ein Rückruf', '',
               id, false, now() FROM customer WHERE number = '1';
        INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date, contact_date, contact_at,
            window_from, window_to, state, attempts)
        SELECT tenant_id, anklang_uuid7(), 'manual', id, current_date, current_date, now(), now(), now(),
               'given_up', 1 FROM customer WHERE number IN ('2', '4');
        INSERT INTO contact_attempt (tenant_id, contact_id, attempt, customer_id, worker, purpose,
            outcome_class, outside_window)
        SELECT k.tenant_id, k.id, 1, c.id, 'users/anna', '',
               CASE c.number WHEN '2' THEN 'not_reached' ELSE 'done' END, false
        FROM planned_contact k JOIN customer c ON c.tenant_id = k.tenant_id AND c.id = k.customer_id";
    let database = server.database.connect().await?;
    database.batch_execute(rows).await?;

    let customers = async |criteria: pb::Criteria| {
        let found = found(&client, Subject::Customer, criteria).await;
        found.unwrap()
    };
    let asks = compare("text", Operator::Contains, texts(&["rückruf"]));
    let wrote = related("inbound_messages", Quantifier::Any, asks);
    assert_eq!(customers(wrote).await, ["customers/1"]);
    let stops = compare("stop", Operator::Equal, vec![Value::Flag(true)]);
    let stopped = related("inbound_messages", Quantifier::Any, stops);
    assert!(customers(stopped).await.is_empty());
    let attempt = |class| related("attempts", Quantifier::Any, equal("outcome_class", class));
    let missed = related("planned_contacts", Quantifier::Any, attempt("not_reached"));
    assert_eq!(customers(missed).await, ["customers/2"]);
    let given_up = equal("state", "given_up");
    let never = related("planned_contacts", Quantifier::None, given_up);
    assert_eq!(customers(never).await, ["customers/1", "customers/3"]);
    let wrong = related("planned_contacts", Quantifier::Any, equal("state", "lost"));
    let refused = found(&client, Subject::Customer, wrong).await.unwrap_err();
    let told = violations(refused.downcast_ref::<Status>().unwrap());
    let words = "must be one of open, claimed, waiting, done, given_up, cancelled";
    assert_eq!(told[0].1, words);
    Ok(())
}
