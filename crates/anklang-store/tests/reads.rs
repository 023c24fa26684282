//! Reads that begin with their question, over a real database: as whom they ask, and how their connections are left.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

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
    store
        .read(tenant)
        .ask(|conn| word(conn, WHO))
        .await
        .unwrap()
}

async fn open() -> (
    Store,
    TenantId,
    TenantId,
    String,
    Cluster,
    tempfile::TempDir,
) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let cluster = Cluster::start(Options::test(folder.path().join("db")))
        .await
        .unwrap();
    cluster.ensure_database("reads").await.unwrap();
    let url = cluster.url("reads");
    let store = Store::new(&url, 4).unwrap();
    migrate::up(&store).await.unwrap();
    let zone = chrono_tz::Tz::Europe__Berlin;
    let one = tenant::upsert(&store, "one", "One", zone).await.unwrap();
    let two = tenant::upsert(&store, "two", "Two", zone).await.unwrap();
    (store, one.id, two.id, url, cluster, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_question_is_asked_in_a_transaction_of_its_own() {
    let (store, one, two, url, _cluster, _folder) = open().await;

    // On new connections and on old ones, one tenant's behind the other's.
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (store, tenant) = (store.clone(), if n % 2 == 0 { one } else { two });
        asking.spawn(async move {
            for _ in 0..25 {
                assert_eq!(
                    who(&store, tenant).await,
                    format!("anklang_app {tenant} on")
                );
            }
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }

    // One question, which changes nothing.
    let read = store.read(one);
    let change = "SELECT id::text AS word FROM customer FOR UPDATE";
    let refused = read.ask(|conn| word(conn, change)).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    let again = read.ask(|conn| word(conn, WHO)).await;
    assert!(matches!(again, Err(StoreError::Stored(_))), "{again:?}");
    drop(read);

    // Given up while the database is at it: the statement is ended, and no connection is left in a transaction.
    for _ in 0..8 {
        let read = store.read(one);
        let slow = read.ask(|conn| word(conn, "SELECT 'x' AS word FROM pg_sleep(600)"));
        timeout(Duration::from_millis(50), slow).await.unwrap_err();
    }
    for tenant in [one, two, one, two, one, two] {
        assert_eq!(
            who(&store, tenant).await,
            format!("anklang_app {tenant} on")
        );
    }
    // As who sees all of them.
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
                AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let until = Instant::now() + Duration::from_secs(8);
    while client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        // The database itself would end them after ten.
        assert!(Instant::now() < until, "a transaction is left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_outside_of_the_transaction_is_not_given() {
    let (store, one, _two, url, _cluster, _folder) = open().await;
    assert_eq!(who(&store, one).await, format!("anklang_app {one} on"));
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    // What begins transactions fails.
    client
        .batch_execute("ALTER ROLE anklang_app RENAME TO gone")
        .await
        .unwrap();
    let read = store.read(one);
    read.ask(|conn| word(conn, "SELECT current_user::text AS word"))
        .await
        .unwrap_err();
    // Also what was found before that is known.
    let read = store.read(one);
    let found = read.ask(async |_| Ok::<_, StoreError>("found")).await;
    assert!(matches!(found, Err(StoreError::Query(_))), "{found:?}");
    drop(read);
    client
        .batch_execute("ALTER ROLE gone RENAME TO anklang_app")
        .await
        .unwrap();
    for _ in 0..8 {
        assert_eq!(who(&store, one).await, format!("anklang_app {one} on"));
    }
}
