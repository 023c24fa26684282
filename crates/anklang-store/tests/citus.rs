//! Whether the tables could lie on several servers, by tenant: what Citus asks of keys and references, looked up in a
//! migrated database (docs/citus.md). Other than it says there, and this fails.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anklang_local::cluster::{Cluster, Options};
use anklang_store::{Store, migrate};

/// Tables that would lie on each server, as they belong to no tenant, with the reason.
const REFERENCE: [(&str, &str); 2] = [
    ("server_key", "seals the secrets of all tenants; one row"),
    ("tenant", "names the tenants: all others refer to it"),
];

/// The page that says how tables would be distributed.
const PAGE: &str = include_str!("../../../docs/citus.md");

/// The tables of tenants whose triggers would have to run on each server, as the page says.
const TRIGGERS: &str = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger
    WHERE NOT tgisinternal AND tgrelid <> 'tenant'::regclass ORDER BY 1";

/// All tables but the list of migrations.
const TABLES: &str = "SELECT relname::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname NOT LIKE '\\_\\_%'";

/// Tables of tenants that have no column for its tenant by which they could be distributed.
const NO_TENANT: &str = "SELECT t.relname::text FROM tables t WHERE NOT EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'tenant_id' AND a.attnotnull
        AND a.atttypid = 'uuid'::regtype)";

/// Tables of tenants without a primary key.
const NO_KEY: &str = "SELECT t.relname::text FROM tables t WHERE NOT EXISTS (
    SELECT FROM pg_index x WHERE x.indrelid = t.oid AND x.indisprimary)";

/// Unique indexes and exclusions that would have to be looked up on all servers.
const UNIQUE: &str = "SELECT i.relname::text FROM tables t JOIN pg_index x ON x.indrelid = t.oid
    JOIN pg_class i ON i.oid = x.indexrelid
    WHERE (x.indisunique OR x.indisexclusion) AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'tenant_id'
            AND a.attnum = ANY(x.indkey[0:x.indnkeyatts - 1]))";

/// References to rows that may lie on another server: neither of the same tenant by its column, nor to a table that
/// lies on each.
const FOREIGN: &str = "SELECT k.conname::text FROM tables t
    JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
    WHERE k.confrelid::regclass::text <> ALL($1) AND NOT EXISTS (
        SELECT FROM unnest(k.conkey, k.confkey) AS pair (own, other)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = pair.own AND a.attname = 'tenant_id'
        JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = pair.other AND b.attname = 'tenant_id')";

/// References that would empty the column by which a table is distributed.
const EMPTIED: &str = "SELECT k.conname::text FROM tables t
    JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'tenant_id' AND a.attnum = ANY(k.conkey)
    WHERE (k.confdeltype IN ('n', 'd')
           AND (k.confdelsetcols IS NULL OR a.attnum = ANY(k.confdelsetcols)))
       OR k.confupdtype IN ('n', 'd', 'c')";

/// References from tables that lie on each server to those that do not.
const BACK: &str = "SELECT conname::text FROM pg_constraint
    WHERE contype = 'f' AND conrelid::regclass::text = ANY($1) AND confrelid::regclass::text <> ALL($1)";

struct Lab {
    client: tokio_postgres::Client,
    // Connections end before the server does, the folder goes last.
    _cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Lab {
    async fn open() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options::test(folder.path().join("db"));
        let cluster = Cluster::start(options).await.unwrap();
        cluster.ensure_database("citus").await.unwrap();
        let url = cluster.url("citus");
        migrate::up(&Store::new(&url, 2).unwrap()).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        Lab {
            client,
            _cluster: cluster,
            _folder: folder,
        }
    }

    /// Names that a query finds, which has the tables of tenants as `tables` and the others as `$1`.
    async fn names(&self, sql: &str) -> BTreeSet<String> {
        let sql = format!(
            "WITH tables AS MATERIALIZED (
                 SELECT c.oid, c.relname FROM pg_class c
                 WHERE c.relname IN ({TABLES}) AND c.relnamespace = 'public'::regnamespace
                   AND c.relname <> ALL($1::text[]))
             {sql}"
        );
        let reference = REFERENCE.map(|(table, _)| table);
        let rows = self.client.query(&sql, &[&&reference[..]]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_of_tenants_could_be_distributed_by_tenant() {
    let lab = Lab::open().await;
    let tables = lab.names("SELECT relname::text FROM tables").await;
    assert!(tables.len() > 70, "{tables:?}");
    let all = lab.names(TABLES).await;
    let reference: BTreeSet<String> = all.difference(&tables).cloned().collect();
    let listed = REFERENCE.map(|(table, _)| table.to_owned());
    assert_eq!(reference, BTreeSet::from(listed), "tables of no tenant");
    let none = BTreeSet::new();
    for (what, sql) in [
        ("no tenant_id", NO_TENANT),
        ("no primary key", NO_KEY),
        ("unique without tenant_id", UNIQUE),
        ("a reference without tenant_id", FOREIGN),
        ("a reference that empties or moves tenant_id", EMPTIED),
        ("a reference from a table on each server", BACK),
    ] {
        assert_eq!(lab.names(sql).await, none, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_names_all_that_is_not_as_it_should_be() {
    let lab = Lab::open().await;
    for (table, _) in REFERENCE {
        assert!(PAGE.contains(&format!("| `{table}` |")), "{table}");
    }
    let triggers = lab.names(TRIGGERS).await;
    let named: BTreeSet<String> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("Tables with triggers: "))
        .flat_map(|tables| tables.trim_end_matches('.').split(", "))
        .map(|table| table.trim_matches('`').to_owned())
        .collect();
    assert_eq!(named, triggers);
}
