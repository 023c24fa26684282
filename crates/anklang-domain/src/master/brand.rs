//! Brands.

use super::fields::MAX_NAME;
use super::{Entity, Fields, Key, Row, key_of};
use crate::Violations;

/// A brand as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct BrandRow {
    pub code: String,
    pub name: String,
    pub legal_name: String,
    pub street: String,
    pub house_number: String,
    pub postal_code: String,
    pub city: String,
    pub country: String,
    pub phone: String,
    pub email: String,
    pub website: String,
    pub register_line: String,
    pub vat_id: String,
    pub bank_line: String,
    pub sender_name: String,
    pub sender_email: String,
    pub reply_to: String,
}

impl Row for BrandRow {
    const ENTITY: Entity = Entity::Brands;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let [street, house_number, postal_code, city] = f.place("");
        let row = BrandRow {
            code: f.number("code"),
            name: f.required("name", MAX_NAME),
            legal_name: f.text("legal_name", MAX_NAME),
            street,
            house_number,
            postal_code,
            city,
            country: f.country("country"),
            phone: f.text("phone", 64),
            email: f.text("email", 254),
            website: f.text("website", MAX_NAME),
            register_line: f.text("register_line", MAX_NAME),
            vat_id: f.text("vat_id", 64),
            bank_line: f.text("bank_line", MAX_NAME),
            sender_name: f.text("sender_name", MAX_NAME),
            sender_email: f.mail("sender_email", true),
            reply_to: f.mail("reply_to", false),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.code])
    }
}
