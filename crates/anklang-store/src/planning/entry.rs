//! Plan entries: customers in contact plans, each at a time of the day.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::master::PlanEntryRow;
use anklang_domain::master::planning::time_text;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use diesel::sql_types::{Array, Date, Integer, Nullable, Text, Time, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::customer::CUSTOMER;
use crate::import::{self, Load, Reference, Spec, date, int, text};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A plan entry.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Entry {
    #[diesel(sql_type = Text)]
    pub plan_code: String,
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    #[diesel(sql_type = Time)]
    pub contact_time: NaiveTime,
    #[diesel(sql_type = Text)]
    pub contact_person: String,
    #[diesel(sql_type = Text)]
    pub phone: String,
    #[diesel(sql_type = Nullable<Time>)]
    pub earliest: Option<NaiveTime>,
    #[diesel(sql_type = Nullable<Time>)]
    pub latest: Option<NaiveTime>,
    #[diesel(sql_type = Integer)]
    pub priority: i32,
    #[diesel(sql_type = Array<Text>)]
    pub skills: Vec<String>,
    #[diesel(sql_type = Nullable<Date>)]
    pub valid_from: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub valid_to: Option<NaiveDate>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// What an entry is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryKey {
    /// The plan's code.
    pub plan: String,
    /// The customer's number.
    pub customer: String,
    /// When to contact the customer.
    pub time: NaiveTime,
}

impl EntryKey {
    /// The name of the entry.
    pub fn resource(&self) -> String {
        resource(&self.plan, &self.customer, self.time)
    }
}

/// The name of an entry.
pub fn resource(plan: &str, customer: &str, time: NaiveTime) -> String {
    let id = format!("{}-{customer}", time.format("%H%M"));
    anklang_domain::name::format(&[("contactPlans", plan), ("entries", &id)])
}

impl Entry {
    /// What it is known by.
    pub fn key(&self) -> EntryKey {
        EntryKey {
            plan: self.plan_code.clone(),
            customer: self.customer_number.clone(),
            time: self.contact_time,
        }
    }
}

/// The plan that a row belongs to, and what it allows.
const PLAN: Reference = Reference {
    field: "plan_code",
    join: "LEFT JOIN LATERAL (SELECT valid_from, valid_to, earliest, latest, code FROM contact_plan
           WHERE tenant_id = (SELECT $1) AND code = s.plan_code OFFSET 0) p ON true",
    good: "p.code IS NOT NULL",
    reason: "'there is no contact plan with this code'",
};
const FROM: Reference = Reference {
    field: "valid_from",
    join: "",
    good: "s.valid_from IS NULL OR p.code IS NULL
           OR s.valid_from BETWEEN p.valid_from AND coalesce(p.valid_to, 'infinity')",
    reason: "'is outside of the validity of the plan, which is from ' || p.valid_from
           || coalesce(' to ' || p.valid_to, '')",
};
const TO: Reference = Reference {
    field: "valid_to",
    join: "",
    good: "s.valid_to IS NULL OR p.code IS NULL
           OR s.valid_to BETWEEN p.valid_from AND coalesce(p.valid_to, 'infinity')",
    reason: FROM.reason,
};
const HOURS: Reference = Reference {
    field: "contact_time",
    join: "",
    good: "p.code IS NULL OR (
           (s.earliest_time <> '' OR p.earliest IS NULL OR p.earliest <= s.contact::time)
           AND (s.latest_time <> '' OR p.latest IS NULL OR p.latest >= s.contact::time))",
    reason: "'is outside of the hours of the plan, which are from '
           || to_char(coalesce(p.earliest, '00:00'), 'HH24:MI')
           || coalesce(' to ' || to_char(p.latest, 'HH24:MI'), '')",
};

impl Load for PlanEntryRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("plan_entry")
            .with_id()
            .stamped()
            .reference(PLAN)
            .reference(CUSTOMER)
            .reference(FROM)
            .reference(TO)
            .reference(HOURS)
            .key(text("plan_code", |r| &r.plan_code))
            .send(text("customer_number", |r| &r.customer_number))
            .key_from("customer_id", "c.id")
            .send(text("contact", |r| &r.contact_time))
            .key_from("contact_time", "s.contact::time")
            .value(text("contact_person", |r| &r.contact_person))
            .value(text("phone", |r| &r.phone))
            .send(text("earliest_time", |r| &r.earliest_time))
            .value_from(
                "earliest",
                "nullif(s.earliest_time, '')::time",
                &["earliest_time"],
            )
            .send(text("latest_time", |r| &r.latest_time))
            .value_from(
                "latest",
                "nullif(s.latest_time, '')::time",
                &["latest_time"],
            )
            .value(int("priority", |r| r.priority))
            .send(text("skill_list", |r| &r.skills))
            .value_from("skills", "string_to_array(s.skill_list, ',')", &["skills"])
            .value(date("valid_from", |r| r.valid_from))
            .value(date("valid_to", |r| r.valid_to));
        vec![spec]
    }
}

const SELECT: &str = "SELECT e.plan_code, c.number AS customer_number, e.contact_time,
            e.contact_person, e.phone, e.earliest, e.latest, e.priority, e.skills, e.valid_from,
            e.valid_to, e.created_at, e.updated_at
     FROM plan_entry e
     JOIN customer c ON c.tenant_id = e.tenant_id AND c.id = e.customer_id
     WHERE e.tenant_id = $1";

/// The entry with that key.
pub async fn get(mut conn: &Conn, tenant: TenantId, key: &EntryKey) -> Result<Option<Entry>> {
    let sql = format!("{SELECT} AND e.plan_code = $2 AND c.number = $3 AND e.contact_time = $4");
    Ok(diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(&key.plan)
        .bind::<Text, _>(&key.customer)
        .bind::<Time, _>(key.time)
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// What plan entries are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::resource(
            "contact_plan",
            &[Part::new("contactPlans", "plan_code", PartType::Text)],
        ),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::new("contact_time", Kind::Text, "clock"),
        Field::column("priority", Kind::Number),
        Field::nullable("valid_from_date", Kind::Date, "valid_from"),
        Field::nullable("valid_to_date", Kind::Date, "valid_to"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[
        Sort::key("customer_number", "::text", false),
        Sort::key("plan_code", "::text", false),
        Sort::key("clock", "::text", false),
    ],
};

/// A page of entries of one plan or of all.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    plan: Option<String>,
    list: &List,
) -> Result<Page<Entry>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        let select = SELECT.replacen(
            "SELECT ",
            "SELECT to_char(e.contact_time, 'HH24:MI') AS clock, ",
            1,
        );
        format!("{select} AND ($2 IS NULL OR e.plan_code = $2)")
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(plan),
        ],
    );
    list.load(conn, base).await
}

/// Replaces an entry, or adds it if it may be missing.
///
/// # Errors
/// `Missing` when there is none and may not be; `Invalid` when plan or customer do not exist, or the
/// plan does not allow its validity or contact time.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    key: &EntryKey,
    row: PlanEntryRow,
    allow_missing: bool,
) -> Result<Entry> {
    debug_assert_eq!(row.contact_time, time_text(key.time));
    let missing = || StoreError::Missing(key.resource());
    if !allow_missing && get(conn, tenant, key).await?.is_none() {
        return Err(missing());
    }
    import::one(conn, tenant, row).await?;
    get(conn, tenant, key).await?.ok_or_else(missing)
}

/// Deletes an entry and its contacts that nobody was at; the others stay without it.
///
/// # Errors
/// `Missing` when there is none.
pub async fn delete(conn: &mut Conn, tenant: TenantId, key: &EntryKey) -> Result<()> {
    #[derive(QueryableByName)]
    struct Gone {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    // By itself: a generation may have made contacts of it that only the next statement sees.
    let gone: Option<Gone> = diesel::sql_query(
        "SELECT e.id FROM plan_entry e
         JOIN customer c ON c.tenant_id = e.tenant_id AND c.id = e.customer_id
         WHERE e.tenant_id = $1 AND e.plan_code = $2 AND c.number = $3 AND e.contact_time = $4
         FOR UPDATE OF e",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(&key.plan)
    .bind::<Text, _>(&key.customer)
    .bind::<Time, _>(key.time)
    .get_result(conn)
    .await
    .optional()?;
    let gone = gone.ok_or_else(|| StoreError::Missing(key.resource()))?;
    diesel::sql_query(
        "WITH contacts AS (
             DELETE FROM planned_contact
             WHERE tenant_id = $1 AND entry_id = $2
               AND state = 'open' AND attempts = 0 AND marks = '{}')
         DELETE FROM plan_entry WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(gone.id)
    .execute(conn)
    .await?;
    Ok(())
}
