//! SQL put together from literal pieces, binds and criteria.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};

use super::Prepared;

/// A statement under construction, or a part of one.
///
/// Text of callers cannot get into the SQL: pieces are `&'static str`, and everything else is a
/// bind. Runs like `diesel::sql_query` and loads by column names, but nests, so that criteria can
/// stand anywhere in it with other binds around them. Never cached as a prepared statement: the
/// planner shall see the values.
///
/// ```no_run
/// # use anklang_store::selection::{Prepared, Statement};
/// # use anklang_store::{Conn, Result};
/// use diesel::sql_types::{BigInt, Uuid as SqlUuid};
/// use diesel_async::RunQueryDsl;
///
/// # async fn freeze(conn: &mut Conn, prepared: &Prepared, phase: uuid::Uuid) -> Result<usize> {
/// let frozen = Statement::new("INSERT INTO audience_member (tenant_id, phase_id, seq, customer_id, contract_id)
///          SELECT subject.tenant_id, ")
///     .bind::<SqlUuid, _>(phase)
///     .sql(", row_number() OVER (ORDER BY subject.number), subject.customer_id, subject.id
///          FROM contract subject WHERE ")
///     .criteria(prepared)
///     .sql(" LIMIT ")
///     .bind::<BigInt, _>(1_000_000i64)
///     .execute(conn)
///     .await?;
/// # Ok(frozen)
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Statement {
    parts: Vec<Part>,
}

#[derive(Clone)]
enum Part {
    Sql(&'static str),
    Alias(Alias),
    Bind(Arc<dyn QueryFragment<Pg> + Send + Sync>),
}

/// A value for [`Statement::numbered`].
pub(crate) struct Bound(Part);

/// A value as a bind of that SQL type.
pub(crate) fn bound<ST, T>(value: T) -> Bound
where
    Pg: HasSqlType<ST>,
    ST: Send + Sync + 'static,
    T: ToSql<ST, Pg> + Send + Sync + 'static,
{
    Bound(Part::Bind(Arc::new(Bind {
        value,
        sql_type: PhantomData::<ST>,
    })))
}

/// A row's name inside of a statement: `subject` for 0, else `s1`, `s2` …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alias(pub u32);

impl Statement {
    /// A statement that begins so.
    pub fn new(sql: &'static str) -> Self {
        Self::default().sql(sql)
    }

    /// A statement with binds written as `$1`, `$2` …, each as often as it is needed: for SQL that
    /// runs by itself elsewhere.
    pub(crate) fn numbered(sql: &'static str, binds: &[Bound]) -> Self {
        let mut out = Self::default();
        let mut pieces = sql.split('$');
        out.push(pieces.next().unwrap_or_default());
        for piece in pieces {
            let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = piece.split_at(digits);
            let bind = number.parse::<usize>().ok().and_then(|n| binds.get(n - 1));
            let Bound(part) = bind.expect("every number in the literal has its bind");
            out.parts.push(part.clone());
            out.push(rest);
        }
        out
    }

    /// Adds literal SQL.
    pub fn sql(mut self, sql: &'static str) -> Self {
        self.push(sql);
        self
    }

    /// Adds a value as a bind of that SQL type.
    pub fn bind<ST, T>(mut self, value: T) -> Self
    where
        Pg: HasSqlType<ST>,
        ST: Send + Sync + 'static,
        T: ToSql<ST, Pg> + Send + Sync + 'static,
    {
        self.push_bind::<ST, T>(value);
        self
    }

    /// Adds the prepared criteria as a boolean expression over the row with the alias `subject`,
    /// tenant included: see [`Prepared::where_clause`].
    pub fn criteria(self, prepared: &Prepared) -> Self {
        self.append(prepared.where_clause())
    }

    /// Adds another statement's parts.
    pub fn append(mut self, other: &Statement) -> Self {
        self.parts.extend(other.parts.iter().cloned());
        self
    }

    pub(super) fn push(&mut self, sql: &'static str) {
        self.parts.push(Part::Sql(sql));
    }

    pub(super) fn push_bind<ST, T>(&mut self, value: T)
    where
        Pg: HasSqlType<ST>,
        ST: Send + Sync + 'static,
        T: ToSql<ST, Pg> + Send + Sync + 'static,
    {
        self.parts.push(Part::Bind(Arc::new(Bind {
            value,
            sql_type: PhantomData::<ST>,
        })));
    }

    pub(super) fn push_alias(&mut self, alias: Alias) {
        self.parts.push(Part::Alias(alias));
    }
}

impl QueryFragment<Pg> for Statement {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        for part in &self.parts {
            match part {
                Part::Sql(sql) => out.push_sql(sql),
                Part::Alias(Alias(0)) => out.push_sql("subject"),
                Part::Alias(Alias(n)) => out.push_sql(&format!("s{n}")),
                Part::Bind(bind) => bind.walk_ast(out.reborrow())?,
            }
        }
        Ok(())
    }
}

impl QueryId for Statement {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement {
    type SqlType = Untyped;
}

/// Shows the SQL without the values, which may be personal data.
impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut binds = 0;
        for part in &self.parts {
            match part {
                Part::Sql(sql) => f.write_str(sql)?,
                Part::Alias(Alias(0)) => f.write_str("subject")?,
                Part::Alias(Alias(n)) => write!(f, "s{n}")?,
                Part::Bind(_) => {
                    binds += 1;
                    write!(f, "${binds}")?;
                }
            }
        }
        Ok(())
    }
}

/// A value with its SQL type.
struct Bind<ST, T> {
    value: T,
    sql_type: PhantomData<ST>,
}

impl<ST, T> QueryFragment<Pg> for Bind<ST, T>
where
    Pg: HasSqlType<ST>,
    T: ToSql<ST, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<ST, T>(&self.value)
    }
}
