//! A message of the host as a short message, for either sort of account.

use std::time::SystemTime;

use anklang_plugin_sdk::{Content, Message, Outcome, Reason, outcome::Kind};

use crate::address::{Source, e164};
use crate::text::{Segmented, Unsendable, segmented};

/// A message that can be sent.
#[derive(Debug)]
pub(crate) struct Letter<'m> {
    pub(crate) message_id: &'m str,
    pub(crate) source: Source,
    /// Digits of a number in E.164, without `+`.
    pub(crate) destination: &'m str,
    pub(crate) text: Segmented,
}

impl<'m> Letter<'m> {
    /// Reads a message; an error is its outcome: it can never be sent. `sender` is that of messages
    /// without one.
    pub(crate) fn read(
        message: &'m Message,
        sender: Option<&str>,
        transliterate: bool,
        max_segments: usize,
    ) -> Result<Self, Outcome> {
        let recipient = message.recipient.as_ref();
        let destination = recipient
            .and_then(|party| e164(&party.address))
            .ok_or_else(|| {
                let detail = "the recipient is no number in E.164, such as +491711234567";
                Outcome::permanent(Reason::Recipient, "ADDRESS_INVALID", detail)
            })?;
        let own = message.sender.as_ref().map(|party| party.address.as_str());
        let source = own
            .filter(|address| !address.is_empty())
            .or(sender)
            .and_then(Source::read)
            .ok_or_else(|| {
                let detail = "the sender is no number (+49…), short code or name of 11 characters";
                Outcome::permanent(Reason::Config, "SENDER_INVALID", detail)
            })?;
        let Some(Content::Text(content)) = &message.content else {
            let detail = "short messages carry a text and nothing else";
            return Err(Outcome::permanent(Reason::Content, "NO_TEXT", detail));
        };
        let text =
            segmented(&content.text, transliterate, max_segments).map_err(|no| match no {
                Unsendable::Empty => {
                    Outcome::permanent(Reason::Content, "EMPTY", "there is no text in it")
                }
                Unsendable::TooLong(segments) => {
                    let detail = format!("{segments} segments, at most {max_segments} are allowed");
                    Outcome::permanent(Reason::Content, "TOO_LONG", detail)
                }
            })?;
        Ok(Self {
            message_id: &message.message_id,
            source,
            destination,
            text,
        })
    }
}

/// The outcome of a message that was taken, in so many segments.
pub(crate) fn accepted(provider_message_id: String, at: SystemTime, parts: u32) -> Outcome {
    let mut outcome = Outcome::accepted(provider_message_id, at, "");
    if let Some(Kind::Accepted(accepted)) = &mut outcome.kind {
        accepted.parts = parts;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use anklang_plugin_sdk::{MailContent, Party, TextContent};

    use super::*;

    fn party(address: &str) -> Option<Party> {
        Some(Party {
            address: address.to_owned(),
            name: String::new(),
        })
    }

    fn message(recipient: &str, sender: &str, text: &str) -> Message {
        Message {
            message_id: "ours".to_owned(),
            attempt: 1,
            recipient: party(recipient),
            sender: party(sender),
            content: Some(Content::Text(TextContent {
                text: text.to_owned(),
            })),
            ..Message::default()
        }
    }

    fn refused(message: &Message) -> (Reason, String) {
        match Letter::read(message, None, false, 2).map_err(|outcome| outcome.kind) {
            Err(Some(Kind::Permanent(refused))) => (refused.reason(), refused.code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_can_never_be_sent_is_refused() {
        let number = "+491711234567";
        let mut mail = message(number, "Stadtwerk", "");
        mail.content = Some(Content::Mail(MailContent::default()));
        let mut nobody = message(number, "Stadtwerk", "Hallo");
        nobody.recipient = None;
        let long = "a".repeat(307);
        for (message, reason, code) in [
            (
                message("0171 1234567", "Stadtwerk", "Hallo"),
                Reason::Recipient,
                "ADDRESS_INVALID",
            ),
            (nobody, Reason::Recipient, "ADDRESS_INVALID"),
            (
                message(number, "Stadtwerke GmbH", "Hallo"),
                Reason::Config,
                "SENDER_INVALID",
            ),
            (
                message(number, "", "Hallo"),
                Reason::Config,
                "SENDER_INVALID",
            ),
            (mail, Reason::Content, "NO_TEXT"),
            (message(number, "Stadtwerk", " "), Reason::Content, "EMPTY"),
            (
                message(number, "Stadtwerk", &long),
                Reason::Content,
                "TOO_LONG",
            ),
        ] {
            assert_eq!(refused(&message), (reason, code.to_owned()));
        }
    }

    #[test]
    fn the_account_s_sender_stands_in() {
        let message = message("+491711234567", "", "Hallo");
        let letter = Letter::read(&message, Some("80888"), false, 1).expect("sendable");
        assert_eq!(letter.source.address, "80888");
        assert_eq!(letter.destination, "491711234567");
    }
}
