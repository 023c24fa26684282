//! Checked filters, orders and keys as SQL around a SELECT.

use anklang_domain::TenantId;
use diesel::sql_types::{BigInt, Bool, Date, Numeric, Text, Timestamptz, Uuid as SqlUuid};

use super::check::{Node, Value};
use super::field::{Field, Kind, Part};
use super::{Key, List, Sort};
use crate::selection::Statement;

/// The column of a row's key.
pub(super) const KEY: &str = "list_key";

/// The page that is wanted, and one row more; `of_seen` is the tenant whose customers are gathered first, as far as
/// the caller sees them.
pub(super) fn page(list: &List, base: Statement, of_seen: Option<TenantId>) -> Statement {
    let mut out = Statement::new("SELECT r.*, ARRAY[");
    for (i, sort) in list.order.iter().enumerate() {
        out = separated(out, i, ", ")
            .sql("r.")
            .sql(sort.column)
            .sql("::text");
    }
    out = out
        .sql("] AS list_key FROM (")
        .append(&base)
        .sql(") r WHERE TRUE");
    if let Some(tenant) = of_seen {
        out = out
            .sql(" AND r.customer_id = ANY(ARRAY(SELECT seen.id FROM customer seen WHERE seen.tenant_id = ")
            .bind::<SqlUuid, _>(tenant.0)
            .sql("))");
    }
    if let Some(filter) = &list.filter {
        out = node(out.sql(" AND "), filter);
    }
    if let Some(key) = &list.after {
        out = after(out.sql(" AND "), &list.order, key);
    }
    out = out.sql(" ORDER BY ");
    for (i, sort) in list.order.iter().enumerate() {
        out = separated(out, i, ", ").sql("r.").sql(sort.column);
        // NULLs go last ascending and first descending, which is PostgreSQL's own way.
        out = out.sql(if sort.descending { " DESC" } else { "" });
    }
    let limit = i64::try_from(list.size).unwrap_or(i64::MAX - 1) + 1;
    out.sql(" LIMIT ").bind::<BigInt, _>(limit)
}

/// What is selected of rows `r` that the filter takes.
pub(super) fn matching(
    list: &List,
    selected: &'static str,
    base: Statement,
    limit: i64,
) -> Statement {
    let mut out = Statement::new("SELECT ")
        .sql(selected)
        .sql(" FROM (")
        .append(&base)
        .sql(") r WHERE TRUE");
    if let Some(filter) = &list.filter {
        out = node(out.sql(" AND "), filter);
    }
    out.sql(" LIMIT ").bind::<BigInt, _>(limit)
}

fn separated(out: Statement, i: usize, between: &'static str) -> Statement {
    if i > 0 { out.sql(between) } else { out }
}

fn node(mut out: Statement, filter: &Node) -> Statement {
    match filter {
        Node::All(nodes) | Node::Any(nodes) => {
            let between = if matches!(filter, Node::All(_)) {
                " AND "
            } else {
                " OR "
            };
            out = out.sql("(");
            for (i, inner) in nodes.iter().enumerate() {
                out = node(separated(out, i, between), inner);
            }
            out.sql(")")
        }
        Node::Not(inner) => node(out.sql("("), inner).sql(" IS NOT TRUE)"),
        Node::Set(field) => set(out, field),
        Node::Contains(field, text) => out
            .sql("(r.")
            .sql(field.column)
            .sql(" ILIKE ")
            .bind::<Text, _>(format!("%{}%", crate::selection::like_escaped(text)))
            .sql(")"),
        Node::Is(field, operator, value) => {
            out = out.sql("(r.").sql(field.column);
            let ordered = !matches!(*operator, " = " | " <> ");
            if matches!(value, Value::Text(_)) && ordered {
                // By code points, whatever the database's collation.
                out = out.sql(" COLLATE \"C\"");
            }
            bound(out.sql(operator), value).sql(")")
        }
        Node::Named(parts, operator, ids) => named(out, parts, operator, ids),
    }
}

fn set(out: Statement, field: &Field) -> Statement {
    let out = out.sql("(r.");
    match field.kind {
        Kind::Text | Kind::Word(..) => out.sql(field.column).sql(" <> '')"),
        Kind::Name(parts) => out
            .sql(parts.first().map_or("", |part| part.column))
            .sql(" IS NOT NULL)"),
        _ => out.sql(field.column).sql(" IS NOT NULL)"),
    }
}

fn bound(out: Statement, value: &Value) -> Statement {
    match value {
        Value::Text(text) => out.bind::<Text, _>(text.clone()),
        Value::Number(number) => out.bind::<Numeric, _>(*number),
        Value::Flag(flag) => out.bind::<Bool, _>(*flag),
        Value::Date(date) => out.bind::<Date, _>(*date),
        Value::Time(time) => out.bind::<Timestamptz, _>(*time),
    }
}

fn named(mut out: Statement, parts: &[Part], operator: &'static str, ids: &[String]) -> Statement {
    out = out.sql("((");
    for (i, part) in parts.iter().enumerate() {
        out = separated(out, i, ", ").sql("r.").sql(part.column);
    }
    out = out.sql(")").sql(operator).sql("(");
    for (i, (part, id)) in parts.iter().zip(ids).enumerate() {
        out = separated(out, i, ", ")
            .bind::<Text, _>(id.clone())
            .sql(part.ty.cast());
    }
    out.sql("))")
}

/// The rows behind one. As a comparison of rows, which an index can serve, where all columns go
/// one way and none is without a value; else column by column.
fn after(mut out: Statement, order: &[Sort], key: &Key) -> Statement {
    let one_way = order
        .iter()
        .all(|s| !s.nullable && s.descending == order[0].descending);
    if !one_way {
        return after_by_column(out, order, key);
    }
    out = out.sql("(");
    for (i, sort) in order.iter().enumerate() {
        out = separated(out, i, ", ").sql("r.").sql(sort.column);
    }
    out = out.sql(if order[0].descending {
        ") < ("
    } else {
        ") > ("
    });
    for (i, (sort, value)) in order.iter().zip(key).enumerate() {
        out = separated(out, i, ", ")
            .bind::<Text, _>(value.clone().unwrap_or_default())
            .sql(sort.cast);
    }
    out.sql(")")
}

/// `a > x OR (a = x AND (b < y OR …))`, with NULL as the greatest value.
fn after_by_column(out: Statement, order: &[Sort], key: &Key) -> Statement {
    let [(sort, value), rest @ ..] = &order.iter().zip(key).collect::<Vec<_>>()[..] else {
        return out.sql("FALSE");
    };
    let column = |out: Statement| out.sql("r.").sql(sort.column);
    let against = |out: Statement, operator: &'static str, value: &String| {
        let out = out.sql(operator).bind::<Text, _>(value.clone());
        out.sql(sort.cast)
    };
    let mut out = column(out.sql("("));
    out = match (value, sort.descending) {
        (Some(value), false) if sort.nullable => {
            column(against(out, " > ", value).sql(" OR ")).sql(" IS NULL")
        }
        (Some(value), false) => against(out, " > ", value),
        (Some(value), true) => against(out, " < ", value),
        (None, false) => out.sql(" IS NULL AND FALSE"),
        (None, true) => out.sql(" IS NOT NULL"),
    };
    if rest.is_empty() {
        return out.sql(")");
    }
    out = column(out.sql(" OR ("));
    out = match value {
        Some(value) => against(out, " = ", value),
        None => out.sql(" IS NULL"),
    };
    let (order, key): (Vec<Sort>, Key) = rest.iter().map(|(s, v)| (**s, (*v).clone())).unzip();
    after_by_column(out.sql(" AND "), &order, &key).sql("))")
}
