//! The server is killed.

use anklang_testkit::Options;
use rand::RngExt;

use crate::Ended;
use crate::world::{Given, Setup, World, brisk};

/// Kills and starts the server at random moments; in every other round one whose mail server is fast, so that many
/// messages are handed over together.
pub async fn run(mut given: Given) -> Ended {
    let fast = given.random.random_bool(0.5);
    let options = Options {
        // The usual batch.
        account: if fast {
            "calls = 2".into()
        } else {
            String::new()
        },
        ..Default::default()
    };
    let setup = Setup {
        options,
        ..Default::default()
    };
    let mut world = World::new(given, setup).await;
    if fast {
        let faults = brisk(&mut world.random);
        world.server.sink.set_faults(faults);
    }
    let figures = world.play(async |world: &mut World| {
        for moment in world.moments(2, 3) {
            if world.reach(moment).await {
                world.server.restart().await.unwrap();
                world.serve();
            }
        }
    });
    Ended::Passed(figures.await)
}
