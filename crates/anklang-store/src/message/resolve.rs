//! What people decide about messages of which nobody knows whether they arrived.

use anklang_domain::{MessageId, TenantId};
use diesel::OptionalExtension;
use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::printable;
use crate::{Conn, Result, StoreError};

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It arrived.
    Sent,
    /// It did not, or may come twice: it is sent again.
    Resend,
    /// It is left alone, whether it arrived or not.
    Cancel,
}

impl Resolution {
    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Resolution::Sent => "sent",
            Resolution::Resend => "resend",
            Resolution::Cancel => "cancel",
        }
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<Text>)]
    resolution: Option<String>,
}

/// Settles an ambiguous message and notes it in its customer's history. One that was settled the
/// same way before stays as it is; true when something changed.
///
/// # Errors
/// [`StoreError::Missing`] when there is no such message, [`StoreError::Refused`] when it is not
/// ambiguous.
pub async fn resolve(
    conn: &mut Conn,
    tenant: TenantId,
    id: MessageId,
    resolution: Resolution,
    note: &str,
) -> Result<bool> {
    let name = format!("messages/{id}");
    let found: Option<Row> = diesel::sql_query(
        "SELECT state, resolution FROM message WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .get_result(conn)
    .await
    .optional()?;
    let found = found.ok_or_else(|| StoreError::Missing(name.clone()))?;
    if found.state != "ambiguous" {
        if found.resolution.as_deref() == Some(resolution.as_str()) {
            return Ok(false);
        }
        return Err(StoreError::Refused {
            resource: name,
            reason: format!("is {}, not ambiguous", found.state),
        });
    }
    // Taken by the other side, if at all, when its last attempt ended.
    diesel::sql_query(
        "WITH moved AS (
             UPDATE message m SET resolution = $3, updated_at = now(),
                 state = CASE $3 WHEN 'sent' THEN 'sent' WHEN 'resend' THEN 'queued'
                                 ELSE 'cancelled' END,
                 detail = CASE $3 WHEN 'sent' THEN 'settled by a person: it arrived'
                                  WHEN 'resend' THEN 'settled by a person: sent again'
                                  ELSE 'settled by a person: left alone' END
                          || CASE WHEN $4 = '' THEN '' ELSE ' (' || $4 || ')' END,
                 failures = CASE $3 WHEN 'resend' THEN 0 ELSE m.failures END,
                 next_attempt_at = CASE $3 WHEN 'resend' THEN now() ELSE m.next_attempt_at END,
                 sent_at = CASE $3 WHEN 'sent' THEN coalesce((
                     SELECT a.ended_at FROM message_attempt a
                     WHERE a.tenant_id = m.tenant_id AND a.message_id = m.id
                       AND a.attempt = m.attempt), now()) END
             WHERE m.tenant_id = $1 AND m.id = $2
             RETURNING m.customer_id, m.campaign_id)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'message.resolved', 'messages/' || $2::uuid, campaign_id,
                jsonb_build_object('resolution', $3, 'note', $4)
         FROM moved",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(resolution.as_str())
    .bind::<Text, _>(printable(note))
    .execute(conn)
    .await?;
    Ok(true)
}
