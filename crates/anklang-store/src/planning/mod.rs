//! Contact planning: plans, their entries and exceptions, inactive periods, workday calendars, and the
//! planned contacts that are generated from them.
//!
//! Weekdays are numbers, 1 for Monday. What plans, exceptions and calendars mean for dates is the
//! domain's ([`anklang_domain::planning`]); here are their rows.

pub mod calendar;
pub mod calls;
pub mod clock;
pub mod contact;
pub mod entry;
pub mod exception;
pub mod generate;
pub mod period;
pub mod plan;
pub mod work;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;

/// A count.
#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}
