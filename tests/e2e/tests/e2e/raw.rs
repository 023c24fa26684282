//! Calls by the name of a method, with messages as JSON: for what must hold of every method.

use std::net::SocketAddr;
use std::sync::OnceLock;

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// All methods of the API: `anklang.brands.v1.BrandService/GetBrand` and so on.
pub fn methods() -> impl Iterator<Item = MethodDescriptor> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(anklang_proto::DESCRIPTORS).unwrap());
    let ours = pool
        .services()
        .filter(|s| !s.full_name().starts_with("anklang.plugin."));
    ours.flat_map(|service| service.methods().collect::<Vec<_>>())
}

/// The name of a method as the wire has it, without the slash before.
pub fn path(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// The type of a method's requests.
pub fn input(method: &str) -> MessageDescriptor {
    let found = methods().find(|m| path(m) == method);
    found
        .unwrap_or_else(|| panic!("no method {method}"))
        .input()
}

/// A connection for calls of any tenant.
#[derive(Clone)]
pub struct Raw {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Self {
        let endpoint = Endpoint::try_from(format!("http://{addr}")).unwrap();
        Raw::over(endpoint.connect().await.unwrap())
    }

    /// Over a connection that is there, e.g. by TLS.
    pub fn over(channel: Channel) -> Self {
        Raw {
            channel,
            authorization: None,
        }
    }

    /// The same connection for a caller with a bearer token.
    pub fn bearing(&self, token: &str) -> Self {
        self.authorized(&format!("Bearer {token}"))
    }

    /// The same connection for calls that say so in `authorization`.
    pub fn authorized(&self, value: &str) -> Self {
        Raw {
            channel: self.channel.clone(),
            authorization: Some(value.parse().unwrap()),
        }
    }

    /// Calls a method, by its name in [`path`]; of a stream the first response counts.
    pub async fn call(
        &self,
        tenant: Option<&str>,
        method: &str,
        request: &Value,
    ) -> Result<Value, Status> {
        let method = methods()
            .find(|m| path(m) == method)
            .unwrap_or_else(|| panic!("no method {method}"));
        let message = DynamicMessage::deserialize(method.input(), request)
            .unwrap_or_else(|e| panic!("{}: {e}", path(&method)));
        let message = Bytes::from(message.encode_to_vec());
        let response = self.send(tenant, &method, message).await?;
        let message = DynamicMessage::decode(method.output(), response).unwrap();
        Ok(serde_json::to_value(&message).unwrap())
    }

    /// Calls a method with any bytes; of a stream the first response counts.
    pub async fn send(
        &self,
        tenant: Option<&str>,
        method: &MethodDescriptor,
        request: Bytes,
    ) -> Result<Bytes, Status> {
        let mut request = Request::new(request);
        if let Some(tenant) = tenant {
            request
                .metadata_mut()
                .insert("anklang-tenant", tenant.parse().unwrap());
        }
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        let route: PathAndQuery = format!("/{}", path(method)).parse().unwrap();
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        if method.is_server_streaming() {
            let stream = grpc.server_streaming(request, route, Plain).await?;
            return Ok(stream.into_inner().message().await?.unwrap_or_default());
        }
        Ok(grpc.unary(request, route, Plain).await?.into_inner())
    }
}

/// Messages as bytes.
#[derive(Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
