//! The set-based steps of a launch. Each runs in its chunk's transaction, together with
//! [`crate::operation::advance`].
//!
//! The rows are new, and so unknown to the planner: what belongs to a member is looked up by
//! lateral joins, fenced with `OFFSET 0` as in the import, and [`gather_statistics`] follows.

mod reaction;

use anklang_domain::channel::{PHONE, contact_channel};
use anklang_domain::offer::OpenOffers;
use anklang_domain::phase::{PhaseState, Reaction};
use anklang_domain::route::Split;
use anklang_domain::selection::{Criteria, Subject};
use anklang_domain::{OperationId, PhaseId, ProductVersionId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Date, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::message::PLACE;
use crate::offer::CONTRACT_EXCLUSIONS;
use crate::planning::calls;
use crate::selection::{self, Statement};
use crate::tenant::Tenant;
use crate::{Conn, Result, Store, StoreError, budget};

/// How large an audience is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct AudienceSize {
    /// What the selection found; also the last seq.
    #[diesel(sql_type = BigInt)]
    pub candidates: i64,
    /// Members.
    #[diesel(sql_type = BigInt)]
    pub members: i64,
}

/// The size of a frozen audience.
pub async fn audience_size(
    conn: &mut Conn,
    tenant: TenantId,
    of: AudienceOf,
) -> Result<AudienceSize> {
    let (audience, key) = (of.audience(), of.key());
    Ok(diesel::sql_query(format!(
        "SELECT candidates, members FROM {audience} WHERE tenant_id = $1 AND {key} = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(of.id())
    .get_result(conn)
    .await?)
}

/// From so many candidates on statistics are gathered.
const MANY: i64 = 10_000;

/// Gathers the statistics of the tables that a launch fills, after a step that wrote many rows.
pub async fn gather_statistics(store: &Store, candidates: i64) -> Result<()> {
    if candidates < MANY {
        return Ok(());
    }
    store
        .analyze(&[
            "audience_member",
            "offer",
            "message",
            "planned_contact",
            "customer_event",
        ])
        .await
}

/// Queues one message for each member with `after < seq <= until`. A member whose offer has no
/// document, or whose address is gone, gets a failed message that says so, and one whose offer was
/// withdrawn or answered meanwhile a cancelled one: the ledger adds up. With a split each message goes
/// to one of its accounts, else all go to the outbound's.
pub async fn queue_messages(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    after: i64,
    until: i64,
    split: Option<&Split>,
) -> Result<usize> {
    let ranges = split.map_or(&[][..], |split| &split.ranges);
    Ok(diesel::sql_query(format!(
        "WITH m AS MATERIALIZED (
             SELECT anklang_uuid7() AS id, p.campaign_id, p.id AS phase_id, ob.id AS outbound_id,
                 m.seq, m.customer_id, o.id AS offer_id, ob.channel, ob.account,
                 coalesce(cp.address, '') AS address, coalesce(cp.address_hash, '') AS address_hash,
                 ob.purpose,
                 CASE WHEN o.state = 'draft' OR cp.id IS NULL THEN 'failed'
                      WHEN o.state <> 'open' THEN 'cancelled' ELSE 'queued' END AS state,
                 CASE WHEN o.state = 'draft' THEN 'its document could not be made'
                      WHEN cp.id IS NULL THEN 'the address was removed'
                      WHEN o.state <> 'open' THEN 'the offer is not open any more' ELSE '' END AS detail
             FROM audience_member m
             JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
             JOIN outbound ob ON ob.tenant_id = m.tenant_id AND ob.phase_id = m.phase_id
             JOIN LATERAL (SELECT id, state FROM offer WHERE tenant_id = m.tenant_id
                           AND phase_id = m.phase_id AND member_seq = m.seq OFFSET 0) o ON true
             LEFT JOIN LATERAL (
                 SELECT id, address, address_hash FROM contact_point
                 WHERE tenant_id = m.tenant_id AND id = m.contact_point_id OFFSET 0) cp ON true
             WHERE m.tenant_id = $1 AND m.phase_id = $2 AND m.seq > $3 AND m.seq <= $4
               AND m.exclusion IS NULL)
         INSERT INTO message (tenant_id, id, campaign_id, phase_id, outbound_id, member_seq,
             customer_id, offer_id, channel, account, address, address_hash, purpose, state, detail)
         SELECT $1, m.id, m.campaign_id, m.phase_id, m.outbound_id, m.seq, m.customer_id, m.offer_id,
             m.channel, coalesce(s.account, m.account), m.address, m.address_hash, m.purpose, m.state,
             m.detail
         FROM m LEFT JOIN unnest($5::text[], $6::bigint[], $7::bigint[]) s (account, first, after)
             ON {PLACE} % $8 >= s.first AND {PLACE} % $8 < s.after"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(until)
    .bind::<Array<Text>, _>(ranges.iter().map(|r| &r.account[..]).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(ranges.iter().map(|r| r.from).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(ranges.iter().map(|r| r.until).collect::<Vec<_>>())
    .bind::<BigInt, _>(split.map_or(1, |split| split.total))
    .execute(conn)
    .await?)
}

/// Opens the phase: everything is made. Offers whose document could not be made are withdrawn;
/// nobody has seen them. Says whether the phase was still being launched; else it was cancelled, and
/// the caller rolls back.
pub async fn activate(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<bool> {
    diesel::sql_query(
        "UPDATE offer SET state = 'withdrawn', withdrawn_at = now(),
                withdraw_reason = 'its document could not be made', updated_at = now()
         WHERE tenant_id = $1 AND phase_id = $2 AND state = 'draft'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .execute(conn)
    .await?;
    let activated = diesel::sql_query(
        "UPDATE phase SET state = 'active' WHERE tenant_id = $1 AND id = $2 AND state = 'launching'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .execute(conn)
    .await?;
    Ok(activated == 1)
}

/// Gives a launch up, for it was cancelled or has failed. From then on its open offers read as
/// withdrawn and nothing is sent; [`crate::phase::wind_up`] writes it down.
pub async fn abandon(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    state: PhaseState,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE phase SET state = CASE WHEN state = 'cancelled' THEN state ELSE $3 END,
                paused = false, winding_up = true
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<Text, _>(state.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whose audience it is, and so the tables in which it is kept.
#[derive(Debug, Clone, Copy)]
pub enum AudienceOf {
    /// A phase's: `audience` and `audience_member`.
    Phase(PhaseId),
    /// A dry run's, by its operation: `dry_run` and `dry_run_candidate`.
    DryRun(OperationId),
}

impl AudienceOf {
    pub(crate) fn id(self) -> Uuid {
        match self {
            AudienceOf::Phase(id) => id.0,
            AudienceOf::DryRun(id) => id.0,
        }
    }

    /// The audience itself, with the criteria.
    fn audience(self) -> &'static str {
        match self {
            AudienceOf::Phase(_) => "audience",
            AudienceOf::DryRun(_) => "dry_run",
        }
    }

    /// Its members and everyone left out.
    pub(crate) fn candidates(self) -> &'static str {
        match self {
            AudienceOf::Phase(_) => "audience_member",
            AudienceOf::DryRun(_) => "dry_run_candidate",
        }
    }

    /// The column by which both belong to it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            AudienceOf::Phase(_) => "phase_id",
            AudienceOf::DryRun(_) => "dry_run_id",
        }
    }
}

/// What freezing an audience needs to know.
#[derive(Debug, Clone)]
pub struct Freeze<'a> {
    /// Whose audience it is.
    pub of: AudienceOf,
    /// The version that is offered.
    pub product_version: ProductVersionId,
    /// The channel of the outbound.
    pub channel: &'a str,
    /// Purpose for which consent is needed.
    pub purpose: &'a str,
    /// The launch's day, in the tenant's time zone.
    pub today: NaiveDate,
    /// What happens with contracts that have an open offer.
    pub open_offers: OpenOffers,
    /// One member for each household.
    pub one_per_household: bool,
    /// Contracts that end on this day or before are left out.
    pub ending_by: Option<NaiveDate>,
    /// Contracts to which notice was given are left out, whenever they end.
    pub leave_out_terminated: bool,
}

/// A contract to which notice was given gets no offer, also while it goes on. Follows the contract's own exclusions, for
/// the same `subject` and `target`.
const TERMINATED: &str = " WHEN subject.notice_date <= target.today THEN 'contract_terminated'";

/// A contract with an open offer, or one being made, gets no other. Follows the contract's own
/// exclusions, for the same `subject` and `target`.
const OPEN_OFFER: &str = "
    WHEN EXISTS (SELECT FROM offer o WHERE o.tenant_id = subject.tenant_id
        AND o.contract_id = subject.id AND o.state IN ('draft', 'open')
        AND o.valid_until >= target.today AND NOT EXISTS (
            SELECT FROM phase op WHERE op.tenant_id = o.tenant_id AND op.id = o.phase_id
              AND op.state IN ('cancelled', 'failed'))) THEN 'open_offer'";

/// The best address on the channel, and whether it is blocked.
const ADDRESS: &str = "
             SELECT cp.id, s.address_hash IS NOT NULL AS blocked
             FROM contact_point cp
             LEFT JOIN suppression s ON s.tenant_id = cp.tenant_id AND s.channel = cp.channel
                                    AND s.address_hash = cp.address_hash
             WHERE cp.tenant_id = subject.tenant_id AND cp.customer_id = subject.customer_id
               AND cp.channel = target.contact_channel
             ORDER BY blocked, cp.position, cp.address LIMIT 1";

/// The same for calls: any number will do, and must not be blocked as one of either kind; see `looked_up`
/// in `planning/work/claim.rs`.
const NUMBER: &str = "
             SELECT cp.id, known.blocked
             FROM contact_point cp
             CROSS JOIN LATERAL (
                 SELECT bool_or(s.channel IS NOT NULL) AS blocked
                 FROM (VALUES ('phone'), ('mobile')) kind (channel)
                 LEFT JOIN suppression s ON s.tenant_id = cp.tenant_id AND s.channel = kind.channel
                      AND s.address_hash = sha256(uuid_send(cp.tenant_id)
                          || convert_to(kind.channel, 'UTF8') || '\\x00'::bytea
                          || convert_to(cp.address, 'UTF8'))
                 OFFSET 0) known
             WHERE cp.tenant_id = subject.tenant_id AND cp.customer_id = subject.customer_id
               AND cp.channel IN ('phone', 'mobile')
             ORDER BY known.blocked, cp.channel DESC, cp.position, cp.address LIMIT 1";

/// Freezes the audience: every contract that the stored criteria find at `now` becomes a
/// candidate, a member unless one of the exclusions holds. The address is the best one that is not
/// blocked.
pub async fn freeze(
    conn: &mut Conn,
    tenant: &Tenant,
    what: &Freeze<'_>,
    now: DateTime<Utc>,
) -> Result<AudienceSize> {
    let (id, audience) = (what.of.id(), what.of.audience());
    let (candidates, key) = (what.of.candidates(), what.of.key());
    let stored: Stored = diesel::sql_query(format!(
        "SELECT criteria, deselected, included, reaction FROM {audience}
         WHERE tenant_id = $1 AND {key} = $2"
    ))
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<SqlUuid, _>(id)
    .get_result(conn)
    .await?;
    let criteria: Criteria = serde_json::from_value(stored.criteria)
        .map_err(|e| StoreError::Stored(format!("criteria of an audience: {e}")))?;
    let prepared = selection::prepare(conn, tenant, Subject::Contract, &criteria, now).await?;
    let prepared = prepared.with_numbers(stored.included, Vec::new());
    let reaction: Option<Reaction> = stored
        .reaction
        .map(serde_json::from_value)
        .transpose()
        .map_err(|e| StoreError::Stored(format!("reaction of an audience: {e}")))?;
    let shown = match &reaction {
        None => Statement::default(),
        Some(r) => {
            let by_phone = calls::is_by_phone(conn, tenant.id, r.phase).await?;
            reaction::has_shown(tenant.id, r, by_phone, now, what.today)
        }
    };

    Statement::new("INSERT INTO ")
    .sql(candidates)
    .sql(" (tenant_id, ")
    .sql(key)
    .sql(", seq, customer_id, contract_id, contact_point_id, exclusion)
         SELECT subject.tenant_id, ")
    .bind::<SqlUuid, _>(id)
    .sql(
        ", row_number() OVER (ORDER BY subject.number), subject.customer_id, subject.id,
         CASE WHEN NOT point.blocked THEN point.id END,
         CASE WHEN subject.number = ANY(",
    )
    .bind::<Array<Text>, _>(stored.deselected)
    .sql(") THEN 'deselected'")
    .sql(CONTRACT_EXCLUSIONS)
    .sql(if what.leave_out_terminated {
        TERMINATED
    } else {
        ""
    })
    .sql(" WHEN subject.end_date <= ")
    .bind::<Nullable<Date>, _>(what.ending_by)
    .sql(" THEN 'contract_ending'")
    .sql(match what.open_offers {
        OpenOffers::Block => OPEN_OFFER,
        OpenOffers::Allow | OpenOffers::Supersede => "",
    })
    .sql(
        " WHEN point.id IS NULL THEN 'no_address'
          WHEN point.blocked THEN 'suppressed'
          WHEN consent.state IS DISTINCT FROM 'granted' THEN 'no_consent' END
         FROM contract subject
         CROSS JOIN (SELECT v.id, v.tenant_id, p.division, ",
    )
    .bind::<Date, _>(what.today)
    .sql(" AS today, ")
    .bind::<Text, _>(contact_channel(what.channel).to_owned())
    .sql(
        " AS contact_channel
              FROM product_version v JOIN product p ON p.tenant_id = v.tenant_id AND p.id = v.product_id
              WHERE v.tenant_id = ",
    )
    .bind::<SqlUuid, _>(tenant.id.0)
    .sql(" AND v.id = ")
    .bind::<SqlUuid, _>(what.product_version.0)
    .sql(
        ") target
         LEFT JOIN LATERAL (",
    )
    .sql(if what.channel == PHONE { NUMBER } else { ADDRESS })
    .sql(
        ") point ON true
         LEFT JOIN consent ON consent.tenant_id = subject.tenant_id
              AND consent.customer_id = subject.customer_id AND consent.channel = ",
    )
    .bind::<Text, _>(what.channel.to_owned())
    .sql(" AND consent.purpose = ")
    .bind::<Text, _>(what.purpose.to_owned())
    .sql(" WHERE ")
    .criteria(&prepared)
    .append(&shown)
    .execute(conn)
    .await?;
    // The members are new, and so unknown to the planner: see `Store::begin_work`.
    diesel::sql_query("SELECT set_config('plan_cache_mode', 'force_generic_plan', true)")
        .execute(conn)
        .await?;
    let earlier = reaction.map(|reaction| reaction.phase);
    budget::exclude(conn, tenant.id, what.of, what.purpose, earlier, now).await?;
    if what.one_per_household {
        leave_out_households(conn, tenant.id, what.of).await?;
    }

    Ok(diesel::sql_query(format!(
        "UPDATE {audience} a SET frozen_at = now(), candidates = counted.candidates,
                                 members = counted.members
         FROM (SELECT count(*) AS candidates, count(*) FILTER (WHERE exclusion IS NULL) AS members
               FROM {candidates} WHERE tenant_id = $1 AND {key} = $2) counted
         WHERE a.tenant_id = $1 AND a.{key} = $2
         RETURNING a.candidates, a.members"
    ))
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<SqlUuid, _>(id)
    .get_result(conn)
    .await?)
}

/// Of the members that are persons with the same address, all but the first are left out.
async fn leave_out_households(conn: &mut Conn, tenant: TenantId, of: AudienceOf) -> Result<()> {
    let (candidates, key) = (of.candidates(), of.key());
    diesel::sql_query(format!(
        "UPDATE {candidates} m SET exclusion = 'duplicate_household', contact_point_id = NULL
         FROM (SELECT seq, row_number() OVER (PARTITION BY household ORDER BY seq) AS place
               FROM (SELECT m.seq, anklang_household(c.street, c.house_number, c.postal_code,
                                                     c.country) AS household
                     FROM {candidates} m
                     JOIN customer c ON c.tenant_id = m.tenant_id AND c.id = m.customer_id
                     WHERE m.tenant_id = $1 AND m.{key} = $2 AND m.exclusion IS NULL
                       AND c.kind = 'person') lives
               WHERE household IS NOT NULL) placed
         WHERE m.tenant_id = $1 AND m.{key} = $2 AND m.seq = placed.seq AND placed.place > 1"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(of.id())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the version that a phase offers is not valid any more on that day.
pub async fn target_is_over(
    conn: &mut Conn,
    tenant: TenantId,
    version: ProductVersionId,
    today: NaiveDate,
) -> Result<bool> {
    Ok(diesel::sql_query(
        "SELECT 1 FROM product_version WHERE tenant_id = $1 AND id = $2 AND valid_to < $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(version.0)
    .bind::<Date, _>(today)
    .execute(conn)
    .await?
        > 0)
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Jsonb)]
    criteria: serde_json::Value,
    #[diesel(sql_type = Nullable<Jsonb>)]
    reaction: Option<serde_json::Value>,
    #[diesel(sql_type = Array<Text>)]
    deselected: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    included: Vec<String>,
}
