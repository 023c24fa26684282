//! Customers between the wire and their rows.

use anklang_domain::master::{ConsentRow, ContactPointRow, CustomerRow};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::customers::v1 as pb;
use anklang_store::customer::{Consent, CustomerDetails, CustomerUpdate};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::attributes;
use crate::grpc::form::{self, Form, Names};
use crate::grpc::org_units::name_of;
use crate::grpc::{tagged, wire};

/// The most contact points of a customer.
const MAX_CONTACT_POINTS: usize = 50;
/// The most consents of a customer.
const MAX_CONSENTS: usize = 100;

/// Columns of customers and their names in the message.
const NAMES: Names = &[("org_unit_code", "org_unit")];
/// Columns of contact points and consents and their names in the message.
const PART_NAMES: Names = &[
    ("customer_number", ""),
    ("position", ""),
    ("country", ""),
    ("recorded_at", "record_time"),
];

/// The path of a field that the store refused; `keys` are those of the attributes.
pub fn stored_path(keys: &[String], field: &str) -> String {
    let key = field
        .strip_prefix("attributes[")
        .and_then(|rest| rest.split(']').next()?.parse::<usize>().ok())
        .and_then(|i| keys.get(i));
    match key {
        Some(key) => attributes::path("customer.", key),
        None => form::stored_path("customer.", NAMES, PART_NAMES, field),
    }
}

/// A customer with its parts.
pub fn from_proto(
    mut customer: pb::Customer,
    violations: &mut Violations,
) -> Option<CustomerUpdate> {
    let number = customer.number.clone();
    form::check_name(
        violations,
        "customer.name",
        &customer.name,
        &[("customers", &number)],
    );
    let contact_points = contact_points(&mut customer, violations);
    let consents = consents(&mut customer, violations);
    let values = std::mem::take(&mut customer.attributes);
    let attributes = attributes::from_proto("customer.", "customer", &number, values, violations);
    Some(CustomerUpdate {
        customer: row(customer, violations)?,
        contact_points,
        consents,
        attributes,
    })
}

fn row(customer: pb::Customer, violations: &mut Violations) -> Option<CustomerRow> {
    let kind = match customer.kind() {
        pb::CustomerKind::Unspecified => "",
        pb::CustomerKind::Person => "person",
        pb::CustomerKind::Company => "company",
    };
    let salutation = match pb::Salutation::try_from(customer.salutation) {
        Ok(pb::Salutation::Unspecified) => "",
        Ok(pb::Salutation::Female) => "female",
        Ok(pb::Salutation::Male) => "male",
        Ok(pb::Salutation::Diverse) => "diverse",
        Err(_) => "unknown",
    };
    Form::new("customer.", NAMES, violations)
        .text("number", customer.number)
        .text("kind", kind)
        .text("salutation", salutation)
        .text("title", customer.title)
        .text("first_name", customer.first_name)
        .text("last_name", customer.last_name)
        .text("company_name", customer.company_name)
        .text("customer_group", customer.customer_group)
        .text("language", customer.language)
        .text("time_zone", customer.time_zone)
        .date("birth_date", customer.birth_date.as_ref())
        .text("street", customer.street)
        .text("house_number", customer.house_number)
        .text("postal_code", customer.postal_code)
        .text("city", customer.city)
        .text("country", customer.country)
        .id("org_unit_code", &customer.org_unit, "orgUnits")
        .parse()
}

fn contact_points(
    customer: &mut pb::Customer,
    violations: &mut Violations,
) -> Vec<ContactPointRow> {
    let points = std::mem::take(&mut customer.contact_points);
    form::at_most(
        violations,
        "customer.contact_points",
        points.len(),
        MAX_CONTACT_POINTS,
    );
    let mut rows = Vec::new();
    for (i, point) in points.into_iter().take(MAX_CONTACT_POINTS).enumerate() {
        let prefix = format!("customer.contact_points[{i}].");
        let row: Option<ContactPointRow> = Form::new(prefix, PART_NAMES, violations)
            .text("customer_number", &customer.number)
            .text("channel", point.channel)
            .text("address", point.address)
            .text("position", (i + 1).to_string())
            .text("country", &customer.country)
            .parse();
        rows.extend(row);
    }
    rows
}

fn consents(customer: &mut pb::Customer, violations: &mut Violations) -> Vec<ConsentRow> {
    let consents = std::mem::take(&mut customer.consents);
    form::at_most(
        violations,
        "customer.consents",
        consents.len(),
        MAX_CONSENTS,
    );
    let mut rows = Vec::new();
    for (i, consent) in consents.into_iter().take(MAX_CONSENTS).enumerate() {
        let state = match consent.state() {
            pb::ConsentState::Unspecified => "",
            pb::ConsentState::Granted => "granted",
            pb::ConsentState::Withdrawn => "withdrawn",
        };
        let prefix = format!("customer.consents[{i}].");
        let row: Option<ConsentRow> = Form::new(prefix, PART_NAMES, violations)
            .text("customer_number", &customer.number)
            .text("channel", consent.channel)
            .text("purpose", consent.purpose)
            .text("state", state)
            .time("recorded_at", consent.record_time.as_ref())
            .text("source", consent.source)
            .text("evidence", consent.evidence)
            .parse();
        rows.extend(row);
    }
    rows
}

/// A customer on the wire.
pub fn to_proto(details: CustomerDetails) -> pb::Customer {
    let customer = details.customer;
    let kind = match &*customer.kind {
        "company" => pb::CustomerKind::Company,
        _ => pb::CustomerKind::Person,
    };
    let salutation = match &*customer.salutation {
        "female" => pb::Salutation::Female,
        "male" => pb::Salutation::Male,
        "diverse" => pb::Salutation::Diverse,
        _ => pb::Salutation::Unspecified,
    };
    tagged(pb::Customer {
        name: name::format(&[("customers", &customer.number)]),
        number: customer.number,
        kind: kind.into(),
        salutation: salutation.into(),
        title: customer.title,
        first_name: customer.first_name,
        last_name: customer.last_name,
        company_name: customer.company_name,
        customer_group: customer.customer_group,
        language: customer.language,
        time_zone: customer.time_zone,
        birth_date: customer.birth_date.map(wire::date),
        street: customer.street,
        house_number: customer.house_number,
        postal_code: customer.postal_code,
        city: customer.city,
        country: customer.country,
        org_unit: name_of(customer.org_unit_code.as_deref()),
        contact_points: details
            .contact_points
            .into_iter()
            .map(|point| pb::ContactPoint {
                channel: point.channel,
                address: point.address,
            })
            .collect(),
        consents: details.consents.into_iter().map(consent_to_proto).collect(),
        attributes: attributes::to_proto(details.attributes),
        create_time: Some(wire::timestamp(customer.created_at)),
        update_time: Some(wire::timestamp(customer.updated_at)),
        erase_time: customer.erased_at.map(wire::timestamp),
        etag: String::new(),
    })
}

fn consent_to_proto(consent: Consent) -> pb::Consent {
    let state = match &*consent.state {
        "granted" => pb::ConsentState::Granted,
        _ => pb::ConsentState::Withdrawn,
    };
    pb::Consent {
        channel: consent.channel,
        purpose: consent.purpose,
        state: state.into(),
        source: consent.source,
        evidence: consent.evidence,
        record_time: Some(wire::timestamp(consent.recorded_at)),
    }
}

/// A JSON object on the wire; `None` for any other value.
pub fn to_struct(json: serde_json::Value) -> Option<Struct> {
    match to_value(json).kind? {
        Kind::StructValue(fields) => Some(fields),
        _ => None,
    }
}

fn to_value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(all) => Kind::ListValue(ListValue {
            values: all.into_iter().map(to_value).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(k, v)| (k, to_value(v))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}
