//! From a number as the host has it (E.164) to what is dialled.
//!
//! Guarantees: nothing but digits, `+` and what the configuration itself adds is ever dialled, and
//! countries that are not allowed are not called.

use anklang_plugin_sdk::{OpenError, Outcome, Reason};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::invalid;

/// How numbers are dialled. Without any of these they are handed over as they are, with the `+`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DialRules {
    /// The country that is called without its code, by its digits: "49". Needs
    /// `international_prefix`.
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,2}$"))]
    own_country: Option<String>,
    /// What comes before the number within the own country.
    #[serde(default = "zero")]
    #[schemars(regex(pattern = r"^[0-9]{0,4}$"))]
    national_prefix: String,
    /// What comes before the number of other countries instead of the `+`: "00". Without it the
    /// number is handed over with its `+`.
    #[schemars(regex(pattern = r"^[0-9]{0,6}$"))]
    international_prefix: Option<String>,
    /// What comes first of all, to get an outside line: "0", or "0," with a pause.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9,]{0,6}$"))]
    outside_line: String,
    /// The countries that may be called, by their digits: ["49", "43"]. All of them if empty.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[1-9][0-9]{0,2}$")))]
    allowed_countries: Vec<String>,
}

fn zero() -> String {
    "0".to_owned()
}

impl Default for DialRules {
    fn default() -> Self {
        Self {
            own_country: None,
            national_prefix: zero(),
            international_prefix: None,
            outside_line: String::new(),
            allowed_countries: Vec::new(),
        }
    }
}

impl DialRules {
    /// Checks what a JSON Schema cannot say.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let incomplete = self.international_prefix.is_none()
            && (self.own_country.is_some() || !self.outside_line.is_empty());
        if incomplete {
            return Err(invalid(
                "dial: own_country and outside_line need international_prefix, or numbers of \
                 other countries could not be dialled",
            ));
        }
        Ok(())
    }

    /// What is dialled for a number in E.164 ("+49561…"), or the outcome of the message.
    pub(crate) fn dial(&self, number: &str) -> Result<String, Outcome> {
        let digits = e164(number).ok_or_else(|| {
            Outcome::permanent(
                Reason::Recipient,
                "ADDRESS_INVALID",
                "the number is not E.164: a + and 7 to 15 digits",
            )
        })?;
        let allowed = self.allowed_countries.is_empty()
            || self
                .allowed_countries
                .iter()
                .any(|c| digits.starts_with(&c[..]));
        if !allowed {
            return Err(Outcome::permanent(
                Reason::Config,
                "COUNTRY_NOT_ALLOWED",
                "the account does not call this country",
            ));
        }
        let Some(international) = &self.international_prefix else {
            return Ok(format!("+{digits}"));
        };
        // Codes of countries are free of prefixes: no other begins with one.
        let national = self
            .own_country
            .as_ref()
            .and_then(|country| digits.strip_prefix(&country[..]));
        let (prefix, rest) = match national {
            Some(rest) => (&self.national_prefix, rest),
            None => (international, digits),
        };
        Ok(format!("{}{prefix}{rest}", self.outside_line))
    }
}

/// The digits of a number in E.164.
pub(crate) fn e164(number: &str) -> Option<&str> {
    let digits = number.trim().strip_prefix('+')?;
    let fits = (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    fits.then_some(digits)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use anklang_plugin_sdk::outcome::Kind;
    use proptest::prelude::*;

    use super::*;

    fn german() -> DialRules {
        DialRules {
            own_country: Some("49".to_owned()),
            international_prefix: Some("00".to_owned()),
            ..DialRules::default()
        }
    }

    #[test]
    fn numbers_are_dialled_by_the_rules() {
        let mut rules = german();
        assert_eq!(rules.dial("+495619960").unwrap(), "05619960");
        assert_eq!(rules.dial("+43123456789").unwrap(), "0043123456789");
        rules.outside_line = "0,".to_owned();
        assert_eq!(rules.dial("+495619960").unwrap(), "0,05619960");
        let italian = DialRules {
            own_country: Some("39".to_owned()),
            national_prefix: String::new(),
            ..german()
        };
        assert_eq!(italian.dial("+390612345678").unwrap(), "0612345678");
        let plain = DialRules::default();
        assert_eq!(plain.dial(" +495619960 ").unwrap(), "+495619960");
        // Digits alone, as many gateways want them.
        let bare = DialRules {
            international_prefix: Some(String::new()),
            ..DialRules::default()
        };
        assert_eq!(bare.dial("+495619960").unwrap(), "495619960");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for wrong in [
            "",
            "+",
            "05619960",
            "+49 561 9960",
            "+4956x9960",
            "+0495619960",
            "+123456",
            "+1234567890123456",
            "110",
            "+49561;W",
            "++495619960",
        ] {
            let refused = german().dial(wrong).unwrap_err();
            let Some(Kind::Permanent(p)) = refused.kind else {
                panic!("{wrong}: {refused:?}");
            };
            assert_eq!(
                (p.reason(), &p.code[..]),
                (Reason::Recipient, "ADDRESS_INVALID")
            );
        }
    }

    #[test]
    fn only_allowed_countries_are_called() {
        let rules = DialRules {
            allowed_countries: vec!["49".to_owned(), "43".to_owned()],
            ..german()
        };
        assert!(rules.dial("+495619960").is_ok());
        let Some(Kind::Permanent(p)) = rules.dial("+8821234567").unwrap_err().kind else {
            panic!("not permanent");
        };
        assert_eq!(
            (p.reason(), &p.code[..]),
            (Reason::Config, "COUNTRY_NOT_ALLOWED")
        );
    }

    #[test]
    fn half_a_rule_is_refused() {
        assert!(german().check().is_ok());
        assert!(DialRules::default().check().is_ok());
        for rules in [
            DialRules {
                own_country: Some("49".to_owned()),
                ..DialRules::default()
            },
            DialRules {
                outside_line: "0".to_owned(),
                ..DialRules::default()
            },
        ] {
            assert!(rules.check().is_err());
        }
    }

    proptest! {
        #[test]
        fn nothing_but_digits_is_dialled(number in ".{0,20}") {
            if let Ok(dialled) = german().dial(&number) {
                prop_assert!(dialled.bytes().all(|b| b.is_ascii_digit()));
            }
        }
    }
}
