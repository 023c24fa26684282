//! For whoever watches: the trace context that rows are written in, what is waiting, and how the
//! pools are used.
//!
//! Operations, messages and events keep the context of the transaction that wrote them: a
//! transaction of a tenant carries it as a setting, which is the columns' default. So a launch's
//! million messages cost nothing extra, and no statement has to think of it.

use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Double, Text};
use diesel_async::RunQueryDsl;
use opentelemetry::trace::{SpanContext, TraceContextExt};

use crate::{Result, Store};

/// The current trace context as a W3C `traceparent`; none when nothing is traced.
pub fn traceparent() -> Option<String> {
    traceparent_of(opentelemetry::Context::current().span().span_context())
}

/// A trace context as a W3C `traceparent`: hexadecimal digits and hyphens.
pub fn traceparent_of(context: &SpanContext) -> Option<String> {
    context.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags().to_u8()
        )
    })
}

/// What stands before names of the schema and of the operator, which PostgreSQL quotes as it quotes values: words that
/// stand before nothing else, unlike type, user or field.
const NAMED: [&str; 16] = [
    "class",
    "column",
    "constraint",
    "database",
    "extension",
    "function",
    "index",
    "policy",
    "procedure",
    "relation",
    "role",
    "schema",
    "sequence",
    "table",
    "trigger",
    "view",
];

/// The quotes of libraries and of PostgreSQL's languages.
const QUOTES: [char; 14] = [
    '"', '\'', '`', '´', '“', '”', '„', '‘', '’', '‚', '»', '«', '›', '‹',
];

/// What a database, a decoder or a template says, up to the first value that it quotes: for logs, which say
/// nothing of customers. Where a value ends is not sure, as it may hold quotes itself.
pub fn without_values(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some((before, quote, quoted)) = next_quote(rest) {
        told.push_str(before);
        let noun = before.split_whitespace().next_back().unwrap_or_default();
        let is_named = quote == '"' && NAMED.contains(&noun);
        let named = quoted.split_once('"').filter(|_| is_named);
        let Some((name, after)) = named else {
            told.push('…');
            return told;
        };
        told.push('"');
        told.push_str(name);
        told.push('"');
        rest = after;
    }
    told.push_str(rest);
    told
}

/// The first quote, with what is before and after it. An apostrophe is none, as in isn't.
fn next_quote(text: &str) -> Option<(&str, char, &str)> {
    let is_letter = |c: &char| c.is_alphanumeric();
    text.match_indices(QUOTES).find_map(|(at, found)| {
        let (before, after) = text.split_at_checked(at)?;
        let (quote, after) = (found.chars().next()?, after.strip_prefix(found)?);
        let ending = after.chars().take_while(is_letter).count();
        let is_apostrophe = matches!(quote, '\'' | '’')
            && before.chars().next_back().as_ref().is_some_and(is_letter)
            && (1..=2).contains(&ending);
        (!is_apostrophe).then_some((before, quote, after))
    })
}

/// How much of one kind waits, over all tenants.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Waiting {
    /// messages, operations, deliveries, accounts or audit.
    #[diesel(sql_type = Text)]
    pub what: String,
    /// The account, also of messages, `tenants` for all accounts of tenants; the kind of operations.
    #[diesel(sql_type = Text)]
    pub of: String,
    /// due, held_back, waiting or sending; queued or running; pending or dead; held, failing or paused; unsealed.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// So many; of audit entries the tenants that have any.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// For how long the oldest could have been taken up, in seconds; 0 for what is under way. Deliveries
    /// to webhooks that are paused, held or failing could not.
    #[diesel(sql_type = Double)]
    pub oldest: f64,
}

/// What waits, by kind and state. One statement, which reads the partial indexes of what is not
/// over and gives up after ten seconds. `configured` are the accounts of the configuration file: how one
/// stood that is gone is nobody's concern.
pub async fn backlog(store: &Store, configured: &[String]) -> Result<Vec<Waiting>> {
    let mut tx = store.begin_worker().await?;
    diesel::sql_query("SELECT set_config('statement_timeout', '10s', true)")
        .execute(&mut tx)
        .await?;
    let waiting = diesel::sql_query(
        "WITH queued AS MATERIALIZED (
             -- By index, and few: what is known of phases and accounts is joined to these.
             SELECT tenant_id, account, phase_id,
                    count(*) FILTER (WHERE next_attempt_at <= now()) AS due,
                    count(*) FILTER (WHERE next_attempt_at > now()) AS waiting,
                    min(next_attempt_at) AS first
             FROM message WHERE state = 'queued' GROUP BY tenant_id, account, phase_id),
         parts AS (
             SELECT CASE WHEN a.id IS NULL THEN q.account ELSE 'tenants' END AS account,
                    q.due, q.waiting, q.first,
                    -- As claims pass them over (message/claim.rs).
                    (p.paused OR c.paused OR p.unapproved OR a.paused OR h.held_until > now()) IS TRUE
                        AS is_held_back
             FROM queued q
             LEFT JOIN phase p ON p.tenant_id = q.tenant_id AND p.id = q.phase_id
             LEFT JOIN campaign c ON c.tenant_id = p.tenant_id AND c.id = p.campaign_id
             LEFT JOIN channel_account a ON a.tenant_id = q.tenant_id AND a.id = q.account
             LEFT JOIN account_pace h ON h.tenant_id = q.tenant_id AND h.account = q.account)
         SELECT 'messages' AS what, account AS of, 'due' AS state, sum(due)::bigint AS count,
                extract(epoch FROM now() - min(first))::float8 AS oldest
         FROM parts WHERE due > 0 AND NOT is_held_back GROUP BY account
         UNION ALL
         SELECT 'messages', account, 'held_back', sum(due)::bigint, 0
         FROM parts WHERE due > 0 AND is_held_back GROUP BY account
         UNION ALL
         SELECT 'messages', account, 'waiting', sum(waiting)::bigint, 0
         FROM parts WHERE waiting > 0 GROUP BY account
         UNION ALL
         SELECT 'messages', CASE WHEN a.id IS NULL THEN m.account ELSE 'tenants' END, 'sending',
                count(*), 0
         FROM message m
         LEFT JOIN channel_account a ON a.tenant_id = m.tenant_id AND a.id = m.account
         WHERE m.state = 'sending' GROUP BY 2
         UNION ALL
         SELECT 'operations', kind, state, count(*),
                coalesce(max(extract(epoch FROM now() - greatest(run_at, lease_until, updated_at)))
                    FILTER (WHERE run_at <= now() AND (lease_until IS NULL OR lease_until < now())),
                    0)::float8
         FROM operation WHERE state IN ('queued', 'running') GROUP BY 2, 3
         UNION ALL
         SELECT 'deliveries', '', 'pending', count(*),
                -- As they are claimed (handover/queue.rs): the first of each webhook.
                coalesce((SELECT extract(epoch FROM now() - min(first.next_attempt_at))
                    FROM webhook w CROSS JOIN LATERAL (
                        SELECT d.next_attempt_at FROM handover_delivery d
                        WHERE d.tenant_id = w.tenant_id AND d.webhook_id = w.id
                          AND d.state = 'pending' AND d.next_attempt_at <= now()
                          AND NOT EXISTS (SELECT FROM handover_delivery before
                              WHERE before.tenant_id = d.tenant_id AND before.webhook_id = d.webhook_id
                                AND before.offer_id = d.offer_id AND before.seq < d.seq
                                AND before.state IN ('pending', 'delivering'))
                          AND NOT EXISTS (SELECT FROM handover_delivery before
                              WHERE before.tenant_id = d.tenant_id AND before.webhook_id = d.webhook_id
                                AND before.order_id = d.order_id AND before.seq < d.seq
                                AND before.state IN ('pending', 'delivering'))
                        ORDER BY d.next_attempt_at, d.seq LIMIT 1) first
                    WHERE NOT w.paused AND w.deleted_at IS NULL AND w.failing_since IS NULL
                      AND (w.held_until IS NULL OR w.held_until <= now())), 0)::float8
         FROM handover_delivery WHERE state IN ('pending', 'delivering')
         UNION ALL
         SELECT 'deliveries', '', 'dead', count(*), 0
         FROM handover_delivery WHERE state = 'dead'
         UNION ALL
         SELECT 'accounts', CASE WHEN a.id IS NULL THEN p.account ELSE 'tenants' END, s.state,
                count(*), 0
         FROM account_pace p
         LEFT JOIN channel_account a ON a.tenant_id = p.tenant_id AND a.id = p.account
         CROSS JOIN LATERAL (SELECT 'held' AS state WHERE p.held_until > now()
                             UNION ALL
                             SELECT 'failing' WHERE p.failing_since IS NOT NULL
                                                AND a.paused IS NOT TRUE) s
         WHERE a.deleted_at IS NULL AND (a.id IS NOT NULL OR p.account = ANY($1)) GROUP BY 2, 3
         UNION ALL
         SELECT 'accounts', 'tenants', 'paused', count(*), 0
         FROM channel_account WHERE paused AND deleted_at IS NULL
         UNION ALL
         SELECT 'audit', '', 'unsealed', count(*),
                coalesce(greatest(extract(epoch FROM now() - min(first.at)), 0), 0)::float8
         FROM tenant t CROSS JOIN LATERAL (
             -- Ids rise with the time; all of them would be too many to read where nobody seals.
             SELECT e.at FROM audit_entry e WHERE e.tenant_id = t.id AND e.seq IS NULL
             ORDER BY e.id LIMIT 1) first",

    )
    .bind::<Array<Text>, _>(configured)
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(waiting)
}

/// How a pool of connections is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// "main", "bulk" for imports, or "replica".
    pub name: &'static str,
    /// Connections in use.
    pub used: usize,
    /// Open connections that nobody uses.
    pub idle: usize,
    /// The most connections.
    pub max: usize,
    /// So many wait for one.
    pub waiting: usize,
}

impl PoolUse {
    pub(crate) fn new(name: &'static str, status: &deadpool::Status) -> Self {
        PoolUse {
            name,
            used: status.size.saturating_sub(status.available),
            idle: status.available,
            max: status.max_size,
            waiting: status.waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_values_go() {
        for (said, told) in [
            ("no quotes", "no quotes"),
            (
                "duplicate key value violates unique constraint \"customer_number_key\"",
                "duplicate key value violates unique constraint \"customer_number_key\"",
            ),
            (
                "null value in column \"name\" of relation \"customer\" violates not-null constraint",
                "null value in column \"name\" of relation \"customer\" violates not-null constraint",
            ),
            (
                "invalid input syntax for type date: \"Erika \"Muster\" of Bremen\"",
                "invalid input syntax for type date: …",
            ),
            (
                "ungültige Eingabesyntax für Typ date: »Erika«",
                "ungültige Eingabesyntax für Typ date: …",
            ),
            (
                "value \"49170\" is out of range for type integer",
                "value …",
            ),
            ("unknown variant `Erika`, expected `x`", "unknown variant …"),
            (
                "invalid value for parameter \"TimeZone\": \"Erika\"",
                "invalid value for parameter …",
            ),
            ("column \"never ends", "column …"),
            ("unknown field `Erika`, expected `name`", "unknown field …"),
            (
                "missing type \"Erika\" of user \"Muster\"",
                "missing type …",
            ),
            ("no such column `Erika`", "no such column …"),
            ("column 'Erika' is unknown", "column …"),
            (
                "what isn't there can't be 'Erika'",
                "what isn't there can't be …",
            ),
            ("a value of ‚Erika‘", "a value of …"),
            ("'Erika' is no date", "…"),
        ] {
            assert_eq!(without_values(said), told);
        }
    }
}
