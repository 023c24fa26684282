//! Products and their versions.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::fields::{Digits, MAX_NAME};
use super::{Entity, Fields, Key, Row, key_of};
use crate::Violations;

/// A product as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct ProductRow {
    pub number: String,
    pub name: String,
    pub division: String,
    pub brand_code: String,
}

impl Row for ProductRow {
    const ENTITY: Entity = Entity::Products;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = ProductRow {
            number: f.number("number"),
            name: f.required("name", MAX_NAME),
            division: f.division("division"),
            brand_code: f.number("brand_code"),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.number])
    }
}

/// A product version as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct ProductVersionRow {
    pub product_number: String,
    pub code: String,
    pub name: String,
    pub valid_from: NaiveDate,
    pub valid_to: Option<NaiveDate>,
    pub base_price_per_year: Decimal,
    pub unit_price_per_kwh: Decimal,
    pub currency: String,
}

/// Base price of a year.
const BASE_PRICE: Digits = Digits {
    whole: 10,
    fraction: 4,
    unsigned: true,
};
/// Price of a kWh.
const UNIT_PRICE: Digits = Digits {
    whole: 8,
    fraction: 6,
    unsigned: true,
};

impl Row for ProductVersionRow {
    const ENTITY: Entity = Entity::ProductVersions;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = ProductVersionRow {
            product_number: f.number("product_number"),
            code: f.number("code"),
            name: f.required("name", MAX_NAME),
            valid_from: f.required_date("valid_from"),
            valid_to: f.date("valid_to"),
            base_price_per_year: f.required_decimal("base_price_per_year", BASE_PRICE),
            unit_price_per_kwh: f.required_decimal("unit_price_per_kwh", UNIT_PRICE),
            currency: f.currency("currency"),
        };
        if row.valid_to.is_some_and(|to| to < row.valid_from) {
            f.refuse("valid_to", "must not be before valid_from");
        }
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.product_number, &self.code])
    }
}
