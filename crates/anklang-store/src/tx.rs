//! A transaction.

use std::ops::{Deref, DerefMut};

use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};

use crate::Result;

/// A connection inside of a transaction.
pub type Conn = AsyncPgConnection;

/// A transaction. Dropped without [`Tx::commit`] it is rolled back, at once and in the
/// background.
pub struct Tx {
    conn: Option<Object<AsyncPgConnection>>,
    is_bound: bool,
}

impl Tx {
    pub(crate) fn new(conn: Object<AsyncPgConnection>, is_bound: bool) -> Self {
        Tx {
            conn: Some(conn),
            is_bound,
        }
    }

    /// Whether it sees what a caller who is bound to org units sees, and no more.
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// It has become one that sees all of its tenant.
    pub(crate) fn unbound(&mut self) {
        self.is_bound = false;
    }

    /// Commits. On an error nothing of the transaction is there, unless the connection broke
    /// while the commit was under way.
    pub async fn commit(mut self) -> Result<()> {
        if let Some(mut conn) = self.conn.take() {
            AnsiTransactionManager::commit_transaction(&mut *conn).await?;
        }
        Ok(())
    }

    /// Undoes all of it, and waits for that: what was held is free afterwards.
    pub async fn rollback(mut self) -> Result<()> {
        if let Some(mut conn) = self.conn.take() {
            AnsiTransactionManager::rollback_transaction(&mut *conn).await?;
        }
        Ok(())
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect("held until commit or drop")
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("held until commit or drop")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(mut conn) = self.conn.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Not left to the pool: it would roll back when the connection is next taken, and
            // the locks would be held until then.
            runtime.spawn(async move {
                if let Err(error) = AnsiTransactionManager::rollback_transaction(&mut *conn).await {
                    tracing::debug!(%error, "rollback");
                }
            });
        }
    }
}
