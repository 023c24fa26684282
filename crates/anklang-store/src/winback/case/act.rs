//! What people do with a case. The rule is the domain's; here it is asked under the row's lock, and written
//! what comes of it.

use std::sync::LazyLock;

use anklang_domain::winback::{self, ActError, Acted, Action, Actor, CaseRules, Remind};
use anklang_domain::{OfferId, TenantId, Violations};
use diesel::sql_types::{Bool, Date, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::notice::{self, Request};
use super::{Standing, hold, resource};
use crate::handover::event::ANNOUNCE_WINBACK_OFFER;
use crate::planning::calendar;
use crate::sql::Fix;
use crate::winback::settings::{self, Settings};
use crate::{Conn, Result, StoreError};

/// What somebody does with a case. Mails are sent elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    /// `users/{user}`.
    pub worker: &'a str,
    /// The claim under which the case must be.
    pub claim: Option<Uuid>,
    /// What.
    pub action: &'a Action,
    /// What to remember of it, where the action has no text of its own; empty for nothing.
    pub note: &'a str,
}

/// A deed that may be done: the case is locked.
#[derive(Debug)]
pub struct Decided {
    standing: Standing,
    /// What it becomes; `None` when it was so before.
    next: Option<winback::Case>,
    settings: Settings,
}

/// Decides what a deed makes of a case.
///
/// # Errors
/// `Missing`; `Refused` when the case is closed, in somebody else's hands or not under the claim; `Invalid`
/// with violations at `days` or `due_date`.
pub async fn decide(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    deed: &Deed<'_>,
) -> Result<Decided> {
    let standing = hold(conn, tenant, id).await?;
    let settings = settings::get(conn, tenant).await?.settings;
    let counts_days = matches!(
        deed.action,
        Action::Remind(Remind::Default | Remind::InDays(_))
    );
    let calendar = match &settings.calendar {
        Some(id) if counts_days => calendar::get(conn, tenant, id).await?,
        _ => None,
    };
    let calendar = calendar.map(|calendar| calendar.rules()).transpose()?;
    let rules = CaseRules {
        reminder_days: settings.reminder_days,
        calendar: calendar.as_ref(),
        has_standard: false,
        has_voucher: false,
    };
    let actor = Actor::Person(deed.worker);
    let (case, now, today) = (&standing.case, standing.now, standing.today);
    let acted = winback::act(case, actor, deed.action, &rules, now, today)
        .map_err(|error| refused(&standing, deed, error))?;
    let next = match acted {
        Acted::AlreadySo => None,
        Acted::Becomes(next) => {
            if let Some(claim) = deed.claim {
                standing.must_be_under(claim)?;
            }
            Some(next)
        }
    };
    Ok(Decided {
        standing,
        next,
        settings,
    })
}

fn refused(standing: &Standing, deed: &Deed<'_>, error: ActError) -> StoreError {
    let field = match (&error, deed.action) {
        (ActError::BadReminder, Action::Remind(Remind::On(_))) => "due_date",
        (ActError::BadReminder, _) => "days",
        (ActError::BadText, Action::Remark { .. }) => "text",
        (ActError::BadText, _) => "note",
        _ => return standing.refused(&error),
    };
    let mut violations = Violations::new();
    violations.add(field, error.to_string());
    violations.into()
}

/// Writes what was decided: the case, its history, the customer's history, the event for webhooks, and the mail
/// to those who make offers, which it gives. `offer` is the one that was made, with its number.
pub async fn write(
    conn: &mut Conn,
    tenant: TenantId,
    decided: &Decided,
    deed: &Deed<'_>,
    offer: Option<(OfferId, &str)>,
) -> Result<Option<Uuid>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "WITH changed AS (
                 UPDATE winback_case
                 SET state = $3, due_on = $4, contacted_on = $5, no_interest = $6,
                     closed_on = coalesce($7, closed_on),
                     held_by = CASE WHEN $8 THEN held_by END,
                     held_until = CASE WHEN $8 THEN held_until END,
                     claim_id = CASE WHEN $8 THEN claim_id END,
                     claim_units = CASE WHEN $8 THEN claim_units END,
                     offer_id = coalesce($9, offer_id),
                     updated_at = CASE $10 WHEN 'remark' THEN updated_at ELSE now() END
                 WHERE tenant_id = $1 AND id = $2
                 RETURNING id, customer_id),
             noted AS (
                 INSERT INTO winback_case_event (tenant_id, id, case_id, kind, from_state, to_state,
                                                 actor, detail)
                 SELECT $1, anklang_uuid7(), id, $10, $11, $3, $12, $13 FROM changed),
             news AS (SELECT $1 AS tenant_id, id AS case_id, customer_id, $12 AS worker,
                             $13->>'note' AS note, $14 AS mail_to, $15 AS offer,
                             $13->>'message' AS message
                      FROM changed WHERE $10 = 'offer_requested'),
             {ANNOUNCE_WINBACK_OFFER}
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, details)
             SELECT $1, customer_id, 'winback.' || $10, 'winbackCases/' || id,
                    $13 || jsonb_build_object('worker', $12, 'state', $3)
             FROM changed"
        )
    });
    let Some(next) = &decided.next else {
        return Ok(None);
    };
    let (kind, mut detail) = told(deed, next);
    let mail = match deed.action {
        Action::RequestOffer { note } => {
            let request = Request {
                worker: deed.worker,
                note,
                offer: offer.map(|(_, number)| number),
            };
            let Decided {
                standing, settings, ..
            } = decided;
            notice::queue(conn, tenant, standing, settings, request).await?
        }
        _ => None,
    };
    if let Some(mail) = mail {
        detail.insert("message".into(), format!("messages/{mail}").into());
    }
    let offer_name = offer.map(|(_, number)| anklang_domain::name::format(&[("offers", number)]));
    if let Some(name) = offer_name {
        detail.insert("offer".into(), name.into());
    }
    let closes = next.state.is_final() && !decided.standing.case.state.is_final();
    let written = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(decided.standing.id)
        .bind::<Text, _>(next.state.as_str())
        .bind::<Nullable<Date>, _>(next.due_on)
        .bind::<Nullable<Date>, _>(next.contacted_on)
        .bind::<Nullable<Text>, _>(next.no_interest.map(|reason| reason.as_str()))
        .bind::<Nullable<Date>, _>(closes.then_some(decided.standing.today))
        .bind::<Bool, _>(next.hold.is_some())
        .bind::<Nullable<SqlUuid>, _>(offer.map(|(id, _)| id.0))
        .bind::<Text, _>(kind)
        .bind::<Text, _>(decided.standing.case.state.as_str())
        .bind::<Text, _>(deed.worker)
        .bind::<Jsonb, _>(Value::Object(detail))
        .bind::<Text, _>(&decided.settings.offer_mail_to)
        .bind::<Nullable<Text>, _>(offer.map(|(_, number)| number))
        .fixed()
        .execute(conn)
        .await?;
    match written {
        1 => Ok(mail),
        n => Err(StoreError::Stored(format!(
            "{}: {n} lines of history",
            resource(decided.standing.id)
        ))),
    }
}

/// The kind of a deed in the history, and what is told of it.
fn told(deed: &Deed<'_>, next: &winback::Case) -> (&'static str, Map<String, Value>) {
    let mut detail = Map::new();
    let mut tell = |key: &str, text: &str| {
        if !text.is_empty() {
            detail.insert(key.into(), text.into());
        }
    };
    let kind = match deed.action {
        Action::NoInterest(reason) => {
            tell("reason", reason.as_str());
            tell("note", deed.note);
            "no_interest"
        }
        Action::RequestOffer { note } => {
            tell("note", note);
            "offer_requested"
        }
        Action::Remind(_) => {
            let day = next.due_on.map(|day| day.to_string());
            tell("due_date", &day.unwrap_or_default());
            tell("note", deed.note);
            "reminder"
        }
        Action::Remark { text } => {
            tell("text", text);
            "remark"
        }
        Action::Mail(_) => "mailed",
    };
    (kind, detail)
}
