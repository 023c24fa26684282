//! What a mail that came back says: of which message, and what.
//!
//! | mail | news |
//! |---|---|
//! | report of delivery (RFC 3464) or a bounce of Exim | bounced, delivered, or no state at all (delayed, relayed) |
//! | complaint (RFC 5965) | complained |
//! | to the address for withdrawing consent | unsubscribed |
//! | answer of a machine (RFC 3834), receipt | none |
//! | anything else | an answer, with the message that it answers if it says so |
//!
//! A report's message is known by its envelope id, by the address to which it came, or by the
//! `Message-ID` in the mail that it returns. A report of no message of ours is for a person to look
//! at. Nobody proves who writes a mail: whoever knows a message's id, its recipient above all, can
//! say that it bounced.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anklang_plugin_sdk::delivery_event::State;
use anklang_plugin_sdk::{DeliveryEvent, InboundEvent, Party};
use mail_parser::{DateTime, Message, MessageParser, MessagePart, MimeHeaders, PartType};
use ring::digest::{SHA256, digest};

use super::fields::Fields;
use crate::tags::{Tagged, id_of, is_id};

/// Longest diagnostic that is passed on, in characters.
const LONGEST_DETAIL: usize = 500;
/// Longest text of an answer that is passed on, in bytes.
const LONGEST_TEXT: usize = 64 * 1024;
/// Longest subject, name or address that is passed on, in bytes.
const LONGEST_LINE: usize = 998;
/// Lines that say to which address a mail came, the surest first.
const ADDRESSED: &[&str] = &["delivered-to", "x-original-to", "envelope-to", "to", "cc"];

/// The addresses by which messages are recognised.
pub(super) struct Addresses {
    pub(super) return_path: Option<Tagged>,
    pub(super) unsubscribe: Option<Tagged>,
}

/// What a mail says.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// What became of a message; without a number yet.
    Delivery(DeliveryEvent),
    /// An answer; without a number yet.
    Inbound(InboundEvent),
    /// Nothing that anybody waits for.
    Nothing,
    /// It is for a person to look at, for this reason.
    Unreadable(&'static str),
}

/// Reads a mail, which may be cut off.
pub(super) fn read(bytes: &[u8], received: SystemTime, addresses: &Addresses) -> News {
    let Some(mail) = MessageParser::default().parse(bytes) else {
        return News::Unreadable("it is no mail");
    };
    let mail = Mail {
        mail,
        received,
        addresses,
    };
    if mail.is("multipart", "report") {
        let read = mail.delivery_report().or_else(|| mail.complaint());
        // Other reports are receipts, or of reputation: of no message's delivery.
        return read.unwrap_or(News::Nothing);
    }
    if mail.line("x-failed-recipients").is_some() {
        return mail.plain_bounce();
    }
    if let Some(id) = mail.id_in_address(addresses.unsubscribe.as_ref()) {
        return mail.happened(State::Unsubscribed, id, "mailto", String::new(), received);
    }
    if mail.is_automatic() {
        return News::Nothing;
    }
    mail.answer(bytes)
}

struct Mail<'a> {
    mail: Message<'a>,
    received: SystemTime,
    addresses: &'a Addresses,
}

impl Mail<'_> {
    /// RFC 3464.
    fn delivery_report(&self) -> Option<News> {
        let part = self.part("message", "delivery-status")?;
        let groups = Fields::groups(part.contents());
        // A message has one recipient. Behind it may be several: a failure counts first.
        let rank = |group: &&Fields| match group.get("action").map(str::to_ascii_lowercase) {
            Some(action) if action == "failed" => 0,
            Some(action) if action == "delivered" => 1,
            _ => 2,
        };
        let recipients = groups.iter().filter(|group| group.get("action").is_some());
        let Some(recipient) = recipients.min_by_key(rank) else {
            return Some(News::Unreadable("its report names no action"));
        };
        let envelope = groups.iter().find_map(|g| g.get("original-envelope-id"));
        let Some(id) = self.reported(envelope, None) else {
            return Some(News::Unreadable("its report is of no message of ours"));
        };
        let action = recipient
            .get("action")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let state = match &action[..] {
            "failed" => State::Bounced,
            "delivered" => State::Delivered,
            _ => State::Unspecified,
        };
        let said = recipient.typed("diagnostic-code").unwrap_or_default();
        let detail = match state {
            State::Unspecified => format!("{action}: {said}"),
            _ => said.to_owned(),
        };
        let code = recipient
            .get("status")
            .and_then(|s| s.split_whitespace().next());
        let at = self.date(recipient.get("last-attempt-date"));
        Some(self.happened(state, id, code.unwrap_or_default(), detail, at))
    }

    /// RFC 5965.
    fn complaint(&self) -> Option<News> {
        let part = self.part("message", "feedback-report")?;
        let groups = Fields::groups(part.contents());
        let field = |name| groups.iter().find_map(|group| group.get(name));
        let Some(kind) = field("feedback-type") else {
            return Some(News::Unreadable("its report names no type"));
        };
        let kind = kind.to_ascii_lowercase();
        let state = match &kind[..] {
            // "Not spam" and failed signatures (RFC 6591) are no complaints.
            "not-spam" | "auth-failure" | "dmarc" => return Some(News::Nothing),
            "opt-out" | "opt-out-list" => State::Unsubscribed,
            _ => State::Complained,
        };
        let sender = field("original-mail-from");
        let Some(id) = self.reported(field("original-envelope-id"), sender) else {
            return Some(News::Unreadable("its report is of no message of ours"));
        };
        let at = self.date(field("arrival-date").or_else(|| field("received-date")));
        let detail = field("user-agent").unwrap_or_default().to_owned();
        Some(self.happened(state, id, &kind, detail, at))
    }

    /// A bounce that is no report, but names the recipients: Exim's.
    fn plain_bounce(&self) -> News {
        let id = self
            .id_in_address(self.addresses.return_path.as_ref())
            .or_else(|| self.answered());
        match id {
            Some(id) => self.happened(State::Bounced, id, "", String::new(), self.received),
            None => News::Unreadable("it bounces no message of ours"),
        }
    }

    /// A mail that somebody wrote.
    fn answer(&self, bytes: &[u8]) -> News {
        let sender = self.mail.from().and_then(|from| from.first());
        let Some(address) = sender.and_then(|s| s.address()).filter(|a| a.contains('@')) else {
            return News::Unreadable("it has no sender");
        };
        let name = sender.and_then(|sender| sender.name()).unwrap_or_default();
        let recipient = self.mail.to().and_then(|to| to.first());
        let to = recipient.and_then(|to| to.address()).unwrap_or_default();
        let party = |address: &str, name: &str| {
            Some(Party {
                address: cut(address, LONGEST_LINE),
                name: cut(name, LONGEST_LINE),
            })
        };
        News::Inbound(InboundEvent {
            event_id: 0,
            sender: party(address, name),
            recipient: party(to, ""),
            text: self.text(),
            subject: cut(self.mail.subject().unwrap_or_default(), LONGEST_LINE),
            in_reply_to_message_id: self
                .answered()
                .or_else(|| self.id_in_address(self.addresses.return_path.as_ref()))
                .unwrap_or_default(),
            provider_message_id: match self.mail.message_id() {
                Some(id) if !id.is_empty() => cut(id, LONGEST_LINE),
                // The same each time that the mail is read.
                _ => sha256(bytes),
            },
            received_at: Some(self.received.into()),
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for index in 0..self.mail.text_body_count() {
            let part = self.mail.body_text(index).unwrap_or(Cow::Borrowed(""));
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&part);
            if text.len() > LONGEST_TEXT {
                break;
            }
        }
        cut(&text.replace('\0', ""), LONGEST_TEXT)
    }

    /// Whether a machine answers (RFC 3834), or the mail went to many.
    fn is_automatic(&self) -> bool {
        let said = |name| self.line(name).map(|value| value.to_ascii_lowercase());
        let submitted = said("auto-submitted").is_some_and(|value| !value.starts_with("no"));
        let nobody = said("return-path").is_some_and(|value| value == "<>");
        let precedence = said("precedence")
            .is_some_and(|v| matches!(&v[..], "bulk" | "junk" | "list" | "auto_reply"));
        submitted
            || nobody
            || precedence
            || self.line("x-autoreply").is_some()
            || self.line("x-autorespond").is_some()
    }

    /// The message of a report.
    fn reported(&self, envelope: Option<&str>, sender: Option<&str>) -> Option<String> {
        let return_path = self.addresses.return_path.as_ref();
        let envelope = envelope.map(str::trim).filter(|id| is_id(id));
        envelope
            .map(str::to_ascii_lowercase)
            .or_else(|| id_among(sender?, return_path?))
            .or_else(|| self.id_in_address(return_path))
            .or_else(|| self.returned())
    }

    /// The id in an address to which the mail came.
    fn id_in_address(&self, tagged: Option<&Tagged>) -> Option<String> {
        let tagged = tagged?;
        ADDRESSED.iter().find_map(|name| {
            let mut lines = self.lines(name);
            lines.find_map(|value| id_among(value, tagged))
        })
    }

    /// The message that the mail answers.
    fn answered(&self) -> Option<String> {
        let ids = |name| self.line(name).unwrap_or_default().split_whitespace();
        // The last reference is the nearest.
        ids("in-reply-to")
            .chain(ids("references").rev())
            .find_map(id_of)
    }

    /// The message whose mail, or its header, is returned.
    fn returned(&self) -> Option<String> {
        self.mail.parts.iter().find_map(|part| {
            if let PartType::Message(mail) = &part.body {
                return id_of(mail.message_id()?);
            }
            let headers = is(part, "text", "rfc822-headers") || is(part, "message", "rfc822");
            if !headers {
                return None;
            }
            let mail = MessageParser::default().parse_headers(part.contents())?;
            id_of(mail.message_id()?)
        })
    }

    fn happened(
        &self,
        state: State,
        message_id: String,
        code: &str,
        detail: String,
        at: SystemTime,
    ) -> News {
        News::Delivery(DeliveryEvent {
            event_id: 0,
            message_id,
            provider_message_id: String::new(),
            state: state.into(),
            code: code.chars().take(50).collect(),
            detail: detail.chars().take(LONGEST_DETAIL).collect(),
            occurred_at: Some(at.into()),
        })
    }

    /// A date of a report; not after the mail was received.
    fn date(&self, text: Option<&str>) -> SystemTime {
        let seconds = text
            .and_then(DateTime::parse_rfc822)
            .map(|date| date.to_timestamp());
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            .filter(|at| *at <= self.received && *at > UNIX_EPOCH)
            .unwrap_or(self.received)
    }

    fn is(&self, kind: &str, subtype: &str) -> bool {
        self.mail
            .parts
            .first()
            .is_some_and(|root| is(root, kind, subtype))
    }

    fn part(&self, kind: &str, subtype: &str) -> Option<&MessagePart<'_>> {
        self.mail.parts.iter().find(|part| is(part, kind, subtype))
    }

    /// The first header line of this (lower case) name.
    fn line(&self, name: &'static str) -> Option<&str> {
        self.lines(name).next()
    }

    fn lines(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let lines = self.mail.headers_raw();
        lines
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

fn is(part: &MessagePart<'_>, kind: &str, subtype: &str) -> bool {
    part.content_type().is_some_and(|found| {
        let same = found
            .subtype()
            .is_some_and(|s| s.eq_ignore_ascii_case(subtype));
        same && found.ctype().eq_ignore_ascii_case(kind)
    })
}

/// The id in one of the addresses of a text.
fn id_among(text: &str, tagged: &Tagged) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || "<>,;:\"()".contains(c));
    words
        .filter(|word| word.contains('@'))
        .find_map(|word| tagged.id_in(word))
}

/// At most so many bytes of a text.
fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn sha256(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in digest(&SHA256, bytes).as_ref() {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
