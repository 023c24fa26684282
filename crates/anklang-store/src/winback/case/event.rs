//! What was done with cases.

use anklang_domain::TenantId;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::STATE;
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result};

/// A line in the history of a case.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Event {
    #[diesel(sql_type = Text)]
    pub kind: String,
    #[diesel(sql_type = Text)]
    pub from_state: String,
    #[diesel(sql_type = Text)]
    pub to_state: String,
    #[diesel(sql_type = Text)]
    pub actor: String,
    #[diesel(sql_type = Jsonb)]
    pub detail: serde_json::Value,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// What events are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column(
            "kind",
            Kind::Word(
                "WINBACK_CASE_EVENT_KIND_",
                &[
                    "opened",
                    "no_interest",
                    "offer_requested",
                    "mailed",
                    "reminder",
                    "remark",
                    "won_back",
                    "moved",
                ],
            ),
        ),
        Field::column("from_state", STATE),
        Field::column("to_state", STATE),
        Field::column("actor", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[
        Sort::key("created_at", "::timestamptz", true),
        Sort::key("id", "::uuid", true),
    ],
};

/// A page of a case's history, the newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, case: Uuid, list: &List) -> Result<Page<Event>> {
    let base = Statement::numbered(
        "SELECT id, kind, from_state, to_state, actor, detail, created_at
         FROM winback_case_event WHERE tenant_id = $1 AND case_id = $2",
        &[bound::<SqlUuid, _>(tenant.0), bound::<SqlUuid, _>(case)],
    );
    list.load(conn, base).await
}
