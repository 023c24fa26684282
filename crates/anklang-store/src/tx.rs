//! Transactions, and how those end that nobody ends.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use diesel::QueryResult;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager,
};
use tokio::time::timeout;

use crate::Result;
use crate::connections::ANSWER;
use crate::login::Login;
use crate::share::Place;

/// A connection inside of a transaction.
pub type Conn = AsyncPgConnection;

/// A transaction that is dropped is undone in a moment, unless a statement still runs.
const MOMENT: Duration = Duration::from_millis(200);

/// A transaction. Dropped without [`Tx::commit`] it is rolled back, at once and in the
/// background; a statement that still runs in it is ended.
pub struct Tx {
    conn: Option<Object<AsyncPgConnection>>,
    login: Arc<Login>,
    is_bound: bool,
    /// Of a call: given back with the connection.
    place: Option<Place>,
}

impl Tx {
    /// The one that a connection has begun.
    pub(crate) fn new(
        conn: Object<AsyncPgConnection>,
        login: Arc<Login>,
        is_bound: bool,
        place: Option<Place>,
    ) -> Self {
        Tx {
            conn: Some(conn),
            login,
            is_bound,
            place,
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
        if let Some(conn) = self.conn.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Not left to the pool: it would roll back when the connection is next taken, and
            // the locks would be held until then.
            let (login, place) = (Arc::clone(&self.login), self.place.take());
            runtime.spawn(async move {
                undo(conn, login).await;
                drop(place);
            });
        }
    }
}

/// Rolls a transaction back. A statement still runs when whoever waited for it was dropped with the transaction:
/// the deadline of the call has come, or its client is gone. Nobody reads what it finds, and it would keep
/// connection and locks, so it is ended. A database that does not answer to that either is not waited for: its
/// connection is given up, and it undoes what is open when it finds that out.
pub(crate) async fn undo(mut conn: Object<AsyncPgConnection>, login: Arc<Login>) {
    let running = conn.cancel_token();
    {
        let mut undoing = pin!(rollback(&mut conn));
        match timeout(MOMENT, &mut undoing).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::debug!(%error, "rollback"),
            Err(_) => {
                match timeout(ANSWER, login.cancel(&running)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "ending a statement"),
                    Err(_) => tracing::warn!("the database takes no request to end a statement"),
                }
                match timeout(ANSWER, undoing).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "rollback"),
                    Err(_) => tracing::warn!("the database does not end a statement"),
                }
            }
        }
    }
    // It may be inside of its transaction yet; or the request is still under way, and must not meet the statement of
    // somebody else.
    drop(Object::take(conn));
}

/// Rolls back, also what diesel has not begun and knows nothing of.
async fn rollback(conn: &mut Conn) -> QueryResult<()> {
    let known = AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth();
    match known {
        Ok(None) => conn.batch_execute("ROLLBACK").await,
        _ => AnsiTransactionManager::rollback_transaction(conn).await,
    }
}
