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
        // One pass: the least pair of time and number is that of the oldest.
        "SELECT c.division, o.currency, count(*) AS count, sum(o.annual_amount) AS amount,
                (min(ARRAY[to_char(o.created_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'),
                           o.number]))[2] AS oldest,
                min(o.created_at) AS oldest_created_at,
                count(*) FILTER (WHERE o.valid_until <= $3) AS expiring
         FROM offer o
         JOIN contract c ON c.tenant_id = o.tenant_id AND c.id = o.contract_id
         LEFT JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
         WHERE o.tenant_id = $1 AND o.state = 'open' AND o.valid_until >= $2
           AND (p.state IN ('cancelled', 'failed')) IS NOT TRUE
         GROUP BY c.division, o.currency ORDER BY c.division, o.currency",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Date, _>(today)
    .bind::<Date, _>(expiring_until)
    .load(conn)
    .await?)
}
