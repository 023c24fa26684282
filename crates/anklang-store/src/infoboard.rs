//! A campaign in numbers: counted from offers, messages and audiences, never kept apart.

use anklang_domain::{CampaignId, TenantId};
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Date, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::planning::work::REACHED;
use crate::{Conn, Result};

/// A phase of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Phase {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Its number within the campaign.
    #[diesel(sql_type = Integer)]
    pub number: i32,
}

/// The campaign's phases in order. Who is bound to org units sees them, and not what they were asked for by.
pub async fn phases(conn: &mut Conn, tenant: TenantId, campaign: CampaignId) -> Result<Vec<Phase>> {
    Ok(diesel::sql_query(
        "SELECT id, number FROM phase WHERE tenant_id = $1 AND campaign_id = $2 ORDER BY number",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .load(conn)
    .await?)
}

/// So many of a phase's things are in one state.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Count {
    /// The phase.
    #[diesel(sql_type = SqlUuid)]
    pub phase_id: Uuid,
    /// offer, message, response (to messages, each message once), member (key is the exclusion, empty
    /// for members), rejection (key is the reason, empty when not told), contact, call (contacts that
    /// were tried, each once: reached or not_reached), order (contacts with one).
    #[diesel(sql_type = Text)]
    pub what: String,
    /// The state.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub n: i64,
}

/// The campaign's planned contacts `k` of its phases `p`, and their attempts `x`.
const TRIED: &str = "phase p
    JOIN outbound b ON b.tenant_id = p.tenant_id AND b.phase_id = p.id AND b.phone IS NOT NULL
    JOIN planned_contact k ON k.tenant_id = b.tenant_id AND k.outbound_id = b.id
    JOIN contact_attempt x ON x.tenant_id = k.tenant_id AND x.contact_id = k.id
    WHERE p.tenant_id = $1 AND p.campaign_id = $2";

/// The campaign's planned contacts `k` of its phases `p`.
const CONTACTS: &str = "phase p
    JOIN outbound b ON b.tenant_id = p.tenant_id AND b.phase_id = p.id AND b.phone IS NOT NULL
    JOIN planned_contact k ON k.tenant_id = b.tenant_id AND k.outbound_id = b.id
    WHERE p.tenant_id = $1 AND p.campaign_id = $2";

/// Offers on `today`, messages, planned contacts and candidates by state, in one statement and so of one
/// moment.
pub async fn counts(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    today: NaiveDate,
) -> Result<Vec<Count>> {
    Ok(diesel::sql_query(format!(
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
         SELECT p.id, 'contact', k.state, count(*) FROM {CONTACTS} GROUP BY 1, 3
         UNION ALL
         SELECT p.id, 'order', '', count(*) FROM {CONTACTS}
           AND EXISTS (SELECT FROM sales_order s
                       WHERE s.tenant_id = k.tenant_id AND s.contact_id = k.id
                         AND s.state <> 'rejected') GROUP BY 1
         UNION ALL
         SELECT tried.phase_id, 'call', tried.came, count(*)
         FROM (SELECT p.id AS phase_id,
                      CASE WHEN bool_or(x.outcome_class IN ({REACHED})) THEN 'reached'
                           ELSE 'not_reached' END AS came
               FROM {TRIED} GROUP BY 1, k.id) tried
         GROUP BY 1, 3
         UNION ALL
         SELECT m.phase_id, 'member', coalesce(m.exclusion, ''), count(*)
         FROM audience_member m JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
         WHERE m.tenant_id = $1 AND p.campaign_id = $2 GROUP BY 1, 3"
    ))
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
    /// Attempts to reach customers by phone.
    #[diesel(sql_type = BigInt)]
    pub called: i64,
    /// Those in which somebody spoke to the customer.
    #[diesel(sql_type = BigInt)]
    pub spoken: i64,
}

/// Days on which something happened, in order.
pub async fn days(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    time_zone: &str,
) -> Result<Vec<Day>> {
    Ok(diesel::sql_query(format!(
        "SELECT day, count(*) FILTER (WHERE what = 'made') AS made,
                count(*) FILTER (WHERE what = 'sent') AS sent,
                count(*) FILTER (WHERE what = 'delivered') AS delivered,
                count(*) FILTER (WHERE what = 'bounced') AS bounced,
                count(*) FILTER (WHERE what = 'accepted') AS accepted,
                count(*) FILTER (WHERE what = 'rejected') AS rejected,
                count(*) FILTER (WHERE what IN ('called', 'spoken')) AS called,
                count(*) FILTER (WHERE what = 'spoken') AS spoken
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
                 AND state IN ('delivered', 'bounced')
               UNION ALL
               SELECT (x.recorded_at AT TIME ZONE $3)::date,
                      CASE WHEN x.outcome_class IN ({REACHED}) THEN 'spoken' ELSE 'called' END
               FROM {TRIED}) happened
         GROUP BY day ORDER BY day"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Text, _>(time_zone)
    .load(conn)
    .await?)
}
