//! Templates: versions per brand, key and language.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anklang_domain::{BrandId, TenantId};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// One version of a template.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Template {
    /// Its brand.
    #[diesel(sql_type = SqlUuid)]
    pub brand_id: Uuid,
    /// Code of its brand.
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    /// Its key, e.g. "offer_mail".
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Its language.
    #[diesel(sql_type = Text)]
    pub language: String,
    /// From 1.
    #[diesel(sql_type = Integer)]
    pub version: i32,
    /// message or document.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// Subject of a message.
    #[diesel(sql_type = Text)]
    pub subject: String,
    /// Text of a message.
    #[diesel(sql_type = Text)]
    pub text_body: String,
    /// HTML of a message.
    #[diesel(sql_type = Text)]
    pub html_body: String,
    /// Source of a document.
    #[diesel(sql_type = Text)]
    pub typst_source: String,
    /// The provider's id of a message's template that lies there; empty for ours.
    #[diesel(sql_type = Text)]
    pub provider_template: String,
    /// Its variables: an object of texts by name.
    #[diesel(sql_type = Jsonb)]
    pub provider_variables: Value,
    /// When it was saved.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

const COLUMNS: &str = "t.brand_id, b.code AS brand_code, t.key, t.language, t.version, t.kind,
    t.subject, t.text_body, t.html_body, t.typst_source, t.provider_template,
    t.provider_variables, t.created_at";

/// The newest version.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    brand_code: &str,
    key: &str,
    language: &str,
) -> Result<Option<Template>> {
    Ok(diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM template t
         JOIN brand b ON b.tenant_id = t.tenant_id AND b.id = t.brand_id
         WHERE t.tenant_id = $1 AND b.code = $2 AND t.key = $3 AND t.language = $4
         ORDER BY t.version DESC LIMIT 1"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(brand_code)
    .bind::<Text, _>(key)
    .bind::<Text, _>(language)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// The newest versions of a key for brands, in all languages.
pub async fn newest(
    conn: &mut Conn,
    tenant: TenantId,
    brands: &[Uuid],
    key: &str,
) -> Result<Vec<Template>> {
    Ok(diesel::sql_query(format!(
        "SELECT DISTINCT ON (t.brand_id, t.language) {COLUMNS} FROM template t
         JOIN brand b ON b.tenant_id = t.tenant_id AND b.id = t.brand_id
         WHERE t.tenant_id = $1 AND t.brand_id = ANY($2) AND t.key = $3
         ORDER BY t.brand_id, t.language, t.version DESC"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(brands)
    .bind::<Text, _>(key)
    .fixed()
    .load(conn)
    .await?)
}

/// What templates are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("key", Kind::Text),
        Field::column("language", Kind::Text),
        Field::column("version", Kind::Number),
        Field::column("subject", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[
        Sort::key("brand_code", "::text", false),
        Sort::key("key", "::text", false),
        Sort::key("language", "::text", false),
    ],
};

/// A page of the newest versions, of one brand or of all; by brand code, key and language if not
/// otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    brand_code: Option<String>,
    list: &List,
) -> Result<Page<Template>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT DISTINCT ON (b.code, t.key, t.language) {COLUMNS} FROM template t
             JOIN brand b ON b.tenant_id = t.tenant_id AND b.id = t.brand_id
             WHERE t.tenant_id = $1 AND ($2 IS NULL OR b.code = $2)
             ORDER BY b.code, t.key, t.language, t.version DESC"
        )
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(brand_code),
        ],
    );
    list.load(conn, base).await
}

/// The content of a new version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTemplate<'a> {
    /// Its brand.
    pub brand_code: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Its language.
    pub language: &'a str,
    /// message or document; the same for all versions.
    pub kind: &'a str,
    /// Subject of a message.
    pub subject: &'a str,
    /// Text of a message.
    pub text_body: &'a str,
    /// HTML of a message.
    pub html_body: &'a str,
    /// Source of a document.
    pub typst_source: &'a str,
    /// The provider's id of a message's template that lies there.
    pub provider_template: &'a str,
    /// Its variables by name.
    pub provider_variables: BTreeMap<String, String>,
}

impl Template {
    /// The variables of the provider's template by name.
    pub fn variables(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.provider_variables.clone()).unwrap_or_default()
    }
}

/// Saves a new version, unless it is the same as the newest.
pub async fn save(conn: &mut Conn, tenant: TenantId, new: &NewTemplate<'_>) -> Result<Template> {
    #[derive(QueryableByName)]
    struct Brand {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    // Versions of one brand's templates are numbered in turn.
    let brand: Option<Brand> =
        diesel::sql_query("SELECT id FROM brand WHERE tenant_id = $1 AND code = $2 FOR UPDATE")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(new.brand_code)
            .get_result(conn)
            .await
            .optional()?;
    let Some(brand) = brand else {
        return Err(StoreError::Missing(format!("brands/{}", new.brand_code)));
    };
    let newest = get(conn, tenant, new.brand_code, new.key, new.language).await?;
    if let Some(old) = &newest {
        if old.kind != new.kind {
            return Err(StoreError::Refused {
                resource: format!(
                    "brands/{}/templates/{}.{}",
                    new.brand_code, new.key, new.language
                ),
                reason: format!("it is a {} template", old.kind),
            });
        }
        let same = (
            &old.subject[..],
            &old.text_body[..],
            &old.html_body[..],
            &old.typst_source[..],
            &old.provider_template[..],
        ) == (
            new.subject,
            new.text_body,
            new.html_body,
            new.typst_source,
            new.provider_template,
        ) && old.variables() == new.provider_variables;
        if same {
            return Ok(old.clone());
        }
    }
    diesel::sql_query(
        "INSERT INTO template (tenant_id, brand_id, key, language, version, kind, subject,
                               text_body, html_body, typst_source, provider_template,
                               provider_variables)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(BrandId(brand.id).0)
    .bind::<Text, _>(new.key)
    .bind::<Text, _>(new.language)
    .bind::<Integer, _>(newest.map_or(0, |t| t.version) + 1)
    .bind::<Text, _>(new.kind)
    .bind::<Text, _>(new.subject)
    .bind::<Text, _>(new.text_body)
    .bind::<Text, _>(new.html_body)
    .bind::<Text, _>(new.typst_source)
    .bind::<Text, _>(new.provider_template)
    .bind::<Jsonb, _>(serde_json::json!(new.provider_variables))
    .execute(conn)
    .await?;
    get(conn, tenant, new.brand_code, new.key, new.language)
        .await?
        .ok_or_else(|| StoreError::Stored("a template just saved".into()))
}

/// Whether the tenant has a brand of that code.
pub async fn brand_exists(mut conn: &Conn, tenant: TenantId, code: &str) -> Result<bool> {
    let rows = diesel::sql_query("SELECT 1 FROM brand WHERE tenant_id = $1 AND code = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(code)
        .execute(&mut conn)
        .await?;
    Ok(rows > 0)
}

/// Brands that have no stored template of a key in a language, by code.
pub async fn brands_without(
    conn: &mut Conn,
    tenant: TenantId,
    key: &str,
    kind: &str,
    language: &str,
) -> Result<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        code: String,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT b.code FROM brand b WHERE b.tenant_id = $1 AND NOT EXISTS (
             SELECT FROM template t WHERE t.tenant_id = $1 AND t.brand_id = b.id AND t.key = $2
               AND t.kind = $3 AND t.language = $4)
         ORDER BY b.code",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(key)
    .bind::<Text, _>(kind)
    .bind::<Text, _>(language)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|r| r.code).collect())
}
