//! Statements that the database plans once for each connection, and statements that are sent together.
//!
//! `diesel::sql_query` has each statement parsed, planned and forgotten each time, with a round trip
//! of its own. For the few statements that run all the time that is most of their work: planning
//! the claim of messages takes longer than claiming them. `.fixed()` keeps them prepared.
//!
//! A plan that is kept does not see how tables grow until their statistics are gathered anew, which
//! discards it; at the latest it ends with its connection (`connections.rs`). So this is for statements by
//! whole keys, best in a transaction of [`crate::Store::begin_work`]; and for those that name the
//! columns of their results: `SELECT *` would fail when a migration adds one while servers run.
//!
//! Functions that take `&Conn` can be joined (`futures::future::try_join`): their statements are sent in that order
//! without waiting in between, which saves round trips. The database does them one after the other, each sees what was
//! committed before it began, and after one that fails it does none. COMMIT is sent by itself, when all are known to
//! have succeeded.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Untyped;
use diesel_async::RunQueryDsl;

use crate::{Conn, Result};

/// For a statement that takes longer to compile than to run: not compiled until the end of the transaction.
pub(crate) async fn without_jit(conn: &mut Conn) -> Result<()> {
    diesel::sql_query("SELECT set_config('jit', 'off', true)")
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps a statement prepared.
pub(crate) trait Fix: Sized {
    /// This statement, whose text is one of few: put together from constants of the program alone.
    fn fixed(self) -> Fixed<Self>;
}

impl<Q: QueryFragment<Pg>> Fix for Q {
    fn fixed(self) -> Fixed<Self> {
        Fixed(self)
    }
}

/// A statement that is kept prepared.
pub(crate) struct Fixed<Q>(Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Fixed<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    /// What `sql_query` denies, because a text that is put together may never come again.
    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q> QueryId for Fixed<Q> {
    type QueryId = ();

    /// Known by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q> Query for Fixed<Q> {
    type SqlType = Untyped;
}
