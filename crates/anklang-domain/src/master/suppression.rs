//! Blocked addresses.

use super::customer::address;
use super::{Entity, Fields, Key, Row, key_of};
use crate::Violations;

/// A blocked address as it comes in, normalised; only its hash is ever stored.
#[derive(Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct SuppressionRow {
    pub channel: String,
    pub address: String,
    pub reason: String,
}

impl Row for SuppressionRow {
    const ENTITY: Entity = Entity::Suppressions;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let channel = f.channel("channel");
        let address = address(&mut f, &channel, "DE");
        let row = SuppressionRow {
            channel,
            address,
            reason: f.text("reason", 200),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.channel, &self.address])
    }
}
