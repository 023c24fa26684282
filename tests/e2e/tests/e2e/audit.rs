//! The audit log: who did what when to what. Its chain: `chain`; what is done to it behind the server's back:
//! `tampering`; what goes as it is old: `retention`; who gets work: `work`.

mod chain;
mod retention;
mod tampering;
mod work;

use std::collections::BTreeSet;

use anklang_proto::anklang::audit::v1 as pb;
use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::imports::v1::{ImportEntity, ImportHeader};
use anklang_testkit::{Client, TestServer, program};
use serde_json::json;
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::changes::changes;
use crate::identity::{brand, guarded, knows, lacking, new_token, update};
use crate::raw::{self, Raw};
use crate::refused;
use crate::utility::{FEW, until, with_utility};
use crate::world::populate;

const LIST: &str = "anklang.audit.v1.AuditService/ListAuditEntries";
const UPDATE: &str = "/anklang.brands.v1.BrandService/UpdateBrand";
const IMPORT: &str = "/anklang.imports.v1.ImportService/Import";

/// Waits until all that was written to the log is sealed.
pub async fn sealed(server: &TestServer) {
    until("the audit log is sealed", async || {
        let open = "SELECT count(*) FROM audit_entry WHERE seq IS NULL";
        server.database.one(open).await.unwrap() == "0"
    })
    .await;
}

/// The log, oldest first.
pub async fn list(client: &Client, filter: &str) -> Vec<pb::AuditEntry> {
    let request = pb::ListAuditEntriesRequest {
        filter: filter.into(),
        order_by: "create_time".into(),
        page_size: 1_000,
        ..Default::default()
    };
    let listed = client.audit().list_audit_entries(request).await.unwrap();
    listed.into_inner().audit_entries
}

/// All that is sealed, in the order of the chain, from a cursor on; and the last cursor.
async fn export(client: &Client, cursor: &str) -> Result<(Vec<pb::AuditEntry>, String), Status> {
    let cursor = cursor.to_owned();
    let request = pb::ExportAuditEntriesRequest { cursor };
    let mut parts = client
        .audit()
        .export_audit_entries(request)
        .await?
        .into_inner();
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    while let Some(part) = parts.message().await? {
        entries.extend(part.audit_entries);
        cursor = part.cursor;
    }
    Ok((entries, cursor))
}

async fn head(client: &Client) -> pb::AuditHead {
    let mut audit = client.audit();
    let head = audit.get_audit_head(pb::GetAuditHeadRequest {}).await;
    head.unwrap().into_inner()
}

/// Changes a brand, which is made when it is not there.
async fn change(client: &Client, code: &str, name: &str) -> Result<brands::Brand, Status> {
    let request = brands::UpdateBrandRequest {
        brand: Some(brands::Brand {
            code: code.into(),
            display_name: name.into(),
            sender_email: "post@sw.example".into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let changed = client.brands().update_brand(request).await?;
    Ok(changed.into_inner())
}

/// Runs `anklang audit`; gives its exit code and all that it says.
pub async fn audit(args: &[&str]) -> (i32, String) {
    let output = tokio::process::Command::new(&program().anklang)
        .arg("audit")
        .args(args)
        .env_remove("ANKLANG_TENANT")
        .env_remove("ANKLANG_SERVER")
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (output.status.code().unwrap(), said)
}

#[tokio::test]
async fn who_did_what_to_what_is_in_the_log() {
    let (crm, auditor) = (new_token(), new_token());
    let trusts = [
        knows("crm", &crm, &["linden"], &["service"]),
        knows("revision", &auditor, &["linden"], &["auditor"]),
    ];
    let (server, raw) = guarded("", &trusts.concat()).await;
    let id = uuid::Uuid::now_v7().to_string();
    let mut request = brand("gr/ün");
    request["requestId"] = json!(id);
    update(&raw.bearing(&crm), None, &request).await.unwrap();
    let own = server.client("linden").await.unwrap();
    let selection = json!({"selection": {
        "displayName": "Alle", "subject": "SUBJECT_CONTRACT",
        "criteria": {"compare": {"field": "number", "operator": "OPERATOR_IS_SET"}},
    }});
    let create = "anklang.selections.v1.SelectionService/CreateSelection";
    let made = raw.bearing(&crm).call(None, create, &selection).await;
    let made = made.unwrap()["name"].as_str().unwrap().to_owned();
    change(&own, "linden", "Linden").await.unwrap();

    let reader = Client::connect_as(server.addr, None, Some(&auditor)).await;
    let reader = reader.unwrap();
    let entries = list(&reader, "").await;
    let told: Vec<String> = entries
        .iter()
        .map(|e| format!("{} {} {}", e.caller, e.method, e.resources.join(",")))
        .collect();
    assert_eq!(
        told,
        [
            format!("tokens/own {IMPORT} imports/brands"),
            format!("tokens/crm {UPDATE} brands/gr%2F%C3%BCn"),
            format!("tokens/crm /{create} {made}"),
            format!("tokens/own {UPDATE} brands/linden"),
        ]
    );
    let [import, changed, ..] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(
        (import.written_count, import.refused_count),
        (Some(1), Some(0))
    );
    assert_eq!((changed.written_count, changed.refused_count), (None, None));
    let csv = "code,name,sender_email\nlinden,linden,post@sw.example\n";
    assert_eq!(import.request_sha256, hex::encode(Sha256::digest(csv)));
    assert_eq!((&import.request_id[..], &changed.request_id), ("", &id));
    assert_eq!(changed.request_sha256.len(), 64);
    assert_ne!(changed.request_sha256, entries[3].request_sha256);
    // What it was is not kept.
    let dump = "SELECT string_agg(a::text, '') FROM audit_entry a";
    let dump = server.database.one(dump).await.unwrap();
    for personal in ["post@sw.example", "Alle", "Linden"] {
        assert!(!dump.contains(personal), "{personal} in {dump}");
    }

    for (filter, found) in [
        ("caller = tokens/crm", 2),
        ("method:UpdateBrand", 2),
        ("method:UpdateBrand AND caller != tokens/crm", 1),
        (&format!("request_id = {id}")[..], 1),
        ("create_time > 2026-01-01T00:00:00Z", 4),
        ("create_time < 2026-01-01T00:00:00Z", 0),
        ("written_count:*", 1),
    ] {
        assert_eq!(list(&reader, filter).await.len(), found, "{filter}");
    }
    let naming = async |resource: &str| {
        let request = json!({"resource": resource});
        let listed = raw.bearing(&auditor).call(None, LIST, &request).await;
        listed.unwrap()["auditEntries"]
            .as_array()
            .map_or(0, Vec::len)
    };
    assert_eq!(naming("brands/linden").await, 1);
    assert_eq!(naming("brands/lind").await, 0);
}

#[tokio::test]
async fn who_may_not_see_the_log_is_refused_and_others_see_their_own() {
    let tokens = ["clerk", "service", "auditor", "central"].map(|role| (role, new_token()));
    let known = tokens.iter();
    let known = known.map(|(role, token)| knows(role, token, &["linden"], &[*role]));
    let (server, raw) = guarded("", &known.collect::<String>()).await;
    for (role, token) in &tokens {
        let may = ["auditor", "central"].contains(role);
        for method in raw::methods().filter(|m| raw::path(m).contains(".AuditService/")) {
            let path = raw::path(&method);
            let result = raw.bearing(token).call(None, &path, &json!({})).await;
            match result {
                Ok(_) => assert!(may, "{path} as {role}"),
                Err(status) => {
                    assert!(!may, "{path} as {role}: {status:?}");
                    assert_eq!(lacking(&status).as_deref(), Some("audit.read"));
                }
            }
        }
    }

    let [linden, other] = ["linden", "other"].map(|tenant| server.client(tenant));
    let (linden, other) = (linden.await.unwrap(), other.await.unwrap());
    for name in ["A", "B", "C"] {
        change(&linden, "linden", name).await.unwrap();
    }
    sealed(&server).await;
    assert_eq!(list(&linden, "").await.len(), 4);
    assert_eq!(list(&other, "").await.len(), 1);
    assert_eq!(export(&other, "").await.unwrap().0.len(), 1);
    assert_eq!((head(&linden).await.seq, head(&other).await.seq), (4, 1));
    let (_, cursor) = export(&linden, "").await.unwrap();
    assert_eq!(export(&other, &cursor).await.unwrap().0, []);
}

/// How many entries there are, and the method of the newest.
async fn newest(server: &TestServer) -> (usize, String) {
    let sql = "SELECT count(*) || ' ' || coalesce((array_agg(method ORDER BY id DESC))[1], '')
               FROM audit_entry";
    let found = server.database.one(sql).await.unwrap();
    let (count, method) = found.split_once(' ').unwrap();
    (count.parse().unwrap(), method.to_owned())
}

#[tokio::test]
async fn changes_are_in_the_log_once_and_trials_and_repetitions_are_not() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let mut done = BTreeSet::new();
    for (method, request) in changes(&world) {
        let (before, _) = newest(&server).await;
        let call = async |validate_only: bool, request_id: &str| {
            let mut request = request.clone();
            request["validateOnly"] = json!(validate_only);
            request["requestId"] = json!(request_id);
            raw.call(Some("linden"), method, &request).await
        };
        let tried = call(true, "").await.is_ok();
        assert_eq!(newest(&server).await.0, before, "{method}, tried: {tried}");
        let id = uuid::Uuid::now_v7().to_string();
        // What was answered or sent already is refused, and nothing done.
        let is_done = call(false, &id).await.is_ok();
        let (after, newest_method) = newest(&server).await;
        assert_eq!(after, before + usize::from(is_done), "{method}");
        if is_done {
            assert_eq!(newest_method, format!("/{method}"));
            done.insert(method);
        }
        assert_eq!(call(false, &id).await.is_ok(), is_done, "{method} again");
        assert_eq!(newest(&server).await.0, after, "{method} again");
    }
    assert!(done.len() > 40, "{done:?}");

    // Nor is what only looks.
    let (before, _) = newest(&server).await;
    let mut looked = 0;
    for method in raw::methods().filter(|m| m.name().starts_with("List")) {
        let result = raw
            .call(Some("linden"), &raw::path(&method), &json!({}))
            .await;
        looked += usize::from(result.is_ok());
    }
    assert!(looked > 15, "{looked}");
    assert_eq!(newest(&server).await.0, before);
}

#[tokio::test]
async fn each_chunk_of_an_import_is_in_the_log_with_what_came_of_it() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let rows: String = (1..=12_000)
        .map(|i| match i {
            5 => "5,robot,X\n".to_owned(),
            // One that came before, in another chunk.
            11_990 => "17,person,X\n".to_owned(),
            i => format!("{i},person,Name {i}\n"),
        })
        .collect();
    let csv = format!("number,kind,last_name\n{rows}");
    let header = |validate_only| ImportHeader {
        entity: ImportEntity::Customers.into(),
        validate_only,
        ..Default::default()
    };
    let tried = client.import_with(header(true), csv.clone()).await;
    assert_eq!(tried.unwrap().created, 11_998);
    assert_eq!(list(&client, "").await, []);

    let done = client.import_with(header(false), csv.clone()).await;
    assert_eq!(done.unwrap().created, 11_998);
    let entries = list(&client, "").await;
    assert!(entries.len() > 1, "{entries:?}");
    let sum = |of: fn(&pb::AuditEntry) -> Option<i64>| -> i64 {
        entries.iter().map(|e| of(e).unwrap()).sum()
    };
    assert_eq!(sum(|e| e.written_count), 11_998);
    assert_eq!(sum(|e| e.refused_count), 2);
    let file = hex::encode(Sha256::digest(&csv));
    assert!(entries.iter().any(|e| e.request_sha256 == file));
    for entry in &entries {
        assert_eq!((&entry.caller[..], &entry.method[..]), ("anybody", IMPORT));
        assert_eq!(entry.resources, ["imports/customers"]);
    }

    // The same again changes nothing, and somebody has imported it.
    let again = client.import_with(header(false), csv).await.unwrap();
    assert_eq!((again.created, again.updated), (0, 0));
    let again = list(&client, "written_count = 0").await;
    let refused: i64 = again.iter().filter_map(|e| e.refused_count).sum();
    assert_eq!(refused, 2, "{again:?}");
}

#[tokio::test]
async fn operations_that_are_cancelled_and_deleted_are_in_the_log() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    request.schedule = Some(campaigns::PhaseSchedule {
        planned_start_date: utility.day(3),
        ..Default::default()
    });
    let launched = crate::campaigns::ask(&client, request).await.unwrap();
    let campaign = crate::campaigns::metadata(&launched).resource;
    crate::campaigns::cancel(&client, &launched.name)
        .await
        .unwrap();
    // A launch is kept as its phase's record; a dry run is not.
    let launch = Some(utility.launch());
    let request = campaigns::DryRunLaunchRequest {
        launch,
        ..Default::default()
    };
    let (tried, _) = crate::dry_runs::dry_run(&client, request).await;
    let name = tried.clone();
    let delete = anklang_proto::google::longrunning::DeleteOperationRequest { name };
    client
        .operations()
        .delete_operation(delete.clone())
        .await
        .unwrap();
    let entries = list(&client, "method:Launch OR method:Operations").await;
    let told: Vec<(&str, bool)> = entries
        .iter()
        .map(|e| {
            let names = |name| e.resources.contains(name);
            let method = e.method.rsplit('/').next().unwrap();
            (method, names(&launched.name) != names(&tried))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("LaunchCampaign", true),
            ("CancelOperation", true),
            ("DryRunLaunch", true),
            ("DeleteOperation", true)
        ]
    );
    assert!(
        entries[0].resources.contains(&campaign),
        "{campaign}: {:?}",
        entries[0]
    );

    // What cannot be done leaves nothing.
    let gone = client.operations().delete_operation(delete).await;
    refused::not_found(&gone.unwrap_err());
    assert_eq!(list(&client, "method:DeleteOperation").await.len(), 1);
}

#[tokio::test]
async fn a_log_that_has_grown_is_not_read_through_for_a_few_entries() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    change(&client, "linden", "Linden").await.unwrap();
    let database = server.database.connect().await.unwrap();
    let more = "INSERT INTO audit_entry (tenant_id, at, caller, method, resources, request_hash)
         SELECT id, timestamptz '2026-01-01Z' + n * interval '1 minute', 'tokens/' || n % 1000, '/x/Y',
                ARRAY['customers/' || n % 5000], decode(repeat('00', 32), 'hex')
         FROM tenant, generate_series(1, 20000) n WHERE slug = 'linden'";
    database.batch_execute(more).await.unwrap();
    sealed(&server).await;
    database
        .batch_execute("ANALYZE audit_entry; ANALYZE audit_resource")
        .await
        .unwrap();
    let scans = async |index: &str| {
        let sql = format!(
            "SELECT coalesce(idx_scan, 0)::text FROM pg_stat_user_indexes WHERE indexrelname = '{index}'"
        );
        let found = server.database.one(&sql).await.unwrap();
        found.parse::<i64>().unwrap()
    };
    let page = |resource: &str, token: String| pb::ListAuditEntriesRequest {
        resource: resource.into(),
        page_size: 3,
        page_token: token,
        ..Default::default()
    };

    let before = scans("audit_resource_pkey").await;
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = page("customers/77", token);
        let listed = client.audit().list_audit_entries(request).await.unwrap();
        let listed = listed.into_inner();
        for entry in listed.audit_entries {
            assert_eq!(entry.resources, ["customers/77"]);
            names.push(entry.name);
        }
        token = listed.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 4);
    assert!(names.windows(2).all(|pair| pair[0] > pair[1]), "{names:?}");
    until("entries are found by resource", async || {
        scans("audit_resource_pkey").await > before
    })
    .await;

    for (filter, index, found) in [
        ("caller = tokens/77", "audit_entry_caller", 20),
        (
            "create_time >= 2026-01-02T00:00:00Z AND create_time < 2026-01-02T00:10:00Z",
            "audit_entry_at",
            10,
        ),
    ] {
        let before = scans(index).await;
        assert_eq!(list(&client, filter).await.len(), found, "{filter}");
        until(index, async || scans(index).await > before).await;
    }
}
