//! Values as text for people, and messages as JSON; what comes from outside never reaches a terminal raw.

use std::borrow::Cow;
use std::fmt::Write as _;

use anklang_proto::google::rpc::Status;
use anklang_proto::google::r#type::{Date, Money};
use anyhow::Context;
use chrono::{DateTime, Local};
use indicatif::HumanCount;
use prost::{Message, Name};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};
use prost_types::{Any, Duration, Timestamp};

use crate::grpc::mask::POOL;

/// Messages that are one text: of a few values each, or nested without an end.
const LEAVES: [&str; 11] = [
    "anklang.customers.v1.AttributeValue",
    "anklang.selections.v1.Criteria",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.ListValue",
    "google.protobuf.Struct",
    "google.protobuf.Timestamp",
    "google.protobuf.Value",
    "google.rpc.Status",
    "google.type.Date",
    "google.type.Money",
];

/// What terminals take for commands, and what turns the direction of text or ends its line.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text that does nothing to a terminal.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmful(c) {
            true => clean.extend(c.escape_default()),
            false => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

/// As [`clean`], of lines.
pub fn clean_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(clean).collect();
    lines.join("\n")
}

/// A message as canonical JSON in one line.
pub fn json(message: &DynamicMessage) -> serde_json::Result<String> {
    serde_json::to_string(message).map(|json| clean_json(&json))
}

/// JSON in one line that does nothing to a terminal, and is the same value.
pub fn clean_json(json: &str) -> String {
    // They are in strings alone; JSON itself lets most of them be.
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        match is_harmful(c) {
            true => write!(clean, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            false => clean.push(c),
        }
    }
    clean
}

/// A value of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    /// Whether it is set to the right: a number, an amount, a time.
    pub number: bool,
}

/// Whether fields of this kind are one text.
pub fn is_leaf(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => LEAVES.contains(&message.full_name()) || message.is_map_entry(),
        _ => true,
    }
}

fn is_number(field: &FieldDescriptor) -> bool {
    if field.is_list() || field.is_map() {
        return false;
    }
    match field.kind() {
        Kind::Bool | Kind::Bytes | Kind::Enum(_) | Kind::String => false,
        Kind::Message(message) => matches!(
            message.full_name(),
            "google.protobuf.Duration"
                | "google.protobuf.Timestamp"
                | "google.type.Date"
                | "google.type.Money"
        ),
        _ => true,
    }
}

/// A field of a message. What is not set is empty, but for numbers: they are 0 then.
pub fn cell(message: &DynamicMessage, field: &FieldDescriptor) -> Cell {
    let number = is_number(field);
    let zero = number && !field.supports_presence();
    let text = match message.has_field(field) || zero {
        true => value(&field.kind(), message.get_field(field).as_ref()),
        false => String::new(),
    };
    Cell { text, number }
}

fn value(kind: &Kind, of: &Value) -> String {
    match of {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::I32(n) => count((*n).into()),
        Value::I64(n) => count(*n),
        Value::U32(n) => count((*n).into()),
        Value::U64(n) => HumanCount(*n).to_string(),
        Value::F32(n) => decimal((*n).into()),
        Value::F64(n) => decimal(*n),
        Value::String(text) => clean(text).into_owned(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::EnumNumber(n) => kind
            .as_enum()
            .map_or_else(String::new, |kind| word(kind, *n)),
        Value::Message(message) => short(message),
        Value::List(all) => {
            let all: Vec<String> = all.iter().map(|one| value(kind, one)).collect();
            all.join(", ")
        }
        Value::Map(map) => {
            let entry = kind
                .as_message()
                .map(MessageDescriptor::map_entry_value_field);
            let kind = entry.map_or(Kind::String, |field| field.kind());
            let pair =
                |(key, of): (&MapKey, &Value)| format!("{}={}", word_of(key), value(&kind, of));
            let mut all: Vec<String> = map.iter().map(pair).collect();
            all.sort_unstable();
            all.join(", ")
        }
    }
}

fn word_of(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => clean(key).into_owned(),
    }
}

/// A value of an enum as words: without the prefix of all, in lower case. Empty when it is not told.
pub fn word(kind: &EnumDescriptor, number: i32) -> String {
    let Some(value) = kind.get_value(number) else {
        return number.to_string();
    };
    let none = kind.default_value();
    let prefix = none.name().strip_suffix("UNSPECIFIED");
    let name = value.name();
    match prefix.and_then(|prefix| name.strip_prefix(prefix)) {
        Some("UNSPECIFIED") => String::new(),
        Some(word) => word.to_lowercase().replace('_', " "),
        None => name.to_lowercase().replace('_', " "),
    }
}

/// A message as one text.
fn short(message: &DynamicMessage) -> String {
    let descriptor = message.descriptor();
    let text = match descriptor.full_name() {
        "google.type.Date" => message.transcode_to::<Date>().ok().map(date),
        "google.type.Money" => message
            .transcode_to::<Money>()
            .ok()
            .map(|money| amount(&money)),
        "google.protobuf.Timestamp" => message.transcode_to::<Timestamp>().ok().map(time),
        "google.protobuf.Duration" => {
            let duration = message.transcode_to::<Duration>().ok();
            duration.map(|duration| duration.to_string())
        }
        "google.rpc.Status" => {
            let status = message.transcode_to::<Status>().ok();
            status.map(|status| clean(&status.message).into_owned())
        }
        // A choice of values, of which one is set.
        "anklang.customers.v1.AttributeValue" => {
            let mut set = message.fields();
            set.next().map(|(field, of)| value(&field.kind(), of))
        }
        _ => json(message).ok(),
    };
    text.unwrap_or_default()
}

fn count(n: i64) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", HumanCount(n.unsigned_abs()))
}

fn decimal(n: f64) -> String {
    let text = format!("{n:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Parts of dates may be missing.
fn date(date: Date) -> String {
    let Date { year, month, day } = date;
    format!("{year:04}-{month:02}-{day:02}")
}

/// An amount with two digits behind the point, or as many as it has.
fn amount(money: &Money) -> String {
    let sign = if money.units < 0 || money.nanos < 0 {
        "-"
    } else {
        ""
    };
    let nanos = format!("{:09}", money.nanos.unsigned_abs());
    let digits = nanos.trim_end_matches('0');
    let mut text = format!(
        "{sign}{}.{digits:0<2}",
        HumanCount(money.units.unsigned_abs())
    );
    if !money.currency_code.is_empty() {
        text.push(' ');
        text.push_str(&clean(&money.currency_code));
    }
    text
}

/// A time by the clock of whoever looks.
fn time(time: Timestamp) -> String {
    let nanos = u32::try_from(time.nanos).unwrap_or_default();
    let time = DateTime::from_timestamp(time.seconds, nanos);
    let local = time.map(|time| time.with_timezone(&Local));
    local.map_or_else(String::new, |time| {
        time.format("%Y-%m-%d %H:%M").to_string()
    })
}

/// A message of ours as one that tells what it has.
pub fn dynamic<M: Message + Name>(message: &M) -> anyhow::Result<DynamicMessage> {
    let descriptor = POOL.get_message_by_name(&M::full_name());
    let descriptor = descriptor.context("the message is not described")?;
    Ok(DynamicMessage::decode(
        descriptor,
        &message.encode_to_vec()[..],
    )?)
}

/// The message in an `Any`, if we know its type; any other message as it is.
pub fn unpacked(message: &DynamicMessage) -> Option<DynamicMessage> {
    if message.descriptor().full_name() != "google.protobuf.Any" {
        return Some(message.clone());
    }
    of_any(&message.transcode_to().ok()?)
}

/// The message in an `Any`, if we know its type.
pub fn of_any(any: &Any) -> Option<DynamicMessage> {
    let (_, name) = any.type_url.rsplit_once('/')?;
    let descriptor = POOL.get_message_by_name(name)?;
    DynamicMessage::decode(descriptor, &any.value[..]).ok()
}

#[cfg(test)]
mod tests {
    use anklang_proto::anklang::customers::v1::attribute_value::Value as Attribute;
    use anklang_proto::anklang::customers::v1::{AttributeValue, Customer, CustomerKind};

    use super::*;

    fn shown<M: Message + Name>(message: &M, field: &str) -> String {
        let message = dynamic(message).expect("ours");
        let field = message
            .descriptor()
            .get_field_by_name(field)
            .expect("a field");
        cell(&message, &field).text
    }

    #[test]
    fn amounts_have_two_digits_or_more() {
        let money = |units, nanos| Money {
            currency_code: "EUR".into(),
            units,
            nanos,
        };
        for (money, text) in [
            (money(1_234_567, 500_000_000), "1,234,567.50 EUR"),
            (money(0, 289_300_000), "0.2893 EUR"),
            (money(-3, -10_000_000), "-3.01 EUR"),
            (money(0, -500_000_000), "-0.50 EUR"),
            (money(0, 0), "0.00 EUR"),
        ] {
            assert_eq!(amount(&money), text);
        }
    }

    #[test]
    fn values_are_short_and_what_is_not_set_is_empty() {
        let attribute = |value| AttributeValue { value: Some(value) };
        let customer = Customer {
            kind: CustomerKind::Company.into(),
            company_name: "A\u{1b}[31mB\nC\u{202e}".into(),
            birth_date: Some(Date {
                year: 1980,
                month: 2,
                day: 3,
            }),
            attributes: [
                ("solar".to_owned(), attribute(Attribute::Flag(true))),
                ("band".to_owned(), attribute(Attribute::Text("gold".into()))),
            ]
            .into(),
            ..Default::default()
        };
        assert_eq!(shown(&customer, "kind"), "company");
        assert_eq!(shown(&customer, "salutation"), "");
        assert_eq!(shown(&customer, "birth_date"), "1980-02-03");
        assert_eq!(shown(&customer, "create_time"), "");
        assert_eq!(shown(&customer, "attributes"), "band=gold, solar=yes");
        assert_eq!(
            shown(&customer, "company_name"),
            "A\\u{1b}[31mB\\nC\\u{202e}"
        );
        assert_eq!(decimal(0.25), "0.25");
        assert_eq!((decimal(12.0), decimal(0.0)), ("12".into(), "0".into()));
        assert_eq!((count(-1_234), count(999)), ("-1,234".into(), "999".into()));
    }

    #[test]
    fn json_is_the_same_value_without_control_characters() {
        let name = "A\u{1b}\u{7f}\u{9b}\u{202e}\n„ü“\\";
        let customer = Customer {
            last_name: name.into(),
            ..Default::default()
        };
        let line = json(&dynamic(&customer).expect("ours")).expect("JSON");
        assert!(!line.contains(is_harmful), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["lastName"], name);
    }

    #[test]
    fn words_of_enums_lose_their_prefix() {
        let kind = POOL
            .get_enum_by_name("anklang.campaigns.v1.ExclusionReason")
            .expect("ours");
        assert_eq!(word(&kind, 0), "");
        assert_eq!(word(&kind, 12), "frequency cap");
        assert_eq!(word(&kind, 999), "999");
    }
}
