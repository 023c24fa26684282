//! Brands.

use anklang_domain::TenantId;
use anklang_domain::master::BrandRow;
use chrono::{DateTime, Utc};
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::import::{self, Load, Spec, text};
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// A brand.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Brand {
    #[diesel(sql_type = Text)]
    pub code: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub legal_name: String,
    #[diesel(sql_type = Text)]
    pub street: String,
    #[diesel(sql_type = Text)]
    pub house_number: String,
    #[diesel(sql_type = Text)]
    pub postal_code: String,
    #[diesel(sql_type = Text)]
    pub city: String,
    #[diesel(sql_type = Text)]
    pub country: String,
    #[diesel(sql_type = Text)]
    pub phone: String,
    #[diesel(sql_type = Text)]
    pub email: String,
    #[diesel(sql_type = Text)]
    pub website: String,
    #[diesel(sql_type = Text)]
    pub register_line: String,
    #[diesel(sql_type = Text)]
    pub vat_id: String,
    #[diesel(sql_type = Text)]
    pub bank_line: String,
    #[diesel(sql_type = Text)]
    pub sender_name: String,
    #[diesel(sql_type = Text)]
    pub sender_email: String,
    #[diesel(sql_type = Text)]
    pub reply_to: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Load for BrandRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("brand")
            .with_id()
            .stamped()
            .key(text("code", |r| &r.code))
            .value(text("name", |r| &r.name))
            .value(text("legal_name", |r| &r.legal_name))
            .value(text("street", |r| &r.street))
            .value(text("house_number", |r| &r.house_number))
            .value(text("postal_code", |r| &r.postal_code))
            .value(text("city", |r| &r.city))
            .value(text("country", |r| &r.country))
            .value(text("phone", |r| &r.phone))
            .value(text("email", |r| &r.email))
            .value(text("website", |r| &r.website))
            .value(text("register_line", |r| &r.register_line))
            .value(text("vat_id", |r| &r.vat_id))
            .value(text("bank_line", |r| &r.bank_line))
            .value(text("sender_name", |r| &r.sender_name))
            .value(text("sender_email", |r| &r.sender_email))
            .value(text("reply_to", |r| &r.reply_to));
        vec![spec]
    }
}

/// The brand with that code.
pub async fn get(mut conn: &Conn, tenant: TenantId, code: &str) -> Result<Option<Brand>> {
    let brand = diesel::sql_query(
        "SELECT code, name, legal_name, street, house_number, postal_code, city, country, phone,
                email, website, register_line, vat_id, bank_line, sender_name, sender_email,
                reply_to, created_at, updated_at
         FROM brand WHERE tenant_id = $1 AND code = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(code)
    .fixed()
    .get_result(&mut conn)
    .await
    .optional()?;
    Ok(brand)
}

/// What brands are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("code", Kind::Text),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("legal_name", Kind::Text),
        Field::column("postal_code", Kind::Text),
        Field::column("city", Kind::Text),
        Field::column("country", Kind::Text),
        Field::column("sender_email", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("code", "::text", false)],
};

/// A page of brands, by code if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Brand>> {
    let base = Statement::numbered(
        "SELECT * FROM brand WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

/// Replaces a brand, or adds it if it may be missing.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    row: BrandRow,
    allow_missing: bool,
) -> Result<Brand> {
    let code = row.code.clone();
    let missing = || StoreError::Missing(anklang_domain::name::format(&[("brands", &code)]));
    let held = import::id_of(
        conn,
        tenant,
        "SELECT id FROM brand WHERE tenant_id = $1 AND code = $2 FOR NO KEY UPDATE",
        &code,
    )
    .await?;
    if held.is_none() && !allow_missing {
        return Err(missing());
    }
    import::one(conn, tenant, row).await?;
    let brand = get(conn, tenant, &code).await?.ok_or_else(missing)?;
    Ok(brand)
}
