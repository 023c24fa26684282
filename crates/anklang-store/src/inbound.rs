//! Messages that came in: kept once, matched to messages and customers; those that ask for no more
//! block their sender's address and withdraw consent, in the same transaction.

use std::collections::BTreeMap;

use anklang_domain::channel::contact_channel;
use anklang_domain::master::contact::address_hash;
use anklang_domain::{InboundMessageId, TenantId, inbound as rule};
use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, Bool, Bytea, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::handover::event::ANNOUNCE_INBOUND;
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::privacy::withdraw::REASON as ERASED;
use crate::report::Source;
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result};

/// A message that came in. Its texts are printable and of bounded length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// From which address, normalised if it can be.
    pub sender: String,
    /// The sender's name.
    pub sender_name: String,
    /// To which of our addresses.
    pub recipient: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// Our message that it answers, if that is known.
    pub in_reply_to: Option<Uuid>,
    /// The provider's id for it; empty if that is not known.
    pub provider_message_id: String,
    /// When it came in, if that is said.
    pub received_at: Option<DateTime<Utc>>,
    /// It asks for no more messages.
    pub asks_to_stop: bool,
}

impl Inbound {
    fn key(&self) -> [u8; 32] {
        let parts = [&self.sender[..], &self.recipient, &self.subject, &self.text];
        rule::key(&self.provider_message_id, parts, self.received_at)
    }
}

/// What came of messages that came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// So many were new.
    pub new: usize,
    /// So many came on an account of several tenants and belong to none of them. They are not kept.
    pub nobodys: usize,
}

/// Whose a message may be.
#[derive(QueryableByName)]
struct Candidate {
    #[diesel(sql_type = Integer)]
    n: i32,
    #[diesel(sql_type = SqlUuid)]
    tenant_id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    message_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    customer_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    written_at: Option<DateTime<Utc>>,
}

/// Keeps messages, each once, with all that follows from them.
pub async fn receive(
    conn: &mut Conn,
    source: Source<'_>,
    messages: &[Inbound],
) -> Result<Received> {
    let mut received = Received::default();
    if messages.is_empty() {
        return Ok(received);
    }
    let found = candidates(conn, source, messages).await?;
    let mut of: BTreeMap<usize, Vec<Candidate>> = BTreeMap::new();
    for candidate in found {
        let n = usize::try_from(candidate.n).unwrap_or(usize::MAX);
        of.entry(n).or_default().push(candidate);
    }
    let mut owned = Vec::with_capacity(messages.len());
    for (n, message) in messages.iter().enumerate() {
        match whose(source, of.remove(&n).unwrap_or_default()) {
            Some(owner) => owned.push((message, owner)),
            None => received.nobodys += 1,
        }
    }
    if !owned.is_empty() {
        received.new = keep(conn, source, &owned).await?;
    }
    Ok(received)
}

/// The tenant whose message it answers; else the only one that uses the account; else the one that
/// last wrote to the sender through it.
fn whose(source: Source<'_>, candidates: Vec<Candidate>) -> Option<Candidate> {
    let only = source.tenant().is_some();
    let rank = |c: &Candidate| (c.message_id.is_some(), c.written_at);
    let best = candidates.into_iter().max_by_key(rank)?;
    (only || best.message_id.is_some() || best.written_at.is_some()).then_some(best)
}

/// For each message and tenant: what it answers, and whom its address belongs to.
async fn candidates(
    conn: &mut Conn,
    source: Source<'_>,
    messages: &[Inbound],
) -> Result<Vec<Candidate>> {
    let channel = contact_channel(source.channel);
    let (mut places, mut tenants, mut hashes, mut replies) = (vec![], vec![], vec![], vec![]);
    for (n, message) in (0..).zip(messages) {
        for tenant in source.tenants {
            places.push(n);
            tenants.push(tenant.0);
            hashes.push(address_hash(*tenant, channel, &message.sender).to_vec());
            replies.push(message.in_reply_to);
        }
    }
    Ok(diesel::sql_query(
        "SELECT e.n, e.tenant_id, m.id AS message_id,
                coalesce(m.customer_id, c.customer_id) AS customer_id, c.written_at
         FROM unnest($1::int[], $2::uuid[], $3::bytea[], $4::uuid[])
              AS e (n, tenant_id, hash, reply)
         LEFT JOIN LATERAL (
             SELECT id, customer_id FROM message
             WHERE tenant_id = e.tenant_id AND id = e.reply AND account = $5 AND notice IS NULL
             OFFSET 0) m ON true
         LEFT JOIN LATERAL (
             SELECT cp.customer_id, w.written_at FROM contact_point cp
             LEFT JOIN LATERAL (
                 SELECT max(coalesce(u.sent_at, u.updated_at)) AS written_at FROM message u
                 WHERE u.tenant_id = e.tenant_id AND u.customer_id = cp.customer_id
                   AND u.account = $5 AND u.attempt > 0 AND u.notice IS NULL) w ON true
             WHERE cp.tenant_id = e.tenant_id AND cp.channel = $6 AND cp.address_hash = e.hash
             ORDER BY w.written_at DESC NULLS LAST, cp.created_at, cp.customer_id LIMIT 1) c ON true
         ORDER BY e.n, e.tenant_id",
    )
    .bind::<Array<Integer>, _>(places)
    .bind::<Array<SqlUuid>, _>(tenants)
    .bind::<Array<Bytea>, _>(hashes)
    .bind::<Array<Nullable<SqlUuid>>, _>(replies)
    .bind::<Text, _>(source.account)
    .bind::<Text, _>(channel)
    .fixed()
    .load(conn)
    .await?)
}

/// Writes messages, and what follows from those that are new; gives how many they are. Of those by somebody who is
/// erased, or from an address of which nothing but that is known, it is kept that they came, and nothing else.
async fn keep(
    conn: &mut Conn,
    source: Source<'_>,
    owned: &[(&Inbound, Candidate)],
) -> Result<usize> {
    let channel = contact_channel(source.channel);
    let texts = |of: fn(&Inbound) -> &str| owned.iter().map(|(m, _)| of(m)).collect::<Vec<_>>();
    let hash =
        |tenant: Uuid, m: &Inbound| address_hash(TenantId(tenant), channel, &m.sender).to_vec();
    let kept = |column: &str| format!("CASE WHEN is_erased THEN '' ELSE {column} END");
    Ok(diesel::sql_query(format!(
        "WITH given AS MATERIALIZED (
             SELECT DISTINCT ON (i.tenant_id, i.key) i.*,
                 CASE WHEN i.customer_id IS NULL THEN EXISTS (
                          SELECT FROM suppression s
                          WHERE s.tenant_id = i.tenant_id AND s.channel = $3
                            AND s.address_hash = i.hash AND s.reason = '{ERASED}')
                      ELSE EXISTS (
                          SELECT FROM customer c
                          WHERE c.tenant_id = i.tenant_id AND c.id = i.customer_id
                            AND c.erased_at IS NOT NULL) END AS is_erased
             FROM unnest($4::uuid[], $5::bytea[], $6::text[], $7::text[], $8::text[], $9::bytea[],
                         $10::text[], $11::text[], $12::text[], $13::uuid[], $14::uuid[],
                         $15::bool[], $16::timestamptz[])
                  AS i (tenant_id, key, sender, sender_name, recipient, hash, subject, body,
                        provider, message_id, customer_id, stop, received_at)
             ORDER BY i.tenant_id, i.key),
         news AS (
             INSERT INTO inbound_message (tenant_id, account, channel, key, sender, sender_name,
                 recipient, address_hash, subject, body, provider_message_id, message_id,
                 customer_id, asks_to_stop, received_at)
             SELECT tenant_id, $1, $2, key, {sender}, {sender_name}, {recipient}, {hash}, {subject},
                 {body}, {provider}, message_id, customer_id, stop, coalesce(received_at, now())
             FROM given ORDER BY tenant_id, key
             ON CONFLICT (tenant_id, account, key) DO NOTHING
             RETURNING *),
         blocked AS (
             INSERT INTO suppression (tenant_id, channel, address_hash, reason)
             SELECT DISTINCT ON (n.tenant_id, g.hash) n.tenant_id, $3, g.hash,
                    'asked to stop: inboundMessages/' || n.id
             FROM news n JOIN given g ON g.tenant_id = n.tenant_id AND g.key = n.key
             WHERE n.asks_to_stop AND g.sender <> '' ORDER BY n.tenant_id, g.hash
             ON CONFLICT DO NOTHING),
         asking AS MATERIALIZED (
             -- Everybody with this address, and whoever the answered message was for.
             SELECT DISTINCT ON (n.tenant_id, who.customer_id) n.tenant_id, who.customer_id, n.id
             FROM news n JOIN given g ON g.tenant_id = n.tenant_id AND g.key = n.key
             CROSS JOIN LATERAL (
                 SELECT cp.customer_id FROM contact_point cp
                 WHERE cp.tenant_id = n.tenant_id AND cp.channel = $3
                   AND cp.address_hash = g.hash
                 UNION SELECT n.customer_id WHERE n.customer_id IS NOT NULL) who
             WHERE n.asks_to_stop ORDER BY n.tenant_id, who.customer_id, n.id),
         withdrawn AS (
             INSERT INTO consent (tenant_id, customer_id, channel, purpose, state, source,
                                  evidence, recorded_at)
             SELECT c.tenant_id, c.customer_id, c.channel, c.purpose, 'withdrawn', 'inbound',
                    'inboundMessages/' || a.id, now()
             FROM asking a
             JOIN consent c ON c.tenant_id = a.tenant_id AND c.customer_id = a.customer_id
                           AND c.channel = $2 AND c.state <> 'withdrawn'
             ORDER BY c.tenant_id, c.customer_id, c.purpose
             ON CONFLICT (tenant_id, customer_id, channel, purpose) DO UPDATE
             SET state = excluded.state, source = excluded.source, evidence = excluded.evidence,
                 recorded_at = greatest(excluded.recorded_at,
                                        consent.recorded_at + interval '1 microsecond'),
                 updated_at = now()
             WHERE consent.state <> 'withdrawn'
             RETURNING tenant_id, customer_id, purpose, evidence),
         told AS (
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
             SELECT n.tenant_id, n.customer_id, 'inbound.received', 'inboundMessages/' || n.id,
                    m.campaign_id,
                    jsonb_build_object('channel', n.channel, 'stop', n.asks_to_stop)
             FROM news n
             LEFT JOIN message m ON m.tenant_id = n.tenant_id AND m.id = n.message_id
             WHERE n.customer_id IS NOT NULL
             UNION ALL
             SELECT tenant_id, customer_id, 'consent.withdrawn', evidence, NULL::uuid,
                    jsonb_build_object('channel', $2, 'purpose', purpose, 'source', 'inbound')
             FROM withdrawn),
         {ANNOUNCE_INBOUND}
         SELECT id FROM news",
        sender = kept("sender"),
        sender_name = kept("sender_name"),
        recipient = kept("recipient"),
        hash = kept("hash"),
        subject = kept("subject"),
        body = kept("body"),
        provider = kept("provider"),
    ))
    .bind::<Text, _>(source.account)
    .bind::<Text, _>(source.channel)
    .bind::<Text, _>(channel)
    .bind::<Array<SqlUuid>, _>(owned.iter().map(|(_, o)| o.tenant_id).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(owned.iter().map(|(m, _)| m.key().to_vec()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(texts(|m| &m.sender))
    .bind::<Array<Text>, _>(texts(|m| &m.sender_name))
    .bind::<Array<Text>, _>(texts(|m| &m.recipient))
    .bind::<Array<Bytea>, _>(
        owned
            .iter()
            .map(|(m, o)| hash(o.tenant_id, m))
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(texts(|m| &m.subject))
    .bind::<Array<Text>, _>(texts(|m| &m.text))
    .bind::<Array<Text>, _>(texts(|m| &m.provider_message_id))
    .bind::<Array<Nullable<SqlUuid>>, _>(
        owned.iter().map(|(_, o)| o.message_id).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<SqlUuid>>, _>(
        owned.iter().map(|(_, o)| o.customer_id).collect::<Vec<_>>(),
    )
    .bind::<Array<Bool>, _>(owned.iter().map(|(m, _)| m.asks_to_stop).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(
        owned.iter().map(|(m, _)| m.received_at).collect::<Vec<_>>(),
    )
    .fixed()
    .execute(conn)
    .await?)
}

/// A message that came in, with the numbers of what it points to.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct InboundMessage {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The channel.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// From which address.
    #[diesel(sql_type = Text)]
    pub sender: String,
    /// The sender's name.
    #[diesel(sql_type = Text)]
    pub sender_name: String,
    /// To which of our addresses.
    #[diesel(sql_type = Text)]
    pub recipient: String,
    /// The subject.
    #[diesel(sql_type = Text)]
    pub subject: String,
    /// The text.
    #[diesel(sql_type = Text)]
    pub body: String,
    /// The message that it answers.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub message_id: Option<Uuid>,
    /// Customer number.
    #[diesel(sql_type = Nullable<Text>)]
    pub customer_number: Option<String>,
    /// The provider's id for it.
    #[diesel(sql_type = Text)]
    pub provider_message_id: String,
    /// It asks for no more messages.
    #[diesel(sql_type = Bool)]
    pub asks_to_stop: bool,
    /// When it came in.
    #[diesel(sql_type = Timestamptz)]
    pub received_at: DateTime<Utc>,
    /// When we were told.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

const SELECT: &str =
    "SELECT i.id, i.customer_id, i.channel, i.account, i.sender, i.sender_name, i.recipient,
        i.subject, i.body, i.message_id, cu.number AS customer_number, i.provider_message_id,
        i.asks_to_stop, i.received_at, i.created_at
    FROM inbound_message i
    LEFT JOIN customer cu ON cu.tenant_id = i.tenant_id AND cu.id = i.customer_id
    WHERE i.tenant_id = $1";

/// One message.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    id: InboundMessageId,
) -> Result<Option<InboundMessage>> {
    Ok(diesel::sql_query(format!("{SELECT} AND i.id = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id.0)
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// What messages that came in are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("channel", Kind::Text),
        Field::resource(
            "channel_account",
            &[Part::new("channelAccounts", "account", PartType::Text)],
        ),
        Field::column("sender", Kind::Text),
        Field::column("recipient", Kind::Text),
        Field::column("subject", Kind::Text),
        Field::new("text", Kind::Text, "body"),
        Field::resource(
            "in_reply_to",
            &[Part::new("messages", "message_id", PartType::Uuid)],
        ),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::column("provider_message_id", Kind::Text),
        Field::new("stop", Kind::Flag, "asks_to_stop"),
        Field::new("receive_time", Kind::Time, "received_at"),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of messages, newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<InboundMessage>> {
    let base = Statement::numbered(SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    list.load_of_customers(conn, tenant, base).await
}
