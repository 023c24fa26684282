//! The server is killed.

use crate::Ended;
use crate::world::{Given, Setup, World};

/// Kills and starts the server at random moments.
pub async fn run(given: Given) -> Ended {
    let world = World::new(given, Setup::default()).await;
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
