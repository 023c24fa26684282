//! What nobody would send: requests made and bent at random, at every method; files to import (`imports`), messages as
//! gRPC frames them (`framing`) and whole connections (`connections`). Whatever comes, the server says what is wrong
//! with it, and goes on.
//!
//! A short and always the same series of each runs with all tests. For as long as wanted, and other ones:
//! `ANKLANG_TEST_GARBAGE_SECONDS=600 ANKLANG_TEST_SEED=7 cargo test -p anklang-e2e -- garbage`

mod connections;
mod framing;
mod imports;
mod series;

use std::collections::HashMap;
use std::time::Duration;

use anklang_testkit::TestServer;
use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor,
    ReflectMessage, Value,
};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Status};

use self::series::Series;
use crate::raw::{self, Raw};
use crate::world::{named, new_channels, populate};

/// Requests in the short series.
const FEW: usize = 2_000;
/// Messages in messages, at most.
const DEPTH: usize = 4;
/// An answer takes no longer; streams may have nothing to say for as long as they like.
const ANSWER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_millis(200);

/// What gRPC itself says of what is no message, or of none that it can unpack.
const OF_GRPC: [&str; 5] = [
    "failed to decode Protobuf message",
    "Error decompressing",
    "protocol error: received message",
    "Unexpected EOF decoding stream",
    "Missing request message",
];

/// Texts that are wrong in one way or another, or right for something else.
const TEXTS: [&str; 40] = [
    "",
    " ",
    "\0",
    "a\0b",
    "\u{feff}",
    "\u{202e}abc",
    "🦀🦀🦀",
    "ß",
    "-1",
    "0",
    "99999999999999999999999999",
    "1e400",
    "NaN",
    "null",
    "true",
    "*",
    "%",
    "_",
    "\\",
    "'",
    "\"",
    "'; DROP TABLE customer; --",
    "{{x}}",
    "{% for i in range(1000000000) %}x{% endfor %}",
    "../../../../etc/passwd",
    "https://127.0.0.1:1/",
    "http://[::1",
    "a@b@c",
    "+49 30 1234567",
    "2025-02-30",
    "9999-12-31T23:59:60Z",
    "Europe/Atlantis",
    "FREQ=SECONDLY;COUNT=999999999",
    "customers/-",
    "customers/K0001",
    "contracts/V0001/offers/1",
    "users/anna",
    "00000000-0000-0000-0000-000000000000",
    "state = \"OPEN\" AND (create_time > \"x\" OR NOT a.b:*)",
    "create_time desc, name, name",
];

/// Texts out of requests that were right, and those of [`TEXTS`].
struct Words {
    seen: Vec<String>,
}

impl Words {
    fn any(&self, rng: &mut ChaCha8Rng) -> String {
        match rng.random_range(0..20) {
            0 => "x".repeat(rng.random_range(1..200_000)),
            1 => "(".repeat(rng.random_range(1..5_000)),
            2 => {
                let all = 0..rng.random_range(1..40);
                all.map(|_| rng.random::<char>()).collect()
            }
            3..=9 => self.seen.choose(rng).cloned().unwrap_or_default(),
            10..=12 => {
                let mut text: Vec<char> = self
                    .seen
                    .choose(rng)
                    .map(|t| t.chars().collect())
                    .unwrap_or_default();
                if !text.is_empty() {
                    let at = rng.random_range(0..text.len());
                    text[at] = rng.random();
                }
                text.into_iter().collect()
            }
            _ => TEXTS.choose(rng).copied().unwrap_or_default().to_owned(),
        }
    }
}

/// A number as one finds it at the ends of ranges.
fn number(rng: &mut ChaCha8Rng) -> i64 {
    let edges = [
        0,
        1,
        -1,
        2,
        100,
        1_000,
        i64::from(i32::MAX),
        i64::from(i32::MIN),
        i64::MAX,
        i64::MIN,
        253_402_300_800,
        -62_135_596_801,
        999_999_999,
        1_000_000_000,
    ];
    match rng.random_range(0..3) {
        0 => rng.random(),
        1 => rng.random_range(-10..10_000),
        _ => *edges.choose(rng).unwrap(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "any number is good"
)]
fn value(kind: &Kind, depth: usize, words: &Words, rng: &mut ChaCha8Rng) -> Value {
    let float = |rng: &mut ChaCha8Rng| {
        let edges = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            1e308,
            5e-324,
            0.5,
        ];
        match rng.random_range(0..2) {
            0 => *edges.choose(rng).unwrap(),
            _ => number(rng) as f64 / 7.0,
        }
    };
    match kind {
        Kind::Bool => Value::Bool(rng.random()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number(rng) as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number(rng)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number(rng) as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number(rng) as u64),
        Kind::Float => Value::F32(float(rng) as f32),
        Kind::Double => Value::F64(float(rng)),
        Kind::String => Value::String(words.any(rng)),
        Kind::Bytes => {
            let length = rng.random_range(0..200);
            Value::Bytes((0..length).map(|_| rng.random::<u8>()).collect())
        }
        Kind::Enum(of) => {
            let known: Vec<i32> = of.values().map(|v| v.number()).collect();
            Value::EnumNumber(match rng.random_range(0..5) {
                0 => number(rng) as i32,
                _ => *known.choose(rng).unwrap(),
            })
        }
        Kind::Message(of) => Value::Message(message(of, depth + 1, words, rng)),
    }
}

fn field_value(
    field: &FieldDescriptor,
    depth: usize,
    words: &Words,
    rng: &mut ChaCha8Rng,
) -> Value {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            return Value::Map(HashMap::new());
        };
        let kind = entry.map_entry_value_field().kind();
        let one = |rng: &mut ChaCha8Rng| {
            (
                MapKey::String(words.any(rng)),
                value(&kind, depth, words, rng),
            )
        };
        return Value::Map((0..rng.random_range(0..3)).map(|_| one(rng)).collect());
    }
    if field.is_list() {
        // Now and then very many.
        let length = match (rng.random_range(0..100), field.kind()) {
            (0, Kind::Message(_)) => 300,
            (0, _) => 20_000,
            _ => rng.random_range(0..4),
        };
        let kind = field.kind();
        return Value::List(
            (0..length)
                .map(|_| value(&kind, depth, words, rng))
                .collect(),
        );
    }
    value(&field.kind(), depth, words, rng)
}

/// A message of which some fields are set, to whatever.
fn message(
    of: &MessageDescriptor,
    depth: usize,
    words: &Words,
    rng: &mut ChaCha8Rng,
) -> DynamicMessage {
    let mut made = DynamicMessage::new(of.clone());
    for field in of.fields() {
        let deep = depth >= DEPTH && matches!(field.kind(), Kind::Message(_));
        if !deep && rng.random_bool(0.5) {
            made.set_field(&field, field_value(&field, depth, words, rng));
        }
    }
    made
}

/// Sets one field of a message, or of one in it, to whatever.
fn bend(message: &mut DynamicMessage, words: &Words, rng: &mut ChaCha8Rng) {
    let fields: Vec<FieldDescriptor> = message.descriptor().fields().collect();
    let Some(field) = fields.choose(rng) else {
        return;
    };
    let single = matches!(field.kind(), Kind::Message(_)) && !field.is_list() && !field.is_map();
    if single
        && message.has_field(field)
        && rng.random_bool(0.8)
        && let Some(inner) = message.get_field_mut(field).as_message_mut()
    {
        return bend(inner, words, rng);
    }
    message.set_field(field, field_value(field, 1, words, rng));
}

/// Flips, drops, doubles bytes, or cuts off the end.
fn scramble(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..4) {
            0 => bytes.insert(at, rng.random()),
            1 => bytes.truncate(at),
            _ if at == bytes.len() => {}
            2 => bytes[at] = rng.random(),
            _ => {
                bytes.remove(at);
            }
        }
    }
}

/// Texts in a request, which are names of what there is.
fn texts(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone()),
        serde_json::Value::Array(values) => values.iter().for_each(|v| texts(v, into)),
        serde_json::Value::Object(values) => values.values().for_each(|v| texts(v, into)),
        _ => {}
    }
}

/// Why a refusal is none that a client should get.
fn fault(status: &Status) -> Option<String> {
    match status.code() {
        Code::Internal if OF_GRPC.iter().any(|says| status.message().contains(says)) => None,
        Code::Internal | Code::Unknown | Code::Unavailable | Code::DataLoss => {
            Some(format!("{status:?}"))
        }
        _ => None,
    }
}

/// A server that has seen all of it is as before.
async fn is_well(server: &TestServer, raw: &Raw, faults: &[String]) {
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let brand = json!({"brand": {"code": "danach", "displayName": "Danach", "senderEmail": "a@b.example"},
                       "allowMissing": true});
    let method = "anklang.brands.v1.BrandService/UpdateBrand";
    raw.call(Some("linden"), method, &brand).await.unwrap();
}

#[tokio::test]
async fn whatever_comes_is_answered() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;

    let mut requests: HashMap<String, Vec<serde_json::Value>> = HashMap::new();
    for (method, request) in named(&world).into_iter().chain(new_channels()) {
        requests.entry(method.to_owned()).or_default().push(request);
    }
    let mut words = Words { seen: Vec::new() };
    for request in requests.values().flatten() {
        texts(request, &mut words.seen);
    }
    words.seen.sort();
    words.seen.dedup();
    let methods: Vec<MethodDescriptor> = raw::methods().collect();

    let mut faults = Vec::new();
    let mut series = Series::of(FEW);
    for n in 0.. {
        if !series.has(n) {
            break;
        }
        let rng = &mut series.rng;
        let method = methods.choose(rng).unwrap();
        let good = requests
            .get(&raw::path(method))
            .and_then(|good| good.choose(rng))
            .cloned()
            .unwrap_or_else(|| json!({}));
        let mut request = DynamicMessage::deserialize(method.input(), &good).unwrap();
        match rng.random_range(0..10) {
            0 | 1 => request = message(&method.input(), 0, &words, rng),
            _ => {
                for _ in 0..rng.random_range(1..4) {
                    bend(&mut request, &words, rng);
                }
            }
        }
        let mut bytes = request.encode_to_vec();
        if rng.random_range(0..6) == 0 {
            scramble(&mut bytes, rng);
        }
        let streams = method.is_server_streaming();
        let call = raw.send(Some("linden"), method, Bytes::from(bytes));
        let answer = timeout(if streams { SILENCE } else { ANSWER }, call).await;
        let fault = match &answer {
            Ok(answer) => answer.as_ref().err().and_then(fault),
            Err(_) if streams => None,
            Err(_) => Some(format!("no answer within {ANSWER:?}")),
        };
        if let Some(fault) = fault {
            let mut shown = serde_json::to_string(&request).unwrap_or_else(|e| e.to_string());
            shown.truncate(shown.floor_char_boundary(2_000));
            faults.push(format!("{n}: {}\n  {shown}\n  {fault}", raw::path(method)));
        }
    }
    is_well(&server, &raw, &faults).await;
}
