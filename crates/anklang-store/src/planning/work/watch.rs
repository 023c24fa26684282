//! What changes in planned contacts, for those who watch.
//!
//! # Guarantees
//! Nothing is missed, whatever commits when. Each contact holds the transaction that wrote it last
//! (`changed_in`, by a trigger and a default, so that no statement can forget it), each one that is
//! gone a row in `planned_contact_gone`. Who watches keeps a [`Snapshot`]: which transactions it has seen.
//! What is new in a later one was written by a transaction that the former had not seen: one that was
//! running then, or began after. These are looked up one by one, the others by range, both by the index on
//! `changed_in`. Snapshots of one database are ordered, each sees all that the one before saw; a transaction
//! that takes an hour is in the list of running ones for an hour, and what it wrote is new when it has
//! committed. Numbers alone, be they times, sequences or transactions, would be passed by then.
//!
//! # Trade-offs
//! A contact that changes several times between two looks is seen once. What belongs to its customer, entry
//! or plan is no change of the contact. Each write of a contact costs a call of a trigger and an entry in
//! one more index, of which a statement's rows share the key.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use anklang_domain::TenantId;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::listing::{List, Page};
use crate::planning::contact::{self, Contact};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, Store, StoreError};

/// Which transactions have been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All before this one, and none from `end` on.
    first_running: u64,
    end: u64,
    /// Those in between that were running; ascending.
    running: Vec<u64>,
}

impl Snapshot {
    /// True when what that transaction wrote was there.
    pub fn has_seen(&self, transaction: u64) -> bool {
        transaction < self.end && self.running.binary_search(&transaction).is_err()
    }

    /// True when it has seen all that the other one has.
    pub fn includes(&self, other: &Snapshot) -> bool {
        other.end <= self.end && self.running.iter().all(|t| !other.has_seen(*t))
    }
}

/// As PostgreSQL writes a `pg_snapshot`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.first_running, self.end)?;
        for (i, transaction) in self.running.iter().enumerate() {
            let between = if i > 0 { "," } else { "" };
            write!(f, "{between}{transaction}")?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Snapshot> {
        let read = || {
            let mut parts = text.splitn(3, ':');
            let first_running = parts.next()?.parse().ok()?;
            let end = parts.next()?.parse().ok()?;
            let running = parts.next()?.split(',').filter(|t| !t.is_empty());
            let mut running: Vec<u64> = running.map(|t| t.parse().ok()).collect::<Option<_>>()?;
            running.sort_unstable();
            Some(Snapshot {
                first_running,
                end,
                running,
            })
        };
        read().ok_or_else(|| StoreError::Stored(format!("snapshot {text:?}")))
    }
}

/// A moment of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// What had been committed.
    pub snapshot: Snapshot,
    /// When, by the database's clock.
    pub at: DateTime<Utc>,
    /// Which database: another one after a restore, or when a standby has taken over. Snapshots of
    /// different ones have nothing to do with each other.
    pub history: String,
}

/// The moment of the transaction, which should be one of [`Store::begin_snapshot`]. Its following
/// statements go by indexes: most of the time next to nothing is new, which statistics cannot know.
pub async fn moment(conn: &mut Conn) -> Result<Moment> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        snapshot: String,
        #[diesel(sql_type = Timestamptz)]
        at: DateTime<Utc>,
        #[diesel(sql_type = Text)]
        history: String,
        #[expect(dead_code, reason = "the setting is what it is for")]
        #[diesel(sql_type = Text)]
        setting: String,
    }
    let row: Row = diesel::sql_query(
        "SELECT pg_current_snapshot()::text AS snapshot, now() AS at,
                (SELECT system_identifier FROM pg_control_system())::text || '/'
                || (SELECT timeline_id FROM pg_control_checkpoint()) AS history,
                set_config('enable_seqscan', 'off', true) AS setting",
    )
    .fixed()
    .get_result(conn)
    .await?;
    Ok(Moment {
        snapshot: row.snapshot.parse()?,
        at: row.at,
        history: row.history,
    })
}

/// The moment that it is now.
pub async fn now(store: &Store, tenant: TenantId) -> Result<Moment> {
    let mut tx = store.begin_snapshot(tenant).await?;
    let now = moment(&mut tx).await?;
    tx.commit().await?;
    Ok(now)
}

/// A contact that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The transaction that wrote it last.
    pub transaction: u64,
    /// The contact.
    pub id: Uuid,
    /// There is none any more.
    pub is_gone: bool,
}

/// What has changed since a snapshot, in the order of transactions and ids: at most `limit`, behind
/// a change that was read in the same transaction.
pub async fn changed(
    conn: &mut Conn,
    tenant: TenantId,
    since: &Snapshot,
    after: Option<&Change>,
    limit: i64,
) -> Result<Vec<Change>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        transaction: i64,
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Bool)]
        is_gone: bool,
    }
    let (transaction, id) = after.map_or((0, Uuid::nil()), |c| (c.transaction, c.id));
    // Running ones come before the others in the order of transactions.
    let running = since.running.iter().filter(|t| **t >= transaction);
    let running: Vec<String> = running.map(u64::to_string).collect();
    let begun = match transaction >= since.end {
        true => (transaction, id),
        false => (since.end.saturating_sub(1), Uuid::max()),
    };
    let rows: Vec<Row> = diesel::sql_query(&CHANGED[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(begun.0.to_string())
        .bind::<SqlUuid, _>(begun.1)
        .bind::<Array<Text>, _>(running)
        .bind::<Text, _>(transaction.to_string())
        .bind::<SqlUuid, _>(id)
        .bind::<BigInt, _>(limit)
        .fixed()
        .load(conn)
        .await?;
    let read = |row: Row| {
        Ok(Change {
            transaction: number(row.transaction)?,
            id: row.id,
            is_gone: row.is_gone,
        })
    };
    rows.into_iter().map(read).collect()
}

fn number(transaction: i64) -> Result<u64> {
    u64::try_from(transaction).map_err(|_| StoreError::Stored(format!("xid {transaction}")))
}

/// Of each table the transactions that were running, `$4`, behind `$5` and `$6`; and those behind `$2` and
/// `$3`. One bound for each, so that the index is entered there. What was written by transactions that are yet
/// to come is no change: rows keep their numbers when they are dumped and restored into another database.
static CHANGED: LazyLock<String> = LazyLock::new(|| {
    let of = |table: &str, is_gone: &str| {
        format!(
            "SELECT k.changed_in, k.id, {is_gone} AS is_gone
             FROM unnest($4::xid8[]) t (xid)
             CROSS JOIN LATERAL (
                 SELECT k.changed_in, k.id FROM {table} k
                 WHERE k.tenant_id = $1 AND k.changed_in = t.xid
                   AND k.id > CASE WHEN t.xid = $5::xid8 THEN $6
                                   ELSE '00000000-0000-0000-0000-000000000000'::uuid END
                 ORDER BY k.id LIMIT $7) k
             UNION ALL
             (SELECT k.changed_in, k.id, {is_gone} FROM {table} k
              WHERE k.tenant_id = $1 AND (k.changed_in, k.id) > ($2::xid8, $3)
                AND k.changed_in < pg_snapshot_xmax(pg_current_snapshot())
              ORDER BY k.changed_in, k.id LIMIT $7)"
        )
    };
    format!(
        "SELECT changed_in::text::bigint AS transaction, id, is_gone
         FROM ({} UNION ALL {}) k
         ORDER BY changed_in, id LIMIT $7",
        of("planned_contact", "false"),
        of("planned_contact_gone", "true")
    )
});

/// The contacts among changes, each with its transaction, in their order.
pub async fn contacts(
    conn: &mut Conn,
    tenant: TenantId,
    changes: &[Change],
) -> Result<Vec<(u64, Contact)>> {
    let there: Vec<Uuid> = changes
        .iter()
        .filter(|c| !c.is_gone)
        .map(|c| c.id)
        .collect();
    if there.is_empty() {
        return Ok(Vec::new());
    }
    let found = contact::several(conn, tenant, &there).await?;
    let mut found: HashMap<Uuid, Contact> = found.into_iter().map(|c| (c.id, c)).collect();
    let there = changes.iter().filter(|c| !c.is_gone);
    Ok(there
        .filter_map(|c| Some((c.transaction, found.remove(&c.id)?)))
        .collect())
}

/// What a screen shows.
#[derive(Debug)]
pub struct View {
    /// Filter, order and size of what is listed at the beginning.
    pub list: List,
    /// Customer groups; all when empty.
    pub groups: Vec<String>,
}

impl View {
    /// True when the contact belongs to it.
    pub fn takes(&self, contact: &Contact) -> bool {
        (self.groups.is_empty() || self.groups.contains(&contact.customer_group))
            && self.list.takes(contact)
    }

    /// The first contacts.
    pub async fn first(&self, conn: &mut Conn, tenant: TenantId) -> Result<Page<Contact>> {
        let base = Statement::numbered(
            &contact::OF_GROUPS,
            &[
                bound::<SqlUuid, _>(tenant.0),
                bound::<Array<Text>, _>(self.groups.clone()),
            ],
        );
        List::load(&self.list, conn, base).await
    }

    /// Those of these contacts that belong to it, as many as are listed at the beginning.
    pub async fn among(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        ids: Vec<Uuid>,
    ) -> Result<Page<Contact>> {
        let base = Statement::numbered(
            &contact::OF_GROUPS,
            &[
                bound::<SqlUuid, _>(tenant.0),
                bound::<Array<Text>, _>(self.groups.clone()),
            ],
        );
        let base = base.sql(" AND k.id = ANY(").bind::<Array<SqlUuid>, _>(ids);
        List::load(&self.list, conn, base.sql(")")).await
    }
}

/// Forgets at most `limit` contacts that are gone for two days: whoever has not watched for so long
/// begins anew. Gives how many.
pub async fn forget(conn: &mut Conn, tenant: TenantId, limit: i64) -> Result<i64> {
    let rows = diesel::sql_query(
        "DELETE FROM planned_contact_gone
         WHERE tenant_id = $1 AND (changed_in, id) IN (
             SELECT changed_in, id
             FROM (SELECT changed_in, id, gone_at FROM planned_contact_gone
                   WHERE tenant_id = $1
                   ORDER BY changed_in, id LIMIT $2) oldest
             WHERE gone_at < now() - interval '2 days')",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().expect("a snapshot")
    }

    #[test]
    fn a_snapshot_has_seen_what_was_over() {
        let one = snapshot("10:20:10,15");
        assert_eq!(one.to_string(), "10:20:10,15");
        let seen: Vec<u64> = (8..22).filter(|t| one.has_seen(*t)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        assert_eq!(snapshot("7:7:").to_string(), "7:7:");
        for wrong in ["", "1", "1:2", "a:b:c", "1:2:3,x"] {
            assert!(wrong.parse::<Snapshot>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_later_snapshot_includes_an_earlier_one() {
        let one = snapshot("10:20:10,15");
        for later in [
            "10:20:10,15",
            "10:20:10",
            "20:20:",
            "10:25:10,15,22",
            "15:21:15,20",
        ] {
            assert!(snapshot(later).includes(&one), "{later}");
            let same = snapshot(later) == one;
            assert_eq!(one.includes(&snapshot(later)), same, "{later}");
        }
    }
}
