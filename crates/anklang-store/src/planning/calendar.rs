//! Workday calendars.

use anklang_domain::TenantId;
use anklang_domain::planning::{self, OwnDay, Region, Weekdays};
use chrono::{DateTime, Utc, Weekday};
use diesel::sql_types::{Array, Jsonb, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use super::Count;
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// A workday calendar.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Calendar {
    /// Its id.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// What people call it.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Code of the country or part of it whose public holidays are free; empty for none.
    #[diesel(sql_type = Text)]
    pub region: String,
    /// Weekdays with work.
    #[diesel(sql_type = Array<SmallInt>)]
    pub workdays: Vec<i16>,
    /// The tenant's own days, see [`Calendar::days`].
    #[diesel(sql_type = Jsonb)]
    pub own_days: serde_json::Value,
    /// When it came into being here.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// Weekdays of their numbers, 1 for Monday; `None` when there are none.
pub fn weekdays(numbers: &[i16]) -> Option<Weekdays> {
    let day = |number: &i16| Weekday::try_from(u8::try_from(number - 1).ok()?).ok();
    Weekdays::new(numbers.iter().filter_map(day))
}

impl Calendar {
    /// What it says of days.
    ///
    /// # Errors
    /// `Stored` when another version wrote what this one does not know.
    pub fn rules(&self) -> Result<planning::Calendar> {
        let stored = |what: String| StoreError::Stored(format!("{}: {what}", resource(&self.id)));
        let region = match &self.region[..] {
            "" => None,
            code => Some(Region::parse(code).map_err(stored)?),
        };
        let workdays = weekdays(&self.workdays).ok_or_else(|| stored("no workdays".into()))?;
        Ok(planning::Calendar::new(workdays, region, self.days()?))
    }

    /// The tenant's own days, by date.
    pub fn days(&self) -> Result<Vec<OwnDay>> {
        serde_json::from_value(self.own_days.clone())
            .map_err(|e| StoreError::Stored(format!("{}: {e}", resource(&self.id))))
    }
}

/// A workday calendar as it shall be.
#[derive(Debug, Clone)]
pub struct NewCalendar<'a> {
    /// Its id.
    pub id: &'a str,
    /// What people call it.
    pub name: &'a str,
    /// Code of the country or part of it whose public holidays are free; empty for none.
    pub region: &'a str,
    /// Weekdays with work.
    pub workdays: &'a [i16],
    /// The tenant's own days, by date.
    pub own_days: &'a [OwnDay],
}

/// The name of the calendar with that id.
pub fn resource(id: &str) -> String {
    anklang_domain::name::format(&[("workdayCalendars", id)])
}

/// The calendar with that id.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: &str) -> Result<Option<Calendar>> {
    Ok(diesel::sql_query(
        "SELECT id, name, region, workdays, own_days, created_at, updated_at
         FROM workday_calendar WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .fixed()
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// The calendar of the plan with that code, if it has one.
pub(crate) async fn of_plan(
    mut conn: &Conn,
    tenant: TenantId,
    plan: &str,
) -> Result<Option<Calendar>> {
    Ok(diesel::sql_query(
        "SELECT c.id, c.name, c.region, c.workdays, c.own_days, c.created_at, c.updated_at
         FROM contact_plan p
         JOIN workday_calendar c ON c.tenant_id = p.tenant_id AND c.id = p.calendar_id
         WHERE p.tenant_id = $1 AND p.code = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(plan)
    .fixed()
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// Calendars by their ids; those that do not exist are left out.
pub async fn by_ids(conn: &mut Conn, tenant: TenantId, ids: &[String]) -> Result<Vec<Calendar>> {
    Ok(
        diesel::sql_query("SELECT * FROM workday_calendar WHERE tenant_id = $1 AND id = ANY($2)")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Array<Text>, _>(ids)
            .load(conn)
            .await?,
    )
}

/// What workday calendars are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("workday_calendar_id", Kind::Text, "id"),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("region", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("id", "::text", false)],
};

/// A page of calendars, by id if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Calendar>> {
    let base = Statement::numbered(
        "SELECT * FROM workday_calendar WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

/// Replaces a calendar, or adds it if it may be missing.
///
/// # Errors
/// `Missing` when there is none and may not be.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewCalendar<'_>,
    allow_missing: bool,
) -> Result<Calendar> {
    if !allow_missing && get(conn, tenant, new.id).await?.is_none() {
        return Err(StoreError::Missing(resource(new.id)));
    }
    let own_days = serde_json::to_value(new.own_days)
        .map_err(|e| StoreError::Stored(format!("own days: {e}")))?;
    Ok(diesel::sql_query(
        "INSERT INTO workday_calendar AS t (tenant_id, id, name, region, workdays, own_days)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, id) DO UPDATE
         SET name = excluded.name, region = excluded.region,
             workdays = excluded.workdays, own_days = excluded.own_days,
             updated_at = CASE WHEN (t.name, t.region, t.workdays, t.own_days)
                  IS DISTINCT FROM (excluded.name, excluded.region,
                                    excluded.workdays, excluded.own_days)
                  THEN now() ELSE t.updated_at END
         RETURNING *",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(new.id)
    .bind::<Text, _>(new.name)
    .bind::<Text, _>(new.region)
    .bind::<Array<SmallInt>, _>(new.workdays)
    .bind::<Jsonb, _>(own_days)
    .get_result(conn)
    .await?)
}

/// Deletes a calendar that no plan goes by.
///
/// # Errors
/// `Missing` when there is none; `Refused` while plans go by it.
pub async fn delete(conn: &mut Conn, tenant: TenantId, id: &str) -> Result<()> {
    if get(conn, tenant, id).await?.is_none() {
        return Err(StoreError::Missing(resource(id)));
    }
    let plans: Count = diesel::sql_query(
        "SELECT count(*) AS n FROM contact_plan WHERE tenant_id = $1 AND calendar_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .get_result(conn)
    .await?;
    if plans.n > 0 {
        return Err(StoreError::Refused {
            resource: resource(id),
            reason: format!("{} contact plans go by it", plans.n),
        });
    }
    diesel::sql_query("DELETE FROM workday_calendar WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(id)
        .execute(conn)
        .await?;
    Ok(())
}
