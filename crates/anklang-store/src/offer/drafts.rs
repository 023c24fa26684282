//! Single offers whose document is not there yet.
//!
//! Whoever makes an offer makes its document as well. When that does not succeed because the
//! document store is away, the offer waits, longer after each try; when no document can be made of
//! its data, it is withdrawn and says why: nobody has seen it.

use anklang_domain::{OfferId, TenantId};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result};

/// The wait doubles so often, from a minute to about four hours.
const DOUBLINGS: i32 = 8;

/// Single offers that wait for their document since more than a minute, because whoever made them
/// was interrupted, and those whose next try is due; at most `limit`, first due first.
pub async fn interrupted(conn: &mut Conn, tenant: TenantId, limit: i64) -> Result<Vec<OfferId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let rows: Vec<Row> = diesel::sql_query(format!(
        "SELECT id FROM (
             SELECT id, CASE document_failures WHEN 0 THEN created_at ELSE updated_at END
                    + interval '1 minute' * (1 << least(document_failures, {DOUBLINGS})) AS due
             FROM offer WHERE tenant_id = $1 AND state = 'draft' AND phase_id IS NULL) waiting
         WHERE due < now() ORDER BY due LIMIT $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|r| OfferId(r.id)).collect())
}

/// Lets a draft wait before its next try, twice as long as before the last.
pub async fn postpone_document(conn: &mut Conn, tenant: TenantId, offer: Uuid) -> Result<()> {
    diesel::sql_query(
        "UPDATE offer SET document_failures = least(document_failures + 1, 1000), updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND state = 'draft'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(offer)
    .execute(conn)
    .await?;
    Ok(())
}

/// Withdraws a draft of which no document can be made, and tells it in the customer's history. An
/// offer that is no draft any more stays as it is.
pub async fn withdraw_draft(
    conn: &mut Conn,
    tenant: TenantId,
    offer: Uuid,
    reason: &str,
) -> Result<()> {
    diesel::sql_query(
        "WITH changed AS (
             UPDATE offer SET state = 'withdrawn', withdrawn_at = now(), withdraw_reason = $3,
                              updated_at = now()
             WHERE tenant_id = $1 AND id = $2 AND state = 'draft'
             RETURNING customer_id, number, campaign_id)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'offer.withdrawn', 'offers/' || number, campaign_id,
                jsonb_build_object('reason', $3)
         FROM changed",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(offer)
    .bind::<Text, _>(reason)
    .execute(conn)
    .await?;
    Ok(())
}
