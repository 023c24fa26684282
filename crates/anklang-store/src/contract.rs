//! Contracts with items and attributes.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::master::{AttributeRow, AttributeValue, ContractItemRow, ContractRow};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Date, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::attribute::{self, Owner};
use crate::customer::{CUSTOMER, grouped};
use crate::import::{self, Load, Reference, Spec, date, decimal, text};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::product::BRAND;
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// A contract.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Contract {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub number: String,
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    #[diesel(sql_type = Text)]
    pub division: String,
    #[diesel(sql_type = Text)]
    pub supply_status: String,
    #[diesel(sql_type = Text)]
    pub site_street: String,
    #[diesel(sql_type = Text)]
    pub site_house_number: String,
    #[diesel(sql_type = Text)]
    pub site_postal_code: String,
    #[diesel(sql_type = Text)]
    pub site_city: String,
    #[diesel(sql_type = Nullable<Numeric>)]
    pub annual_quantity_kwh: Option<Decimal>,
    #[diesel(sql_type = Nullable<Text>)]
    pub product_number: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub product_version_code: Option<String>,
    #[diesel(sql_type = Nullable<Date>)]
    pub start_date: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub end_date: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub notice_date: Option<NaiveDate>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// A part of a contract.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct ContractItem {
    #[diesel(sql_type = SqlUuid)]
    contract_id: Uuid,
    #[diesel(sql_type = Text)]
    pub code: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Nullable<Numeric>)]
    pub quantity: Option<Decimal>,
}

/// A contract with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractDetails {
    /// The contract.
    pub contract: Contract,
    /// By code.
    pub items: Vec<ContractItem>,
    /// By key.
    pub attributes: Vec<(String, AttributeValue)>,
}

/// A contract as it shall be.
#[derive(Debug, Clone)]
pub struct ContractUpdate {
    /// The contract.
    pub contract: ContractRow,
    /// All its items.
    pub items: Vec<ContractItemRow>,
    /// All its attributes.
    pub attributes: Vec<AttributeRow>,
}

/// What was a customer's who is erased becomes nobody else's.
const ERASED: Reference = Reference {
    field: "number",
    join: "LEFT JOIN LATERAL (SELECT erased_at FROM contract
           WHERE tenant_id = (SELECT $1) AND number = s.number OFFSET 0) e ON true",
    good: "e.erased_at IS NULL",
    reason: "'its customer was erased'",
};

impl Load for ContractRow {
    fn specs() -> Vec<Spec<Self>> {
        let product = Reference {
            field: "product_number",
            join: "LEFT JOIN LATERAL (SELECT id FROM product
                   WHERE tenant_id = (SELECT $1) AND number = s.product_number OFFSET 0) p ON true",
            good: "s.product_number = '' OR p.id IS NOT NULL",
            reason: "'there is no product with this number'",
        };
        let version = Reference {
            field: "product_version_code",
            join: "LEFT JOIN LATERAL (SELECT id FROM product_version
                   WHERE tenant_id = (SELECT $1) AND product_id = p.id AND code = s.product_version_code OFFSET 0) v ON true",
            good: "p.id IS NULL OR v.id IS NOT NULL",
            reason: "'the product has no version with this code'",
        };
        let spec = Spec::<Self>::new("contract")
            .with_id()
            .stamped()
            .key(text("number", |r| &r.number))
            .reference(ERASED)
            .guard("t.erased_at IS NULL")
            .send(text("customer_number", |r| &r.customer_number))
            .reference(CUSTOMER)
            .value_from("customer_id", "c.id", &["customer_number"])
            .send(text("brand_code", |r| &r.brand_code))
            .reference(BRAND)
            .value_from("brand_id", "b.id", &["brand_code"])
            .value(text("division", |r| &r.division))
            .value(text("supply_status", |r| &r.supply_status))
            .value(text("site_street", |r| &r.site_street))
            .value(text("site_house_number", |r| &r.site_house_number))
            .value(text("site_postal_code", |r| &r.site_postal_code))
            .value(text("site_city", |r| &r.site_city))
            .value(decimal("annual_quantity_kwh", |r| r.annual_quantity_kwh))
            .send(text("product_number", |r| &r.product_number))
            .send(text("product_version_code", |r| &r.product_version_code))
            .reference(product)
            .reference(version)
            .value_from(
                "product_version_id",
                "v.id",
                &["product_number", "product_version_code"],
            )
            .value(date("start_date", |r| r.start_date))
            .value(date("end_date", |r| r.end_date))
            .value(date("notice_date", |r| r.notice_date));
        vec![spec]
    }
}

impl Load for ContractItemRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("contract_item")
            .send(text("contract_number", |r| &r.contract_number))
            .reference(Reference {
                field: "contract_number",
                join: "LEFT JOIN LATERAL (SELECT id, erased_at FROM contract
                   WHERE tenant_id = (SELECT $1) AND number = s.contract_number OFFSET 0) k ON true",
                good: "k.id IS NOT NULL AND k.erased_at IS NULL",
                reason: "CASE WHEN k.id IS NULL THEN 'there is no contract with this number'
                         ELSE 'its customer was erased' END",
            })
            .key_from("contract_id", "k.id")
            .key(text("code", |r| &r.code))
            .value(text("name", |r| &r.name))
            .value(decimal("quantity", |r| r.quantity));
        vec![spec]
    }
}

const CONTRACT: &str =
    "SELECT k.id, k.number, k.customer_id, c.number AS customer_number, b.code AS brand_code,
            k.division, k.supply_status, k.site_street, k.site_house_number, k.site_postal_code,
            k.site_city, k.annual_quantity_kwh, p.number AS product_number,
            v.code AS product_version_code, k.start_date, k.end_date, k.notice_date,
            k.created_at, k.updated_at
     FROM contract k
     JOIN customer c ON c.tenant_id = k.tenant_id AND c.id = k.customer_id
     JOIN brand b ON b.tenant_id = k.tenant_id AND b.id = k.brand_id
     LEFT JOIN product_version v ON v.tenant_id = k.tenant_id AND v.id = k.product_version_id
     LEFT JOIN product p ON p.tenant_id = v.tenant_id AND p.id = v.product_id
     WHERE k.tenant_id = $1";

/// The contract with that number.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    number: &str,
) -> Result<Option<ContractDetails>> {
    let contracts: Vec<Contract> = diesel::sql_query(format!("{CONTRACT} AND k.number = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(number)
        .fixed()
        .load(&mut conn)
        .await?;
    Ok(with_details(conn, tenant, contracts).await?.pop())
}

/// What contracts are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("number", Kind::Text),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "brand",
            &[Part::new("brands", "brand_code", PartType::Text)],
        ),
        Field::column("division", Kind::Text),
        Field::column("supply_status", Kind::Text),
        Field::column("site_street", Kind::Text),
        Field::column("site_house_number", Kind::Text),
        Field::column("site_postal_code", Kind::Text),
        Field::column("site_city", Kind::Text),
        Field::nullable("annual_quantity_kwh", Kind::Number, "annual_quantity_kwh"),
        Field::resource(
            "product_version",
            &[
                Part::new("products", "product_number", PartType::Text),
                Part::new("versions", "product_version_code", PartType::Text),
            ],
        ),
        Field::nullable("start_date", Kind::Date, "start_date"),
        Field::nullable("end_date", Kind::Date, "end_date"),
        Field::nullable("notice_date", Kind::Date, "notice_date"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("number", "::text", false)],
};

/// A page of contracts of one customer (by number) or of all, by number if not otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    customer: Option<String>,
    list: &List,
) -> Result<Page<ContractDetails>> {
    static BASE: LazyLock<String> =
        LazyLock::new(|| format!("{CONTRACT} AND ($2 IS NULL OR c.number = $2)"));
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(customer),
        ],
    );
    let page: Page<Contract> = list.load_of_customers(conn, tenant, base).await?;
    Ok(Page {
        rows: with_details(conn, tenant, page.rows).await?,
        next: page.next,
    })
}

async fn with_details(
    mut conn: &Conn,
    tenant: TenantId,
    contracts: Vec<Contract>,
) -> Result<Vec<ContractDetails>> {
    let ids: Vec<Uuid> = contracts.iter().map(|c| c.id).collect();
    let items: Vec<ContractItem> = diesel::sql_query(
        "SELECT contract_id, code, name, quantity FROM contract_item
         WHERE tenant_id = $1 AND contract_id = ANY($2) ORDER BY contract_id, code",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(&mut conn)
    .await?;
    let mut attributes = attribute::of(conn, tenant, Owner::Contract, &ids).await?;
    let mut items = grouped(items, |item| item.contract_id);
    Ok(contracts
        .into_iter()
        .map(|contract| ContractDetails {
            items: items.remove(&contract.id).unwrap_or_default(),
            attributes: attributes.remove(&contract.id).unwrap_or_default(),
            contract,
        })
        .collect())
}

const HOLD: &str = "SELECT id FROM contract WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE";

/// Replaces a contract, or adds it if it may be missing.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    update: ContractUpdate,
    allow_missing: bool,
) -> Result<ContractDetails> {
    let number = update.contract.number.clone();
    let missing = || StoreError::Missing(anklang_domain::name::format(&[("contracts", &number)]));
    if import::id_of(conn, tenant, HOLD, &number).await?.is_none() && !allow_missing {
        return Err(missing());
    }
    import::one(conn, tenant, update.contract).await?;
    let id = import::id_of(conn, tenant, HOLD, &number)
        .await?
        .ok_or_else(missing)?;

    let mut changed = keep_items(conn, tenant, id, &update.items).await?;
    changed |= attribute::keep(conn, tenant, Owner::Contract, id, &update.attributes).await?;
    changed |= import::all(conn, tenant, "items", update.items).await?;
    changed |= import::all(conn, tenant, "attributes", update.attributes).await?;
    if changed {
        diesel::sql_query(
            "UPDATE contract SET updated_at = now() WHERE tenant_id = $1 AND id = $2",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .execute(conn)
        .await?;
    }
    let details = get(conn, tenant, &number).await?.ok_or_else(missing)?;
    Ok(details)
}

/// Deletes the items that are not among `keep`; true when there were any. The rows are locked in
/// the order in which imports write them.
async fn keep_items(
    conn: &mut Conn,
    tenant: TenantId,
    contract: Uuid,
    keep: &[ContractItemRow],
) -> Result<bool> {
    let codes: Vec<&str> = keep.iter().map(|r| &*r.code).collect();
    let deleted = diesel::sql_query(
        "WITH held AS MATERIALIZED (
             SELECT code FROM contract_item WHERE tenant_id = $1 AND contract_id = $2
             ORDER BY code FOR UPDATE)
         DELETE FROM contract_item
         WHERE tenant_id = $1 AND contract_id = $2
             AND code IN (SELECT code FROM held) AND code <> ALL ($3)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(contract)
    .bind::<Array<Text>, _>(codes)
    .execute(conn)
    .await?;
    Ok(deleted > 0)
}
