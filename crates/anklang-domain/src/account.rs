//! Channel accounts: what their limits may be, wherever they come from.

use rust_decimal::Decimal;

use crate::rate::Rate;
use crate::window::Window;
use crate::{Violations, message::AmbiguousPolicy};

/// The most messages that are claimed together, and what is usual.
pub const MAX_BATCH: i32 = 1_000;
/// See [`MAX_BATCH`].
pub const USUAL_BATCH: i32 = 64;
/// The most calls at the same time, and what is usual.
pub const MAX_CALLS: i32 = 64;
/// See [`MAX_CALLS`].
pub const USUAL_CALLS: i32 = 4;
/// The largest burst.
pub const MAX_BURST: i32 = 1_000_000;
/// The most that a message may cost.
const MAX_COST: i64 = 1_000;
/// The most decimals of it.
const COST_DECIMALS: u32 = 6;

/// Whether a text is the id of an account, a plugin or a route: 1 to 63 of a–z, 0–9 and hyphens.
pub fn is_id(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Reads a rate and its burst, 0 for what comes in a second; violations at the two fields.
pub fn rate(
    text: &str,
    burst: u32,
    fields: [String; 2],
    violations: &mut Violations,
) -> Option<Rate> {
    let [rate_field, burst_field] = fields;
    if text.is_empty() {
        if burst > 0 {
            violations.add(burst_field, "needs a rate");
        }
        return None;
    }
    let burst = Some(burst).filter(|burst| *burst > 0);
    violations.check(rate_field, Rate::parse(text, burst))
}

/// Reads hours and days of sending; violations at the two fields, and `None` when that is always.
pub fn window(
    hours: &str,
    days: &[String],
    fields: [String; 2],
    violations: &mut Violations,
) -> Option<Window> {
    let [hours_field, days_field] = fields;
    violations.check(hours_field, Window::parse(hours, &[]));
    violations.check(days_field, Window::parse("", days));
    Window::parse(hours, days).ok().flatten()
}

/// Checks what a message costs.
///
/// # Errors
/// What is wrong, for people.
pub fn cost(amount: Decimal, currency: &str) -> Result<(Decimal, String), &'static str> {
    const FORM: &str = "must be an amount from 0 to 1000 with at most six decimals and its \
                        currency, e.g. 0.0150 EUR";
    let amount_fits = amount.normalize().scale() <= COST_DECIMALS
        && (Decimal::ZERO..=Decimal::from(MAX_COST)).contains(&amount);
    let known = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase());
    if amount_fits && known {
        Ok((amount, currency.to_owned()))
    } else {
        Err(FORM)
    }
}

impl AmbiguousPolicy {
    /// The word of the database and of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            AmbiguousPolicy::Resend => "resend",
            AmbiguousPolicy::Hold => "hold",
        }
    }

    /// The policy of a word.
    pub fn by_word(word: &str) -> Option<Self> {
        match word {
            "resend" => Some(AmbiguousPolicy::Resend),
            "hold" => Some(AmbiguousPolicy::Hold),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_refused_where_they_are_wrong() {
        let fields = || ["first".to_owned(), "second".to_owned()];
        let told = |violations: Violations| -> Vec<String> {
            violations.into_vec().into_iter().map(|v| v.field).collect()
        };
        let mut violations = Violations::new();
        assert!(rate("", 0, fields(), &mut violations).is_none());
        assert!(rate("60/minute", 0, fields(), &mut violations).is_some_and(|r| r.burst() == 1));
        assert!(rate("60/minute", 7, fields(), &mut violations).is_some_and(|r| r.burst() == 7));
        let days = ["mon".to_owned()];
        assert!(window("08:00-20:00", &days, fields(), &mut violations).is_some());
        assert!(window("", &[], fields(), &mut violations).is_none());
        assert!(violations.is_empty());
        rate("", 3, fields(), &mut violations);
        rate("fast", 0, fields(), &mut violations);
        window("20:00-08:00", &["Montag".into()], fields(), &mut violations);
        assert_eq!(told(violations), ["second", "first", "first", "second"]);
    }

    #[test]
    fn costs_and_ids_have_their_form() {
        let amount = |text: &str| text.parse::<Decimal>().expect("a decimal");
        assert!(cost(amount("0.0150"), "EUR").is_ok());
        assert!(cost(amount("0.015000000"), "EUR").is_ok());
        for (wrong, currency) in [
            ("-1", "EUR"),
            ("1000.01", "EUR"),
            ("0.0000001", "EUR"),
            ("1", "eur"),
            ("1", ""),
        ] {
            assert!(cost(amount(wrong), currency).is_err(), "{wrong} {currency}");
        }
        assert!(is_id("relay-2") && !is_id("") && !is_id("Relay") && !is_id(&"a".repeat(64)));
    }
}
