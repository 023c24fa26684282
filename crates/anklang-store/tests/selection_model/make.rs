//! Makes a world row by row, and puts it into the database.

use std::collections::{BTreeMap, BTreeSet};

use anklang_store::Store;
use anklang_store::selection::registry::{Entity, FieldType};
use anklang_store::tenant::{self, Tenant};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::world::{ATTRIBUTES, Cell, Row, World, dates, id, numbers, texts, times};

/// What is filled in by hand, and not by chance: keys, and what belongs to several tables.
const DERIVED: [&str; 8] = [
    "org_unit",
    "product_version",
    "product_number",
    "product_version_code",
    "brand",
    "campaign",
    "phase",
    "total",
];

/// Fields whose columns take no NULL.
fn is_required(entity: Entity, field: &str) -> bool {
    match field {
        "create_time" | "update_time" | "order_time" | "record_time" | "offer_date"
        | "valid_until_date" | "unit_price" | "annual_amount" | "position" | "line"
        | "event_time" | "receive_time" | "contact_time" | "contact_date" | "stop"
        | "outside_window" => true,
        "quantity" => entity == Entity::OrderLine,
        "annual_quantity_kwh" => entity == Entity::Offer,
        _ => false,
    }
}

fn column_of(entity: Entity, field: &str) -> &str {
    match field {
        "create_time" => "created_at",
        "update_time" => "updated_at",
        "order_time" => "ordered_at",
        "record_time" => "recorded_at",
        "answer_time" => "answered_at",
        "send_time" => "sent_at",
        "event_time" => "occurred_at",
        "receive_time" => "received_at",
        "contact_time" => "contact_at",
        "attempt_count" => "attempts",
        "text" => "body",
        "stop" => "asks_to_stop",
        "valid_until_date" => "valid_until",
        "currency_code" => "currency",
        "display_name" if entity == Entity::ContractItem => "name",
        other => other,
    }
}

fn table_of(entity: Entity) -> &'static str {
    match entity {
        Entity::Customer => "customer",
        Entity::Contract => "contract",
        Entity::ContractItem => "contract_item",
        Entity::Order => "sales_order",
        Entity::OrderLine => "order_line",
        Entity::ContactPoint => "contact_point",
        Entity::Consent => "consent",
        Entity::Offer => "offer",
        Entity::Message => "message",
        Entity::Report => "message_report",
        Entity::InboundMessage => "inbound_message",
        Entity::PlannedContact => "planned_contact",
        Entity::ContactAttempt => "contact_attempt",
    }
}

/// Makes a world row by row.
struct Maker {
    runner: TestRunner,
    tenant: Uuid,
    /// Codes of the brands.
    brands: [&'static str; 2],
    products: [(&'static str, &'static [&'static str]); 2],
    /// Phases per campaign.
    phases: [i32; 2],
    world: World,
    tables: Vec<(&'static str, Vec<Json>)>,
}

type Fixed<'a> = &'a [(&'a str, Cell)];
type Points<'a> = &'a [(&'static str, Uuid)];

impl Maker {
    fn pick<T: std::fmt::Debug>(&mut self, strategy: impl Strategy<Value = T>) -> T {
        strategy
            .new_tree(&mut self.runner)
            .expect("a value")
            .current()
    }

    fn below(&mut self, end: usize) -> usize {
        self.pick(0..end)
    }

    fn insert(&mut self, table: &'static str, mut row: Map<String, Json>) {
        row.insert("tenant_id".into(), json!(self.tenant));
        match self.tables.iter_mut().find(|(name, _)| *name == table) {
            Some((_, rows)) => rows.push(Json::Object(row)),
            None => self.tables.push((table, vec![Json::Object(row)])),
        }
    }

    fn random_cell(&mut self, entity: Entity, field: &str, ty: FieldType) -> Option<Cell> {
        if ty != FieldType::Text && !is_required(entity, field) && self.below(4) == 0 {
            return None;
        }
        let cell = match ty {
            FieldType::Text => Cell::Text(match (entity, field) {
                (Entity::Consent, "state") => self
                    .pick(prop::sample::select(vec!["granted", "withdrawn"]))
                    .into(),
                (Entity::Order, "state") => self
                    .pick(prop::sample::select(vec!["", "accepted", "rejected"]))
                    .into(),
                (Entity::Offer, "state") => self
                    .pick(prop::sample::select(vec!["open", "accepted", "expired"]))
                    .into(),
                (Entity::Offer, "reject_reason_code") => self
                    .pick(prop::sample::select(vec!["", "price", "moving"]))
                    .into(),
                (Entity::Message, "state") => self
                    .pick(prop::sample::select(vec!["queued", "sent", "bounced"]))
                    .into(),
                (Entity::Report, "state") => self
                    .pick(prop::sample::select(vec!["delivered", "opened", "clicked"]))
                    .into(),
                (Entity::PlannedContact, "source") => self
                    .pick(prop::sample::select(vec!["plan", "campaign"]))
                    .into(),
                (Entity::ContactAttempt, "outcome_class") => self
                    .pick(prop::sample::select(vec!["done", "not_reached", "busy"]))
                    .into(),
                _ => self.pick(texts(field)),
            }),
            FieldType::Number => Cell::Number(self.pick(numbers())),
            FieldType::Flag => Cell::Flag(self.pick(any::<bool>())),
            FieldType::Date => Cell::Date(self.pick(dates())),
            FieldType::Time => Cell::Time(self.pick(times())),
        };
        Some(cell)
    }

    fn brand(&self, number: usize) -> Cell {
        text(anklang_domain::name::format(&[(
            "brands",
            self.brands[number],
        )]))
    }

    /// A row with random values in all fields but the fixed ones; `extra` columns are no fields.
    fn row(&mut self, entity: Entity, id: Uuid, points: Points<'_>, fixed: Fixed<'_>, extra: Json) {
        let Json::Object(mut columns) = extra else {
            panic!("extra columns are an object");
        };
        let mut cells = BTreeMap::new();
        for field in entity.fields() {
            let given = fixed.iter().find(|(name, _)| *name == field.name);
            let is_derived = DERIVED.contains(&field.name) && entity != Entity::OrderLine;
            let cell = match given {
                Some((_, cell)) => Some(cell.clone()),
                None if is_derived => None,
                None => self.random_cell(entity, field.name, field.ty),
            };
            if !is_derived {
                columns.insert(
                    column_of(entity, field.name).to_owned(),
                    to_json(cell.as_ref()),
                );
            }
            if let Some(cell) = cell.filter(|c| *c != Cell::Text(String::new())) {
                cells.insert(field.name.to_owned(), cell);
            }
        }
        // Tables with other keys have no column for it.
        if !id.is_nil() {
            columns.insert("id".into(), json!(id));
        }
        for (to, at) in points {
            columns.insert(format!("{to}_id"), json!(at));
        }
        for (_, key, ty) in ATTRIBUTES.into_iter().filter(|(of, ..)| *of == entity) {
            if self.below(3) == 0 {
                continue;
            }
            let Some(cell) = self.random_cell(entity, key, ty) else {
                continue;
            };
            self.attribute(entity, id, key, &cell);
            if cell != Cell::Text(String::new()) {
                cells.insert(format!("attributes.{key}"), cell);
            }
        }
        self.insert(table_of(entity), columns);
        self.world.rows.entry(entity).or_default().push(Row {
            id,
            points_at: points.iter().copied().collect(),
            cells,
        });
    }

    fn attribute(&mut self, entity: Entity, of: Uuid, key: &str, cell: &Cell) {
        let (table, owner) = match entity {
            Entity::Customer => ("customer_attribute", "customer_id"),
            _ => ("contract_attribute", "contract_id"),
        };
        let column = match cell {
            Cell::Text(_) => "text_value",
            Cell::Number(_) => "number_value",
            Cell::Flag(_) => "flag_value",
            Cell::Date(_) | Cell::Time(_) => "date_value",
        };
        let mut row = object(json!({
            "key": key, "text_value": null, "number_value": null, "flag_value": null,
            "date_value": null,
        }));
        row.insert(owner.into(), json!(of));
        row.insert(column.into(), to_json(Some(cell)));
        self.insert(table, row);
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => panic!("an object is wanted"),
    }
}

fn to_json(cell: Option<&Cell>) -> Json {
    match cell {
        None => Json::Null,
        Some(Cell::Text(text)) => json!(text),
        Some(Cell::Number(number)) => json!(number.to_string()),
        Some(Cell::Flag(flag)) => json!(flag),
        Some(Cell::Date(date)) => json!(date),
        Some(Cell::Time(time)) => json!(time),
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

const CUSTOMERS: usize = 40;
const CONTRACTS: usize = 70;
const ORDERS: usize = 60;
const OFFERS: usize = 60;
const MESSAGES: usize = 60;
const REPORTS: usize = 50;
const INBOUND: usize = 40;
const CONTACTS: usize = 50;

/// Kinds of ids.
const BRAND: u8 = 1;
const PRODUCT: u8 = 2;
const VERSION: u8 = 3;
pub const CAMPAIGN: u8 = 4;
const PHASE: u8 = 5;
const OPERATION: u8 = 6;
const OUTBOUND: u8 = 7;
const CUSTOMER: u8 = 8;
const CONTRACT: u8 = 9;
const ORDER: u8 = 10;
const OFFER: u8 = 11;
const MESSAGE: u8 = 12;
const POINT: u8 = 13;
const ANSWER: u8 = 14;
const CONTACT: u8 = 15;

/// A product version as rows point at it.
struct Version {
    id: Uuid,
    product: &'static str,
    code: &'static str,
}

/// A phase as rows point at it.
struct Phase {
    id: Uuid,
    campaign: Uuid,
    number: i32,
}

impl Version {
    fn cells(&self) -> [(&'static str, Cell); 3] {
        let name =
            anklang_domain::name::format(&[("products", self.product), ("versions", self.code)]);
        [
            ("product_version", text(name)),
            ("product_number", text(self.product)),
            ("product_version_code", text(self.code)),
        ]
    }
}

impl Phase {
    fn cells(&self) -> [(&'static str, Cell); 2] {
        let campaign = format!("campaigns/{}", self.campaign);
        let phase = format!("{campaign}/phases/{}", self.number);
        [("campaign", text(campaign)), ("phase", text(phase))]
    }
}

/// Codes of the org units that customers belong to.
const UNITS: [&str; 2] = ["nord", "süd/1"];

impl Maker {
    fn catalogue(&mut self) -> (Vec<Version>, Vec<Phase>) {
        for code in UNITS {
            self.insert("org_unit", object(json!({"code": code, "name": code})));
        }
        for (key, code) in self.brands.into_iter().enumerate() {
            self.insert("brand", object(json!({
                "id": id(BRAND, key), "code": code, "name": code, "sender_email": "a@example.org",
            })));
        }
        for (entity, key, ty) in ATTRIBUTES {
            let value_type = match ty {
                FieldType::Text => "text",
                FieldType::Number => "number",
                FieldType::Flag => "flag",
                FieldType::Date | FieldType::Time => "date",
            };
            self.insert(
                "attribute_definition",
                object(json!({
                    "entity": table_of(entity), "key": key, "value_type": value_type,
                })),
            );
        }
        let mut versions = Vec::new();
        for (p, (number, codes)) in self.products.into_iter().enumerate() {
            self.insert(
                "product",
                object(json!({
                    "id": id(PRODUCT, p), "number": number, "name": number, "division": "gas",
                    "brand_id": id(BRAND, 0),
                })),
            );
            for code in codes {
                let version = id(VERSION, versions.len());
                self.insert("product_version", object(json!({
                    "id": version, "product_id": id(PRODUCT, p), "code": code, "name": code,
                    "valid_from": "2025-01-01", "base_price_per_year": 1, "unit_price_per_kwh": 1,
                    "currency": "EUR",
                })));
                versions.push(Version {
                    id: version,
                    product: number,
                    code,
                });
            }
        }
        (versions, self.phases())
    }

    fn phases(&mut self) -> Vec<Phase> {
        let mut phases = Vec::new();
        for (c, count) in self.phases.into_iter().enumerate() {
            let campaign = id(CAMPAIGN, c);
            self.insert("campaign", object(json!({"id": campaign, "name": "c"})));
            for number in 1..=count {
                let at = phases.len();
                self.insert(
                    "operation",
                    object(json!({
                        "id": id(OPERATION, at), "kind": "launch", "resource": "", "request": {},
                    })),
                );
                self.insert(
                    "phase",
                    object(json!({
                        "id": id(PHASE, at), "campaign_id": campaign, "number": number, "name": "p",
                        "product_version_id": id(VERSION, 0), "offer_valid_until": "2026-12-31",
                        "operation_id": id(OPERATION, at),
                    })),
                );
                self.insert(
                    "outbound",
                    object(json!({
                        "id": id(OUTBOUND, at), "phase_id": id(PHASE, at), "number": 1,
                        "channel": "mail", "account": "a", "message_template": "m",
                        "document_template": "d", "purpose": "marketing",
                    })),
                );
                phases.push(Phase {
                    id: id(PHASE, at),
                    campaign,
                    number,
                });
            }
        }
        phases
    }

    fn customers(&mut self) {
        for n in 0..CUSTOMERS {
            let customer = id(CUSTOMER, n);
            let points = [("customer", customer)];
            let mut fixed = vec![("number", text(format!("K-{n:03}")))];
            let unit = UNITS.get(self.below(3));
            if let Some(code) = unit {
                let name = anklang_domain::name::format(&[("orgUnits", *code)]);
                fixed.push(("org_unit", text(name)));
            }
            let extra = json!({"org_unit_code": unit});
            self.row(Entity::Customer, customer, &[], &fixed, extra);
            for p in 0..self.below(4) {
                let address = [
                    ("address", text(format!("address{p}"))),
                    ("position", Cell::Number((p + 1).into())),
                ];
                let extra = json!({"address_hash": "\\x00"});
                self.row(
                    Entity::ContactPoint,
                    id(POINT, n * 10 + p),
                    &points,
                    &address,
                    extra,
                );
            }
            for channel in ["mail", "phone"] {
                if self.below(2) == 0 {
                    let fixed = [("channel", text(channel)), ("purpose", text("marketing"))];
                    self.row(Entity::Consent, Uuid::nil(), &points, &fixed, json!({}));
                }
            }
        }
    }

    fn contracts(&mut self, versions: &[Version]) {
        for n in 0..CONTRACTS {
            let contract = id(CONTRACT, n);
            let customer = id(CUSTOMER, self.below(CUSTOMERS));
            let brand = self.below(2);
            let mut fixed = vec![
                ("number", text(format!("V-{n:03}"))),
                ("brand", self.brand(brand)),
            ];
            let mut extra = json!({
                "brand_id": id(BRAND, brand), "product_version_id": null,
            });
            if let Some(version) = versions.get(self.below(versions.len() + 1)) {
                fixed.extend(version.cells());
                extra["product_version_id"] = json!(version.id);
            }
            self.row(
                Entity::Contract,
                contract,
                &[("customer", customer)],
                &fixed,
                extra,
            );
            for code in ["glass", "third_party", "hail"] {
                if self.below(2) == 0 {
                    let fixed = [("code", text(code))];
                    let points = [("contract", contract)];
                    self.row(
                        Entity::ContractItem,
                        Uuid::nil(),
                        &points,
                        &fixed,
                        json!({}),
                    );
                }
            }
        }
    }

    fn orders(&mut self) {
        for n in 0..ORDERS {
            let order = id(ORDER, n);
            let customer = id(CUSTOMER, self.below(CUSTOMERS));
            let mut total = Decimal::ZERO;
            for line in 1..=self.below(4) {
                let quantity = self.pick(numbers());
                let price = self.pick(numbers());
                total += quantity * price;
                let fixed = [
                    ("line", Cell::Number(line.into())),
                    ("quantity", Cell::Number(quantity)),
                    ("unit_price", Cell::Number(price)),
                ];
                self.row(
                    Entity::OrderLine,
                    Uuid::nil(),
                    &[("order", order)],
                    &fixed,
                    json!({}),
                );
            }
            let mut fixed = vec![
                ("number", text(format!("B-{n:03}"))),
                ("total", Cell::Number(total)),
            ];
            let state = self.random_cell(Entity::Order, "state", FieldType::Text);
            let state = state.expect("texts are never without a value");
            let mut extra = json!({"brand_id": null, "taken_number": ""});
            if state != text("") {
                extra["taken_number"] = json!(format!("B-{n:03}"));
            }
            fixed.push(("state", state));
            if self.below(2) == 0 {
                fixed.push(("brand", self.brand(0)));
                extra["brand_id"] = json!(id(BRAND, 0));
            }
            self.row(
                Entity::Order,
                order,
                &[("customer", customer)],
                &fixed,
                extra,
            );
        }
    }

    fn offers(&mut self, versions: &[Version], phases: &[Phase]) {
        for n in 0..OFFERS {
            let offer = id(OFFER, n);
            let points = [
                ("customer", id(CUSTOMER, self.below(CUSTOMERS))),
                ("contract", id(CONTRACT, self.below(CONTRACTS))),
            ];
            let version = &versions[self.below(versions.len())];
            let mut fixed = vec![("number", text(format!("A-{n:03}")))];
            fixed.extend(version.cells());
            let mut extra = json!({
                "product_version_id": version.id, "document_template": "d",
                "base_price_per_year": 1, "unit_price_per_kwh": 1, "campaign_id": null,
                "phase_id": null,
            });
            if let Some(phase) = phases.get(self.below(phases.len() + 1)) {
                fixed.extend(phase.cells());
                extra["campaign_id"] = json!(phase.campaign);
                extra["phase_id"] = json!(phase.id);
            }
            self.row(Entity::Offer, offer, &points, &fixed, extra);
        }
    }

    fn messages(&mut self, phases: &[Phase]) {
        for n in 0..MESSAGES {
            let at = self.below(phases.len());
            let points = [
                ("customer", id(CUSTOMER, self.below(CUSTOMERS))),
                ("offer", id(OFFER, self.below(OFFERS))),
            ];
            let extra = json!({
                "campaign_id": phases[at].campaign,
                "phase_id": phases[at].id, "outbound_id": id(OUTBOUND, at), "member_seq": n,
                "account": "a", "address": "a", "address_hash": "\\x00",
            });
            self.row(
                Entity::Message,
                id(MESSAGE, n),
                &points,
                &phases[at].cells(),
                extra,
            );
        }
    }
}

/// What comes back, and what people do.
impl Maker {
    fn reports(&mut self, phases: &[Phase]) {
        for n in 0..REPORTS {
            let points = [("message", id(MESSAGE, self.below(MESSAGES)))];
            let extra = json!({
                "key": format!("\\x{n:02x}"), "detail": "",
                "campaign_id": phases[0].campaign, "phase_id": phases[0].id,
            });
            self.row(Entity::Report, Uuid::nil(), &points, &[], extra);
        }
    }

    fn inbound_messages(&mut self) {
        for n in 0..INBOUND {
            let mut points = vec![("customer", id(CUSTOMER, self.below(CUSTOMERS)))];
            if self.below(2) == 0 {
                points.push(("message", id(MESSAGE, self.below(MESSAGES))));
            }
            let extra = json!({
                "account": "a", "key": format!("\\x{n:02x}"), "sender": "", "sender_name": "",
                "recipient": "", "address_hash": "\\x00", "provider_message_id": "",
            });
            self.row(Entity::InboundMessage, id(ANSWER, n), &points, &[], extra);
        }
    }

    fn planned_contacts(&mut self) {
        for n in 0..CONTACTS {
            let customer = id(CUSTOMER, self.below(CUSTOMERS));
            let mut points = vec![("customer", customer)];
            if self.below(2) == 0 {
                points.push(("offer", id(OFFER, self.below(OFFERS))));
            }
            let attempts = self.below(3);
            let (state, next) = match self.below(3) {
                0 => ("done", Json::Null),
                1 => ("waiting", json!("2026-03-30T08:00:00Z")),
                _ => ("open", json!("2026-03-30T08:00:00Z")),
            };
            let fixed = [
                ("state", text(state)),
                ("attempt_count", Cell::Number(attempts.into())),
                ("priority", Cell::Number(self.below(3).into())),
            ];
            let extra = json!({
                "plan_date": "2026-03-30", "window_from": "2026-03-30T08:00:00Z",
                "window_to": "2026-03-30T16:00:00Z", "next_at": next,
            });
            let contact = id(CONTACT, n);
            self.row(Entity::PlannedContact, contact, &points, &fixed, extra);
            for attempt in 1..=attempts {
                let extra = json!({
                    "attempt": attempt, "customer_id": customer, "worker": "w", "purpose": "",
                });
                let points = [("contact", contact)];
                self.row(Entity::ContactAttempt, Uuid::nil(), &points, &[], extra);
            }
        }
    }
}

/// Order in which tables can be filled.
const TABLES: [&str; 25] = [
    "org_unit",
    "brand",
    "attribute_definition",
    "product",
    "product_version",
    "campaign",
    "operation",
    "phase",
    "outbound",
    "customer",
    "contact_point",
    "consent",
    "customer_attribute",
    "contract",
    "contract_item",
    "contract_attribute",
    "sales_order",
    "order_line",
    "offer",
    "message",
    "suppression",
    "message_report",
    "inbound_message",
    "planned_contact",
    "contact_attempt",
];

/// Makes a tenant with its world. Another `seed` makes another world of the same ids; an even one
/// gives them to other brands, products and phases, too.
pub async fn tenant(store: &Store, url: &str, slug: &str, seed: u8) -> (Tenant, World) {
    let tenant = tenant::upsert(store, slug, slug, Tz::Europe__Berlin)
        .await
        .expect("a tenant");
    let config = ProptestConfig::default();
    let rng = proptest::test_runner::TestRng::from_seed(
        proptest::test_runner::RngAlgorithm::ChaCha,
        &[seed; 32],
    );
    let mut maker = Maker {
        runner: TestRunner::new_with_rng(config, rng),
        tenant: tenant.id.0,
        brands: ["nord", "süd"],
        products: [("A", &["2025", "2026"]), ("B/x", &["2026"])],
        phases: [2, 1],
        world: World::default(),
        tables: Vec::new(),
    };
    if seed.is_multiple_of(2) {
        maker.brands.reverse();
        maker.products.reverse();
        maker.phases.reverse();
    }
    let (versions, phases) = maker.catalogue();
    maker.customers();
    maker.contracts(&versions);
    maker.orders();
    maker.offers(&versions, &phases);
    maker.messages(&phases);
    maker.reports(&phases);
    maker.inbound_messages();
    maker.planned_contacts();
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    for table in TABLES {
        let Some((_, rows)) = maker.tables.iter().find(|(name, _)| *name == table) else {
            continue;
        };
        let columns: BTreeSet<&str> = rows
            .iter()
            .filter_map(Json::as_object)
            .flat_map(|row| row.keys().map(String::as_str))
            .collect();
        let columns: Vec<&str> = columns.into_iter().collect();
        let columns = columns.join(", ");
        let sql = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns}
             FROM jsonb_populate_recordset(NULL::{table}, $1)"
        );
        let inserted = client.execute(&sql, &[&Json::Array(rows.clone())]).await;
        assert_eq!(inserted.expect(table), rows.len() as u64, "{table}");
    }
    (tenant, maker.world)
}
