//! Values between the wire and the domain: money, dates, times.

use anklang_proto::google::r#type::{Date, Money};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use prost_types::Timestamp;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Nanos of a unit of money.
const NANOS: i64 = 1_000_000_000;

/// Money on the wire: exact up to nine decimals; what is beyond is cut off.
pub fn money(amount: Decimal, currency: &str) -> Money {
    let units = amount.trunc();
    let nanos = ((amount - units) * Decimal::from(NANOS)).trunc();
    Money {
        currency_code: currency.to_owned(),
        units: units.to_i64().unwrap_or(0),
        nanos: nanos.to_i32().unwrap_or(0),
    }
}

/// The amount of money on the wire, when units and nanos agree.
pub fn amount(money: &Money) -> Result<Decimal, &'static str> {
    let nanos = i64::from(money.nanos);
    if nanos.abs() >= NANOS || (money.units > 0 && nanos < 0) || (money.units < 0 && nanos > 0) {
        return Err("units and nanos must have one sign, and nanos be below 1,000,000,000");
    }
    Ok(Decimal::from(money.units) + Decimal::new(nanos, 9))
}

/// A date on the wire.
pub fn date(date: NaiveDate) -> Date {
    Date {
        year: date.year(),
        month: i32::try_from(date.month()).unwrap_or(0),
        day: i32::try_from(date.day()).unwrap_or(0),
    }
}

/// A whole date from the wire.
pub fn naive_date(date: &Date) -> Result<NaiveDate, &'static str> {
    let part = |n: i32| u32::try_from(n).ok();
    part(date.month)
        .zip(part(date.day))
        .filter(|_| (1..=9999).contains(&date.year))
        .and_then(|(month, day)| NaiveDate::from_ymd_opt(date.year, month, day))
        .ok_or("is no date: year 1 to 9999, month and day are needed")
}

/// A point in time on the wire.
pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// A point in time from the wire.
pub fn date_time(time: &Timestamp) -> Result<DateTime<Utc>, &'static str> {
    u32::try_from(time.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        .filter(|t| (1..=9999).contains(&t.year()))
        .ok_or("is no time between the years 1 and 9999")
}

/// A part of a whole, 0 when there is none.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of things are far below 2^52"
)]
pub fn rate(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_nine_decimals() {
        for text in ["0", "0.3249", "-12.5", "1257.15", "0.000000001"] {
            let decimal: Decimal = text.parse().expect("a decimal");
            assert_eq!(amount(&money(decimal, "EUR")), Ok(decimal), "{text}");
        }
        let odd = Money {
            currency_code: "EUR".into(),
            units: 1,
            nanos: -1,
        };
        assert!(amount(&odd).is_err());
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        let d = |year, month, day| naive_date(&Date { year, month, day }).is_ok();
        assert!(d(2028, 2, 29));
        assert!(!d(2027, 2, 29) && !d(0, 1, 1) && !d(2027, -1, 1) && !d(2027, 13, 1));
    }
}
