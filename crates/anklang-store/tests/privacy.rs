//! What the registry says of persons' data, compared with a migrated database: a new column is looked at, or fails
//! here. And each statement made of it runs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anklang_local::cluster::{Cluster, Options};
use anklang_store::privacy::{self, erase, export, registry, withdraw};
use anklang_store::{Store, migrate, tenant};
use chrono_tz::Tz;
use futures::TryStreamExt;
use uuid::Uuid;

struct Lab {
    store: Store,
    client: tokio_postgres::Client,
    // After the store: connections end before the server does, the folder goes last.
    _cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Lab {
    async fn open() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options::test(folder.path().join("db"));
        let cluster = Cluster::start(options).await.unwrap();
        cluster.ensure_database("privacy").await.unwrap();
        let url = cluster.url("privacy");
        let store = Store::new(&url, 4).unwrap();
        migrate::up(&store).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        Lab {
            store,
            client,
            _cluster: cluster,
            _folder: folder,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_says_what_it_is_about_a_person() {
    let lab = Lab::open().await;
    let columns = "SELECT table_name::text || '.' || column_name FROM information_schema.columns
                   WHERE table_schema = 'public' AND column_name <> 'tenant_id'
                     AND table_name NOT LIKE '\\_\\_%'";
    let there: BTreeSet<String> = lab
        .client
        .query(columns, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(there.len() > 700, "{}", there.len());
    let named: BTreeSet<String> = registry::columns()
        .into_iter()
        .map(|(table, column)| format!("{table}.{column}"))
        .collect();
    let forgotten: Vec<&String> = there.difference(&named).collect();
    assert!(forgotten.is_empty(), "not in the registry: {forgotten:#?}");
    let gone: Vec<&String> = named.difference(&there).collect();
    assert!(gone.is_empty(), "not in the database: {gone:#?}");

    // Objects may name the tenant's people: what exports hold of them is said member by member.
    let objects = "SELECT table_name::text, column_name::text FROM information_schema.columns
                   WHERE table_schema = 'public' AND data_type = 'jsonb'";
    let objects = lab.client.query(objects, &[]).await.unwrap();
    let whole = registry::told_whole();
    for object in &objects {
        let (table, column): (String, String) = (object.get(0), object.get(1));
        let told = whole.contains(&(&table[..], &column[..]));
        assert!(!told, "{table}.{column} is told with all its members");
    }
    assert!(objects.len() > 20, "{}", objects.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_of_the_registry_runs() {
    let lab = Lab::open().await;
    let tenant = tenant::upsert(&lab.store, "one", "One", Tz::Europe__Berlin)
        .await
        .unwrap();
    let sql = format!(
        "INSERT INTO customer (tenant_id, id, number, kind, last_name)
         SELECT '{0}', gen_random_uuid(), n, 'person', 'Muster' FROM unnest(ARRAY['1', '2']) n;
         INSERT INTO contact_point (tenant_id, id, customer_id, channel, address, address_hash)
         SELECT '{0}'::uuid, gen_random_uuid(), id, 'mail', 'm@post.example', 'x'::bytea FROM customer
         UNION ALL
         SELECT '{0}'::uuid, gen_random_uuid(), id, 'mail', 'own@post.example', 'y'::bytea FROM customer
         WHERE number = '1';
         INSERT INTO suppression (tenant_id, channel, address_hash, reason)
         VALUES ('{0}', 'mail', 'x', 'asked by letter'), ('{0}', 'mail', 'y', 'told on the phone');
         INSERT INTO consent (tenant_id, customer_id, channel, purpose, state, evidence, recorded_at)
         SELECT '{0}', id, 'mail', 'marketing', 'granted', 'Muster', now() FROM customer;
         INSERT INTO customer_event (tenant_id, customer_id, kind, details)
         SELECT '{0}', id, 'x', '{{\"note\": \"Muster\", \"worker\": \"users/anna\"}}' FROM customer;
         INSERT INTO request_log (tenant_id, request_id, method, body_hash, response)
         VALUES ('{0}', gen_random_uuid(), 'x', 'x', '\\x0a0b' || 'customers/1'::bytea || 'Muster'),
                ('{0}', gen_random_uuid(), 'x', 'x', '\\x0a0c' || 'customers/12'::bytea)",
        tenant.id.0
    );
    lab.client.batch_execute(&sql).await.unwrap();
    let mut tx = lab.store.begin(tenant.id).await.unwrap();
    let subject = privacy::subject(&mut tx, tenant.id, "1").await.unwrap();
    let subject = subject.unwrap();
    let told = export::count(&mut tx, &subject).await.unwrap();
    assert_eq!((told["customer"], told["consent"]), (1, 1), "{told:?}");
    let mut held = BTreeMap::new();
    for table in export::told() {
        let rows = export::rows(&mut tx, &subject, table).await.unwrap();
        let rows: Vec<serde_json::Value> = rows.try_collect().await.unwrap();
        if !rows.is_empty() {
            held.insert(table.name.to_owned(), rows);
        }
    }
    let lengths = held
        .iter()
        .map(|(name, rows)| (name.clone(), i64::try_from(rows.len()).unwrap()));
    assert_eq!(lengths.collect::<BTreeMap<_, _>>(), told);
    let details = &held["customer_event"][0]["details"];
    assert_eq!(*details, serde_json::json!({"note": "Muster"}));

    let withdrawn = withdraw::withdraw(&mut tx, &tenant, &subject)
        .await
        .unwrap();
    assert!(withdrawn.under_way.is_empty(), "{withdrawn:?}");
    assert_eq!(withdrawn.removed["consent"], 1, "{withdrawn:?}");
    let pieces = erase::pieces(&mut tx, &subject).await.unwrap();
    let (mut at, mut emptied) = (erase::Place::default(), 0);
    while let Some(found) = erase::search(&mut tx, &subject, &pieces, at, 1)
        .await
        .unwrap()
    {
        emptied += found.erased;
        at = found.next;
    }
    assert_eq!(emptied, 1);
    let would = erase::count(&mut tx, &subject).await.unwrap();
    let did = erase::rows(&mut tx, &subject, Uuid::nil()).await.unwrap();
    assert_eq!(would, did);
    assert_eq!((did["customer"], did["contact_point"]), (1, 2), "{did:?}");
    // Another time there is nothing left.
    let again = erase::rows(&mut tx, &subject, Uuid::nil()).await.unwrap();
    assert!(again.is_empty(), "{again:?}");
    tx.commit().await.unwrap();

    let left = lab
        .client
        .query_one(
            "SELECT (SELECT count(*) FROM customer WHERE last_name = 'Muster'),
                    (SELECT count(*) FROM consent WHERE evidence = 'Muster'),
                    (SELECT count(*) FROM customer_event WHERE details <> '{}'),
                    (SELECT count(*) FROM request_log WHERE NOT erased),
                    -- The other one has the address as well, and what was known of it stays.
                    (SELECT count(*) FROM suppression WHERE reason = 'asked by letter'),
                    (SELECT count(*) FROM suppression WHERE reason = 'erased')",
            &[],
        )
        .await
        .unwrap();
    let left: Vec<i64> = (0..6).map(|i| left.get(i)).collect();
    assert_eq!(left, [1, 1, 1, 1, 1, 1]);
}
