//! Events, written by the statement that makes them true: an event without its change, or a change
//! without its event, cannot be.

use anklang_domain::handover::{CUSTOMER_ERASED_EVENT_TYPE, TEST_EVENT_TYPE};
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
        INSERT INTO handover_event (tenant_id, type, offer_id, subject, occurred_at, data)
        SELECT c.tenant_id, 'anklang.offer.' || c.state || '.v1', c.id, 'offers/' || c.number,
               coalesce(c.answered_at, now()),
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

/// As [`ANNOUNCE`], of messages: to be put behind a common table expression `news` with the columns
/// `tenant_id`, `message_id` and `kind`, one row for each thing that is told. The type is
/// `anklang.message.<kind>.v1`; other kinds than these are no news, and nothing of notices is. Events of one message are in
/// no order with those of its offer, so that one which a receiver cannot take does not hold up the
/// others. What nobody's call or work tells, as a channel does, goes on with the message's trace.
pub(crate) const ANNOUNCE_MESSAGES: &str = "
    announced AS (
        INSERT INTO handover_event (tenant_id, type, offer_id, winback_case_id, subject, data,
                                    traceparent)
        SELECT n.tenant_id, 'anklang.message.' || n.kind || '.v1', am.offer_id, am.winback_case_id,
               'messages/' || am.id,
               jsonb_build_object(
                   'message', 'messages/' || am.id, 'report', n.kind, 'customer', cu.number,
                   'offer', o.number, 'campaign', 'campaigns/' || am.campaign_id,
                   'winback_case', 'winbackCases/' || am.winback_case_id,
                   'planned_contact', 'plannedContacts/' || am.planned_contact_id,
                   'phase', p.number, 'channel', am.channel, 'channel_account', am.account,
                   'code', coalesce(d.code, ''), 'detail', coalesce(d.detail, ''),
                   'event_time', to_char(coalesce(d.occurred_at, now()) AT TIME ZONE 'UTC',
                                         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')),
               coalesce(nullif(current_setting('anklang.traceparent', true), ''), am.traceparent)
        FROM news n
        JOIN message am ON am.tenant_id = n.tenant_id AND am.id = n.message_id
        JOIN customer cu ON cu.tenant_id = am.tenant_id AND cu.id = am.customer_id
        LEFT JOIN offer o ON o.tenant_id = am.tenant_id AND o.id = am.offer_id
        LEFT JOIN phase p ON p.tenant_id = am.tenant_id AND p.id = am.phase_id
        LEFT JOIN LATERAL (
            SELECT code, detail, occurred_at FROM message_report r
            WHERE r.tenant_id = n.tenant_id AND r.message_id = n.message_id AND r.state = n.kind
            ORDER BY r.received_at DESC, r.occurred_at DESC LIMIT 1) d ON true
        WHERE n.kind IN ('delivered', 'bounced', 'failed', 'complained', 'unsubscribed')
          AND am.notice IS NULL
          AND EXISTS (SELECT FROM webhook w
              WHERE w.tenant_id = n.tenant_id AND w.deleted_at IS NULL
                AND (cardinality(w.event_types) = 0
                     OR 'anklang.message.' || n.kind || '.v1' = ANY(w.event_types)))
        RETURNING tenant_id, id, seq, type),
    handed_over AS (
        INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq)
        SELECT e.tenant_id, w.id, e.id, e.seq
        FROM announced e
        JOIN webhook w ON w.tenant_id = e.tenant_id AND w.deleted_at IS NULL
             AND (cardinality(w.event_types) = 0 OR e.type = ANY(w.event_types)))";

/// As [`ANNOUNCE_MESSAGES`], of messages that came in: `news` has the columns of `inbound_message`. The
/// text is not told: an event outlives the customer's data.
pub(crate) const ANNOUNCE_INBOUND: &str = "
    announced AS (
        INSERT INTO handover_event (tenant_id, type, offer_id, winback_case_id, subject, data)
        SELECT n.tenant_id, 'anklang.inbound.received.v1', am.offer_id, am.winback_case_id,
               'inboundMessages/' || n.id,
               jsonb_build_object(
                   'inbound_message', 'inboundMessages/' || n.id, 'customer', cu.number,
                   'in_reply_to', 'messages/' || n.message_id, 'offer', o.number,
                   'campaign', 'campaigns/' || am.campaign_id, 'channel', n.channel,
                   'channel_account', n.account, 'stop', n.asks_to_stop,
                   'receive_time', to_char(n.received_at AT TIME ZONE 'UTC',
                                           'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
        FROM news n
        LEFT JOIN customer cu ON cu.tenant_id = n.tenant_id AND cu.id = n.customer_id
        LEFT JOIN message am ON am.tenant_id = n.tenant_id AND am.id = n.message_id
        LEFT JOIN offer o ON o.tenant_id = am.tenant_id AND o.id = am.offer_id
        WHERE EXISTS (SELECT FROM webhook w
              WHERE w.tenant_id = n.tenant_id AND w.deleted_at IS NULL
                AND (cardinality(w.event_types) = 0
                     OR 'anklang.inbound.received.v1' = ANY(w.event_types)))
        RETURNING tenant_id, id, seq, type),
    handed_over AS (
        INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq)
        SELECT e.tenant_id, w.id, e.id, e.seq
        FROM announced e
        JOIN webhook w ON w.tenant_id = e.tenant_id AND w.deleted_at IS NULL
             AND (cardinality(w.event_types) = 0 OR e.type = ANY(w.event_types)))";

/// As [`ANNOUNCE_MESSAGES`], of customers who were not reached by people and are to be written to
/// instead: `news` has the columns `tenant_id`, `contact_id`, `channel`, `message` (the name of the one that
/// was queued) and `refused` (why none was). To be put into the statement that ends the contact; of its row
/// what does not change by that is told.
pub(crate) const ANNOUNCE_FOLLOW_UP: &str = "
    announced AS (
        INSERT INTO handover_event (tenant_id, type, subject, data)
        SELECT n.tenant_id, 'anklang.contact.follow_up.v1', 'plannedContacts/' || k.id,
               jsonb_build_object(
                   'planned_contact', 'plannedContacts/' || k.id, 'channel', n.channel,
                   'customer', cu.number, 'contact_plan', k.plan_code,
                   'contact_date', k.contact_date, 'delivery_date', k.delivery_date,
                   'message', n.message, 'refused', n.refused,
                   'event_time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
        FROM news n
        JOIN planned_contact k ON k.tenant_id = n.tenant_id AND k.id = n.contact_id
        JOIN customer cu ON cu.tenant_id = k.tenant_id AND cu.id = k.customer_id
        WHERE EXISTS (SELECT FROM webhook w
              WHERE w.tenant_id = n.tenant_id AND w.deleted_at IS NULL
                AND (cardinality(w.event_types) = 0
                     OR 'anklang.contact.follow_up.v1' = ANY(w.event_types)))
        RETURNING tenant_id, id, seq, type),
    handed_over AS (
        INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq)
        SELECT e.tenant_id, w.id, e.id, e.seq
        FROM announced e
        JOIN webhook w ON w.tenant_id = e.tenant_id AND w.deleted_at IS NULL
             AND (cardinality(w.event_types) = 0 OR e.type = ANY(w.event_types)))";

/// As [`ANNOUNCE`], of an order that was taken here: to be put behind `changed`, its row as it is now,
/// `told_lines`, its lines as they are now, and `news`, no or one row with `kind` (the type is
/// `anklang.order.<kind>.v1`), `subject`, `contact_id` of the contact in which it happened, `worker`, and
/// `added_lines`, the numbers of new lines. Events of one order are delivered in their order: whoever
/// writes one holds the order's row. [`add_order_etag`] completes those of new lines.
pub(crate) const ANNOUNCE_ORDER: &str = "
    announced AS (
        INSERT INTO handover_event (tenant_id, type, order_id, subject, data)
        SELECT c.tenant_id, 'anklang.order.' || n.kind || '.v1', c.id, n.subject,
               jsonb_build_object(
                   'order', c.number, 'state', c.state, 'customer', cu.number, 'brand', b.code,
                   'delivery_date', c.delivery_date, 'departure', c.departure,
                   'order_type', c.order_type, 'note', c.note, 'currency', c.currency,
                   'order_time', to_char(c.ordered_at AT TIME ZONE 'UTC',
                                         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                   'total', l.total, 'lines', l.lines, 'added_lines', n.added_lines,
                   'planned_contact', 'plannedContacts/' || n.contact_id,
                   'contact_plan', k.plan_code, 'campaign', 'campaigns/' || f.campaign_id,
                   'phase', f.number, 'offer', o.number, 'taken_by', c.taken_by, 'worker', n.worker,
                   'reject_reason', c.reject_reason,
                   'event_time', to_char(now() AT TIME ZONE 'UTC',
                                         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
        FROM changed c
        CROSS JOIN news n
        CROSS JOIN (
            SELECT coalesce(round(sum(quantity * unit_price), 2), 0)::text AS total,
                   coalesce(jsonb_agg(jsonb_build_object(
                       'line', line, 'product_number', product_number,
                       'product_name', product_name, 'product_group', product_group,
                       'quantity', quantity::text, 'unit_price', unit_price::text)
                       ORDER BY line), '[]') AS lines
            FROM told_lines) l
        JOIN customer cu ON cu.tenant_id = c.tenant_id AND cu.id = c.customer_id
        LEFT JOIN brand b ON b.tenant_id = c.tenant_id AND b.id = c.brand_id
        LEFT JOIN planned_contact k ON k.tenant_id = c.tenant_id AND k.id = n.contact_id
        LEFT JOIN outbound ob ON ob.tenant_id = k.tenant_id AND ob.id = k.outbound_id
        LEFT JOIN phase f ON f.tenant_id = ob.tenant_id AND f.id = ob.phase_id
        LEFT JOIN offer o ON o.tenant_id = k.tenant_id AND o.id = k.offer_id
        WHERE EXISTS (SELECT FROM webhook w
              WHERE w.tenant_id = c.tenant_id AND w.deleted_at IS NULL
                AND (cardinality(w.event_types) = 0
                     OR 'anklang.order.' || n.kind || '.v1' = ANY(w.event_types)))
        RETURNING tenant_id, id, seq, type, order_id),
    handed_over AS (
        INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq, order_id)
        SELECT e.tenant_id, w.id, e.id, e.seq, e.order_id
        FROM announced e
        JOIN webhook w ON w.tenant_id = e.tenant_id AND w.deleted_at IS NULL
             AND (cardinality(w.event_types) = 0 OR e.type = ANY(w.event_types)))";

/// Adds the order's etag to the events of an order that this transaction has written: the API's form of the
/// order is known only after the statement that wrote them.
pub async fn add_order_etag(
    conn: &mut Conn,
    tenant: TenantId,
    order: Uuid,
    etag: &str,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE handover_event SET data = data || jsonb_build_object('etag', $3)
         WHERE tenant_id = $1 AND order_id = $2 AND occurred_at = now()",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(order)
    .bind::<Text, _>(etag)
    .execute(conn)
    .await?;
    Ok(())
}
/// As [`ANNOUNCE_MESSAGES`], of offers that are asked for in winback cases: `news` has the columns
/// `tenant_id`, `case_id`, `customer_id`, `worker`, `note`, `mail_to` (an address), `offer` (a number) and
/// `message` (the mail there). It names the customer, and so goes with the case.
pub(crate) const ANNOUNCE_WINBACK_OFFER: &str = "
    announced AS (
        INSERT INTO handover_event (tenant_id, type, winback_case_id, subject, data)
        SELECT n.tenant_id, 'anklang.winback.offer_requested.v1', n.case_id,
               'winbackCases/' || n.case_id,
               jsonb_build_object(
                   'winback_case', 'winbackCases/' || n.case_id, 'customer', cu.number,
                   'customer_name', coalesce(nullif(cu.company_name, ''),
                       concat_ws(' ', nullif(cu.first_name, ''), nullif(cu.last_name, ''))),
                   'note', n.note, 'mail_to', n.mail_to, 'worker', n.worker, 'offer', n.offer,
                   'message', n.message,
                   'event_time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
        FROM news n
        JOIN customer cu ON cu.tenant_id = n.tenant_id AND cu.id = n.customer_id
        WHERE EXISTS (SELECT FROM webhook w
              WHERE w.tenant_id = n.tenant_id AND w.deleted_at IS NULL
                AND (cardinality(w.event_types) = 0
                     OR 'anklang.winback.offer_requested.v1' = ANY(w.event_types)))
        RETURNING tenant_id, id, seq, type),
    handed_over AS (
        INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq)
        SELECT e.tenant_id, w.id, e.id, e.seq
        FROM announced e
        JOIN webhook w ON w.tenant_id = e.tenant_id AND w.deleted_at IS NULL
             AND (cardinality(w.event_types) = 0 OR e.type = ANY(w.event_types)))";

/// Tells that a customer is erased: the number, and nothing else.
pub(crate) async fn customer_erased(conn: &mut Conn, tenant: TenantId, number: &str) -> Result<()> {
    diesel::sql_query(
        "WITH announced AS (
             INSERT INTO handover_event (tenant_id, type, subject, data)
             SELECT $1, $2, $3, jsonb_build_object(
                 'customer', $4,
                 'event_time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
             WHERE EXISTS (SELECT FROM webhook w
                   WHERE w.tenant_id = $1 AND w.deleted_at IS NULL
                     AND (cardinality(w.event_types) = 0 OR $2 = ANY(w.event_types)))
             RETURNING tenant_id, id, seq, type)
         INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq)
         SELECT e.tenant_id, w.id, e.id, e.seq
         FROM announced e
         JOIN webhook w ON w.tenant_id = e.tenant_id AND w.deleted_at IS NULL
              AND (cardinality(w.event_types) = 0 OR e.type = ANY(w.event_types))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(CUSTOMER_ERASED_EVENT_TYPE)
    .bind::<Text, _>(anklang_domain::name::format(&[("customers", number)]))
    .bind::<Text, _>(number)
    .execute(conn)
    .await?;
    Ok(())
}

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
