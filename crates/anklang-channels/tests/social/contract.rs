//! Words to write contracts with: each says what a request must be, or why it is not.

use serde_json::Value;

use super::fake::Seen;

/// Whether two things are the same.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} and not {wanted:?}")),
    }
}

/// A header line with this very value.
pub fn header(seen: &Seen, name: &str, wanted: &str) -> Result<(), String> {
    same(name, seen.header(name), Some(wanted))
}

/// A body in JSON.
pub fn json_body(seen: &Seen) -> Result<Value, String> {
    header(seen, "content-type", "application/json")?;
    serde_json::from_slice(&seen.body).map_err(|e| format!("body: {e}"))
}

/// No body at all.
pub fn no_body(seen: &Seen) -> Result<(), String> {
    same("body", seen.body.len(), 0)
}

/// An object with these members, all required, and no others.
pub fn members(value: &Value, required: &[&str]) -> Result<(), String> {
    let object = value.as_object().ok_or("must be an object")?;
    for name in required {
        object.get(*name).ok_or(format!("{name} is missing"))?;
    }
    match object
        .keys()
        .find(|name| !required.contains(&name.as_str()))
    {
        Some(unknown) => Err(format!("{unknown} is not known")),
        None => Ok(()),
    }
}

/// A text that is not empty.
pub fn text(value: &Value) -> Result<&str, String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or(format!("{value} is no text"))
}

/// A UUID in text form.
pub fn uuid(text: &str) -> Result<(), String> {
    uuid::Uuid::parse_str(text)
        .map(drop)
        .map_err(|e| format!("{text}: {e}"))
}

/// A path and the pairs of a query, decoded.
pub fn split(target: &str) -> (String, Vec<(String, String)>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs = pairs.map(|(name, value)| (decoded(name), decoded(value)));
    (decoded(path), pairs.collect())
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let code = u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16);
                rest = &rest[2..];
                code.unwrap()
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
