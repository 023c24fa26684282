//! The database goes away: all of it, single connections, or any free connection.

use std::time::{Duration, Instant};

use anklang_testkit::{Database, Options};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::Ended;
use crate::own::{Own, Stop};
use crate::world::{Given, Setup, World};

/// Stops PostgreSQL in one of these ways and starts it again after a while.
pub async fn restarts(given: Given, ways: &[Stop]) -> Ended {
    let mut own = Own::start(60).await;
    let setup = Setup {
        database: Some(own.database()),
        ..Default::default()
    };
    let world = World::new(given, setup).await;
    let figures = world.play(async |world: &mut World| {
        for moment in world.moments(2, 2) {
            if world.reach(moment).await {
                let way = ways.choose(&mut world.random).expect("there are some");
                own.restart(*way, world.while_of(0..1_000)).await;
            }
        }
    });
    Ended::Passed(figures.await)
}

/// Ends connections of the server.
pub async fn backends(given: Given) -> Ended {
    const ENDED: usize = 20;
    let world = World::new(given, Setup::default()).await;
    let figures = world.play(async |world: &mut World| {
        for moment in world.moments(ENDED / 2, ENDED / 2) {
            if world.reach(moment).await {
                let count = world.random.random_range(1..4);
                end_backends(&world.server.database, count).await;
            }
        }
    });
    Ended::Passed(figures.await)
}

/// Ends some connections to a database, by chance, besides the own one.
async fn end_backends(database: &Database, count: i64) {
    let owner = database.connect().await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM (
                   SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                      AND pid <> pg_backend_pid() ORDER BY random() LIMIT $1) AS backends";
    owner.query(end, &[&count]).await.unwrap();
}

/// Others take every connection that the database has, for a while.
pub async fn connections(given: Given) -> Ended {
    let own = Own::start(20).await;
    let setup = Setup {
        database: Some(own.database()),
        options: Options {
            connections: 4,
            ..Default::default()
        },
        ..Default::default()
    };
    let world = World::new(given, setup).await;
    let figures = world.play(async |world: &mut World| {
        for moment in world.moments(2, 2) {
            if world.reach(moment).await {
                let database = world.server.database.clone();
                take_all(&database, world.while_of(300..2_500)).await;
            }
        }
    });
    Ended::Passed(figures.await)
}

/// Ends all connections and takes them, and each that gets free, for so long.
async fn take_all(database: &Database, time: Duration) {
    let until = Instant::now() + time;
    let mut taken = vec![connect(database).await];
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    taken[0].batch_execute(end).await.unwrap();
    while Instant::now() < until {
        match database.connect().await {
            Ok(one) => taken.push(one),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The server may hold them all.
async fn connect(database: &Database) -> tokio_postgres::Client {
    loop {
        match database.connect().await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
