//! Planned contacts of campaigns: an outbound by phone has one for each member of its audience.
//!
//! # Guarantees
//! - One for each outbound and member (`planned_contact_member`), written by the launch in the
//!   transaction of its checkpoint, also for a member who cannot be called any more: the ledger adds up.
//! - A contact is called off in the transaction in which its offer is answered or taken back, also because another
//!   one for the same contract is accepted. One that somebody is at keeps the reason (`end_reason`), and is called
//!   off by whatever ends the claim. What is offered for a contract later, when one was accepted before, is another
//!   matter, and is called about.
//! - What a person pauses or cancels holds at once: claims look at it (`HELD`), and put such contacts
//!   aside as they come to them. When the campaign goes on, they come back within a minute, or as soon
//!   as somebody finds nothing else to do.

use std::sync::LazyLock;

use anklang_domain::planning::{Calendar, Calls, Weekdays, end_of};
use anklang_domain::{PhaseId, TenantId};
use chrono::NaiveDate;
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::{calendar, plan};
use crate::offer::ANOTHER_ACCEPTED;
use crate::tenant::{self, Tenant};
use crate::{Conn, Result, StoreError};

/// Outbounds by phone of the tenant `$1` whose contacts are not handed out: of what is paused or
/// not approved, and of what was cancelled as long as contacts of it are left.
pub(crate) const HELD: &str = "ARRAY(SELECT ho.id FROM outbound ho
    JOIN phase hp ON hp.tenant_id = ho.tenant_id AND hp.id = ho.phase_id
    JOIN campaign hc ON hc.tenant_id = hp.tenant_id AND hc.id = hp.campaign_id
    WHERE ho.tenant_id = $1 AND ho.phone IS NOT NULL
      AND (hp.paused OR hc.paused OR hp.unapproved OR hp.winding_up))";

/// What a contact becomes that is called off: the columns of `planned_contact k`; `{reason}` is SQL.
/// One in somebody's hands stays there until the claim ends.
fn called_off(reason: &str) -> String {
    format!(
        "end_reason = {reason},
         state = CASE k.state WHEN 'claimed' THEN k.state ELSE 'cancelled' END,
         next_at = CASE k.state WHEN 'claimed' THEN k.next_at END, updated_at = now()"
    )
}

/// How a phase's members are called, as it is kept.
#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Jsonb)]
    phone: Value,
    #[diesel(sql_type = Nullable<Text>)]
    contact_plan: Option<String>,
}

/// How members are called, of the JSON of an outbound.
///
/// # Errors
/// `Stored` when another version wrote what this one does not know.
pub fn read(phone: &Value) -> Result<Calls> {
    serde_json::from_value(phone.clone())
        .map_err(|e| StoreError::Stored(format!("how an outbound calls: {e}")))
}

/// Whether a phase's members are called.
pub async fn is_by_phone(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        found: bool,
    }
    let row: Row = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM outbound
                        WHERE tenant_id = $1 AND phase_id = $2 AND phone IS NOT NULL) AS found",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .get_result(conn)
    .await?;
    Ok(row.found)
}

/// A part of a launch by phone.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The phase.
    pub phase: PhaseId,
    /// Members with a greater seq …
    pub after: i64,
    /// … up to this one.
    pub until: i64,
    /// The launch's day, in the tenant's time zone.
    pub launched: NaiveDate,
    /// The last day of its offers.
    pub last_day: NaiveDate,
}

/// Plans a contact for each member of the part. A member whose offer has no document, was withdrawn or
/// answered meanwhile, who has accepted another one for the contract meanwhile, or whose number is gone, gets one
/// that is called off and says so.
///
/// # Errors
/// `Missing` when the phase's members are not called.
pub async fn plan_contacts(conn: &mut Conn, tenant: &Tenant, part: Part) -> Result<usize> {
    let stored: Option<Stored> = diesel::sql_query(
        "SELECT id, phone, contact_plan FROM outbound
         WHERE tenant_id = $1 AND phase_id = $2 AND phone IS NOT NULL ORDER BY number LIMIT 1",
    )
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<SqlUuid, _>(part.phase.0)
    .get_result(conn)
    .await
    .optional()?;
    let stored = stored.ok_or_else(|| StoreError::Missing("an outbound by phone".into()))?;
    let calls = read(&stored.phone)?;
    let (zone, calendar) = match &stored.contact_plan {
        Some(code) => of_plan(conn, tenant, code).await?,
        None => (tenant.time_zone, any_day()),
    };
    let offers_end = end_of(part.last_day, tenant.time_zone);
    let (now, _) = tenant::clock(conn, tenant.id).await?;
    let times = calls.times(part.launched, offers_end, &calendar, zone, now);
    // Nobody answers or takes back an offer meanwhile: it would not find the contact to be called off.
    diesel::sql_query(
        "SELECT 1 FROM offer
         WHERE tenant_id = $1 AND phase_id = $2 AND member_seq > $3 AND member_seq <= $4
         ORDER BY member_seq FOR SHARE",
    )
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<SqlUuid, _>(part.phase.0)
    .bind::<BigInt, _>(part.after)
    .bind::<BigInt, _>(part.until)
    .execute(conn)
    .await?;
    Ok(diesel::sql_query(&INSERT[..])
        .bind::<SqlUuid, _>(tenant.id.0)
        .bind::<SqlUuid, _>(part.phase.0)
        .bind::<BigInt, _>(part.after)
        .bind::<BigInt, _>(part.until)
        .bind::<SqlUuid, _>(stored.id)
        .bind::<Nullable<Text>, _>(&stored.contact_plan)
        .bind::<Date, _>(times.date)
        .bind::<Timestamptz, _>(times.from)
        .bind::<Timestamptz, _>(times.to)
        .bind::<Timestamptz, _>(times.ends_at)
        .bind::<Text, _>(&calls.responsible)
        .bind::<Integer, _>(calls.priority)
        .bind::<Array<Text>, _>(&calls.skills)
        .bind::<Text, _>(&calls.note)
        .execute(conn)
        .await?)
}

fn any_day() -> Calendar {
    Calendar::new(Weekdays::ANY, None, [])
}

/// Time zone and workdays of a plan.
async fn of_plan(
    conn: &mut Conn,
    tenant: &Tenant,
    code: &str,
) -> Result<(chrono_tz::Tz, Calendar)> {
    let found = plan::get(conn, tenant.id, code).await?;
    let found = found.ok_or_else(|| StoreError::Missing(plan::resource(code)))?;
    let zone = match &found.time_zone[..] {
        "" => tenant.time_zone,
        name => name
            .parse()
            .map_err(|e| StoreError::Stored(format!("a time zone: {e}")))?,
    };
    let calendar = match &found.calendar_id {
        Some(id) => calendar::get(conn, tenant.id, id).await?,
        None => None,
    };
    match calendar {
        Some(calendar) => Ok((zone, calendar.rules()?)),
        None => Ok((zone, any_day())),
    }
}

/// By whole keys, see [`crate::launch`]. The message is the newest about the contract in the phase whose
/// reactions the audience is made of. `end_code` is what reactions go by: the customer could not be called at all.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO planned_contact (tenant_id, id, source, plan_code, customer_id, plan_date,
        contact_date, contact_at, window_from, window_to, next_at, state, responsible, priority,
        skills, details, outbound_id, member_seq, offer_id, message_id, operation_id, ends_at,
        end_reason, end_code)
    SELECT $1, anklang_uuid7(), CASE WHEN au.reaction IS NULL THEN 'campaign' ELSE 'handover' END, $6,
           m.customer_id, $7, $7, $8, $8, $9, CASE WHEN why.reason = '' THEN $8 END,
           CASE WHEN why.reason = '' THEN 'open' ELSE 'cancelled' END, $11, $12, $13,
           jsonb_build_object('phone', coalesce(cp.address, ''), 'note', $14),
           $5, m.seq, o.id, before.id, p.operation_id, $10, why.reason,
           CASE why.reason WHEN '{NO_DOCUMENT}' THEN 'no_document' WHEN '{NO_NUMBER}' THEN 'no_number'
                ELSE '' END
    FROM audience_member m
    JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
    JOIN audience au ON au.tenant_id = m.tenant_id AND au.phase_id = m.phase_id
    JOIN LATERAL (SELECT id, state, withdraw_reason FROM offer
        WHERE tenant_id = $1 AND phase_id = m.phase_id AND member_seq = m.seq OFFSET 0) o ON true
    LEFT JOIN LATERAL (SELECT address FROM contact_point
        WHERE tenant_id = $1 AND id = m.contact_point_id OFFSET 0) cp ON true
    LEFT JOIN LATERAL (
        SELECT x.id FROM offer r JOIN message x ON x.tenant_id = r.tenant_id AND x.offer_id = r.id
        WHERE r.tenant_id = $1 AND r.contract_id = m.contract_id
          AND r.phase_id = (au.reaction->>'phase')::uuid
        ORDER BY x.id DESC LIMIT 1) before ON true
    CROSS JOIN LATERAL (SELECT CASE
        WHEN o.state = 'draft' THEN '{NO_DOCUMENT}'
        WHEN cp.address IS NULL THEN '{NO_NUMBER}'
        WHEN o.withdraw_reason = '{ANOTHER_ACCEPTED}' THEN o.withdraw_reason
        WHEN o.state <> 'open' THEN 'the offer is not open any more'
        ELSE '' END AS reason) why
    WHERE m.tenant_id = $1 AND m.phase_id = $2 AND m.seq > $3 AND m.seq <= $4
      AND m.exclusion IS NULL"
    )
});

/// Why a customer could not be called at all.
const NO_DOCUMENT: &str = "its document could not be made";
const NO_NUMBER: &str = "the phone number was removed";

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

fn ids(rows: &[IdRow]) -> Vec<Uuid> {
    rows.iter().map(|row| row.id).collect()
}

/// Holds the contacts about these offers that are not over.
async fn held(conn: &mut Conn, tenant: TenantId, offers: &[Uuid]) -> Result<Vec<IdRow>> {
    // By a statement of its own: what changes the rows then finds them as they are. Whoever claims or
    // ends a claim is waited for; offers are always locked before their contacts.
    Ok(diesel::sql_query(
        "SELECT id FROM planned_contact
         WHERE tenant_id = $1 AND offer_id = ANY($2) AND state IN ('open', 'waiting', 'claimed')
         ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(offers)
    .load(conn)
    .await?)
}

/// Calls off the contacts about those of the offers that are not open any more, in the transaction that
/// has changed the offers.
pub(crate) async fn call_off(conn: &mut Conn, tenant: TenantId, offers: &[Uuid]) -> Result<()> {
    let held = held(conn, tenant, offers).await?;
    if held.is_empty() {
        return Ok(());
    }
    let set = called_off(&format!(
        "CASE o.state WHEN 'accepted' THEN 'the offer was accepted'
                      WHEN 'rejected' THEN 'the offer was rejected'
                      WHEN 'expired' THEN 'the offer has expired'
                      WHEN 'withdrawn' THEN CASE
                           WHEN o.withdraw_reason = '{ANOTHER_ACCEPTED}' THEN o.withdraw_reason
                           WHEN o.superseded_by IS NULL THEN 'the offer was withdrawn'
                           ELSE 'the offer was superseded' END END"
    ));
    diesel::sql_query(format!(
        "UPDATE planned_contact k SET {set}
         FROM offer o
         WHERE k.tenant_id = $1 AND k.id = ANY($2) AND k.state IN ('open', 'waiting', 'claimed')
           AND o.tenant_id = $1 AND o.id = k.offer_id AND o.state NOT IN ('draft', 'open')"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids(&held))
    .execute(conn)
    .await?;
    Ok(())
}

/// Calls off the contacts about offers that `newer` ones have just superseded.
pub(crate) async fn call_off_superseded(
    conn: &mut Conn,
    tenant: TenantId,
    newer: &[Uuid],
) -> Result<()> {
    let offers: Vec<IdRow> = diesel::sql_query(
        "SELECT k.offer_id AS id
         FROM offer n
         CROSS JOIN LATERAL (SELECT id FROM offer
             WHERE tenant_id = $1 AND contract_id = n.contract_id AND superseded_by = n.id
             OFFSET 0) o
         CROSS JOIN LATERAL (SELECT offer_id FROM planned_contact
             WHERE tenant_id = $1 AND offer_id = o.id OFFSET 0) k
         WHERE n.tenant_id = $1 AND n.id = ANY($2)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(newer)
    .load(conn)
    .await?;
    if offers.is_empty() {
        return Ok(());
    }
    call_off(conn, tenant, &ids(&offers)).await
}

/// Calls off all contacts with a customer who is erased. One that somebody is at is called off for it once it is free.
pub(crate) async fn call_off_customer(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
) -> Result<()> {
    // By a statement of its own, as in `held`.
    let held: Vec<IdRow> = diesel::sql_query(format!(
        "SELECT id FROM planned_contact
         WHERE tenant_id = $1 AND customer_id = $2 AND {LEFT} ORDER BY id FOR UPDATE"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .load(conn)
    .await?;
    if held.is_empty() {
        return Ok(());
    }
    let set = called_off("'the customer was erased'");
    diesel::sql_query(format!(
        "UPDATE planned_contact k SET {set} WHERE k.tenant_id = $1 AND k.id = ANY($2)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids(&held))
    .execute(conn)
    .await?;
    Ok(())
}

/// What is left to be called off of a phase that was given up, or of a customer.
const LEFT: &str = "(state IN ('open', 'waiting') OR state = 'claimed' AND end_reason = '')";

/// Calls off at most `limit` contacts of a phase that was given up, for the reason `why`, SQL over the
/// phase `p`. What somebody holds at this moment is left for the next time.
pub(crate) async fn wind_up(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    why: &str,
    limit: i64,
) -> Result<()> {
    // By a statement of its own, as in `held`.
    let held: Vec<IdRow> = diesel::sql_query(format!(
        "SELECT id FROM planned_contact
         WHERE tenant_id = $1 AND {LEFT} AND outbound_id = ANY(ARRAY(
             SELECT id FROM outbound WHERE tenant_id = $1 AND phase_id = $2 AND phone IS NOT NULL))
         LIMIT $3 FOR UPDATE SKIP LOCKED"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    if held.is_empty() {
        return Ok(());
    }
    let set = called_off(why);
    diesel::sql_query(format!(
        "UPDATE planned_contact k SET {set} FROM phase p
         WHERE k.tenant_id = $1 AND k.id = ANY($3) AND p.tenant_id = $1 AND p.id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<Array<SqlUuid>, _>(ids(&held))
    .execute(conn)
    .await?;
    Ok(())
}

/// ` AND …`: nothing is left of the phase `$2`.
pub(crate) fn nothing_left() -> String {
    format!(
        " AND NOT EXISTS (
             SELECT FROM outbound o
             CROSS JOIN LATERAL (SELECT FROM planned_contact
                 WHERE tenant_id = $1 AND outbound_id = o.id AND {LEFT} LIMIT 1) x
             WHERE o.tenant_id = $1 AND o.phase_id = $2 AND o.phone IS NOT NULL)"
    )
}

/// ` AND …`: no contact of the phase `p` is to be made any more.
pub(crate) const ALL_OVER: &str = "
           AND (SELECT count(*) = 0 FROM (
                    SELECT FROM outbound po
                    CROSS JOIN LATERAL (SELECT FROM planned_contact k
                        WHERE k.tenant_id = po.tenant_id AND k.outbound_id = po.id
                          AND k.state IN ('open', 'waiting', 'claimed') LIMIT 1) x
                    WHERE po.tenant_id = p.tenant_id AND po.phase_id = p.id
                      AND po.phone IS NOT NULL LIMIT 1) uncalled)";

/// Gives up at most `limit` contacts whose last day is over; their customers' histories tell it. Those
/// that somebody is at wait for the end of the claim. Returns how many.
pub async fn give_up_ended(conn: &mut Conn, tenant: TenantId, limit: i64) -> Result<usize> {
    // By a statement of its own, as in `held`.
    let held: Vec<IdRow> = diesel::sql_query(
        "SELECT id FROM planned_contact
         WHERE tenant_id = $1 AND ends_at <= now() AND state IN ('open', 'waiting')
         ORDER BY ends_at LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    if held.is_empty() {
        return Ok(0);
    }
    Ok(diesel::sql_query(
        "WITH ended AS (
             UPDATE planned_contact k
             SET state = 'given_up', next_at = NULL, updated_at = now(),
                 end_reason = CASE k.attempts WHEN 0 THEN 'nobody called in its days'
                                              ELSE 'its days are over' END
             WHERE k.tenant_id = $1 AND k.id = ANY($2)
             RETURNING k.id, k.customer_id, k.outbound_id, k.attempts, k.end_reason)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, e.customer_id, 'contact.given_up', 'plannedContacts/' || e.id, f.campaign_id,
                jsonb_build_object('attempt', e.attempts, 'reason', e.end_reason,
                                   'state', 'given_up')
         FROM ended e
         LEFT JOIN outbound o ON o.tenant_id = $1 AND o.id = e.outbound_id
         LEFT JOIN phase f ON f.tenant_id = $1 AND f.id = o.phase_id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids(&held))
    .execute(conn)
    .await?)
}
