//! Handing mails over to the gateway, and what the SMTP dialogue proves of them.
//!
//! The same rules as the mail channel's: up to the body, nothing is taken, and no answer is transient;
//! after the body was begun, no answer is **ambiguous**. A 421 lets the account rest; whoever asks for
//! a login, or refuses by policy (5.7.x), wants the account mended.
//!
//! One connection for each batch, and no more: gateways take faxes one by one anyhow.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{Outcome, Reason, outcome::Kind};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::{Security, Settings};
use super::mail::Mail;

/// How long the account rests when the server says 421.
const ACCOUNT_RESTS: Duration = Duration::from_secs(60);
/// Patience with QUIT, on which nothing depends.
const GOODBYE: Duration = Duration::from_secs(5);
/// Longest text of a server that is passed on, in characters.
const LONGEST_DETAIL: usize = 300;

/// How a step failed.
enum Failure {
    Answer { code: u16, text: String },
    Broken(String),
    Mismatch(String),
}

/// An open connection, logged in.
pub(crate) struct Connection {
    smtp: AsyncSmtpConnection,
    patience: Duration,
}

/// What came of a mail, and the connection if it can be used again.
pub(crate) struct Delivered {
    pub(crate) outcome: Outcome,
    pub(crate) connection: Option<Connection>,
}

impl Connection {
    /// Connects, secures, logs in. An error is the outcome of what would have gone over it.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Outcome> {
        let opened = connect(settings).await.map_err(|failure| match failure {
            Failure::Answer { code: 421, .. } => rests(),
            Failure::Answer { code, text } if code < 500 => {
                Outcome::transient(code.to_string(), text)
            }
            Failure::Answer { code, text } => {
                Outcome::transient("CONFIG", format!("{code} {text}"))
            }
            Failure::Mismatch(text) => Outcome::transient("CONFIG", text),
            Failure::Broken(text) => Outcome::transient("CONNECT", text),
        })?;
        Ok(Self {
            smtp: opened,
            patience: settings.patience,
        })
    }

    /// Takes leave.
    pub(crate) async fn quit(mut self) {
        // The connection is closed whatever the server says.
        let _ = timeout(GOODBYE, self.smtp.quit()).await;
    }

    /// Hands a mail over.
    pub(crate) async fn deliver(mut self, mail: &Mail) -> Delivered {
        if let Err((failure, reason)) = self.envelope(mail).await {
            // What is left of the dialogue is not worth clearing up.
            self.quit().await;
            return Delivered {
                outcome: refused(failure, reason),
                connection: None,
            };
        }
        match step(self.patience, self.smtp.message(&mail.bytes)).await {
            Ok(response) if response.is_positive() => {
                let detail = shortened(&response.message().collect::<Vec<_>>().join(" "));
                let mut outcome = Outcome::accepted(queue_id(&detail), SystemTime::now(), detail);
                if let Some(Kind::Accepted(accepted)) = &mut outcome.kind {
                    accepted.parts = mail.pages;
                }
                Delivered {
                    outcome,
                    connection: Some(self),
                }
            }
            Ok(response) => Delivered {
                outcome: Outcome::ambiguous(format!(
                    "the body was answered with {}",
                    response.code()
                )),
                connection: None,
            },
            Err(failure @ Failure::Answer { .. }) => {
                self.quit().await;
                Delivered {
                    outcome: refused(failure, Reason::Content),
                    connection: None,
                }
            }
            Err(Failure::Broken(text) | Failure::Mismatch(text)) => Delivered {
                outcome: Outcome::ambiguous(format!("no answer to the body: {text}")),
                connection: None,
            },
        }
    }

    /// Up to the server's going ahead.
    async fn envelope(&mut self, mail: &Mail) -> Result<(), (Failure, Reason)> {
        let patience = self.patience;
        let from = MailFrom::new(mail.envelope.from().cloned(), Vec::new());
        let sent = step(patience, self.smtp.command(from)).await;
        sent.map_err(|failure| (failure, Reason::Config))?;
        for recipient in mail.envelope.to() {
            let rcpt = Rcpt::new(recipient.clone(), Vec::new());
            let sent = step(patience, self.smtp.command(rcpt)).await;
            sent.map_err(|failure| (failure, Reason::Recipient))?;
        }
        let sent = step(patience, self.smtp.command(Data)).await;
        let go_ahead = sent.map_err(|failure| (failure, Reason::Content))?;
        if go_ahead.has_code(354) {
            Ok(())
        } else {
            let text = format!("DATA answered with {}", go_ahead.code());
            Err((Failure::Mismatch(text), Reason::Content))
        }
    }
}

/// The outcome of a refusal before anything was taken.
fn refused(failure: Failure, reason: Reason) -> Outcome {
    match failure {
        Failure::Broken(text) => Outcome::transient("CONNECT", text),
        Failure::Mismatch(text) => Outcome::transient("CONFIG", text),
        Failure::Answer { code: 421, .. } => rests(),
        Failure::Answer { code, text } => {
            let named = enhanced(&text).map_or_else(|| code.to_string(), |e| format!("{code} {e}"));
            let policy = enhanced(&text).is_some_and(|status| status.starts_with("5.7."));
            match code {
                530 | 534 | 535 | 538 => Outcome::transient("CONFIG", format!("{code} {text}")),
                500.. if policy => Outcome::permanent(Reason::Config, named, text),
                500.. => Outcome::permanent(reason, named, text),
                _ => Outcome::transient(named, text),
            }
        }
    }
}

fn rests() -> Outcome {
    Outcome::throttled(ACCOUNT_RESTS, "account")
}

async fn connect(settings: &Settings) -> Result<AsyncSmtpConnection, Failure> {
    let Settings {
        host,
        port,
        patience,
        client_id,
        ..
    } = settings;
    let server = (host.as_str(), *port);
    let mut smtp = match &settings.security {
        Security::Implicit(tls) => {
            let (limit, tls) = (Some(*patience), Some(tls.clone()));
            let connecting =
                AsyncSmtpConnection::connect_tokio1(server, limit, client_id, tls, None);
            step(*patience, connecting).await?
        }
        Security::None | Security::StartTls(_) => {
            let stream = match timeout(*patience, TcpStream::connect(server)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(Failure::Broken(error.to_string())),
                Err(_) => return Err(silent(*patience)),
            };
            // Whether small segments go out at once matters for speed alone.
            let _ = stream.set_nodelay(true);
            let connecting =
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), client_id);
            step(*patience, connecting).await?
        }
    };
    if let Security::StartTls(tls) = &settings.security {
        if !smtp.can_starttls() {
            let text = "the server does not offer STARTTLS";
            return Err(Failure::Mismatch(text.to_owned()));
        }
        step(*patience, smtp.starttls(tls.clone(), client_id)).await?;
    }
    if let Some(credentials) = &settings.credentials {
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        step(*patience, smtp.auth(&mechanisms, credentials)).await?;
    }
    Ok(smtp)
}

/// Waits for one step of the dialogue.
async fn step<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout(patience, work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(silent(patience)),
    }
}

fn silent(patience: Duration) -> Failure {
    Failure::Broken(format!("no answer within {patience:?}"))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let said = error.source().map(ToString::to_string).unwrap_or_default();
        if let Some(code) = error.status() {
            return Self::Answer {
                code: code.into(),
                text: shortened(&said),
            };
        }
        let text = shortened(&error.to_string());
        // rustls reports what it refuses (certificates above all) as invalid data.
        let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
        let by_tls = causes.any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::InvalidData)
        });
        if error.is_client() || error.is_tls() || by_tls {
            Self::Mismatch(text)
        } else {
            Self::Broken(text)
        }
    }
}

/// The enhanced status code (RFC 3463) at the beginning of an answer.
fn enhanced(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let parts: Vec<_> = word.split('.').collect();
    let number =
        |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(number)).then_some(word)
}

/// The server's name for the mail, as most servers tell it; empty if there is none.
fn queue_id(detail: &str) -> String {
    ["queued as ", "id="]
        .iter()
        .find_map(|mark| detail.split_once(mark))
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .map(|id| id.trim_end_matches(['.', ',', ';', ')']).to_owned())
        .unwrap_or_default()
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, text: &str, reason: Reason) -> Outcome {
        let text = text.to_owned();
        refused(Failure::Answer { code, text }, reason)
    }

    #[test]
    fn refusals_are_told_apart() {
        let recipient = Reason::Recipient;
        for (outcome, expected) in [
            (
                answer(550, "5.1.1 no such number", recipient),
                Outcome::permanent(recipient, "550 5.1.1", "5.1.1 no such number"),
            ),
            (
                answer(554, "5.7.1 relay access denied", recipient),
                Outcome::permanent(Reason::Config, "554 5.7.1", "5.7.1 relay access denied"),
            ),
            (
                answer(450, "later", recipient),
                Outcome::transient("450", "later"),
            ),
            (
                answer(530, "who?", recipient),
                Outcome::transient("CONFIG", "530 who?"),
            ),
            (answer(421, "closing", recipient), rests()),
            (
                answer(552, "too large", Reason::Content),
                Outcome::permanent(Reason::Content, "552", "too large"),
            ),
        ] {
            assert_eq!(outcome, expected);
        }
    }

    #[test]
    fn values_are_found() {
        assert_eq!(queue_id("2.0.0 Ok: queued as 4Zx1"), "4Zx1");
        assert_eq!(queue_id("2.0.0 Ok"), "");
        assert_eq!(enhanced("5.7.26 x"), Some("5.7.26"));
        assert_eq!(enhanced("1.2.3.4 x"), None);
        assert_eq!(enhanced(""), None);
    }
}
