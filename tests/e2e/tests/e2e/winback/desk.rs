//! Cases as detection would leave them, and the people who work on them.

use std::collections::BTreeMap;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::r#type::{Date, Money};
use anklang_testkit::{Client, TestServer};
use chrono::{Datelike, Days, NaiveDate, Utc};
use serde_json::{Value, json};
use tonic::Status;

/// The tenant `linden` with customers K1 to K9, of whom K1 to K4 are of the group `Obst` and buy of the brand
/// `garten`, the others of `Brot` and `markt`, each with two orders.
pub async fn shop(server: &TestServer) -> Client {
    let client = server.client("linden").await.unwrap();
    let mut customers = "number,kind,first_name,last_name,customer_group\n".to_owned();
    let mut orders = "number,customer_number,brand_code,ordered_at,currency\n".to_owned();
    let mut lines =
        "order_number,line,product_number,product_name,product_group,quantity,unit_price\n"
            .to_owned();
    for i in 1..=9 {
        let (group, brand) = if i <= 4 {
            ("Obst", "garten")
        } else {
            ("Brot", "markt")
        };
        customers += &format!("K{i},person,Karla,Kunde{i},{group}\n");
        orders += &format!(
            "A{i},K{i},{brand},2026-01-0{i}T10:00:00Z,EUR\nB{i},K{i},{brand},2026-03-0{i}T10:00:00Z,EUR\n"
        );
        lines += &format!("B{i},1,P/{i},Apfel,{group},2,10\nB{i},2,Q,Birne,Korb,1,30\n");
    }
    let brands =
        "code,name,sender_email\ngarten,Garten,a@garten.example\nmarkt,Markt,a@markt.example\n";
    for (entity, csv) in [
        (ImportEntity::Brands, brands.to_owned()),
        (ImportEntity::Customers, customers),
        (ImportEntity::Orders, orders),
        (ImportEntity::OrderLines, lines),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, [], "{entity:?}");
    }
    detected(server).await;
    client
}

/// The detection that all cases are of.
const DETECTION: &str = "00000000-0000-7000-8000-000000000001";

/// Settings, and a detection by them.
pub async fn detected(server: &TestServer) {
    let settings = json!({
        "detection": {
            "groups": [], "excluded_groups": [], "least_orders": 2, "least_revenue": "0",
            "exclusions": [], "comparison": {"preceding": {"days": 182, "season": false}},
            "least_drop_percent": "50", "least_drop": "50", "least_known_days": 91,
        },
        "currency": "EUR", "reminder_days": 10, "calendar": null, "win_window_days": 90,
        "rest_days": 180, "control_percent": 10.0, "offer_mail_to": "", "nightly": false,
        "links": {"customer": "", "product": "", "order": ""},
    });
    let sql = format!(
        "INSERT INTO winback_settings (tenant_id, version, settings)
         SELECT id, 1, '{settings}' FROM tenant WHERE slug = 'linden'"
    );
    self::sql(server, &sql).await;
    by_them(server).await;
}

/// A detection by the first settings.
async fn by_them(server: &TestServer) {
    let sql = format!(
        "INSERT INTO winback_detection (tenant_id, id, as_of, settings_version, is_trial, done_at)
         SELECT id, '{DETECTION}', current_date, 1, false, now() FROM tenant WHERE slug = 'linden'"
    );
    self::sql(server, &sql).await;
}

/// Changes some of the settings.
pub async fn set(server: &TestServer, settings: &Value) {
    let sql = format!(
        "INSERT INTO winback_settings (tenant_id, version, settings)
         SELECT tenant_id, version + 1, settings || '{settings}' FROM winback_settings
         WHERE tenant_id = (SELECT id FROM tenant WHERE slug = 'linden')
         ORDER BY version DESC LIMIT 1"
    );
    self::sql(server, &sql).await;
}

/// Changes rows behind the server's back.
pub async fn sql(server: &TestServer, sql: &str) {
    let database = server.database.connect().await.unwrap();
    database.batch_execute(sql).await.unwrap();
}

/// Opens a case for a customer; gives its name. `columns` are values in SQL other than the usual ones.
pub async fn open(server: &TestServer, customer: &str, columns: &[(&str, &str)]) -> String {
    let of = format!("c.number = '{customer}'");
    server.database.one(&opening(&of, columns)).await.unwrap()
}

/// Opens a case for each customer.
pub async fn open_for_all(server: &TestServer) {
    sql(server, &opening("true", &[])).await;
}

/// The statement that opens cases for customers.
fn opening(of: &str, columns: &[(&str, &str)]) -> String {
    let detection = format!("'{DETECTION}'");
    let mut values: BTreeMap<&str, &str> = BTreeMap::from([
        ("opened_on", "current_date - 20"),
        ("opened_by", &detection[..]),
        ("seen_by", &detection[..]),
        ("revenue_then", "200"),
        ("revenue_now", "50"),
        ("known_days", "182"),
        ("season", "1"),
        ("expected", "200"),
        ("actual", "50"),
        ("drop_amount", "150"),
        ("drop_percent", "75"),
        ("last_order", "'2026-03-01'"),
        ("currency", "'EUR'"),
        ("at_stake", "100"),
        ("created_at", "now() - interval '20 days'"),
    ]);
    values.extend(columns.iter().copied());
    let names: Vec<&str> = values.keys().copied().collect();
    let given: Vec<&str> = values.values().copied().collect();
    format!(
        "INSERT INTO winback_case (tenant_id, id, customer_id, {})
         SELECT c.tenant_id, anklang_uuid7(), c.id, {}
         FROM customer c JOIN tenant t ON t.id = c.tenant_id
         WHERE t.slug = 'linden' AND {of}
         RETURNING 'winbackCases/' || id",
        names.join(", "),
        given.join(", ")
    )
}

/// As [`open`], of another state that was reached as is usual.
pub async fn open_in(server: &TestServer, customer: &str, state: &str) -> String {
    let word = format!("'{state}'");
    let mut columns = vec![("state", &word[..])];
    match state {
        "reminder" => columns.push(("due_on", "current_date - 9")),
        "no_interest" => {
            columns.extend([("no_interest", "'price'"), ("closed_on", "current_date")])
        }
        "won_back" => columns.push(("closed_on", "current_date")),
        _ => {}
    }
    open(server, customer, &columns).await
}

/// The id in the name of a case.
pub fn id(name: &str) -> &str {
    name.strip_prefix("winbackCases/").unwrap()
}

/// The tenant's day, so many days from now.
pub fn day(days: i64) -> NaiveDate {
    let today = Utc::now()
        .with_timezone(&chrono_tz::Europe::Berlin)
        .date_naive();
    match u64::try_from(days) {
        Ok(days) => today + Days::new(days),
        Err(_) => today - Days::new(days.unsigned_abs()),
    }
}

pub fn date(day: NaiveDate) -> Date {
    Date {
        year: day.year(),
        month: i32::try_from(day.month()).unwrap(),
        day: i32::try_from(day.day()).unwrap(),
    }
}

/// An amount in cents.
pub fn cents(money: Option<&Money>) -> Option<i64> {
    money.map(|m| m.units * 100 + i64::from(m.nanos) / 10_000_000)
}

pub async fn get(client: &Client, name: &str) -> pb::WinbackCase {
    let request = pb::GetWinbackCaseRequest { name: name.into() };
    let got = client.winback_cases().get_winback_case(request).await;
    got.unwrap().into_inner()
}

pub async fn events(client: &Client, name: &str) -> Vec<pb::WinbackCaseEvent> {
    let request = pb::ListWinbackCaseEventsRequest {
        parent: name.into(),
        ..Default::default()
    };
    let listed = client
        .winback_cases()
        .list_winback_case_events(request)
        .await;
    listed.unwrap().into_inner().winback_case_events
}

/// The text that an event tells under a key.
pub fn detail(event: &pb::WinbackCaseEvent, key: &str) -> String {
    let fields = &event.details.as_ref().unwrap().fields;
    match fields.get(key).and_then(|value| value.kind.clone()) {
        Some(prost_types::value::Kind::StringValue(text)) => text,
        None => String::new(),
        other => panic!("{key}: {other:?}"),
    }
}

pub fn asks(worker: &str) -> pb::NextWinbackCaseRequest {
    pb::NextWinbackCaseRequest {
        worker: format!("users/{worker}"),
        ..Default::default()
    }
}

pub async fn next(
    client: &Client,
    request: pb::NextWinbackCaseRequest,
) -> Option<pb::WinbackCaseClaim> {
    let answer = client.winback_cases().next_winback_case(request).await;
    answer.unwrap().into_inner().winback_case_claim
}

/// The customer of the next case; "-" for none.
pub async fn next_customer(client: &Client, request: pb::NextWinbackCaseRequest) -> String {
    match next(client, request).await {
        None => "-".into(),
        Some(claim) => case(&claim).customer.replace("customers/", ""),
    }
}

pub fn case(claim: &pb::WinbackCaseClaim) -> &pb::WinbackCase {
    claim.winback_case.as_ref().unwrap()
}

pub async fn claim(
    client: &Client,
    name: &str,
    worker: &str,
) -> Result<pb::WinbackCaseClaim, Status> {
    let request = pb::ClaimWinbackCaseRequest {
        name: name.into(),
        worker: format!("users/{worker}"),
        ..Default::default()
    };
    let claimed = client.winback_cases().claim_winback_case(request).await;
    claimed.map(tonic::Response::into_inner)
}

pub fn closes(name: &str, worker: &str) -> pb::CloseWinbackCaseRequest {
    pb::CloseWinbackCaseRequest {
        name: name.into(),
        worker: format!("users/{worker}"),
        reason: pb::NoInterestReason::Competitor.into(),
        note: "kauft jetzt woanders".into(),
        ..Default::default()
    }
}

pub async fn close(
    client: &Client,
    request: pb::CloseWinbackCaseRequest,
) -> Result<pb::WinbackCase, Status> {
    let closed = client.winback_cases().close_winback_case(request).await;
    closed.map(tonic::Response::into_inner)
}

pub fn reminds(name: &str, worker: &str) -> pb::RemindWinbackCaseRequest {
    pb::RemindWinbackCaseRequest {
        name: name.into(),
        worker: format!("users/{worker}"),
        ..Default::default()
    }
}

pub async fn remind(
    client: &Client,
    request: pb::RemindWinbackCaseRequest,
) -> Result<pb::WinbackCase, Status> {
    let put_off = client.winback_cases().remind_winback_case(request).await;
    put_off.map(tonic::Response::into_inner)
}

pub fn wants_offer(name: &str, worker: &str) -> pb::RequestWinbackOfferRequest {
    pb::RequestWinbackOfferRequest {
        name: name.into(),
        worker: format!("users/{worker}"),
        note: "20 % auf Äpfel".into(),
        ..Default::default()
    }
}

pub async fn request_offer(
    client: &Client,
    request: pb::RequestWinbackOfferRequest,
) -> Result<pb::WinbackCase, Status> {
    let asked = client.winback_cases().request_winback_offer(request).await;
    asked.map(tonic::Response::into_inner)
}

pub async fn remark(
    client: &Client,
    name: &str,
    worker: &str,
    text: &str,
) -> Result<pb::WinbackCase, Status> {
    let request = pb::AddWinbackRemarkRequest {
        name: name.into(),
        worker: format!("users/{worker}"),
        text: text.into(),
        ..Default::default()
    };
    let added = client.winback_cases().add_winback_remark(request).await;
    added.map(tonic::Response::into_inner)
}

/// Cases of a tenant that has two or more of everything.
pub struct Cases {
    /// Nobody is at these; the first has two events, the last was mailed.
    free: Vec<String>,
    /// In anna's hands, with their claims.
    claimed: Vec<(String, String)>,
}

/// Opens cases for customers of the tenant `linden` who have none.
pub async fn populate(server: &TestServer) -> Cases {
    by_them(server).await;
    let sql = format!(
        "INSERT INTO winback_figure (tenant_id, detection_id, customer_id, first_order, last_order,
             orders, revenue, revenue_then, revenue_now, repeats, mean_repeat)
         SELECT c.tenant_id, '{DETECTION}', c.id, '2026-01-01', '2026-03-01', 2, 100, 80, 20, 1, 20
         FROM customer c JOIN tenant t ON t.id = c.tenant_id
         WHERE t.slug = 'linden' ORDER BY c.number LIMIT 2;
         -- Under way: what it goes by is kept.
         INSERT INTO operation (tenant_id, id, kind, resource, request, run_at)
         SELECT id, '{DETECTION}', 'DetectWinback', 'winbackDetections/{DETECTION}', '{{}}', '2999-01-01'
         FROM tenant WHERE slug = 'linden'"
    );
    self::sql(server, &sql).await;
    let (mut free, mut claimed) = (Vec::new(), Vec::new());
    let numbers = "SELECT string_agg(number, ',') FROM (SELECT c.number FROM customer c
         JOIN tenant t ON t.id = c.tenant_id
         WHERE t.slug = 'linden' AND NOT EXISTS (SELECT FROM winback_case k WHERE k.customer_id = c.id)
         ORDER BY c.number LIMIT 8) c";
    let numbers = server.database.one(numbers).await.unwrap();
    for (i, number) in numbers.split(',').enumerate() {
        if i < 2 {
            let claim = format!("00000000-0000-7000-8000-0000000001{i:02}");
            let quoted = format!("'{claim}'");
            let columns = [
                ("held_by", "'users/anna'"),
                ("held_until", "now() + interval '1 day'"),
                ("claim_id", &quoted[..]),
            ];
            claimed.push((open(server, number, &columns).await, claim));
        } else if i < 7 {
            free.push(open(server, number, &[]).await);
        } else {
            free.push(open_in(server, number, "mailed").await);
        }
    }
    let events = format!(
        "INSERT INTO winback_case_event (tenant_id, id, case_id, kind, to_state)
         SELECT tenant_id, anklang_uuid7(), id, kind, 'declining'
         FROM winback_case, unnest(ARRAY['opened', 'remark']) kind WHERE id = '{}'",
        id(&free[0])
    );
    self::sql(server, &events).await;
    assert_eq!((claimed.len(), free.len()), (2, 6));
    Cases { free, claimed }
}

/// Calls that make something.
pub fn makes() -> Vec<(&'static str, Value)> {
    vec![(
        "anklang.winback.v1.WinbackCaseService/NextWinbackCase",
        json!({"worker": "users/zoe", "tile": "WINBACK_TILE_MAILED", "includeControl": true}),
    )]
}

/// Calls that name something, in an order in which they can all be made.
pub fn named(w: &Cases) -> Vec<(&'static str, Value)> {
    let under = |i: usize| json!({"name": w.claimed[i].0, "claim": w.claimed[i].1});
    let by = |i: usize| json!({"name": w.free[i], "worker": "users/anna"});
    let with = |i: usize, field: &str, value: &str| {
        let mut request = by(i);
        request[field] = json!(value);
        request
    };
    vec![
        (
            "anklang.winback.v1.WinbackCaseService/GetWinbackCase",
            json!({"name": w.free[0]}),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/ListWinbackCaseEvents",
            json!({"parent": w.free[0]}),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/ExtendWinbackCase",
            under(0),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/ReleaseWinbackCase",
            under(1),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/ClaimWinbackCase",
            by(1),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/CloseWinbackCase",
            with(2, "reason", "NO_INTEREST_REASON_PRICE"),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/RequestWinbackOffer",
            with(3, "note", "20 %"),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/RemindWinbackCase",
            by(4),
        ),
        (
            "anklang.winback.v1.WinbackCaseService/AddWinbackRemark",
            with(5, "text", "ruft zurück"),
        ),
    ]
}

/// Lists with pages, and the field of their items.
pub fn lists(w: &Cases) -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "anklang.winback.v1.WinbackCaseService/ListWinbackCases",
            json!({}),
            "winbackCases",
        ),
        (
            "anklang.winback.v1.WinbackCaseService/ListWinbackCaseEvents",
            json!({"parent": w.free[0]}),
            "winbackCaseEvents",
        ),
    ]
}
