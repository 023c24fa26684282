//! What the database says in its own language. Of most errors diesel keeps no more than the words, and the SQLSTATE is
//! lost; so a database that does not speak English is made to say what has to be known again.

use std::sync::{PoisonError, RwLock};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::connections::Probe;
use crate::error::said;
use crate::login::Login;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Keys of advisory locks that are only in each other's way: "anklwor1" and "anklwor2" in ASCII.
const ONE: i64 = 0x61_6e_6b_6c_77_6f_72_31;
const OTHER: i64 = 0x61_6e_6b_6c_77_6f_72_32;

/// An error that nobody sees, neither here nor in the database's log, and its words.
const SAY: &str = "DO $$ BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN
        PERFORM set_config('anklang.said', SQLERRM, true); END $$;
    SELECT current_setting('anklang.said')";

/// [`SAY`] in English.
const ENGLISH: &str = "division by zero";

/// What passes, as databases of other languages have said it.
static PASSING: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Whether a database has said this of what passes.
pub(crate) fn pass(message: &str) -> bool {
    let learned = PASSING.read().unwrap_or_else(PoisonError::into_inner);
    learned.iter().any(|words| words == message)
}

/// Has a database that does not speak English say how it ends a connection, and how it tells of a deadlock; gives
/// whether it did. Other databases are only asked for their language.
pub(crate) async fn learn(login: &Login) -> std::result::Result<bool, String> {
    let words = Probe::ask(&mut None, login, SAY).await;
    if words.ok_or("it does not answer")? == ENGLISH {
        return Ok(false);
    }
    let unknown = |error: tokio_postgres::Error| said(&error);
    // What is quick first: of locks something is said after `deadlock_timeout`.
    remember(of_an_end(login).await.map_err(unknown)?);
    remember(of_locks(login).await.map_err(unknown)?.deadlock);
    Ok(true)
}

fn remember(words: Option<String>) {
    if let Some(words) = words.filter(|words| !pass(words)) {
        let mut learned = PASSING.write().unwrap_or_else(PoisonError::into_inner);
        learned.push(words);
    }
}

/// What is said to whoever is connected when the server stops, or an administrator ends the connection.
async fn of_an_end(login: &Login) -> Result<Option<String>> {
    let client = open(login).await?;
    let ended = client
        .batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")
        .await;
    Ok(message(ended, &SqlState::ADMIN_SHUTDOWN))
}

/// What is said of locks.
pub(crate) struct OfLocks {
    /// One was waited for too long.
    pub(crate) too_long: Option<String>,
    /// Two who wait for each other.
    pub(crate) deadlock: Option<String>,
}

/// Has the database say it.
pub(crate) async fn of_locks(login: &Login) -> Result<OfLocks> {
    let lock = |key: i64| format!("SELECT pg_advisory_xact_lock({key})");
    let (one, other) = (open(login).await?, open(login).await?);
    // Nobody waits for ever, whatever happens.
    let begin = "BEGIN; SET LOCAL lock_timeout = '10s'";
    let holds = format!("{begin}; {}", lock(ONE));
    one.batch_execute(&holds).await?;
    let impatient = format!("BEGIN; SET LOCAL lock_timeout = 1; {}", lock(ONE));
    let too_long = other.batch_execute(&impatient).await;

    let holds = format!("ROLLBACK; {begin}; {}", lock(OTHER));
    other.batch_execute(&holds).await?;
    let (wants_other, wants_one) = (lock(OTHER), lock(ONE));
    // The one that fails lets go of its lock.
    let (first, second) = tokio::join!(
        one.batch_execute(&wants_other),
        other.batch_execute(&wants_one)
    );
    let code = &SqlState::T_R_DEADLOCK_DETECTED;
    Ok(OfLocks {
        too_long: message(too_long, &SqlState::LOCK_NOT_AVAILABLE),
        deadlock: message(first, code).or_else(|| message(second, code)),
    })
}

/// What was said, if it is of that code.
fn message(result: Result<()>, code: &SqlState) -> Option<String> {
    let error = result.err()?;
    let told = error.as_db_error()?;
    (told.code() == code && !told.message().is_empty()).then(|| told.message().to_owned())
}

async fn open(login: &Login) -> Result<Client> {
    let (client, connection) = login.connect().await?;
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use anklang_local::cluster::{Cluster, Options};
    use diesel_async::RunQueryDsl;

    use super::*;
    use crate::{Store, StoreError};

    /// What a transaction is told whose connection is ended.
    async fn ended(store: &Store) -> StoreError {
        let mut tx = store.begin_plain().await.unwrap();
        let ends = diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())");
        ends.execute(&mut tx).await.unwrap_err().into()
    }

    #[tokio::test]
    async fn a_database_of_another_language_is_asked_how_it_says_that_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options::test(folder.path().join("db")).speaking("de");
        let cluster = Cluster::start(options).await.unwrap();
        let store = Store::new(&cluster.url("postgres"), 1).unwrap();
        let speaks_german = store.learn_words().await;
        let told = ended(&store).await;
        assert!(told.is_transient(), "{told}");
        // Where the catalogue is not installed, it speaks English.
        assert_eq!(
            speaks_german,
            !told.to_string().starts_with("terminating connection")
        );
        let learned = PASSING.read().unwrap().len();
        assert_eq!(learned, if speaks_german { 2 } else { 0 });
        assert!(!pass("Division durch Null"));
    }

    #[tokio::test]
    async fn a_database_that_speaks_english_is_asked_no_more_than_that() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = Cluster::start(Options::test(folder.path().join("db")));
        let cluster = cluster.await.unwrap();
        let store = Store::new(&cluster.url("postgres"), 1).unwrap();
        assert!(!store.learn_words().await);
        assert!(!pass("deadlock detected"));
        let log = fs::read_to_string(cluster.log_file()).unwrap();
        let is_told = ["ERROR", "terminating connection"].map(|words| log.contains(words));
        assert_eq!(is_told, [false, false], "{log}");
    }
}
