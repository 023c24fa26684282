//! Calls of any method, with messages that are known by their descriptors alone.

use std::time::Duration;

use anyhow::Context;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::text::clean;
use super::text_of;
use crate::cli::server_args::{Connection, ServerArgs};
use crate::cli::status::{again_after, faults, is_lost};
use crate::grpc::TENANT_KEY;

/// The largest answer that is taken.
const LARGEST: usize = 64 * 1024 * 1024;
/// So often a call is made when the connection is lost or the server wants it later; it waits a second, two, four
/// between, or as long as it is told.
const TRIES: u32 = 4;

/// A server, and the tenant that it is asked for.
pub struct Client {
    server: Connection,
    tenant: Option<MetadataValue<Ascii>>,
    patience: Duration,
}

impl Client {
    /// Connects. Each call may take so long, all tries together.
    pub async fn connect(
        server: &ServerArgs,
        tenant: Option<&str>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let tenant = tenant.map(str::parse::<MetadataValue<Ascii>>).transpose();
        Ok(Client {
            tenant: tenant.context("the tenant is no slug")?,
            server: server.connect(None).await?,
            patience,
        })
    }

    /// The way to the server.
    pub fn server(&self) -> Connection {
        self.server.clone()
    }

    /// A request for the tenant.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(tenant) = &self.tenant {
            request.metadata_mut().insert(TENANT_KEY, tenant.clone());
        }
        request
    }

    /// Calls a method. A lost connection is tried again: a change has its `request_id`, and all else of ours
    /// may be asked twice.
    ///
    /// # Errors
    /// As [`refusal`]; of a change of which nobody knows whether it was done, with the id to repeat it with.
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        message: &DynamicMessage,
    ) -> anyhow::Result<DynamicMessage> {
        let end = Instant::now() + self.patience;
        let (mut tries, mut in_doubt) = (1, false);
        loop {
            let status = match timeout_at(end, self.once(method, message.clone(), end)).await {
                Ok(Ok(answer)) => return Ok(answer),
                // Tonic ends it at the same time, in words of its own.
                Ok(Err(status)) if Instant::now() < end => status,
                _ => too_late(self.patience),
            };
            in_doubt = may_be_done(&status, in_doubt);
            let usual = Duration::from_secs(1 << (tries - 1));
            let wait = again_after(&status).map(|told| told.max(usual));
            let in_time = |wait: &Duration| {
                let again = Instant::now().checked_add(*wait);
                tries < TRIES && again.is_some_and(|again| again < end)
            };
            let Some(wait) = wait.filter(in_time) else {
                return Err(failure(&status, in_doubt, message));
            };
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    async fn once(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
        end: Instant,
    ) -> Result<DynamicMessage, Status> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::try_from(path).map_err(|e| Status::internal(e.to_string()))?;
        let mut server = Grpc::new(self.server()).max_decoding_message_size(LARGEST);
        let ready = server.ready().await;
        ready.map_err(|error| Status::from_error(Box::new(error)))?;
        let mut request = self.request(message);
        request.set_timeout(end.saturating_duration_since(Instant::now()));
        let answer = server.unary(request, path, Of(method.output()));
        answer.await.map(tonic::Response::into_inner)
    }
}

/// Reads messages of a type.
#[derive(Clone)]
struct Of(MessageDescriptor);

impl Codec for Of {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Of {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Of {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// Whether a change may have been done that ended so; `before` is whether one of its tries may have done it.
fn may_be_done(status: &Status, before: bool) -> bool {
    match status.code() {
        Code::DeadlineExceeded => true,
        // Refused before it was looked whether the change is done already.
        Code::ResourceExhausted | Code::Unauthenticated | Code::PermissionDenied => before,
        _ => is_lost(status),
    }
}

fn too_late(patience: Duration) -> Status {
    let seconds = patience.as_secs();
    Status::deadline_exceeded(format!("no answer within {seconds} seconds (--timeout)"))
}

/// Why a call came to nothing, or perhaps did not.
fn failure(status: &Status, in_doubt: bool, message: &DynamicMessage) -> anyhow::Error {
    let (refusal, id) = (refusal(status), text_of(message, "request_id"));
    let tried = message.get_field_by_name("validate_only");
    let tried = tried.is_some_and(|tried| tried.as_bool() == Some(true));
    match in_doubt && !tried && !id.is_empty() {
        true => {
            let id = clean(&id);
            anyhow::anyhow!("{refusal}\nmay have been done; repeat with --request-id {id}")
        }
        false => refusal,
    }
}

/// A refusal as an error: its reason, and what is wrong, a line for each field.
pub fn refusal(status: &Status) -> anyhow::Error {
    let info = status.get_details_error_info();
    let reason = info
        .map(|info| info.reason)
        .filter(|reason| !reason.is_empty());
    let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()));
    let faults = faults(status);
    // Of one field the message says the same.
    let mut lines = match faults.len() {
        1 => vec![reason],
        _ => vec![format!("{reason}: {}", status.message())],
    };
    lines.extend(faults.iter().map(|fault| format!("  {fault}")));
    let lines: Vec<_> = lines.iter().map(|line| clean(line)).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use anklang_proto::anklang::brands::v1::{ListBrandsRequest, UpdateBrandRequest};
    use tonic_types::ErrorDetails;

    use super::*;
    use crate::cli::client::text::dynamic;

    #[test]
    fn what_may_have_been_done_is_told_with_its_id() {
        let mut change = UpdateBrandRequest {
            request_id: "0191f3a0-0000-7000-8000-000000000001".into(),
            ..Default::default()
        };
        let said = |change: &UpdateBrandRequest, in_doubt| {
            let message = dynamic(change).expect("ours");
            failure(&too_late(Duration::from_secs(60)), in_doubt, &message).to_string()
        };
        let late = "DeadlineExceeded: no answer within 60 seconds (--timeout)";
        assert_eq!(
            said(&change, true),
            format!(
                "{late}\nmay have been done; repeat with --request-id {}",
                change.request_id
            )
        );
        assert_eq!(said(&change, false), late);
        change.validate_only = true;
        assert_eq!(said(&change, true), late);
        let read = dynamic(&ListBrandsRequest::default()).expect("ours");
        assert_eq!(
            failure(&too_late(Duration::from_secs(60)), true, &read).to_string(),
            late
        );
    }

    fn said(faults: &[(&str, &str)], message: &str) -> String {
        let reason = "INVALID_ARGUMENT";
        let mut details = ErrorDetails::with_error_info(reason, "anklang", HashMap::new());
        for (field, reason) in faults {
            details.add_bad_request_violation(*field, *reason);
        }
        let status = Status::with_error_details(Code::InvalidArgument, message, details);
        refusal(&status).to_string()
    }

    #[test]
    fn what_is_refused_after_it_was_lost_was_not_done() {
        assert!(may_be_done(&Status::unavailable("lost"), false));
        assert!(may_be_done(&Status::resource_exhausted("later"), true));
        assert!(!may_be_done(&Status::resource_exhausted("later"), false));
        assert!(
            !may_be_done(&Status::not_found("gone"), true),
            "else it were done"
        );
    }

    #[test]
    fn every_field_has_its_line() {
        assert_eq!(
            said(&[("a", "is required")], "a: is required"),
            "INVALID_ARGUMENT\n  a: is required"
        );
        assert_eq!(
            said(
                &[("a", "is required"), ("b.c", "is \u{1b}[2J")],
                "2 fields are wrong"
            ),
            "INVALID_ARGUMENT: 2 fields are wrong\n  a: is required\n  b.c: is \\u{1b}[2J"
        );
        let plain = Status::unimplemented("no");
        assert_eq!(refusal(&plain).to_string(), "Unimplemented: no");
    }
}
