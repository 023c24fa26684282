//! Winback in a real database, against what it means: the rule on the orders of CDNOW against plain SQL, a
//! season, days that follow on each other, orders that win back against the domain's rule, mails that came to
//! nothing, and figures of histories against counting one by one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod analysis;
mod lost;
mod rule;
mod won_back;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anklang_local::cluster::{Cluster, Options};
use anklang_store::tenant::{self, Tenant};
use anklang_store::{Store, migrate};
use chrono::NaiveDate;

/// A database with a tenant in Berlin.
struct Lab {
    tenant: Tenant,
    store: Store,
    url: String,
    // After the store: connections end before the server does, the folder goes last.
    _cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Lab {
    async fn open() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = Cluster::start(Options::test(folder.path().join("db")))
            .await
            .unwrap();
        cluster.ensure_database("model").await.unwrap();
        let url = cluster.url("model");
        let store = Store::new(&url, 4).unwrap();
        migrate::up(&store).await.unwrap();
        let zone = chrono_tz::Tz::Europe__Berlin;
        let tenant = tenant::upsert(&store, "one", "One", zone).await.unwrap();
        Lab {
            tenant,
            store,
            url,
            _cluster: cluster,
            _folder: folder,
        }
    }

    /// A connection of whoever owns the tables.
    async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// Adds customers.
    async fn customers(&self, numbers: &[&str]) {
        let sql = "INSERT INTO customer (tenant_id, id, number, kind)
                   SELECT id, anklang_uuid7(), n, 'person' FROM tenant, unnest($1::text[]) n";
        self.connect()
            .await
            .execute(sql, &[&numbers])
            .await
            .unwrap();
    }

    /// Adds orders of one line: number, customer, when and amount.
    async fn orders(&self, orders: &[(String, &str, String, String)]) {
        let column = |get: fn(&(String, &str, String, String)) -> String| -> Vec<String> {
            orders.iter().map(get).collect()
        };
        let numbers = column(|o| o.0.clone());
        let customers = column(|o| o.1.to_owned());
        let (times, amounts) = (column(|o| o.2.clone()), column(|o| o.3.clone()));
        let sql = "WITH given AS (
                       SELECT t.id AS tenant_id, anklang_uuid7() AS id, g.* FROM tenant t,
                           unnest($1::text[], $2::text[], $3::text[], $4::text[])
                           g (number, customer, time, amount)),
                   made AS (
                       INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency)
                       SELECT g.tenant_id, g.id, g.number, c.id, g.time::timestamptz, 'EUR'
                       FROM given g
                       JOIN customer c ON c.tenant_id = g.tenant_id AND c.number = g.customer)
                   INSERT INTO order_line (tenant_id, order_id, line, quantity, unit_price)
                   SELECT tenant_id, id, 1, 1, amount::numeric FROM given";
        // The lines' orders are of the same statement: the key is looked at when it is over.
        let made = self.connect().await;
        made.execute(sql, &[&numbers, &customers, &times, &amounts])
            .await
            .unwrap();
    }
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// The orders of CDNOW: customer, day, amount; or nothing when they are not there.
fn cdnow() -> Option<Vec<(String, String, String)>> {
    // Beside the repository, also where that is checked out one folder deeper.
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let text = folders
        .find_map(|folder| fs::read_to_string(folder.join("shared/data/cdnow/orders.csv")).ok());
    let Some(text) = text else {
        eprintln!("skipped: the orders of CDNOW are not there");
        return None;
    };
    let line = |line: &str| {
        let [customer, day, _, amount] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("a line with four fields: {line}");
        };
        (customer.to_owned(), day.to_owned(), amount.to_owned())
    };
    Some(text.lines().skip(1).map(line).collect())
}
