//! A case as decisions go by it.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::winback::{self, ActError, CaseState, Hold, NoInterestReason};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Date, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::resource;
use crate::sql::Fix;
use crate::units::CLAIM_LEFT;
use crate::{Conn, Result, StoreError};

/// A case that is locked.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its id.
    pub id: Uuid,
    /// For the rules.
    pub case: winback::Case,
    /// The claim that it was handed out under last, may be over.
    pub claim: Option<Uuid>,
    /// The time of the database.
    pub now: DateTime<Utc>,
    /// The tenant's day of it.
    pub today: NaiveDate,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Date)]
    opened_on: NaiveDate,
    #[diesel(sql_type = Nullable<Date>)]
    due_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    standard_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    voucher_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    contacted_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Text>)]
    no_interest: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    held_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    held_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    claim_id: Option<Uuid>,
    /// It is held by who does not see the customer any more.
    #[diesel(sql_type = Bool)]
    claim_left: bool,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = Date)]
    today: NaiveDate,
}

/// A case as it stands, which nobody else changes until the end of the transaction.
///
/// # Errors
/// `Missing` when there is none.
pub async fn hold(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<Standing> {
    let held = hold_many(conn, tenant, &[id]).await?.pop();
    held.ok_or_else(|| StoreError::Missing(resource(id)))
}

/// As [`hold`], of many, in the order of their ids; those that do not exist are left out.
pub(crate) async fn hold_many(
    conn: &mut Conn,
    tenant: TenantId,
    ids: &[Uuid],
) -> Result<Vec<Standing>> {
    // The clock and not now(): the lock may have been waited for.
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT k.id, k.state, k.opened_on, k.due_on, k.standard_on, k.voucher_on, k.contacted_on,
                    k.no_interest, k.held_by, k.held_until, k.claim_id,
                    k.claim_id IS NOT NULL AND {CLAIM_LEFT} AS claim_left, clock_timestamp() AS now,
                    (clock_timestamp() AT TIME ZONE t.time_zone)::date AS today
             FROM winback_case k
             JOIN tenant t ON t.id = k.tenant_id
             WHERE k.tenant_id = $1 AND k.id = ANY($2) ORDER BY k.id FOR UPDATE OF k"
        )
    });
    let found: Vec<Row> = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Array<SqlUuid>, _>(ids)
        .fixed()
        .load(conn)
        .await?;
    found.into_iter().map(Row::read).collect()
}

impl Row {
    fn read(self) -> Result<Standing> {
        let id = self.id;
        let unknown = |what: &str| StoreError::Stored(format!("{}: {what}", resource(id)));
        let state = CaseState::parse(&self.state).ok_or_else(|| unknown(&self.state))?;
        let no_interest = match &self.no_interest {
            None => None,
            Some(word) => Some(NoInterestReason::parse(word).ok_or_else(|| unknown(word))?),
        };
        let held = self.held_by.zip(self.held_until);
        let hold = held.filter(|_| !self.claim_left);
        Ok(Standing {
            id,
            case: winback::Case {
                state,
                opened_on: self.opened_on,
                due_on: self.due_on,
                standard_on: self.standard_on,
                voucher_on: self.voucher_on,
                contacted_on: self.contacted_on,
                no_interest,
                hold: hold.map(|(by, until)| Hold { by, until }),
            },
            claim: self.claim_id,
            now: self.now,
            today: self.today,
        })
    }
}

impl Standing {
    /// Refuses what is not under this claim any more.
    pub(crate) fn must_be_under(&self, claim: Uuid) -> Result<()> {
        if self.case.state.is_final() {
            return Err(self.refused(&ActError::Closed(self.case.state)));
        }
        if self.claim == Some(claim) && self.case.held(self.now).is_some() {
            return Ok(());
        }
        Err(StoreError::Refused {
            resource: resource(self.id),
            reason: "the claim is over; claim the case again".into(),
        })
    }

    /// What the rule refuses.
    pub(crate) fn refused(&self, error: &ActError) -> StoreError {
        StoreError::Refused {
            resource: resource(self.id),
            reason: error.to_string(),
        }
    }
}
