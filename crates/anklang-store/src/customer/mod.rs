//! Customers with contact points, consents, attributes and history.

mod load;
mod replace;

use std::collections::HashMap;

use anklang_domain::TenantId;
use anklang_domain::master::AttributeValue;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Date, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::attribute::{self, Owner};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
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
    #[diesel(sql_type = Nullable<Text>)]
    pub org_unit_code: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub erased_at: Option<DateTime<Utc>>,
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
    mut conn: &Conn,
    tenant: TenantId,
    number: &str,
) -> Result<Option<CustomerDetails>> {
    let customers: Vec<Customer> =
        diesel::sql_query("SELECT * FROM customer WHERE tenant_id = $1 AND number = $2")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(number)
            .load(&mut conn)
            .await?;
    Ok(with_details(conn, tenant, customers).await?.pop())
}

/// What customers are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("number", Kind::Text),
        Field::column("kind", Kind::Word("CUSTOMER_KIND_", &["person", "company"])),
        Field::column("title", Kind::Text),
        Field::column("first_name", Kind::Text),
        Field::column("last_name", Kind::Text),
        Field::column("company_name", Kind::Text),
        Field::column("customer_group", Kind::Text),
        Field::column("language", Kind::Text),
        Field::column("time_zone", Kind::Text),
        Field::nullable("birth_date", Kind::Date, "birth_date"),
        Field::column("street", Kind::Text),
        Field::column("house_number", Kind::Text),
        Field::column("postal_code", Kind::Text),
        Field::column("city", Kind::Text),
        Field::column("country", Kind::Text),
        Field::resource(
            "org_unit",
            &[Part::new("orgUnits", "org_unit_code", PartType::Text)],
        ),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
        Field::nullable("erase_time", Kind::Time, "erased_at"),
    ],
    key: &[Sort::key("number", "::text", false)],
};

/// A page of customers, by number if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<CustomerDetails>> {
    let base = Statement::numbered(
        "SELECT *, id AS customer_id FROM customer WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    let page: Page<Customer> = list.load_of_customers(conn, tenant, base).await?;
    Ok(Page {
        rows: with_details(conn, tenant, page.rows).await?,
        next: page.next,
    })
}

async fn with_details(
    mut conn: &Conn,
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
    .load(&mut conn)
    .await?;
    let consents: Vec<Consent> = diesel::sql_query(
        "SELECT customer_id, channel, purpose, state, source, evidence, recorded_at FROM consent
         WHERE tenant_id = $1 AND customer_id = ANY($2)
         ORDER BY customer_id, channel, purpose",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(&mut conn)
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

/// What the lines of a customer's history are listed by.
pub static EVENTS: Listable = Listable {
    fields: &[
        Field::column("kind", Kind::Text),
        Field::new("event_time", Kind::Time, "occurred_at"),
        Field::column("resource", Kind::Text),
        Field::resource(
            "campaign",
            &[Part::new("campaigns", "campaign_id", PartType::Uuid)],
        ),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of a customer's history, newest first if not otherwise wanted; `None` when there is no
/// such customer.
pub async fn events(
    conn: &Conn,
    tenant: TenantId,
    number: &str,
    list: &List,
) -> Result<Option<Page<CustomerEvent>>> {
    let sql = "SELECT id FROM customer WHERE tenant_id = $1 AND number = $2";
    let Some(id) = import::id_of(conn, tenant, sql, number).await? else {
        return Ok(None);
    };
    let base = Statement::numbered(
        "SELECT id, kind, occurred_at, resource, campaign_id, details FROM customer_event
         WHERE tenant_id = $1 AND customer_id = $2",
        &[bound::<SqlUuid, _>(tenant.0), bound::<SqlUuid, _>(id)],
    );
    Ok(Some(list.load(conn, base).await?))
}
