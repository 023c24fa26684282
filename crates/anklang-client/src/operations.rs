//! Operations, until they are over.

use anklang_proto::anklang::operations::v1::{OperationMetadata, WatchOperationRequest};
use anklang_proto::google::longrunning::{Operation, operation};
use prost::{Message, Name};
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::{Client, Error};

impl Client {
    /// Waits until an operation is over, however long that takes, and gives its response: that of the message that
    /// the call's documentation names, e.g. `LaunchCampaignResponse`. `progress` is told how far it is whenever that
    /// has moved, at most four times a second. When the server stops, another one is asked; when the token expires,
    /// the next one of [`token_from`](crate::Builder::token_from) is shown.
    ///
    /// # Errors
    /// When the operation failed or was cancelled, or its server is not to be reached. The operation itself goes on
    /// when nobody waits.
    pub async fn wait<R: Message + Name + Default>(
        &self,
        operation: &Operation,
        mut progress: impl FnMut(OperationMetadata),
    ) -> Result<R, Error> {
        let mut operation = operation.clone();
        let (mut failures, mut renewed) = (0, false);
        while !operation.done {
            let request = WatchOperationRequest {
                name: operation.name.clone(),
            };
            // Calls that are refused are made again on their way; here are streams that break.
            let mut states = self.progress().watch_operation(request).await?.into_inner();
            let broken = loop {
                match states.message().await {
                    Ok(Some(state)) => {
                        let Some(state) = state.operation else {
                            continue;
                        };
                        (failures, renewed) = (0, false);
                        if let Some(told) = metadata(&state) {
                            progress(told);
                        }
                        operation = state;
                    }
                    Ok(None) => break Status::unavailable("the stream ended before the operation"),
                    Err(status) => break status,
                }
            };
            if operation.done {
                break;
            }
            // A stream ends with its token; the next one may go on, and is refused at once where it may not.
            if broken.code() == Code::Unauthenticated && self.calls.asks_for_tokens() && !renewed {
                renewed = true;
                continue;
            }
            failures += 1;
            // A connection that broke may be told under any code, and then has a cause on this side.
            let here = std::error::Error::source(&broken).is_some();
            let broken = match here {
                true => Status::unavailable(broken.message()),
                false => broken,
            };
            match self.calls.retries().after(failures, &broken) {
                Some(wait) => sleep(wait).await,
                None => return Err(broken.into()),
            }
        }
        response(operation)
    }
}

/// How far an operation is.
fn metadata(operation: &Operation) -> Option<OperationMetadata> {
    operation.metadata.as_ref()?.to_msg().ok()
}

/// What came of an operation.
fn response<R: Message + Name + Default>(operation: Operation) -> Result<R, Error> {
    match operation.result {
        Some(operation::Result::Response(packed)) => packed
            .to_msg()
            .map_err(|error| Status::internal(format!("its response: {error}")).into()),
        Some(operation::Result::Error(error)) => Err(error.into()),
        None => Err(Status::internal("the operation is over and has no result").into()),
    }
}

#[cfg(test)]
mod tests {
    use anklang_proto::anklang::campaigns::v1::{LaunchCampaignRequest, LaunchCampaignResponse};
    use anklang_proto::google::rpc;

    use super::*;

    fn over(result: Option<operation::Result>) -> Operation {
        Operation {
            done: true,
            result,
            ..Default::default()
        }
    }

    fn packed<M: Message + Name>(message: &M) -> operation::Result {
        operation::Result::Response(prost_types::Any {
            type_url: format!("type.googleapis.com/{}", M::full_name()),
            value: message.encode_to_vec(),
        })
    }

    #[test]
    fn results_are_of_the_type_that_is_asked_for() {
        let launched = LaunchCampaignResponse {
            members: 7,
            ..Default::default()
        };
        let read = response::<LaunchCampaignResponse>;
        assert_eq!(
            read(over(Some(packed(&launched)))).map_err(|e| e.code()),
            Ok(launched)
        );
        let other = packed(&LaunchCampaignRequest::default());
        for strange in [Some(other), None] {
            let error = read(over(strange)).expect_err("strange");
            assert_eq!(error.code(), Code::Internal);
        }
    }

    #[test]
    fn failures_are_errors() {
        let failed = operation::Result::Error(rpc::Status {
            code: Code::Cancelled.into(),
            message: "cancelled".into(),
            details: Vec::new(),
        });
        let error = response::<LaunchCampaignResponse>(over(Some(failed))).expect_err("failed");
        assert_eq!(
            (error.code(), error.message()),
            (Code::Cancelled, "cancelled")
        );
    }
}
