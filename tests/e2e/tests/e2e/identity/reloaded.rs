//! Tokens of a file that changes while the server serves.

use std::path::PathBuf;
use std::time::Duration;

use anklang_testkit::{Options, TestServer};
use tempfile::TempDir;

use super::{brand, guarded, knows, lacking, list, new_token, nobody, update};
use crate::prometheus::{metrics_of, scrape};
use crate::raw::Raw;
use crate::server::{USAGE, names, refused as not_started};
use crate::utility::until;

/// A file of tokens.
pub struct File {
    folder: TempDir,
}

impl File {
    pub fn new(tokens: &str) -> Self {
        let file = File {
            folder: tempfile::tempdir().unwrap(),
        };
        file.put(tokens);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tokens.toml")
    }

    /// Exchanges it as a whole.
    pub fn put(&self, tokens: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, tokens).unwrap();
        std::fs::rename(&next, self.path()).unwrap();
    }

    fn take_away(&self) {
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Settings of the section `auth` by which a server follows it.
    pub fn followed(&self) -> String {
        format!(
            "tokens_file = '{}'\nreload_seconds = 1\n",
            self.path().display()
        )
    }
}

#[tokio::test]
async fn tokens_of_a_file_come_and_go_without_a_restart() {
    let (lost, kept, new) = (new_token(), new_token(), new_token());
    let of_lost = knows("lost", &lost, &["linden"], &["central"]);
    let of_kept = knows("kept", &kept, &["linden"], &["auditor"]);
    let file = File::new(&format!("{of_lost}{of_kept}"));
    let (_server, raw) = guarded(&file.followed(), "").await;
    let [lost_one, kept_one, new_one] = [&lost, &kept, &new].map(|token| raw.bearing(token));
    for known in [&lost_one, &kept_one] {
        assert_eq!(list(known, None).await.unwrap(), ["linden"]);
    }
    nobody(&list(&new_one, None).await.unwrap_err(), &new);

    // What is kept may do more from now on.
    let of_kept = knows("kept", &kept, &["linden"], &["service"]);
    let of_new = knows("new", &new, &["other"], &["auditor"]);
    let before = update(&kept_one, None, &brand("new")).await.unwrap_err();
    assert_eq!(lacking(&before).as_deref(), Some("master.write"));
    file.put(&format!("{of_kept}{of_new}"));
    until("the new token counts", async || {
        list(&new_one, None).await.is_ok()
    })
    .await;
    assert_eq!(list(&new_one, None).await.unwrap(), ["other"]);
    nobody(&list(&lost_one, None).await.unwrap_err(), &lost);
    update(&kept_one, None, &brand("new")).await.unwrap();

    // Nobody at all is good, too; the tokens of the settings are others.
    file.put("");
    until("no token of the file counts", async || {
        list(&kept_one, None).await.is_err()
    })
    .await;
    nobody(&list(&new_one, None).await.unwrap_err(), &new);
}

#[tokio::test]
async fn a_token_that_is_taken_out_while_the_server_drains_counts_no_more() {
    const DRAIN: &str = "ANKLANG_SERVER__DRAIN_SECONDS=600";
    let (token, own) = (new_token(), new_token());
    let file = File::new(&knows("crm", &token, &["linden"], &["auditor"]));
    let own_token = knows("own", &own, &["*"], &["central"]);
    let server = TestServer::start_with(Options {
        config: format!("[auth]\nmode = 'token'\n{}{own_token}", file.followed()),
        wrapper: vec!["env".into(), DRAIN.into()],
        ..Default::default()
    })
    .await
    .unwrap();
    server.add_tenant("linden").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let (caller, owner) = (raw.bearing(&token), raw.bearing(&own));
    list(&caller, None).await.unwrap();
    server.signal("TERM").unwrap();
    until("it drains", async || server.log().contains("stopping")).await;
    file.put("");
    until("the token counts no more", async || {
        list(&caller, None).await.is_err()
    })
    .await;
    nobody(&list(&caller, None).await.unwrap_err(), &token);
    // Others are still served.
    list(&owner, Some("linden")).await.unwrap();
}

#[tokio::test]
async fn a_file_of_tokens_that_does_not_fit_changes_nothing() {
    const KEPT: &str = "goes on with the files as they were before";
    let (token, new) = (new_token(), new_token());
    let good = knows("crm", &token, &["linden"], &["auditor"]);
    let more = knows("new", &new, &["linden"], &["auditor"]);
    let file = File::new(&good);
    let (server, raw) = guarded(
        &file.followed(),
        "[telemetry]\nprometheus_listen = '127.0.0.1:0'\n[log]\nformat = 'json'\n",
    )
    .await;
    let metrics = metrics_of(&server);
    let refused = async || {
        let of_tokens = [("files", "tokens")];
        scrape(metrics)
            .await
            .value("anklang_files_refused", &of_tokens)
    };
    until("it follows", async || refused().await == Some(0.0)).await;
    let (caller, newcomer) = (raw.bearing(&token), raw.bearing(&new));
    let broken = [
        (format!("{more}roles = ["), "is not TOML"),
        (
            format!("{more}[auth.tokens.far]\nsha256 = 'abc'\n"),
            "must be 64 hexadecimal digits",
        ),
        (
            more.replace("[\"linden\"]", "[]"),
            "must be a list of at least one tenant",
        ),
        (
            format!("{more}{}", more.replace("tokens.new", "tokens.twin")),
            "is that of another token",
        ),
        (
            more.replace("tokens.new", "tokens.own"),
            "is in the settings as well",
        ),
        (
            format!("{more}[server]\nlisten = '127.0.0.1:1'\n"),
            "is no key of the configuration",
        ),
    ];
    let count = broken.len();
    for (before, (text, why)) in broken.into_iter().enumerate() {
        file.put(&text);
        until(why, async || server.log().matches(KEPT).count() > before).await;
        let log = server.log();
        assert!(
            log.lines().last().is_some_and(|line| line.contains(why)),
            "{log}"
        );
        assert_eq!(list(&caller, None).await.unwrap(), ["linden"], "{why}");
        nobody(&list(&newcomer, None).await.unwrap_err(), &new);
    }
    file.take_away();
    until("it is missed", async || {
        server.log().matches(KEPT).count() > count
    })
    .await;
    // Each is told once, however often the server looks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.log().matches(KEPT).count(), count + 1);
    assert_eq!(refused().await, Some(1.0));
    assert_eq!(list(&caller, None).await.unwrap(), ["linden"]);

    file.put(&format!("{good}{more}"));
    until("what fits is taken up", async || {
        list(&newcomer, None).await.is_ok()
    })
    .await;
    until("nothing is wrong any more", async || {
        refused().await == Some(0.0)
    })
    .await;
}

#[test]
fn a_server_does_not_start_with_a_file_of_tokens_that_does_not_fit() {
    let token = new_token();
    let known = knows("crm", &token, &["linden"], &["service"]);
    let started = |mode: &str, file: &File, settings: &str| {
        let config = format!("[auth]\nmode = '{mode}'\n{}{settings}", file.followed());
        let (code, said) = not_started(&config, &[]);
        assert_eq!(code, USAGE, "{said}");
        said
    };
    let file = File::new(&known.replace("service", "king"));
    let said = started("token", &file, "");
    names(&said, &["auth.tokens_file: auth.tokens.crm.roles[0]: "]);
    file.put(&known);
    let said = started("token", &file, &known);
    names(
        &said,
        &[
            "auth.tokens_file: auth.tokens.crm.sha256: ",
            "auth.tokens_file: auth.tokens.crm: ",
        ],
    );
    // Nobody would be asked for them.
    names(&started("none", &file, ""), &["auth.mode: "]);
    file.take_away();
    names(&started("token", &file, ""), &["auth.tokens_file: "]);
}
