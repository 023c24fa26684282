//! Following an operation to its end, with a bar where somebody is looking.

use std::process::ExitCode;
use std::time::Duration;

use anklang_proto::anklang::operations::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anyhow::bail;
use chrono::Utc;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use pb::operation_progress_service_client::OperationProgressServiceClient;
use prost::Message;
use tonic::{Code, Status};

use super::call::{Client, refusal};
use super::render::Show;
use super::text::{self, clean};
use crate::cli::status::again_after;

/// The server says something every ten seconds: after so long it is gone.
const SILENCE: Duration = Duration::from_secs(40);
/// So many calls in which nothing is told, over about two minutes, and it is given up.
const TRIES: u32 = 12;
/// Half of the first wait before another call; they double up to sixteen seconds.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// A bar of work whose amount is known, and of other work.
const KNOWN: &str = "{prefix:12} {wide_bar} {human_pos}/{human_len} {msg}";
const UNKNOWN: &str = "{prefix:12} {spinner} {human_pos} {msg}";

/// It waits for somebody to approve it.
const EXIT_WAITS: u8 = 3;
/// The connection was lost for good, or the caller is refused meanwhile; the operation goes on.
const EXIT_LOST: u8 = 4;
/// The phase of work that waits for an approval.
const APPROVAL: &str = "approval";

/// How long an operation is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until it is over: one that somebody has named.
    Over,
    /// Until it is over, or waits for an approval: one that was just begun.
    Waiting,
}

/// Why an operation is not followed any more before it is over.
enum Lost {
    /// There may be no such operation, or none that the caller may see.
    Refused(anyhow::Error),
    /// It goes on, for this reason without anybody looking.
    GoesOn(String),
}

/// Tells how an operation goes on, and at last what came of it. The exit code says whether it succeeded.
pub async fn follow(
    client: &Client,
    name: &str,
    show: &Show,
    until: Until,
) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new(show.is_terminal());
    let finished = to_the_end(client, name, &mut progress, until).await;
    progress.bar.finish_and_clear();
    let operation = match finished {
        Ok(operation) => operation,
        Err(Lost::Refused(refusal)) => return Err(refusal),
        Err(Lost::GoesOn(why)) => {
            let name = clean(name);
            eprintln!("anklang: {why}; {name} goes on\nthen: anklang operations watch {name}");
            return Ok(ExitCode::from(EXIT_LOST));
        }
    };
    if !operation.done {
        eprintln!("{}", who_has_to_act(&operation));
        if show.json() {
            show.message(&text::dynamic(&operation)?)?;
        }
        return Ok(ExitCode::from(EXIT_WAITS));
    }
    if show.json() {
        show.message(&text::dynamic(&operation)?)?;
    }
    match operation.result {
        Some(lro::operation::Result::Error(error)) => {
            bail!("{}: {}", clean(&operation.name), clean(&error.message))
        }
        Some(lro::operation::Result::Response(any)) if !show.json() => {
            if let Some(response) = text::of_any(&any) {
                show.message(&response)?;
            }
        }
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Who can let an operation go on that waits for an approval, and how.
fn who_has_to_act(operation: &lro::Operation) -> String {
    let far = metadata(operation).unwrap_or_default();
    let (phase, name) = (clean(&far.resource), clean(&operation.name));
    format!(
        "waits for an approval by somebody else, who has campaigns.approve:\n  \
         anklang approvals get {phase}\n  \
         anklang approvals approve {phase} --hash HASH\n\
         then: anklang operations watch {name}"
    )
}

fn metadata(operation: &lro::Operation) -> Option<pb::OperationMetadata> {
    let any = operation.metadata.as_ref()?;
    pb::OperationMetadata::decode(&any.value[..]).ok()
}

/// Watches until the operation is over, on another server when one stops.
async fn to_the_end(
    client: &Client,
    name: &str,
    progress: &mut Progress,
    until: Until,
) -> Result<lro::Operation, Lost> {
    let mut seen = Seen {
        ever: until == Until::Waiting,
        tries: 0,
    };
    loop {
        let told = match watch(client, name, progress, &mut seen, until).await {
            Ok(Some(operation)) => return Ok(operation),
            Ok(None) => Duration::ZERO,
            Err(status) => again_after(&status).ok_or_else(|| refused(&status, seen.ever))?,
        };
        seen.tries += 1;
        if seen.tries >= TRIES {
            let why = "the connection was lost again and again";
            return Err(Lost::GoesOn(why.to_owned()));
        }
        let usual = FIRST_WAIT * 2_u32.pow(seen.tries.min(5));
        tokio::time::sleep(told.max(usual)).await;
    }
}

/// What is known of an operation so far.
struct Seen {
    /// It is or was there.
    ever: bool,
    /// The calls since something was told.
    tries: u32,
}

/// A refusal that another try does not change: what was seen goes on, unless it was removed.
fn refused(status: &Status, seen: bool) -> Lost {
    let refusal = refusal(status);
    match status.code() {
        // The token of a command stays the same, whatever its caller has meanwhile.
        Code::Unauthenticated if seen => {
            Lost::GoesOn(format!("{refusal}: a new token is needed (ANKLANG_TOKEN)"))
        }
        Code::NotFound => Lost::Refused(refusal),
        _ if seen => Lost::GoesOn(refusal.to_string()),
        _ => Lost::Refused(refusal),
    }
}

/// One call; gives the operation when it is over or waits. Whatever is told begins the tries anew.
async fn watch(
    client: &Client,
    name: &str,
    progress: &mut Progress,
    seen: &mut Seen,
    until: Until,
) -> Result<Option<lro::Operation>, Status> {
    let request = client.request(pb::WatchOperationRequest { name: name.into() });
    let mut service = OperationProgressServiceClient::new(client.server());
    let mut told = in_time(service.watch_operation(request))
        .await?
        .into_inner();
    while let Some(response) = in_time(told.message()).await? {
        (seen.ever, seen.tries) = (true, 0);
        let Some(operation) = response.operation else {
            continue;
        };
        let far = metadata(&operation);
        if let Some(far) = &far {
            progress.tell(far);
        }
        let waits = far.is_some_and(|far| far.phase == APPROVAL);
        if operation.done || (waits && until == Until::Waiting) {
            return Ok(Some(operation));
        }
    }
    Ok(None)
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(SILENCE, call).await;
    answer.unwrap_or_else(|_| Err(Status::unavailable("the server has fallen silent")))
}

/// How far it is: a bar, or without a terminal a line for each phase of the work.
struct Progress {
    bar: ProgressBar,
    phase: String,
    known: bool,
    errors: Vec<String>,
}

impl Progress {
    fn new(terminal: bool) -> Self {
        Progress {
            bar: match terminal {
                true => ProgressBar::no_length().with_style(style(UNKNOWN)),
                false => ProgressBar::hidden(),
            },
            phase: String::new(),
            known: false,
            errors: Vec::new(),
        }
    }

    fn tell(&mut self, far: &pb::OperationMetadata) {
        let known = far.total > 0;
        if far.phase != self.phase {
            self.phase = far.phase.clone();
            let phase = clean(&far.phase).into_owned();
            if self.bar.is_hidden() {
                eprintln!("{phase}");
            }
            self.bar.set_prefix(phase);
        }
        if known != self.known {
            self.known = known;
            self.bar
                .set_style(style(if known { KNOWN } else { UNKNOWN }));
        }
        self.bar.set_length(amount(far.total));
        self.bar.set_position(amount(far.done));
        self.bar.set_message(details(far, Utc::now().timestamp()));
        // The newest come first.
        let all = far.last_errors.iter().rev();
        let new = all.filter(|error| !self.errors.contains(error));
        for error in new {
            let error = clean(error);
            self.bar.suspend(|| eprintln!("{error}"));
        }
        self.errors.clone_from(&far.last_errors);
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn amount(n: i64) -> u64 {
    n.try_into().unwrap_or_default()
}

/// How fast it is, what failed, and when it will be over.
fn details(far: &pb::OperationMetadata, now: i64) -> String {
    let mut parts = Vec::new();
    if far.rate_per_second > 0.0 {
        parts.push(format!("{:.0}/s", far.rate_per_second));
    }
    if far.failed > 0 {
        parts.push(format!("{} failed", HumanCount(amount(far.failed))));
    }
    if let Some(eta) = &far.eta {
        let left = Duration::from_secs(amount(eta.seconds.saturating_sub(now)));
        parts.push(format!("{} left", HumanDuration(left)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_failures_and_the_time_that_is_left_are_told_when_they_are_known() {
        let mut far = pb::OperationMetadata::default();
        assert_eq!(details(&far, 0), "");
        far.rate_per_second = 1_234.4;
        far.failed = 5_000;
        far.eta = Some(prost_types::Timestamp {
            seconds: 140,
            nanos: 0,
        });
        assert_eq!(details(&far, 100), "1234/s, 5,000 failed, 40 seconds left");
        assert_eq!(details(&far, 1_000), "1234/s, 5,000 failed, 0 seconds left");
    }

    #[test]
    fn who_has_to_act_is_told_with_the_commands() {
        let far = pb::OperationMetadata {
            resource: "campaigns/1/phases/\u{1b}2".into(),
            ..Default::default()
        };
        let said = who_has_to_act(&lro::Operation {
            name: "operations/7".into(),
            metadata: Some(prost_types::Any {
                value: far.encode_to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        });
        for line in [
            "  anklang approvals approve campaigns/1/phases/\\u{1b}2 --hash HASH",
            "then: anklang operations watch operations/7",
        ] {
            assert!(said.lines().any(|l| l == line), "{said}");
        }
    }

    #[test]
    fn bars_have_the_styles_that_they_are_given() {
        for style in [KNOWN, UNKNOWN] {
            assert!(ProgressStyle::with_template(style).is_ok(), "{style}");
        }
    }

    #[test]
    fn without_a_terminal_there_is_no_bar() {
        let mut progress = Progress::new(false);
        progress.tell(&pb::OperationMetadata {
            phase: "offers".into(),
            done: 3,
            total: 10,
            last_errors: vec!["a".into()],
            ..Default::default()
        });
        assert!(progress.bar.is_hidden());
        assert_eq!(
            (progress.bar.position(), progress.bar.length()),
            (3, Some(10))
        );
        assert_eq!(
            (&progress.phase[..], &progress.errors[..]),
            ("offers", &["a".to_owned()][..])
        );
    }
}
