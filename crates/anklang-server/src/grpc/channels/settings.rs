//! Accounts of tenants on the wire: read with all that is wrong, and shown.

use std::collections::BTreeSet;

use anklang_channels::{Plugin, marked};
use anklang_domain::account::{
    self as limits, MAX_BATCH, MAX_BURST, MAX_CALLS, USUAL_BATCH, USUAL_CALLS,
};
use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_store::channel_account::{Account as Row, Settings};
use anklang_store::tenant::Tenant;
use serde_json::Value;

use crate::accounts::plugins_policy;
use crate::accounts::secrets::{self, Secret, Secrets};
use crate::grpc::campaigns::text_of;
use crate::grpc::{ApiError, ApiResult, structs, tagged, wire};
use crate::work::App;

/// The most bytes of a plugin's settings as JSON.
const MAX_CONFIG: usize = 65_536;
/// The most characters of a name for people.
pub const MAX_NAME: usize = 200;
/// Stands for a secret whose value is not known yet while settings are checked.
const PLACEHOLDER: &str = "reference";

/// What was given, checked, and what of it cannot be changed.
pub struct Wanted {
    /// Id of the plugin.
    pub plugin: String,
    /// The channel that it serves.
    pub channel: String,
    /// What the owner decides.
    pub settings: Settings,
}

/// Reads an account; `None` exactly when something is wrong. `current` is what there is of it.
pub async fn read(
    app: &App,
    tenant: &Tenant,
    id: &str,
    given: &pb::ChannelAccount,
    current: Option<&Row>,
    violations: &mut Violations,
) -> ApiResult<Option<Wanted>> {
    let before = violations.iter().count();
    let at = |field: &str| format!("channel_account.{field}");
    text_of(
        violations,
        &at("display_name"),
        &given.display_name,
        0,
        MAX_NAME,
    );
    let plugin = plugin_of(app, given, current, violations).await;
    let number = |field: &str, value: i32, most: i32, usual: i32, violations: &mut Violations| {
        if !(0..=most).contains(&value) {
            violations.add(at(field), format!("must be 0 to {most}"));
        }
        if value == 0 { usual } else { value }
    };
    let batch = number("batch", given.batch, MAX_BATCH, USUAL_BATCH, violations);
    let calls = number("calls", given.calls, MAX_CALLS, USUAL_CALLS, violations);
    let burst = number("burst", given.burst, MAX_BURST, 0, violations);
    let burst = u32::try_from(burst).unwrap_or(0);
    let rate = limits::rate(&given.rate, burst, [at("rate"), at("burst")], violations);
    let fields = [at("sending_hours"), at("sending_days")];
    let window = limits::window(
        &given.sending_hours,
        &given.sending_days,
        fields,
        violations,
    );
    let cost = given.cost_per_message.as_ref().and_then(|money| {
        let amount = wire::amount(money);
        let cost = amount.and_then(|amount| limits::cost(amount, &money.currency_code));
        violations.check(at("cost_per_message"), cost)
    });
    let policy = policy_of(given.ambiguous_policy, plugin.as_ref(), current, violations);
    let config = config_of(app, tenant, id, given, plugin.as_ref(), current, violations)?;
    if violations.iter().count() > before {
        return Ok(None);
    }
    let Some(config) = config else {
        return Ok(None);
    };
    let (cost, cost_currency) = cost.unzip();
    let name = given.display_name.trim();
    Ok(Some(Wanted {
        plugin: given.plugin.clone(),
        channel: match (&plugin, current) {
            (_, Some(current)) => current.channel.clone(),
            (Some(plugin), None) => plugin.manifest().channel.clone(),
            (None, None) => String::new(),
        },
        settings: Settings {
            display_name: if name.is_empty() { id } else { name }.to_owned(),
            config: config.plain,
            secrets: config.sealed,
            secrets_set: config.set,
            paused: given.paused,
            ambiguous: policy.as_str().to_owned(),
            burst: rate
                .as_ref()
                .map_or(0, |r| i32::try_from(r.burst()).unwrap_or(i32::MAX)),
            rate: rate.map(|rate| rate.to_string()).unwrap_or_default(),
            batch,
            calls,
            hours: window.map(|window| window.hours()).unwrap_or_default(),
            days: window.map_or_else(Vec::new, |window| {
                window.weekdays().into_iter().map(str::to_owned).collect()
            }),
            cost,
            cost_currency,
        },
    }))
}

/// The plugin that is named. An account keeps its own, also when that is gone.
async fn plugin_of(
    app: &App,
    given: &pb::ChannelAccount,
    current: Option<&Row>,
    violations: &mut Violations,
) -> Option<Plugin> {
    let field = "channel_account.plugin";
    if let Some(current) = current {
        if given.plugin != current.plugin {
            violations.add(field, "cannot be changed");
        }
        return app.accounts.plugins.get(&current.plugin).await.ok();
    }
    if !limits::is_id(&given.plugin) {
        violations.add(field, "is required: the id of a plugin");
        return None;
    }
    if !is_for_tenants(app, &given.plugin) {
        violations.add(field, "is not for accounts of tenants");
        return None;
    }
    violations.check(field, app.accounts.plugins.get(&given.plugin).await)
}

/// Whether accounts of tenants may use a plugin.
pub fn is_for_tenants(app: &App, plugin: &str) -> bool {
    let only = &app.config.tenant_plugins.only;
    only.is_empty() || only.iter().any(|id| id == plugin)
}

fn policy_of(
    given: i32,
    plugin: Option<&Plugin>,
    current: Option<&Row>,
    violations: &mut Violations,
) -> AmbiguousPolicy {
    match pb::AmbiguousPolicy::try_from(given) {
        Ok(pb::AmbiguousPolicy::Resend) => AmbiguousPolicy::Resend,
        Ok(pb::AmbiguousPolicy::Hold) => AmbiguousPolicy::Hold,
        Ok(pb::AmbiguousPolicy::Unspecified) => {
            let plugins = plugin.map(|plugin| plugins_policy(plugin.manifest()));
            let kept = || AmbiguousPolicy::by_word(&current?.settings.ambiguous);
            plugins.or_else(kept).unwrap_or(AmbiguousPolicy::Hold)
        }
        Err(_) => {
            let field = "channel_account.ambiguous_policy";
            violations.add(field, "is no AmbiguousPolicy");
            AmbiguousPolicy::Hold
        }
    }
}

/// Settings of a plugin, ready to be stored.
struct Config {
    plain: Value,
    sealed: Option<Vec<u8>>,
    set: Vec<String>,
}

/// Reads the plugin's settings: the secrets that are given, and of those that are kept. What does not
/// change is not checked anew, so that an account whose plugin is gone can still be paused.
fn config_of(
    app: &App,
    tenant: &Tenant,
    id: &str,
    given: &pb::ChannelAccount,
    plugin: Option<&Plugin>,
    current: Option<&Row>,
    violations: &mut Violations,
) -> ApiResult<Option<Config>> {
    let field = "channel_account.config";
    let given = given.config.clone().unwrap_or_default();
    let Some(mut plain) = violations.check(field, structs::to_json(&given)) else {
        return Ok(None);
    };
    if plain.to_string().len() > MAX_CONFIG {
        violations.add(field, "must have at most 64 KiB");
        return Ok(None);
    }
    let before = current.filter(|current| current.settings.config == plain);
    let Some(plugin) = plugin else {
        let kept = before.map(|before| Config {
            plain,
            sealed: before.settings.secrets.clone(),
            set: before.settings.secrets_set.clone(),
        });
        if kept.is_none() && current.is_some() {
            violations.add(field, "cannot be changed: the plugin is not there");
        }
        return Ok(kept);
    };
    let schema: Value = serde_json::from_str(&plugin.manifest().config_json_schema)
        .map_err(|e| ApiError::Internal(format!("schema of {id}: {e}")))?;
    for path in marked(&schema, &plain, secrets::is_operators) {
        let at = format!("{field}.{}", secrets::dotted(&path));
        violations.add(at, "is for accounts that the operator configures");
    }
    let taken = secrets::take(&schema, &mut plain);
    let sealed = current.and_then(|current| current.settings.secrets.as_deref());
    let known = secrets::open(&app.keys, tenant.id, id, sealed);
    let known = known.map_err(|e| ApiError::Internal(format!("secrets of {id}: {e}")))?;
    let mut all = known.clone();
    all.retain(|path, _| !taken.removed.contains(path));
    all.extend(taken.secrets);
    all.retain(|path, _| secrets::put(&mut plain.clone(), path, Value::Null));
    let rules = &app.config.tenant_plugins.secrets;
    for (path, secret) in &all {
        let at = || format!("{field}.{}", secrets::dotted(path));
        if known.get(path) != Some(secret)
            && let Err(reason) = rules.check(&tenant.slug, secret)
        {
            violations.add(at(), reason);
        }
    }
    let unchanged = all == known;
    if !(unchanged && current.is_some_and(|current| current.settings.config == plain)) {
        check(plugin, &plain, &all, field, violations);
    }
    let set = all.keys().map(|path| secrets::dotted(path)).collect();
    let sealed = match sealed {
        // Sealed anew it would look changed.
        Some(sealed) if unchanged => Some(sealed.to_vec()),
        _ => secrets::seal(&app.keys, tenant.id, id, &all)
            .map_err(|e| ApiError::Internal(format!("sealing secrets: {e}")))?,
    };
    Ok(Some(Config { plain, sealed, set }))
}

/// Checks settings against the plugin's schema; all that is wrong is told by its path. What a reference
/// leads to is not known, and not checked.
fn check(plugin: &Plugin, plain: &Value, all: &Secrets, field: &str, violations: &mut Violations) {
    let mut whole = plain.clone();
    let mut unknown = BTreeSet::new();
    for (path, secret) in all {
        let value = match secret {
            Secret::Value(value) => value.clone(),
            Secret::Env(_) | Secret::File(_) => {
                unknown.insert(path);
                Value::from(PLACEHOLDER)
            }
        };
        secrets::put(&mut whole, path, value);
    }
    let found = plugin.check_config(&whole).err().unwrap_or_default();
    for violation in found {
        if !unknown.contains(&violation.path) {
            let at = secrets::dotted(&violation.path);
            let dot = if at.is_empty() { "" } else { "." };
            violations.add(format!("{field}{dot}{at}"), violation.reason);
        }
    }
}

/// What the API shows of an account's row, without how it is.
pub fn to_wire(row: &Row) -> pb::ChannelAccount {
    let s = &row.settings;
    let policy = match AmbiguousPolicy::by_word(&s.ambiguous) {
        Some(AmbiguousPolicy::Resend) => pb::AmbiguousPolicy::Resend,
        Some(AmbiguousPolicy::Hold) | None => pb::AmbiguousPolicy::Hold,
    };
    let currency = s.cost_currency.as_deref().unwrap_or_default();
    tagged(pb::ChannelAccount {
        name: name::format(&[("channelAccounts", &row.id)]),
        display_name: s.display_name.clone(),
        channel: row.channel.clone(),
        plugin: row.plugin.clone(),
        config: Some(structs::from_json(&s.config)),
        secrets_set: s.secrets_set.clone(),
        paused: s.paused,
        ambiguous_policy: policy.into(),
        rate: s.rate.clone(),
        burst: s.burst,
        batch: s.batch,
        calls: s.calls,
        sending_hours: s.hours.clone(),
        sending_days: s.days.clone(),
        cost_per_message: s.cost.map(|cost| wire::money(cost, currency)),
        create_time: Some(wire::timestamp(row.created_at)),
        update_time: Some(wire::timestamp(row.updated_at)),
        ..Default::default()
    })
}
