//! From a message to the mail that a gateway makes a fax of.

use anklang_plugin_sdk::{Attachment, Content, Message, Outcome, Reason};
use hayro_syntax::Pdf;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderValue};
use lettre::message::{Attachment as AttachmentPart, Body, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message as MimeMessage};
use secrecy::ExposeSecret;

use super::config::Settings;
use crate::document::{Sort, sort, too_many_pages, unreadable};
use crate::tiff::{self, Refused};

/// Longest subject, in characters.
const LONGEST_SUBJECT: usize = 300;

/// A mail that is ready to be handed over.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) envelope: Envelope,
    pub(crate) bytes: Vec<u8>,
    pub(crate) pages: u32,
}

/// Builds the mail; an error is the outcome of the message.
pub(crate) fn build(settings: &Settings, message: Message) -> Result<Mail, Outcome> {
    let content = |code: &str, detail: &str| Outcome::permanent(Reason::Content, code, detail);
    let recipient = message.recipient.unwrap_or_default();
    let number = settings.dial.dial(&recipient.address)?;
    let to: Address = settings
        .to
        .replace("{number}", &number)
        .parse()
        .map_err(|e| Outcome::permanent(Reason::Recipient, "ADDRESS_INVALID", format!("{e}")))?;
    let Some(Content::Document(document)) = message.content else {
        return Err(content("NOT_A_DOCUMENT", "the message has no document"));
    };
    let file = document
        .document
        .ok_or_else(|| content("NOT_A_DOCUMENT", "the message has no document"))?;
    let (sort, pages) = pages(&file, settings.max_pages)?;
    let domain = settings.from.email.domain();
    let builder = MimeMessage::builder()
        .message_id(Some(message_id(&message.message_id, domain)?))
        .from(settings.from.clone())
        .to(Mailbox::new(None, to.clone()))
        .subject(subject(settings, &document.subject));
    let builder = match (&settings.pin_header, &settings.pin) {
        (Some(name), Some(pin)) => builder.raw_header(HeaderValue::new(
            name.clone(),
            pin.expose_secret().to_owned(),
        )),
        _ => builder,
    };
    let mail = builder
        .multipart(
            MultiPart::mixed()
                .singlepart(SinglePart::plain(settings.text.clone()))
                .singlepart(attachment(sort, file)),
        )
        .map_err(|e| content("BUILD", &e.to_string()))?;
    let envelope =
        Envelope::new(Some(settings.from.email.clone()), vec![to]).expect("there is one recipient");
    Ok(Mail {
        envelope,
        bytes: mail.formatted(),
        pages,
    })
}

/// What the document is and how many pages it has.
fn pages(file: &Attachment, most: u32) -> Result<(Sort, u32), Outcome> {
    let sort = sort(file)?;
    let pages = match sort {
        Sort::Tiff => match tiff::check(&file.content, most) {
            Ok(checked) => checked.pages,
            Err(Refused::TooManyPages) => return Err(too_many_pages(most)),
            Err(Refused::Unfit(why)) => {
                return Err(unreadable(format!("the document cannot be sent: {why}")));
            }
        },
        Sort::Pdf => {
            let pdf = Pdf::new(file.content.clone())
                .map_err(|_| unreadable("the document cannot be read".to_owned()))?;
            u32::try_from(pdf.pages().len()).unwrap_or(u32::MAX)
        }
    };
    match pages {
        0 => Err(unreadable("the document has no pages".to_owned())),
        pages if pages > most => Err(too_many_pages(most)),
        pages => Ok((sort, pages)),
    }
}

/// The document under a name of ours: gateways go by the ending.
fn attachment(sort: Sort, file: Attachment) -> SinglePart {
    let (name, media_type) = match sort {
        Sort::Pdf => ("fax.pdf", "application/pdf"),
        Sort::Tiff => ("fax.tif", "image/tiff"),
    };
    let media_type = ContentType::parse(media_type).expect("is a media type");
    let body = Body::new_with_encoding(file.content, ContentTransferEncoding::Base64)
        .expect("base64 takes any bytes");
    AttachmentPart::new(name.to_owned()).body(body, media_type)
}

/// The same for every attempt, so that gateways can tell a repetition.
fn message_id(id: &str, domain: &str) -> Result<String, Outcome> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if id.is_empty() || id.len() > 100 || !id.chars().all(plain) {
        let detail = "message_id is not a UUID";
        return Err(Outcome::permanent(
            Reason::Content,
            "MESSAGE_ID_INVALID",
            detail,
        ));
    }
    Ok(format!("<{id}@{domain}>"))
}

/// One line, with what the configuration wants in it. A document's subject is put in last, so that
/// nothing in it is taken for a mark.
fn subject(settings: &Settings, of_document: &str) -> String {
    let pin = settings.pin.as_ref().map_or("", |pin| pin.expose_secret());
    let one_line = |text: &str| -> String {
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        plain.take(LONGEST_SUBJECT).collect()
    };
    settings
        .subject
        .replace("{pin}", pin)
        .replace("{subject}", &one_line(of_document))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
