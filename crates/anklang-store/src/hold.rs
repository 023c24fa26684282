//! Holding resources: changes that first look at a resource take turns.
//!
//! A change that depends on how something stands (its etag, the fields that an update leaves as they
//! are) holds it, reads it, and then writes. The locks are those that the writing statements take
//! anyway, so that whoever does not look waits as well; what has no row of its own is locked by
//! its name. Imports lock rows as they write them and are not held up: what they write to a customer's
//! or contract's parts between reading and writing is replaced like anything older.

use anklang_domain::{CampaignId, EventId, MessageId, SelectionId, TenantId, WebhookId};
use diesel::pg::Pg;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::sql::Fix;
use crate::{Conn, Result};

/// What is held until the end of the transaction.
#[derive(Debug, Clone, Copy)]
pub enum Held<'a> {
    /// A brand by its code, and all its templates.
    Brand(&'a str),
    /// A product by its number, and all its versions.
    Product(&'a str),
    /// A customer by its number.
    Customer(&'a str),
    /// A contract by its number.
    Contract(&'a str),
    /// An order by its number.
    Order(&'a str),
    /// A selection.
    Selection(SelectionId),
    /// A preset by its id.
    Preset(&'a str),
    /// A campaign.
    Campaign(CampaignId),
    /// A phase by its campaign and number.
    Phase(CampaignId, i32),
    /// A message.
    Message(MessageId),
    /// A webhook.
    Webhook(WebhookId),
    /// A delivery by its webhook and event.
    Delivery(WebhookId, EventId),
    /// A channel account by its id.
    ChannelAccount(&'a str),
    /// A channel route by its id.
    ChannelRoute(&'a str),
    /// The blocks of a channel's addresses.
    Suppression(&'a str),
    /// The tenant's contact budget.
    ContactBudget,
    /// How the tenant's offers are numbered.
    OfferNumberRange,
    /// Which launches need an approval.
    ApprovalPolicy,
    /// A contact plan by its code, and its entries and exceptions.
    ContactPlan(&'a str),
    /// A workday calendar by its id.
    WorkdayCalendar(&'a str),
    /// A planned contact.
    PlannedContact(Uuid),
    /// An outcome of contacts by its id.
    ContactOutcome(&'a str),
    /// What the tenant sets for winback.
    WinbackSettings,
    /// A winback case.
    WinbackCase(Uuid),
}

/// Holds a resource until the end of the transaction. One that does not exist is not held; reading
/// it afterwards shows that.
pub async fn hold(conn: &mut Conn, tenant: TenantId, held: Held<'_>) -> Result<()> {
    if matches!(held, Held::OfferNumberRange) {
        // Before the first offer there is no row.
        lock(conn, tenant, BY_NAME, ["offerNumberRange".into()]).await?;
    }
    let key = |sql, key: String| (sql, vec![key]);
    let (sql, keys) = match held {
        Held::Brand(code) => key(
            "SELECT 1 FROM brand WHERE tenant_id = $1 AND code = $2 FOR UPDATE",
            code.into(),
        ),
        Held::Product(number) => key(
            "SELECT 1 FROM product WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE",
            number.into(),
        ),
        Held::Customer(number) => key(
            "SELECT 1 FROM customer WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE",
            number.into(),
        ),
        Held::Contract(number) => key(
            "SELECT 1 FROM contract WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE",
            number.into(),
        ),
        Held::Order(number) => key(
            "SELECT 1 FROM sales_order WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE",
            number.into(),
        ),
        Held::Selection(id) => key(
            "SELECT 1 FROM selection WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
            id.to_string(),
        ),
        Held::Preset(code) => key(
            "SELECT 1 FROM selection_preset WHERE tenant_id = $1 AND code = $2 FOR UPDATE",
            code.into(),
        ),
        Held::Campaign(id) => key(
            "SELECT 1 FROM campaign WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
            id.to_string(),
        ),
        Held::Phase(campaign, number) => (
            "SELECT 1 FROM phase
             WHERE tenant_id = $1 AND campaign_id = $2::uuid AND number = $3::integer FOR UPDATE",
            vec![campaign.to_string(), number.to_string()],
        ),
        Held::Message(id) => key(
            "SELECT 1 FROM message WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
            id.to_string(),
        ),
        Held::Webhook(id) => key(
            "SELECT 1 FROM webhook WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
            id.to_string(),
        ),
        Held::Delivery(webhook, event) => (
            "SELECT 1 FROM handover_delivery
             WHERE tenant_id = $1 AND webhook_id = $2::uuid AND event_id = $3::uuid FOR UPDATE",
            vec![webhook.to_string(), event.to_string()],
        ),
        Held::ChannelAccount(id) => key(
            "SELECT 1 FROM channel_account WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
            id.into(),
        ),
        Held::ChannelRoute(id) => key(
            "SELECT 1 FROM channel_route WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
            id.into(),
        ),
        Held::Suppression(channel) => key(BY_NAME, format!("suppression/{channel}")),
        Held::ContactBudget => key(BY_NAME, "contactBudget".into()),
        Held::ApprovalPolicy => key(BY_NAME, "approvalPolicy".into()),
        // There may be none of that name yet, and entries and exceptions are checked against it.
        Held::ContactPlan(code) => key(BY_NAME, format!("contactPlans/{code}")),
        Held::WorkdayCalendar(id) => key(BY_NAME, format!("workdayCalendars/{id}")),
        Held::PlannedContact(id) => key(
            "SELECT 1 FROM planned_contact WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
            id.to_string(),
        ),
        Held::WinbackCase(id) => key(
            "SELECT 1 FROM winback_case WHERE tenant_id = $1 AND id = $2::uuid FOR UPDATE",
            id.to_string(),
        ),
        Held::ContactOutcome(id) => key(BY_NAME, format!("contactOutcomes/{id}")),
        Held::WinbackSettings => key(BY_NAME, "winbackSettings".into()),
        // Launches hold the row while they take numbers.
        Held::OfferNumberRange => key(
            "SELECT 1 FROM number_range WHERE tenant_id = $1 AND kind = $2 FOR UPDATE",
            "offer".into(),
        ),
    };
    lock(conn, tenant, sql, keys).await
}

async fn lock(
    conn: &mut Conn,
    tenant: TenantId,
    sql: &'static str,
    keys: impl IntoIterator<Item = String>,
) -> Result<()> {
    let mut query = diesel::sql_query(sql)
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(tenant.0);
    for key in keys {
        query = query.bind::<Text, _>(key);
    }
    query.fixed().execute(conn).await?;
    Ok(())
}

/// For what has no row of its own, or none yet.
const BY_NAME: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2, 0))";
