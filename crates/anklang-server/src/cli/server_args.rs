//! The server that a command calls, and the token that it shows there.

use std::time::Duration;

use anyhow::Context;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Calls to a server, each with the token if there is one.
pub type Connection = InterceptedService<Channel, Bearer>;

// What to call, and as whom. No doc comment: it would be that of the commands.
#[derive(clap::Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:50051",
        env = "ANKLANG_SERVER"
    )]
    server: String,
    /// The token, where the server asks for one. Better in the variable: others see the command line.
    #[arg(long, env = "ANKLANG_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl ServerArgs {
    /// Connects. With `patience` that and each call may take no longer.
    pub async fn connect(&self, patience: Option<Duration>) -> anyhow::Result<Connection> {
        let mut endpoint = Endpoint::try_from(self.server.clone())
            .with_context(|| format!("{} is no URL of a server", self.server))?;
        if let Some(patience) = patience {
            endpoint = endpoint.connect_timeout(patience).timeout(patience);
        }
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let bearer = token.map_or(Ok(Bearer::none()), Bearer::new)?;
        let channel = endpoint.connect().await;
        let channel = channel.with_context(|| format!("no server answers at {}", self.server))?;
        Ok(InterceptedService::new(channel, bearer))
    }
}

/// Shows a token in every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Shows none.
    pub fn none() -> Self {
        Bearer(None)
    }

    fn new(token: &str) -> anyhow::Result<Self> {
        let value = format!("Bearer {}", token.trim()).parse::<MetadataValue<Ascii>>();
        let mut value = value.context("the token must be ASCII")?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}
