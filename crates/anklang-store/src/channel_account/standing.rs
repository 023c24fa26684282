//! How accounts stand, of tenants and of the configuration file: whether they can send, whether they
//! are held. Routes go by it.
//!
//! A server that finds an account unable to send notes it; from then on one server at a time asks it
//! whether it can again ([`claim_probes`]), and clears the note ([`recovered`]). So the note is that of
//! all servers together: while one of them can send, it does not last.

use std::collections::BTreeMap;

use anklang_domain::TenantId;
use anklang_domain::route::Standing;
use chrono::TimeDelta;
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Double, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::message::{printable, seconds};
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// Notes that an account cannot send. Since when stays as it is.
pub async fn failing(
    store: &Store,
    tenant: TenantId,
    account: &str,
    reason: &str,
    probe_in: TimeDelta,
) -> Result<()> {
    let mut tx = store.begin(tenant).await?;
    diesel::sql_query(
        "INSERT INTO account_pace AS p (tenant_id, account, free_at, failing_since, failing_reason,
                                        probe_at)
         VALUES ($1, $2, now(), now(), $3, now() + make_interval(secs => $4))
         ON CONFLICT (tenant_id, account) DO UPDATE
         SET failing_since = coalesce(p.failing_since, now()), failing_reason = $3,
             probe_at = coalesce(p.probe_at, excluded.probe_at)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .bind::<Text, _>(printable(reason))
    .bind::<Double, _>(seconds(probe_in))
    .execute(&mut tx)
    .await?;
    tx.commit().await
}

/// Notes that an account can send again.
pub async fn recovered(store: &Store, tenant: TenantId, account: &str) -> Result<()> {
    let mut tx = store.begin(tenant).await?;
    diesel::sql_query(
        "UPDATE account_pace SET failing_since = NULL, failing_reason = '', probe_at = NULL
         WHERE tenant_id = $1 AND account = $2 AND failing_since IS NOT NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .execute(&mut tx)
    .await?;
    tx.commit().await
}

/// A failing account that is to be asked.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Probe {
    /// For whom it fails.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: Uuid,
    /// Its id.
    #[diesel(sql_type = Text)]
    pub account: String,
}

/// Takes failing accounts that are due to be asked, of those that this server has open: the tenants'
/// `own`, and those of the configuration file. Nobody else takes them before `again_in`.
pub async fn claim_probes(
    store: &Store,
    own: &[(TenantId, String)],
    configured: &[String],
    again_in: TimeDelta,
) -> Result<Vec<Probe>> {
    let mut tx = store.begin_worker().await?;
    let found = diesel::sql_query(
        "UPDATE account_pace p SET probe_at = now() + make_interval(secs => $4)
         WHERE p.failing_since IS NOT NULL AND p.probe_at <= now()
           AND (p.account = ANY($3) AND NOT EXISTS (
                    SELECT FROM channel_account a WHERE a.tenant_id = p.tenant_id AND a.id = p.account)
             OR (p.tenant_id, p.account) IN (SELECT * FROM unnest($1::uuid[], $2::text[])))
         RETURNING p.tenant_id, p.account",
    )
    .bind::<Array<SqlUuid>, _>(own.iter().map(|(t, _)| t.0).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(own.iter().map(|(_, id)| &id[..]).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(configured)
    .bind::<Double, _>(seconds(again_in))
    .fixed()
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(found)
}

/// How accounts stand for a tenant, by the database's clock. `configured` are those of the configuration
/// file that it can use.
pub async fn standing(
    conn: &mut Conn,
    tenant: TenantId,
    accounts: &[&str],
    configured: &[String],
) -> Result<BTreeMap<String, Standing>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        id: String,
        #[diesel(sql_type = Bool)]
        exists: bool,
        #[diesel(sql_type = Bool)]
        paused: bool,
        #[diesel(sql_type = Nullable<Double>)]
        failing_for: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        held_for: Option<f64>,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT w.id, CASE WHEN a.id IS NULL THEN w.id = ANY($3) ELSE a.deleted_at IS NULL END AS exists,
                coalesce(a.paused, false) AS paused,
                extract(epoch FROM now() - p.failing_since)::float8 AS failing_for,
                CASE WHEN p.held_until > now()
                     THEN extract(epoch FROM now() - coalesce(p.held_since, now()))::float8
                END AS held_for
         FROM unnest($2::text[]) AS w (id)
         LEFT JOIN channel_account a ON a.tenant_id = $1 AND a.id = w.id
         LEFT JOIN account_pace p ON p.tenant_id = $1 AND p.account = w.id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(accounts)
    .bind::<Array<Text>, _>(configured)
    .load(conn)
    .await?;
    #[expect(clippy::cast_possible_truncation, reason = "cut off, as it should be")]
    let span = |seconds: f64| TimeDelta::milliseconds((seconds * 1_000.0) as i64);
    let standing = rows.into_iter().map(|row| {
        let standing = Standing {
            exists: row.exists,
            paused: row.paused,
            failing_for: row.failing_for.map(span),
            held_for: row.held_for.map(span),
        };
        (row.id, standing)
    });
    Ok(standing.collect())
}
