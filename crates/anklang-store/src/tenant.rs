//! Tenants.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_domain::{TenantId, Violations};
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use diesel::sql_types::{Date, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// One company using the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What callers name it by: a–z, 0–9 and hyphens.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The zone of its days.
    pub time_zone: Tz,
}

impl Tenant {
    /// The day that it is for the tenant at a point in time.
    pub fn day(&self, time: DateTime<Utc>) -> NaiveDate {
        time.with_timezone(&self.time_zone).date_naive()
    }
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = Date)]
    today: NaiveDate,
}

/// The moment by the database's clock, and its day in the tenant's time zone.
pub async fn clock(conn: &mut Conn, tenant: TenantId) -> Result<(DateTime<Utc>, NaiveDate)> {
    let clock: Clock = diesel::sql_query(
        "SELECT c.now, (c.now AT TIME ZONE t.time_zone)::date AS today
         FROM tenant t CROSS JOIN (SELECT clock_timestamp() AS now) c WHERE t.id = $1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .get_result(conn)
    .await?;
    Ok((clock.now, clock.today))
}

/// So long a tenant is known without asking the database: every call names one, and they hardly ever
/// change. A new name or zone is seen that much later by other servers.
const KNOWN_FOR: Duration = Duration::from_secs(2);

/// Tenants that were asked for lately.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<String, (Instant, Tenant)>>);

impl Known {
    fn tenants(&self) -> MutexGuard<'_, HashMap<String, (Instant, Tenant)>> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, slug: &str) -> Option<Tenant> {
        let tenants = self.tenants();
        let (since, tenant) = tenants.get(slug)?;
        (since.elapsed() < KNOWN_FOR).then(|| tenant.clone())
    }

    /// Only tenants that exist: who asks for others does not fill the memory.
    fn put(&self, tenant: &Tenant) {
        let known = (Instant::now(), tenant.clone());
        self.tenants().insert(tenant.slug.clone(), known);
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    slug: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    time_zone: String,
}

impl From<Row> for Tenant {
    fn from(row: Row) -> Self {
        Tenant {
            id: TenantId(row.id),
            slug: row.slug,
            name: row.name,
            // Checked when it was written; a zone that a newer tz database dropped is UTC.
            time_zone: row.time_zone.parse().unwrap_or(Tz::UTC),
        }
    }
}

/// Adds a tenant, or changes name and zone of the one with that slug.
pub async fn upsert(store: &Store, slug: &str, name: &str, time_zone: Tz) -> Result<Tenant> {
    let mut tx = store.begin_worker().await?;
    // The database knows fewer names of zones than we do where old ones are packaged apart.
    let known = diesel::sql_query("SELECT 1 FROM pg_timezone_names WHERE name = $1")
        .bind::<Text, _>(time_zone.name())
        .execute(&mut tx)
        .await?;
    if known == 0 {
        let mut violations = Violations::new();
        violations.add("time_zone", "is not known to this PostgreSQL");
        return Err(violations.into());
    }
    let row: Row = diesel::sql_query(
        "INSERT INTO tenant (id, slug, name, time_zone) VALUES ($1, $2, $3, $4)
         ON CONFLICT (slug) DO UPDATE SET name = excluded.name, time_zone = excluded.time_zone
         RETURNING id, slug, name, time_zone",
    )
    .bind::<SqlUuid, _>(TenantId::new().0)
    .bind::<Text, _>(slug)
    .bind::<Text, _>(name)
    .bind::<Text, _>(time_zone.name())
    .get_result(&mut tx)
    .await?;
    tx.commit().await?;
    let tenant = row.into();
    store.tenants().put(&tenant);
    Ok(tenant)
}

/// The tenant with that slug, as it is or was two seconds ago.
pub async fn by_slug(store: &Store, slug: &str) -> Result<Option<Tenant>> {
    if let Some(known) = store.tenants().get(slug) {
        return Ok(Some(known));
    }
    let mut tx = store.begin_worker().await?;
    let row: Option<Row> =
        diesel::sql_query("SELECT id, slug, name, time_zone FROM tenant WHERE slug = $1")
            .bind::<Text, _>(slug)
            .fixed()
            .get_result(&mut tx)
            .await
            .optional()?;
    tx.commit().await?;
    let tenant = row.map(Tenant::from);
    if let Some(tenant) = &tenant {
        store.tenants().put(tenant);
    }
    Ok(tenant)
}

/// The tenant with that id.
pub async fn by_id(store: &Store, id: TenantId) -> Result<Option<Tenant>> {
    let mut tx = store.begin_worker().await?;
    let row: Option<Row> =
        diesel::sql_query("SELECT id, slug, name, time_zone FROM tenant WHERE id = $1")
            .bind::<SqlUuid, _>(id.0)
            .get_result(&mut tx)
            .await
            .optional()?;
    tx.commit().await?;
    Ok(row.map(Tenant::from))
}

/// All tenants, by slug.
pub async fn all(store: &Store) -> Result<Vec<Tenant>> {
    let mut tx = store.begin_worker().await?;
    let rows: Vec<Row> =
        diesel::sql_query("SELECT id, slug, name, time_zone FROM tenant ORDER BY slug")
            .load(&mut tx)
            .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(Tenant::from).collect())
}
