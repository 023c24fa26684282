//! Reports that belong to no message yet: kept, tried again with growing waits, and purged.

use anklang_domain::TenantId;
use anklang_domain::report::ReportState;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Applied, Report, Source, apply_known};
use crate::message::seconds;
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// The first wait, in seconds; doubles with each try up to the longest, about an hour.
const FIRST_WAIT: f64 = 1.0;
const MOST_DOUBLINGS: i32 = 12;

/// Keeps reports until their messages are known; those that are kept already stay as they are.
pub(super) async fn keep(conn: &mut Conn, source: Source<'_>, reports: &[&Report]) -> Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    // Whose words they are is not known.
    let shared = source.tenant().is_none();
    let detail = |r: &&Report| match shared {
        true => String::new(),
        false => r.detail.clone(),
    };
    let all = |of: fn(&Report) -> &str| reports.iter().map(|r| of(r)).collect::<Vec<_>>();
    diesel::sql_query(
        "INSERT INTO waiting_report (tenant_id, account, provider_message_id, key, state, code,
                                     detail, occurred_at, next_try_at)
         SELECT DISTINCT ON (t.id, r.provider, r.key)
                t.id, $2, r.provider, r.key, r.state, r.code, r.detail, r.occurred_at,
                now() + make_interval(secs => $9)
         FROM unnest($3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[],
                     $8::timestamptz[]) AS r (provider, key, state, code, detail, occurred_at)
         CROSS JOIN unnest($1::uuid[]) AS t (id)
         -- Of an account of several tenants: only where a message may be waiting for its id.
         WHERE NOT $10
            OR EXISTS (SELECT FROM message m
                       WHERE m.tenant_id = t.id AND m.account = $2 AND m.state = 'sending')
            OR EXISTS (SELECT FROM message m
                       WHERE m.tenant_id = t.id AND m.account = $2 AND m.state = 'ambiguous')
         ORDER BY t.id, r.provider, r.key
         ON CONFLICT DO NOTHING",
    )
    .bind::<Array<SqlUuid>, _>(source.tenant_ids())
    .bind::<Text, _>(source.account)
    .bind::<Array<Text>, _>(all(|r| &r.provider_message_id))
    .bind::<Array<Bytea>, _>(reports.iter().map(|r| r.key().to_vec()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(all(|r| r.state.as_str()))
    .bind::<Array<Text>, _>(all(|r| &r.code))
    .bind::<Array<Text>, _>(reports.iter().map(detail).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(
        reports.iter().map(|r| r.occurred_at).collect::<Vec<_>>(),
    )
    .bind::<Double, _>(FIRST_WAIT)
    .bind::<Bool, _>(shared)
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    provider_message_id: String,
    #[diesel(sql_type = Bytea)]
    key: Vec<u8>,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    code: String,
    #[diesel(sql_type = Text)]
    detail: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    occurred_at: Option<DateTime<Utc>>,
}

/// Tries at most `limit` waiting reports of a tenant's account again. Gives what came of them, and
/// how many were due.
pub async fn match_waiting(
    store: &Store,
    tenant: TenantId,
    account: &str,
    channel: &str,
    limit: i64,
) -> Result<(Applied, usize)> {
    let mut tx = store.begin_work(tenant).await?;
    let due: Vec<Row> = diesel::sql_query(
        "SELECT provider_message_id, key, state, code, detail, occurred_at FROM waiting_report
         WHERE tenant_id = $1 AND account = $2 AND next_try_at <= now()
         ORDER BY next_try_at LIMIT $3 FOR UPDATE SKIP LOCKED",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .bind::<BigInt, _>(limit)
    .fixed()
    .load(&mut tx)
    .await?;
    if due.is_empty() {
        return Ok((Applied::default(), 0));
    }
    let source = Source {
        account,
        channel,
        tenants: &[tenant],
    };
    let read = |row: &Row| {
        Some(Report {
            message: None,
            provider_message_id: row.provider_message_id.clone(),
            state: ReportState::parse(&row.state)?,
            code: row.code.clone(),
            detail: row.detail.clone(),
            occurred_at: row.occurred_at,
        })
    };
    // What a later version wrote and this one cannot read waits for that version.
    let (rows, reports): (Vec<&Row>, Vec<Report>) =
        due.iter().filter_map(|row| Some((row, read(row)?))).unzip();
    let (applied, without) = apply_known(&mut tx, source, &reports).await?;
    let matched: Vec<&Row> = rows
        .iter()
        .enumerate()
        .filter(|(n, _)| without.binary_search(n).is_err())
        .map(|(_, row)| *row)
        .collect();
    forget(&mut tx, tenant, account, &matched).await?;
    put_off(&mut tx, tenant, account, &due).await?;
    tx.commit().await?;
    Ok((applied, due.len()))
}

async fn forget(conn: &mut Conn, tenant: TenantId, account: &str, rows: &[&Row]) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM waiting_report w USING unnest($3::text[], $4::bytea[]) AS r (provider, key)
         WHERE w.tenant_id = $1 AND w.account = $2 AND w.provider_message_id = r.provider
           AND w.key = r.key",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .bind::<Array<Text>, _>(ids(rows))
    .bind::<Array<Bytea>, _>(keys(rows))
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

/// Those that are left wait longer.
async fn put_off(conn: &mut Conn, tenant: TenantId, account: &str, due: &[Row]) -> Result<()> {
    let rows: Vec<&Row> = due.iter().collect();
    diesel::sql_query(
        "UPDATE waiting_report w SET tries = w.tries + 1,
             next_try_at = now() + make_interval(secs => $5 * power(2, least(w.tries + 1, $6)))
         FROM unnest($3::text[], $4::bytea[]) AS r (provider, key)
         WHERE w.tenant_id = $1 AND w.account = $2 AND w.provider_message_id = r.provider
           AND w.key = r.key",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .bind::<Array<Text>, _>(ids(&rows))
    .bind::<Array<Bytea>, _>(keys(&rows))
    .bind::<Double, _>(FIRST_WAIT)
    .bind::<diesel::sql_types::Integer, _>(MOST_DOUBLINGS)
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

fn ids<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    rows.iter().map(|r| &r.provider_message_id[..]).collect()
}

fn keys<'a>(rows: &[&'a Row]) -> Vec<&'a [u8]> {
    rows.iter().map(|r| &r.key[..]).collect()
}

/// What to purge of a tenant's waiting reports.
#[derive(Debug, Clone, Copy)]
pub struct Purge {
    /// Those that have waited for so long.
    pub age: chrono::TimeDelta,
    /// At most so many.
    pub limit: i64,
}

/// Removes reports of a tenant that have waited in vain. Returns how many.
pub async fn purge_waiting(store: &Store, tenant: TenantId, purge: Purge) -> Result<usize> {
    let mut tx = store.begin_work(tenant).await?;
    let purged = diesel::sql_query(
        "WITH old AS MATERIALIZED (
             SELECT account, provider_message_id, key FROM waiting_report
             WHERE tenant_id = $1 AND received_at < now() - make_interval(secs => $2)
             ORDER BY received_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         DELETE FROM waiting_report w USING old
         WHERE w.tenant_id = $1 AND w.account = old.account
           AND w.provider_message_id = old.provider_message_id AND w.key = old.key",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Double, _>(seconds(purge.age))
    .bind::<BigInt, _>(purge.limit)
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(purged)
}

/// Tenants with waiting reports of an account that are due.
pub async fn due_tenants(store: &Store, account: &str) -> Result<Vec<TenantId>> {
    #[derive(QueryableByName)]
    struct Id {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let mut tx = store.begin_worker().await?;
    let rows: Vec<Id> = diesel::sql_query(
        "SELECT t.id FROM tenant t WHERE EXISTS (
             SELECT FROM waiting_report w WHERE w.tenant_id = t.id AND w.account = $1
               AND w.next_try_at <= now())",
    )
    .bind::<Text, _>(account)
    .fixed()
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|r| TenantId(r.id)).collect())
}
