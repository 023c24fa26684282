//! Mails to the tenant's own people: somebody asks for an offer.

use anklang_domain::TenantId;
use anklang_domain::master::contact::address_hash;
use diesel::sql_types::{Bytea, Jsonb, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::Standing;
use crate::message::SINGLE;
use crate::sql::Fix;
use crate::winback::settings::Settings;
use crate::winback::template::{BRAND, LAST_ORDER};
use crate::{Conn, Result, channel_account};

/// The key of its template.
const TEMPLATE: &str = "winback_offer_request";
/// What messages to the tenant's own people are for.
const PURPOSE: &str = "notice";

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// `users/{user}`.
    pub(super) worker: &'a str,
    pub(super) note: &'a str,
    /// Number of the offer that was made at once.
    pub(super) offer: Option<&'a str>,
}

/// Queues the mail for a request to the address of the settings; `None` when they name no address or no account
/// that there is, or the tenant has no brand to write as. It comes from the brand of the customer's last order,
/// else from the tenant's first by code.
pub(super) async fn queue(
    conn: &mut Conn,
    tenant: TenantId,
    standing: &Standing,
    settings: &Settings,
    request: Request<'_>,
) -> Result<Option<Uuid>> {
    let (to, account) = (&settings.offer_mail_to, &settings.offer_mail_account);
    if to.is_empty() || account.is_empty() {
        return Ok(None);
    }
    // The message is about to name it.
    channel_account::keep(conn, tenant, &[account]).await?;
    let id = Uuid::now_v7();
    let notice = json!({
        "note": request.note, "worker": request.worker,
        "offer": request.offer.unwrap_or_default(), "customer_url": settings.links.customer,
    });
    let written = diesel::sql_query(format!(
        "INSERT INTO message (tenant_id, id, phase_id, winback_case_id, customer_id, channel, account,
                              address, address_hash, purpose, brand_id, template, notice)
         SELECT $1, $2, $3, c.id, c.customer_id, 'mail', $5, $6, $7, '{PURPOSE}', b.id, '{TEMPLATE}',
                $8
         FROM winback_case c
         JOIN customer cu ON cu.tenant_id = c.tenant_id AND cu.id = c.customer_id
         {LAST_ORDER}
         JOIN LATERAL (
             SELECT b.id FROM brand b WHERE b.tenant_id = $1
             ORDER BY (b.id IS NOT DISTINCT FROM {BRAND}) DESC, b.code LIMIT 1) b ON true
         WHERE c.tenant_id = $1 AND c.id = $4
           AND NOT EXISTS (SELECT FROM channel_account a WHERE a.tenant_id = $1
                             AND a.id = $5 AND a.deleted_at IS NOT NULL)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(SINGLE)
    .bind::<SqlUuid, _>(standing.id)
    .bind::<Text, _>(account)
    .bind::<Text, _>(to)
    .bind::<Bytea, _>(address_hash(tenant, "mail", to).to_vec())
    .bind::<Jsonb, _>(notice)
    .fixed()
    .execute(conn)
    .await?;
    Ok((written > 0).then_some(id))
}
