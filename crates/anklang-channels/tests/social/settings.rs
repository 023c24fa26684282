//! Configurations: what is refused, what is hidden, and what an account is used for.

use anklang_channels::OpenError;
use anklang_channels::proto::Capability;
use serde_json::{Value, json};

use super::fake::{Answer, Fake};
use super::{failure, open, plugin, send, text as message};

fn violations(config: &Value) -> Vec<String> {
    match plugin().check_config(config) {
        Ok(()) => Vec::new(),
        Err(violations) => violations.iter().map(ToString::to_string).collect(),
    }
}

async fn refused(config: Value) -> String {
    match plugin().open(&config).await {
        Err(OpenError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_network_has_its_own_options() {
    let manifest = plugin().manifest();
    assert_eq!((&*manifest.id, &*manifest.channel), ("social", "social"));
    let can: Vec<Capability> = manifest.capabilities().collect();
    // Not all networks know idempotency, so the plugin does not promise it.
    let expected = [
        Capability::Callback,
        Capability::PublicPost,
        Capability::Events,
    ];
    assert_eq!(can, expected);
    assert_eq!(violations(&json!({})), ["/network: is required"]);
    let networks = r#"is none of "matrix", "mastodon", "telegram", "whatsapp", "facebook", "x""#;
    let unknown = violations(&json!({ "network": "myspace" }));
    assert_eq!(unknown, [format!("/network: {networks}")]);
    assert_eq!(
        violations(&json!({ "network": "telegram", "channel": "kein Kanal", "page_id": "1" })),
        [
            "/bot_token: is required",
            "/channel: value does not match \"^(@[A-Za-z][A-Za-z0-9_]{3,31}|-?[0-9]{1,19})$\"",
            "/page_id: is not known",
        ]
    );
    let connection = json!({ "timeout_seconds": 0, "at_once": 65, "proxy": "x" });
    let config = json!({ "network": "x", "bearer_token": "t", "connection": connection });
    let found = violations(&config);
    let paths: Vec<_> = found
        .iter()
        .map(|v| v.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/connection/at_once",
            "/connection/proxy",
            "/connection/timeout_seconds"
        ]
    );
}

#[tokio::test]
async fn what_a_schema_cannot_say_is_refused_when_opened() {
    let matrix = |base: &str| json!({ "network": "matrix", "base_url": base, "access_token": "t" });
    assert!(
        refused(matrix("http://matrix.example.org"))
            .await
            .starts_with("base_url: must be https")
    );
    assert!(
        refused(matrix("https://u:p@example.org"))
            .await
            .starts_with("base_url: ")
    );
    let mut room = matrix("https://matrix.example.org");
    room["public_room"] = "lobby".into();
    assert!(refused(room).await.starts_with("public_room: "));
    let telegram = |more: Value| {
        let mut config = json!({ "network": "telegram", "bot_token": "7:abc" });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        config
    };
    for (more, option) in [
        (json!({ "bot_token": "abc" }), "bot_token: "),
        (json!({ "bot_token": "a b" }), "bot_token: "),
        (
            json!({ "bot_token": { "env": "NO_SUCH_VARIABLE" } }),
            "bot_token: NO_SUCH_VARIABLE",
        ),
        (
            json!({ "bot_token": { "file": "/nonexistent/token" } }),
            "bot_token: /nonexistent/token",
        ),
        (json!({ "inbound": "webhook" }), "webhook_secret: "),
        (json!({ "webhook_secret": "x" }), "webhook_secret: "),
        (
            json!({ "connection": { "ca_file": "/nonexistent/ca.pem" } }),
            "connection.ca_file: ",
        ),
    ] {
        let reason = refused(telegram(more)).await;
        assert!(reason.starts_with(option), "{option}: {reason}");
    }
    let facebook = json!({
        "network": "facebook", "page_id": "1", "access_token": "t", "tag": "HUMAN_AGENT",
    });
    assert!(refused(facebook).await.starts_with("tag: "));
    for keys in [
        json!({}),
        json!({ "consumer_key": "a" }),
        json!({ "bearer_token": "b", "token": "c" }),
    ] {
        let mut x = keys;
        x["network"] = "x".into();
        assert!(refused(x).await.starts_with("give bearer_token, or all of"));
    }
}

#[tokio::test]
async fn secrets_are_read_where_they_are_and_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "7:from-a-file\n").unwrap();
    let fake = Fake::start(|seen| match &*seen.target {
        "/bot7:from-a-file/getMe" => {
            let body = json!({ "ok": true, "result": { "username": "bot" } });
            Answer::json(200, body)
        }
        other => Err(other.to_owned()),
    })
    .await;
    let secret = json!({ "file": file });
    let config = json!({ "network": "telegram", "base_url": fake.url(), "bot_token": secret });
    assert_eq!(
        open(&config).await.health().await.unwrap().detail,
        "Telegram: @bot"
    );
    let hidden = "********";
    for (config, options) in [
        (
            json!({ "network": "matrix", "base_url": "b", "access_token": "s" }),
            &["access_token"][..],
        ),
        (
            json!({ "network": "telegram", "bot_token": { "env": "s" }, "webhook_secret": "s" }),
            &["bot_token", "webhook_secret"],
        ),
        (
            json!({ "network": "x", "consumer_key": "s", "consumer_secret": "s", "token": "s",
            "token_secret": "s", "bearer_token": "s" }),
            &[
                "consumer_key",
                "consumer_secret",
                "token",
                "token_secret",
                "bearer_token",
            ],
        ),
        (
            json!({ "network": "whatsapp", "phone_number_id": "1", "access_token": "s",
            "graph": { "version": "v23.0", "app_secret": "s", "verify_token": { "file": "s" } } }),
            &["access_token", "graph/app_secret", "graph/verify_token"],
        ),
    ] {
        let mut expected = config.clone();
        for option in options {
            *expected.pointer_mut(&format!("/{option}")).unwrap() = hidden.into();
        }
        assert_eq!(plugin().redacted(&config), expected);
    }
}

#[tokio::test]
async fn accounts_serve_what_they_are_for() {
    let fake = Fake::start(|seen| Err(seen.target.clone())).await;
    for (serves, to, code) in [
        ("posts", Some("4711"), "NO_DIRECT_MESSAGES"),
        ("messages", None, "NO_PUBLIC_POSTS"),
    ] {
        for network in [
            "telegram", "facebook", "x", "whatsapp", "mastodon", "matrix",
        ] {
            let mut config = match network {
                "telegram" => json!({ "bot_token": "7:a" }),
                "facebook" => json!({ "page_id": "1", "access_token": "t" }),
                "whatsapp" => json!({ "phone_number_id": "1", "access_token": "t" }),
                "x" => json!({ "bearer_token": "t" }),
                _ => json!({ "access_token": "t" }),
            };
            config["network"] = network.into();
            config["serves"] = serves.into();
            match network {
                "facebook" | "whatsapp" => config["graph"] = json!({ "base_url": fake.url() }),
                _ => config["base_url"] = fake.url().into(),
            }
            let outcome = send(&open(&config).await, message(to, "x")).await;
            assert_eq!(failure(&outcome), ("REASON_CONFIG", code), "{network}");
        }
    }
    let telegram = json!({ "network": "telegram", "base_url": fake.url(), "bot_token": "7:a" });
    let telegram = open(&telegram).await;
    let mut message = message(Some("4711"), "x");
    message.message_id = "../../getMe".to_owned();
    assert_eq!(
        failure(&send(&telegram, message.clone()).await).1,
        "MESSAGE_ID_INVALID"
    );
    message.message_id = uuid::Uuid::now_v7().to_string();
    message.content = None;
    assert_eq!(
        failure(&send(&telegram, message).await).1,
        "CONTENT_UNSUPPORTED"
    );
}
