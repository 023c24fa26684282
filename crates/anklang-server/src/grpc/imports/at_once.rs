//! An import in one request, for callers that cannot stream: it is the same as a stream of these parts alone.

use anklang_domain::Violations;
use anklang_proto::anklang::imports::v1 as pb;
use futures::stream::{self, StreamExt};
use pb::import_request::Part;
use tonic::Status;

use super::answers::Responses;
use super::{MAX_ROWS, Requests};
use crate::grpc::{ApiError, ApiResult};

/// The most faults in the answer, so that it stays below the limit of a message.
const MAX_ERRORS: usize = 5_000;

/// The request as parts.
pub(super) fn parts(request: pb::ImportRowsRequest) -> ApiResult<Requests> {
    let pb::ImportRowsRequest { header, rows } = request;
    let mut violations = Violations::new();
    match &header {
        None => violations.add("header", "is required"),
        Some(header) if header.columns.is_empty() => {
            violations.add("header.columns", "is required");
        }
        Some(_) => {}
    }
    if rows.is_empty() || rows.len() > MAX_ROWS {
        violations.add("rows", "must be 1 to 10,000");
    }
    let header = violations.finish(header.unwrap_or_default())?;
    let parts = [Part::Header(header), Part::Rows(pb::Rows { rows })];
    let requests = parts.map(|part| Ok(pb::ImportRequest { part: Some(part) }));
    Ok(stream::iter(requests).boxed())
}

/// The last of the responses, with the faults of all.
pub(super) async fn gathered(mut responses: Responses) -> Result<pb::ImportResponse, Status> {
    let mut errors = Vec::new();
    while let Some(response) = responses.recv().await {
        let mut response = response?;
        errors.append(&mut response.errors);
        errors.truncate(MAX_ERRORS);
        if response.done {
            return Ok(pb::ImportResponse { errors, ..response });
        }
    }
    Err(ApiError::Internal("an import without an end".to_owned()).into())
}

#[cfg(test)]
mod tests {
    use anklang_store::import::{Fault, Sums};

    use super::super::answers::{self, End};
    use super::*;

    #[tokio::test]
    async fn faults_are_told_up_to_a_limit() {
        let (answers, responses) = answers::channel();
        let faults = (1..=6_000).map(|line| Fault {
            line,
            field: String::new(),
            reason: "is wrong".into(),
        });
        let faults = faults.collect();
        let telling = tokio::spawn(async move {
            let end = End {
                done: true,
                checkpoint: None,
            };
            answers.tell(Sums::default(), faults, end).await.is_ok()
        });
        let told = gathered(responses).await.expect("an end");
        let lines: Vec<i64> = told.errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, (1..=5_000).collect::<Vec<_>>());
        assert!(told.done && telling.await.expect("told"));
    }
}
