//! From a message to what the Send API v3.1 wants of it.

use std::collections::BTreeMap;

use anklang_plugin_sdk::{MailContent, Message, Outcome, Party, ProviderTemplate, Reason};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::message::Mailbox;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::mime::{self, checked_id, content_error, header_text, mailbox};

/// The most bytes of one message's attachments.
const ATTACHMENTS: usize = 15 * 1000 * 1000;
/// Header lines that Mailjet writes itself, beyond those that no message may bring. From
/// <https://dev.mailjet.com/email/guides/send-api-v31/#add-email-headers>.
const FORBIDDEN: &[&str] = &[
    "delivered-to",
    "domainkey-status",
    "received-spf",
    "authentication-results",
    "user-agent",
    "x-mailer",
    "x-feedback-id",
    "list-id",
    "x-csa-complaints",
];

/// How an account's messages are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) sandbox: bool,
    pub(super) track_opens: Option<bool>,
    pub(super) track_clicks: Option<bool>,
}

/// A message of the API.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Letter<'a> {
    from: Address,
    to: [Address; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Address>,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    text_part: &'a str,
    #[serde(rename = "HTMLPart", skip_serializing_if = "str::is_empty")]
    html_part: &'a str,
    #[serde(rename = "TemplateID", skip_serializing_if = "Option::is_none")]
    template_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_language: Option<bool>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    variables: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attached>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track_opens: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track_clicks: Option<&'static str>,
    #[serde(rename = "CustomID")]
    custom_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address {
    email: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

impl From<Mailbox> for Address {
    fn from(mailbox: Mailbox) -> Self {
        Self {
            email: mailbox.email.to_string(),
            name: mailbox.name.unwrap_or_default(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attached {
    content_type: String,
    filename: String,
    #[serde(rename = "Base64Content")]
    base64: String,
}

impl<'a> Letter<'a> {
    /// Makes the message; an error is its outcome.
    pub(super) fn new(message: &'a Message, style: &Style) -> Result<Self, Outcome> {
        let content = mime::content(message)?;
        let sender = mailbox(message.sender.as_ref(), Reason::Config, "SENDER_INVALID")?;
        let to = message.recipient.as_ref();
        let to = mailbox(to, Reason::Recipient, "ADDRESS_INVALID")?;
        let reply_to = match &message.reply_to[..] {
            "" => None,
            address => {
                let party = Party {
                    address: address.to_owned(),
                    name: String::new(),
                };
                Some(mailbox(Some(&party), Reason::Config, "REPLY_TO_INVALID")?)
            }
        };
        let template = content.provider_template.as_ref();
        let (template_id, variables) = match template {
            Some(template) => (Some(template_id(template)?), variables(template)?),
            None if content.text.is_empty() && content.html.is_empty() => return Err(mime::empty()),
            None => (None, Map::new()),
        };
        // With a template they would be content twice.
        let (text_part, html_part) = match template {
            Some(_) => ("", ""),
            None => (&content.text[..], &content.html[..]),
        };
        // Mailjet takes these with HTML alone.
        let tracked = |track: Option<bool>| {
            let track = track.filter(|_| !html_part.is_empty())?;
            Some(if track { "enabled" } else { "disabled" })
        };
        Ok(Self {
            from: sender.into(),
            to: [to.into()],
            reply_to: reply_to.map(Address::from),
            subject: header_text(&content.subject)?,
            text_part,
            html_part,
            template_id,
            template_language: template.map(|_| true),
            variables,
            attachments: attachments(content)?,
            headers: headers(content)?,
            track_opens: tracked(style.track_opens),
            track_clicks: tracked(style.track_clicks),
            custom_id: checked_id(&message.message_id)?,
        })
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("its keys are texts")
    }
}

fn template_id(template: &ProviderTemplate) -> Result<u64, Outcome> {
    let id: Option<u64> = template.id.trim().parse().ok();
    id.filter(|id| *id > 0).ok_or_else(|| {
        let detail = "the provider's template is named by a number";
        Outcome::permanent(Reason::Config, "TEMPLATE_ID_INVALID", detail)
    })
}

fn variables(template: &ProviderTemplate) -> Result<Map<String, Value>, Outcome> {
    match &template.variables_json[..] {
        "" => Ok(Map::new()),
        // What serde says may quote the values.
        json => serde_json::from_str(json)
            .map_err(|_| content_error("VARIABLES_INVALID", "the variables are no JSON object")),
    }
}

fn attachments(content: &MailContent) -> Result<Vec<Attached>, Outcome> {
    let bytes: usize = content.attachments.iter().map(|a| a.content.len()).sum();
    if bytes > ATTACHMENTS {
        return Err(content_error(
            "TOO_LARGE",
            "the attachments have more than 15 MB",
        ));
    }
    let attached = content.attachments.iter().map(|attachment| {
        mime::media_type(attachment)?;
        if attachment.content.is_empty() || attachment.filename.trim().is_empty() {
            return Err(content_error(
                "ATTACHMENT_EMPTY",
                "an attachment is empty or has no name",
            ));
        }
        Ok(Attached {
            content_type: attachment.media_type.trim().to_owned(),
            filename: header_text(&attachment.filename)?,
            base64: BASE64.encode(&attachment.content),
        })
    });
    attached.collect()
}

fn headers(content: &MailContent) -> Result<BTreeMap<String, String>, Outcome> {
    let mut headers = BTreeMap::new();
    for (name, value) in mime::headers(&content.headers)? {
        let lower = name.to_ascii_lowercase();
        let own = lower.starts_with("x-mj-") || lower.starts_with("x-mailjet-");
        if own || FORBIDDEN.contains(&&lower[..]) {
            let detail = "a header is written by Mailjet";
            return Err(content_error("HEADER_NOT_ALLOWED", detail));
        }
        headers.insert(name.to_string(), value);
    }
    Ok(headers)
}

/// The body of a call.
pub(super) fn payload<'a>(letters: impl Iterator<Item = &'a str>, sandbox: bool) -> Vec<u8> {
    let letters: Vec<_> = letters.collect();
    let sandbox = if sandbox { ",\"SandboxMode\":true" } else { "" };
    format!("{{\"Messages\":[{}]{sandbox}}}", letters.join(",")).into_bytes()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
