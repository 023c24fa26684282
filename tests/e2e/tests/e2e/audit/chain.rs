//! The chain of the audit log: sealed by any server, in one line, whatever dies.

use std::net::SocketAddr;
use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::{Client, Options, TestServer};
use tonic::Code;

use super::{audit, change, export, head, sealed};
use crate::hold::Hold;
use crate::identity::guarded;
use crate::refused;
use crate::utility::until;

/// Changes of one client after the other, by its number.
const CHANGES: usize = 25;

/// Checks the log of `linden` on a server; gives how many entries there are, and the head.
async fn whole(addr: SocketAddr) -> (usize, String) {
    let server = format!("http://{addr}");
    let (code, said) = audit(&["verify", "--server", &server, "--tenant", "linden"]).await;
    assert_eq!(code, 0, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let [sum, head, uncompared] = lines[..] else {
        panic!("{said}");
    };
    let (sum, whose) = sum.split_once(" entries of tenant ").unwrap();
    let whose = whose.strip_suffix(", the chain is whole").unwrap();
    assert!(uuid::Uuid::try_parse(whose).is_ok(), "{said}");
    let head = head.strip_prefix("head ").unwrap();
    assert!(uncompared.contains("not compared"), "{said}");
    (sum.parse().unwrap(), head.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_on_two_servers_make_one_chain() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let further = server.further().await.unwrap();
    let at = format!("http://{}", server.addr);
    let (code, said) = audit(&["verify", "--server", &at, "--tenant", "linden"]).await;
    assert_eq!(code, 3, "nothing was checked: {said}");
    assert!(said.contains("no entries"), "{said}");
    change(&client, "b0", "first").await.unwrap();
    let mut working = Vec::new();
    for n in 0..8 {
        let addr = [server.addr, further.addr][n % 2];
        working.push(tokio::spawn(async move {
            let client = Client::connect(addr, "linden").await.unwrap();
            for i in 0..CHANGES {
                // Some of one thing, and each some of its own.
                let code = format!("b{}", if i % 2 == 0 { 0 } else { n });
                change(&client, &code, &format!("{n}.{i}")).await.unwrap();
            }
        }));
    }
    for work in working {
        work.await.unwrap();
    }
    sealed(&server).await;
    let (sum, noted) = whole(server.addr).await;
    assert_eq!(sum, 1 + 8 * CHANGES);
    assert_eq!(whole(further.addr).await, (sum, noted.clone()));

    let (entries, cursor) = export(&client, "").await.unwrap();
    let numbers: Vec<i64> = entries.iter().map(|e| e.seq).collect();
    let gapless: Vec<i64> = (1..).take(sum).collect();
    assert_eq!(numbers, gapless);
    let newest = head(&client).await;
    assert_eq!(noted, format!("{}:{}", newest.seq, newest.hash));
    assert_eq!(entries.last().unwrap().hash, newest.hash);

    // An export goes on behind its cursor with what came since.
    assert_eq!(export(&client, &cursor).await.unwrap().0, []);
    change(&client, "b0", "later").await.unwrap();
    sealed(&server).await;
    let (later, _) = export(&client, &cursor).await.unwrap();
    assert_eq!(later.len(), 1);
    let more = export(&client, "7").await.unwrap().0;
    assert_eq!((more.len(), more[0].seq), (sum + 1 - 7, 8));
    for wrong in ["x", "-1", "0", "7.5"] {
        let refused = export(&client, wrong).await.unwrap_err();
        refused::names(&refused, &["cursor"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_while_it_seals_leaves_nothing_half_done() {
    let mut server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    change(&client, "linden", "before").await.unwrap();
    sealed(&server).await;
    let (_, noted) = whole(server.addr).await;

    let hold = Hold::updates(&server, "audit_entry", "NEW.seq = 3").await;
    for i in 0..10 {
        change(&client, "linden", &format!("{i}")).await.unwrap();
    }
    hold.reached().await;
    // Changes do not wait for the chain.
    change(&client, "linden", "meanwhile").await.unwrap();
    server.kill();
    hold.release().await;
    server.restart().await.unwrap();
    sealed(&server).await;
    assert_eq!(whole(server.addr).await.0, 12);
    let at = format!("http://{}", server.addr);
    let args = ["verify", "--server", &at, "--tenant", "linden"];
    let (code, said) = audit(&[&args[..], &["--head", &noted]].concat()).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn servers_of_another_role_leave_sealing_to_the_scheduler() {
    let server = TestServer::start_with(Options {
        roles: vec!["api", "worker"],
        ..Default::default()
    })
    .await
    .unwrap();
    let client = server.client("linden").await.unwrap();
    change(&client, "linden", "one").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(head(&client).await.seq, 0);
    assert_eq!(head(&client).await.hash, "0".repeat(64));
    assert_eq!(export(&client, "").await.unwrap().0, []);
    let listed = super::list(&client, "").await;
    assert_eq!((listed[0].seq, &listed[0].hash[..]), (0, ""));
    assert_eq!(head(&client).await.unsealed_count, 1);
    assert_eq!(
        head(&client).await.oldest_unsealed_time,
        listed[0].create_time
    );
    // Nobody is warned at once.
    let at = format!("http://{}", server.addr);
    let args = ["verify", "--server", &at, "--tenant", "linden"];
    let (code, said) = audit(&args).await;
    assert_eq!(code, 3, "{said}");
    assert!(!said.contains("not sealed"), "{said}");
    let owner = server.database.connect().await.unwrap();
    let older = "ALTER TABLE audit_entry DISABLE TRIGGER USER;
                 UPDATE audit_entry SET at = at - interval '5 minutes';
                 ALTER TABLE audit_entry ENABLE TRIGGER USER";
    owner.batch_execute(older).await.unwrap();
    let (code, said) = audit(&args).await;
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("1 entries are not sealed"), "{said}");

    let _scheduler = server.further_as(&["scheduler"]).await.unwrap();
    until("it is sealed", async || head(&client).await.seq == 1).await;
    let listed = super::list(&client, "seq = 1").await;
    let sealed = head(&client).await;
    assert_eq!(listed[0].hash, sealed.hash);
    assert_eq!(
        (sealed.unsealed_count, sealed.oldest_unsealed_time),
        (0, None)
    );
}

#[tokio::test]
async fn the_program_exports_what_it_then_verifies_without_a_server() {
    let (server, _raw) = guarded("", "").await;
    let client = server.client("linden").await.unwrap();
    // More than a part of an export.
    let csv = |n: usize| format!("code,name,sender_email\nn{n},Name,post@sw.example\n");
    for n in 0..260 {
        let sums = client.import(ImportEntity::Brands, csv(n)).await.unwrap();
        assert_eq!(sums.created, 1);
    }
    sealed(&server).await;
    let noted = head(&client).await;
    let noted = format!("{}:{}", noted.seq, noted.hash);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl").display().to_string();
    let at = format!("http://{}", server.addr);

    // It shows a token as the other commands do.
    let export = ["export", "--server", &at, "--tenant", "linden"];
    let (code, said) = audit(&export).await;
    assert_eq!(code, 2, "{said}");
    let nobody = Client::connect(server.addr, "linden").await.unwrap();
    let status = super::export(&nobody, "").await.unwrap_err();
    refused::is(&status, Code::Unauthenticated, "UNAUTHENTICATED");
    let token = server.token().unwrap();
    let out = [&export[..], &["--token", token, "--out", &file]].concat();
    let (code, said) = audit(&out).await;
    assert_eq!((code, &said[..]), (0, ""));
    let (code, printed) = audit(&[&export[..], &["--token", token]].concat()).await;
    assert_eq!(code, 0, "{printed}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(printed, text);
    assert_eq!(text.lines().count(), 261);
    for line in text.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["caller"], "tokens/own");
        assert_eq!(entry["hash"].as_str().unwrap().len(), 64);
    }

    // One that comes to nothing leaves what was there, and nothing beside it.
    let (code, said) = audit(&[&export[..], &["--out", &file]].concat()).await;
    assert_eq!(code, 2, "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let all = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(all.count(), 1);
    let (code, said) =
        audit(&[&export[..], &["--token", token, "--out", "/dev/null"]].concat()).await;
    assert_eq!(code, 2, "{said}");

    let whose = "SELECT id::text FROM tenant WHERE slug = 'linden'";
    let whose = server.database.one(whose).await.unwrap();
    let whole = format!("261 entries of tenant {whose}, the chain is whole\nhead {noted}\n");
    let (code, said) = audit(&["verify", &file]).await;
    assert_eq!(code, 0, "{said}");
    let more = said.strip_prefix(&whole).unwrap();
    assert!(more.contains("not compared with a noted head"), "{said}");
    let (code, said) = audit(&["verify", &file, "--head", &noted]).await;
    assert_eq!((code, said), (0, whole));
    let nothing = folder.path().join("nothing.jsonl").display().to_string();
    std::fs::write(&nothing, "").unwrap();
    let (code, said) = audit(&["verify", &nothing]).await;
    assert_eq!(code, 3, "{said}");
    let (code, said) = audit(&["verify", &nothing, "--head", &noted]).await;
    assert_eq!(code, 1, "{said}");

    for wrong in [
        &["verify"][..],
        &["verify", &file, "--head", "17"],
        &["verify", &file, "--head", "17:00"],
        &["export"],
    ] {
        let (code, said) = audit(wrong).await;
        assert_eq!(code, 64, "{wrong:?}: {said}");
    }
    for lost in [
        &["verify", "/nowhere/audit.jsonl"][..],
        &["verify", "--server", "http://127.0.0.1:1", "--tenant", "x"],
    ] {
        let (code, said) = audit(lost).await;
        assert_eq!(code, 2, "{lost:?}: {said}");
    }
}
