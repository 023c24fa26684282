//! Watching and analysing planned contacts in a real database, against what they mean.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod analysis;
mod filters;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anklang_domain::TenantId;
use anklang_local::cluster::{Cluster, Options};
use anklang_store::{Store, migrate, tenant};
use uuid::Uuid;

/// A database with a tenant that has customers 0 to 8, K0 to K8, of the groups `Obst`, `Brot` and none.
struct Lab {
    tenant: TenantId,
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
        let tenant = tenant::upsert(&store, "one", "One", zone).await.unwrap().id;
        let lab = Lab {
            tenant,
            store,
            url,
            _cluster: cluster,
            _folder: folder,
        };
        let sql = lab.connect().await;
        for n in 0..9 {
            let group = GROUPS[n % GROUPS.len()];
            let row = format!(
                "INSERT INTO customer (tenant_id, id, number, kind, customer_group)
                 VALUES ('{}', '{}', 'K{n}', 'person', '{group}')",
                tenant.0,
                customer(n)
            );
            sql.batch_execute(&row).await.unwrap();
        }
        lab
    }

    async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// Adds contacts with the ids 1 to `n`, of today.
    async fn contacts(&self, n: usize) {
        let rows = format!(
            "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date, contact_date,
                 contact_at, window_from, window_to, next_at)
             SELECT '{}', ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, 'manual',
                    '{}', current_date, current_date, now(), now(), now(), now()
             FROM generate_series(1, {n}) n",
            self.tenant.0,
            customer(0)
        );
        self.connect().await.batch_execute(&rows).await.unwrap();
    }
}

const GROUPS: [&str; 3] = ["Obst", "Brot", ""];

fn customer(n: usize) -> Uuid {
    Uuid::from_u128((1 << 100) + n as u128)
}

/// Numbers that look as if by chance, and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}
