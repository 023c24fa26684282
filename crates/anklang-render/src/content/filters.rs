//! The German filters of message templates.

use chrono::NaiveDate;
use minijinja::{Environment, Error, ErrorKind, Value};
use rust_decimal::Decimal;

use crate::german;

pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("money", money);
    environment.add_filter("number", number);
    environment.add_filter("cents", cents);
    environment.add_filter("date", date);
}

fn money(value: &Value, currency: Option<&str>) -> Result<String, Error> {
    let money = |amount| german::money(amount, currency.unwrap_or("EUR"));
    Ok(decimal(value)?.map(money).unwrap_or_default())
}

fn number(value: &Value, digits: Option<u32>) -> Result<String, Error> {
    let number = |value| german::number(value, digits.unwrap_or(2));
    Ok(decimal(value)?.map(number).unwrap_or_default())
}

/// An amount in hundredths of its currency, without a unit.
fn cents(value: &Value, digits: Option<u32>) -> Result<String, Error> {
    let Some(amount) = decimal(value)? else {
        return Ok(String::new());
    };
    let cents = amount
        .checked_mul(Decimal::ONE_HUNDRED)
        .ok_or_else(|| invalid(value, "an amount"))?;
    // What is printed is what is charged: parts of a cent are not rounded away.
    let digits = digits.unwrap_or_else(|| cents.normalize().scale().max(2));
    Ok(german::number(cents, digits))
}

fn date(value: &Value) -> Result<String, Error> {
    if missing(value)? {
        return Ok(String::new());
    }
    let day: NaiveDate = value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid(value, "an ISO date"))?;
    Ok(german::date(day))
}

/// A decimal from text or a number; none prints as nothing.
fn decimal(value: &Value) -> Result<Option<Decimal>, Error> {
    if missing(value)? {
        return Ok(None);
    }
    let text = value.to_string();
    let parsed = text.parse().or_else(|_| Decimal::from_scientific(&text));
    parsed.map(Some).map_err(|_| invalid(value, "a number"))
}

fn missing(value: &Value) -> Result<bool, Error> {
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            "the value to format is not there",
        ));
    }
    Ok(value.is_none())
}

/// The message names the kind and not the value, which may be personal data.
fn invalid(value: &Value, wanted: &str) -> Error {
    let message = format!("this {} is not {wanted}", value.kind());
    Error::new(ErrorKind::InvalidOperation, message)
}
