use proptest::prelude::*;
use rusmpp::pdus::{DeliverSm, SubmitSmResp};
use rusmpp::tlvs::MessageDeliveryRequestTlvValue as Sent;
use rusmpp::values::MessageState;
use tokio_util::codec::Decoder;

use super::*;

/// Reads a PDU of ours by rusmpp.
fn by_rusmpp(frame: &Bytes) -> Command {
    let mut frame = BytesMut::from(&frame[..]);
    let command = CommandCodec::new().decode(&mut frame);
    command.expect("readable").expect("complete")
}

fn delivered(deliver: DeliverSm) -> Deliver {
    let frame = written(7, CommandStatus::EsmeRok, deliver);
    match read(&frame) {
        Some(Incoming::Deliver(7, deliver)) => deliver,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn what_rusmpp_writes_is_read(
        source in "[0-9]{0,20}",
        destination in "[A-Za-z0-9]{0,20}",
        class in any::<u8>(),
        coding in any::<u8>(),
        message in prop::collection::vec(any::<u8>(), 1..=255),
        receipt in prop::option::of(("[0-9a-zA-Z-]{1,64}", 0_u8..10)),
        payload in prop::option::of(prop::collection::vec(any::<u8>(), 1..=3000)),
    ) {
        // One or the other, says the standard.
        let message = if payload.is_some() { Vec::new() } else { message };
        let mut optional = Vec::new();
        if let Some((id, state)) = &receipt {
            optional.push(Sent::ReceiptedMessageId(short(id)));
            optional.push(Sent::MessageState(MessageState::from(*state)));
        }
        if let Some(payload) = &payload {
            optional.push(Sent::MessagePayload(MessagePayload::new(AnyOctetString::from_slice(payload))));
        }
        let found = delivered(
            DeliverSm::builder()
                .source_addr_ton(Ton::International)
                .source_addr(short(&source))
                .dest_addr_ton(Ton::Alphanumeric)
                .destination_addr(short(&destination))
                .esm_class(EsmClass::from(class))
                .data_coding(DataCoding::from(coding))
                .short_message(OctetString::from_slice(&message).expect("short"))
                .tlvs(optional)
                .build(),
        );
        prop_assert_eq!((found.source_ton, found.destination_ton), (1, 5));
        prop_assert_eq!(found.source, source);
        prop_assert_eq!(found.destination, destination);
        prop_assert_eq!((found.esm_class, found.data_coding), (class, coding));
        prop_assert_eq!(found.message, payload.unwrap_or(message));
        let (id, state) = receipt.unzip();
        prop_assert_eq!((found.receipted_message_id, found.message_state), (id, state));
    }

    #[test]
    fn nothing_that_comes_does_harm(frame in prop::collection::vec(any::<u8>(), 0..400), command in 0_u32..0x200) {
        read(&frame);
        let mut frame = frame;
        if frame.len() >= 8 {
            frame[4..8].copy_from_slice(&command.to_be_bytes());
            read(&frame);
        }
    }
}

#[test]
fn a_receipt_is_read_although_an_optional_parameter_is_broken() {
    let deliver = DeliverSm::builder()
        .esm_class(EsmClass::from(4))
        .short_message(OctetString::from_slice(b"id:1 stat:DELIVRD").expect("short"))
        .build();
    let mut frame = written(7, CommandStatus::EsmeRok, deliver).to_vec();
    // The id without its end, then a parameter that is cut off.
    frame.extend([
        0x00, 0x1E, 0x00, 0x03, b'a', b'b', b'c', 0x04, 0x27, 0x00, 0x05, 2,
    ]);
    let length = u32::try_from(frame.len()).expect("short");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    assert!(
        CommandCodec::new()
            .decode(&mut BytesMut::from(&frame[..]))
            .is_err()
    );
    match read(&frame) {
        Some(Incoming::Deliver(7, deliver)) => {
            assert_eq!(deliver.receipted_message_id.as_deref(), Some("abc"));
            assert_eq!(deliver.message, b"id:1 stat:DELIVRD");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_are_read_with_and_without_a_body() {
    let taken = SubmitSmResp::builder().message_id(short("m-1")).build();
    let frame = written(3, CommandStatus::EsmeRok, taken);
    let answer = |status, message_id: &str, is_nack| {
        let message_id = message_id.to_owned();
        Some(Incoming::Answer(
            3,
            Answer {
                status,
                message_id,
                is_nack,
            },
        ))
    };
    assert_eq!(read(&frame), answer(CommandStatus::EsmeRok, "m-1", false));
    let mut unfinished = frame.to_vec();
    unfinished.pop();
    assert_eq!(
        read(&unfinished),
        answer(CommandStatus::EsmeRok, "m-1", false)
    );
    let mut refusal = frame[..HEADER].to_vec();
    refusal[11] = 0x58;
    assert_eq!(
        read(&refusal),
        answer(CommandStatus::EsmeRthrottled, "", false)
    );
    let nack = nack(3, CommandStatus::EsmeRinvcmdid);
    assert_eq!(read(&nack), answer(CommandStatus::EsmeRinvcmdid, "", true));
}

#[test]
fn requests_that_are_not_for_us_are_refused() {
    let submit = written(9, CommandStatus::EsmeRok, SubmitSm::default());
    assert_eq!(
        read(&submit),
        Some(Incoming::Refused(9, CommandStatus::EsmeRinvcmdid))
    );
    let mut deliver = written(9, CommandStatus::EsmeRok, DeliverSm::default()).to_vec();
    deliver.truncate(20);
    assert_eq!(
        read(&deliver),
        Some(Incoming::Refused(9, CommandStatus::EsmeRinvcmdlen))
    );
    assert_eq!(read(&deliver[..12]), None);
}

async fn settings(change: &str) -> Settings {
    let json = format!(
        r#"{{"host": "localhost", "tls": "none", "system_id": "u", "password": "p" {change}}}"#
    );
    let config: super::super::config::SmppConfig =
        serde_json::from_str(&json).expect("a configuration");
    config.resolve().await.expect("works")
}

fn submission<'m>(
    source: &'m Source,
    octets: &'m [u8],
    part: Option<Part>,
    how: LongMessages,
) -> Submission<'m> {
    Submission {
        source,
        destination: "491711234567",
        alphabet: Alphabet::Ucs2,
        octets,
        part,
        how,
    }
}

fn submitted(frame: &Bytes) -> SubmitSm {
    match by_rusmpp(frame).pdu() {
        Some(Pdu::SubmitSm(submit)) => submit.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_submission_says_what_was_meant() {
    let settings = settings(r#", "validity_minutes": 1501, "service_type": "CMT""#).await;
    let source = Source::read("Stadtwerk").expect("a sender");
    let part = Some(Part {
        reference: 200,
        total: 3,
        number: 2,
    });

    let plain =
        submitted(&submission(&source, b"\0a", None, LongMessages::Udh).frame(&settings, 5));
    assert_eq!(
        (
            u8::from(plain.source_addr_ton),
            u8::from(plain.source_addr_npi)
        ),
        (5, 0)
    );
    assert_eq!(
        (u8::from(plain.dest_addr_ton), u8::from(plain.dest_addr_npi)),
        (1, 1)
    );
    assert_eq!(plain.source_addr.as_str(), "Stadtwerk");
    assert_eq!(plain.destination_addr.as_str(), "491711234567");
    assert_eq!(
        (u8::from(plain.esm_class), u8::from(plain.data_coding)),
        (0, 8)
    );
    assert_eq!(u8::from(plain.registered_delivery), 1);
    assert_eq!(plain.validity_period.as_str(), "000001010100000R");
    assert_eq!(plain.short_message().as_ref(), b"\0a");

    let udh = submitted(&submission(&source, b"\0a", part, LongMessages::Udh).frame(&settings, 5));
    assert_eq!(u8::from(udh.esm_class), 0x40);
    assert_eq!(udh.short_message().as_ref(), [5, 0, 3, 200, 3, 2, 0, b'a']);

    let sar = submitted(&submission(&source, b"\0a", part, LongMessages::Sar).frame(&settings, 5));
    assert_eq!((u8::from(sar.esm_class), sar.tlvs().len()), (0, 3));
    assert_eq!(sar.short_message().as_ref(), b"\0a");

    let long = [0, b'a'].repeat(500);
    let payload =
        submitted(&submission(&source, &long, None, LongMessages::Payload).frame(&settings, 5));
    assert_eq!(
        (payload.sm_length(), payload.tlvs()[0].value_length()),
        (0, 1000)
    );
}

#[tokio::test]
async fn binds_carry_the_account() {
    let settings = settings(r#", "system_type": "out""#).await;
    for (role, id) in [
        (Role::Transceiver, CommandId::BindTransceiver),
        (Role::Transmitter, CommandId::BindTransmitter),
        (Role::Receiver, CommandId::BindReceiver),
    ] {
        let command = by_rusmpp(&bind(&settings, role, 1));
        assert_eq!((command.id(), command.sequence_number()), (id, 1));
    }
}

#[test]
fn statuses_have_the_names_of_the_manuals() {
    assert_eq!(
        status_name(CommandStatus::EsmeRthrottled),
        "ESME_RTHROTTLED"
    );
    assert_eq!(status_name(CommandStatus::from(0x0B)), "ESME_RINVDSTADR");
    assert_eq!(status_name(CommandStatus::from(0x45)), "ESME_RSUBMITFAIL");
    assert_eq!(status_name(CommandStatus::from(0x40A)), "0x0000040A");
}
