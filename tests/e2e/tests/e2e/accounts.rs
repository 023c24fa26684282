//! Channel accounts of tenants: made, changed and deleted over the API while servers run.

use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching, Sink, SinkOptions};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, MessageState};
use anklang_proto::google::r#type::Money;
use anklang_testkit::{Client, Options, TestServer, program};
use prost_types::{FieldMask, ListValue, Struct, Value, value::Kind};
use serde_json::{Value as Json, json};
use tonic::{Code, Status};

use crate::mailing::{
    SLIP, TENANT, address, attempts, launched, ledger, make_due, over, request, tenant, until,
    until_figures, until_over,
};
use crate::refused;
use crate::utility::{FEW, launch, with_utility};

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

async fn delete(client: &Client, id: &str, replacement: &str) -> Result<(), Status> {
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
async fn test(
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
async fn said(client: &Client, id: &str, text: &str) -> String {
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
async fn rows(server: &TestServer) -> String {
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
async fn until_gone(server: &TestServer, id: &str) {
    let sql = format!("SELECT count(*) FROM channel_account WHERE id = '{id}'");
    until("the account is wound up", async || {
        server.database.one(&sql).await.unwrap() == "0"
    })
    .await;
}

#[tokio::test]
async fn an_account_is_made_used_and_taken_away() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 5).await;
    let relay_sink = sink().await;
    let made = create(&client, "relay", "mail", relay(&relay_sink)).await;
    assert_eq!(
        (&made.name[..], &made.channel[..], &made.display_name[..]),
        ("channelAccounts/relay", "mail", "relay")
    );
    assert_eq!((made.batch, made.calls, made.read_only), (50, 4, false));
    assert_eq!(made.ambiguous_policy(), pb::AmbiguousPolicy::Resend);
    until_state(&client, "relay", pb::ChannelAccountState::Open).await;
    let open = get(&client, "relay").await.unwrap();
    assert_eq!(open.etag, made.etag, "how it is, is no part of it");
    assert_eq!(open.plugin_sha256.len(), 64);

    let told = test(&client, "relay", "chef@sw.example", "Hallo")
        .await
        .unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    let mails = relay_sink.received();
    assert_eq!(mails[0].rcpt_to, ["chef@sw.example"]);
    assert_eq!(mails[0].mail_from, "info@sw.example");
    let sql = "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM customer_event)";
    let before = server.database.one(sql).await.unwrap();
    assert_eq!(before, "0", "a test is no message");

    let campaign = launch_through(&client, "relay").await;
    until_over(&client, &campaign).await;
    let ledger_before = ledger(&client, &campaign).await;
    for message in ledger_before.values() {
        assert_eq!(message.state(), MessageState::Sent);
        assert_eq!(message.channel_account, "channelAccounts/relay");
        assert_eq!(message.attempts[0].channel_account, "channelAccounts/relay");
    }
    assert_eq!((relay_sink.count(), server.sink.count()), (6, 0));

    delete(&client, "relay", "").await.unwrap();
    refused::not_found(&get(&client, "relay").await.unwrap_err());
    assert_eq!(ledger(&client, &campaign).await, ledger_before);
    let mut again = request(SLIP);
    again.outbound.as_mut().unwrap().channel_account = name("relay");
    let status = client.campaigns().launch_campaign(again).await.unwrap_err();
    refused::names(&status, &["outbound.channel_account"]);
}

#[tokio::test]
async fn what_the_operator_has_configured_stays_as_it_is() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let shown = get(&client, "mail").await.unwrap();
    assert!(shown.read_only && shown.config.is_none());
    let account = pb::ChannelAccount {
        paused: true,
        ..Default::default()
    };
    let status = update(&client, "mail", account, &["paused"])
        .await
        .unwrap_err();
    let (subject, words) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "channelAccounts/mail");
    assert!(words.contains("operator"), "{words}");
    let status = delete(&client, "mail", "").await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    let account = pb::ChannelAccount {
        plugin: "mail".into(),
        config: Some(settings(&relay(&server.sink))),
        ..Default::default()
    };
    let status = create_as(&client, "mail", account.clone())
        .await
        .unwrap_err();
    refused::is(&status, Code::AlreadyExists, "ALREADY_EXISTS");
    create_as(&client, "own", account.clone()).await.unwrap();
    let status = create_as(&client, "own", account).await.unwrap_err();
    refused::is(&status, Code::AlreadyExists, "ALREADY_EXISTS");

    let list = async |filter: &str| {
        let request = pb::ListChannelAccountsRequest {
            filter: filter.into(),
            ..Default::default()
        };
        let listed = client.channels().list_channel_accounts(request).await;
        let accounts = listed.unwrap().into_inner().channel_accounts;
        accounts.into_iter().map(|a| a.name).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [name("mail"), name("own")]);
    assert_eq!(list("read_only = true").await, [name("mail")]);
    assert_eq!(list("NOT create_time:* OR id = none").await, [name("mail")]);
    assert_eq!(
        list("plugin = mail AND paused = false AND id = own").await,
        [name("own")]
    );
    // It can be tried all the same.
    let told = test(&client, "mail", "chef@sw.example", "").await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    assert_eq!(server.sink.count(), 1);
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    let server = TestServer::start_with(Options {
        plugins: "for_tenants = ['mail']".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 1).await;
    let wrong = pb::ChannelAccount {
        display_name: "x".repeat(201),
        plugin: "mail".into(),
        config: Some(settings(&json!({
            "port": 0, "tls": "maybe", "colour": "blue", "password_file": "/etc/passwd",
            "password_env": "PATH", "ca_file": "/etc/ssl/ca.pem", "password": {"env": "PATH"},
            "connections": "many",
        }))),
        rate: "fast".into(),
        burst: -1,
        batch: 1_001,
        calls: 65,
        sending_hours: "20:00-08:00".into(),
        sending_days: vec!["Montag".into()],
        cost_per_message: Some(Money {
            currency_code: "Euro".into(),
            units: 1,
            nanos: 0,
        }),
        ambiguous_policy: 9,
        ..Default::default()
    };
    let status = create_as(&client, "Relay!", wrong).await.unwrap_err();
    let at = |field: &str| format!("channel_account.{field}");
    let fields = [
        "display_name",
        "config.host",
        "config.port",
        "config.tls",
        "config.colour",
        "config.connections",
        "config.password",
        "config.password_file",
        "config.password_env",
        "config.ca_file",
        "rate",
        "burst",
        "batch",
        "calls",
        "sending_hours",
        "sending_days",
        "cost_per_message",
        "ambiguous_policy",
    ];
    let mut wanted: Vec<String> = fields.map(at).into();
    wanted.push("channel_account_id".into());
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    refused::names(&status, &wanted);

    for plugin in ["", "none", "../mail", "testing"] {
        let account = pb::ChannelAccount {
            plugin: plugin.into(),
            ..Default::default()
        };
        let status = create_as(&client, "relay", account).await.unwrap_err();
        refused::names(&status, &["channel_account.plugin"]);
    }
    create(&client, "relay", "mail", relay(&server.sink)).await;
    let other = pb::ChannelAccount {
        plugin: "testing".into(),
        ..Default::default()
    };
    let status = update(&client, "relay", other, &["plugin"])
        .await
        .unwrap_err();
    refused::names(&status, &["update_mask"]);
    let status = test(&client, "relay", "kein Mensch", "").await.unwrap_err();
    refused::names(&status, &["recipient"]);
    let status = test(&client, "none", "a@b.example", "").await.unwrap_err();
    refused::not_found(&status);
}

#[tokio::test]
async fn secrets_are_kept_and_never_told() {
    const TOKEN: &str = "Zitronenfalter-4711";
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let made = create(
        &client,
        "probe",
        "testing",
        json!({"account": "eins", "token": TOKEN, "retries": 3}),
    )
    .await;
    let shown = settings(&json!({"account": "eins", "retries": 3}));
    assert_eq!(made.config, Some(shown.clone()));
    assert_eq!(made.secrets_set, ["token"]);
    let matches = format!("match:{TOKEN}");
    assert_eq!(said(&client, "probe", &matches).await, "the token matches");

    // What is not named stays, also when the rest is written back as it was read.
    let written = update(&client, "probe", made.clone(), &[]).await.unwrap();
    assert_eq!(written.etag, made.etag, "nothing has changed");
    configure(&client, "probe", &json!({"account": "zwei"})).await;
    assert_eq!(said(&client, "probe", "fine").await, "zwei");
    assert_eq!(said(&client, "probe", &matches).await, "the token matches");
    configure(
        &client,
        "probe",
        &json!({"account": "zwei", "token": "neu-4712"}),
    )
    .await;
    assert_eq!(said(&client, "probe", &matches).await, "the token differs");
    assert_eq!(
        said(&client, "probe", "match:neu-4712").await,
        "the token matches"
    );
    configure(&client, "probe", &json!({"account": "zwei", "token": null})).await;
    assert_eq!(
        get(&client, "probe").await.unwrap().secrets_set,
        Vec::<String>::new()
    );
    assert_eq!(said(&client, "probe", "match:").await, "the token matches");

    // A wrong value is told without it.
    let wrong = pb::ChannelAccount {
        plugin: "testing".into(),
        config: Some(settings(&json!({"account": "x", "token": [TOKEN]}))),
        ..Default::default()
    };
    let status = create_as(&client, "other", wrong).await.unwrap_err();
    refused::names(&status, &["channel_account.config.token"]);
    assert!(!format!("{status:?}").contains(TOKEN));
    create(
        &client,
        "last",
        "testing",
        json!({"account": "x", "token": TOKEN}),
    )
    .await;
    let listed = client
        .channels()
        .list_channel_accounts(pb::ListChannelAccountsRequest::default())
        .await
        .unwrap();
    assert!(!format!("{listed:?}").contains(TOKEN));
    let rows = rows(&server).await;
    assert!(rows.contains("zwei"), "the rest is in clear");
    for text in [TOKEN, "neu-4712"] {
        assert!(!rows.contains(text) && !rows.contains(&hex::encode(text)));
        assert!(!server.log().contains(text));
    }
}

#[tokio::test]
async fn secrets_can_lie_with_the_server_where_the_operator_allows() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(TENANT);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(folder.path().join("token"), "not theirs").unwrap();
    let server = TestServer::start_with(Options {
        plugins: format!(
            "secret_env_prefix = 'T_'\nsecret_folder = '{}'",
            folder.path().display()
        ),
        wrapper: vec!["env".into(), "T_STADTWERKE__TOKEN=aus-der-umgebung".into()],
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 1).await;
    let with = |token: Json| json!({"account": "x", "token": token});
    for wrong in [
        json!({"env": "PATH"}),
        json!({"env": "T_OTHER__TOKEN"}),
        json!({"file": "/etc/passwd"}),
        json!({"file": folder.path().join("token")}),
        json!({"file": own.join("../token")}),
    ] {
        let account = pb::ChannelAccount {
            plugin: "testing".into(),
            config: Some(settings(&with(wrong))),
            ..Default::default()
        };
        let status = create_as(&client, "probe", account).await.unwrap_err();
        refused::names(&status, &["channel_account.config.token"]);
    }
    let from_env = with(json!({"env": "T_STADTWERKE__TOKEN"}));
    let made = create(&client, "probe", "testing", from_env).await;
    assert_eq!(made.secrets_set, ["token"]);
    assert_eq!(
        said(&client, "probe", "match:aus-der-umgebung").await,
        "the token matches"
    );

    // A file that is not there yet: closed, and tried again until it is.
    let file = own.join("token");
    let from_file = with(json!({"file": file}));
    create(&client, "later", "testing", from_file).await;
    until_state(&client, "later", pb::ChannelAccountState::Closed).await;
    let closed = get(&client, "later").await.unwrap();
    assert!(closed.state_detail.contains("token"), "{closed:?}");
    let told = test(&client, "later", "wer", "").await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::NotSubmitted, "{told:?}");
    std::fs::write(&file, "aus-der-datei\n").unwrap();
    until_state(&client, "later", pb::ChannelAccountState::Open).await;
    assert_eq!(
        said(&client, "later", "match:aus-der-datei").await,
        "the token matches"
    );
}

#[tokio::test]
async fn a_paused_account_sends_nothing_and_goes_on_when_resumed() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 6).await;
    let relay_sink = sink().await;
    create(&client, "relay", "mail", relay(&relay_sink)).await;
    until_state(&client, "relay", pb::ChannelAccountState::Open).await;
    pause(&client, "relay", true).await;
    until_state(&client, "relay", pb::ChannelAccountState::Paused).await;
    let waiting = launch_through(&client, "relay").await;
    // All that comes later has gone, and it has not.
    let other = launch_through(&client, "mail").await;
    until_over(&client, &other).await;
    assert_eq!((server.sink.count(), relay_sink.count()), (6, 0));
    let tried = ledger(&client, &waiting).await;
    assert!(tried.values().all(|m| m.attempt_count == 0), "{tried:?}");
    // A test goes: that is how one finds out whether to resume.
    let told = test(&client, "relay", "chef@sw.example", "").await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    pause(&client, "relay", false).await;
    until_over(&client, &waiting).await;
    assert_eq!(relay_sink.count(), 7);
}

#[tokio::test]
async fn every_server_sees_a_change() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 4).await;
    let further = server.further().await.unwrap();
    let other = Client::connect(further.addr, TENANT).await.unwrap();
    let (first, second) = (sink().await, sink().await);
    create(&client, "relay", "mail", relay(&first)).await;
    for client in [&client, &other] {
        let told = test(client, "relay", "chef@sw.example", "").await.unwrap();
        assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    }
    assert_eq!(first.count(), 2);
    let campaign = launch_through(&other, "relay").await;
    until_over(&client, &campaign).await;
    assert_eq!(first.count(), 6);

    // Whichever sends: what is claimed from now on goes the new way.
    configure(&other, "relay", &relay(&second)).await;
    let campaign = launch_through(&client, "relay").await;
    until_over(&other, &campaign).await;
    for client in [&client, &other] {
        let told = test(client, "relay", "chef@sw.example", "").await.unwrap();
        assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    }
    assert_eq!((first.count(), second.count()), (6, 6));
    delete(&client, "relay", "").await.unwrap();
    for client in [&client, &other] {
        refused::not_found(&get(client, "relay").await.unwrap_err());
    }
}

#[tokio::test]
async fn an_account_that_does_not_open_holds_up_nothing_else() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 4).await;
    let relay_sink = sink().await;
    let refused_by_plugin = json!({"host": "mail.example.org", "tls": "none"});
    create(&client, "relay", "mail", refused_by_plugin).await;
    until_state(&client, "relay", pb::ChannelAccountState::Closed).await;
    let closed = get(&client, "relay").await.unwrap();
    assert!(
        closed.state_detail.contains("allow_plaintext"),
        "{closed:?}"
    );
    create(
        &client,
        "hangs",
        "testing",
        json!({"account": "x", "opening": "hang"}),
    )
    .await;
    let waiting = launch_through(&client, "relay").await;
    let other = launch_through(&client, "mail").await;
    until_over(&client, &other).await;
    let tried = ledger(&client, &waiting).await;
    assert!(tried.values().all(|m| m.attempt_count == 0), "{tried:?}");
    configure(&client, "relay", &relay(&relay_sink)).await;
    until_over(&client, &waiting).await;
    assert_eq!(relay_sink.count(), 4);
    until_state(&client, "relay", pb::ChannelAccountState::Open).await;
}

#[tokio::test]
async fn accounts_of_the_same_name_are_each_their_tenants() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 5).await;
    let (linden, utility) = with_utility(&server, FEW).await;
    let (ours, theirs) = (sink().await, sink().await);
    create(&client, "relay", "mail", relay(&ours)).await;
    create(&linden, "relay", "mail", relay(&theirs)).await;
    // One pauses its own, and not the other's.
    pause(&linden, "relay", true).await;
    let campaign = launch_through(&client, "relay").await;
    let mut request = utility.launch();
    request.outbound.as_mut().unwrap().channel_account = name("relay");
    let launched = launch(&linden, request).await;
    until_over(&client, &campaign).await;
    assert_eq!((ours.count(), theirs.count()), (5, 0));
    pause(&linden, "relay", false).await;
    let wanted = utility.members().len();
    let theirs_campaign = launched.campaign.unwrap().name;
    until_figures(&linden, &theirs_campaign, |m| {
        usize::try_from(m.sent).unwrap() == wanted
    })
    .await;
    assert_eq!(ours.count(), 5);
    assert_eq!(theirs.count(), u64::try_from(wanted).unwrap());
    let alien = |mail: &anklang_local::smtp::Received| mail.mail_from == "info@sw.example";
    assert!(ours.received().iter().all(alien) && !theirs.received().iter().any(alien));
}

#[tokio::test]
async fn limits_hold_and_change_without_opening_anew() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 6).await;
    let relay_sink = sink().await;
    let account = pb::ChannelAccount {
        plugin: "mail".into(),
        config: Some(settings(&relay(&relay_sink))),
        rate: "2/day".into(),
        burst: 2,
        sending_days: ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
            .map(str::to_owned)
            .into(),
        cost_per_message: Some(Money {
            currency_code: "EUR".into(),
            units: 0,
            nanos: 15_000_000,
        }),
        ambiguous_policy: pb::AmbiguousPolicy::Hold.into(),
        ..Default::default()
    };
    let made = create_as(&client, "relay", account).await.unwrap();
    assert_eq!((&made.rate[..], made.burst), ("2/day", 2));
    assert_eq!(made.cost_per_message.as_ref().unwrap().nanos, 15_000_000);
    assert_eq!(made.ambiguous_policy(), pb::AmbiguousPolicy::Hold);
    let campaign = launch_through(&client, "relay").await;
    until_figures(&client, &campaign, |m| m.sent == 2).await;
    // Others go meanwhile, and of this no more.
    let other = launch_through(&client, "mail").await;
    until_over(&client, &other).await;
    assert_eq!(relay_sink.count(), 2);
    let account = pb::ChannelAccount {
        rate: "1000/second".into(),
        burst: 10,
        ..Default::default()
    };
    let changed = update(&client, "relay", account, &["rate", "burst"])
        .await
        .unwrap();
    assert_eq!((&changed.rate[..], changed.burst), ("1000/second", 10));
    // What the slow rate has spent is due in the future; a person may reset it.
    let database = server.database.connect().await.unwrap();
    let sql = "UPDATE account_pace SET free_at = now()";
    database.batch_execute(sql).await.unwrap();
    until_over(&client, &campaign).await;
    assert_eq!(relay_sink.count(), 6);
}

#[tokio::test]
async fn what_waits_for_a_deleted_account_goes_to_its_replacement() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 6).await;
    let (first, second) = (sink().await, sink().await);
    create(&client, "first", "mail", relay(&first)).await;
    create(&client, "second", "mail", relay(&second)).await;
    create(&client, "text", "testing", json!({"account": "x"})).await;
    pause(&client, "first", true).await;
    let campaign = launch_through(&client, "first").await;
    let status = delete(&client, "first", "").await.unwrap_err();
    let (subject, words) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "channelAccounts/first");
    assert!(words.contains("6 messages"), "{words}");
    for wrong in [
        "channelAccounts/none",
        "channelAccounts/text",
        "channelAccounts/first",
    ] {
        let status = delete(&client, "first", wrong).await.unwrap_err();
        refused::names(&status, &["replacement"]);
    }
    delete(&client, "first", &name("second")).await.unwrap();
    refused::not_found(&get(&client, "first").await.unwrap_err());
    until_over(&client, &campaign).await;
    assert_eq!((first.count(), second.count()), (0, 6));
    let moved = ledger(&client, &campaign).await;
    for message in moved.values() {
        assert_eq!(message.channel_account, name("second"));
        assert_eq!(message.attempts[0].channel_account, name("second"));
    }
    until_gone(&server, "first").await;
    // Its name is free again.
    create(&client, "first", "mail", relay(&first)).await;
}

#[tokio::test]
async fn a_killed_server_leaves_what_the_accounts_policy_says() {
    let mut server = TestServer::start().await.unwrap();
    let client = tenant(&server, 3).await;
    let relay_sink = Sink::start(SinkOptions {
        // Longer than the test; the server is killed before.
        faults: Faults::none().with(
            Matching::Recipient(address(1)),
            Fault::HangAfterDot(Duration::from_secs(600)),
        ),
        ..Default::default()
    })
    .await
    .unwrap();
    let account = pb::ChannelAccount {
        plugin: "mail".into(),
        config: Some(settings(&relay(&relay_sink))),
        ambiguous_policy: pb::AmbiguousPolicy::Hold.into(),
        ..Default::default()
    };
    create_as(&client, "relay", account).await.unwrap();
    let campaign = launch_through(&client, "relay").await;
    let has = |customer| {
        let mails = relay_sink.received();
        mails.iter().any(|m| m.rcpt_to == [address(customer)])
    };
    until("the mail of which nobody will know", async || has(1)).await;
    server.kill();
    relay_sink.set_faults(Faults::none());
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until_over(&client, &campaign).await;
    let books = ledger(&client, &campaign).await;
    let doubtful = &books[&address(1)];
    assert_eq!(doubtful.state(), MessageState::Ambiguous, "{doubtful:?}");
    for message in books.values() {
        let known = attempts(message, AttemptOutcome::Accepted);
        let unknown = attempts(message, AttemptOutcome::Ambiguous);
        let mails = relay_sink.received();
        let mails = mails
            .iter()
            .filter(|m| m.rcpt_to == [message.address.clone()]);
        assert!(
            (known..=known + unknown).contains(&mails.count()),
            "{message:?}"
        );
    }
    // It may have been handed over: the account is needed until somebody decides.
    pause(&client, "relay", true).await;
    let status = delete(&client, "relay", &name("mail")).await.unwrap_err();
    let (_, words) = refused::precondition(&status, "PRECONDITION");
    assert!(words.contains("handed over"), "{words}");
}

#[tokio::test]
async fn a_test_is_sent_once() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let mut request = pb::TestChannelAccountRequest {
        name: name("mail"),
        recipient: "chef@sw.example".into(),
        subject: "Probe".into(),
        request_id: uuid::Uuid::now_v7().to_string(),
        validate_only: true,
        ..Default::default()
    };
    let test = async |request: &pb::TestChannelAccountRequest| {
        let told = client
            .channels()
            .test_channel_account(request.clone())
            .await;
        told.map(tonic::Response::into_inner)
    };
    let tried = test(&request).await.unwrap();
    assert_eq!(tried.outcome(), pb::TestOutcome::Unspecified);
    assert_eq!(server.sink.count(), 0);
    request.validate_only = false;
    let told = test(&request).await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted);
    assert_eq!(test(&request).await.unwrap(), told);
    assert_eq!(server.sink.count(), 1);
    // A blocked address gets none.
    let block = anklang_proto::anklang::customers::v1::CreateSuppressionRequest {
        suppression: Some(anklang_proto::anklang::customers::v1::Suppression {
            channel: "mail".into(),
            address: "chef@sw.example".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.customers().create_suppression(block).await.unwrap();
    request.request_id.clear();
    let status = test(&request).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    // A channel that refuses says why.
    let reply = anklang_local::smtp::Reply::new(550, "5.1.1 nobody of that name");
    let fault = Fault::RejectRecipient(reply);
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, fault));
    request.recipient = "niemand@sw.example".into();
    let told = test(&request).await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Permanent);
    assert!(told.detail.contains("nobody of that name"), "{told:?}");
    make_due(&server).await;
}

#[tokio::test]
async fn plugins_are_listed_with_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().unwrap();
    for plugin in ["mail", "testing"] {
        let file = format!("libanklang_{plugin}.so");
        std::fs::copy(program().plugins.join(&file), folder.path().join(&file)).unwrap();
    }
    std::fs::write(folder.path().join("libanklang_broken.so"), "no library").unwrap();
    std::fs::copy(
        program().plugins.join("libanklang_mail.so"),
        folder.path().join("libanklang_alias.so"),
    )
    .unwrap();
    let server = TestServer::start_with(Options {
        plugins: "for_tenants = ['mail']".into(),
        wrapper: vec![
            "env".into(),
            format!("ANKLANG_PLUGINS__FOLDER={}", folder.path().display()),
        ],
        ..Default::default()
    })
    .await
    .unwrap();
    let client = server.client(TENANT).await.unwrap();
    let listed = client
        .channels()
        .list_channel_plugins(pb::ListChannelPluginsRequest {})
        .await
        .unwrap()
        .into_inner()
        .channel_plugins;
    let ids: Vec<&str> = listed
        .iter()
        .map(|p| p.name.strip_prefix("channelPlugins/").unwrap())
        .collect();
    assert_eq!(ids, ["alias", "broken", "mail", "testing"]);
    for refused in &listed[..2] {
        assert!(!refused.refused_reason.is_empty() && !refused.available);
        let path = folder.path().display().to_string();
        assert!(!refused.refused_reason.contains(&path), "{refused:?}");
    }
    let mail = &listed[2];
    assert_eq!((&mail.channel[..], mail.available), ("mail", true));
    assert_eq!(mail.capabilities, ["ATTACHMENTS"]);
    assert_eq!(mail.ambiguous_policy(), pb::AmbiguousPolicy::Resend);
    assert_eq!((mail.sha256.len(), &mail.refused_reason[..]), (64, ""));
    let schema: Json = serde_json::from_str(&mail.config_json_schema).unwrap();
    assert_eq!(schema["properties"]["password"]["writeOnly"], true);
    assert!(!listed[3].available, "not for tenants");
    let get = async |id: &str| {
        let request = pb::GetChannelPluginRequest {
            name: format!("channelPlugins/{id}"),
        };
        client.channels().get_channel_plugin(request).await
    };
    assert_eq!(&get("mail").await.unwrap().into_inner(), mail);
    refused::not_found(&get("none").await.unwrap_err());
    refused::not_found(&get("..%2Fmail").await.unwrap_err());
}
