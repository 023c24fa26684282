//! From a message to a mail as it goes over the wire.
//!
//! Structure: text and HTML are alternatives; attachments make it `multipart/mixed`. Whatever
//! ends up in a header has its control characters replaced by spaces and is encoded by the
//! library, so that no content can begin a header line. Attachments are always base64: they
//! arrive byte for byte. Signed last, as the bytes that go over the wire.

use std::collections::HashSet;
use std::time::SystemTime;

use anklang_plugin_sdk::{
    Attachment, Content, Header, MailContent, Message, Outcome, Party, Reason,
};
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{
    Attachment as AttachmentPart, Body, Mailbox, MessageBuilder, MultiPart, SinglePart,
};
use lettre::{Address, Message as MimeMessage};

use crate::dkim::{self, Signer};
use crate::tags::Tagged;

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

/// How an account's mails are made.
#[derive(Default)]
pub(crate) struct Make {
    /// Where bounces go, instead of to the sender.
    pub(crate) return_path: Option<Tagged>,
    /// Where consent is withdrawn by mail.
    pub(crate) unsubscribe: Option<Tagged>,
    pub(crate) signers: Vec<Signer>,
}

/// A mail that is ready to be handed over.
pub(crate) struct Mail {
    /// The message's id, the same for each attempt.
    pub(crate) id: String,
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
pub(crate) fn build(message: &Message, make: &Make) -> Result<Mail, Outcome> {
    let content = content(message)?;
    if content.provider_template.is_some() {
        return Err(Outcome::permanent(
            Reason::Config,
            "NO_PROVIDER_TEMPLATES",
            "a mail server has no templates",
        ));
    }
    let sender = mailbox(message.sender.as_ref(), Reason::Config, "SENDER_INVALID")?;
    let recipient = mailbox(
        message.recipient.as_ref(),
        Reason::Recipient,
        "ADDRESS_INVALID",
    )?;
    let id = checked_id(&message.message_id)?;
    let domain = sender.email.domain().to_owned();
    let return_path = match &make.return_path {
        None => sender.email.clone(),
        Some(tagged) => tagged.address(id).ok_or_else(no_id)?,
    };
    let envelope = Envelope::new(Some(return_path), vec![recipient.email.clone()])
        .expect("there is one recipient");
    let mut builder = MimeMessage::builder()
        // The same for every attempt, so that mailboxes can tell a repetition.
        .message_id(Some(format!("<{id}@{domain}>")))
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
    for (name, value) in headers(&content.headers)? {
        let value = match &make.unsubscribe {
            Some(tagged) if name.eq_ignore_ascii_case("list-unsubscribe") => {
                with_mailto(value, tagged.address(id))
            }
            _ => value,
        };
        builder = builder.raw_header(HeaderValue::new(name, value));
    }
    let mail = with_body(builder, content)?.formatted();
    let bytes = dkim::signed(&make.signers, &domain, mail, SystemTime::now())
        .ok_or_else(|| Outcome::transient("DKIM", "the mail could not be signed"))?;
    Ok(Mail {
        id: id.to_owned(),
        envelope,
        bytes,
    })
}

/// What the message is, if it is a mail.
pub(crate) fn content(message: &Message) -> Result<&MailContent, Outcome> {
    match &message.content {
        Some(Content::Mail(content)) => Ok(content),
        _ => Err(content_error(
            "NOT_A_MAIL",
            "the message has no mail content",
        )),
    }
}

/// An id that can stand in header lines and URLs as it is.
pub(crate) fn checked_id(id: &str) -> Result<&str, Outcome> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > 100 || !id.chars().all(plain) {
        return Err(no_id());
    }
    Ok(id)
}

fn no_id() -> Outcome {
    content_error("MESSAGE_ID_INVALID", "message_id is not a UUID")
}

/// The same ways to withdraw consent, and one by mail if there is none and room for it.
fn with_mailto(value: String, address: Option<Address>) -> String {
    match address {
        Some(address) if !value.to_ascii_lowercase().contains("mailto:") => {
            let both = format!("{value}, <mailto:{address}?subject=unsubscribe>");
            if both.len() > LONGEST_HEADER {
                value
            } else {
                both
            }
        }
        _ => value,
    }
}

pub(crate) fn mailbox(
    party: Option<&Party>,
    reason: Reason,
    code: &str,
) -> Result<Mailbox, Outcome> {
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

/// The further header lines of a mail, each checked.
pub(crate) fn headers(headers: &[Header]) -> Result<Vec<(HeaderName, String)>, Outcome> {
    let (mut seen, mut checked) = (HashSet::new(), Vec::with_capacity(headers.len()));
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
        checked.push((parsed, header_text(value)?));
    }
    Ok(checked)
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
    let media_type = media_type(attachment)?;
    let body = Body::new_with_encoding(attachment.content.clone(), ContentTransferEncoding::Base64)
        .expect("base64 takes any bytes");
    Ok(AttachmentPart::new(header_text(&attachment.filename)?).body(body, media_type))
}

pub(crate) fn media_type(attachment: &Attachment) -> Result<ContentType, Outcome> {
    ContentType::parse(&attachment.media_type)
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
        })
}

/// A value for a header line.
pub(crate) fn header_text(text: &str) -> Result<String, Outcome> {
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

pub(crate) fn empty() -> Outcome {
    content_error("EMPTY", "the mail has neither text nor html")
}

pub(crate) fn content_error(code: &str, detail: &str) -> Outcome {
    Outcome::permanent(Reason::Content, code, detail)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
