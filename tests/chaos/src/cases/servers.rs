//! Several servers on one database, of which one is frozen.

use rand::RngExt;

use crate::Ended;
use crate::world::{Given, Setup, World};

/// Freezes a server for longer than its leases and thaws it, again and again.
pub async fn run(mut given: Given) -> Ended {
    let setup = Setup {
        further: given.random.random_range(1..3),
        ..Default::default()
    };
    let world = World::new(given, setup).await;
    let figures = world.play(async |world: &mut World| {
        world.late = true;
        for moment in world.moments(1, 3) {
            if world.reach(moment).await {
                let which = world.random.random_range(0..=world.further.len());
                signal(world, which, "STOP");
                // Leases of operations and messages last a second.
                let time = world.while_of(1_500..4_000);
                tokio::time::sleep(time).await;
                signal(world, which, "CONT");
            }
        }
    });
    Ended::Passed(figures.await)
}

fn signal(world: &World, which: usize, name: &str) {
    let sent = match which.checked_sub(1) {
        None => world.server.signal(name),
        Some(further) => world.further[further].signal(name),
    };
    sent.unwrap();
}
