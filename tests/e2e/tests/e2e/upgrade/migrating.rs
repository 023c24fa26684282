//! `anklang migrate`: what it tells, and for whom it waits.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anklang_testkit::{Database, program};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};
use tokio::time::timeout;

use crate::mailing::until;

/// A migration that alters the table `phase`.
const ALTERS_PHASE: &str = "2026-11-23-003600_approvals";

/// A database from which the migrations from [`ALTERS_PHASE`] on were taken back.
struct Reverted {
    database: Database,
    folder: tempfile::TempDir,
    /// How many they were.
    count: usize,
}

impl Reverted {
    async fn make() -> Reverted {
        let reverted = Reverted {
            database: Database::create().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            count: since(ALTERS_PHASE),
        };
        let text = format!("[database]\nurl = '''{}'''\n", reverted.database.url);
        std::fs::write(reverted.config(), text).unwrap();
        let count = reverted.count.to_string();
        let output = reverted.migrate(&["--down", &count]).output().await;
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        reverted
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("anklang.toml")
    }

    /// `anklang migrate` with these words.
    fn migrate(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&program().anklang);
        command.arg("migrate").args(words);
        command.args([OsStr::new("--config"), self.config().as_os_str()]);
        command.env_remove("RUST_LOG");
        command
    }

    /// What it prints: the lines, and the log.
    async fn says(&self, words: &[&str]) -> (bool, Vec<String>, String) {
        let output = self.migrate(words).output().await.unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines.lines().map(str::to_owned).collect();
        let log = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), lines, log)
    }
}

#[tokio::test]
async fn a_migration_that_fails_leaves_those_before_it_and_tells_which() {
    let reverted = Reverted::make().await;
    let owner = reverted.database.connect().await.unwrap();
    // The second one finds what it wants to make.
    let stumbles = "CREATE TABLE audit_resource ()";
    owner.batch_execute(stumbles).await.unwrap();
    let (name, _) = ALTERS_PHASE.split_once('_').unwrap();
    let first = name.replace('-', "");

    let (is_done, lines, log) = reverted.says(&[]).await;
    assert!(!is_done, "{log}");
    assert_eq!(lines, [format!("ran {first}")]);
    let told = log.lines().find(|line| line.contains("migrated"));
    assert!(told.is_some_and(|line| line.contains(&first)), "{log}");

    let (_, lines, _) = reverted.says(&["--list"]).await;
    let of = |state: &str| lines.iter().filter(|l| l.starts_with(state)).count();
    assert_eq!(of("ran "), lines.len() - of("pending "), "{lines:?}");
    assert_eq!(of("pending "), reverted.count - 1, "{lines:?}");
    assert_eq!(of(&format!("ran {first} 2")), 1, "{lines:?}");

    // One that a later version has run.
    let later = "DROP TABLE audit_resource;
                 INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')";
    owner.batch_execute(later).await.unwrap();
    let (is_done, lines, log) = reverted.says(&[]).await;
    assert!(is_done, "{log}");
    assert_eq!(lines.len(), reverted.count - 1, "{lines:?}");
    let (_, lines, _) = reverted.says(&["--list"]).await;
    let (last, others) = lines.split_last().unwrap();
    assert!(last.starts_with("unknown 99991231000000 "), "{last}");
    assert!(others.iter().all(|l| l.starts_with("ran ")), "{others:?}");
}

#[tokio::test]
async fn a_migration_that_has_to_wait_holds_nobody_up() {
    let reverted = Reverted::make().await;
    let database = &reverted.database;

    // Somebody writes phases and does not come to an end.
    let writer = database.connect().await.unwrap();
    let write = "BEGIN; LOCK TABLE phase IN ROW EXCLUSIVE MODE";
    writer.batch_execute(write).await.unwrap();
    let mut command = reverted.migrate(&[]);
    let migrating = tokio::spawn(async move { command.output().await });
    for _ in 0..2 {
        until("the migration waits", async || {
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                           AND relation = 'phase'::regclass AND database =
                           (SELECT oid FROM pg_database WHERE datname = current_database())";
            database.one(waiting).await.unwrap() != "0"
        })
        .await;
        // Others come later, and before the migration.
        let reading = database.one("SELECT count(*) FROM phase");
        let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
        let read = read.expect("readers wait no longer than the migration does");
        assert_eq!(read.unwrap(), "0");
        assert!(!migrating.is_finished());
    }
    writer.batch_execute("COMMIT").await.unwrap();

    let output = migrating.await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let ran = String::from_utf8(output.stdout).unwrap();
    assert_eq!(ran.lines().count(), reverted.count, "{ran}");
    assert!(ran.lines().all(|line| line.starts_with("ran ")), "{ran}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("a migration lets others go first"), "{log}");
}

#[tokio::test]
async fn who_waits_for_a_migration_says_for_whom() {
    let database = Database::create().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("anklang.toml");
    let text = format!(
        "[server]\nlisten = '127.0.0.1:0'\n[log]\nformat = 'json'\n\
         [database]\nurl = \"{}\"\nmigrate = false\n[documents]\nfolder = '{}'\n",
        database.url,
        folder.path().display()
    );
    std::fs::write(&config, text).unwrap();
    // Somebody migrates, and does not come to an end.
    let migrating = database.connect().await.unwrap();
    let turn = "SELECT pg_backend_pid(), pg_advisory_lock(x'616e6b6c616e67'::bigint)";
    let pid: i32 = migrating.query_one(turn, &[]).await.unwrap().get(0);
    let start = |word: &str| {
        let mut command = tokio::process::Command::new(&program().anklang);
        command.arg(word).arg("--config").arg(&config);
        command.env_remove("RUST_LOG").kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut waiting = ["migrate", "serve"].map(start);
    // Open until the end: they may write more.
    let mut logs = Vec::new();
    for process in &mut waiting {
        let told = timeout(Duration::from_secs(60), told(process));
        let (line, log) = told.await.expect("who waits says so");
        assert!(line.contains(&format!("\"pid\":{pid}")), "{line}");
        logs.push(log);
    }
    drop(migrating);
    let [migrate, _] = &mut waiting;
    let ended = timeout(Duration::from_secs(60), migrate.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

/// The first line of a log that tells of a wait, and the rest of the log.
async fn told(process: &mut Child) -> (String, Lines<BufReader<ChildStderr>>) {
    let log = process.stderr.take().unwrap();
    let mut lines = BufReader::new(log).lines();
    let mut so_far = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("waits for whoever migrates") {
            return (line, lines);
        }
        so_far.push_str(&line);
    }
    panic!("it waits for nobody: {so_far}");
}

/// How many migrations there are from one on.
fn since(first: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let entries = std::fs::read_dir(folder).unwrap();
    let later = entries.filter(|entry| {
        let entry = entry.as_ref().unwrap();
        entry.path().is_dir() && entry.file_name().as_os_str() >= OsStr::new(first)
    });
    later.count()
}
