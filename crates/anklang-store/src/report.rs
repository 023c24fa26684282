//! What channels report of messages after they took them: matched to the ledger, kept, and made into
//! states, blocked addresses, history and events, many at once and in one transaction.
//!
//! # Guarantees
//! A report counts once, however often it comes; what becomes of a message does not depend on the order
//! (`anklang_domain::report`). Messages are locked in the order of their keys, so that whoever reports of the same
//! ones takes turns, and the outcome of a sending that is recorded meanwhile sees what was told
//! (`TOLD_STATE`).
//!
//! # Trade-offs
//! An account that several tenants share tells of messages of all of them: those are looked for in each,
//! under the role that sees all. What belongs to no message yet then waits in each of these tenants,
//! without the provider's words, which are somebody else's.

mod find;
mod waiting;
mod write;

use anklang_domain::TenantId;
use anklang_domain::report::{self as rule, ReportState, Standing, Verdict, becomes, blocks};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use crate::{Conn, Result, Store, Tx};

pub use waiting::{Purge, due_tenants, match_waiting, purge_waiting};

use find::{Found, Locked};
use write::{Block, Change, News, Row};

/// The state that reports make of the message `m`, when there are any (`m.told > 0`): that of the
/// [`Verdict`] of this rank.
pub(crate) const TOLD_STATE: &str = "(ARRAY['failed', 'bounced', 'delivered', 'bounced'])[m.told]";

/// The code and words of the report that made the message `m` what it is; NULL without one.
pub(crate) const TOLD_WORDS: &str = "(SELECT trim(d.code || ' ' || d.detail) FROM message_report d
    WHERE d.tenant_id = m.tenant_id AND d.message_id = m.id
      AND d.state = (ARRAY['failed', 'bounced', 'delivered', 'bounced'])[m.told]
    ORDER BY d.occurred_at DESC, d.key LIMIT 1)";

/// Whose messages an account tells of.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The account.
    pub account: &'a str,
    /// Its channel.
    pub channel: &'a str,
    /// The tenants that it may be telling of; at least one.
    pub tenants: &'a [TenantId],
}

impl Source<'_> {
    /// The tenant, if there is but one.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        match self.tenants {
            [tenant] => Some(*tenant),
            _ => None,
        }
    }

    pub(crate) fn tenant_ids(&self) -> Vec<Uuid> {
        self.tenants.iter().map(|tenant| tenant.0).collect()
    }

    /// Begins a transaction that sees these tenants: as one of theirs if there is but one.
    pub async fn begin(&self, store: &Store) -> Result<Tx> {
        match self.tenant() {
            Some(tenant) => store.begin_work(tenant).await,
            None => store.begin_worker().await,
        }
    }
}

/// What a channel says of a message. Its texts are printable and of bounded length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Our id of the message, if it is known.
    pub message: Option<Uuid>,
    /// The provider's id of it; empty if that is not known.
    pub provider_message_id: String,
    /// What happened.
    pub state: ReportState,
    /// The provider's code.
    pub code: String,
    /// The provider's words.
    pub detail: String,
    /// When it happened, if that is said.
    pub occurred_at: Option<DateTime<Utc>>,
}

impl Report {
    fn key(&self) -> [u8; 16] {
        rule::key(self.state, &self.code, self.occurred_at)
    }
}

/// What came of reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// So many were news.
    pub new: usize,
    /// So many were known.
    pub repeated: usize,
    /// So many belong to no message, perhaps not yet; they wait.
    pub waiting: usize,
    /// So many belong to no message and name none that could come.
    pub unknown: usize,
    /// So many messages changed their state.
    pub moved: usize,
    /// So many of the news are of messages that were made in this trace (W3C `traceparent`).
    pub traces: BTreeMap<String, usize>,
}

/// Applies reports. They may be of the same messages, and in any order.
pub async fn apply(conn: &mut Conn, source: Source<'_>, reports: &[Report]) -> Result<Applied> {
    let (mut applied, without) = apply_known(conn, source, reports).await?;
    let (wait, unknown): (Vec<_>, Vec<_>) = without
        .into_iter()
        .map(|n| &reports[n])
        .partition(|report| !report.provider_message_id.is_empty());
    waiting::keep(conn, source, &wait).await?;
    applied.waiting = wait.len();
    applied.unknown = unknown.len();
    Ok(applied)
}

/// Applies those reports whose messages are found; gives the places of the others.
async fn apply_known(
    conn: &mut Conn,
    source: Source<'_>,
    reports: &[Report],
) -> Result<(Applied, Vec<usize>)> {
    let mut applied = Applied::default();
    if reports.is_empty() {
        return Ok((applied, Vec::new()));
    }
    let found = find::find(conn, source, reports).await?;
    let mut without: BTreeSet<usize> = (0..reports.len()).collect();
    for found in &found {
        without.remove(&found.place());
    }
    let locked = find::lock(conn, &found).await?;
    let erased = find::erased(conn, &locked).await?;
    let fresh = find::fresh(conn, &found, reports).await?;
    applied.new = fresh.len();
    applied.repeated = found.len() - fresh.len();
    applied.traces = traces(&locked, &fresh);
    let decided = decide(&locked, &erased, &fresh, reports);
    applied.moved = decided.changes.iter().filter(|c| c.state.is_some()).count();
    write::rows(conn, &decided.rows).await?;
    write::changes(conn, &decided.changes).await?;
    write::news(conn, &decided.news).await?;
    write::blocks(conn, &decided.blocks).await?;
    Ok((applied, without.into_iter().collect()))
}

/// How many of the news belong to which trace.
fn traces(locked: &[Locked], fresh: &[Fresh]) -> BTreeMap<String, usize> {
    let of: BTreeMap<_, _> = locked
        .iter()
        .filter_map(|message| Some((message.key(), message.traceparent.as_deref()?)))
        .collect();
    let mut traces = BTreeMap::<String, usize>::new();
    for traceparent in fresh.iter().filter_map(|fresh| of.get(&fresh.found.key())) {
        *traces.entry((*traceparent).to_owned()).or_default() += 1;
    }
    traces
}

/// What is to be written.
#[derive(Default)]
struct Decided<'a> {
    rows: Vec<Row<'a>>,
    changes: Vec<Change>,
    news: Vec<News>,
    blocks: Vec<Block>,
}

/// Asks the rules, message by message.
fn decide<'a>(
    locked: &'a [Locked],
    erased: &BTreeSet<(Uuid, Uuid)>,
    fresh: &[Fresh],
    reports: &'a [Report],
) -> Decided<'a> {
    let mut of: BTreeMap<(Uuid, Uuid), Vec<&Fresh>> = BTreeMap::new();
    for fresh in fresh {
        of.entry(fresh.found.key()).or_default().push(fresh);
    }
    let mut decided = Decided::default();
    for message in locked {
        let fresh = of.remove(&message.key()).unwrap_or_default();
        let is_erased = erased.contains(&message.key());
        decide_one(message, is_erased, &fresh, reports, &mut decided);
    }
    decided
}

/// Of messages to somebody who is erased the provider's words are not kept, nor its id, nor that consent was withdrawn.
fn decide_one<'a>(
    message: &'a Locked,
    is_erased: bool,
    fresh: &[&Fresh],
    reports: &'a [Report],
    decided: &mut Decided<'a>,
) {
    if message.standing() == Standing::Untried {
        // Nothing can be true of what was never handed over.
        return;
    }
    let before = Verdict::from_rank(message.told);
    let (mut verdict, mut at) = (before, message.told_at);
    let (mut decisive, mut provider) = (String::new(), String::new());
    let mut told: BTreeSet<ReportState> = BTreeSet::new();
    for fresh in fresh {
        let report = &reports[fresh.found.place()];
        let detail = if is_erased { "" } else { &report.detail[..] };
        decided.rows.push(Row {
            message,
            report,
            detail,
        });
        let occurred = report.occurred_at.unwrap_or(message.now);
        match Verdict::of(report.state, &report.code) {
            Some(new) if Some(new) > verdict => {
                (verdict, at) = (Some(new), Some(occurred));
                decisive = words(&report.code, detail);
            }
            Some(new) if Some(new) == verdict => at = at.min(Some(occurred)),
            _ => {}
        }
        if report.message.is_some() && !report.provider_message_id.is_empty() && !is_erased {
            provider.clone_from(&report.provider_message_id);
        }
        // A notice is no contact of its customer: nobody's address is blocked for it.
        let blocked = blocks(report.state, &report.code).filter(|_| !message.is_notice);
        if let Some(reason) = blocked {
            let withdraws = report.state.is_objection() && !is_erased;
            let block = Block::new(message, &report.code, reason, withdraws);
            decided.blocks.push(block);
        }
        // States are told as news when the message comes into them; responses when they are the first.
        let is_response = Verdict::of(report.state, &report.code).is_none();
        if is_response && !fresh.state_known && told.insert(report.state) {
            decided.news.push(News::new(message, report.state.as_str()));
        }
    }
    let state = becomes(message.standing(), verdict).filter(|state| *state != message.state);
    if let Some(state) = state {
        decided.news.push(News::new(message, state));
    }
    let changes = verdict != before || at != message.told_at || state.is_some();
    if changes || (message.provider_message_id.is_empty() && !provider.is_empty()) {
        decided.changes.push(Change {
            tenant: message.tenant_id,
            id: message.id,
            told: verdict.map_or(0, Verdict::rank),
            told_at: at,
            state,
            detail: decisive,
            provider,
            under_way: message.state == "sending",
        });
    }
}

/// Code and words of a report in one line.
fn words(code: &str, detail: &str) -> String {
    format!("{code} {detail}").trim().to_owned()
}

/// A report that was not known before, and its message.
struct Fresh {
    found: Found,
    /// Another report of this state came before.
    state_known: bool,
}

/// A report of a message, as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Reported {
    /// What happened.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// The provider's code.
    #[diesel(sql_type = Text)]
    pub code: String,
    /// The provider's words.
    #[diesel(sql_type = Text)]
    pub detail: String,
    /// When it happened.
    #[diesel(sql_type = Timestamptz)]
    pub occurred_at: DateTime<Utc>,
    /// When it was reported.
    #[diesel(sql_type = Timestamptz)]
    pub received_at: DateTime<Utc>,
}

/// The last `limit` reports of a message, in the order in which they happened.
pub async fn list(
    mut conn: &Conn,
    tenant: TenantId,
    message: Uuid,
    limit: i64,
) -> Result<Vec<Reported>> {
    Ok(diesel::sql_query(
        "SELECT state, code, detail, occurred_at, received_at FROM (
             SELECT * FROM message_report WHERE tenant_id = $1 AND message_id = $2
             ORDER BY occurred_at DESC, key LIMIT $3) last
         ORDER BY occurred_at, received_at, key",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(message)
    .bind::<BigInt, _>(limit)
    .load(&mut conn)
    .await?)
}

/// How a recipient responded to a message.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Response {
    /// opened, clicked, complained or unsubscribed.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// How often.
    #[diesel(sql_type = Integer)]
    pub n: i32,
    /// The first time.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub first: Option<DateTime<Utc>>,
    /// The last time.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last: Option<DateTime<Utc>>,
}

/// How the recipient of a message responded, by kind.
pub async fn responses(mut conn: &Conn, tenant: TenantId, message: Uuid) -> Result<Vec<Response>> {
    Ok(diesel::sql_query(
        "SELECT state, count(*)::int AS n, min(occurred_at) AS first, max(occurred_at) AS last
         FROM message_report
         WHERE tenant_id = $1 AND message_id = $2
           AND state IN ('opened', 'clicked', 'complained', 'unsubscribed')
         GROUP BY state",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(message)
    .load(&mut conn)
    .await?)
}

impl Locked {
    fn standing(&self) -> Standing {
        match &self.state[..] {
            _ if self.attempt == 0 => Standing::Untried,
            "sending" if self.submitted => Standing::HandedOver,
            // Claimed once more, but not handed over: the sender will find that it is not its any more.
            _ => Standing::Settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use anklang_domain::report::VERDICTS;

    #[test]
    fn states_in_sql_are_those_of_the_rule() {
        let words: Vec<String> = VERDICTS.map(|v| format!("'{}'", v.state())).into();
        let array = format!("(ARRAY[{}])[m.told]", words.join(", "));
        assert_eq!(super::TOLD_STATE, array);
        assert!(super::TOLD_WORDS.contains(&array));
        assert!(VERDICTS.iter().zip(1..).all(|(v, rank)| v.rank() == rank));
    }
}
