//! How commands reach a running server, and the token that they show there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::outside::system_roots;
use crate::tls::read_authorities;

/// Until a connection must be there.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a connection on which calls wait is tried, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(10);

/// Calls to a server, each with the token if there is one.
pub type Connection = InterceptedService<Channel, Bearer>;

// What to call, and as whom. No doc comment: it would be that of the commands.
#[derive(clap::Args)]
pub struct ServerArgs {
    /// The server; https:// when it speaks TLS.
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
    /// The authorities that sign the server's certificate, in PEM; otherwise those of the system.
    #[arg(long, value_name = "FILE", env = "ANKLANG_CA")]
    ca: Option<PathBuf>,
    /// The name in the server's certificate, when the URL has another one.
    #[arg(long, value_name = "NAME", env = "ANKLANG_SERVER_NAME")]
    server_name: Option<String>,
    /// A certificate to show to the server, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "ANKLANG_CERTIFICATE",
        requires = "key"
    )]
    certificate: Option<PathBuf>,
    /// The certificate's key, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        env = "ANKLANG_KEY",
        requires = "certificate"
    )]
    key: Option<PathBuf>,
}

impl ServerArgs {
    /// Connects. With `patience`, connecting and each call may take so long. A connection that is silent while calls
    /// wait on it is given up.
    pub async fn connect(&self, patience: Option<Duration>) -> anyhow::Result<Connection> {
        let endpoint = Endpoint::try_from(self.server.clone())
            .with_context(|| format!("{} is no URL of a server", self.server))?;
        let connecting = patience.unwrap_or(CONNECT);
        let mut endpoint = endpoint
            .connect_timeout(connecting)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING);
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(self.tls(connecting)?).context("TLS")?;
        } else if let Some(argument) = self.of_tls() {
            anyhow::bail!(
                "{argument} is for TLS, and {} does not begin with https://",
                self.server
            );
        }
        if let Some(patience) = patience {
            endpoint = endpoint.timeout(patience);
        }
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let bearer = token.map_or(Ok(Bearer::none()), Bearer::new)?;
        let channel = endpoint.connect().await;
        let channel = channel.with_context(|| format!("no server answers at {}", self.server))?;
        Ok(InterceptedService::new(channel, bearer))
    }

    /// An argument that was given and means nothing without TLS.
    fn of_tls(&self) -> Option<&'static str> {
        let given = [
            ("--ca", self.ca.is_some()),
            ("--server-name", self.server_name.is_some()),
            ("--certificate", self.certificate.is_some()),
        ];
        let mut given = given.into_iter();
        given.find_map(|(argument, given)| given.then_some(argument))
    }

    fn tls(&self, connecting: Duration) -> anyhow::Result<ClientTlsConfig> {
        let authorities = match &self.ca {
            Some(file) => read_authorities(file)
                .map_err(anyhow::Error::msg)
                .context("--ca")?,
            None => system_roots(),
        };
        let tls = ClientTlsConfig::new().timeout(connecting);
        let mut tls = tls.trust_anchors(authorities.roots);
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ServerArgs {
        ServerArgs {
            server: "http://127.0.0.1:1".into(),
            token: None,
            ca: None,
            server_name: None,
            certificate: None,
            key: None,
        }
    }

    #[tokio::test]
    async fn what_is_for_tls_is_refused_without_it() {
        let ca = ServerArgs {
            ca: Some("ca.pem".into()),
            ..plain()
        };
        let name = ServerArgs {
            server_name: Some("anklang.example".into()),
            ..plain()
        };
        for (args, argument) in [(ca, "--ca"), (name, "--server-name")] {
            let refused = args.connect(None).await.expect_err("refused").to_string();
            assert!(refused.starts_with(argument), "{refused}");
            assert!(refused.contains("https://"), "{refused}");
        }
        let nobody = plain().connect(None).await.expect_err("nobody is there");
        assert!(
            nobody.to_string().starts_with("no server answers"),
            "{nobody}"
        );
    }
}
