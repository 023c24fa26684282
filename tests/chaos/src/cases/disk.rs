//! The document store is full.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use anklang_testkit::Options;

use crate::Ended;
use crate::world::{Given, Moment, Setup, World};

/// Mounts a small file system for the server alone and becomes the server.
const MOUNT: &str = "mount -t tmpfs -o size=24m tmpfs \"$0\" && exec \"$@\"";

/// Fills the file system of the document store for a while, again and again.
pub async fn run(given: Given) -> Ended {
    let Some(unshare) = unshare() else {
        return Ended::Skipped("neither root nor a user namespace may mount here".into());
    };
    let folder = tempfile::tempdir().unwrap();
    let words = [&unshare[..], &["sh".into(), "-c".into(), MOUNT.into()]].concat();
    let setup = Setup {
        options: Options {
            documents_folder: Some(folder.path().into()),
            wrapper: [words, vec![folder.path().display().to_string()]].concat(),
            ..Default::default()
        },
        ..Default::default()
    };
    let world = World::new(given, setup).await;
    let figures = world.play(async |world: &mut World| {
        // Full from the beginning, so that the first documents meet it as well.
        let full = Ballast::fill(world);
        world.reach(Moment::Launch(Default::default())).await;
        let time = world.while_of(200..1_500);
        tokio::time::sleep(time).await;
        full.remove();
        for moment in world.moments(1, 1) {
            if world.reach(moment).await {
                let full = Ballast::fill(world);
                let time = world.while_of(200..1_500);
                tokio::time::sleep(time).await;
                full.remove();
            }
        }
    });
    Ended::Passed(figures.await)
}

/// A command that gives a program mounts of its own, if there is one that may.
fn unshare() -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let ways = [&["unshare", "-m"][..], &["unshare", "-rm"]];
    let ways = ways.map(|words| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    ways.into_iter().find(|words| {
        let tried = Command::new(&words[0])
            .args(&words[1..])
            .args(["sh", "-c", MOUNT])
            .arg(folder.path())
            .arg("true")
            .output();
        tried.is_ok_and(|output| output.status.success())
    })
}

/// A file that takes all there is.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(world: &World) -> Ballast {
        let process = world.server.pid().expect("it runs");
        let folder = world.server.documents();
        let path = PathBuf::from(format!("/proc/{process}/root{}/ballast", folder.display()));
        let mut file = File::create(&path).unwrap();
        for piece in [&[0; 1 << 20][..], &[0; 4 << 10], &[0; 1]] {
            while file.write_all(piece).is_ok() {}
        }
        Ballast(path)
    }

    fn remove(self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}
