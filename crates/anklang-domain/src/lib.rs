//! The rules of outreach, pure: ids, states and transitions, the selection language, names and
//! addresses, offers, phases and their dates, contact plans, winback, message outcomes, what callers may do,
//! the chain of the audit log.
//! No I/O, no clock, no async: time is passed in.

pub mod access;
pub mod account;
pub mod approval;
pub mod audit;
pub mod channel;
pub mod forecast;
pub mod handover;
pub mod id;
pub mod inbound;
pub mod listing;
pub mod master;
pub mod message;
pub mod name;
pub mod offer;
pub mod order;
pub mod phase;
pub mod planning;
pub mod rate;
pub mod report;
pub mod route;
pub mod schedule;
pub mod selection;
pub mod unsubscribe;
pub mod violation;
pub mod winback;
pub mod window;

pub use id::*;
pub use violation::{Violation, Violations};
