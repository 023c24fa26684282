//! What selections were. The database keeps each version when a selection is saved.

use anklang_domain::selection::Criteria;
use anklang_domain::{SelectionId, TenantId};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Integer, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use super::{Prepared, Selection, Statement, bound, create, resource, tick};
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::{Conn, Result, StoreError};

/// What a selection was.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectionVersion {
    /// From 1.
    pub version: i32,
    /// What people called it.
    pub name: String,
    /// What it was for.
    pub description: String,
    /// The criteria.
    pub criteria: Criteria,
    /// When it was saved.
    pub created_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = Jsonb)]
    criteria: serde_json::Value,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for SelectionVersion {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(SelectionVersion {
            version: row.version,
            name: row.name,
            description: row.description,
            criteria: serde_json::from_value(row.criteria)
                .map_err(|e| StoreError::Stored(format!("version of a selection: {e}")))?,
            created_at: row.created_at,
        })
    }
}

const SELECT: &str = "SELECT version, name, description, criteria, created_at
    FROM selection_version WHERE tenant_id = $1 AND selection_id = $2";

/// What versions of a selection are listed by.
pub static VERSIONS: Listable = Listable {
    fields: &[
        Field::column("version", Kind::Number),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("description", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("version", "::integer", true)],
};

/// A page of a selection's versions, newest first if not otherwise wanted.
pub async fn versions(
    conn: &mut Conn,
    tenant: TenantId,
    selection: SelectionId,
    list: &List,
) -> Result<Page<SelectionVersion>> {
    let base = Statement::numbered(
        SELECT,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<SqlUuid, _>(selection.0),
        ],
    );
    let page: Page<Row> = list.load(conn, base).await?;
    let rows: Result<Vec<_>> = page
        .rows
        .into_iter()
        .map(SelectionVersion::try_from)
        .collect();
    Ok(Page {
        rows: rows?,
        next: page.next,
    })
}

/// One version of a selection.
///
/// # Errors
/// `Missing` when there is none.
pub async fn version(
    conn: &mut Conn,
    tenant: TenantId,
    selection: SelectionId,
    version: i32,
) -> Result<SelectionVersion> {
    let row: Option<Row> = diesel::sql_query(format!("{SELECT} AND version = $3"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(selection.0)
        .bind::<Integer, _>(version)
        .get_result(conn)
        .await
        .optional()?;
    let missing = || StoreError::Missing(format!("{}/versions/{version}", resource(selection.0)));
    row.ok_or_else(missing)?.try_into()
}

/// Makes another selection of prepared criteria, with the ticks of `from`, for an org unit or the
/// whole tenant.
pub async fn copy(
    conn: &mut Conn,
    from: &Selection,
    name: &str,
    prepared: &Prepared,
    org_unit: Option<&str>,
) -> Result<Selection> {
    let copied = create(conn, name, &from.description, prepared, org_unit).await?;
    tick::copy(conn, prepared.tenant, from.id, copied.id).await?;
    Ok(copied)
}
