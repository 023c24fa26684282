//! Winback: who is drifting away, what is at stake, what is done about it, and what that brought.
//!
//! - **Who**: [`detect`] compares two periods of a customer's revenue by the tenant's
//!   [`DetectionSettings`], with the season of the tenant ([`SeasonIndex`]) taken out.
//! - **What is at stake**: [`BgNbd`] says from how often and how lately a customer bought how likely they
//!   are to be one still, and how often they will buy; [`GammaGamma`] what an order of theirs is
//!   worth; [`outlook`] puts both together to the revenue at stake.
//! - **What is done**: [`act`] and [`on_order`] move a [`Case`] between its states, which lie on the six
//!   [`Tile`]s.
//! - **What is said**: [`Values`] are the variables of templates; [`translate`] reads Mailjet's
//!   way of writing them.
//! - **What it brought**: a [`ControlGroup`] is left alone, and [`recovered`] compares with it.
//!
//! Everything is a function of its arguments: days are those of the tenant's time zone, amounts in one
//! currency. Rules about money are in exact decimals, so that the same comparison in SQL gives the
//! same verdict; statistics are in floating point.

mod bgnbd;
mod case;
mod control;
mod detection;
mod expected;
mod gamma_gamma;
mod link;
mod optimise;
mod purchases;
mod recovery;
mod season;
mod settings;
mod stake;
mod tenant;
mod variables;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests;

pub use bgnbd::{BgNbd, FitError};
pub use case::{
    ActError, Acted, Action, Actor, Case, CaseRules, CaseState, Hold, MOST_NOTE,
    MOST_REMINDER_DAYS, MailTemplate, NoInterestReason, OnOrder, REMINDER_DAYS, Remind, Tile, act,
    claim, on_order, tile_of,
};
pub use control::{ControlGroup, MOST_CONTROL_PERCENT};
pub use detection::{CustomerSums, Decline, Finding, LostGroups, NoCase, detect};
pub use gamma_gamma::{GammaGamma, Spending};
pub use link::link;
pub use optimise::FitStatistics;
pub use purchases::{PurchaseGroup, Purchases, group_purchases};
pub use recovery::{FEW_CUSTOMERS, NoRecovered, Recovered, RevenueGroup, recovered};
pub use season::{LEAST_WEEKS, SeasonError, SeasonIndex};
pub use settings::{
    Comparison, DetectionSettings, Exclusion, MOST_EXCLUSIONS, MOST_MONEY, Periods, SEASON_DAYS,
};
pub use stake::{Outlook, YEAR_WEEKS, outlook};
pub use tenant::{Links, Settings};
pub use variables::{
    Facts, MOST_FALLBACK, Markup, Translation, Values, Variable, VariableError, german_date,
    german_euros, leading_group, translate,
};
