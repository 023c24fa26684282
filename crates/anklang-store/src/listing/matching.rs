//! Checked filters on rows in memory, with the meaning that they have in the database: a comparison with
//! nothing does not hold, its NOT does.

use std::cmp::Ordering;

use chrono::{DateTime, NaiveDate, SubsecRound, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::check::{Node, Value};
use super::field::{Field, Kind, Part};

/// What a row has in a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// Text.
    Text(&'a str),
    /// A number.
    Number(Decimal),
    /// True or false.
    Flag(bool),
    /// A day.
    Date(NaiveDate),
    /// A moment.
    Time(DateTime<Utc>),
    /// An id.
    Uuid(Uuid),
}

impl<'a> Cell<'a> {
    /// Text, if there is any.
    pub fn of_text(text: Option<&'a str>) -> Self {
        text.map_or(Cell::Null, Cell::Text)
    }
}

/// A row that a filter can look at.
pub trait Cells {
    /// What it has in a column; `None` when there is no such column.
    fn cell(&self, column: &str) -> Option<Cell<'_>>;
}

fn cell<'r>(row: &'r impl Cells, column: &str) -> Cell<'r> {
    row.cell(column).unwrap_or(Cell::Null)
}

pub(super) fn holds(filter: &Node, row: &impl Cells) -> bool {
    match filter {
        Node::All(nodes) => nodes.iter().all(|node| holds(node, row)),
        Node::Any(nodes) => nodes.iter().any(|node| holds(node, row)),
        Node::Not(inner) => !holds(inner, row),
        Node::Set(field) => is_set(field, row),
        Node::Contains(field, part) => match cell(row, field.column) {
            Cell::Text(text) => text.to_lowercase().contains(&part.to_lowercase()),
            _ => false,
        },
        Node::Is(field, operator, value) => {
            compared(cell(row, field.column), value).is_some_and(|order| fits(order, operator))
        }
        Node::Named(parts, operator, ids) => {
            named(parts, ids, row).is_some_and(|same| same == (*operator == " = "))
        }
    }
}

fn is_set(field: &Field, row: &impl Cells) -> bool {
    let column = match field.kind {
        Kind::Name(parts) => parts.first().map_or("", |part| part.column),
        _ => field.column,
    };
    match (cell(row, column), field.kind) {
        (Cell::Text(text), Kind::Text | Kind::Word(..)) => !text.is_empty(),
        (found, _) => found != Cell::Null,
    }
}

fn fits(order: Ordering, operator: &str) -> bool {
    match operator {
        " = " => order.is_eq(),
        " <> " => order.is_ne(),
        " < " => order.is_lt(),
        " <= " => order.is_le(),
        " > " => order.is_gt(),
        _ => order.is_ge(),
    }
}

/// `None` when there is nothing to compare.
fn compared(found: Cell<'_>, value: &Value) -> Option<Ordering> {
    match (found, value) {
        // By code points, which is by bytes.
        (Cell::Text(found), Value::Text(text)) => Some(found.cmp(text)),
        (Cell::Number(found), Value::Number(number)) => Some(found.cmp(number)),
        (Cell::Flag(found), Value::Flag(flag)) => Some(found.cmp(flag)),
        (Cell::Date(found), Value::Date(date)) => Some(found.cmp(date)),
        // The database knows microseconds.
        (Cell::Time(found), Value::Time(time)) => Some(found.cmp(&time.trunc_subsecs(6))),
        _ => None,
    }
}

/// Whether the name is this one; `None` when there is none.
fn named(parts: &[Part], ids: &[String], row: &impl Cells) -> Option<bool> {
    let mut same = true;
    for (part, id) in parts.iter().zip(ids) {
        same &= match cell(row, part.column) {
            Cell::Null => return None,
            Cell::Text(text) => text == id,
            Cell::Uuid(uuid) => Uuid::try_parse(id).ok() == Some(uuid),
            Cell::Number(number) => id.parse::<Decimal>().ok() == Some(number),
            Cell::Flag(_) | Cell::Date(_) | Cell::Time(_) => false,
        };
    }
    Some(same)
}
