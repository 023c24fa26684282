//! What plugins tell as typed values. They may say anything: texts are made printable and cut, what
//! cannot be is left out.

use anklang_channels::proto::{self, delivery_event::State};
use anklang_domain::channel::contact_channel;
use anklang_domain::inbound::StopWords;
use anklang_domain::master::contact;
use anklang_domain::report::ReportState;
use anklang_store::inbound::Inbound;
use anklang_store::message::printable;
use anklang_store::report::Report;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

use crate::accounts::Account;

/// The most characters of a text that came in; the rest is cut off.
const MAX_TEXT: usize = 100_000;
/// Times before and after these are mistakes: 2000-01-01 and 2200-01-01.
const TIMES: std::ops::Range<i64> = 946_684_800..7_258_118_400;

/// What a channel told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Of messages.
    pub reports: Vec<Report>,
    /// What came in.
    pub inbound: Vec<Inbound>,
}

impl News {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty() && self.inbound.is_empty()
    }
}

/// Reads what a plugin told.
pub fn read<'a>(
    account: &Account,
    deliveries: impl IntoIterator<Item = &'a proto::DeliveryEvent>,
    inbound: impl IntoIterator<Item = &'a proto::InboundEvent>,
    words: &StopWords,
) -> News {
    let channel = account.channel();
    News {
        reports: deliveries.into_iter().filter_map(report).collect(),
        inbound: inbound
            .into_iter()
            .map(|event| message(channel, event, words))
            .collect(),
    }
}

fn report(event: &proto::DeliveryEvent) -> Option<Report> {
    let state = match event.state() {
        State::Delivered => ReportState::Delivered,
        State::Bounced => ReportState::Bounced,
        State::Failed => ReportState::Failed,
        State::Opened => ReportState::Opened,
        State::Clicked => ReportState::Clicked,
        State::Complained => ReportState::Complained,
        State::Unsubscribed => ReportState::Unsubscribed,
        State::Unspecified => return None,
    };
    Some(Report {
        message: Uuid::try_parse(&event.message_id).ok(),
        provider_message_id: printable(&event.provider_message_id),
        state,
        code: printable(&event.code),
        detail: printable(&event.detail),
        occurred_at: event.occurred_at.as_ref().and_then(time),
    })
}

fn message(channel: &str, event: &proto::InboundEvent, words: &StopWords) -> Inbound {
    let party = |party: &Option<proto::Party>| {
        let party = party.clone().unwrap_or_default();
        (party.address, party.name)
    };
    let (sender, sender_name) = party(&event.sender);
    let (recipient, _) = party(&event.recipient);
    let text = lines(&event.text);
    let subject = printable(&event.subject);
    Inbound {
        sender: address(channel, &sender),
        sender_name: printable(&sender_name),
        recipient: address(channel, &recipient),
        in_reply_to: Uuid::try_parse(&event.in_reply_to_message_id).ok(),
        provider_message_id: printable(&event.provider_message_id),
        received_at: event.received_at.as_ref().and_then(time),
        asks_to_stop: match text.trim() {
            "" => words.ask_to_stop(&subject),
            // An answer by mail quotes what it answers below.
            text if channel == "mail" => {
                let own = text.split("\n\n").next().unwrap_or(text);
                words.ask_to_stop(text) || words.ask_to_stop(own)
            }
            text => words.ask_to_stop(text),
        },
        subject,
        text,
    }
}

/// The one form of an address, so that it is found again; as it came when it has none.
fn address(channel: &str, address: &str) -> String {
    let (kind, bare) = (contact_channel(channel), address.trim());
    // Networks leave the sign of international numbers out.
    let international = || match (kind, bare.strip_prefix("00")) {
        ("mobile" | "phone" | "fax", Some(rest)) => format!("+{rest}"),
        ("mobile" | "phone" | "fax", None) if bare.len() >= 8 => format!("+{bare}"),
        _ => String::new(),
    };
    contact::normalise(kind, bare, "")
        .or_else(|_| contact::normalise(kind, &international(), ""))
        .unwrap_or_else(|_| printable(bare))
}

/// A text of several lines that a database can keep.
fn lines(text: &str) -> String {
    let keeps = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(keeps).take(MAX_TEXT).collect()
}

/// To the microsecond, as the database keeps it: a repetition is recognised by it.
fn time(time: &prost_types::Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(time.nanos).ok()?;
    TIMES.contains(&time.seconds).then_some(())?;
    DateTime::from_timestamp(time.seconds, nanos)?
        .duration_trunc(TimeDelta::microseconds(1))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_left_out() {
        let at = |seconds, nanos| time(&prost_types::Timestamp { seconds, nanos });
        assert_eq!(at(i64::MAX, 0), None);
        assert_eq!(at(1_790_000_000, -1), None);
        assert_eq!(at(-1, 0), None);
        let read = at(1_790_000_000, 123_456_789).expect("a time");
        assert_eq!(read.timestamp_subsec_nanos(), 123_456_000);
        let event = proto::DeliveryEvent {
            message_id: "mine".into(),
            provider_message_id: "a\0b".into(),
            state: State::Opened.into(),
            ..Default::default()
        };
        let read = report(&event).expect("a report");
        assert_eq!((read.message, &read.provider_message_id[..]), (None, "a b"));
        assert_eq!(report(&proto::DeliveryEvent::default()), None);
    }

    #[test]
    fn an_empty_text_with_a_subject_can_ask_to_stop() {
        let words = StopWords::new(["STOP"]).expect("a word");
        let event = |subject: &str, text: &str| proto::InboundEvent {
            subject: subject.into(),
            text: text.into(),
            sender: Some(proto::Party {
                address: "+49 151 / 23456789".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let read = |subject, text| message("sms", &event(subject, text), &words);
        assert!(read("Stop!", " \n").asks_to_stop);
        assert!(read("Re: Angebot", "stop\u{0}").asks_to_stop);
        assert!(!read("Stop", "Bitte nicht").asks_to_stop);
        assert_eq!(read("", "a\0b\nc").text, "ab\nc");
        assert_eq!(read("", "").sender, "+4915123456789");
        let mail = |text| message("mail", &event("Re: Angebot", text), &words);
        assert!(mail("Stop.\n\nAm 22.11. schrieb Stadtwerk:\n> Guten Tag").asks_to_stop);
        assert!(!mail("Bitte nicht.\n\nStop").asks_to_stop);
    }

    #[test]
    fn numbers_of_networks_are_international() {
        for number in ["4915123456789", "004915123456789", "+4915123456789"] {
            assert_eq!(address("sms", number), "+4915123456789", "{number}");
        }
        assert_eq!(address("sms", "80808"), "80808");
        assert_eq!(address("sms", "Stadtwerk"), "Stadtwerk");
    }
}
