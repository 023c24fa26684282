//! Makes offers, many at a time, with gapless numbers.

use anklang_domain::offer::OpenOffers;
use anklang_domain::{ContractId, OfferId, PhaseId, ProductVersionId, TenantId};
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Date, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::withdraw::open_drafts;
use crate::{Conn, Result};

/// What makes offers: the same statement for a campaign's chunk and for a single switch.
#[derive(Debug, Clone)]
pub enum Source {
    /// Members of a phase's audience with `after < seq <= until`.
    Members {
        /// The phase.
        phase: PhaseId,
        /// After this seq.
        after: i64,
        /// Up to this seq.
        until: i64,
    },
    /// One contract, without a campaign; the offer gets this id.
    Contract {
        /// The contract.
        contract: ContractId,
        /// The offer's id.
        offer: OfferId,
    },
}

/// The terms of new offers.
#[derive(Debug, Clone)]
pub struct Terms<'a> {
    /// The version that is offered.
    pub product_version: ProductVersionId,
    /// Day of the offer.
    pub offer_date: NaiveDate,
    /// Last day on which it can be accepted.
    pub valid_until: NaiveDate,
    /// Key of the document template; empty when they get no document.
    pub document_template: &'a str,
    /// What happens with open offers for the same contracts.
    pub open_offers: OpenOffers,
    /// They stay drafts until [`super::open_members`], also without a document.
    pub stay_drafts: bool,
}

/// An offer `o` that is open or being made, on a day. Those of a phase that was cancelled
/// or could not be launched are as good as withdrawn.
fn unanswered(day: &'static str) -> String {
    format!(
        "o.state IN ('draft', 'open') AND o.valid_until >= {day} AND NOT EXISTS (
             SELECT FROM phase op WHERE op.tenant_id = o.tenant_id AND op.id = o.phase_id
               AND op.state IN ('cancelled', 'failed'))"
    )
}

/// Makes offers with gapless numbers and writes them to the customers' histories: drafts, or open
/// ones when they get no document. Returns how many: none for a single contract that has an open offer, when these block. The counter is
/// locked first, so that no two make offers of a tenant at the same time.
///
/// annual amount = round(base price + unit price × annual quantity, 2), half away from zero, as in
/// `anklang_domain::offer::annual_amount`.
pub async fn make(
    conn: &mut Conn,
    tenant: TenantId,
    source: &Source,
    terms: &Terms<'_>,
) -> Result<usize> {
    diesel::sql_query(
        "INSERT INTO number_range (tenant_id, kind) VALUES ($1, 'offer') ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "SELECT 1 FROM number_range WHERE tenant_id = $1 AND kind = 'offer' FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    leave_out(conn, tenant, source, terms).await?;
    let (phase, after, until, contract, id) = match source {
        Source::Members {
            phase,
            after,
            until,
        } => (Some(phase.0), *after, *until, None, None),
        Source::Contract { contract, offer } => (None, 0, 0, Some(contract.0), Some(offer.0)),
    };
    let members = if phase.is_some() {
        "SELECT m.customer_id, m.contract_id, p.campaign_id, m.phase_id, m.seq
         FROM audience_member m
         JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
         WHERE m.tenant_id = $1 AND m.phase_id = $2 AND m.seq > $3 AND m.seq <= $4
           AND m.exclusion IS NULL AND $5 IS NULL"
    } else {
        "SELECT c.customer_id, c.id AS contract_id, NULL::uuid AS campaign_id,
                NULL::uuid AS phase_id, NULL::bigint AS seq
         FROM contract c
         WHERE c.tenant_id = $1 AND c.id = $5 AND $2 IS NULL AND $3 = $4 AND c.erased_at IS NULL"
    };
    let unblocked = match (phase, terms.open_offers) {
        (None, OpenOffers::Block) => format!(
            "AND NOT EXISTS (SELECT FROM offer o WHERE o.tenant_id = $1 AND o.contract_id = c.id AND {})",
            unanswered("$7")
        ),
        _ => String::new(),
    };
    let events = diesel::sql_query(format!(
        "WITH member AS MATERIALIZED (
             SELECT s.*, row_number() OVER (ORDER BY s.seq) - 1 AS place FROM ({members} {unblocked}) s),
         range AS (
             UPDATE number_range SET next_value = next_value + (SELECT count(*) FROM member)
             WHERE tenant_id = $1 AND kind = 'offer'
             RETURNING prefix, next_value - (SELECT count(*) FROM member) AS first),
         made AS (
             INSERT INTO offer (tenant_id, id, number, customer_id, contract_id,
                 product_version_id, campaign_id, phase_id, member_seq, document_template, state,
                 base_price_per_year, unit_price_per_kwh, annual_quantity_kwh, annual_amount,
                 currency, offer_date, valid_until, supersedes)
             SELECT $1, coalesce($10, anklang_uuid7()),
                 range.prefix || lpad((range.first + m.place)::text, greatest(8, length((range.first + m.place)::text)), '0'),
                 m.customer_id, m.contract_id, v.id, m.campaign_id, m.phase_id, m.seq, $6,
                 CASE WHEN $6 = '' AND NOT $11 AND NOT $12 THEN 'open' ELSE 'draft' END,
                 v.base_price_per_year, v.unit_price_per_kwh, c.annual_quantity_kwh,
                 round(v.base_price_per_year + v.unit_price_per_kwh * c.annual_quantity_kwh, 2),
                 v.currency, $7, $8, $11
             FROM member m
             CROSS JOIN range
             JOIN contract c ON c.tenant_id = $1 AND c.id = m.contract_id
             JOIN product_version v ON v.tenant_id = $1 AND v.id = $9
             RETURNING tenant_id, customer_id, number, campaign_id, annual_amount, currency)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT tenant_id, customer_id, 'offer.created', 'offers/' || number, campaign_id,
                jsonb_build_object('annual_amount', annual_amount::text, 'currency', currency)
         FROM made"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Nullable<SqlUuid>, _>(phase)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(until)
    .bind::<Nullable<SqlUuid>, _>(contract)
    .bind::<Text, _>(terms.document_template)
    .bind::<Date, _>(terms.offer_date)
    .bind::<Date, _>(terms.valid_until)
    .bind::<SqlUuid, _>(terms.product_version.0)
    .bind::<Nullable<SqlUuid>, _>(id)
    .bind::<Bool, _>(terms.open_offers == OpenOffers::Supersede)
    .bind::<Bool, _>(terms.stay_drafts)
    .execute(conn)
    .await?;
    if let (true, OpenOffers::Supersede, Source::Members { .. }) = (
        terms.document_template.is_empty() && !terms.stay_drafts,
        terms.open_offers,
        source,
    ) {
        let made: Vec<Made> = diesel::sql_query(
            "SELECT id FROM offer
             WHERE tenant_id = $1 AND phase_id = $2 AND member_seq > $3 AND member_seq <= $4",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Nullable<SqlUuid>, _>(phase)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(until)
        .load(conn)
        .await?;
        let made: Vec<Uuid> = made.into_iter().map(|m| m.id).collect();
        open_drafts(conn, tenant, &made).await?;
    }
    Ok(events)
}

#[derive(QueryableByName)]
struct Made {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Members whose contract has lost its quantity since the audience was frozen have no price, and
/// with [`OpenOffers::Block`] others may have got an offer meanwhile: they are left out, as they
/// would have been then. The contracts are locked, so that it stays so.
async fn leave_out(
    conn: &mut Conn,
    tenant: TenantId,
    source: &Source,
    terms: &Terms<'_>,
) -> Result<()> {
    let Source::Members {
        phase,
        after,
        until,
    } = source
    else {
        return Ok(());
    };
    let unanswered = unanswered("$6");
    diesel::sql_query(format!(
        "WITH priced AS MATERIALIZED (
             SELECT m.seq, m.contract_id, c.annual_quantity_kwh FROM audience_member m
             JOIN contract c ON c.tenant_id = $1 AND c.id = m.contract_id
             WHERE m.tenant_id = $1 AND m.phase_id = $2 AND m.seq > $3 AND m.seq <= $4
               AND m.exclusion IS NULL
             FOR SHARE OF c),
         barred AS MATERIALIZED (
             SELECT seq, 'no_quantity' AS reason FROM priced WHERE annual_quantity_kwh IS NULL
             UNION ALL
             SELECT seq, 'open_offer' FROM priced p
             WHERE $5 AND annual_quantity_kwh IS NOT NULL AND EXISTS (
                 SELECT FROM offer o WHERE o.tenant_id = $1 AND o.contract_id = p.contract_id
                   AND o.phase_id IS DISTINCT FROM $2 AND {unanswered})),
         left_out AS (
             UPDATE audience_member m SET exclusion = b.reason FROM barred b
             WHERE m.tenant_id = $1 AND m.phase_id = $2 AND m.seq = b.seq
               -- As an array: looked up by the whole key, whatever the planner expects.
               AND m.seq = ANY(ARRAY(SELECT seq FROM barred))
             RETURNING 1)
         UPDATE audience SET members = members - (SELECT count(*) FROM left_out)
         WHERE tenant_id = $1 AND phase_id = $2 AND EXISTS (SELECT FROM left_out)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(*after)
    .bind::<BigInt, _>(*until)
    .bind::<Bool, _>(terms.open_offers == OpenOffers::Block)
    .bind::<Date, _>(terms.offer_date)
    .execute(conn)
    .await?;
    Ok(())
}
