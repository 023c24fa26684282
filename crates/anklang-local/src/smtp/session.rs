//! One client's dialogue.

use std::time::Duration;

use anyhow::Result;
use chrono::Utc;
use tokio::net::TcpStream;

use super::fault::{Fault, Stage};
use super::wire::{Line, Mail, Wire, message_id, path};
use super::{Received, Shared};

/// Longest command line, in bytes: RFC 5321 asks for 512, parameters add to it.
const COMMAND_MAX: usize = 4096;

/// Most recipients of one mail; RFC 5321 asks for at least 100.
const RECIPIENTS_MAX: usize = 10_000;

/// A mail under way.
#[derive(Debug)]
struct Envelope {
    /// Its number in this sink.
    mail: u64,
    from: String,
    to: Vec<String>,
    smtputf8: bool,
}

struct Session<'a> {
    wire: Wire,
    shared: &'a Shared,
    connection: u64,
    greeted: bool,
    envelope: Option<Envelope>,
}

/// What follows a command.
#[derive(PartialEq)]
enum Next {
    Command,
    Close,
}

/// Serves a client until it leaves or a fault closes the connection.
pub(super) async fn serve(stream: TcpStream, connection: u64, shared: &Shared) -> Result<()> {
    // Replies are small and wanted at once.
    stream.set_nodelay(true)?;
    let mut session = Session {
        wire: Wire::new(stream),
        shared,
        connection,
        greeted: false,
        envelope: None,
    };
    session.wire.reply(220, "localhost ESMTP recording sink");
    let mut line = Vec::new();
    loop {
        match session.wire.line(&mut line, COMMAND_MAX).await? {
            Line::Eof => return Ok(()),
            Line::TooLong => session.wire.reply(500, "5.5.2 line too long"),
            Line::Whole => {
                if session.command(&line).await? == Next::Close {
                    return session.wire.flush().await.map_err(Into::into);
                }
            }
        }
    }
}

impl Session<'_> {
    async fn command(&mut self, line: &[u8]) -> Result<Next> {
        let Some(text) = command_text(line) else {
            self.wire.reply(500, "5.5.2 bare line end or not UTF-8");
            return Ok(Next::Command);
        };
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        let argument = argument.trim();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.hello(argument, true),
            "HELO" => self.hello(argument, false),
            "MAIL" => self.mail(argument),
            "RCPT" => self.rcpt(argument),
            "DATA" => return self.data().await,
            "RSET" => {
                self.envelope = None;
                self.wire.reply(250, "2.0.0 reset");
            }
            "NOOP" => self.wire.reply(250, "2.0.0 fine"),
            "VRFY" => self.wire.reply(252, "2.5.0 just try"),
            "QUIT" => {
                self.wire.reply(221, "2.0.0 bye");
                return Ok(Next::Close);
            }
            _ => self.wire.reply(502, "5.5.1 not known here"),
        }
        Ok(Next::Command)
    }

    fn hello(&mut self, name: &str, extended: bool) {
        if name.is_empty() {
            self.wire.reply(501, "5.5.4 who is there?");
            return;
        }
        self.greeted = true;
        self.envelope = None;
        if !extended {
            self.wire.reply(250, "localhost");
            return;
        }
        self.wire.replies(
            250,
            &[
                "localhost".to_owned(),
                "PIPELINING".to_owned(),
                format!("SIZE {}", self.shared.max_bytes),
                "8BITMIME".to_owned(),
                "SMTPUTF8".to_owned(),
                "ENHANCEDSTATUSCODES".to_owned(),
            ],
        );
    }

    fn mail(&mut self, argument: &str) {
        if !self.greeted || self.envelope.is_some() {
            self.wire.reply(503, "5.5.1 not now");
            return;
        }
        let Some((from, parameters)) = path(argument, "FROM:") else {
            self.wire.reply(501, "5.5.4 MAIL FROM:<address>");
            return;
        };
        let mut smtputf8 = false;
        for parameter in parameters {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name.to_ascii_uppercase().as_str() {
                "SMTPUTF8" if value.is_empty() => smtputf8 = true,
                "BODY" if ["7BIT", "8BITMIME"].contains(&value.to_ascii_uppercase().as_str()) => {}
                "SIZE" => match value.parse::<usize>() {
                    Ok(size) if size <= self.shared.max_bytes => {}
                    Ok(_) => return self.wire.reply(552, "5.3.4 mail too large"),
                    Err(_) => return self.wire.reply(501, "5.5.4 SIZE is a number"),
                },
                _ => return self.wire.reply(555, "5.5.4 parameter not known"),
            }
        }
        if !smtputf8 && !from.is_ascii() {
            return self.wire.reply(553, "5.6.7 needs SMTPUTF8");
        }
        let before = self
            .shared
            .mails
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.envelope = Some(Envelope {
            mail: before + 1,
            from: from.to_owned(),
            to: Vec::new(),
            smtputf8,
        });
        self.wire.reply(250, "2.1.0 sender fine");
    }

    fn rcpt(&mut self, argument: &str) {
        let Some(envelope) = &mut self.envelope else {
            return self.wire.reply(503, "5.5.1 MAIL first");
        };
        let to = match path(argument, "TO:") {
            Some((to, parameters)) if parameters.is_empty() && !to.is_empty() => to.to_owned(),
            Some((_, parameters)) if !parameters.is_empty() => {
                return self.wire.reply(555, "5.5.4 parameter not known");
            }
            _ => return self.wire.reply(501, "5.5.4 RCPT TO:<address>"),
        };
        if !envelope.smtputf8 && !to.is_ascii() {
            return self.wire.reply(553, "5.6.7 needs SMTPUTF8");
        }
        if envelope.to.len() >= RECIPIENTS_MAX {
            return self.wire.reply(452, "4.5.3 too many recipients");
        }
        let one = std::slice::from_ref(&to);
        let fault = self
            .shared
            .faults()
            .take(Stage::Recipient, envelope.mail, one);
        if let Some(Fault::RejectRecipient(reply)) = fault {
            return self.wire.reply(reply.code, &reply.text);
        }
        envelope.to.push(to);
        self.wire.reply(250, "2.1.5 recipient fine");
    }

    async fn data(&mut self) -> Result<Next> {
        match &self.envelope {
            None => {
                self.wire.reply(503, "5.5.1 MAIL first");
                return Ok(Next::Command);
            }
            Some(envelope) if envelope.to.is_empty() => {
                self.wire.reply(554, "5.5.1 no valid recipients");
                return Ok(Next::Command);
            }
            Some(_) => {}
        }
        if let (Some(Fault::HangBeforeData(time)), faults) = self.fault(Stage::BeforeData) {
            self.pause(time, faults).await?;
        }
        self.wire.reply(354, "end with <CRLF>.<CRLF>");
        if self.fault(Stage::InData).0.is_some() {
            self.wire.line(&mut Vec::new(), COMMAND_MAX).await?;
            return Ok(Next::Close);
        }
        match self.wire.mail(self.shared.max_bytes).await? {
            Mail::Whole(mail) => return self.arrived(mail).await,
            Mail::TooLarge => self.wire.reply(552, "5.3.4 mail too large"),
            Mail::BareLineEnd => self.wire.reply(550, "5.6.0 bare CR or LF in the mail"),
            Mail::Eof => return Ok(Next::Close),
        }
        self.envelope = None;
        Ok(Next::Command)
    }

    /// The final dot has come.
    async fn arrived(&mut self, mail: Vec<u8>) -> Result<Next> {
        if let (Some(Fault::Slow(time)), faults) = self.fault(Stage::BeforeRecording) {
            self.pause(time, faults).await?;
        }
        let (fault, faults) = self.fault(Stage::AfterDot);
        if let Some(Fault::RejectMail(reply)) = fault {
            self.envelope = None;
            self.wire.reply(reply.code, &reply.text);
            return Ok(Next::Command);
        }
        if fault == Some(Fault::CloseAfterDot { keep: false }) {
            return Ok(Next::Close);
        }
        if let Err(e) = self.record(mail).await {
            tracing::error!("the mail sink cannot record: {e:#}");
            self.wire.reply(451, "4.3.0 cannot record");
            return Ok(Next::Command);
        }
        match fault {
            Some(Fault::CloseAfterDot { .. }) => return Ok(Next::Close),
            Some(Fault::HangAfterDot(time)) => self.pause(time, faults).await?,
            _ => {}
        }
        self.wire.reply(250, "2.0.0 recorded");
        Ok(Next::Command)
    }

    /// Records the mail and ends its transaction.
    async fn record(&mut self, data: Vec<u8>) -> Result<()> {
        let envelope = self
            .envelope
            .take()
            .expect("DATA is only obeyed with an envelope");
        let mail = Received {
            at: Utc::now(),
            connection: self.connection,
            mail_from: envelope.from,
            rcpt_to: envelope.to,
            message_id: message_id(&data),
            data,
            path: None,
        };
        self.shared.record(mail).await
    }

    /// The fault of this stage, if any, and which faults these were.
    fn fault(&self, stage: Stage) -> (Option<Fault>, u64) {
        let mut faults = self.shared.faults();
        let fault = self
            .envelope
            .as_ref()
            .and_then(|envelope| faults.take(stage, envelope.mail, &envelope.to));
        (fault, *self.shared.replaced.borrow())
    }

    /// Waits until these faults are replaced, at most that long, with all earlier replies gone out.
    async fn pause(&mut self, time: Duration, faults: u64) -> Result<()> {
        self.wire.flush().await?;
        let mut replaced = self.shared.replaced.subscribe();
        let ends = replaced.wait_for(|now| *now != faults);
        // The sender lives as long as this session.
        let _ = tokio::time::timeout(time, ends).await;
        Ok(())
    }
}

/// The command without its line end; `None` if it has a line end inside or is not UTF-8.
fn command_text(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    (!text.contains(['\r', '\n'])).then_some(text)
}
