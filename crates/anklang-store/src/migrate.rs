//! Migrations, embedded in the binary.

use std::collections::HashSet;

use diesel::QueryableByName;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::{Result, Store, StoreError};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Key of the advisory lock under which migrations run, so that several servers starting at once
/// run each of them once: "anklang" in ASCII.
const LOCK: i64 = 0x61_6e_6b_6c_61_6e_67;

/// Runs all that have not run yet; returns their versions. Needs a multi-threaded runtime.
pub async fn up(store: &Store) -> Result<Vec<String>> {
    run(store, |harness| {
        harness
            .run_pending_migrations(MIGRATIONS)
            .map(|versions| versions.iter().map(ToString::to_string).collect())
    })
    .await
}

/// Reverts the last `count`; returns their versions.
pub async fn down(store: &Store, count: usize) -> Result<Vec<String>> {
    run(store, |harness| {
        (0..count)
            .map(|_| {
                harness
                    .revert_last_migration(MIGRATIONS)
                    .map(|v| v.to_string())
            })
            .collect()
    })
    .await
}

#[derive(QueryableByName)]
struct Known {
    #[diesel(sql_type = Bool)]
    is_known: bool,
}

#[derive(QueryableByName)]
struct Ran {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Versions that have not run yet. In one transaction, which also a pooler leaves on one server; whoever runs
/// migrations is waited for.
pub async fn pending(store: &Store) -> Result<Vec<String>> {
    let mut tx = store.begin_plain().await?;
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
        .bind::<BigInt, _>(LOCK)
        .execute(&mut tx)
        .await?;
    let table = "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS is_known";
    let Known { is_known } = diesel::sql_query(table).get_result(&mut tx).await?;
    let ran: Vec<Ran> = match is_known {
        false => Vec::new(),
        true => {
            let all = "SELECT version FROM __diesel_schema_migrations";
            diesel::sql_query(all).load(&mut tx).await?
        }
    };
    tx.commit().await?;
    let ran: HashSet<String> = ran.into_iter().map(|ran| ran.version).collect();
    let all = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|e| StoreError::Stored(format!("migrations: {e}")))?;
    let mut versions: Vec<String> = all.iter().map(|m| m.name().version().to_string()).collect();
    versions.retain(|version| !ran.contains(version));
    versions.sort();
    Ok(versions)
}

async fn run<T>(
    store: &Store,
    work: impl FnOnce(&mut AsyncMigrationHarness<AsyncPgConnection>) -> diesel::migration::Result<T>,
) -> Result<T> {
    let mut conn = store
        .session()?
        .establish()
        .await
        .map_err(|e| StoreError::Pool(e.to_string()))?;
    diesel::sql_query("SELECT pg_advisory_lock($1)")
        .bind::<BigInt, _>(LOCK)
        .execute(&mut conn)
        .await?;
    // The lock goes with the connection.
    let mut harness = AsyncMigrationHarness::new(conn);
    work(&mut harness).map_err(|e| StoreError::Stored(format!("migration: {e}")))
}
