//! Configurations against the plugin's JSON Schema.

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
        path: format!("{here}/{}", name.replace('~', "~0").replace('/', "~1")),
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
        ValidationErrorKind::OneOfNotValid { context } => one_of(context).unwrap_or_else(|| {
            vec![ConfigViolation {
                path: here,
                reason: error.masked().to_string(),
            }]
        }),
        _ => vec![ConfigViolation {
            path: here,
            reason: error.masked().to_string(),
        }],
    }
}

/// What is wrong where one of several schemas has to fit: a choice of constants, or objects that a
/// constant tells apart. `None` if it is neither.
fn one_of(branches: &[Vec<ValidationError<'static>>]) -> Option<Vec<ConfigViolation>> {
    let constant = |errors: &[ValidationError<'static>]| {
        errors.iter().find_map(|error| match error.kind() {
            ValidationErrorKind::Constant { expected_value } => Some((
                error.instance_path().to_string(),
                expected_value.to_string(),
            )),
            _ => None,
        })
    };
    let all = |errors: &[ValidationError<'static>]| -> Vec<ConfigViolation> {
        errors.iter().flat_map(violation).collect()
    };
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for errors in branches {
        match constant(errors) {
            None => fitting.push(errors),
            Some(constant) => others.push(constant),
        }
    }
    match fitting[..] {
        [] => {
            let path = others.first()?.0.clone();
            let choices: Vec<_> = others.into_iter().map(|(_, value)| value).collect();
            let reason = format!("is none of {}", choices.join(", "));
            Some(vec![ConfigViolation { path, reason }])
        }
        [meant] if !others.is_empty() => Some(all(meant)),
        // The constant is missing: what every schema says.
        [first, ref more @ ..] => {
            let mut common = all(first);
            common.retain(|violation| more.iter().all(|errors| all(errors).contains(violation)));
            Some(common).filter(|common| !common.is_empty())
        }
    }
}

/// The configuration with every value hidden that the schema marks as `writeOnly`.
pub(crate) fn redacted(schema: &Value, config: &Value) -> Value {
    let mut shown = config.clone();
    hide(schema, schema, &mut shown);
    shown
}

fn hide(root: &Value, schema: &Value, value: &mut Value) {
    if schema["writeOnly"] == true {
        *value = Value::from(HIDDEN);
        return;
    }
    let referenced = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#'));
    if let Some(target) = referenced.and_then(|pointer| root.pointer(pointer)) {
        hide(root, target, value);
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for branch in schema[keyword].as_array().into_iter().flatten() {
            hide(root, branch, value);
        }
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let Some(property) = schema["properties"].get(name) {
                    hide(root, property, member);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| hide(root, &schema["items"], item)),
        _ => {}
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

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
    fn of_several_sorts_the_one_that_is_meant_counts() {
        let sort = |name: &str, option: &str| {
            json!({
                "type": "object",
                "required": ["type", option],
                "additionalProperties": false,
                "properties": {
                    "type": { "const": name },
                    option: { "type": "string" },
                    "pages": { "type": "integer" }
                }
            })
        };
        let schema = json!({ "oneOf": [sort("server", "host"), sort("gateway", "to")] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        for (config, expected) in [
            (
                json!({ "type": "server", "to": "x", "pages": "many" }),
                &[
                    "/host: is required",
                    "/pages: value is not of type \"integer\"",
                    "/to: is not known",
                ][..],
            ),
            (json!({ "type": "gateway" }), &["/to: is required"]),
            (
                json!({ "type": "pigeon" }),
                &["/type: is none of \"server\", \"gateway\""],
            ),
            (json!({ "host": "h" }), &["/type: is required"]),
        ] {
            let found: Vec<_> = violations(&validator, &config)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found, expected, "{config}");
        }
    }

    #[test]
    fn secrets_are_hidden_wherever_the_schema_marks_them() {
        let schema = json!({
            "$defs": { "Account": { "properties": { "key": { "writeOnly": true } } } },
            "properties": {
                "password": { "type": "string", "writeOnly": true },
                "main": { "$ref": "#/$defs/Account" },
                "more": { "items": { "anyOf": [{ "$ref": "#/$defs/Account" }, { "type": "null" }] } }
            }
        });
        let config = json!({
            "password": "s", "host": "h", "main": { "key": "s", "id": 1 }, "more": [{ "key": "s" }]
        });
        assert_eq!(
            redacted(&schema, &config),
            json!({
                "password": HIDDEN, "host": "h",
                "main": { "key": HIDDEN, "id": 1 }, "more": [{ "key": HIDDEN }]
            })
        );
    }
}
