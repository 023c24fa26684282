//! The cookbook: its commands, run from its beginning to its end, do and print what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anklang_testkit::{Options, TestServer, program};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::audit::sealed;
use crate::handover::QUICK;
use crate::identity::{knows, new_token};
use crate::raw::Raw;
use crate::receiver::Receiver;
use crate::relays::venv;
use crate::utility::until;

const PAGE: &str = include_str!("../../../../docs/cookbook.md");
const TENANT: &str = "acme";
/// How long the commands of a task may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A block of commands of the page.
struct Task {
    title: &'static str,
    commands: String,
    /// What they are said to print, line by line.
    prints: Vec<&'static str>,
}

/// All of the page, in its order.
fn tasks() -> Vec<Task> {
    let (mut tasks, mut title, mut within) = (Vec::<Task>::new(), "", "");
    for line in PAGE.lines() {
        if let Some(language) = line.strip_prefix("```") {
            within = language;
            if language == "sh" {
                tasks.push(Task {
                    title,
                    commands: String::new(),
                    prints: Vec::new(),
                });
            }
            continue;
        }
        match (within, tasks.last_mut()) {
            ("sh", Some(task)) => {
                task.commands += line;
                task.commands.push('\n');
            }
            ("text", Some(task)) => task.prints.push(line),
            ("", _) => title = line.strip_prefix("## ").unwrap_or(title),
            _ => panic!("a block of {within}: {line}"),
        }
    }
    tasks
}

/// A line without what is another one each time: numbers, ids, dates, times, and how wide columns are.
fn general(line: &str) -> String {
    let is_of_id = |c: char| c.is_ascii_digit() || c == '-' || ('a'..='f').contains(&c);
    let words = line.split_whitespace().map(|word| {
        let letters: Vec<char> = word.chars().collect();
        let parts = letters.chunk_by(|a, b| is_of_id(*a) == is_of_id(*b));
        let parts = parts.map(|part| match part.iter().any(char::is_ascii_digit) {
            true => "#".to_owned(),
            false => part.iter().collect(),
        });
        parts.collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Somebody with the page, a server, a system that takes events, and a folder.
struct Reader {
    server: TestServer,
    token: String,
    erp: Receiver,
    folder: TempDir,
    /// What goes before the commands of each task, as in one shell.
    begun: String,
}

impl Reader {
    async fn start() -> Self {
        let token = new_token();
        let own = knows("admin", &token, &[TENANT], &["central"]);
        let server = TestServer::start_with(Options {
            config: format!("[auth]\nmode = \"token\"\n{own}{QUICK}"),
            ..Default::default()
        });
        let server = server.await.unwrap();
        server.add_tenant(TENANT).await.unwrap();
        Reader {
            server,
            token,
            erp: Receiver::start().await,
            folder: tempfile::tempdir().unwrap(),
            begun: String::new(),
        }
    }

    /// Runs the commands of a task, which succeed and print what is said of them.
    async fn does(&self, task: &Task) {
        let programs = [
            program().anklang.parent().unwrap().to_owned(),
            venv().join("bin"),
        ];
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = programs.into_iter().chain(std::env::split_paths(&others));
        let mut bash = Command::new("bash");
        for name in ["CA", "SERVER_NAME", "CERTIFICATE", "KEY"] {
            bash.env_remove(format!("ANKLANG_{name}"));
        }
        bash.args(["-euo", "pipefail", "-c"])
            .arg(format!("{}{}", self.begun, task.commands))
            .current_dir(self.folder.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("ANKLANG_SERVER", format!("http://{}", self.server.addr))
            .env("ANKLANG_TENANT", TENANT)
            .env("ANKLANG_TOKEN", &self.token)
            .env("WEBHOOK_URL", self.erp.url("/anklang"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, bash.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{}: for too long", task.title));
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        let status = output.status;
        assert!(status.success(), "{}: {status}\n{said}", task.title);

        let lines: BTreeSet<String> = said.lines().map(general).collect();
        let told = task.prints.iter();
        let told = told.filter(|line| !line.is_empty() && !line.contains('…'));
        let told: Vec<_> = told.collect();
        assert!(!told.is_empty(), "{}: what does it print?", task.title);
        let missing = told.iter().filter(|line| !lines.contains(&general(line)));
        let missing: Vec<_> = missing.collect();
        assert!(
            missing.is_empty(),
            "{}: {missing:#?} in\n{said}",
            task.title
        );
    }

    /// The answer to a call.
    async fn sees(&self, method: &str, request: Value) -> Value {
        let raw = Raw::connect(self.server.addr).await.bearing(&self.token);
        let answer = raw.call(Some(TENANT), method, &request).await;
        answer.unwrap_or_else(|status| panic!("{method}: {status:?}"))
    }

    /// A text that was left in the folder.
    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap()
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_str(&self.text(file)).unwrap()
    }

    /// Who got mails, each as often as mails came.
    fn mailed(&self) -> Vec<String> {
        let received = self.server.sink.received();
        let mut mailed: Vec<_> = received.iter().map(|m| m.rcpt_to.join(" ")).collect();
        mailed.sort();
        mailed
    }
}

#[test]
fn words_are_compared_and_numbers_are_not() {
    let line = "campaigns/0197c3f2-8f1e-7a52-9d0b-5e8a3c1f7a42  2026-11-23 10:15   3,682.85 EUR";
    let other = "campaigns/019a8f5e-7c1d-7b3e-9d2a-4b1f0c6e8a55 2027-01-31 9:00 12,345.60 EUR";
    assert_eq!(general(line), "campaigns/# # #:# #,#.# EUR");
    assert_eq!(general(line), general(other));
    assert_ne!(general("no consent  1"), general("no address  1"));
    assert_ne!(general("a 1"), general("b 1"));
}

#[tokio::test]
async fn its_commands_do_what_it_says() {
    let tasks = tasks();
    let [begin, import, audience, launch, reach, rest @ ..] = &tasks[..] else {
        panic!("{} tasks", tasks.len());
    };
    let [answer, contacts, winback, privacy, follow_up, audit] = rest else {
        panic!("{} tasks", tasks.len());
    };
    let mut reader = Reader::start().await;
    reader.does(begin).await;
    reader.begun.clone_from(&begin.commands);

    reader.does(import).await;
    let customers = "anklang.customers.v1.CustomerService/ListCustomers";
    let customers = reader.sees(customers, json!({})).await;
    assert_eq!(customers["customers"].as_array().unwrap().len(), 5);

    reader.does(audience).await;
    let selections = "anklang.selections.v1.SelectionService/ListSelections";
    let selections = reader.sees(selections, json!({})).await;
    assert_eq!(selections["selections"][0]["displayName"], "Basis 2024");

    reader.does(launch).await;
    let [ada, bo, cem] = ["ada", "bo", "cem"].map(|name| format!("{name}@post.example"));
    assert_eq!(reader.mailed(), [&ada, &bo, &cem].map(Clone::clone));

    reader.does(reach).await;
    let campaigns = "anklang.campaigns.v1.CampaignService/ListCampaigns";
    let campaigns = reader.sees(campaigns, json!({})).await;
    let statement = json!({"campaign": campaigns["campaigns"][0]["name"]});
    let statement = reader.sees("anklang.reach.v1.ReachService/GetReach", statement);
    assert_eq!(
        statement.await["total"]["excluded"],
        json!([{"reason": "EXCLUSION_REASON_NO_CONSENT", "count": "1"}])
    );

    reader.does(answer).await;
    until("the offer is handed over", async || {
        !reader.erp.calls().is_empty()
    })
    .await;
    let webhook = reader.json("webhook.json");
    let secret = webhook["secret"].as_str().unwrap();
    let told = reader.erp.calls();
    assert_eq!(told[0].signed_by(&[secret]), [secret]);
    assert_eq!(told[0].event()["data"]["contract"], "B1001-1");

    reader.does(contacts).await;
    let planned = "anklang.planning.v1.PlannedContactService/ListPlannedContacts";
    let planned = reader.sees(planned, json!({})).await;
    let mut states = BTreeMap::new();
    for contact in planned["plannedContacts"].as_array().unwrap() {
        *states
            .entry(contact["state"].as_str().unwrap())
            .or_insert(0) += 1;
    }
    let one_each = [
        "PLANNED_CONTACT_STATE_DONE",
        "PLANNED_CONTACT_STATE_WAITING",
    ];
    assert_eq!(states, one_each.map(|state| (state, 1)).into());

    reader.does(winback).await;
    let cases = "anklang.winback.v1.WinbackCaseService/ListWinbackCases";
    let cases = reader.sees(cases, json!({})).await;
    let [case] = &cases["winbackCases"].as_array().unwrap()[..] else {
        panic!("one case: {cases}");
    };
    assert_eq!(case["customer"], "customers/B1001");
    assert_eq!(case["state"], "WINBACK_CASE_STATE_REMINDER");
    assert!(case["dueDate"].is_object(), "{case}");

    reader.does(privacy).await;
    is_forgotten(&reader).await;

    reader.does(follow_up).await;
    assert_eq!(reader.mailed(), [ada, bo.clone(), bo, cem]);

    sealed(&reader.server).await;
    reader.does(audit).await;
    for line in reader.text("audit.jsonl").lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["caller"], "tokens/admin", "{entry}");
    }
    serves_a_system(&mut reader).await;
}

/// Dana's address is blocked; Cem had their data, and there is nothing of them any more.
async fn is_forgotten(reader: &Reader) {
    let explain = "anklang.reach.v1.ReachService/ExplainCustomer";
    let dana = reader.sees(explain, json!({"customer": "customers/B1004"}));
    assert_eq!(dana.await["addresses"][0]["suppressed"], true);
    let file = reader.json("B1003.json");
    assert_eq!(file["customer"], "customers/B1003");
    assert!(file.to_string().contains("cem@post.example"), "{file}");
    let get = "anklang.customers.v1.CustomerService/GetCustomer";
    let cem = reader.sees(get, json!({"name": "customers/B1003"})).await;
    assert!(cem["eraseTime"].is_string(), "{cem}");
    assert_eq!(cem["firstName"].as_str().unwrap_or_default(), "");
}

/// The new token counts once the server has the lines that were printed for it.
async fn serves_a_system(reader: &mut Reader) {
    let made = reader.text("shop.token");
    let (token, lines) = made.split_once("\n\n").unwrap();
    let mut config = std::fs::OpenOptions::new()
        .append(true)
        .open(reader.server.config_file())
        .unwrap();
    writeln!(config, "\n{lines}").unwrap();
    reader.server.restart().await.unwrap();
    reader.token = token.to_owned();
    let brands = "anklang.brands.v1.BrandService/ListBrands";
    let brands = reader.sees(brands, json!({})).await;
    assert_eq!(brands["brands"][0]["code"], "brise");
}
