//! Products and product versions.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::master::{ProductRow, ProductVersionRow};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Date, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;

use crate::import::{self, Load, Reference, Spec, date, decimal, text};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Product {
    #[diesel(sql_type = Text)]
    pub number: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Text)]
    pub division: String,
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// A product version.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct ProductVersion {
    #[diesel(sql_type = Text)]
    pub product_number: String,
    #[diesel(sql_type = Text)]
    pub code: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Date)]
    pub valid_from: NaiveDate,
    #[diesel(sql_type = Nullable<Date>)]
    pub valid_to: Option<NaiveDate>,
    #[diesel(sql_type = Numeric)]
    pub base_price_per_year: Decimal,
    #[diesel(sql_type = Numeric)]
    pub unit_price_per_kwh: Decimal,
    #[diesel(sql_type = Text)]
    pub currency: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// The product's brand.
pub(crate) const BRAND: Reference = Reference {
    field: "brand_code",
    join: "LEFT JOIN LATERAL (SELECT id FROM brand
                   WHERE tenant_id = (SELECT $1) AND code = s.brand_code OFFSET 0) b ON true",
    good: "b.id IS NOT NULL",
    reason: "'there is no brand with this code'",
};

impl Load for ProductRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("product")
            .with_id()
            .stamped()
            .key(text("number", |r| &r.number))
            .value(text("name", |r| &r.name))
            .value(text("division", |r| &r.division))
            .send(text("brand_code", |r| &r.brand_code))
            .reference(BRAND)
            .value_from("brand_id", "b.id", &["brand_code"]);
        vec![spec]
    }
}

impl Load for ProductVersionRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("product_version")
            .with_id()
            .stamped()
            .send(text("product_number", |r| &r.product_number))
            .reference(Reference {
                field: "product_number",
                join: "LEFT JOIN LATERAL (SELECT id FROM product
                   WHERE tenant_id = (SELECT $1) AND number = s.product_number OFFSET 0) p ON true",
                good: "p.id IS NOT NULL",
                reason: "'there is no product with this number'",
            })
            .key_from("product_id", "p.id")
            .key(text("code", |r| &r.code))
            .value(text("name", |r| &r.name))
            .value(date("valid_from", |r| Some(r.valid_from)))
            // Both ends of a period change together: a file without valid_to makes it open-ended.
            .value_of(date("valid_to", |r| r.valid_to), &["valid_from"])
            .value(decimal("base_price_per_year", |r| {
                Some(r.base_price_per_year)
            }))
            .value(decimal("unit_price_per_kwh", |r| {
                Some(r.unit_price_per_kwh)
            }))
            .value(text("currency", |r| &r.currency));
        vec![spec]
    }
}

const PRODUCT: &str =
    "SELECT p.number, p.name, p.division, b.code AS brand_code, p.created_at, p.updated_at
     FROM product p JOIN brand b ON b.tenant_id = p.tenant_id AND b.id = p.brand_id
     WHERE p.tenant_id = $1";

/// The product with that number.
pub async fn get(mut conn: &Conn, tenant: TenantId, number: &str) -> Result<Option<Product>> {
    let product = diesel::sql_query(format!("{PRODUCT} AND p.number = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(number)
        .fixed()
        .get_result(&mut conn)
        .await
        .optional()?;
    Ok(product)
}

/// What products are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("number", Kind::Text),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("division", Kind::Text),
        Field::resource(
            "brand",
            &[Part::new("brands", "brand_code", PartType::Text)],
        ),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("number", "::text", false)],
};

/// A page of products, by number if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Product>> {
    let base = Statement::numbered(PRODUCT, &[bound::<SqlUuid, _>(tenant.0)]);
    list.load(conn, base).await
}

/// Replaces a product, or adds it if it may be missing.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    row: ProductRow,
    allow_missing: bool,
) -> Result<Product> {
    let number = row.number.clone();
    let missing = || StoreError::Missing(anklang_domain::name::format(&[("products", &number)]));
    let held = import::id_of(
        conn,
        tenant,
        "SELECT id FROM product WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE",
        &number,
    )
    .await?;
    if held.is_none() && !allow_missing {
        return Err(missing());
    }
    import::one(conn, tenant, row).await?;
    let product = get(conn, tenant, &number).await?.ok_or_else(missing)?;
    Ok(product)
}

const VERSION: &str = "SELECT p.number AS product_number, v.code, v.name, v.valid_from, v.valid_to,
            v.base_price_per_year, v.unit_price_per_kwh, v.currency, v.created_at, v.updated_at
     FROM product_version v JOIN product p ON p.tenant_id = v.tenant_id AND p.id = v.product_id
     WHERE v.tenant_id = $1";

/// The version with that code of the product with that number.
pub async fn get_version(
    mut conn: &Conn,
    tenant: TenantId,
    product: &str,
    code: &str,
) -> Result<Option<ProductVersion>> {
    let version = diesel::sql_query(format!("{VERSION} AND p.number = $2 AND v.code = $3"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(product)
        .bind::<Text, _>(code)
        .get_result(&mut conn)
        .await
        .optional()?;
    Ok(version)
}

/// What product versions are listed by.
pub static VERSIONS: Listable = Listable {
    fields: &[
        Field::column("code", Kind::Text),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("valid_from", Kind::Date),
        Field::nullable("valid_to", Kind::Date, "valid_to"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[
        Sort::key("product_number", "::text", false),
        Sort::key("code", "::text", false),
    ],
};

/// A page of versions of one product or of all, by product number and code if not otherwise
/// wanted.
pub async fn list_versions(
    conn: &mut Conn,
    tenant: TenantId,
    product: Option<String>,
    list: &List,
) -> Result<Page<ProductVersion>> {
    static BASE: LazyLock<String> =
        LazyLock::new(|| format!("{VERSION} AND ($2 IS NULL OR p.number = $2)"));
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(product),
        ],
    );
    list.load(conn, base).await
}

/// Replaces a product version, or adds it if it may be missing.
pub async fn replace_version(
    conn: &mut Conn,
    tenant: TenantId,
    row: ProductVersionRow,
    allow_missing: bool,
) -> Result<ProductVersion> {
    let (product, code) = (row.product_number.clone(), row.code.clone());
    let missing = || {
        let name = [("products", &*product), ("versions", &*code)];
        StoreError::Missing(anklang_domain::name::format(&name))
    };
    // Holding the product makes replacements of all its versions take turns.
    let held = import::id_of(
        conn,
        tenant,
        "SELECT id FROM product WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE",
        &product,
    )
    .await?;
    if held.is_none() {
        let name = anklang_domain::name::format(&[("products", &product)]);
        return Err(StoreError::Missing(name));
    }
    if !allow_missing && get_version(conn, tenant, &product, &code).await?.is_none() {
        return Err(missing());
    }
    import::one(conn, tenant, row).await?;
    let version = get_version(conn, tenant, &product, &code)
        .await?
        .ok_or_else(missing)?;
    Ok(version)
}
