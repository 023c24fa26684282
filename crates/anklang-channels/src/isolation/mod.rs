//! Plugins in processes of their own.
//!
//! The host starts the program again ([`spawn`]) with two open files, a socket and the sealed
//! library, and nothing else that it has. That process ([`child`]) takes its limits, loads the
//! library and does what frames ([`frame`]) say. The host's end ([`link`]) routes answers and
//! events, watches for signs of life and kills what hangs or talks nonsense. When to start
//! another one is up to [`breaker`] and the instance's supervisor.
//!
//! # Guarantees
//! - Whatever the plugin does to its process, the host goes on, with bounded memory and time.
//! - A call that the process did not get in full was not taken; one that it got and did not
//!   answer is lost, and its messages ambiguous. What it answered before it ended counts.
//! - The process ends with its host, also when that one is killed.
//!
//! # Trade-offs
//! The process has the rights of the host's user: it is kept from crashing the host, not from
//! reading the host's files. Each call costs two copies and two switches of context.

pub(crate) mod breaker;
pub(crate) mod child;
pub(crate) mod frame;
pub(crate) mod link;
mod outbox;
pub(crate) mod spawn;

use std::os::unix::net::UnixStream;
use std::time::Instant;

use anklang_plugin_abi::ANK_OK;

use crate::LoadError;
use crate::hosting::Hosting;
use crate::library::{Image, Unusable};
use frame::{End, Kind};
use spawn::Process;

/// The id of the only call of a process that is asked for its manifest.
const PROBE: u64 = 1;

/// Reads the manifest of a library in a process of its own, in bounded time. Blocks.
pub(crate) fn manifest(image: &Image, hosting: &Hosting) -> Result<Vec<u8>, LoadError> {
    let path = || image.path.clone();
    let no_process = |error| LoadError::NoProcess {
        path: path(),
        error,
    };
    let (mut process, socket) =
        spawn::quietly(&hosting.program, image, &hosting.process).map_err(no_process)?;
    let limits = serde_json::to_vec(&hosting.process).expect("plain values");
    let within = hosting.process.load();
    match ask(&socket, &limits, within) {
        Ok((ANK_OK, manifest)) => Ok(manifest),
        Ok((_, reason)) => Err(match serde_json::from_slice::<Unusable>(&reason) {
            Ok(unusable) => unusable.of(&image.path),
            Err(_) => LoadError::Manifest {
                path: path(),
                reason: "the process that read it talks nonsense".to_owned(),
            },
        }),
        Err(None) => Err(LoadError::Hung {
            path: path(),
            within,
        }),
        Err(Some(error)) => Err(LoadError::Crashed {
            path: path(),
            reason: ended(&mut process, &error),
        }),
    }
}

/// How a process ended whose socket failed in this way.
fn ended(process: &mut Process, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::InvalidData => error.to_string(),
        _ => process.wait_a_moment().unwrap_or_else(|| error.to_string()),
    }
}

/// Has the library loaded. `None` is a process that did not answer in time.
fn ask(
    socket: &UnixStream,
    limits: &[u8],
    within: std::time::Duration,
) -> Result<(i32, Vec<u8>), Option<std::io::Error>> {
    use std::io::{Error, ErrorKind, Read, Write};

    /// Reads until a moment, however slowly bytes come.
    struct Until<'a>(&'a UnixStream, Instant);
    impl Read for Until<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let left = self.1.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.0.set_read_timeout(Some(left))?;
            self.0.read(into)
        }
    }
    let late = |error: Error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => None,
        _ => Some(error),
    };
    let mut from = Until(socket, Instant::now() + within);
    let mut to = socket;
    // A few hundred bytes: the socket takes them without waiting.
    to.write_all(&frame::whole(Kind::Load, 0, PROBE, limits))
        .map_err(late)?;
    loop {
        match frame::read(&mut from, End::Host).map_err(late)? {
            Some((header, payload)) if header.kind == Kind::Completed && header.id == PROBE => {
                return Ok((header.code, payload));
            }
            Some((header, _)) if header.kind == Kind::Counters => {}
            Some(_) => {
                let garbage = frame::Garbage("not what was asked".to_owned());
                return Err(Some(garbage.into()));
            }
            None => return Err(Some(ErrorKind::UnexpectedEof.into())),
        }
    }
}
