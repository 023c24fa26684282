//! Buckets of S3, over hyper and rustls with ring, which the server has anyhow.
//!
//! A request that fails is tried again for a while; what then still fails is the caller's, who has a
//! ledger. Nothing waits forever: connecting, the answer's head and each piece of its body have a
//! limit of time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStoreExt, RetryConfig, StaticCredentialProvider};
use secrecy::ExposeSecret;
use tower_http::timeout::TimeoutBody;

use super::Documents;
use crate::config::S3Config;
use crate::outside::{client_tls, system_roots};

/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long until an answer begins: a part of 8 MiB must have gone by then.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How long between two pieces of an answer.
const PIECE_TIME: Duration = Duration::from_secs(30);
/// So often, and for so long, a request is tried again.
const RETRIES: usize = 5;
const RETRY_TIME: Duration = Duration::from_secs(20);
/// An object that is written and read when the server starts.
const CHECK: &str = "anklang-check";

/// A bucket. Nothing is called yet.
pub(super) fn open(config: &S3Config) -> anyhow::Result<AmazonS3> {
    // Also finds what AWS gives machines and containers.
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_allow_http(config.endpoint.starts_with("http://"))
        .with_http_connector(Connector)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                max_backoff: Duration::from_secs(5),
                ..Default::default()
            },
            max_retries: RETRIES,
            retry_timeout: RETRY_TIME,
        });
    if !config.endpoint.is_empty() {
        builder = builder.with_endpoint(&config.endpoint);
    }
    if let Some((id, secret)) = &config.key {
        builder = builder.with_credentials(fixed(id, secret.expose_secret(), None));
    } else if let Some(file) = &config.credentials_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("documents.s3.credentials_file {}", file.display()))?;
        let found = Credentials::read(&text).with_context(|| {
            format!(
                "documents.s3.credentials_file {} has no aws_access_key_id and \
                 aws_secret_access_key in the profile \"default\"",
                file.display()
            )
        })?;
        builder = builder.with_credentials(fixed(&found.id, &found.secret, found.token));
    }
    builder.build().context("documents.s3")
}

/// These credentials and nothing that the environment adds, such as a token of others.
fn fixed(id: &str, secret: &str, token: Option<String>) -> AwsCredentialProvider {
    Arc::new(StaticCredentialProvider::new(AwsCredential {
        key_id: id.to_owned(),
        secret_key: secret.to_owned(),
        token,
    }))
}

/// Writes a small object and reads it: a bucket that is missing, or denied, shows itself.
pub(super) async fn check(documents: &Documents, config: &S3Config) -> anyhow::Result<()> {
    use object_store::Error;
    let path = Path::from(CHECK);
    let content = bytes::Bytes::from_static(b"Anklang can write to this bucket.\n");
    let result = async {
        documents.store.put(&path, content.clone().into()).await?;
        documents.store.get(&path).await?.bytes().await
    };
    let bucket = &config.bucket;
    match result.await {
        Ok(read) if read == content => Ok(()),
        Ok(_) => bail!("documents.s3: the bucket {bucket} gives back what was not put there"),
        Err(Error::NotFound { .. }) => {
            bail!("documents.s3.bucket: there is no bucket {bucket}")
        }
        Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => bail!(
            "documents.s3: the credentials do not allow to write to and read from the bucket {bucket}"
        ),
        Err(error) => Err(error).with_context(|| format!("documents.s3: the bucket {bucket}")),
    }
}

/// What a credentials file of AWS's tools holds.
struct Credentials {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Credentials {
    fn read(text: &str) -> Option<Self> {
        let mut profile = "default";
        let (mut id, mut secret, mut token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[') {
                profile = name.trim_end_matches(']').trim();
            } else if profile == "default"
                && let Some((key, value)) = line.split_once('=')
            {
                let value = Some(value.trim().to_owned());
                match key.trim() {
                    "aws_access_key_id" => id = value,
                    "aws_secret_access_key" => secret = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
        Some(Self {
            id: id?,
            secret: secret?,
            token,
        })
    }
}

#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: anyhow::Error| object_store::Error::Generic {
            store: "S3",
            source: error.into(),
        };
        let tls = client_tls(system_roots()).map_err(failed)?;
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIME));
        let pooled = Pooled::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(HttpsConnector::from((tcp, tls)));
        Ok(HttpClient::new(Service(pooled)))
    }
}

#[derive(Debug)]
struct Service(Pooled<HttpsConnector<Tcp>, HttpRequestBody>);

#[tonic::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ANSWER_TIME, self.0.request(request));
        let answer = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => {
                return Err(HttpError::new(HttpErrorKind::Connect, error));
            }
            // All requests to a store may be sent again.
            Ok(Err(error)) => return Err(HttpError::new(HttpErrorKind::Request, error)),
            Err(late) => return Err(HttpError::new(HttpErrorKind::Timeout, late)),
        };
        let (head, body) = answer.into_parts();
        let body = TimeoutBody::new(PIECE_TIME, body).map_err(|error| {
            let kind = HttpErrorKind::Interrupted;
            HttpError::new(kind, std::io::Error::other(error))
        });
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_default_counts() {
        let text = "[other]\naws_access_key_id = no\n\n[default]\naws_access_key_id=id\n\
                    aws_secret_access_key = s=e+c/ret\nregion = x\n[third]\naws_access_key_id = no";
        let found = Credentials::read(text).expect("both are there");
        assert_eq!((&found.id[..], &found.secret[..]), ("id", "s=e+c/ret"));
        assert!(found.token.is_none());
        assert!(Credentials::read("[default]\naws_access_key_id = id").is_none());
    }
}
