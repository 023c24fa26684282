//! Mail server and webhook misbehave: on the wire, and in what they say.

use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching, Reply as Smtp, Sink, SinkOptions};
use anklang_testkit::Options;
use anklang_testkit::receiver::{Receiver, Reply};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::Ended;
use crate::weather::{Relay, Weather};
use crate::world::{Given, Setup, World, slow, taken};

/// How long the mail plugin waits, in seconds.
const TIMEOUT: u64 = 2;

/// Changes weather and manners of both peers again and again.
pub async fn run(given: Given) -> Ended {
    let receiver = Receiver::start().await;
    let hook = Relay::start(receiver.addr());
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    let mail = Relay::start(sink.addr());
    let setup = Setup {
        options: Options {
            mail: format!("timeout_seconds = {TIMEOUT}"),
            relay: Some(format!(
                "host = \"127.0.0.1\"\nport = {}\ntls = \"none\"",
                mail.addr.port()
            )),
            sink: Some(sink),
            ..Default::default()
        },
        webhook: Some(format!("http://{}/", hook.addr)),
        receiver: Some(receiver),
        ..Default::default()
    };
    let world = World::new(given, setup).await;
    let figures = world.play(async |world: &mut World| {
        for moment in world.moments(2, 5) {
            if world.reach(moment).await {
                spoil(world, &mail, &hook);
                let time = world.while_of(200..2_500);
                tokio::time::sleep(time).await;
                mail.set(Weather::Fair);
                hook.set(Weather::Fair);
                world.server.sink.set_faults(slow(&mut world.random));
                world.receiver.now_answers(taken(&mut world.random));
            }
        }
    });
    Ended::Passed(figures.await)
}

fn spoil(world: &mut World, mail: &Relay, hook: &Relay) {
    let random = &mut world.random;
    mail.set(weather(random));
    hook.set(weather(random));
    world.server.sink.set_faults(manners(random));
    let reply = answer(random);
    world.receiver.now_answers(move |_| reply.clone());
}

fn weather(random: &mut ChaCha8Rng) -> Weather {
    match random.random_range(0..6) {
        0 | 1 => Weather::Fair,
        2 => Weather::Slow(Duration::from_millis(random.random_range(20..400))),
        3 => Weather::Silent,
        4 => Weather::Reset,
        _ => Weather::Refuse,
    }
}

/// Some mails meet something; the others are taken.
fn manners(random: &mut ChaCha8Rng) -> Faults {
    let beyond = Duration::from_millis(TIMEOUT * 1_000 + 500);
    let mut rules = Faults::none();
    for _ in 0..3 {
        let fault = match random.random_range(0..7) {
            0 => Fault::RejectRecipient(Smtp::new(450, "4.2.0 come back")),
            1 => Fault::RejectMail(Smtp::new(451, "4.3.0 come back")),
            2 => Fault::HangBeforeData(beyond),
            3 => Fault::CloseInData,
            4 => Fault::HangAfterDot(beyond),
            5 => Fault::CloseAfterDot { keep: true },
            _ => Fault::CloseAfterDot { keep: false },
        };
        rules = rules.with_times(Matching::All, fault, random.random_range(1..8));
    }
    rules.with(Matching::All, Fault::Slow(Duration::from_millis(20)))
}

fn answer(random: &mut ChaCha8Rng) -> Reply {
    let (status, headers, after) = match random.random_range(0..5) {
        0 => (500, vec![], 0),
        1 => (503, vec![("retry-after", "1".to_owned())], 0),
        2 => (404, vec![], 100),
        // Taken, but too late to be heard.
        3 => (204, vec![], 1_500),
        _ => (204, vec![], 300),
    };
    Reply {
        status,
        headers,
        after: Duration::from_millis(after),
        ..Default::default()
    }
}
