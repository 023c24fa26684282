//! The client in Rust, as callers use it.

mod between;
mod busy;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anklang_client::proto::anklang::brands::v1 as brands;
use anklang_client::proto::anklang::campaigns::v1 as campaigns;
use anklang_client::proto::anklang::common::v1::ErrorReason;
use anklang_client::proto::anklang::customers::v1 as customers;
use anklang_client::proto::anklang::imports::v1::ImportEntity;
use anklang_client::proto::anklang::operations::v1::OperationMetadata;
use anklang_client::proto::anklang::selections::v1 as selections;
use anklang_client::proto::google::longrunning as lro;
use anklang_client::{Builder, Client, Error, Retries};
use anklang_testkit::{Options, TestServer};
use campaigns::LaunchCampaignResponse as Launched;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::hold::Hold;
use crate::selections::{equal, selection};
use crate::tls::certificates::{Authority, Mount};
use crate::utility::{FEW, until, with_utility};
use between::Between;
use busy::{BUSY_FOR, Busy};

fn client_of(addr: SocketAddr) -> Builder {
    Client::builder(format!("http://{addr}")).tenant("linden")
}

/// Tries often enough for a server that comes back.
fn patient(addr: SocketAddr) -> Builder {
    let retries = Retries {
        attempts: 1_000,
        longest_wait: Duration::from_millis(500),
        ..Retries::default()
    };
    client_of(addr)
        .retries(retries)
        .deadline(Duration::from_secs(120))
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let mut server = TestServer::start().await.unwrap();
    let importer = server.client("linden").await.unwrap();
    let wanted: Vec<String> = (0..7).map(|i| format!("K{i}")).collect();
    let rows: String = wanted
        .iter()
        .map(|number| format!("{number},person,Muster\n"))
        .collect();
    let csv = format!("number,kind,last_name\n{rows}");
    importer.import(ImportEntity::Customers, csv).await.unwrap();

    let once = client_of(server.addr).retries(Retries::none());
    let client = once.connect().await.unwrap();
    let request = |page_size| customers::ListCustomersRequest {
        page_size,
        ..Default::default()
    };
    for page_size in [1, 3, 7, 8] {
        let all: Vec<customers::Customer> = client
            .list_all(request(page_size))
            .try_collect()
            .await
            .unwrap();
        let numbers: Vec<String> = all.into_iter().map(|customer| customer.number).collect();
        assert_eq!(numbers, wanted, "pages of {page_size}");
    }

    // A page is there when it is asked for, and not before.
    let mut all = client.list_all(request(3));
    for number in &wanted[..3] {
        assert_eq!(&all.try_next().await.unwrap().unwrap().number, number);
    }
    server.kill();
    let gone = all.try_next().await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable, "{gone}");
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_done_once() {
    let mut server = TestServer::start().await.unwrap();
    server.add_tenant("linden").await.unwrap();
    let between = Between::start(server.addr, true).await;
    let client = patient(between.addr).connect().await.unwrap();
    let call = tokio::spawn(async move {
        let all = equal("supply_status", "AU");
        let request = selections::CreateSelectionRequest {
            selection: Some(selection(selections::Subject::Contract, all)),
            ..Default::default()
        };
        client.selections().create_selection(request).await
    });
    let count = "SELECT count(*) FROM selection";
    until("the selection is made", async || {
        server.database.one(count).await.unwrap() == "1"
    })
    .await;
    between.goes_to(server.addr);
    server.kill();
    server.restart().await.unwrap();
    between.goes_to(server.addr);

    let made = call.await.unwrap().unwrap().into_inner();
    let request = selections::ListSelectionsRequest::default();
    let client = client_of(server.addr).connect().await.unwrap();
    let all: Vec<selections::Selection> = client.list_all(request).try_collect().await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].name, made.name);
}

#[tokio::test]
async fn a_change_without_an_answer_is_told_with_its_id() {
    let server = TestServer::start().await.unwrap();
    server.add_tenant("linden").await.unwrap();
    let between = Between::start(server.addr, true).await;
    let impatient = client_of(between.addr).deadline(Duration::from_secs(3));
    let client = impatient.connect().await.unwrap();
    let mut request = selections::CreateSelectionRequest {
        selection: Some(selection(
            selections::Subject::Contract,
            equal("supply_status", "AU"),
        )),
        ..Default::default()
    };
    let call = client.selections().create_selection(request.clone()).await;
    let error = Error::from(call.unwrap_err());
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    request.request_id = error.request_id().unwrap().to_owned();

    let client = client_of(server.addr).connect().await.unwrap();
    let again = client.selections().create_selection(request).await;
    let made = again.unwrap().into_inner();
    let all = client.list_all(selections::ListSelectionsRequest::default());
    let all: Vec<selections::Selection> = all.try_collect().await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].name, made.name);
    // What was refused was not done.
    let wrong = selections::CreateSelectionRequest::default();
    let refused = client.selections().create_selection(wrong).await;
    let refused = Error::from(refused.unwrap_err());
    assert_eq!(
        (refused.code(), refused.request_id()),
        (Code::InvalidArgument, None)
    );
}

#[tokio::test]
async fn answers_that_are_too_large_are_not_taken() {
    let server = TestServer::start().await.unwrap();
    let importer = server.client("linden").await.unwrap();
    let rows: String = (0..200).map(|i| format!("K{i},person,Muster\n")).collect();
    let csv = format!("number,kind,last_name\n{rows}");
    importer.import(ImportEntity::Customers, csv).await.unwrap();
    let small = client_of(server.addr).max_answer_bytes(4_000);
    let client = small.connect().await.unwrap();
    let listed = async |page_size| {
        let request = customers::ListCustomersRequest {
            page_size,
            ..Default::default()
        };
        let all: Result<Vec<_>, Error> = client.list_all(request).try_collect().await;
        all
    };
    let error = listed(200).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
    assert_eq!(listed(5).await.unwrap().len(), 200);
}

#[tokio::test]
async fn an_operation_is_waited_for_while_servers_come_and_go() {
    let mut server = TestServer::start().await.unwrap();
    let (_, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "number_range", "true").await;
    let between = Between::start(server.addr, false).await;
    let client = patient(between.addr).connect().await.unwrap();
    let launch = client.campaigns().launch_campaign(utility.launch()).await;
    let operation = launch.unwrap().into_inner();
    let phases = Arc::new(Mutex::new(Vec::<String>::new()));
    let waiting = tokio::spawn({
        let phases = phases.clone();
        async move {
            let tell = |at: OperationMetadata| phases.lock().unwrap().push(at.phase);
            client.wait::<Launched>(&operation, tell).await
        }
    });
    hold.reached().await;
    until("it is told where it is", async || {
        phases.lock().unwrap().iter().any(|phase| phase == "offers")
    })
    .await;
    server.kill();
    hold.release().await;
    server.restart().await.unwrap();
    between.goes_to(server.addr);
    let launched = waiting.await.unwrap().unwrap();
    assert_eq!(
        launched.members,
        i64::try_from(utility.members().len()).unwrap()
    );
    let last = phases.lock().unwrap().pop();
    assert_eq!(last.as_deref(), Some("finished"));

    // One that comes to nothing is an error.
    let client = client_of(server.addr).connect().await.unwrap();
    let mut request = utility.launch();
    request.schedule = Some(campaigns::PhaseSchedule {
        planned_start_date: utility.day(3),
        ..Default::default()
    });
    let planned = client.campaigns().launch_campaign(request).await.unwrap();
    let operation = planned.into_inner();
    let request = lro::CancelOperationRequest {
        name: operation.name.clone(),
    };
    client.operations().cancel_operation(request).await.unwrap();
    let nothing = client.wait::<Launched>(&operation, |_| ()).await;
    let error = nothing.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Cancelled, ErrorReason::Cancelled)
    );
}

#[tokio::test]
async fn a_server_that_says_when_is_not_asked_before() {
    for changes in [false, true] {
        let busy = Busy::default();
        let client = client_of(busy.start().await).connect().await.unwrap();
        if changes {
            let request = brands::UpdateBrandRequest::default();
            client.brands().update_brand(request).await.unwrap();
        } else {
            let request = brands::ListBrandsRequest::default();
            client.brands().list_brands(request).await.unwrap();
        }
        let came = busy.came();
        assert_eq!(came.len(), 3, "{came:?}");
        for pair in came.windows(2) {
            let [before, after] = pair else {
                unreachable!("pairs");
            };
            assert!(after.at - before.at >= BUSY_FOR, "{came:?}");
            let waited = u64::try_from(BUSY_FOR.as_micros()).unwrap();
            assert!(after.left + waited <= before.left, "one deadline: {came:?}");
            assert_eq!(after.request_id, before.request_id);
        }
        let id = uuid::Uuid::try_parse(&came[0].request_id);
        assert_eq!(id.is_ok(), changes, "{came:?}");
    }
}

#[tokio::test]
async fn nobody_waits_beyond_the_deadline() {
    let busy = Busy::default();
    let hasty = client_of(busy.start().await).deadline(BUSY_FOR * 2 / 3);
    let client = hasty.connect().await.unwrap();
    let request = brands::ListBrandsRequest::default();
    let error = Error::from(client.brands().list_brands(request).await.unwrap_err());
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert_eq!(error.retry_after(), Some(BUSY_FOR));
    assert_eq!(busy.came().len(), 1);

    // Nor for what would not become better.
    let request = brands::GetBrandRequest::default();
    let status = client.brands().get_brand(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn all_that_is_wrong_is_told_by_field() {
    let server = TestServer::start().await.unwrap();
    server.add_tenant("linden").await.unwrap();
    let client = client_of(server.addr).connect().await.unwrap();
    let request = brands::UpdateBrandRequest {
        brand: Some(brands::Brand {
            code: "linden".into(),
            sender_email: "x".into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let status = client.brands().update_brand(request).await.unwrap_err();
    let error = Error::from(status);
    assert_eq!(
        (error.code(), error.reason()),
        (Code::InvalidArgument, ErrorReason::InvalidArgument)
    );
    let violations = error.violations();
    let fields: Vec<&str> = violations.iter().map(|v| &v.field[..]).collect();
    assert_eq!(fields, ["brand.display_name", "brand.sender_email"]);
    assert!(violations.iter().all(|v| !v.description.is_empty()));

    // Nobody has heard of that tenant.
    let nobody = client.for_tenant("nobody").unwrap();
    let request = brands::ListBrandsRequest::default();
    let status = nobody.brands().list_brands(request).await.unwrap_err();
    assert_eq!(Error::from(status).reason(), ErrorReason::TenantRequired);
}

async fn lists(client: &Client) -> Result<usize, Error> {
    let request = brands::ListBrandsRequest::default();
    let all: Vec<brands::Brand> = client.list_all(request).try_collect().await?;
    Ok(all.len())
}

#[tokio::test]
async fn certificates_and_tokens_are_shown() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let signed = authority.sign_for(&["anklang.example"]);
    let mount = Mount::new(&signed, &callers.pem);
    let tls = mount.settings(&format!(
        "client_ca = '{}'\nrequire_client_certificate = true",
        mount.file("ca.crt").display()
    ));
    let good = "anklang_of-the-rust-client-of-the-rust-client-of-th";
    let server = TestServer::start_with(Options {
        config: format!(
            "{tls}[auth]\nmode = 'token'\n\
             [auth.tokens.crm]\nsha256 = '{}'\ntenants = ['linden']\nroles = ['central']\n",
            hex::encode(Sha256::digest(good))
        ),
        ..Default::default()
    })
    .await
    .unwrap();
    server.add_tenant("linden").await.unwrap();
    let mine = callers.sign();
    let trusting = || {
        Client::builder(format!("https://{}", server.addr))
            .ca(&authority.pem)
            .server_name("anklang.example")
            .retries(Retries::none())
    };
    let showing = || trusting().identity(&mine.certificate, &mine.key);

    // The token is for one tenant, which need not be named.
    let fixed = showing().token(good).connect().await.unwrap();
    assert_eq!(lists(&fixed).await.unwrap(), 0);
    let nobody = showing().connect().await.unwrap();
    let error = lists(&nobody).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::Unauthenticated);

    // One that is asked for holds from then on.
    let token = Arc::new(Mutex::new(good));
    let asked = showing().token_from({
        let token = token.clone();
        move || {
            let token = *token.lock().unwrap();
            async move {
                match token {
                    "" => Err("the vault is closed"),
                    token => Ok(token.to_owned()),
                }
            }
        }
    });
    let client = asked.connect().await.unwrap();
    assert_eq!(lists(&client).await.unwrap(), 0);
    *token.lock().unwrap() = "anklang_of-somebody-else";
    let error = lists(&client).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::Unauthenticated);
    *token.lock().unwrap() = "";
    let error = lists(&client).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().contains("the vault is closed"), "{error}");
    *token.lock().unwrap() = good;
    assert_eq!(lists(&client).await.unwrap(), 0);

    // Without the certificate, the name or the authority nobody gets anywhere.
    let address = format!("https://{}", server.addr);
    for stranger in [
        trusting(),
        showing().server_name("elsewhere.example"),
        showing().ca(&callers.pem),
        Client::builder(address).identity(&mine.certificate, &mine.key),
    ] {
        let came = stranger
            .token(good)
            .retries(Retries::none())
            .connect()
            .await;
        if let Ok(client) = came {
            let error = lists(&client).await.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{error}");
        }
    }
}
