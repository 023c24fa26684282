//! Claims: who has a case, and for how long. The next one is found by `next`.

use anklang_domain::TenantId;
use anklang_domain::winback;
use chrono::TimeDelta;
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

pub use super::next::{Wanted, next};
use super::{Case, found, hold};
use crate::sql::Fix;
use crate::{Conn, Result};

/// A claim to be made.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// `users/{user}`.
    pub worker: &'a str,
    /// How long it lasts.
    pub seconds: i32,
}

/// A case in somebody's hands.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The fence.
    pub id: Uuid,
    /// The case.
    pub case: Case,
}

/// Hands out this case; to whoever has it already under another claim.
///
/// # Errors
/// `Missing`; `Refused` when it is closed or in somebody else's hands.
pub async fn this(conn: &mut Conn, tenant: TenantId, id: Uuid, terms: Terms<'_>) -> Result<Claim> {
    let standing = hold(conn, tenant, id).await?;
    let lasts = TimeDelta::seconds(terms.seconds.into());
    let hold = winback::claim(&standing.case, terms.worker, standing.now, lasts)
        .map_err(|error| standing.refused(&error))?;
    let claim = Uuid::now_v7();
    diesel::sql_query(
        "UPDATE winback_case SET held_by = $3, held_until = $4, claim_id = $5,
                claim_units = anklang_claim_units(tenant_id, customer_id, $5)
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(&hold.by)
    .bind::<Timestamptz, _>(hold.until)
    .bind::<SqlUuid, _>(claim)
    .fixed()
    .execute(conn)
    .await?;
    let case = found(conn, tenant, id).await?;
    Ok(Claim { id: claim, case })
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
    let standing = hold(conn, tenant, id).await?;
    standing.must_be_under(claim)?;
    let until = standing.now + TimeDelta::seconds(seconds.into());
    diesel::sql_query("UPDATE winback_case SET held_until = $3 WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .bind::<Timestamptz, _>(until)
        .fixed()
        .execute(conn)
        .await?;
    let case = found(conn, tenant, id).await?;
    Ok(Claim { id: claim, case })
}

/// Gives a case back.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over.
pub async fn release(conn: &mut Conn, tenant: TenantId, id: Uuid, claim: Uuid) -> Result<Case> {
    hold(conn, tenant, id).await?.must_be_under(claim)?;
    diesel::sql_query(
        "UPDATE winback_case SET held_by = NULL, held_until = NULL, claim_id = NULL, claim_units = NULL
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .fixed()
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}
