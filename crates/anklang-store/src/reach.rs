//! Proof of reach: what became of every candidate of a campaign, in sums that add up and one by
//! one; and of every candidacy of a customer.
//!
//! Perhaps a million rows, perhaps of a campaign that statistics do not know yet: what belongs to a
//! row is looked up by its whole key (fenced, see [`crate::launch`]), in transactions of
//! [`crate::Store::begin_work`].

use anklang_domain::{CampaignId, TenantId};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    BigInt, Bool, Bytea, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result};

/// Of each state so many reasons are told apart, the most frequent ones; the rest is one.
const REASONS: i32 = 50;

/// So many of a campaign's candidates had the same fate.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Fate {
    /// Number of the phase.
    #[diesel(sql_type = Integer)]
    pub phase_number: i32,
    /// `excluded`, the state of the member's message, `contact_` and that of its planned contact, or
    /// `no_message`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Why; the exclusion's word, or what was last said.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub n: i64,
}

/// What channels say has names and times in it: of an answer of a mail server the codes count.
const REASON: &str = "CASE WHEN m.state IN ('sent', 'delivered') THEN ''
    ELSE coalesce(substring(m.detail FROM '^[2-5][0-9][0-9](?: [245][.][0-9]{1,3}[.][0-9]{1,3})?(?![0-9])'),
                  m.detail) END";

/// What became of the member with the message `m` or the planned contact `k`; else it is left out by `a`.
const STATE: &str = "CASE WHEN a.exclusion IS NOT NULL THEN 'excluded'
    ELSE coalesce(m.state, 'contact_' || k.state, 'no_message') END";

/// Why a planned contact `k` is as it is.
const CONTACT_REASON: &str = "coalesce(nullif(k.end_reason, ''), k.outcome_class)";

/// What became of a campaign's candidates: each is counted once, in one statement and so as of one
/// moment. By phase, and in it by state and number.
pub async fn fates(conn: &mut Conn, tenant: TenantId, campaign: CampaignId) -> Result<Vec<Fate>> {
    Ok(diesel::sql_query(format!(
        "WITH one AS (
             SELECT p.number AS phase_number, {STATE} AS state,
                    coalesce(a.exclusion, {REASON}, {CONTACT_REASON}, '') AS reason
             FROM phase p
             JOIN audience_member a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
             LEFT JOIN outbound o ON o.tenant_id = p.tenant_id AND o.phase_id = p.id AND o.number = 1
             LEFT JOIN LATERAL (SELECT state, detail FROM message
                 WHERE tenant_id = $1 AND outbound_id = o.id AND member_seq = a.seq OFFSET 0) m ON true
             LEFT JOIN LATERAL (SELECT state, end_reason, outcome_class FROM planned_contact
                 WHERE tenant_id = $1 AND outbound_id = o.id AND member_seq = a.seq
                   AND o.phone IS NOT NULL OFFSET 0) k ON true
             WHERE p.tenant_id = $1 AND p.campaign_id = $2),
         counted AS (
             SELECT phase_number, state, reason, count(*) AS n,
                    row_number() OVER (PARTITION BY phase_number, state
                                       ORDER BY count(*) DESC, reason) AS place
             FROM one GROUP BY phase_number, state, reason)
         SELECT phase_number, state,
                CASE WHEN place <= $3 THEN reason ELSE 'other reasons' END AS reason,
                sum(n)::bigint AS n
         FROM counted GROUP BY 1, 2, 3 ORDER BY 1, 2, 4 DESC, 3"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Integer, _>(REASONS)
    .load(conn)
    .await?)
}

/// What became of one candidate.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Line {
    /// Number of the phase.
    #[diesel(sql_type = Integer)]
    pub phase_number: i32,
    /// Its place in the phase's audience.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// Contract number.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// As of [`Fate`].
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Why, in full.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// Number of its offer.
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
    /// Its message.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub message_id: Option<Uuid>,
    /// Channel of the message.
    #[diesel(sql_type = Nullable<Text>)]
    pub channel: Option<String>,
    /// Account of the message.
    #[diesel(sql_type = Nullable<Text>)]
    pub account: Option<String>,
    /// Attempts to send it.
    #[diesel(sql_type = Nullable<Integer>)]
    pub attempts: Option<i32>,
    /// SHA-256 of tenant, channel and address.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub address_hash: Option<Vec<u8>>,
    /// SHA-256 of the document.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub document_sha256: Option<Vec<u8>>,
    /// When the message was queued.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub queued_at: Option<DateTime<Utc>>,
    /// When the other side took it.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub sent_at: Option<DateTime<Utc>>,
    /// When it last moved.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub updated_at: Option<DateTime<Utc>>,
    /// Its planned contact.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub contact_id: Option<Uuid>,
}

/// Candidates of a campaign after a place, in order; each once.
pub async fn lines(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    after: (i32, i64),
    limit: i64,
) -> Result<Vec<Line>> {
    // First the keys of the page, then what belongs to them, row by row.
    Ok(diesel::sql_query(format!(
        "WITH page AS MATERIALIZED (
             SELECT p.number AS phase_number, p.id AS phase_id, a.*
             FROM (SELECT id, number FROM phase
                   WHERE tenant_id = $1 AND campaign_id = $2 AND number >= $3
                   ORDER BY number) p
             CROSS JOIN LATERAL (
                 SELECT seq, customer_id, contract_id, contact_point_id, exclusion
                 FROM audience_member
                 WHERE tenant_id = $1 AND phase_id = p.id
                   AND seq > CASE WHEN p.number = $3 THEN $4 ELSE 0 END
                 ORDER BY seq LIMIT $5) a
             ORDER BY p.number, a.seq LIMIT $5)
         SELECT a.phase_number, a.seq, co.number AS contract_number, cu.number AS customer_number,
                {STATE} AS state, coalesce(a.exclusion, m.detail, {CONTACT_REASON}, '') AS reason,
                o.number AS offer_number, m.id AS message_id,
                coalesce(m.channel, CASE WHEN k.id IS NOT NULL THEN ob.channel END) AS channel,
                m.account, coalesce(m.attempt, k.attempts) AS attempts,
                coalesce(m.address_hash, cp.address_hash) AS address_hash,
                d.sha256 AS document_sha256, coalesce(m.created_at, k.created_at) AS queued_at,
                m.sent_at, coalesce(m.updated_at, k.updated_at) AS updated_at, k.id AS contact_id
         FROM page a
         JOIN LATERAL (SELECT number FROM contract
             WHERE tenant_id = $1 AND id = a.contract_id OFFSET 0) co ON true
         JOIN LATERAL (SELECT number FROM customer
             WHERE tenant_id = $1 AND id = a.customer_id OFFSET 0) cu ON true
         LEFT JOIN LATERAL (SELECT id, number FROM offer
             WHERE tenant_id = $1 AND phase_id = a.phase_id AND member_seq = a.seq OFFSET 0) o ON true
         LEFT JOIN LATERAL (SELECT sha256 FROM document
             WHERE tenant_id = $1 AND offer_id = o.id OFFSET 0) d ON true
         LEFT JOIN LATERAL (SELECT id, channel, phone FROM outbound
             WHERE tenant_id = $1 AND phase_id = a.phase_id AND number = 1 OFFSET 0) ob ON true
         LEFT JOIN LATERAL (SELECT * FROM message
             WHERE tenant_id = $1 AND outbound_id = ob.id AND member_seq = a.seq OFFSET 0) m ON true
         LEFT JOIN LATERAL (
             SELECT id, state, end_reason, outcome_class, attempts, created_at, updated_at
             FROM planned_contact
             WHERE tenant_id = $1 AND outbound_id = ob.id AND member_seq = a.seq
               AND ob.phone IS NOT NULL OFFSET 0) k ON true
         LEFT JOIN LATERAL (SELECT address_hash FROM contact_point
             WHERE tenant_id = $1 AND id = a.contact_point_id AND k.id IS NOT NULL
             OFFSET 0) cp ON true
         ORDER BY a.phase_number, a.seq"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Integer, _>(after.0)
    .bind::<BigInt, _>(after.1)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// One candidacy of a customer: a contract in the audience of a phase.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Candidacy {
    /// The campaign.
    #[diesel(sql_type = SqlUuid)]
    pub campaign_id: Uuid,
    /// Its name.
    #[diesel(sql_type = Text)]
    pub campaign_name: String,
    /// Number of the phase.
    #[diesel(sql_type = Integer)]
    pub phase_number: i32,
    /// Contract number.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// As of [`Fate`].
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// When the audience was frozen.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub frozen_at: Option<DateTime<Utc>>,
    /// Number of its offer.
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
    /// Its message.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub message_id: Option<Uuid>,
    /// When the message was sent.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub sent_at: Option<DateTime<Utc>>,
    /// When it is due, while it waits.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Its planned contact.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub contact_id: Option<Uuid>,
}

/// Contracts that a customer has, or was made offers for. An audience is looked through by contract:
/// an index by customer would be one more that a plan without statistics takes for a good one.
const CONTRACTS: &str = "SELECT id FROM contract WHERE tenant_id = $1 AND customer_id = $2
    UNION SELECT contract_id FROM offer WHERE tenant_id = $1 AND customer_id = $2";

/// The candidacies of a customer, newest phase first, at most `limit`.
pub async fn candidacies(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
    campaign: Option<CampaignId>,
    limit: i64,
) -> Result<Vec<Candidacy>> {
    Ok(diesel::sql_query(format!(
        "WITH own AS MATERIALIZED ({CONTRACTS})
         SELECT p.campaign_id, c.name AS campaign_name, p.number AS phase_number,
                co.number AS contract_number, {STATE} AS state,
                coalesce(a.exclusion, m.detail, {CONTACT_REASON}, '') AS reason, au.frozen_at,
                o.number AS offer_number, m.id AS message_id, m.sent_at,
                coalesce(CASE WHEN m.state = 'queued' THEN m.next_attempt_at END, k.next_at)
                    AS next_attempt_at, k.id AS contact_id
         FROM phase p
         CROSS JOIN own
         JOIN LATERAL (SELECT * FROM audience_member
             WHERE tenant_id = $1 AND phase_id = p.id AND contract_id = own.id OFFSET 0) a ON true
         JOIN campaign c ON c.tenant_id = p.tenant_id AND c.id = p.campaign_id
         JOIN audience au ON au.tenant_id = a.tenant_id AND au.phase_id = a.phase_id
         JOIN LATERAL (SELECT number FROM contract
             WHERE tenant_id = $1 AND id = a.contract_id OFFSET 0) co ON true
         LEFT JOIN LATERAL (SELECT id, number FROM offer
             WHERE tenant_id = $1 AND phase_id = a.phase_id AND member_seq = a.seq OFFSET 0) o ON true
         LEFT JOIN LATERAL (SELECT id, state, detail, sent_at, next_attempt_at FROM message
             WHERE tenant_id = $1 AND offer_id = o.id OFFSET 0) m ON true
         LEFT JOIN LATERAL (SELECT id, state, end_reason, outcome_class, next_at FROM planned_contact
             WHERE tenant_id = $1 AND offer_id = o.id OFFSET 0) k ON true
         WHERE p.tenant_id = $1 AND a.customer_id = $2 AND ($3 IS NULL OR p.campaign_id = $3)
         ORDER BY p.created_at DESC, p.number DESC, co.number LIMIT $4"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<Nullable<SqlUuid>, _>(campaign.map(|id| id.0))
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// A phase of which a customer's contracts were no candidates: its criteria did not find them.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Missed {
    /// Number of the phase.
    #[diesel(sql_type = Integer)]
    pub phase_number: i32,
    /// When its audience was frozen; not yet when empty.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub frozen_at: Option<DateTime<Utc>>,
    /// Its criteria.
    #[diesel(sql_type = Jsonb)]
    pub criteria: serde_json::Value,
}

/// Phases of a campaign that have no contract of the customer as a candidate, in order.
pub async fn missed(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
    campaign: CampaignId,
) -> Result<Vec<Missed>> {
    Ok(diesel::sql_query(format!(
        "WITH own AS MATERIALIZED ({CONTRACTS})
         SELECT p.number AS phase_number, a.frozen_at, a.criteria
         FROM phase p JOIN audience a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
         WHERE p.tenant_id = $1 AND p.campaign_id = $3 AND NOT EXISTS (
             SELECT FROM own CROSS JOIN LATERAL (
                 SELECT customer_id FROM audience_member
                 WHERE tenant_id = $1 AND phase_id = p.id AND contract_id = own.id OFFSET 0) m
             WHERE m.customer_id = $2)
         ORDER BY p.number"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<SqlUuid, _>(campaign.0)
    .load(conn)
    .await?)
}

/// An address of a customer.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Address {
    /// Its channel.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// The address.
    #[diesel(sql_type = Text)]
    pub address: String,
    /// Whether it is blocked.
    #[diesel(sql_type = Bool)]
    pub blocked: bool,
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
}

/// A customer's addresses, best first, and whether they are blocked as of now.
pub async fn addresses(conn: &mut Conn, tenant: TenantId, customer: Uuid) -> Result<Vec<Address>> {
    Ok(diesel::sql_query(
        "SELECT cp.channel, cp.address, s.address_hash IS NOT NULL AS blocked,
                coalesce(s.reason, '') AS reason
         FROM contact_point cp
         LEFT JOIN suppression s ON s.tenant_id = cp.tenant_id AND s.channel = cp.channel
                                AND s.address_hash = cp.address_hash
         WHERE cp.tenant_id = $1 AND cp.customer_id = $2
         ORDER BY cp.channel, cp.position, cp.address",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .load(conn)
    .await?)
}
