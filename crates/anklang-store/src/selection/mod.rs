//! Selections: criteria checked against the registry, compiled, counted and saved.
//!
//! [`prepare`] is the only way from criteria to SQL, and what is saved has been prepared before.
//! Saved criteria are prepared again whenever they run: days and attributes may have changed.

mod attributes;
mod check;
mod compile;
mod explain;
mod member;
mod operand;
mod preset;
mod preview;
pub mod registry;
mod statement;
mod tick;
mod tree;
mod version;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use anklang_domain::selection::{Criteria, Subject};
use anklang_domain::{SelectionId, TenantId, Violations};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

pub use attributes::{Attributes, PREFIX as ATTRIBUTE_PREFIX};
pub use explain::{Explained, Explanation, explain};
pub use member::{MEMBERS, Member, members};
pub(crate) use operand::escaped as like_escaped;
pub use preset::{
    NewPreset, PRESETS, Preset, check_preset, create_preset, delete_preset, preset, presets,
    update_preset,
};
pub use preview::{Estimate, Preview, Sample, estimate, preview};
pub use statement::Statement;
pub(crate) use statement::bound;
pub use tick::{
    MAX_TICKS, TICKS, Tick, TickCounts, TickUpdate, tick_counts, tick_of, ticks, unknown,
    update_ticks,
};
pub use version::{SelectionVersion, VERSIONS, copy, version, versions};

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::org_unit::VISIBLE_TO;
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// Criteria that were checked, as SQL.
#[derive(Debug, Clone)]
pub struct Prepared {
    tenant: TenantId,
    subject: Subject,
    criteria: Criteria,
    condition: Statement,
}

impl Prepared {
    /// What they find.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// The criteria.
    pub fn criteria(&self) -> &Criteria {
        &self.criteria
    }

    /// A boolean expression in parentheses over a row of `customer` or `contract` (by the subject)
    /// with the alias `subject`: true when the row is of the tenant and meets the criteria.
    ///
    /// It uses the aliases `subject`, `s1`, `s2` …, `x` and `y` inside; a statement around it may
    /// use any others.
    pub fn where_clause(&self) -> &Statement {
        &self.condition
    }
}

/// Checks criteria and makes SQL of them, as of a point in time.
///
/// # Errors
/// `Invalid` with everything that is wrong, each with its path from `criteria`.
pub async fn prepare(
    conn: &mut Conn,
    tenant: &Tenant,
    subject: Subject,
    criteria: &Criteria,
    as_of: DateTime<Utc>,
) -> Result<Prepared> {
    let attributes = Attributes::load(conn, tenant.id).await?;
    let calendar = operand::Calendar::new(as_of, tenant.time_zone);
    let node = check::check(subject.into(), criteria, &attributes, calendar)?;
    Ok(Prepared {
        tenant: tenant.id,
        subject,
        criteria: criteria.clone(),
        condition: compile::compile(tenant.id, &node),
    })
}

/// Saved, versioned criteria.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Its id.
    pub id: SelectionId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it finds.
    pub subject: Subject,
    /// The criteria.
    pub criteria: Criteria,
    /// 1 when created, one more with each update.
    pub version: i32,
    /// Code of the org unit whose it is; none: the whole tenant's.
    pub org_unit: Option<String>,
    /// Codes of the org units with which, and with all below which, it is shared.
    pub shared_with: Vec<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Jsonb)]
    criteria: serde_json::Value,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Nullable<Text>)]
    org_unit_code: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    shared_with: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Selection {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let stored = |what: String| StoreError::Stored(format!("{}: {what}", resource(row.id)));
        Ok(Selection {
            id: SelectionId(row.id),
            name: row.name,
            description: row.description,
            subject: Subject::parse(&row.subject)
                .ok_or_else(|| stored(format!("subject {}", row.subject)))?,
            criteria: serde_json::from_value(row.criteria).map_err(|e| stored(e.to_string()))?,
            version: row.version,
            org_unit: row.org_unit_code,
            shared_with: row.shared_with,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn resource(id: Uuid) -> String {
    format!("selections/{id}")
}

fn missing(id: SelectionId) -> StoreError {
    StoreError::Missing(resource(id.0))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|e| StoreError::Stored(e.to_string()))
}

const COLUMNS: &str =
    "id, name, description, subject, criteria, version, org_unit_code, shared_with,
    created_at, updated_at";

/// Saves prepared criteria as version 1 of a new selection, of that org unit or of the whole tenant.
pub async fn create(
    conn: &mut Conn,
    name: &str,
    description: &str,
    prepared: &Prepared,
    org_unit: Option<&str>,
) -> Result<Selection> {
    let row: Row = diesel::sql_query(format!(
        "INSERT INTO selection (tenant_id, id, name, description, subject, criteria, org_unit_code)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(prepared.tenant.0)
    .bind::<SqlUuid, _>(SelectionId::new().0)
    .bind::<Text, _>(name)
    .bind::<Text, _>(description)
    .bind::<Text, _>(prepared.subject.as_str())
    .bind::<Jsonb, _>(json(&prepared.criteria)?)
    .bind::<Nullable<Text>, _>(org_unit)
    .get_result(conn)
    .await?;
    row.try_into()
}

/// One selection.
///
/// # Errors
/// `Missing` when the tenant has none of that id.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: SelectionId) -> Result<Selection> {
    let row: Option<Row> = diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM selection WHERE tenant_id = $1 AND id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .get_result(&mut conn)
    .await
    .optional()?;
    row.ok_or_else(|| missing(id))?.try_into()
}

/// What selections are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("display_name", Kind::Text, "name"),
        Field::column("description", Kind::Text),
        Field::column("subject", Kind::Word("SUBJECT_", &["customer", "contract"])),
        Field::column("version", Kind::Number),
        Field::resource(
            "org_unit",
            &[Part::new("orgUnits", "org_unit_code", PartType::Text)],
        ),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of selections, newest first if not otherwise wanted: all, or those that an org unit works
/// with.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    visible_to: Option<&str>,
    list: &List,
) -> Result<Page<Selection>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        format!("SELECT {COLUMNS} FROM selection WHERE tenant_id = $1 {VISIBLE_TO}")
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(visible_to.map(str::to_owned)),
        ],
    );
    let page: Page<Row> = list.load(conn, base).await?;
    let rows: Result<Vec<Selection>> = page.rows.into_iter().map(Selection::try_from).collect();
    Ok(Page {
        rows: rows?,
        next: page.next,
    })
}

/// Replaces name, description and criteria; counts the version up by one.
///
/// # Errors
/// `Missing` when the tenant has none of that id; `Invalid` at `subject` when the prepared
/// criteria find something else than the selection.
pub async fn update(
    conn: &mut Conn,
    id: SelectionId,
    name: &str,
    description: &str,
    prepared: &Prepared,
) -> Result<Selection> {
    let row: Option<Row> = diesel::sql_query(format!(
        "UPDATE selection SET name = $3, description = $4, criteria = $5,
                version = version + 1, updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND subject = $6
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(prepared.tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(name)
    .bind::<Text, _>(description)
    .bind::<Jsonb, _>(json(&prepared.criteria)?)
    .bind::<Text, _>(prepared.subject.as_str())
    .get_result(conn)
    .await
    .optional()?;
    if let Some(row) = row {
        return row.try_into();
    }
    let saved = get(conn, prepared.tenant, id).await?;
    let mut violations = Violations::new();
    violations.add(
        "subject",
        format!("cannot change; it is {}", saved.subject.as_str()),
    );
    Err(violations.into())
}

/// Says whose a selection is and with whom it is shared; the org units are held by the caller.
///
/// # Errors
/// `Missing` when the tenant has none of that id.
pub async fn share(
    conn: &mut Conn,
    tenant: TenantId,
    id: SelectionId,
    org_unit: Option<&str>,
    shared_with: &[String],
) -> Result<Selection> {
    let row: Option<Row> = diesel::sql_query(format!(
        "UPDATE selection SET org_unit_code = $3, shared_with = $4, updated_at = now()
         WHERE tenant_id = $1 AND id = $2 RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Nullable<Text>, _>(org_unit)
    .bind::<Array<Text>, _>(shared_with)
    .get_result(conn)
    .await
    .optional()?;
    row.ok_or_else(|| missing(id))?.try_into()
}

/// Deletes a selection. Audiences made from it stay.
///
/// # Errors
/// `Missing` when the tenant has none of that id.
pub async fn delete(conn: &mut Conn, tenant: TenantId, id: SelectionId) -> Result<()> {
    let rows = diesel::sql_query("DELETE FROM selection WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id.0)
        .execute(conn)
        .await?;
    if rows == 0 {
        return Err(missing(id));
    }
    Ok(())
}
