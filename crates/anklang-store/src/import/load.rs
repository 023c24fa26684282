//! One statement that writes many rows of one table: built of the column names of a [`Spec`], all
//! of them literals of this crate. Values come as rows of a temporary table (a chunk of an import,
//! see `copy.rs`) or as bound arrays (a single update), never as text of the statement.
//!
//! A row shall take the same time whatever the size of the table and the age of its statistics, so
//! the planner is left little to choose. What is there already is found by `ON CONFLICT`, in the
//! unique index of the key; unchanged rows are locked for the moment, but not written anew. What
//! rows refer to is looked up row by row, by lateral joins fenced with `OFFSET 0`: joined openly,
//! all rows of the tenant are read and sorted for each chunk. In these the tenant is written
//! `(SELECT $1)`, so that the planner reckons with an average tenant. Seeing the id itself, it
//! takes a tenant that is newer than the statistics for one without rows, to which any index that
//! begins with the tenant is as good as the one of the number; a chunk then took minutes.

use std::collections::HashSet;
use std::fmt::Write as _;

use anklang_domain::TenantId;
use anklang_domain::master::Row;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Text};
use rust_decimal::Decimal;

use super::Fault;

/// Rows that the store can write.
pub trait Load: Row {
    /// How rows become rows of tables, in this order. All of them send the same columns.
    fn specs() -> Vec<Spec<Self>>;
}

/// What came of rows; those not counted were here already, just so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows that made something new.
    pub created: i64,
    /// Rows that changed something.
    pub updated: i64,
    /// Rows that were refused because of what the database holds.
    pub faults: Vec<Fault>,
}

impl Loaded {
    /// Adds a line of the result of a spec's statement.
    pub(super) fn add<R>(&mut self, spec: &Spec<R>, found: Found) {
        match usize::try_from(found.what) {
            Ok(reference) => self.faults.push(Fault {
                line: found.number,
                field: spec.references[reference].field.to_owned(),
                reason: found.reason,
            }),
            Err(_) if found.what == CREATED => self.created += found.number,
            Err(_) => self.updated += found.number,
        }
    }
}

/// How a value is taken out of a row.
pub(super) enum Get<R> {
    Text(fn(&R) -> &str),
    TextOrNull(fn(&R) -> Option<&str>),
    Int(fn(&R) -> i32),
    Flag(fn(&R) -> Option<bool>),
    Date(fn(&R) -> Option<NaiveDate>),
    Time(fn(&R) -> DateTime<Utc>),
    Decimal(fn(&R) -> Option<Decimal>),
    Bytes(fn(TenantId, &R) -> Vec<u8>),
}

/// A value that is sent, under the name of its column.
pub(crate) struct Column<R> {
    pub(super) name: &'static str,
    pub(super) get: Get<R>,
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($get:ty);)+) => {$(
        $(#[$doc])*
        pub(crate) fn $name<R>(name: &'static str, get: $get) -> Column<R> {
            Column { name, get: Get::$variant(get) }
        }
    )+};
}

columns! {
    /// A text.
    text: Text(fn(&R) -> &str);
    /// A text or NULL.
    text_or_null: TextOrNull(fn(&R) -> Option<&str>);
    /// A whole number.
    int: Int(fn(&R) -> i32);
    /// A truth value or NULL.
    flag: Flag(fn(&R) -> Option<bool>);
    /// A date or NULL.
    date: Date(fn(&R) -> Option<NaiveDate>);
    /// A point in time.
    time: Time(fn(&R) -> DateTime<Utc>);
    /// A decimal or NULL.
    decimal: Decimal(fn(&R) -> Option<Decimal>);
    /// Bytes, made for the tenant.
    bytes: Bytes(fn(TenantId, &R) -> Vec<u8>);
}

/// Something that a row refers to. All texts are SQL over `s`, the rows sent, and the joined.
pub(crate) struct Reference {
    /// The column that is to blame when it is not there.
    pub field: &'static str,
    /// Finds it; `(SELECT $1)` is the tenant. A fenced lateral join, see the module.
    pub join: &'static str,
    /// True for rows that are good.
    pub good: &'static str,
    /// What is wrong with the others.
    pub reason: &'static str,
}

/// A column of the table.
struct Target {
    column: &'static str,
    /// SQL over `s` and the joined.
    value: &'static str,
    /// Columns of a file any of which sets it; empty for the one of its own name.
    from: &'static [&'static str],
}

/// How rows become rows of a table.
pub struct Spec<R> {
    pub(super) table: &'static str,
    pub(super) sent: Vec<Column<R>>,
    before: &'static str,
    only: &'static str,
    references: Vec<Reference>,
    key: Vec<Target>,
    values: Vec<Target>,
    with_id: bool,
    stamped: bool,
    guard: &'static str,
    then: &'static str,
}

impl<R: Row> Spec<R> {
    /// Into this table.
    pub(crate) fn new(table: &'static str) -> Self {
        Spec {
            table,
            sent: Vec::new(),
            before: "",
            only: "true",
            references: Vec::new(),
            key: Vec::new(),
            values: Vec::new(),
            with_id: false,
            stamped: false,
            guard: "true",
            then: "",
        }
    }

    /// The table has an `id`; new rows get one.
    pub(crate) fn with_id(mut self) -> Self {
        self.with_id = true;
        self
    }

    /// The table has an `updated_at`.
    pub(crate) fn stamped(mut self) -> Self {
        self.stamped = true;
        self
    }

    /// Part of the key, of the same name in rows and table.
    pub(crate) fn key(mut self, column: Column<R>) -> Self {
        self.key.push(Target::same(column.name));
        self.send(column)
    }

    /// Part of the key that is looked up.
    pub(crate) fn key_from(mut self, column: &'static str, value: &'static str) -> Self {
        self.key.push(Target {
            column,
            value,
            from: &[],
        });
        self
    }

    /// A value of the same name in rows and table.
    pub(crate) fn value(mut self, column: Column<R>) -> Self {
        self.values.push(Target::same(column.name));
        self.send(column)
    }

    /// A value of which any of the columns `from` decides.
    pub(crate) fn value_of(mut self, column: Column<R>, from: &'static [&'static str]) -> Self {
        self.values.push(Target {
            from,
            ..Target::same(column.name)
        });
        self.send(column)
    }

    /// A value that is looked up by the columns `from`.
    pub(crate) fn value_from(
        mut self,
        column: &'static str,
        value: &'static str,
        from: &'static [&'static str],
    ) -> Self {
        self.values.push(Target {
            column,
            value,
            from,
        });
        self
    }

    /// Sends a column that the table does not have.
    pub(crate) fn send(mut self, column: Column<R>) -> Self {
        self.sent.push(column);
        self
    }

    /// Takes only rows for which this holds.
    pub(crate) fn only(mut self, condition: &'static str) -> Self {
        self.only = condition;
        self
    }

    /// Rows refer to something.
    pub(crate) fn reference(mut self, reference: Reference) -> Self {
        self.references.push(reference);
        self
    }

    /// A stored row `t` is replaced by the row `excluded` only if this holds.
    pub(crate) fn guard(mut self, condition: &'static str) -> Self {
        self.guard = condition;
        self
    }

    /// A further WITH query over `written`, the rows created or updated.
    pub(crate) fn then(mut self, query: &'static str) -> Self {
        self.then = query;
        self
    }

    /// A statement to be executed first; `{rows}` in it are the rows sent, as `s`.
    pub(crate) fn before(mut self, statement: &'static str) -> Self {
        self.before = statement;
        self
    }

    /// Whether a row changes more than the row of its key.
    pub(super) fn changes_others(&self) -> bool {
        !self.before.is_empty()
    }

    /// [`Spec::before`] over the rows; none when it is empty.
    pub(super) fn preceding(&self, rows: &str) -> Option<String> {
        (!self.before.is_empty()).then(|| self.before.replace("{rows}", rows))
    }

    /// The statement over `rows`, something to select from, named `s`: `staged` are they with what
    /// they refer to, `written` those created or updated. Its result are [`Found`]s.
    ///
    /// `made_id` makes the id of a new row.
    pub(super) fn sql(&self, rows: &str, made_id: &str, given: Option<&HashSet<String>>) -> String {
        let updates: Vec<&str> = self
            .values
            .iter()
            .filter(|t| given.is_none_or(|given| t.is_given(given)))
            .map(|t| t.column)
            .collect();
        let mut sql = self.staged(rows);
        sql += &self.written(&updates, made_id);
        sql += self.then;
        sql += " SELECT -1 AS what, count(*) AS number, '' AS reason FROM written WHERE created
                 UNION ALL SELECT -2, count(*), '' FROM written WHERE NOT created";
        for i in 0..self.references.len() {
            let _ = write!(
                sql,
                " UNION ALL SELECT {i}, row_line, fault_{i} FROM staged WHERE fault_{i} IS NOT NULL",
            );
        }
        sql
    }

    fn staged(&self, rows: &str) -> String {
        let mut looked_up = String::new();
        for target in self.key.iter().chain(&self.values) {
            if target.value != target.column {
                let _ = write!(looked_up, ", {} AS {}", target.value, target.column);
            }
        }
        let mut joins = String::new();
        for (i, reference) in self.references.iter().enumerate() {
            let _ = write!(
                looked_up,
                ", CASE WHEN {} THEN NULL ELSE {} END AS fault_{i}",
                reference.good, reference.reason
            );
            let _ = write!(joins, " {}", reference.join);
        }
        format!(
            "WITH staged AS MATERIALIZED (
                 SELECT s.*{looked_up} FROM {rows}{joins} WHERE {})",
            self.only,
        )
    }

    fn written(&self, updates: &[&str], made_id: &str) -> String {
        let columns: Vec<&str> = self
            .key
            .iter()
            .chain(&self.values)
            .map(|t| t.column)
            .collect();
        let key: Vec<&str> = self.key.iter().map(|t| t.column).collect();
        let good: String = (0..self.references.len())
            .map(|i| format!(" AND fault_{i} IS NULL"))
            .collect();
        let (id, made_id) = if self.with_id {
            (", id", format!(", {made_id}"))
        } else {
            ("", String::new())
        };
        // Rows that nobody reads need not be kept.
        let all = if self.then.is_empty() { "" } else { ", t.*" };
        let conflict = if updates.is_empty() {
            "NOTHING".to_owned()
        } else {
            let mut set: Vec<String> = updates
                .iter()
                .map(|c| format!("{c} = excluded.{c}"))
                .collect();
            if self.stamped {
                set.push("updated_at = now()".to_owned());
            }
            format!(
                "UPDATE SET {} WHERE {}",
                set.join(", "),
                self.changed(updates)
            )
        };
        format!(
            ", written AS (
                 INSERT INTO {table} AS t (tenant_id{id}, {columns})
                 SELECT $1{made_id}, {columns} FROM staged WHERE true{good} ORDER BY {key}
                 ON CONFLICT (tenant_id, {key}) DO {conflict}
                 RETURNING t.xmax = 0 AS created{all})",
            table = self.table,
            columns = columns.join(", "),
            key = key.join(", "),
        )
    }

    /// True when the row `excluded`, which could not be inserted, changes the stored row `t`.
    fn changed(&self, updates: &[&str]) -> String {
        let side = |row: &str| {
            let all: Vec<String> = updates.iter().map(|c| format!("{row}.{c}")).collect();
            format!("ROW({})", all.join(", "))
        };
        format!(
            "{} IS DISTINCT FROM {} AND {}",
            side("t"),
            side("excluded"),
            self.guard
        )
    }
}

/// [`Found::what`] of the number of created rows; that of updated ones is below it.
const CREATED: i32 = -1;

/// A line of the result: a count, or a row with a reference that is not there.
#[derive(QueryableByName)]
pub(super) struct Found {
    /// Below 0 a count, else the number of the reference.
    #[diesel(sql_type = Integer)]
    pub what: i32,
    /// The count or the line.
    #[diesel(sql_type = BigInt)]
    pub number: i64,
    #[diesel(sql_type = Text)]
    pub reason: String,
}

impl Target {
    /// The same name in rows, table and files.
    fn same(name: &'static str) -> Self {
        Target {
            column: name,
            value: name,
            from: &[],
        }
    }

    fn is_given(&self, given: &HashSet<String>) -> bool {
        match self.from {
            [] => given.contains(self.column),
            from => from.iter().any(|c| given.contains(*c)),
        }
    }
}

impl<R> Column<R> {
    pub(super) fn sql_type(&self) -> &'static str {
        match self.get {
            Get::Text(_) | Get::TextOrNull(_) => "text",
            Get::Int(_) => "integer",
            Get::Flag(_) => "boolean",
            Get::Date(_) => "date",
            Get::Time(_) => "timestamptz",
            Get::Decimal(_) => "numeric",
            Get::Bytes(_) => "bytea",
        }
    }
}
