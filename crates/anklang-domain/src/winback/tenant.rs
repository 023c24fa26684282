//! All that a tenant sets for winback: beside who counts ([`DetectionSettings`]) how cases are worked and
//! what is left alone for control.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::case::{MOST_REMINDER_DAYS, REMINDER_DAYS};
use super::control::MOST_CONTROL_PERCENT;
use super::settings::{Comparison, DetectionSettings};
use crate::Violations;
use crate::master::contact;

/// The longest window and rest, in days: ten years.
const MOST_DAYS: u32 = 3_660;
const MOST_LINK: usize = 2_000;
/// What a link has where the number goes.
const NUMBER: &str = "{number}";

/// What a tenant sets for winback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Who counts as drifting away.
    pub detection: DetectionSettings,
    /// The currency whose orders count, in ISO 4217.
    pub currency: String,
    /// Days of a reminder unless somebody says otherwise, 1 to [`MOST_REMINDER_DAYS`].
    pub reminder_days: u32,
    /// The id of the workday calendar that reminders go by.
    pub calendar: Option<String>,
    /// An order at most so many days after a contact counts as won by it, 1 to 3,660.
    pub win_window_days: u32,
    /// So many days after a case was closed no other one is opened, 0 to 3,660.
    pub rest_days: u32,
    /// The share of a campaign's customers who are left alone, 0 to [`MOST_CONTROL_PERCENT`].
    pub control_percent: f64,
    /// Where customer, product and order are shown.
    pub links: Links,
    /// The mail address that requests for offers go to; may be empty.
    pub offer_mail_to: String,
    /// The id of the channel account through which they go; empty: they are told to webhooks alone.
    #[serde(default)]
    pub offer_mail_account: String,
    /// Whether customers are looked at each night.
    pub nightly: bool,
}

/// Pages outside, each `https://…` with `{number}` in it once; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Of a customer.
    pub customer: String,
    /// Of a product.
    pub product: String,
    /// Of an order.
    pub order: String,
}

impl Default for Settings {
    /// What holds until somebody sets something: half a year against the one before, half of the revenue and
    /// at least 50 of it lost.
    fn default() -> Self {
        Settings {
            detection: DetectionSettings {
                groups: Vec::new(),
                excluded_groups: Vec::new(),
                least_orders: 2,
                least_revenue: Decimal::ZERO,
                exclusions: Vec::new(),
                comparison: Comparison::Preceding {
                    days: 182,
                    season: false,
                },
                least_drop_percent: Decimal::from(50),
                least_drop: Decimal::from(50),
                least_known_days: 91,
            },
            currency: "EUR".into(),
            reminder_days: REMINDER_DAYS,
            calendar: None,
            win_window_days: 90,
            rest_days: 180,
            control_percent: 10.0,
            links: Links::default(),
            offer_mail_to: String::new(),
            offer_mail_account: String::new(),
            nightly: false,
        }
    }
}

impl Settings {
    /// What is wrong, all at once; those of `detection` by its own names, of links as `links.customer`.
    pub fn violations(&self) -> Violations {
        let mut violations = self.detection.violations();
        if iso_currency::Currency::from_code(&self.currency).is_none() {
            violations.add("currency", "must be a currency of ISO 4217, e.g. EUR");
        }
        let days = [
            ("reminder_days", self.reminder_days, 1, MOST_REMINDER_DAYS),
            ("win_window_days", self.win_window_days, 1, MOST_DAYS),
            ("rest_days", self.rest_days, 0, MOST_DAYS),
        ];
        for (field, days, least, most) in days {
            if !(least..=most).contains(&days) {
                violations.add(field, format!("must be {least} to {most}"));
            }
        }
        if !(0.0..=MOST_CONTROL_PERCENT).contains(&self.control_percent) {
            let why = format!("must be 0 to {MOST_CONTROL_PERCENT}");
            violations.add("control_percent", why);
        }
        let links = [
            ("links.customer", &self.links.customer),
            ("links.product", &self.links.product),
            ("links.order", &self.links.order),
        ];
        for (field, link) in links {
            violations.check(field, check_link(link));
        }
        if !self.offer_mail_to.is_empty() {
            violations.check("offer_mail_to", contact::mail(&self.offer_mail_to));
        }
        violations
    }
}

fn check_link(link: &str) -> Result<(), &'static str> {
    if link.is_empty() {
        return Ok(());
    }
    if link.len() > MOST_LINK {
        return Err("must be at most 2,000 bytes long");
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`".contains(c);
    if link.contains(bad) {
        return Err("must be without blanks, quotes, < > \\ ^ ` and control characters");
    }
    let rest = link.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_host = |c: char| c.is_alphanumeric() || ".-:".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(
            "must begin with https:// and a host, e.g. https://shop.example/kunden/{number}",
        );
    }
    let others = link.replacen(NUMBER, "", 1);
    if others.len() == link.len() || others.contains(['{', '}']) {
        return Err("must have {number} in it once, and no other braces");
    }
    Ok(())
}
