//! Stops work at a point of the test's choice.

use anklang_testkit::TestServer;

use crate::utility::until;

/// Holds work up behind the server's back until it is told to go on.
pub struct Hold(tokio_postgres::Client);

impl Hold {
    /// Before rows of a table are inserted, those that a condition on NEW picks.
    pub async fn inserts(server: &TestServer, table: &str, condition: &str) -> Self {
        Hold::before("INSERT", server, table, condition).await
    }

    /// Before rows of a table are updated, those that a condition on OLD and NEW picks.
    pub async fn updates(server: &TestServer, table: &str, condition: &str) -> Self {
        Hold::before("UPDATE", server, table, condition).await
    }

    async fn before(event: &str, server: &TestServer, table: &str, condition: &str) -> Self {
        let connection = server.database.connect().await.unwrap();
        let sql = format!(
            "SELECT pg_advisory_lock(1);
             CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
             CREATE TRIGGER hold BEFORE {event} ON {table}
                 FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION hold()"
        );
        connection.batch_execute(&sql).await.unwrap();
        Hold(connection)
    }

    /// Until somebody waits.
    pub async fn reached(&self) {
        until("the work gets to where it is held", async || {
            let waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1
                           AND NOT granted AND database = (SELECT oid FROM pg_database
                           WHERE datname = current_database())";
            !self.0.query(waiting, &[]).await.unwrap().is_empty()
        })
        .await;
    }

    /// Lets all go on.
    pub async fn release(&self) {
        self.0
            .batch_execute("SELECT pg_advisory_unlock(1)")
            .await
            .unwrap();
    }
}
