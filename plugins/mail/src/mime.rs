//! From a message to a mail as it goes over the wire.
//!
//! Structure: text and HTML are alternatives; attachments make it `multipart/mixed`. Whatever
//! ends up in a header has its control characters replaced by spaces and is encoded by the
//! library, so that no content can begin a header line. Attachments are always base64: they
//! arrive byte for byte.

use std::collections::HashSet;

use anklang_plugin_sdk::{
    Attachment, Content, Header, MailContent, Message, Outcome, Party, Reason,
};
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{
    Attachment as AttachmentPart, Body, Mailbox, MessageBuilder, MultiPart, SinglePart,
};
use lettre::{Address, Message as MimeMessage};

/// Longest value of a header line. RFC 5322 allows lines of 998 bytes, and a word without
/// spaces cannot be folded.
const LONGEST_HEADER: usize = 900;

/// Header lines that this module or the servers on the way write.
const OWN_HEADERS: &[&str] = &[
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "return-path",
    "received",
    "dkim-signature",
];

/// A mail that is ready to be handed over.
pub(crate) struct Mail {
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) envelope: Envelope,
    pub(crate) bytes: Vec<u8>,
}

impl Mail {
    /// Whether the server must know SMTPUTF8 (RFC 6531) to take it.
    pub(crate) fn has_non_ascii_addresses(&self) -> bool {
        let mut addresses = self.envelope.to().iter().chain(self.envelope.from());
        addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii())
    }
}

/// Builds the mail; an error is the outcome of the message.
pub(crate) fn build(message: &Message) -> Result<Mail, Outcome> {
    let Some(Content::Mail(content)) = &message.content else {
        return Err(content_error(
            "NOT_A_MAIL",
            "the message has no mail content",
        ));
    };
    let sender = mailbox(message.sender.as_ref(), Reason::Config, "SENDER_INVALID")?;
    let recipient = mailbox(
        message.recipient.as_ref(),
        Reason::Recipient,
        "ADDRESS_INVALID",
    )?;
    let envelope = Envelope::new(Some(sender.email.clone()), vec![recipient.email.clone()])
        .expect("there is one recipient");
    let mut builder = MimeMessage::builder()
        .message_id(Some(message_id(
            &message.message_id,
            sender.email.domain(),
        )?))
        .envelope(envelope.clone())
        .subject(header_text(&content.subject)?)
        .from(sender)
        .to(recipient);
    if !message.reply_to.is_empty() {
        let party = Party {
            address: message.reply_to.clone(),
            name: String::new(),
        };
        builder = builder.reply_to(mailbox(Some(&party), Reason::Config, "REPLY_TO_INVALID")?);
    }
    let builder = with_headers(builder, &content.headers)?;
    let mail = with_body(builder, content)?;
    Ok(Mail {
        attempt: message.attempt,
        envelope,
        bytes: mail.formatted(),
    })
}

/// The same for every attempt, so that mailboxes can tell a repetition.
fn message_id(id: &str, domain: &str) -> Result<String, Outcome> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > 100 || !id.chars().all(plain) {
        return Err(content_error(
            "MESSAGE_ID_INVALID",
            "message_id is not a UUID",
        ));
    }
    Ok(format!("<{id}@{domain}>"))
}

fn mailbox(party: Option<&Party>, reason: Reason, code: &str) -> Result<Mailbox, Outcome> {
    let refused = |detail: String| Outcome::permanent(reason, code, detail);
    let party = party.ok_or_else(|| refused("there is no address".to_owned()))?;
    let (user, domain) = party
        .address
        .trim()
        .rsplit_once('@')
        .ok_or_else(|| refused("the address has no @".to_owned()))?;
    // Domains travel in ASCII, so that servers without SMTPUTF8 take them.
    let domain = idna::domain_to_ascii(domain).map_err(|e| refused(format!("domain: {e}")))?;
    let address = Address::new(user, domain).map_err(|e| refused(e.to_string()))?;
    let name = one_line(&party.name);
    let name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    Ok(Mailbox::new(name, address))
}

fn with_headers(
    mut builder: MessageBuilder,
    headers: &[Header],
) -> Result<MessageBuilder, Outcome> {
    let mut seen = HashSet::new();
    for Header { name, value } in headers {
        let lower = name.to_ascii_lowercase();
        let own = OWN_HEADERS.contains(&lower.as_str())
            || lower.starts_with("content-")
            || lower.starts_with("resent-");
        if own {
            return Err(content_error(
                "HEADER_NOT_ALLOWED",
                "a header is written by the plugin",
            ));
        }
        // RFC 5322, 3.6.8: printable ASCII but the colon.
        let printable = name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        let parsed = HeaderName::new_from_ascii(name.clone()).ok();
        let (true, Some(parsed)) = (printable, parsed) else {
            return Err(content_error(
                "HEADER_INVALID",
                "a header name is malformed",
            ));
        };
        if !seen.insert(lower) {
            return Err(content_error("HEADER_TWICE", "a header is given twice"));
        }
        builder = builder.raw_header(HeaderValue::new(parsed, header_text(value)?));
    }
    Ok(builder)
}

fn with_body(builder: MessageBuilder, content: &MailContent) -> Result<MimeMessage, Outcome> {
    let MailContent { text, html, .. } = content;
    let plain = || SinglePart::plain(text.clone());
    let rich = || SinglePart::html(html.clone());
    let attachments: Vec<_> = content
        .attachments
        .iter()
        .map(attachment)
        .collect::<Result<_, _>>()?;
    let alternatives = || {
        MultiPart::alternative()
            .singlepart(plain())
            .singlepart(rich())
    };
    let built = if attachments.is_empty() {
        match (text.is_empty(), html.is_empty()) {
            (false, false) => builder.multipart(alternatives()),
            (false, true) => builder.singlepart(plain()),
            (true, false) => builder.singlepart(rich()),
            (true, true) => return Err(empty()),
        }
    } else {
        let mixed = MultiPart::mixed();
        let start = match (text.is_empty(), html.is_empty()) {
            (false, false) => mixed.multipart(alternatives()),
            (false, true) => mixed.singlepart(plain()),
            (true, false) => mixed.singlepart(rich()),
            (true, true) => return Err(empty()),
        };
        builder.multipart(attachments.into_iter().fold(start, MultiPart::singlepart))
    };
    built.map_err(|e| content_error("BUILD", &e.to_string()))
}

fn attachment(attachment: &Attachment) -> Result<SinglePart, Outcome> {
    let media_type = ContentType::parse(&attachment.media_type)
        .ok()
        // A "multipart" or "message" file would have its bytes taken for structure.
        .filter(|_| {
            let lower = attachment.media_type.trim().to_ascii_lowercase();
            !lower.starts_with("multipart/") && !lower.starts_with("message/")
        })
        .ok_or_else(|| {
            content_error(
                "MEDIA_TYPE_INVALID",
                "an attachment has no usable media type",
            )
        })?;
    let body = Body::new_with_encoding(attachment.content.clone(), ContentTransferEncoding::Base64)
        .expect("base64 takes any bytes");
    Ok(AttachmentPart::new(header_text(&attachment.filename)?).body(body, media_type))
}

/// A value for a header line.
fn header_text(text: &str) -> Result<String, Outcome> {
    if text.len() > LONGEST_HEADER {
        return Err(content_error(
            "HEADER_TOO_LONG",
            "a header is longer than 900 bytes",
        ));
    }
    Ok(one_line(text))
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn empty() -> Outcome {
    content_error("EMPTY", "the mail has neither text nor html")
}

fn content_error(code: &str, detail: &str) -> Outcome {
    Outcome::permanent(Reason::Content, code, detail)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
