//! Winback, end to end.

pub mod mails;
