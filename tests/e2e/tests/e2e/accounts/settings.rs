//! What accounts hold: checked, secrets kept, plugins listed.

use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::google::r#type::Money;
use anklang_testkit::{Options, TestServer, program};
use serde_json::{Value as Json, json};

use super::{
    configure, create, create_as, get, relay, rows, said, settings, test, until_state, update,
};
use crate::mailing::{TENANT, tenant};
use crate::refused;

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
    assert!(mail.capabilities.contains(&"ATTACHMENTS".to_owned()));
    assert_eq!(mail.ambiguous_policy(), pb::AmbiguousPolicy::Resend);
    assert_eq!((mail.sha256.len(), &mail.refused_reason[..]), (64, ""));
    let schema: Json = serde_json::from_str(&mail.config_json_schema).unwrap();
    assert!(schema.to_string().contains(r#""writeOnly":true"#));
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
