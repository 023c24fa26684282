//! Calls of any method, with messages that are known by their descriptors alone.

use std::time::Duration;

use anyhow::Context;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};
use tonic_types::StatusExt;

use super::text::clean;
use crate::cli::server_args::{Connection, ServerArgs};
use crate::cli::status::{faults, is_lost};
use crate::grpc::TENANT_KEY;

/// The largest answer that is taken.
const LARGEST: usize = 64 * 1024 * 1024;
/// So often a call is made when the connection is lost; it waits a second, two, four between.
const TRIES: u32 = 4;

/// A server, and the tenant that it is asked for.
pub struct Client {
    server: Connection,
    tenant: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects.
    pub async fn connect(server: &ServerArgs, tenant: Option<&str>) -> anyhow::Result<Self> {
        let tenant = tenant.map(str::parse::<MetadataValue<Ascii>>).transpose();
        Ok(Client {
            tenant: tenant.context("the tenant is no slug")?,
            server: server.connect(None).await?,
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
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        message: &DynamicMessage,
    ) -> Result<DynamicMessage, Status> {
        let mut tries = 1;
        loop {
            match self.once(method, message.clone()).await {
                Err(status) if is_lost(&status) && tries < TRIES => {}
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_secs(1 << (tries - 1))).await;
            tries += 1;
        }
    }

    async fn once(
        &self,
        method: &MethodDescriptor,
        message: DynamicMessage,
    ) -> Result<DynamicMessage, Status> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::try_from(path).map_err(|e| Status::internal(e.to_string()))?;
        let mut server = Grpc::new(self.server()).max_decoding_message_size(LARGEST);
        let ready = server.ready().await;
        ready.map_err(|error| Status::from_error(Box::new(error)))?;
        let answer = server.unary(self.request(message), path, Of(method.output()));
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

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

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
