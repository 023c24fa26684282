//! Winback, end to end.

mod analysis;
mod cases;
pub mod desk;
mod detection;
mod export;
mod lists;
mod mailings;
pub mod mails;
mod requests;
pub mod results;
mod together;
mod vouchers;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Money;
use anklang_testkit::Client;
use prost::Message;
use serde_json::{Value, json};
use tonic::Status;

use crate::planning::date;

/// Settings by which a month is compared with the one before, and 20 percent and 10 euros matter.
pub fn monthly() -> pb::WinbackSettings {
    pb::WinbackSettings {
        currency_code: "EUR".into(),
        least_orders: 1,
        comparison: Some(pb::WinbackComparison {
            kind: pb::WinbackComparisonKind::Preceding.into(),
            days: 30,
            season: false,
        }),
        least_drop_percent: 20.0,
        least_drop: euros(10),
        least_known_days: 1,
        reminder_days: 10,
        win_window_days: 90,
        rest_days: 60,
        ..Default::default()
    }
}

/// So many euros.
pub fn euros(units: i64) -> Option<Money> {
    Some(Money {
        currency_code: "EUR".into(),
        units,
        nanos: 0,
    })
}

/// Sets settings as somebody.
pub async fn set(
    client: &Client,
    settings: pb::WinbackSettings,
    user: &str,
) -> Result<pb::WinbackSettings, Status> {
    let request = pb::UpdateWinbackSettingsRequest {
        winback_settings: Some(settings),
        user: user.into(),
        ..Default::default()
    };
    let set = client.winback().update_winback_settings(request).await?;
    Ok(set.into_inner())
}

/// Asks for a detection as of a day.
pub fn as_of(day: &str) -> pb::DetectWinbackRequest {
    pb::DetectWinbackRequest {
        as_of_date: date(day),
        ..Default::default()
    }
}

/// Detects and waits until that is done.
pub async fn detect(client: &Client, request: pb::DetectWinbackRequest) -> pb::WinbackDetection {
    let operation = client.winback().detect_winback(request).await.unwrap();
    told(&client.finished(&operation.into_inner()).await.unwrap())
}

/// The detection that an operation which is over has made.
pub fn told(operation: &lro::Operation) -> pb::WinbackDetection {
    match operation.result.as_ref().unwrap() {
        lro::operation::Result::Response(any) => {
            pb::WinbackDetection::decode(&any.value[..]).unwrap()
        }
        error => panic!("{error:?}"),
    }
}

/// Imports orders of one line each: number, customer, time, amount, product group.
pub async fn orders(client: &Client, orders: &[(&str, &str, &str, &str, &str)]) {
    let mut heads = "number,customer_number,ordered_at,currency\n".to_owned();
    let mut lines = "order_number,line,quantity,unit_price,product_group\n".to_owned();
    for (number, customer, time, amount, group) in orders {
        heads += &format!("{number},{customer},{time},EUR\n");
        lines += &format!("{number},1,1,{amount},{group}\n");
    }
    for (entity, csv) in [
        (ImportEntity::Orders, heads),
        (ImportEntity::OrderLines, lines),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, [], "{entity:?}");
    }
}

/// Saves a selection of the customer with that number; gives its name.
pub async fn save_selection(client: &Client, number: &str) -> String {
    let request = selections::CreateSelectionRequest {
        selection: Some(selections::Selection {
            display_name: format!("Kunde {number}"),
            subject: selections::Subject::Customer.into(),
            criteria: Some(number_is(number)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = client.selections().create_selection(request).await.unwrap();
    made.into_inner().name
}

pub fn number_is(number: &str) -> selections::Criteria {
    use selections::value::Value;
    let value = selections::Value {
        value: Some(Value::Text(number.into())),
    };
    selections::Criteria {
        node: Some(selections::criteria::Node::Compare(selections::Compare {
            field: "number".into(),
            operator: selections::Operator::Equal.into(),
            values: vec![value],
        })),
    }
}

/// Two versions of settings, the customer W1, who has ordered of the brand `linden` on 1 May 2025 and not since,
/// and two detections, one of which opens a case; gives the name of that.
pub async fn populate(client: &Client) -> String {
    let customer = [
        (
            ImportEntity::Customers,
            "number,kind,last_name\nW1,person,Weg\n",
        ),
        (
            ImportEntity::ContactPoints,
            "customer_number,channel,address\nW1,mail,weg@post.example\n",
        ),
        (
            ImportEntity::Consents,
            "customer_number,channel,purpose,state,recorded_at\n\
             W1,mail,marketing,granted,2025-01-01T00:00:00Z\n",
        ),
        (
            ImportEntity::Orders,
            "number,customer_number,brand_code,ordered_at,currency\n\
             W1,W1,linden,2025-05-01T10:00:00Z,EUR\n",
        ),
        (
            ImportEntity::OrderLines,
            "order_number,line,quantity,unit_price\nW1,1,2,9.90\n",
        ),
    ];
    for (entity, csv) in customer {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, [], "{entity:?}");
    }
    set(client, monthly(), "").await.unwrap();
    let settings = pb::WinbackSettings {
        rest_days: 30,
        ..monthly()
    };
    set(client, settings, "users/bea").await.unwrap();
    let day = as_of("2025-06-10");
    let trial = pb::DetectWinbackRequest {
        trial: true,
        ..day.clone()
    };
    assert_eq!(detect(client, trial).await.opened_cases, 1);
    let done = detect(client, day).await;
    assert_eq!(done.opened_cases, 1, "{done:?}");
    done.name
}

/// Calls that name nothing.
pub fn makes() -> Vec<(&'static str, Value)> {
    let day = json!({"year": 2025, "month": 6, "day": 10});
    vec![
        (
            "anklang.winback.v1.WinbackService/UpdateWinbackSettings",
            json!({"winbackSettings": {
                "currencyCode": "EUR", "leastOrders": 3, "leastDropPercent": 12.5,
                "leastKnownDays": 5, "reminderDays": 14, "winWindowDays": 60,
                "comparison": {"kind": "WINBACK_COMPARISON_KIND_PRECEDING", "days": 60},
            }}),
        ),
        (
            "anklang.winback.v1.WinbackService/DetectWinback",
            json!({"asOfDate": day, "trial": true}),
        ),
    ]
}
