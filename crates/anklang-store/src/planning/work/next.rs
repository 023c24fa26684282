//! The next contact of somebody who asks.
//!
//! Three steps, as a rule one statement each: find the first contact in the order of the work list
//! and hold it, whether or not it may be made now (the tenant's budget is read on the way); take it, if it may;
//! else put it aside, and with it those
//! behind it of which the same holds. So a contact that must not be made is looked at once in a while, and
//! not by each claim. The steps are apart because a row that changed between a statement's beginning and its
//! lock is judged as it is by the statement after.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::bars::{DESK, Desk, DeskRow, bind_desk, verdict};
use super::claim::{BACK_AT_ONCE, Claim, Terms, take_back};
use super::rules::{self, When};
use crate::planning::calls::HELD;
use crate::planning::contact::{COLUMNS, Contact, JOINS};
use crate::sql::Fix;
use crate::{Conn, Result};

/// Contacts that are looked at together when the first one must not be made.
const LOOK_AHEAD: usize = 1_000;

/// When a contact is due on the work list.
pub(super) const DUE: &str = "greatest(m.next_at, m.not_before)";

/// Who asks for the next contact, and for which.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Whom contacts are of: the worker, their roles, and nobody (empty).
    pub responsibles: &'a [&'a str],
    /// What the worker can do.
    pub skills: &'a [&'a str],
    /// Codes of plans; all when empty.
    pub plans: &'a [String],
    /// Customer groups; all when empty.
    pub groups: &'a [&'a str],
    /// The first contact date.
    pub first_date: Option<NaiveDate>,
    /// Where contacts without a plan are: the tenant's time zone.
    pub time_zone: &'a str,
}

/// What somebody gets who asks.
#[derive(Debug)]
pub enum Next {
    /// A contact.
    Claim(Box<Claim>),
    /// There is none.
    Nothing,
    /// Contacts were put aside that must not be made now. Behind them there may be others: commit, so that
    /// nobody looks at them again, and ask again.
    PutAside,
}

/// Hands out the next contact, if there is one: the most important, then the one due the longest. Best in a
/// transaction of [`crate::Store::begin_in_order`].
pub async fn next(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: &Wanted<'_>,
    terms: Terms<'_>,
) -> Result<Next> {
    let (mut desk, mut found) = first(conn, tenant, wanted, false).await?;
    if desk.budget.is_some() || desk.silent {
        // Nothing is held yet.
        desk.take_turn(conn).await?;
        if desk.silent {
            take_back(conn, tenant).await?;
        }
        (desk, found) = first(conn, tenant, wanted, true).await?;
    }
    let Some(first) = found else {
        return Ok(match put_back(conn, tenant).await? {
            0 => Next::Nothing,
            _ => Next::PutAside,
        });
    };
    if first.is_left_over {
        desk.learn_closed(conn).await?;
    }
    if let Some(claim) = take(conn, &desk, first.id, terms).await? {
        return Ok(Next::Claim(Box::new(claim)));
    }
    put_aside(conn, &desk, &[first.id]).await?;
    desk.learn_closed(conn).await?;
    let others = look_ahead(conn, &desk, wanted, &first).await?;
    put_aside(conn, &desk, &others).await?;
    Ok(Next::PutAside)
}

/// Puts contacts back to where they stood whose time aside is over, or whose campaign goes on; gives how
/// many, at most 1,000 of each. Until then they stand behind what has become due meanwhile.
pub async fn put_back(conn: &mut Conn, tenant: TenantId) -> Result<usize> {
    // A statement each, as each has an index of its own.
    static SQL: LazyLock<[String; 2]> = LazyLock::new(|| {
        let over = "passed_over <> '' AND not_before <= now()";
        let going_on = format!(
            "passed_over = 'held' AND outbound_id IN (
                 SELECT id FROM outbound
                 WHERE tenant_id = $1 AND phone IS NOT NULL AND id <> ALL({HELD}))"
        );
        [over, &going_on].map(|which| {
            format!(
                "UPDATE planned_contact k SET not_before = NULL, passed_over = ''
                 FROM (SELECT id FROM planned_contact
                       WHERE tenant_id = $1 AND state IN ('open', 'waiting') AND {which}
                       LIMIT $2 FOR UPDATE SKIP LOCKED) aside
                 WHERE k.tenant_id = $1 AND k.id = aside.id"
            )
        })
    });
    let mut back = 0;
    for sql in SQL.iter() {
        back += diesel::sql_query(&sql[..])
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<BigInt, _>(BACK_AT_ONCE)
            .fixed()
            .execute(conn)
            .await?;
    }
    Ok(back)
}

/// A contact that is held.
struct First {
    id: Uuid,
    priority: i32,
    due: DateTime<Utc>,
    /// It was planned for an earlier day.
    is_left_over: bool,
}

/// The same, if there is one, and what is known before it is looked at.
#[derive(QueryableByName)]
struct Found {
    #[diesel(embed)]
    desk: DeskRow,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Integer>)]
    priority: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Bool>)]
    is_left_over: Option<bool>,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Binds whom contacts are wanted for, and the tenant first.
macro_rules! bind_wanted {
    ($sql:expr, $tenant:expr, $wanted:expr) => {
        diesel::sql_query($sql)
            .bind::<SqlUuid, _>($tenant.0)
            .bind::<Array<Text>, _>($wanted.responsibles)
            .bind::<Array<Text>, _>($wanted.skills)
            .bind::<Array<Text>, _>($wanted.plans)
            .bind::<Array<Text>, _>($wanted.groups)
            .bind::<Nullable<Date>, _>($wanted.first_date)
    };
}

/// `turn`: one jump in the index for each responsible (and group) and priority that have something due.
fn turns(grouped: bool) -> String {
    let (group, groups, same, of_level) = match grouped {
        true => (
            "customer_group,",
            "CROSS JOIN unnest($5) g (customer_group)",
            "AND k.customer_group = g.customer_group AND k.customer_group <> ''",
            "AND k.customer_group = l.customer_group AND k.customer_group <> ''",
        ),
        false => ("", "", "", ""),
    };
    let (of_g, of_l) = match grouped {
        true => ("g.", "l."),
        false => ("", ""),
    };
    format!(
        "WITH RECURSIVE level AS (
             SELECT {of_g}{group} r.responsible,
                    (SELECT k.priority FROM planned_contact k
                     WHERE k.tenant_id = $1 AND k.responsible = r.responsible {same}
                       AND k.state IN ('open', 'waiting')
                     ORDER BY k.priority DESC LIMIT 1) AS priority
             FROM unnest($2) r (responsible) {groups}
             UNION ALL
             SELECT {of_l}{group} l.responsible,
                    (SELECT k.priority FROM planned_contact k
                     WHERE k.tenant_id = $1 AND k.responsible = l.responsible {of_level}
                       AND k.state IN ('open', 'waiting') AND k.priority < l.priority
                     ORDER BY k.priority DESC LIMIT 1)
             FROM level l WHERE l.priority IS NOT NULL),
         turn AS MATERIALIZED (
             SELECT {of_l}{group} l.responsible, l.priority, first.due
             FROM level l
             CROSS JOIN LATERAL (
                 SELECT {DUE_K} AS due FROM planned_contact k
                 WHERE k.tenant_id = $1 AND k.responsible = l.responsible {of_level}
                   AND k.priority = l.priority AND k.state IN ('open', 'waiting')
                   AND {DUE_K} <= now()
                 ORDER BY {DUE_K} LIMIT 1) first)"
    )
}

/// As [`DUE`].
const DUE_K: &str = "greatest(k.next_at, k.not_before)";

/// Contacts `m` of a `turn` that are due and fit the worker, the one due the longest first.
///
/// `more` are further conditions.
fn fitting(grouped: bool, more: &str) -> String {
    let of_group = match grouped {
        true => "AND m.customer_group = turn.customer_group AND m.customer_group <> ''",
        false => "",
    };
    format!(
        "FROM planned_contact m
         WHERE m.tenant_id = $1 AND m.responsible = turn.responsible
           AND m.priority = turn.priority {of_group} AND m.state IN ('open', 'waiting')
           AND {DUE} <= now() AND m.skills <@ $3
           AND (cardinality($4) = 0 OR m.plan_code = ANY($4))
           AND ($6 IS NULL OR m.contact_date >= $6) {more}
         ORDER BY {DUE}, m.id"
    )
}

/// Finds and holds the first contact; no more is locked than is looked at. When there is a budget, or claims have
/// run out, nothing is looked for before that is seen to and the caller `ready`.
async fn first<'a>(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: &Wanted<'a>,
    ready: bool,
) -> Result<(Desk<'a>, Option<First>)> {
    // What is not asked for costs nothing: a statement for each case.
    static SQL: [LazyLock<String>; 2] = [
        LazyLock::new(|| first_sql(false)),
        LazyLock::new(|| first_sql(true)),
    ];
    let sql = &SQL[usize::from(!wanted.groups.is_empty())][..];
    let found: Found = bind_wanted!(sql, tenant, wanted)
        .bind::<Text, _>(wanted.time_zone)
        .bind::<Bool, _>(ready)
        .fixed()
        .get_result(conn)
        .await?;
    let first = found.id.zip(found.priority).zip(found.due);
    let first = first.map(|((id, priority), due)| First {
        id,
        priority,
        due,
        is_left_over: found.is_left_over.unwrap_or(false),
    });
    Ok((found.desk.of(tenant, wanted.time_zone), first))
}

fn first_sql(grouped: bool) -> String {
    let (turns, fitting) = (turns(grouped), fitting(grouped, ""));
    let desk = &*DESK;
    format!(
        "{turns}
         SELECT desk.*, first.*
         FROM ({desk} OFFSET 0) desk
         LEFT JOIN LATERAL (
             SELECT d.id, d.priority, d.due, d.contact_date < (now() AT TIME ZONE coalesce(
                        (SELECT nullif(time_zone, '') FROM contact_plan
                         WHERE tenant_id = $1 AND code = d.plan_code), $7))::date AS is_left_over
             FROM (SELECT * FROM turn ORDER BY priority DESC, due) turn
             CROSS JOIN LATERAL (
                 SELECT m.id, m.contact_date, m.plan_code, m.priority, {DUE} AS due
                 {fitting} LIMIT 1 FOR UPDATE OF m SKIP LOCKED) d
             WHERE $8 OR desk.max_contacts IS NULL AND NOT desk.silent
             LIMIT 1) first ON true"
    )
}

/// A contact that was taken, with what its warnings go by.
#[derive(QueryableByName)]
struct Taken {
    #[diesel(embed)]
    contact: Contact,
    #[diesel(sql_type = Text)]
    customer_name: String,
    #[diesel(sql_type = Bool)]
    any_time: bool,
    #[diesel(sql_type = Text)]
    time_zone: String,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

/// Takes a contact that is held, unless it must not be made now.
async fn take(
    conn: &mut Conn,
    desk: &Desk<'_>,
    id: Uuid,
    terms: Terms<'_>,
) -> Result<Option<Claim>> {
    static SQL: [LazyLock<String>; 2] = [
        LazyLock::new(|| take_sql(false)),
        LazyLock::new(|| take_sql(true)),
    ];
    let sql = &SQL[usize::from(desk.budget.is_some())][..];
    let claim = Uuid::now_v7();
    let query = diesel::sql_query(sql).bind::<SqlUuid, _>(desk.tenant.0);
    let taken: Option<Taken> = bind_desk!(query, desk)
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(claim)
        .bind::<Text, _>(terms.worker)
        .bind::<Integer, _>(terms.seconds)
        .fixed()
        .get_result(conn)
        .await
        .optional()?;
    let Some(taken) = taken else {
        return Ok(None);
    };
    let contact = &taken.contact;
    let warnings = rules::warnings_of_call(
        &When {
            zone: &taken.time_zone,
            date: contact.contact_date,
            at: contact.contact_at,
            from: contact.window_from,
            to: contact.window_to,
            named: contact.next_at.filter(|_| taken.any_time),
            now: taken.now,
        },
        &contact.phone,
    )?;
    Ok(Some(Claim {
        id: claim,
        contact: taken.contact,
        customer_name: taken.customer_name,
        warnings,
    }))
}

fn take_sql(budgeted: bool) -> String {
    let verdict = verdict(budgeted, 2);
    let name = super::claim::CUSTOMER_NAME;
    format!(
        "WITH judged AS MATERIALIZED (
             SELECT m.id, zone.name AS time_zone, verdict.reason
             FROM planned_contact m {verdict}
             WHERE m.tenant_id = $1 AND m.id = $8),
         taken AS (
             UPDATE planned_contact k
             SET state = 'claimed', claimed_by = $10, claim_id = $9,
                 claim_until = now() + make_interval(secs => $11),
                 claim_units = anklang_claim_units($1, k.customer_id, $9), not_before = NULL,
                 passed_over = '', updated_at = now()
             FROM judged j
             WHERE k.tenant_id = $1 AND k.id = j.id AND j.reason IS NULL
             RETURNING k.*, j.time_zone)
         SELECT {COLUMNS}, {name} AS customer_name, k.any_time, k.time_zone, now() AS now
         FROM taken k {JOINS}"
    )
}

/// Holds those behind the first contact that must not be made now either. Those that may are not held: they are
/// for whoever asks at the same time; those before it are held by others, who do the same.
async fn look_ahead(
    conn: &mut Conn,
    desk: &Desk<'_>,
    wanted: &Wanted<'_>,
    first: &First,
) -> Result<Vec<Uuid>> {
    static SQL: [LazyLock<String>; 4] = [
        LazyLock::new(|| look_ahead_sql(false, false)),
        LazyLock::new(|| look_ahead_sql(false, true)),
        LazyLock::new(|| look_ahead_sql(true, false)),
        LazyLock::new(|| look_ahead_sql(true, true)),
    ];
    let case = 2 * usize::from(desk.budget.is_some()) + usize::from(!wanted.groups.is_empty());
    let query = bind_wanted!(&SQL[case][..], desk.tenant, wanted);
    let barred: Vec<Id> = bind_desk!(query, desk)
        .bind::<Integer, _>(first.priority)
        .bind::<Timestamptz, _>(first.due)
        .fixed()
        .load(conn)
        .await?;
    if barred.is_empty() {
        return Ok(Vec::new());
    }
    let held: Vec<Id> = diesel::sql_query(
        "SELECT id FROM planned_contact
         WHERE tenant_id = $1 AND id = ANY($2) AND state IN ('open', 'waiting')
         ORDER BY id FOR UPDATE SKIP LOCKED",
    )
    .bind::<SqlUuid, _>(desk.tenant.0)
    .bind::<Array<SqlUuid>, _>(barred.into_iter().map(|row| row.id).collect::<Vec<_>>())
    .fixed()
    .load(conn)
    .await?;
    Ok(held.into_iter().map(|row| row.id).collect())
}

fn look_ahead_sql(budgeted: bool, grouped: bool) -> String {
    let behind = format!("AND (m.priority < $13 OR m.priority = $13 AND {DUE} >= $14)");
    let (turns, fitting) = (turns(grouped), fitting(grouped, &behind));
    let verdict = verdict(budgeted, 7);
    format!(
        "{turns},
         near AS MATERIALIZED (
             SELECT d.*
             FROM (SELECT * FROM turn ORDER BY priority DESC, due) turn
             CROSS JOIN LATERAL (SELECT m.* {fitting} LIMIT {LOOK_AHEAD}) d
             LIMIT {LOOK_AHEAD})
         SELECT m.id
         FROM near m
         {verdict}
         WHERE verdict.reason IS NOT NULL"
    )
}

/// Puts those aside that are held and must not be made now, for a while.
async fn put_aside(conn: &mut Conn, desk: &Desk<'_>, ids: &[Uuid]) -> Result<()> {
    static SQL: [LazyLock<String>; 2] = [
        LazyLock::new(|| put_aside_sql(false)),
        LazyLock::new(|| put_aside_sql(true)),
    ];
    if ids.is_empty() {
        return Ok(());
    }
    let sql = &SQL[usize::from(desk.budget.is_some())][..];
    let query = diesel::sql_query(sql).bind::<SqlUuid, _>(desk.tenant.0);
    bind_desk!(query, desk)
        .bind::<Array<SqlUuid>, _>(ids)
        .fixed()
        .execute(conn)
        .await?;
    Ok(())
}

fn put_aside_sql(budgeted: bool) -> String {
    let verdict = verdict(budgeted, 2);
    format!(
        "WITH judged AS MATERIALIZED (
             SELECT m.id, verdict.reason, verdict.until
             FROM planned_contact m {verdict}
             WHERE m.tenant_id = $1 AND m.id = ANY($8) AND verdict.reason IS NOT NULL)
         UPDATE planned_contact k SET not_before = j.until, passed_over = j.reason
         FROM judged j
         WHERE k.tenant_id = $1 AND k.id = j.id"
    )
}
