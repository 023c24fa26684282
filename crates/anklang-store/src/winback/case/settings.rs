//! What of the tenant's settings working on cases goes by.

use anklang_domain::TenantId;
use anklang_domain::winback::REMINDER_DAYS;
use diesel::sql_types::{Jsonb, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde::Deserialize;

use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// The settings, as far as they are about working; the usual ones where the tenant has none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Working {
    /// Its currency.
    pub currency: String,
    /// Days of a reminder unless somebody says otherwise.
    pub reminder_days: u32,
    /// Id of the workday calendar in which reminders end on workdays.
    pub calendar: Option<String>,
    /// Pages of the tenant's own.
    pub links: Links,
    /// Where requests for offers go.
    pub offer_mail_to: String,
}

/// Pages of the tenant's own, with `{number}`; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Links {
    /// Of a customer.
    pub customer: String,
    /// Of a product.
    pub product: String,
    /// Of an order.
    pub order: String,
}

impl Default for Working {
    fn default() -> Self {
        Working {
            currency: "EUR".into(),
            reminder_days: REMINDER_DAYS,
            calendar: None,
            links: Links::default(),
            offer_mail_to: String::new(),
        }
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Jsonb)]
    settings: serde_json::Value,
}

/// The settings that hold.
///
/// # Errors
/// `Stored` when another version wrote what this one does not know.
pub async fn working(conn: &mut Conn, tenant: TenantId) -> Result<Working> {
    let found = diesel::sql_query(
        "SELECT settings FROM winback_settings WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .fixed()
    .get_result(conn)
    .await;
    let found: Option<Row> = found.optional()?;
    match found {
        None => Ok(Working::default()),
        Some(row) => serde_json::from_value(row.settings)
            .map_err(|e| StoreError::Stored(format!("winback settings: {e}"))),
    }
}
