//! Filters and orders of lists, after Google's AIP-160 and AIP-132: text to a tree.
//!
//! The tree knows no resource: names of fields and values are text here and meet the fields of a
//! resource in the store.
//!
//! # The language of filters
//! `field = value`, with `= != < <= > >=` and `:`; `AND`, `OR`, `NOT` (or `-` before a comparison)
//! in capitals, and parentheses. As in AIP-160 **`OR` binds tighter than `AND`**. Values are quoted
//! by `"` or `'` (a backslash takes the next character as it is) or written plainly, up to the next
//! blank or parenthesis. Not supported: functions, comparisons of a value with all fields, fields
//! on the right side, wildcards.
//!
//! # The language of orders
//! `field desc, other`: names with commas between them, each ascending unless `desc` follows.

mod filter;
mod order;

pub use filter::{Comparator, Comparison, Filter, Literal, parse_filter};
pub use order::{OrderItem, parse_order};

/// The most bytes of a filter.
pub const MAX_FILTER: usize = 8_192;
/// The most comparisons of a filter.
pub const MAX_COMPARISONS: usize = 64;
/// The most parentheses and negations within one another.
pub const MAX_DEPTH: usize = 16;
/// The most bytes of an order.
pub const MAX_ORDER: usize = 1_024;
/// The most fields of an order.
pub const MAX_ORDER_FIELDS: usize = 8;

/// What is wrong with a filter or an order, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {reason}")]
pub struct Fault {
    /// From 1, in characters.
    pub position: usize,
    /// What is wrong and what would be right.
    pub reason: String,
}
