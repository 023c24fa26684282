//! Attempts to reach customers, as they were recorded.

use anklang_domain::TenantId;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Integer, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result};

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Attempt {
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    #[diesel(sql_type = Text)]
    pub worker: String,
    #[diesel(sql_type = Timestamptz)]
    pub recorded_at: DateTime<Utc>,
    #[diesel(sql_type = Integer)]
    pub talk_seconds: i32,
    #[diesel(sql_type = Text)]
    pub outcome_class: String,
    #[diesel(sql_type = Text)]
    pub outcome: String,
    #[diesel(sql_type = Text)]
    pub note: String,
    #[diesel(sql_type = Bool)]
    pub outside_window: bool,
    #[diesel(sql_type = Text)]
    pub escalated_to: String,
}

/// Classes of outcomes.
pub(super) const CLASS: Kind = Kind::Word(
    "OUTCOME_CLASS_",
    &[
        "done",
        "order_taken",
        "not_reached",
        "busy",
        "call_later",
        "cancelled",
    ],
);

/// What attempts are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("attempt", Kind::Number),
        Field::column("worker", Kind::Text),
        Field::new("record_time", Kind::Time, "recorded_at"),
        Field::column("outcome_class", CLASS),
        Field::column("outcome", Kind::Text),
        Field::column("outside_window", Kind::Flag),
        Field::column("escalated_to", Kind::Text),
    ],
    key: &[Sort::key("attempt", "::integer", false)],
};

/// A page of a contact's attempts, the first one first if not otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    contact: Uuid,
    list: &List,
) -> Result<Page<Attempt>> {
    let base = Statement::numbered(
        "SELECT attempt, worker, recorded_at, talk_seconds, outcome_class, outcome, note,
                outside_window, escalated_to
         FROM contact_attempt WHERE tenant_id = $1 AND contact_id = $2",
        &[bound::<SqlUuid, _>(tenant.0), bound::<SqlUuid, _>(contact)],
    );
    list.load(conn, base).await
}
