//! Mails many winback cases, chunk by chunk.
//!
//! First the control group is drawn and everybody else noted, in one transaction: from then on it is
//! settled who is mailed and who is left alone. Then chunks of those are decided on and queued
//! (`anklang_store::winback::mail`), each in one transaction with its checkpoint. Killed in between, a
//! chunk is done again as if it had never been; a template goes once to a case, and a voucher to one mail,
//! by unique keys.

use std::collections::BTreeMap;

use anklang_domain::winback::{Actor, ControlGroup};
use anklang_domain::{OperationId, TenantId, Violations};
use anklang_store::listing::List;
use anklang_store::operation::{self, End, Leased};
use anklang_store::tenant::Tenant;
use anklang_store::winback::case;
use anklang_store::winback::mail::{self, Order};
use anklang_store::winback::mailing::{self, Mailing, NewMailing, Wanted};
use anklang_store::{Conn, StoreError};
use chrono::Utc;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::App;
use super::launch::{criteria_do_not_hold, keep_lease, progress};
use super::operations::Interrupted;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "MailWinbackCases";

/// Cases that are decided on in one transaction.
const PER_CHUNK: i64 = 500;

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
    let mut tx = app.store.begin(tenant.id).await?;
    let mailing = mailing::get(&mut tx, tenant.id, held.operation.id).await?;
    tx.commit().await?;
    let mailing = mailing.ok_or_else(|| StoreError::Missing("the mailing".into()))?;
    loop {
        if held.operation.cancel_requested {
            return Err(Interrupted::Cancelled);
        }
        if stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        let _measured = meters::chunk(&held.operation);
        match &held.operation.step[..] {
            "mail" => {
                if mail_chunk(app, held, &tenant, &mailing).await? {
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
    let now = Utc::now();
    let mut tx = app.store.begin(tenant.id).await?;
    let selection = mailing::selection(&mut tx, tenant, mailing.id, now).await;
    let selection = selection.map_err(criteria_do_not_hold)?;
    let wanted = Wanted {
        template: mailing.template(),
        tile: mailing.tile(),
        selection: selection.as_ref(),
        list: &list,
        today: tenant.day(now),
    };
    let work = mailing::draw(&mut tx, tenant.id, mailing, wanted, &control);
    let members = keep_lease(app, held, work).await?;
    operation::advance(&mut tx, held, progress("mail", 0, members, 0)).await?;
    tx.commit().await?;
    Ok(())
}

/// Decides on the next cases and queues their mails; true when none was left.
async fn mail_chunk(
    app: &App,
    held: &mut Leased,
    tenant: &Tenant,
    mailing: &Mailing,
) -> Result<bool, Interrupted> {
    let mut tx = app.store.begin(tenant.id).await?;
    let work = decide(&mut tx, tenant, mailing);
    let (cases, refused) = keep_lease(app, held, work).await?;
    let (done, failed) = (held.operation.done + cases, held.operation.failed + refused);
    let to = progress("mail", done, held.operation.total, failed);
    operation::advance(&mut tx, held, to).await?;
    if cases == 0 {
        mailing::finish(&mut tx, tenant.id, mailing.id).await?;
        operation::finish(&mut tx, held, End::Succeeded(json!({}))).await?;
    }
    tx.commit().await?;
    if cases > refused {
        app.wake.messages.notify_waiters();
    }
    Ok(cases == 0)
}

/// Decides on the next cases; gives how many they were, and how many of them were refused.
async fn decide(
    conn: &mut Conn,
    tenant: &Tenant,
    mailing: &Mailing,
) -> Result<(i64, i64), StoreError> {
    let cases = mailing::next(conn, tenant.id, mailing.id, PER_CHUNK).await?;
    let order = Order {
        template: mailing.template(),
        actor: Actor::Campaign,
        mailing: Some(mailing.id),
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
        .collect();
    let decided: Vec<_> = decided.into_iter().collect();
    mailing::decided(conn, tenant.id, mailing.id, &decided).await?;
    let refused = decided.iter().filter(|(_, refusal)| refusal.is_some());
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Ok((count(decided.len()), count(refused.count())))
}
