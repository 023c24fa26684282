//! Contracts and their items.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::fields::{Digits, MAX_NAME};
use super::{Entity, Fields, Key, Row, key_of};
use crate::Violations;

/// A contract as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct ContractRow {
    pub number: String,
    pub customer_number: String,
    pub brand_code: String,
    pub division: String,
    pub supply_status: String,
    pub site_street: String,
    pub site_house_number: String,
    pub site_postal_code: String,
    pub site_city: String,
    pub annual_quantity_kwh: Option<Decimal>,
    pub product_number: String,
    pub product_version_code: String,
    pub start_date: Option<NaiveDate>,
    pub end_date: Option<NaiveDate>,
    pub notice_date: Option<NaiveDate>,
}

/// Forecast of a year in kWh.
const ANNUAL_QUANTITY: Digits = Digits {
    whole: 9,
    fraction: 3,
    unsigned: true,
};

impl Row for ContractRow {
    const ENTITY: Entity = Entity::Contracts;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let [site_street, site_house_number, site_postal_code, site_city] = f.place("site_");
        let row = ContractRow {
            number: f.number("number"),
            customer_number: f.number("customer_number"),
            brand_code: f.number("brand_code"),
            division: f.division("division"),
            supply_status: f.text("supply_status", 16),
            site_street,
            site_house_number,
            site_postal_code,
            site_city,
            annual_quantity_kwh: f.decimal("annual_quantity_kwh", ANNUAL_QUANTITY),
            product_number: f.optional_number("product_number"),
            product_version_code: f.optional_number("product_version_code"),
            start_date: f.date("start_date"),
            end_date: f.date("end_date"),
            notice_date: f.date("notice_date"),
        };
        match (
            row.product_number.is_empty(),
            row.product_version_code.is_empty(),
        ) {
            (true, false) => f.refuse("product_number", "is required with product_version_code"),
            (false, true) => f.refuse("product_version_code", "is required with product_number"),
            _ => {}
        }
        if row
            .start_date
            .zip(row.end_date)
            .is_some_and(|(start, end)| end < start)
        {
            f.refuse("end_date", "must not be before start_date");
        }
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.number])
    }
}

/// A part of a contract as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct ContractItemRow {
    pub contract_number: String,
    pub code: String,
    pub name: String,
    pub quantity: Option<Decimal>,
}

/// Quantity of an item.
const QUANTITY: Digits = Digits {
    whole: 11,
    fraction: 3,
    unsigned: false,
};

impl Row for ContractItemRow {
    const ENTITY: Entity = Entity::ContractItems;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = ContractItemRow {
            contract_number: f.number("contract_number"),
            code: f.number("code"),
            name: f.text("name", MAX_NAME),
            quantity: f.decimal("quantity", QUANTITY),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.contract_number, &self.code])
    }
}
