//! Pages of other origins that call by gRPC-Web.

use anklang_proto::anklang::brands::v1 as brands;
use anklang_testkit::{Options, TestServer};
use prost::Message;

use crate::probe::http;
use crate::server::grpc_web;

const LIST: &str = "anklang.brands.v1.BrandService/ListBrands";
const LISTED: &str = "https://app.example.com";
const STRANGE: &str = "https://evil.example";

async fn serving(origins: &str) -> TestServer {
    let server = TestServer::start_with(Options {
        roles: vec!["api"],
        wrapper: vec![
            "env".into(),
            format!("ANKLANG_SERVER__CORS_ORIGINS={origins}"),
        ],
        ..Default::default()
    });
    let server = server.await.unwrap();
    server.add_tenant("linden").await.unwrap();
    server
}

/// What a browser asks before it sends a call: status and head of the answer, in small letters.
async fn preflight(server: &TestServer, path: &str, origin: &str) -> (u16, String) {
    let headers = format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: anklang-tenant,authorization,content-type,x-grpc-web\r\n"
    );
    let (status, answer) = http(server.addr, "OPTIONS", path, &headers, "").await;
    (status, answer.to_lowercase().replace(": ", ":"))
}

/// The head and the trailers of a call of a page.
async fn call(server: &TestServer, origin: &str) -> String {
    let headers = format!("anklang-tenant: linden\r\norigin: {origin}\r\n");
    let request = brands::ListBrandsRequest::default().encode_to_vec();
    let (_, told) = grpc_web(server, LIST, &headers, &request).await;
    told.replace(": ", ":")
}

fn allowed(origin: &str) -> String {
    format!("access-control-allow-origin:{origin}")
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_and_others_may_not() {
    let server = serving("[\"https://app.example.com\", \"http://localhost:8080\"]").await;
    let path = format!("/{LIST}");
    let (status, head) = preflight(&server, &path, LISTED).await;
    assert_eq!(status, 200, "{head}");
    assert!(head.contains(&allowed(LISTED)), "{head}");
    assert!(head.contains("access-control-allow-methods:post"), "{head}");
    for header in [
        "anklang-tenant",
        "authorization",
        "content-type",
        "x-grpc-web",
    ] {
        let allowed = head
            .lines()
            .find(|l| l.starts_with("access-control-allow-headers:"));
        assert!(allowed.unwrap().contains(header), "{header} in {head}");
    }
    // Neither cookies nor certificates go along.
    assert!(!head.contains("allow-credentials"), "{head}");
    let (_, head) = preflight(&server, &path, "http://localhost:8080").await;
    assert!(head.contains(&allowed("http://localhost:8080")), "{head}");

    let told = call(&server, LISTED).await;
    assert!(told.contains(&allowed(LISTED)), "{told}");
    assert!(told.contains("grpc-status:0"), "{told}");
    let exposed = told
        .lines()
        .find(|l| l.starts_with("access-control-expose-headers:"));
    assert!(exposed.unwrap().contains("grpc-status"), "{told}");

    let (_, head) = preflight(&server, &path, STRANGE).await;
    assert!(!head.contains("access-control-allow-origin"), "{head}");
    let told = call(&server, STRANGE).await;
    assert!(!told.contains("access-control-allow-origin"), "{told}");
    // Recipients' pages are for nobody to call.
    let (_, head) = preflight(&server, "/u/nonsense", LISTED).await;
    assert!(!head.contains("access-control-allow-origin"), "{head}");
}

#[tokio::test]
async fn without_a_list_no_page_may_call() {
    let server = serving("[]").await;
    let (status, head) = preflight(&server, &format!("/{LIST}"), LISTED).await;
    assert!(status >= 400, "{head}");
    assert!(!head.contains("access-control"), "{head}");
    let told = call(&server, LISTED).await;
    assert!(!told.contains("access-control"), "{told}");
    assert!(told.contains("grpc-status:0"), "{told}");
}
