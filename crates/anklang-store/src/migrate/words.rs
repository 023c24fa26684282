//! Whether a migration failed as others were in its way. Of errors of migrations diesel keeps no more than the words,
//! which are in the language of the database.

use crate::login::Login;
use crate::words::of_locks;

/// How PostgreSQL says so in English.
const ENGLISH: [&str; 2] = ["lock timeout", "deadlock detected"];

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

/// What the database says of a lock that was waited for too long, and of a deadlock.
async fn learn(login: &Login) -> Result<Vec<String>, tokio_postgres::Error> {
    let said = of_locks(login).await?;
    Ok([said.too_long, said.deadlock]
        .into_iter()
        .flatten()
        .collect())
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
