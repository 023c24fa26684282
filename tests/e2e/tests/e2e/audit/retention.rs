//! Entries that are older than `audit.keep_days` go, the log says so, and the chain of what stays is whole.

use anklang_testkit::{Options, TestServer};

use super::{audit, change, head, list, sealed};
use crate::utility::until;

const OLD: &str = "INSERT INTO audit_entry (tenant_id, at, caller, method, resources, request_hash)
    SELECT id, now() - interval '40 days', 'tokens/old', '/x/Y', ARRAY['customers/1'],
           decode(repeat('00', 32), 'hex')
    FROM tenant, generate_series(1, 5) WHERE slug = 'linden'";

#[tokio::test]
async fn old_entries_go_and_the_chain_stays_whole() {
    let mut server = TestServer::start_with(Options {
        config: "[audit]\nkeep_days = 30\n".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = server.client("linden").await.unwrap();
    let owner = server.database.connect().await.unwrap();
    owner.batch_execute(OLD).await.unwrap();
    sealed(&server).await;
    let old = head(&client).await;
    assert_eq!(old.seq, 5);
    for name in ["A", "B", "C"] {
        change(&client, "linden", name).await.unwrap();
    }
    sealed(&server).await;
    let noted = head(&client).await;

    // It looks when it starts, and every hour.
    server.restart().await.unwrap();
    let client = server.client("linden").await.unwrap();
    until("old entries are gone", async || {
        let left = "SELECT count(*) FROM audit_entry WHERE caller = 'tokens/old'";
        server.database.one(left).await.unwrap() == "0"
    })
    .await;
    let told = list(&client, "caller = anklang").await;
    let [told] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((told.seq, told.written_count), (9, Some(5)));
    assert_eq!(told.request_sha256, old.hash);
    assert!(told.resources[0].starts_with("auditEntries/"), "{told:?}");
    assert!(told.resources[1].starts_with("before/"), "{told:?}");
    let lost = "SELECT count(*) FROM audit_resource x
                WHERE NOT EXISTS (SELECT FROM audit_entry e WHERE e.id = x.entry_id)";
    assert_eq!(server.database.one(lost).await.unwrap(), "0");

    let at = format!("http://{}", server.addr);
    let verify = async |head: &str| {
        let args = ["verify", "--server", &at, "--tenant", "linden"];
        audit(&[&args[..], &["--head", head]].concat()).await
    };
    let (code, said) = verify(&format!("8:{}", noted.hash)).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("4 entries of tenant"), "{said}");
    assert!(said.contains("entries 1 to 5 went"), "{said}");
    let (code, said) = verify(&format!("5:{}", old.hash)).await;
    assert_eq!(code, 0, "{said}");
    let (code, said) = verify(&format!("5:{}", noted.hash)).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("entry 5: the head differs"), "{said}");
    let (code, said) = verify(&format!("3:{}", noted.hash)).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("its entry went"), "{said}");

    // Nobody else removes or says so, and one entry more that is missing is not taken for old.
    for (role, sql, why) in [
        (
            "anklang_app",
            "INSERT INTO audit_entry (tenant_id, caller, method, resources, request_hash, written)
             SELECT id, 'anklang', '/x/Y', '{}', decode(repeat('00', 32), 'hex'), 6 FROM tenant",
            "only the retention",
        ),
        (
            "anklang_app",
            "SELECT anklang_audit_remove(id) FROM tenant",
            "permission denied",
        ),
        (
            "anklang_worker",
            "DELETE FROM audit_entry",
            "permission denied",
        ),
    ] {
        let sql = format!("BEGIN; SET LOCAL ROLE {role}; {sql}; COMMIT");
        let refused = owner.batch_execute(&sql).await.unwrap_err();
        let said = refused.as_db_error().unwrap().message().to_owned();
        assert!(said.contains(why), "{role}: {said}");
        owner.batch_execute("ROLLBACK").await.unwrap();
    }
    let young = "DELETE FROM audit_entry WHERE seq = 6";
    let refused = owner.batch_execute(young).await.unwrap_err();
    let said = refused.as_db_error().unwrap().message().to_owned();
    assert!(said.contains("only added to"), "{said}");
    let by_force = format!(
        "BEGIN; ALTER TABLE audit_entry DISABLE TRIGGER USER; {young};
         ALTER TABLE audit_entry ENABLE TRIGGER USER; COMMIT"
    );
    owner.batch_execute(&by_force).await.unwrap();
    let (code, said) = verify(&format!("8:{}", noted.hash)).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("broken: entry 1: missing"), "{said}");
}
