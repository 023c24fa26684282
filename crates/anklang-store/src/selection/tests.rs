//! The SQL that criteria become, and what is refused before.

use anklang_domain::selection::{
    Compare, Criteria, MAX_DEPTH, Operator, Quantifier, Related, Subject, Value,
};
use anklang_domain::{TenantId, Violations};
use chrono_tz::Tz;
use uuid::Uuid;

use super::attributes::Attributes;
use super::check::check;
use super::compile::compile;
use super::operand::Calendar;
use super::registry::{Entity, FieldType};

fn attributes() -> Attributes {
    [
        (Entity::Customer, "score".to_owned(), FieldType::Number),
        (Entity::Customer, "vip".to_owned(), FieldType::Flag),
        (Entity::Contract, "meter".to_owned(), FieldType::Text),
    ]
    .into_iter()
    .collect()
}

fn checked(subject: Subject, criteria: &Criteria) -> Result<String, Violations> {
    let as_of = "2026-11-22T12:00:00Z".parse().expect("a time");
    let calendar = Calendar::new(as_of, Tz::Europe__Berlin);
    let node = check(subject.into(), criteria, &attributes(), calendar)?;
    let statement = compile(TenantId(Uuid::nil()), &node);
    Ok(diesel::debug_query::<diesel::pg::Pg, _>(&statement).to_string())
}

/// The condition without the tenant's, tenants' binds as `$T`, other binds as `$`, and the binds.
fn sql(subject: Subject, criteria: Criteria) -> (String, Vec<String>) {
    let text = checked(subject, &criteria).expect("right criteria");
    let (sql, binds) = text.split_once(" -- binds: ").expect("binds");
    let sql = sql
        .strip_prefix("(subject.tenant_id = (SELECT $1) AND subject.erased_at IS NULL AND ")
        .and_then(|sql| sql.strip_suffix(')'))
        .expect("the tenant first");
    let mut kept = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('$') {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest = &after[digits..];
        match before.strip_suffix("(SELECT ") {
            Some(before) => {
                kept += before;
                kept += "$T";
                rest = rest.strip_prefix(')').expect("the tenant alone");
            }
            None => {
                kept += before;
                kept += "$";
            }
        }
    }
    kept.push_str(rest);
    let nil = Uuid::nil().to_string();
    let binds = binds
        .trim_matches(['[', ']'])
        .split(", ")
        .filter(|b| **b != nil);
    (kept, binds.map(str::to_owned).collect())
}

fn text(values: &[&str]) -> Vec<Value> {
    values
        .iter()
        .map(|v| Value::Text((*v).to_owned()))
        .collect()
}

fn compare(field: &str, operator: Operator, values: Vec<Value>) -> Criteria {
    Criteria::Compare(Compare {
        field: field.to_owned(),
        operator,
        values,
    })
}

fn equal(field: &str, value: &str) -> Criteria {
    compare(field, Operator::Equal, text(&[value]))
}

fn related(relation: &str, quantifier: Quantifier, criteria: Option<Criteria>) -> Criteria {
    Criteria::Related(Related {
        relation: relation.to_owned(),
        quantifier,
        criteria: criteria.map(Box::new),
    })
}

fn all(criteria: Vec<Criteria>) -> Criteria {
    Criteria::All { criteria }
}

fn any(criteria: Vec<Criteria>) -> Criteria {
    Criteria::Any { criteria }
}

fn not(criteria: Criteria) -> Criteria {
    Criteria::Not {
        criteria: Box::new(criteria),
    }
}

fn count(operator: Operator, value: i32) -> Quantifier {
    Quantifier::Count { operator, value }
}

#[test]
fn absence_is_an_anti_join_however_it_is_said() {
    let items = |quantifier| related("items", quantifier, Some(equal("code", "glass")));
    let has = "EXISTS (SELECT 1 FROM contract_item s1 WHERE s1.tenant_id = $T \
               AND s1.contract_id = subject.id AND s1.code = $)";
    let has_not = format!("NOT {has}");
    for (criteria, expected) in [
        (items(Quantifier::Any), has),
        (items(count(Operator::GreaterOrEqual, 1)), has),
        (items(count(Operator::Greater, 0)), has),
        (items(count(Operator::NotEqual, 0)), has),
        (not(items(Quantifier::None)), has),
        (not(not(items(Quantifier::Any))), has),
        (not(items(count(Operator::Equal, 0))), has),
        (items(Quantifier::None), &has_not),
        (not(items(Quantifier::Any)), &has_not),
        (items(count(Operator::Equal, 0)), &has_not),
        (items(count(Operator::Less, 1)), &has_not),
        (items(count(Operator::LessOrEqual, 0)), &has_not),
        (not(items(count(Operator::GreaterOrEqual, 1))), &has_not),
    ] {
        let (sql, binds) = sql(Subject::Contract, criteria);
        assert_eq!(sql, expected);
        assert_eq!(binds, ["\"glass\""]);
    }
    let never = sql(Subject::Contract, items(count(Operator::Less, 0))).0;
    assert_eq!(never, "FALSE");
}

#[test]
fn not_moves_down_to_the_leaves() {
    let glass = || related("items", Quantifier::Any, Some(equal("code", "glass")));
    let (sql, _) = sql(
        Subject::Contract,
        not(any(vec![
            all(vec![glass(), equal("division", "gas")]),
            related("offers", count(Operator::Less, 3), None),
        ])),
    );
    assert_eq!(
        sql,
        "((NOT EXISTS (SELECT 1 FROM contract_item s1 WHERE s1.tenant_id = $T \
         AND s1.contract_id = subject.id AND s1.code = $) \
         OR (subject.division = $) IS NOT TRUE) \
         AND (SELECT count(*) FROM offer s2 WHERE s2.tenant_id = $T \
         AND s2.contract_id = subject.id) >= $)"
    );
}

#[test]
fn tariff_quantity_postcode_and_status() {
    let number = |n: i64| Value::Number(n.into());
    let (sql, binds) = sql(
        Subject::Contract,
        all(vec![
            compare(
                "product_version",
                Operator::In,
                text(&["products/A/versions/2025", "products/B/versions/2026"]),
            ),
            compare(
                "annual_quantity_kwh",
                Operator::Between,
                vec![number(2500), number(8000)],
            ),
            compare(
                "site_postal_code",
                Operator::Between,
                text(&["35000", "35999"]),
            ),
            compare("supply_status", Operator::In, text(&["AU", "AB"])),
        ]),
    );
    assert_eq!(
        sql,
        "(subject.product_version_id IN (SELECT x.id FROM product_version x \
         JOIN product y ON y.tenant_id = x.tenant_id AND y.id = x.product_id \
         WHERE x.tenant_id = $T \
         AND (y.number, x.code) IN (SELECT * FROM unnest($::text[], $::text[]))) \
         AND subject.annual_quantity_kwh >= $ AND subject.annual_quantity_kwh <= $ \
         AND subject.site_postal_code ~>=~ $ AND subject.site_postal_code ~<=~ $ \
         AND subject.supply_status = ANY($))"
    );
    assert_eq!(binds[..4], ["[\"A\"", "\"B\"]", "[\"2025\"", "\"2026\"]"]);
}

#[test]
fn times_attributes_sums_and_nested_relations() {
    let (sql, binds) = sql(
        Subject::Customer,
        all(vec![
            compare("attributes.score", Operator::IsNotSet, vec![]),
            related(
                "orders",
                count(Operator::GreaterOrEqual, 2),
                Some(all(vec![
                    compare(
                        "order_time",
                        Operator::GreaterOrEqual,
                        vec![Value::DaysAgo(365)],
                    ),
                    compare("order_time", Operator::NotEqual, vec![Value::DaysAgo(0)]),
                    compare("total", Operator::Greater, vec![Value::Number(100.into())]),
                    related(
                        "lines",
                        Quantifier::Any,
                        Some(equal("product_group", "Obst")),
                    ),
                ])),
            ),
        ]),
    );
    assert_eq!(
        sql,
        "(NOT EXISTS (SELECT 1 FROM customer_attribute s1 WHERE s1.tenant_id = $T \
         AND s1.customer_id = subject.id AND (s1.key = $ AND s1.number_value IS NOT NULL)) \
         AND (SELECT count(*) FROM sales_order s2 WHERE s2.tenant_id = $T \
         AND s2.customer_id = subject.id AND (s2.ordered_at >= $ \
         AND (s2.ordered_at < $ OR s2.ordered_at >= $) \
         AND (SELECT coalesce(sum(x.quantity * x.unit_price), 0) FROM order_line x \
         WHERE x.tenant_id = $T AND x.order_id = s2.id) > $ \
         AND EXISTS (SELECT 1 FROM order_line s3 WHERE s3.tenant_id = $T \
         AND s3.order_id = s2.id AND s3.product_group = $))) >= $)"
    );
    assert_eq!(
        binds[1..4],
        [
            "2025-11-21T23:00:00Z",
            "2026-11-21T23:00:00Z",
            "2026-11-22T23:00:00Z"
        ]
    );
}

#[test]
fn text_of_callers_never_becomes_sql() {
    for nasty in [
        "'; DROP TABLE customer; --",
        "$1",
        "%' OR TRUE",
        "\\'",
        "subject.id)",
    ] {
        let plain = checked(Subject::Customer, &equal("city", "Kiel")).expect("right");
        let with = checked(Subject::Customer, &equal("city", nasty)).expect("right");
        let head = |text: &str| text.split_once(" -- binds").map(|(sql, _)| sql.to_owned());
        assert_eq!(head(&plain), head(&with));
        // As a name it is refused.
        for criteria in [
            compare(nasty, Operator::IsSet, vec![]),
            compare(&format!("attributes.{nasty}"), Operator::IsSet, vec![]),
            related(nasty, Quantifier::Any, None),
        ] {
            assert!(checked(Subject::Customer, &criteria).is_err());
        }
    }
}

#[test]
fn every_fault_is_reported_at_once() {
    let number = || vec![Value::Number(1.into())];
    let faults = checked(
        Subject::Contract,
        &all(vec![
            compare("no_such", Operator::Equal, number()),
            compare("also_unknown", Operator::Equal, number()),
            compare("attributes.score", Operator::Equal, number()),
            related("orders", Quantifier::Any, None),
            compare("annual_quantity_kwh", Operator::Contains, text(&["a", "b"])),
            compare("site_city", Operator::Between, text(&["b", "a"])),
            compare(
                "start_date",
                Operator::In,
                vec![Value::DaysAgo(1), Value::Flag(true)],
            ),
            related(
                "offers",
                count(Operator::Between, 1),
                Some(compare(
                    "state",
                    Operator::In,
                    text(&["open", "acepted", ""]),
                )),
            ),
            compare("product_version", Operator::Equal, text(&["products/A"])),
            compare(
                "product_version",
                Operator::Contains,
                text(&["products/A/versions/B"]),
            ),
            compare("", Operator::Equal, number()),
            compare(
                "start_date",
                Operator::Between,
                vec![Value::DaysAgo(1), Value::DaysAgo(2)],
            ),
            compare(
                "create_time",
                Operator::Between,
                vec![Value::DaysAgo(1), Value::DaysAgo(1)],
            ),
        ]),
    )
    .expect_err("faults");
    let found: Vec<(String, String)> = faults
        .into_vec()
        .into_iter()
        .map(|v| (v.field.replace("criteria.all.criteria", ""), v.reason))
        .collect();
    let paths: Vec<&str> = found.iter().map(|(path, _)| &**path).collect();
    assert_eq!(
        paths,
        [
            // Shape first.
            "[4].compare.values",
            "[7].related.count.operator",
            "[7].related.criteria.compare.values[2]",
            "[10].compare.field",
            "[0].compare.field",
            "[1].compare.field",
            "[2].compare.field",
            "[3].related.relation",
            "[4].compare.operator",
            "[4].compare.values[0]",
            "[4].compare.values[1]",
            "[5].compare.values",
            "[6].compare.values[1]",
            "[7].related.criteria.compare.values[1]",
            "[8].compare.values[0]",
            "[9].compare.operator",
            "[11].compare.values",
        ]
    );
    let reason = |path: &str| {
        let found = found.iter().find(|(at, _)| at == path);
        found.map_or("", |(_, reason)| &**reason)
    };
    let unknown = reason("[0].compare.field");
    assert!(unknown.starts_with("is no field of a contract; known are number, division, "));
    assert!(unknown.ends_with(", attributes.KEY"), "{unknown}");
    // Once is enough.
    assert_eq!(reason("[1].compare.field"), "is no field of a contract");
    assert_eq!(
        reason("[2].compare.field"),
        "is no imported attribute of a contract; known are attributes.meter"
    );
    assert_eq!(
        reason("[3].related.relation"),
        "cannot be followed from a contract; known are customer, items, offers"
    );
    assert_eq!(
        reason("[6].compare.values[1]"),
        "must be a date or days_ago"
    );
    assert_eq!(
        reason("[8].compare.values[0]"),
        "must have the form products/{product}/versions/{version}"
    );
}

#[test]
fn every_operator_is_refused_or_compiles() {
    let operators = registry_operators();
    let values = [
        Value::Text("products/A/versions/B".into()),
        Value::Number(1.into()),
        Value::Flag(true),
        Value::DaysAgo(0),
        Value::Time("2026-01-01T00:00:00Z".parse().expect("a time")),
    ];
    for subject in [Subject::Customer, Subject::Contract] {
        for field in Entity::from(subject).fields() {
            for (operator, value) in operators
                .iter()
                .flat_map(|o| values.iter().map(move |v| (*o, v)))
            {
                let values = vec![value.clone(); *operator.arity().start()];
                let result = checked(subject, &compare(field.name, operator, values.clone()));
                let fits = values.is_empty()
                    || match field.ty {
                        FieldType::Text => matches!(value, Value::Text(_)),
                        FieldType::Number => matches!(value, Value::Number(_)),
                        FieldType::Flag => matches!(value, Value::Flag(_)),
                        FieldType::Date => matches!(value, Value::DaysAgo(_)),
                        FieldType::Time => matches!(value, Value::DaysAgo(_) | Value::Time(_)),
                    };
                let is_known = field.operators().contains(&operator);
                // Words and names have forms of their own.
                let any_text = field.operators().len() > 6 || values.is_empty();
                match result {
                    Ok(_) => assert!(fits && is_known, "{} {operator:?}", field.name),
                    Err(_) => {
                        assert!(
                            !fits || !is_known || !any_text,
                            "{} {operator:?}",
                            field.name
                        );
                    }
                }
            }
        }
    }
}

fn registry_operators() -> &'static [Operator] {
    let all = FieldType::Text.operators();
    assert_eq!(all.len(), 13, "text knows every operator");
    all
}

#[test]
fn a_tree_beyond_the_limits_is_not_walked() {
    let deep = (0..10_000).fold(equal("no_such", "x"), |inner, _| not(inner));
    let faults = checked(Subject::Customer, &deep)
        .expect_err("too deep")
        .into_vec();
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].field,
        format!("criteria{}", ".not".repeat(MAX_DEPTH))
    );
}
