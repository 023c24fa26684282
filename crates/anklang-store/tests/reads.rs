//! Reads that begin with their question, over a real database: as whom they ask, and how their connections are left.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anklang_domain::TenantId;
use anklang_local::cluster::{Cluster, Options};
use anklang_store::{Conn, Result, Store, StoreError, migrate, tenant};
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use tokio::time::timeout;

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    word: String,
}

/// The one value of a query without binds.
async fn word(mut conn: &Conn, sql: &str) -> Result<String> {
    let row: Word = diesel::sql_query(sql).get_result(&mut conn).await?;
    Ok(row.word)
}

const WHO: &str = "SELECT current_user || ' ' || current_setting('anklang.tenant') || ' '
                          || current_setting('transaction_read_only') AS word";

/// As whom a question is asked.
async fn who(store: &Store, tenant: TenantId) -> String {
    let read = store.read(tenant).await.unwrap();
    read.ask(|conn| word(conn, WHO)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_question_is_asked_in_a_transaction_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let cluster = Cluster::start(Options::test(folder.path().join("db")))
        .await
        .unwrap();
    cluster.ensure_database("reads").await.unwrap();
    let store = Store::new(&cluster.url("reads"), 4).unwrap();
    migrate::up(&store).await.unwrap();
    let zone = chrono_tz::Tz::Europe__Berlin;
    let one = tenant::upsert(&store, "one", "One", zone).await.unwrap().id;
    let two = tenant::upsert(&store, "two", "Two", zone).await.unwrap().id;

    // On new connections and on old ones, one tenant's behind the other's.
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..400 {
        let (store, tenant) = (store.clone(), if n % 2 == 0 { one } else { two });
        asked.spawn(async move {
            assert_eq!(
                who(&store, tenant).await,
                format!("anklang_app {tenant} on")
            );
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }

    // What changes something is none.
    let read = store.read(one).await.unwrap();
    let change = "WITH made AS (INSERT INTO audit_entry DEFAULT VALUES RETURNING 1) SELECT 'made' AS word FROM made";
    read.ask(|conn| word(conn, change)).await.unwrap_err();
    let again = read.ask(|conn| word(conn, WHO)).await;
    assert!(matches!(again, Err(StoreError::Stored(_))), "{again:?}");
    drop(read);

    // Given up while the database is at it: the statement is ended, and no connection is left in a transaction.
    for _ in 0..8 {
        let read = store.read(one).await.unwrap();
        let slow = read.ask(|conn| word(conn, "SELECT 'x' AS word FROM pg_sleep(600)"));
        timeout(Duration::from_millis(50), slow).await.unwrap_err();
    }
    // Given up before it asks.
    drop(store.read(two).await.unwrap());
    for tenant in [one, two, one, two, one, two] {
        assert_eq!(
            who(&store, tenant).await,
            format!("anklang_app {tenant} on")
        );
    }
    let left = "SELECT count(*)::text AS word FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - interval '1 second'";
    let tx = store.begin_worker().await.unwrap();
    for _ in 0..100 {
        if word(&tx, left).await.unwrap() == "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(word(&tx, left).await.unwrap(), "0");
}
