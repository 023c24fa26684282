//! Reads typed values out of text fields and collects what is wrong.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::contact;
use crate::Violations;

/// Longest number (business key) in characters.
const MAX_NUMBER: usize = 64;
/// Longest name of something in characters.
pub(super) const MAX_NAME: usize = 200;
/// Longest street, house number, postcode and city in characters.
const MAX_STREET: usize = 100;
const MAX_HOUSE_NUMBER: usize = 16;
const MAX_POSTAL_CODE: usize = 16;
const MAX_CITY: usize = 100;

/// Digits of a decimal: as many before and after the dot as the column of the ledger holds.
#[derive(Debug, Clone, Copy)]
pub struct Digits {
    /// Before the dot, at most.
    pub whole: u32,
    /// After the dot, at most.
    pub fraction: u32,
    /// Whether values below zero are refused.
    pub unsigned: bool,
}

/// The fields of one row. Every reader trims, notes violations under the field's name, and then
/// gives a stand-in, so that all fields are read whatever is wrong; `finish` decides.
pub struct Fields<'g, 'v> {
    get: &'g dyn Fn(&str) -> Option<&'v str>,
    violations: Violations,
}

impl<'g, 'v> Fields<'g, 'v> {
    /// Fields by name.
    pub fn new(get: &'g dyn Fn(&str) -> Option<&'v str>) -> Self {
        Fields {
            get,
            violations: Violations::new(),
        }
    }

    /// The row, when no field was wrong.
    pub fn finish<T>(self, row: T) -> Result<T, Violations> {
        self.violations.finish(row)
    }

    /// Notes what is wrong with a field.
    pub fn refuse(&mut self, field: &str, reason: impl Into<String>) {
        self.violations.add(field, reason);
    }

    /// The trimmed text of a field; empty when the column is not there.
    pub fn raw(&self, field: &str) -> &'v str {
        (self.get)(field).unwrap_or("").trim()
    }

    /// One line of text of at most `max` characters.
    pub fn text(&mut self, field: &str, max: usize) -> String {
        let text = self.raw(field);
        if text.chars().any(char::is_control) {
            self.refuse(field, "must not contain line breaks or control characters");
        }
        self.limited(field, text, max)
    }

    /// Text of at most `max` characters that may have several lines.
    pub fn lines(&mut self, field: &str, max: usize) -> String {
        let text = self.raw(field);
        if text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        {
            self.refuse(field, "must not contain control characters");
        }
        self.limited(field, text, max)
    }

    fn limited(&mut self, field: &str, text: &str, max: usize) -> String {
        let length = text.chars().count();
        if length > max {
            self.refuse(
                field,
                format!("must be at most {max} characters; has {length}"),
            );
        }
        text.to_owned()
    }

    /// One line of text of 1 to `max` characters.
    pub fn required(&mut self, field: &str, max: usize) -> String {
        let text = self.text(field, max);
        if text.is_empty() {
            self.refuse(field, "is required");
        }
        text
    }

    /// The tenant's own number of something: 1–64 printable characters.
    pub fn number(&mut self, field: &str) -> String {
        self.required(field, MAX_NUMBER)
    }

    /// As `number`, but may be empty.
    pub fn optional_number(&mut self, field: &str) -> String {
        self.text(field, MAX_NUMBER)
    }

    /// One of `words`; the first of them stands in when something is wrong.
    pub fn word(&mut self, field: &str, words: &[&'static str]) -> &'static str {
        match self.raw(field) {
            "" => self.refuse(field, format!("is required: {}", words.join(", "))),
            text => match words.iter().find(|w| **w == text) {
                Some(word) => return word,
                None => self.refuse(field, format!("must be one of {}", words.join(", "))),
            },
        }
        words[0]
    }

    /// One of `words`, or empty.
    pub fn optional_word(&mut self, field: &str, words: &[&'static str]) -> &'static str {
        if self.raw(field).is_empty() {
            return "";
        }
        self.word(field, words)
    }

    /// A name for machines: a–z, 0–9 and _, first a letter, 1 to `max` characters.
    pub fn identifier(&mut self, field: &str, max: usize) -> String {
        let text = self.required(field, max);
        let good = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'));
        if !text.is_empty() && !good {
            self.refuse(
                field,
                "must consist of a–z, 0–9 and _, and begin with a letter",
            );
        }
        text
    }

    /// A channel, e.g. "mail".
    pub fn channel(&mut self, field: &str) -> String {
        self.identifier(field, 32)
    }

    /// A division, e.g. "electricity".
    pub fn division(&mut self, field: &str) -> String {
        let text = self.required(field, 32);
        if text.chars().any(|c| c.is_uppercase() || c.is_whitespace()) {
            self.refuse(field, "must be lower-case, without spaces");
        }
        text
    }

    /// A date as 2026-12-31; `None` when empty.
    pub fn date(&mut self, field: &str) -> Option<NaiveDate> {
        let text = self.raw(field);
        if text.is_empty() {
            return None;
        }
        let date = (text.len() == 10)
            .then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
            .flatten()
            .filter(|date| (1..=9999).contains(&date.year()));
        if date.is_none() {
            self.refuse(field, "must be a date, written year-month-day: 2026-12-31");
        }
        date
    }

    /// A date that must be there.
    pub fn required_date(&mut self, field: &str) -> NaiveDate {
        if self.raw(field).is_empty() {
            self.refuse(
                field,
                "is required: a date, written year-month-day: 2026-12-31",
            );
        }
        self.date(field).unwrap_or_default()
    }

    /// A point in time (RFC 3339) that must be there.
    pub fn required_time(&mut self, field: &str) -> DateTime<Utc> {
        let time = DateTime::parse_from_rfc3339(self.raw(field))
            .ok()
            .map(|time| time.with_timezone(&Utc))
            .filter(|time| (1..=9999).contains(&time.year()));
        if time.is_none() {
            let missing = if self.raw(field).is_empty() {
                "is required: "
            } else {
                "must be "
            };
            self.refuse(
                field,
                format!("{missing}a time with its offset from UTC: 2026-12-31T18:30:00+01:00"),
            );
        }
        time.unwrap_or_default()
    }

    /// A decimal with a dot; `None` when empty.
    pub fn decimal(&mut self, field: &str, digits: Digits) -> Option<Decimal> {
        let text = self.raw(field);
        if text.is_empty() {
            return None;
        }
        decimal(text, digits)
            .map_err(|reason| self.refuse(field, reason))
            .ok()
    }

    /// A decimal that must be there.
    pub fn required_decimal(&mut self, field: &str, digits: Digits) -> Decimal {
        if self.raw(field).is_empty() {
            self.refuse(field, "is required: a decimal number");
        }
        self.decimal(field, digits).unwrap_or_default()
    }

    /// A whole number from 1 to 2,147,483,647; `default` when empty, required without one.
    pub fn count(&mut self, field: &str, default: Option<i32>) -> i32 {
        match (self.raw(field), default) {
            ("", Some(default)) => return default,
            ("", None) => self.refuse(field, "is required: a whole number from 1"),
            (text, _) => match text.parse() {
                Ok(count) if count > 0 => return count,
                _ => self.refuse(
                    field,
                    format!("must be a whole number from 1 to {}", i32::MAX),
                ),
            },
        }
        1
    }

    /// An ISO 4217 currency that must be there.
    pub fn currency(&mut self, field: &str) -> String {
        let code = self.required(field, 3);
        if !code.is_empty() && iso_currency::Currency::from_code(&code).is_none() {
            self.refuse(field, "must be a currency of ISO 4217, e.g. EUR");
        }
        code
    }

    /// An ISO 3166-1 alpha-2 country; "DE" when empty.
    pub fn country(&mut self, field: &str) -> String {
        let code = self.raw(field).to_ascii_uppercase();
        if code.is_empty() {
            return "DE".to_owned();
        }
        if code.parse::<iso_country::Country>().is_err() {
            self.refuse(
                field,
                "must be a country of ISO 3166-1 in two letters, e.g. DE",
            );
        }
        code
    }

    /// A BCP 47 language tag; "de" when empty.
    pub fn language(&mut self, field: &str) -> String {
        let tag = self.raw(field);
        if tag.is_empty() {
            return "de".to_owned();
        }
        let mut parts = tag.split('-');
        let primary = parts.next().unwrap_or("");
        let good = matches!(primary.len(), 2 | 3)
            && primary.bytes().all(|b| b.is_ascii_alphabetic())
            && parts
                .all(|p| matches!(p.len(), 2..=8) && p.bytes().all(|b| b.is_ascii_alphanumeric()))
            && tag.len() <= 35;
        if !good {
            self.refuse(field, "must be a language tag of BCP 47, e.g. de or de-AT");
        }
        format!("{}{}", primary.to_ascii_lowercase(), &tag[primary.len()..])
    }

    /// An IANA time zone, or empty.
    pub fn time_zone(&mut self, field: &str) -> String {
        let text = self.raw(field);
        if !text.is_empty() && text.parse::<chrono_tz::Tz>().is_err() {
            self.refuse(field, "must be a time zone of the IANA, e.g. Europe/Berlin");
        }
        text.to_owned()
    }

    /// A mail address, normalised; empty when it may be and is.
    pub fn mail(&mut self, field: &str, required: bool) -> String {
        match self.raw(field) {
            "" if required => self.refuse(field, "is required: an e-mail address"),
            "" => {}
            text => match contact::mail(text) {
                Ok(address) => return address,
                Err(error) => self.refuse(field, error.to_string()),
            },
        }
        String::new()
    }

    /// A postal address in four fields, each with this prefix.
    pub fn place(&mut self, prefix: &str) -> [String; 4] {
        [
            ("street", MAX_STREET),
            ("house_number", MAX_HOUSE_NUMBER),
            ("postal_code", MAX_POSTAL_CODE),
            ("city", MAX_CITY),
        ]
        .map(|(field, max)| self.text(&format!("{prefix}{field}"), max))
    }
}

/// Reads a decimal: digits with at most one dot, and a sign.
pub(super) fn decimal(text: &str, digits: Digits) -> Result<Decimal, String> {
    if text.contains(',') {
        return Err(
            "must be written with a dot before the decimals and without separators of \
                    thousands: 1234.56"
                .into(),
        );
    }
    let (whole, fraction) = {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        unsigned.split_once('.').unwrap_or((unsigned, "0"))
    };
    let digit = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digit(whole) || !digit(fraction) {
        return Err("must be a decimal number, e.g. 1234.56".into());
    }
    let (whole, fraction) = (
        whole.trim_start_matches('0').len(),
        fraction.trim_end_matches('0').len(),
    );
    if whole > digits.whole as usize || fraction > digits.fraction as usize {
        return Err(format!(
            "must have at most {} digits before the dot and {} after it",
            digits.whole, digits.fraction
        ));
    }
    // Zeros beyond the allowed decimals are cut, lest there be more digits than a Decimal holds.
    let end = text.find('.').map_or(text.len(), |dot| {
        (dot + 1 + fraction.max(1)).min(text.len())
    });
    let value: Decimal = text[..end]
        .parse()
        .map_err(|_| "must be a decimal number, e.g. 1234.56".to_owned())?;
    if digits.unsigned && value < Decimal::ZERO {
        return Err("must not be below 0".into());
    }
    Ok(value.normalize())
}
