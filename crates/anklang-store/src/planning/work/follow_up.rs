//! Writing to customers whom people did not reach: the message is queued by the transaction that ends the
//! contact. Who cannot be written to is not: why is told.

use anklang_domain::TenantId;
use anklang_domain::channel::contact_channel;
use anklang_domain::planning::FollowUpMessage;
use diesel::sql_types::{Bool, Bytea, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Standing;
use crate::message::SINGLE;
use crate::sql::Fix;
use crate::{Conn, Result, channel_account};

/// What became of a message to a customer who was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FollowedUp {
    /// It is queued.
    Queued(Uuid),
    /// It is not: a word that says why.
    Refused(&'static str),
}

impl FollowedUp {
    pub(super) fn message(self) -> Option<Uuid> {
        match self {
            FollowedUp::Queued(message) => Some(message),
            FollowedUp::Refused(_) => None,
        }
    }

    pub(super) fn refused(self) -> Option<&'static str> {
        match self {
            FollowedUp::Queued(_) => None,
            FollowedUp::Refused(why) => Some(why),
        }
    }
}

/// What a message depends on.
#[derive(QueryableByName)]
struct Reach {
    #[diesel(sql_type = SqlUuid)]
    brand_id: Uuid,
    #[diesel(sql_type = Bool)]
    account_gone: bool,
    #[diesel(sql_type = Nullable<Text>)]
    address: Option<String>,
    #[diesel(sql_type = Bytea)]
    address_hash: Vec<u8>,
    #[diesel(sql_type = Bool)]
    blocked: bool,
    #[diesel(sql_type = Bool)]
    consented: bool,
}

/// Queues the message of a contact that is given up, to the customer's best address that is not blocked.
/// There is one for each contact and channel. One of a contact of a phase is held and taken back with the phase.
pub(super) async fn queue(
    conn: &mut Conn,
    tenant: TenantId,
    contact: Uuid,
    standing: &Standing,
    message: &FollowUpMessage,
) -> Result<FollowedUp> {
    let refused = |why| Ok(FollowedUp::Refused(why));
    // The message is about to name it.
    channel_account::keep(conn, tenant, &[&message.account]).await?;
    let Some(reach) = reach(conn, tenant, standing.customer_id, message).await? else {
        return refused("no_sender");
    };
    if reach.account_gone {
        return refused("no_sender");
    }
    let Some(address) = &reach.address else {
        return refused("no_address");
    };
    if reach.blocked {
        return refused("suppressed");
    }
    if !reach.consented {
        return refused("no_consent");
    }
    let id = Uuid::now_v7();
    let written = diesel::sql_query(
        "INSERT INTO message (tenant_id, id, phase_id, planned_contact_id, customer_id, channel,
                              account, address, address_hash, purpose, brand_id, template)
         SELECT $1, $2, coalesce((
                    SELECT o.phase_id FROM planned_contact k
                    JOIN outbound o ON o.tenant_id = k.tenant_id AND o.id = k.outbound_id
                    WHERE k.tenant_id = $1 AND k.id = $4), $3),
                $4, $5, $6, $7, $8, $9, $10, $11, $12 ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(SINGLE)
    .bind::<SqlUuid, _>(contact)
    .bind::<SqlUuid, _>(standing.customer_id)
    .bind::<Text, _>(message.channel.as_str())
    .bind::<Text, _>(&message.account)
    .bind::<Text, _>(address)
    .bind::<Bytea, _>(&reach.address_hash)
    .bind::<Text, _>(&message.purpose)
    .bind::<SqlUuid, _>(reach.brand_id)
    .bind::<Text, _>(&message.template)
    .fixed()
    .execute(conn)
    .await?;
    match written {
        0 => refused("written_before"),
        _ => Ok(FollowedUp::Queued(id)),
    }
}

/// `None` without such a brand.
async fn reach(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
    message: &FollowUpMessage,
) -> Result<Option<Reach>> {
    let channel = message.channel.as_str();
    Ok(diesel::sql_query(
        "SELECT b.id AS brand_id,
                EXISTS (SELECT FROM channel_account a WHERE a.tenant_id = $1
                          AND a.id = $4 AND a.deleted_at IS NOT NULL) AS account_gone,
                cp.address, coalesce(cp.address_hash, '') AS address_hash,
                coalesce(cp.blocked, false) AS blocked,
                EXISTS (SELECT FROM consent k WHERE k.tenant_id = $1 AND k.customer_id = $2
                          AND k.channel = $5 AND k.purpose = $7 AND k.state = 'granted') AS consented
         FROM brand b
         LEFT JOIN LATERAL (
             SELECT x.address, x.address_hash, u.address_hash IS NOT NULL AS blocked
             FROM contact_point x
             LEFT JOIN suppression u ON u.tenant_id = x.tenant_id AND u.channel = x.channel
                  AND u.address_hash = x.address_hash
             WHERE x.tenant_id = $1 AND x.customer_id = $2 AND x.channel = $6
             ORDER BY blocked, x.position, x.address LIMIT 1) cp ON true
         WHERE b.tenant_id = $1 AND b.code = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<Text, _>(&message.brand)
    .bind::<Text, _>(&message.account)
    .bind::<Text, _>(channel)
    .bind::<Text, _>(contact_channel(channel))
    .bind::<Text, _>(&message.purpose)
    .fixed()
    .get_result(conn)
    .await
    .optional()?)
}
