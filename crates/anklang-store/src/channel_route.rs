//! Routes: accounts of one channel that stand in for each other. The rule is
//! `anklang_domain::route`; how messages move is in `message/moves.rs`.

use anklang_domain::route::Entry;
use anklang_domain::{PhaseId, TenantId};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A tenant has at most so many routes.
pub const MAX_ROUTES: i64 = 100;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Route {
    /// Its id.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// For people.
    #[diesel(sql_type = Text)]
    pub display_name: String,
    /// The channel of its accounts.
    #[diesel(sql_type = Text)]
    pub channel: String,
    #[diesel(sql_type = Array<Text>)]
    accounts: Vec<String>,
    #[diesel(sql_type = Array<Integer>)]
    priorities: Vec<i32>,
    #[diesel(sql_type = Array<Integer>)]
    shares: Vec<i32>,
    #[diesel(sql_type = Integer)]
    failover_seconds: i32,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Route {
    /// Its accounts.
    pub fn entries(&self) -> Vec<Entry> {
        let numbers = self.priorities.iter().zip(&self.shares);
        let entries = self.accounts.iter().zip(numbers);
        let entries = entries.map(|(account, (priority, share))| Entry {
            account: account.clone(),
            priority: *priority,
            share: *share,
        });
        entries.collect()
    }

    /// The ids of its accounts.
    pub fn accounts(&self) -> Vec<&str> {
        self.accounts.iter().map(String::as_str).collect()
    }

    /// So long an account may fail or be held.
    pub fn failover_after(&self) -> TimeDelta {
        TimeDelta::seconds(self.failover_seconds.into())
    }
}

const COLUMNS: &str = "id, display_name, channel, accounts, priorities, shares, failover_seconds,
    created_at, updated_at";

/// A route as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoute<'a> {
    /// Its id.
    pub id: &'a str,
    /// For people.
    pub display_name: &'a str,
    /// The channel of its accounts.
    pub channel: &'a str,
    /// Its accounts.
    pub entries: &'a [Entry],
    /// So long an account may fail or be held, in whole seconds.
    pub failover_after: TimeDelta,
}

/// Adds a route; `None` when there is one with that id.
///
/// # Errors
/// `Refused` when the tenant has [`MAX_ROUTES`].
pub async fn create(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewRoute<'_>,
) -> Result<Option<Route>> {
    // Two at once could both be the last: the tenant's routes take turns.
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('route ' || $1::text, 0))")
        .bind::<SqlUuid, _>(tenant.0)
        .execute(conn)
        .await?;
    if get(conn, tenant, new.id).await?.is_some() {
        return Ok(None);
    }
    let room = count(
        conn,
        tenant,
        "SELECT count(*) AS n FROM channel_route WHERE tenant_id = $1 AND $2 IS NOT NULL",
        new.id,
    );
    if room.await? >= MAX_ROUTES {
        return Err(StoreError::Refused {
            resource: "channelRoutes".into(),
            reason: format!("a tenant has at most {MAX_ROUTES}"),
        });
    }
    save(conn, tenant, new).await.map(Some)
}

async fn count(conn: &mut Conn, tenant: TenantId, sql: &'static str, id: &str) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let counted: Count = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(id)
        .get_result(conn)
        .await?;
    Ok(counted.n)
}

/// Adds a route or replaces the one with that id.
pub async fn save(conn: &mut Conn, tenant: TenantId, new: &NewRoute<'_>) -> Result<Route> {
    let accounts: Vec<&str> = new.entries.iter().map(|e| &e.account[..]).collect();
    let priorities: Vec<i32> = new.entries.iter().map(|e| e.priority).collect();
    let shares: Vec<i32> = new.entries.iter().map(|e| e.share).collect();
    let seconds = i32::try_from(new.failover_after.num_seconds()).unwrap_or(i32::MAX);
    Ok(diesel::sql_query(format!(
        "INSERT INTO channel_route AS r (tenant_id, id, display_name, channel, accounts, priorities,
             shares, failover_seconds)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, id) DO UPDATE
         SET display_name = $3, accounts = $5, priorities = $6, shares = $7, failover_seconds = $8,
             updated_at = CASE WHEN (r.display_name, r.accounts, r.priorities, r.shares,
                                     r.failover_seconds)
                                    IS DISTINCT FROM ($3, $5, $6, $7, $8)
                               THEN now() ELSE r.updated_at END
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(new.id)
    .bind::<Text, _>(new.display_name)
    .bind::<Text, _>(new.channel)
    .bind::<Array<Text>, _>(accounts)
    .bind::<Array<Integer>, _>(priorities)
    .bind::<Array<Integer>, _>(shares)
    .bind::<Integer, _>(seconds)
    .get_result(conn)
    .await?)
}

/// One route.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: &str) -> Result<Option<Route>> {
    Ok(diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM channel_route WHERE tenant_id = $1 AND id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// As [`get`]; it is then not deleted before the end of the transaction.
pub async fn keep(conn: &mut Conn, tenant: TenantId, id: &str) -> Result<Option<Route>> {
    Ok(diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM channel_route WHERE tenant_id = $1 AND id = $2 FOR KEY SHARE"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .get_result(conn)
    .await
    .optional()?)
}

/// The route by which a phase's messages go, if they do.
pub async fn of_phase(conn: &mut Conn, tenant: TenantId, phase: PhaseId) -> Result<Option<Route>> {
    Ok(diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM channel_route WHERE tenant_id = $1 AND id = (
             SELECT route FROM outbound WHERE tenant_id = $1 AND phase_id = $2
             ORDER BY number LIMIT 1)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .get_result(conn)
    .await
    .optional()?)
}

/// What routes are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("id", Kind::Text),
        Field::column("display_name", Kind::Text),
        Field::column("channel", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("id", "::text", false)],
};

/// A page of routes, by id if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Route>> {
    let base = Statement::numbered(
        "SELECT id, display_name, channel, accounts, priorities, shares, failover_seconds,
                created_at, updated_at
         FROM channel_route WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

/// Deletes a route, which the caller holds.
///
/// # Errors
/// `Refused` while messages wait that go by it, or launches are to use it.
pub async fn delete(conn: &mut Conn, tenant: TenantId, id: &str) -> Result<()> {
    let waiting = count(
        conn,
        tenant,
        "SELECT count(*) AS n FROM outbound o JOIN message m ON m.tenant_id = o.tenant_id
              AND m.phase_id = o.phase_id AND m.outbound_id = o.id
              AND m.state IN ('queued', 'sending')
         WHERE o.tenant_id = $1 AND o.route = $2",
        id,
    )
    .await?;
    let launches = count(
        conn,
        tenant,
        "SELECT count(*) AS n FROM outbound o
         JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
         WHERE o.tenant_id = $1 AND o.route = $2 AND p.state IN ('planned', 'launching', 'awaiting_approval')",
        id,
    )
    .await?;
    if waiting + launches > 0 {
        return Err(StoreError::Refused {
            resource: anklang_domain::name::format(&[("channelRoutes", id)]),
            reason: format!(
                "{waiting} messages wait that go by it, and {launches} launches use it"
            ),
        });
    }
    diesel::sql_query("DELETE FROM channel_route WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(id)
        .execute(conn)
        .await?;
    Ok(())
}
