//! Channel accounts, as the service is configured.

use anklang_channels::CallError;
use anklang_channels::proto::health_reply::Status as Health;
use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_store::pace::{self, Held};
use anklang_store::tenant::Tenant;
use tonic::{Request, Response, Status};

use super::wire::{money, timestamp};
use super::{ApiError, ApiResult, caller, reply};
use crate::accounts::Account;
use crate::work::App;

/// The service.
pub struct ChannelsApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::channel_service_server::ChannelService for ChannelsApi {
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
}

impl ChannelsApi {
    /// Accounts whose channels want to be left alone.
    async fn held(&self, tenant: &Tenant) -> ApiResult<Vec<Held>> {
        let mut tx = self.app.store.begin(tenant.id).await?;
        let held = pace::held(&mut tx, tenant.id).await?;
        tx.commit().await?;
        Ok(held)
    }

    async fn get(
        &self,
        request: Request<pb::GetChannelAccountRequest>,
    ) -> ApiResult<pb::ChannelAccount> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let mut violations = Violations::new();
        let id = violations.check("name", name::parse(&name, ["channelAccounts"]));
        violations.finish(())?;
        let id = id.map(|[id]| id).unwrap_or_default();
        match self.app.accounts.get(&tenant, &id) {
            Some(account) => Ok(wire(account, &self.held(&tenant).await?).await),
            None => Err(ApiError::NotFound(name)),
        }
    }

    async fn list(
        &self,
        request: Request<pb::ListChannelAccountsRequest>,
    ) -> ApiResult<pb::ListChannelAccountsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let held = self.held(&tenant).await?;
        let mut channel_accounts = Vec::new();
        for account in self.app.accounts.all().filter(|a| a.is_for(&tenant)) {
            channel_accounts.push(wire(account, &held).await);
        }
        Ok(pb::ListChannelAccountsResponse { channel_accounts })
    }
}

async fn wire(account: &Account, held: &[Held]) -> pb::ChannelAccount {
    let held = held.iter().find(|h| h.account == account.id);
    let manifest = account.plugin.manifest();
    let (state, state_detail) = match account.instance.health().await {
        Ok(health) if health.status() == Health::NotServing => {
            (pb::ChannelAccountState::Closed, health.detail)
        }
        // A busy plugin is one at work.
        Ok(_) | Err(CallError::Busy) => (pb::ChannelAccountState::Open, String::new()),
        Err(error) => (pb::ChannelAccountState::Closed, error.to_string()),
    };
    pb::ChannelAccount {
        name: name::format(&[("channelAccounts", &account.id)]),
        channel: manifest.channel.clone(),
        plugin: manifest.id.clone(),
        plugin_version: manifest.version.clone(),
        plugin_sha256: hex::encode(account.plugin.sha256().0),
        state: state.into(),
        state_detail,
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
        sending_hours: account.window.map(|w| w.hours()).unwrap_or_default(),
        sending_days: account.window.map_or_else(Vec::new, |w| {
            w.weekdays().into_iter().map(str::to_owned).collect()
        }),
        hold_until_time: held.map(|h| timestamp(h.held_until)),
        hold_reason: held.map(|h| h.held_reason.clone()).unwrap_or_default(),
        cost_per_message: account.cost.as_ref().map(|(a, c)| money(*a, c)),
    }
}
