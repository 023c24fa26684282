//! Exceptions of contact plans.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, Bool, Date, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// An exception. Without another date or plan there is no contact, unless it only says whether
/// duplicates are permitted.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Exception {
    #[diesel(sql_type = Text)]
    pub plan_code: String,
    #[diesel(sql_type = Date)]
    pub plan_date: NaiveDate,
    #[diesel(sql_type = Nullable<Date>)]
    pub contact_date: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub delivery_date: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Text>)]
    pub other_plan_code: Option<String>,
    #[diesel(sql_type = Bool)]
    pub duplicates: bool,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Exception {
    /// Whether there is no contact at all.
    pub fn is_skip(&self) -> bool {
        self.contact_date.is_none()
            && self.delivery_date.is_none()
            && self.other_plan_code.is_none()
            && !self.duplicates
    }

    /// Its name.
    pub fn resource(&self) -> String {
        resource(&self.plan_code, self.plan_date)
    }
}

/// An exception as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct NewException {
    pub plan_code: String,
    pub plan_date: NaiveDate,
    pub contact_date: Option<NaiveDate>,
    pub delivery_date: Option<NaiveDate>,
    pub other_plan_code: Option<String>,
    pub duplicates: bool,
    pub reason: String,
}

/// The name of an exception.
pub fn resource(plan: &str, date: NaiveDate) -> String {
    let date = date.format("%Y-%m-%d").to_string();
    anklang_domain::name::format(&[("contactPlans", plan), ("exceptions", &date)])
}

/// A plan's exception on a date.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    plan: &str,
    date: NaiveDate,
) -> Result<Option<Exception>> {
    Ok(diesel::sql_query(
        "SELECT * FROM plan_exception WHERE tenant_id = $1 AND plan_code = $2 AND plan_date = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(plan)
    .bind::<Date, _>(date)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// All exceptions of plans, by plan and date.
pub async fn of_plans(
    conn: &mut Conn,
    tenant: TenantId,
    plans: &[String],
) -> Result<Vec<Exception>> {
    Ok(diesel::sql_query(
        "SELECT * FROM plan_exception WHERE tenant_id = $1 AND plan_code = ANY($2)
         ORDER BY plan_code, plan_date",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(plans)
    .load(conn)
    .await?)
}

/// What exceptions are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::resource(
            "contact_plan",
            &[Part::new("contactPlans", "plan_code", PartType::Text)],
        ),
        Field::new("date", Kind::Date, "plan_date"),
        Field::nullable("contact_date", Kind::Date, "contact_date"),
        Field::nullable("delivery_date", Kind::Date, "delivery_date"),
        Field::resource(
            "other_contact_plan",
            &[Part::new("contactPlans", "other_plan_code", PartType::Text)],
        ),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[
        Sort::key("plan_code", "::text", false),
        Sort::key("plan_date", "::date", false),
    ],
};

/// A page of exceptions of one plan or of all.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    plan: Option<String>,
    list: &List,
) -> Result<Page<Exception>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        "SELECT * FROM plan_exception WHERE tenant_id = $1 AND ($2 IS NULL OR plan_code = $2)"
            .to_owned()
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(plan),
        ],
    );
    list.load(conn, base).await
}

/// Replaces an exception, or adds it if it may be missing. The caller has checked that its plans exist
/// and allow it.
///
/// # Errors
/// `Missing` when there is none and may not be.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewException,
    allow_missing: bool,
) -> Result<Exception> {
    let (plan, day) = (&new.plan_code[..], new.plan_date);
    if !allow_missing && get(conn, tenant, plan, day).await?.is_none() {
        return Err(StoreError::Missing(resource(plan, day)));
    }
    Ok(diesel::sql_query(
        "INSERT INTO plan_exception AS t (tenant_id, plan_code, plan_date, contact_date,
             delivery_date, other_plan_code, duplicates, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, plan_code, plan_date) DO UPDATE
         SET contact_date = excluded.contact_date, delivery_date = excluded.delivery_date,
             other_plan_code = excluded.other_plan_code, duplicates = excluded.duplicates,
             reason = excluded.reason,
             updated_at = CASE WHEN (t.contact_date, t.delivery_date, t.other_plan_code,
                 t.duplicates, t.reason) IS DISTINCT FROM (excluded.contact_date,
                 excluded.delivery_date, excluded.other_plan_code, excluded.duplicates,
                 excluded.reason) THEN now() ELSE t.updated_at END
         RETURNING *",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(plan)
    .bind::<Date, _>(day)
    .bind::<Nullable<Date>, _>(new.contact_date)
    .bind::<Nullable<Date>, _>(new.delivery_date)
    .bind::<Nullable<Text>, _>(&new.other_plan_code)
    .bind::<Bool, _>(new.duplicates)
    .bind::<Text, _>(&new.reason)
    .get_result(conn)
    .await?)
}

/// Deletes an exception.
///
/// # Errors
/// `Missing` when there is none.
pub async fn delete(conn: &mut Conn, tenant: TenantId, plan: &str, date: NaiveDate) -> Result<()> {
    let rows = diesel::sql_query(
        "DELETE FROM plan_exception WHERE tenant_id = $1 AND plan_code = $2 AND plan_date = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(plan)
    .bind::<Date, _>(date)
    .execute(conn)
    .await?;
    match rows {
        0 => Err(StoreError::Missing(resource(plan, date))),
        _ => Ok(()),
    }
}
