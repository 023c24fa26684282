//! Writes what was decided: a statement for each kind of row, over all messages.

use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, Bool, Bytea, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use anklang_domain::channel::contact_channel;

use super::Report;
use super::find::Locked;
use crate::handover::event::ANNOUNCE_MESSAGES;
use crate::sql::Fix;
use crate::{Conn, Result};

/// A report to keep.
pub(super) struct Row<'a> {
    pub(super) message: &'a Locked,
    pub(super) report: &'a Report,
    /// The provider's words that are kept.
    pub(super) detail: &'a str,
}

/// What becomes of a message.
pub(super) struct Change {
    pub(super) tenant: Uuid,
    pub(super) id: Uuid,
    pub(super) told: i16,
    pub(super) told_at: Option<DateTime<Utc>>,
    /// Its new state, if it changes.
    pub(super) state: Option<&'static str>,
    pub(super) detail: String,
    /// The provider's id of it, if it was not known.
    pub(super) provider: String,
    /// A sender has claimed it, and will not hand it over any more when its state changes.
    pub(super) under_way: bool,
}

/// A line for the customer's history, and an event.
pub(super) struct News {
    tenant: Uuid,
    id: Uuid,
    kind: &'static str,
}

impl News {
    pub(super) fn new(message: &Locked, kind: &'static str) -> Self {
        News {
            tenant: message.tenant_id,
            id: message.id,
            kind,
        }
    }
}

/// An address to block.
pub(super) struct Block {
    tenant: Uuid,
    id: Uuid,
    channel: String,
    hash: Vec<u8>,
    reason: String,
    /// Consent is withdrawn as well.
    withdraws: bool,
}

impl Block {
    pub(super) fn new(message: &Locked, code: &str, reason: &str, withdraws: bool) -> Self {
        let code = match code {
            "" => String::new(),
            code => format!(" {code}"),
        };
        Block {
            tenant: message.tenant_id,
            id: message.id,
            channel: contact_channel(&message.channel).to_owned(),
            hash: message.address_hash.clone(),
            reason: format!("{reason}{code}: messages/{}", message.id),
            withdraws,
        }
    }
}

fn all<'a, T, R>(items: &'a [T], of: impl Fn(&'a T) -> R) -> Vec<R> {
    items.iter().map(of).collect()
}

pub(super) async fn rows(conn: &mut Conn, rows: &[Row<'_>]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "INSERT INTO message_report (tenant_id, message_id, key, state, code, detail, occurred_at,
                                     campaign_id, phase_id)
         SELECT tenant_id, message_id, key, state, code, detail, occurred_at, campaign_id, phase_id
         FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::text[], $5::text[], $6::text[],
                     $7::timestamptz[], $8::uuid[], $9::uuid[])
              AS r (tenant_id, message_id, key, state, code, detail, occurred_at, campaign_id,
                    phase_id)
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(all(rows, |r| r.message.tenant_id))
    .bind::<Array<SqlUuid>, _>(all(rows, |r| r.message.id))
    .bind::<Array<Bytea>, _>(all(rows, |r| r.report.key().to_vec()))
    .bind::<Array<Text>, _>(all(rows, |r| r.report.state.as_str()))
    .bind::<Array<Text>, _>(all(rows, |r| &r.report.code[..]))
    .bind::<Array<Text>, _>(all(rows, |r| r.detail))
    .bind::<Array<Timestamptz>, _>(all(rows, |r| r.report.occurred_at.unwrap_or(r.message.now)))
    .bind::<Array<Nullable<SqlUuid>>, _>(all(rows, |r| r.message.campaign_id))
    .bind::<Array<SqlUuid>, _>(all(rows, |r| r.message.phase_id))
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves messages. One that a sender has claimed, but not handed over, is taken out of its hands.
pub(super) async fn changes(conn: &mut Conn, changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "WITH told AS (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::timestamptz[],
                                  $5::text[], $6::text[], $7::text[], $8::bool[])
                 AS t (tenant_id, id, told, told_at, state, detail, provider, under_way)),
         moved AS (
             UPDATE message m SET told = t.told, told_at = t.told_at,
                 provider_message_id = CASE WHEN m.provider_message_id = '' THEN t.provider
                                            ELSE m.provider_message_id END,
                 state = coalesce(t.state, m.state),
                 detail = CASE WHEN t.state IS NULL THEN m.detail ELSE t.detail END,
                 sent_at = CASE WHEN t.state IN ('delivered', 'bounced') THEN coalesce(m.sent_at, (
                         SELECT max(a.ended_at) FROM message_attempt a
                         WHERE a.tenant_id = m.tenant_id AND a.message_id = m.id), now())
                     ELSE m.sent_at END,
                 lease = CASE WHEN t.state IS NULL THEN m.lease END,
                 lease_until = CASE WHEN t.state IS NULL THEN m.lease_until END,
                 submitted_at = CASE WHEN t.state IS NULL THEN m.submitted_at END,
                 updated_at = CASE WHEN t.state IS NULL THEN m.updated_at ELSE now() END
             FROM told t WHERE m.tenant_id = t.tenant_id AND m.id = t.id
             RETURNING m.tenant_id, m.id, m.attempt,
                       t.under_way AND t.state IS NOT NULL AS taken_back)
         UPDATE message_attempt a SET ended_at = now(), outcome = 'not_submitted',
             detail = 'settled by a report of an earlier attempt'
         FROM moved m
         WHERE m.taken_back AND a.tenant_id = m.tenant_id AND a.message_id = m.id
           AND a.attempt = m.attempt",
    )
    .bind::<Array<SqlUuid>, _>(all(changes, |c| c.tenant))
    .bind::<Array<SqlUuid>, _>(all(changes, |c| c.id))
    .bind::<Array<SmallInt>, _>(all(changes, |c| c.told))
    .bind::<Array<Nullable<Timestamptz>>, _>(all(changes, |c| c.told_at))
    .bind::<Array<Nullable<Text>>, _>(all(changes, |c| c.state))
    .bind::<Array<Text>, _>(all(changes, |c| &c.detail[..]))
    .bind::<Array<Text>, _>(all(changes, |c| &c.provider[..]))
    .bind::<Array<Bool>, _>(all(changes, |c| c.under_way))
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes news in the customers' histories and announces them.
pub(super) async fn news(conn: &mut Conn, news: &[News]) -> Result<()> {
    if news.is_empty() {
        return Ok(());
    }
    diesel::sql_query(format!(
        "WITH news AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[])
                 AS n (tenant_id, message_id, kind)),
         {ANNOUNCE_MESSAGES}
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT n.tenant_id, m.customer_id, 'message.' || n.kind, 'messages/' || m.id, m.campaign_id,
                jsonb_build_object('code', coalesce(d.code, ''), 'detail', coalesce(d.detail, ''))
         FROM news n
         JOIN message m ON m.tenant_id = n.tenant_id AND m.id = n.message_id AND m.notice IS NULL
         LEFT JOIN LATERAL (
             SELECT code, detail FROM message_report r
             WHERE r.tenant_id = n.tenant_id AND r.message_id = n.message_id AND r.state = n.kind
             ORDER BY r.received_at DESC, r.occurred_at DESC LIMIT 1) d ON true"
    ))
    .bind::<Array<SqlUuid>, _>(all(news, |n| n.tenant))
    .bind::<Array<SqlUuid>, _>(all(news, |n| n.id))
    .bind::<Array<Text>, _>(all(news, |n| n.kind))
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

/// Blocks addresses, and withdraws the consent of those who objected, for the purpose of the message.
/// What is blocked or withdrawn stays as it is, and of who is erased nothing more is written.
pub(super) async fn blocks(conn: &mut Conn, blocks: &[Block]) -> Result<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "INSERT INTO suppression (tenant_id, channel, address_hash, reason)
         SELECT DISTINCT ON (tenant_id, channel, hash) tenant_id, channel, hash, left(reason, 200)
         FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[])
              AS b (tenant_id, channel, hash, reason)
         WHERE hash <> '' ORDER BY tenant_id, channel, hash
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(all(blocks, |b| b.tenant))
    .bind::<Array<Text>, _>(all(blocks, |b| &b.channel[..]))
    .bind::<Array<Bytea>, _>(all(blocks, |b| &b.hash[..]))
    .bind::<Array<Text>, _>(all(blocks, |b| &b.reason[..]))
    .fixed()
    .execute(conn)
    .await?;
    let objections: Vec<&Block> = blocks.iter().filter(|b| b.withdraws).collect();
    if objections.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "WITH asked AS (
             SELECT DISTINCT ON (m.tenant_id, m.customer_id, m.channel, m.purpose)
                    m.tenant_id, m.customer_id, m.channel, m.purpose, m.campaign_id, m.id
             FROM unnest($1::uuid[], $2::uuid[]) AS b (tenant_id, id)
             JOIN message m ON m.tenant_id = b.tenant_id AND m.id = b.id
             JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
                             AND cu.erased_at IS NULL
             ORDER BY m.tenant_id, m.customer_id, m.channel, m.purpose, m.id),
         changed AS (
             INSERT INTO consent (tenant_id, customer_id, channel, purpose, state, source,
                                  evidence, recorded_at)
             SELECT tenant_id, customer_id, channel, purpose, 'withdrawn', 'channel',
                    'messages/' || id, now()
             FROM asked
             ON CONFLICT (tenant_id, customer_id, channel, purpose) DO UPDATE
             SET state = excluded.state, source = excluded.source, evidence = excluded.evidence,
                 recorded_at = greatest(excluded.recorded_at,
                                        consent.recorded_at + interval '1 microsecond'),
                 updated_at = now()
             WHERE consent.state <> 'withdrawn'
             RETURNING tenant_id, customer_id, channel, purpose)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT a.tenant_id, a.customer_id, 'consent.withdrawn', 'messages/' || a.id, a.campaign_id,
                jsonb_build_object('channel', a.channel, 'purpose', a.purpose, 'source', 'channel')
         FROM asked a JOIN changed USING (tenant_id, customer_id, channel, purpose)",
    )
    .bind::<Array<SqlUuid>, _>(all(&objections, |b| b.tenant))
    .bind::<Array<SqlUuid>, _>(all(&objections, |b| b.id))
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}
