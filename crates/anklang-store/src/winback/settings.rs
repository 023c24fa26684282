//! What a tenant sets for winback. Each version is a row that is never changed; the highest one holds.

use anklang_domain::TenantId;
pub use anklang_domain::winback::{Links, Settings};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Integer, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::hold::{Held, hold};
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A version of the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// From 1; 0 for the defaults, which hold until somebody sets something.
    pub version: i32,
    /// The settings.
    pub settings: Settings,
    /// Who set them, as the caller named them; may be empty.
    pub changed_by: String,
    /// When; `None` for the defaults.
    pub created_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Jsonb)]
    settings: serde_json::Value,
    #[diesel(sql_type = Text)]
    changed_by: String,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for Version {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let settings = serde_json::from_value(row.settings).map_err(|e| {
            StoreError::Stored(format!("version {} of winbackSettings: {e}", row.version))
        })?;
        Ok(Version {
            version: row.version,
            settings,
            changed_by: row.changed_by,
            created_at: Some(row.created_at),
        })
    }
}

const SELECT: &str = "SELECT version, settings, changed_by, created_at FROM winback_settings
    WHERE tenant_id = $1";

/// The settings that hold.
pub async fn get(mut conn: &Conn, tenant: TenantId) -> Result<Version> {
    let row: Option<Row> = diesel::sql_query(format!("{SELECT} ORDER BY version DESC LIMIT 1"))
        .bind::<SqlUuid, _>(tenant.0)
        .get_result(&mut conn)
        .await
        .optional()?;
    let defaults = || Version {
        version: 0,
        settings: Settings::default(),
        changed_by: String::new(),
        created_at: None,
    };
    row.map_or_else(|| Ok(defaults()), Version::try_from)
}

/// A version of the settings that there is.
///
/// # Errors
/// `Missing` when there is none.
pub async fn version(conn: &mut Conn, tenant: TenantId, version: i32) -> Result<Version> {
    let row: Option<Row> = diesel::sql_query(format!("{SELECT} AND version = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Integer, _>(version)
        .get_result(conn)
        .await
        .optional()?;
    let missing = || StoreError::Missing(format!("version {version} of winbackSettings"));
    row.ok_or_else(missing)?.try_into()
}

/// Makes these the settings that hold: a new version, unless they are already.
pub async fn save(
    conn: &mut Conn,
    tenant: TenantId,
    settings: &Settings,
    changed_by: &str,
) -> Result<Version> {
    hold(conn, tenant, Held::WinbackSettings).await?;
    let current = get(conn, tenant).await?;
    if current.version > 0 && current.settings == *settings {
        return Ok(current);
    }
    let json = serde_json::to_value(settings)
        .map_err(|e| StoreError::Stored(format!("winbackSettings: {e}")))?;
    let row: Row = diesel::sql_query(
        "INSERT INTO winback_settings (tenant_id, version, settings, changed_by)
         VALUES ($1, $2, $3, $4) RETURNING version, settings, changed_by, created_at",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Integer, _>(current.version + 1)
    .bind::<Jsonb, _>(json)
    .bind::<Text, _>(changed_by)
    .get_result(conn)
    .await?;
    row.try_into()
}

/// The settings that hold, as a version that others can point to: the defaults become one.
pub async fn pinned(conn: &mut Conn, tenant: TenantId) -> Result<Version> {
    let current = get(conn, tenant).await?;
    match current.version {
        // Whoever is faster may have set something else.
        0 => {
            hold(conn, tenant, Held::WinbackSettings).await?;
            let current = get(conn, tenant).await?;
            save(conn, tenant, &current.settings, &current.changed_by).await
        }
        _ => Ok(current),
    }
}

/// What versions of the settings are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("version", Kind::Number),
        Field::column("changed_by", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("version", "::integer", true)],
};

/// A page of versions, newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Version>> {
    let base = Statement::numbered(SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    let page: Page<Row> = list.load(conn, base).await?;
    let rows: Result<Vec<Version>> = page.rows.into_iter().map(Version::try_from).collect();
    Ok(Page {
        rows: rows?,
        next: page.next,
    })
}
