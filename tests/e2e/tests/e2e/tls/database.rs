//! TLS to the database: what each `sslmode` takes, and a server all of whose connections are encrypted.

use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use anklang_local::cluster::{self, Cluster};
use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::{Database, Options, TestServer, program};
use tempfile::TempDir;

use super::certificates::{Authority, Signed};
use crate::utility::until;

const NAME: &str = "encrypted";

/// A PostgreSQL of its own that takes no plain text over TCP.
struct World {
    cluster: Cluster,
    address: Ipv4Addr,
    folder: TempDir,
}

impl World {
    async fn start(signed: &Signed) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As root, PostgreSQL runs as another user, who must get in.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        // The port is always the same: an address of this process's own.
        let [_, _, a, b] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 83, a, b);
        let mut options = cluster::Options::test(folder.path().join("postgresql"));
        options.settings = vec![("listen_addresses".into(), address.to_string())];
        let cluster = Cluster::start(options).await.unwrap();
        cluster.ensure_database(NAME).await.unwrap();

        let url = cluster.url("postgres");
        let (admin, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        for (file, text) in [
            ("server.crt", &signed.certificate[..]),
            ("server.key", &signed.key),
            (
                "pg_hba.conf",
                "local all all trust\nhostssl all all 127.0.0.0/8 trust",
            ),
        ] {
            // Whoever the database runs as has to own them.
            let write = format!(
                "COPY (SELECT unnest(string_to_array('{}', E'\\n')))
                 TO PROGRAM 'umask 077; cat > {file}'",
                text.trim()
            );
            admin.batch_execute(&write).await.unwrap();
        }
        admin
            .batch_execute("ALTER SYSTEM SET ssl = on")
            .await
            .unwrap();
        admin
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .unwrap();
        let world = World {
            cluster,
            address,
            folder,
        };
        until("the database speaks TLS", async || {
            world.migrate("localhost", "require", None).status.success()
        })
        .await;
        world
    }

    /// Where it is by TCP, whatever name it has there.
    fn url(&self, host: &str, mode: &str) -> String {
        format!(
            "host={host} hostaddr={} port=5432 user=anklang dbname={NAME} sslmode={mode}",
            self.address
        )
    }

    fn file(&self, authority: &Authority) -> String {
        let path = self.folder.path().join("authority.pem");
        std::fs::write(&path, &authority.pem).unwrap();
        path.display().to_string()
    }

    fn migrate(&self, host: &str, mode: &str, trusted: Option<&Authority>) -> Output {
        let mut command = Command::new(&program().anklang);
        command
            .arg("migrate")
            .env("ANKLANG_DATABASE__URL", self.url(host, mode));
        if let Some(authority) = trusted {
            command.env("ANKLANG_DATABASE__TLS_CA", self.file(authority));
        }
        command.output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_by_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let world = World::start(&authority.sign()).await;
    let (ours, others) = (Some(&authority), Some(&other));
    let (here, elsewhere) = ("localhost", "elsewhere.example");
    let (good, strange) = ("", "invalid peer certificate");
    for (host, mode, trusted, fault) in [
        (here, "disable", None, "pg_hba.conf"),
        (here, "prefer", None, good),
        (here, "require", None, good),
        (here, "require", ours, good),
        (here, "require", others, strange),
        (elsewhere, "verify-ca", ours, good),
        (here, "verify-ca", others, strange),
        (here, "verify-full", ours, good),
        (elsewhere, "verify-full", ours, strange),
        (here, "verify-full", others, strange),
        // The system's authorities have not signed it.
        (here, "verify-full", None, strange),
    ] {
        let output = world.migrate(host, mode, trusted);
        let what = format!("{mode} to {host}: {output:?}");
        assert_eq!(output.status.success(), fault.is_empty(), "{what}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(fault), "{fault} in {what}");
    }

    // All that a server does with it.
    let database = Database {
        name: NAME.into(),
        url: world.url(here, "verify-full"),
    };
    let options = Options {
        database_settings: format!("tls_ca = '{}'", world.file(&authority)),
        ..Default::default()
    };
    let server = TestServer::start_on(database, options).await.unwrap();
    let client = server.client("linden").await.unwrap();
    let csv = "code,name,sender_email\nSW,Stadtwerk,post@sw.example\n";
    let imported = client.import(ImportEntity::Brands, csv).await.unwrap();
    assert_eq!((imported.created, imported.failed), (1, 0), "{imported:?}");
    let request = brands::ListBrandsRequest::default();
    let listed = client.brands().list_brands(request).await.unwrap();
    assert_eq!(listed.into_inner().brands.len(), 1);
    drop(server);
    world.cluster.stop().await.unwrap();
}
