//! Filters and orders against the fields of a list.

use anklang_domain::Violations;
use anklang_domain::listing::{Comparator, Comparison, Fault, Filter, Literal, OrderItem};
use anklang_domain::name;
use anklang_domain::selection::YEARS;
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::field::{Field, Kind, Part, PartType};
use super::{Listable, Sort};

/// A checked filter. Whatever can be written here compiles.
#[derive(Debug)]
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    /// The column has a value.
    Set(&'static Field),
    /// The column holds the text, in upper or lower case.
    Contains(&'static Field, String),
    /// The column compares.
    Is(&'static Field, &'static str, Value),
    /// The columns of a name are these, or are not.
    Named(&'static [Part], &'static str, Vec<String>),
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Number(Decimal),
    Flag(bool),
    Date(NaiveDate),
    Time(DateTime<Utc>),
}

/// Checks a filter. `None` exactly when something is wrong, all of which is told.
pub(super) fn check(
    fields: &'static [Field],
    filter: &Filter,
    violations: &mut Violations,
) -> Option<Node> {
    let mut list = |all: &[Filter]| {
        let nodes: Vec<Option<Node>> = all.iter().map(|f| check(fields, f, violations)).collect();
        nodes.into_iter().collect::<Option<Vec<Node>>>()
    };
    match filter {
        Filter::All(all) => list(all).map(Node::All),
        Filter::Any(any) => list(any).map(Node::Any),
        Filter::Not(inner) => check(fields, inner, violations).map(|n| Node::Not(Box::new(n))),
        Filter::Compare(comparison) => comparison_node(fields, comparison)
            .map_err(|fault| violations.add("filter", fault.to_string()))
            .ok(),
    }
}

fn fault(position: usize, reason: impl Into<String>) -> Fault {
    Fault {
        position,
        reason: reason.into(),
    }
}

fn find(fields: &'static [Field], name: &str, position: usize) -> Result<&'static Field, Fault> {
    fields.iter().find(|f| f.name == name).ok_or_else(|| {
        let known: Vec<&str> = fields.iter().map(|f| f.name).collect();
        let name: String = name.chars().take(64).collect();
        let reason = format!(
            "{name} is no field of this list; known are {}",
            known.join(", ")
        );
        fault(position, reason)
    })
}

fn comparison_node(fields: &'static [Field], comparison: &Comparison) -> Result<Node, Fault> {
    let field = find(fields, &comparison.field, comparison.position)?;
    let literal = &comparison.value;
    let comparator = comparison.comparator;
    if comparator == Comparator::Has {
        return has(field, literal);
    }
    let ordered = matches!(
        field.kind,
        Kind::Text | Kind::Number | Kind::Date | Kind::Time
    );
    let operator = match comparator {
        Comparator::Equal => " = ",
        Comparator::NotEqual => " <> ",
        Comparator::Less if ordered => " < ",
        Comparator::LessOrEqual if ordered => " <= ",
        Comparator::Greater if ordered => " > ",
        Comparator::GreaterOrEqual if ordered => " >= ",
        _ => {
            let reason = format!("{} compares with = and != alone", field.name);
            return Err(fault(comparison.position, reason));
        }
    };
    if let Kind::Name(parts) = field.kind {
        let ids = ids(parts, literal)?;
        return Ok(Node::Named(parts, operator, ids));
    }
    Ok(Node::Is(field, operator, value(field, literal)?))
}

/// `field:*` asks for a value, `text:part` for a part.
fn has(field: &'static Field, literal: &Literal) -> Result<Node, Fault> {
    if literal.text == "*" && !literal.quoted {
        return Ok(Node::Set(field));
    }
    match field.kind {
        Kind::Text => match value(field, literal)? {
            Value::Text(text) => Ok(Node::Contains(field, text)),
            _ => Ok(Node::Set(field)),
        },
        _ => Err(fault(
            literal.position,
            format!(
                "{0} is no text; {0}:* asks whether it has a value",
                field.name
            ),
        )),
    }
}

fn value(field: &Field, literal: &Literal) -> Result<Value, Fault> {
    let text = literal.text.as_str();
    let wrong = |what: String| fault(literal.position, format!("{} must be {what}", field.name));
    match field.kind {
        Kind::Text if text.contains('\0') => Err(wrong("text without NUL".into())),
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Number => decimal(text)
            .filter(|_| !literal.quoted)
            .map(Value::Number)
            .ok_or_else(|| wrong("a number of at most 28 digits, e.g. 2500 or 0.25".into())),
        Kind::Flag => match text {
            "true" if !literal.quoted => Ok(Value::Flag(true)),
            "false" if !literal.quoted => Ok(Value::Flag(false)),
            _ => Err(wrong("true or false".into())),
        },
        Kind::Date => NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .filter(|date| YEARS.contains(&date.year()))
            .map(Value::Date)
            .ok_or_else(|| wrong("a date, e.g. 2026-01-31".into())),
        Kind::Time => DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.to_utc())
            .filter(|time| YEARS.contains(&time.year()))
            .map(Value::Time)
            .ok_or_else(|| wrong("a point in time, e.g. 2026-01-31T12:00:00Z".into())),
        Kind::Word(prefix, words) => words
            .iter()
            .find(|word| {
                let name = word.to_ascii_uppercase();
                text == name || text.strip_prefix(prefix) == Some(&name)
            })
            .map(|word| Value::Text((*word).to_owned()))
            .ok_or_else(|| {
                let names: Vec<String> = words.iter().map(|w| w.to_ascii_uppercase()).collect();
                wrong(format!("one of {}", names.join(", ")))
            }),
        // Names are read by `ids`.
        Kind::Name(_) => Err(wrong("the name of a resource".into())),
    }
}

/// `Decimal` reads underscores as well.
fn decimal(text: &str) -> Option<Decimal> {
    let is_plain = |b: u8| b.is_ascii_digit() || b == b'.' || b == b'-';
    text.bytes()
        .all(is_plain)
        .then(|| Decimal::from_str_exact(text).ok())?
}

fn ids(parts: &'static [Part], literal: &Literal) -> Result<Vec<String>, Fault> {
    let read = match parts {
        [one] => name::parse(&literal.text, [one.collection]).map(Vec::from),
        [one, two] => name::parse(&literal.text, [one.collection, two.collection]).map(Vec::from),
        _ => Ok(Vec::new()),
    };
    let ids = read.map_err(|error| fault(literal.position, error.to_string()))?;
    for (part, id) in parts.iter().zip(&ids) {
        let fits = match part.ty {
            PartType::Text => true,
            PartType::Uuid => Uuid::try_parse(id).is_ok(),
            PartType::Integer => id.parse::<i32>().is_ok(),
        };
        if !fits {
            let what = if part.ty == PartType::Uuid {
                "a UUID"
            } else {
                "a number"
            };
            let reason = format!("the id after {}/ must be {what}", part.collection);
            return Err(fault(literal.position, reason));
        }
    }
    Ok(ids)
}

/// Checks an order, and ends it in the key: what is not named goes the way of the last named.
pub(super) fn order(
    of: &'static Listable,
    items: &[OrderItem],
    violations: &mut Violations,
) -> Vec<Sort> {
    let mut order: Vec<Sort> = Vec::new();
    for item in items {
        let found = find(of.fields, &item.field, item.position).and_then(|field| {
            let none = || {
                fault(
                    item.position,
                    format!("there is no order by {}", field.name),
                )
            };
            Ok((field, field.sorted().ok_or_else(none)?))
        });
        match found {
            Ok((field, (column, cast))) => order.push(Sort {
                column,
                cast,
                nullable: field.nullable,
                descending: item.descending,
            }),
            Err(fault) => violations.add("order_by", fault.to_string()),
        }
    }
    let last = order.last().map(|sort| sort.descending);
    for key in of.key {
        if !order.iter().any(|sort| sort.column == key.column) {
            order.push(Sort {
                descending: last.unwrap_or(key.descending),
                ..*key
            });
        }
    }
    order
}
