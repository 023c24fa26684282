//! A campaign in numbers: counted from offers, messages and audiences, never kept apart.

use anklang_domain::{CampaignId, TenantId};
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Date, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result};

/// So many of a phase's things are in one state.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Count {
    /// The phase.
    #[diesel(sql_type = SqlUuid)]
    pub phase_id: Uuid,
    /// offer, message, response (to messages, each message once), member (key is the exclusion, empty
    /// for members), rejection (key is the reason, empty when not told).
    #[diesel(sql_type = Text)]
    pub what: String,
    /// The state.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub n: i64,
}

/// Offers on `today`, messages and candidates by state, in one statement and so of one moment.
pub async fn counts(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    today: NaiveDate,
) -> Result<Vec<Count>> {
    Ok(diesel::sql_query(
        "SELECT o.phase_id, 'offer' AS what,
                CASE WHEN o.state IN ('draft', 'open') AND p.state IN ('cancelled', 'failed')
                     THEN 'withdrawn'
                     WHEN o.state = 'open' AND o.valid_until < $3 THEN 'expired'
                     ELSE o.state END AS key,
                count(*) AS n
         FROM offer o JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
         WHERE o.tenant_id = $1 AND o.campaign_id = $2 GROUP BY 1, 3
         UNION ALL
         SELECT phase_id, 'rejection', reject_reason_code, count(*)
         FROM offer WHERE tenant_id = $1 AND campaign_id = $2 AND state = 'rejected' GROUP BY 1, 3
         UNION ALL
         SELECT phase_id, 'message', state, count(*)
         FROM message WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY 1, 3
         UNION ALL
         SELECT phase_id, 'response', state, count(DISTINCT message_id)
         FROM message_report
         WHERE tenant_id = $1 AND campaign_id = $2
           AND state IN ('opened', 'clicked', 'complained', 'unsubscribed') GROUP BY 1, 3
         UNION ALL
         SELECT m.phase_id, 'member', coalesce(m.exclusion, ''), count(*)
         FROM audience_member m JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
         WHERE m.tenant_id = $1 AND p.campaign_id = $2 GROUP BY 1, 3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Date, _>(today)
    .load(conn)
    .await?)
}

/// What happened on a day.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Day {
    /// The day, in the tenant's time zone.
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
    /// Offers made.
    #[diesel(sql_type = BigInt)]
    pub made: i64,
    /// Messages taken by the other side.
    #[diesel(sql_type = BigInt)]
    pub sent: i64,
    /// Messages delivered, as the channels say.
    #[diesel(sql_type = BigInt)]
    pub delivered: i64,
    /// Messages that came back, as the channels say.
    #[diesel(sql_type = BigInt)]
    pub bounced: i64,
    /// Offers accepted.
    #[diesel(sql_type = BigInt)]
    pub accepted: i64,
    /// Offers rejected.
    #[diesel(sql_type = BigInt)]
    pub rejected: i64,
}

/// Days on which something happened, in order.
pub async fn days(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    time_zone: &str,
) -> Result<Vec<Day>> {
    Ok(diesel::sql_query(
        "SELECT day, count(*) FILTER (WHERE what = 'made') AS made,
                count(*) FILTER (WHERE what = 'sent') AS sent,
                count(*) FILTER (WHERE what = 'delivered') AS delivered,
                count(*) FILTER (WHERE what = 'bounced') AS bounced,
                count(*) FILTER (WHERE what = 'accepted') AS accepted,
                count(*) FILTER (WHERE what = 'rejected') AS rejected
         FROM (SELECT offer_date AS day, 'made' AS what FROM offer
               WHERE tenant_id = $1 AND campaign_id = $2
               UNION ALL
               SELECT (answered_at AT TIME ZONE $3)::date, state FROM offer
               WHERE tenant_id = $1 AND campaign_id = $2 AND answered_at IS NOT NULL
               UNION ALL
               SELECT (sent_at AT TIME ZONE $3)::date, 'sent' FROM message
               WHERE tenant_id = $1 AND campaign_id = $2 AND sent_at IS NOT NULL
               UNION ALL
               SELECT (told_at AT TIME ZONE $3)::date, state FROM message
               WHERE tenant_id = $1 AND campaign_id = $2 AND told_at IS NOT NULL
                 AND state IN ('delivered', 'bounced')) happened
         GROUP BY day ORDER BY day",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Text, _>(time_zone)
    .load(conn)
    .await?)
}
