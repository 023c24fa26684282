//! Offers that are taken back: one by one, because a newer one takes their place, or because another one for their
//! contract was accepted.

use anklang_domain::offer::{self, Answered, OfferState};
use anklang_domain::{PhaseId, TenantId};
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Date, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{AnswerResult, get, hold};
use crate::handover::event::ANNOUNCE;
use crate::planning::calls;
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// Why an offer is withdrawn whose contract has another one by now.
pub(crate) const ANOTHER_ACCEPTED: &str = "another offer was accepted";

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Withdraws the offer with that number by the rules of the domain, on the day that it is by the database's clock,
/// tells it in the customer's history, and receivers of webhooks if it was open, and cancels what is queued about
/// it. Takes turns with answers.
pub async fn withdraw(
    conn: &mut Conn,
    of: &Tenant,
    number: &str,
    reason: &str,
) -> Result<AnswerResult> {
    let tenant = of.id;
    let Some(now) = hold(conn, tenant, number, false).await? else {
        return Ok(AnswerResult::Missing);
    };
    let today = of.day(now);
    let Some(found) = get(conn, tenant, number, today).await? else {
        return Ok(AnswerResult::Missing);
    };
    let state = OfferState::parse(&found.state)
        .ok_or_else(|| StoreError::Stored(format!("offer state {}", found.state)))?;
    match offer::withdraw(state, found.valid_until, today) {
        Err(refusal) => return Ok(AnswerResult::Refused(refusal)),
        Ok(Answered::AlreadySo) => return Ok(AnswerResult::Answered(Box::new(found))),
        Ok(Answered::Changes) => {}
    }
    // Nobody has seen a draft; that an open offer is withdrawn is news.
    diesel::sql_query(format!(
        "WITH withdrawn AS (
             UPDATE offer SET state = 'withdrawn', withdrawn_at = now(), withdraw_reason = $3,
                              updated_at = now()
             WHERE tenant_id = $1 AND id = $2
             RETURNING offer.*),
         changed AS (SELECT * FROM withdrawn WHERE $4),
         {ANNOUNCE},
         cancelled AS (
             UPDATE message m SET state = 'cancelled', detail = 'the offer was withdrawn',
                                  updated_at = now()
             FROM withdrawn c
             WHERE m.tenant_id = $1 AND m.offer_id = c.id AND m.state = 'queued')
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'offer.withdrawn', 'offers/' || number, campaign_id,
                jsonb_build_object('reason', $3)
         FROM withdrawn"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(found.id)
    .bind::<Text, _>(reason)
    .bind::<Bool, _>(state == OfferState::Open)
    .execute(conn)
    .await?;
    calls::call_off(conn, tenant, &[found.id]).await?;
    get(conn, tenant, number, today)
        .await?
        .map(|offer| AnswerResult::Answered(Box::new(offer)))
        .ok_or_else(|| StoreError::Missing(format!("offers/{number}")))
}

/// Locks the contracts of those drafts that shall supersede others, so that of two for one contract
/// the second sees the first. Says whether there are any.
pub(super) async fn lock_superseding(
    conn: &mut Conn,
    tenant: TenantId,
    offers: &[Uuid],
) -> Result<bool> {
    let locked = diesel::sql_query(
        "SELECT 1 FROM contract c
         WHERE c.tenant_id = $1 AND c.id IN (
             SELECT o.contract_id FROM offer o
             WHERE o.tenant_id = $1 AND o.id = ANY($2) AND o.supersedes AND o.state = 'draft')
         ORDER BY c.id FOR NO KEY UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(offers)
    .execute(conn)
    .await?;
    Ok(locked > 0)
}

/// Opens drafts that get no document, and withdraws what they supersede.
pub(super) async fn open_drafts(conn: &mut Conn, tenant: TenantId, offers: &[Uuid]) -> Result<()> {
    let superseding = lock_superseding(conn, tenant, offers).await?;
    diesel::sql_query(
        "UPDATE offer SET state = 'open', updated_at = now()
         WHERE tenant_id = $1 AND id = ANY($2) AND state = 'draft'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(offers)
    .execute(conn)
    .await?;
    if superseding {
        supersede(conn, tenant, offers).await?;
    }
    Ok(())
}

/// Opens the drafts of a phase's members with `after < seq <= until` that have their document or get
/// none, and withdraws what they supersede.
pub async fn open_members(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    after: i64,
    until: i64,
) -> Result<()> {
    let drafts: Vec<IdRow> = diesel::sql_query(
        "SELECT o.id FROM offer o
         LEFT JOIN LATERAL (SELECT true AS made FROM document
             WHERE tenant_id = $1 AND offer_id = o.id OFFSET 0) d ON true
         WHERE o.tenant_id = $1 AND o.phase_id = $2 AND o.member_seq > $3 AND o.member_seq <= $4
           AND o.state = 'draft' AND (o.document_template = '' OR d.made)
         ORDER BY o.id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(until)
    .load(conn)
    .await?;
    let drafts: Vec<Uuid> = drafts.into_iter().map(|draft| draft.id).collect();
    open_drafts(conn, tenant, &drafts).await
}

/// Withdraws the other open offers for the contracts of those that supersede, just opened.
pub(super) async fn supersede(conn: &mut Conn, tenant: TenantId, offers: &[Uuid]) -> Result<()> {
    diesel::sql_query(format!(
        "WITH changed AS (
             UPDATE offer o SET state = 'withdrawn', withdrawn_at = now(),
                 withdraw_reason = 'superseded', superseded_by = newer.id, updated_at = now()
             FROM offer newer
             WHERE newer.tenant_id = $1 AND newer.id = ANY($2) AND newer.supersedes
               AND newer.state = 'open'
               AND o.tenant_id = $1 AND o.contract_id = newer.contract_id AND o.state = 'open'
               -- One whose day is over has expired, whether that is written yet or not.
               AND o.valid_until >= newer.offer_date
               AND o.id <> ALL($2)
             RETURNING o.*, newer.number AS by),
         {ANNOUNCE},
         cancelled AS (
             UPDATE message m SET state = 'cancelled', detail = 'the offer was superseded',
                                  updated_at = now()
             FROM changed c
             WHERE m.tenant_id = $1 AND m.offer_id = c.id AND m.state = 'queued')
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'offer.withdrawn', 'offers/' || number, campaign_id,
                jsonb_build_object('reason', 'superseded', 'superseded_by', by)
         FROM changed"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(offers)
    .execute(conn)
    .await?;
    calls::call_off_superseded(conn, tenant, offers).await
}

/// Withdraws the other offers for the contract of one that was just accepted: they were alternatives. One whose day
/// is over has expired, whether that is written yet or not.
pub(super) async fn give_way(
    conn: &mut Conn,
    tenant: TenantId,
    accepted: Uuid,
    today: NaiveDate,
) -> Result<()> {
    let others: Vec<IdRow> = diesel::sql_query(
        "SELECT o.id FROM offer a
         JOIN offer o ON o.tenant_id = a.tenant_id AND o.contract_id = a.contract_id
         WHERE a.tenant_id = $1 AND a.id = $2 AND o.id <> a.id
           AND o.state IN ('draft', 'open') AND o.valid_until >= $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(accepted)
    .bind::<Date, _>(today)
    .load(conn)
    .await?;
    withdraw_alternatives(conn, tenant, others).await
}

/// Withdraws those offers of a phase's members with `after < seq <= until` whose contract has another one by now:
/// accepted since the audience was frozen, and before they were there to be withdrawn by that. All are made, so that
/// who accepts another offer from here on finds them.
pub async fn withdraw_late(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    after: i64,
    until: i64,
) -> Result<()> {
    let late: Vec<IdRow> = diesel::sql_query(
        "SELECT o.id FROM offer o
         WHERE o.tenant_id = $1 AND o.phase_id = $2 AND o.member_seq > $3 AND o.member_seq <= $4
           AND o.state IN ('draft', 'open')
           AND EXISTS (SELECT FROM offer a
               WHERE a.tenant_id = $1 AND a.contract_id = o.contract_id AND a.state = 'accepted'
                 AND a.answered_at >= (SELECT frozen_at FROM audience
                                       WHERE tenant_id = $1 AND phase_id = $2))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(until)
    .load(conn)
    .await?;
    withdraw_alternatives(conn, tenant, late).await
}

/// Withdraws those of the offers that are still open or being made, with what is queued about them, and calls their
/// contacts off; it is told as other withdrawals are.
async fn withdraw_alternatives(
    conn: &mut Conn,
    tenant: TenantId,
    offers: Vec<IdRow>,
) -> Result<()> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Bool)]
        open: bool,
    }
    if offers.is_empty() {
        return Ok(());
    }
    let offers: Vec<Uuid> = offers.into_iter().map(|offer| offer.id).collect();
    // By statements of their own: what changes the rows then finds them as they are.
    let held: Vec<Held> = diesel::sql_query(
        "SELECT id, state = 'open' AS open FROM offer
         WHERE tenant_id = $1 AND id = ANY($2) AND state IN ('draft', 'open')
         ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(offers)
    .load(conn)
    .await?;
    let all: Vec<Uuid> = held.iter().map(|offer| offer.id).collect();
    // Nobody has seen a draft; that an open offer is withdrawn is news.
    let open = held.iter().filter(|offer| offer.open);
    let open: Vec<Uuid> = open.map(|offer| offer.id).collect();
    let queued: Vec<IdRow> = diesel::sql_query(
        "SELECT id FROM message
         WHERE tenant_id = $1 AND offer_id = ANY($2) AND state = 'queued' ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&all)
    .load(conn)
    .await?;
    let queued: Vec<Uuid> = queued.into_iter().map(|message| message.id).collect();
    diesel::sql_query(format!(
        "WITH withdrawn AS (
             UPDATE offer SET state = 'withdrawn', withdrawn_at = now(),
                              withdraw_reason = '{ANOTHER_ACCEPTED}', updated_at = now()
             WHERE tenant_id = $1 AND id = ANY($2)
             RETURNING offer.*),
         changed AS (SELECT * FROM withdrawn WHERE id = ANY($3)),
         {ANNOUNCE},
         cancelled AS (
             UPDATE message SET state = 'cancelled', detail = '{ANOTHER_ACCEPTED}', updated_at = now()
             WHERE tenant_id = $1 AND id = ANY($4) AND state = 'queued')
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'offer.withdrawn', 'offers/' || number, campaign_id,
                jsonb_build_object('reason', withdraw_reason)
         FROM withdrawn"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&all)
    .bind::<Array<SqlUuid>, _>(&open)
    .bind::<Array<SqlUuid>, _>(&queued)
    .execute(conn)
    .await?;
    calls::call_off(conn, tenant, &all).await
}
