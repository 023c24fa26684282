//! How fast a tenant may send through an account. Kept in the database, so that it outlives
//! restarts and holds for all servers together.

use anklang_domain::TenantId;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Double, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::message::{printable, seconds};
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// Where an account stands for a tenant.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Pace {
    /// When the next place is due, see [`anklang_domain::rate`].
    #[diesel(sql_type = Timestamptz)]
    pub free_at: DateTime<Utc>,
    /// The database's clock: the one that all servers share.
    #[diesel(sql_type = Timestamptz)]
    pub now: DateTime<Utc>,
}

/// Reads where the account stands and holds it until the end of the transaction: who claims takes
/// turns.
pub(crate) async fn lock(conn: &mut Conn, tenant: TenantId, account: &str) -> Result<Pace> {
    // The clock is read when the row is held, not when it was asked for.
    Ok(diesel::sql_query(
        "INSERT INTO account_pace AS p (tenant_id, account, free_at) VALUES ($1, $2, now())
         ON CONFLICT (tenant_id, account) DO UPDATE SET free_at = p.free_at
         RETURNING p.free_at, clock_timestamp() AS now",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .fixed()
    .get_result(conn)
    .await?)
}

/// Notes when the next place is due, under [`lock`].
pub(crate) async fn spend(
    conn: &mut Conn,
    tenant: TenantId,
    account: &str,
    free_at: DateTime<Utc>,
) -> Result<()> {
    diesel::sql_query("UPDATE account_pace SET free_at = $3 WHERE tenant_id = $1 AND account = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(account)
        .bind::<Timestamptz, _>(free_at)
        .fixed()
        .execute(conn)
        .await?;
    Ok(())
}

/// Holds the whole account of a tenant for so long: its channel asked for it. A longer hold stays. Holds
/// with less than a minute between them are one, as far as it matters since when it is held.
pub async fn hold(
    store: &Store,
    tenant: TenantId,
    account: &str,
    span: TimeDelta,
    reason: &str,
) -> Result<()> {
    let mut tx = store.begin(tenant).await?;
    diesel::sql_query(
        "INSERT INTO account_pace AS p (tenant_id, account, free_at, held_until, held_reason,
                                        held_since)
         VALUES ($1, $2, now(), now() + make_interval(secs => $3), $4, now())
         ON CONFLICT (tenant_id, account) DO UPDATE
         SET held_until = excluded.held_until, held_reason = excluded.held_reason,
             held_since = CASE WHEN p.held_until > now() - interval '1 minute'
                               THEN coalesce(p.held_since, now()) ELSE now() END
         WHERE p.held_until IS NULL OR p.held_until < excluded.held_until",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .bind::<Double, _>(seconds(span))
    .bind::<Text, _>(printable(reason))
    .execute(&mut tx)
    .await?;
    tx.commit().await
}

/// An account that its channel wants to be left alone.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Held {
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Until when.
    #[diesel(sql_type = Timestamptz)]
    pub held_until: DateTime<Utc>,
    /// What the channel said.
    #[diesel(sql_type = Text)]
    pub held_reason: String,
}

/// A tenant's accounts that are held now.
pub async fn held(conn: &mut Conn, tenant: TenantId) -> Result<Vec<Held>> {
    Ok(diesel::sql_query(
        "SELECT account, held_until, held_reason FROM account_pace
         WHERE tenant_id = $1 AND held_until > now()",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .load(conn)
    .await?)
}
