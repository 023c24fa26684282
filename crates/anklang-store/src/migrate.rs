//! Migrations, embedded in the binary.

use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
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

/// Versions that have not run yet.
pub async fn pending(store: &Store) -> Result<Vec<String>> {
    run(store, |harness| {
        harness
            .pending_migrations(MIGRATIONS)
            .map(|all| all.iter().map(|m| m.name().version().to_string()).collect())
    })
    .await
}

async fn run<T>(
    store: &Store,
    work: impl FnOnce(&mut AsyncMigrationHarness<AsyncPgConnection>) -> diesel::migration::Result<T>,
) -> Result<T> {
    use diesel_async::RunQueryDsl;
    let mut conn = store
        .login()
        .establish()
        .await
        .map_err(|e| StoreError::Pool(e.to_string()))?;
    diesel::sql_query("SELECT pg_advisory_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(LOCK)
        .execute(&mut conn)
        .await?;
    // The lock goes with the connection.
    let mut harness = AsyncMigrationHarness::new(conn);
    work(&mut harness).map_err(|e| StoreError::Stored(format!("migration: {e}")))
}
