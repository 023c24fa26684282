//! Orders and their lines.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::fields::{Digits, MAX_NAME};
use super::{Entity, Fields, Key, Row, key_of};
use crate::Violations;

/// An order as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct OrderRow {
    pub number: String,
    pub customer_number: String,
    pub ordered_at: DateTime<Utc>,
    pub currency: String,
    pub brand_code: String,
    pub delivery_date: Option<NaiveDate>,
}

impl Row for OrderRow {
    const ENTITY: Entity = Entity::Orders;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = OrderRow {
            number: f.number("number"),
            customer_number: f.number("customer_number"),
            ordered_at: f.required_time("ordered_at"),
            currency: f.currency("currency"),
            brand_code: f.optional_number("brand_code"),
            delivery_date: f.date("delivery_date"),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.number])
    }
}

/// A line of an order as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct OrderLineRow {
    pub order_number: String,
    pub line: i32,
    pub product_number: String,
    pub product_name: String,
    pub product_group: String,
    pub quantity: Decimal,
    pub unit_price: Decimal,
}

/// Quantity of a line; below zero for a return.
const QUANTITY: Digits = Digits {
    whole: 11,
    fraction: 3,
    unsigned: false,
};
/// Price of a piece; below zero for a discount.
const UNIT_PRICE: Digits = Digits {
    whole: 10,
    fraction: 4,
    unsigned: false,
};

impl Row for OrderLineRow {
    const ENTITY: Entity = Entity::OrderLines;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = OrderLineRow {
            order_number: f.number("order_number"),
            line: f.count("line", None),
            product_number: f.optional_number("product_number"),
            product_name: f.text("product_name", MAX_NAME),
            product_group: f.text("product_group", MAX_NAME),
            quantity: f.required_decimal("quantity", QUANTITY),
            unit_price: f.required_decimal("unit_price", UNIT_PRICE),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.order_number, &self.line.to_string()])
    }
}
