//! What messages of planned contacts and notices show, and what picks their templates.

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{Array, Jsonb, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::offer::{BRAND_MODEL, CUSTOMER_MODEL};
use crate::sql::Fix;
use crate::{Conn, Result};

/// Everything that such a message shows.
#[derive(Debug, Clone, QueryableByName)]
pub struct Content {
    /// The message.
    #[diesel(sql_type = SqlUuid)]
    pub message_id: Uuid,
    /// Brand of the template.
    #[diesel(sql_type = SqlUuid)]
    pub brand_id: Uuid,
    /// Language of the customer; empty for a notice.
    #[diesel(sql_type = Text)]
    pub language: String,
    /// `customer` and `brand` as templates of offers see them; `contact` or, of a notice, what it says.
    #[diesel(sql_type = Jsonb)]
    pub model: serde_json::Value,
}

/// Loads the content of messages of planned contacts and of notices, as things stand now.
pub async fn content(conn: &mut Conn, tenant: TenantId, messages: &[Uuid]) -> Result<Vec<Content>> {
    Ok(diesel::sql_query(format!(
        "SELECT m.id AS message_id, m.brand_id,
                CASE WHEN m.notice IS NULL THEN cu.language ELSE '' END AS language,
                jsonb_build_object('customer', {CUSTOMER_MODEL}, 'brand', {BRAND_MODEL})
                || coalesce(m.notice, jsonb_build_object('contact', jsonb_build_object(
                       'person', coalesce(nullif(k.details->>'contact_person', ''),
                                          e.contact_person, ''),
                       'plan', coalesce(l.name, ''), 'responsible', k.responsible,
                       'date', k.contact_date, 'next_date', coming.contact_date))) AS model
         FROM message m
         JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
         JOIN brand b ON b.tenant_id = m.tenant_id AND b.id = m.brand_id
         JOIN tenant t ON t.id = m.tenant_id
         LEFT JOIN planned_contact k ON k.tenant_id = m.tenant_id AND k.id = m.planned_contact_id
         LEFT JOIN plan_entry e ON e.tenant_id = k.tenant_id AND e.id = k.entry_id
         LEFT JOIN contact_plan l ON l.tenant_id = k.tenant_id AND l.code = k.plan_code
         LEFT JOIN LATERAL (
             SELECT x.contact_date FROM planned_contact x
             WHERE x.tenant_id = $1 AND x.customer_id = k.customer_id
               AND x.contact_date >= (now() AT TIME ZONE t.time_zone)::date
               AND x.state IN ('open', 'claimed', 'waiting')
             ORDER BY x.contact_date LIMIT 1) coming ON true
         WHERE m.tenant_id = $1 AND m.id = ANY($2)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(messages)
    .fixed()
    .load(conn)
    .await?)
}
