//! Inactive periods: days on which a customer is not contacted, or gets no delivery.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::master::InactivePeriodRow;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, Date, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::customer::CUSTOMER;
use crate::import::{self, Load, Spec, date, text};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// An inactive period.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Period {
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    #[diesel(sql_type = Text)]
    pub id: String,
    #[diesel(sql_type = Text)]
    pub day_type: String,
    #[diesel(sql_type = Array<SmallInt>)]
    pub weekdays: Vec<i16>,
    #[diesel(sql_type = Date)]
    pub first_day: NaiveDate,
    #[diesel(sql_type = Date)]
    pub last_day: NaiveDate,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Load for InactivePeriodRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("inactive_period")
            .stamped()
            .send(text("customer_number", |r| &r.customer_number))
            .reference(CUSTOMER)
            .key_from("customer_id", "c.id")
            .key(text("id", |r| &r.id))
            .value(text("day_type", |r| r.day_type))
            .send(text("days", |r| &r.weekdays))
            .value_from(
                "weekdays",
                "string_to_array(s.days, ',')::smallint[]",
                &["weekdays"],
            )
            .send(date("first_date", |r| Some(r.first_date)))
            .value_from("first_day", "s.first_date", &["first_date"])
            .send(date("last_date", |r| Some(r.last_date)))
            .value_from("last_day", "s.last_date", &["last_date"])
            .value(text("reason", |r| &r.reason));
        vec![spec]
    }
}

const SELECT: &str =
    "SELECT c.number AS customer_number, p.id, p.day_type, p.weekdays, p.first_day,
            p.last_day, p.reason, p.created_at, p.updated_at
     FROM inactive_period p
     JOIN customer c ON c.tenant_id = p.tenant_id AND c.id = p.customer_id
     WHERE p.tenant_id = $1";

/// The name of a period.
pub fn resource(customer: &str, id: &str) -> String {
    anklang_domain::name::format(&[("customers", customer), ("inactivePeriods", id)])
}

/// A customer's period.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    customer: &str,
    id: &str,
) -> Result<Option<Period>> {
    Ok(
        diesel::sql_query(format!("{SELECT} AND c.number = $2 AND p.id = $3"))
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(customer)
            .bind::<Text, _>(id)
            .get_result(&mut conn)
            .await
            .optional()?,
    )
}

/// What inactive periods are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("inactive_period_id", Kind::Text, "id"),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::column(
            "day_type",
            Kind::Word("DAY_TYPE_", &["contact", "delivery"]),
        ),
        Field::new("first_date", Kind::Date, "first_day"),
        Field::new("last_date", Kind::Date, "last_day"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[
        Sort::key("customer_number", "::text", false),
        Sort::key("id", "::text", false),
    ],
};

/// A page of periods of one customer (by number) or of all.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    customer: Option<String>,
    list: &List,
) -> Result<Page<Period>> {
    static BASE: LazyLock<String> =
        LazyLock::new(|| format!("{SELECT} AND ($2 IS NULL OR c.number = $2)"));
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(customer),
        ],
    );
    list.load(conn, base).await
}

/// Replaces a period, or adds it if it may be missing.
///
/// # Errors
/// `Missing` when there is none and may not be; `Invalid` when there is no such customer.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    row: InactivePeriodRow,
    allow_missing: bool,
) -> Result<Period> {
    let (customer, id) = (row.customer_number.clone(), row.id.clone());
    let missing = || StoreError::Missing(resource(&customer, &id));
    if !allow_missing && get(conn, tenant, &customer, &id).await?.is_none() {
        return Err(missing());
    }
    import::one(conn, tenant, row).await?;
    get(conn, tenant, &customer, &id).await?.ok_or_else(missing)
}

/// Deletes a period.
///
/// # Errors
/// `Missing` when there is none.
pub async fn delete(conn: &mut Conn, tenant: TenantId, customer: &str, id: &str) -> Result<()> {
    let rows = diesel::sql_query(
        "DELETE FROM inactive_period p USING customer c
         WHERE p.tenant_id = $1 AND c.tenant_id = $1 AND c.id = p.customer_id AND c.number = $2
           AND p.id = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(customer)
    .bind::<Text, _>(id)
    .execute(conn)
    .await?;
    match rows {
        0 => Err(StoreError::Missing(resource(customer, id))),
        _ => Ok(()),
    }
}
