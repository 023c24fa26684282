//! The program itself: its settings, its commands, how it stops, and what it speaks besides gRPC.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Database, Options, TestServer, program};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Endpoint;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::raw;
use crate::utility::{FEW, figures, launch, until, with_utility};

/// Wrong usage or configuration.
pub const USAGE: i32 = 64;

/// Runs the program with a configuration that is wrong, while its port is taken: it must find the
/// faults before it wants the port.
pub fn refused(config: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("anklang.toml");
    std::fs::write(&file, config).unwrap();
    let output = Command::new(&program().anklang)
        .args(["serve", "--config"])
        .arg(&file)
        .env(
            "ANKLANG_SERVER__LISTEN",
            taken.local_addr().unwrap().to_string(),
        )
        .env("ANKLANG_DATABASE__URL", "postgres://127.0.0.1:1/none")
        .env("ANKLANG_DOCUMENTS__FOLDER", folder.path().join("documents"))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "it listens: {output:?}");
    assert!(!folder.path().join("documents").exists(), "it has begun");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Checks that exactly these faults are told.
#[track_caller]
pub fn names(said: &str, faults: &[&str]) {
    let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("  ")).collect();
    for fault in faults {
        assert!(
            lines.iter().any(|l| l.trim().starts_with(fault)),
            "{fault} in {said}"
        );
    }
    assert_eq!(lines.len(), faults.len(), "{said}");
}

#[test]
fn wrong_settings_are_named_all_at_once() {
    let config = "
        colour = 'blue'
        [server]
        shutdown_grace_seconds = 'soon'
        [database]
        connections = 0
        [log]
        format = 'xml'
        [channel_accounts.mail]
        sha256 = 'abc'
        ambiguous = 'perhaps'";
    let (code, said) = refused(
        config,
        &[
            ("ANKLANG_DISPATCH__POLL_MILLISECONDS", "1"),
            ("ANKLANG_PORT", "1"),
        ],
    );
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &[
            "ANKLANG_PORT: ",
            "colour: ",
            "server.shutdown_grace_seconds: ",
            "database.connections: ",
            "log.format: ",
            "dispatch.poll_milliseconds: ",
            "channel_accounts.mail.plugin: ",
            "channel_accounts.mail.sha256: ",
            "channel_accounts.mail.ambiguous: ",
        ],
    );
    let (code, said) = refused("[server", &[]);
    assert_eq!(code, USAGE, "{said}");
    let (code, said) = refused("", &[("ANKLANG_CONFIG", "/nonexistent.toml")]);
    assert_eq!(
        code, 1,
        "the file of the command line counts, so the database is asked: {said}"
    );
}

#[test]
fn wrong_plugins_are_named_all_at_once() {
    let plugins = program().plugins.display().to_string();
    let plugins = [("ANKLANG_PLUGINS__FOLDER", &plugins[..])];
    let config = format!(
        "[channel_accounts.dove]\nplugin = 'dove'\n\
         [channel_accounts.pinned]\nplugin = 'mail'\nsha256 = '{}'\n\
         [channel_accounts.relay]\nplugin = 'mail'\n\
         [channel_accounts.relay.config]\nport = 0\ntls = 'maybe'\ncolour = 'blue'\n",
        "ab".repeat(32)
    );
    let (code, said) = refused(&config, &plugins);
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &[
            "channel_accounts.dove.plugin: ",
            "channel_accounts.pinned.plugin: ",
            "channel_accounts.relay.config.colour: ",
            "channel_accounts.relay.config.host: ",
            "channel_accounts.relay.config.port: ",
            "channel_accounts.relay.config.tls: ",
        ],
    );
    for word in ["libanklang_dove.so", "SHA-256"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    // What only opening finds.
    let config = "[channel_accounts.relay]\nplugin = 'mail'\n\
                  [channel_accounts.relay.config]\nhost = 'mail.example.org'\ntls = 'none'\npassword = 'geheim'\n";
    let (code, said) = refused(config, &plugins);
    assert_eq!(code, USAGE, "{said}");
    names(&said, &["channel_accounts.relay.config: "]);
    assert!(
        said.contains("allow_plaintext") && !said.contains("geheim"),
        "{said}"
    );
}

#[tokio::test]
async fn a_pinned_plugin_is_taken() {
    let file = program().plugins.join("libanklang_mail.so");
    let pin = hex::encode(Sha256::digest(std::fs::read(&file).unwrap()));
    let config = format!(
        "[channel_accounts.pinned]\nplugin = 'mail'\nsha256 = '{pin}'\n\
         [channel_accounts.pinned.config]\nhost = '127.0.0.1'\ntls = 'none'"
    );
    let server = TestServer::start_with(Options {
        config,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = server.client("linden").await.unwrap();
    let request = pb::GetChannelAccountRequest {
        name: "channelAccounts/pinned".into(),
    };
    let mut channels = client.channels();
    let account = channels
        .get_channel_account(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((account.plugin_sha256, &account.channel[..]), (pin, "mail"));
    let listed = channels
        .list_channel_accounts(pb::ListChannelAccountsRequest::default())
        .await;
    let listed = listed.unwrap().into_inner().channel_accounts;
    let names: Vec<&str> = listed.iter().map(|a| &a.name[..]).collect();
    assert_eq!(names, ["channelAccounts/mail", "channelAccounts/pinned"]);
    let request = pb::GetChannelAccountRequest {
        name: "channelAccounts/none".into(),
    };
    crate::refused::not_found(&channels.get_channel_account(request).await.unwrap_err());
}

fn run(args: &[&str]) -> Output {
    Command::new(&program().anklang)
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn every_command_explains_itself() {
    let said = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let main = run(&["--help"]);
    assert!(main.status.success());
    for (command, words) in [
        ("serve", &["--config"][..]),
        ("migrate", &["--config", "--down", "--list"]),
        ("tenant", &["--name", "--time-zone", "Europe/Berlin"]),
        (
            "health",
            &["--server", "--service", "--token", "--ca", "--server-name"],
        ),
        (
            "import",
            &["--server", "--tenant", "--token", "--key", "contact_points"],
        ),
        ("token", &["new"]),
        ("campaigns", &["launch", "infoboard"]),
        ("cockpit", &["--json", "--tenant", "--token"]),
        ("completions", &["fish"]),
        ("demo", &["--customers", "--exit"]),
        ("config", &[]),
    ] {
        assert!(
            said(&main).contains(&format!("\n  {command} ")),
            "{command} in {}",
            said(&main)
        );
        let help = run(&[command, "--help"]);
        assert!(help.status.success(), "{command}");
        for word in words.iter().chain(&["Usage: anklang"]) {
            assert!(said(&help).contains(word), "{word} in {}", said(&help));
        }
    }
    assert!(said(&run(&["--version"])).starts_with("anklang "));
    let settings = run(&["config"]);
    assert!(said(&settings).contains("shutdown_grace_seconds = 30"));
    for wrong in [
        &["fly"][..],
        &[],
        &["serve", "--colour"],
        &["tenant", "Wrong_Slug"],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(USAGE), "{wrong:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// Puts an operation into the ledger that nobody takes up for an hour.
pub async fn sleeping_operation(server: &TestServer) -> lro::Operation {
    let id = server
        .database
        .one(
            "INSERT INTO operation (tenant_id, id, kind, resource, request, run_at)
             SELECT id, gen_random_uuid(), 'LaunchCampaign', '', '{}', now() + interval '1 hour'
             FROM tenant WHERE slug = 'linden' RETURNING id",
        )
        .await
        .unwrap();
    lro::Operation {
        name: format!("operations/{id}"),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_call_that_waits_is_answered_when_the_server_stops() {
    let mut server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let operation = sleeping_operation(&server).await;
    let wait = lro::WaitOperationRequest {
        name: operation.name.clone(),
        timeout: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
    };
    let waiting = tokio::spawn(async move { client.operations().wait_operation(wait).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    let asked = Instant::now();
    let status = server.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(
        asked.elapsed() < Duration::from_secs(18),
        "it used up its grace"
    );
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.name, answer.done), (operation.name, false));
}

#[tokio::test]
async fn mails_under_way_are_recorded_when_the_server_stops() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let members = utility.members().len();
    let slow = Fault::HangAfterDot(Duration::from_secs(1));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    let campaign = launch(&client, utility.launch())
        .await
        .campaign
        .unwrap()
        .name;
    until("mails are under way", async || {
        let under_way = figures(&client, &campaign).await.messages.unwrap();
        server.sink.count() > 0 && under_way.sending > 0
    })
    .await;
    let status = server.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    let sent = "SELECT count(*) FROM message WHERE state = 'sent'";
    let under_way = "SELECT count(*) FROM message WHERE state = 'sending'";
    assert_eq!(server.database.one(under_way).await.unwrap(), "0");
    assert_eq!(
        server.database.one(sent).await.unwrap(),
        server.sink.count().to_string()
    );

    server.sink.set_faults(Faults::none());
    server.restart().await.unwrap();
    let client = server.client("linden").await.unwrap();
    crate::utility::until_sent(&client, &campaign, members).await;
    assert_eq!(server.sink.count(), members as u64, "each once");
}

#[tokio::test]
async fn it_tells_what_it_serves_and_how_it_is() {
    let server = TestServer::start().await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = tonic::codegen::tokio_stream::once(request);
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client
        .server_reflection_info(stream)
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer else {
        panic!("a list: {answer:?}");
    };
    let listed: Vec<String> = listed.service.into_iter().map(|s| s.name).collect();
    let mut wanted: Vec<String> = raw::methods()
        .map(|m| m.parent_service().full_name().to_owned())
        .collect();
    wanted.dedup();
    assert!(wanted.len() >= 13, "{wanted:?}");
    wanted.push("grpc.health.v1.Health".into());
    for service in wanted {
        assert!(listed.contains(&service), "{service} in {listed:?}");
    }

    let mut client = HealthClient::new(channel);
    for service in ["", "database", "live"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest {
        service: "unknown".into(),
    };
    let status = client.check(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn without_its_database_it_does_not_serve() {
    let server = TestServer::start().await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let client = server.client("linden").await.unwrap();
    let admin = server
        .database
        .url
        .replace(&server.database.name, "postgres");
    let (admin, connection) = tokio_postgres::connect(&admin, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let name = &server.database.name;
    let away = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    admin.batch_execute(&away).await.unwrap();
    let mut becomes = async |wanted: ServingStatus| {
        for _ in 0..1_200 {
            let request = HealthCheckRequest {
                service: "database".into(),
            };
            if health.check(request).await.unwrap().into_inner().status() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not {wanted:?} within two minutes");
    };
    becomes(ServingStatus::NotServing).await;
    let list = brands::ListBrandsRequest::default();
    let status = client.brands().list_brands(list.clone()).await.unwrap_err();
    crate::refused::is(&status, tonic::Code::Unavailable, "UNAVAILABLE");
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert!(details.retry_info().is_some(), "{status:?}");

    let back = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    admin.batch_execute(&back).await.unwrap();
    becomes(ServingStatus::Serving).await;
    client.brands().list_brands(list).await.unwrap();
}

/// A unary call of gRPC-Web over plain HTTP/1.1, with more headers: the message and the trailers of the
/// answer.
pub async fn grpc_web(
    server: &TestServer,
    path: &str,
    headers: &str,
    message: &[u8],
) -> (Vec<u8>, String) {
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/grpc-web+proto\r\n\
         x-grpc-web: 1\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        server.addr,
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    stream
        .write_all(&[head.as_bytes(), &body].concat())
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec())
        .unwrap()
        .to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: application/grpc-web+proto"),
        "{head}"
    );
    let body = &answer[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_vec()
    };

    let (mut message, mut trailers) = (Vec::new(), head);
    let mut rest = &body[..];
    while let [flags, a, b, c, d, after @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (frame, others) = after.split_at(length);
        if flags & 0x80 == 0 {
            message = frame.to_vec();
        } else {
            trailers.push_str(std::str::from_utf8(frame).unwrap());
        }
        rest = others;
    }
    (message, trailers)
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = std::str::from_utf8(&body[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
    }
}

#[tokio::test]
async fn browsers_can_call_it() {
    let server = TestServer::start().await.unwrap();
    let (_, utility) = with_utility(&server, &[]).await;
    assert!(utility.contracts.is_empty());
    let get = |name: &str| brands::GetBrandRequest { name: name.into() }.encode_to_vec();
    let path = "anklang.brands.v1.BrandService/GetBrand";
    let tenant = "anklang-tenant: linden\r\n";
    let (message, trailers) = grpc_web(&server, path, tenant, &get("brands/linden")).await;
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    let brand = brands::Brand::decode(&message[..]).unwrap();
    assert_eq!(brand.display_name, "Lindenstrom");
    let (message, trailers) = grpc_web(&server, path, tenant, &get("brands/none")).await;
    assert!(message.is_empty());
    let status = trailers.replace(": ", ":");
    assert!(status.contains("grpc-status:5"), "{trailers}");
}

async fn tables(database: &Database) -> String {
    database
        .one(
            "SELECT coalesce(string_agg(what, ' ' ORDER BY what), '') FROM (
                 SELECT relname::text AS what FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S', 'm')
                 UNION ALL SELECT proname::text FROM pg_proc
                 WHERE pronamespace = 'public'::regnamespace) x",
        )
        .await
        .unwrap()
}

#[tokio::test]
async fn migrations_run_down_and_up_again() {
    let database = Database::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("anklang.toml");
    let text = format!(
        "[server]\nlisten = '127.0.0.1:0'\n[database]\nurl = '''{}'''\nmigrate = false\n[documents]\nfolder = '{}'\n",
        database.url,
        folder.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let migrate = |more: &[&str]| {
        let mut args = vec!["migrate", "--config", config.to_str().unwrap()];
        args.extend(more);
        let output = run(&args);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let count = migrations();
    let before = tables(&database).await;
    assert!(
        before.contains("offer") && before.contains("anklang_secure"),
        "{before}"
    );
    assert_eq!(migrate(&[]), ["nothing to do"]);
    let down = migrate(&["--down", &count.to_string()]);
    assert!(
        down.len() == count && down.iter().all(|l| l.starts_with("reverted ")),
        "{down:?}"
    );
    assert_eq!(tables(&database).await, "__diesel_schema_migrations");
    // A server that must not migrate says what is missing.
    let output = run(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("anklang migrate")
    );

    let up = migrate(&[]);
    assert!(
        up.len() == count && up.iter().all(|l| l.starts_with("ran ")),
        "{up:?}"
    );
    assert_eq!(tables(&database).await, before);
    assert_eq!(migrate(&[]), ["nothing to do"]);
}

fn migrations() -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .filter(|e| e.as_ref().unwrap().path().is_dir())
        .count()
}
