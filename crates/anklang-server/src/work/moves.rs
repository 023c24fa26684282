//! Moves messages between accounts while they wait: along routes, away from accounts that cannot send,
//! and from deleted accounts to those that replace them. Asks accounts that fail whether they can send
//! again.
//!
//! Many messages are many short transactions; interrupted, the next round goes on with what is left.

use std::collections::BTreeMap;
use std::time::Duration;

use anklang_channels::CallError;
use anklang_channels::proto::health_reply::Status as Health;
use anklang_domain::TenantId;
use anklang_domain::route::{self, Range, Split, Standing};
use anklang_store::channel_account::{standing, watch};
use anklang_store::channel_route::{self, Route};
use anklang_store::message::{self, Stranded};
use anklang_store::{Conn, StoreError, tenant};
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::accounts::Account;

/// How often an account that fails is asked whether it can send.
pub const PROBE_EVERY: TimeDelta = TimeDelta::seconds(5);
/// How long its answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that move in one transaction.
const PER_CHUNK: i64 = 10_000;

/// Moves messages until told to stop. Several servers may do so at once.
pub async fn run(app: App, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let steps = [
            ("messages of deleted accounts", replaced(&app, &stop).await),
            ("messages of routes", stranded(&app, &stop).await),
            ("accounts that fail", probe(&app).await),
        ];
        for (step, result) in steps {
            if let Err(error) = result {
                tracing::warn!(step, %error, "moving messages");
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = app.wake.accounts.notified() => {}
            () = tokio::time::sleep(app.config.dispatch_poll) => {}
        }
    }
}

/// What waits for deleted accounts goes to those that replace them.
async fn replaced(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    for gone in watch::replaced(&app.store).await? {
        let to = Split {
            ranges: vec![Range {
                account: gone.replaced_by.clone(),
                from: 0,
                until: 1,
            }],
            total: 1,
        };
        let from = Leaving {
            tenant: TenantId(gone.tenant_id),
            account: &gone.id,
            route: None,
            why: "it was deleted",
        };
        from.go(app, &to, stop).await?;
        let mut tx = app.store.begin_work(from.tenant).await?;
        watch::wind_up(&mut tx, from.tenant, &gone.id).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// What waits for accounts that cannot send goes to others of its route.
async fn stranded(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    let mut routes: BTreeMap<(TenantId, String), Vec<String>> = BTreeMap::new();
    for Stranded {
        tenant_id,
        route,
        account,
    } in message::stranded(&app.store).await?
    {
        let accounts = routes.entry((TenantId(tenant_id), route)).or_default();
        accounts.push(account);
    }
    for ((tenant, id), accounts) in routes {
        let mut tx = app.store.begin_work(tenant).await?;
        let Some(route) = channel_route::get(&tx, tenant, &id).await? else {
            continue;
        };
        let standing = standing_of(app, &mut tx, tenant, &route).await?;
        tx.commit().await?;
        let can_send = |account: &str| {
            let found = standing.get(account);
            found.is_some_and(|s| s.can_send(route.failover_after()))
        };
        let Some(to) = route::split(&route.entries(), |e| can_send(&e.account)) else {
            continue;
        };
        for account in accounts.iter().filter(|account| !can_send(account)) {
            let from = Leaving {
                tenant,
                account,
                route: Some(&id),
                why: why(standing.get(account)),
            };
            from.go(app, &to, stop).await?;
        }
    }
    Ok(())
}

/// Why messages leave an account.
fn why(standing: Option<&Standing>) -> &'static str {
    match standing {
        None => "it is not in the route",
        Some(s) if !s.exists => "it is not there any more",
        Some(s) if s.paused => "it is paused",
        Some(s) if s.failing_for.is_some() => "it cannot send",
        Some(_) => "its channel holds it",
    }
}

/// How a route's messages are shared out now: among the accounts that can send, or as if all could when
/// none can.
pub async fn split(
    app: &App,
    conn: &mut Conn,
    tenant: TenantId,
    of: &Route,
) -> Result<Option<Split>, StoreError> {
    let standing = standing_of(app, conn, tenant, of).await?;
    let entries = of.entries();
    let able = route::split(&entries, |entry| {
        let found = standing.get(&entry.account);
        found.is_some_and(|s| s.can_send(of.failover_after()))
    });
    Ok(able.or_else(|| route::split(&entries, |_| true)))
}

async fn standing_of(
    app: &App,
    conn: &mut Conn,
    tenant: TenantId,
    route: &Route,
) -> Result<BTreeMap<String, Standing>, StoreError> {
    let owner = tenant::by_id(&app.store, tenant).await?;
    let configured = app.accounts.configured().filter(|account| {
        let is_for = owner.as_ref().map(|owner| account.is_for(owner));
        is_for.unwrap_or(false)
    });
    let configured: Vec<String> = configured.map(|account| account.id.clone()).collect();
    standing::standing(conn, tenant, &route.accounts(), &configured).await
}

/// Where messages leave.
struct Leaving<'a> {
    tenant: TenantId,
    account: &'a str,
    route: Option<&'a str>,
    why: &'static str,
}

impl Leaving<'_> {
    async fn go(&self, app: &App, to: &Split, stop: &CancellationToken) -> Result<(), StoreError> {
        let reason = format!("moved from channelAccounts/{}: {}", self.account, self.why);
        let mut moved = 0;
        while !stop.is_cancelled() {
            let mut tx = app.store.begin_work(self.tenant).await?;
            let (tenant, account, route) = (self.tenant, self.account, self.route);
            let chunk =
                message::move_waiting(&mut tx, tenant, account, route, to, &reason, PER_CHUNK)
                    .await?;
            tx.commit().await?;
            moved += chunk;
            if chunk > 0 {
                app.wake.messages.notify_waiters();
            }
            if chunk < PER_CHUNK {
                break;
            }
        }
        if moved > 0 {
            let (account, why) = (self.account, self.why);
            tracing::info!(account, tenant = %self.tenant, moved, why, "messages moved");
        }
        Ok(())
    }
}

/// Asks accounts that fail, and that this server has open, whether they can send again.
async fn probe(app: &App) -> Result<(), StoreError> {
    let own: Vec<_> = app.accounts.live.open();
    let keys: Vec<_> = own
        .iter()
        .filter_map(|account| Some((account.tenant?, account.id.clone())))
        .collect();
    let configured = app.accounts.configured_ids();
    let again_in = PROBE_EVERY;
    for probe in standing::claim_probes(&app.store, &keys, &configured, again_in).await? {
        let tenant = TenantId(probe.tenant_id);
        let is_it = |a: &&std::sync::Arc<Account>| {
            a.id == probe.account && a.tenant.is_none_or(|own| own == tenant)
        };
        let mut all = own.iter().chain(app.accounts.configured());
        let Some(account) = all.find(is_it).cloned() else {
            continue;
        };
        let app = app.clone();
        // Each on its own: one that hangs does not hold up the others.
        tokio::spawn(async move { ask(&app, &account, tenant).await });
    }
    Ok(())
}

/// Asks an account whether it can send, and notes what it says for the tenant.
pub async fn ask(app: &App, account: &Account, tenant: TenantId) {
    let noted = match trouble(account).await {
        None => standing::recovered(&app.store, tenant, &account.id).await,
        Some(reason) => {
            standing::failing(&app.store, tenant, &account.id, &reason, PROBE_EVERY).await
        }
    };
    if let Err(error) = noted {
        tracing::warn!(account = account.id, %error, "noting how an account stands");
    }
}

/// Why an account cannot send, as it says itself.
pub async fn trouble(account: &Account) -> Option<String> {
    match tokio::time::timeout(PATIENCE, account.instance.health()).await {
        Ok(Ok(health)) if health.status() == Health::NotServing => Some(health.detail),
        // A busy plugin is one at work, and one that cannot say may well send.
        Ok(Ok(_) | Err(CallError::Busy | CallError::Unsupported)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("does not answer within {PATIENCE:?}")),
    }
}
