//! Contact planning: on which dates a plan's customers are contacted, when deliveries follow, and
//! when to try again.
//!
//! The way of a date, in this order, with a file for each step:
//!
//! 1. [`Recurrence`] gives the plan's *recurrence dates* within its validity.
//! 2. [`plan_dates`] decides for each of them, by the [`Calendar`] and the plan's [`Exception`]s, which
//!    go first: a contact, on that or on another date, one under another plan, or none; and which
//!    delivery days come into question.
//! 3. [`for_customer`] looks at one customer's [`InactivePeriod`]s: no contact, or a later delivery.
//! 4. [`EntryTimes`] puts the customer's hours on the date, in the plan's time zone.
//! 5. [`after_outcome`] says what follows when somebody has tried.
//!
//! All but step 3 and 4 depends on the plan and not on the customer, so that a batch runs it once for
//! each plan and joins customers in SQL. For that each contact carries
//! [`Delivery::candidates`], in order: the delivery of a customer is the first of them on which no
//! delivery-inactive period lies, and there is no contact when a contact-inactive period lies on the
//! date. That is all that [`for_customer`] does; it is the measure of that SQL, and says why. Contact
//! times become moments as by [`instant`], not by PostgreSQL's `AT TIME ZONE`: that takes the second of two
//! moments, and puts times that clocks leave out behind the gap by as much as they lie in it.
//!
//! Everything is a function of its arguments, dates are those of the plan's time zone, and asking for
//! a range in two parts gives the same as asking for it at once. Days lie between [`FIRST_DAY`] and
//! [`LAST_DAY`].

mod calendar;
mod calls;
mod delivery;
mod exception;
pub mod holidays;
mod inactive;
mod outcome;
mod plan;
mod recurrence;
mod rule;
mod times;
mod weekdays;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests;

pub use calendar::{Calendar, Day, OwnDay, OwnDayKind, SEARCH_DAYS};
pub use calls::{CallTimes, Calls, end_of};
pub use delivery::{DELIVERY_DAYS, Delivery, SkippedDay, deliveries, is_delivery_day};
pub use exception::{Change, Exception, check_exception};
pub use holidays::Region;
pub use inactive::{CustomerDate, DayType, DeliveryMoved, InactivePeriod, for_customer};
pub use outcome::{
    FollowUp, FollowUpChannel, FollowUpMessage, Next, OutcomeClass, OutcomeRules, RetryRule,
    after_outcome,
};
pub use plan::{
    DateOutcome, DateRange, FIRST_DAY, LAST_DAY, Moved, NoContact, OnHoliday, Plan, PlannedDate,
    plan_dates, under_plan,
};
pub use recurrence::{NthWeekday, Recurrence, Shape};
pub use times::{EntryTimes, instant, named_instant};
pub use weekdays::Weekdays;
