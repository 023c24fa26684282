//! What an import tells, response by response.

use anklang_proto::anklang::imports::v1 as pb;
use anklang_store::import::{Fault, Sums};
use tokio::sync::mpsc;
use tonic::Status;

use super::Stop;

/// The most bad rows in a response, so that it stays far below the limit of a message.
const MAX_ERRORS: usize = 500;
/// Responses that may wait for the client.
const RESPONSES: usize = 4;

/// Where the client's answers go. Cheap to clone.
#[derive(Clone)]
pub(super) struct Answers(mpsc::Sender<Result<pb::ImportResponse, Status>>);

/// The answers, as they come.
pub(super) type Responses = mpsc::Receiver<Result<pb::ImportResponse, Status>>;

/// Answers of an import, and where they come.
pub(super) fn channel() -> (Answers, Responses) {
    let (responses, receiver) = mpsc::channel(RESPONSES);
    (Answers(responses), receiver)
}

impl Answers {
    /// Tells how far the import is; waits until the client takes the responses before.
    pub(super) async fn tell(&self, sums: Sums, faults: Vec<Fault>, end: End) -> Result<(), Stop> {
        let mut errors = faults.into_iter().map(|fault| pb::RowError {
            line: fault.line,
            field: fault.field,
            reason: fault.reason,
        });
        let mut end = Some(end);
        loop {
            let some: Vec<_> = errors.by_ref().take(MAX_ERRORS).collect();
            let end = end.take_if(|_| errors.len() == 0);
            let response = pb::ImportResponse {
                rows: sums.rows,
                created: sums.created,
                updated: sums.updated,
                unchanged: sums.unchanged,
                failed: sums.failed,
                errors: some,
                done: end.as_ref().is_some_and(|end| end.done),
                checkpoint: end.as_ref().and_then(|end| end.checkpoint.clone()),
            };
            self.0.send(Ok(response)).await.map_err(|_| Stop::Gone)?;
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Ends them with an error.
    pub(super) async fn end(&self, status: Status) {
        // A client that is gone needs no answer.
        let _ = self.0.send(Err(status)).await;
    }

    /// Whether the client is still there.
    pub(super) fn are_taken(&self) -> bool {
        !self.0.is_closed()
    }
}

/// What the last response about a chunk says besides.
pub(super) struct End {
    pub(super) done: bool,
    pub(super) checkpoint: Option<pb::ImportCheckpoint>,
}
