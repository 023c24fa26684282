//! Operations as a client sees them: their metadata, and their progress as a stream.

use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::operations::v1 as operations;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use prost::Message;
use tonic::{Code, Request, Status, Streaming};

use crate::campaigns::get_operation;
use crate::hold::Hold;
use crate::phases::run_sql;
use crate::refused;
use crate::utility::{Case, FEW, Utility, launched, until, with_utility};

type Progress = Streaming<operations::WatchOperationResponse>;

async fn watch(client: &Client, name: &str) -> Result<Progress, Status> {
    let request = operations::WatchOperationRequest { name: name.into() };
    let watching = client.progress().watch_operation(request).await;
    watching.map(tonic::Response::into_inner)
}

async fn next(progress: &mut Progress) -> Option<lro::Operation> {
    let soon = Duration::from_secs(120);
    let told = tokio::time::timeout(soon, progress.message()).await;
    told.expect("something is told within two minutes")
        .unwrap()
        .map(|response| response.operation.unwrap())
}

fn metadata(operation: &lro::Operation) -> operations::OperationMetadata {
    let packed = operation.metadata.as_ref().unwrap();
    assert_eq!(
        packed.type_url,
        "type.googleapis.com/anklang.operations.v1.OperationMetadata"
    );
    operations::OperationMetadata::decode(&packed.value[..]).unwrap()
}

async fn start(client: &Client, request: campaigns::LaunchCampaignRequest) -> lro::Operation {
    let started = client.campaigns().launch_campaign(request).await;
    started.unwrap().into_inner()
}

/// A launch that waits for its day.
async fn planned(client: &Client, utility: &Utility) -> lro::Operation {
    let mut request = utility.launch();
    request.schedule = Some(campaigns::PhaseSchedule {
        planned_start_date: utility.day(3),
        ..Default::default()
    });
    start(client, request).await
}

#[tokio::test]
async fn a_watched_operation_is_told_from_its_beginning_to_its_end() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    // The audience is frozen, and nothing done for the offers.
    let hold = Hold::inserts(&server, "number_range", "true").await;
    let operation = start(&client, utility.launch()).await;
    let mut progress = watch(&client, &operation.name).await.unwrap();
    let first = next(&mut progress).await.unwrap();
    assert_eq!((first.name, first.done), (operation.name.clone(), false));
    hold.reached().await;
    loop {
        let told = metadata(&next(&mut progress).await.unwrap());
        if told.phase == "offers" {
            assert_eq!((told.done, told.failed), (0, 0));
            assert!(told.total > 0, "{told:?}");
            assert_eq!(told.eta, None, "nothing is known of the rate: {told:?}");
            break;
        }
    }
    hold.release().await;
    let mut last = None;
    while let Some(told) = next(&mut progress).await {
        let metadata = metadata(&told);
        assert!(metadata.done <= metadata.total, "{metadata:?}");
        last = Some(told);
    }
    let last = last.expect("the end is told");
    assert_eq!(metadata(&last).phase, "finished");
    assert_eq!(metadata(&last).eta, None);
    let got = client.finished(&operation).await.unwrap();
    assert_eq!((&last.name, &last.metadata), (&got.name, &got.metadata));
    assert_eq!(
        launched(&last).members,
        i64::try_from(utility.members().len()).unwrap()
    );

    // One that is over is told once.
    let mut progress = watch(&client, &operation.name).await.unwrap();
    let told = next(&mut progress).await.unwrap();
    assert_eq!((told.done, told.metadata), (true, last.metadata));
    assert_eq!(next(&mut progress).await, None);
}

/// But not while it waits for its next try.
#[tokio::test]
async fn a_launch_under_way_says_when_it_will_be_done() {
    let options = Options {
        no_dispatch: true,
        ..Options::default()
    };
    let server = TestServer::start_with(options).await.unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 250)]).await;
    // Held at the end of all its letters but the first 200, and then refused.
    let last = "NEW.step = 'documents' AND OLD.done > 0 AND NEW.done > OLD.done";
    let hold = Hold::updates(&server, "operation", last).await;
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'not yet'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON operation
             FOR EACH ROW WHEN ({last}) EXECUTE FUNCTION refuse()"
    );
    run_sql(&server, &refuse).await;
    let operation = start(&client, utility.launch()).await;
    hold.reached().await;
    let look = async || metadata(&get_operation(&client, &operation.name).await.unwrap());
    let told = look().await;
    assert_eq!(
        (&told.phase[..], told.done, told.total),
        ("documents", 200, 250)
    );
    assert!(told.rate_per_second > 0.0, "{told:?}");
    let seconds = |time: Option<prost_types::Timestamp>| {
        let time = time.unwrap();
        time.seconds as f64 + f64::from(time.nanos) / 1e9
    };
    let left = seconds(told.eta) - seconds(told.update_time);
    assert!(
        (left - 50.0 / told.rate_per_second).abs() < 0.01,
        "{told:?}"
    );

    hold.release().await;
    until("it waits for its next try", async || {
        let told = look().await;
        assert_eq!((&told.phase[..], told.done), ("documents", 200));
        !told.last_errors.is_empty() && told.eta.is_none()
    })
    .await;
    run_sql(&server, "DROP TRIGGER refuse ON operation").await;
    let over = client.finished(&operation).await.unwrap();
    assert_eq!(launched(&over).members, 250);
    assert_eq!(metadata(&over).eta, None);
}

#[tokio::test]
async fn a_large_launch_lets_those_of_others_go_first() {
    let options = Options {
        operations: "workers = 1".into(),
        no_dispatch: true,
        ..Options::default()
    };
    let server = TestServer::start_with(options).await.unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 450)]).await;
    let other = server.client("nordlicht").await.unwrap();
    let small = Utility::of(FEW);
    small.import(&other).await;

    // Held at the end of its first 200 letters, of 450.
    let begun = "NEW.step = 'documents' AND OLD.done = 0 AND NEW.done > 0";
    let hold = Hold::updates(&server, "operation", begun).await;
    let large = start(&client, utility.launch()).await;
    hold.reached().await;
    let late = start(&other, small.launch()).await;
    hold.release().await;

    let late = launched(&other.finished(&late).await.unwrap());
    let large = launched(&client.finished(&large).await.unwrap());
    assert_eq!((late.members, large.members), (4, 450));
    let database = server.database.connect().await.unwrap();
    let ended = database
        .query(
            "SELECT t.slug FROM operation o JOIN tenant t ON t.id = o.tenant_id
             WHERE o.kind = 'LaunchCampaign' ORDER BY o.updated_at",
            &[],
        )
        .await
        .unwrap();
    let ended = ended.iter().map(|row| row.get(0)).collect::<Vec<String>>();
    assert_eq!(ended, ["nordlicht", "linden"]);
}

/// One worker, and two that do not have done with it at once: each lets the other go first, and gets on all the same.
#[tokio::test]
async fn two_large_launches_end_both() {
    let options = Options {
        operations: "workers = 1".into(),
        no_dispatch: true,
        ..Options::default()
    };
    let server = TestServer::start_with(options).await.unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 250)]).await;
    let other = server.client("nordlicht").await.unwrap();
    let further = Utility::of(&[(Case::Plain, 250)]);
    further.import(&other).await;

    let begun = "NEW.step = 'documents' AND OLD.done = 0 AND NEW.done > 0";
    let hold = Hold::updates(&server, "operation", begun).await;
    let one = start(&client, utility.launch()).await;
    hold.reached().await;
    let two = start(&other, further.launch()).await;
    hold.release().await;

    let one = launched(&client.finished(&one).await.unwrap());
    let two = launched(&other.finished(&two).await.unwrap());
    assert_eq!((one.members, two.members), (250, 250));
    let begun = "SELECT min(attempt) > 1 FROM operation WHERE kind = 'LaunchCampaign'";
    let begun = server.database.one(begun).await.unwrap();
    assert_eq!(begun, "t", "both have let the other one go first");
}

#[tokio::test]
async fn many_watch_on_any_server() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let further = server.further().await.unwrap();
    let there = Client::connect(further.addr, "linden").await.unwrap();
    let operation = planned(&client, &utility).await;
    let mut watching = Vec::new();
    for _ in 0..40 {
        for client in [&client, &there] {
            let mut progress = watch(client, &operation.name).await.unwrap();
            assert_eq!(
                metadata(&next(&mut progress).await.unwrap()).phase,
                "planned"
            );
            watching.push(progress);
        }
    }
    let request = lro::CancelOperationRequest {
        name: operation.name.clone(),
    };
    there.operations().cancel_operation(request).await.unwrap();
    for mut progress in watching {
        let mut last = None;
        while let Some(told) = next(&mut progress).await {
            last = Some(told);
        }
        let Some(lro::operation::Result::Error(error)) = last.unwrap().result else {
            panic!("cancelled");
        };
        assert_eq!(error.code, i32::from(Code::Cancelled));
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_server_and_with_its_deadline() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let operation = planned(&client, &utility).await;
    let mut progress = watch(&client, &operation.name).await.unwrap();
    let first = next(&mut progress).await.unwrap();
    let again = next(&mut progress).await.unwrap();
    assert_eq!(again, first, "told again although nothing moves");

    let mut request = Request::new(operations::WatchOperationRequest {
        name: operation.name.clone(),
    });
    // Of the server; the client itself waits for ever.
    let metadata = request.metadata_mut();
    metadata.insert("grpc-timeout", "1500m".parse().unwrap());
    let mut short = client.progress().watch_operation(request).await;
    let short = short.as_mut().unwrap().get_mut();
    assert!(short.message().await.unwrap().is_some());
    let status = loop {
        match short.message().await {
            Ok(told) => assert!(told.is_some(), "no end before the deadline"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");

    let stopping = tokio::spawn(async move { server.terminate().await.unwrap() });
    let status = loop {
        match progress.message().await {
            Ok(told) => assert!(told.is_some(), "no end without an error"),
            Err(status) => break status,
        }
    };
    refused::is(&status, Code::Unavailable, "UNAVAILABLE");
    stopping.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    for wrong in ["", "operations/1", "campaigns/x"] {
        refused::names(&watch(&client, wrong).await.unwrap_err(), &["name"]);
    }
    let nobodys = format!("operations/{}", uuid::Uuid::now_v7());
    refused::not_found(&watch(&client, &nobodys).await.unwrap_err());
}
