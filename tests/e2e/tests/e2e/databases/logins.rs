//! Servers that log in by another login than the migrations': they own nothing, and have the roles alone.

use std::ffi::OsStr;

use anklang_local::cluster::{Cluster, Options as ClusterOptions};
use anklang_testkit::{Options, TestServer, program};
use serde_json::json;

use super::{NAME, database, room};
use crate::audit;
use crate::identity::{knows, new_token};
use crate::mailing::until;
use crate::raw::Raw;
use crate::story;

/// The migration that grants what such a login lacked.
const GRANTS: &str =
    include_str!("../../../../../migrations/2026-11-23-004200_servers_login/up.sql");

const OLD: &str = "INSERT INTO audit_entry (tenant_id, at, caller, method, resources, request_hash)
    SELECT id, now() - interval '40 days', 'tokens/old', '/x/Y', ARRAY['customers/1'],
           decode(repeat('00', 32), 'hex')
    FROM tenant, generate_series(1, 5)";

#[tokio::test]
async fn a_server_whose_login_owns_nothing_does_all_of_its_work() {
    let room = room();
    let cluster = ClusterOptions::test(room.path().join("postgresql"));
    let cluster = Cluster::start(cluster).await.unwrap();
    let url = |login: &str| {
        let superuser = cluster.url(NAME);
        superuser.replace("user=anklang", &format!("user={login}"))
    };
    let admin = database(cluster.url("postgres")).connect().await.unwrap();
    for sql in [
        "CREATE ROLE owner LOGIN CREATEROLE",
        "CREATE ROLE server LOGIN",
        "CREATE DATABASE anklang OWNER owner",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let config = room.path().join("migrate.toml");
    std::fs::write(&config, format!("[database]\nurl = \"{}\"\n", url("owner"))).unwrap();
    let migrate = [
        OsStr::new("migrate"),
        OsStr::new("--config"),
        config.as_os_str(),
    ];
    program().run(migrate).await.unwrap();
    // As an operator did it when there were two roles, who then migrated on.
    let owner = database(url("owner")).connect().await.unwrap();
    let grant = "GRANT anklang_app, anklang_worker TO server";
    owner.batch_execute(grant).await.unwrap();
    owner.batch_execute(GRANTS).await.unwrap();

    // Before there were the grants nobody else could look.
    admin
        .batch_execute("CREATE ROLE stranger LOGIN")
        .await
        .unwrap();
    let by_stranger = format!("[database]\nurl = \"{}\"\n", url("stranger"));
    std::fs::write(&config, by_stranger).unwrap();
    for more in [None, Some("--list")] {
        let words = migrate.into_iter().chain(more.map(OsStr::new));
        let said = program().run(words).await.unwrap_err().to_string();
        assert!(
            said.contains("run `anklang migrate` as their owner"),
            "{said}"
        );
    }

    let (token, agency) = (new_token(), new_token());
    // It may migrate, by default, and finds nothing to do.
    let options = Options {
        login: Some(url("server")),
        config: format!(
            "[audit]\nkeep_days = 30\n[auth]\nmode = \"token\"\n{}{}org_units = ['north']\n",
            knows("own", &token, &["*"], &["central"]),
            knows("agency", &agency, &["linden"], &["agency"])
        ),
        token: Some(token),
        ..Default::default()
    };
    let mut server = TestServer::start_on(database(url("owner")), options)
        .await
        .unwrap();
    // The first of the log, as the chain goes from its beginning.
    server.add_tenant("linden").await.unwrap();
    owner.batch_execute(OLD).await.unwrap();
    // Tenant, imports, selection, launch, mails with letters, answers.
    story::told_by(&server).await;
    // A caller who is bound to org units is served under a role of its own.
    let bound = Raw::connect(server.addr).await.bearing(&agency);
    let list = "anklang.customers.v1.CustomerService/ListCustomers";
    let listed = bound.call(None, list, &json!({})).await.unwrap();
    let customers = listed["customers"].as_array();
    assert!(customers.is_none_or(Vec::is_empty), "{listed}");

    audit::sealed(&server).await;
    // It looks for what is too old when it starts.
    server.restart().await.unwrap();
    until("old entries are gone", async || {
        let left = "SELECT count(*) FROM audit_entry WHERE caller = 'tokens/old'";
        server.database.one(left).await.unwrap() == "0"
    })
    .await;
    // One that only looks finds the same.
    let further = server.further_with("ANKLANG_DATABASE__MIGRATE=false");
    further.await.unwrap().terminate().await.unwrap();
    let log = server.log();
    assert!(!log.contains("permission denied"), "{log}");
    assert!(!log.contains("row-level security"), "{log}");
}
