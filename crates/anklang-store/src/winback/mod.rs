//! Winback.

pub mod mail;
pub mod mailing;
pub mod template;
pub mod voucher;
