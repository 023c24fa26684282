//! What criteria mean, as simply as it can be said: over rows in memory, with two truth values.

use anklang_domain::selection::{Compare, Criteria, Operator, Quantifier, Related, Value};
use anklang_store::selection::registry::Entity;
use chrono::{DateTime, NaiveDate, SubsecRound, TimeDelta, Utc};
use chrono_tz::Europe::Berlin;

use crate::world::{Cell, Row, World, as_of};

/// Does the row meet the criteria?
pub fn holds(world: &World, entity: Entity, row: &Row, criteria: &Criteria) -> bool {
    match criteria {
        Criteria::All { criteria } => criteria.iter().all(|c| holds(world, entity, row, c)),
        Criteria::Any { criteria } => criteria.iter().any(|c| holds(world, entity, row, c)),
        Criteria::Not { criteria } => !holds(world, entity, row, criteria),
        Criteria::Compare(compare) => compares(row, compare),
        Criteria::Related(related) => relates(world, entity, row, related),
    }
}

/// For each node: rows that it is held against, those for which it holds, related rows, and those
/// of them that meet what they must.
pub fn explain(
    world: &World,
    entity: Entity,
    rows: &[&Row],
    criteria: &Criteria,
    out: &mut Vec<[usize; 4]>,
) {
    let matching = rows
        .iter()
        .filter(|r| holds(world, entity, r, criteria))
        .count();
    let place = out.len();
    out.push([rows.len(), matching, 0, 0]);
    match criteria {
        Criteria::All { criteria } | Criteria::Any { criteria } => {
            for inner in criteria {
                explain(world, entity, rows, inner, out);
            }
        }
        Criteria::Not { criteria } => explain(world, entity, rows, criteria, out),
        Criteria::Compare(_) => {}
        Criteria::Related(related) => {
            let mut all = Vec::new();
            let mut to = entity;
            for row in rows {
                let (entity, found) = related_rows(world, entity, row, &related.relation);
                to = entity;
                all.extend(found);
            }
            if rows.is_empty() {
                to = entity.relation(&related.relation).expect("a relation").to;
            }
            out[place][2] = all.len();
            out[place][3] = all.len();
            if let Some(inner) = related.criteria.as_deref() {
                out[place][3] = all.iter().filter(|r| holds(world, to, r, inner)).count();
                explain(world, to, &all, inner, out);
            }
        }
    }
}

fn related_rows<'a>(
    world: &'a World,
    entity: Entity,
    row: &Row,
    relation: &str,
) -> (Entity, Vec<&'a Row>) {
    use Entity::*;
    let down = |to: Entity, key: &str| -> (Entity, Vec<&'a Row>) {
        let is_of_row = |r: &&Row| r.points_at.get(key) == Some(&row.id);
        (to, world.of(to).iter().filter(is_of_row).collect())
    };
    let up = |to: Entity, key: &str| -> (Entity, Vec<&'a Row>) {
        let is_it = |r: &&Row| row.points_at.get(key) == Some(&r.id);
        (to, world.of(to).iter().filter(is_it).collect())
    };
    match (entity, relation) {
        (Customer, "contracts") => down(Contract, "customer"),
        (Customer, "orders") => down(Order, "customer"),
        (Customer, "contact_points") => down(ContactPoint, "customer"),
        (Customer, "consents") => down(Consent, "customer"),
        (Customer, "offers") => down(Offer, "customer"),
        (Customer, "messages") => down(Message, "customer"),
        (Customer, "inbound_messages") => down(InboundMessage, "customer"),
        (Customer, "planned_contacts") => down(PlannedContact, "customer"),
        (Offer, "planned_contacts") => down(PlannedContact, "offer"),
        (Message, "reports") => down(Report, "message"),
        (Message, "replies") => down(InboundMessage, "message"),
        (PlannedContact, "attempts") => down(ContactAttempt, "contact"),
        (Contract, "items") => down(ContractItem, "contract"),
        (Contract, "offers") => down(Offer, "contract"),
        (Order, "lines") => down(OrderLine, "order"),
        (Offer, "messages") => down(Message, "offer"),
        (Contract | Order | Offer | Message, "customer") => up(Customer, "customer"),
        (Offer, "contract") => up(Contract, "contract"),
        (Message, "offer") => up(Offer, "offer"),
        (entity, relation) => panic!("{entity:?} has no {relation}"),
    }
}

fn relates(world: &World, entity: Entity, row: &Row, related: &Related) -> bool {
    let (to, rows) = related_rows(world, entity, row, &related.relation);
    let meets = |r: &&&Row| {
        let inner = related.criteria.as_deref();
        inner.is_none_or(|c| holds(world, to, r, c))
    };
    let count = i32::try_from(rows.iter().filter(meets).count()).expect("few rows");
    match related.quantifier {
        Quantifier::Any => count > 0,
        Quantifier::None => count == 0,
        Quantifier::Count { operator, value } => match operator {
            Operator::Equal => count == value,
            Operator::NotEqual => count != value,
            Operator::Less => count < value,
            Operator::LessOrEqual => count <= value,
            Operator::Greater => count > value,
            Operator::GreaterOrEqual => count >= value,
            other => panic!("{other:?} of a count"),
        },
    }
}

fn compares(row: &Row, compare: &Compare) -> bool {
    let Some(cell) = row.cells.get(&compare.field) else {
        return compare.operator == Operator::IsNotSet;
    };
    let values = &compare.values;
    let orders = |i: usize| order(cell, &values[i]);
    let lower = |text: &str| text.to_lowercase();
    match compare.operator {
        Operator::IsSet => true,
        Operator::IsNotSet => false,
        Operator::Equal => orders(0).is_eq(),
        Operator::NotEqual => orders(0).is_ne(),
        Operator::Less => orders(0).is_lt(),
        Operator::LessOrEqual => orders(0).is_le(),
        Operator::Greater => orders(0).is_gt(),
        Operator::GreaterOrEqual => orders(0).is_ge(),
        Operator::Between => orders(0).is_ge() && orders(1).is_le(),
        Operator::In => values.iter().any(|v| order(cell, v).is_eq()),
        Operator::NotIn => values.iter().all(|v| order(cell, v).is_ne()),
        Operator::StartsWith => match (cell, &values[0]) {
            (Cell::Text(cell), Value::Text(text)) => lower(cell).starts_with(&lower(text)),
            other => panic!("{other:?} are no texts"),
        },
        Operator::Contains => match (cell, &values[0]) {
            (Cell::Text(cell), Value::Text(text)) => lower(cell).contains(&lower(text)),
            other => panic!("{other:?} are no texts"),
        },
    }
}

/// So many days before the day of the run.
pub fn ago(days: i32) -> NaiveDate {
    day(as_of()) - TimeDelta::days(days.into())
}

/// The first instant of a day.
pub fn start(day: NaiveDate) -> DateTime<Utc> {
    let midnight = day.and_hms_opt(0, 0, 0).expect("midnight");
    let start = midnight.and_local_timezone(Berlin).single();
    start.expect("clocks change later in Berlin").to_utc()
}

fn day(time: DateTime<Utc>) -> NaiveDate {
    time.with_timezone(&Berlin).date_naive()
}

/// How a cell stands to a value.
pub fn order(cell: &Cell, value: &Value) -> std::cmp::Ordering {
    match (cell, value) {
        (Cell::Text(cell), Value::Text(text)) => cell.as_bytes().cmp(text.as_bytes()),
        (Cell::Number(cell), Value::Number(number)) => cell.cmp(number),
        (Cell::Flag(cell), Value::Flag(flag)) => cell.cmp(flag),
        (Cell::Date(cell), Value::Date(date)) => cell.cmp(date),
        (Cell::Date(cell), Value::DaysAgo(days)) => cell.cmp(&ago(*days)),
        (Cell::Time(cell), Value::Date(date)) => day(*cell).cmp(date),
        (Cell::Time(cell), Value::DaysAgo(days)) => day(*cell).cmp(&ago(*days)),
        (Cell::Time(cell), Value::Time(time)) => cell.cmp(&time.trunc_subsecs(6)),
        other => panic!("{other:?} do not compare"),
    }
}
