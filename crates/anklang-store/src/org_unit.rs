//! Org units: a tenant's tree. Who changes its shape takes turns ([`lock`]), so that no two changes
//! together close a circle.

use anklang_domain::{TenantId, Violations};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// The most levels of a tree.
pub const MAX_LEVELS: i64 = 10;

/// An org unit.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct OrgUnit {
    /// The tenant's code.
    #[diesel(sql_type = Text)]
    pub code: String,
    /// What people call it.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Code of the unit above it.
    #[diesel(sql_type = Nullable<Text>)]
    pub parent_code: Option<String>,
    /// When it came into being here.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// The org unit with that code.
pub async fn get(mut conn: &Conn, tenant: TenantId, code: &str) -> Result<Option<OrgUnit>> {
    Ok(
        diesel::sql_query("SELECT * FROM org_unit WHERE tenant_id = $1 AND code = $2")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(code)
            .get_result(&mut conn)
            .await
            .optional()?,
    )
}

/// What org units are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("code", Kind::Text),
        Field::new("display_name", Kind::Text, "name"),
        Field::resource(
            "parent",
            &[Part::new("orgUnits", "parent_code", PartType::Text)],
        ),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("code", "::text", false)],
};

/// A page of org units, by code if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<OrgUnit>> {
    let base = Statement::numbered(
        "SELECT * FROM org_unit WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

/// Holds the shape of the tenant's tree until the end of the transaction.
pub async fn lock(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended('org units ' || $1::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// The units from `$2` up to the top, with their distance; for a tree that has no circle.
const ABOVE: &str = "WITH RECURSIVE above (code, parent_code, far) AS (
    SELECT code, parent_code, 0 FROM org_unit WHERE tenant_id = $1 AND code = $2
    UNION ALL
    SELECT u.code, u.parent_code, a.far + 1 FROM above a
    JOIN org_unit u ON u.tenant_id = $1 AND u.code = a.parent_code)";

#[derive(QueryableByName)]
struct Levels {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Replaces an org unit, or adds it if it may be missing.
///
/// # Errors
/// `Missing` when there is none and may not be; `Invalid` at `parent` when the tree does not allow it.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    code: &str,
    name: &str,
    parent: Option<&str>,
    allow_missing: bool,
) -> Result<OrgUnit> {
    lock(conn, tenant).await?;
    if !allow_missing && get(conn, tenant, code).await?.is_none() {
        return Err(missing(code));
    }
    if let Some(parent) = parent {
        check_parent(conn, tenant, code, parent).await?;
    }
    Ok(diesel::sql_query(
        "INSERT INTO org_unit AS o (tenant_id, code, name, parent_code) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, code) DO UPDATE
         SET name = excluded.name, parent_code = excluded.parent_code,
             updated_at = CASE WHEN (o.name, o.parent_code) IS DISTINCT FROM
                                    (excluded.name, excluded.parent_code)
                               THEN now() ELSE o.updated_at END
         RETURNING *",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(code)
    .bind::<Text, _>(name)
    .bind::<Nullable<Text>, _>(parent)
    .get_result(conn)
    .await?)
}

async fn check_parent(conn: &mut Conn, tenant: TenantId, code: &str, parent: &str) -> Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        code: String,
    }
    let mut violations = Violations::new();
    let above: Vec<Row> = diesel::sql_query(format!("{ABOVE} SELECT code FROM above"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(parent)
        .load(conn)
        .await?;
    if above.is_empty() {
        violations.add("parent", "does not exist");
    } else if above.iter().any(|unit| unit.code == code) {
        violations.add("parent", "must not be the unit itself or below it");
    } else {
        let below: Levels = diesel::sql_query(
            "WITH RECURSIVE below (code, level) AS (
                 SELECT $2::text, 1
                 UNION ALL
                 SELECT u.code, b.level + 1 FROM below b
                 JOIN org_unit u ON u.tenant_id = $1 AND u.parent_code = b.code)
             SELECT max(level)::bigint AS n FROM below",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(code)
        .get_result(conn)
        .await?;
        if i64::try_from(above.len()).unwrap_or(MAX_LEVELS) + below.n > MAX_LEVELS {
            let reason = format!("would give the tree more than {MAX_LEVELS} levels");
            violations.add("parent", reason);
        }
    }
    violations.finish(()).map_err(StoreError::Invalid)
}

/// Deletes an org unit that nothing hangs on.
///
/// # Errors
/// `Missing` when there is none; `Refused` while units are below it, customers belong to it, or selections
/// are its own or shared with it.
pub async fn delete(conn: &mut Conn, tenant: TenantId, code: &str) -> Result<()> {
    lock(conn, tenant).await?;
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = BigInt)]
        below: i64,
        #[diesel(sql_type = BigInt)]
        customers: i64,
        #[diesel(sql_type = BigInt)]
        selections: i64,
    }
    // Whoever shares with it holds its row, and who writes its customers.
    let found =
        diesel::sql_query("SELECT 1 FROM org_unit WHERE tenant_id = $1 AND code = $2 FOR UPDATE")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(code)
            .execute(conn)
            .await?;
    if found == 0 {
        return Err(missing(code));
    }
    let held: Held = diesel::sql_query(
        "SELECT (SELECT count(*) FROM org_unit WHERE tenant_id = $1 AND parent_code = $2) AS below,
                (SELECT count(*) FROM customer WHERE tenant_id = $1 AND org_unit_code = $2) AS customers,
                (SELECT count(*) FROM selection WHERE tenant_id = $1
                   AND (org_unit_code = $2 OR $2 = ANY(shared_with))) AS selections",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(code)
    .get_result(conn)
    .await?;
    if held.below + held.customers + held.selections > 0 {
        return Err(StoreError::Refused {
            resource: resource(code),
            reason: format!(
                "{} org units are below it, {} customers belong to it, and {} selections are its own or \
                 shared with it",
                held.below, held.customers, held.selections
            ),
        });
    }
    diesel::sql_query("DELETE FROM org_unit WHERE tenant_id = $1 AND code = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(code)
        .execute(conn)
        .await?;
    Ok(())
}

fn resource(code: &str) -> String {
    anklang_domain::name::format(&[("orgUnits", code)])
}

fn missing(code: &str) -> StoreError {
    StoreError::Missing(resource(code))
}

/// Holds these org units, so that none of them is deleted before the end of the transaction. Gives
/// those that do not exist.
pub async fn hold(conn: &mut Conn, tenant: TenantId, codes: &[String]) -> Result<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        code: String,
    }
    let found: Vec<Row> = diesel::sql_query(
        "SELECT code FROM org_unit WHERE tenant_id = $1 AND code = ANY($2) ORDER BY code FOR KEY SHARE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(codes)
    .load(conn)
    .await?;
    let is_there = |code: &&String| found.iter().any(|row| row.code == **code);
    Ok(codes.iter().filter(|c| !is_there(c)).cloned().collect())
}

/// ` AND …`: the selection belongs to the whole tenant, or to the org unit `$2` or one below it, or
/// is shared with that unit or one above it; all when `$2` is null.
pub(crate) const VISIBLE_TO: &str = " AND ($2::text IS NULL OR org_unit_code IS NULL
    OR org_unit_code IN (
        WITH RECURSIVE below (code) AS (
            SELECT $2::text
            UNION ALL
            SELECT u.code FROM below b JOIN org_unit u ON u.tenant_id = $1 AND u.parent_code = b.code)
        SELECT code FROM below)
    OR shared_with && ARRAY(
        WITH RECURSIVE above (code, parent_code) AS (
            SELECT code, parent_code FROM org_unit WHERE tenant_id = $1 AND code = $2::text
            UNION ALL
            SELECT u.code, u.parent_code FROM above a
            JOIN org_unit u ON u.tenant_id = $1 AND u.code = a.parent_code)
        SELECT code FROM above))";
