//! What letters and mails of offers show.

use anklang_domain::{PhaseId, TenantId};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bytea, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::sql::Fix;
use crate::{Conn, Result};

/// Everything that a letter or mail of an offer shows, and what picks its templates.
#[derive(Debug, Clone, QueryableByName)]
pub struct Content {
    /// The offer.
    #[diesel(sql_type = SqlUuid)]
    pub offer_id: Uuid,
    /// Its place in the audience, if it has one.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub member_seq: Option<i64>,
    /// Brand of the contract.
    #[diesel(sql_type = SqlUuid)]
    pub brand_id: Uuid,
    /// Key of the document template.
    #[diesel(sql_type = Text)]
    pub document_template: String,
    /// Language of the customer.
    #[diesel(sql_type = Text)]
    pub language: String,
    /// SHA-256 of the document, once made.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub sha256: Option<Vec<u8>>,
    /// `offer`, `customer`, `contract`, `brand`, `campaign` as templates see them.
    #[diesel(sql_type = Jsonb)]
    pub model: serde_json::Value,
}

/// Which offers' content to load.
#[derive(Debug, Clone)]
pub enum ContentOf<'a> {
    /// Of these offers.
    Offers(&'a [Uuid]),
    /// Of the next draft offers of a phase after this member, in order.
    Drafts {
        /// The phase.
        phase: PhaseId,
        /// After this member.
        after: i64,
        /// At most so many.
        limit: i64,
    },
}

/// A customer `cu` as templates see it.
pub(crate) const CUSTOMER_MODEL: &str = "jsonb_build_object(
    'number', cu.number, 'kind', cu.kind, 'salutation', cu.salutation,
    'title', cu.title, 'first_name', cu.first_name,
    'last_name', cu.last_name, 'company_name', cu.company_name,
    'street', cu.street, 'house_number', cu.house_number,
    'postal_code', cu.postal_code, 'city', cu.city, 'country', cu.country)";
/// A contract `co` as templates see it.
pub(super) const CONTRACT_MODEL: &str = "jsonb_build_object(
    'number', co.number, 'division', co.division,
    'site_street', co.site_street, 'site_house_number', co.site_house_number,
    'site_postal_code', co.site_postal_code, 'site_city', co.site_city,
    'start_date', co.start_date, 'end_date', co.end_date)";
/// A brand `b` as templates see it.
pub(crate) const BRAND_MODEL: &str = "jsonb_build_object(
    'name', b.name, 'legal_name', b.legal_name, 'street', b.street,
    'house_number', b.house_number, 'postal_code', b.postal_code,
    'city', b.city, 'country', b.country, 'phone', b.phone, 'email', b.email,
    'website', b.website, 'register_line', b.register_line,
    'vat_id', b.vat_id, 'bank_line', b.bank_line,
    'sender_name', b.sender_name, 'sender_email', b.sender_email,
    'reply_to', b.reply_to)";

/// Loads content, in the order of the members.
pub async fn content(conn: &mut Conn, tenant: TenantId, of: ContentOf<'_>) -> Result<Vec<Content>> {
    let (ids, phase, after, limit) = match of {
        ContentOf::Offers(ids) => (ids, None, 0, i64::MAX),
        ContentOf::Drafts {
            phase,
            after,
            limit,
        } => (&[][..], Some(phase.0), after, limit),
    };
    let which = if phase.is_some() {
        "o.phase_id = $3 AND o.member_seq > $4 AND o.state = 'draft' AND cardinality($2) = 0"
    } else {
        "o.id = ANY($2) AND $3 IS NULL AND $4 = 0"
    };
    // Dates and decimals go as text, so that they arrive exactly.
    let query = diesel::sql_query(format!(
        "SELECT o.id AS offer_id, o.member_seq, co.brand_id, o.document_template, cu.language,
                d.sha256,
                jsonb_build_object(
                    'offer', jsonb_build_object(
                        'number', o.number, 'date', o.offer_date, 'valid_until', o.valid_until,
                        'product_name', pr.name, 'version_name', v.name,
                        'base_price_per_year', o.base_price_per_year::text,
                        'unit_price_per_kwh', o.unit_price_per_kwh::text,
                        'annual_quantity_kwh', o.annual_quantity_kwh::text,
                        'annual_amount', o.annual_amount::text, 'currency', o.currency,
                        'current_product_name', cpr.name,
                        'has_document', o.document_template <> ''),
                    'customer', {CUSTOMER_MODEL},
                    'contract', {CONTRACT_MODEL},
                    'brand', {BRAND_MODEL},
                    'campaign', CASE WHEN ca.id IS NOT NULL
                                THEN jsonb_build_object('name', ca.name) END) AS model
         FROM offer o
         JOIN customer cu ON cu.tenant_id = o.tenant_id AND cu.id = o.customer_id
         JOIN contract co ON co.tenant_id = o.tenant_id AND co.id = o.contract_id
         JOIN brand b ON b.tenant_id = co.tenant_id AND b.id = co.brand_id
         JOIN product_version v ON v.tenant_id = o.tenant_id AND v.id = o.product_version_id
         JOIN product pr ON pr.tenant_id = v.tenant_id AND pr.id = v.product_id
         LEFT JOIN product_version cv ON cv.tenant_id = o.tenant_id AND cv.id = co.product_version_id
         LEFT JOIN product cpr ON cpr.tenant_id = cv.tenant_id AND cpr.id = cv.product_id
         LEFT JOIN campaign ca ON ca.tenant_id = o.tenant_id AND ca.id = o.campaign_id
         LEFT JOIN document d ON d.tenant_id = o.tenant_id AND d.offer_id = o.id
         WHERE o.tenant_id = $1 AND {which}
         ORDER BY o.member_seq LIMIT $5"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Nullable<SqlUuid>, _>(phase)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(limit);
    // Drafts are looked for in tables that have just grown.
    Ok(match phase {
        Some(_) => query.load(conn).await?,
        None => query.fixed().load(conn).await?,
    })
}
