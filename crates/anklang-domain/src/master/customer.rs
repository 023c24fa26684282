//! Customers, their contact points and consents.

use chrono::{DateTime, NaiveDate, Utc};

use super::fields::MAX_NAME;
use super::{Entity, Fields, Key, Row, contact, key_of};
use crate::Violations;

/// A customer as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct CustomerRow {
    pub number: String,
    pub kind: &'static str,
    pub salutation: &'static str,
    pub title: String,
    pub first_name: String,
    pub last_name: String,
    pub company_name: String,
    pub customer_group: String,
    pub language: String,
    pub time_zone: String,
    pub birth_date: Option<NaiveDate>,
    pub street: String,
    pub house_number: String,
    pub postal_code: String,
    pub city: String,
    pub country: String,
    pub org_unit_code: Option<String>,
}

impl Row for CustomerRow {
    const ENTITY: Entity = Entity::Customers;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let [street, house_number, postal_code, city] = f.place("");
        let row = CustomerRow {
            number: f.number("number"),
            kind: f.word("kind", &["person", "company"]),
            salutation: f.optional_word("salutation", &["female", "male", "diverse"]),
            title: f.text("title", 40),
            first_name: f.text("first_name", 100),
            last_name: f.text("last_name", 100),
            company_name: f.text("company_name", MAX_NAME),
            customer_group: f.text("customer_group", 64),
            language: f.language("language"),
            time_zone: f.time_zone("time_zone"),
            birth_date: f.date("birth_date"),
            street,
            house_number,
            postal_code,
            city,
            country: f.country("country"),
            org_unit_code: Some(f.optional_number("org_unit_code")).filter(|code| !code.is_empty()),
        };
        match f.raw("kind") {
            "person" if row.last_name.is_empty() => {
                f.refuse("last_name", "is required for a person");
            }
            "company" if row.company_name.is_empty() => {
                f.refuse("company_name", "is required for a company");
            }
            _ => {}
        }
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.number])
    }
}

/// A contact point as it comes in; the address is normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct ContactPointRow {
    pub customer_number: String,
    pub channel: String,
    pub address: String,
    pub position: i32,
}

impl Row for ContactPointRow {
    const ENTITY: Entity = Entity::ContactPoints;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let country = f.country("country");
        let channel = f.channel("channel");
        let address = address(&mut f, &channel, &country);
        let row = ContactPointRow {
            customer_number: f.number("customer_number"),
            position: f.count("position", Some(1)),
            channel,
            address,
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.customer_number, &self.channel, &self.address])
    }
}

/// The field `address` on a channel, normalised.
pub(super) fn address(f: &mut Fields<'_, '_>, channel: &str, country: &str) -> String {
    contact::normalise(channel, f.raw("address"), country).unwrap_or_else(|error| {
        f.refuse("address", error.to_string());
        String::new()
    })
}

/// A consent as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct ConsentRow {
    pub customer_number: String,
    pub channel: String,
    pub purpose: String,
    pub state: &'static str,
    pub recorded_at: DateTime<Utc>,
    pub source: String,
    pub evidence: String,
}

impl Row for ConsentRow {
    const ENTITY: Entity = Entity::Consents;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = ConsentRow {
            customer_number: f.number("customer_number"),
            channel: f.channel("channel"),
            purpose: f.identifier("purpose", 64),
            state: f.word("state", &["granted", "withdrawn"]),
            recorded_at: f.required_time("recorded_at"),
            source: f.text("source", 200),
            evidence: f.lines("evidence", 1_000),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.customer_number, &self.channel, &self.purpose])
    }
}
