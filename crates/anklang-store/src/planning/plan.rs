//! Contact plans.

use anklang_domain::planning::{FollowUpMessage, OutcomeRules, Recurrence};
use anklang_domain::{TenantId, Violations};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Jsonb, Nullable, SmallInt, Text, Time, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// A contact plan.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Plan {
    #[diesel(sql_type = Text)]
    pub code: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub description: String,
    #[diesel(sql_type = Text)]
    pub responsible: String,
    #[diesel(sql_type = Jsonb)]
    recurrence: Value,
    #[diesel(sql_type = Array<SmallInt>)]
    pub delivery_weekdays: Vec<i16>,
    #[diesel(sql_type = Text)]
    pub departure: String,
    #[diesel(sql_type = Text)]
    pub order_type: String,
    #[diesel(sql_type = Date)]
    pub valid_from: NaiveDate,
    #[diesel(sql_type = Nullable<Date>)]
    pub valid_to: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Text>)]
    pub calendar_id: Option<String>,
    #[diesel(sql_type = Text)]
    pub time_zone: String,
    #[diesel(sql_type = Text)]
    pub holiday_rule: String,
    #[diesel(sql_type = Bool)]
    pub duplicates: bool,
    #[diesel(sql_type = Nullable<Time>)]
    pub earliest: Option<NaiveTime>,
    #[diesel(sql_type = Nullable<Time>)]
    pub latest: Option<NaiveTime>,
    #[diesel(sql_type = Jsonb)]
    outcome_rules: Value,
    #[diesel(sql_type = Jsonb)]
    follow_up_messages: Value,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Plan {
    /// How its dates recur.
    ///
    /// # Errors
    /// `Stored` when another version wrote what this one does not know.
    pub fn recurrence(&self) -> Result<Recurrence> {
        serde_json::from_value(self.recurrence.clone()).map_err(|e| self.unknown(&e))
    }

    /// What follows from outcomes.
    ///
    /// # Errors
    /// As [`Plan::recurrence`].
    pub fn outcome_rules(&self) -> Result<OutcomeRules> {
        serde_json::from_value(self.outcome_rules.clone()).map_err(|e| self.unknown(&e))
    }

    /// How customers are written to who were not reached.
    ///
    /// # Errors
    /// As [`Plan::recurrence`].
    pub fn follow_up_messages(&self) -> Result<Vec<FollowUpMessage>> {
        serde_json::from_value(self.follow_up_messages.clone()).map_err(|e| self.unknown(&e))
    }

    fn unknown(&self, error: &serde_json::Error) -> StoreError {
        StoreError::Stored(format!("{}: {error}", resource(&self.code)))
    }
}

/// A contact plan as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct NewPlan {
    pub code: String,
    pub name: String,
    pub description: String,
    pub responsible: String,
    pub recurrence: Recurrence,
    pub delivery_weekdays: Vec<i16>,
    pub departure: String,
    pub order_type: String,
    pub valid_from: NaiveDate,
    pub valid_to: Option<NaiveDate>,
    pub calendar_id: Option<String>,
    pub time_zone: String,
    pub holiday_rule: &'static str,
    pub duplicates: bool,
    pub earliest: Option<NaiveTime>,
    pub latest: Option<NaiveTime>,
    pub outcome_rules: OutcomeRules,
    pub follow_up_messages: Vec<FollowUpMessage>,
}

/// The name of the plan with that code.
pub fn resource(code: &str) -> String {
    anklang_domain::name::format(&[("contactPlans", code)])
}

/// The plan with that code.
pub async fn get(mut conn: &Conn, tenant: TenantId, code: &str) -> Result<Option<Plan>> {
    Ok(diesel::sql_query(
        "SELECT code, name, description, responsible, recurrence, delivery_weekdays, departure,
                order_type, valid_from, valid_to, calendar_id, time_zone, holiday_rule, duplicates,
                earliest, latest, outcome_rules, follow_up_messages, created_at, updated_at
         FROM contact_plan WHERE tenant_id = $1 AND code = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(code)
    .fixed()
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// Plans by their codes; those that do not exist are left out.
pub async fn by_codes(conn: &mut Conn, tenant: TenantId, codes: &[String]) -> Result<Vec<Plan>> {
    Ok(diesel::sql_query(
        "SELECT * FROM contact_plan WHERE tenant_id = $1 AND code = ANY($2) ORDER BY code",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(codes)
    .load(conn)
    .await?)
}

/// What contact plans are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("code", Kind::Text),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("responsible", Kind::Text),
        Field::column("departure", Kind::Text),
        Field::column("order_type", Kind::Text),
        Field::new("valid_from_date", Kind::Date, "valid_from"),
        Field::nullable("valid_to_date", Kind::Date, "valid_to"),
        Field::resource(
            "workday_calendar",
            &[Part::new("workdayCalendars", "calendar_id", PartType::Text)],
        ),
        Field::column("time_zone", Kind::Text),
        Field::new("duplicates_permitted", Kind::Flag, "duplicates"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("code", "::text", false)],
};

/// A page of plans, by code if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Plan>> {
    let base = Statement::numbered(
        "SELECT * FROM contact_plan WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

/// Replaces a plan, or adds it if it may be missing. The caller has checked that its calendar exists.
///
/// # Errors
/// `Missing` when there is none and may not be; `Invalid` when entries are valid outside of the new
/// validity.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewPlan,
    allow_missing: bool,
) -> Result<Plan> {
    if !allow_missing && get(conn, tenant, &new.code).await?.is_none() {
        return Err(StoreError::Missing(resource(&new.code)));
    }
    check_entries(conn, tenant, new).await?;
    let json = |value: serde_json::Result<Value>| {
        value.map_err(|e| StoreError::Stored(format!("contact plan: {e}")))
    };
    let saved = diesel::sql_query(
        "INSERT INTO contact_plan AS t (tenant_id, code, name, description, responsible, recurrence,
             delivery_weekdays, departure, order_type, valid_from, valid_to, calendar_id, time_zone,
             holiday_rule, duplicates, earliest, latest, outcome_rules, follow_up_messages)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                 $19)
         ON CONFLICT (tenant_id, code) DO UPDATE
         SET name = excluded.name, description = excluded.description,
             responsible = excluded.responsible, recurrence = excluded.recurrence,
             delivery_weekdays = excluded.delivery_weekdays, departure = excluded.departure,
             order_type = excluded.order_type, valid_from = excluded.valid_from,
             valid_to = excluded.valid_to, calendar_id = excluded.calendar_id,
             time_zone = excluded.time_zone, holiday_rule = excluded.holiday_rule,
             duplicates = excluded.duplicates, earliest = excluded.earliest,
             latest = excluded.latest, outcome_rules = excluded.outcome_rules,
             follow_up_messages = excluded.follow_up_messages,
             updated_at = CASE WHEN (t.name, t.description, t.responsible, t.recurrence,
                 t.delivery_weekdays, t.departure, t.order_type, t.valid_from, t.valid_to,
                 t.calendar_id, t.time_zone, t.holiday_rule, t.duplicates, t.earliest, t.latest,
                 t.outcome_rules, t.follow_up_messages) IS DISTINCT FROM (excluded.name, excluded.description,
                 excluded.responsible, excluded.recurrence, excluded.delivery_weekdays,
                 excluded.departure, excluded.order_type, excluded.valid_from, excluded.valid_to,
                 excluded.calendar_id, excluded.time_zone, excluded.holiday_rule,
                 excluded.duplicates, excluded.earliest, excluded.latest, excluded.outcome_rules,
                 excluded.follow_up_messages)
                 THEN now() ELSE t.updated_at END
         RETURNING *",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(&new.code)
    .bind::<Text, _>(&new.name)
    .bind::<Text, _>(&new.description)
    .bind::<Text, _>(&new.responsible)
    .bind::<Jsonb, _>(json(serde_json::to_value(&new.recurrence))?)
    .bind::<Array<SmallInt>, _>(&new.delivery_weekdays)
    .bind::<Text, _>(&new.departure)
    .bind::<Text, _>(&new.order_type)
    .bind::<Date, _>(new.valid_from)
    .bind::<Nullable<Date>, _>(new.valid_to)
    .bind::<Nullable<Text>, _>(&new.calendar_id)
    .bind::<Text, _>(&new.time_zone)
    .bind::<Text, _>(new.holiday_rule)
    .bind::<Bool, _>(new.duplicates)
    .bind::<Nullable<Time>, _>(new.earliest)
    .bind::<Nullable<Time>, _>(new.latest)
    .bind::<Jsonb, _>(json(serde_json::to_value(&new.outcome_rules))?)
    .bind::<Jsonb, _>(json(serde_json::to_value(&new.follow_up_messages))?)
    .get_result(conn)
    .await?;
    Ok(saved)
}

/// Refuses a validity, or hours, that entries of the plan do not keep to.
async fn check_entries(conn: &mut Conn, tenant: TenantId, new: &NewPlan) -> Result<()> {
    #[derive(QueryableByName)]
    struct Outside {
        #[diesel(sql_type = BigInt)]
        before: i64,
        #[diesel(sql_type = BigInt)]
        behind: i64,
        #[diesel(sql_type = BigInt)]
        early: i64,
        #[diesel(sql_type = BigInt)]
        late: i64,
    }
    let outside: Outside = diesel::sql_query(
        "SELECT count(*) FILTER (WHERE valid_from < $3) AS before,
                count(*) FILTER (WHERE valid_to > $4) AS behind,
                count(*) FILTER (WHERE earliest IS NULL AND contact_time < $5) AS early,
                count(*) FILTER (WHERE latest IS NULL AND contact_time > $6) AS late
         FROM plan_entry WHERE tenant_id = $1 AND plan_code = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(&new.code)
    .bind::<Date, _>(new.valid_from)
    .bind::<Nullable<Date>, _>(new.valid_to)
    .bind::<Nullable<Time>, _>(new.earliest)
    .bind::<Nullable<Time>, _>(new.latest)
    .get_result(conn)
    .await?;
    let mut violations = Violations::new();
    for (field, count, what) in [
        ("valid_from", outside.before, "are valid from before it"),
        ("valid_to", outside.behind, "are valid beyond it"),
        (
            "earliest",
            outside.early,
            "have their contact time before it",
        ),
        ("latest", outside.late, "have their contact time after it"),
    ] {
        if count > 0 {
            violations.add(field, format!("{count} entries of the plan {what}"));
        }
    }
    Ok(violations.finish(())?)
}

/// Deletes a plan with its exceptions.
///
/// # Errors
/// `Missing` when there is none; `Refused` while it has entries or contacts or is named by exceptions
/// of others or by outbounds.
pub async fn delete(conn: &mut Conn, tenant: TenantId, code: &str) -> Result<()> {
    #[derive(QueryableByName)]
    struct Used {
        #[diesel(sql_type = BigInt)]
        entries: i64,
        #[diesel(sql_type = BigInt)]
        contacts: i64,
        #[diesel(sql_type = BigInt)]
        exceptions: i64,
        #[diesel(sql_type = BigInt)]
        outbounds: i64,
    }
    let used: Option<Used> = diesel::sql_query(
        "SELECT (SELECT count(*) FROM plan_entry WHERE tenant_id = $1 AND plan_code = $2) AS entries,
                (SELECT count(*) FROM planned_contact
                 WHERE tenant_id = $1 AND plan_code = $2) AS contacts,
                (SELECT count(*) FROM plan_exception
                 WHERE tenant_id = $1 AND other_plan_code = $2) AS exceptions,
                (SELECT count(*) FROM outbound
                 WHERE tenant_id = $1 AND contact_plan = $2) AS outbounds
         FROM contact_plan WHERE tenant_id = $1 AND code = $2 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(code)
    .get_result(conn)
    .await
    .optional()?;
    let used = used.ok_or_else(|| StoreError::Missing(resource(code)))?;
    if used.entries + used.contacts + used.exceptions + used.outbounds > 0 {
        return Err(StoreError::Refused {
            resource: resource(code),
            reason: format!(
                "it has {} entries and {} planned contacts, and {} exceptions of other plans and {} \
                 outbounds of campaigns name it",
                used.entries, used.contacts, used.exceptions, used.outbounds
            ),
        });
    }
    diesel::sql_query("DELETE FROM contact_plan WHERE tenant_id = $1 AND code = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(code)
        .execute(conn)
        .await?;
    Ok(())
}
