//! Claims: who has a contact, and for how long. The next one is found by [`super::next`].

use std::sync::LazyLock;

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::bars::{Desk, barred, looked_up, why};
pub use super::next::{Wanted, next};
use super::rules::{self, Warning};
use super::{hold, refused, resource};
use crate::planning::calls::HELD;
use crate::planning::contact::{self, Contact};
use crate::sql::Fix;
use crate::{Conn, Result, Store, StoreError};

/// Claims that are taken back in one transaction.
const BACK_AT_ONCE: i64 = 1_000;

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
    if desk.silent {
        take_back(conn, tenant).await?;
    }
    let standing = hold(conn, tenant, id).await?;
    // Who has it already, and lost what the claim is known by, gets another one.
    if standing.claimed_by.as_deref() != Some(terms.worker) {
        standing.must_be_free(id)?;
        must_be_called(conn, &desk, id).await?;
    }
    let claim = Uuid::now_v7();
    diesel::sql_query(
        "UPDATE planned_contact
         SET state = 'claimed', claimed_by = $3, claim_id = $4,
             claim_until = now() + make_interval(secs => $5), not_before = NULL, passed_over = '',
             updated_at = now()
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(terms.worker)
    .bind::<SqlUuid, _>(claim)
    .bind::<Integer, _>(terms.seconds)
    .execute(conn)
    .await?;
    load(conn, tenant, id, claim).await
}

/// Refuses a contact whose customer must not be called.
async fn must_be_called(conn: &mut Conn, desk: &Desk<'_>, id: Uuid) -> Result<()> {
    #[derive(QueryableByName)]
    struct Barred {
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
    }
    let budget = desk.budget.is_some();
    let looked_up = looked_up(budget.then_some(("$3", "$4")));
    let barred = barred(budget.then_some("$2"));
    let found: Barred = diesel::sql_query(format!(
        "SELECT CASE WHEN m.ends_at <= now() THEN 'ended'
                     WHEN m.outbound_id = ANY({HELD}) THEN 'held' {barred} END AS reason
         FROM planned_contact m {looked_up}
         WHERE m.tenant_id = $1 AND m.id = $5"
    ))
    .bind::<SqlUuid, _>(desk.tenant.0)
    .bind::<Nullable<Integer>, _>(desk.max_contacts())
    .bind::<Integer, _>(desk.window_days())
    .bind::<Array<Text>, _>(desk.exempt())
    .bind::<SqlUuid, _>(id)
    .get_result(conn)
    .await?;
    match found.reason {
        Some(reason) => Err(refused(id, why(&reason).into())),
        None => Ok(()),
    }
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
    hold(conn, tenant, id).await?.must_be_under(id, claim)?;
    diesel::sql_query(
        "UPDATE planned_contact
         SET claim_until = now() + make_interval(secs => $3), updated_at = now()
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Integer, _>(seconds)
    .execute(conn)
    .await?;
    load(conn, tenant, id, claim).await
}

/// What a contact becomes that goes back to the list, or is called off because that was to be done
/// meanwhile.
const FREE: &str = "state = CASE WHEN k.end_reason <> '' THEN 'cancelled'
                                 WHEN k.attempts = 0 THEN 'open' ELSE 'waiting' END,
    next_at = CASE k.end_reason WHEN '' THEN k.next_at END,
    claimed_by = NULL, claim_id = NULL, claim_until = NULL, updated_at = now()";

/// Gives a contact back: it stands behind the others of its priority that are due by now.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over.
pub async fn release(conn: &mut Conn, tenant: TenantId, id: Uuid, claim: Uuid) -> Result<Contact> {
    hold(conn, tenant, id).await?.must_be_under(id, claim)?;
    diesel::sql_query(format!(
        "UPDATE planned_contact k SET {FREE}, not_before = now()
         WHERE k.tenant_id = $1 AND k.id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}

/// Takes back contacts whose claims have run out; gives how many. Those that somebody holds at this
/// moment are left: their claim is being prolonged, or used.
pub async fn take_back(conn: &mut Conn, tenant: TenantId) -> Result<usize> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "UPDATE planned_contact k SET {FREE}
             FROM (SELECT id FROM planned_contact
                   WHERE tenant_id = $1 AND state = 'claimed' AND claim_until <= now()
                   ORDER BY claim_until LIMIT $2 FOR UPDATE SKIP LOCKED) gone
             WHERE k.tenant_id = $1 AND k.id = gone.id"
        )
    });
    Ok(diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<BigInt, _>(BACK_AT_ONCE)
        .fixed()
        .execute(conn)
        .await?)
}

/// As [`take_back`], all of a tenant's, for those whose people have gone home.
pub async fn take_all_back(store: &Store, tenant: TenantId) -> Result<usize> {
    let mut all = 0;
    loop {
        let mut tx = store.begin_work(tenant).await?;
        let back = take_back(&mut tx, tenant).await?;
        tx.commit().await?;
        all += back;
        if i64::try_from(back).unwrap_or(0) < BACK_AT_ONCE {
            return Ok(all);
        }
    }
}

pub(super) async fn found(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<Contact> {
    let contact = contact::get(conn, tenant, id).await?;
    contact.ok_or_else(|| StoreError::Missing(resource(id)))
}

/// A contact under a claim that was just made or prolonged.
async fn load(conn: &mut Conn, tenant: TenantId, id: Uuid, claim: Uuid) -> Result<Claim> {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {CUSTOMER_NAME} AS name FROM customer c WHERE c.tenant_id = $1 AND c.id = $2"
        )
    });
    let standing = hold(conn, tenant, id).await?;
    let name: Name = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(standing.customer_id)
        .fixed()
        .get_result(conn)
        .await?;
    let contact = found(conn, tenant, id).await?;
    Ok(Claim {
        id: claim,
        customer_name: name.name,
        warnings: rules::warnings_of_call(&standing.when(), &contact.phone)?,
        contact,
    })
}
