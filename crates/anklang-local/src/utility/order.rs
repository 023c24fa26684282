//! Orders in the web shop.

use anyhow::Result;
use chrono::NaiveDate;
use rand::{Rng, RngExt};

use super::customer::Customer;
use super::pick::{any, frequent, past_time, percent};
use super::sheet::Sheets;

/// Number, name, product group, price in euros, most that one orders of it.
type Article = (&'static str, &'static str, &'static str, &'static str, u32);

/// Most wanted first.
const ARTICLES: [Article; 10] = [
    (
        "PV-800",
        "Balkonkraftwerk 800 W",
        "Photovoltaik",
        "429.00",
        2,
    ),
    ("WB-11", "Wallbox 11 kW", "Elektromobilität", "649.00", 1),
    (
        "SM-01",
        "Smart Meter mit Gateway",
        "Messtechnik",
        "119.00",
        1,
    ),
    ("PV-MOD", "Solarmodul 440 W", "Photovoltaik", "189.00", 24),
    (
        "WB-KAB",
        "Ladekabel Typ 2, 7 m",
        "Elektromobilität",
        "159.90",
        2,
    ),
    ("HZ-THM", "Heizkörperthermostat Funk", "Wärme", "49.95", 8),
    ("LED-SET", "LED-Set E27, 6 Stück", "Licht", "24.99", 5),
    (
        "PV-BAT",
        "Batteriespeicher 5 kWh",
        "Photovoltaik",
        "2890.00",
        2,
    ),
    ("WP-CHK", "Wärmepumpen-Check", "Wärme", "199.00", 1),
    ("EM-PLG", "Messsteckdose", "Messtechnik", "19.90", 6),
];

/// Writes the customer's orders, if there are any, and returns the numbers of the articles.
pub(super) fn write(
    rng: &mut impl Rng,
    sheets: &mut Sheets,
    customer: &Customer,
    as_of: NaiveDate,
) -> Result<Vec<&'static str>> {
    let mut bought = Vec::new();
    if !percent(rng, 8.0) {
        return Ok(bought);
    }
    let orders = frequent(rng, &[1, 1, 1, 1, 2, 3]);
    for order in 1..=orders {
        let number = format!("B{}-{order}", customer.number);
        let ordered = past_time(rng, 36, as_of);
        sheets
            .orders
            .row([&number, &customer.number, customer.brand, &ordered, "EUR"])?;
        let lines = any(rng, &[1, 1, 1, 2, 2, 3]);
        for line in 1..=lines {
            let (article, name, group, price, most) = frequent(rng, &ARTICLES);
            let quantity = rng.random_range(1..=most);
            sheets.order_lines.row([
                &number,
                &line.to_string(),
                article,
                name,
                group,
                &quantity.to_string(),
                price,
            ])?;
            bought.push(article);
        }
    }
    Ok(bought)
}
