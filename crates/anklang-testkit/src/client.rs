//! The client of one tenant, as tests use it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use anklang_client::Retries;
use anklang_proto::anklang::imports::v1 as imports;
use anklang_proto::google::longrunning as lro;
use anyhow::{Result, bail};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The services as one tenant calls them: [`anklang_client::Client`], but every call is made once, as it is, and
/// waits for ever, so that tests see what the server says.
#[derive(Clone)]
pub struct Client(anklang_client::Client);

impl Deref for Client {
    type Target = anklang_client::Client;

    fn deref(&self) -> &anklang_client::Client {
        &self.0
    }
}

impl Client {
    /// Connects.
    pub async fn connect(addr: SocketAddr, tenant: &str) -> Result<Self> {
        Self::connect_as(addr, Some(tenant), None).await
    }

    /// Connects with a bearer token, which may imply the tenant.
    pub async fn connect_as(
        addr: SocketAddr,
        tenant: Option<&str>,
        token: Option<&str>,
    ) -> Result<Self> {
        let channel = Endpoint::try_from(format!("http://{addr}"))?
            .connect()
            .await?;
        Self::over(channel, tenant, token)
    }

    /// Over a connection that is there, e.g. by TLS.
    pub fn over(channel: Channel, tenant: Option<&str>, token: Option<&str>) -> Result<Self> {
        let mut builder = anklang_client::Client::builder("")
            .retries(Retries::none())
            .deadline(None);
        if let Some(tenant) = tenant {
            builder = builder.tenant(tenant);
        }
        if let Some(token) = token {
            builder = builder.token(token);
        }
        Ok(Client(builder.over(channel)?))
    }

    /// Imports CSV text; gives the last response with the errors of all responses.
    pub async fn import(
        &self,
        entity: imports::ImportEntity,
        csv: impl Into<Vec<u8>>,
    ) -> Result<imports::ImportResponse, Status> {
        let header = imports::ImportHeader {
            entity: entity.into(),
            ..Default::default()
        };
        self.import_with(header, csv).await
    }

    /// As `import`, with a header.
    pub async fn import_with(
        &self,
        header: imports::ImportHeader,
        csv: impl Into<Vec<u8>>,
    ) -> Result<imports::ImportResponse, Status> {
        use imports::import_request::Part;
        let csv: Vec<u8> = csv.into();
        let mut parts = vec![Part::Header(header)];
        parts.extend(csv.chunks(64 * 1024).map(|c| Part::Csv(c.to_vec().into())));
        let requests: Vec<_> = parts
            .into_iter()
            .map(|part| imports::ImportRequest { part: Some(part) })
            .collect();
        let mut responses = self
            .imports()
            .import(tonic::codegen::tokio_stream::iter(requests))
            .await?
            .into_inner();
        let mut sums = imports::ImportResponse::default();
        while let Some(response) = responses.message().await? {
            let mut errors = std::mem::take(&mut sums.errors);
            errors.extend(response.errors.clone());
            sums = imports::ImportResponse { errors, ..response };
        }
        Ok(sums)
    }

    /// Waits until an operation is over, for at most a minute.
    pub async fn finished(&self, operation: &lro::Operation) -> Result<lro::Operation> {
        let wait = lro::WaitOperationRequest {
            name: operation.name.clone(),
            timeout: Some(Duration::from_secs(60).try_into()?),
        };
        let operation = self.operations().wait_operation(wait).await?.into_inner();
        if !operation.done {
            bail!("not over after a minute: {operation:?}");
        }
        Ok(operation)
    }
}
