//! How commands reach a running server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity};

use crate::outside::system_roots;
use crate::tls::read_authorities;

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
    /// Connects. With `patience`, connecting and each call may take so long.
    pub async fn connect(&self, patience: Option<Duration>) -> anyhow::Result<Channel> {
        let mut endpoint = Endpoint::try_from(self.server.clone())
            .with_context(|| format!("{} is no URL of a server", self.server))?;
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(self.tls(patience)?).context("TLS")?;
        }
        if let Some(patience) = patience {
            endpoint = endpoint.connect_timeout(patience).timeout(patience);
        }
        endpoint
            .connect()
            .await
            .with_context(|| format!("no server answers at {}", self.server))
    }

    fn tls(&self, patience: Option<Duration>) -> anyhow::Result<ClientTlsConfig> {
        let authorities = match &self.ca {
            Some(file) => read_authorities(file)
                .map_err(anyhow::Error::msg)
                .context("--ca")?,
            None => system_roots(),
        };
        let mut tls = ClientTlsConfig::new().trust_anchors(authorities.roots);
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(patience) = patience {
            tls = tls.timeout(patience);
        }
        Ok(tls)
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}
