//! What servers look at again and again: which accounts of tenants there are, as of which revision, and
//! for which something is due.

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Account, COLUMNS};
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// An account as of now.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Seen {
    /// Its tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: Uuid,
    /// Its id.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// Counts its changes.
    #[diesel(sql_type = BigInt)]
    pub revision: i64,
    /// Its messages are due, and neither is it paused nor held.
    #[diesel(sql_type = Bool)]
    pub due: bool,
}

/// All accounts of all tenants but those that are deleted: a jump in an index for each.
pub async fn seen(store: &Store) -> Result<Vec<Seen>> {
    let mut tx = store.begin_worker().await?;
    let rows = diesel::sql_query(
        "SELECT a.tenant_id, a.id, a.revision, NOT a.paused
                AND EXISTS (SELECT FROM message m
                            WHERE m.tenant_id = a.tenant_id AND m.account = a.id
                              AND m.state = 'queued' AND m.next_attempt_at <= now())
                AND NOT EXISTS (SELECT FROM account_pace p
                                WHERE p.tenant_id = a.tenant_id AND p.account = a.id
                                  AND p.held_until > now()) AS due
         FROM channel_account a WHERE a.deleted_at IS NULL",
    )
    .fixed()
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows)
}

/// These accounts, as far as they are there.
pub async fn load(store: &Store, keys: &[(TenantId, &str)]) -> Result<Vec<Account>> {
    let mut tx = store.begin_worker().await?;
    let rows = diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM channel_account
         WHERE deleted_at IS NULL
           AND (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))"
    ))
    .bind::<Array<SqlUuid>, _>(keys.iter().map(|(t, _)| t.0).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(keys.iter().map(|(_, id)| *id).collect::<Vec<_>>())
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows)
}

/// A deleted account, for which something may still wait.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Replaced {
    /// Its tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: Uuid,
    /// Its id.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// Who replaces it.
    #[diesel(sql_type = Text)]
    pub replaced_by: String,
}

/// The deleted accounts of all tenants that are not wound up.
pub async fn replaced(store: &Store) -> Result<Vec<Replaced>> {
    let mut tx = store.begin_worker().await?;
    let rows = diesel::sql_query(
        "SELECT tenant_id, id, replaced_by FROM channel_account WHERE deleted_at IS NOT NULL",
    )
    .fixed()
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows)
}

/// Forgets a deleted account when nothing of it is left to be sent or decided; says whether it did.
pub async fn wind_up(conn: &mut Conn, tenant: TenantId, id: &str) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Left {
        #[diesel(sql_type = Nullable<SqlUuid>)]
        id: Option<Uuid>,
    }
    let left: Left = diesel::sql_query(
        "SELECT (SELECT m.id FROM message m WHERE m.tenant_id = $1 AND m.account = $2
                   AND m.state IN ('queued', 'sending', 'ambiguous') LIMIT 1) AS id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .get_result(conn)
    .await?;
    if left.id.is_some() {
        return Ok(false);
    }
    forget(conn, tenant, id).await?;
    Ok(true)
}

/// Removes an account and its pace.
pub(super) async fn forget(conn: &mut Conn, tenant: TenantId, id: &str) -> Result<()> {
    diesel::sql_query(
        "WITH pace AS (DELETE FROM account_pace WHERE tenant_id = $1 AND account = $2)
         DELETE FROM channel_account WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .execute(conn)
    .await?;
    Ok(())
}
