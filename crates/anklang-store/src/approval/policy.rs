//! The policy: which launches need an approval, and what is counted for it.

use anklang_domain::{CampaignId, PhaseId, TenantId};
use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result};

/// Which launches need an approval.
#[derive(Debug, Clone, Default, PartialEq, Eq, QueryableByName)]
pub struct Policy {
    /// Those with more members than this; none when `None`.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub members_over: Option<i64>,
    /// Who has set it, as callers are named.
    #[diesel(sql_type = Text)]
    pub updated_by: String,
    /// When.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub updated_at: Option<DateTime<Utc>>,
}

/// The tenant's policy; the one that asks for no approvals when none was set.
pub async fn policy(conn: &mut Conn, tenant: TenantId) -> Result<Policy> {
    let found: Option<Policy> = diesel::sql_query(
        "SELECT members_over, updated_by, updated_at FROM approval_policy WHERE tenant_id = $1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .get_result(conn)
    .await
    .optional()?;
    Ok(found.unwrap_or_default())
}

/// Sets the tenant's policy for launches whose audience is frozen from now on.
pub async fn set_policy(
    conn: &mut Conn,
    tenant: TenantId,
    members_over: Option<i64>,
    by: &str,
) -> Result<Policy> {
    Ok(diesel::sql_query(
        "INSERT INTO approval_policy (tenant_id, members_over, updated_by) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id) DO UPDATE
             SET members_over = excluded.members_over, updated_by = excluded.updated_by,
                 updated_at = now()
         RETURNING members_over, updated_by, updated_at",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Nullable<BigInt>, _>(members_over)
    .bind::<Text, _>(by)
    .get_result(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Members of a campaign's launches that needed no approval, whatever has become of them, but for the phase `but`.
pub async fn without_approval(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    but: Option<PhaseId>,
) -> Result<i64> {
    let counted: Count = diesel::sql_query(
        "SELECT coalesce(sum(a.members), 0)::bigint AS n
         FROM phase p JOIN audience a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
         WHERE p.tenant_id = $1 AND p.campaign_id = $2 AND p.id IS DISTINCT FROM $3
           AND p.state <> 'failed' AND a.frozen_at IS NOT NULL
           AND NOT EXISTS (SELECT FROM launch_approval l
                           WHERE l.tenant_id = p.tenant_id AND l.phase_id = p.id)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Nullable<SqlUuid>, _>(but.map(|phase| phase.0))
    .get_result(conn)
    .await?;
    Ok(counted.n)
}

/// [`without_approval`] of a phase's campaign, but for the phase itself. The campaign's launches take turns until the
/// end of the transaction, so that of two at once one counts the other.
pub async fn before_it(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        campaign_id: Uuid,
    }
    let of: Row =
        diesel::sql_query("SELECT campaign_id FROM phase WHERE tenant_id = $1 AND id = $2")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(phase.0)
            .get_result(conn)
            .await?;
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('launches ' || $1::text, 0))")
        .bind::<SqlUuid, _>(of.campaign_id)
        .execute(conn)
        .await?;
    without_approval(conn, tenant, CampaignId(of.campaign_id), Some(phase)).await
}
