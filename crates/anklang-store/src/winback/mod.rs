//! Winback: settings, detections and what they found, cases and those who work them, mails with vouchers,
//! and customers who close cases by buying again.
//!
//! What the numbers mean and who is a case are the domain's ([`anklang_domain::winback`]); here are the
//! rows. Revenue of an order is the sum of its lines; orders in another currency than the settings', and
//! those that the ERP rejected, do not count. Days are those of the tenant's time zone.

pub mod analysis;
pub mod case;
pub mod detection;
pub mod explain;
pub mod figures;
pub mod judge;
pub mod mail;
pub mod mailing;
pub mod settings;
pub mod template;
pub mod voucher;
pub mod won_back;

/// Cases that nothing leaves.
const CLOSED: &str = "('no_interest', 'won_back')";

/// An amount as it is stored: two decimals, half away from zero, and at most what the column holds.
fn money(amount: &str) -> String {
    format!("least(greatest(round({amount}, 2), -9999999999999999.99), 9999999999999999.99)")
}
