//! Attributes of customers and contracts.

use std::collections::BTreeMap;

use anklang_domain::Violations;
use anklang_domain::master::{AttributeRow, AttributeValue};
use anklang_proto::anklang::customers::v1 as pb;
use pb::attribute_value::Value;

use crate::grpc::form::{self, Form, Names};
use crate::grpc::wire;

/// The most attributes of one customer or contract.
const MAX: usize = 200;

/// All columns of an attribute are told as the attribute itself; its owner is checked elsewhere.
const NAMES: Names = &[
    ("entity", ""),
    ("number", ""),
    ("key", "key"),
    ("type", "value"),
    ("value", "value"),
];

/// The keys in the order in which `from_proto` gives the attributes.
pub fn keys(attributes: &BTreeMap<String, pb::AttributeValue>) -> Vec<String> {
    attributes.keys().cloned().collect()
}

/// Path of the attribute with this key.
pub fn path(prefix: &str, key: &str) -> String {
    format!("{prefix}attributes[\"{key}\"]")
}

/// Attributes by key, of the owner with that number.
pub fn from_proto(
    prefix: &str,
    entity: &str,
    number: &str,
    attributes: BTreeMap<String, pb::AttributeValue>,
    violations: &mut Violations,
) -> Vec<AttributeRow> {
    form::at_most(
        violations,
        &format!("{prefix}attributes"),
        attributes.len(),
        MAX,
    );
    let mut rows = Vec::new();
    for (key, value) in attributes.into_iter().take(MAX) {
        let value = value.value;
        let mut form = Form::new(format!("{}.", path(prefix, &key)), NAMES, violations);
        form.text("entity", entity)
            .text("number", number)
            .text("key", key);
        match value {
            None => {}
            Some(Value::Text(text)) => {
                form.text("type", "text").text("value", text);
            }
            Some(Value::Number(number)) => {
                form.text("type", "number").text("value", number);
            }
            Some(Value::Flag(flag)) => {
                form.text("type", "flag").text("value", flag.to_string());
            }
            Some(Value::Date(date)) => {
                form.text("type", "date").date("value", Some(&date));
            }
        }
        rows.extend(form.parse());
    }
    rows
}

/// Attributes on the wire.
pub fn to_proto(attributes: Vec<(String, AttributeValue)>) -> BTreeMap<String, pb::AttributeValue> {
    let value = |value| match value {
        AttributeValue::Text(text) => Value::Text(text),
        AttributeValue::Number(number) => Value::Number(number.to_string()),
        AttributeValue::Flag(flag) => Value::Flag(flag),
        AttributeValue::Date(date) => Value::Date(wire::date(date)),
    };
    attributes
        .into_iter()
        .map(|(key, v)| {
            (
                key,
                pb::AttributeValue {
                    value: Some(value(v)),
                },
            )
        })
        .collect()
}
