//! The rules of the plugin interface, against a plugin written with the SDK that misbehaves on
//! command, and against hand-written C ones that break the rules the SDK would not let them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/c.rs"]
mod c;
#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[macro_use]
#[path = "support/modes.rs"]
mod modes;
#[path = "support/texts.rs"]
mod texts;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anklang_channels::proto::{
    CallbackRequest, Header, LookupRequest, health_reply, lookup_result, outcome,
};
use anklang_channels::{
    CallError, Counters, DrainError, Instance, InstanceOptions, Isolation, LoadError, OpenError,
    Plugin, PluginEvent, Sha256, Telemetry,
};
use c::c_library;
use cargo::cdylib;
use hosting::hosting;
use kinds::kinds;
use modes::until_counted;
use serde_json::{Value, json};
use texts::texts;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn library() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| cdylib("anklang-plugin-testing"))
}

/// A copy of the plugin of its own, so that no test sees the counters of another.
fn plugin(mode: Isolation) -> Plugin {
    load(mode, library(), None).unwrap()
}

fn load(mode: Isolation, path: &Path, pin: Option<Sha256>) -> Result<Plugin, LoadError> {
    Plugin::load_with(path, pin, hosting(mode))
}

fn config() -> Value {
    json!({ "account": "a" })
}

async fn instance(mode: Isolation) -> Instance {
    plugin(mode).open(&config()).await.unwrap()
}

async fn impatient(mode: Isolation, call_deadline: Duration) -> (Plugin, Instance) {
    let plugin = plugin(mode);
    let options = InstanceOptions {
        call_deadline,
        ..InstanceOptions::default()
    };
    let instance = plugin.open_with(&config(), options).await.unwrap();
    (plugin, instance)
}

/// Starts `count` calls and returns once all of them are in flight.
async fn in_flight(
    instance: &Instance,
    count: usize,
    text: &'static str,
) -> Vec<tokio::task::JoinHandle<Vec<&'static str>>> {
    let mut calls = Vec::new();
    for _ in 0..count {
        let instance = instance.clone();
        let (started, starting) = tokio::sync::oneshot::channel();
        calls.push(tokio::spawn(async move {
            let request = texts(&[text]);
            let mut send = std::pin::pin!(instance.send(request));
            // The first poll hands the call over.
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(send.as_mut().poll(cx)));
            assert!(first.await.is_pending());
            started.send(()).unwrap();
            kinds(&send.await.unwrap())
        }));
        starting.await.unwrap();
    }
    calls
}

in_both_modes! {
    #[tokio::test]
        what_is_no_plugin_is_refused_with_its_reason
        the_pin_is_compared_before_anything_runs
        the_manifest_is_read_without_opening
        all_violations_of_a_config_are_named_at_once
        a_plugin_says_why_it_does_not_open
        every_outcome_arrives_in_order
        a_wrong_number_of_outcomes_never_shifts_them
        a_panic_costs_its_batch_and_nothing_else
        beyond_the_bound_a_call_is_busy_and_nothing_is_handed_over
        a_call_that_never_completes_is_given_up_and_frees_its_place
        dropping_the_future_of_a_send_breaks_nothing
        operations_beyond_sending
        deliveries_wait_for_the_host_and_logs_do_not
        a_traced_send_gives_a_span
        a_drain_waits_for_the_calls_in_flight
        a_drain_ends_at_its_deadline
        a_dropped_instance_is_drained
        instances_and_copies_are_independent
        another_configuration_takes_over
        a_call_completes_once_whatever_the_plugin_says;
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        soak_of_ten_thousand_calls;
}

#[test]
fn instances_in_process_outlive_the_runtime_that_made_the_call() {
    instances_outlive_the_runtime_that_made_the_call(Isolation::None);
}

#[test]
fn instances_in_their_own_process_outlive_it_as_well() {
    instances_outlive_the_runtime_that_made_the_call(Isolation::Process);
}

// ---- loading ----------------------------------------------------------------------------

async fn what_is_no_plugin_is_refused_with_its_reason(mode: Isolation) {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.so");
    assert!(matches!(
        load(mode, &missing, None),
        Err(LoadError::Read { .. })
    ));

    let text = dir.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    let error = load(mode, &text, None).unwrap_err().to_string();
    assert!(error.contains("text.so: not a shared library"), "{error}");

    let broken = dir.path().join("broken.so");
    std::fs::write(&broken, b"\x7fELF and nothing else").unwrap();
    assert!(matches!(
        load(mode, &broken, None),
        Err(LoadError::Link { .. })
    ));

    let other = c_library(dir.path(), "other", "int nothing(void) { return 0; }");
    let error = load(mode, &other, None).unwrap_err().to_string();
    assert!(
        error.contains("does not export anklang_plugin_manifest"),
        "{error}"
    );
}

async fn the_pin_is_compared_before_anything_runs(mode: Isolation) {
    let bytes = std::fs::read(library()).unwrap();
    let right = Sha256::of(&bytes);
    let plugin = load(mode, library(), Some(right)).unwrap();
    assert_eq!(plugin.sha256(), right);
    assert_eq!(right.to_string().parse(), Ok(right));
    let wrong = Sha256([7; 32]);
    let error = load(mode, library(), Some(wrong)).unwrap_err();
    let LoadError::PinMismatch {
        expected, found, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*expected, *found), (wrong, right));
    assert!(error.to_string().contains(&right.to_string()));
}

async fn the_manifest_is_read_without_opening(mode: Isolation) {
    let plugin = plugin(mode);
    let manifest = plugin.manifest();
    assert_eq!(
        (manifest.id.as_str(), manifest.channel.as_str()),
        ("testing", "testing")
    );
    assert_eq!(
        (manifest.max_batch, manifest.max_calls_in_flight),
        (100, 16)
    );
    let shown = plugin.redacted(&json!({ "account": "a", "token": "geheim" }));
    assert_eq!(shown, json!({ "account": "a", "token": "********" }));
}

// ---- opening ----------------------------------------------------------------------------

async fn all_violations_of_a_config_are_named_at_once(mode: Isolation) {
    let wrong = json!({ "retries": 11, "token": 4711, "colour": "red", "opening": "maybe" });
    let Err(OpenError::Config(violations)) = plugin(mode).open(&wrong).await else {
        panic!("opened");
    };
    let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/account", "/colour", "/opening", "/retries", "/token"]
    );
    let shown = OpenError::Config(violations).to_string();
    assert!(!shown.contains("4711"), "{shown}");
}

async fn a_plugin_says_why_it_does_not_open(mode: Isolation) {
    let plugin = plugin(mode);
    let with = |key: &str, value: &str| {
        let mut config = config();
        config[key] = value.into();
        config
    };
    // The schema takes any text here, serde does not: the path is named, the value is not.
    match plugin.open(&with("listen", "geheim")).await {
        Err(OpenError::Refused(reason)) => {
            assert!(reason.starts_with("listen: "), "{reason}");
            assert!(!reason.contains("geheim"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let refused = plugin.open(&with("opening", "refuse")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "configuration refused: account: unknown"
    );
    let failed = plugin.open(&with("opening", "panic")).await.unwrap_err();
    assert!(
        matches!(&failed, OpenError::Failed(r) if r.contains("as told")),
        "{failed}"
    );
    let options = InstanceOptions {
        open_deadline: Duration::from_millis(100),
        ..InstanceOptions::default()
    };
    for opening in ["hang", "delay"] {
        let hung = plugin.open_with(&with("opening", opening), options).await;
        assert!(matches!(hung, Err(OpenError::Timeout(_))), "{hung:?}");
    }
    // The delayed instance opens after all and is drained in the background.
    sleep(Duration::from_millis(600)).await;
    assert_eq!(plugin.counters(), Counters::default());
    plugin.open(&config()).await.unwrap();
}

// ---- sending ----------------------------------------------------------------------------

async fn every_outcome_arrives_in_order(mode: Isolation) {
    let instance = instance(mode).await;
    let batch = [
        "x",
        "permanent:gone",
        "transient",
        "throttled:1500",
        "ambiguous",
        "nothing",
        "x",
    ];
    let outcomes = instance.send(texts(&batch)).await.unwrap();
    let expected = [
        "accepted",
        "permanent",
        "transient",
        "throttled",
        "ambiguous",
        "ambiguous",
        "accepted",
    ];
    assert_eq!(kinds(&outcomes), expected);
    match &outcomes[3].kind {
        Some(outcome::Kind::Throttled(t)) => {
            let after = t.retry_after.unwrap();
            assert_eq!(
                (after.seconds, after.nanos, t.scope.as_str()),
                (1, 500_000_000, "account")
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(instance.send(texts(&[])).await, Ok(Vec::new()));
    let error = instance.send(texts(&["x"; 101])).await.unwrap_err();
    assert!(matches!(error, CallError::Invalid(_)), "{error}");
    instance.drain(SECOND).await.unwrap();
}

async fn a_wrong_number_of_outcomes_never_shifts_them(mode: Isolation) {
    let instance = instance(mode).await;
    let short = instance.send(texts(&["short", "x", "x"])).await.unwrap();
    assert_eq!(kinds(&short), ["accepted", "accepted", "ambiguous"]);
    let long = instance.send(texts(&["long", "x", "x"])).await.unwrap();
    assert_eq!(kinds(&long), ["ambiguous"; 3]);
}

async fn a_panic_costs_its_batch_and_nothing_else(mode: Isolation) {
    let instance = instance(mode).await;
    let calls = in_flight(&instance, 1, "delay:200").await;
    let outcomes = instance.send(texts(&["x", "panic", "x"])).await.unwrap();
    assert_eq!(kinds(&outcomes), ["ambiguous"; 3]);
    match &outcomes[0].kind {
        Some(outcome::Kind::Ambiguous(a)) => assert!(a.detail.contains("as told"), "{}", a.detail),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        kinds(&instance.send(texts(&["x"])).await.unwrap()),
        ["accepted"]
    );
    for call in calls {
        assert_eq!(call.await.unwrap(), ["accepted"]);
    }
}

async fn beyond_the_bound_a_call_is_busy_and_nothing_is_handed_over(mode: Isolation) {
    let instance = instance(mode).await;
    let calls = in_flight(&instance, 16, "delay:1000").await;
    assert_eq!(instance.send(texts(&["x"])).await, Err(CallError::Busy));
    for call in calls {
        assert_eq!(call.await.unwrap(), ["accepted"]);
    }
    assert_eq!(
        kinds(&instance.send(texts(&["x"])).await.unwrap()),
        ["accepted"]
    );
}

async fn a_call_that_never_completes_is_given_up_and_frees_its_place(mode: Isolation) {
    let (plugin, instance) = impatient(mode, Duration::from_millis(150)).await;
    // Twice the bound: the places of the first come free.
    for _ in 0..2 {
        for call in in_flight(&instance, 16, "hang").await {
            assert_eq!(call.await.unwrap(), ["ambiguous"]);
        }
    }
    assert_eq!(
        kinds(&instance.send(texts(&["x"])).await.unwrap()),
        ["accepted"]
    );
    let expected = Counters {
        late_completions: 32,
        ..Counters::default()
    };
    until_counted(&plugin, expected).await;
}

async fn dropping_the_future_of_a_send_breaks_nothing(mode: Isolation) {
    let (plugin, instance) = impatient(mode, 5 * SECOND).await;
    let dropped = timeout(
        Duration::from_millis(50),
        instance.send(texts(&["delay:200"])),
    )
    .await;
    assert!(dropped.is_err());
    assert_eq!(
        kinds(&instance.send(texts(&["delay:300"])).await.unwrap()),
        ["accepted"]
    );
    let expected = Counters {
        late_completions: 1,
        ..Counters::default()
    };
    until_counted(&plugin, expected).await;
}

async fn operations_beyond_sending(mode: Isolation) {
    let instance = instance(mode).await;
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);

    let request = LookupRequest {
        message_ids: vec!["0a".to_owned(), "1a".to_owned()],
        traceparent: String::new(),
    };
    let results = instance.lookup(request).await.unwrap();
    assert!(matches!(
        &results[0].kind,
        Some(lookup_result::Kind::Outcome(_))
    ));
    assert!(matches!(
        &results[1].kind,
        Some(lookup_result::Kind::NotFound(_))
    ));

    let mut request = CallbackRequest {
        body: b"m-1".to_vec(),
        ..CallbackRequest::default()
    };
    assert_eq!(
        instance
            .callback(request.clone())
            .await
            .unwrap()
            .http_status,
        401
    );
    request.headers.push(Header {
        name: "x-token".to_owned(),
        value: "a".to_owned(),
    });
    let reply = instance.callback(request).await.unwrap();
    assert_eq!(
        (reply.http_status, reply.deliveries[0].message_id.as_str()),
        (200, "m-1")
    );

    assert_eq!(instance.acknowledge(vec![1, 2]).await, Ok(()));
    assert_eq!(instance.call(99, &[]).await, Err(CallError::Unsupported));
    let garbage = instance.call(1, &[0xff; 7]).await;
    assert!(matches!(garbage, Err(CallError::Invalid(_))), "{garbage:?}");
}

async fn soak_of_ten_thousand_calls(mode: Isolation) {
    let plugin = plugin(mode);
    let instance = plugin.open(&config()).await.unwrap();
    let senders: Vec<_> = (0..50)
        .map(|_| {
            let instance = instance.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    let request = texts(&["x", "x"]);
                    let ids: Vec<_> = request
                        .messages
                        .iter()
                        .map(|m| m.message_id.clone())
                        .collect();
                    let outcomes = loop {
                        match instance.send(request.clone()).await {
                            Ok(outcomes) => break outcomes,
                            Err(CallError::Busy) => sleep(Duration::from_millis(1)).await,
                            Err(other) => panic!("{other}"),
                        }
                    };
                    let got: Vec<_> = outcomes
                        .into_iter()
                        .map(|o| match o.kind {
                            Some(outcome::Kind::Accepted(a)) => a.provider_message_id,
                            other => panic!("{other:?}"),
                        })
                        .collect();
                    assert_eq!(got, ids);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    instance.drain(SECOND).await.unwrap();
    assert_eq!(plugin.counters(), Counters::default());
}

// ---- events -----------------------------------------------------------------------------

async fn deliveries_wait_for_the_host_and_logs_do_not(mode: Isolation) {
    let plugin = plugin(mode);
    let options = InstanceOptions {
        event_capacity: 1,
        ..InstanceOptions::default()
    };
    let instance = plugin.open_with(&config(), options).await.unwrap();
    let mut events = instance.events().unwrap();
    assert!(instance.events().is_none());

    let request = texts(&["deliver"; 5]);
    let ids: Vec<_> = request
        .messages
        .iter()
        .map(|m| m.message_id.clone())
        .collect();
    let sender = instance.clone();
    let sending = tokio::spawn(async move { sender.send(request).await.unwrap() });
    sleep(Duration::from_millis(100)).await;
    assert!(
        !sending.is_finished(),
        "the second delivery waits for the first to be taken"
    );
    for id in ids {
        match events.deliveries.recv().await {
            Some(PluginEvent::Delivery(event)) => assert_eq!(event.message_id, id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kinds(&sending.await.unwrap()), ["accepted"; 5]);

    let mut traced = texts(&["log:hallo"; 20]);
    traced.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    assert_eq!(
        kinds(&instance.send(traced).await.unwrap()),
        ["accepted"; 20]
    );
    match events.telemetry.recv().await {
        Some(Telemetry::Log(event)) => {
            assert_eq!(
                [
                    &event.message[..],
                    &event.fields["text"],
                    &event.fields["account"]
                ],
                ["as told", "hallo", "a"]
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(plugin.counters().dropped_telemetry > 0);

    instance.drain(SECOND).await.unwrap();
    while events.telemetry.recv().await.is_some() {}
    assert!(events.deliveries.recv().await.is_none());
}

async fn a_traced_send_gives_a_span(mode: Isolation) {
    let instance = instance(mode).await;
    let mut events = instance.events().unwrap();
    let mut request = texts(&["x"]);
    request.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let parent = request.traceparent.clone();
    instance.send(request).await.unwrap();
    match events.telemetry.recv().await {
        Some(Telemetry::Span(span)) => {
            assert_eq!((span.traceparent, span.name.as_str()), (parent, "send"));
            assert!(span.ended_at.is_some() && span.started_at.is_some());
        }
        other => panic!("{other:?}"),
    }
}

// ---- the end ----------------------------------------------------------------------------

async fn a_drain_waits_for_the_calls_in_flight(mode: Isolation) {
    let instance = instance(mode).await;
    let calls = in_flight(&instance, 4, "delay:300").await;
    let (other, started) = (instance.clone(), Instant::now());
    let drain = tokio::spawn(instance.clone().drain(5 * SECOND));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(other.send(texts(&["x"])).await, Err(CallError::Closed));
    drain.await.unwrap().unwrap();
    assert!((250..10_000).contains(&started.elapsed().as_millis()));
    for call in calls {
        assert_eq!(call.await.unwrap(), ["accepted"]);
    }
    assert_eq!(other.send(texts(&["x"])).await, Err(CallError::Closed));
    assert_eq!(other.health().await, Err(CallError::Closed));
    assert_eq!(other.drain(SECOND).await, Err(DrainError::Drained));
}

async fn a_drain_ends_at_its_deadline(mode: Isolation) {
    let (plugin, instance) = impatient(mode, 30 * SECOND).await;
    let mut calls = in_flight(&instance, 2, "hang").await;
    calls.extend(in_flight(&instance, 1, "block:700").await);
    let started = Instant::now();
    instance.drain(Duration::from_millis(200)).await.unwrap();
    assert!(started.elapsed() < 10 * SECOND);
    for call in calls {
        assert_eq!(call.await.unwrap(), ["ambiguous"]);
    }
    // The blocked thread comes back, finds its call completed, and says nothing.
    sleep(Duration::from_millis(800)).await;
    assert_eq!(plugin.counters(), Counters::default());
}

async fn a_dropped_instance_is_drained(mode: Isolation) {
    let plugin = plugin(mode);
    let instance = plugin.open(&config()).await.unwrap();
    let mut events = instance.events().unwrap();
    drop(instance);
    let ended = timeout(60 * SECOND, events.deliveries.recv()).await;
    assert_eq!(ended, Ok(None));
}

async fn instances_and_copies_are_independent(mode: Isolation) {
    let (first, second) = (plugin(mode), plugin(mode));
    let a = first.open(&json!({ "account": "a" })).await.unwrap();
    let b = first.open(&json!({ "account": "b" })).await.unwrap();
    let c = second.open(&json!({ "account": "c" })).await.unwrap();
    a.drain(SECOND).await.unwrap();
    for (instance, account) in [(b, "b"), (c, "c")] {
        let outcomes = instance.send(texts(&["x"])).await.unwrap();
        match &outcomes[0].kind {
            Some(outcome::Kind::Accepted(accepted)) => assert_eq!(accepted.detail, account),
            other => panic!("{other:?}"),
        }
    }
}

async fn another_configuration_takes_over(mode: Isolation) {
    let plugin = plugin(mode);
    let instance = plugin.open(&json!({ "account": "a" })).await.unwrap();
    let mut events = instance.events().unwrap();
    let before = in_flight(&instance, 2, "delay:1000").await;
    let wrong = json!({ "account": "b", "opening": "refuse" });
    let refused = instance.replace(&plugin, &wrong, 10 * SECOND).await;
    assert!(matches!(refused, Err(OpenError::Refused(_))), "{refused:?}");
    assert_eq!(account(&instance).await, "a");

    let other = load(mode, library(), None).unwrap();
    let config = json!({ "account": "b" });
    instance
        .replace(&other, &config, 60 * SECOND)
        .await
        .unwrap();
    assert_eq!(account(&instance).await, "b");
    for call in before {
        assert_eq!(
            call.await.unwrap(),
            ["accepted"],
            "they end where they began"
        );
    }
    instance.send(texts(&["deliver"])).await.unwrap();
    assert!(events.deliveries.recv().await.is_some());
    instance.drain(10 * SECOND).await.unwrap();
    assert_eq!(plugin.counters(), Counters::default());
    assert_eq!(other.counters(), Counters::default());
}

/// The account that answers.
async fn account(instance: &Instance) -> String {
    let outcomes = instance.send(texts(&["x"])).await.unwrap();
    match outcomes[0].kind.clone() {
        Some(outcome::Kind::Accepted(accepted)) => accepted.detail,
        other => panic!("{other:?}"),
    }
}

async fn a_call_completes_once_whatever_the_plugin_says(mode: Isolation) {
    let plugin = plugin(mode);
    let instance = plugin.open(&config()).await.unwrap();
    let twice = instance.send(texts(&["twice"])).await.unwrap();
    assert_eq!(kinds(&twice), ["accepted"]);
    let garbage = instance.send(texts(&["garbage"])).await.unwrap();
    assert_eq!(kinds(&garbage), ["ambiguous"]);
    let expected = Counters {
        stray_completions: 2,
        ..Counters::default()
    };
    until_counted(&plugin, expected).await;
    assert_eq!(account(&instance).await, "a");
}

/// The plugin's completions and the host's waiting must not depend on which runtime waits.
fn instances_outlive_the_runtime_that_made_the_call(mode: Isolation) {
    let plugin = plugin(mode);
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let instance = first.block_on(plugin.open(&config())).unwrap();
    let outcomes = runtime()
        .block_on(instance.send(texts(&["delay:50"])))
        .unwrap();
    assert_eq!(kinds(&outcomes), ["accepted"]);
    first.block_on(instance.drain(SECOND)).unwrap();
}
