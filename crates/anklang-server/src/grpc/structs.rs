//! `google.protobuf.Struct` and JSON.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Number, Value as Json};

/// The largest whole number up to which a double is exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A Struct as JSON. Numbers of a Struct are doubles: whole ones become whole numbers again.
///
/// # Errors
/// What JSON or the database cannot hold.
pub fn to_json(given: &Struct) -> Result<Json, &'static str> {
    let members = given.fields.iter().map(|(name, value)| {
        checked(name)?;
        value_to_json(value).map(|value| (name.clone(), value))
    });
    Ok(Json::Object(
        members.collect::<Result<Map<_, _>, &'static str>>()?,
    ))
}

fn value_to_json(value: &Value) -> Result<Json, &'static str> {
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(*flag),
        Some(Kind::StringValue(text)) => Json::String(checked(text)?.to_owned()),
        Some(Kind::NumberValue(number)) => Json::Number(to_number(*number)?),
        Some(Kind::StructValue(inner)) => to_json(inner)?,
        Some(Kind::ListValue(list)) => {
            let items = list.values.iter().map(value_to_json);
            Json::Array(items.collect::<Result<_, &'static str>>()?)
        }
    })
}

fn to_number(number: f64) -> Result<Number, &'static str> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and exact")]
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number).ok_or("has a number that is none")
}

/// PostgreSQL knows no NUL in texts.
fn checked(text: &str) -> Result<&str, &'static str> {
    match text.contains('\0') {
        true => Err("has a text with the character NUL"),
        false => Ok(text),
    }
}

/// JSON as a Struct; what is no object is an empty one.
pub fn from_json(json: &Json) -> Struct {
    let Json::Object(members) = json else {
        return Struct::default();
    };
    let fields = members.iter().map(|(k, v)| (k.clone(), value_from_json(v)));
    Struct {
        fields: fields.collect::<BTreeMap<_, _>>(),
    }
}

fn value_from_json(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(*flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(value_from_json).collect(),
        }),
        Json::Object(_) => Kind::StructValue(from_json(json)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_survives_a_struct() {
        let json = json!({
            "host": "h", "port": 2525, "ratio": 0.5, "big": 1e300, "flag": true, "none": null,
            "list": [1, "two", {"three": [-3]}], "inner": {},
        });
        assert_eq!(to_json(&from_json(&json)), Ok(json));
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        let with = |kind| Struct {
            fields: BTreeMap::from([("x".to_owned(), Value { kind: Some(kind) })]),
        };
        assert!(to_json(&with(Kind::NumberValue(f64::NAN))).is_err());
        assert!(to_json(&with(Kind::StringValue("\0".into()))).is_err());
    }
}
