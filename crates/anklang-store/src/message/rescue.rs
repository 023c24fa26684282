//! Messages whose sender is gone.

use anklang_domain::message::{AmbiguousPolicy, MAX_FAILURES};
use chrono::TimeDelta;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::seconds;
use crate::handover::event::ANNOUNCE_MESSAGES;
use crate::report::{TOLD_STATE, TOLD_WORDS};
use crate::sql::Fix;
use crate::{Result, Store};

/// Whose messages are rescued.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// Those of an account of the configuration file, at once. Leases that this process still works on are left: after an
    /// outage of the database they may have run out, and be completed all the same.
    Account {
        /// The account.
        id: &'a str,
        /// What becomes of those of which nobody knows.
        policy: AmbiguousPolicy,
        /// This process' own leases.
        ours: &'a [Uuid],
    },
    /// Those of all accounts of tenants, in the same way; the policy is each account's.
    Own {
        /// This process' own leases.
        ours: &'a [Uuid],
    },
    /// Those of all other accounts than these and those of tenants, which nobody else may look after:
    /// an account that was taken out of the configuration. As others may know it, their leases must have run out so
    /// long ago; and what is not known is held, as nobody says that it may be sent again.
    NoneOf {
        /// The accounts that are configured.
        accounts: &'a [String],
        /// How long ago.
        grace: TimeDelta,
    },
}

/// How many messages were rescued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Not handed over: queued again.
    pub requeued: usize,
    /// Of these nobody knows whether they arrived.
    pub unknown: usize,
}

/// A message whose lease has run out.
#[derive(QueryableByName)]
struct Lost {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    /// It may have been handed over.
    #[diesel(sql_type = Bool)]
    unknown: bool,
    /// Its account wants such to be held.
    #[diesel(sql_type = Bool)]
    hold: bool,
}

/// Takes back messages whose lease has run out. Those that were not handed over are queued again; of
/// those that may have been nobody knows, so the policy decides. At most 10,000 at once.
pub async fn rescue(store: &Store, whose: Whose<'_>) -> Result<Rescued> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        requeued: i64,
        #[diesel(sql_type = BigInt)]
        unknown: i64,
    }
    let (kind, accounts, policy, ours, grace) = match whose {
        Whose::Account { id, policy, ours } => ("one", vec![id], policy, ours, TimeDelta::zero()),
        Whose::Own { ours } => (
            "own",
            Vec::new(),
            AmbiguousPolicy::Hold,
            ours,
            TimeDelta::zero(),
        ),
        Whose::NoneOf { accounts, grace } => {
            let accounts = accounts.iter().map(String::as_str).collect();
            ("none", accounts, AmbiguousPolicy::Hold, &[][..], grace)
        }
    };
    let mut tx = store.begin_worker().await?;
    // Locked first, so that what reports told meanwhile is seen (see `hand_over::hold`).
    let lost: Vec<Lost> = diesel::sql_query(
        "SELECT m.tenant_id, m.id, m.submitted_at IS NOT NULL AS unknown,
                coalesce(a.ambiguous, $2) = 'hold' AS hold
         FROM message m
         LEFT JOIN channel_account a ON a.tenant_id = m.tenant_id AND a.id = m.account
         WHERE m.state = 'sending'
           AND CASE $4 WHEN 'own' THEN a.id IS NOT NULL
                       WHEN 'one' THEN a.id IS NULL AND m.account = ANY($1)
                       ELSE a.id IS NULL AND m.account <> ALL($1) END
           AND m.lease_until < now() - make_interval(secs => $5) AND m.lease <> ALL($3)
         ORDER BY m.tenant_id, m.id LIMIT 10000 FOR UPDATE OF m SKIP LOCKED",
    )
    .bind::<Array<Text>, _>(accounts)
    .bind::<Text, _>(policy.as_str())
    .bind::<Array<SqlUuid>, _>(ours)
    .bind::<Text, _>(kind)
    .bind::<Double, _>(seconds(grace))
    .fixed()
    .load(&mut tx)
    .await?;
    if lost.is_empty() {
        return Ok(Rescued::default());
    }
    let found: Row = diesel::sql_query(format!(
        "WITH lost AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bool[], $4::bool[])
                 AS l (tenant_id, id, unknown, hold)),
         moved AS (
             UPDATE message m SET
                 state = CASE WHEN m.told > 0 THEN {TOLD_STATE}
                              WHEN lost.unknown AND (lost.hold OR m.failures + 1 >= $5)
                              THEN 'ambiguous' ELSE 'queued' END,
                 failures = m.failures + lost.unknown::int,
                 detail = CASE WHEN m.told > 0 THEN coalesce({TOLD_WORDS}, '') WHEN lost.unknown
                     THEN 'the sender was interrupted after hand-over'
                     ELSE 'the sender was interrupted before hand-over' END,
                 sent_at = CASE WHEN m.told > 1 THEN now() ELSE m.sent_at END,
                 next_attempt_at = now(), lease = NULL, lease_until = NULL, submitted_at = NULL,
                 lookups = 0, updated_at = now()
             FROM lost WHERE m.tenant_id = lost.tenant_id AND m.id = lost.id
             RETURNING m.tenant_id, m.id, m.attempt, m.customer_id, m.campaign_id, m.state,
                       m.detail, m.told, m.notice, lost.unknown),
         noted AS (
             UPDATE message_attempt a SET ended_at = now(), detail = moved.detail,
                 outcome = CASE WHEN moved.unknown THEN 'ambiguous' ELSE 'not_submitted' END
             FROM moved
             WHERE a.tenant_id = moved.tenant_id AND a.message_id = moved.id
               AND a.attempt = moved.attempt),
         told AS (
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
             SELECT tenant_id, customer_id,
                    'message.' || CASE WHEN told > 0 THEN state ELSE 'ambiguous' END,
                    'messages/' || id, campaign_id, jsonb_build_object('detail', detail)
             FROM moved WHERE (unknown OR told > 0) AND notice IS NULL),
         news AS (
             SELECT tenant_id, id AS message_id, state AS kind FROM moved WHERE told > 0),
         {ANNOUNCE_MESSAGES}
         SELECT count(*) FILTER (WHERE NOT unknown) AS requeued,
                count(*) FILTER (WHERE unknown) AS unknown FROM moved"
    ))
    .bind::<Array<SqlUuid>, _>(lost.iter().map(|l| l.tenant_id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(lost.iter().map(|l| l.id).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(lost.iter().map(|l| l.unknown).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(lost.iter().map(|l| l.hold).collect::<Vec<_>>())
    .bind::<Integer, _>(MAX_FAILURES)
    .fixed()
    .get_result(&mut tx)
    .await?;
    tx.commit().await?;
    let count = |n| usize::try_from(n).unwrap_or(0);
    Ok(Rescued {
        requeued: count(found.requeued),
        unknown: count(found.unknown),
    })
}

/// An account that is not configured, and what waits for it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Orphaned {
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Its messages that are queued or being sent, of all tenants.
    #[diesel(sql_type = BigInt)]
    pub messages: i64,
}

/// Accounts other than these and those of tenants with messages that are not over: nobody sends them.
pub async fn orphaned(store: &Store, accounts: &[String]) -> Result<Vec<Orphaned>> {
    let mut tx = store.begin_worker().await?;
    let found = diesel::sql_query(
        "SELECT m.account, count(*) AS messages FROM message m
         WHERE m.state IN ('queued', 'sending') AND m.account <> ALL($1)
           AND NOT EXISTS (SELECT FROM channel_account a
                           WHERE a.tenant_id = m.tenant_id AND a.id = m.account)
         GROUP BY m.account ORDER BY m.account",
    )
    .bind::<Array<Text>, _>(accounts)
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(found)
}
