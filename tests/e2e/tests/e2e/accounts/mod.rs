//! Channel accounts of tenants: made, changed and deleted over the API while servers run.

mod life;
mod servers;
mod settings;

use anklang_local::smtp::{Sink, SinkOptions};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_testkit::{Client, TestServer};
use prost_types::{FieldMask, ListValue, Struct, Value, value::Kind};
use serde_json::{Value as Json, json};
use tonic::Status;

use crate::mailing::{SLIP, launched, over, request, until};

/// JSON as the API takes it.
pub fn settings(json: &Json) -> Struct {
    fn value(json: &Json) -> Value {
        Value {
            kind: Some(match json {
                Json::Null => Kind::NullValue(0),
                Json::Bool(flag) => Kind::BoolValue(*flag),
                Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
                Json::String(text) => Kind::StringValue(text.clone()),
                Json::Array(items) => Kind::ListValue(ListValue {
                    values: items.iter().map(value).collect(),
                }),
                Json::Object(_) => Kind::StructValue(settings(json)),
            }),
        }
    }
    let members = json.as_object().unwrap().iter();
    Struct {
        fields: members.map(|(k, v)| (k.clone(), value(v))).collect(),
    }
}

/// Settings of the mail plugin for a sink.
pub fn relay(sink: &Sink) -> Json {
    json!({"host": sink.addr().ip().to_string(), "port": sink.addr().port(), "tls": "none"})
}

pub fn name(id: &str) -> String {
    format!("channelAccounts/{id}")
}

/// Makes an account.
pub async fn create(client: &Client, id: &str, plugin: &str, config: Json) -> pb::ChannelAccount {
    let account = pb::ChannelAccount {
        plugin: plugin.into(),
        config: Some(settings(&config)),
        ..Default::default()
    };
    create_as(client, id, account).await.unwrap()
}

pub async fn create_as(
    client: &Client,
    id: &str,
    account: pb::ChannelAccount,
) -> Result<pb::ChannelAccount, Status> {
    let request = pb::CreateChannelAccountRequest {
        channel_account_id: id.into(),
        channel_account: Some(account),
        ..Default::default()
    };
    let made = client.channels().create_channel_account(request).await?;
    Ok(made.into_inner())
}

pub async fn get(client: &Client, id: &str) -> Result<pb::ChannelAccount, Status> {
    let request = pb::GetChannelAccountRequest { name: name(id) };
    let found = client.channels().get_channel_account(request).await?;
    Ok(found.into_inner())
}

/// Changes what is named.
pub async fn update(
    client: &Client,
    id: &str,
    account: pb::ChannelAccount,
    paths: &[&str],
) -> Result<pb::ChannelAccount, Status> {
    let request = pb::UpdateChannelAccountRequest {
        channel_account: Some(pb::ChannelAccount {
            name: name(id),
            ..account
        }),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
        }),
        ..Default::default()
    };
    let changed = client.channels().update_channel_account(request).await?;
    Ok(changed.into_inner())
}

pub async fn configure(client: &Client, id: &str, config: &Json) {
    let account = pb::ChannelAccount {
        config: Some(settings(config)),
        ..Default::default()
    };
    update(client, id, account, &["config"]).await.unwrap();
}

pub async fn pause(client: &Client, id: &str, paused: bool) {
    let account = pb::ChannelAccount {
        paused,
        ..Default::default()
    };
    update(client, id, account, &["paused"]).await.unwrap();
}

pub async fn delete(client: &Client, id: &str, replacement: &str) -> Result<(), Status> {
    let request = pb::DeleteChannelAccountRequest {
        name: name(id),
        replacement: replacement.into(),
        ..Default::default()
    };
    client.channels().delete_channel_account(request).await?;
    Ok(())
}

pub async fn until_state(client: &Client, id: &str, state: pb::ChannelAccountState) {
    until("the account's state", async || {
        get(client, id).await.is_ok_and(|a| a.state() == state)
    })
    .await;
}

/// Sends a test.
pub async fn test(
    client: &Client,
    id: &str,
    recipient: &str,
    text: &str,
) -> Result<pb::TestChannelAccountResponse, Status> {
    let request = pb::TestChannelAccountRequest {
        name: name(id),
        recipient: recipient.into(),
        text: text.into(),
        ..Default::default()
    };
    let told = client.channels().test_channel_account(request).await?;
    Ok(told.into_inner())
}

/// What the channel "testing" said of a test.
pub async fn said(client: &Client, id: &str, text: &str) -> String {
    let told = test(client, id, "wer", text).await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    told.detail
}

/// Launches to all customers through an account; gives the campaign's name.
pub async fn launch_through(client: &Client, id: &str) -> String {
    let mut request = request(SLIP);
    request.outbound.as_mut().unwrap().channel_account = name(id);
    launch_request(client, request).await
}

pub async fn launch_request(
    client: &Client,
    request: anklang_proto::anklang::campaigns::v1::LaunchCampaignRequest,
) -> String {
    let operation = client.campaigns().launch_campaign(request).await.unwrap();
    let operation = over(client, &operation.get_ref().name).await;
    launched(&operation).campaign.unwrap().name
}

pub async fn sink() -> Sink {
    Sink::start(SinkOptions::default()).await.unwrap()
}

/// Everything that is stored, as text.
pub async fn rows(server: &TestServer) -> String {
    let database = server.database.connect().await.unwrap();
    let sql = "SELECT table_name::text FROM information_schema.tables
               WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
    let mut all = String::new();
    for table in database.query(sql, &[]).await.unwrap() {
        let table: String = table.get(0);
        let sql = format!("SELECT coalesce(string_agg(t::text, '\n'), '') FROM {table} t");
        all += &database
            .query_one(&sql, &[])
            .await
            .unwrap()
            .get::<_, String>(0);
    }
    all
}

/// Until the row of a deleted account is gone as well.
pub async fn until_gone(server: &TestServer, id: &str) {
    let sql = format!("SELECT count(*) FROM channel_account WHERE id = '{id}'");
    until("the account is wound up", async || {
        server.database.one(&sql).await.unwrap() == "0"
    })
    .await;
}
