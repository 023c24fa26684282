//! Claims: who has a contact, and for how long. The next one is found by `next`.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::bars::{Desk, barred, looked_up, why};
pub use super::next::{Next, Wanted, next, put_back};
use super::rules::{self, Warning};
use super::{PURPOSE, Standing, hold, refused, resource};
use crate::planning::calls::HELD;
use crate::planning::contact::{self, COLUMNS, Contact, JOINS};
use crate::sql::Fix;
use crate::units::CLAIM_LEFT;
use crate::{Conn, Result, Store, StoreError};

/// Contacts that are taken or put back in one transaction.
pub(super) const BACK_AT_ONCE: i64 = 1_000;

/// A claim to be made.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// `users/{user}`.
    pub worker: &'a str,
    /// How long it lasts.
    pub seconds: i32,
}

/// A contact in somebody's hands.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The fence.
    pub id: Uuid,
    /// The contact.
    pub contact: Contact,
    /// For people.
    pub customer_name: String,
    /// What is unusual about contacting the customer now.
    pub warnings: Vec<Warning>,
}

/// The name of a customer `c`.
pub(crate) const CUSTOMER_NAME: &str =
    "coalesce(nullif(c.company_name, ''), concat_ws(' ', nullif(c.first_name, ''),
            nullif(c.last_name, '')))";

/// Hands out this contact; to whoever has it already under another claim.
///
/// # Errors
/// `Missing`; `Refused` when it is over, in somebody else's hands, or the customer must not be called.
pub async fn this(conn: &mut Conn, tenant: TenantId, id: Uuid, terms: Terms<'_>) -> Result<Claim> {
    // Before any row is held.
    let desk = Desk::open(conn, tenant, "").await?;
    let mut standing = hold(conn, tenant, id).await?;
    // Others stay as they are: whoever holds several in another order would wait for this one.
    if standing.has_run_out() {
        free(conn, tenant, &[id], true).await?;
        standing = hold(conn, tenant, id).await?;
    }
    // Who has it already, and lost what the claim is known by, gets another one.
    if standing.claimed_by.as_deref() != Some(terms.worker) {
        standing.must_be_free(id)?;
        must_be_called(conn, &desk, id).await?;
    }
    static SQL: LazyLock<String> = LazyLock::new(|| {
        handed_out(
            "state = 'claimed', claimed_by = $3, claim_id = $4,
             claim_until = now() + make_interval(secs => $5),
             claim_units = anklang_claim_units(tenant_id, customer_id, $4), not_before = NULL, passed_over = ''",
        )
    });
    let claim = Uuid::now_v7();
    let handed: HandedOut = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .bind::<Text, _>(terms.worker)
        .bind::<SqlUuid, _>(claim)
        .bind::<Integer, _>(terms.seconds)
        .fixed()
        .get_result(conn)
        .await?;
    handed.under(claim, &standing)
}

/// Refuses a contact whose customer must not be called.
async fn must_be_called(conn: &mut Conn, desk: &Desk<'_>, id: Uuid) -> Result<()> {
    #[derive(QueryableByName)]
    struct Barred {
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
    }
    static SQL: [LazyLock<String>; 2] = [
        LazyLock::new(|| barred_sql(false)),
        LazyLock::new(|| barred_sql(true)),
    ];
    let sql = &SQL[usize::from(desk.budget.is_some())][..];
    let found: Barred = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(desk.tenant.0)
        .bind::<Nullable<Integer>, _>(desk.max_contacts())
        .bind::<Integer, _>(desk.window_days())
        .bind::<Array<Text>, _>(desk.exempt())
        .bind::<SqlUuid, _>(id)
        .fixed()
        .get_result(conn)
        .await?;
    match found.reason {
        Some(reason) => Err(refused(id, why(&reason).into())),
        None => Ok(()),
    }
}

fn barred_sql(budgeted: bool) -> String {
    let looked_up = looked_up(budgeted.then_some(("$3", "$4")));
    let barred = barred(budgeted.then_some("$2"));
    format!(
        "SELECT CASE WHEN m.ends_at <= now() THEN 'ended'
                     WHEN m.outbound_id = ANY({HELD}) THEN 'held' {barred} END AS reason
         FROM planned_contact m {looked_up}
         WHERE m.tenant_id = $1 AND m.id = $5"
    )
}

/// Prolongs a claim, from now on.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over.
pub async fn extend(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    claim: Uuid,
    seconds: i32,
) -> Result<Claim> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| handed_out("claim_until = now() + make_interval(secs => $3)"));
    let standing = hold(conn, tenant, id).await?;
    standing.must_be_under(id, claim)?;
    let handed: HandedOut = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .bind::<Integer, _>(seconds)
        .fixed()
        .get_result(conn)
        .await?;
    handed.under(claim, &standing)
}

/// Ends the claims of the contacts `$2`, which are held; with `$3` of those alone that have run out. They go back
/// to the list, or are called off because that was to be done meanwhile. One in which an order was taken whose
/// outcome was to come is done, with the attempt and the line in the customer's history: nobody calls again who
/// has ordered.
static FREE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH before AS MATERIALIZED (
             SELECT k.id, k.claimed_by, k.claimed_at, k.ordered_outside FROM planned_contact k
             WHERE k.tenant_id = $1 AND k.id = ANY($2) AND k.state = 'claimed'
               AND (NOT $3 OR k.claim_until <= now() OR {CLAIM_LEFT})),
         freed AS (
             UPDATE planned_contact k
             SET state = CASE WHEN k.end_reason <> '' THEN 'cancelled'
                              WHEN k.attempts = 0 THEN 'open' ELSE 'waiting' END,
                 next_at = CASE k.end_reason WHEN '' THEN k.next_at END,
                 claimed_by = NULL, claim_id = NULL, claim_until = NULL, claim_units = NULL,
                 updated_at = now()
             FROM before b
             WHERE k.tenant_id = $1 AND k.id = b.id AND b.ordered_outside IS NULL),
         done AS (
             UPDATE planned_contact k
             SET state = 'done', next_at = NULL, any_time = false, outcome_class = 'order_taken',
                 outcome = '', attempts = k.attempts + 1, end_reason = '',
                 marks = CASE WHEN 'worked_on' = ANY(k.marks) THEN k.marks
                              ELSE k.marks || 'worked_on'::text END,
                 claimed_by = NULL, claim_id = NULL, claim_until = NULL, claim_units = NULL,
                 updated_at = now()
             FROM before b
             WHERE k.tenant_id = $1 AND k.id = b.id AND b.ordered_outside IS NOT NULL
             RETURNING k.id, k.customer_id, k.attempts, k.outbound_id, k.plan_code,
                       b.claimed_by AS worker, b.claimed_at, b.ordered_outside),
         tried AS (
             INSERT INTO contact_attempt (tenant_id, contact_id, attempt, customer_id, worker,
                 purpose, outcome_class, outside_window, claimed_at)
             SELECT $1, d.id, d.attempts, d.customer_id, d.worker,
                    coalesce(o.purpose, '{PURPOSE}'), 'order_taken', d.ordered_outside, d.claimed_at
             FROM done d
             LEFT JOIN outbound o ON o.tenant_id = $1 AND o.id = d.outbound_id)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, d.customer_id, 'contact.order_taken', 'plannedContacts/' || d.id, f.campaign_id,
                jsonb_strip_nulls(jsonb_build_object(
                    'attempt', d.attempts, 'worker', d.worker, 'contact_plan', d.plan_code,
                    'talk_seconds', 0, 'state', 'done'))
         FROM done d
         LEFT JOIN outbound o ON o.tenant_id = $1 AND o.id = d.outbound_id
         LEFT JOIN phase f ON f.tenant_id = $1 AND f.id = o.phase_id"
    )
});

async fn free(conn: &mut Conn, tenant: TenantId, held: &[Uuid], run_out: bool) -> Result<()> {
    diesel::sql_query(&FREE[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Array<SqlUuid>, _>(held)
        .bind::<Bool, _>(run_out)
        .fixed()
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives a contact back: it stands behind the others of its priority that are due by now, unless an order was
/// taken in it, which ends it.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over.
pub async fn release(conn: &mut Conn, tenant: TenantId, id: Uuid, claim: Uuid) -> Result<Contact> {
    hold(conn, tenant, id).await?.must_be_under(id, claim)?;
    free(conn, tenant, &[id], false).await?;
    diesel::sql_query(
        "UPDATE planned_contact SET not_before = now()
         WHERE tenant_id = $1 AND id = $2 AND state IN ('open', 'waiting')",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .fixed()
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}

/// Takes back contacts whose claims have run out; gives how many. Those that somebody holds at this
/// moment are left: their claim is being prolonged, or used.
pub async fn take_back(conn: &mut Conn, tenant: TenantId) -> Result<usize> {
    #[derive(QueryableByName)]
    struct Gone {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT k.id FROM planned_contact k
             WHERE k.tenant_id = $1 AND k.state = 'claimed' AND (k.claim_until <= now() OR {CLAIM_LEFT})
             ORDER BY k.claim_until LIMIT $2 FOR UPDATE OF k SKIP LOCKED"
        )
    });
    let gone: Vec<Gone> = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<BigInt, _>(BACK_AT_ONCE)
        .fixed()
        .load(conn)
        .await?;
    let ids: Vec<Uuid> = gone.into_iter().map(|row| row.id).collect();
    if !ids.is_empty() {
        free(conn, tenant, &ids, true).await?;
    }
    Ok(ids.len())
}

/// As [`take_back`] and [`put_back`], all of a tenant's, for when nobody asks; gives how many were taken
/// back.
pub async fn take_all_back(store: &Store, tenant: TenantId) -> Result<usize> {
    let mut all = 0;
    loop {
        let mut tx = store.begin_work(tenant).await?;
        let taken = take_back(&mut tx, tenant).await?;
        let put = put_back(&mut tx, tenant).await?;
        tx.commit().await?;
        all += taken;
        if i64::try_from(taken.max(put)).unwrap_or(0) < BACK_AT_ONCE {
            return Ok(all);
        }
    }
}

pub(super) async fn found(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<Contact> {
    let contact = contact::get(conn, tenant, id).await?;
    contact.ok_or_else(|| StoreError::Missing(resource(id)))
}

/// A contact whose claim was just made or prolonged.
#[derive(QueryableByName)]
struct HandedOut {
    #[diesel(embed)]
    contact: Contact,
    #[diesel(sql_type = Text)]
    customer_name: String,
}

/// Sets columns of the contact `$2`, which is held, and gives it as it is then.
fn handed_out(set: &str) -> String {
    format!(
        "WITH held AS (
             UPDATE planned_contact SET {set}, updated_at = now()
             WHERE tenant_id = $1 AND id = $2 RETURNING *)
         SELECT {COLUMNS}, {CUSTOMER_NAME} AS customer_name FROM held k {JOINS}"
    )
}

impl HandedOut {
    /// `standing` is how it stood before: a claim changes nothing that is to be warned of.
    fn under(self, claim: Uuid, standing: &Standing) -> Result<Claim> {
        let warnings = rules::warnings_of_call(&standing.when(), &self.contact.phone)?;
        Ok(Claim {
            id: claim,
            contact: self.contact,
            customer_name: self.customer_name,
            warnings,
        })
    }
}
