//! Operations that take longer than a token lasts: who has another one follows them to their end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anklang_client::proto::google::longrunning as lro;
use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_testkit::{Client, TestServer};
use chrono::Utc;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use super::issuer::Issuer;
use super::keys::Key;
use super::serving;
use crate::cli::command;
use crate::utility::{FEW, until, with_utility};

/// Waits end within this time, of which a token lasts a part.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with a launch that waits for its day, and tokens for it.
struct Waiting {
    server: TestServer,
    client: Client,
    operation: lro::Operation,
    issuer: Issuer,
    key: Key,
}

impl Waiting {
    async fn start() -> Self {
        let key = Key::ed25519("k");
        let issuer = Issuer::publishing(&[&key]).await;
        let (server, _) = serving("", &issuer.trusted("idp", "leeway_seconds = 1")).await;
        let (client, utility) = with_utility(&server, FEW).await;
        let mut launch = utility.launch();
        launch.schedule = Some(campaigns::PhaseSchedule {
            planned_start_date: utility.day(3),
            ..Default::default()
        });
        let operation = client.campaigns().launch_campaign(launch).await.unwrap();
        Self {
            server,
            client,
            operation: operation.into_inner(),
            issuer,
            key,
        }
    }

    /// A token that counts for so long.
    fn token(&self, seconds: i64) -> String {
        let mut claims = self.issuer.claims(&["central"]);
        claims["exp"] = json!(Utc::now().timestamp() + seconds);
        self.key.sign(&claims)
    }
}

#[tokio::test]
async fn a_wait_goes_on_with_the_next_token() {
    let waiting = Waiting::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (short, long) = (waiting.token(8), waiting.token(3_600));
    let client = anklang_client::Client::builder(format!("http://{}", waiting.server.addr))
        .tenant("linden")
        .token_from({
            let asked = asked.clone();
            move || {
                let token = match asked.fetch_add(1, Ordering::SeqCst) {
                    0 => short.clone(),
                    _ => long.clone(),
                };
                async move { Ok::<_, Infallible>(token) }
            }
        })
        .connect()
        .await
        .unwrap();
    let operation = waiting.operation.clone();
    let wait = tokio::spawn(async move {
        let waited = client.wait::<campaigns::LaunchCampaignResponse>(&operation, |_| ());
        waited.await
    });
    until(
        "the next token is shown, or the wait has ended",
        async || asked.load(Ordering::SeqCst) > 1 || wait.is_finished(),
    )
    .await;
    let cancel = lro::CancelOperationRequest {
        name: waiting.operation.name.clone(),
    };
    let mut operations = waiting.client.operations();
    operations.cancel_operation(cancel).await.unwrap();
    let ended = timeout(PATIENCE, wait).await.expect("an end");
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Cancelled, "{error}");
}

#[tokio::test]
async fn a_wait_whose_token_stays_the_same_says_so() {
    let waiting = Waiting::start().await;
    let client = anklang_client::Client::builder(format!("http://{}", waiting.server.addr))
        .tenant("linden")
        .token(waiting.token(8))
        .connect()
        .await
        .unwrap();
    let mut told = 0;
    let waited = client.wait::<campaigns::LaunchCampaignResponse>(&waiting.operation, |_| {
        told += 1;
    });
    let ended = timeout(PATIENCE, waited).await.expect("an end");
    let error = ended.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(told > 0, "it was watched before");
}

#[tokio::test]
async fn a_command_whose_token_expires_says_that_the_operation_goes_on() {
    let waiting = Waiting::start().await;
    let name = &waiting.operation.name;
    let watch = async |seconds| {
        let line = format!("operations watch {name}");
        let output = command(&waiting.server.addr.to_string(), &line)
            .env("ANKLANG_TOKEN", waiting.token(seconds))
            .output();
        let output = timeout(PATIENCE, output).await.expect("an end").unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), told)
    };
    let (code, told) = watch(8).await;
    assert_eq!(code, Some(4), "{told}");
    for part in [
        "has expired",
        "a new token is needed",
        &format!("{name} goes on"),
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    // Who was never let in does not know of any operation.
    let (code, told) = watch(-60).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(!told.contains("goes on"), "{told}");
}
