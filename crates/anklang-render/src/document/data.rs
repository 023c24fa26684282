//! [`OfferData`] as the dictionary that Typst templates see.
//!
//! Values are built as values: strings stay strings, whatever they contain, and
//! never pass through the parser.

use chrono::{Datelike, NaiveDate};
use rust_decimal::Decimal;
use typst::foundations::{Datetime, Dict, Str, Value};

use crate::error::RenderError;
use crate::model::{Brand, Campaign, Contract, Customer, Offer, OfferData};

/// The dictionary behind `sys.inputs`, with the names of [`OfferData`]'s fields.
///
/// # Errors
/// [`RenderError::Data`] for a date outside of the years -9999 to 9999 and for a
/// decimal that Typst cannot hold.
pub fn inputs(data: &OfferData) -> Result<Dict, RenderError> {
    let campaign = data.campaign.as_ref().map_or(Value::None, campaign);
    Ok(dict([
        ("offer", offer(&data.offer)?),
        ("customer", customer(&data.customer)),
        ("contract", contract(&data.contract)?),
        ("brand", brand(&data.brand)),
        ("campaign", campaign),
        ("unsubscribe_url", text(&data.unsubscribe_url)),
    ]))
}

fn offer(offer: &Offer) -> Result<Value, RenderError> {
    let current = offer.current_product_name.as_deref();
    Ok(Value::Dict(dict([
        ("number", text(&offer.number)),
        ("date", date(offer.date)?),
        ("valid_until", date(offer.valid_until)?),
        ("product_name", text(&offer.product_name)),
        ("version_name", text(&offer.version_name)),
        ("base_price_per_year", decimal(offer.base_price_per_year)?),
        ("unit_price_per_kwh", decimal(offer.unit_price_per_kwh)?),
        ("annual_quantity_kwh", decimal(offer.annual_quantity_kwh)?),
        ("annual_amount", decimal(offer.annual_amount)?),
        ("currency", text(&offer.currency)),
        ("current_product_name", current.map_or(Value::None, text)),
        ("has_document", Value::Bool(offer.has_document)),
    ])))
}

fn customer(customer: &Customer) -> Value {
    Value::Dict(dict([
        ("number", text(&customer.number)),
        ("salutation", text(&customer.salutation)),
        ("title", text(&customer.title)),
        ("first_name", text(&customer.first_name)),
        ("last_name", text(&customer.last_name)),
        ("company_name", text(&customer.company_name)),
        ("display_name", text(&customer.display_name)),
        ("salutation_line", text(&customer.salutation_line)),
        ("street", text(&customer.street)),
        ("house_number", text(&customer.house_number)),
        ("postal_code", text(&customer.postal_code)),
        ("city", text(&customer.city)),
        ("country", text(&customer.country)),
    ]))
}

fn contract(contract: &Contract) -> Result<Value, RenderError> {
    Ok(Value::Dict(dict([
        ("number", text(&contract.number)),
        ("division", text(&contract.division)),
        ("site_street", text(&contract.site_street)),
        ("site_house_number", text(&contract.site_house_number)),
        ("site_postal_code", text(&contract.site_postal_code)),
        ("site_city", text(&contract.site_city)),
        (
            "start_date",
            contract.start_date.map_or(Ok(Value::None), date)?,
        ),
        ("end_date", contract.end_date.map_or(Ok(Value::None), date)?),
    ])))
}

fn brand(brand: &Brand) -> Value {
    Value::Dict(dict([
        ("name", text(&brand.name)),
        ("legal_name", text(&brand.legal_name)),
        ("street", text(&brand.street)),
        ("house_number", text(&brand.house_number)),
        ("postal_code", text(&brand.postal_code)),
        ("city", text(&brand.city)),
        ("country", text(&brand.country)),
        ("phone", text(&brand.phone)),
        ("email", text(&brand.email)),
        ("website", text(&brand.website)),
        ("register_line", text(&brand.register_line)),
        ("vat_id", text(&brand.vat_id)),
        ("bank_line", text(&brand.bank_line)),
        ("return_address_line", text(&brand.return_address_line)),
    ]))
}

fn campaign(campaign: &Campaign) -> Value {
    Value::Dict(dict([("name", text(&campaign.name))]))
}

fn dict<const N: usize>(entries: [(&str, Value); N]) -> Dict {
    entries
        .into_iter()
        .map(|(key, value)| (Str::from(key), value))
        .collect()
}

fn text(value: &str) -> Value {
    Value::Str(value.into())
}

fn decimal(value: Decimal) -> Result<Value, RenderError> {
    // Typst keeps its own type around the same crate's number, but opens no
    // other way in than text.
    let parsed = value.to_string().parse();
    parsed
        .map(Value::Decimal)
        .map_err(|error| RenderError::Data(format!("decimal {value}: {error}")))
}

fn date(value: NaiveDate) -> Result<Value, RenderError> {
    datetime(value).map(Value::Datetime)
}

/// A day as Typst knows it.
pub(super) fn datetime(value: NaiveDate) -> Result<Datetime, RenderError> {
    let small = |number: u32| u8::try_from(number).ok();
    small(value.month())
        .zip(small(value.day()))
        .and_then(|(month, day)| Datetime::from_ymd(value.year(), month, day))
        .ok_or_else(|| RenderError::Data(format!("date {value} is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dictionary written by hand and the derived serialisation must not
    /// drift apart: both are the one model of template authors.
    #[test]
    fn typst_and_json_have_the_same_names() {
        for data in OfferData::samples() {
            let json = serde_json::to_value(&data).unwrap();
            let dict = inputs(&data).unwrap();
            assert_eq!(
                keys_of_json("", &json),
                keys_of_dict("", &Value::Dict(dict))
            );
        }
    }

    fn keys_of_json(path: &str, value: &serde_json::Value) -> Vec<String> {
        let Some(map) = value.as_object() else {
            return vec![format!("{path} {}", !value.is_null())];
        };
        let nested = map
            .iter()
            .flat_map(|(k, v)| keys_of_json(&format!("{path}.{k}"), v));
        sorted(nested.collect())
    }

    fn keys_of_dict(path: &str, value: &Value) -> Vec<String> {
        let Value::Dict(map) = value else {
            return vec![format!("{path} {}", *value != Value::None)];
        };
        let nested = map
            .iter()
            .flat_map(|(k, v)| keys_of_dict(&format!("{path}.{k}"), v));
        sorted(nested.collect())
    }

    fn sorted(mut keys: Vec<String>) -> Vec<String> {
        keys.sort();
        keys
    }

    #[test]
    fn a_date_beyond_the_calendar_is_an_error() {
        let mut data = OfferData::sample();
        data.offer.valid_until = NaiveDate::from_ymd_opt(12_000, 1, 1).unwrap();
        assert!(matches!(inputs(&data), Err(RenderError::Data(_))));
    }
}
