//! What people decide about messages of which nobody knows whether they arrived.

use anklang_domain::{MessageId, TenantId};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

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
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
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
    Ok(resolve_all(conn, tenant, &[id], resolution, note).await? > 0)
}

/// Settles messages as [`resolve`] does one, all of them or none; gives how many changed.
///
/// # Errors
/// As those of [`resolve`], for the first of them that is at fault.
pub async fn resolve_all(
    conn: &mut Conn,
    tenant: TenantId,
    ids: &[MessageId],
    resolution: Resolution,
    note: &str,
) -> Result<usize> {
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let held: Vec<Row> = diesel::sql_query(
        "SELECT id, state, resolution FROM message WHERE tenant_id = $1 AND id = ANY($2)
         ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&uuids)
    .load(conn)
    .await?;
    let mut open = Vec::with_capacity(ids.len());
    for id in ids {
        let name = format!("messages/{id}");
        let Ok(place) = held.binary_search_by_key(&id.0, |row| row.id) else {
            return Err(StoreError::Missing(name));
        };
        let found = &held[place];
        if found.state == "ambiguous" {
            open.push(id.0);
        } else if found.resolution.as_deref() != Some(resolution.as_str()) {
            return Err(StoreError::Refused {
                resource: name,
                reason: format!("is {}, not ambiguous", found.state),
            });
        }
    }
    if open.is_empty() {
        return Ok(0);
    }
    settle(conn, tenant, &open, resolution, note).await
}

/// Taken by the other side, if at all, when its last attempt ended.
async fn settle(
    conn: &mut Conn,
    tenant: TenantId,
    ids: &[Uuid],
    resolution: Resolution,
    note: &str,
) -> Result<usize> {
    Ok(diesel::sql_query(
        "WITH moved AS (
             UPDATE message m SET resolution = $3, updated_at = now(), lookups = 0,
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
             WHERE m.tenant_id = $1 AND m.id = ANY($2)
             RETURNING m.id, m.customer_id, m.campaign_id, m.notice),
         told AS (
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'message.resolved', 'messages/' || id, campaign_id,
                jsonb_build_object('resolution', $3, 'note', $4)
         FROM moved WHERE notice IS NULL)
         SELECT 1 FROM moved",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Text, _>(resolution.as_str())
    .bind::<Text, _>(printable(note))
    .execute(conn)
    .await?)
}
