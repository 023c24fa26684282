//! Entries that are older than `audit.keep_days` go, the log says so, and the chain of what stays is whole.

use anklang_testkit::{Options, TestServer};
use tokio_postgres::Client as Database;

use super::{audit, change, head, list, sealed};
use crate::utility::until;

const OLD: &str = "INSERT INTO audit_entry (tenant_id, at, caller, method, resources, request_hash)
    SELECT id, now() - interval '40 days', 'tokens/old', '/x/Y', ARRAY['customers/1'],
           decode(repeat('00', 32), 'hex')
    FROM tenant, generate_series(1, 5) WHERE slug = 'linden'";

/// Why the database refuses something to one of its roles; it is undone.
async fn refused(owner: &Database, role: &str, sql: &str) -> String {
    let sql = format!("BEGIN; SET LOCAL ROLE {role}; {sql}; COMMIT");
    let refused = owner.batch_execute(&sql).await.unwrap_err();
    let said = refused.as_db_error().unwrap().message().to_owned();
    owner.batch_execute("ROLLBACK").await.unwrap();
    said
}

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
    let verify = async |more: &[&str]| {
        let args = ["verify", "--server", &at, "--tenant", "linden"];
        audit(&[&args[..], more].concat()).await
    };
    let stands = format!("8:{}", noted.hash);
    let (code, said) = verify(&["--head", &stands]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("4 entries of tenant"), "{said}");
    assert!(said.contains("entries 1 to 5 went"), "{said}");
    let (code, said) = verify(&["--head", &format!("5:{}", old.hash)]).await;
    assert_eq!(code, 0, "{said}");
    let (code, said) = verify(&["--head", &format!("5:{}", noted.hash)]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("entry 5: the head differs"), "{said}");
    // A head that cannot be compared says nothing: all that is there may have been made anew.
    let gone = format!("3:{}", noted.hash);
    let (code, said) = verify(&["--head", &gone]).await;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("its entry went"), "{said}");
    let (code, said) = verify(&["--head", &gone, "--allow-uncompared"]).await;
    assert_eq!(code, 0, "{said}");
    let (code, said) = verify(&["--head", &gone, "--head", &stands]).await;
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("not compared"), "{said}");
    // What went was told to be older than 30 days, and no more.
    let (code, said) = verify(&["--head", &stands, "--keep-days", "30"]).await;
    assert_eq!(code, 0, "{said}");
    let (code, said) = verify(&["--head", &stands, "--keep-days", "31"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("entry 9: removed too soon"), "{said}");
    let (code, said) = verify(&["--keep-days", "29"]).await;
    assert_eq!(code, 64, "{said}");

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
            "SELECT anklang_audit_retire(id, 29, 20000) FROM tenant",
            "for at least 30 days",
        ),
        (
            "anklang_worker",
            "SELECT anklang_audit_retire(id, 30, 0) FROM tenant",
            "go at once",
        ),
        (
            "anklang_worker",
            "DELETE FROM audit_entry",
            "permission denied",
        ),
    ] {
        let said = refused(&owner, role, sql).await;
        assert!(said.contains(why), "{role}: {said}");
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
    let (code, said) = verify(&["--head", &stands]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("broken: entry 1: missing"), "{said}");
}

#[tokio::test]
async fn young_entries_stay_whatever_an_entry_says_and_only_the_owner_writes_one() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    for name in ["A", "B"] {
        change(&client, "linden", name).await.unwrap();
    }
    sealed(&server).await;
    let owner = server.database.connect().await.unwrap();

    // A login of the server's own, which only inherits.
    let tell =
        "INSERT INTO audit_entry (tenant_id, caller, method, resources, request_hash, written)
                SELECT id, 'anklang', '/anklang.audit.v1.AuditService/RemoveOldEntries',
                       ARRAY['before/2020-01-01T00:00:00Z'], decode(repeat('00', 32), 'hex'), 1
                FROM tenant WHERE slug = 'linden'";
    let login = format!(
        "RESET ROLE; CREATE ROLE anklang_test_login NOLOGIN IN ROLE anklang_app;
         SELECT set_config('anklang.tenant', id::text, true) FROM tenant WHERE slug = 'linden';
         SET LOCAL ROLE anklang_test_login; {tell}"
    );
    let said = refused(&owner, "anklang_app", &login).await;
    assert!(said.contains("only the retention"), "{said}");

    owner.batch_execute(tell).await.unwrap();
    sealed(&server).await;
    let remove = "SELECT anklang_audit_remove(id) FROM tenant WHERE slug = 'linden'";
    let said = refused(&owner, "anklang_worker", remove).await;
    assert!(said.contains("too young"), "{said}");
    let delete = "DELETE FROM audit_entry WHERE seq = 1";
    let denied = owner.batch_execute(delete).await.unwrap_err();
    let said = denied.as_db_error().unwrap().message().to_owned();
    assert!(said.contains("only added to"), "{said}");
    assert_eq!(list(&client, "").await.len(), 3);
}

#[tokio::test]
async fn what_tells_of_old_entries_does_not_keep_the_retention_busy() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let owner = server.database.connect().await.unwrap();
    let whose = "(SELECT id FROM tenant WHERE slug = 'linden')";
    let retire = async |most: u32| {
        let sql = format!("SELECT anklang_audit_retire({whose}, 30, {most})::text");
        server.database.one(&sql).await.unwrap() == "true"
    };
    let remove = async || {
        let sql = format!("SELECT anklang_audit_remove({whose})::text");
        server.database.one(&sql).await.unwrap()
    };
    let told = OLD.replace("'tokens/old'", "'anklang'");
    owner.batch_execute(&told).await.unwrap();
    sealed(&server).await;
    assert!(!retire(20_000).await, "nobody else's would go");

    owner.batch_execute(OLD).await.unwrap();
    sealed(&server).await;
    assert!(retire(6).await, "more than go at once");
    sealed(&server).await;
    assert_eq!(remove().await, "6");
    assert!(!retire(20_000).await, "it was told today");
    assert!(retire(2).await, "more than go at once");
    sealed(&server).await;
    assert_eq!(remove().await, "2");
    let left = list(&client, "caller = tokens/old").await;
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn tables_of_a_session_are_not_taken_for_those_of_the_log() {
    let server = TestServer::start().await.unwrap();
    server.add_tenant("linden").await.unwrap();
    let owner = server.database.connect().await.unwrap();
    let sql = "BEGIN; SET LOCAL ROLE anklang_app;
        SELECT set_config('anklang.tenant', id::text, true) FROM tenant WHERE slug = 'linden';
        CREATE TEMP TABLE audit_resource AS SELECT * FROM audit_resource LIMIT 0;
        CREATE FUNCTION pg_temp.mine() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''ran as %'', current_user; END';
        CREATE TRIGGER mine BEFORE INSERT ON pg_temp.audit_resource
            FOR EACH ROW EXECUTE FUNCTION pg_temp.mine();
        INSERT INTO audit_entry (tenant_id, caller, method, resources, request_hash)
        SELECT id, 'x', '/x/Y', '{brands/mine}', decode(repeat('00', 32), 'hex')
        FROM tenant WHERE slug = 'linden';
        COMMIT";
    owner.batch_execute(sql).await.unwrap();
    let found = "SELECT count(*) FROM audit_resource
                 WHERE resource_hash = anklang_resource_hash('brands/mine')";
    assert_eq!(server.database.one(found).await.unwrap(), "1");

    // Nor does the log's function serve a table of somebody else's.
    let of_others = "CREATE TEMP TABLE others (LIKE audit_entry);
        CREATE TRIGGER others AFTER INSERT ON others FOR EACH ROW EXECUTE FUNCTION audit_entry_names()";
    let said = refused(&owner, "anklang_app", of_others).await;
    assert!(said.contains("permission denied"), "{said}");

    // As for all functions that run as the owner.
    let open = "SELECT coalesce(string_agg(proname, ' '), '') FROM pg_proc
        WHERE prosecdef AND pronamespace = current_schema()::regnamespace
          AND (proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)
               OR coalesce(proconfig::text, '') !~ 'search_path=pg_catalog, [^,]+, pg_temp\"')";
    assert_eq!(server.database.one(open).await.unwrap(), "");
}
