//! The server's wall clock jumps. The database's does not: it is another machine's.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching, Reply};
use anklang_testkit::{Database, Options};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::Ended;
use crate::world::{Given, Setup, World};

/// Where Debian keeps the library for programs with threads.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];
/// Jumps are at most so long, in seconds.
const LONGEST: i64 = 36 * 3_600;

/// Sets the server's clock to another time again and again, back and forth.
pub async fn run(given: Given) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clock");
    let Some(wrapper) = wrapper(&file) else {
        return Ended::Skipped("there is no libfaketime; install the package libfaketime".into());
    };
    let database = Database::create().await.unwrap();
    let setup = Setup {
        options: Options {
            wrapper,
            account: format!("calls = 2\nbatch = 16\n{}", hours(&database).await),
            ..Default::default()
        },
        database: Some(database),
        ..Default::default()
    };
    let world = World::new(given, setup).await;
    // What fails is tried again later, by whichever clock.
    let busy = Fault::RejectRecipient(Reply::new(450, "4.2.0 come back"));
    let faults = Faults::none().with_times(Matching::All, busy, 20);
    let rest = Fault::Slow(Duration::from_millis(150));
    world
        .server
        .sink
        .set_faults(faults.with(Matching::All, rest));
    let mut calls = 0;
    world.receiver.now_answers(move |_| {
        calls += 1;
        if calls % 3 == 0 { 500 } else { 204 }.into()
    });
    let figures = world.play(async |world: &mut World| {
        for moment in world.moments(3, 4) {
            if world.reach(moment).await {
                set(&file, offset(&mut world.random));
                let time = world.while_of(300..1_500);
                tokio::time::sleep(time).await;
            }
        }
        // It stays wrong: what comes to its end does so by another clock.
        set(&file, offset(&mut world.random));
    });
    Ended::Passed(figures.await)
}

/// Sending hours that have begun and do not end while a round lasts, by the clock that is right: no message may wait
/// for them, whatever the server's says.
async fn hours(database: &Database) -> &'static str {
    let hour = "SELECT extract(hour FROM now() AT TIME ZONE 'Europe/Berlin')::int";
    let hour: u32 = database.one(hour).await.unwrap().parse().unwrap();
    match hour {
        0..12 => "hours = '00:00-18:00'",
        12..23 => "hours = '06:00-24:00'",
        _ => "",
    }
}

fn offset(random: &mut ChaCha8Rng) -> i64 {
    random.random_range(-LONGEST..=LONGEST)
}

/// Replaces the file at once: the server reads it all the time.
fn set(file: &Path, seconds: i64) {
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(next, file).unwrap();
}

/// Runs a program by the clock of a file, if that works here.
fn wrapper(file: &Path) -> Option<Vec<String>> {
    let library = LIBRARIES
        .into_iter()
        .find(|path| Path::new(path).is_file())?;
    let words = [
        "env".to_owned(),
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        // The file is looked at once a second: reading the clock is frequent.
        "FAKETIME_CACHE_DURATION=1".to_owned(),
        // Waits last as long as they last.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ];
    set(file, 86_400 * 365);
    let year = |words: &[String]| {
        let mut date = Command::new(&words[0]);
        let said = date.args(&words[1..]).args(["date", "+%Y"]).output();
        String::from_utf8(said.ok()?.stdout)
            .ok()?
            .trim()
            .parse::<i32>()
            .ok()
    };
    let works = year(&words)? > year(&words[..1])?;
    set(file, 0);
    works.then(|| words.into())
}
