//! Customers with contact points, consents, attributes and history.

mod load;
mod replace;

use std::collections::HashMap;

use anklang_domain::TenantId;
use anklang_domain::master::AttributeValue;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Date, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::attribute::{self, Owner};
use crate::{Conn, Result, import};

pub(crate) use load::CUSTOMER;
pub use replace::{CustomerUpdate, replace};

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Customer {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub number: String,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub salutation: String,
    #[diesel(sql_type = Text)]
    pub title: String,
    #[diesel(sql_type = Text)]
    pub first_name: String,
    #[diesel(sql_type = Text)]
    pub last_name: String,
    #[diesel(sql_type = Text)]
    pub company_name: String,
    #[diesel(sql_type = Text)]
    pub customer_group: String,
    #[diesel(sql_type = Text)]
    pub language: String,
    #[diesel(sql_type = Text)]
    pub time_zone: String,
    #[diesel(sql_type = Nullable<Date>)]
    pub birth_date: Option<NaiveDate>,
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
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// One address on one channel.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct ContactPoint {
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
    #[diesel(sql_type = Text)]
    pub channel: String,
    #[diesel(sql_type = Text)]
    pub address: String,
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Consent {
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
    #[diesel(sql_type = Text)]
    pub channel: String,
    #[diesel(sql_type = Text)]
    pub purpose: String,
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Text)]
    pub evidence: String,
    #[diesel(sql_type = Timestamptz)]
    pub recorded_at: DateTime<Utc>,
}

/// A customer with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerDetails {
    /// The customer.
    pub customer: Customer,
    /// By channel, best first.
    pub contact_points: Vec<ContactPoint>,
    /// By channel and purpose.
    pub consents: Vec<Consent>,
    /// By key.
    pub attributes: Vec<(String, AttributeValue)>,
}

/// One line of a customer's history.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct CustomerEvent {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Timestamptz)]
    pub occurred_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub resource: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub campaign_id: Option<Uuid>,
    #[diesel(sql_type = Jsonb)]
    pub details: serde_json::Value,
}

/// The customer with that number.
pub async fn get(
    conn: &mut Conn,
    tenant: TenantId,
    number: &str,
) -> Result<Option<CustomerDetails>> {
    let customers: Vec<Customer> =
        diesel::sql_query("SELECT * FROM customer WHERE tenant_id = $1 AND number = $2")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(number)
            .load(conn)
            .await?;
    Ok(with_details(conn, tenant, customers).await?.pop())
}

/// At most `limit` customers by number, from the one after `after`.
pub async fn list(
    conn: &mut Conn,
    tenant: TenantId,
    after: &str,
    limit: i64,
) -> Result<Vec<CustomerDetails>> {
    let customers: Vec<Customer> = diesel::sql_query(
        "SELECT * FROM customer WHERE tenant_id = $1 AND number > $2 ORDER BY number LIMIT $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    with_details(conn, tenant, customers).await
}

async fn with_details(
    conn: &mut Conn,
    tenant: TenantId,
    customers: Vec<Customer>,
) -> Result<Vec<CustomerDetails>> {
    let ids: Vec<Uuid> = customers.iter().map(|c| c.id).collect();
    let contact_points: Vec<ContactPoint> = diesel::sql_query(
        "SELECT customer_id, channel, address FROM contact_point
         WHERE tenant_id = $1 AND customer_id = ANY($2)
         ORDER BY customer_id, channel, position, address",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(conn)
    .await?;
    let consents: Vec<Consent> = diesel::sql_query(
        "SELECT customer_id, channel, purpose, state, source, evidence, recorded_at FROM consent
         WHERE tenant_id = $1 AND customer_id = ANY($2)
         ORDER BY customer_id, channel, purpose",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(conn)
    .await?;
    let mut attributes = attribute::of(conn, tenant, Owner::Customer, &ids).await?;
    let mut contact_points = grouped(contact_points, |p| p.customer_id);
    let mut consents = grouped(consents, |c| c.customer_id);
    Ok(customers
        .into_iter()
        .map(|customer| CustomerDetails {
            contact_points: contact_points.remove(&customer.id).unwrap_or_default(),
            consents: consents.remove(&customer.id).unwrap_or_default(),
            attributes: attributes.remove(&customer.id).unwrap_or_default(),
            customer,
        })
        .collect())
}

/// Parts by what they belong to, their order kept.
pub(crate) fn grouped<P>(parts: Vec<P>, owner: impl Fn(&P) -> Uuid) -> HashMap<Uuid, Vec<P>> {
    let mut groups: HashMap<Uuid, Vec<P>> = HashMap::new();
    for part in parts {
        groups.entry(owner(&part)).or_default().push(part);
    }
    groups
}

/// At most `limit` lines of a customer's history, newest first, from the one before `before`;
/// `None` when there is no such customer.
pub async fn events(
    conn: &mut Conn,
    tenant: TenantId,
    number: &str,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Option<Vec<CustomerEvent>>> {
    let sql = "SELECT id FROM customer WHERE tenant_id = $1 AND number = $2";
    let Some(id) = import::id_of(conn, tenant, sql, number).await? else {
        return Ok(None);
    };
    let events = diesel::sql_query(
        "SELECT id, kind, occurred_at, resource, campaign_id, details FROM customer_event
         WHERE tenant_id = $1 AND customer_id = $2 AND id < $3
         ORDER BY id DESC LIMIT $4",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(before.unwrap_or(Uuid::max()))
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(Some(events))
}
