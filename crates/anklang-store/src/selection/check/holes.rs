//! Comparisons with holes: what can be said of them before they are filled.

use anklang_domain::selection::{Compare, Operator, Parameter, ParameterType, Value};

use super::super::registry::{FieldType, Source};
use super::super::tree::Node;
use super::{Checker, Found, Values, value_words};

impl Checker<'_> {
    /// Checks that parameters fit the field, by type, operators and the values that are known.
    pub(super) fn with_holes(
        &mut self,
        compare: &Compare,
        found: &Found<'_>,
        parameters: &[Parameter],
        path: &str,
    ) -> Option<Node> {
        for (i, value) in compare.values.iter().enumerate() {
            let fits = match value {
                Value::Parameter(name) => match parameters.iter().find(|p| p.name == *name) {
                    None => Err("is no parameter of this preset".to_owned()),
                    Some(parameter) => self.fills(parameter, compare, found),
                },
                value => self.fits(found, value),
            };
            if let Err(reason) = fits {
                self.report(format!("{path}.values[{i}]"), reason);
            }
        }
        Some(Node::Constant(true))
    }

    fn fills(
        &self,
        parameter: &Parameter,
        compare: &Compare,
        found: &Found<'_>,
    ) -> Result<(), String> {
        let (name, holds) = (&parameter.name, parameter.ty);
        let fits = match found.ty() {
            FieldType::Text => holds == ParameterType::Text,
            FieldType::Number => holds == ParameterType::Number,
            FieldType::Flag => holds == ParameterType::Flag,
            FieldType::Date => holds == ParameterType::Date,
            FieldType::Time => matches!(holds, ParameterType::Date | ParameterType::Time),
        };
        if !fits {
            let (is, wants) = (holds.as_str(), value_words(found.ty()));
            return Err(format!(
                "the parameter {name} is {is}; the field compares with {wants}"
            ));
        }
        let is_list = |o: &Operator| matches!(o, Operator::In | Operator::NotIn);
        if parameter.multiple && !is_list(&compare.operator) {
            return Err(format!(
                "the parameter {name} has several values: IN and NOT_IN take them"
            ));
        }
        if !parameter.operators.is_empty() && compare.values.len() > 1 {
            return Err(format!(
                "the parameter {name} has operators, but is not the only value"
            ));
        }
        let unknown = |o: &&Operator| !found.operators().contains(o);
        if let Some(operator) = parameter.operators.iter().find(unknown) {
            let operator = operator.as_str();
            return Err(format!(
                "the parameter {name} allows {operator}, the field does not"
            ));
        }
        let mut known = parameter.defaults.iter().chain(&parameter.allowed);
        known
            .try_for_each(|value| self.fits(found, value))
            .map_err(|reason| {
                format!("the parameter {name} has a value that does not fit the field: {reason}")
            })
    }

    /// Whether a value can be compared with a field.
    fn fits(&self, found: &Found<'_>, value: &Value) -> Result<(), String> {
        let values = Values::read(found.ty(), std::slice::from_ref(value), self.calendar)
            .map_err(|_| format!("must be {}", value_words(found.ty())))?;
        let (Found::Field(field), Values::Text(texts)) = (found, &values) else {
            return Ok(());
        };
        texts.iter().try_for_each(|text| match &field.source {
            Source::Word(_, words) if !words.contains(&&**text) => {
                Err(format!("must be one of {}", words.join(", ")))
            }
            Source::Name(_, name) => name.parse(text).map(drop).map_err(|e| e.to_string()),
            _ => Ok(()),
        })
    }
}
