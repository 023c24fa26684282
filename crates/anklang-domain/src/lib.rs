//! The rules of outreach, pure: ids, states and transitions, the selection language, names and
//! addresses, offers, message outcomes. No I/O, no clock, no async: time is passed in.

pub mod channel;
pub mod id;
pub mod master;
pub mod message;
pub mod name;
pub mod offer;
pub mod rate;
pub mod selection;
pub mod unsubscribe;
pub mod violation;
pub mod window;

pub use id::*;
pub use violation::{Violation, Violations};
