//! Asks channels what became of messages of which nobody knows, and settles those of which they know.
//!
//! For accounts whose plugin can look up, the server asks by itself with growing waits before the
//! account's policy counts: what is certainly not taken is sent again without doubt, what was taken is
//! not sent twice. A lookup is counted when it begins, so that a crash costs one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anklang_channels::CallError;
use anklang_channels::proto::{self, lookup_result::Kind};
use anklang_domain::TenantId;
use anklang_domain::message::{AmbiguousPolicy, Known, Next, Outcome, after_lookup};
use anklang_store::StoreError;
use anklang_store::audit::Deed;
use anklang_store::message::{self, Doubt, Looked};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::App;
use super::dispatch::read_outcome;
use crate::accounts::Account;
use crate::telemetry::spans;

/// The most messages that are asked about in one call.
const MOST_AT_ONCE: usize = 100;

/// Why a lookup came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The channel could not be asked.
    #[error("the channel cannot be asked: {0}")]
    Channel(#[from] CallError),
    /// What it said could not be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks up an account's ambiguous messages until told to stop; at once over when its plugin cannot.
pub async fn run(app: App, account: Arc<Account>, stop: CancellationToken) {
    while account.looks_up() && !stop.is_cancelled() {
        let more = tokio::select! {
            () = stop.cancelled() => return,
            more = round(&app, &account) => more,
        };
        match more {
            Ok(true) => continue,
            Ok(false) => {}
            Err(LookupError::Channel(error)) => {
                let (account, why) = (&account.id[..], error.kind());
                tracing::warn!(account, error = why, "looking up messages");
                tracing::debug!(account, %error, "looking up messages");
            }
            Err(error) => tracing::warn!(account = account.id, %error, "looking up messages"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(app.config.dispatch_poll) => {}
        }
    }
}

/// One call of the plugin, if anything is due; says whether more may be.
async fn round(app: &App, account: &Account) -> Result<bool, LookupError> {
    // A lookup that nobody can answer is not used up.
    if !account.instance.is_up() {
        return Ok(false);
    }
    let waits = &app.config.channels.lookup_waits;
    give_up(app, account, waits.len()).await?;
    let most = at_once(account);
    let limit = i64::try_from(most).unwrap_or(1);
    let doubts =
        message::claim_lookups(&app.store, &account.id, account.tenant, waits, limit).await?;
    let claimed = doubts.len();
    if claimed > 0 {
        match look_up(app, account, doubts, None).await {
            // It was not up when it was asked whether it can.
            Err(LookupError::Channel(CallError::Unsupported)) => {
                account.cannot_look_up();
                give_up(app, account, 0).await?;
            }
            looked => drop(looked?),
        }
    }
    Ok(claimed == most)
}

/// Where the account's policy is so, queues again what was looked up so often and is still in doubt.
async fn give_up(app: &App, account: &Account, lookups: usize) -> Result<(), StoreError> {
    if account.policy != AmbiguousPolicy::Resend {
        return Ok(());
    }
    let queued = message::give_up_lookups(&app.store, &account.id, account.tenant, lookups).await?;
    if queued > 0 {
        tracing::warn!(
            account = account.id,
            queued,
            "messages that the channel knows nothing of are sent again"
        );
        app.wake.messages.notify_waiters();
    }
    Ok(())
}

/// So many messages are asked about in one call of an account's plugin.
pub fn at_once(account: &Account) -> usize {
    let most = usize::try_from(account.plugin.manifest().max_batch).unwrap_or(1);
    most.clamp(1, MOST_AT_ONCE)
}

/// Asks about at most [`at_once`] messages of an account and settles what is known, for a call, if it is
/// one that asks; gives how many.
pub async fn look_up(
    app: &App,
    account: &Account,
    doubts: Vec<Doubt>,
    deed: Option<&Deed>,
) -> Result<usize, LookupError> {
    let span = spans::look_up(account, doubts.len());
    let request = proto::LookupRequest {
        message_ids: doubts.iter().map(|doubt| doubt.id.to_string()).collect(),
        traceparent: spans::traceparent(&span),
    };
    let results = account.instance.lookup(request).instrument(span).await?;
    let mut of: BTreeMap<TenantId, Vec<Looked>> = BTreeMap::new();
    for (doubt, result) in doubts.into_iter().zip(results) {
        if let Some(looked) = read(doubt, result) {
            let tenant = TenantId(looked.doubt.tenant_id);
            of.entry(tenant).or_default().push(looked);
        }
    }
    let mut settled = 0;
    for (tenant, looked) in of {
        settled += message::settle(&app.store, tenant, &looked, deed).await?;
    }
    if settled > 0 {
        tracing::info!(account = account.id, settled, "lookups settled messages");
        app.wake.messages.notify_waiters();
    }
    Ok(settled)
}

/// What becomes of a message; `None` when its channel knows nothing either.
fn read(doubt: Doubt, result: proto::LookupResult) -> Option<Looked> {
    let (known, detail) = match result.kind? {
        Kind::Outcome(outcome) => {
            let (outcome, detail) = read_outcome(outcome);
            (Known::Outcome(outcome), detail)
        }
        Kind::NotFound(_) => (Known::Never, "its channel never got it".to_owned()),
    };
    let next = after_lookup(&known, doubt.failures)?;
    let detail = match (&detail[..], &next) {
        ("", Next::Sent) => "taken".to_owned(),
        ("", Next::Failed) => "refused".to_owned(),
        ("", _) => "not taken".to_owned(),
        _ => detail,
    };
    let provider_message_id = match known {
        Known::Outcome(Outcome::Accepted {
            provider_message_id,
        }) => provider_message_id,
        _ => String::new(),
    };
    Some(Looked {
        doubt,
        next,
        provider_message_id,
        detail: format!("looked up: {detail}"),
    })
}
