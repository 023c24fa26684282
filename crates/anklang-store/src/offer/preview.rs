//! What a template may be shown with before there is an offer.

use anklang_domain::{ProductVersionId, TenantId};
use diesel::QueryableByName;
use diesel::sql_types::{Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::content::{BRAND_MODEL, CONTRACT_MODEL, CUSTOMER_MODEL};
use crate::{Conn, Result};

/// Whose data to show.
#[derive(Debug, Clone, Copy)]
pub enum PreviewOf<'a> {
    /// Nobody's: the brand alone.
    Nobody,
    /// The customer with this number.
    Customer(&'a str),
    /// The contract with this number, its customer and brand.
    Contract(&'a str),
}

/// The parts of an offer's data that are there: an object with `brand`, `customer`, `contract` and
/// `offer`, each with what is known of it. `None` when there is no such brand, customer or contract.
pub async fn preview(
    conn: &mut Conn,
    tenant: TenantId,
    brand_code: &str,
    of: PreviewOf<'_>,
    version: Option<ProductVersionId>,
) -> Result<Option<Value>> {
    let (sql, number) = match of {
        PreviewOf::Nobody => ("", None),
        PreviewOf::Customer(number) => (
            "JOIN customer cu ON cu.tenant_id = b.tenant_id AND cu.number = $3",
            Some(number),
        ),
        PreviewOf::Contract(number) => (
            "JOIN contract co ON co.tenant_id = given.tenant_id AND co.number = $3
             JOIN brand b ON b.tenant_id = co.tenant_id AND b.id = co.brand_id
             JOIN customer cu ON cu.tenant_id = co.tenant_id AND cu.id = co.customer_id
             LEFT JOIN product_version cv ON cv.tenant_id = co.tenant_id AND cv.id = co.product_version_id
             LEFT JOIN product cpr ON cpr.tenant_id = cv.tenant_id AND cpr.id = cv.product_id",
            Some(number),
        ),
    };
    let (customer, contract) = match of {
        PreviewOf::Nobody => ("NULL::jsonb", "NULL::jsonb"),
        PreviewOf::Customer(_) => (CUSTOMER_MODEL, "NULL::jsonb"),
        PreviewOf::Contract(_) => (CUSTOMER_MODEL, CONTRACT_MODEL),
    };
    let (given, quantity) = match of {
        PreviewOf::Contract(_) => (
            "given",
            "jsonb_build_object('annual_quantity_kwh', co.annual_quantity_kwh::text,
                                'current_product_name', cpr.name)",
        ),
        _ => ("b", "'{}'::jsonb"),
    };
    let row: Option<Row> = diesel::sql_query(format!(
        "SELECT jsonb_strip_nulls(jsonb_build_object(
                    'brand', {BRAND_MODEL}, 'customer', {customer}, 'contract', {contract},
                    'offer', jsonb_strip_nulls({quantity}) || coalesce(offered.model, '{{}}'))) AS model
         FROM brand {given} {sql}
         LEFT JOIN LATERAL (
             SELECT jsonb_build_object(
                 'product_name', pr.name, 'version_name', v.name, 'currency', v.currency,
                 'base_price_per_year', v.base_price_per_year::text,
                 'unit_price_per_kwh', v.unit_price_per_kwh::text) AS model
             FROM product_version v
             JOIN product pr ON pr.tenant_id = v.tenant_id AND pr.id = v.product_id
             WHERE v.tenant_id = $1 AND v.id = $4) offered ON true
         WHERE {given}.tenant_id = $1 AND {given}.code = $2 AND $3 IS NOT DISTINCT FROM $3"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(brand_code)
    .bind::<Nullable<Text>, _>(number)
    .bind::<Nullable<SqlUuid>, _>(version.map(|v| v.0))
    .load(conn)
    .await?
    .pop();
    Ok(row.map(|row| row.model))
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Jsonb)]
    model: Value,
}
