//! The open offers of a tenant in numbers: counted as they are, never kept apart.

use anklang_domain::TenantId;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Date, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;

use crate::{Conn, Result};

/// The open offers of a division in one currency.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct OpenFigures {
    /// Division of their contracts.
    #[diesel(sql_type = Text)]
    pub division: String,
    /// Their currency, ISO 4217.
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// Sum of their annual amounts.
    #[diesel(sql_type = Numeric)]
    pub amount: Decimal,
    /// Number of the oldest one.
    #[diesel(sql_type = Text)]
    pub oldest: String,
    /// When the oldest one was made.
    #[diesel(sql_type = Timestamptz)]
    pub oldest_created_at: DateTime<Utc>,
    /// How many of them can be accepted until `expiring_until` at the latest.
    #[diesel(sql_type = BigInt)]
    pub expiring: i64,
}

/// The offers that are open on `today`, by division and currency. Reads open offers only.
pub async fn open_figures(
    conn: &mut Conn,
    tenant: TenantId,
    today: NaiveDate,
    expiring_until: NaiveDate,
) -> Result<Vec<OpenFigures>> {
    Ok(diesel::sql_query(
        "WITH open AS MATERIALIZED (
             SELECT c.division, o.currency, o.annual_amount, o.number, o.created_at, o.valid_until
             FROM offer o
             JOIN contract c ON c.tenant_id = o.tenant_id AND c.id = o.contract_id
             LEFT JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
             WHERE o.tenant_id = $1 AND o.state = 'open' AND o.valid_until >= $2
               AND p.state IS DISTINCT FROM 'cancelled')
         SELECT f.*, (SELECT o.number FROM open o
                      WHERE o.division = f.division AND o.currency = f.currency
                        AND o.created_at = f.oldest_created_at
                      ORDER BY o.number LIMIT 1) AS oldest
         FROM (SELECT division, currency, count(*) AS count, sum(annual_amount) AS amount,
                      min(created_at) AS oldest_created_at,
                      count(*) FILTER (WHERE valid_until <= $3) AS expiring
               FROM open GROUP BY division, currency) f
         ORDER BY division, currency",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Date, _>(today)
    .bind::<Date, _>(expiring_until)
    .load(conn)
    .await?)
}
