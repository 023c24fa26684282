//! Withdrawals by the link in a message (RFC 8058).

use anklang_domain::report::{self, ReportState};
use anklang_domain::{MessageId, TenantId};
use diesel::sql_types::{Bool, Bytea, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::handover::event::ANNOUNCE_MESSAGES;
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// The key that signs a tenant's links; `None` when there is no such tenant.
pub async fn key(conn: &mut Conn, tenant: TenantId) -> Result<Option<Vec<u8>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bytea)]
        unsubscribe_key: Vec<u8>,
    }
    let row: Option<Row> = diesel::sql_query("SELECT unsubscribe_key FROM tenant WHERE id = $1")
        .bind::<SqlUuid, _>(tenant.0)
        .fixed()
        .get_result(conn)
        .await
        .optional()?;
    Ok(row.map(|row| row.unsubscribe_key))
}

/// What a link is about.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Link {
    /// Who sent the message, as recipients know it.
    #[diesel(sql_type = Text)]
    pub brand: String,
    /// The channel of the message.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// Whether consent is withdrawn already.
    #[diesel(sql_type = Bool)]
    pub withdrawn: bool,
}

/// What the link of a message is about; `None` when the message is gone, and its customer with it.
pub async fn link(store: &Store, tenant: TenantId, message: MessageId) -> Result<Option<Link>> {
    let mut tx = store.begin(tenant).await?;
    let found = diesel::sql_query(
        "SELECT b.name AS brand, m.channel, coalesce(c.state, 'withdrawn') = 'withdrawn' AS withdrawn
         FROM message m
         LEFT JOIN offer o ON o.tenant_id = m.tenant_id AND o.id = m.offer_id
         LEFT JOIN contract co ON co.tenant_id = o.tenant_id AND co.id = o.contract_id
         LEFT JOIN winback_mail w ON w.tenant_id = m.tenant_id AND w.message_id = m.id
         JOIN brand b ON b.tenant_id = m.tenant_id
                     AND b.id = coalesce(co.brand_id, w.brand_id, m.brand_id)
         LEFT JOIN consent c ON c.tenant_id = m.tenant_id AND c.customer_id = m.customer_id
                            AND c.channel = m.channel AND c.purpose = m.purpose
         WHERE m.tenant_id = $1 AND m.id = $2 AND m.notice IS NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(message.0)
    .get_result(&mut tx)
    .await
    .optional()?;
    tx.commit().await?;
    Ok(found)
}

/// Withdraws consent for channel and purpose of a message, blocks its address as when a provider tells that somebody
/// unsubscribed, and keeps, tells and announces it as such a report of the message, once. What is withdrawn and
/// blocked already stays as it is, and of who is erased nothing more is written. True when it was news.
pub async fn withdraw(store: &Store, tenant: TenantId, message: MessageId) -> Result<bool> {
    let mut tx = store.begin(tenant).await?;
    let told = diesel::sql_query(format!(
        "WITH asked AS MATERIALIZED (
             SELECT m.customer_id, m.channel, m.purpose, m.campaign_id, m.phase_id, m.id, m.address_hash
             FROM message m
             JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
             WHERE m.tenant_id = $1 AND m.id = $2 AND m.notice IS NULL AND cu.erased_at IS NULL),
         changed AS (
             INSERT INTO consent (tenant_id, customer_id, channel, purpose, state, source,
                                  evidence, recorded_at)
             SELECT $1, customer_id, channel, purpose, 'withdrawn', 'list-unsubscribe',
                    'messages/' || id, now()
             FROM asked
             ON CONFLICT (tenant_id, customer_id, channel, purpose) DO UPDATE
             SET state = excluded.state, source = excluded.source, evidence = excluded.evidence,
                 -- Newer than what it takes back, also if that came with a time to come.
                 recorded_at = greatest(excluded.recorded_at,
                                        consent.recorded_at + interval '1 microsecond'),
                 updated_at = now()
             WHERE consent.state <> 'withdrawn'
             RETURNING customer_id),
         blocked AS (
             INSERT INTO suppression (tenant_id, channel, address_hash, reason)
             SELECT $1, CASE channel WHEN 'sms' THEN 'mobile' ELSE channel END, address_hash,
                    'unsubscribed: messages/' || id
             FROM asked WHERE address_hash <> ''
             ON CONFLICT DO NOTHING),
         reported AS (
             INSERT INTO message_report (tenant_id, message_id, key, state, code, detail,
                                         occurred_at, campaign_id, phase_id)
             SELECT $1, id, $3, 'unsubscribed', '', '', now(), campaign_id, phase_id FROM asked
             ON CONFLICT DO NOTHING
             RETURNING message_id),
         news AS MATERIALIZED (
             SELECT $1::uuid AS tenant_id, r.message_id, 'unsubscribed' AS kind FROM reported r
             -- Perhaps its provider was faster.
             WHERE NOT EXISTS (SELECT FROM message_report k
                 WHERE k.tenant_id = $1 AND k.message_id = r.message_id
                   AND k.state = 'unsubscribed')),
         {ANNOUNCE_MESSAGES}
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, a.customer_id, 'message.unsubscribed', 'messages/' || a.id, a.campaign_id,
                jsonb_build_object('code', '', 'detail', '')
         FROM asked a JOIN news n ON n.message_id = a.id
         UNION ALL
         SELECT $1, a.customer_id, 'consent.withdrawn', 'messages/' || a.id, a.campaign_id,
                jsonb_build_object('channel', a.channel, 'purpose', a.purpose,
                                   'source', 'list-unsubscribe')
         FROM asked a JOIN changed USING (customer_id)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(message.0)
    .bind::<Bytea, _>(report::key(ReportState::Unsubscribed, "", None).to_vec())
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(told > 0)
}
