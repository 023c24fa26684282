//! How winback goes: figures of cases and of what was done with them, in groups, by one statement.
//!
//! What happened, a *fact*, is a case that was opened, a mail, a request for an offer, a reminder, or the end
//! of a case. Each fact is in exactly one group. Of cases that may have several facts in several groups,
//! those with a contact, each group counts its own, and the total each once. Days are those of one time zone,
//! the tenant's.

use anklang_domain::TenantId;
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Date, Numeric, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;

use super::CONTACT;
use super::case::BRAND;
use crate::sql::without_jit;
use crate::{Conn, Result, analysis};

/// By what to group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the API, which documents them")]
pub enum Dimension {
    Week,
    Worker,
    Template,
    Brand,
    Reason,
}

/// By all of them at the same time, at most.
pub const MAX_DIMENSIONS: usize = 5;

impl Dimension {
    /// Text by which a fact `f` of a case `k` is grouped.
    fn of(self) -> String {
        match self {
            Dimension::Week => "to_char(date_trunc('week', f.day::timestamp), 'YYYY-MM-DD')".into(),
            Dimension::Worker => "f.worker".into(),
            Dimension::Template => "f.template".into(),
            Dimension::Brand => brand(),
            Dimension::Reason => "f.reason".into(),
        }
    }
}

/// Code of the brand of a fact `f` of a case `k`: that of its mail, else of the customer's newest order.
fn brand() -> String {
    let newest = &*BRAND;
    format!(
        "coalesce((SELECT y.code FROM brand y WHERE y.tenant_id = $1 AND y.id = f.brand_id), {newest}, '')"
    )
}

/// What a message through an account costs that is not the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// The account. One of the tenant's own with this id hides it.
    pub account: String,
    /// What a message costs, in the currency of the question.
    pub cost: Decimal,
}

/// What is wanted. Filters that are empty take all.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The first day.
    pub first: NaiveDate,
    /// The last day.
    pub last: NaiveDate,
    /// The time zone of days.
    pub time_zone: &'a str,
    /// Each at most once.
    pub group_by: &'a [Dimension],
    /// `users/…`.
    pub workers: &'a [String],
    /// Codes of brands.
    pub brands: &'a [String],
    /// Customer groups.
    pub groups: &'a [&'a str],
    /// The currency of sums.
    pub currency: &'a str,
    /// What messages cost through accounts that are not the tenant's own.
    pub prices: &'a [Price],
    /// At most so many groups.
    pub limit: usize,
}

/// The figures of a group.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Figures {
    /// False for the total.
    #[diesel(sql_type = Bool)]
    pub is_group: bool,
    /// What its facts have in common, one for each dimension: codes and words as they are kept, weeks as
    /// their Mondays, "2026-01-26".
    #[diesel(sql_type = Array<Text>)]
    pub keys: Vec<String>,
    /// Cases that were opened.
    #[diesel(sql_type = BigInt)]
    pub opened: i64,
    /// Mails.
    #[diesel(sql_type = BigInt)]
    pub mails: i64,
    /// Requests for offers.
    #[diesel(sql_type = BigInt)]
    pub offer_requests: i64,
    /// Cases with one of these.
    #[diesel(sql_type = BigInt)]
    pub contacted: i64,
    /// Of these: won back after a contact, until now.
    #[diesel(sql_type = BigInt)]
    pub recovered: i64,
    /// Reminders.
    #[diesel(sql_type = BigInt)]
    pub reminders: i64,
    /// Cases that were closed without interest.
    #[diesel(sql_type = BigInt)]
    pub no_interest: i64,
    /// Cases that were won back.
    #[diesel(sql_type = BigInt)]
    pub won_back: i64,
    /// Of these: after a contact.
    #[diesel(sql_type = BigInt)]
    pub won_after_contact: i64,
    /// What the orders came to that won cases back.
    #[diesel(sql_type = Numeric)]
    pub revenue: Decimal,
    /// Of this: after a contact.
    #[diesel(sql_type = Numeric)]
    pub revenue_after_contact: Decimal,
    /// Cases that were won back in another currency.
    #[diesel(sql_type = BigInt)]
    pub other_currency: i64,
    /// Mails that a channel accepted.
    #[diesel(sql_type = BigInt)]
    pub sent: i64,
    /// What these cost.
    #[diesel(sql_type = Numeric)]
    pub cost: Decimal,
    /// Those of which that is not known.
    #[diesel(sql_type = BigInt)]
    pub unknown_cost: i64,
    /// Mails with a voucher.
    #[diesel(sql_type = BigInt)]
    pub vouchers: i64,
}

/// What was found.
pub type Analysis = analysis::Analysis<Figures>;

/// Adds up.
pub async fn analyse(
    conn: &mut Conn,
    tenant: TenantId,
    question: &Question<'_>,
) -> Result<Analysis> {
    without_jit(conn).await?;
    let prices = question.prices.iter();
    let (accounts, costs): (Vec<&str>, Vec<Decimal>) =
        prices.map(|price| (&price.account[..], price.cost)).unzip();
    let rows = diesel::sql_query(sql(question.group_by))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Date, _>(question.first)
        .bind::<Date, _>(question.last)
        .bind::<Text, _>(question.time_zone)
        .bind::<Array<Text>, _>(question.workers)
        .bind::<Array<Text>, _>(question.brands)
        .bind::<Array<Text>, _>(question.groups)
        .bind::<Text, _>(question.currency)
        .bind::<Array<Text>, _>(accounts)
        .bind::<Array<Numeric>, _>(costs)
        .bind::<BigInt, _>(Analysis::rows(question.limit))
        .load(conn)
        .await?;
    Analysis::of(rows, question.limit)
}

/// The last contact `l` before the event `e` by which the case `k` was closed, where that counts for it. Of one
/// that was won back it is the last one until the day of the order.
fn last_contact() -> String {
    format!(
        "SELECT x.actor, x.detail->>'template' AS template
         FROM winback_case_event x
         WHERE x.tenant_id = $1 AND x.case_id = e.case_id AND {CONTACT}
           AND (x.created_at, x.id) < (e.created_at, e.id)
           AND (e.kind = 'no_interest' OR e.kind = 'won_back' AND k.won_contacted AND NOT EXISTS (
               SELECT FROM sales_order o WHERE o.tenant_id = $1 AND o.id = k.won_order_id
                 AND (o.ordered_at AT TIME ZONE $4)::date < (x.created_at AT TIME ZONE $4)::date))
         ORDER BY x.created_at DESC, x.id DESC LIMIT 1"
    )
}

fn sql(group_by: &[Dimension]) -> String {
    let keys = analysis::keys(MAX_DIMENSIONS, |i| group_by.get(i).map(|d| d.of()));
    let each = |one: fn(usize) -> String| {
        let all: Vec<String> = (0..MAX_DIMENSIONS).map(one).collect();
        all.join(", ")
    };
    let names = each(|i| format!("d{i}"));
    let shown = each(|i| format!("coalesce(d{i}, '')"));
    let last_contact = last_contact();
    // Facts `f` of cases `k` with customers `c` that are asked for.
    let asked_for = format!(
        "(cardinality($5) = 0 OR f.worker = ANY($5))
         AND (cardinality($6) = 0 OR {} = ANY($6))
         AND (cardinality($7) = 0 OR c.customer_group = ANY($7))",
        brand()
    );
    format!(
        "WITH price AS (
             SELECT id, CASE cost_currency WHEN $8 THEN cost END AS cost
             FROM channel_account WHERE tenant_id = $1
             UNION ALL
             SELECT g.id, g.cost FROM unnest($9::text[], $10::numeric[]) AS g (id, cost)
             WHERE NOT EXISTS (SELECT FROM channel_account a WHERE a.tenant_id = $1 AND a.id = g.id)),
         fact AS (
             SELECT {keys}, 'opened' AS kind, k.id AS case_id, false AS won_contacted,
                    NULL::numeric AS revenue, false AS is_sent, NULL::numeric AS cost,
                    false AS has_voucher, false AS is_undone
             FROM winback_case k
             JOIN customer c ON c.tenant_id = $1 AND c.id = k.customer_id
             CROSS JOIN LATERAL (
                 SELECT k.opened_on AS day, ''::text AS worker, ''::text AS template,
                        ''::text AS reason, NULL::uuid AS brand_id) f
             WHERE k.tenant_id = $1 AND k.opened_on BETWEEN $2 AND $3 AND {asked_for}
             UNION ALL
             SELECT {keys}, e.kind, k.id, coalesce(k.won_contacted, false),
                    CASE WHEN e.kind = 'won_back' AND k.currency = $8 THEN k.won_revenue END,
                    coalesce(m.state IN ('sent', 'delivered', 'bounced'), false), p.cost,
                    e.kind = 'mailed' AND w.voucher_id IS NOT NULL,
                    e.kind = 'mailed' AND coalesce(w.undone, false)
             FROM winback_case_event e
             JOIN winback_case k ON k.tenant_id = $1 AND k.id = e.case_id
             JOIN customer c ON c.tenant_id = $1 AND c.id = k.customer_id
             LEFT JOIN LATERAL ({last_contact}) l ON true
             LEFT JOIN winback_mail w ON w.tenant_id = $1 AND w.case_id = e.case_id
                  AND CASE WHEN e.kind = 'mailed' AND e.detail ? 'message'
                           THEN w.message_id = substr(e.detail->>'message', 10)::uuid
                           ELSE NOT w.undone AND w.template
                                = CASE e.kind WHEN 'mailed' THEN e.detail->>'template'
                                  ELSE l.template END END
             LEFT JOIN message m ON m.tenant_id = $1 AND m.id = w.message_id AND e.kind = 'mailed'
             LEFT JOIN price p ON p.id = m.account
             CROSS JOIN LATERAL (
                 SELECT (e.created_at AT TIME ZONE $4)::date AS day,
                        CASE e.kind WHEN 'won_back' THEN coalesce(l.actor, '') ELSE e.actor END
                            AS worker,
                        coalesce(CASE e.kind WHEN 'mailed' THEN e.detail->>'template'
                                 ELSE l.template END, '') AS template,
                        CASE e.kind WHEN 'no_interest' THEN coalesce(k.no_interest, '') ELSE '' END
                            AS reason,
                        w.brand_id) f
             WHERE e.tenant_id = $1 AND e.created_at >= $2::timestamp AT TIME ZONE $4
               AND e.created_at < ($3 + 1)::timestamp AT TIME ZONE $4
               AND e.kind IN ('mailed', 'offer_requested', 'reminder', 'no_interest', 'won_back')
               AND {asked_for})
         SELECT GROUPING(d0) = 0 AS is_group, ARRAY[{shown}] AS keys,
                count(*) FILTER (WHERE kind = 'opened') AS opened,
                count(*) FILTER (WHERE kind = 'mailed') AS mails,
                count(*) FILTER (WHERE kind = 'offer_requested') AS offer_requests,
                count(DISTINCT case_id) FILTER (
                    WHERE kind IN ('mailed', 'offer_requested') AND NOT is_undone) AS contacted,
                count(DISTINCT case_id) FILTER (
                    WHERE kind IN ('mailed', 'offer_requested') AND NOT is_undone
                      AND won_contacted) AS recovered,
                count(*) FILTER (WHERE kind = 'reminder') AS reminders,
                count(*) FILTER (WHERE kind = 'no_interest') AS no_interest,
                count(*) FILTER (WHERE kind = 'won_back') AS won_back,
                count(*) FILTER (WHERE kind = 'won_back' AND won_contacted) AS won_after_contact,
                coalesce(sum(revenue), 0) AS revenue,
                coalesce(sum(revenue) FILTER (WHERE won_contacted), 0) AS revenue_after_contact,
                count(*) FILTER (WHERE kind = 'won_back' AND revenue IS NULL) AS other_currency,
                count(*) FILTER (WHERE is_sent) AS sent,
                coalesce(sum(cost) FILTER (WHERE is_sent), 0) AS cost,
                count(*) FILTER (WHERE is_sent AND cost IS NULL) AS unknown_cost,
                count(*) FILTER (WHERE has_voucher) AS vouchers
         FROM fact GROUP BY GROUPING SETS (({names}), ())
         ORDER BY is_group, {names} LIMIT $11"
    )
}
