//! Events, written by the statement that makes them true: an event without its change, or a change
//! without its event, cannot be.

use anklang_domain::handover::TEST_EVENT_TYPE;
use anklang_domain::{EventId, TenantId, WebhookId};
use diesel::QueryableByName;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result};

/// Common table expressions that announce what became of offers, set-based, for any number.
///
/// To be put behind a common table expression `changed` that holds the changed offers whole, as
/// they are now: `WITH changed AS (UPDATE offer … RETURNING offer.*), {ANNOUNCE} …`. The event's
/// type follows from the new state (`anklang.offer.<state>.v1`); drafts and open offers are no news.
/// Without a webhook that wants an event nothing is written. Contains no binds.
///
/// docs/handover.md describes `data`: fields are added, never renamed or removed.
pub(crate) const ANNOUNCE: &str = "
    announced AS (
        INSERT INTO handover_event (tenant_id, type, offer_id, subject, data)
        SELECT c.tenant_id, 'anklang.offer.' || c.state || '.v1', c.id, 'offers/' || c.number,
               jsonb_build_object(
                   'offer', c.number, 'state', c.state, 'customer', cu.number,
                   'contract', co.number, 'product', pr.number, 'product_version', v.code,
                   'campaign', 'campaigns/' || c.campaign_id, 'phase', p.number,
                   'offer_date', c.offer_date, 'valid_until', c.valid_until,
                   'base_price_per_year', c.base_price_per_year::text,
                   'unit_price_per_kwh', c.unit_price_per_kwh::text,
                   'annual_quantity_kwh', c.annual_quantity_kwh::text,
                   'annual_amount', c.annual_amount::text, 'currency', c.currency,
                   'answer_time', to_char(c.answered_at AT TIME ZONE 'UTC',
                                          'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                   'answer_source', c.answer_source, 'reject_reason', c.reject_reason,
                   'reject_reason_code', c.reject_reason_code, 'withdraw_reason', c.withdraw_reason)
        FROM changed c
        JOIN customer cu ON cu.tenant_id = c.tenant_id AND cu.id = c.customer_id
        JOIN contract co ON co.tenant_id = c.tenant_id AND co.id = c.contract_id
        JOIN product_version v ON v.tenant_id = c.tenant_id AND v.id = c.product_version_id
        JOIN product pr ON pr.tenant_id = v.tenant_id AND pr.id = v.product_id
        LEFT JOIN phase p ON p.tenant_id = c.tenant_id AND p.id = c.phase_id
        WHERE c.state NOT IN ('draft', 'open')
          AND EXISTS (SELECT FROM webhook w
              WHERE w.tenant_id = c.tenant_id AND w.deleted_at IS NULL
                AND (cardinality(w.event_types) = 0
                     OR 'anklang.offer.' || c.state || '.v1' = ANY(w.event_types)))
        RETURNING tenant_id, id, seq, type, offer_id),
    handed_over AS (
        INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq, offer_id)
        SELECT e.tenant_id, w.id, e.id, e.seq, e.offer_id
        FROM announced e
        JOIN webhook w ON w.tenant_id = e.tenant_id AND w.deleted_at IS NULL
             AND (cardinality(w.event_types) = 0 OR e.type = ANY(w.event_types)))";

/// Queues an event for one webhook, which must exist, to try it out.
pub async fn send_test(conn: &mut Conn, tenant: TenantId, webhook: WebhookId) -> Result<EventId> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let row: Row = diesel::sql_query(
        "WITH made AS (
             INSERT INTO handover_event (tenant_id, type, subject, data)
             VALUES ($1, $3, 'webhooks/' || $2, jsonb_build_object('webhook', 'webhooks/' || $2))
             RETURNING id, seq),
         queued AS (
             INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq)
             SELECT $1, $2, id, seq FROM made)
         SELECT id FROM made",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(webhook.0)
    .bind::<Text, _>(TEST_EVENT_TYPE)
    .get_result(conn)
    .await?;
    Ok(EventId(row.id))
}
