//! Attributes of customers and contracts.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::fields::Digits;
use super::{Entity, Fields, Key, Row, key_of};
use crate::Violations;

/// An attribute as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct AttributeRow {
    /// "customer" or "contract".
    pub entity: &'static str,
    pub number: String,
    pub key: String,
    pub value: AttributeValue,
}

/// A value with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// Decimal number.
    Number(Decimal),
    /// Truth value.
    Flag(bool),
    /// Date.
    Date(NaiveDate),
}

impl AttributeValue {
    /// The word for the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            AttributeValue::Text(_) => "text",
            AttributeValue::Number(_) => "number",
            AttributeValue::Flag(_) => "flag",
            AttributeValue::Date(_) => "date",
        }
    }
}

/// An attribute's number.
const NUMBER: Digits = Digits {
    whole: 14,
    fraction: 6,
    unsigned: false,
};

impl Row for AttributeRow {
    const ENTITY: Entity = Entity::Attributes;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = AttributeRow {
            entity: f.word("entity", &["customer", "contract"]),
            number: f.number("number"),
            key: f.identifier("key", 64),
            value: value(&mut f),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[self.entity, &self.number, &self.key])
    }
}

fn value(f: &mut Fields<'_, '_>) -> AttributeValue {
    match f.word("type", &["text", "number", "flag", "date", "bool"]) {
        "number" => AttributeValue::Number(f.required_decimal("value", NUMBER)),
        "date" => AttributeValue::Date(f.required_date("value")),
        "flag" | "bool" => AttributeValue::Flag(match f.raw("value") {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => {
                f.refuse("value", "must be true or false");
                false
            }
        }),
        _ => AttributeValue::Text(f.lines("value", 1_000)),
    }
}
