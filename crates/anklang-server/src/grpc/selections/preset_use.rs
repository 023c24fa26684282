//! Presets as they are used: holes filled with a caller's arguments.

use anklang_domain::selection::{
    Argument, MAX_PARAMETERS, MAX_VALUES, Operator, Value, argument_path, fill,
};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::selection::{self, Prepared};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use chrono::{DateTime, Utc};

use super::criteria::{operator_from_proto, value_from_proto};
use crate::grpc::{ApiResult, form};

/// Prepares a preset with its arguments, at `path`. Adds everything that is wrong, by the names of
/// the parameters; gives `None` exactly when something is.
///
/// # Errors
/// Only what is not the caller's fault.
pub async fn prepare_preset(
    conn: &mut Conn,
    tenant: &Tenant,
    used: &pb::PresetUse,
    path: &str,
    as_of: DateTime<Utc>,
    violations: &mut Violations,
) -> ApiResult<Option<Prepared>> {
    let at_preset = format!("{path}.preset");
    let code = violations.check(&at_preset, name::parse(&used.preset, ["presets"]));
    let mut faults = Violations::new();
    let (arguments, unreadable) = read(&used.arguments, &mut faults);
    let preset = match code {
        None => None,
        Some([code]) => match selection::preset(conn, tenant.id, &code).await {
            Err(StoreError::Missing(_)) => {
                violations.add(&at_preset, "does not exist");
                None
            }
            found => Some(found?),
        },
    };
    let mut prepared = None;
    if let Some(preset) = preset {
        let mut found = Violations::new();
        let filled = fill(&preset.criteria, &preset.parameters, &arguments, &mut found);
        // What is told of an argument that could not be read is a consequence.
        for violation in found.into_vec() {
            if !unreadable
                .iter()
                .any(|path| violation.field.starts_with(path))
            {
                faults.add(violation.field, violation.reason);
            }
        }
        if let Some(filled) = filled {
            let subject = preset.subject;
            match selection::prepare(conn, tenant, subject, &filled.criteria, as_of).await {
                Err(StoreError::Invalid(found)) => {
                    for violation in found.into_vec() {
                        match filled.origins.get(&violation.field) {
                            Some(origin) => faults.add(origin.clone(), violation.reason),
                            // The preset's own fault, e.g. an attribute that is gone.
                            None => {
                                let reason = format!("{}: {}", violation.field, violation.reason);
                                faults.add("preset", reason);
                            }
                        }
                    }
                }
                other => prepared = Some(other?),
            }
        }
    }
    let is_right = faults.is_empty();
    violations.extend_under(&format!("{path}."), faults);
    Ok(prepared.filter(|_| is_right))
}

/// The arguments that can be read, and the paths of those that cannot.
fn read(arguments: &[pb::PresetArgument], faults: &mut Violations) -> (Vec<Argument>, Vec<String>) {
    form::at_most(faults, "arguments", arguments.len(), MAX_PARAMETERS);
    let mut unreadable = Vec::new();
    let mut read = Vec::new();
    for argument in arguments.iter().take(MAX_PARAMETERS) {
        let path = argument_path(&argument.parameter);
        let before = faults.iter().count();
        let operator = operator(argument.operator, &path, faults);
        // One too many is enough to be told of.
        let values = argument.values.iter().take(MAX_VALUES + 1).enumerate();
        let values: Vec<Option<Value>> = values
            .map(|(i, value)| faults.check(format!("{path}.values[{i}]"), value_from_proto(value)))
            .collect();
        if faults.iter().count() > before {
            unreadable.push(path);
        }
        read.push(Argument {
            parameter: argument.parameter.clone(),
            operator,
            values: values.into_iter().flatten().collect(),
        });
    }
    (read, unreadable)
}

fn operator(operator: i32, path: &str, faults: &mut Violations) -> Option<Operator> {
    if operator == 0 {
        return None;
    }
    let known = operator_from_proto(operator);
    if known.is_none() {
        faults.add(format!("{path}.operator"), "is no Operator");
    }
    known
}
