//! The PDUs of SMPP 3.4 that an account uses.
//!
//! What we say is built and written by rusmpp. What we hear is read here: rusmpp refuses a whole
//! PDU for one optional parameter that is not as the standard says, such as a
//! `receipted_message_id` without its end, and there are centres that write such. A receipt lost for
//! that would be lost for good. So only what is used is read, and the rest may be as it likes; the
//! tests compare both readers on what rusmpp can write.

use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use rusmpp::pdus::{BindReceiver, BindTransceiver, BindTransmitter, DeliverSmResp, SubmitSm};
use rusmpp::tlvs::MessageSubmissionRequestTlvValue as Optional;
use rusmpp::tokio_codec::CommandCodec;
use rusmpp::types::{AnyOctetString, COctetString, EmptyOrFullCOctetString, OctetString};
use rusmpp::values::{
    DataCoding, EsmClass, InterfaceVersion, MessagePayload, Npi, RegisteredDelivery, ServiceType,
    Ton,
};
use rusmpp::{Command, CommandId, CommandStatus, Pdu};
use secrecy::ExposeSecret;
use tokio_util::codec::Encoder;

use super::config::{LongMessages, Settings};
use crate::address::{Kind, RECIPIENT, Source};
use crate::text::Alphabet;

/// Octets of a PDU's header.
#[cfg(test)]
pub(crate) const HEADER: usize = 16;
/// Longest PDU that is read: a message of 64 KiB and what belongs to it.
pub(crate) const LONGEST: usize = 128 * 1024;

/// Bit of a command that is an answer.
const IS_ANSWER: u32 = 0x8000_0000;
/// Bit of the class of a message that has a user data header.
pub(crate) const HAS_HEADER: u8 = 0x40;

/// Data coding of the GSM alphabet, the centre's default.
const GSM7: u8 = 0;
/// Data coding of UCS-2.
const UCS2: u8 = 8;

/// What came from the centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The answer to our request of this number.
    Answer(u32, Answer),
    /// A receipt, or a message that somebody sent.
    Deliver(u32, Deliver),
    /// The question whether we are there.
    EnquireLink(u32),
    /// The centre takes its leave.
    Unbind(u32),
    /// A request that is not for us or cannot be read, and this is what it is answered with.
    Refused(u32, CommandStatus),
    /// Something that wants no answer.
    Notice,
}

/// An answer of the centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: CommandStatus,
    /// The centre's id of a message that it took.
    pub(crate) message_id: String,
    /// Whether it is a generic_nack: our request could not be read.
    pub(crate) is_nack: bool,
}

/// The content of a deliver_sm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deliver {
    pub(crate) source_ton: u8,
    pub(crate) source: String,
    pub(crate) destination_ton: u8,
    pub(crate) destination: String,
    pub(crate) esm_class: u8,
    pub(crate) data_coding: u8,
    /// Of the short message or of the optional message_payload.
    pub(crate) message: Vec<u8>,
    pub(crate) receipted_message_id: Option<String>,
    pub(crate) message_state: Option<u8>,
    /// Reference, total and number of the segment, from the optional parameters.
    pub(crate) segment: (Option<u16>, Option<u8>, Option<u8>),
}

/// Reads a whole PDU; `None` if it has not even a header.
pub(crate) fn read(frame: &[u8]) -> Option<Incoming> {
    let mut reader = Reader(frame);
    let (_length, command) = (reader.u32()?, reader.u32()?);
    let (status, sequence) = (CommandStatus::from(reader.u32()?), reader.u32()?);
    if command & IS_ANSWER != 0 {
        return Some(Incoming::Answer(
            sequence,
            Answer {
                status,
                message_id: reader.text().unwrap_or_default(),
                is_nack: CommandId::from(command) == CommandId::GenericNack,
            },
        ));
    }
    Some(match CommandId::from(command) {
        CommandId::DeliverSm => match reader.deliver() {
            Some(deliver) => Incoming::Deliver(sequence, deliver),
            None => Incoming::Refused(sequence, CommandStatus::EsmeRinvcmdlen),
        },
        CommandId::EnquireLink => Incoming::EnquireLink(sequence),
        CommandId::Unbind => Incoming::Unbind(sequence),
        CommandId::AlertNotification | CommandId::Outbind => Incoming::Notice,
        _ => Incoming::Refused(sequence, CommandStatus::EsmeRinvcmdid),
    })
}

/// What is left to be read of a PDU.
struct Reader<'f>(&'f [u8]);

impl<'f> Reader<'f> {
    fn take(&mut self, count: usize) -> Option<&'f [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    fn u32(&mut self) -> Option<u32> {
        let octets = self.take(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(octets))
    }

    /// A text up to its end, which a NUL marks or the end of the PDU.
    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|octet| *octet == 0);
        let text = self.take(end.unwrap_or(self.0.len()))?;
        self.take(1);
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn deliver(&mut self) -> Option<Deliver> {
        let _service_type = self.text()?;
        let (source_ton, _npi, source) = (self.u8()?, self.u8()?, self.text()?);
        let (destination_ton, _npi, destination) = (self.u8()?, self.u8()?, self.text()?);
        let (esm_class, _protocol, _priority) = (self.u8()?, self.u8()?, self.u8()?);
        let (_schedule, _validity) = (self.text()?, self.text()?);
        let (_registered, _replace) = (self.u8()?, self.u8()?);
        let (data_coding, _default_message) = (self.u8()?, self.u8()?);
        let length = self.u8()?;
        let mut deliver = Deliver {
            source_ton,
            source,
            destination_ton,
            destination,
            esm_class,
            data_coding,
            message: self.take(length.into())?.to_vec(),
            ..Deliver::default()
        };
        // A broken optional parameter ends them; what came before counts.
        while let Some(()) = self.optional(&mut deliver) {}
        Some(deliver)
    }

    fn optional(&mut self, deliver: &mut Deliver) -> Option<()> {
        let (tag, length) = (self.u16()?, self.u16()?);
        let mut value = Reader(self.take(length.into())?);
        match tag {
            0x001E => deliver.receipted_message_id = value.text().filter(|id| !id.is_empty()),
            0x0427 => deliver.message_state = value.u8(),
            0x0424 if deliver.message.is_empty() => deliver.message = value.0.to_vec(),
            0x020C => deliver.segment.0 = value.u16(),
            0x020E => deliver.segment.1 = value.u8(),
            0x020F => deliver.segment.2 = value.u8(),
            _ => {}
        }
        Some(())
    }

    fn u16(&mut self) -> Option<u16> {
        let octets = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(octets))
    }
}

/// One message for the centre: a text, or a segment of one.
#[derive(Debug, Clone)]
pub(crate) struct Submission<'m> {
    pub(crate) source: &'m Source,
    /// Digits, see [`crate::address::e164`].
    pub(crate) destination: &'m str,
    pub(crate) alphabet: Alphabet,
    /// Without header; at most 160 octets unless it goes as a payload.
    pub(crate) octets: &'m [u8],
    /// Which part of which text it is, if it is one.
    pub(crate) part: Option<Part>,
    pub(crate) how: LongMessages,
}

/// Which part of which text a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The same for all of a text.
    pub(crate) reference: u8,
    pub(crate) total: u8,
    /// From 1.
    pub(crate) number: u8,
}

impl Submission<'_> {
    /// The submit_sm of this number.
    pub(crate) fn frame(&self, settings: &Settings, sequence: u32) -> Bytes {
        let Kind { ton, npi } = self.source.kind;
        let mut class = 0;
        let mut message = Vec::with_capacity(6 + self.octets.len());
        let mut optional: Vec<Optional> = Vec::new();
        match (self.part, self.how) {
            (Some(part), LongMessages::Udh) => {
                class |= HAS_HEADER;
                message.extend([5, 0, 3, part.reference, part.total, part.number]);
            }
            (Some(part), LongMessages::Sar) => optional.extend([
                Optional::SarMsgRefNum(part.reference.into()),
                Optional::SarTotalSegments(part.total),
                Optional::SarSegmentSeqnum(part.number),
            ]),
            (_, LongMessages::Payload) => {
                let payload = MessagePayload::new(AnyOctetString::from_slice(self.octets));
                optional.push(Optional::MessagePayload(payload));
            }
            (None, _) => {}
        }
        if self.how != LongMessages::Payload {
            message.extend_from_slice(self.octets);
        }
        let coding = match self.alphabet {
            Alphabet::Gsm7 => GSM7,
            Alphabet::Ucs2 => UCS2,
        };
        let submit = SubmitSm::builder()
            .service_type(ServiceType::new(short(&settings.service_type)))
            .source_addr_ton(Ton::from(settings.source_ton.unwrap_or(ton)))
            .source_addr_npi(Npi::from(settings.source_npi.unwrap_or(npi)))
            .source_addr(short(&self.source.address))
            .dest_addr_ton(Ton::from(RECIPIENT.ton))
            .dest_addr_npi(Npi::from(RECIPIENT.npi))
            .destination_addr(short(self.destination))
            // Not rusmpp's default, which is a delivery acknowledgement.
            .esm_class(EsmClass::from(class))
            .validity_period(validity(settings.validity_minutes))
            .registered_delivery(RegisteredDelivery::from(u8::from(settings.receipts)))
            .data_coding(DataCoding::from(coding))
            .short_message(
                OctetString::from_slice(&message).expect("a segment has at most 160 octets"),
            )
            .tlvs(optional)
            .build();
        written(sequence, CommandStatus::EsmeRok, submit)
    }
}

/// How long the centre tries, relative to now: `YYMMDDhhmmss000R`.
fn validity(minutes: Option<u32>) -> EmptyOrFullCOctetString<17> {
    let Some(minutes) = minutes else {
        return EmptyOrFullCOctetString::empty();
    };
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    // A year has 365 days, a month 30: centres do not agree on it, so days carry what they can.
    let (years, days) = (days / 365, days % 365);
    let (months, days) = if days < 100 {
        (0, days)
    } else {
        (days / 30, days % 30)
    };
    let text = format!("{years:02}{months:02}{days:02}{hours:02}{minutes:02}00000R");
    EmptyOrFullCOctetString::from_str(&text).expect("has 16 characters")
}

/// Which sort of session is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Transceiver,
    Transmitter,
    Receiver,
}

/// The bind of this number.
pub(crate) fn bind(settings: &Settings, role: Role, sequence: u32) -> Bytes {
    macro_rules! bind {
        ($bind:ident) => {
            Pdu::from(
                $bind::builder()
                    .system_id(short(&settings.system_id))
                    .password(short(settings.password.expose_secret()))
                    .system_type(short(&settings.system_type))
                    .interface_version(InterfaceVersion::Smpp3_4)
                    .address_range(short(&settings.address_range))
                    .build(),
            )
        };
    }
    let bind = match role {
        Role::Transceiver => bind!(BindTransceiver),
        Role::Transmitter => bind!(BindTransmitter),
        Role::Receiver => bind!(BindReceiver),
    };
    written(sequence, CommandStatus::EsmeRok, bind)
}

/// The question whether the centre is there.
pub(crate) fn enquire_link(sequence: u32) -> Bytes {
    written(sequence, CommandStatus::EsmeRok, Pdu::EnquireLink)
}

/// That we are there.
pub(crate) fn enquire_link_answer(sequence: u32) -> Bytes {
    written(sequence, CommandStatus::EsmeRok, Pdu::EnquireLinkResp)
}

/// Our leave.
pub(crate) fn unbind(sequence: u32) -> Bytes {
    written(sequence, CommandStatus::EsmeRok, Pdu::Unbind)
}

/// The answer to the centre's leave.
pub(crate) fn unbind_answer(sequence: u32) -> Bytes {
    written(sequence, CommandStatus::EsmeRok, Pdu::UnbindResp)
}

/// The answer to a deliver_sm.
pub(crate) fn deliver_answer(sequence: u32, status: CommandStatus) -> Bytes {
    written(sequence, status, DeliverSmResp::default())
}

/// The answer to what is not understood.
pub(crate) fn nack(sequence: u32, status: CommandStatus) -> Bytes {
    written(sequence, status, Pdu::GenericNack)
}

fn short<const MAX: usize>(text: &str) -> COctetString<1, MAX> {
    COctetString::from_str(text)
        .expect("configuration and addresses are checked for length and ASCII")
}

fn written(sequence: u32, status: CommandStatus, pdu: impl Into<Pdu>) -> Bytes {
    let mut frame = BytesMut::new();
    let command = Command::builder()
        .status(status)
        .sequence_number(sequence)
        .pdu(pdu);
    CommandCodec::new()
        .encode(&command, &mut frame)
        .expect("memory can be written to");
    frame.freeze()
}

/// The name of a status, as centres' manuals have it: `ESME_RTHROTTLED`; its number if it has none.
pub(crate) fn status_name(status: CommandStatus) -> String {
    match status {
        CommandStatus::Other(number) => format!("0x{number:08X}"),
        named => {
            let name = format!("{named:?}").to_uppercase();
            format!("ESME_{}", name.trim_start_matches("ESME"))
        }
    }
}

#[cfg(test)]
mod tests;
