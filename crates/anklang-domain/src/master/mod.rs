//! Master data on its way in: one validation for bulk imports and single updates.
//!
//! Each entity has a row type, read from text fields as they stand in a CSV. Reading trims,
//! checks and normalises, and reports *all* violations of a row at once, under the names of the
//! columns. What only the database knows (does the customer exist?) is checked by the store.

pub mod contact;
pub mod planning;

mod attribute;
mod brand;
mod contract;
mod customer;
mod entity;
mod fields;
mod order;
mod product;
mod suppression;
mod voucher;

pub use attribute::{AttributeRow, AttributeValue};
pub use brand::BrandRow;
pub use contract::{ContractItemRow, ContractRow};
pub use customer::{ConsentRow, ContactPointRow, CustomerRow};
pub use entity::Entity;
pub use fields::Fields;
pub use order::{OrderLineRow, OrderRow};
pub use planning::{InactivePeriodRow, PlanEntryRow};
pub use product::{ProductRow, ProductVersionRow};
pub use suppression::SuppressionRow;
pub use voucher::{MAX_VOUCHER_CODE, VoucherRow};

use sha2::{Digest, Sha256};

use crate::Violations;

/// What makes two rows of a file the same: 128 bits of a hash of the key's parts.
pub type Key = [u8; 16];

/// A row of an entity.
pub trait Row: Sized + Send + Sync + 'static {
    /// What it is a row of.
    const ENTITY: Entity;

    /// Reads a row out of text fields by column name; a column that is not there is `None`.
    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations>;

    /// Its key.
    fn key(&self) -> Key;
}

/// Hashes the parts of a key; two keys of one tenant do not meet by chance.
fn key_of(parts: &[&str]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

#[cfg(test)]
mod tests;
