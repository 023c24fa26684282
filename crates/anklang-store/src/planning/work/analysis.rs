//! How contacts went: figures of contacts and attempts in groups, by one statement.
//!
//! Two kinds of facts are added up side by side: contacts whose contact date is in the range, and attempts
//! that were recorded in it. Each contact and each attempt is in exactly one group, so that groups add up to
//! the total. Days and hours are those of one time zone, the tenant's.

use anklang_domain::TenantId;
use anklang_domain::planning::OutcomeClass;
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Date, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result, analysis};

/// At most by so many dimensions at the same time.
pub const MAX_DIMENSIONS: usize = 3;

/// By what to group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the API, which documents them")]
pub enum Dimension {
    ContactPlan,
    Worker,
    CustomerGroup,
    Day,
    Week,
    Month,
    Weekday,
    Hour,
    OutcomeClass,
}

impl Dimension {
    /// Text by which a contact `k` with its attempts `a`, customer `c` and contact time `local` is
    /// grouped, and an attempt `a` of a contact `k`, recorded at the time `local`.
    fn of(self) -> [&'static str; 2] {
        use Dimension as D;
        match self {
            D::ContactPlan => ["coalesce(k.plan_code, '')"; 2],
            D::Worker => ["coalesce(a.last_worker, '')", "a.worker"],
            D::CustomerGroup => ["c.customer_group"; 2],
            D::Day => [
                "to_char(k.contact_date, 'YYYY-MM-DD')",
                "to_char(local, 'YYYY-MM-DD')",
            ],
            D::Week => [
                "to_char(date_trunc('week', k.contact_date::timestamp), 'YYYY-MM-DD')",
                "to_char(date_trunc('week', local), 'YYYY-MM-DD')",
            ],
            D::Month => [
                "to_char(date_trunc('month', k.contact_date::timestamp), 'YYYY-MM-DD')",
                "to_char(date_trunc('month', local), 'YYYY-MM-DD')",
            ],
            D::Weekday => ["to_char(k.contact_date, 'ID')", "to_char(local, 'ID')"],
            D::Hour => ["to_char(local, 'HH24')"; 2],
            D::OutcomeClass => ["coalesce(k.outcome_class, '')", "a.outcome_class"],
        }
    }
}

/// What is wanted. Filters that are empty take all.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The first day.
    pub first: NaiveDate,
    /// The last day.
    pub last: NaiveDate,
    /// The time zone of days and hours.
    pub time_zone: &'a str,
    /// At most [`MAX_DIMENSIONS`].
    pub group_by: &'a [Dimension],
    /// Codes of plans.
    pub plans: &'a [String],
    /// `users/…` and `roles/…`.
    pub responsibles: &'a [String],
    /// Customer groups.
    pub groups: &'a [&'a str],
    /// Campaigns.
    pub campaigns: &'a [Uuid],
    /// At most so many groups.
    pub limit: usize,
}

/// The order of [`Figures::attempts`] and the like.
pub const CLASSES: [OutcomeClass; 6] = [
    OutcomeClass::Done,
    OutcomeClass::OrderTaken,
    OutcomeClass::NotReached,
    OutcomeClass::Busy,
    OutcomeClass::CallLater,
    OutcomeClass::Cancelled,
];

/// The figures of a group. Of attempts one for each of [`CLASSES`].
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Figures {
    /// False for the total.
    #[diesel(sql_type = Bool)]
    pub is_group: bool,
    /// What its contacts and attempts have in common, one for each dimension: codes and words as they
    /// are kept, dates as "2026-01-31", weekdays "1" (Monday) to "7", hours "00" to "23".
    #[diesel(sql_type = Array<Text>)]
    pub keys: Vec<String>,
    /// Contacts.
    #[diesel(sql_type = BigInt)]
    pub planned: i64,
    /// Contacts that are done.
    #[diesel(sql_type = BigInt)]
    pub done: i64,
    /// Contacts that are given up.
    #[diesel(sql_type = BigInt)]
    pub given_up: i64,
    /// Contacts that are cancelled.
    #[diesel(sql_type = BigInt)]
    pub cancelled: i64,
    /// Contacts with attempts.
    #[diesel(sql_type = BigInt)]
    pub tried: i64,
    /// Contacts in which somebody spoke to the customer.
    #[diesel(sql_type = BigInt)]
    pub reached: i64,
    /// Contacts with an order.
    #[diesel(sql_type = BigInt)]
    pub ordered: i64,
    /// Contacts whose first attempt was within their window.
    #[diesel(sql_type = BigInt)]
    pub punctual: i64,
    /// Contacts whose first attempt was behind it.
    #[diesel(sql_type = BigInt)]
    pub late: i64,
    /// By how much, in microseconds.
    #[diesel(sql_type = BigInt)]
    pub late_micros: i64,
    /// Attempts.
    #[diesel(sql_type = Array<BigInt>)]
    pub attempts: Vec<i64>,
    /// How long was talked, in seconds.
    #[diesel(sql_type = Array<BigInt>)]
    pub talk_seconds: Vec<i64>,
    /// From the claim to the outcome, in microseconds.
    #[diesel(sql_type = Array<BigInt>)]
    pub claimed_micros: Vec<i64>,
    /// Attempts of which that is known.
    #[diesel(sql_type = Array<BigInt>)]
    pub timed: Vec<i64>,
}

/// What was found.
pub type Analysis = analysis::Analysis<Figures>;

/// Adds up.
pub async fn analyse(
    conn: &mut Conn,
    tenant: TenantId,
    question: &Question<'_>,
) -> Result<Analysis> {
    let rows = diesel::sql_query(sql(question.group_by))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Date, _>(question.first)
        .bind::<Date, _>(question.last)
        .bind::<Text, _>(question.time_zone)
        .bind::<Array<Text>, _>(question.plans)
        .bind::<Array<Text>, _>(question.responsibles)
        .bind::<Array<Text>, _>(question.groups)
        .bind::<Array<SqlUuid>, _>(question.campaigns)
        .bind::<BigInt, _>(Analysis::rows(question.limit))
        .load(conn)
        .await?;
    Analysis::of(rows, question.limit)
}

/// Contacts `k` with customers `c` that are asked for.
const ASKED_FOR: &str = "(cardinality($5) = 0 OR k.plan_code = ANY($5))
    AND (cardinality($6) = 0 OR k.responsible = ANY($6))
    AND (cardinality($7) = 0 OR c.customer_group = ANY($7))
    AND (cardinality($8) = 0 OR k.outbound_id IN (
        SELECT o.id FROM outbound o
        JOIN phase f ON f.tenant_id = o.tenant_id AND f.id = o.phase_id
        WHERE o.tenant_id = $1 AND f.campaign_id = ANY($8)))";

fn sql(group_by: &[Dimension]) -> String {
    let key = |kind: usize| {
        let of = |i: usize| group_by.get(i).map(|d| d.of()[kind].to_owned());
        analysis::keys(MAX_DIMENSIONS, of)
    };
    let by_class = |what: &str| {
        let one = |class: &OutcomeClass| {
            let class = class.as_str();
            format!("coalesce(sum({what}) FILTER (WHERE class = '{class}'), 0)::bigint")
        };
        let all: Vec<String> = CLASSES.iter().map(one).collect();
        format!("ARRAY[{}]", all.join(", "))
    };
    let [attempts, talk, claimed, timed] = ["attempts", "talk", "claimed", "timed"].map(by_class);
    let (contact_key, attempt_key) = (key(0), key(1));
    let count = |what: &str| format!("coalesce(sum(({what})::int), 0)::bigint");
    let [planned, done, given_up, cancelled] = [
        "planned",
        "state = 'done'",
        "state = 'given_up'",
        "state = 'cancelled'",
    ]
    .map(count);
    let [tried, reached, ordered, punctual, late] = [
        "first_at IS NOT NULL",
        "reached",
        "ordered",
        "first_at >= window_from AND first_at < window_to",
        "first_at >= window_to",
    ]
    .map(count);
    format!(
        "WITH contact AS (
             SELECT {contact_key}, k.state, k.window_from, k.window_to, a.first_at, a.reached, a.ordered
             FROM planned_contact k
             JOIN customer c ON c.tenant_id = $1 AND c.id = k.customer_id
             CROSS JOIN LATERAL (SELECT k.contact_at AT TIME ZONE $4 AS local) l
             LEFT JOIN LATERAL (
                 SELECT min(t.recorded_at) FILTER (WHERE t.attempt = 1) AS first_at,
                        bool_or(t.outcome_class IN ('done', 'order_taken', 'call_later')) AS reached,
                        bool_or(t.outcome_class = 'order_taken') AS ordered,
                        (array_agg(t.worker ORDER BY t.attempt DESC))[1] AS last_worker
                 FROM contact_attempt t
                 WHERE t.tenant_id = $1 AND t.contact_id = k.id) a ON k.attempts > 0
             WHERE k.tenant_id = $1 AND k.contact_date BETWEEN $2 AND $3 AND {ASKED_FOR}),
         attempt AS (
             SELECT {attempt_key}, a.outcome_class, a.talk_seconds, a.recorded_at, a.claimed_at
             FROM contact_attempt a
             JOIN planned_contact k ON k.tenant_id = $1 AND k.id = a.contact_id
             JOIN customer c ON c.tenant_id = $1 AND c.id = k.customer_id
             CROSS JOIN LATERAL (SELECT a.recorded_at AT TIME ZONE $4 AS local) l
             WHERE a.tenant_id = $1 AND a.recorded_at >= $2::timestamp AT TIME ZONE $4
               AND a.recorded_at < ($3 + 1)::timestamp AT TIME ZONE $4 AND {ASKED_FOR}),
         fact AS (
             SELECT d0, d1, d2, true AS planned, state, first_at, reached, ordered, window_from,
                    window_to, NULL::text AS class, 0 AS attempts, 0 AS talk, 0::bigint AS claimed,
                    0 AS timed
             FROM contact
             UNION ALL
             SELECT d0, d1, d2, false, NULL, NULL, NULL, NULL, NULL, NULL, outcome_class, 1,
                    talk_seconds,
                    greatest(extract(epoch FROM recorded_at - claimed_at) * 1000000, 0)::bigint,
                    (claimed_at IS NOT NULL)::int
             FROM attempt)
         SELECT GROUPING(d0) = 0 AS is_group, ARRAY[coalesce(d0, ''), coalesce(d1, ''), coalesce(d2, '')] AS keys,
                {planned} AS planned, {done} AS done, {given_up} AS given_up,
                {cancelled} AS cancelled, {tried} AS tried, {reached} AS reached,
                {ordered} AS ordered, {punctual} AS punctual, {late} AS late,
                coalesce(sum(extract(epoch FROM first_at - window_to) * 1000000)
                         FILTER (WHERE first_at >= window_to), 0)::bigint AS late_micros,
                {attempts} AS attempts, {talk} AS talk_seconds, {claimed} AS claimed_micros,
                {timed} AS timed
         FROM fact GROUP BY GROUPING SETS ((d0, d1, d2), ())
         ORDER BY is_group, d0, d1, d2 LIMIT $9"
    )
}
