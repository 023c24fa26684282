//! One module for each kind of trouble.

mod clock;
mod database;
mod disk;
mod kills;
mod peers;
mod plugins;
mod servers;

use crate::own::Stop;
use crate::world::Given;
use crate::{Case, Ended};

/// Runs a round of a case; panics when the books do not balance.
pub async fn run(case: Case, seed: u64, accounts: usize) -> Ended {
    let given = Given::new(seed, accounts);
    match case {
        Case::Kills => kills::run(given).await,
        Case::Plugins => plugins::run(given).await,
        Case::DatabaseStops => database::restarts(given, &[Stop::Fast]).await,
        Case::DatabaseKills => database::restarts(given, &[Stop::Quit, Stop::Kill]).await,
        Case::Backends => database::backends(given).await,
        Case::Connections => database::connections(given).await,
        Case::Disk => disk::run(given).await,
        Case::Peers => peers::run(given).await,
        Case::Clock => clock::run(given).await,
        Case::Servers => servers::run(given).await,
    }
}
