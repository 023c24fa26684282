//! Voucher codes.

use super::{Entity, Fields, Key, Row, key_of};
use crate::Violations;

/// Longest voucher code, in characters.
pub const MAX_VOUCHER_CODE: usize = 64;

/// A voucher code as it comes in, into a pool that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct VoucherRow {
    pub brand_code: String,
    pub pool: String,
    pub code: String,
}

impl Row for VoucherRow {
    const ENTITY: Entity = Entity::Vouchers;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let row = VoucherRow {
            brand_code: f.number("brand_code"),
            pool: f.number("pool"),
            code: f.required("code", MAX_VOUCHER_CODE),
        };
        if row
            .code
            .contains(|c: char| c.is_whitespace() || c.is_control())
        {
            f.refuse("code", "must have no spaces");
        }
        f.finish(row)
    }

    /// A code is the tenant's once, whatever its pool.
    fn key(&self) -> Key {
        key_of(&[&self.code])
    }
}
