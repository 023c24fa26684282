//! TLS to the database: what each `sslmode` takes, and a server all of whose connections are encrypted.

use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anklang_local::cluster::{self, Cluster};
use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::{Client, Database, Options, TestServer, program};
use rcgen::{CertificateParams, DistinguishedName, DnType};
use tempfile::TempDir;

use super::certificates::{Authority, Mount, Signed};
use crate::prometheus::{metrics_of, scrape};
use crate::server::{USAGE, names, refused as not_started};
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
        let world = World::asking(signed, "trust", &Authority::new()).await;
        until("the database speaks TLS", async || {
            world.migrate("localhost", "require", None).status.success()
        })
        .await;
        world
    }

    /// One whose callers show who they are by this method of pg_hba.conf, with certificates of an authority.
    async fn asking(signed: &Signed, method: &str, callers: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // As root, PostgreSQL runs as another user, who must get in.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        // The port is always the same: an address of this process's own, and of each in it.
        static STARTED: AtomicU8 = AtomicU8::new(0);
        let own = 83 + STARTED.fetch_add(1, Ordering::Relaxed);
        let [_, _, a, b] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, own, a, b);
        let mut options = cluster::Options::test(folder.path().join("postgresql"));
        options.settings = vec![("listen_addresses".into(), address.to_string())];
        let cluster = Cluster::start(options).await.unwrap();
        cluster.ensure_database(NAME).await.unwrap();

        let world = World {
            cluster,
            address,
            folder,
        };
        let hba = format!("local all all trust\nhostssl all all 127.0.0.0/8 {method}");
        world.put("server.crt", &signed.certificate).await;
        world.put("server.key", &signed.key).await;
        world.put("root.crt", &callers.pem).await;
        world.put("pg_hba.conf", &hba).await;
        for statement in [
            "ALTER SYSTEM SET ssl = on",
            "ALTER SYSTEM SET ssl_ca_file = 'root.crt'",
            "SELECT pg_reload_conf()",
        ] {
            world.admin().await.batch_execute(statement).await.unwrap();
        }
        world
    }

    /// A connection that needs no TLS.
    async fn admin(&self) -> tokio_postgres::Client {
        let url = self.cluster.url("postgres");
        let (admin, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        admin
    }

    /// Writes a file of the database's. Whoever it runs as has to own it.
    async fn put(&self, file: &str, text: &str) {
        let write = format!(
            "COPY (SELECT unnest(string_to_array('{}', E'\\n')))
             TO PROGRAM 'umask 077; cat > {file}'",
            text.trim()
        );
        self.admin().await.batch_execute(&write).await.unwrap();
    }

    /// Takes callers of another authority from now on, and closes all connections.
    async fn now_takes(&self, callers: &Authority) {
        self.put("root.crt", &callers.pem).await;
        let admin = self.admin().await;
        let reload = "SELECT pg_reload_conf()";
        admin.batch_execute(reload).await.unwrap();
        // It takes the postmaster a moment.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.hang_up().await;
    }

    /// Closes the connections of all others.
    async fn hang_up(&self) {
        let close = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        self.admin().await.batch_execute(close).await.unwrap();
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

/// A certificate of somebody who logs in by that name.
fn of(authority: &Authority, user: &str) -> Signed {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    authority.sign_as(params)
}

/// Settings by which a certificate is shown.
fn shown(mount: &Mount) -> String {
    format!(
        "tls_certificate = '{}'\ntls_key = '{}'\n",
        mount.file("tls.crt").display(),
        mount.file("tls.key").display()
    )
}

async fn list(client: &Client) -> Result<usize, tonic::Status> {
    let request = brands::ListBrandsRequest::default();
    let listed = client.brands().list_brands(request).await?;
    Ok(listed.into_inner().brands.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_asks_for_a_certificate_is_shown_one() {
    const KEPT: &str =
        "The certificate for the database goes on with the files as they were before";
    let (authority, callers, others) = (Authority::new(), Authority::new(), Authority::new());
    let world = World::asking(&authority.sign(), "cert", &callers).await;
    let mine = of(&callers, "anklang");
    let mut mount = Mount::new(&mine, "");
    let migrate = |mount: Option<&Mount>| {
        let mut command = Command::new(&program().anklang);
        command
            .arg("migrate")
            .env(
                "ANKLANG_DATABASE__URL",
                world.url("localhost", "verify-full"),
            )
            .env("ANKLANG_DATABASE__TLS_CA", world.file(&authority));
        if let Some(mount) = mount {
            command
                .env("ANKLANG_DATABASE__TLS_CERTIFICATE", mount.file("tls.crt"))
                .env("ANKLANG_DATABASE__TLS_KEY", mount.file("tls.key"));
        }
        command.output().unwrap()
    };
    until("the database takes the certificate", async || {
        migrate(Some(&mount)).status.success()
    })
    .await;
    let strange = Mount::new(&of(&others, "anklang"), "");
    let somebody = Mount::new(&of(&callers, "somebody"), "");
    for refused in [None, Some(&strange), Some(&somebody)] {
        let output = migrate(refused);
        assert!(!output.status.success(), "{output:?}");
    }

    let database = Database {
        name: NAME.into(),
        url: world.url("localhost", "verify-full"),
    };
    let direct = world.url("localhost", "require");
    let options = Options {
        database_settings: format!(
            "tls_ca = '{}'\ndirect_url = '{direct}'\nreplica_url = '{direct}'\n{}",
            world.file(&authority),
            shown(&mount)
        ),
        config: "[telemetry]\nprometheus_listen = '127.0.0.1:0'\n[log]\nformat = 'json'\n".into(),
        ..Default::default()
    };
    let server = TestServer::start_on(database, options).await.unwrap();
    let client = server.client("linden").await.unwrap();
    let csv = "code,name,sender_email\nSW,Stadtwerk,post@sw.example\n";
    let imported = client.import(ImportEntity::Brands, csv).await.unwrap();
    assert_eq!((imported.created, imported.failed), (1, 0), "{imported:?}");

    let metrics = metrics_of(&server);
    let refused = async || {
        let of_database = [("files", "database")];
        scrape(metrics)
            .await
            .value("anklang_files_refused", &of_database)
    };
    until("it follows", async || refused().await == Some(0.0)).await;

    // The database comes to take others than what is shown, and the files follow.
    world.now_takes(&others).await;
    until("what is shown is refused", async || {
        list(&client).await.is_err()
    })
    .await;
    let next = of(&others, "anklang");
    mount.swap(&next.certificate, &next.key, "");
    until("what is new is shown", async || {
        list(&client).await.is_ok_and(|count| count == 1)
    })
    .await;

    // Files that do not fit change nothing.
    mount.swap(&next.certificate, &mine.key, "");
    until("it is told", async || server.log().contains(KEPT)).await;
    assert!(server.log().contains("is not the key of the certificate"));
    until("it is measured", async || refused().await == Some(1.0)).await;
    world.hang_up().await;
    until("what was before is shown", async || {
        list(&client).await.is_ok_and(|count| count == 1)
    })
    .await;
    mount.swap(&next.certificate, &next.key, "");
    until("nothing is wrong any more", async || {
        refused().await == Some(0.0)
    })
    .await;
    drop(server);
    world.cluster.stop().await.unwrap();
}

#[test]
fn a_certificate_for_the_database_that_does_not_fit_is_told_at_the_start() {
    let authority = Authority::new();
    let (one, other) = (of(&authority, "anklang"), of(&authority, "anklang"));
    let mut mount = Mount::new(&one, "");
    let fault = |settings: &str, mode: &str, field: &str, why: &str| {
        let url = format!("host=localhost user=a sslmode={mode}");
        let variables = [("ANKLANG_DATABASE__URL", &url[..])];
        let (code, said) = not_started(&format!("[database]\n{settings}"), &variables);
        assert_eq!(code, USAGE, "{said}");
        names(&said, &[&format!("database.{field}: ")[..]]);
        assert!(said.contains(why), "{why} in {said}");
    };
    let require = "require";
    fault(&shown(&mount), "prefer", "tls_certificate", "is of no use");
    let half = format!("tls_key = '{}'\n", mount.file("tls.key").display());
    fault(&half, require, "tls_certificate", "or neither");
    mount.swap(&one.certificate, &other.key, "");
    let not_its = "is not the key of the certificate";
    fault(&shown(&mount), require, "tls_key", not_its);
    mount.swap(&one.certificate, "", "");
    fault(&shown(&mount), require, "tls_key", "has no key in PEM");
    mount.swap("", &one.key, "");
    let none = "has no certificate in PEM";
    fault(&shown(&mount), require, "tls_certificate", none);
    let gone = "tls_certificate = '/nonexistent.crt'\ntls_key = '/nonexistent.key'\n";
    fault(gone, require, "tls_certificate", "/nonexistent.crt");
}

#[test]
fn plain_text_to_another_machine_is_warned_of() {
    const WARNED: &str = "names another machine and no sslmode";
    let said_of = |url: &str| {
        // It ends before it calls the database: it may not listen there.
        let variables = [
            ("ANKLANG_DATABASE__URL", url),
            ("ANKLANG_SERVER__LISTEN", "0.0.0.0:0"),
        ];
        let (code, said) = not_started("[server]\nplain_text = true\n", &variables);
        assert_eq!(code, USAGE, "{said}");
        said
    };
    let said = said_of("postgres://anklang:secret@db.example.com/anklang");
    assert_eq!(said.matches(WARNED).count(), 1, "{said}");
    assert!(said.contains("database.url"), "{said}");
    assert!(!said.contains("db.example.com") && !said.contains("secret"));
    for url in [
        "postgres://anklang@db.example.com/anklang?sslmode=require",
        "postgres://anklang@127.0.0.1:1/anklang",
    ] {
        let said = said_of(url);
        assert!(!said.contains(WARNED), "{said}");
    }
}
