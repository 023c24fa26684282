//! Withdraws what is still to happen with a person who is erased.

use anklang_domain::winback::{Action, NoInterestReason};
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Counts, Subject};
use crate::bundle::MAKING;
use crate::planning::{calls, generate};
use crate::tenant::Tenant;
use crate::units::CLAIM_LEFT;
use crate::winback::case::act::{self, Deed};
use crate::{Conn, Result, message, offer};

/// Why offers are withdrawn and addresses blocked.
pub(crate) const REASON: &str = "erased";

/// What was withdrawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Names of what is under way still, in the hands of senders and people, which is left to them.
    pub under_way: Vec<String>,
    /// Rows that are gone, of each table.
    pub removed: Counts,
}

/// From this transaction on nobody finds, changes or contacts the customer: open offers are withdrawn, messages that
/// are queued and planned contacts called off, the winback case closed, consents gone, addresses blocked by their
/// hashes.
pub async fn withdraw(conn: &mut Conn, tenant: &Tenant, subject: &Subject) -> Result<Withdrawn> {
    // Before any row: whoever generates contacts holds it and then rows of them.
    generate::begin_chunk(conn, subject.tenant).await?;
    close(conn, subject).await?;
    block(conn, subject).await?;
    let mut removed = Counts::new();
    for table in ["consent", "plan_entry"] {
        let sql = format!("DELETE FROM {table} WHERE tenant_id = $1 AND customer_id = $2");
        let rows = subject.query(sql).execute(conn).await?;
        if rows > 0 {
            removed.insert(table.to_owned(), i64::try_from(rows).unwrap_or(i64::MAX));
        }
    }
    withdraw_offers(conn, tenant, subject).await?;
    close_case(conn, subject).await?;
    message::withdraw(conn, subject.tenant, subject.id).await?;
    calls::call_off_customer(conn, subject.tenant, subject.id).await?;
    Ok(Withdrawn {
        under_way: under_way(conn, subject).await?,
        removed,
    })
}

/// Customer and contracts are found no more. Not locked against what points to them: whoever sends or reports does so
/// with a line of history, and is waited for elsewhere.
async fn close(conn: &mut Conn, subject: &Subject) -> Result<()> {
    for sql in [
        "SELECT 1 FROM customer WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE",
        "UPDATE customer SET erased_at = now(), updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND erased_at IS NULL",
        "SELECT 1 FROM contract WHERE tenant_id = $1 AND customer_id = $2
         ORDER BY number FOR NO KEY UPDATE",
        "UPDATE contract SET erased_at = now(), updated_at = now()
         WHERE tenant_id = $1 AND customer_id = $2 AND erased_at IS NULL",
    ] {
        subject.query(sql.into()).execute(conn).await?;
    }
    Ok(())
}

/// Blocks the person's addresses, also those that messages went to before. One that another customer has as well
/// stays free: it is that one's.
async fn block(conn: &mut Conn, subject: &Subject) -> Result<()> {
    subject
        .query(format!(
            "INSERT INTO suppression (tenant_id, channel, address_hash, reason)
             SELECT $1, a.channel, a.address_hash, '{REASON}'
             FROM (SELECT channel, address_hash FROM contact_point
                   WHERE tenant_id = $1 AND customer_id = $2
                   UNION
                   SELECT CASE channel WHEN 'sms' THEN 'mobile' ELSE channel END, address_hash
                   FROM message
                   WHERE tenant_id = $1 AND customer_id = $2 AND notice IS NULL
                     AND address_hash <> '') a
             WHERE NOT EXISTS (SELECT FROM contact_point o
                   WHERE o.tenant_id = $1 AND o.channel = a.channel
                     AND o.address_hash = a.address_hash AND o.customer_id <> $2)
             ORDER BY a.channel, a.address_hash
             ON CONFLICT DO NOTHING"
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Drafts whose letter is being made just now, so that it would lie in the store unrecorded.
const BEING_MADE: &str = "o.state = 'draft' AND (
    o.phase_id IS NULL AND o.created_at > now() - interval '1 minute'
    OR EXISTS (SELECT FROM phase p WHERE p.tenant_id = $1 AND p.id = o.phase_id
               AND p.state = 'launching'))";

async fn withdraw_offers(conn: &mut Conn, tenant: &Tenant, subject: &Subject) -> Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        number: String,
    }
    let offers: Vec<Row> = subject
        .query(format!(
            "SELECT o.number FROM offer o
             WHERE o.tenant_id = $1 AND o.customer_id = $2 AND o.state IN ('draft', 'open')
               AND NOT ({BEING_MADE})
             ORDER BY o.number"
        ))
        .load(conn)
        .await?;
    for Row { number } in offers {
        // One whose days are over expires by itself.
        offer::withdraw(conn, tenant, &number, REASON).await?;
    }
    Ok(())
}

async fn close_case(conn: &mut Conn, subject: &Subject) -> Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Bool)]
        held: bool,
    }
    let cases: Vec<Row> = subject
        .query(format!(
            "SELECT k.id, k.held_until > clock_timestamp() IS TRUE AND NOT {CLAIM_LEFT} AS held FROM winback_case k
             WHERE k.tenant_id = $1 AND k.customer_id = $2 AND k.state NOT IN ('no_interest', 'won_back')
             FOR UPDATE OF k"
        ))
        .load(conn)
        .await?;
    let action = Action::NoInterest(NoInterestReason::NoContact);
    for case in cases.iter().filter(|case| !case.held) {
        let deed = Deed {
            worker: "",
            claim: None,
            action: &action,
            note: "",
        };
        let decided = act::decide(conn, subject.tenant, case.id, &deed).await?;
        act::write(conn, subject.tenant, &decided, &deed, None).await?;
    }
    Ok(())
}

/// What of the person is in others' hands: messages with their senders, contacts and cases with people, letters
/// being made, launches that have the person in their audience, bundles being made with letters to the person.
async fn under_way(conn: &mut Conn, subject: &Subject) -> Result<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let rows: Vec<Row> = subject
        .query(format!(
            "SELECT 'messages/' || id AS name FROM message
             WHERE tenant_id = $1 AND customer_id = $2 AND state IN ('queued', 'sending')
             UNION ALL
             SELECT 'plannedContacts/' || id FROM planned_contact
             WHERE tenant_id = $1 AND customer_id = $2 AND state IN ('open', 'waiting', 'claimed')
             UNION ALL
             SELECT 'winbackCases/' || id FROM winback_case
             WHERE tenant_id = $1 AND customer_id = $2 AND state NOT IN ('no_interest', 'won_back')
             UNION ALL
             SELECT 'offers/' || o.number FROM offer o
             WHERE o.tenant_id = $1 AND o.customer_id = $2 AND {BEING_MADE}
             UNION ALL
             SELECT DISTINCT 'campaigns/' || p.campaign_id || '/phases/' || p.number FROM phase p
             CROSS JOIN (
                 SELECT id FROM contract WHERE tenant_id = $1 AND customer_id = $2
                 UNION SELECT contract_id FROM offer
                 WHERE tenant_id = $1 AND customer_id = $2) own
             JOIN LATERAL (SELECT customer_id, exclusion FROM audience_member
                 WHERE tenant_id = $1 AND phase_id = p.id AND contract_id = own.id
                 OFFSET 0) m ON true
             WHERE p.tenant_id = $1 AND p.state = 'launching' AND m.customer_id = $2
               AND m.exclusion IS NULL
             UNION ALL
             SELECT DISTINCT 'campaigns/' || p.campaign_id || '/phases/' || p.number
                             || '/outbounds/' || ob.number || '/bundle'
             FROM offer o
             JOIN document d ON d.tenant_id = $1 AND d.offer_id = o.id AND d.erased_at IS NULL
             JOIN phase p ON p.tenant_id = $1 AND p.id = o.phase_id
             JOIN outbound ob ON ob.tenant_id = $1 AND ob.phase_id = p.id
             JOIN bundle b ON b.tenant_id = $1 AND b.outbound_id = ob.id
             WHERE o.tenant_id = $1 AND o.customer_id = $2
               AND (d.print_file IS NOT NULL OR o.state = 'accepted') AND {MAKING}"
        ))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}
