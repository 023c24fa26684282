//! What came of an attempt, and what follows.

use std::sync::LazyLock;

use anklang_domain::planning::{
    FollowUp, FollowUpChannel, Next, OutcomeClass, RetryRule, after_outcome, named_instant,
};
use anklang_domain::{TenantId, Violations, name};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use diesel::OptionalExtension;
use diesel::sql_types::{Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures::future::try_join;
use uuid::Uuid;

use super::follow_up::{self, FollowedUp};
use super::rules::{self, Rules, Warning};
use super::{PURPOSE, Standing, hold, outcome, resource};
use crate::handover::event::ANNOUNCE_FOLLOW_UP;
use crate::planning::contact::{COLUMNS, Contact, JOINS};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// The latest time that a customer can name.
const FURTHEST: TimeDelta = TimeDelta::days(366);

/// What somebody says of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What came of it.
    pub outcome: Outcome<'a>,
    /// What to remember.
    pub note: &'a str,
    /// How long was talked.
    pub talk_seconds: i32,
    /// When the customer wants to be called.
    pub wish: Option<Wish>,
    /// The role that takes over, `roles/{role}`; empty for none.
    pub escalate_to: &'a str,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// In our words.
    Class(OutcomeClass),
    /// The id of one of the tenant's own.
    Own(&'a str),
}

/// When a customer wants to be called.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    /// At this moment.
    At(DateTime<Utc>),
    /// When clocks in the contact's time zone show this time.
    Local(NaiveDateTime),
}

/// What became of the contact.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The contact as it is now.
    pub contact: Contact,
    /// What was unusual about the attempt.
    pub warnings: Vec<Warning>,
    /// The message to the customer that was queued instead.
    pub message: Option<Uuid>,
}

/// Records an attempt under a claim, and ends the claim.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over; `Invalid` with violations at `outcome`,
/// `call_later_time`, `call_later_local_time` and `escalate_to`.
pub async fn record(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    claim: Uuid,
    report: &Report<'_>,
) -> Result<Recorded> {
    let standing = hold(conn, tenant, id).await?;
    standing.must_be_under(id, claim)?;
    // Sent together.
    let rules = rules::load(conn, tenant, &standing);
    let classified = classified(conn, tenant, report.outcome);
    let (rules, (class, own)) = try_join(rules, classified).await?;
    let mut violations = Violations::new();
    let wish = wish(report, class, &standing, &rules, &mut violations);
    if class.is_final() && !report.escalate_to.is_empty() {
        violations.add(
            "escalate_to",
            "an outcome that is final leaves nothing to do",
        );
    }
    violations.finish(())?;
    let fate = fate(&standing, &rules, class, wish, report);
    let warnings = rules::warnings(&standing.when())?;
    let attempt = Attempt {
        class,
        own: &own,
        outside: warnings.contains(&Warning::OutsideWindow),
    };
    let message = rules
        .messages
        .iter()
        .find(|message| Some(message.channel) == fate.follow_up);
    let followed_up = match message {
        Some(message) => Some(follow_up::queue(conn, tenant, id, &standing, message).await?),
        None => None,
    };
    let contact = write(conn, tenant, id, report, &attempt, &fate, followed_up).await?;
    Ok(Recorded {
        contact,
        warnings,
        message: followed_up.and_then(FollowedUp::message),
    })
}

async fn classified(
    conn: &Conn,
    tenant: TenantId,
    of: Outcome<'_>,
) -> Result<(OutcomeClass, String)> {
    let id = match of {
        Outcome::Class(class) => return Ok((class, String::new())),
        Outcome::Own(id) => id,
    };
    let Some(own) = outcome::get(conn, tenant, id).await? else {
        let mut violations = Violations::new();
        violations.add("outcome", "there is no such outcome");
        return Err(violations.into());
    };
    Ok((own.class()?, outcome::resource(id)))
}

/// When the customer wants to be called, if that can be.
fn wish(
    report: &Report<'_>,
    class: OutcomeClass,
    standing: &Standing,
    rules: &Rules,
    violations: &mut Violations,
) -> Option<DateTime<Utc>> {
    let (field, at) = match report.wish? {
        Wish::At(at) => ("call_later_time", Ok(at)),
        Wish::Local(local) => (
            "call_later_local_time",
            named_instant(local.date(), local.time(), rules.zone),
        ),
    };
    if class != OutcomeClass::CallLater {
        violations.add(field, "goes with an outcome of class CALL_LATER only");
    }
    let at = violations.check(field, at)?;
    if at <= standing.now {
        violations.add(field, "is over");
    } else if let Some(end) = standing.ends_at.filter(|end| at >= *end) {
        violations.add(field, format!("must be before the contact ends, {end}"));
    } else if at > standing.now + FURTHEST {
        violations.add(field, "must be at most 366 days ahead");
    }
    Some(at)
}

/// What becomes of the contact.
#[derive(Default)]
struct Fate {
    state: &'static str,
    next_at: Option<DateTime<Utc>>,
    any_time: bool,
    /// The role that takes over, `roles/{role}`; empty: as before.
    escalated_to: String,
    /// How the customer is to be written to.
    follow_up: Option<FollowUpChannel>,
}

fn fate(
    standing: &Standing,
    rules: &Rules,
    class: OutcomeClass,
    wish: Option<DateTime<Utc>>,
    report: &Report<'_>,
) -> Fate {
    let after = |rule: Option<&RetryRule>, attempts| {
        let Rules {
            hours,
            calendar,
            zone,
            ..
        } = rules;
        after_outcome(rule, attempts, standing.now, wish, hours, calendar, *zone)
    };
    let over = |state| Fate {
        state,
        ..Fate::default()
    };
    let again = |at, outside, role: &str| {
        if !standing.end_reason.is_empty() {
            return over("cancelled");
        }
        if standing.ends_at.is_some_and(|end| at >= end) {
            return over("given_up");
        }
        Fate {
            state: "waiting",
            next_at: Some(at),
            any_time: outside,
            escalated_to: role.to_owned(),
            ..Fate::default()
        }
    };
    // Whoever takes over begins as soon as the hours permit.
    let taken_over = |role: &str| match after(Some(&AT_ONCE), 1) {
        Next::Again { at, outside } => again(at, outside, role),
        Next::Final | Next::FollowUp(_) => over("given_up"),
    };
    let attempts = u32::try_from(standing.attempts).unwrap_or(0) + 1;
    match after(rules.outcomes.of(class), attempts) {
        Next::Final if class == OutcomeClass::Cancelled => over("cancelled"),
        Next::Final => over("done"),
        Next::Again { at, outside } => again(at, outside, report.escalate_to),
        Next::FollowUp(_) if !report.escalate_to.is_empty() => taken_over(report.escalate_to),
        Next::FollowUp(FollowUp::Escalate { role }) => {
            let role = name::format(&[("roles", &role)]);
            // The role has tried as well.
            if standing.responsible == role {
                return over("given_up");
            }
            taken_over(&role)
        }
        Next::FollowUp(FollowUp::Channel(channel)) => Fate {
            follow_up: Some(channel),
            ..over("given_up")
        },
        Next::FollowUp(FollowUp::Close) => over("given_up"),
    }
}

/// In a minute, within the hours.
static AT_ONCE: LazyLock<RetryRule> = LazyLock::new(|| {
    RetryRule::new(1, 100, 1, 2, FollowUp::Close).expect("the numbers are within the limits")
});

/// What is written of an attempt besides what was said.
struct Attempt<'a> {
    class: OutcomeClass,
    own: &'a str,
    outside: bool,
}

/// Contact, attempt, history, and the event for those who write to the customer instead; gives the contact as it
/// is then.
async fn write(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    report: &Report<'_>,
    attempt: &Attempt<'_>,
    fate: &Fate,
    followed_up: Option<FollowedUp>,
) -> Result<Contact> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "WITH before AS (
                 SELECT id, claimed_by, claimed_at FROM planned_contact WHERE tenant_id = $1 AND id = $2),
             done AS (
                 UPDATE planned_contact k
                 SET state = $3, next_at = $4, any_time = $5, outcome_class = $6, outcome = $7,
                     attempts = k.attempts + 1,
                     responsible = coalesce(nullif($8, ''), k.responsible),
                     marks = CASE WHEN 'worked_on' = ANY(k.marks) THEN k.marks
                                  ELSE k.marks || 'worked_on'::text END,
                     -- What the outcome says counts over what was to become of it.
                     end_reason = CASE WHEN $3 = 'cancelled' AND $6 <> 'cancelled'
                                       THEN k.end_reason ELSE '' END,
                     claimed_by = NULL, claim_id = NULL, claim_until = NULL, claim_units = NULL,
                     not_before = NULL, passed_over = '', updated_at = now()
                 FROM before
                 WHERE k.tenant_id = $1 AND k.id = before.id
                 RETURNING k.*, before.claimed_by AS worker, before.claimed_at AS begun_at),
             tried AS (
                 INSERT INTO contact_attempt (tenant_id, contact_id, attempt, customer_id, worker,
                     purpose, talk_seconds, outcome_class, outcome, note, outside_window,
                     escalated_to, claimed_at)
                 SELECT $1, d.id, d.attempts, d.customer_id, d.worker,
                        coalesce(o.purpose, '{PURPOSE}'), $9, $6, $7, $10, $11, $8, d.begun_at
                 FROM done d
                 LEFT JOIN outbound o ON o.tenant_id = $1 AND o.id = d.outbound_id),
             news AS (SELECT $1 AS tenant_id, id AS contact_id, $12 AS channel,
                             'messages/' || $13 AS message, $14 AS refused
                      FROM done WHERE $12 <> ''),
             {ANNOUNCE_FOLLOW_UP},
             history AS (
                 INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
                 SELECT $1, d.customer_id, 'contact.' || $6, 'plannedContacts/' || d.id, f.campaign_id,
                        jsonb_strip_nulls(jsonb_build_object(
                            'attempt', d.attempts, 'worker', d.worker, 'contact_plan', d.plan_code,
                            'outcome', nullif($7, ''), 'note', nullif($10, ''), 'talk_seconds', $9,
                            'escalated_to', nullif($8, ''), 'follow_up', nullif($12, ''),
                            'message', 'messages/' || $13, 'refused', $14, 'state', $3))
                 FROM done d
                 LEFT JOIN outbound o ON o.tenant_id = $1 AND o.id = d.outbound_id
                 LEFT JOIN phase f ON f.tenant_id = $1 AND f.id = o.phase_id)
             SELECT {COLUMNS} FROM done k {JOINS}"
        )
    });
    let contact: Option<Contact> = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .bind::<Text, _>(fate.state)
        .bind::<Nullable<Timestamptz>, _>(fate.next_at)
        .bind::<Bool, _>(fate.any_time)
        .bind::<Text, _>(attempt.class.as_str())
        .bind::<Text, _>(attempt.own)
        .bind::<Text, _>(&fate.escalated_to)
        .bind::<Integer, _>(report.talk_seconds)
        .bind::<Text, _>(report.note)
        .bind::<Bool, _>(attempt.outside)
        .bind::<Text, _>(fate.follow_up.map_or("", FollowUpChannel::as_str))
        .bind::<Nullable<SqlUuid>, _>(followed_up.and_then(FollowedUp::message))
        .bind::<Nullable<Text>, _>(followed_up.and_then(FollowedUp::refused))
        .fixed()
        .get_result(conn)
        .await
        .optional()?;
    contact.ok_or_else(|| StoreError::Missing(resource(id)))
}
