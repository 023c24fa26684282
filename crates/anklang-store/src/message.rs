//! The ledger of messages: claims, outcomes, rescue.
//!
//! A message moves `queued → sending` under a lease ([`claim()`]), is marked just before it is handed
//! to its channel, and leaves `sending` with its outcome, by [`step`]s of the same lease and
//! attempt. When the lease runs out, [`rescue()`] takes over: not yet marked means that it was not
//! handed over, marked means that nobody knows.

mod claim;
mod clock;
mod content;
mod hand_over;
mod lookup;
mod moves;
mod rescue;
mod resolve;
mod wait;
mod withdraw;

use std::sync::LazyLock;

use anklang_domain::{CampaignId, MessageId, TenantId};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result};

pub use claim::{Batch, BelongsTo, Claimed, Terms, claim, due_tenants};
pub use clock::Clock;
pub use content::{Content, content};
pub use hand_over::{Ended, Stepped, prolong, step};
pub use lookup::{Doubt, Looked, claim_lookups, give_up_lookups, in_doubt, settle};
pub(crate) use moves::{NEVER_HANDED_OVER, PLACE};
pub use moves::{Stranded, move_waiting, stranded};
pub use rescue::{Orphaned, Rescued, Whose, orphaned, rescue};
pub use resolve::{Resolution, resolve, resolve_all};
pub(crate) use withdraw::withdraw;

/// What messages that are queued one by one share their turns at an account with, instead of a phase; see
/// [`claim()`].
pub(crate) const SINGLE: Uuid = Uuid::nil();

/// The most characters of a channel's words that are kept.
const MAX_DETAIL: usize = 500;

/// What a channel says goes to a log line and a database that knows no NUL: in one line, and not too
/// long.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL)
        .collect()
}

/// A message with the numbers of what it points to.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Message {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Offer number; `None` for one of no campaign, as all that is of campaigns.
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
    /// Its campaign.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub campaign_id: Option<Uuid>,
    /// Number of its phase.
    #[diesel(sql_type = Nullable<Integer>)]
    pub phase_number: Option<i32>,
    /// Number of its outbound.
    #[diesel(sql_type = Nullable<Integer>)]
    pub outbound_number: Option<i32>,
    /// The winback case to which it belongs.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub winback_case_id: Option<Uuid>,
    /// The planned contact whose customer was not reached.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub planned_contact_id: Option<Uuid>,
    /// Whether it goes to people of the tenant.
    #[diesel(sql_type = Bool)]
    pub notice: bool,
    /// The channel.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Where to.
    #[diesel(sql_type = Text)]
    pub address: String,
    /// Where it is.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Attempts begun.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// What was last said.
    #[diesel(sql_type = Text)]
    pub detail: String,
    /// The other side's id.
    #[diesel(sql_type = Text)]
    pub provider_message_id: String,
    /// Not sent before.
    #[diesel(sql_type = Timestamptz)]
    pub next_attempt_at: DateTime<Utc>,
    /// When it was queued.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When the other side took it.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub sent_at: Option<DateTime<Utc>>,
    /// When it was delivered or came back, as the channel says.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub told_at: Option<DateTime<Utc>>,
    /// When it last moved.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    /// How often its channel was asked what became of it.
    #[diesel(sql_type = Integer)]
    pub lookups: i32,
}

const SELECT: &str =
    "SELECT m.id, m.customer_id, cu.number AS customer_number, o.number AS offer_number,
        m.campaign_id, p.number AS phase_number, ob.number AS outbound_number,
        m.winback_case_id, m.planned_contact_id, m.notice IS NOT NULL AS notice, m.channel,
        m.account, m.address, m.state, m.attempt, m.detail, m.provider_message_id,
        m.next_attempt_at, m.created_at, m.sent_at, m.told_at, m.updated_at, m.lookups
    FROM message m
    JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
    LEFT JOIN offer o ON o.tenant_id = m.tenant_id AND o.id = m.offer_id
    LEFT JOIN outbound ob ON ob.tenant_id = m.tenant_id AND ob.id = m.outbound_id
    LEFT JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
    WHERE m.tenant_id = $1";

/// One message.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: MessageId) -> Result<Option<Message>> {
    Ok(diesel::sql_query(format!("{SELECT} AND m.id = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id.0)
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// Which messages to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this campaign's.
    pub campaign: Option<CampaignId>,
    /// Only this customer's, by number.
    pub customer_number: Option<String>,
    /// Only in one of these states; all when empty.
    pub states: Vec<&'static str>,
}

/// What messages are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "offer",
            &[Part::new("offers", "offer_number", PartType::Text)],
        ),
        Field::resource(
            "campaign",
            &[Part::new("campaigns", "campaign_id", PartType::Uuid)],
        ),
        Field::resource(
            "winback_case",
            &[Part::new("winbackCases", "winback_case_id", PartType::Uuid)],
        ),
        Field::resource(
            "planned_contact",
            &[Part::new(
                "plannedContacts",
                "planned_contact_id",
                PartType::Uuid,
            )],
        ),
        Field::column("notice", Kind::Flag),
        Field::column("channel", Kind::Text),
        Field::resource(
            "channel_account",
            &[Part::new("channelAccounts", "account", PartType::Text)],
        ),
        Field::column("address", Kind::Text),
        Field::column("state", Kind::Word("MESSAGE_STATE_", STATES)),
        Field::new("attempt_count", Kind::Number, "attempt"),
        Field::column("detail", Kind::Text),
        Field::column("provider_message_id", Kind::Text),
        Field::new("next_attempt_time", Kind::Time, "next_attempt_at"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::nullable("send_time", Kind::Time, "sent_at"),
        Field::nullable("report_time", Kind::Time, "told_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
        Field::new("lookup_count", Kind::Number, "lookups"),
    ],
    key: &[Sort::key("id", "::uuid", false)],
};

/// Several messages by their ids, in no order; those that are not there are left out.
pub async fn get_all(mut conn: &Conn, tenant: TenantId, ids: &[Uuid]) -> Result<Vec<Message>> {
    Ok(diesel::sql_query(format!("{SELECT} AND m.id = ANY($2)"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Array<SqlUuid>, _>(ids)
        .load(&mut conn)
        .await?)
}

const STATES: &[&str] = &[
    "queued",
    "sending",
    "sent",
    "delivered",
    "failed",
    "bounced",
    "suppressed",
    "ambiguous",
    "cancelled",
];

/// A page of messages, oldest first if not otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    filter: &Filter,
    list: &List,
) -> Result<Page<Message>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{SELECT} AND ($2 IS NULL OR m.campaign_id = $2) AND ($3 IS NULL OR cu.number = $3)
             AND (cardinality($4) = 0 OR m.state = ANY($4))"
        )
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<SqlUuid>, _>(filter.campaign.map(|id| id.0)),
            bound::<Nullable<Text>, _>(filter.customer_number.clone()),
            bound::<Array<Text>, _>(filter.states.clone()),
        ],
    );
    list.load_of_customers(conn, tenant, base).await
}

/// One try to send a message.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Attempt {
    /// From 1.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// When it began.
    #[diesel(sql_type = Timestamptz)]
    pub started_at: DateTime<Utc>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    #[diesel(sql_type = Nullable<Text>)]
    pub outcome: Option<String>,
    /// What the channel said.
    #[diesel(sql_type = Text)]
    pub detail: String,
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
}

/// A message's attempts, in order.
pub async fn attempts(mut conn: &Conn, tenant: TenantId, id: MessageId) -> Result<Vec<Attempt>> {
    Ok(diesel::sql_query(
        "SELECT a.attempt, a.started_at, a.ended_at, a.outcome, a.detail,
                coalesce(nullif(a.account, ''), m.account) AS account
         FROM message_attempt a
         JOIN message m ON m.tenant_id = a.tenant_id AND m.id = a.message_id
         WHERE a.tenant_id = $1 AND a.message_id = $2 ORDER BY a.attempt",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .load(&mut conn)
    .await?)
}

#[expect(clippy::cast_precision_loss, reason = "at most some minutes")]
pub(crate) fn seconds(span: TimeDelta) -> f64 {
    span.num_milliseconds() as f64 / 1_000.0
}
