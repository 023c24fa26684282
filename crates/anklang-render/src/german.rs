//! German notation of amounts, numbers and dates.
//!
//! Half is rounded away from zero ("kaufmännisch"), thousands are grouped by
//! dots. All arithmetic is decimal; nothing passes through binary floats.

use chrono::NaiveDate;
use rust_decimal::{Decimal, RoundingStrategy};

/// Most fractional digits that can be asked for: what a `Decimal` can hold.
pub const MAX_DIGITS: u32 = 28;

/// `1234.5` with 2 digits → `1.234,50`.
///
/// `digits` above [`MAX_DIGITS`] count as that many.
pub fn number(value: Decimal, digits: u32) -> String {
    let digits = digits.min(MAX_DIGITS);
    let rounded = value.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
    let plain = rounded.abs().to_string();
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let sign = if rounded.is_sign_negative() && !rounded.is_zero() {
        "-"
    } else {
        ""
    };
    let mut text = format!("{sign}{}", group(whole));
    if digits > 0 {
        text.push_str(&format!(",{fraction:0<width$}", width = digits as usize));
    }
    text
}

/// `1234.5`, `EUR` → `1.234,50 €`. A currency without a symbol that is common in
/// German letters keeps its code: `1.234,50 CHF`.
pub fn money(value: Decimal, currency: &str) -> String {
    let symbol = match currency {
        "EUR" => "€",
        "USD" => "$",
        "GBP" => "£",
        other => other,
    };
    format!("{} {symbol}", number(value, 2))
}

/// 31 December 2026 → `31.12.2026`.
pub fn date(value: NaiveDate) -> String {
    value.format("%d.%m.%Y").to_string()
}

/// Dots between groups of three digits, counted from the right.
fn group(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('.');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_padded_and_rounded() {
        let cases = [
            ("1234.5", 2, "1.234,50"),
            ("0", 2, "0,00"),
            ("-0.001", 2, "0,00"),
            ("-1234567.005", 2, "-1.234.567,01"),
            ("0.005", 2, "0,01"),
            ("999.995", 2, "1.000,00"),
            ("3500", 0, "3.500"),
            ("2.5", 0, "3"),
            ("0.29841", 4, "0,2984"),
            (
                "79228162514264337593543950335",
                2,
                "79.228.162.514.264.337.593.543.950.335,00",
            ),
            ("1", 99, "1,0000000000000000000000000000"),
        ];
        for (value, digits, expected) in cases {
            assert_eq!(
                number(value.parse().unwrap(), digits),
                expected,
                "{value} {digits}"
            );
        }
    }

    #[test]
    fn money_names_its_currency() {
        let amount = "1234.5".parse().unwrap();
        assert_eq!(money(amount, "EUR"), "1.234,50 €");
        assert_eq!(money(amount, "CHF"), "1.234,50 CHF");
    }

    #[test]
    fn dates_are_day_first() {
        let day = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        assert_eq!(date(day), "01.03.2026");
    }
}
