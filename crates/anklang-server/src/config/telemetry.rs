//! The section `telemetry`.

use std::net::SocketAddr;
use std::time::Duration;

use figment::value::Value;
use secrecy::SecretString;
use url::Url;

use super::{Reader, integer};

/// Where traces, metrics and logs go, and how.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// Base URL of the receiver of OTLP.
    pub endpoint: Option<Url>,
    /// Whether log lines go there as well.
    pub logs: bool,
    /// Where Prometheus scrapes metrics.
    pub prometheus_listen: Option<SocketAddr>,
    /// Name of the service; that of the standard variables, else "anklang", when empty.
    pub service_name: String,
    /// Attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// Headers of each call; secret.
    pub headers: Vec<(String, SecretString)>,
    /// Share of the traces begun here that are recorded, from 0 to 1.
    pub sampling_ratio: f64,
    /// How often metrics are gathered and sent.
    pub interval: Duration,
    /// How long a call may take.
    pub timeout: Duration,
}

impl Reader {
    pub(super) fn telemetry(&mut self) -> Option<TelemetryConfig> {
        let endpoint = self.endpoint();
        let logs = self.flag("telemetry.logs");
        let prometheus_listen = self.prometheus_listen();
        let service_name = self.text("telemetry.service_name");
        let resource = self.pairs("telemetry.resource");
        let headers = self.pairs("telemetry.headers").into_iter();
        let headers: Vec<_> = headers.map(|(k, v)| (k, v.into())).collect();
        for (i, (name, value)) in headers.iter().enumerate() {
            let value: &SecretString = value;
            if !is_header(name, value) {
                self.violations
                    .add(format!("telemetry.headers[{i}]"), "is no HTTP header");
            }
        }
        let sampling_ratio = match self.take("telemetry.sampling_ratio") {
            Some(Value::Num(_, n)) => {
                let whole = || u32::try_from(integer(n)?).ok().map(f64::from);
                n.to_f64().or_else(whole)
            }
            _ => None,
        };
        let sampling_ratio = sampling_ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
        if sampling_ratio.is_none() {
            self.violations
                .add("telemetry.sampling_ratio", "must be a number from 0 to 1");
        }
        let interval = self.whole("telemetry.export_interval_seconds", 1..=3_600);
        let timeout = self.whole("telemetry.timeout_seconds", 1..=300);
        Some(TelemetryConfig {
            endpoint: endpoint?,
            logs: logs?,
            prometheus_listen: prometheus_listen?,
            service_name: service_name?,
            resource,
            headers,
            sampling_ratio: sampling_ratio?,
            interval: Duration::from_secs(interval?),
            timeout: Duration::from_secs(timeout?),
        })
    }

    fn endpoint(&mut self) -> Option<Option<Url>> {
        let path = "telemetry.endpoint";
        let text = self.text(path)?;
        if text.is_empty() {
            return Some(None);
        }
        let url = Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            self.violations.add(
                path,
                "must be an http or https URL, e.g. http://localhost:4318",
            );
        }
        url.map(Some)
    }

    fn prometheus_listen(&mut self) -> Option<Option<SocketAddr>> {
        let path = "telemetry.prometheus_listen";
        let text = self.text(path)?;
        if text.is_empty() {
            return Some(None);
        }
        let parsed = text
            .parse()
            .map_err(|_| "must be an address with a port, e.g. 0.0.0.0:9464");
        self.violations.check(path, parsed).map(Some)
    }

    /// A list of `key=value`.
    fn pairs(&mut self, path: &str) -> Vec<(String, String)> {
        let words = self.words(path).into_iter().enumerate();
        let pairs = words.filter_map(|(i, word)| {
            let pair = word.split_once('=').filter(|(key, _)| !key.is_empty());
            if pair.is_none() {
                self.violations
                    .add(format!("{path}[{i}]"), "must be key=value");
            }
            pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        });
        pairs.collect()
    }
}

fn is_header(name: &str, value: &SecretString) -> bool {
    use secrecy::ExposeSecret;
    http::HeaderName::try_from(name).is_ok()
        && http::HeaderValue::try_from(value.expose_secret()).is_ok()
}
