//! The doors of a server besides gRPC's calls: health, reflection, browsers, recipients and providers, the
//! program's own commands.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::process::{Command, Output};

use anklang_proto::anklang::brands::v1 as brands;
use anklang_testkit::{TestServer, program};
use prost::Message;
use tonic::codegen::Service;
use tonic::codegen::http::{Request as HttpRequest, StatusCode};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::{UPDATE, guarded, knows, list, new_token, nobody};
use crate::probe::http;
use crate::server::grpc_web;

async fn channel(addr: SocketAddr) -> Channel {
    let endpoint = Endpoint::try_from(format!("http://{addr}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// A request with a token, if there is one.
fn of<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

/// How the server says it is.
async fn health(addr: SocketAddr, token: Option<&str>) -> Result<ServingStatus, Status> {
    let request = of(HealthCheckRequest::default(), token);
    let answer = HealthClient::new(channel(addr).await)
        .check(request)
        .await?;
    Ok(answer.into_inner().status())
}

/// The same, as it begins to tell whenever that changes.
async fn watched(addr: SocketAddr, token: Option<&str>) -> Result<ServingStatus, Status> {
    let request = of(HealthCheckRequest::default(), token);
    let answer = HealthClient::new(channel(addr).await)
        .watch(request)
        .await?;
    let first: Option<HealthCheckResponse> = answer.into_inner().message().await?;
    Ok(first.unwrap().status())
}

/// Whether reflection says anything.
async fn reflection(addr: SocketAddr, token: Option<&str>) -> Result<bool, Status> {
    let asks = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let request = of(tonic::codegen::tokio_stream::once(asks), token);
    let mut client = ServerReflectionClient::new(channel(addr).await);
    let answer = client.server_reflection_info(request).await?;
    let first = answer.into_inner().message().await?;
    Ok(first.is_some_and(|answer| answer.message_response.is_some()))
}

#[tokio::test]
async fn health_is_open_and_reflection_is_not() {
    let token = new_token();
    let (server, _) = guarded("", &knows("erp", &token, &["linden"], &["auditor"])).await;
    let addr = server.addr;
    for who in [None, Some(&token[..])] {
        assert_eq!(health(addr, who).await.unwrap(), ServingStatus::Serving);
        assert_eq!(watched(addr, who).await.unwrap(), ServingStatus::Serving);
    }
    nobody(&reflection(addr, None).await.unwrap_err(), "");
    let wrong = new_token();
    nobody(&reflection(addr, Some(&wrong)).await.unwrap_err(), &wrong);
    assert!(reflection(addr, Some(&token)).await.unwrap());
    assert!(ask_health(&server, "").status.success());
}

#[tokio::test]
async fn health_can_be_closed_and_reflection_open() {
    let token = new_token();
    let known = knows("probe", &token, &["linden"], &["auditor"]);
    let (server, _) = guarded("open_health = false\nopen_reflection = true", &known).await;
    let addr = server.addr;
    nobody(&health(addr, None).await.unwrap_err(), "");
    nobody(&watched(addr, None).await.unwrap_err(), "");
    let wrong = new_token();
    nobody(&health(addr, Some(&wrong)).await.unwrap_err(), &wrong);
    let known = Some(&token[..]);
    assert_eq!(health(addr, known).await.unwrap(), ServingStatus::Serving);
    assert_eq!(watched(addr, known).await.unwrap(), ServingStatus::Serving);
    for who in [None, known] {
        assert!(reflection(addr, who).await.unwrap());
    }
    assert_eq!(ask_health(&server, "").status.code(), Some(1));
    let told = ask_health(&server, &token);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    assert_eq!(String::from_utf8_lossy(&told.stdout), "SERVING\n");
}

fn ask_health(server: &TestServer, token: &str) -> Output {
    Command::new(&program().anklang)
        .args(["health", "--server", &format!("http://{}", server.addr)])
        .env("ANKLANG_TOKEN", token)
        .output()
        .unwrap()
}

/// The status of a call of gRPC-Web, and its message.
async fn web(
    server: &TestServer,
    method: &str,
    token: Option<&str>,
    tenant: Option<&str>,
    request: &[u8],
) -> (Code, Vec<u8>) {
    let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let tenant = tenant.map(|tenant| format!("anklang-tenant: {tenant}\r\n"));
    let headers = [bearer, tenant].map(Option::unwrap_or_default).concat();
    let path = format!("anklang.brands.v1.BrandService/{method}");
    let (message, trailers) = grpc_web(server, &path, &headers, request).await;
    let trailers = trailers.replace(": ", ":");
    let (_, status) = trailers.split_once("grpc-status:").expect("a status");
    let status = status.split("\r\n").next().unwrap();
    (Code::from_bytes(status.as_bytes()), message)
}

#[tokio::test]
async fn browsers_carry_tokens() {
    let (auditor, central) = (new_token(), new_token());
    let trusts = [
        knows("auditor", &auditor, &["linden"], &["auditor"]),
        knows("central", &central, &["linden"], &["central"]),
    ];
    let (server, _) = guarded("", &trusts.concat()).await;
    let (auditor, central) = (Some(&auditor[..]), Some(&central[..]));
    let name = "brands/linden".into();
    let get = brands::GetBrandRequest { name }.encode_to_vec();
    for tenant in [None, Some("linden")] {
        let (code, message) = web(&server, "GetBrand", auditor, tenant, &get).await;
        assert_eq!(code, Code::Ok);
        let brand = brands::Brand::decode(&message[..]).unwrap();
        assert_eq!(brand.display_name, "linden");
    }
    for (method, token, tenant, wanted) in [
        ("GetBrand", None, Some("linden"), Code::Unauthenticated),
        (
            "GetBrand",
            Some("a.b.c"),
            Some("linden"),
            Code::Unauthenticated,
        ),
        ("GetBrand", auditor, Some("other"), Code::PermissionDenied),
        (
            "UpdateBrand",
            auditor,
            Some("linden"),
            Code::PermissionDenied,
        ),
        (
            "UpdateBrand",
            central,
            Some("linden"),
            Code::InvalidArgument,
        ),
        // What is not there is told to those alone who may do everything.
        ("GuessBrand", None, Some("linden"), Code::Unauthenticated),
        (
            "GuessBrand",
            auditor,
            Some("linden"),
            Code::PermissionDenied,
        ),
        ("GuessBrand", central, Some("linden"), Code::Unimplemented),
    ] {
        let (code, message) = web(&server, method, token, tenant, &[]).await;
        assert_eq!(code, wanted, "{method} with {token:?} for {tenant:?}");
        assert!(message.is_empty());
    }
}

#[tokio::test]
async fn recipients_and_providers_have_no_tokens() {
    let (server, _) = guarded("", "").await;
    let (status, page) = http(server.addr, "GET", "/u/none", "", "").await;
    assert_eq!(status, 404);
    assert!(page.contains("Link ungültig"), "{page}");
    let path = "/channels/linden/none/events";
    let (status, answer) = http(server.addr, "POST", path, "", "{}").await;
    assert_eq!(status, 404, "{answer}");
    assert!(!answer.contains("grpc-status"), "{answer}");
}

#[tokio::test]
async fn the_program_imports_with_a_token() {
    let (service, auditor) = (new_token(), new_token());
    let trusts = [
        knows("service", &service, &["linden"], &["service"]),
        knows("auditor", &auditor, &["linden"], &["auditor"]),
    ];
    let (server, raw) = guarded("", &trusts.concat()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("brands.csv");
    std::fs::write(&file, "code,name,sender_email\nnew,New,post@sw.example\n").unwrap();
    let import = |args: &[&str], variable: &str| {
        let output = Command::new(&program().anklang)
            .args(["import", "--server", &format!("http://{}", server.addr)])
            .args(["--tenant", "linden", "brands"])
            .arg(&file)
            .args(args)
            .env("ANKLANG_TOKEN", variable)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let none: &[&str] = &[];
    for (args, variable) in [
        (none, ""),
        (none, "anklang_wrong"),
        (none, &auditor[..]),
        (&["--token", &auditor], ""),
        (&["--token", &auditor], &service[..]),
    ] {
        let (code, said) = import(args, variable);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            !said.contains(&auditor) && !said.contains(&service),
            "{said}"
        );
    }
    let auditor = raw.bearing(&auditor);
    assert_eq!(list(&auditor, None).await.unwrap(), ["linden"]);
    for (args, variable) in [(none, &service[..]), (&["--token", &service], "")] {
        let (code, said) = import(args, variable);
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains(&service), "{said}");
    }
    assert_eq!(list(&auditor, None).await.unwrap(), ["linden", "new"]);
}

/// Browsers show certificates of their own accord, to a page of anybody.
#[tokio::test]
async fn what_any_page_can_send_is_no_call() {
    let token = new_token();
    let (server, _) = guarded("", &knows("crm", &token, &["linden"], &["central"])).await;
    let status = async |content_type: Option<&str>| {
        let mut channel = channel(server.addr).await;
        let mut request = HttpRequest::post(format!("http://{}/{UPDATE}", server.addr))
            .header("authorization", format!("Bearer {token}"));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(tonic::body::Body::empty()).unwrap();
        poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        channel.call(request).await.unwrap().status()
    };
    for content_type in [None, Some("text/plain"), Some("multipart/form-data")] {
        let told = status(content_type).await;
        assert_eq!(told, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
    }
    // The message is missing, but it is a call.
    assert_eq!(status(Some("application/grpc")).await, StatusCode::OK);
}
