//! Erases a person's data, step by step; each is a transaction with its checkpoint, and can be done again.
//!
//! - **withdraw**: from its first transaction on the customer is not found, changed or contacted any more; what is in
//!   the hands of senders and people is waited for.
//! - **search**: answers of calls that quote the person are emptied.
//! - **erase**: one transaction that empties all rows and lists the files, once nothing is under way.
//! - **print_files**: print files with letters to the person are made anew without them.
//! - **files**: what is listed is deleted from the document store.
//!
//! The sweep asks for it again some time later, by an operation of its own for the same request: the same steps.

use std::time::Duration;

use anklang_store::operation::{self, End, Leased};
use anklang_store::privacy::erase::{self, Place};
use anklang_store::privacy::request;
use anklang_store::privacy::withdraw::{self, Withdrawn};
use anklang_store::privacy::{Counts, Subject, file};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError, tenant};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{AGAIN, FILES_PER_TURN, delete, request_of, subject_of};
use crate::telemetry::meters;
use crate::work::App;
use crate::work::bundle::{self, Remade};
use crate::work::launch::{keep_lease, progress};
use crate::work::operations::Interrupted;

/// Kind of the operation.
pub const KIND: &str = "ErasePersonalData";

/// How long to wait for what is under way before looking again.
const WAIT: Duration = Duration::from_millis(500);
/// Answers of calls that are searched in one transaction.
const ROWS_PER_SEARCH: i64 = 5_000;

/// Runs an erasure from its checkpoint to its end.
pub async fn run(
    app: &App,
    held: &mut Leased,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let tenant = tenant::by_id(&app.store, held.operation.tenant())
        .await?
        .ok_or_else(|| StoreError::Missing("the tenant".into()))?;
    let subject = subject_of(app, held).await?;
    // Where the search is; after a crash it begins anew.
    let mut place = Place::default();
    loop {
        if stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        let _measured = meters::chunk(&held.operation);
        let step = held.operation.step.clone();
        match &step[..] {
            // Nothing was done yet; what is begun is not left half done, nor its later rounds.
            "" if held.operation.cancel_requested
                && request_of(&held.operation) == held.operation.id =>
            {
                return Err(Interrupted::Cancelled);
            }
            "" | "withdraw" => withdraw(app, held, &tenant, &subject, stop).await?,
            "search" => search(app, held, &subject, &mut place).await?,
            "erase" => erase(app, held, &tenant, &subject, stop).await?,
            "print_files" => {
                let request = request_of(&held.operation);
                match bundle::remake(app, held, request, stop).await? {
                    Remade::One => {}
                    Remade::Waits(name) => {
                        let mut tx = app.store.begin(tenant.id).await?;
                        note(&mut tx, held, "print_files", &[name]).await?;
                        tx.commit().await?;
                        wait(app, held, stop).await?;
                    }
                    Remade::All => go_on(app, held, "files").await?,
                }
            }
            "files" => {
                if files(app, held).await? {
                    return Ok(());
                }
            }
            "finished" => return Ok(()),
            step => {
                return Err(Interrupted::Hopeless {
                    reason: "INTERNAL",
                    message: format!("the step {step} is not known to this version"),
                });
            }
        }
    }
}

/// Moves the checkpoint to the beginning of a step.
async fn go_on(app: &App, held: &mut Leased, step: &'static str) -> Result<(), Interrupted> {
    let mut tx = app.store.begin(held.operation.tenant()).await?;
    note(&mut tx, held, step, &[]).await?;
    tx.commit().await?;
    Ok(())
}

/// Lets some time go by, and others go first who are due.
async fn wait(app: &App, held: &Leased, stop: &CancellationToken) -> Result<(), Interrupted> {
    tokio::select! {
        () = stop.cancelled() => return Err(Interrupted::Stopping),
        () = tokio::time::sleep(WAIT) => {}
    }
    match operation::stand_back(&app.store, held).await? {
        true => Err(Interrupted::StoodBack),
        false => Ok(()),
    }
}

async fn withdraw(
    app: &App,
    held: &mut Leased,
    tenant: &Tenant,
    subject: &Subject,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let mut tx = app.store.begin_work(tenant.id).await?;
    let work = withdraw::withdraw(&mut tx, tenant, subject);
    let Withdrawn { under_way, removed } = keep_lease(app, held, work).await?;
    request::add_counts(&mut tx, tenant.id, request_of(&held.operation), &removed).await?;
    let step = match under_way.is_empty() {
        true => "search",
        false => "withdraw",
    };
    note(&mut tx, held, step, &under_way).await?;
    tx.commit().await?;
    app.wake.handover.notify_one();
    if !under_way.is_empty() {
        wait(app, held, stop).await?;
    }
    Ok(())
}

/// Moves the checkpoint, and names what is waited for.
async fn note(
    conn: &mut Conn,
    held: &mut Leased,
    step: &str,
    under_way: &[String],
) -> Result<(), StoreError> {
    let total = i64::try_from(under_way.len()).unwrap_or(i64::MAX);
    let waits: Vec<String> = under_way
        .iter()
        .map(|name| format!("waits for {name}"))
        .collect();
    operation::note_waits(conn, held, &waits).await?;
    operation::advance(conn, held, progress(step, 0, total, 0)).await
}

/// Searches the next answers of calls.
async fn search(
    app: &App,
    held: &mut Leased,
    subject: &Subject,
    place: &mut Place,
) -> Result<(), Interrupted> {
    let (tenant, request) = (subject.tenant, request_of(&held.operation));
    let mut tx = app.store.begin_work(tenant).await?;
    let pieces = erase::pieces(&mut tx, subject).await?;
    let work = erase::search(&mut tx, subject, &pieces, *place, ROWS_PER_SEARCH);
    let done = held.operation.done;
    let to = match keep_lease(app, held, work).await? {
        Some(found) => {
            if found.erased > 0 {
                let counts = Counts::from([(found.table.to_owned(), found.erased)]);
                request::add_counts(&mut tx, tenant, request, &counts).await?;
            }
            *place = found.next;
            progress("search", done + found.erased, 0, 0)
        }
        None => progress("erase", 0, 0, 0),
    };
    operation::advance(&mut tx, held, to).await?;
    tx.commit().await?;
    Ok(())
}

/// Empties all rows, unless something came under way again meanwhile.
async fn erase(
    app: &App,
    held: &mut Leased,
    tenant: &Tenant,
    subject: &Subject,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let request = request_of(&held.operation);
    let mut tx = app.store.begin_work(tenant.id).await?;
    let work = async {
        let withdrawn = withdraw::withdraw(&mut tx, tenant, subject).await?;
        if !withdrawn.under_way.is_empty() {
            return Ok((withdrawn, Counts::new()));
        }
        let counts = erase::rows(&mut tx, subject, request).await?;
        Ok::<_, StoreError>((withdrawn, counts))
    };
    let (withdrawn, counts) = keep_lease(app, held, work).await?;
    let Withdrawn { under_way, removed } = withdrawn;
    request::add_counts(&mut tx, tenant.id, request, &removed).await?;
    if !under_way.is_empty() {
        note(&mut tx, held, "erase", &under_way).await?;
        tx.commit().await?;
        return wait(app, held, stop).await;
    }
    request::add_counts(&mut tx, tenant.id, request, &counts).await?;
    operation::note_waits(&mut tx, held, &[]).await?;
    if request == held.operation.id {
        erase::announce(&mut tx, subject).await?;
    }
    operation::advance(&mut tx, held, progress("print_files", 0, 0, 0)).await?;
    tx.commit().await?;
    app.wake.handover.notify_one();
    Ok(())
}

/// Deletes the next files that are listed; true when none was left, and all is done.
async fn files(app: &App, held: &mut Leased) -> Result<bool, Interrupted> {
    let (tenant, request) = (held.operation.tenant(), request_of(&held.operation));
    let mut tx = app.store.begin_work(tenant).await?;
    let listed = file::of_request(&mut tx, tenant, request, FILES_PER_TURN).await?;
    tx.commit().await?;
    for one in &listed {
        delete(app, tenant, one).await?;
    }
    let n = i64::try_from(listed.len()).unwrap_or(0);
    let done = held.operation.done + n;
    let mut tx = app.store.begin_work(tenant).await?;
    if n > 0 {
        let counts = Counts::from([("files".to_owned(), n)]);
        request::add_counts(&mut tx, tenant, request, &counts).await?;
        operation::advance(&mut tx, held, progress("files", done, 0, 0)).await?;
    } else {
        request::end(&mut tx, tenant, request, "done").await?;
        request::put_off(&mut tx, tenant, request, &AGAIN).await?;
        operation::advance(&mut tx, held, progress("finished", done, done, 0)).await?;
        operation::finish(&mut tx, held, End::Succeeded(json!({}))).await?;
    }
    tx.commit().await?;
    Ok(n == 0)
}
