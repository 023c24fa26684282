//! Servers of different roles on one database, and how one leaves.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::campaigns::v1::PhaseState;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer, program};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::campaigns::phases;
use crate::phases::until_state;
use crate::utility::{FEW, launched, until, until_sent, with_utility};

pub async fn health(addr: SocketAddr, service: &str) -> ServingStatus {
    let endpoint = Endpoint::try_from(format!("http://{addr}")).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let request = HealthCheckRequest {
        service: service.into(),
    };
    health.check(request).await.unwrap().into_inner().status()
}

async fn list(client: &Client) -> Result<(), tonic::Status> {
    let request = brands::ListBrandsRequest::default();
    client.brands().list_brands(request).await.map(drop)
}

#[tokio::test]
async fn servers_of_different_roles_do_a_launch_together() {
    let server = TestServer::start_with(Options {
        roles: vec!["api"],
        ..Default::default()
    })
    .await
    .unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let members = utility.members().len();
    let asked = client.campaigns().launch_campaign(utility.launch()).await;
    let operation = asked.unwrap().into_inner();

    // Alone, the one that answers calls begins nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let request = lro::GetOperationRequest {
        name: operation.name.clone(),
    };
    let found = client.operations().get_operation(request).await.unwrap();
    assert!(!found.get_ref().done);
    let begun = "SELECT count(*) FROM operation WHERE attempt > 0";
    assert_eq!(server.database.one(begun).await.unwrap(), "0");

    // A worker takes it up and sends. It answers no calls.
    let worker = server.further_as(&["worker"]).await.unwrap();
    let over = client.finished(&operation).await.unwrap();
    let campaign = launched(&over).campaign.unwrap().name;
    until_sent(&client, &campaign, members).await;
    assert_eq!(server.sink.count(), members as u64, "each once");
    for service in ["", "database", "live"] {
        let status = health(worker.addr, service).await;
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let refused = list(&Client::connect(worker.addr, "linden").await.unwrap()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);

    // Time does not pass for phases until there is a scheduler.
    let ended = "WITH gone AS (UPDATE offer SET valid_until = current_date - 2 RETURNING 1)
                 SELECT count(*) FROM gone";
    assert_eq!(
        server.database.one(ended).await.unwrap(),
        members.to_string()
    );
    let phase = phases(&client, &campaign).await.remove(0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        phases(&client, &campaign).await[0].state(),
        PhaseState::Active
    );
    let scheduler = server.further_as(&["scheduler"]).await.unwrap();
    until_state(&client, &phase.name, PhaseState::Completed).await;
    assert_eq!(health(scheduler.addr, "").await, ServingStatus::Serving);
}

#[tokio::test]
async fn one_that_leaves_says_so_before_it_stops_taking_calls() {
    const DRAIN: &str = "ANKLANG_SERVER__DRAIN_SECONDS=15";
    let mut server = TestServer::start_with(Options {
        wrapper: vec!["env".into(), DRAIN.into()],
        ..Default::default()
    })
    .await
    .unwrap();
    let client = server.client("linden").await.unwrap();
    list(&client).await.unwrap();
    assert_eq!(health(server.addr, "").await, ServingStatus::Serving);
    assert_eq!(ask_health(server.addr, "").status.code(), Some(0));

    server.signal("TERM").unwrap();
    until("health tells that it stops", async || {
        health(server.addr, "").await == ServingStatus::NotServing
    })
    .await;
    assert_eq!(health(server.addr, "live").await, ServingStatus::Serving);
    let told = ask_health(server.addr, "");
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&told.stdout), "NOT_SERVING\n");
    // Whoever has not heard of it is still served, on connections that are there and on new ones.
    list(&client).await.unwrap();
    let late = Client::connect(server.addr, "linden").await.unwrap();
    list(&late).await.unwrap();

    let status = server.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert_eq!(ask_health(server.addr, "").status.code(), Some(1));
}

fn ask_health(addr: SocketAddr, service: &str) -> Output {
    Command::new(&program().anklang)
        .args(["health", "--server", &format!("http://{addr}")])
        .args(["--service", service])
        .output()
        .unwrap()
}
