//! What HylaFAX says of jobs: lists of them, and the file of one that is done.
//!
//! A job carries its message in `JOBINFO` as "anklang:<message id>". By that, and by its owner, ours
//! are known among others, also after a restart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anklang_plugin_sdk::delivery_event::State;

use super::reply::masked;
use super::session::{Fault, LARGEST_LISTING, Session};

const TAG: &str = "anklang:";
/// Id, state, time, pages, owner, tag; a tab between them. What others write comes last.
const FORMAT: &str = r#"JOBFMT "%j\011%a\011%Z\011%y\011%o\011%J""#;
/// Largest file of a job, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// What a job of this message carries.
pub(crate) fn tag(message_id: &str) -> String {
    format!("{TAG}{message_id}")
}

/// One line of a list of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: u32,
    pub(crate) message_id: String,
    /// As HylaFAX abbreviates it: T suspended, P pending, S sleeping, B blocked, W waiting, R running,
    /// D done, F failed.
    pub(crate) state: char,
    /// Of a finished job, when it was finished.
    pub(crate) at: SystemTime,
    pub(crate) pages: u32,
}

impl Listed {
    /// Nothing becomes of it any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, 'D' | 'F')
    }
}

/// The jobs of `owner` that carry messages, in a queue: "sendq", "doneq".
pub(crate) async fn list(
    session: &mut Session,
    queue: &str,
    owner: &str,
) -> Result<Vec<Listed>, Fault> {
    session.done(FORMAT).await?;
    let listing = session
        .download(&format!("LIST {queue}"), LARGEST_LISTING)
        .await?;
    Ok(listing
        .lines()
        .filter_map(|line| listed(line, owner))
        .collect())
}

fn listed(line: &str, owner: &str) -> Option<Listed> {
    let mut fields = line.trim_end_matches('\r').splitn(6, '\t');
    let id = fields.next()?.trim().parse().ok()?;
    let state = fields.next()?.trim().chars().next()?;
    let seconds = fields.next()?.trim().parse().ok()?;
    let pages = fields.next()?.trim().parse().ok()?;
    if fields.next()? != owner {
        return None;
    }
    let message_id = fields.next()?.strip_prefix(TAG)?;
    is_message_id(message_id).then(|| Listed {
        id,
        message_id: message_id.to_owned(),
        state,
        at: UNIX_EPOCH + Duration::from_secs(seconds),
        pages,
    })
}

/// Whether it can be one of ours, and go into a job.
pub(crate) fn is_message_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// When a message was made, if its id says so: the first 48 bits of a UUID of version 7 are
/// milliseconds since 1970.
pub(crate) fn made_at(message_id: &str) -> Option<SystemTime> {
    let digits: String = message_id.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || digits.as_bytes()[12] != b'7' {
        return None;
    }
    let milliseconds = u64::from_str_radix(digits.get(..12)?, 16).ok()?;
    Some(UNIX_EPOCH + Duration::from_millis(milliseconds))
}

/// What the file of a finished job says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Finished {
    /// 7 done, 8 failed; others are not finished.
    state: u32,
    /// What became of the last try, as a number; not every HylaFAX says it.
    pub(crate) status_code: Option<u32>,
    /// The same for people.
    status: String,
    pages_sent: u32,
    pages: u32,
    /// "14400 bit/s"
    rate: String,
}

/// Reads a finished job.
pub(crate) async fn read(session: &mut Session, id: u32) -> Result<Finished, Fault> {
    let file = session
        .download(&format!("RETR /doneq/q{id}"), LARGEST_FILE)
        .await?;
    Ok(finished(&file))
}

fn finished(file: &str) -> Finished {
    let mut job = Finished::default();
    // A value goes on in the next line where a backslash ends its line.
    for line in file.replace("\\\n", " ").lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        let number = || value.parse().unwrap_or(0);
        match key {
            "state" => job.state = number(),
            "statuscode" => job.status_code = value.parse().ok(),
            "status" => job.status = value.to_owned(),
            "npages" => job.pages_sent = number(),
            "totpages" => job.pages = number(),
            "signalrate" => job.rate = value.to_owned(),
            _ => {}
        }
    }
    job
}

/// What became of a finished job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) state: State,
    /// Why it failed; empty if it did not.
    pub(crate) code: &'static str,
    /// Without numbers of others: what the other side calls itself is not told.
    pub(crate) detail: String,
}

/// What became of a job; `None` if it is not finished.
pub(crate) fn verdict(job: &Finished) -> Option<Verdict> {
    let pages = format!("{} of {} pages", job.pages_sent, job.pages);
    match job.state {
        7 => {
            let rate = match job.rate.bytes().all(|b| b.is_ascii_digit()) {
                _ if job.rate.is_empty() => String::new(),
                true => format!(", {} bit/s", job.rate),
                false => format!(", {}", job.rate),
            };
            Some(Verdict {
                state: State::Delivered,
                code: "",
                detail: format!("{pages}{rate}"),
            })
        }
        8 => {
            let status = match job.status.as_str() {
                "" => "HylaFAX does not say why",
                status => status,
            };
            let why = masked(&status.chars().take(300).collect::<String>());
            // Nobody has all of it, and some have some of it: the one thing to know before
            // anybody sends it again.
            let (code, detail) = if job.pages_sent > 0 {
                ("PARTIAL", format!("{pages}; {why}"))
            } else {
                (cause(job.status_code, &job.status), why)
            };
            Some(Verdict {
                state: State::Failed,
                code,
                detail,
            })
        }
        _ => None,
    }
}

/// Beginnings of what HylaFAX says, and what they mean. Text comes before the number: when the
/// server gives up, it adds that to the text but puts "gave up" (333, 334) in place of the number.
const TEXTS: &[(&str, &str)] = &[
    ("Busy signal", "BUSY"),
    ("No answer", "NO_ANSWER"),
    ("Ringback detected, no answer", "NO_ANSWER"),
    ("No carrier", "NO_CARRIER"),
    ("Ring detected without successful handshake", "NO_CARRIER"),
    ("No local dialtone", "NO_DIALTONE"),
    ("Data connection established", "INCOMPATIBLE"),
    ("Kill time expired", "TIMED_OUT"),
    ("Job aborted", "KILLED"),
    ("Call aborted", "KILLED"),
    ("Job interrupted", "KILLED"),
    ("Blacklisted", "BLACKLISTED"),
    ("REJECT", "REJECTED"),
];

/// Why a job failed, in one word.
fn cause(code: Option<u32>, text: &str) -> &'static str {
    let text = text.trim();
    if let Some((_, cause)) = TEXTS.iter().find(|(begins, _)| text.starts_with(begins)) {
        return cause;
    }
    match code.unwrap_or_default() {
        1 => "BUSY",
        2 | 12 => "NO_CARRIER",
        3 | 11 => "NO_ANSWER",
        4 => "NO_DIALTONE",
        10 => "BLACKLISTED",
        8 | 122 | 403 | 406 | 408 | 410 | 412 | 414 | 416 | 418 => "INCOMPATIBLE",
        7 | 100..=155 | 280..=288 => "PROTOCOL",
        325 => "TIMED_OUT",
        344 | 345 | 351 | 352 => "KILLED",
        314..=323 => "DOCUMENT",
        326..=332 | 335 | 348 => "REJECTED",
        _ => "FAILED",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
