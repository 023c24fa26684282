//! The processes of plugins are killed and frozen, and the server as well.

use std::process::Command;

use anklang_testkit::Options;
use rand::RngExt;

use crate::Ended;
use crate::world::{Given, Setup, World};

/// A frozen process counts as hanging after less than what it is frozen for, so that it is killed
/// now and then. Failures are no reason to wait here.
const PROCESS: &str = "calls = 2\nbatch = 16\n[channel_accounts.mail.process]\n\
    hang_milliseconds = 1500\nrestart_milliseconds = 20\nlongest_restart_milliseconds = 200\n\
    failures = 1000";

/// Kills the process of the plugin at random moments, freezes it, or kills the server.
pub async fn run(given: Given) -> Ended {
    let setup = Setup {
        options: Options {
            account: PROCESS.into(),
            ..Default::default()
        },
        ..Default::default()
    };
    let world = World::new(given, setup).await;
    let figures = world.play(async |world: &mut World| {
        for moment in world.moments(1, 6) {
            if world.reach(moment).await {
                trouble(world).await;
            }
        }
    });
    Ended::Passed(figures.await)
}

async fn trouble(world: &mut World) {
    match world.random.random_range(0..6) {
        0..3 => signal(world, "KILL"),
        3 => {
            let time = world.while_of(200..4_000);
            signal(world, "STOP");
            tokio::time::sleep(time).await;
            signal(world, "CONT");
        }
        4 => {
            world.server.restart().await.unwrap();
            world.serve();
        }
        // Both, the plugin first.
        _ => {
            signal(world, "KILL");
            world.server.restart().await.unwrap();
            world.serve();
        }
    }
}

fn signal(world: &World, name: &str) {
    for process in world.server.plugin_processes() {
        // An error says that it is gone.
        let _ = Command::new("kill")
            .args([format!("-{name}"), process.to_string()])
            .output()
            .unwrap();
    }
}
