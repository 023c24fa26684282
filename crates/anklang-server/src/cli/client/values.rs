//! Texts of the command line as values of fields.

use std::io::Read as _;
use std::str::FromStr as _;

use anklang_domain::name;
use chrono::{Datelike, NaiveDate};
use clap::builder::{PossibleValuesParser, TypedValueParser as _, ValueParser};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value as Json, json};

use super::commands::Arg;
use super::text;

/// Reads an argument into the JSON of its field.
pub fn parser(arg: &'static Arg, field: &FieldDescriptor) -> ValueParser {
    match field.kind() {
        Kind::Enum(kind) => {
            let words = words(&kind).map(|(word, _)| word).collect::<Vec<_>>();
            let number = move |word: String| {
                let found = words_number(&kind, &word);
                found.map_or(Json::Null, Json::from)
            };
            ValueParser::new(PossibleValuesParser::new(words).map(number))
        }
        _ => {
            let field = field.clone();
            ValueParser::new(move |text: &str| match arg.of {
                Some(collection) => read(&field, &full_name(collection, text)),
                None => read(&field, text),
            })
        }
    }
}

/// The values of an enum as words of the command line, with their numbers.
fn words(kind: &EnumDescriptor) -> impl Iterator<Item = (String, i32)> {
    let values = kind.values().filter(|value| value.number() != 0);
    values.map(move |value| {
        let word = text::word(kind, value.number()).replace(' ', "-");
        (word, value.number())
    })
}

fn words_number(kind: &EnumDescriptor, word: &str) -> Option<i32> {
    let found = words(kind).find(|(one, _)| one == word);
    found.map(|(_, number)| number)
}

/// The name of a resource that is given in full, or by the last part alone.
fn full_name(collection: &str, text: &str) -> String {
    let rest = text.strip_prefix(collection);
    match rest.is_some_and(|rest| rest.starts_with('/')) {
        true => text.to_owned(),
        false => name::format(&[(collection, text)]),
    }
}

/// A field's value in JSON, if it can have it.
pub fn read(field: &FieldDescriptor, text: &str) -> Result<Json, String> {
    let value = match field.kind() {
        Kind::Bool => Json::Bool(bool::from_str(text).map_err(|e| e.to_string())?),
        Kind::Message(kind) if kind.full_name() == "google.type.Date" => {
            let date = NaiveDate::from_str(text).map_err(|_| "must be a day such as 2027-01-31")?;
            json!({"year": date.year(), "month": date.month(), "day": date.day()})
        }
        _ => Json::from(text),
    };
    let one = match field.is_list() {
        true => json!([value]),
        false => value.clone(),
    };
    let alone = json!({ (field.name()): one });
    match DynamicMessage::deserialize(field.parent_message().clone(), alone) {
        Ok(_) => Ok(value),
        Err(error) => Err(text::clean(&error.to_string()).into_owned()),
    }
}

/// A request that a file has as JSON.
pub fn from_file(input: &MessageDescriptor, path: &str) -> Result<DynamicMessage, String> {
    let read = match path {
        "-" => {
            let mut all = String::new();
            std::io::stdin().read_to_string(&mut all).map(|_| all)
        }
        path => std::fs::read_to_string(path),
    };
    let json = read.map_err(|error| error.to_string())?;
    let mut reader = serde_json::Deserializer::from_str(&json);
    let message = DynamicMessage::deserialize(input.clone(), &mut reader);
    let message = message.and_then(|message| reader.end().map(|()| message));
    message.map_err(|error| text::clean(&error.to_string()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::args::field;
    use crate::grpc::mask::POOL;

    fn in_message(message: &str, path: &str) -> FieldDescriptor {
        let message = POOL.get_message_by_name(message).expect("ours");
        field(&message, path).expect("a field")
    }

    #[test]
    fn texts_become_what_the_field_is() {
        let outcome = "anklang.planning.v1.RecordOutcomeRequest";
        let analyse = "anklang.winback.v1.AnalyseWinbackRequest";
        for (message, path, text, value) in [
            (outcome, "talk_time", "90s", json!("90s")),
            (outcome, "note", "5", json!("5")),
            (analyse, "max_groups", "5", json!("5")),
            (analyse, "workers", "users/anna", json!("users/anna")),
            (
                analyse,
                "first_date",
                "2027-01-31",
                json!({"year": 2027, "month": 1, "day": 31}),
            ),
        ] {
            assert_eq!(read(&in_message(message, path), text), Ok(value), "{path}");
        }
        for (message, path, text) in [
            (outcome, "talk_time", "soon"),
            (outcome, "call_later_time", "2027-01-31"),
            (analyse, "max_groups", "many"),
            (analyse, "first_date", "31.1.2027"),
        ] {
            assert!(read(&in_message(message, path), text).is_err(), "{path}");
        }
    }

    #[test]
    fn names_may_be_short_and_ids_are_encoded() {
        for (text, name) in [
            ("4711", "customers/4711"),
            ("customers/4711", "customers/4711"),
            ("customers/%2F", "customers/%2F"),
            ("A/1 2", "customers/A%2F1%202"),
            ("customers", "customers/customers"),
        ] {
            assert_eq!(full_name("customers", text), name);
        }
    }

    #[test]
    fn words_of_enums_are_those_that_are_shown() {
        let kind = POOL.get_enum_by_name("anklang.offers.v1.RejectReason");
        let kind = kind.expect("ours");
        assert_eq!(words_number(&kind, "not-interested"), Some(7));
        assert_eq!(words_number(&kind, "unspecified"), None);
        assert!(words(&kind).all(|(word, number)| words_number(&kind, &word) == Some(number)));
    }
}
