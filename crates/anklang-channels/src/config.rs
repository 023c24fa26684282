//! Configurations against the plugin's JSON Schema.

use std::collections::BTreeSet;
use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// What hides a secret.
const HIDDEN: &str = "********";

/// One thing that is wrong with a configuration. Never contains the offending value, which
/// may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigViolation {
    /// JSON pointer to what is wrong; empty for the configuration as a whole.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ConfigViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        write!(f, "{path}: {}", self.reason)
    }
}

/// All violations, in the order of their paths.
pub(crate) fn violations(schema: &Validator, config: &Value) -> Vec<ConfigViolation> {
    let mut all: Vec<_> = schema
        .iter_errors(config)
        .flat_map(|e| violation(&e))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn violation(error: &ValidationError<'_>) -> Vec<ConfigViolation> {
    let here = error.instance_path().to_string();
    let at = |name: &str, reason: &str| ConfigViolation {
        path: format!("{here}/{}", escaped(name)),
        reason: reason.to_owned(),
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            vec![at(property.as_str().unwrap_or_default(), "is required")]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| at(name, "is not known"))
            .collect(),
        ValidationErrorKind::OneOfNotValid { context } => of_branches(context)
            .unwrap_or_else(|| vec![at_itself(here, error.masked().to_string())]),
        _ => vec![at_itself(here, error.masked().to_string())],
    }
}

fn at_itself(path: String, reason: String) -> ConfigViolation {
    ConfigViolation { path, reason }
}

/// What is wrong where one of several schemas must hold: an enumeration, which JSON Schema writes as
/// "one of these constants", or schemas that are told apart by a constant. `None` if it is neither.
fn of_branches(branches: &[Vec<ValidationError<'_>>]) -> Option<Vec<ConfigViolation>> {
    let mut constants = Vec::new();
    let mut chosen = Vec::new();
    for errors in branches {
        let constant = errors.iter().find_map(|error| match error.kind() {
            ValidationErrorKind::Constant { expected_value } => Some((error, expected_value)),
            _ => None,
        });
        match constant {
            Some(constant) => constants.push(constant),
            None => chosen.push(errors.iter().flat_map(violation).collect::<Vec<_>>()),
        }
    }
    if let ([], Some((error, _))) = (&*chosen, constants.first()) {
        let all: Vec<String> = constants
            .iter()
            .map(|(_, value)| value.to_string())
            .collect();
        let reason = format!("is none of {}", all.join(", "));
        return Some(vec![at_itself(error.instance_path().to_string(), reason)]);
    }
    // With one left it is chosen; else only what is wrong with all of them is wrong for sure.
    let mut common = chosen.pop()?;
    common.retain(|violation| chosen.iter().all(|others| others.contains(violation)));
    (!common.is_empty()).then_some(common)
}

/// The configuration with every value hidden that the schema marks as `writeOnly`.
pub(crate) fn redacted(schema: &Value, config: &Value) -> Value {
    let mut shown = config.clone();
    for path in marked(schema, config, is_secret) {
        if let Some(value) = shown.pointer_mut(&path) {
            *value = Value::from(HIDDEN);
        }
    }
    shown
}

/// A text without the secrets that it quotes: what a plugin says when it does not open may do so.
pub fn hide(mut text: String, values: &[Value]) -> String {
    fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::String(text) if text.len() >= 4 => found.push(text),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(members) => members.values().for_each(|item| texts(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    values.iter().for_each(|value| texts(value, &mut found));
    for secret in found {
        text = text.replace(secret, HIDDEN);
    }
    text
}

/// A text without the secrets of a configuration, which its schema marks.
pub(crate) fn without_secrets(schema: &Value, config: &[u8], text: String) -> String {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let paths = marked(schema, &config, is_secret);
    let secrets: Vec<Value> = paths
        .iter()
        .filter_map(|path| config.pointer(path).cloned())
        .collect();
    hide(text, &secrets)
}

/// Whether a schema marks its value as a secret; for [`marked`].
pub fn is_secret(_name: &str, schema: &Value) -> bool {
    schema["writeOnly"] == true
}

/// Where values of a configuration are, as JSON pointers in order, whose property `is` picks by its name
/// and its schema. What is below such a value is not looked at.
pub fn marked(
    schema: &Value,
    config: &Value,
    is: impl Fn(&str, &Value) -> bool,
) -> BTreeSet<String> {
    let mut walk = Walk {
        root: schema,
        is: &is,
        found: BTreeSet::new(),
    };
    walk.visit(schema, "", config, "");
    walk.found
}

struct Walk<'a> {
    root: &'a Value,
    is: &'a dyn Fn(&str, &Value) -> bool,
    found: BTreeSet<String>,
}

impl Walk<'_> {
    fn visit(&mut self, schema: &Value, name: &str, value: &Value, path: &str) {
        if (self.is)(name, schema) {
            self.found.insert(path.to_owned());
            return;
        }
        let root = self.root;
        let referenced = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#'));
        if let Some(target) = referenced.and_then(|pointer| root.pointer(pointer)) {
            self.visit(target, name, value, path);
        }
        for keyword in ["then", "else"] {
            if let Some(branch) = schema.get(keyword) {
                self.visit(branch, name, value, path);
            }
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for branch in schema[keyword].as_array().into_iter().flatten() {
                self.visit(branch, name, value, path);
            }
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let Some(property) = schema["properties"].get(name) {
                        let path = format!("{path}/{}", escaped(name));
                        self.visit(property, name, member, &path);
                    }
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.visit(&schema["items"], name, item, &format!("{path}/{i}"));
                }
            }
            _ => {}
        }
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_from_what_a_plugin_says_and_the_rest_stays() {
        let schema = json!({"properties": {
            "host": {}, "login": {"properties": {"password": {"writeOnly": true}}},
        }});
        let config = json!({"host": "post.example", "login": {"password": "geheim"}});
        let told = |config: &[u8]| {
            let said = "no login at post.example with geheim".to_owned();
            without_secrets(&schema, config, said)
        };
        let hidden = format!("no login at post.example with {HIDDEN}");
        assert_eq!(told(config.to_string().as_bytes()), hidden);
    }

    #[test]
    fn every_violation_is_named_without_values() {
        let schema = json!({
            "type": "object",
            "required": ["host", "user"],
            "additionalProperties": false,
            "properties": {
                "host": { "type": "string" },
                "user": { "type": "string" },
                "port": { "type": "integer", "maximum": 65535 },
                "tls": { "oneOf": [{ "const": "none" }, { "const": "starttls" }] },
                "password": { "type": "string" }
            }
        });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let config = json!({ "port": 70000, "tls": "maybe", "password": 4711, "a/b": 1 });
        let found: Vec<_> = violations(&validator, &config)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "/a~1b: is not known",
                "/host: is required",
                "/password: value is not of type \"string\"",
                "/port: value is greater than the maximum of 65535",
                "/tls: is none of \"none\", \"starttls\"",
                "/user: is required",
            ]
        );
    }

    #[test]
    fn of_several_schemas_the_chosen_one_counts() {
        let branch = |kind: &str, option: &str| {
            json!({
                "type": "object",
                "required": ["kind", option],
                "additionalProperties": false,
                "properties": { "kind": { "const": kind }, option: { "type": "string" } }
            })
        };
        let schema = json!({ "oneOf": [branch("a", "x"), branch("b", "y")] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let found = |config: Value| -> Vec<String> {
            let found = violations(&validator, &config);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            found(json!({ "kind": "a", "x": "1" })),
            Vec::<String>::new()
        );
        assert_eq!(
            found(json!({ "kind": "b", "x": "1" })),
            ["/x: is not known", "/y: is required"]
        );
        let none = ["/kind: is none of \"a\", \"b\""];
        assert_eq!(found(json!({ "kind": "c", "x": "1" })), none);
        assert_eq!(found(json!({})), ["/kind: is required"]);
    }

    #[test]
    fn secrets_are_hidden_wherever_the_schema_marks_them() {
        let schema = json!({
            "$defs": { "Account": { "properties": { "key": { "writeOnly": true } } } },
            "properties": {
                "password": { "type": "string", "writeOnly": true },
                "main": { "$ref": "#/$defs/Account" },
                "more": { "items": { "anyOf": [{ "$ref": "#/$defs/Account" }, { "type": "null" }] } }
            },
            "if": { "properties": { "id": { "const": 1 } } },
            "then": { "properties": { "token": { "writeOnly": true } } },
            "else": { "$ref": "#/$defs/Account" }
        });
        let config = json!({
            "password": "s", "host": "h", "main": { "key": "s", "id": 1 }, "more": [{ "key": "s" }],
            "token": "s", "key": "s"
        });
        assert_eq!(
            redacted(&schema, &config),
            json!({
                "password": HIDDEN, "host": "h",
                "main": { "key": HIDDEN, "id": 1 }, "more": [{ "key": HIDDEN }],
                "token": HIDDEN, "key": HIDDEN
            })
        );
    }
}
