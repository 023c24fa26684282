//! One SMTP connection, and what its dialogue proves of a mail.
//!
//! The outcome of a mail depends on how far the dialogue came and on the answer:
//!
//! | step | 2xx, 3xx | 4xx | 5xx | no answer |
//! |---|---|---|---|---|
//! | connect, TLS, EHLO, AUTH | go on | transient | transient `CONFIG` | transient `CONNECT` |
//! | MAIL | go on | transient | permanent, content | transient `CONNECT` |
//! | RCPT | go on | transient | permanent, recipient | transient `CONNECT` |
//! | DATA | go on | transient | permanent, content | transient `CONNECT` |
//! | body | accepted | transient | permanent, content | **ambiguous** |
//!
//! Three exceptions. 421 at any step says that the server wants nothing at all for now: the whole
//! account rests for a minute; a mail that gets it again and again is transient ([`Busy`]). Answers that ask
//! for a login (530, 534, 535, 538) are transient `CONFIG` at any step, because an operator can mend
//! them and the recipients are not to blame. A refusal of a recipient by policy (5.7.x, such as
//! "relay access denied") is permanent with reason `CONFIG`, because it says nothing about the
//! address.
//!
//! On a reused connection, no answer to MAIL (or 421, by which servers take leave) proves only
//! that the connection was stale: nothing was taken, see [`Verdict::Stale`].

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{Busy, Outcome, Reason};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Ehlo, Mail as MailFrom, Rcpt, Rset};
use lettre::transport::smtp::extension::{
    Extension, MailBodyParameter, MailParameter, RcptParameter,
};
use lettre::transport::smtp::response::Response;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Notify, Security, Settings};
use crate::mime::Mail;

/// Patience with housekeeping (NOOP, RSET, QUIT), on which no mail depends.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Longest text of a server that is passed on, in characters.
const LONGEST_DETAIL: usize = 500;

/// How long the account rests when the server says 421: not now, for none of our mails.
const ACCOUNT_RESTS: Duration = Duration::from_secs(60);

/// How far the dialogue of a mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sender,
    Recipient,
    Content,
}

/// A mail that the server did not want, before anything was taken.
struct Refusal {
    failure: Failure,
    step: Step,
    /// Whether the connection can be used again.
    usable: bool,
}

/// How a step failed.
enum Failure {
    /// The server answered with this code.
    Answer { code: u16, text: String },
    /// There was no answer, or none that can be read.
    Broken(String),
    /// The other side is not what is configured: certificate, missing feature.
    Mismatch(String),
    /// An answer that does not belong there.
    Protocol(String),
}

impl Failure {
    /// Whether the dialogue can go on after it. After 421 the server closes.
    fn leaves_usable(&self) -> bool {
        matches!(self, Failure::Answer { code, .. } if *code != 421)
    }
}

/// What came of handing over a mail.
pub(crate) enum Verdict {
    /// This, and the connection if it can be used again.
    Settled(Outcome, Option<Connection>),
    /// The connection was reused and had died in the meantime; nothing was taken.
    Stale,
}

/// What a server can do, of what lettre does not keep.
#[derive(Debug, Clone, Copy, Default)]
struct Offers {
    /// It takes several commands at once (RFC 2920).
    pipelining: bool,
    /// It reports what became of mails as it is asked to (RFC 3461).
    dsn: bool,
}

/// An open connection, logged in.
pub(crate) struct Connection {
    smtp: Box<AsyncSmtpConnection>,
    offers: Offers,
    /// Mails that were begun on it.
    delivered: u32,
}

impl Connection {
    /// Connects, secures, logs in. An error is the (transient) outcome of what would have gone
    /// over it.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Outcome> {
        let (smtp, offers) = connect(settings).await.map_err(|failure| match failure {
            Failure::Answer { code: 421, .. } => account_rests(),
            Failure::Answer { code, text } if code < 500 => {
                Outcome::transient(coded(code, &text), text)
            }
            Failure::Answer { code, text } => {
                Outcome::transient("CONFIG", format!("{code} {text}"))
            }
            Failure::Mismatch(text) => Outcome::transient("CONFIG", text),
            Failure::Protocol(text) => Outcome::transient("PROTOCOL", text),
            Failure::Broken(text) => Outcome::transient("CONNECT", text),
        })?;
        Ok(Self {
            smtp: Box::new(smtp),
            offers,
            delivered: 0,
        })
    }

    /// Mails that were begun on it.
    pub(crate) fn delivered(&self) -> u32 {
        self.delivered
    }

    /// Whether the server still answers.
    pub(crate) async fn answers(&mut self, settings: &Settings) -> bool {
        let patience = HOUSEKEEPING.min(settings.timeout);
        timeout(patience, self.smtp.test_connected()).await == Ok(true)
    }

    /// Takes leave.
    pub(crate) async fn quit(mut self) {
        // The connection is closed whatever the server says.
        let _ = timeout(HOUSEKEEPING, self.smtp.quit()).await;
    }

    /// Hands a mail over.
    pub(crate) async fn deliver(
        mut self,
        settings: &Settings,
        busy: &Busy,
        mail: &Mail,
    ) -> Verdict {
        let reused = self.delivered > 0;
        self.delivered += 1;
        let patience = settings.timeout;
        let parameters = match self.parameters(mail) {
            Ok(parameters) => parameters,
            Err(outcome) => return Verdict::Settled(outcome, Some(self)),
        };
        match self.envelope(settings, mail, parameters).await {
            Ok(()) => self.body(patience, busy, mail).await,
            Err(Refusal {
                failure: Failure::Broken(_) | Failure::Answer { code: 421, .. },
                step: Step::Sender,
                ..
            }) if reused => Verdict::Stale,
            Err(refusal) => self.refused(refusal, busy, mail).await,
        }
    }

    /// Says what comes for whom, up to the server's going ahead. Where the server allows it
    /// (RFC 2920) in one write, so that a mail costs two round trips instead of four.
    async fn envelope(
        &mut self,
        settings: &Settings,
        mail: &Mail,
        parameters: Vec<MailParameter>,
    ) -> Result<(), Refusal> {
        let (patience, pipelines) = (settings.timeout, self.offers.pipelining);
        let from = MailFrom::new(mail.envelope.from().cloned(), parameters);
        let mut commands = vec![(Step::Sender, from.to_string())];
        for recipient in mail.envelope.to() {
            let reports = match self.offers.dsn {
                true => reports(&settings.notify, recipient.as_ref()),
                false => Vec::new(),
            };
            let rcpt = Rcpt::new(recipient.clone(), reports);
            commands.push((Step::Recipient, rcpt.to_string()));
        }
        commands.push((Step::Content, Data.to_string()));
        let mut at_once = pipelines.then(|| {
            commands
                .iter()
                .map(|(_, command)| &command[..])
                .collect::<String>()
        });
        let mut refusal: Option<Refusal> = None;
        for (at, command) in commands {
            let answer = match at_once.take() {
                Some(all) => step(patience, self.smtp.command(all)).await,
                None if pipelines => step(patience, self.smtp.read_response()).await,
                None => step(patience, self.smtp.command(command)).await,
            };
            let failure = match answer {
                Ok(go_ahead) if at == Step::Content && !go_ahead.has_code(354) => {
                    let detail = format!("DATA answered with {}", u16::from(go_ahead.code()));
                    Failure::Protocol(detail)
                }
                Ok(_) => {
                    if let Some(refusal) = refusal.as_mut().filter(|_| at == Step::Content) {
                        // It waits for a body that nobody wants sent: without its end, nothing is.
                        refusal.usable = false;
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            let usable = failure.leaves_usable();
            // The first one counts; others follow from it.
            let refusal = refusal.get_or_insert(Refusal {
                failure,
                step: at,
                usable,
            });
            refusal.usable &= usable;
            if !usable || !pipelines {
                break;
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    async fn body(mut self, patience: Duration, busy: &Busy, mail: &Mail) -> Verdict {
        let sent = match std::str::from_utf8(&mail.bytes) {
            Ok(text) => step(patience, self.smtp.command(Body(text))).await,
            Err(_) => step(patience, self.smtp.message(&mail.bytes)).await,
        };
        match sent {
            Ok(response) if (200..300).contains(&u16::from(response.code())) => {
                let detail = shortened(&joined(&response));
                let outcome = Outcome::accepted(queue_id(&detail), SystemTime::now(), detail);
                Verdict::Settled(outcome, Some(self))
            }
            Ok(response) => {
                let code = u16::from(response.code());
                let detail = format!("the body was answered with {code}");
                Verdict::Settled(Outcome::ambiguous(detail), None)
            }
            Err(Failure::Broken(text) | Failure::Mismatch(text)) => {
                let detail = format!("no answer to the body: {text}");
                Verdict::Settled(Outcome::ambiguous(detail), None)
            }
            Err(failure) => {
                let refusal = Refusal {
                    usable: failure.leaves_usable(),
                    failure,
                    step: Step::Content,
                };
                self.refused(refusal, busy, mail).await
            }
        }
    }

    /// The outcome of a refusal before anything was taken, and the connection if it can be
    /// cleared for the next mail.
    async fn refused(mut self, refusal: Refusal, busy: &Busy, mail: &Mail) -> Verdict {
        let reason = match refusal.step {
            Step::Recipient => Reason::Recipient,
            Step::Sender | Step::Content => Reason::Content,
        };
        let (code, text) = match refusal.failure {
            Failure::Answer { code, text } => (code, text),
            Failure::Broken(text) => {
                return Verdict::Settled(Outcome::transient("CONNECT", text), None);
            }
            Failure::Mismatch(text) => {
                return Verdict::Settled(Outcome::transient("CONFIG", text), None);
            }
            Failure::Protocol(text) => {
                return Verdict::Settled(Outcome::transient("PROTOCOL", text), None);
            }
        };
        let policy = enhanced(&text).is_some_and(|status| status.starts_with("5.7."));
        let outcome = match code {
            530 | 534 | 535 | 538 => Outcome::transient("CONFIG", format!("{code} {text}")),
            500.. if policy && reason == Reason::Recipient => {
                Outcome::permanent(Reason::Config, coded(code, &text), text)
            }
            500.. => Outcome::permanent(reason, coded(code, &text), text),
            421 if !busy.blames(&mail.id) => account_rests(),
            _ => Outcome::transient(coded(code, &text), text),
        };
        // After 421 the server closes.
        let cleared = refusal.usable && step(HOUSEKEEPING, self.smtp.command(Rset)).await.is_ok();
        Verdict::Settled(outcome, cleared.then_some(self))
    }

    /// What MAIL must announce, or the outcome of a mail that this server cannot take.
    fn parameters(&self, mail: &Mail) -> Result<Vec<MailParameter>, Outcome> {
        let server = self.smtp.server_info();
        let mut parameters = Vec::new();
        if mail.has_non_ascii_addresses() {
            if !server.supports_feature(Extension::SmtpUtfEight) {
                return Err(Outcome::permanent(
                    Reason::Recipient,
                    "SMTPUTF8",
                    "the address is not ASCII, and the server takes no others",
                ));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !mail.bytes.is_ascii() {
            if !server.supports_feature(Extension::EightBitMime) {
                return Err(Outcome::permanent(
                    Reason::Content,
                    "8BITMIME",
                    "the mail is not ASCII, and the server takes no others",
                ));
            }
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        if self.offers.dsn {
            // What comes back is recognised by the id, and needs no body.
            for (keyword, value) in [("RET", "HDRS"), ("ENVID", &mail.id)] {
                parameters.push(MailParameter::Other {
                    keyword: keyword.to_owned(),
                    value: Some(value.to_owned()),
                });
            }
        }
        Ok(parameters)
    }
}

/// What the server is asked to report of a recipient, and by which name.
fn reports(notify: &[Notify], recipient: &str) -> Vec<RcptParameter> {
    let of = |what: &Notify| match what {
        Notify::Success => "SUCCESS",
        Notify::Failure => "FAILURE",
        Notify::Delay => "DELAY",
    };
    let mut names: Vec<_> = notify.iter().map(of).collect();
    names.dedup();
    let asked = match names.is_empty() {
        true => "NEVER".to_owned(),
        false => names.join(","),
    };
    let parameter = |keyword: &str, value| RcptParameter::Other {
        keyword: keyword.to_owned(),
        value: Some(value),
    };
    let mut parameters = vec![parameter("NOTIFY", asked)];
    // Others would need a form of their own (RFC 6533).
    if recipient.is_ascii() {
        parameters.push(parameter("ORCPT", format!("rfc822;{recipient}")));
    }
    parameters
}

/// A mail and the end of it in one write. lettre writes the end apart; the network holds that back
/// until the other side has confirmed the rest, which it does 40 ms later.
struct Body<'m>(&'m str);

impl fmt::Display for Body<'_> {
    /// With dots at the beginning of lines doubled (RFC 5321, section 4.5.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with('.') {
            f.write_str(".")?;
        }
        f.write_str(&self.0.replace("\r\n.", "\r\n.."))?;
        f.write_str("\r\n.\r\n")
    }
}

/// Connects; also says what the server can do.
async fn connect(settings: &Settings) -> Result<(AsyncSmtpConnection, Offers), Failure> {
    let Settings {
        host,
        port,
        timeout: patience,
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
                Err(_) => return Err(Failure::Broken(format!("no answer within {patience:?}"))),
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
    // lettre keeps only what it uses itself of the answer to its own.
    let features = step(*patience, smtp.command(Ehlo::new(client_id.clone()))).await?;
    let offered = |name: &str| {
        let mut lines = features.message();
        lines.any(|line| {
            let keyword = line.split_whitespace().next();
            keyword.is_some_and(|keyword| keyword.eq_ignore_ascii_case(name))
        })
    };
    let offers = Offers {
        pipelining: offered("PIPELINING"),
        dsn: offered("DSN"),
    };
    if let Some(credentials) = &settings.credentials {
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        step(*patience, smtp.auth(&mechanisms, credentials)).await?;
    }
    Ok((smtp, offers))
}

/// The outcome of a mail while the server wants none.
fn account_rests() -> Outcome {
    Outcome::throttled(ACCOUNT_RESTS, "account")
}

/// Waits for one step of the dialogue.
async fn step<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout(patience, work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::Broken(format!("no answer within {patience:?}"))),
    }
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
        if error.is_client() || error.is_tls() || is_tls_refusal(&error) {
            Self::Mismatch(text)
        } else {
            Self::Broken(text)
        }
    }
}

/// rustls reports what it refuses (certificates above all) as invalid data.
fn is_tls_refusal(error: &Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::InvalidData)
    })
}

/// "550 5.1.1", or "550" without an enhanced status.
fn coded(code: u16, text: &str) -> String {
    enhanced(text).map_or_else(|| code.to_string(), |status| format!("{code} {status}"))
}

/// The enhanced status code (RFC 3463) at the beginning of an answer.
fn enhanced(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let mut parts = word.split('.');
    let numbers = parts
        .by_ref()
        .take(3)
        .filter(|part| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()));
    (numbers.count() == 3 && parts.next().is_none()).then_some(word)
}

/// The server's name for the mail, as Postfix and most others ("queued as X") or Exim ("id=X")
/// tell it; empty if there is none.
fn queue_id(detail: &str) -> String {
    ["queued as ", "id="]
        .iter()
        .find_map(|mark| detail.split_once(mark))
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .map(|id| id.trim_end_matches(['.', ',', ';', ')']).to_owned())
        .unwrap_or_default()
}

fn joined(response: &Response) -> String {
    response.message().collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes() {
        assert_eq!(coded(550, "5.1.1 User unknown"), "550 5.1.1");
        assert_eq!(coded(550, "User unknown"), "550");
        assert_eq!(enhanced("1.2.3.4 is blocked"), None);
        assert_eq!(enhanced("5.7 x"), None);
        assert_eq!(enhanced("5.7.26"), Some("5.7.26"));
        assert_eq!(enhanced("5.7.x"), None);
        assert_eq!(enhanced(""), None);
    }

    #[test]
    fn dots_at_the_beginning_of_lines_are_doubled() {
        for (mail, sent) in [
            ("a\r\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n"),
            (".a\r\n..b.\r\n", "..a\r\n...b.\r\n\r\n.\r\n"),
            ("\r\n.\r\n.\r\n", "\r\n..\r\n..\r\n\r\n.\r\n"),
            ("a\n.b", "a\n.b\r\n.\r\n"),
        ] {
            assert_eq!(Body(mail).to_string(), sent);
        }
    }

    #[test]
    fn reports_that_are_asked_for() {
        let rcpt = |notify: &[Notify], address: &str| {
            let parameters = reports(notify, address);
            parameters
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            rcpt(&[Notify::Failure, Notify::Delay], "a+b=c@example.org"),
            ["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;a+2Bb+3Dc@example.org"]
        );
        assert_eq!(rcpt(&[], "ä@example.org"), ["NOTIFY=NEVER"]);
    }

    #[test]
    fn queue_ids() {
        assert_eq!(queue_id("2.0.0 Ok: queued as 4Zx1"), "4Zx1");
        assert_eq!(queue_id("OK id=1rT-0003-2x"), "1rT-0003-2x");
        assert_eq!(queue_id("Ok, queued as AB12."), "AB12");
        assert_eq!(queue_id("2.0.0 Ok"), "");
    }
}
