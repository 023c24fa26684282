//! A small random world: in memory for the naive evaluator, and the same in the database.
//!
//! Two tenants have rows with the very same ids and other values, so that a table without its
//! tenant's predicate gives a wrong answer.

use std::collections::BTreeMap;

use anklang_store::selection::registry::{Entity, FieldType};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

/// Just after midnight in Berlin, still the day before in UTC; the clocks changed the day before.
pub const AS_OF: &str = "2026-03-29T22:30:00Z";

pub fn as_of() -> DateTime<Utc> {
    AS_OF.parse().expect("a time")
}

/// A value of a field.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Cell {
    Text(String),
    Number(Decimal),
    Flag(bool),
    Date(NaiveDate),
    Time(DateTime<Utc>),
}

/// A row without the fields that have no value.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: Uuid,
    /// Ids of the rows that it points at.
    pub points_at: BTreeMap<&'static str, Uuid>,
    pub cells: BTreeMap<String, Cell>,
}

#[derive(Debug, Default)]
pub struct World {
    pub rows: BTreeMap<Entity, Vec<Row>>,
}

impl World {
    pub fn of(&self, entity: Entity) -> &[Row] {
        self.rows.get(&entity).map_or(&[], |rows| rows)
    }
}

/// Attributes that both tenants have.
pub const ATTRIBUTES: [(Entity, &str, FieldType); 5] = [
    (Entity::Customer, "segment", FieldType::Text),
    (Entity::Customer, "score", FieldType::Number),
    (Entity::Customer, "vip", FieldType::Flag),
    (Entity::Contract, "segment", FieldType::Text),
    (Entity::Contract, "read_on", FieldType::Date),
];

const WORDS: [&str; 12] = [
    "",
    "",
    "A",
    "a",
    "AB",
    "aB%",
    "b_c",
    "Ärger",
    "ärger",
    "mit \\ Strich",
    "zzz",
    "'; --",
];
const POSTCODES: [&str; 8] = [
    "", "34999", "35000", "35037", "35999", "35999a", "36000", "9",
];

pub fn id(kind: u8, number: usize) -> Uuid {
    Uuid::from_u128((u128::from(kind) << 64) + number as u128)
}

/// Days around the day of the run, its change of clocks included.
pub fn dates() -> impl Strategy<Value = NaiveDate> {
    (-4..4i64).prop_map(|d| as_of().date_naive() + TimeDelta::days(d))
}

/// Times around the beginnings of days in Berlin.
pub fn times() -> impl Strategy<Value = DateTime<Utc>> {
    (
        -4..4i64,
        21..24i64,
        prop::sample::select(vec![-1i64, 0, 1, 1_800_000_000]),
    )
        .prop_map(|(day, hour, micros)| {
            let midnight = as_of()
                .date_naive()
                .and_hms_opt(0, 0, 0)
                .expect("midnight")
                .and_utc();
            midnight
                + TimeDelta::days(day)
                + TimeDelta::hours(hour)
                + TimeDelta::microseconds(micros)
        })
}

pub fn numbers() -> impl Strategy<Value = Decimal> {
    (0..6i64, prop::sample::select(vec!["0", "0.5", "1000"]))
        .prop_map(|(n, d)| Decimal::from(n) + d.parse::<Decimal>().expect("a number"))
}

pub fn texts(field: &str) -> BoxedStrategy<String> {
    let words: Vec<&str> = match field {
        "kind" => vec!["person", "company"],
        "salutation" => vec!["", "female", "male", "diverse"],
        "site_postal_code" | "postal_code" => POSTCODES.to_vec(),
        "country" => vec!["DE", "AT"],
        "currency_code" => vec!["EUR", "CHF"],
        "division" => vec!["electricity", "gas", "motor"],
        "supply_status" => vec!["", "AU", "AB", "XX"],
        "product_group" => vec!["", "Obst", "Gemüse"],
        "channel" => vec!["mail", "phone"],
        _ => WORDS.to_vec(),
    };
    prop::sample::select(words).prop_map(str::to_owned).boxed()
}
