//! What comes of contacts, in the tenant's own words.

use anklang_domain::TenantId;
use anklang_domain::planning::OutcomeClass;
use chrono::{DateTime, Utc};
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use super::attempt::CLASS;
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// An outcome of the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct ContactOutcome {
    /// Its id.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// What people call it.
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    class: String,
    /// When it came into being here.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl ContactOutcome {
    /// What follows from it.
    ///
    /// # Errors
    /// `Stored` when another version wrote what this one does not know.
    pub fn class(&self) -> Result<OutcomeClass> {
        OutcomeClass::parse(&self.class)
            .ok_or_else(|| StoreError::Stored(format!("an outcome's class: {}", self.class)))
    }
}

/// The name of the outcome with that id.
pub fn resource(id: &str) -> String {
    anklang_domain::name::format(&[("contactOutcomes", id)])
}

/// The outcome with that id.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: &str) -> Result<Option<ContactOutcome>> {
    Ok(diesel::sql_query(
        "SELECT id, name, class, created_at, updated_at FROM contact_outcome
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .fixed()
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// What outcomes are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("contact_outcome_id", Kind::Text, "id"),
        Field::new("display_name", Kind::Text, "name"),
        Field::new("outcome_class", CLASS, "class"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("id", "::text", false)],
};

/// A page of outcomes, by id if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<ContactOutcome>> {
    let base = Statement::numbered(
        "SELECT id, name, class, created_at, updated_at FROM contact_outcome WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

/// Replaces an outcome, or adds it if it may be missing.
///
/// # Errors
/// `Missing` when there is none and may not be.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    id: &str,
    name: &str,
    class: OutcomeClass,
    allow_missing: bool,
) -> Result<ContactOutcome> {
    if !allow_missing && get(conn, tenant, id).await?.is_none() {
        return Err(StoreError::Missing(resource(id)));
    }
    Ok(diesel::sql_query(
        "INSERT INTO contact_outcome AS t (tenant_id, id, name, class) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, id) DO UPDATE
         SET name = excluded.name, class = excluded.class,
             updated_at = CASE WHEN (t.name, t.class) IS DISTINCT FROM (excluded.name, excluded.class)
                               THEN now() ELSE t.updated_at END
         RETURNING id, name, class, created_at, updated_at",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .bind::<Text, _>(name)
    .bind::<Text, _>(class.as_str())
    .get_result(conn)
    .await?)
}

/// Deletes an outcome.
///
/// # Errors
/// `Missing` when there is none.
pub async fn delete(conn: &mut Conn, tenant: TenantId, id: &str) -> Result<()> {
    let rows = diesel::sql_query("DELETE FROM contact_outcome WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(id)
        .execute(conn)
        .await?;
    match rows {
        0 => Err(StoreError::Missing(resource(id))),
        _ => Ok(()),
    }
}
