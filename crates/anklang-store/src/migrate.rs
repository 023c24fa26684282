//! Migrations, embedded in the binary.
//!
//! They run while servers work. Whoever waits for a lock on a table has everybody behind it who comes later, even if
//! it will have to wait long: so a migration waits for a moment only, lets the others go first, and is tried again.

mod turn;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use diesel::QueryableByName;
use diesel::connection::BoxableConnection;
use diesel::migration::{self, Migration, MigrationMetadata, MigrationName, MigrationSource};
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::time::sleep;

use self::turn::Waiting;
use self::words::Words;
use crate::{Conn, Result, Store, StoreError};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// How long a migration waits for a lock, and others behind it. Longer than `deadlock_timeout` (one second), after
/// which PostgreSQL has an autovacuum leave that is in the way.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// How often a migration is tried that finds others in its way: for about ten minutes.
const ATTEMPTS: u32 = 30;

/// How long the others have then: after the first attempt, and at most. Each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How often it is looked whether whoever migrates is done.
const TURN: Duration = Duration::from_millis(250);

type Harness = AsyncMigrationHarness<AsyncPgConnection>;

/// Runs all that have not run yet; returns their versions. Needs a multi-threaded runtime.
pub async fn up(store: &Store) -> Result<Vec<String>> {
    let mut ran = Vec::new();
    up_telling(store, |version| ran.push(version.to_owned())).await?;
    Ok(ran)
}

/// [`up`], which tells of each when it is done: a later one may fail. When all have run, nothing is done that wants
/// more rights than looking.
pub async fn up_telling(store: &Store, mut tell: impl FnMut(&str)) -> Result<()> {
    if pending(store).await?.is_empty() {
        return Ok(());
    }
    let mut session = Session::open(store).await?;
    while let Some(version) = session.step(run_next).await? {
        tracing::info!(version, "migrated");
        tell(&version);
    }
    Ok(())
}

fn run_next(harness: &mut Harness) -> migration::Result<Option<String>> {
    let pending = harness.pending_migrations(Yielding)?;
    let Some(next) = pending.as_slice().first() else {
        return Ok(None);
    };
    let ran = harness.run_migration(next)?;
    Ok(Some(ran.to_string()))
}

/// Reverts the last `count`, and tells the version of each when it is done.
pub async fn down(store: &Store, count: usize, mut tell: impl FnMut(&str)) -> Result<()> {
    let mut session = Session::open(store).await?;
    for _ in 0..count {
        let version = session.step(revert_last).await?;
        tracing::info!(version, "a migration was reverted");
        tell(&version);
    }
    Ok(())
}

fn revert_last(harness: &mut Harness) -> migration::Result<String> {
    let reverted = harness.revert_last_migration(Yielding)?;
    Ok(reverted.to_string())
}

/// The migrations, each of which waits for a lock no longer than [`LOCK_WAIT`].
struct Yielding;

impl MigrationSource<Pg> for Yielding {
    fn migrations(&self) -> migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        let all = MigrationSource::<Pg>::migrations(&MIGRATIONS)?;
        let brief = |m| Box::new(Brief(m)) as Box<dyn Migration<Pg>>;
        Ok(all.into_iter().map(brief).collect())
    }
}

struct Brief(Box<dyn Migration<Pg>>);

impl Brief {
    /// In its transaction alone. What runs outside of one, an index that is made concurrently, holds up nobody, and
    /// has to wait for transactions that were there before, however long they take.
    fn hurry(&self, conn: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
        if self.0.metadata().run_in_transaction() {
            let wait = LOCK_WAIT.as_millis();
            conn.batch_execute(&format!("SET LOCAL lock_timeout = {wait}"))?;
        }
        Ok(())
    }

    /// What has become of it.
    fn ended(&self, result: migration::Result<()>) -> migration::Result<()> {
        match self.0.metadata().run_in_transaction() {
            true => result,
            false => result.map_err(|error| Halfway(error).into()),
        }
    }
}

impl Migration<Pg> for Brief {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
        self.hurry(conn)?;
        self.ended(self.0.run(conn))
    }

    fn revert(&self, conn: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
        self.hurry(conn)?;
        self.ended(self.0.revert(conn))
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self.0.metadata()
    }

    fn name(&self) -> &dyn MigrationName {
        self.0.name()
    }
}

/// A migration without a transaction has failed. Tried again by itself it would stumble over what it has left.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}; it runs outside of a transaction and may have left an invalid index: drop that, and migrate again"
)]
struct Halfway(Box<dyn std::error::Error + Send + Sync>);

#[derive(QueryableByName)]
struct Known {
    #[diesel(sql_type = Bool)]
    is_known: bool,
    #[diesel(sql_type = Bool)]
    may_look: bool,
}

#[derive(QueryableByName)]
struct Ran {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Text)]
    at: String,
}

/// What has become of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has run, at this time by the database's clock.
    Ran(String),
    /// It has not run yet.
    Pending,
    /// It has run, and is none of this program's: a later version's.
    Unknown(String),
}

/// All migrations by version, with what has become of them. Waits for nobody.
pub async fn list(store: &Store) -> Result<BTreeMap<String, State>> {
    let mut tx = store.begin_plain().await?;
    let ran = ran(&mut tx).await?;
    tx.commit().await?;
    let known = known()?;
    let mut all: BTreeMap<String, State> = ran
        .into_iter()
        .map(|(version, at)| match known.contains(&version) {
            true => (version, State::Ran(at)),
            false => (version, State::Unknown(at)),
        })
        .collect();
    for version in known {
        all.entry(version).or_insert(State::Pending);
    }
    Ok(all)
}

/// Versions that have not run yet. In one transaction, which also a pooler leaves on one server; whoever runs
/// migrations is waited for.
pub async fn pending(store: &Store) -> Result<Vec<String>> {
    let mut waiting = Waiting::begin();
    let mut tx = store.begin_plain().await?;
    while !waiting
        .is_over(&mut tx, "pg_try_advisory_xact_lock")
        .await?
    {
        tx.rollback().await?;
        sleep(TURN).await;
        tx = store.begin_plain().await?;
    }
    let ran = ran(&mut tx).await?;
    tx.commit().await?;
    let mut versions = known()?;
    versions.retain(|version| !ran.contains_key(version));
    Ok(versions.into_iter().collect())
}

/// Versions that have run, and when.
async fn ran(conn: &mut Conn) -> Result<BTreeMap<String, String>> {
    let table = "SELECT found IS NOT NULL AS is_known,
                        coalesce(has_table_privilege(found, 'SELECT'), true) AS may_look
                 FROM to_regclass('__diesel_schema_migrations') found";
    let Known { is_known, may_look } = diesel::sql_query(table).get_result(conn).await?;
    if !may_look {
        return Err(StoreError::MayNotLook);
    }
    let ran: Vec<Ran> = match is_known {
        false => Vec::new(),
        true => {
            let all = "SELECT version::text, to_char(run_on, 'YYYY-MM-DD HH24:MI:SS') AS at
                       FROM __diesel_schema_migrations";
            diesel::sql_query(all).load(conn).await?
        }
    };
    Ok(ran.into_iter().map(|ran| (ran.version, ran.at)).collect())
}

/// Versions that this program has.
fn known() -> Result<BTreeSet<String>> {
    let all = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|e| StoreError::Stored(format!("migrations: {e}")))?;
    Ok(all.iter().map(|m| m.name().version().to_string()).collect())
}

/// The connection of whoever runs migrations. The lock goes with it.
struct Session<'a> {
    harness: Harness,
    words: Words<'a>,
}

impl<'a> Session<'a> {
    async fn open(store: &'a Store) -> Result<Session<'a>> {
        let login = store.session()?;
        let mut conn = login
            .establish()
            .await
            .map_err(|e| StoreError::Pool(e.to_string()))?;
        let mut waiting = Waiting::begin();
        while !waiting.is_over(&mut conn, "pg_try_advisory_lock").await? {
            sleep(TURN).await;
        }
        Ok(Session {
            harness: AsyncMigrationHarness::new(conn),
            words: Words::of(login),
        })
    }

    /// Tries one migration, as often as it takes.
    async fn step<T>(&mut self, work: fn(&mut Harness) -> migration::Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            let (error, left_nothing) = match work(&mut self.harness) {
                Ok(done) => return Ok(done),
                Err(error) => (error.to_string(), !error.is::<Halfway>()),
            };
            let again = left_nothing && attempt < ATTEMPTS;
            if !(again && self.words.blame_others(&error).await) {
                return Err(StoreError::Stored(format!("migration: {error}")));
            }
            let pause = pause_after(attempt);
            tracing::warn!(%error, attempt, ?pause, "a migration lets others go first");
            sleep(pause).await;
            attempt += 1;
        }
    }
}

fn pause_after(attempt: u32) -> Duration {
    let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an index that is made concurrently, and dies of a deadlock.
    struct Outside;

    impl MigrationMetadata for Outside {
        fn run_in_transaction(&self) -> bool {
            false
        }
    }

    impl MigrationName for Outside {
        fn version(&self) -> migration::MigrationVersion<'_> {
            "20991231000000".into()
        }
    }

    impl std::fmt::Display for Outside {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outside")
        }
    }

    impl Migration<Pg> for Outside {
        fn run(&self, _: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
            Ok(())
        }

        fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
            Ok(())
        }

        fn metadata(&self) -> &dyn MigrationMetadata {
            self
        }

        fn name(&self) -> &dyn MigrationName {
            self
        }
    }

    #[test]
    fn what_fails_outside_of_a_transaction_is_told_from_the_rest() {
        let brief = Brief(Box::new(Outside));
        assert!(brief.ended(Ok(())).is_ok());
        let error = brief.ended(Err("deadlock detected".into())).err();
        let error = error.filter(|error| error.is::<Halfway>());
        let said = error.map(|error| error.to_string());
        assert!(
            said.is_some_and(|said| said.starts_with("deadlock detected; it runs outside")),
            "it would be tried again, and find its own index"
        );
    }

    #[test]
    fn others_get_ever_more_time() {
        let pauses: Vec<Duration> = (1..=ATTEMPTS).map(pause_after).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.as_slice().first(), Some(&FIRST_PAUSE));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
