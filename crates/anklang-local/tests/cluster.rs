//! A private cluster through its life: made, stopped, found again, refused. The tests run as
//! root as well as as a normal user.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anklang_local::cluster::{Cluster, Options, Pooler};
use rustix::process::{Pid, geteuid, getpgid, test_kill_process};
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// A folder that the server's account can reach, too.
fn room() -> TempDir {
    let room = tempfile::tempdir().unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    room
}

async fn run(url: &str, statement: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.simple_query(statement).await.unwrap();
    rows.into_iter()
        .filter_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

/// Running and not just a dead process that nobody has waited for.
fn alive(number: u32) -> bool {
    let zombie = fs::read_to_string(format!("/proc/{number}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" Z"));
    test_kill_process(pid(number)).is_ok() && !zombie
}

/// Another program with a cluster: the example.
struct Other {
    child: Child,
    server: u32,
    adopted: bool,
}

impl Other {
    fn start(mut command: Command, folder: &Path, throw_away: bool) -> Self {
        command.arg(folder);
        if throw_away {
            command.arg("--throw-away");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let server = words.next().expect("it has started").parse().unwrap();
        let adopted = words.next() == Some("true");
        Self {
            child,
            server,
            adopted,
        }
    }

    fn kill(mut self) -> u32 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.server
    }

    /// Ends it in order.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        assert!(!alive(self.server));
    }
}

/// `cargo test` builds it beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/cluster");
    assert!(example.exists(), "build the examples of this crate first");
    example
}

#[tokio::test]
async fn start_stop_restart() {
    let room = room();
    let folder = room.path().join("deep/er");
    let cluster = Cluster::start(Options::test(&folder)).await.unwrap();
    cluster.ensure_database("größe \"x\"").await.unwrap();
    cluster.ensure_database("größe \"x\"").await.unwrap();
    assert!(cluster.ensure_database("").await.is_err());
    assert!(cluster.ensure_database(&"x".repeat(64)).await.is_err());
    let url = cluster.url("größe \"x\"");
    run(&url, "CREATE TABLE kept AS SELECT 'Ä' AS word").await;
    assert_eq!(run(&url, "SHOW listen_addresses").await, [""]);
    assert_eq!(run(&url, "SHOW fsync").await, ["off"]);
    assert_eq!(run(&url, "SHOW server_encoding").await, ["UTF8"]);
    // Ctrl-C in a terminal goes to the process group: the server must not be in ours.
    let group = getpgid(Some(pid(cluster.pid()))).unwrap();
    assert_eq!(group, pid(cluster.pid()));

    let error = Cluster::start(Options::test(&folder)).await.unwrap_err();
    assert!(format!("{error:#}").contains("in use"), "{error:#}");

    let first = cluster.pid();
    cluster.stop().await.unwrap();
    assert!(!alive(first));

    let cluster = Cluster::start(Options::test(&folder)).await.unwrap();
    assert!(!cluster.was_adopted());
    let word = "SELECT lower(word) FROM kept";
    assert_eq!(run(&cluster.url("größe \"x\""), word).await, ["ä"]);
    let second = cluster.pid();
    drop(cluster);
    assert!(!alive(second), "dropping stops the server");

    // The folder works again after a server that could not start, and that one says why.
    let mut broken = Options::test(&folder);
    broken.settings.push(("work_mem".into(), "nonsense".into()));
    let error = format!("{:#}", Cluster::start(broken).await.unwrap_err());
    assert!(error.contains("invalid value for parameter"), "{error}");

    // A process id from before a crash may belong to anybody now, here to this test.
    let own = std::process::id();
    let file = folder.join("data/postmaster.pid");
    fs::write(file, format!("{own}\n{}\n", folder.display())).unwrap();
    let cluster = Cluster::start(Options::test(&folder)).await.unwrap();
    assert_ne!(cluster.pid(), own);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_behind_is_adopted() {
    let room = room();
    let folder = room.path().join("db");
    let killed = Other::start(Command::new(example()), &folder, false);
    let server = killed.kill();
    assert!(alive(server), "it outlives the program");

    let cluster = Cluster::start(Options::demo(&folder)).await.unwrap();
    assert!(cluster.was_adopted());
    assert_eq!(cluster.pid(), server);
    let url = cluster.url("example");
    assert_eq!(run(&url, "SHOW fsync").await, ["on"]);
    cluster.stop().await.unwrap();
    assert!(!alive(server), "an adopted server is stopped as well");

    // With other settings it is not the server that was asked for.
    let killed = Other::start(Command::new(example()), &folder, false);
    assert!(!killed.adopted);
    let server = killed.kill();
    let mut options = Options::demo(&folder);
    options.max_connections = 42;
    let cluster = Cluster::start(options).await.unwrap();
    assert!(!cluster.was_adopted());
    assert!(!alive(server));
    let url = cluster.url("example");
    assert_eq!(run(&url, "SHOW max_connections").await, ["42"]);
}

#[test]
fn a_throw_away_server_dies_with_its_program() {
    let room = room();
    let server = Other::start(Command::new(example()), &room.path().join("db"), true).kill();
    let deadline = Instant::now() + Duration::from_secs(60);
    while alive(server) {
        assert!(Instant::now() < deadline, "it still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_standby_takes_the_place_of_the_primary_and_the_pooler_leads_there() {
    let room = room();
    let primary = Options::primary(room.path().join("a"));
    let primary = Cluster::start(primary).await.unwrap();
    primary.ensure_database("some").await.unwrap();
    let standby = Options::standby(room.path().join("b"), &primary);
    let standby = Cluster::start(standby).await.unwrap();
    primary.wait_for_standby().await.unwrap();
    let pooler = Pooler::start(room.path().join("pooler"), &primary, "some", 2).await;
    let pooler = pooler.unwrap();
    run(&pooler.url(), "CREATE TABLE kept AS SELECT 'here' AS word").await;
    let recovers = "SELECT pg_is_in_recovery()";
    assert_eq!(run(&standby.url("some"), recovers).await, ["t"]);

    let first = primary.pid();
    primary.kill().await.unwrap();
    assert!(!alive(first));
    standby.promote().await.unwrap();
    pooler.lead_to(&standby).unwrap();
    assert_eq!(run(&standby.url("some"), recovers).await, ["f"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = loop {
        // A connection that it had to the other one may still have to break.
        let connected = tokio_postgres::connect(&pooler.url(), NoTls).await;
        if let Ok((client, connection)) = connected {
            tokio::spawn(connection);
            // Not prepared: each half could go to another connection.
            if let Ok(found) = client.simple_query("SELECT word FROM kept").await {
                break found;
            }
        }
        assert!(Instant::now() < deadline, "it leads nowhere");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let words: Vec<_> = found
        .iter()
        .filter_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    assert_eq!(words, ["here"]);
}

#[tokio::test]
async fn a_path_too_long_for_a_socket() {
    let room = room();
    let folder = room.path().join("x".repeat(100)).join("it's");
    // As if killed in the middle of making the cluster.
    fs::create_dir_all(folder.join("data.new/base")).unwrap();
    fs::write(folder.join("anklang-cluster.lock"), "").unwrap();
    let cluster = Cluster::start(Options::test(folder)).await.unwrap();
    cluster.ensure_database("some").await.unwrap();
    let url = cluster.url("some");
    let socket = PathBuf::from(url.split('\'').nth(1).unwrap());
    assert!(socket.starts_with("/tmp"), "{url}");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    cluster.stop().await.unwrap();
    fs::remove_dir_all(socket).unwrap();
}

#[tokio::test]
async fn a_foreign_folder_is_refused() {
    let room = room();
    fs::write(room.path().join("letter.txt"), "mine").unwrap();
    let error = Cluster::start(Options::test(room.path()))
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("not empty"), "{error:#}");
    let mode = fs::metadata(room.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "left as it was");
}

#[tokio::test]
async fn root_is_told_which_folder_is_in_the_way() {
    if !geteuid().is_root() {
        return; // A normal user's server has the user's own rights.
    }
    let room = room();
    let closed = room.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let error = Cluster::start(Options::test(closed.join("deep/db")))
        .await
        .unwrap_err();
    let error = format!("{error:#}");
    let named = format!(
        "may not enter {};",
        closed.canonicalize().unwrap().display()
    );
    assert!(error.contains(&named), "{error}");
}

#[tokio::test]
async fn a_normal_user_needs_no_root() {
    if !geteuid().is_root() {
        return; // All the other tests show it.
    }
    const NOBODY: u32 = 65_534;
    let room = room();
    let program = room.path().join("program");
    // Not copied by this process: a program that is open for writing cannot be run, and the
    // other tests' child processes inherit what is open here for a moment.
    let copied = Command::new("cp").arg(example()).arg(&program).status();
    assert!(copied.unwrap().success());
    let home = room.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    let other = Other::start(command, &home.join("db"), true);
    assert!(alive(other.server));
    other.finish();
    // Root goes on with it in that user's name.
    let options = Options::test(home.join("db"));
    let cluster = Cluster::start(options).await.unwrap();
    let process = fs::metadata(format!("/proc/{}", cluster.pid())).unwrap();
    assert_eq!(process.uid(), NOBODY);
    cluster.stop().await.unwrap();
}
