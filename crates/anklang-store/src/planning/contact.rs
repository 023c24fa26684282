//! Planned contacts as they stand. What makes them is in [`super::generate`].

use std::sync::LazyLock;

use anklang_domain::TenantId;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use diesel::sql_types::{
    Array, Bool, Date, Integer, Nullable, Text, Time, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::listing::{Cell, Cells, Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result};

/// A planned contact.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Contact {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub plan_code: Option<String>,
    /// The plan of its entry, which is another one where an exception says so.
    #[diesel(sql_type = Nullable<Text>)]
    pub entry_plan: Option<String>,
    #[diesel(sql_type = Nullable<Time>)]
    pub entry_time: Option<NaiveTime>,
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// The customer's group, which the API does not show here.
    #[diesel(sql_type = Text)]
    pub customer_group: String,
    #[diesel(sql_type = Date)]
    pub plan_date: NaiveDate,
    #[diesel(sql_type = Date)]
    pub contact_date: NaiveDate,
    #[diesel(sql_type = Timestamptz)]
    pub contact_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub window_from: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub window_to: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub next_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Date>)]
    pub delivery_date: Option<NaiveDate>,
    #[diesel(sql_type = Text)]
    pub delivery_moved: String,
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub outcome_class: Option<String>,
    #[diesel(sql_type = Text)]
    pub outcome: String,
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    #[diesel(sql_type = Text)]
    pub responsible: String,
    #[diesel(sql_type = Integer)]
    pub priority: i32,
    #[diesel(sql_type = Array<Text>)]
    pub skills: Vec<String>,
    #[diesel(sql_type = Bool)]
    pub pinned: bool,
    #[diesel(sql_type = Bool)]
    pub moved: bool,
    #[diesel(sql_type = Bool)]
    pub worked_on: bool,
    #[diesel(sql_type = Nullable<Text>)]
    pub claimed_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub claim_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    pub passed_over: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub passed_over_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    pub contact_person: String,
    #[diesel(sql_type = Text)]
    pub phone: String,
    #[diesel(sql_type = Text)]
    pub note: String,
    #[diesel(sql_type = Text)]
    pub departure: String,
    #[diesel(sql_type = Text)]
    pub order_type: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub campaign_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Integer>)]
    pub phase_number: Option<i32>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub message_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub operation_id: Option<Uuid>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub contract_number: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ends_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Text)]
    pub end_reason: String,
}

/// SQL of the number to call in a contact: its own, that of its entry, or else the customer's best. That of a
/// campaign's contact is of the day of its launch, and counts as long as it is one of the customer's.
macro_rules! phone {
    ($tenant:literal, $contact:literal, $entry:literal) => {
        concat!(
            "coalesce(CASE WHEN ",
            $contact,
            ".outbound_id IS NULL OR EXISTS (
                SELECT FROM contact_point p
                WHERE p.tenant_id = ",
            $tenant,
            " AND p.customer_id = ",
            $contact,
            ".customer_id AND p.channel IN ('phone', 'mobile')
                  AND p.address = ",
            $contact,
            ".details->>'phone')
                THEN nullif(",
            $contact,
            ".details->>'phone', '') END, nullif(",
            $entry,
            ", ''), (SELECT p.address FROM contact_point p
                WHERE p.tenant_id = ",
            $tenant,
            " AND p.customer_id = ",
            $contact,
            ".customer_id AND p.channel IN ('phone', 'mobile')
                ORDER BY p.channel DESC, p.position, p.address LIMIT 1))"
        )
    };
}
pub(super) use phone;

/// Columns of a [`Contact`]; over [`JOINS`].
pub(super) const COLUMNS: &str = concat!(
    "k.id, k.customer_id, k.source, k.plan_code, e.plan_code AS entry_plan,
        e.contact_time AS entry_time, c.number AS customer_number, c.customer_group,
        k.plan_date, k.contact_date,
        k.contact_at, k.window_from, k.window_to, k.next_at, k.delivery_date, k.delivery_moved,
        k.state, k.outcome_class, k.outcome, k.attempts, k.responsible, k.priority, k.skills,
        'pinned' = ANY(k.marks) AS pinned, 'moved' = ANY(k.marks) AS moved,
        (k.state <> 'open' OR k.attempts > 0 OR 'worked_on' = ANY(k.marks)) AS worked_on,
        k.claimed_by, k.claim_until, k.passed_over,
        CASE WHEN k.passed_over <> '' THEN k.not_before END AS passed_over_until,
        coalesce(nullif(k.details->>'contact_person', ''), e.contact_person, '') AS contact_person,
        coalesce(",
    phone!("k.tenant_id", "k", "e.phone"),
    ", '') AS phone,
        coalesce(k.details->>'note', '') AS note,
        coalesce(l.departure, '') AS departure, coalesce(l.order_type, '') AS order_type,
        f.campaign_id, f.number AS phase_number, k.message_id, k.operation_id, k.created_at,
        k.updated_at, a.number AS offer_number, v.number AS contract_number, k.ends_at,
        k.end_reason"
);

/// What belongs to a contact `k`.
pub(super) const JOINS: &str =
    "JOIN customer c ON c.tenant_id = k.tenant_id AND c.id = k.customer_id
    LEFT JOIN plan_entry e ON e.tenant_id = k.tenant_id AND e.id = k.entry_id
    LEFT JOIN contact_plan l ON l.tenant_id = k.tenant_id AND l.code = k.plan_code
    LEFT JOIN outbound o ON o.tenant_id = k.tenant_id AND o.id = k.outbound_id
    LEFT JOIN phase f ON f.tenant_id = o.tenant_id AND f.id = o.phase_id
    LEFT JOIN offer a ON a.tenant_id = k.tenant_id AND a.id = k.offer_id
    LEFT JOIN contract v ON v.tenant_id = a.tenant_id AND v.id = a.contract_id";

/// Contacts of the tenant `$1`, `k`, with what belongs to them.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {COLUMNS} FROM planned_contact k {JOINS} WHERE k.tenant_id = $1")
});

/// The planned contact with that id.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: Uuid) -> Result<Option<Contact>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("{} AND k.id = $2", *SELECT));
    let found = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .fixed()
        .get_result(&mut conn)
        .await;
    Ok(found.optional()?)
}

/// The planned contacts with these ids, in any order.
pub(super) async fn several(
    conn: &mut Conn,
    tenant: TenantId,
    ids: &[Uuid],
) -> Result<Vec<Contact>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("{} AND k.id = ANY($2)", *SELECT));
    Ok(diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Array<SqlUuid>, _>(ids)
        .fixed()
        .load(conn)
        .await?)
}

/// Contacts with customers of the groups `$2`, of all when there are none.
pub(super) static OF_GROUPS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} AND (cardinality($2) = 0 OR c.customer_group = ANY($2))",
        *SELECT
    )
});

/// What filters compare.
impl Cells for Contact {
    fn cell(&self, column: &str) -> Option<Cell<'_>> {
        Some(match column {
            "id" => Cell::Uuid(self.id),
            "source" => Cell::Text(&self.source),
            "plan_code" => Cell::of_text(self.plan_code.as_deref()),
            "customer_number" => Cell::Text(&self.customer_number),
            "plan_date" => Cell::Date(self.plan_date),
            "contact_date" => Cell::Date(self.contact_date),
            "contact_at" => Cell::Time(self.contact_at),
            "next_at" => self.next_at.map_or(Cell::Null, Cell::Time),
            "delivery_date" => self.delivery_date.map_or(Cell::Null, Cell::Date),
            "delivery_moved" => Cell::Text(&self.delivery_moved),
            "state" => Cell::Text(&self.state),
            "outcome_class" => Cell::of_text(self.outcome_class.as_deref()),
            "outcome" => Cell::Text(&self.outcome),
            "attempts" => Cell::Number(self.attempts.into()),
            "responsible" => Cell::Text(&self.responsible),
            "priority" => Cell::Number(self.priority.into()),
            "pinned" => Cell::Flag(self.pinned),
            "moved" => Cell::Flag(self.moved),
            "worked_on" => Cell::Flag(self.worked_on),
            "claimed_by" => Cell::of_text(self.claimed_by.as_deref()),
            "message_id" => self.message_id.map_or(Cell::Null, Cell::Uuid),
            "operation_id" => self.operation_id.map_or(Cell::Null, Cell::Uuid),
            "created_at" => Cell::Time(self.created_at),
            "updated_at" => Cell::Time(self.updated_at),
            "campaign_id" => self.campaign_id.map_or(Cell::Null, Cell::Uuid),
            "phase_number" => (self.phase_number).map_or(Cell::Null, |n| Cell::Number(n.into())),
            "offer_number" => Cell::of_text(self.offer_number.as_deref()),
            "contract_number" => Cell::of_text(self.contract_number.as_deref()),
            "ends_at" => self.ends_at.map_or(Cell::Null, Cell::Time),
            "end_reason" => Cell::Text(&self.end_reason),
            "passed_over" => Cell::Text(&self.passed_over),
            _ => return None,
        })
    }
}

/// What planned contacts are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column(
            "source",
            Kind::Word(
                "PLANNED_CONTACT_SOURCE_",
                &["plan", "campaign", "manual", "handover"],
            ),
        ),
        Field::resource(
            "contact_plan",
            &[Part::new("contactPlans", "plan_code", PartType::Text)],
        ),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::column("plan_date", Kind::Date),
        Field::column("contact_date", Kind::Date),
        Field::new("contact_time", Kind::Time, "contact_at"),
        Field::nullable("next_contact_time", Kind::Time, "next_at"),
        Field::nullable("delivery_date", Kind::Date, "delivery_date"),
        Field::column(
            "delivery_moved",
            Kind::Word("DELIVERY_MOVED_", &["exception", "no_workday", "inactive"]),
        ),
        Field::column(
            "state",
            Kind::Word(
                "PLANNED_CONTACT_STATE_",
                &[
                    "open",
                    "claimed",
                    "waiting",
                    "done",
                    "given_up",
                    "cancelled",
                ],
            ),
        ),
        Field::nullable(
            "outcome_class",
            Kind::Word(
                "OUTCOME_CLASS_",
                &[
                    "done",
                    "order_taken",
                    "not_reached",
                    "busy",
                    "call_later",
                    "cancelled",
                ],
            ),
            "outcome_class",
        ),
        Field::column("outcome", Kind::Text),
        Field::new("attempt_count", Kind::Number, "attempts"),
        Field::column("responsible", Kind::Text),
        Field::column("priority", Kind::Number),
        Field::column("pinned", Kind::Flag),
        Field::column("moved", Kind::Flag),
        Field::column("worked_on", Kind::Flag),
        Field::nullable("claimed_by", Kind::Text, "claimed_by"),
        Field::column(
            "passed_over",
            Kind::Word(
                "PASSED_OVER_",
                &[
                    "outside_window",
                    "no_workday",
                    "customer_inactive",
                    "number_blocked",
                    "no_consent",
                    "budget_used_up",
                    "held",
                    "ended",
                ],
            ),
        ),
        Field::resource(
            "phase",
            &[
                Part::new("campaigns", "campaign_id", PartType::Uuid),
                Part::new("phases", "phase_number", PartType::Integer),
            ],
        ),
        Field::resource(
            "message",
            &[Part::new("messages", "message_id", PartType::Uuid)],
        ),
        Field::resource(
            "operation",
            &[Part::new("operations", "operation_id", PartType::Uuid)],
        ),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
        Field::resource(
            "offer",
            &[Part::new("offers", "offer_number", PartType::Text)],
        ),
        Field::resource(
            "contract",
            &[Part::new("contracts", "contract_number", PartType::Text)],
        ),
        Field::nullable("expire_time", Kind::Time, "ends_at"),
        Field::column("end_reason", Kind::Text),
    ],
    key: &[
        Sort::key("contact_date", "::date", false),
        Sort::key("id", "::uuid", false),
    ],
};

/// A page of planned contacts, by contact date if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Contact>> {
    let base = Statement::numbered(&SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    list.load_of_customers(conn, tenant, base).await
}
