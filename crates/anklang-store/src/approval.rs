//! Launches over a size wait for a second person: the policy, what waits, decisions. What is approved is in
//! [`content`].
//!
//! # Guarantees
//! - A phase that needs an approval is `unapproved` from the transaction that froze its audience on. Senders and
//!   the work list look at that when they claim and when they mark, whatever the phase's state is.
//! - An approval is of a hash that is computed under [`lock`]. Whatever changes what the hash covers shares
//!   that lock, in triggers (`migrations/…_approvals`), and puts the phase back in its own transaction: either
//!   the approval sees the change, or the change sees the approval.

mod content;
mod policy;

use anklang_domain::{CampaignId, PhaseId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Date, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

pub use content::{
    Content, Facts, Price, Sample, Shipped, Template, approved, content, keep_members, sample,
};
pub use policy::{
    Policy, Together, before_it, policy, policy_for, set_policy, take_turn, without_approval,
};

use crate::{Conn, Result};

/// Notes that a phase whose audience was frozen just now needs an approval, because it has more members than
/// `members_over`. In the transaction that froze it.
pub async fn require(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    members_over: i64,
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO launch_approval (tenant_id, phase_id, members_over, brands)
         SELECT $1, $2, $3, coalesce(array_agg(DISTINCT co.brand_id), '{}')
         FROM audience_member m
         CROSS JOIN LATERAL (SELECT brand_id FROM contract
             WHERE tenant_id = $1 AND id = m.contract_id OFFSET 0) co
         WHERE m.tenant_id = $1 AND m.phase_id = $2 AND m.exclusion IS NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(members_over)
    .execute(conn)
    .await?;
    diesel::sql_query("UPDATE phase SET unapproved = true WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(phase.0)
        .execute(conn)
        .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    is_so: bool,
}

/// Whether a phase needs an approval, given or not.
pub async fn is_required(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<bool> {
    let row: Flag = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM launch_approval WHERE tenant_id = $1 AND phase_id = $2) AS is_so",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .get_result(conn)
    .await?;
    Ok(row.is_so)
}

/// What the launch of a phase may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Go on: it needs no approval, or has one.
    Open,
    /// Wait for an approval. The phase waits for one from this transaction on, and whoever approves waits for this
    /// transaction.
    Waits,
    /// Stop: it was cancelled or refused.
    Closed,
}

/// Whether the launch of a phase may go on.
pub async fn gate(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<Gate> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        state: String,
        #[diesel(sql_type = Bool)]
        unapproved: bool,
    }
    let look = "SELECT state, unapproved FROM phase WHERE tenant_id = $1 AND id = $2";
    let mut found = None;
    // Most need no approval, and are not locked.
    for lock in ["", " FOR NO KEY UPDATE"] {
        let row: Option<Row> = diesel::sql_query(format!("{look}{lock}"))
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(phase.0)
            .get_result(conn)
            .await
            .optional()?;
        found = row.map(|row| (row.state, row.unapproved));
        if matches!(&found, Some((state, false)) if state == "launching") {
            return Ok(Gate::Open);
        }
    }
    match &found {
        Some((state, true)) if ["launching", "awaiting_approval"].contains(&&state[..]) => {}
        _ => return Ok(Gate::Closed),
    }
    diesel::sql_query(
        "UPDATE phase SET state = 'awaiting_approval' WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .execute(conn)
    .await?;
    Ok(Gate::Waits)
}

/// A phase that needs an approval.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Approval {
    /// The phase.
    #[diesel(sql_type = SqlUuid)]
    pub phase_id: Uuid,
    /// A word of [`anklang_domain::phase::PhaseState`].
    #[diesel(sql_type = Text)]
    pub state: String,
    /// There is none, or it is void.
    #[diesel(sql_type = Bool)]
    pub unapproved: bool,
    /// Who launched it, as callers are named; empty when not known.
    #[diesel(sql_type = Text)]
    pub launched_by: String,
    /// Who has changed what it has to send since then, or since it was approved last.
    #[diesel(sql_type = Array<Text>)]
    pub changed_by: Vec<String>,
    /// When it was launched.
    #[diesel(sql_type = Timestamptz)]
    pub launched_at: DateTime<Utc>,
    /// The limit that it is over.
    #[diesel(sql_type = BigInt)]
    pub members_over: i64,
    /// Last day of its offers.
    #[diesel(sql_type = Date)]
    pub valid_until: NaiveDate,
    /// The version that is offered.
    #[diesel(sql_type = SqlUuid)]
    pub product_version: Uuid,
}

impl Approval {
    /// Its phase.
    pub fn phase(&self) -> PhaseId {
        PhaseId(self.phase_id)
    }
}

/// The approval of a phase, if it needs one. With `lock` the phase stays as it is until the end of the
/// transaction.
pub async fn find(
    mut conn: &Conn,
    tenant: TenantId,
    campaign: CampaignId,
    number: i32,
    lock: bool,
) -> Result<Option<Approval>> {
    let lock = if lock { " FOR NO KEY UPDATE OF p" } else { "" };
    Ok(diesel::sql_query(format!(
        "SELECT p.id AS phase_id, p.state, p.unapproved, p.launched_by, p.changed_by,
                p.created_at AS launched_at, a.members_over, p.offer_valid_until AS valid_until,
                p.product_version_id AS product_version
         FROM phase p
         JOIN launch_approval a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
         WHERE p.tenant_id = $1 AND p.campaign_id = $2 AND p.number = $3{lock}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Integer, _>(number)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// Waits for who changes what approvals of the tenant cover, and lets nobody begin to, until the end of the
/// transaction. Before the phase is locked: that is the order of those who change something.
pub async fn lock(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended('approvals ' || $1::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a sender has messages of a phase that it has not begun to hand over: what they say was made
/// before, and they go back to the queue as long as the phase waits.
pub async fn is_in_hands(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<bool> {
    let row: Flag = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM message WHERE tenant_id = $1 AND phase_id = $2
                          AND state = 'sending' AND submitted_at IS NULL) AS is_so",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .get_result(conn)
    .await?;
    Ok(row.is_so)
}

/// A decision about a launch.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Decision {
    /// approved, refused or voided.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// Who decided; of voided who has changed it, empty when the server did by itself.
    #[diesel(sql_type = Text)]
    pub decided_by: String,
    /// When.
    #[diesel(sql_type = Timestamptz)]
    pub decided_at: DateTime<Utc>,
    /// In words; what has changed.
    #[diesel(sql_type = Text)]
    pub remark: String,
    /// What was approved.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub hash: Option<Vec<u8>>,
}

/// The decisions about a phase, the newest first, at most a hundred.
pub async fn decisions(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<Vec<Decision>> {
    Ok(diesel::sql_query(
        "SELECT kind, decided_by, decided_at, remark, hash FROM launch_decision
         WHERE tenant_id = $1 AND phase_id = $2 ORDER BY id DESC LIMIT 100",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .load(conn)
    .await?)
}

async fn note(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    kind: &'static str,
    (by, remark): (&str, &str),
    of: Option<&Content>,
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO launch_decision (tenant_id, phase_id, kind, decided_by, remark, hash, content)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<Text, _>(kind)
    .bind::<Text, _>(by)
    .bind::<Text, _>(remark)
    .bind::<Nullable<Bytea>, _>(of.map(|content| &content.hash[..]))
    .bind::<Nullable<Jsonb>, _>(of.map(|content| &content.json))
    .execute(conn)
    .await?;
    Ok(())
}

/// Approves what a phase has to send, under [`lock`]: it goes on where it was, its launch as of `today`. Says whether
/// everything had been made before, so that it is active again.
pub async fn approve(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    content: &Content,
    (by, remark): (&str, &str),
    today: NaiveDate,
) -> Result<bool> {
    let moved: Flag = diesel::sql_query(
        "UPDATE phase p SET unapproved = false, changed_by = '{}', state = CASE WHEN EXISTS (
             SELECT FROM operation o WHERE o.tenant_id = p.tenant_id AND o.id = p.operation_id
               AND o.state IN ('queued', 'running')) THEN 'launching' ELSE 'active' END
         WHERE p.tenant_id = $1 AND p.id = $2
         RETURNING p.state = 'active' AS is_so",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .get_result(conn)
    .await?;
    diesel::sql_query(
        "UPDATE operation o SET run_at = now(),
                request = o.request || jsonb_build_object('today', $3)
         WHERE o.tenant_id = $1 AND o.state = 'queued' AND o.run_at = 'infinity' AND o.id = (
             SELECT operation_id FROM phase WHERE tenant_id = $1 AND id = $2)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<Date, _>(today)
    .execute(conn)
    .await?;
    note(conn, tenant, phase, "approved", (by, remark), Some(content)).await?;
    Ok(moved.is_so)
}

/// Notes that a launch was refused; the caller cancels the phase.
pub async fn refuse(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    by: &str,
    reason: &str,
) -> Result<()> {
    note(conn, tenant, phase, "refused", (by, reason), None).await
}
