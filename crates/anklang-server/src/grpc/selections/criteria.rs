//! Criteria between the wire and the domain.
//!
//! Reading goes on behind a fault, so that a caller hears of all of them at once: what cannot be
//! read is replaced by something harmless that never runs, and whatever is later found wrong at
//! or below a fault is a consequence of it and not reported.

use std::collections::HashSet;

use anklang_domain::Violations;
use anklang_domain::selection::{
    Compare, Criteria, MAX_DEPTH, MAX_NODES, MAX_VALUES, Operator, Parameter, Quantifier, Related,
    Subject, Value, check_shape,
};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::selection::{self, Prepared};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use chrono::{DateTime, Utc};
use pb::criteria::Node;
use pb::value::Value as WireValue;
use rust_decimal::Decimal;

use crate::grpc::{ApiResult, wire};

/// Domain and wire, side by side.
const OPERATORS: [(Operator, pb::Operator); 13] = [
    (Operator::Equal, pb::Operator::Equal),
    (Operator::NotEqual, pb::Operator::NotEqual),
    (Operator::Less, pb::Operator::Less),
    (Operator::LessOrEqual, pb::Operator::LessOrEqual),
    (Operator::Greater, pb::Operator::Greater),
    (Operator::GreaterOrEqual, pb::Operator::GreaterOrEqual),
    (Operator::Between, pb::Operator::Between),
    (Operator::In, pb::Operator::In),
    (Operator::NotIn, pb::Operator::NotIn),
    (Operator::StartsWith, pb::Operator::StartsWith),
    (Operator::Contains, pb::Operator::Contains),
    (Operator::IsSet, pb::Operator::IsSet),
    (Operator::IsNotSet, pb::Operator::IsNotSet),
];

/// Prepares criteria as they came at `path`, e.g. `selection.criteria`. Adds everything that is
/// wrong with them; gives `None` exactly when something is, or when the subject is not known.
///
/// # Errors
/// Only what is not the caller's fault.
pub async fn prepare(
    conn: &mut Conn,
    tenant: &Tenant,
    subject: Option<Subject>,
    criteria: Option<&pb::Criteria>,
    path: &str,
    as_of: DateTime<Utc>,
    violations: &mut Violations,
) -> ApiResult<Option<Prepared>> {
    let Some(criteria) = criteria else {
        violations.add(path, "is required");
        return Ok(None);
    };
    let mut faults = Violations::new();
    let draft = read(criteria, &mut faults);
    let result = match (draft, subject) {
        (Some(draft), Some(subject)) => {
            match selection::prepare(conn, tenant, subject, &draft, as_of).await {
                Err(StoreError::Invalid(found)) => {
                    add_causes(&mut faults, found);
                    None
                }
                other => Some(other?),
            }
        }
        (Some(draft), None) => {
            add_causes(&mut faults, check_shape(&draft));
            None
        }
        (None, _) => None,
    };
    let result = result.filter(|_| faults.is_empty());
    add_at(path, faults, violations);
    Ok(result)
}

/// As `prepare`, for criteria of a preset with holes, which are checked and not prepared. Criteria
/// and parameters stand at `preset.`.
///
/// # Errors
/// Only what is not the caller's fault.
pub async fn check_preset(
    conn: &mut Conn,
    tenant: &Tenant,
    subject: Option<Subject>,
    criteria: Option<&pb::Criteria>,
    parameters: &[Parameter],
    violations: &mut Violations,
) -> ApiResult<Option<Criteria>> {
    let Some(criteria) = criteria else {
        violations.add("preset.criteria", "is required");
        return Ok(None);
    };
    let mut faults = Violations::new();
    let draft = read(criteria, &mut faults);
    if let (Some(draft), Some(subject)) = (&draft, subject) {
        let now = Utc::now();
        match selection::check_preset(conn, tenant, subject, draft, parameters, now).await {
            Err(StoreError::Invalid(found)) => add_causes(&mut faults, found),
            other => other?,
        }
    }
    let is_right = faults.is_empty();
    violations.extend_under("preset.", faults);
    Ok(draft.filter(|_| is_right))
}

/// As `prepare`, for criteria that bring their subject, at `path`.
pub async fn prepare_ad_hoc(
    conn: &mut Conn,
    tenant: &Tenant,
    given: &pb::AdHocCriteria,
    path: &str,
    as_of: DateTime<Utc>,
    violations: &mut Violations,
) -> ApiResult<Option<Prepared>> {
    let subject = subject_from_proto(given.subject, &format!("{path}.subject"), violations);
    let criteria = given.criteria.as_ref();
    let path = format!("{path}.criteria");
    prepare(conn, tenant, subject, criteria, &path, as_of, violations).await
}

/// A subject from the wire.
pub fn subject_from_proto(
    subject: i32,
    field: &str,
    violations: &mut Violations,
) -> Option<Subject> {
    match pb::Subject::try_from(subject) {
        Ok(pb::Subject::Customer) => Some(Subject::Customer),
        Ok(pb::Subject::Contract) => Some(Subject::Contract),
        Ok(pb::Subject::Unspecified) | Err(_) => {
            violations.add(field, "must be SUBJECT_CUSTOMER or SUBJECT_CONTRACT");
            None
        }
    }
}

/// A subject on the wire.
pub fn subject_to_proto(subject: Subject) -> pb::Subject {
    match subject {
        Subject::Customer => pb::Subject::Customer,
        Subject::Contract => pb::Subject::Contract,
    }
}

/// An operator on the wire.
pub(in crate::grpc) fn operator_to_proto(operator: Operator) -> pb::Operator {
    OPERATORS
        .into_iter()
        .find_map(|(ours, theirs)| (ours == operator).then_some(theirs))
        .unwrap_or_default()
}

/// An operator from the wire; `None` for none and for those that nobody knows.
pub(in crate::grpc) fn operator_from_proto(operator: i32) -> Option<Operator> {
    OPERATORS
        .into_iter()
        .find_map(|(ours, theirs)| (i32::from(theirs) == operator).then_some(ours))
}

/// Criteria on the wire.
pub fn criteria_to_proto(criteria: &Criteria) -> pb::Criteria {
    let list = |criteria: &[Criteria]| pb::CriteriaList {
        criteria: criteria.iter().map(criteria_to_proto).collect(),
    };
    let node = match criteria {
        Criteria::All { criteria } => Node::All(list(criteria)),
        Criteria::Any { criteria } => Node::Any(list(criteria)),
        Criteria::Not { criteria } => Node::Not(Box::new(criteria_to_proto(criteria))),
        Criteria::Compare(compare) => Node::Compare(pb::Compare {
            field: compare.field.clone(),
            operator: operator_to_proto(compare.operator).into(),
            values: compare.values.iter().map(value_to_proto).collect(),
        }),
        Criteria::Related(related) => {
            let (quantifier, count) = match related.quantifier {
                Quantifier::Any => (pb::Quantifier::Any, None),
                Quantifier::None => (pb::Quantifier::None, None),
                Quantifier::Count { operator, value } => (
                    pb::Quantifier::Count,
                    Some(pb::CountCondition {
                        operator: operator_to_proto(operator).into(),
                        value,
                    }),
                ),
            };
            let inner = related.criteria.as_deref();
            Node::Related(Box::new(pb::Related {
                relation: related.relation.clone(),
                quantifier: quantifier.into(),
                count,
                criteria: inner.map(|c| Box::new(criteria_to_proto(c))),
            }))
        }
    };
    pb::Criteria { node: Some(node) }
}

/// A value on the wire.
pub(in crate::grpc) fn value_to_proto(value: &Value) -> pb::Value {
    let value = match value {
        Value::Text(text) => WireValue::Text(text.clone()),
        Value::Number(number) => WireValue::Number(number.to_string()),
        Value::Flag(flag) => WireValue::Flag(*flag),
        Value::Date(date) => WireValue::Date(wire::date(*date)),
        Value::Time(time) => WireValue::Time(wire::timestamp(*time)),
        Value::DaysAgo(days) => WireValue::DaysAgo(*days),
        Value::Parameter(name) => WireValue::Parameter(name.clone()),
    };
    pb::Value { value: Some(value) }
}

/// Reads criteria, with faults at paths from `criteria`; `None` when there are too many nodes to
/// look at the rest.
fn read(criteria: &pb::Criteria, faults: &mut Violations) -> Option<Criteria> {
    let mut reader = Reader { nodes: 0, faults };
    let draft = reader.node(criteria, 1, "criteria");
    if reader.nodes > MAX_NODES {
        faults.add("criteria", format!("has more than {MAX_NODES} nodes"));
        return None;
    }
    Some(draft)
}

struct Reader<'a> {
    /// Nodes so far; nothing is read beyond the limit.
    nodes: usize,
    faults: &'a mut Violations,
}

/// Stands for what cannot be read.
fn unreadable() -> Criteria {
    Criteria::All {
        criteria: Vec::new(),
    }
}

impl Reader<'_> {
    fn node(&mut self, criteria: &pb::Criteria, depth: usize, path: &str) -> Criteria {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return unreadable();
        }
        if depth > MAX_DEPTH {
            self.faults
                .add(path, format!("is deeper than {MAX_DEPTH} levels"));
            return unreadable();
        }
        match &criteria.node {
            None => {
                self.faults
                    .add(path, "needs one of all, any, not, compare, related");
                unreadable()
            }
            Some(Node::All(list)) => Criteria::All {
                criteria: self.list(list, depth, &format!("{path}.all")),
            },
            Some(Node::Any(list)) => Criteria::Any {
                criteria: self.list(list, depth, &format!("{path}.any")),
            },
            Some(Node::Not(inner)) => Criteria::Not {
                criteria: Box::new(self.node(inner, depth + 1, &format!("{path}.not"))),
            },
            Some(Node::Compare(compare)) => {
                Criteria::Compare(self.compare(compare, &format!("{path}.compare")))
            }
            Some(Node::Related(related)) => {
                Criteria::Related(self.related(related, depth, &format!("{path}.related")))
            }
        }
    }

    fn list(&mut self, list: &pb::CriteriaList, depth: usize, path: &str) -> Vec<Criteria> {
        let read = |(i, c)| self.node(c, depth + 1, &format!("{path}.criteria[{i}]"));
        list.criteria
            .iter()
            .enumerate()
            .take(MAX_NODES)
            .map(read)
            .collect()
    }

    fn compare(&mut self, compare: &pb::Compare, path: &str) -> Compare {
        let operator = self.operator(compare.operator, format!("{path}.operator"));
        // One too many is enough to be told of.
        let values = compare.values.iter().take(MAX_VALUES + 1).enumerate();
        let values: Vec<Option<Value>> = values
            .map(|(i, v)| {
                let value = value_from_proto(v);
                self.faults.check(format!("{path}.values[{i}]"), value)
            })
            .collect();
        let whole: Option<Vec<Value>> = values.into_iter().collect();
        // Every field knows IS_SET, so that a wrong field is still found.
        let (operator, values) = operator.zip(whole).unwrap_or((Operator::IsSet, vec![]));
        Compare {
            field: compare.field.clone(),
            operator,
            values,
        }
    }

    fn operator(&mut self, operator: i32, path: String) -> Option<Operator> {
        let known = operator_from_proto(operator);
        if known.is_none() {
            self.faults.add(path, "is required: one of Operator");
        }
        known
    }

    fn related(&mut self, related: &pb::Related, depth: usize, path: &str) -> Related {
        let quantifier = self.quantifier(related, path);
        let inner = related.criteria.as_ref();
        Related {
            relation: related.relation.clone(),
            quantifier: quantifier.unwrap_or(Quantifier::Any),
            criteria: inner.map(|c| Box::new(self.node(c, depth + 1, &format!("{path}.criteria")))),
        }
    }

    fn quantifier(&mut self, related: &pb::Related, path: &str) -> Option<Quantifier> {
        let quantifier = match pb::Quantifier::try_from(related.quantifier) {
            Ok(pb::Quantifier::Any) => Quantifier::Any,
            Ok(pb::Quantifier::None) => Quantifier::None,
            Ok(pb::Quantifier::Count) => {
                let Some(count) = &related.count else {
                    self.faults
                        .add(format!("{path}.count"), "is required with QUANTIFIER_COUNT");
                    return None;
                };
                let operator = self.operator(count.operator, format!("{path}.count.operator"))?;
                return Some(Quantifier::Count {
                    operator,
                    value: count.value,
                });
            }
            Ok(pb::Quantifier::Unspecified) | Err(_) => {
                let reason = "must be QUANTIFIER_ANY, QUANTIFIER_NONE or QUANTIFIER_COUNT";
                self.faults.add(format!("{path}.quantifier"), reason);
                return None;
            }
        };
        if related.count.is_some() {
            self.faults
                .add(format!("{path}.count"), "is for QUANTIFIER_COUNT only");
        }
        Some(quantifier)
    }
}

/// A value from the wire.
pub(in crate::grpc) fn value_from_proto(value: &pb::Value) -> Result<Value, &'static str> {
    match &value.value {
        None => Err("needs one of text, number, flag, date, time, days_ago"),
        Some(WireValue::Text(text)) => Ok(Value::Text(text.clone())),
        Some(WireValue::Number(text)) => decimal(text)
            .map(Value::Number)
            .ok_or("must be a decimal number of at most 28 digits, e.g. 2500 or 0.25"),
        Some(WireValue::Flag(flag)) => Ok(Value::Flag(*flag)),
        Some(WireValue::Date(date)) => wire::naive_date(date).map(Value::Date),
        Some(WireValue::Time(time)) => wire::date_time(time).map(Value::Time),
        Some(WireValue::DaysAgo(days)) => Ok(Value::DaysAgo(*days)),
        Some(WireValue::Parameter(name)) => Ok(Value::Parameter(name.clone())),
    }
}

fn decimal(text: &str) -> Option<Decimal> {
    // `Decimal` reads underscores as well.
    let is_plain = |b: u8| b.is_ascii_digit() || b == b'.' || b == b'-';
    (text.bytes().all(is_plain)).then(|| Decimal::from_str_exact(text).ok())?
}

/// Adds what is found later, but for the consequences of faults.
fn add_causes(faults: &mut Violations, found: Violations) {
    let known: HashSet<String> = faults.iter().map(|v| v.field.clone()).collect();
    for violation in found.into_vec() {
        let path = &violation.field;
        let mut ends = path
            .match_indices(['.', '['])
            .map(|(end, _)| end)
            .chain([path.len()]);
        if !ends.any(|end| known.contains(&path[..end])) {
            faults.add(violation.field, violation.reason);
        }
    }
}

/// Adds faults at paths from `criteria` as faults at paths from `path`.
fn add_at(path: &str, faults: Violations, violations: &mut Violations) {
    for fault in faults.into_vec() {
        let rest = fault.field.strip_prefix("criteria").unwrap_or(&fault.field);
        violations.add(format!("{path}{rest}"), fault.reason);
    }
}
