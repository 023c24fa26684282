//! The program as a client: what people and scripts see of each command. When there is no answer: `ends`; what is shown in
//! a terminal: `terminal`.

mod ends;
mod terminal;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, TestServer, program};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::imports_resumed::detour;
use crate::utility::{FEW, Utility, with_utility};
use crate::{raw, world};

const USAGE: i32 = 64;

/// A command for the tenant `linden`; nothing of the environment goes before it.
pub fn command(address: &str, line: &str) -> Command {
    let mut command = Command::new(&program().anklang);
    for name in ["SERVER", "TENANT", "TOKEN", "CA", "CERTIFICATE", "KEY"] {
        command.env_remove(format!("ANKLANG_{name}"));
    }
    command
        .env("TZ", "UTC")
        .args(line.split(' '))
        .args(["--server", &format!("http://{address}")])
        .args(["--tenant", "linden"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// The lines of a command that succeeded, as JSON.
    #[track_caller]
    fn json(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:?}");
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The one object that a command gave.
    #[track_caller]
    fn object(&self) -> Value {
        let [object] = &self.json()[..] else {
            panic!("one object: {self:?}");
        };
        assert!(object.is_object(), "{object}");
        object.clone()
    }
}

async fn run(server: &TestServer, line: &str) -> Said {
    let output = command(&server.addr.to_string(), line).output().await;
    let output = output.unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The object that a command gives with `--json`.
async fn object(server: &TestServer, line: &str) -> Value {
    run(server, &format!("{line} --json")).await.object()
}

/// A launch as a file for `--file`.
pub fn launch_file(launch: &campaigns::LaunchCampaignRequest) -> (tempfile::TempDir, String) {
    let input = raw::input("anklang.campaigns.v1.CampaignService/LaunchCampaign");
    let launch = DynamicMessage::decode(input, &launch.encode_to_vec()[..]).unwrap();
    file(&serde_json::to_string(&launch).unwrap())
}

fn file(json: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("request.json");
    std::fs::write(&path, json).unwrap();
    (folder, path.display().to_string())
}

#[tokio::test]
async fn what_reads_tells_people_and_scripts() {
    let server = TestServer::start().await.unwrap();
    let w = world::populate(&server).await;
    let (customer, campaign) = ("K0001", w.campaign.strip_prefix("campaigns/").unwrap());
    let case = &w.winback[0];
    for (line, shown) in [
        ("campaigns list", "CAMPAIGN"),
        (&format!("campaigns get {campaign}"), "Ökostrom für alle"),
        (
            &format!("campaigns get {}", w.campaign),
            "Ökostrom für alle",
        ),
        (&format!("campaigns phases {campaign}"), "campaigns/"),
        (&format!("campaigns infoboard {campaign}"), "accepted"),
        (&format!("campaigns reach {campaign}"), "CANDIDATES"),
        ("operations list", "LaunchCampaign"),
        (&format!("operations get {}", w.operation), "finished"),
        (&format!("operations watch {}", w.operation), "candidates"),
        (&format!("operations watch {}", w.dry_run), "message"),
        (
            &format!("offers list --campaign {campaign} --state open"),
            "OFFER",
        ),
        (&format!("offers get {}", w.offer), "annual amount"),
        ("cockpit", "expiring until date"),
        ("messages list --state sent --state queued", "MESSAGE"),
        (&format!("messages get {}", w.message), "address"),
        (&format!("messages why {}", w.customer), "candidacies"),
        ("channels accounts list", "probe"),
        ("channels accounts get probe", "testing"),
        ("channels plugins", "testing"),
        ("plans list", "NORD"),
        ("plans get NORD", "weekly"),
        ("contacts list", "CONTACT"),
        (&format!("contacts get {}", w.contact), "contact date"),
        ("winback tiles", "TILE"),
        ("winback cases list --tile declining", "CASE"),
        (&format!("winback cases get {case}"), "customer name"),
        (
            &format!("winback explain {}", w.customer),
            "settings version",
        ),
        (
            "winback analyse --from 2026-01-01 --to 2026-01-31 --by worker",
            "total",
        ),
        ("customers list --limit 2", "CUSTOMER"),
        (&format!("customers get {customer}"), "segment=gold"),
        (&format!("customers history {}", w.customer), "WHEN"),
        (&format!("customers explain {}", w.customer), "candidacies"),
        ("approvals policy get", "approvalPolicy"),
        ("privacy requests list", "export"),
        ("audit list --limit 3", "CALLER"),
        ("selections list", "Konten"),
        (&format!("selections get {}", w.selection), "compare"),
        (&format!("selections count {}", w.selection), "count"),
        (
            &format!("selections preview {} --sample 2", w.selection),
            "sample",
        ),
        (
            &format!("selections members {} --limit 2", w.selection),
            "SELECTED",
        ),
    ] {
        let said = run(&server, line).await;
        assert_eq!(said.code, 0, "{line}: {said:?}");
        assert!(said.out.contains(shown), "{line}: {shown} in {}", said.out);
        let harmful = said.out.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(harmful, None, "{line}");

        let said = run(&server, &format!("{line} --json")).await;
        let objects = said.json();
        assert!(!objects.is_empty(), "{line}: {said:?}");
        assert!(objects.iter().all(Value::is_object), "{line}: {said:?}");
    }
}

#[tokio::test]
async fn what_changes_does_it() {
    let server = TestServer::start().await.unwrap();
    let w = world::populate(&server).await;
    let campaign = &w.campaign;
    let tested = run(&server, "channels accounts test probe --recipient wer").await;
    assert!(
        tested.code == 0 && tested.out.contains("accepted"),
        "{tested:?}"
    );
    for (verb, paused) in [("pause", Some(true)), ("resume", None)] {
        let changed = object(&server, &format!("campaigns {verb} {campaign}")).await;
        assert_eq!(changed["paused"].as_bool(), paused, "{changed}");
        let changed = object(&server, &format!("channels accounts {verb} probe")).await;
        assert_eq!(changed["paused"].as_bool(), paused, "{changed}");
        assert_eq!(changed["config"]["account"], "probe", "the rest stays");
    }
    let listed = run(
        &server,
        &format!("offers list --campaign {campaign} --state open --json"),
    )
    .await;
    let offers = listed.json();
    let [first, second, third, ..] = &offers[..] else {
        panic!("three offers: {listed:?}");
    };
    let name = |offer: &Value| offer["name"].as_str().unwrap().to_owned();
    // Of what was seen; and anew, the same answer changes nothing.
    let stale = format!("offers accept {} --etag x", name(first));
    let refused = run(&server, &stale).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("ETAG_MISMATCH"), "{refused:?}");
    let etag = first["etag"].as_str().unwrap();
    let accept = format!("offers accept {} --source phone", name(first));
    let accepted = object(&server, &format!("{accept} --etag {etag}")).await;
    assert_eq!(accepted["state"], "OFFER_STATE_ACCEPTED");
    assert_eq!(object(&server, &accept).await["answerSource"], "phone");
    let reject = format!(
        "offers reject {} --reason-code not-interested",
        name(second)
    );
    let tried = object(&server, &format!("{reject} --validate-only")).await;
    assert_eq!(tried["state"], "OFFER_STATE_REJECTED");
    let still = object(&server, &format!("offers get {}", name(second))).await;
    assert_eq!(still["state"], "OFFER_STATE_OPEN");
    let rejected = object(&server, &reject).await;
    assert_eq!(rejected["rejectReasonCode"], "REJECT_REASON_NOT_INTERESTED");
    let withdrawn = object(&server, &format!("offers withdraw {}", name(third))).await;
    assert_eq!(withdrawn["state"], "OFFER_STATE_WITHDRAWN");

    let generated = run(&server, "plans generate --from 2027-03-15 --to 2027-03-31").await;
    assert_eq!(generated.code, 0, "{generated:?}");
    assert!(generated.out.contains("added count"), "{generated:?}");
    let detect = "winback detect --as-of 2025-06-10 --trial --no-wait";
    let begun = object(&server, detect).await;
    assert_eq!(begun["metadata"]["kind"], "DetectWinback", "{begun}");

    let cancelled = object(&server, &format!("campaigns cancel {campaign}")).await;
    assert_eq!(cancelled["state"], "CAMPAIGN_STATE_CANCELLED");
}

/// Plans a contact with the customer K1.
pub async fn plan_contact(client: &Client) {
    let contact = planning::NewPlannedContact {
        customer: "customers/K1".into(),
        contact_time: Some(prost_types::Timestamp {
            seconds: chrono::Utc::now().timestamp(),
            nanos: 0,
        }),
        ..Default::default()
    };
    let request = planning::CreatePlannedContactRequest {
        planned_contact: Some(contact),
        ..Default::default()
    };
    let made = client.work_list().create_planned_contact(request).await;
    made.unwrap();
}

#[tokio::test]
async fn contacts_are_taken_and_done() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let nothing = run(&server, "contacts next --worker zoe").await;
    assert_eq!((nothing.code, &nothing.out[..]), (0, "nothing\n"));
    let customers = "number,kind,last_name\nK1,person,Kunde\n";
    let sums = client.import(ImportEntity::Customers, customers).await;
    assert_eq!(sums.unwrap().errors, []);
    for _ in 0..2 {
        plan_contact(&client).await;
    }
    let mut taken = Vec::new();
    for _ in 0..2 {
        let claim = object(&server, "contacts next --worker users/zoe").await;
        let claim = &claim["contactClaim"];
        let name = claim["plannedContact"]["name"].as_str().unwrap();
        taken.push((name.to_owned(), claim["claim"].as_str().unwrap().to_owned()));
    }
    let [(first, of_first), (second, of_second)] = &taken[..] else {
        panic!("two: {taken:?}");
    };
    let release = format!("contacts release {first} --claim {of_first}");
    let released = object(&server, &release).await;
    assert_eq!(released["state"], "PLANNED_CONTACT_STATE_OPEN");
    let record =
        format!("contacts outcome {second} --claim {of_second} --class done --talk-time 90s");
    let recorded = object(&server, &record).await;
    assert_eq!(
        recorded["plannedContact"]["state"],
        "PLANNED_CONTACT_STATE_DONE"
    );
    let open = run(&server, "contacts list --filter state=OPEN --json").await;
    let open = open.json();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0]["name"], first[..]);
}

#[tokio::test]
async fn a_launch_is_followed_to_its_end() {
    let server = TestServer::start().await.unwrap();
    let (_, utility) = with_utility(&server, FEW).await;
    let members = utility.members().len();
    let (_folder, file) = launch_file(&utility.launch());
    let line = format!("campaigns launch --file {file}");

    let tried = run(&server, &format!("{line} --validate-only --json")).await;
    assert!(tried.object().get("name").is_none(), "{tried:?}");
    let stale = run(&server, &format!("{line} --dry-run --etag x")).await;
    assert_eq!(stale.code, USAGE, "{stale:?}");
    let dry = object(&server, &format!("{line} --dry-run")).await;
    assert_eq!(dry["done"], true);
    assert_eq!(dry["response"]["members"], members.to_string());
    let none = run(&server, "campaigns list").await;
    assert_eq!((none.code, &none.out[..]), (0, ""));
    assert_eq!(none.err, "nothing found\n");

    let launched = run(&server, &line).await;
    assert_eq!(launched.code, 0, "{launched:?}");
    let lines: Vec<_> = launched.out.lines().map(str::trim_end).collect();
    let told = format!("{:16}  {members}", "members");
    assert!(lines.contains(&&told[..]), "{launched:?}");
    // No bar, but where it is.
    assert!(launched.err.starts_with("operations/"), "{launched:?}");
    assert!(
        launched.err.lines().any(|l| l == "finished"),
        "{launched:?}"
    );
    assert!(!launched.err.contains(['\u{1b}', '\r']), "{launched:?}");
    let listed = run(&server, "campaigns list --json").await.json();
    assert_eq!(listed.len(), 1, "{listed:?}");
}

/// A launch that waits for its day; gives its operation.
async fn planned(server: &TestServer, utility: &Utility) -> String {
    let mut launch = utility.launch();
    launch.schedule = Some(campaigns::PhaseSchedule {
        planned_start_date: utility.day(3),
        ..Default::default()
    });
    let (_folder, file) = launch_file(&launch);
    let begun = object(server, &format!("campaigns launch --no-wait --file {file}")).await;
    begun["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_operation_that_fails_is_told_by_the_exit_code() {
    let server = TestServer::start().await.unwrap();
    let (_, utility) = with_utility(&server, FEW).await;
    let operation = planned(&server, &utility).await;
    let asked = run(&server, &format!("operations cancel {operation}")).await;
    assert_eq!((asked.code, &asked.out[..]), (0, "done\n"), "{asked:?}");
    let watched = run(&server, &format!("operations watch {operation}")).await;
    assert_eq!(watched.code, 1, "{watched:?}");
    assert!(watched.err.contains("cancelled"), "{watched:?}");
    let watched = run(&server, &format!("operations watch {operation} --json")).await;
    assert_eq!(watched.code, 1, "{watched:?}");
    let told: Value = serde_json::from_str(&watched.out).unwrap();
    assert_eq!(
        (&told["done"], &told["error"]["message"]),
        (&json!(true), &json!("cancelled"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_when_the_server_was_killed() {
    let mut server = TestServer::start().await.unwrap();
    let (_, utility) = with_utility(&server, FEW).await;
    let operation = planned(&server, &utility).await;
    let to = Arc::new(Mutex::new(server.addr));
    let addr = detour(&to).await;
    let mut watching = command(&addr.to_string(), &format!("operations watch {operation}"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(watching.stderr.take().unwrap()).lines();
    assert_eq!(told.next_line().await.unwrap().unwrap(), "planned");

    server.restart().await.unwrap();
    *to.lock().unwrap() = server.addr;
    let client = server.client("linden").await.unwrap();
    let cancel = lro::CancelOperationRequest { name: operation };
    client.operations().cancel_operation(cancel).await.unwrap();
    let status = watching.wait().await.unwrap();
    assert_eq!(status.code(), Some(1));
    let mut rest = String::new();
    while let Some(line) = told.next_line().await.unwrap() {
        rest += &line;
    }
    assert!(rest.contains("cancelled"), "{rest}");
}

#[tokio::test]
async fn lists_are_of_any_length() {
    const CUSTOMERS: usize = 1_200;
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let rows: String = (1..=CUSTOMERS)
        .map(|i| format!("{i:04},person,Name {}\n", i % 2))
        .collect();
    let customers = format!("number,kind,last_name\n{rows}");
    let sums = client.import(ImportEntity::Customers, customers).await;
    assert_eq!(sums.unwrap().errors, []);
    let all = run(&server, "customers list --json").await.json();
    assert_eq!(all.len(), CUSTOMERS);
    let table = run(&server, "customers list").await;
    let headings = table.out.lines().filter(|l| l.starts_with("CUSTOMER "));
    assert_eq!(headings.count(), 1);
    assert_eq!(table.out.lines().count(), CUSTOMERS + 1);
    let some = "customers list --json --limit 700 --order-by last_name,number --filter last_name:1";
    let some = run(&server, some).await.json();
    assert_eq!(some.len(), CUSTOMERS / 2);
    let some = run(&server, "customers list --json --limit 700")
        .await
        .json();
    assert_eq!(some.len(), 700);
    let wrong = run(&server, "customers list --order-by nothing").await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.err.contains("\n  order_by: "), "{wrong:?}");
}

#[tokio::test]
async fn refusals_name_the_fields_and_wrong_lines_the_usage() {
    let server = TestServer::start().await.unwrap();
    server.add_tenant("linden").await.unwrap();
    let (_folder, empty) = file("{}");
    let refused = run(&server, &format!("campaigns launch --file {empty}")).await;
    assert_eq!((refused.code, &refused.out[..]), (1, ""), "{refused:?}");
    assert!(
        refused.err.starts_with("anklang: INVALID_ARGUMENT: "),
        "{refused:?}"
    );
    for field in [
        "target_product_version",
        "offer_valid_until_date",
        "audience",
    ] {
        let line = format!("  {field}: ");
        assert!(
            refused.err.lines().any(|l| l.starts_with(&line)),
            "{refused:?}"
        );
    }
    let missing = run(&server, "customers get nobody").await;
    let told = "anklang: NOT_FOUND: customers/nobody does not exist\n";
    assert_eq!((missing.code, &missing.err[..]), (1, told));

    let (_folder, unknown) = file(r#"{"colour": "blue"}"#);
    for line in [
        "campaigns",
        "campaigns fly",
        "campaigns get",
        "campaigns launch",
        &format!("campaigns launch --file {unknown}"),
        "offers reject A-1 --reason-code whim",
        "plans generate --from tomorrow --to 2027-01-31",
        "completions tcsh",
    ] {
        let said = run(&server, line).await;
        assert_eq!(said.code, USAGE, "{line}: {said:?}");
        assert!(!said.err.is_empty(), "{line}");
    }
    let nobody = command("127.0.0.1:1", "campaigns list")
        .output()
        .await
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[tokio::test]
async fn shells_complete_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = Command::new(&program().anklang)
            .args(["completions", shell])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{shell}: {output:?}");
        let script = String::from_utf8(output.stdout).unwrap();
        let mut words = vec!["campaigns", "infoboard", "--order-by", "import"];
        // The others do not complete values.
        if ["bash", "zsh", "fish"].contains(&shell) {
            words.push("not-interested");
        }
        for word in words {
            let word = match shell {
                "fish" => word.trim_start_matches("--"),
                _ => word,
            };
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
