//! Mails many winback cases, chunk by chunk.
//!
//! First the control group is drawn and everybody else noted, in one transaction: from then on it is
//! settled who is mailed and who is left alone. Then chunks of those are decided on and queued, in the order
//! of their ids, and in a second step those that somebody had in hand meanwhile
//! (`anklang_store::winback::mail`), each in one transaction with its checkpoint. Killed in between, a
//! chunk is done again as if it had never been; a template goes once to a case, and a voucher to one mail,
//! by unique keys.

use std::collections::BTreeMap;

use anklang_domain::approval::is_needed;
use anklang_domain::winback::{Actor, ControlGroup};
use anklang_domain::{OperationId, TenantId, Violations};
use anklang_store::approval::{self, Together};
use anklang_store::listing::List;
use anklang_store::operation::{self, End, Leased};
use anklang_store::tenant::Tenant;
use anklang_store::winback::case;
use anklang_store::winback::mail::{self, Order, Refusal};
use anklang_store::winback::mailing::{self, Mailing, NewMailing, Wanted};
use anklang_store::{Conn, StoreError};
use chrono::SecondsFormat;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::App;
use super::launch::{criteria_do_not_hold, keep_lease, progress};
use super::operations::Interrupted;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "MailWinbackCases";

/// Cases that are decided on in one transaction.
const PER_CHUNK: i64 = 500;

/// The step in which all are decided on, but for those that somebody has in hand.
const MAIL: &str = "mail";
/// The step in which these are.
const REST: &str = "rest";

/// Reads a filter of cases.
pub fn filter(text: &str, violations: &mut Violations) -> List {
    case::LISTABLE.read(text, "", 1, violations)
}

/// Asks for a mailing, in the caller's transaction.
pub async fn ask(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewMailing<'_>,
) -> Result<operation::Operation, StoreError> {
    let id = OperationId::new();
    mailing::create(conn, tenant, id.0, new).await?;
    let new = operation::NewOperation {
        id,
        kind: KIND,
        resource: mailing::resource(id.0),
        request: json!({}),
    };
    operation::create(conn, tenant, new).await
}

/// Runs a mailing from its checkpoint to its end.
pub async fn run(
    app: &App,
    held: &mut Leased,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let tenant = anklang_store::tenant::by_id(&app.store, held.operation.tenant())
        .await?
        .ok_or_else(|| StoreError::Missing("the tenant".into()))?;
    let tx = app.store.begin(tenant.id).await?;
    let mailing = mailing::get(&tx, tenant.id, held.operation.id).await?;
    tx.commit().await?;
    let mailing = mailing.ok_or_else(|| StoreError::Missing("the mailing".into()))?;
    // Where its step is; after a crash it looks from the beginning for what is not decided.
    let mut after = None;
    loop {
        if held.operation.cancel_requested {
            return Err(Interrupted::Cancelled);
        }
        if stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        let _measured = meters::chunk(&held.operation);
        match &held.operation.step[..] {
            MAIL | REST => {
                if mail_chunk(app, held, &tenant, &mailing, &mut after).await? {
                    return Ok(());
                }
            }
            _ => draw(app, held, &tenant, &mailing).await?,
        }
        if operation::stand_back(&app.store, held).await? {
            return Err(Interrupted::StoodBack);
        }
    }
}

/// Why so many are not mailed: a launch to as many would need an approval, and a mailing has nobody who gives it. Without
/// a turn: what is launched at this moment may count or not.
pub async fn too_many(
    conn: &mut Conn,
    tenant: TenantId,
    members: i64,
    of: Together<'_>,
) -> Result<Option<String>, StoreError> {
    let policy = approval::policy_for(conn, tenant, of.by).await?;
    let Some(limit) = policy.members_over else {
        return Ok(None);
    };
    let hours = policy.window_hours;
    let before = approval::without_approval(conn, tenant, of, hours).await?;
    let own = policy.stricter_until.map(|until| {
        let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!(
            " (that limit counts until {until} for who has loosened the approval policy, or until somebody else \
             sets it)"
        )
    });
    let own = own.unwrap_or_default();
    Ok(is_needed(members, before, Some(limit)).then(|| {
        format!(
            "it would mail {members} customers, after {before} of the same caller's launches and mailings of the \
             last {hours} hours; more than {limit} need an approval{own}, which a mailing cannot have: mail fewer, or \
             launch a campaign to these customers, which somebody else can approve"
        )
    }))
}

/// [`too_many`] in turn with launches and other mailings, of which each counts the one before.
async fn too_many_in_turn(
    conn: &mut Conn,
    tenant: TenantId,
    members: i64,
    of: Together<'_>,
) -> Result<Option<String>, StoreError> {
    let policy = approval::policy_for(conn, tenant, of.by).await?;
    if policy.members_over.is_some() {
        approval::take_turn(conn, tenant).await?;
    }
    too_many(conn, tenant, members, of).await
}

/// Draws who is left alone, and notes who is mailed.
async fn draw(
    app: &App,
    held: &mut Leased,
    tenant: &Tenant,
    mailing: &Mailing,
) -> Result<(), Interrupted> {
    let hopeless = |message: String| Interrupted::Hopeless {
        reason: "INTERNAL",
        message,
    };
    let mut violations = Violations::new();
    let list = filter(&mailing.filter, &mut violations);
    violations
        .finish(())
        .map_err(|e| hopeless(format!("the stored filter: {e}")))?;
    let control = ControlGroup::new(mailing.id, mailing.control_percent)
        .map_err(|e| hopeless(format!("the stored share of the control group {e}")))?;
    let mut tx = app.store.begin(tenant.id).await?;
    // Another mailing may be drawing, and its draw may take long.
    let turn = mailing::begin_draw(&mut tx, tenant.id);
    let (now, today) = keep_lease(app, held, turn).await?;
    let selection = mailing::selection(&mut tx, tenant, mailing.id, now).await;
    let selection = selection.map_err(criteria_do_not_hold)?;
    let wanted = Wanted {
        template: mailing.template(),
        tile: mailing.tile(),
        selection: selection.as_ref(),
        list: &list,
        today,
    };
    let work = mailing::draw(&mut tx, tenant.id, mailing, wanted, &control);
    let drawn = keep_lease(app, held, work).await?;
    let of = Together {
        by: &mailing.launched_by,
        campaign: None,
        but: Some(mailing.id),
    };
    let counting = too_many_in_turn(&mut tx, tenant.id, drawn.members - drawn.refused, of);
    let refusal = keep_lease(app, held, counting).await?;
    if let Some(message) = refusal {
        tx.rollback().await?;
        return Err(Interrupted::Hopeless {
            reason: "PRECONDITION",
            message,
        });
    }
    let to = progress(MAIL, drawn.refused, drawn.members, drawn.refused);
    operation::advance(&mut tx, held, to).await?;
    tx.commit().await?;
    Ok(())
}

/// Decides on the next cases and queues their mails; true when none was left.
async fn mail_chunk(
    app: &App,
    held: &mut Leased,
    tenant: &Tenant,
    mailing: &Mailing,
    after: &mut Option<Uuid>,
) -> Result<bool, Interrupted> {
    let is_rest = held.operation.step == REST;
    let mut tx = app.store.begin(tenant.id).await?;
    let work = decide(&mut tx, tenant, mailing, *after, is_rest);
    let chunk = keep_lease(app, held, work).await?;
    let done = held.operation.done + chunk.decided;
    let failed = held.operation.failed + chunk.refused;
    let step = match chunk.last {
        None => REST,
        Some(_) if is_rest => REST,
        Some(_) => MAIL,
    };
    let to = progress(step, done, held.operation.total, failed);
    operation::advance(&mut tx, held, to).await?;
    let is_over = is_rest && chunk.last.is_none();
    if is_over {
        mailing::finish(&mut tx, tenant.id, mailing.id).await?;
        let ended = mailing::ended(&mut tx, tenant.id, mailing.id);
        let ended = keep_lease(app, held, ended).await?;
        operation::finish(&mut tx, held, End::Succeeded(json!(ended))).await?;
    }
    tx.commit().await?;
    // Of the rest from the beginning.
    *after = chunk.last;
    if chunk.decided > chunk.refused {
        app.wake.messages.notify_waiters();
    }
    Ok(is_over)
}

/// What was decided of a chunk.
struct Chunk {
    decided: i64,
    refused: i64,
    /// The last case that was looked at; `None` when there was none.
    last: Option<Uuid>,
}

/// Decides on the next cases. Those that somebody has in hand are refused only when it is the rest.
async fn decide(
    conn: &mut Conn,
    tenant: &Tenant,
    mailing: &Mailing,
    after: Option<Uuid>,
    is_rest: bool,
) -> Result<Chunk, StoreError> {
    let cases = mailing::next(conn, tenant.id, mailing.id, after, PER_CHUNK).await?;
    let order = Order {
        template: mailing.template(),
        actor: Actor::Campaign,
        mailing: Some(mailing.id),
        claim: None,
    };
    let answers = mail::queue(conn, tenant, &order, &cases).await?;
    // A case that is gone has gone with its customer, and its membership as well.
    let decided: BTreeMap<_, _> = cases
        .iter()
        .map(|case| {
            (
                *case,
                answers.get(case).and_then(|answer| answer.as_ref().err()),
            )
        })
        .filter(|(_, refusal)| is_rest || !refusal.is_some_and(Refusal::is_for_now))
        .collect();
    let decided: Vec<_> = decided.into_iter().collect();
    mailing::decided(conn, tenant.id, mailing.id, &decided).await?;
    let refused = decided.iter().filter(|(_, refusal)| refusal.is_some());
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(Chunk {
        decided: count(decided.len()),
        refused: count(refused.count()),
        last: cases.last().copied(),
    })
}
