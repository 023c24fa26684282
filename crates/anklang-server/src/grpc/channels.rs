//! Channel accounts: the tenant's own, and those of the configuration file; plugins; routes.

pub mod plugins;
pub mod routes;
pub mod settings;
pub mod test;

use std::time::Duration;

use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::{Violations, account, name};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_store::Conn;
use anklang_store::channel_account::{self as store, Configured, NewAccount};
use anklang_store::hold::{Held as Hold, hold};
use anklang_store::pace::{self, Held};
use anklang_store::tenant::Tenant;
use futures::future::join_all;
use tonic::{Request, Response, Status};

use super::listing::Listing;
use super::wire::{money, timestamp};
use super::{ApiError, ApiResult, Change, caller, form, reply, tagged};
use crate::accounts::Account;
use crate::accounts::live::State;
use crate::work::App;
use crate::work::moves::trouble;

/// How long an account may take to say how it is, before it counts as at work.
const PATIENCE: Duration = Duration::from_secs(5);

/// The service.
pub struct ChannelsApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::channel_service_server::ChannelService for ChannelsApi {
    async fn create_channel_account(
        &self,
        request: Request<pb::CreateChannelAccountRequest>,
    ) -> Result<Response<pb::ChannelAccount>, Status> {
        reply(self.create(request).await)
    }

    async fn get_channel_account(
        &self,
        request: Request<pb::GetChannelAccountRequest>,
    ) -> Result<Response<pb::ChannelAccount>, Status> {
        reply(self.get(request).await)
    }

    async fn list_channel_accounts(
        &self,
        request: Request<pb::ListChannelAccountsRequest>,
    ) -> Result<Response<pb::ListChannelAccountsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_channel_account(
        &self,
        request: Request<pb::UpdateChannelAccountRequest>,
    ) -> Result<Response<pb::ChannelAccount>, Status> {
        reply(self.update(request).await)
    }

    async fn delete_channel_account(
        &self,
        request: Request<pb::DeleteChannelAccountRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete(request).await)
    }

    async fn test_channel_account(
        &self,
        request: Request<pb::TestChannelAccountRequest>,
    ) -> Result<Response<pb::TestChannelAccountResponse>, Status> {
        reply(self.test(request).await)
    }

    async fn get_channel_plugin(
        &self,
        request: Request<pb::GetChannelPluginRequest>,
    ) -> Result<Response<pb::ChannelPlugin>, Status> {
        reply(self.plugin(request).await)
    }

    async fn list_channel_plugins(
        &self,
        request: Request<pb::ListChannelPluginsRequest>,
    ) -> Result<Response<pb::ListChannelPluginsResponse>, Status> {
        reply(self.plugins(request).await)
    }

    async fn create_channel_route(
        &self,
        request: Request<pb::CreateChannelRouteRequest>,
    ) -> Result<Response<pb::ChannelRoute>, Status> {
        reply(self.create_route(request).await)
    }

    async fn get_channel_route(
        &self,
        request: Request<pb::GetChannelRouteRequest>,
    ) -> Result<Response<pb::ChannelRoute>, Status> {
        reply(self.route(request).await)
    }

    async fn list_channel_routes(
        &self,
        request: Request<pb::ListChannelRoutesRequest>,
    ) -> Result<Response<pb::ListChannelRoutesResponse>, Status> {
        reply(self.routes(request).await)
    }

    async fn update_channel_route(
        &self,
        request: Request<pb::UpdateChannelRouteRequest>,
    ) -> Result<Response<pb::ChannelRoute>, Status> {
        reply(self.update_route(request).await)
    }

    async fn delete_channel_route(
        &self,
        request: Request<pb::DeleteChannelRouteRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete_route(request).await)
    }
}

/// What ids of accounts and routes are.
const ID_FORM: &str = "must be 1 to 63 of a–z, 0–9 and hyphens";

impl ChannelsApi {
    async fn create(
        &self,
        request: Request<pb::CreateChannelAccountRequest>,
    ) -> ApiResult<pb::ChannelAccount> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = &request.channel_account_id[..];
        if !account::is_id(id) {
            violations.add("channel_account_id", ID_FORM);
        }
        let given = request.channel_account.clone();
        if given.is_none() {
            violations.add("channel_account", "is required");
        }
        let wanted = match &given {
            Some(given) => {
                settings::read(&self.app, &tenant, id, given, None, &mut violations).await?
            }
            None => None,
        };
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let wanted = form::complete(violations, wanted)?;
        let exists = || ApiError::AlreadyExists(account_name(id));
        // Whoever may use it: it could become the tenant's.
        if self.app.accounts.configured_ids().iter().any(|c| c == id) {
            return Err(exists());
        }
        let new = NewAccount {
            id,
            plugin: &wanted.plugin,
            channel: &wanted.channel,
            settings: &wanted.settings,
        };
        let made = store::create(&mut tx, tenant.id, new).await?;
        let response = self.opening(&made.ok_or_else(exists)?);
        if change.finish(tx, &response).await? {
            self.app.wake.accounts.notify_waiters();
        }
        Ok(response)
    }

    async fn get(
        &self,
        request: Request<pb::GetChannelAccountRequest>,
    ) -> ApiResult<pb::ChannelAccount> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let [id] = form::ids("name", &name, ["channelAccounts"])?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let held = pace::held(&mut tx, tenant.id).await?;
        let own = store::get(&tx, tenant.id, &id).await?;
        tx.commit().await?;
        match own {
            Some(own) => Ok(self.show(&own, &held).await),
            None => match self.app.accounts.configured_for(&tenant, &id) {
                Some(account) => Ok(configured(&account, &held).await),
                None => Err(ApiError::NotFound(name)),
            },
        }
    }

    async fn list(
        &self,
        request: Request<pb::ListChannelAccountsRequest>,
    ) -> ApiResult<pb::ListChannelAccountsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &store::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let accounts = self.app.accounts.configured();
        let known: Vec<Configured> = accounts
            .filter(|account| account.is_for(&tenant))
            .map(|account| Configured {
                id: account.id.clone(),
                plugin: account.plugin.manifest().id.clone(),
                channel: account.channel().to_owned(),
            })
            .collect();
        let mut tx = self.app.store.begin(tenant.id).await?;
        let held = pace::held(&mut tx, tenant.id).await?;
        let page = store::list(&tx, tenant.id, &known, &listing.list).await?;
        tx.commit().await?;
        // All are asked at the same time: some answer slowly.
        let shown = page.rows.iter().map(async |row| match &row.own {
            Some(own) => Some(self.show(own, &held).await),
            None => {
                let account = self.app.accounts.configured_for(&tenant, &row.id)?;
                Some(configured(&account, &held).await)
            }
        });
        Ok(pb::ListChannelAccountsResponse {
            channel_accounts: join_all(shown).await.into_iter().flatten().collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn update(
        &self,
        request: Request<pb::UpdateChannelAccountRequest>,
    ) -> ApiResult<pb::ChannelAccount> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let given = request.channel_account.unwrap_or_default();
        let id = name::parse(&given.name, ["channelAccounts"]);
        let id = violations.check("channel_account.name", id);
        self.load_plugin(&tenant, id.as_ref()).await?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let [id] = match id {
            Some(id) => id,
            None => return form::complete(violations, None),
        };
        let current = self.held(&mut tx, &tenant, &id).await?;
        let shown = settings::to_wire(&current);
        let given = change.settle(&given.name.clone(), Some(shown), given, false)?;
        let read = settings::read(
            &self.app,
            &tenant,
            &id,
            &given,
            Some(&current),
            &mut violations,
        );
        let wanted = read.await?;
        let wanted = form::complete(violations, wanted)?;
        let changed = match wanted.settings == current.settings {
            true => current,
            false => store::update(&mut tx, tenant.id, &id, &wanted.settings)
                .await?
                .ok_or_else(|| ApiError::NotFound(account_name(&id)))?,
        };
        let response = self.opening(&changed);
        if change.finish(tx, &response).await? {
            self.app.wake.accounts.notify_waiters();
        }
        Ok(response)
    }

    /// Loads the plugin of an account, which may take a while, before a transaction is open.
    async fn load_plugin(&self, tenant: &Tenant, id: Option<&[String; 1]>) -> ApiResult<()> {
        let Some([id]) = id else {
            return Ok(());
        };
        let own = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| store::get(conn, tenant.id, id))
            .await?;
        if let Some(own) = own {
            // What is wrong with it is told when it is used.
            let _ = self.app.accounts.plugins.get(&own.plugin).await;
        }
        Ok(())
    }

    async fn delete(&self, request: Request<pb::DeleteChannelAccountRequest>) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse(&request.name, ["channelAccounts"]));
        let replacement = match &request.replacement[..] {
            "" => None,
            other => violations
                .check("replacement", name::parse(other, ["channelAccounts"]))
                .map(|[id]| id),
        };
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let [id] = form::complete(violations, id)?;
        // Before the account, as whoever changes them.
        hold(&mut tx, tenant.id, Hold::WinbackSettings).await?;
        let current = self.held(&mut tx, &tenant, &id).await?;
        change.check(&request.name, &settings::to_wire(&current))?;
        if let Some(replacement) = &replacement {
            self.check_replacement(&mut tx, &tenant, &current, replacement)
                .await?;
        }
        store::delete(&mut tx, tenant.id, &id, replacement.as_deref()).await?;
        if change.finish(tx, &()).await? {
            self.app.wake.accounts.notify_waiters();
        }
        Ok(())
    }

    async fn check_replacement(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        of: &store::Account,
        replacement: &str,
    ) -> ApiResult<()> {
        let refuse = |reason: &str| Err(ApiError::field("replacement", reason));
        if replacement == of.id {
            return refuse("must be another account");
        }
        match channel_of(&self.app, conn, tenant, replacement).await? {
            None => refuse("does not exist"),
            Some(channel) if channel != of.channel => {
                refuse(&format!("serves {channel}, not {}", of.channel))
            }
            Some(_) => Ok(()),
        }
    }

    /// A tenant's account, which then does not change until the end of the transaction.
    ///
    /// # Errors
    /// `Precondition` for one of the configuration file.
    async fn held(&self, conn: &mut Conn, tenant: &Tenant, id: &str) -> ApiResult<store::Account> {
        hold(conn, tenant.id, Hold::ChannelAccount(id)).await?;
        if let Some(own) = store::get(conn, tenant.id, id).await? {
            return Ok(own);
        }
        if self.app.accounts.configured_for(tenant, id).is_none() {
            return Err(ApiError::NotFound(account_name(id)));
        }
        Err(ApiError::Precondition {
            reason: ErrorReason::Precondition,
            resource: account_name(id),
            description: "is configured by the operator and cannot be changed here".into(),
        })
    }

    /// An account that was just written.
    fn opening(&self, row: &store::Account) -> pb::ChannelAccount {
        let shown = settings::to_wire(row);
        pb::ChannelAccount {
            state: match row.settings.paused {
                true => pb::ChannelAccountState::Paused,
                false => pb::ChannelAccountState::Opening,
            }
            .into(),
            ..shown
        }
    }

    /// A tenant's account, and how this server has it.
    async fn show(&self, row: &store::Account, held: &[Held]) -> pb::ChannelAccount {
        let entry = self.app.accounts.live.entry(row.tenant(), &row.id);
        let entry = entry.filter(|entry| entry.row.revision == row.revision);
        let mut shown = settings::to_wire(row);
        let (state, detail) = match entry.map(|entry| entry.state) {
            None | Some(State::Opening) => (pb::ChannelAccountState::Opening, String::new()),
            Some(State::Closed { reason, .. }) => (pb::ChannelAccountState::Closed, reason),
            Some(State::Open(account)) => {
                opened(&mut shown, &account);
                state_of(&account).await
            }
        };
        let state = match row.settings.paused {
            true => pb::ChannelAccountState::Paused,
            false => state,
        };
        shown.state = state.into();
        shown.state_detail = detail;
        note_hold(&mut shown, &row.id, held);
        shown
    }
}

/// The name of an account.
pub(super) fn account_name(id: &str) -> String {
    name::format(&[("channelAccounts", id)])
}

async fn state_of(account: &Account) -> (pb::ChannelAccountState, String) {
    match tokio::time::timeout(PATIENCE, trouble(account)).await {
        Ok(Some(detail)) => (pb::ChannelAccountState::Closed, detail),
        Ok(None) | Err(_) => (pb::ChannelAccountState::Open, String::new()),
    }
}

fn opened(shown: &mut pb::ChannelAccount, account: &Account) {
    shown.plugin_version = account.plugin.manifest().version.clone();
    shown.plugin_sha256 = hex::encode(account.plugin.sha256().0);
}

fn note_hold(shown: &mut pb::ChannelAccount, id: &str, held: &[Held]) {
    if let Some(held) = held.iter().find(|h| h.account == id) {
        shown.hold_until_time = Some(timestamp(held.held_until));
        shown.hold_reason = held.held_reason.clone();
    }
}

/// An account of the configuration file. What it is configured with is the operator's.
async fn configured(account: &Account, held: &[Held]) -> pb::ChannelAccount {
    let mut shown = tagged(pb::ChannelAccount {
        name: account_name(&account.id),
        display_name: account.id.clone(),
        channel: account.channel().to_owned(),
        plugin: account.plugin.manifest().id.clone(),
        ambiguous_policy: match account.policy {
            AmbiguousPolicy::Resend => pb::AmbiguousPolicy::Resend,
            AmbiguousPolicy::Hold => pb::AmbiguousPolicy::Hold,
        }
        .into(),
        rate: account
            .rate
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        burst: account
            .rate
            .as_ref()
            .map_or(0, |rate| i32::try_from(rate.burst()).unwrap_or(i32::MAX)),
        batch: i32::try_from(account.batch).unwrap_or(i32::MAX),
        calls: i32::try_from(account.calls).unwrap_or(i32::MAX),
        sending_hours: account.window.map(|w| w.hours()).unwrap_or_default(),
        sending_days: account.window.map_or_else(Vec::new, |w| {
            w.weekdays().into_iter().map(str::to_owned).collect()
        }),
        cost_per_message: account.cost.as_ref().map(|(a, c)| money(*a, c)),
        read_only: true,
        ..Default::default()
    });
    opened(&mut shown, account);
    let (state, detail) = state_of(account).await;
    shown.state = state.into();
    shown.state_detail = detail;
    note_hold(&mut shown, &account.id, held);
    shown
}

/// The channel of an account that the tenant can use. One of its own then stays until the end of the
/// transaction.
pub async fn channel_of(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    id: &str,
) -> ApiResult<Option<String>> {
    if let Some(own) = store::keep(conn, tenant.id, &[id]).await?.pop() {
        return Ok(Some(own.channel));
    }
    let configured = app.accounts.configured_for(tenant, id);
    Ok(configured.map(|account| account.channel().to_owned()))
}

/// The id of the account that a field names, which must be one of that channel; it then stays as
/// [`channel_of`] says.
pub async fn account_of(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    channel: &str,
    (field, given): (&str, &str),
    violations: &mut Violations,
) -> ApiResult<Option<String>> {
    let Some([id]) = violations.check(field, name::parse(given, ["channelAccounts"])) else {
        return Ok(None);
    };
    match channel_of(app, conn, tenant, &id).await? {
        None => violations.add(field, "does not exist"),
        Some(of) if of != channel => violations.add(field, format!("must be one of {channel}")),
        Some(_) => return Ok(Some(id)),
    }
    Ok(None)
}
