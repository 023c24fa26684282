//! What can be checked of criteria without knowing fields and relations.
//!
//! Walks without recursion, and never below the limits, so that hostile trees cost nothing.

use chrono::Datelike;

use super::{
    Compare, Criteria, MAX_COUNT, MAX_DAYS, MAX_DEPTH, MAX_NODES, MAX_TEXT, MAX_VALUES, Operator,
    Quantifier, Related, Value, YEARS,
};
use crate::Violations;

/// Checks sizes, numbers of values and the values themselves. Paths are those of the API, from
/// the root `criteria`, e.g. `criteria.all.criteria[1].compare.values[0]`.
pub fn check_shape(criteria: &Criteria) -> Violations {
    check(criteria, false)
}

fn check(criteria: &Criteria, may_have_holes: bool) -> Violations {
    let mut violations = Violations::new();
    for (seen, node) in Walk::new(criteria).enumerate() {
        if seen == MAX_NODES {
            violations.add("criteria", format!("has more than {MAX_NODES} nodes"));
            break;
        }
        if node.depth > MAX_DEPTH {
            violations.add(node.path, format!("is deeper than {MAX_DEPTH} levels"));
            continue;
        }
        match node.criteria {
            Criteria::All { criteria } => check_list(criteria, node.path + ".all", &mut violations),
            Criteria::Any { criteria } => check_list(criteria, node.path + ".any", &mut violations),
            Criteria::Not { .. } => {}
            Criteria::Compare(compare) => {
                let path = node.path + ".compare";
                check_compare(compare, may_have_holes, &path, &mut violations);
            }
            Criteria::Related(related) => {
                check_related(related, &(node.path + ".related"), &mut violations);
            }
        }
    }
    violations
}

/// As [`check_shape`], for criteria of a preset, which may have holes.
pub fn check_preset_shape(criteria: &Criteria) -> Violations {
    check(criteria, true)
}

/// True when the tree has no more than [`MAX_DEPTH`] levels and [`MAX_NODES`] nodes, and may
/// therefore be walked by recursion.
pub fn is_within_limits(criteria: &Criteria) -> bool {
    Walk::new(criteria)
        .enumerate()
        .all(|(seen, node)| seen < MAX_NODES && node.depth <= MAX_DEPTH)
}

fn check_list(list: &[Criteria], path: String, violations: &mut Violations) {
    if list.is_empty() {
        violations.add(path + ".criteria", "needs at least one");
    }
}

fn check_compare(compare: &Compare, may_have_holes: bool, path: &str, violations: &mut Violations) {
    if compare.field.is_empty() {
        violations.add(format!("{path}.field"), "is required");
    }
    let arity = compare.operator.arity();
    if !arity.contains(&compare.values.len()) {
        let takes = match (arity.start(), arity.end()) {
            (0, _) => "no value".to_owned(),
            (1, 1) => "one value".to_owned(),
            (2, _) => "two values".to_owned(),
            (from, to) => format!("{from} to {to} values"),
        };
        violations.add(
            format!("{path}.values"),
            format!("{} takes {takes}", compare.operator.as_str()),
        );
    }
    for (i, value) in compare.values.iter().take(MAX_VALUES).enumerate() {
        if may_have_holes && matches!(value, Value::Parameter(_)) {
            continue;
        }
        if let Err(reason) = check_value(value) {
            violations.add(format!("{path}.values[{i}]"), reason);
        }
    }
}

/// Checks a value by itself.
pub(super) fn check_value(value: &Value) -> Result<(), String> {
    let is_right = match value {
        Value::Text(text) if text.is_empty() => {
            return Err("must not be empty; IS_NOT_SET finds fields without a value".into());
        }
        // PostgreSQL stores no NUL.
        Value::Text(text) if text.contains('\0') => return Err("must not hold NUL".into()),
        Value::Text(text) => text.chars().nth(MAX_TEXT).is_none(),
        Value::Parameter(_) => return Err("a parameter stands in presets alone".into()),
        Value::Number(_) | Value::Flag(_) => true,
        Value::Date(date) => YEARS.contains(&date.year()),
        Value::Time(time) => YEARS.contains(&time.year()),
        Value::DaysAgo(days) => (-MAX_DAYS..=MAX_DAYS).contains(days),
    };
    if is_right {
        return Ok(());
    }
    Err(match value {
        Value::DaysAgo(_) => format!("must be between -{MAX_DAYS} and {MAX_DAYS} days"),
        Value::Text(_) => format!("must have at most {MAX_TEXT} characters"),
        _ => format!("must be in the years {} to {}", YEARS.start(), YEARS.end()),
    })
}

fn check_related(related: &Related, path: &str, violations: &mut Violations) {
    if related.relation.is_empty() {
        violations.add(format!("{path}.relation"), "is required");
    }
    let Quantifier::Count { operator, value } = related.quantifier else {
        return;
    };
    if !Operator::OF_COUNTS.contains(&operator) {
        let known = Operator::OF_COUNTS.map(Operator::as_str).join(", ");
        violations.add(
            format!("{path}.count.operator"),
            format!("must be one of {known}"),
        );
    }
    if !(0..=MAX_COUNT).contains(&value) {
        violations.add(
            format!("{path}.count.value"),
            format!("must be between 0 and {MAX_COUNT}"),
        );
    }
}

/// A node on the way.
struct Step<'a> {
    path: String,
    /// 1 for the root.
    depth: usize,
    criteria: &'a Criteria,
}

/// All nodes, a parent before its children, in the order of writing; below [`MAX_DEPTH`] only the
/// first level, of which it is said that it is too deep.
struct Walk<'a>(Vec<Step<'a>>);

impl<'a> Walk<'a> {
    fn new(root: &'a Criteria) -> Self {
        Walk(vec![Step {
            path: "criteria".to_owned(),
            depth: 1,
            criteria: root,
        }])
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let step = self.0.pop()?;
        let mut below = |path: String, criteria: &'a Criteria| {
            self.0.push(Step {
                path,
                depth: step.depth + 1,
                criteria,
            });
        };
        if step.depth > MAX_DEPTH {
            return Some(step);
        }
        match step.criteria {
            Criteria::All { criteria } | Criteria::Any { criteria } => {
                let list = match step.criteria {
                    Criteria::All { .. } => "all",
                    _ => "any",
                };
                // Beyond the limit one more is enough to see that there are too many.
                for (i, child) in criteria.iter().enumerate().take(MAX_NODES).rev() {
                    below(format!("{}.{list}.criteria[{i}]", step.path), child);
                }
            }
            Criteria::Not { criteria } => below(format!("{}.not", step.path), criteria),
            Criteria::Compare(_) => {}
            Criteria::Related(related) => {
                if let Some(criteria) = &related.criteria {
                    below(format!("{}.related.criteria", step.path), criteria);
                }
            }
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    fn compare(operator: Operator, values: Vec<Value>) -> Criteria {
        Criteria::Compare(Compare {
            field: "number".into(),
            operator,
            values,
        })
    }

    fn leaf() -> Criteria {
        compare(Operator::IsSet, vec![])
    }

    fn not(criteria: Criteria) -> Criteria {
        Criteria::Not {
            criteria: Box::new(criteria),
        }
    }

    fn nested(levels: usize) -> Criteria {
        (1..levels).fold(leaf(), |inner, _| not(inner))
    }

    fn found(criteria: &Criteria) -> Vec<(String, String)> {
        check_shape(criteria)
            .into_vec()
            .into_iter()
            .map(|v| (v.field, v.reason))
            .collect()
    }

    #[test]
    fn depth_is_limited_without_recursion() {
        assert_eq!(found(&nested(MAX_DEPTH)), []);
        assert!(is_within_limits(&nested(MAX_DEPTH)));
        for levels in [MAX_DEPTH + 1, 5_000] {
            let deep = nested(levels);
            let path = format!("criteria{}", ".not".repeat(MAX_DEPTH));
            assert_eq!(found(&deep), [(path, "is deeper than 8 levels".into())]);
            assert!(!is_within_limits(&deep));
        }
    }

    #[test]
    fn nodes_are_limited() {
        for (children, expected) in [(1, 0), (63, 0), (64, 1), (100_000, 1)] {
            let wide = Criteria::Any {
                criteria: vec![leaf(); children],
            };
            assert_eq!(found(&wide).len(), expected, "{children}");
            assert_eq!(is_within_limits(&wide), expected == 0, "{children}");
        }
    }

    #[test]
    fn every_fault_is_found_at_once_with_its_path() {
        let text = |n: usize| Value::Text("ä".repeat(n));
        let count = |operator, value| {
            Criteria::Related(Related {
                relation: String::new(),
                quantifier: Quantifier::Count { operator, value },
                criteria: Some(Box::new(not(compare(Operator::Equal, vec![text(0)])))),
            })
        };
        let far = NaiveDate::from_ymd_opt(10_000, 1, 1).expect("a date");
        let tree = Criteria::All {
            criteria: vec![
                compare(Operator::Between, vec![text(1_000)]),
                compare(Operator::IsSet, vec![text(1_001)]),
                compare(Operator::In, vec![Value::Number(1.into()); 1_001]),
                Criteria::Any { criteria: vec![] },
                count(Operator::In, -1),
                compare(Operator::Equal, vec![Value::DaysAgo(36_501)]),
                compare(
                    Operator::In,
                    vec![
                        Value::Text("a\0".into()),
                        Value::Date(far),
                        Value::Time(DateTime::from_timestamp(-70_000_000_000, 0).expect("a time")),
                    ],
                ),
                Criteria::Compare(Compare {
                    field: String::new(),
                    operator: Operator::Equal,
                    values: vec![Value::Flag(true)],
                }),
            ],
        };
        let paths: Vec<String> = found(&tree).into_iter().map(|(path, _)| path).collect();
        let at = |i: usize, rest: &str| format!("criteria.all.criteria[{i}].{rest}");
        assert_eq!(
            paths,
            [
                at(0, "compare.values"),
                at(1, "compare.values"),
                at(1, "compare.values[0]"),
                at(2, "compare.values"),
                at(3, "any.criteria"),
                at(4, "related.relation"),
                at(4, "related.count.operator"),
                at(4, "related.count.value"),
                at(4, "related.criteria.not.compare.values[0]"),
                at(5, "compare.values[0]"),
                at(6, "compare.values[0]"),
                at(6, "compare.values[1]"),
                at(6, "compare.values[2]"),
                at(7, "compare.field"),
            ]
        );
    }

    #[test]
    fn stored_names_never_change() {
        let stored = r#"{"node":"all","criteria":[
            {"node":"compare","field":"annual_quantity_kwh","operator":"between","values":[
                {"type":"number","value":"2500"},{"type":"number","value":"8000.5"}]},
            {"node":"not","criteria":{"node":"related","relation":"items","quantifier":"any",
                "criteria":{"node":"compare","field":"code","operator":"in","values":[
                    {"type":"text","value":"glass"},{"type":"flag","value":true},
                    {"type":"date","value":"2026-01-31"},{"type":"days_ago","value":-3},
                    {"type":"time","value":"2026-01-31T12:00:00Z"}]}}},
            {"node":"any","criteria":[{"node":"related","relation":"orders","quantifier":
                {"count":{"operator":"greater_or_equal","value":2}}}]},
            {"node":"compare","field":"end_date","operator":"is_not_set"}]}"#;
        let criteria: Criteria = serde_json::from_str(stored).expect("stored criteria");
        let again: serde_json::Value = serde_json::to_value(&criteria).expect("JSON");
        let expected: serde_json::Value = serde_json::from_str(stored).expect("JSON");
        assert_eq!(again, expected);
        assert_eq!(found(&criteria), []);
    }

    fn operators() -> impl Strategy<Value = Operator> {
        use Operator::*;
        prop::sample::select(vec![
            Equal,
            NotEqual,
            Less,
            LessOrEqual,
            Greater,
            GreaterOrEqual,
            Between,
            In,
            NotIn,
            StartsWith,
            Contains,
            IsSet,
            IsNotSet,
        ])
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            "\\PC{1,20}".prop_map(Value::Text),
            any::<i64>().prop_map(|n| Value::Number(n.into())),
            any::<bool>().prop_map(Value::Flag),
            (0..700_000i32).prop_map(|d| Value::Date(
                NaiveDate::from_num_days_from_ce_opt(d + 366).expect("a date")
            )),
            (0..4_000_000_000i64)
                .prop_map(|s| Value::Time(DateTime::from_timestamp(s, 0).expect("a time"))),
            (-MAX_DAYS..=MAX_DAYS).prop_map(Value::DaysAgo),
        ]
    }

    /// Trees of right shape, but for their size.
    fn trees() -> impl Strategy<Value = Criteria> {
        let leaf = operators().prop_flat_map(|operator| {
            let arity = *operator.arity().start()..=(*operator.arity().end()).min(4);
            prop::collection::vec(values(), arity).prop_map(move |v| compare(operator, v))
        });
        leaf.prop_recursive(10, 80, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 1..5);
            prop_oneof![
                list.clone().prop_map(|criteria| Criteria::All { criteria }),
                list.prop_map(|criteria| Criteria::Any { criteria }),
                inner.clone().prop_map(not),
                (prop::option::of(inner), 0..=MAX_COUNT).prop_map(|(criteria, value)| {
                    Criteria::Related(Related {
                        relation: "orders".into(),
                        quantifier: Quantifier::Count {
                            operator: Operator::Less,
                            value,
                        },
                        criteria: criteria.map(Box::new),
                    })
                }),
            ]
        })
    }

    fn size(criteria: &Criteria) -> (usize, usize) {
        let children: Vec<&Criteria> = match criteria {
            Criteria::All { criteria } | Criteria::Any { criteria } => criteria.iter().collect(),
            Criteria::Not { criteria } => vec![criteria],
            Criteria::Compare(_) => vec![],
            Criteria::Related(related) => related.criteria.iter().map(|c| &**c).collect(),
        };
        children
            .into_iter()
            .map(size)
            .fold((1, 1), |(nodes, depth), (n, d)| {
                (nodes + n, depth.max(d + 1))
            })
    }

    proptest! {
        /// What is of right shape is refused for its size only, and survives being stored.
        #[test]
        fn well_shaped_trees_pass(tree in trees()) {
            let (nodes, depth) = size(&tree);
            let small = nodes <= MAX_NODES && depth <= MAX_DEPTH;
            prop_assert_eq!(check_shape(&tree).is_empty(), small);
            prop_assert_eq!(is_within_limits(&tree), small);
            let json = serde_json::to_string(&tree).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Criteria>(&json).expect("criteria"), tree);
        }
    }
}
