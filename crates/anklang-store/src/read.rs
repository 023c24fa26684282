//! Reads of a single question, whose transaction is hardly felt: it begins in the same round trip in which the question
//! is asked, and ends when whoever asked has long had the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anklang_domain::TenantId;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures::future::try_join;
use tokio::time::timeout;

use crate::connections::{ANSWER, WAIT_FOR_CONNECTION};
use crate::login::Login;
use crate::share::Place;
use crate::tx::{Conn, undo};
use crate::{Store, StoreError};

/// A transaction that reads alone and asks one question; see [`Store::read`].
pub struct Read<'s> {
    store: &'s Store,
    tenant: TenantId,
    asking: OnceLock<Asking>,
}

impl<'s> Read<'s> {
    /// One of a tenant, which takes nothing yet.
    pub(crate) fn new(store: &'s Store, tenant: TenantId) -> Self {
        Read {
            store,
            tenant,
            asking: OnceLock::new(),
        }
    }

    /// What the question finds. Its first statement is sent right behind what begins the transaction, and the database
    /// takes one after the other. When that fails, what was found meanwhile is not given: it would be what another role
    /// sees. A pooler may have the beginning wait for a connection; till then nothing is asked.
    pub async fn ask<'a, T, E, Q>(
        &'a self,
        question: impl FnOnce(&'a Conn) -> Q,
    ) -> std::result::Result<T, E>
    where
        Q: Future<Output = std::result::Result<T, E>>,
        E: From<StoreError>,
    {
        let second = || StoreError::Stored("a second question of a read".to_owned());
        if self.asking.get().is_some() {
            return Err(second().into());
        }
        let (sql, asking) = self.store.asking(self.tenant).await?;
        self.asking.set(asking).map_err(|_| second())?;
        let asking = self.asking.get().expect("just set");
        let conn: &Conn = asking.conn.as_ref().expect("held until drop");
        let begin = async {
            let mut conn = conn;
            let begun = timeout(WAIT_FOR_CONNECTION, conn.batch_execute(&sql)).await;
            begun
                .map_err(|_| StoreError::Pool("no transaction begins".into()))?
                .map_err(StoreError::from)?;
            asking.is_begun.store(true, Ordering::Relaxed);
            Ok(())
        };
        let found = if asking.login.keeps_server() {
            try_join(begin, question(conn)).await?.1
        } else {
            begin.await?;
            question(conn).await?
        };
        asking.is_answered.store(true, Ordering::Relaxed);
        Ok(found)
    }
}

/// The connection of a read, and how far it is: each comes after the one before.
pub(crate) struct Asking {
    conn: Option<Object<AsyncPgConnection>>,
    login: Arc<Login>,
    is_begun: AtomicBool,
    is_answered: AtomicBool,
    /// Of a call: given back with the connection.
    place: Option<Place>,
}

impl Asking {
    pub(crate) fn new(
        conn: Object<AsyncPgConnection>,
        login: Arc<Login>,
        place: Option<Place>,
    ) -> Self {
        Asking {
            conn: Some(conn),
            login,
            is_begun: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            place,
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(Object::take(conn));
            return;
        };
        let is_begun = *self.is_begun.get_mut();
        if !is_begun && !self.login.keeps_server() {
            // It may get into a transaction yet, which would keep a pooler's connection from others.
            drop(Object::take(conn));
            return;
        }
        let (login, place) = (Arc::clone(&self.login), self.place.take());
        let is_answered = *self.is_answered.get_mut();
        runtime.spawn(async move {
            if is_answered {
                end(conn).await;
            } else {
                undo(conn, login).await;
            }
            drop(place);
        });
    }
}

/// Ends a transaction that has only read. A connection of which that is not certain is closed.
async fn end(mut conn: Object<AsyncPgConnection>) {
    match timeout(ANSWER, conn.batch_execute("COMMIT")).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::debug!(%error, "the end of a read"),
        Err(_) => tracing::debug!("the database does not end a read"),
    }
    drop(Object::take(conn));
}
