use super::*;

fn hole(name: &str) -> Value {
    Value::Parameter(name.into())
}

fn number(n: i64) -> Value {
    Value::Number(n.into())
}

fn compare(field: &str, operator: Operator, values: Vec<Value>) -> Criteria {
    Criteria::Compare(Compare {
        field: field.into(),
        operator,
        values,
    })
}

fn parameter(name: &str, ty: ParameterType) -> Parameter {
    Parameter {
        name: name.into(),
        display_name: name.into(),
        description: String::new(),
        ty,
        required: false,
        multiple: false,
        defaults: vec![],
        allowed: vec![],
        operators: vec![],
    }
}

fn argument(name: &str, values: Vec<Value>) -> Argument {
    Argument {
        parameter: name.into(),
        operator: None,
        values,
    }
}

/// The status in a list with a default, a quantity between two bounds, a name in a relation.
fn mask() -> (Criteria, Vec<Parameter>) {
    let related = Criteria::Related(Related {
        relation: "customer".into(),
        quantifier: crate::selection::Quantifier::Any,
        criteria: Some(Box::new(Criteria::Not {
            criteria: Box::new(compare("city", Operator::Equal, vec![hole("city")])),
        })),
    });
    let criteria = Criteria::All {
        criteria: vec![
            compare("status", Operator::In, vec![hole("status")]),
            Criteria::Any {
                criteria: vec![compare(
                    "kwh",
                    Operator::Between,
                    vec![hole("from"), hole("to")],
                )],
            },
            related,
        ],
    };
    let status = Parameter {
        multiple: true,
        defaults: vec![Value::Text("AU".into())],
        allowed: vec![Value::Text("AU".into()), Value::Text("AB".into())],
        operators: vec![Operator::NotIn],
        ..parameter("status", ParameterType::Text)
    };
    let parameters = vec![
        status,
        parameter("from", ParameterType::Number),
        parameter("to", ParameterType::Number),
        Parameter {
            operators: vec![Operator::StartsWith, Operator::IsSet],
            ..parameter("city", ParameterType::Text)
        },
    ];
    (criteria, parameters)
}

fn filled(arguments: &[Argument]) -> (Option<Criteria>, Vec<(String, String)>) {
    let (criteria, parameters) = mask();
    assert!(check_parameters(&parameters, &criteria).is_empty());
    let mut violations = Violations::new();
    let filled = fill(&criteria, &parameters, arguments, &mut violations);
    let found = violations.into_vec().into_iter();
    (
        filled.map(|f| f.criteria),
        found.map(|v| (v.field, v.reason)).collect(),
    )
}

#[test]
fn open_holes_leave_their_criteria_out() {
    let status = compare("status", Operator::In, vec![Value::Text("AU".into())]);
    let with = |more: Vec<Criteria>| {
        let criteria = [vec![status.clone()], more].concat();
        (Some(Criteria::All { criteria }), vec![])
    };
    let any = |operator, values| Criteria::Any {
        criteria: vec![compare("kwh", operator, values)],
    };
    assert_eq!(filled(&[]), with(vec![]));
    assert_eq!(
        filled(&[argument("from", vec![number(1)])]),
        with(vec![any(Operator::GreaterOrEqual, vec![number(1)])])
    );
    assert_eq!(
        filled(&[argument("to", vec![number(2)]), argument("from", vec![])]),
        with(vec![any(Operator::LessOrEqual, vec![number(2)])])
    );
    assert_eq!(
        filled(&[
            argument("to", vec![number(2)]),
            argument("from", vec![number(1)])
        ]),
        with(vec![any(Operator::Between, vec![number(1), number(2)])])
    );
}

#[test]
fn values_know_where_they_are_from() {
    let (criteria, parameters) = mask();
    let arguments = [
        argument(
            "status",
            vec![Value::Text("AB".into()), Value::Text("AU".into())],
        ),
        argument("city", vec![Value::Text("Gießen".into())]),
    ];
    let mut violations = Violations::new();
    let filled = fill(&criteria, &parameters, &arguments, &mut violations).expect("criteria");
    let origin = |path: &str| filled.origins.get(path).map(String::as_str);
    assert_eq!(
        origin("criteria.all.criteria[0].compare.values[1]"),
        Some("arguments[\"status\"].values[1]")
    );
    // The quantity before it is left out.
    assert_eq!(
        origin("criteria.all.criteria[1].related.criteria.not.compare.values[0]"),
        Some("arguments[\"city\"].values[0]")
    );
    assert!(violations.is_empty());
}

#[test]
fn operators_may_be_chosen_where_allowed() {
    let choose = |parameter: &str, operator, values| Argument {
        operator: Some(operator),
        ..argument(parameter, values)
    };
    let (criteria, faults) = filled(&[
        choose("status", Operator::NotIn, vec![Value::Text("AU".into())]),
        choose("city", Operator::IsSet, vec![]),
    ]);
    assert_eq!(faults, []);
    let Some(Criteria::All { criteria }) = criteria else {
        panic!("{criteria:?}")
    };
    assert!(matches!(&criteria[0], Criteria::Compare(c) if c.operator == Operator::NotIn));
    let shown = format!("{:?}", criteria[1]);
    assert!(
        shown.contains("IsSet") && shown.contains("values: []"),
        "{shown}"
    );
}

#[test]
fn all_wrong_arguments_are_told_by_their_names() {
    let (_, found) = filled(&[
        argument("status", vec![Value::Text("XX".into()), number(1)]),
        argument("from", vec![number(1), number(2)]),
        argument("to", vec![Value::Text("much".into())]),
        argument("colour", vec![]),
        argument("to", vec![]),
        Argument {
            operator: Some(Operator::Less),
            ..argument("city", vec![Value::Text("x".repeat(1_001))])
        },
    ]);
    let paths: Vec<&str> = found.iter().map(|(path, _)| &**path).collect();
    assert_eq!(
        paths,
        [
            "arguments[\"colour\"]",
            "arguments[\"to\"]",
            "arguments[\"status\"].values[0]",
            "arguments[\"status\"].values[1]",
            "arguments[\"from\"]",
            "arguments[\"city\"].operator",
            "arguments[\"city\"].values[0]",
        ]
    );
    assert_eq!(found[2].1, "must be one of AU, AB");
    assert_eq!(found[5].1, "must be one of STARTS_WITH, IS_SET");
}

#[test]
fn required_ones_must_be_given_and_something_must_be_left() {
    let criteria = compare("kwh", Operator::Equal, vec![hole("kwh")]);
    let needed = |required| Parameter {
        required,
        ..parameter("kwh", ParameterType::Number)
    };
    for (required, path) in [(true, "arguments[\"kwh\"]"), (false, "arguments")] {
        let mut violations = Violations::new();
        assert_eq!(
            fill(&criteria, &[needed(required)], &[], &mut violations),
            None
        );
        let found = violations.into_vec();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].field, path);
    }
}

#[test]
fn parameters_are_checked_all_at_once() {
    let (criteria, mut parameters) = mask();
    parameters[0].defaults.push(Value::Text("XX".into()));
    parameters[1].defaults = vec![number(1), Value::Flag(true)];
    parameters[2].name = "from".into();
    parameters[3].display_name.clear();
    parameters.push(parameter("Colour", ParameterType::Text));
    parameters.push(parameter("unused", ParameterType::Text));
    let found = check_parameters(&parameters, &criteria).into_vec();
    let paths: Vec<&str> = found.iter().map(|v| &*v.field).collect();
    assert_eq!(
        paths,
        [
            "parameters[0].default_values",
            "parameters[1].default_values[1]",
            "parameters[1].default_values",
            "parameters[2].parameter",
            "parameters[3].display_name",
            "parameters[4].parameter",
            "parameters[5].parameter",
        ]
    );
}
