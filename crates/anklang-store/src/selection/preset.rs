//! Presets: criteria with holes that administrators prepared.

use anklang_domain::TenantId;
use anklang_domain::selection::{Criteria, Parameter, Subject, check_parameters};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Integer, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use super::{Attributes, Statement, bound, check, json, operand};
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// A preset.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// Its id.
    pub code: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it finds.
    pub subject: Subject,
    /// The criteria, with holes.
    pub criteria: Criteria,
    /// What fills the holes.
    pub parameters: Vec<Parameter>,
    /// 1 when created, one more with each update.
    pub version: i32,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A preset to be saved, checked by [`check_preset`].
#[derive(Debug, Clone)]
pub struct NewPreset<'a> {
    /// Its id.
    pub code: &'a str,
    /// What people call it.
    pub name: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// What it finds.
    pub subject: Subject,
    /// The criteria, with holes.
    pub criteria: &'a Criteria,
    /// What fills the holes.
    pub parameters: &'a [Parameter],
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    code: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Jsonb)]
    criteria: serde_json::Value,
    #[diesel(sql_type = Jsonb)]
    parameters: serde_json::Value,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Preset {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let name = resource(&row.code);
        let stored = |what: String| StoreError::Stored(format!("{name}: {what}"));
        Ok(Preset {
            name: row.name,
            description: row.description,
            subject: Subject::parse(&row.subject)
                .ok_or_else(|| stored(format!("subject {}", row.subject)))?,
            criteria: serde_json::from_value(row.criteria).map_err(|e| stored(e.to_string()))?,
            parameters: serde_json::from_value(row.parameters)
                .map_err(|e| stored(e.to_string()))?,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            code: row.code,
        })
    }
}

fn resource(code: &str) -> String {
    anklang_domain::name::format(&[("presets", code)])
}

fn missing(code: &str) -> StoreError {
    StoreError::Missing(resource(code))
}

/// Checks criteria with holes and the parameters that fill them.
///
/// # Errors
/// `Invalid` with everything that is wrong, with paths from `criteria` and `parameters`.
pub async fn check_preset(
    conn: &mut Conn,
    tenant: &Tenant,
    subject: Subject,
    criteria: &Criteria,
    parameters: &[Parameter],
    as_of: DateTime<Utc>,
) -> Result<()> {
    let attributes = Attributes::load(conn, tenant.id).await?;
    let calendar = operand::Calendar::new(as_of, tenant.time_zone);
    let checked = check::check_preset(subject.into(), criteria, parameters, &attributes, calendar);
    let mut violations = checked.err().unwrap_or_default();
    if anklang_domain::selection::is_within_limits(criteria) {
        violations.extend_under("", check_parameters(parameters, criteria));
    }
    Ok(violations.finish(())?)
}

const SELECT: &str = "SELECT code, name, description, subject, criteria, parameters, version,
    created_at, updated_at FROM selection_preset WHERE tenant_id = $1";

/// What presets are listed by.
pub static PRESETS: Listable = Listable {
    fields: &[
        Field::new("preset_id", Kind::Text, "code"),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("description", Kind::Text),
        Field::column("subject", Kind::Word("SUBJECT_", &["customer", "contract"])),
        Field::column("version", Kind::Number),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("code", "::text", false)],
};

/// A page of presets, by id if not otherwise wanted.
pub async fn presets(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Preset>> {
    let base = Statement::numbered(SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    let page: Page<Row> = list.load(conn, base).await?;
    let rows: Result<Vec<Preset>> = page.rows.into_iter().map(Preset::try_from).collect();
    Ok(Page {
        rows: rows?,
        next: page.next,
    })
}

/// One preset.
///
/// # Errors
/// `Missing` when the tenant has none of that id.
pub async fn preset(mut conn: &Conn, tenant: TenantId, code: &str) -> Result<Preset> {
    let row: Option<Row> = diesel::sql_query(format!("{SELECT} AND code = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(code)
        .get_result(&mut conn)
        .await
        .optional()?;
    row.ok_or_else(|| missing(code))?.try_into()
}

/// Saves a new preset as version 1; `None` when there is one of that id.
pub async fn create_preset(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewPreset<'_>,
) -> Result<Option<Preset>> {
    let rows = diesel::sql_query(
        "INSERT INTO selection_preset (tenant_id, code, name, description, subject, criteria, parameters)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(new.code)
    .bind::<Text, _>(new.name)
    .bind::<Text, _>(new.description)
    .bind::<Text, _>(new.subject.as_str())
    .bind::<Jsonb, _>(json(new.criteria)?)
    .bind::<Jsonb, _>(json(new.parameters)?)
    .execute(conn)
    .await?;
    match rows {
        0 => Ok(None),
        _ => preset(conn, tenant, new.code).await.map(Some),
    }
}

/// Replaces a preset; counts the version up by one.
///
/// # Errors
/// `Missing` when the tenant has none of that id.
pub async fn update_preset(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewPreset<'_>,
) -> Result<Preset> {
    diesel::sql_query(
        "UPDATE selection_preset SET name = $3, description = $4, subject = $5, criteria = $6,
                parameters = $7, version = version + 1, updated_at = now()
         WHERE tenant_id = $1 AND code = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(new.code)
    .bind::<Text, _>(new.name)
    .bind::<Text, _>(new.description)
    .bind::<Text, _>(new.subject.as_str())
    .bind::<Jsonb, _>(json(new.criteria)?)
    .bind::<Jsonb, _>(json(new.parameters)?)
    .execute(conn)
    .await?;
    preset(conn, tenant, new.code).await
}

/// Deletes a preset. Selections made from it stay.
///
/// # Errors
/// `Missing` when the tenant has none of that id.
pub async fn delete_preset(conn: &mut Conn, tenant: TenantId, code: &str) -> Result<()> {
    let rows = diesel::sql_query("DELETE FROM selection_preset WHERE tenant_id = $1 AND code = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(code)
        .execute(conn)
        .await?;
    match rows {
        0 => Err(missing(code)),
        _ => Ok(()),
    }
}
