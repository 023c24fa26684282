//! The short form of the chaos: a round of each case, always the same one.
//! `ANKLANG_TEST_SEED` makes it another.

use anklang_chaos::{Case, Ended, name, round};

const ROUNDS: u64 = 1;
const ACCOUNTS: usize = 80;

async fn rounds(case: Case) {
    let given = std::env::var("ANKLANG_TEST_SEED").ok();
    let first: u64 = given.map_or(1, |text| text.parse().expect("a number"));
    let rounds = (first..first + ROUNDS).map(|seed| round(case, seed, ACCOUNTS));
    let (mut troubles, mut skipped) = (0, false);
    for round in futures::future::join_all(rounds).await {
        match round.ended {
            Ended::Passed(figures) => {
                println!("{} {}: {figures:?}", name(case), round.seed);
                troubles += figures.troubles;
            }
            Ended::Skipped(why) => {
                // A package can be installed; the right to mount cannot.
                let excused = matches!(case, Case::Disk) || std::env::var_os("CI").is_none();
                assert!(excused, "{} was skipped: {why}", name(case));
                println!("{} skipped: {why}", name(case));
                skipped = true;
            }
            Ended::Failed => panic!("{}, seed {}: see above", name(case), round.seed),
        }
    }
    assert!(skipped || troubles > 0, "{}: nothing happened", name(case));
}

macro_rules! cases {
    ($($test:ident: $case:ident,)+) => {$(
        #[tokio::test]
        async fn $test() {
            rounds(Case::$case).await;
        }
    )+};
}

cases! {
    the_server_is_killed: Kills,
    plugins_are_killed: Plugins,
    the_database_is_stopped: DatabaseStops,
    the_database_is_killed: DatabaseKills,
    connections_are_ended: Backends,
    connections_are_used_up: Connections,
    the_disk_is_full: Disk,
    peers_misbehave: Peers,
    the_clock_jumps: Clock,
    one_of_several_servers_is_frozen: Servers,
}
