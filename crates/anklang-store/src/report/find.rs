//! Which messages reports are about, and which reports are news.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, Bool, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Fresh, Report, Source};
use crate::sql::Fix;
use crate::{Conn, Result};

/// The message that a report is about.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(super) struct Found {
    /// Place of the report.
    #[diesel(sql_type = Integer)]
    n: i32,
    #[diesel(sql_type = SqlUuid)]
    tenant_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

impl Found {
    pub(super) fn place(&self) -> usize {
        usize::try_from(self.n).unwrap_or(usize::MAX)
    }

    pub(super) fn key(&self) -> (Uuid, Uuid) {
        (self.tenant_id, self.id)
    }
}

/// A message that reports are about, locked.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Locked {
    #[diesel(sql_type = SqlUuid)]
    pub(super) tenant_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: Uuid,
    #[diesel(sql_type = Text)]
    pub(super) state: String,
    #[diesel(sql_type = Integer)]
    pub(super) attempt: i32,
    #[diesel(sql_type = Bool)]
    pub(super) submitted: bool,
    #[diesel(sql_type = SmallInt)]
    pub(super) told: i16,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) told_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    pub(super) provider_message_id: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(super) campaign_id: Option<Uuid>,
    #[diesel(sql_type = SqlUuid)]
    pub(super) phase_id: Uuid,
    #[diesel(sql_type = Text)]
    pub(super) channel: String,
    #[diesel(sql_type = Bytea)]
    pub(super) address_hash: Vec<u8>,
    /// The trace in which it was made.
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) traceparent: Option<String>,
    /// It went to people of the tenant.
    #[diesel(sql_type = Bool)]
    pub(super) is_notice: bool,
    /// The transaction's time.
    #[diesel(sql_type = Timestamptz)]
    pub(super) now: DateTime<Utc>,
}

impl Locked {
    pub(super) fn key(&self) -> (Uuid, Uuid) {
        (self.tenant_id, self.id)
    }
}

/// Looks for messages of the account: by our id, else the newest by the provider's.
pub(super) async fn find(
    conn: &mut Conn,
    source: Source<'_>,
    reports: &[Report],
) -> Result<Vec<Found>> {
    let places: Vec<i32> = (0..).take(reports.len()).collect();
    let ids: Vec<Option<Uuid>> = reports.iter().map(|r| r.message).collect();
    let theirs: Vec<&str> = reports.iter().map(|r| &r.provider_message_id[..]).collect();
    Ok(diesel::sql_query(
        "SELECT e.n, m.tenant_id, m.id
         FROM unnest($3::int[], $4::uuid[], $5::text[]) AS e (n, message_id, provider)
         CROSS JOIN LATERAL (
             SELECT b.tenant_id, b.id FROM (
                 SELECT m.tenant_id, m.id, 1 AS way
                 FROM unnest($1::uuid[]) AS t (id) CROSS JOIN LATERAL (
                     SELECT tenant_id, id FROM message
                     WHERE tenant_id = t.id AND id = e.message_id AND account = $2 OFFSET 0) m
                 UNION ALL
                 SELECT m.tenant_id, m.id, 2
                 FROM unnest($1::uuid[]) AS t (id) CROSS JOIN LATERAL (
                     SELECT tenant_id, id FROM message
                     WHERE tenant_id = t.id AND account = $2 AND provider_message_id = e.provider
                       AND provider_message_id <> ''
                     ORDER BY id DESC LIMIT 1) m) b
             ORDER BY b.way, b.id DESC LIMIT 1) m
         ORDER BY e.n",
    )
    .bind::<Array<SqlUuid>, _>(source.tenant_ids())
    .bind::<Text, _>(source.account)
    .bind::<Array<Integer>, _>(places)
    .bind::<Array<Nullable<SqlUuid>>, _>(ids)
    .bind::<Array<Text>, _>(theirs)
    .fixed()
    .load(conn)
    .await?)
}

/// Locks the messages, in the order of their keys; tenant by tenant, so that the statement is of one
/// table alone (see `message::hand_over::hold`).
pub(super) async fn lock(conn: &mut Conn, found: &[Found]) -> Result<Vec<Locked>> {
    let mut of: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
    for found in found {
        of.entry(found.tenant_id).or_default().insert(found.id);
    }
    let mut locked = Vec::new();
    for (tenant, ids) in of {
        locked.extend(lock_of(conn, tenant, ids.into_iter().collect()).await?);
    }
    Ok(locked)
}

async fn lock_of(conn: &mut Conn, tenant: Uuid, ids: Vec<Uuid>) -> Result<Vec<Locked>> {
    Ok(diesel::sql_query(
        "SELECT m.tenant_id, m.id, m.state, m.attempt, m.submitted_at IS NOT NULL AS submitted,
                m.told, m.told_at, m.provider_message_id, m.campaign_id, m.phase_id, m.channel,
                m.address_hash, m.traceparent, m.notice IS NOT NULL AS is_notice, now() AS now
         FROM message m WHERE m.tenant_id = $1 AND m.id = ANY($2)
         ORDER BY m.id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant)
    .bind::<Array<SqlUuid>, _>(ids)
    .fixed()
    .load(conn)
    .await?)
}

/// Which of these messages were to somebody who is erased since.
pub(super) async fn erased(conn: &mut Conn, locked: &[Locked]) -> Result<BTreeSet<(Uuid, Uuid)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        tenant_id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT m.tenant_id, m.id
         FROM unnest($1::uuid[], $2::uuid[]) AS e (tenant_id, id)
         JOIN message m ON m.tenant_id = e.tenant_id AND m.id = e.id
         JOIN customer c ON c.tenant_id = m.tenant_id AND c.id = m.customer_id
         WHERE c.erased_at IS NOT NULL",
    )
    .bind::<Array<SqlUuid>, _>(locked.iter().map(|m| m.tenant_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(locked.iter().map(|m| m.id).collect::<Vec<_>>())
    .fixed()
    .load(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.tenant_id, row.id))
        .collect())
}

/// Which reports are news, each once. The messages must be locked: whoever reports of them waits.
pub(super) async fn fresh(
    conn: &mut Conn,
    found: &[Found],
    reports: &[Report],
) -> Result<Vec<Fresh>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        repeated: bool,
        #[diesel(sql_type = Bool)]
        state_known: bool,
    }
    let of = |f: &Found| &reports[f.place()];
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM message_report r WHERE r.tenant_id = e.tenant_id
                          AND r.message_id = e.id AND r.key = e.key) AS repeated,
                EXISTS (SELECT FROM message_report r WHERE r.tenant_id = e.tenant_id
                          AND r.message_id = e.id AND r.state = e.state) AS state_known
         FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::text[]) WITH ORDINALITY
              AS e (tenant_id, id, key, state, n)
         ORDER BY e.n",
    )
    .bind::<Array<SqlUuid>, _>(found.iter().map(|f| f.tenant_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(found.iter().map(|f| f.id).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(
        found
            .iter()
            .map(|f| of(f).key().to_vec())
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(
        found
            .iter()
            .map(|f| of(f).state.as_str())
            .collect::<Vec<_>>(),
    )
    .fixed()
    .load(conn)
    .await?;
    let mut seen = BTreeSet::new();
    let fresh = found.iter().zip(rows).filter_map(|(found, row)| {
        let first = seen.insert((found.key(), of(found).key()));
        (first && !row.repeated).then_some(Fresh {
            found: *found,
            state_known: row.state_known,
        })
    });
    Ok(fresh.collect())
}
