//! What is approved: the facts of a launch, and of each member what it gets, under one hash.
//!
//! The facts are one JSON object that the database makes: `jsonb` has one text for one value, whatever the order in
//! which it was put together. Members are hashed in parts of bounded size, once everything is made, and the facts hold
//! the hash of these hashes. A document counts with its SHA-256, so that what is approved is the letters themselves.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anklang_domain::{PhaseId, TenantId};
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bytea, Jsonb, Nullable, Numeric, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::launch::{AudienceOf, audience_size};
use crate::offer::BRAND_MODEL;
use crate::{Conn, Result, StoreError};

/// Candidates whose members are hashed by one statement.
const PER_PART: i64 = 20_000;

/// What a launch has to send, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// What is approved.
    pub hash: [u8; 32],
    /// The facts.
    pub json: Value,
}

/// A template that messages are made of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Template {
    /// Code of its brand.
    pub brand: String,
    /// Its key.
    pub key: String,
    /// Its language.
    pub language: String,
    /// Its version.
    pub version: i32,
    /// SHA-256 of all that it says, in hexadecimal digits.
    pub sha256: String,
}

/// What the offers come to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Price {
    /// Price per year.
    pub base_price_per_year: Decimal,
    /// Price per kWh.
    pub unit_price_per_kwh: Decimal,
    /// ISO 4217.
    pub currency: String,
    /// First day on which these hold.
    pub valid_from: NaiveDate,
    /// Last day on which they hold.
    pub valid_to: Option<NaiveDate>,
}

/// The facts, as they are kept with an approval; those that people are shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Facts {
    /// What the selection found.
    pub candidates: i64,
    /// Members.
    pub members: i64,
    /// Left out, by the reason's word.
    pub excluded: BTreeMap<String, i64>,
    /// Accounts of the route, if it goes by one.
    pub route_accounts: Vec<String>,
    /// The newest templates of the messages, of the members' brands.
    pub templates: Vec<Template>,
    /// Those of the messages to members whom nobody reaches by phone.
    pub follow_up_templates: Vec<Template>,
    /// SHA-256 of the template that ships, for what has none of these.
    pub shipped_template: Option<String>,
    /// The same of the messages to members whom nobody reaches by phone, by its key; none in what was approved before
    /// they were kept.
    #[serde(default)]
    pub shipped_follow_ups: BTreeMap<String, String>,
    /// Name of the product.
    pub product_name: String,
    /// Name of the version.
    pub version_name: String,
    /// Prices of the version.
    pub prices: Price,
    /// Sum of the offers' annual amounts.
    pub annual_amount: Decimal,
    /// Documents that were made.
    pub documents: i64,
    /// Documents that could not be made.
    pub failed_documents: i64,
}

impl Content {
    /// The facts, read.
    ///
    /// # Errors
    /// `Stored` when they do not read.
    pub fn facts(&self) -> Result<Facts> {
        serde_json::from_value(self.json.clone())
            .map_err(|e| StoreError::Stored(format!("facts of a launch: {e}")))
    }
}

/// Members of a part of the audience.
#[derive(QueryableByName)]
struct Part {
    #[diesel(sql_type = Bytea)]
    hash: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    members: i64,
    #[diesel(sql_type = BigInt)]
    documents: i64,
    #[diesel(sql_type = BigInt)]
    failed: i64,
    #[diesel(sql_type = Numeric)]
    amount: Decimal,
}

/// Of each member with `$3 < seq <= $4`: who it is and what it is offered. Whether an offer is still a draft, open or
/// answered makes no difference.
const MEMBERS: &str = "
    WITH member AS MATERIALIZED (
        SELECT m.seq, o.annual_amount, o.document_template, d.sha256 AS document,
               concat_ws('|', m.seq, m.contract_id, m.customer_id, o.number, o.annual_amount, o.currency,
                         to_char(o.valid_until, 'YYYY-MM-DD'), coalesce(encode(d.sha256, 'hex'), '-')) AS line
        FROM audience_member m
        LEFT JOIN LATERAL (SELECT id, number, annual_amount, currency, valid_until, document_template
            FROM offer WHERE tenant_id = $1 AND phase_id = $2 AND member_seq = m.seq OFFSET 0) o ON true
        LEFT JOIN LATERAL (SELECT sha256 FROM document
            WHERE tenant_id = $1 AND offer_id = o.id OFFSET 0) d ON true
        WHERE m.tenant_id = $1 AND m.phase_id = $2 AND m.seq > $3 AND m.seq <= $4
          AND m.exclusion IS NULL)
    SELECT sha256(convert_to(coalesce(string_agg(line, E'\\n' ORDER BY seq), ''), 'UTF8')) AS hash,
           count(*) AS members, count(document) AS documents,
           count(*) FILTER (WHERE document IS NULL AND document_template <> '') AS failed,
           coalesce(sum(annual_amount), 0) AS amount
    FROM member";

/// The newest templates `t` of brands `b`, as a list.
const TEMPLATES: &str = "coalesce(jsonb_agg(jsonb_build_object(
        'brand', b.code, 'key', t.key, 'language', t.language, 'version', t.version,
        'sha256', encode(sha256(convert_to(jsonb_build_array(
            t.subject, t.text_body, t.html_body, t.typst_source, t.provider_template,
            t.provider_variables)::text, 'UTF8')), 'hex'))
        ORDER BY b.code, t.key, t.language), '[]')";

/// SHA-256 of the templates that ship, in hexadecimal digits.
#[derive(Debug, Clone, Default)]
pub struct Shipped {
    /// That under the key of the messages, if one does.
    pub message: Option<String>,
    /// Those that messages to whom nobody reaches by phone may have, by their keys.
    pub follow_ups: BTreeMap<String, String>,
}

/// The facts as one object. `$3` is the hash of the shipped template, `$4` has those of follow-ups by their keys.
fn facts() -> String {
    format!(
        "SELECT facts, facts::text AS text FROM (
             SELECT jsonb_build_object(
                 'members', k.members, 'members_sha256', encode(k.members_sha256, 'hex'),
                 'documents', k.documents, 'failed_documents', k.failed_documents,
                 'annual_amount', trim_scale(k.annual_amount)::text,
                 'campaign', c.id, 'campaign_name', c.name, 'phase', p.number, 'phase_name', p.name,
                 'launched_by', p.launched_by,
                 'launch_time', to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'),
                 'candidates', a.candidates,
                 'excluded', k.excluded,
                 'channel', ob.channel, 'account', ob.account, 'account_replaced_by',
                 (SELECT replaced_by FROM channel_account WHERE tenant_id = $1 AND id = ob.account),
                 'accounts', (SELECT coalesce(jsonb_object_agg(a.id, encode(sha256(convert_to(
                         jsonb_build_array(a.plugin, a.channel, a.config)::text, 'UTF8')), 'hex')), '{{}}')
                     FROM channel_account a WHERE a.tenant_id = $1 AND a.deleted_at IS NULL
                       AND a.id = ANY(anklang_accounts($1, ob.account, ob.route, ob.contact_plan))),
                 'route', ob.route, 'route_accounts', coalesce(to_jsonb(r.accounts), '[]'),
                 'route_priorities', to_jsonb(r.priorities), 'route_shares', to_jsonb(r.shares),
                 'route_failover_seconds', r.failover_seconds,
                 'purpose', ob.purpose, 'phone', ob.phone, 'contact_plan', ob.contact_plan,
                 'message_template', ob.message_template, 'document_template', ob.document_template,
                 'shipped_template', $3,
                 'templates', (SELECT {TEMPLATES}
                     FROM (SELECT DISTINCT ON (brand_id, language) * FROM template
                           WHERE tenant_id = $1 AND brand_id = ANY(k.brands) AND key = ob.message_template
                           ORDER BY brand_id, language, version DESC) t
                     JOIN brand b ON b.tenant_id = $1 AND b.id = t.brand_id),
                 'follow_ups', (SELECT follow_up_messages FROM contact_plan
                                WHERE tenant_id = $1 AND code = ob.contact_plan),
                 'follow_up_templates', (SELECT {TEMPLATES}
                     FROM (SELECT DISTINCT ON (x.brand_id, x.key, x.language) x.*
                           FROM anklang_follow_ups($1, ob.contact_plan) f
                           JOIN brand fb ON fb.tenant_id = $1 AND fb.code = f.brand
                           JOIN template x ON x.tenant_id = $1 AND x.brand_id = fb.id
                             AND x.key = f.template
                           ORDER BY x.brand_id, x.key, x.language, x.version DESC) t
                     JOIN brand b ON b.tenant_id = $1 AND b.id = t.brand_id),
                 'brands', (SELECT coalesce(jsonb_object_agg(b.code, encode(sha256(convert_to(
                         ({BRAND_MODEL})::text, 'UTF8')), 'hex')), '{{}}')
                     FROM brand b WHERE b.tenant_id = $1 AND (b.id = ANY(k.brands) OR b.code IN (
                         SELECT f.brand FROM anklang_follow_ups($1, ob.contact_plan) f))),
                 'product', pr.number, 'product_name', pr.name, 'division', pr.division,
                 'version', v.code, 'version_name', v.name,
                 'prices', jsonb_build_object(
                     'base_price_per_year', v.base_price_per_year::text,
                     'unit_price_per_kwh', v.unit_price_per_kwh::text, 'currency', v.currency,
                     'valid_from', v.valid_from, 'valid_to', v.valid_to),
                 'valid_until', p.offer_valid_until, 'start_date', p.start_date, 'end_date', p.end_date,
                 'open_offers', p.open_offers, 'one_per_household', p.one_per_household,
                 'ending_within_days', p.ending_within_days)
                 -- Only where there are any: what else is approved has the hash that the version before gives it.
                 || (SELECT CASE WHEN count(*) = 0 THEN '{{}}'
                                 ELSE jsonb_build_object('shipped_follow_ups', jsonb_object_agg(s.key, s.value)) END
                     FROM jsonb_each($4) s WHERE s.key IN (
                         SELECT f.template FROM anklang_follow_ups($1, ob.contact_plan) f))
                 || CASE WHEN p.leave_out_terminated
                         THEN jsonb_build_object('leave_out_terminated', true) ELSE '{{}}' END AS facts
             FROM phase p
             JOIN campaign c ON c.tenant_id = p.tenant_id AND c.id = p.campaign_id
             JOIN launch_approval k ON k.tenant_id = p.tenant_id AND k.phase_id = p.id
                  AND k.members_sha256 IS NOT NULL
             JOIN audience a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
             JOIN outbound ob ON ob.tenant_id = p.tenant_id AND ob.phase_id = p.id AND ob.number = 1
             JOIN product_version v ON v.tenant_id = p.tenant_id AND v.id = p.product_version_id
             JOIN product pr ON pr.tenant_id = v.tenant_id AND pr.id = v.product_id
             LEFT JOIN channel_route r ON r.tenant_id = p.tenant_id AND r.id = ob.route
             WHERE p.tenant_id = $1 AND p.id = $2) made"
    )
}

/// Keeps what the members of a phase get, once: everything is made, and does not change any more. Reads every
/// member, in a transaction of [`crate::Store::begin_work`].
pub async fn keep_members(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<()> {
    let missing = diesel::sql_query(
        "SELECT 1 FROM launch_approval
         WHERE tenant_id = $1 AND phase_id = $2 AND members_sha256 IS NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .execute(conn)
    .await?;
    if missing == 0 {
        return Ok(());
    }
    let candidates = audience_size(conn, tenant, AudienceOf::Phase(phase))
        .await?
        .candidates;
    let (mut members, mut documents, mut failed) = (0, 0, 0);
    let (mut amount, mut hashes) = (Decimal::ZERO, Sha256::new());
    let mut after = 0;
    while after < candidates {
        let until = (after + PER_PART).min(candidates);
        let part: Part = diesel::sql_query(MEMBERS)
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(phase.0)
            .bind::<BigInt, _>(after)
            .bind::<BigInt, _>(until)
            .get_result(conn)
            .await?;
        hashes.update(&part.hash);
        members += part.members;
        documents += part.documents;
        failed += part.failed;
        amount += part.amount;
        after = until;
    }
    let hash: [u8; 32] = hashes.finalize().into();
    diesel::sql_query(
        "UPDATE launch_approval SET members = $3, documents = $4, failed_documents = $5,
                annual_amount = $6, members_sha256 = $7, excluded = (
                    SELECT coalesce(jsonb_object_agg(x.exclusion, x.n), '{}')
                    FROM (SELECT exclusion, count(*) AS n FROM audience_member
                          WHERE tenant_id = $1 AND phase_id = $2 AND exclusion IS NOT NULL
                          GROUP BY exclusion) x)
         WHERE tenant_id = $1 AND phase_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(members)
    .bind::<BigInt, _>(documents)
    .bind::<BigInt, _>(failed)
    .bind::<Numeric, _>(amount)
    .bind::<Bytea, _>(&hash[..])
    .execute(conn)
    .await?;
    Ok(())
}

/// What a phase that waits has to send now.
pub async fn content(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    shipped: &Shipped,
) -> Result<Content> {
    let follow_ups = serde_json::to_value(&shipped.follow_ups)
        .map_err(|e| StoreError::Stored(format!("templates that ship: {e}")))?;
    let made: Made = diesel::sql_query(facts())
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(phase.0)
        .bind::<Nullable<Text>, _>(shipped.message.as_deref())
        .bind::<Jsonb, _>(follow_ups)
        .get_result(conn)
        .await?;
    Ok(Content {
        hash: Sha256::digest(made.text).into(),
        json: made.facts,
    })
}

/// What was approved last.
pub async fn approved(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<Content> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bytea)]
        hash: Vec<u8>,
        #[diesel(sql_type = Jsonb)]
        content: Value,
    }
    let row: Row = diesel::sql_query(
        "SELECT hash, content FROM launch_decision
         WHERE tenant_id = $1 AND phase_id = $2 AND kind = 'approved' ORDER BY id DESC LIMIT 1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .get_result(conn)
    .await?;
    let hash: [u8; 32] = row
        .hash
        .try_into()
        .map_err(|_| StoreError::Stored("the hash of an approval".into()))?;
    Ok(Content {
        hash,
        json: row.content,
    })
}

#[derive(QueryableByName)]
struct Made {
    #[diesel(sql_type = Jsonb)]
    facts: Value,
    #[diesel(sql_type = Text)]
    text: String,
}

/// A member, to look at.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Sample {
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Contract number.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// Number of its offer.
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
    /// The offer's annual amount.
    #[diesel(sql_type = Nullable<Numeric>)]
    pub amount: Option<Decimal>,
    /// Its currency.
    #[diesel(sql_type = Nullable<Text>)]
    pub currency: Option<String>,
}

/// Some members, spread over the audience; the same each time.
pub async fn sample(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    most: i64,
) -> Result<Vec<Sample>> {
    Ok(diesel::sql_query(
        "SELECT cu.number AS customer_number, co.number AS contract_number, o.number AS offer_number,
                o.annual_amount AS amount, o.currency
         FROM (SELECT DISTINCT near.seq, near.customer_id, near.contract_id
               FROM audience a CROSS JOIN generate_series(0, $3 - 1) AS place
               CROSS JOIN LATERAL (
                   SELECT seq, customer_id, contract_id FROM audience_member
                   WHERE tenant_id = $1 AND phase_id = $2 AND exclusion IS NULL
                     AND seq > place * a.candidates / $3
                   ORDER BY seq LIMIT 1) near
               WHERE a.tenant_id = $1 AND a.phase_id = $2) m
         JOIN customer cu ON cu.tenant_id = $1 AND cu.id = m.customer_id
         JOIN contract co ON co.tenant_id = $1 AND co.id = m.contract_id
         LEFT JOIN offer o ON o.tenant_id = $1 AND o.phase_id = $2 AND o.member_seq = m.seq
         ORDER BY m.seq",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(most)
    .load(conn)
    .await?)
}
