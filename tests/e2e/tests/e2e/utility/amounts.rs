//! Prices and amounts in whole numbers, and how others write them.

use anklang_proto::google::r#type::Money;

/// Base price of the target per year, in 1/10,000 €.
pub const BASE: i128 = 119_4000;
/// Unit price of the target per kWh, in 1/1,000,000 €.
pub const UNIT: i128 = 289_125;

/// A number of 1/10^places as a decimal without zeros at its end.
pub fn decimal(number: i128, places: u32) -> String {
    let one = 10_i128.pow(places);
    let text = format!(
        "{}.{:0width$}",
        number / one,
        number % one,
        width = places as usize
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Base and unit price of the target as the API has them.
pub fn target_prices() -> [Money; 2] {
    let money = |number: i128, one: i128| Money {
        currency_code: "EUR".into(),
        units: i64::try_from(number / one).unwrap(),
        nanos: i32::try_from(number % one * (1_000_000_000 / one)).unwrap(),
    };
    [money(BASE, 10_000), money(UNIT, 1_000_000)]
}

/// Cents as the API has them.
pub fn money(cents: i128) -> Money {
    Money {
        currency_code: "EUR".into(),
        units: i64::try_from(cents / 100).unwrap(),
        nanos: i32::try_from(cents % 100 * 10_000_000).unwrap(),
    }
}

/// Cents as Germans write them: 1.257,15 €.
pub fn german_money(cents: i128) -> String {
    let mut euros = (cents / 100).to_string();
    if euros.len() > 3 {
        euros.insert(euros.len() - 3, '.');
    }
    format!("{euros},{:02} €", cents % 100)
}
