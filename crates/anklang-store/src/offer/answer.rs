//! A customer's answer, and offers whose time is over.

use anklang_domain::TenantId;
use anklang_domain::offer::{self, Answer, Answered, OfferState, RejectReason};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::{Offer, get, withdraw};
use crate::handover::event::ANNOUNCE;
use crate::planning::calls;
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// A customer's answer as it came.
#[derive(Debug, Clone)]
pub struct GivenAnswer<'a> {
    /// Yes or no.
    pub answer: Answer,
    /// How it came.
    pub source: &'a str,
    /// Why not.
    pub reason: &'a str,
    /// Why not, of the closed set.
    pub reject_reason: Option<RejectReason>,
}

/// What an answer came to.
#[derive(Debug)]
pub enum AnswerResult {
    /// The offer, answered now or before.
    Answered(Box<Offer>),
    /// The rule that was broken.
    Refused(offer::AnswerError),
    /// No such offer.
    Missing,
}

/// Holds an offer that is about to be answered or withdrawn. For an acceptance its contract comes first, as with launches,
/// so that none of them is just making an offer for it unseen, and with it all others that are open or being made. Gives
/// the time by the database's clock, once everything is held; `None` when there is no such offer.
pub async fn hold(
    conn: &mut Conn,
    tenant: TenantId,
    number: &str,
    accepting: bool,
) -> Result<Option<DateTime<Utc>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        contract_id: Uuid,
    }
    #[derive(QueryableByName)]
    struct Clock {
        #[diesel(sql_type = Timestamptz)]
        now: DateTime<Utc>,
    }
    let found: Option<Row> =
        diesel::sql_query("SELECT id, contract_id FROM offer WHERE tenant_id = $1 AND number = $2")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(number)
            .get_result(conn)
            .await
            .optional()?;
    let Some(found) = found else {
        return Ok(None);
    };
    let mut ids = vec![found.id];
    if accepting {
        diesel::sql_query(
            "SELECT 1 FROM contract WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(found.contract_id)
        .execute(conn)
        .await?;
        let others: Vec<Row> = diesel::sql_query(
            "SELECT id, contract_id FROM offer
             WHERE tenant_id = $1 AND contract_id = $2 AND state IN ('draft', 'open')",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(found.contract_id)
        .load(conn)
        .await?;
        ids.extend(others.into_iter().map(|other| other.id));
    }
    diesel::sql_query(
        "SELECT 1 FROM offer WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .execute(conn)
    .await?;
    let clock: Clock = diesel::sql_query("SELECT clock_timestamp() AS now")
        .get_result(conn)
        .await?;
    Ok(Some(clock.now))
}

/// Answers the offer with that number by the rules of the domain, on the day that it is by the database's clock.
/// Answers to one offer take turns, and so do those who accept offers for one contract: the others that are open
/// or being made are withdrawn.
pub async fn answer(
    conn: &mut Conn,
    of: &Tenant,
    number: &str,
    given: &GivenAnswer<'_>,
) -> Result<AnswerResult> {
    let tenant = of.id;
    let Some(now) = hold(conn, tenant, number, given.answer == Answer::Accept).await? else {
        return Ok(AnswerResult::Missing);
    };
    let today = of.day(now);
    let Some(found) = get(conn, tenant, number, today).await? else {
        return Ok(AnswerResult::Missing);
    };
    let state = OfferState::parse(&found.state)
        .ok_or_else(|| StoreError::Stored(format!("offer state {}", found.state)))?;
    match offer::answer(state, found.valid_until, given.answer, today) {
        Err(refusal) => return Ok(AnswerResult::Refused(refusal)),
        Ok(Answered::AlreadySo) => return Ok(AnswerResult::Answered(Box::new(found))),
        Ok(Answered::Changes) => {}
    }
    let state = given.answer.state().as_str();
    let code = given.reject_reason.map_or("", RejectReason::as_str);
    diesel::sql_query(format!(
        "WITH changed AS (
             UPDATE offer SET state = $3, answered_at = $8, answer_source = $4,
                              reject_reason = $5, reject_reason_code = $7, updated_at = now()
             WHERE tenant_id = $1 AND id = $2
             RETURNING offer.*),
         {ANNOUNCE}
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT tenant_id, customer_id, 'offer.' || $3, 'offers/' || number, campaign_id, $6
         FROM changed"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(found.id)
    .bind::<Text, _>(state)
    .bind::<Text, _>(given.source)
    .bind::<Text, _>(given.reason)
    .bind::<Jsonb, _>(json!({ "source": given.source, "reason": given.reason, "code": code }))
    .bind::<Text, _>(code)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await?;
    calls::call_off(conn, tenant, &[found.id]).await?;
    if given.answer == Answer::Accept {
        withdraw::give_way(conn, tenant, found.id, today).await?;
    }
    get(conn, tenant, number, today)
        .await?
        .map(|offer| AnswerResult::Answered(Box::new(offer)))
        .ok_or_else(|| StoreError::Missing(format!("offers/{number}")))
}

/// Offers whose validity is over by the database's clock become expired, at most `limit` of them; their
/// customers' histories tell it. Returns how many.
pub async fn expire(conn: &mut Conn, tenant: &Tenant, limit: i64) -> Result<usize> {
    Ok(diesel::sql_query(format!(
        "WITH over AS (
             SELECT o.id FROM offer o
             WHERE o.tenant_id = $1 AND o.state = 'open'
               AND o.valid_until < (now() AT TIME ZONE $2)::date
               -- These are being withdrawn.
               AND NOT EXISTS (SELECT FROM phase p WHERE p.tenant_id = $1 AND p.id = o.phase_id
                               AND p.state IN ('cancelled', 'failed'))
             ORDER BY o.valid_until LIMIT $3 FOR UPDATE OF o SKIP LOCKED),
         changed AS (
             UPDATE offer o SET state = 'expired', updated_at = now() FROM over
             WHERE o.tenant_id = $1 AND o.id = over.id
             RETURNING o.*),
         {ANNOUNCE}
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id)
         SELECT $1, customer_id, 'offer.expired', 'offers/' || number, campaign_id FROM changed"
    ))
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<Text, _>(tenant.time_zone.name())
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}
