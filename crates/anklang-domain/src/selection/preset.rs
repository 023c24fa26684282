//! Presets: criteria that an administrator prepared, with holes for people to fill.
//!
//! A hole is a [`Value::Parameter`] in the values of a comparison. [`fill`] puts arguments into
//! the holes. A comparison with a hole that stays open is left out, and with it whatever held
//! nothing else: who gives no postcode selects by no postcode. Of BETWEEN with one open end a
//! comparison with the other is left.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::shape::check_value;
use super::{Compare, Criteria, MAX_VALUES, Operator, Related, Value};
use crate::Violations;

/// The most parameters of a preset.
pub const MAX_PARAMETERS: usize = 32;
/// The most characters of a parameter's names.
pub const MAX_PARAMETER_NAME: usize = 200;
/// The most characters of a parameter's description.
pub const MAX_PARAMETER_DESCRIPTION: usize = 2_000;

/// What fills a hole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name: 1 to 64 of a–z, 0–9 and _, first a letter.
    pub name: String,
    /// What people call it, 1 to `MAX_PARAMETER_NAME` characters.
    pub display_name: String,
    /// What it is for, at most `MAX_PARAMETER_DESCRIPTION` characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub ty: ParameterType,
    /// Whether it must be given when it has no default.
    #[serde(default)]
    pub required: bool,
    /// Whether it may have up to [`MAX_VALUES`] values: for lists alone.
    #[serde(default)]
    pub multiple: bool,
    /// Its values when none are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<Value>,
    /// The only values that it may have; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Value>,
    /// Operators that may be chosen instead of the criteria's own; none when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<Operator>,
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterType {
    /// Text.
    Text,
    /// Decimal number.
    Number,
    /// Truth value.
    Flag,
    /// Date, or a number of days ago.
    Date,
    /// Point in time, date, or a number of days ago.
    Time,
}

impl ParameterType {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            ParameterType::Text => "text",
            ParameterType::Number => "a number",
            ParameterType::Flag => "a flag",
            ParameterType::Date => "a date or days_ago",
            ParameterType::Time => "a time, a date or days_ago",
        }
    }

    fn takes(self, value: &Value) -> bool {
        match value {
            Value::Text(_) => self == ParameterType::Text,
            Value::Number(_) => self == ParameterType::Number,
            Value::Flag(_) => self == ParameterType::Flag,
            Value::Date(_) | Value::DaysAgo(_) => {
                matches!(self, ParameterType::Date | ParameterType::Time)
            }
            Value::Time(_) => self == ParameterType::Time,
            Value::Parameter(_) => false,
        }
    }
}

/// What a caller gives for a parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// Name of the parameter.
    pub parameter: String,
    /// One of the parameter's operators instead of the criteria's own.
    pub operator: Option<Operator>,
    /// The values; none is as if the parameter was not given.
    pub values: Vec<Value>,
}

/// Criteria without holes, and where their values are from.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// The criteria.
    pub criteria: Criteria,
    /// Paths of values in them, from `criteria`, with the paths of the arguments that they are.
    pub origins: BTreeMap<String, String>,
}

/// Checks the parameters by themselves and that each has its hole; `parameters[…]` are the paths.
pub fn check_parameters(parameters: &[Parameter], criteria: &Criteria) -> Violations {
    let mut violations = Violations::new();
    if parameters.len() > MAX_PARAMETERS {
        violations.add("parameters", format!("has more than {MAX_PARAMETERS}"));
    }
    let mut used = BTreeSet::new();
    holes(criteria, &mut used);
    let mut names = BTreeSet::new();
    for (i, parameter) in parameters.iter().take(MAX_PARAMETERS).enumerate() {
        let path = format!("parameters[{i}]");
        if !is_name(&parameter.name) {
            let reason = "must be 1 to 64 of a–z, 0–9 and _, first a letter";
            violations.add(format!("{path}.parameter"), reason);
        } else if !names.insert(&*parameter.name) {
            violations.add(format!("{path}.parameter"), "is there twice");
        } else if !used.contains(&*parameter.name) {
            violations.add(format!("{path}.parameter"), "fills no hole in the criteria");
        }
        check_parameter(parameter, &path, &mut violations);
    }
    violations
}

fn check_parameter(parameter: &Parameter, path: &str, violations: &mut Violations) {
    let length = parameter.display_name.chars().count();
    if !(1..=MAX_PARAMETER_NAME).contains(&length) {
        let reason = format!("must have 1 to {MAX_PARAMETER_NAME} characters");
        violations.add(format!("{path}.display_name"), reason);
    }
    if parameter.description.chars().count() > MAX_PARAMETER_DESCRIPTION {
        let reason = format!("must have at most {MAX_PARAMETER_DESCRIPTION} characters");
        violations.add(format!("{path}.description"), reason);
    }
    for (field, text) in [
        ("display_name", &parameter.display_name),
        ("description", &parameter.description),
    ] {
        if text.chars().any(|c| c.is_control() && c != '\n') {
            violations.add(
                format!("{path}.{field}"),
                "must not hold control characters",
            );
        }
    }
    for (list, values) in [
        ("default_values", &parameter.defaults),
        ("allowed_values", &parameter.allowed),
    ] {
        let path = format!("{path}.{list}");
        if values.len() > MAX_VALUES {
            violations.add(&path, format!("has more than {MAX_VALUES} values"));
        }
        for (i, value) in values.iter().take(MAX_VALUES).enumerate() {
            violations.check(format!("{path}[{i}]"), check_type(parameter, value));
        }
    }
    if !parameter.multiple && parameter.defaults.len() > 1 {
        violations.add(
            format!("{path}.default_values"),
            "one value unless multiple",
        );
    }
    let outside = |v: &Value| !parameter.allowed.is_empty() && !parameter.allowed.contains(v);
    if parameter.defaults.iter().any(outside) {
        violations.add(
            format!("{path}.default_values"),
            "must be among the allowed values",
        );
    }
    let given = BTreeSet::from_iter(parameter.operators.iter().map(|o| o.as_str()));
    if given.len() < parameter.operators.len() {
        violations.add(format!("{path}.allowed_operators"), "has one twice");
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.as_bytes()[0].is_ascii_lowercase()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn check_type(parameter: &Parameter, value: &Value) -> Result<(), String> {
    if !parameter.ty.takes(value) {
        return Err(format!("must be {}", parameter.ty.as_str()));
    }
    check_value(value)
}

/// Names of the parameters in criteria.
fn holes<'a>(criteria: &'a Criteria, found: &mut BTreeSet<&'a str>) {
    match criteria {
        Criteria::All { criteria } | Criteria::Any { criteria } => {
            criteria.iter().for_each(|c| holes(c, found));
        }
        Criteria::Not { criteria } => holes(criteria, found),
        Criteria::Compare(compare) => found.extend(compare.values.iter().filter_map(|v| match v {
            Value::Parameter(name) => Some(&**name),
            _ => None,
        })),
        Criteria::Related(related) => {
            if let Some(inner) = &related.criteria {
                holes(inner, found);
            }
        }
    }
}

/// Path of the argument for a parameter.
pub fn argument_path(parameter: &str) -> String {
    let name: String = parameter.chars().take(64).collect();
    format!("arguments[\"{name}\"]")
}

/// Fills the holes of criteria. What is wrong with arguments is told at [`argument_path`]s, all of
/// it; what is right is filled in nevertheless, so that more can be found wrong with it later.
/// `None` when no criterion is left.
pub fn fill(
    criteria: &Criteria,
    parameters: &[Parameter],
    arguments: &[Argument],
    violations: &mut Violations,
) -> Option<Filled> {
    let mut given: BTreeMap<&str, &Argument> = BTreeMap::new();
    for argument in arguments {
        let path = argument_path(&argument.parameter);
        if !parameters.iter().any(|p| p.name == argument.parameter) {
            let known: Vec<&str> = parameters.iter().map(|p| &*p.name).collect();
            let known = known.join(", ");
            violations.add(
                path,
                format!("is no parameter of this preset; known are {known}"),
            );
        } else if given.insert(&argument.parameter, argument).is_some() {
            violations.add(path, "is given twice");
        }
    }
    let mut filler = Filler {
        values: BTreeMap::new(),
        origins: BTreeMap::new(),
    };
    for parameter in parameters {
        let argument = given.get(&*parameter.name).copied();
        if let Some(value) = read(parameter, argument, violations) {
            filler.values.insert(&parameter.name, value);
        }
    }
    let criteria = filler.node(criteria, "criteria");
    if criteria.is_none() && violations.is_empty() {
        violations.add("arguments", "no criterion is left; give at least one");
    }
    Some(Filled {
        criteria: criteria?,
        origins: filler.origins,
    })
}

/// The values of a parameter; `None` when its hole stays open, or something is wrong.
fn read<'a>(
    parameter: &'a Parameter,
    argument: Option<&'a Argument>,
    violations: &mut Violations,
) -> Option<(Option<Operator>, &'a [Value])> {
    let path = argument_path(&parameter.name);
    let operator = argument.and_then(|a| a.operator);
    let none_needed = matches!(operator, Some(Operator::IsSet | Operator::IsNotSet));
    let values: &[Value] = match argument {
        Some(argument) if !argument.values.is_empty() || none_needed => &argument.values,
        _ => &parameter.defaults,
    };
    if values.is_empty() && !none_needed {
        if parameter.required {
            violations.add(path, "is required");
        }
        return None;
    }
    let before = violations.iter().count();
    let arity = match operator {
        Some(operator) => operator.arity(),
        None if parameter.multiple => 1..=MAX_VALUES,
        None => 1..=1,
    };
    if !arity.contains(&values.len()) {
        let (from, to) = (arity.start(), arity.end());
        let takes = if from == to {
            from.to_string()
        } else {
            format!("{from} to {to}")
        };
        violations.add(&path, format!("takes {takes} of values"));
    }
    if let Some(operator) = operator
        && !parameter.operators.contains(&operator)
    {
        let known: Vec<&str> = parameter.operators.iter().map(|o| o.as_str()).collect();
        let reason = match &known[..] {
            [] => "cannot be chosen".to_owned(),
            known => format!("must be one of {}", known.join(", ")),
        };
        violations.add(format!("{path}.operator"), reason);
    }
    for (i, value) in values.iter().take(MAX_VALUES).enumerate() {
        let checked = check_type(parameter, value).and_then(|()| {
            let fits = parameter.allowed.is_empty() || parameter.allowed.contains(value);
            if fits {
                Ok(())
            } else {
                Err(one_of(&parameter.allowed))
            }
        });
        violations.check(format!("{path}.values[{i}]"), checked);
    }
    (violations.iter().count() == before).then_some((operator, values))
}

fn one_of(allowed: &[Value]) -> String {
    let shown: Vec<String> = allowed.iter().take(20).map(shown).collect();
    let more = if allowed.len() > shown.len() {
        " and others"
    } else {
        ""
    };
    format!("must be one of {}{more}", shown.join(", "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Date(date) => date.to_string(),
        Value::Time(time) => time.to_rfc3339(),
        Value::DaysAgo(days) => format!("{days} days ago"),
        Value::Parameter(name) => name.clone(),
    }
}

struct Filler<'a> {
    /// Of the parameters whose holes are filled.
    values: BTreeMap<&'a str, (Option<Operator>, &'a [Value])>,
    origins: BTreeMap<String, String>,
}

impl Filler<'_> {
    /// `None` when it is left out.
    fn node(&mut self, criteria: &Criteria, path: &str) -> Option<Criteria> {
        match criteria {
            Criteria::All { criteria } => self
                .list(criteria, &format!("{path}.all"))
                .map(|criteria| Criteria::All { criteria }),
            Criteria::Any { criteria } => self
                .list(criteria, &format!("{path}.any"))
                .map(|criteria| Criteria::Any { criteria }),
            Criteria::Not { criteria } => {
                let inner = self.node(criteria, &format!("{path}.not"))?;
                Some(Criteria::Not {
                    criteria: Box::new(inner),
                })
            }
            Criteria::Compare(compare) => self
                .compare(compare, &format!("{path}.compare"))
                .map(Criteria::Compare),
            Criteria::Related(related) => {
                let inner = match &related.criteria {
                    None => None,
                    Some(inner) => Some(Box::new(
                        self.node(inner, &format!("{path}.related.criteria"))?,
                    )),
                };
                Some(Criteria::Related(Related {
                    criteria: inner,
                    ..related.clone()
                }))
            }
        }
    }

    fn list(&mut self, list: &[Criteria], path: &str) -> Option<Vec<Criteria>> {
        let mut left = Vec::new();
        for criteria in list {
            // Where it stands when those before it are left out.
            let path = format!("{path}.criteria[{}]", left.len());
            left.extend(self.node(criteria, &path));
        }
        (!left.is_empty()).then_some(left)
    }

    fn compare(&mut self, compare: &Compare, path: &str) -> Option<Compare> {
        if compare.operator == Operator::Between
            && let [from, to] = &compare.values[..]
        {
            return self.between(compare, from, to, path);
        }
        let mut operator = compare.operator;
        let mut values = Vec::new();
        for value in &compare.values {
            let Value::Parameter(name) = value else {
                values.push(value.clone());
                continue;
            };
            let (chosen, given) = *self.values.get(&**name)?;
            operator = chosen.unwrap_or(operator);
            for (i, value) in given.iter().enumerate() {
                self.origin(&format!("{path}.values[{}]", values.len()), name, Some(i));
                values.push(value.clone());
            }
            self.origin(&format!("{path}.values"), name, None);
        }
        Some(Compare {
            field: compare.field.clone(),
            operator,
            values,
        })
    }

    fn between(
        &mut self,
        compare: &Compare,
        from: &Value,
        to: &Value,
        path: &str,
    ) -> Option<Compare> {
        let mut ends = Vec::new();
        for (value, alone) in [
            (from, Operator::GreaterOrEqual),
            (to, Operator::LessOrEqual),
        ] {
            match value {
                Value::Parameter(name) => {
                    let given = self
                        .values
                        .get(&**name)
                        .and_then(|(_, given)| given.first());
                    if let Some(value) = given.cloned() {
                        self.origin(&format!("{path}.values[{}]", ends.len()), name, Some(0));
                        self.origin(&format!("{path}.values"), name, None);
                        ends.push((value, alone));
                    }
                }
                other => ends.push((other.clone(), alone)),
            }
        }
        let operator = match &ends[..] {
            [] => return None,
            [(_, alone)] => *alone,
            _ => Operator::Between,
        };
        Some(Compare {
            field: compare.field.clone(),
            operator,
            values: ends.into_iter().map(|(value, _)| value).collect(),
        })
    }

    fn origin(&mut self, path: &str, parameter: &str, value: Option<usize>) {
        let argument = argument_path(parameter);
        let origin = match value {
            Some(i) => format!("{argument}.values[{i}]"),
            None => argument,
        };
        self.origins.insert(path.to_owned(), origin);
    }
}
