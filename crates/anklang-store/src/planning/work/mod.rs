//! The work list: planned contacts in the hands of people, and what came of them.
//!
//! # Guarantees
//! - A contact is in one person's hands: [`claim::next`] holds it by a statement with
//!   `FOR UPDATE SKIP LOCKED`; who asks at the same time gets another one and waits for nobody. Only with
//!   a contact budget claims take turns, as those of messages do ([`crate::budget`]): two of them must
//!   not each give a customer its last contact.
//! - The fence of a claim is its id. One that has run out is taken back by the next claim of the tenant, or
//!   by the sweep; from then on nothing is believed under it. Nor is it once the customer is where the claim's holder
//!   does not see it ([`crate::units`]).
//! - What came of a contact, its attempt and the line in the customer's history are one statement.
//!
//! # Trade-offs
//! Whether a contact may be made is looked at when it is the next one: exact at that moment. One that may not
//! is put aside until it can be made again, or for an hour when nobody knows until when, so that it is not
//! looked at by each claim; what changes meanwhile counts that much later.

pub mod analysis;
pub mod attempt;
mod bars;
pub mod change;
pub mod claim;
mod follow_up;
mod next;
pub mod order;
pub mod outcome;
pub mod record;
mod rules;
pub mod watch;

pub use rules::Warning;

use std::sync::LazyLock;

use anklang_domain::TenantId;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Bool, Date, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::sql::Fix;
use crate::units::CLAIM_LEFT;
use crate::{Conn, Result, StoreError};

/// What calls are for that belong to no campaign: the word of consents, and of purposes that a contact
/// budget leaves out.
pub const PURPOSE: &str = "call";

/// Classes of attempts in which somebody spoke to the customer, as a list in SQL.
pub(crate) const REACHED: &str = "'done', 'order_taken', 'call_later'";

/// A contact as decisions go by it.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct Standing {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) customer_id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) plan_code: Option<String>,
    #[diesel(sql_type = Date)]
    pub(crate) contact_date: NaiveDate,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) contact_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) window_from: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub(crate) window_to: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub(crate) state: String,
    #[diesel(sql_type = Integer)]
    pub(crate) attempts: i32,
    #[diesel(sql_type = Text)]
    pub(crate) responsible: String,
    #[diesel(sql_type = Bool)]
    pub(crate) any_time: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) next_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub(crate) claim_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) claimed_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) claim_until: Option<DateTime<Utc>>,
    /// It is claimed by who does not see the customer any more.
    #[diesel(sql_type = Bool)]
    pub(crate) claim_left: bool,
    /// From when on it is given up.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(crate) ends_at: Option<DateTime<Utc>>,
    /// Why it is called off once it is free; empty: it is not.
    #[diesel(sql_type = Text)]
    pub(crate) end_reason: String,
    /// Of its plan, or of the tenant.
    #[diesel(sql_type = Text)]
    pub(crate) time_zone: String,
    /// The time of the database.
    #[diesel(sql_type = Timestamptz)]
    pub(crate) now: DateTime<Utc>,
}

/// The name of the contact with that id.
pub fn resource(id: Uuid) -> String {
    anklang_domain::name::format(&[("plannedContacts", &id.to_string())])
}

/// A contact as it stands, which nobody else changes until the end of the transaction.
///
/// # Errors
/// `Missing` when there is none.
pub(crate) async fn hold(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<Standing> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT k.customer_id, k.plan_code, k.contact_date, k.contact_at, k.window_from, k.window_to,
                    k.state, k.attempts, k.responsible, k.any_time, k.next_at, k.claim_id, k.claimed_by,
                    k.claim_until, k.state = 'claimed' AND {CLAIM_LEFT} AS claim_left, k.ends_at, k.end_reason,
                    coalesce(nullif(p.time_zone, ''), t.time_zone) AS time_zone, now() AS now
             FROM planned_contact k
             JOIN tenant t ON t.id = k.tenant_id
             LEFT JOIN contact_plan p ON p.tenant_id = k.tenant_id AND p.code = k.plan_code
             WHERE k.tenant_id = $1 AND k.id = $2 FOR UPDATE OF k"
        )
    });
    let found = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .fixed()
        .get_result(conn)
        .await;
    let found: Option<Standing> = found.optional()?;
    found.ok_or_else(|| StoreError::Missing(resource(id)))
}

impl Standing {
    fn when(&self) -> rules::When<'_> {
        rules::When {
            zone: &self.time_zone,
            date: self.contact_date,
            at: self.contact_at,
            from: self.window_from,
            to: self.window_to,
            named: self.next_at.filter(|_| self.any_time),
            now: self.now,
        }
    }

    /// Whether it is under a claim that is over.
    fn has_run_out(&self) -> bool {
        let is_late = self.claim_until.is_some_and(|until| until <= self.now);
        self.state == "claimed" && (is_late || self.claim_left)
    }

    /// Refuses what is over or in somebody's hands.
    pub(crate) fn must_be_free(&self, id: Uuid) -> Result<()> {
        match &self.state[..] {
            "open" | "waiting" => Ok(()),
            "claimed" => {
                let who = self.claimed_by.as_deref().unwrap_or_default();
                Err(refused(id, format!("it is in the hands of {who}")))
            }
            state => Err(over(id, state)),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(&self.state[..], "done" | "given_up" | "cancelled")
    }

    /// Refuses what is not under this claim any more.
    pub(crate) fn must_be_under(&self, id: Uuid, claim: Uuid) -> Result<()> {
        match &self.state[..] {
            _ if self.claim_id == Some(claim) && !self.claim_left => Ok(()),
            "open" | "waiting" | "claimed" => Err(refused(
                id,
                "the claim is over; claim the contact again".into(),
            )),
            state => Err(over(id, state)),
        }
    }
}

fn over(id: Uuid, state: &str) -> StoreError {
    refused(id, format!("it is over: {}", state.replace('_', " ")))
}

fn refused(id: Uuid, reason: String) -> StoreError {
    StoreError::Refused {
        resource: resource(id),
        reason,
    }
}
