//! Handing a fax over, and what the dialogue proves of it.
//!
//! | step | 2xx | 4xx, 5xx | farewell (221, 420, 421) | no answer |
//! |---|---|---|---|---|
//! | connect, log in | go on | transient `CONFIG` | throttled, account | transient `CONNECT` |
//! | document (STOT) | go on | transient | throttled, account | transient `CONNECT` |
//! | job (JNEW, JPARM) | go on | transient, `CONFIG` for a parameter | throttled, account | transient `CONNECT` |
//! | **JSUBM** | accepted | see below | 221: throttled, else **ambiguous** | **ambiguous** |
//!
//! Until JSUBM, hfaxd removes the job when the connection ends. JSUBM writes the job and asks the
//! scheduler (faxq) to take it. Its refusals are of three sorts: those that prove that the scheduler
//! did not take the job (the job was incomplete, could not be written, the scheduler was not there):
//! transient; the scheduler's own no, whose reason is in the finished job: permanent; and those after
//! which nobody knows (the scheduler was restarted while it was asked): ambiguous.

use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{Outcome, Reason, outcome::Kind};
use tokio::time::timeout;

use super::config::Settings;
use super::job::{self, Finished};
use super::reply::{Reply, number_after, quoted};
use super::session::{Fault, Session};
use crate::document::Pages;

/// How long the account rests when the server takes leave.
const ACCOUNT_RESTS: Duration = Duration::from_secs(60);
/// A4 in millimetres, as HylaFAX counts it.
const PAGE: (u32, u32) = (209, 296);

/// A fax that is ready to be handed over.
pub(crate) struct Fax {
    pub(crate) message_id: String,
    /// What is dialled.
    pub(crate) dial: String,
    /// The number as people know it.
    pub(crate) number: String,
    pub(crate) sender_name: String,
    /// Our own number, as the other side shows it.
    pub(crate) sender_id: Option<String>,
    pub(crate) subject: String,
    pub(crate) pages: Pages,
}

/// What came of a submission, and whether the connection can be used again.
pub(crate) struct Submitted {
    pub(crate) outcome: Outcome,
    pub(crate) usable: bool,
}

/// Submits a fax.
pub(crate) async fn submit(session: &mut Session, settings: &Settings, fax: &Fax) -> Submitted {
    session.jobs += 1;
    // Each step has its patience, but there are many: a host loses its own some day.
    let prepared = timeout(3 * settings.patience, prepare(session, settings, fax)).await;
    let job = match prepared {
        Ok(Ok(job)) => job,
        Ok(Err(outcome)) => {
            return Submitted {
                outcome,
                usable: false,
            };
        }
        Err(_) => {
            return Submitted {
                outcome: Outcome::transient("CONNECT", "the fax server is slow"),
                usable: false,
            };
        }
    };
    let reply = match session.say("JSUBM").await {
        Ok(()) => session.reply().await,
        // Some of it may have gone out.
        Err(fault) => Err(fault),
    };
    match reply {
        Ok(reply) if reply.code == 200 => Submitted {
            outcome: accepted(job, fax.pages.checked.pages, SystemTime::now()),
            usable: true,
        },
        Ok(reply) => Submitted {
            outcome: refused(session, job, &reply).await,
            usable: false,
        },
        Err(fault) => Submitted {
            outcome: Outcome::ambiguous(format!(
                "job {job}: no answer to JSUBM: {}",
                fault.detail()
            )),
            usable: false,
        },
    }
}

/// The job was submitted.
pub(crate) fn accepted(job: u32, pages: u32, at: SystemTime) -> Outcome {
    let mut outcome = Outcome::accepted(job.to_string(), at, format!("job {job}, {pages} pages"));
    if let Some(Kind::Accepted(accepted)) = &mut outcome.kind {
        accepted.parts = pages;
    }
    outcome
}

/// Makes the job, up to its submission.
async fn prepare(session: &mut Session, settings: &Settings, fax: &Fax) -> Result<u32, Outcome> {
    let uploaded = session.upload(&fax.pages.tiff).await;
    let document = uploaded.map_err(|fault| before(&fault, "document", false))?;
    let made = session.done("JNEW").await;
    let made = made.map_err(|fault| before(&fault, "JNEW", false))?;
    let job = number_after(&made.text, "jobid:").ok_or_else(|| {
        Outcome::transient("PROTOCOL", format!("JNEW names no job: {}", made.detail()))
    })?;
    for (name, value) in parameters(settings, fax, &document) {
        let set = session.done(&format!("JPARM {name} {value}")).await;
        set.map_err(|fault| before(&fault, name, true))?;
    }
    Ok(job)
}

/// What the job is told, in this order: LASTTIME counts from SENDTIME.
fn parameters(settings: &Settings, fax: &Fax, document: &str) -> Vec<(&'static str, String)> {
    let minutes = settings.give_up_after_minutes;
    let last = format!(
        "{:02}{:02}{:02}",
        minutes / 1440,
        minutes / 60 % 24,
        minutes % 60
    );
    let from = Some(fax.sender_name.trim()).filter(|name| !name.is_empty());
    let nobody = format!("{}@localhost", settings.username);
    let (notify, address) = match &settings.notify_address {
        Some(address) => ("DONE", address),
        None => ("NONE", &nobody),
    };
    let mut parameters = vec![
        ("FROMUSER", quoted(from.unwrap_or(&settings.username))),
        ("SENDTIME", "NOW".to_owned()),
        ("LASTTIME", last),
        ("MAXDIALS", settings.max_dials.to_string()),
        ("MAXTRIES", settings.max_tries.to_string()),
        ("DIALSTRING", quoted(&fax.dial)),
        ("EXTERNAL", quoted(&fax.number)),
        ("NOTIFYADDR", quoted(address)),
        ("NOTIFY", notify.to_owned()),
        ("VRES", fax.pages.checked.resolution.lines().to_string()),
        ("PAGEWIDTH", PAGE.0.to_string()),
        ("PAGELENGTH", PAGE.1.to_string()),
        ("JOBINFO", quoted(&job::tag(&fax.message_id))),
    ];
    let own = settings.sender_id.as_ref().or(fax.sender_id.as_ref());
    let subject = fax.subject.chars().take(100).collect::<String>();
    let optional = [
        (
            "REGARDING",
            Some(&subject).filter(|subject| !subject.trim().is_empty()),
        ),
        ("TSI", own.filter(|own| !own.is_empty())),
        ("MODEM", settings.modem.as_ref()),
    ];
    parameters.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, quoted(value?)))),
    );
    parameters.push(("DOCUMENT", quoted(document)));
    parameters
}

/// The outcome of a fault before JSUBM: nothing is submitted.
pub(crate) fn before(fault: &Fault, step: &str, parameter: bool) -> Outcome {
    match fault {
        Fault::Broken(text) => Outcome::transient("CONNECT", format!("{step}: {text}")),
        Fault::Mismatch(text) => Outcome::transient("CONFIG", format!("{step}: {text}")),
        Fault::Refused(reply) if reply.is_farewell() => rests(),
        // Who may not log in, or may not set a parameter, has to mend the account.
        Fault::Refused(reply) if parameter || reply.code == 530 => {
            Outcome::transient("CONFIG", format!("{step}: {}", reply.detail()))
        }
        Fault::Refused(reply) => Outcome::transient(
            reply.code.to_string(),
            format!("{step}: {}", reply.detail()),
        ),
    }
}

fn rests() -> Outcome {
    Outcome::throttled(ACCOUNT_RESTS, "account")
}

/// What a refusal of JSUBM says.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The scheduler does not have the job.
    NotTaken,
    /// The server shuts down and did not look at it.
    Farewell,
    /// The scheduler looked at the job and did not want it.
    Unwanted,
    /// Nobody knows.
    Unknown,
}

fn refusal(reply: &Reply) -> Refusal {
    let says = |text: &str| reply.text.contains(text);
    match reply.code {
        221 => Refusal::Farewell,
        460 if says("NAK") => Refusal::Unwanted,
        460 if says("open scheduler FIFO") || says("FIFO write failed") => Refusal::NotTaken,
        // It could not be written; it was not understood; there is no login.
        450 | 500..=503 | 530 => Refusal::NotTaken,
        504 if says("null or missing") => Refusal::NotTaken,
        _ => Refusal::Unknown,
    }
}

async fn refused(session: &mut Session, job: u32, reply: &Reply) -> Outcome {
    match refusal(reply) {
        Refusal::NotTaken if reply.code == 450 || reply.code == 460 => {
            Outcome::transient(reply.code.to_string(), reply.detail())
        }
        Refusal::NotTaken => Outcome::transient("CONFIG", format!("JSUBM: {}", reply.detail())),
        Refusal::Farewell => rests(),
        Refusal::Unwanted => match job::read(session, job).await {
            Ok(finished) => unwanted(&finished, reply),
            // Its reason is not to be had; the job is not queued all the same.
            Err(_) => Outcome::transient("460", reply.detail()),
        },
        Refusal::Unknown => Outcome::ambiguous(format!("job {job}: JSUBM: {}", reply.detail())),
    }
}

/// The scheduler rejected the job.
fn unwanted(finished: &Finished, reply: &Reply) -> Outcome {
    let Some(verdict) = job::verdict(finished) else {
        return Outcome::ambiguous(format!("JSUBM: {}, but the job goes on", reply.detail()));
    };
    let (reason, code) = match finished.status_code {
        // The dial string cannot be brought into a canonical form.
        Some(327) => (Reason::Recipient, "DIALSTRING"),
        _ => (Reason::Config, "REJECTED"),
    };
    Outcome::permanent(reason, code, verdict.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply {
            code,
            text: text.to_owned(),
        }
    }

    #[test]
    fn refusals_of_a_submission_are_told_apart() {
        for (code, text, expected) in [
            (221, "Server shutting down.  Goodbye.", Refusal::Farewell),
            (
                421,
                "Timeout (900 seconds): closing control connection.",
                Refusal::Unknown,
            ),
            (
                450,
                "Cannot open/create job description file /sendq/q5.",
                Refusal::NotTaken,
            ),
            (451, "Error in server: out of memory", Refusal::Unknown),
            (
                460,
                "Failed to submit job 5: Unable to open scheduler FIFO: No such device or address.",
                Refusal::NotTaken,
            ),
            (
                460,
                "Failed to submit job 5: FIFO write failed: Broken pipe.",
                Refusal::NotTaken,
            ),
            (
                460,
                "Failed to submit job 5: Unspecified reason (scheduler NAK'd request).",
                Refusal::Unwanted,
            ),
            (460, "Failed to submit job 5: .", Refusal::Unknown),
            (
                500,
                "Cannot submit job 5; job deleted by another party.",
                Refusal::NotTaken,
            ),
            (
                504,
                "Cannot submit job 5; null or missing DIALSTRING parameter.",
                Refusal::NotTaken,
            ),
            (504, "Job 5 not submitted; already done.", Refusal::Unknown),
            (226, "Transfer complete.", Refusal::Unknown),
            (550, "what?", Refusal::Unknown),
        ] {
            assert_eq!(refusal(&reply(code, text)), expected, "{code} {text}");
        }
    }
}
