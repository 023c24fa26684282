//! Removes entries that are too old, by functions of the tables' owner (migration `audit_further`).

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::{TenantRow, take_turn};
use crate::{Result, Store};

/// The tenants.
pub async fn tenants(store: &Store) -> Result<Vec<TenantId>> {
    let mut tx = store.begin_worker().await?;
    let rows: Vec<TenantRow> = diesel::sql_query("SELECT id FROM tenant ORDER BY id")
        .load(&mut tx)
        .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|row| TenantId(row.id)).collect())
}

/// What a turn of the retention did with a tenant's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Retired {
    /// Entries that went.
    #[diesel(sql_type = BigInt)]
    pub removed: i64,
    /// An entry was written that says which go next, once it is sealed.
    #[diesel(sql_type = Bool)]
    pub told: bool,
}

/// Removes the entries of which an entry says so, and says which go next: those that are older than so many days, at
/// most `limit`; once a day, unless there are so many. Nothing, when another server is at it.
pub async fn retire(
    store: &Store,
    tenant: TenantId,
    keep_days: i32,
    limit: i32,
) -> Result<Retired> {
    let mut tx = store.begin_worker().await?;
    if !take_turn(&mut tx, tenant).await? {
        tx.rollback().await?;
        return Ok(Retired::default());
    }
    let removed: Retired =
        diesel::sql_query("SELECT anklang_audit_remove($1) AS removed, false AS told")
            .bind::<SqlUuid, _>(tenant.0)
            .get_result(&mut tx)
            .await?;
    let told: Retired =
        diesel::sql_query("SELECT 0::bigint AS removed, anklang_audit_retire($1, $2, $3) AS told")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Integer, _>(keep_days)
            .bind::<Integer, _>(limit)
            .get_result(&mut tx)
            .await?;
    tx.commit().await?;
    Ok(Retired {
        told: told.told,
        ..removed
    })
}
