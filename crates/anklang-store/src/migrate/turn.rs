//! Whose turn it is: whoever runs migrations has an advisory lock, and the others wait for that.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio::time::Instant;

use crate::Result;

/// Key of the advisory lock under which migrations run, so that several servers starting at once
/// run each of them once: "anklang" in ASCII.
const LOCK: i64 = 0x61_6e_6b_6c_61_6e_67;

/// Who waits says so after a while, and then now and again.
const FIRST_WORD: Duration = Duration::from_secs(5);
const NEXT_WORD: Duration = Duration::from_secs(60);

#[derive(QueryableByName)]
struct Turn {
    #[diesel(sql_type = Bool)]
    is_ours: bool,
}

#[derive(QueryableByName)]
struct Holder {
    #[diesel(sql_type = Integer)]
    pid: i32,
}

/// One who waits for the turn.
pub(super) struct Waiting {
    since: Instant,
    next_word: Instant,
}

impl Waiting {
    /// From now on.
    pub(super) fn begin() -> Waiting {
        let since = Instant::now();
        let next_word = since + FIRST_WORD;
        Waiting { since, next_word }
    }

    /// Asks by a function of PostgreSQL whether it is our turn. Nobody waits for it inside of a statement: an index that
    /// is made concurrently waits for the statements that began before it. When it is not, and was not for long, the
    /// log says whose it is.
    pub(super) async fn is_over(
        &mut self,
        conn: &mut AsyncPgConnection,
        function: &str,
    ) -> Result<bool> {
        let sql = format!("SELECT {function}($1) AS is_ours");
        let Turn { is_ours } = diesel::sql_query(sql)
            .bind::<BigInt, _>(LOCK)
            .get_result(conn)
            .await?;
        if !is_ours && Instant::now() >= self.next_word {
            self.next_word = Instant::now() + NEXT_WORD;
            let waited = self.since.elapsed().as_secs();
            // Whose it is is no more than a word: who cannot be told waits all the same.
            match holders(conn).await {
                Ok(holders) => {
                    for Holder { pid } in holders {
                        tracing::warn!(pid, waited_seconds = waited, "waits for whoever migrates");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, waited_seconds = waited, "waits for whoever migrates");
                }
            }
        }
        Ok(is_ours)
    }
}

/// Whose turn it is, as PostgreSQL counts its processes: nobody's, when that has just ended.
async fn holders(conn: &mut AsyncPgConnection) -> Result<Vec<Holder>> {
    // A key of 64 bits is shown as two of 32.
    let sql = "SELECT pid FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND objsubid = 1
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (classid::bigint << 32) + objid::bigint = $1";
    let holders = diesel::sql_query(sql).bind::<BigInt, _>(LOCK);
    Ok(holders.load(conn).await?)
}
