//! What one server takes of callers, and what becomes of more.

mod abuse;
mod browsers;
mod connections;
mod deadlines;
mod files;
mod floods;
mod idle;
mod places;
mod scrapes;
mod spare;

use std::time::Duration;

use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::refused;
use crate::utility::until;

/// What is there soon takes no longer, on a slow machine that does much else as well.
const SOON: Duration = Duration::from_secs(30);

async fn soon<T>(answer: impl Future<Output = T>) -> T {
    timeout(SOON, answer).await.expect("soon")
}

/// A server with these limits that does nothing but answer.
async fn serving(limits: &str) -> TestServer {
    serving_with(limits, "").await
}

/// One with more settings.
async fn serving_with(limits: &str, more: &str) -> TestServer {
    TestServer::start_with(Options {
        config: format!("[server.limits]\n{limits}\n{more}\n"),
        roles: vec!["api"],
        ..Default::default()
    })
    .await
    .unwrap()
}

/// A call that reads brands.
async fn list(client: &Client) -> Result<(), Status> {
    let request = brands::ListBrandsRequest::default();
    client.brands().list_brands(request).await.map(drop)
}

/// A call that reads no brands.
async fn list_operations(client: &Client) -> Result<(), Status> {
    let request = lro::ListOperationsRequest::default();
    client.operations().list_operations(request).await.map(drop)
}

/// Lets nobody read brands until it is let go.
struct Hold(tokio_postgres::Client);

impl Hold {
    async fn brands(server: &TestServer) -> Self {
        let owner = server.database.connect().await.unwrap();
        let lock = "BEGIN; LOCK TABLE brand IN ACCESS EXCLUSIVE MODE";
        owner.batch_execute(lock).await.unwrap();
        Hold(owner)
    }

    async fn let_go(self) {
        self.0.batch_execute("COMMIT").await.unwrap();
    }
}

/// Statements that wait for what somebody else holds.
async fn waiting(server: &TestServer) -> usize {
    let count = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    server.database.one(count).await.unwrap().parse().unwrap()
}

async fn until_waiting(server: &TestServer, count: usize) {
    until(&format!("{count} statements wait"), async || {
        waiting(server).await == count
    })
    .await;
}

/// Checks that a limit is in the way, and gives when to try again.
#[track_caller]
fn again(status: &Status, code: Code, reason: &str) -> Duration {
    refused::is(status, code, reason);
    let details = status.get_error_details();
    let retry = details.retry_info().expect("when to try again");
    let delay = retry.retry_delay.expect("when to try again");
    assert!(
        delay > Duration::ZERO && delay <= Duration::from_secs(1),
        "{delay:?}"
    );
    delay
}
