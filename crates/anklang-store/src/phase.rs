//! Phases under way: controls, their dates, and what moves them on.
//!
//! What a control means holds from its transaction on, whatever the number of offers: senders look
//! at the phase, and an open offer of a cancelled phase reads as withdrawn. The offers and messages
//! themselves are then written in chunks by [`wind_up`]. [`start_due`] and [`complete_due`] move
//! phases of all tenants, each in one statement that takes only those still in the state before, so
//! that any number of servers may call them at once.

use anklang_domain::phase::{
    CampaignState, Control, ControlError, PhaseState, Standing, control_campaign, control_phase,
};
use anklang_domain::schedule::{Slot, Stage};
use anklang_domain::{CampaignId, PhaseId, TenantId};
use chrono::NaiveDate;
use diesel::sql_types::{Array, BigInt, Bool, Date, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::handover::event::ANNOUNCE;
use crate::planning::calls::{self, ALL_OVER};
use crate::{Conn, Result, Store, StoreError};

/// What a control came to.
#[derive(Debug)]
pub enum Controlled {
    /// It is so, now or before; ids of phases that were cancelled just now.
    Done(Vec<PhaseId>),
    /// The rule that was broken.
    Refused(ControlError),
    /// No such phase or campaign.
    Missing,
}

#[derive(QueryableByName)]
struct StandingRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Bool)]
    paused: bool,
}

/// Pauses, resumes or cancels a phase by the rules of the domain.
pub async fn control(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    number: i32,
    control: Control,
) -> Result<Controlled> {
    let row: Option<StandingRow> = diesel::sql_query(
        "SELECT id, state, paused FROM phase
         WHERE tenant_id = $1 AND campaign_id = $2 AND number = $3 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Integer, _>(number)
    .get_result(conn)
    .await
    .optional()?;
    let Some(row) = row else {
        return Ok(Controlled::Missing);
    };
    let now = Standing {
        state: PhaseState::parse(&row.state)
            .ok_or_else(|| StoreError::Stored(format!("phase state {}", row.state)))?,
        paused: row.paused,
    };
    let after = match control_phase(now, control) {
        Ok(after) => after,
        Err(refused) => return Ok(Controlled::Refused(refused)),
    };
    if after == now {
        return Ok(Controlled::Done(Vec::new()));
    }
    let cancelled = after.state == PhaseState::Cancelled;
    diesel::sql_query(
        "UPDATE phase SET state = $3, paused = $4, winding_up = winding_up OR $5
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(row.id)
    .bind::<Text, _>(after.state.as_str())
    .bind::<Bool, _>(after.paused)
    .bind::<Bool, _>(cancelled)
    .execute(conn)
    .await?;
    if !cancelled {
        return Ok(Controlled::Done(Vec::new()));
    }
    stop_launches(conn, tenant, &[row.id]).await?;
    Ok(Controlled::Done(vec![PhaseId(row.id)]))
}

/// Pauses, resumes or cancels a campaign by the rules of the domain; cancelled with all phases.
pub async fn control_all(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    control: Control,
) -> Result<Controlled> {
    let Some(row) = crate::campaign::lock(conn, tenant, campaign).await? else {
        return Ok(Controlled::Missing);
    };
    let now = Standing {
        state: CampaignState::parse(&row.state)
            .ok_or_else(|| StoreError::Stored(format!("campaign state {}", row.state)))?,
        paused: row.paused,
    };
    let after = match control_campaign(now, control) {
        Ok(after) => after,
        Err(refused) => return Ok(Controlled::Refused(refused)),
    };
    if after == now {
        return Ok(Controlled::Done(Vec::new()));
    }
    diesel::sql_query(
        "UPDATE campaign SET state = $3, paused = $4 WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Text, _>(after.state.as_str())
    .bind::<Bool, _>(after.paused)
    .execute(conn)
    .await?;
    if after.state != CampaignState::Cancelled {
        return Ok(Controlled::Done(Vec::new()));
    }
    let phases: Vec<IdRow> = diesel::sql_query(
        "UPDATE phase SET state = 'cancelled', paused = false, winding_up = true
         WHERE tenant_id = $1 AND campaign_id = $2 AND state <> 'cancelled'
         RETURNING tenant_id, id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .load(conn)
    .await?;
    let ids: Vec<Uuid> = phases.iter().map(|p| p.id).collect();
    stop_launches(conn, tenant, &ids).await?;
    Ok(Controlled::Done(ids.into_iter().map(PhaseId).collect()))
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Asks the launches of phases to stop, also those that have not begun.
async fn stop_launches(conn: &mut Conn, tenant: TenantId, phases: &[Uuid]) -> Result<()> {
    diesel::sql_query(
        "UPDATE operation o SET cancel_requested = true, run_at = least(o.run_at, now())
         FROM phase p
         WHERE p.tenant_id = $1 AND p.id = ANY($2) AND o.tenant_id = $1 AND o.id = p.operation_id
           AND o.state IN ('queued', 'running')",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(phases)
    .execute(conn)
    .await?;
    Ok(())
}

/// Phases of all tenants that were cancelled, or could not be launched, and have offers or messages left to take back.
pub async fn winding_up(store: &Store) -> Result<Vec<(TenantId, PhaseId)>> {
    let mut tx = store.begin_worker().await?;
    let rows: Vec<IdRow> =
        diesel::sql_query("SELECT tenant_id, id FROM phase WHERE winding_up ORDER BY id")
            .load(&mut tx)
            .await?;
    tx.commit().await?;
    Ok(rows
        .into_iter()
        .map(|r| (TenantId(r.tenant_id), PhaseId(r.id)))
        .collect())
}

/// Why the offers and messages of the phase `p` are taken back.
const WHY: &str =
    "CASE p.state WHEN 'failed' THEN 'the launch failed' ELSE 'the phase was cancelled' END";

/// Takes back at most `limit` offers, messages and planned contacts each of a phase that was given up;
/// the customers' histories tell it of the offers. Says whether none is left. What is being sent
/// meanwhile and comes back to the queue is cancelled when it is claimed.
pub async fn wind_up(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    limit: i64,
) -> Result<bool> {
    // Nobody has seen a draft; that an open offer is withdrawn is news.
    let offers = format!(
        "WITH part AS (
             SELECT id, state AS was FROM offer
             WHERE tenant_id = $1 AND phase_id = $2 AND state IN ('draft', 'open')
             LIMIT $3 FOR UPDATE SKIP LOCKED),
         withdrawn AS (
             UPDATE offer o SET state = 'withdrawn', withdrawn_at = now(),
                                withdraw_reason = {WHY}, updated_at = now()
             FROM part, phase p
             WHERE o.tenant_id = $1 AND o.id = part.id AND p.tenant_id = $1 AND p.id = $2
             RETURNING o.*, part.was),
         changed AS (SELECT * FROM withdrawn WHERE was = 'open'),
         {ANNOUNCE}
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'offer.withdrawn', 'offers/' || number, campaign_id,
                jsonb_build_object('reason', withdraw_reason)
         FROM withdrawn"
    );
    let messages = format!(
        "WITH part AS (
             SELECT id FROM message WHERE tenant_id = $1 AND phase_id = $2 AND state = 'queued'
             LIMIT $3 FOR UPDATE SKIP LOCKED)
         UPDATE message m SET state = 'cancelled', detail = {WHY}, updated_at = now()
         FROM part, phase p
         WHERE m.tenant_id = $1 AND m.id = part.id AND p.tenant_id = $1 AND p.id = $2"
    );
    for statement in [offers, messages] {
        diesel::sql_query(statement)
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(phase.0)
            .bind::<BigInt, _>(limit)
            .execute(conn)
            .await?;
    }
    // After the offers, as their contacts are always locked.
    calls::wind_up(conn, tenant, phase, WHY, limit).await?;
    let no_contact = calls::nothing_left();
    let over = diesel::sql_query(format!(
        "UPDATE phase SET winding_up = false
         WHERE tenant_id = $1 AND id = $2 AND NOT EXISTS (
             SELECT FROM offer o WHERE o.tenant_id = $1 AND o.phase_id = $2
               AND o.state IN ('draft', 'open'))
           AND NOT EXISTS (
             SELECT FROM message m WHERE m.tenant_id = $1 AND m.phase_id = $2
               AND m.state = 'queued'){no_contact}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .execute(conn)
    .await?;
    Ok(over == 1)
}

/// Starts planned phases of all tenants: their day has come for the tenant, nobody holds them, and
/// the phases that they come after, and all that are parallel with those, are over. From then on
/// their operations are due; they launch as of this day. Returns how many.
pub async fn start_due(store: &Store) -> Result<usize> {
    let mut tx = store.begin_worker().await?;
    let started = diesel::sql_query(
        "WITH due AS (
             SELECT p.tenant_id, p.id, (now() AT TIME ZONE t.time_zone)::date AS today
             FROM phase p
             JOIN campaign c ON c.tenant_id = p.tenant_id AND c.id = p.campaign_id
             JOIN tenant t ON t.id = p.tenant_id
             WHERE p.state = 'planned' AND NOT p.paused AND NOT c.paused AND c.state = 'active'
               AND coalesce(p.start_date, '-infinity') <= (now() AT TIME ZONE t.time_zone)::date
               AND NOT EXISTS (
                   SELECT FROM phase named
                   JOIN phase before ON before.tenant_id = named.tenant_id
                     AND before.campaign_id = named.campaign_id
                     AND coalesce(before.parallel_group, before.number)
                       = coalesce(named.parallel_group, named.number)
                   WHERE named.tenant_id = p.tenant_id AND named.campaign_id = p.campaign_id
                     AND named.number = ANY(p.predecessors)
                     AND (before.state NOT IN ('completed', 'cancelled') OR before.winding_up))
             FOR UPDATE OF p SKIP LOCKED),
         started AS (
             UPDATE phase p SET state = 'launching', started_at = now()
             FROM due WHERE p.tenant_id = due.tenant_id AND p.id = due.id
             RETURNING p.tenant_id, p.operation_id, due.today, p.offer_valid_until)
         UPDATE operation o SET run_at = now(), step = '',
                request = o.request || jsonb_build_object('today', s.today,
                                                          'valid_until', s.offer_valid_until)
         FROM started s WHERE o.tenant_id = s.tenant_id AND o.id = s.operation_id",
    )
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(started)
}

/// Completes active phases of all tenants: no message waits or is being sent, nobody is to be called,
/// and every offer has come to its end or the last planned day is over, unless it began after that. Each phase is looked at by itself, up to its first
/// such message and offer, whatever the planner thinks of their number. Returns how many.
pub async fn complete_due(store: &Store) -> Result<usize> {
    let mut tx = store.begin_worker().await?;
    let completed = diesel::sql_query(format!(
        "UPDATE phase p SET state = 'completed', paused = false, completed_at = now()
         FROM tenant t
         WHERE t.id = p.tenant_id AND p.state = 'active'
           AND (SELECT count(*) = 0 FROM (
                    SELECT FROM message m WHERE m.tenant_id = p.tenant_id AND m.phase_id = p.id
                      AND m.state IN ('queued', 'sending') LIMIT 1) unsent){ALL_OVER}
           AND ((p.end_date < (now() AT TIME ZONE t.time_zone)::date
                 AND p.end_date >= (p.started_at AT TIME ZONE t.time_zone)::date)
                OR (SELECT count(*) = 0 FROM (
                        SELECT FROM offer o WHERE o.tenant_id = p.tenant_id AND o.phase_id = p.id
                          AND o.state IN ('draft', 'open')
                          AND o.valid_until >= (now() AT TIME ZONE t.time_zone)::date
                        LIMIT 1) unanswered))"
    ))
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(completed)
}

#[derive(QueryableByName)]
struct SlotRow {
    #[diesel(sql_type = Integer)]
    number: i32,
    #[diesel(sql_type = Integer)]
    parallel_group: i32,
    #[diesel(sql_type = Array<Integer>)]
    predecessors: Vec<i32>,
    #[diesel(sql_type = Nullable<Date>)]
    start_date: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    end_date: Option<NaiveDate>,
    #[diesel(sql_type = Text)]
    state: String,
}

/// The places and planned dates of a campaign's phases, by number. A phase that has begun without a
/// planned first day has the day on which it began. The campaign is locked by the caller.
pub async fn slots(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    time_zone: &str,
) -> Result<Vec<Slot>> {
    let rows: Vec<SlotRow> = diesel::sql_query(
        "SELECT number, coalesce(parallel_group, number) AS parallel_group, predecessors,
                coalesce(start_date, (started_at AT TIME ZONE $3)::date) AS start_date, end_date,
                state
         FROM phase WHERE tenant_id = $1 AND campaign_id = $2 ORDER BY number",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Text, _>(time_zone)
    .load(conn)
    .await?;
    rows.into_iter()
        .map(|r| {
            let state = PhaseState::parse(&r.state)
                .ok_or_else(|| StoreError::Stored(format!("phase state {}", r.state)))?;
            Ok(Slot {
                number: r.number,
                group: r.parallel_group,
                predecessors: r.predecessors,
                start: r.start_date,
                end: r.end_date,
                stage: match state {
                    PhaseState::Planned => Stage::Waiting,
                    _ if state.is_over() => Stage::Over,
                    _ => Stage::Begun,
                },
            })
        })
        .collect()
}

/// Writes the planned dates of phases that have not ended: of those that wait both, and the last
/// day of their offers moves along with the first day; of those that have begun the end.
pub async fn set_dates(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    slots: &[Slot],
) -> Result<()> {
    diesel::sql_query(
        "UPDATE phase p SET end_date = s.end_date,
             offer_valid_until = CASE WHEN s.waits THEN
                 p.offer_valid_until + coalesce(s.start_date - p.start_date, 0)
                 ELSE p.offer_valid_until END,
             start_date = CASE WHEN s.waits THEN s.start_date ELSE p.start_date END
         FROM unnest($3, $4, $5, $6) AS s (number, start_date, end_date, waits)
         WHERE p.tenant_id = $1 AND p.campaign_id = $2 AND p.number = s.number",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Array<Integer>, _>(slots.iter().map(|s| s.number).collect::<Vec<_>>())
    .bind::<Array<Nullable<Date>>, _>(slots.iter().map(|s| s.start).collect::<Vec<_>>())
    .bind::<Array<Nullable<Date>>, _>(slots.iter().map(|s| s.end).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(
        slots
            .iter()
            .map(|s| s.stage == Stage::Waiting)
            .collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The id of a phase by campaign and number.
pub async fn id(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    number: i32,
) -> Result<Option<PhaseId>> {
    let row: Option<IdRow> = diesel::sql_query(
        "SELECT tenant_id, id FROM phase
         WHERE tenant_id = $1 AND campaign_id = $2 AND number = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Integer, _>(number)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|r| PhaseId(r.id)))
}
