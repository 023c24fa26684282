//! Random well-typed criteria, with values that the world is likely to hold.

use std::rc::Rc;

use anklang_domain::selection::{Compare, Criteria, Operator, Quantifier, Related, Value};
use anklang_store::selection::registry::{Entity, FieldType};
use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::sample::select;

use crate::naive;
use crate::world::{ATTRIBUTES, Cell, World, dates, numbers, texts, times};

/// A field with all that is needed to compare it.
#[derive(Debug, Clone)]
struct Comparable {
    name: String,
    ty: FieldType,
    operators: &'static [Operator],
    /// Values that the world holds.
    held: Rc<Vec<Value>>,
}

/// Criteria about rows of an entity, at most `depth` levels deep.
pub fn criteria(world: &World, entity: Entity, depth: u32) -> BoxedStrategy<Criteria> {
    let leaf = select(comparables(world, entity))
        .prop_flat_map(compare)
        .boxed();
    if depth <= 1 {
        return leaf;
    }
    let inner = criteria(world, entity, depth - 1);
    let list = prop::collection::vec(inner.clone(), 1..4);
    let relations: Vec<_> = entity.relations().collect();
    let mut kinds = vec![
        (3, leaf),
        (
            2,
            list.clone()
                .prop_map(|criteria| Criteria::All { criteria })
                .boxed(),
        ),
        (
            2,
            list.prop_map(|criteria| Criteria::Any { criteria }).boxed(),
        ),
        (
            2,
            inner
                .prop_map(|c| Criteria::Not {
                    criteria: Box::new(c),
                })
                .boxed(),
        ),
    ];
    for relation in relations {
        // Few levels are enough for the far side.
        let inner = criteria(world, relation.to, (depth - 1).min(2));
        let related =
            (prop::option::weighted(0.8, inner), quantifiers()).prop_map(|(c, quantifier)| {
                Criteria::Related(Related {
                    relation: relation.name.to_owned(),
                    quantifier,
                    criteria: c.map(Box::new),
                })
            });
        kinds.push((1, related.boxed()));
    }
    proptest::strategy::Union::new_weighted(kinds).boxed()
}

fn quantifiers() -> impl Strategy<Value = Quantifier> {
    prop_oneof![
        Just(Quantifier::Any),
        Just(Quantifier::None),
        (select(Operator::OF_COUNTS.to_vec()), 0..4)
            .prop_map(|(operator, value)| Quantifier::Count { operator, value }),
    ]
}

fn comparables(world: &World, entity: Entity) -> Vec<Comparable> {
    let fields = entity
        .fields()
        .iter()
        .map(|f| (f.name.to_owned(), f.ty, f.operators()));
    let attributes = ATTRIBUTES
        .into_iter()
        .filter(|(of, ..)| *of == entity)
        .map(|(_, key, ty)| (format!("attributes.{key}"), ty, ty.operators()));
    fields
        .chain(attributes)
        .map(|(name, ty, operators)| {
            let mut held: Vec<Value> = Vec::new();
            for cell in world
                .of(entity)
                .iter()
                .filter_map(|row| row.cells.get(&name))
            {
                let value = match cell.clone() {
                    Cell::Text(text) => Value::Text(text),
                    Cell::Number(number) => Value::Number(number),
                    Cell::Flag(flag) => Value::Flag(flag),
                    Cell::Date(date) => Value::Date(date),
                    Cell::Time(time) => Value::Time(time),
                };
                if !held.contains(&value) {
                    held.push(value);
                }
            }
            assert!(!held.is_empty(), "no {} has a {name}", entity.noun());
            Comparable {
                name,
                ty,
                operators,
                held: Rc::new(held),
            }
        })
        .collect()
}

fn compare(field: Comparable) -> impl Strategy<Value = Criteria> {
    select(field.operators.to_vec()).prop_flat_map(move |operator| compare_by(&field, operator))
}

/// Comparisons of every field of an entity by every operator that it knows, each with random
/// values.
pub fn every_comparison(world: &World, entity: Entity) -> Vec<BoxedStrategy<Criteria>> {
    let fields = comparables(world, entity);
    let by_all =
        |f: &Comparable| -> Vec<_> { f.operators.iter().map(|o| compare_by(f, *o)).collect() };
    fields.iter().flat_map(by_all).collect()
}

fn compare_by(field: &Comparable, operator: Operator) -> BoxedStrategy<Criteria> {
    let arity = *operator.arity().start()..=(*operator.arity().end()).min(3);
    let name = field.name.clone();
    prop::collection::vec(values(field, operator), arity)
        .prop_map(move |mut values| {
            if operator == Operator::Between {
                in_order(&mut values);
            }
            Criteria::Compare(Compare {
                field: name.clone(),
                operator,
                values,
            })
        })
        .boxed()
}

fn values(field: &Comparable, operator: Operator) -> BoxedStrategy<Value> {
    let held = select((*field.held).clone());
    // Words and names of resources have forms that not every text has.
    let is_free = field.ty != FieldType::Text || field.operators.len() > 6;
    if !is_free {
        return held.boxed();
    }
    let other = match field.ty {
        FieldType::Text => texts(&field.name)
            .prop_filter("not empty", |t| !t.is_empty())
            .prop_map(Value::Text)
            .boxed(),
        FieldType::Number => numbers().prop_map(Value::Number).boxed(),
        FieldType::Flag => any::<bool>().prop_map(Value::Flag).boxed(),
        FieldType::Date => days().boxed(),
        FieldType::Time => prop_oneof![
            days(),
            (times(), 0..2_000i64).prop_map(|(t, n)| Value::Time(t + TimeDelta::nanoseconds(n))),
        ]
        .boxed(),
    };
    let part = (held.clone(), 0..3usize, 1..3usize, any::<bool>()).prop_map(
        move |(value, from, length, upper)| match value {
            Value::Text(text) if matches!(operator, Operator::StartsWith | Operator::Contains) => {
                let from = if operator == Operator::Contains {
                    from
                } else {
                    0
                };
                let part: String = text.chars().skip(from).take(length).collect();
                let part = if upper { part.to_uppercase() } else { part };
                Value::Text(if part.is_empty() { text } else { part })
            }
            other => other,
        },
    );
    prop_oneof![held, other, part].boxed()
}

fn days() -> impl Strategy<Value = Value> {
    prop_oneof![
        dates().prop_map(Value::Date),
        (-4..5i32).prop_map(Value::DaysAgo),
    ]
}

/// Puts two values in an order in which something can lie between them.
fn in_order(values: &mut [Value]) {
    let as_cell = |value: &Value| match value.clone() {
        Value::Text(text) => Cell::Text(text),
        Value::Number(number) => Cell::Number(number),
        Value::Flag(flag) => Cell::Flag(flag),
        Value::Time(time) => Cell::Time(time),
        Value::Date(date) => Cell::Date(date),
        Value::DaysAgo(days) => Cell::Date(naive::ago(days)),
        Value::Parameter(name) => panic!("{name} is for presets"),
    };
    let start = |value: &Value| match as_cell(value) {
        Cell::Date(date) => Cell::Time(naive::start(date)),
        other => other,
    };
    if start(&values[0]) > start(&values[1]) {
        values.swap(0, 1);
    }
}
