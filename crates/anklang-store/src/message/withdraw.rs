//! Messages to a customer who is erased, and notices about one: what is queued is not sent any more.

use anklang_domain::TenantId;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result};

/// Cancels what is queued of a customer. What a sender has in hand is left to it.
pub(crate) async fn withdraw(conn: &mut Conn, tenant: TenantId, customer: Uuid) -> Result<()> {
    // Before: a claim or a report may be moving them (see `hand_over::hold`).
    diesel::sql_query(
        "SELECT id FROM message WHERE tenant_id = $1 AND customer_id = $2 AND state = 'queued'
         ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "UPDATE message SET state = 'cancelled', detail = 'the customer was erased', updated_at = now()
         WHERE tenant_id = $1 AND customer_id = $2 AND state = 'queued'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .execute(conn)
    .await?;
    Ok(())
}
