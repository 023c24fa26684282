//! What is done to the audit log behind the server's back is refused by the database, or found by who verifies.

use anklang_testkit::TestServer;
use tokio_postgres::Client as Database;

use super::{audit, change, head, sealed};

/// A log of six entries of the tenant `linden`.
struct Log {
    server: TestServer,
    owner: Database,
    /// Its head, as somebody has noted it.
    noted: String,
}

impl Log {
    async fn start() -> Self {
        let server = TestServer::start().await.unwrap();
        let client = server.client("linden").await.unwrap();
        for name in ["A", "B", "C", "D", "E", "F"] {
            change(&client, "linden", name).await.unwrap();
        }
        sealed(&server).await;
        let newest = head(&client).await;
        let owner = server.database.connect().await.unwrap();
        let kept = "CREATE TABLE kept AS SELECT * FROM audit_entry";
        owner.batch_execute(kept).await.unwrap();
        Log {
            server,
            owner,
            noted: format!("{}:{}", newest.seq, newest.hash),
        }
    }

    /// What only a superuser or the table's owner can do: without the triggers.
    async fn tamper(&self, sql: &str) {
        let all = format!(
            "BEGIN; ALTER TABLE audit_entry DISABLE TRIGGER USER; {sql};
             ALTER TABLE audit_entry ENABLE TRIGGER USER; COMMIT"
        );
        self.owner.batch_execute(&all).await.unwrap();
    }

    async fn restore(&self) {
        let sql = "DELETE FROM audit_entry; INSERT INTO audit_entry SELECT * FROM kept";
        self.tamper(sql).await;
    }

    /// Exit code and words of `anklang audit verify`.
    async fn verify(&self, more: &[&str]) -> (i32, String) {
        let at = format!("http://{}", self.server.addr);
        let args = ["verify", "--server", &at, "--tenant", "linden"];
        audit(&[&args[..], more].concat()).await
    }

    #[track_caller]
    fn is_broken((code, said): (i32, String), why: &str) {
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("broken: {why}")), "{why}: {said}");
    }
}

#[tokio::test]
async fn the_database_refuses_to_change_or_remove_entries() {
    let log = Log::start().await;
    for sql in [
        "UPDATE audit_entry SET caller = 'x' WHERE seq = 3",
        "UPDATE audit_entry SET hash = decode(repeat('00', 32), 'hex') WHERE seq = 3",
        "UPDATE audit_entry SET seq = 7 WHERE seq = 6",
        "UPDATE audit_entry SET seq = NULL, hash = NULL WHERE seq = 6",
        "DELETE FROM audit_entry WHERE seq = 3",
        "TRUNCATE audit_entry",
    ] {
        let refused = log.owner.batch_execute(sql).await.unwrap_err();
        let said = refused.as_db_error().unwrap().message().to_owned();
        assert!(said.contains("only added to"), "{sql}: {said}");
    }

    // The server's own roles do not get as far.
    let insert = "INSERT INTO audit_entry (tenant_id, caller, method, resources, request_hash";
    let values = "SELECT id, 'x', '/x/Y', '{}', decode(repeat('00', 32), 'hex'";
    for (role, sql) in [
        (
            "anklang_app",
            "UPDATE audit_entry SET caller = 'x'".to_owned(),
        ),
        (
            "anklang_app",
            "UPDATE audit_entry SET seq = 7, hash = hash".to_owned(),
        ),
        ("anklang_app", "DELETE FROM audit_entry".to_owned()),
        ("anklang_app", "TRUNCATE audit_entry".to_owned()),
        (
            "anklang_app",
            format!("{insert}, seq) {values}), 7 FROM tenant"),
        ),
        (
            "anklang_app",
            format!("{insert}, at) {values}), now() FROM tenant"),
        ),
        (
            "anklang_worker",
            "UPDATE audit_entry SET at = now()".to_owned(),
        ),
        ("anklang_worker", "DELETE FROM audit_entry".to_owned()),
        ("anklang_worker", format!("{insert}) {values}) FROM tenant")),
    ] {
        let sql = format!("BEGIN; SET LOCAL ROLE {role}; {sql}; COMMIT");
        let refused = log.owner.batch_execute(&sql).await.unwrap_err();
        let said = refused.as_db_error().unwrap().message().to_owned();
        assert!(said.contains("permission denied"), "{role} {sql}: {said}");
        log.owner.batch_execute("ROLLBACK").await.unwrap();
    }
    let (code, said) = log.verify(&["--head", &log.noted]).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn what_gets_past_the_database_is_found() {
    let log = Log::start().await;
    let is_broken = Log::is_broken;
    for (sql, why) in [
        (
            "UPDATE audit_entry SET caller = 'tokens/other' WHERE seq = 3",
            "entry 3: changed",
        ),
        (
            "UPDATE audit_entry SET at = at - interval '1 microsecond' WHERE seq = 1",
            "entry 1: changed",
        ),
        (
            "UPDATE audit_entry SET resources = '{}' WHERE seq = 6",
            "entry 6: changed",
        ),
        (
            "UPDATE audit_entry SET hash = decode(repeat('00', 32), 'hex') WHERE seq = 4",
            "entry 4: changed",
        ),
        ("DELETE FROM audit_entry WHERE seq = 3", "entry 3: missing"),
        ("DELETE FROM audit_entry WHERE seq = 1", "entry 1: missing"),
        (
            "INSERT INTO audit_entry (tenant_id, caller, method, resources, request_hash, seq, hash)
             SELECT tenant_id, caller, method, resources, request_hash, 7, hash
             FROM audit_entry WHERE seq = 6",
            "entry 7: changed",
        ),
        // Two change places.
        (
            "UPDATE audit_entry SET seq = 100 WHERE seq = 2;
             UPDATE audit_entry SET seq = 2 WHERE seq = 5;
             UPDATE audit_entry SET seq = 5 WHERE seq = 100",
            "entry 2: changed",
        ),
        (
            "UPDATE audit_entry SET seq = seq + 10 WHERE seq > 4",
            "entry 5: missing",
        ),
    ] {
        log.tamper(sql).await;
        is_broken(log.verify(&[]).await, why);
        log.restore().await;
        let (code, said) = log.verify(&[]).await;
        assert_eq!(code, 0, "{sql}, undone: {said}");
    }

    // A part says nothing of what is before it.
    log.tamper("UPDATE audit_entry SET caller = 'tokens/other' WHERE seq = 3")
        .await;
    is_broken(log.verify(&["--from", "3"]).await, "entry 3: changed");
    let (code, said) = log.verify(&["--from", "4", "--head", &log.noted]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 entries of tenant"), "{said}");
    assert!(said.contains("whole behind entry 3"), "{said}");
    let all = "2020-01-01T00:00:00Z";
    is_broken(log.verify(&["--from", all]).await, "entry 3: changed");
    log.restore().await;

    // Where the part has nothing, a head tells whether the end is still the one that was noted.
    let parts = ["8", "2099-01-01T00:00:00Z"];
    let hash = "0a".repeat(32);
    let (former, other) = (format!("3:{hash}"), format!("6:{hash}"));
    for from in parts {
        let (code, said) = log.verify(&["--from", from]).await;
        assert_eq!(code, 3, "{from}: {said}");
        let nothing = "no entries in this part, behind entry 6";
        assert!(said.contains(nothing), "{from}: {said}");
        let (code, said) = log.verify(&["--from", from, "--head", &log.noted]).await;
        assert_eq!(code, 0, "{from}: {said}");
        assert!(said.contains(nothing), "{from}: {said}");
        assert!(
            said.contains(&format!("head {}", log.noted)),
            "{from}: {said}"
        );
        let args = ["--from", from, "--head", &former, "--allow-uncompared"];
        let (code, said) = log.verify(&args[..4]).await;
        assert_eq!(code, 4, "{from}: {said}");
        let (code, said) = log.verify(&args).await;
        assert_eq!(code, 0, "{from}: {said}");
        is_broken(
            log.verify(&["--from", from, "--head", &other]).await,
            "entry 6: the head differs",
        );
    }

    // Who takes away the end, and lets the log go on, is found by who has noted the head.
    log.tamper("DELETE FROM audit_entry WHERE seq = 6").await;
    let (code, said) = log.verify(&[]).await;
    assert_eq!(code, 0, "{said}");
    is_broken(
        log.verify(&["--head", &log.noted]).await,
        "entry 6: missing",
    );
    for from in parts {
        is_broken(
            log.verify(&["--from", from, "--head", &log.noted]).await,
            "entry 6: missing",
        );
    }
    let client = log.server.client("linden").await.unwrap();
    for name in ["G", "H"] {
        change(&client, "linden", name).await.unwrap();
    }
    sealed(&log.server).await;
    let (code, said) = log.verify(&[]).await;
    assert_eq!(code, 0, "{said}");
    is_broken(
        log.verify(&["--head", &log.noted]).await,
        "entry 6: the head differs",
    );
}

#[tokio::test]
async fn what_is_done_to_an_exported_file_is_found() {
    let log = Log::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let path = file.display().to_string();
    let at = format!("http://{}", log.server.addr);
    let args = ["export", "--server", &at, "--tenant", "linden"];
    let (code, said) = audit(&[&args[..], &["--out", &path]].concat()).await;
    assert_eq!(code, 0, "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);

    let verify = async |lines: &[&str], more: &[&str]| {
        std::fs::write(&file, lines.join("\n")).unwrap();
        audit(&[&["verify", &path][..], more].concat()).await
    };
    let (code, said) = verify(&lines, &["--head", &log.noted]).await;
    assert_eq!(code, 0, "{said}");
    let is_broken = Log::is_broken;
    let mut moved = lines.clone();
    moved.swap(1, 4);
    is_broken(verify(&moved, &[]).await, "entry 2: out of order");
    let without = [&lines[..2], &lines[3..]].concat();
    is_broken(verify(&without, &[]).await, "entry 3: missing");
    let twice = [&lines[..3], &lines[2..]].concat();
    is_broken(verify(&twice, &[]).await, "entry 3: out of order");
    let other = lines[3].replace("brands/linden", "brands/other");
    let changed = [&lines[..3], &[&other[..]], &lines[4..]].concat();
    is_broken(verify(&changed, &[]).await, "entry 4: changed");
    let garbled = [&lines[..3], &["garbled"], &lines[4..]].concat();
    is_broken(verify(&garbled, &[]).await, "entry 4: changed");
    let (code, said) = verify(&lines[..5], &[]).await;
    assert_eq!(code, 0, "{said}");
    let short = verify(&lines[..5], &["--head", &log.noted]).await;
    is_broken(short, "entry 6: missing");
}
