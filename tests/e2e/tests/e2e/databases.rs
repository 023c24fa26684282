//! Databases that are more than one server: behind a pooler, with a standby that is read, and with one that takes
//! the primary's place while there is work. And those whose owner is not who serves.

mod failover;
mod logins;
mod pooled;
mod replica;
mod tied;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use anklang_local::cluster::{Cluster, Options};
use anklang_testkit::Database;
use tempfile::TempDir;

/// The database of these tests.
const NAME: &str = "anklang";

/// A folder for clusters.
fn room() -> TempDir {
    let room = tempfile::tempdir().unwrap();
    // As root, PostgreSQL runs as another user, who must get in.
    std::fs::set_permissions(room.path(), Permissions::from_mode(0o755)).unwrap();
    room
}

/// A database for a test server, which migrates it.
fn database(url: String) -> Database {
    let name = NAME.to_owned();
    Database { name, url }
}

/// A primary, and a standby that has written what the primary commits.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    room: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let room = room();
        let primary = Options::primary(room.path().join("primary"));
        let primary = Cluster::start(primary).await.unwrap();
        primary.ensure_database(NAME).await.unwrap();
        let standby = Options::standby(room.path().join("standby"), &primary);
        let standby = Cluster::start(standby).await.unwrap();
        primary.wait_for_standby().await.unwrap();
        Pair {
            primary,
            standby,
            room,
        }
    }

    /// A URL of both, whichever can be written to.
    fn url(&self) -> String {
        let host = |cluster: &Cluster| {
            let url = cluster.url(NAME);
            url.split('\'').nth(1).unwrap().to_owned()
        };
        let (primary, standby) = (host(&self.primary), host(&self.standby));
        format!("host='{primary},{standby}' port=5432 user=anklang dbname={NAME}")
    }
}
