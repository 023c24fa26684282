//! Plugins as this server finds them in its folder.

use anklang_channels::Plugin;
use anklang_channels::proto::Capability;
use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::name;
use anklang_proto::anklang::channels::v1 as pb;
use tonic::Request;

use super::ChannelsApi;
use super::settings::is_for_tenants;
use crate::accounts::plugins::NoPlugin;
use crate::accounts::plugins_policy;
use crate::grpc::{ApiError, ApiResult, caller, form};

impl ChannelsApi {
    pub(super) async fn plugin(
        &self,
        request: Request<pb::GetChannelPluginRequest>,
    ) -> ApiResult<pb::ChannelPlugin> {
        caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let [id] = form::ids("name", &name, ["channelPlugins"])?;
        // Of what is no id there is no file either: no other path is looked at.
        match self.app.accounts.plugins.ids().await.contains(&id) {
            true => Ok(self.found(&id).await),
            false => Err(ApiError::NotFound(name)),
        }
    }

    pub(super) async fn plugins(
        &self,
        request: Request<pb::ListChannelPluginsRequest>,
    ) -> ApiResult<pb::ListChannelPluginsResponse> {
        caller(&self.app.store, &request).await?;
        let mut channel_plugins = Vec::new();
        for id in self.app.accounts.plugins.ids().await {
            channel_plugins.push(self.found(&id).await);
        }
        Ok(pb::ListChannelPluginsResponse { channel_plugins })
    }

    async fn found(&self, id: &str) -> pb::ChannelPlugin {
        let name = name::format(&[("channelPlugins", id)]);
        match self.app.accounts.plugins.get(id).await {
            Ok(plugin) => pb::ChannelPlugin {
                name,
                available: is_for_tenants(&self.app, id),
                ..to_wire(&plugin)
            },
            Err(error) => pb::ChannelPlugin {
                name,
                refused_reason: match error {
                    NoPlugin::Refused(reason) => reason,
                    NoPlugin::Missing(_) => "its file has gone".into(),
                },
                ..Default::default()
            },
        }
    }
}

fn to_wire(plugin: &Plugin) -> pb::ChannelPlugin {
    let manifest = plugin.manifest();
    let capabilities = manifest
        .capabilities
        .iter()
        .filter_map(|known| Capability::try_from(*known).ok())
        .map(|known| known.as_str_name().replacen("CAPABILITY_", "", 1));
    let whole = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    pb::ChannelPlugin {
        name: String::new(),
        channel: manifest.channel.clone(),
        version: manifest.version.clone(),
        sha256: hex::encode(plugin.sha256().0),
        capabilities: capabilities.collect(),
        config_json_schema: manifest.config_json_schema.clone(),
        ambiguous_policy: match plugins_policy(manifest) {
            AmbiguousPolicy::Resend => pb::AmbiguousPolicy::Resend,
            AmbiguousPolicy::Hold => pb::AmbiguousPolicy::Hold,
        }
        .into(),
        max_batch: whole(manifest.max_batch),
        max_calls: whole(manifest.max_calls_in_flight),
        refused_reason: String::new(),
        available: false,
    }
}
