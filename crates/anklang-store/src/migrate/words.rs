//! Whether a migration failed as others were in its way. Of errors of migrations diesel keeps no more than the words,
//! which are in the language of the database.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::login::Login;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// How PostgreSQL says so in English.
const ENGLISH: [&str; 2] = ["lock timeout", "deadlock detected"];

/// Keys of advisory locks that are only in each other's way: "anklwor1" and "anklwor2" in ASCII.
const ONE: i64 = 0x61_6e_6b_6c_77_6f_72_31;
const OTHER: i64 = 0x61_6e_6b_6c_77_6f_72_32;

/// Knows how a database says so.
pub(super) struct Words<'a> {
    login: &'a Login,
    learned: Option<Vec<String>>,
}

impl<'a> Words<'a> {
    pub(super) fn of(login: &'a Login) -> Words<'a> {
        let learned = None;
        Words { login, learned }
    }

    /// Whether the error says that others were in the way. Of one that does not in English the database is asked, once,
    /// for its own words.
    pub(super) async fn blame_others(&mut self, error: &str) -> bool {
        if ENGLISH.iter().any(|words| error.contains(words)) {
            return true;
        }
        if self.learned.is_none() {
            let learned = learn(self.login).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "it is not known how the database says that a lock was not to be had");
                Vec::new()
            });
            self.learned = Some(learned);
        }
        let mut learned = self.learned.iter().flatten();
        learned.any(|words| error.contains(words.as_str()))
    }
}

/// What the database says of a lock that was waited for too long, and of a deadlock: it is made to say it.
async fn learn(login: &Login) -> Result<Vec<String>> {
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
    let said = [
        message(too_long, &SqlState::LOCK_NOT_AVAILABLE),
        message(first, &SqlState::T_R_DEADLOCK_DETECTED),
        message(second, &SqlState::T_R_DEADLOCK_DETECTED),
    ];
    Ok(said.into_iter().flatten().collect())
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

    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn the_database_says_in_its_own_words_that_others_are_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options::test(folder.path().join("db"));
        let cluster = Cluster::start(options).await.unwrap();
        let store = Store::new(&cluster.url("postgres"), 1).unwrap();
        let login = store.session().unwrap();
        let words = learn(login).await.unwrap();
        assert_eq!(
            words,
            [
                "canceling statement due to lock timeout",
                "deadlock detected"
            ]
        );

        let mut words = Words::of(login);
        assert!(words.blame_others("with: deadlock detected").await);
        assert!(
            words.learned.is_none(),
            "nobody need be asked what is English"
        );
        assert!(!words.blame_others("with: division by zero").await);
        assert_eq!(words.learned.as_ref().map(Vec::len), Some(2));
        // As a database of another language has said it.
        words.learned = Some(vec!["Verklemmung entdeckt".into()]);
        assert!(words.blame_others("with: Verklemmung entdeckt").await);
        assert!(!words.blame_others("with: Division durch Null").await);
    }
}
