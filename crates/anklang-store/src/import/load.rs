//! One statement that writes many rows of one table: built of the column names of a [`Spec`], all
//! of them literals of this crate; every value is a bind.
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
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Date, Integer, Nullable, Numeric, Text, Timestamptz,
    Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;

use super::{Fault, Numbered};
use crate::{Conn, Result};

/// Rows that the store can write.
pub trait Load: Row {
    /// Writes rows whose keys differ, in the caller's transaction. `given` are the columns that
    /// may change what is there already; without it, all.
    fn load(
        conn: &mut Conn,
        tenant: TenantId,
        rows: &[Numbered<Self>],
        given: Option<&HashSet<String>>,
    ) -> impl Future<Output = Result<Loaded>> + Send;
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

/// How a value is taken out of a row.
pub(crate) enum Get<R> {
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
    name: &'static str,
    get: Get<R>,
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
pub(crate) struct Spec<R> {
    table: &'static str,
    sent: Vec<Column<R>>,
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
    pub fn new(table: &'static str) -> Self {
        Spec {
            table,
            sent: Vec::new(),
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
    pub fn with_id(mut self) -> Self {
        self.with_id = true;
        self
    }

    /// The table has an `updated_at`.
    pub fn stamped(mut self) -> Self {
        self.stamped = true;
        self
    }

    /// Part of the key, of the same name in rows and table.
    pub fn key(mut self, column: Column<R>) -> Self {
        self.key.push(Target::same(column.name));
        self.send(column)
    }

    /// Part of the key that is looked up.
    pub fn key_from(mut self, column: &'static str, value: &'static str) -> Self {
        self.key.push(Target {
            column,
            value,
            from: &[],
        });
        self
    }

    /// A value of the same name in rows and table.
    pub fn value(mut self, column: Column<R>) -> Self {
        self.values.push(Target::same(column.name));
        self.send(column)
    }

    /// A value of which any of the columns `from` decides.
    pub fn value_of(mut self, column: Column<R>, from: &'static [&'static str]) -> Self {
        self.values.push(Target {
            from,
            ..Target::same(column.name)
        });
        self.send(column)
    }

    /// A value that is looked up by the columns `from`.
    pub fn value_from(
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
    pub fn send(mut self, column: Column<R>) -> Self {
        self.sent.push(column);
        self
    }

    /// Takes only rows for which this holds.
    pub fn only(mut self, condition: &'static str) -> Self {
        self.only = condition;
        self
    }

    /// Rows refer to something.
    pub fn reference(mut self, reference: Reference) -> Self {
        self.references.push(reference);
        self
    }

    /// A stored row `t` is replaced by the row `excluded` only if this holds.
    pub fn guard(mut self, condition: &'static str) -> Self {
        self.guard = condition;
        self
    }

    /// A further WITH query over `written`, the rows created or updated.
    pub fn then(mut self, query: &'static str) -> Self {
        self.then = query;
        self
    }

    /// Writes the rows.
    pub async fn run(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        rows: &[Numbered<R>],
        given: Option<&HashSet<String>>,
    ) -> Result<Loaded> {
        let lines: Vec<i64> = rows.iter().map(|r| r.line).collect();
        let mut query = diesel::sql_query(self.sql(given))
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Array<BigInt>, _>(lines);
        for column in &self.sent {
            query = column.bind(query, tenant, rows);
        }
        let found: Vec<Found> = query.load(conn).await?;
        let mut loaded = Loaded::default();
        for found in found {
            match usize::try_from(found.what) {
                Ok(reference) => loaded.faults.push(Fault {
                    line: found.number,
                    field: self.references[reference].field.to_owned(),
                    reason: found.reason,
                }),
                Err(_) if found.what == CREATED => loaded.created = found.number,
                Err(_) => loaded.updated = found.number,
            }
        }
        Ok(loaded)
    }

    /// The statement: `s` the rows sent, `staged` with what they refer to, `written` those created
    /// or updated.
    fn sql(&self, given: Option<&HashSet<String>>) -> String {
        let updates: Vec<&str> = self
            .values
            .iter()
            .filter(|t| given.is_none_or(|given| t.is_given(given)))
            .map(|t| t.column)
            .collect();
        let mut sql = self.staged();
        sql += &self.written(&updates);
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

    fn staged(&self) -> String {
        let arrays: Vec<String> = (3..)
            .zip(&self.sent)
            .map(|(i, column)| format!("${i}::{}[]", column.sql_type()))
            .collect();
        let names: Vec<&str> = self.sent.iter().map(|c| c.name).collect();
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
                 SELECT s.*{looked_up}
                 FROM unnest($2::bigint[], {}) AS s (row_line, {}){joins}
                 WHERE {})",
            arrays.join(", "),
            names.join(", "),
            self.only,
        )
    }

    fn written(&self, updates: &[&str]) -> String {
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
            (", id", ", anklang_uuid7()")
        } else {
            ("", "")
        };
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
                 RETURNING t.xmax = 0 AS created, t.*)",
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
struct Found {
    /// Below 0 a count, else the number of the reference.
    #[diesel(sql_type = Integer)]
    what: i32,
    /// The count or the line.
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    reason: String,
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

type Boxed<'f> = BoxedSqlQuery<'f, Pg, SqlQuery>;

impl<R> Column<R> {
    fn sql_type(&self) -> &'static str {
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

    /// Binds the values of all rows as an array.
    fn bind<'f>(&self, query: Boxed<'f>, tenant: TenantId, rows: &'f [Numbered<R>]) -> Boxed<'f> {
        fn all<'f, R, T>(rows: &'f [Numbered<R>], get: impl Fn(&'f R) -> T) -> Vec<T> {
            rows.iter().map(|r| get(&r.row)).collect()
        }
        match self.get {
            Get::Text(get) => query.bind::<Array<Text>, _>(all(rows, get)),
            Get::TextOrNull(get) => query.bind::<Array<Nullable<Text>>, _>(all(rows, get)),
            Get::Int(get) => query.bind::<Array<Integer>, _>(all(rows, get)),
            Get::Flag(get) => query.bind::<Array<Nullable<Bool>>, _>(all(rows, get)),
            Get::Date(get) => query.bind::<Array<Nullable<Date>>, _>(all(rows, get)),
            Get::Time(get) => query.bind::<Array<Timestamptz>, _>(all(rows, get)),
            Get::Decimal(get) => query.bind::<Array<Nullable<Numeric>>, _>(all(rows, get)),
            Get::Bytes(get) => {
                query.bind::<Array<Bytea>, _>(all(rows, move |row| get(tenant, row)))
            }
        }
    }
}
