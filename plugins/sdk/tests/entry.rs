//! The exported functions as a foreign host sees them: sizes, null pointers, stale instances.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "plays the host of a C interface")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{CancelRequest, Manifest, SendReply, SendRequest};
use anklang_plugin_sdk::{Channel, Host, Message, OpenError, Outcome, export_channel};
use prost::Message as _;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Config {
    #[expect(dead_code, reason = "only its type matters")]
    port: u16,
}

/// Waits for as long as the first attempt number says, in milliseconds.
struct Slow;

impl Channel for Slow {
    type Config = Config;
    const ID: &'static str = "slow";
    const CHANNEL: &'static str = "testing";
    const VERSION: &'static str = "1.0.0";
    const MAX_CALLS_IN_FLIGHT: u32 = 2;

    async fn open(_: Config, _: Host) -> Result<Self, OpenError> {
        Ok(Self)
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let pause = batch.first().map_or(0, |m| m.attempt);
        tokio::time::sleep(Duration::from_millis(pause.into())).await;
        vec![Outcome::transient("", ""); batch.len()]
    }
}

export_channel!(Slow);

type Completions = Mutex<HashMap<u64, Vec<(AnkStatus, Vec<u8>)>>>;

unsafe extern "C" fn complete(ctx: *mut c_void, call_id: u64, status: AnkStatus, reply: AnkBytes) {
    // SAFETY: the context of `Fake`, which is leaked; the reply is lent for this call.
    let (completions, reply) = unsafe { (&*ctx.cast::<Completions>(), reply.read().unwrap()) };
    let mut completions = completions.lock().unwrap();
    let of_call = completions.entry(call_id).or_default();
    of_call.push((status, reply.to_vec()));
}

unsafe extern "C" fn event(_: *mut c_void, _: u64, _: u32, _: AnkBytes) -> AnkStatus {
    ANK_OK
}

/// A host with one plugin table.
struct Fake {
    host: &'static AnkHost,
    plugin: AnkPlugin,
    completions: &'static Completions,
}

impl Fake {
    fn new() -> Self {
        let completions: &'static mut Completions = Box::leak(Box::default());
        let host: &'static AnkHost = Box::leak(Box::new(AnkHost {
            size: size_of::<AnkHost>() as u32,
            abi_major: 1,
            abi_minor: 0,
            ctx: std::ptr::from_mut(completions).cast(),
            complete: Some(complete),
            event: Some(event),
        }));
        let mut plugin = empty(size_of::<AnkPlugin>());
        // SAFETY: both tables have their sizes set.
        let status = unsafe { anklang_plugin_init_v1(host, &raw mut plugin) };
        assert_eq!(status, ANK_OK);
        // SAFETY: leaked, and shared from here on.
        let completions = unsafe { &*host.ctx.cast::<Completions>() };
        Self {
            host,
            plugin,
            completions,
        }
    }

    fn open(&self, call_id: u64, config: &[u8]) -> *mut AnkInst {
        let mut inst = std::ptr::null_mut();
        let open = self.plugin.open.unwrap();
        // SAFETY: everything lent lives until the function returns.
        let status = unsafe { open(self.host, 1, call_id, AnkBytes::lend(config), &raw mut inst) };
        assert_eq!(status, ANK_OK);
        inst
    }

    fn call(&self, inst: *mut AnkInst, op: u32, call_id: u64, request: &[u8]) -> AnkStatus {
        // SAFETY: the request lives until the function returns.
        unsafe { self.plugin.call.unwrap()(inst, op, call_id, AnkBytes::lend(request)) }
    }

    fn drain(&self, inst: *mut AnkInst, call_id: u64, deadline_ms: u64) -> AnkStatus {
        // SAFETY: takes numbers alone.
        unsafe { self.plugin.drain.unwrap()(inst, call_id, deadline_ms) }
    }

    fn close(&self, inst: *mut AnkInst) {
        // SAFETY: the SDK looks instances up, stale ones included.
        unsafe { self.plugin.close.unwrap()(inst) }
    }

    /// Waits for the completion of a call and asserts that it is the only one.
    fn completion(&self, call_id: u64) -> (AnkStatus, Vec<u8>) {
        let started = Instant::now();
        loop {
            if let Some(all) = self.completions.lock().unwrap().get(&call_id) {
                assert_eq!(all.len(), 1);
                return all[0].clone();
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "call {call_id} never completes"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn empty(size: usize) -> AnkPlugin {
    AnkPlugin {
        size: size as u32,
        abi_major: 0,
        abi_minor: 0,
        open: None,
        call: None,
        drain: None,
        close: None,
    }
}

/// A batch of one that takes this long.
fn request(milliseconds: u32) -> Vec<u8> {
    let message = Message {
        attempt: milliseconds,
        ..Message::default()
    };
    SendRequest {
        messages: vec![message],
        traceparent: String::new(),
    }
    .encode_to_vec()
}

#[test]
fn the_manifest_is_static_and_complete() {
    let first = anklang_plugin_manifest();
    assert_eq!(first, anklang_plugin_manifest());
    // SAFETY: static data.
    let manifest = unsafe { &*first };
    assert_eq!((manifest.magic, manifest.abi_major), (ANK_MAGIC, 1));
    assert_eq!(manifest.size as usize, size_of::<AnkManifest>());
    // SAFETY: static data.
    let manifest = Manifest::decode(unsafe { manifest.manifest.read() }.unwrap()).unwrap();
    assert_eq!(manifest.max_calls_in_flight, 2);
    let schema: serde_json::Value = serde_json::from_str(&manifest.config_json_schema).unwrap();
    assert_eq!(schema["required"][0], "port");
}

#[test]
fn tables_of_other_sizes_are_filled_as_far_as_they_go() {
    let host = Fake::new().host;
    // A shorter table of the host: nothing is written beyond its size.
    let mut short = empty(std::mem::offset_of!(AnkPlugin, drain));
    // SAFETY: the sizes are set.
    let status = unsafe { anklang_plugin_init_v1(host, &raw mut short) };
    assert_eq!(status, ANK_OK);
    assert!(short.call.is_some() && short.drain.is_none() && short.close.is_none());
    assert_eq!(short.size as usize, std::mem::offset_of!(AnkPlugin, drain));

    // A longer one: what the plugin does not know stays untouched.
    #[repr(C)]
    struct Longer {
        known: AnkPlugin,
        later: u64,
    }
    let mut longer = Longer {
        known: empty(size_of::<Longer>()),
        later: 7,
    };
    let table = (&raw mut longer).cast::<AnkPlugin>();
    // SAFETY: the sizes are set.
    assert_eq!(unsafe { anklang_plugin_init_v1(host, table) }, ANK_OK);
    assert_eq!(
        (longer.known.size as usize, longer.later),
        (size_of::<AnkPlugin>(), 7)
    );

    // A host without the functions is refused.
    let mut shorter = *host;
    shorter.size = std::mem::offset_of!(AnkHost, event) as u32;
    let mut table = empty(size_of::<AnkPlugin>());
    // SAFETY: the sizes are set, or the pointers null.
    unsafe {
        assert_eq!(
            anklang_plugin_init_v1(&raw const shorter, &raw mut table),
            ANK_INVALID
        );
        assert_eq!(
            anklang_plugin_init_v1(std::ptr::null(), &raw mut table),
            ANK_INVALID
        );
        assert_eq!(
            anklang_plugin_init_v1(host, std::ptr::null_mut()),
            ANK_INVALID
        );
    }
}

#[test]
fn a_config_that_does_not_fit_is_named_by_its_path() {
    let fake = Fake::new();
    fake.open(1, br#"{"port": 70000}"#);
    let (status, reason) = fake.completion(1);
    assert_eq!(status, ANK_INVALID);
    let reason = String::from_utf8(reason).unwrap();
    assert!(reason.starts_with("port: expected u16"), "{reason}");
    assert!(!reason.contains("70000"), "{reason}");
    let inst = fake.open(2, b"{");
    assert_eq!(fake.completion(2).0, ANK_INVALID);
    assert_eq!(fake.call(inst, ANK_OP_HEALTH, 3, &[]), ANK_CLOSED);
}

#[test]
fn calls_are_bounded_cancelled_and_refused() {
    let fake = Fake::new();
    let inst = fake.open(1, br#"{"port": 1}"#);
    assert_eq!(fake.completion(1).0, ANK_OK);
    assert_eq!(fake.call(inst, ANK_OP_SEND, 2, &request(60_000)), ANK_OK);
    assert_eq!(
        fake.call(inst, ANK_OP_SEND, 2, &request(0)),
        ANK_INVALID,
        "the id is in use"
    );
    assert_eq!(fake.call(inst, ANK_OP_SEND, 3, &request(60_000)), ANK_OK);
    assert_eq!(fake.call(inst, ANK_OP_SEND, 4, &request(0)), ANK_BUSY);
    assert_eq!(fake.call(inst, ANK_OP_SEND, 5, &[0xff]), ANK_INVALID);
    for unsupported in [0, ANK_OP_LOOKUP, ANK_OP_CALLBACK, 7, u32::MAX] {
        assert_eq!(fake.call(inst, unsupported, 6, &[]), ANK_UNSUPPORTED);
    }
    let cancel = CancelRequest { call_id: 2 }.encode_to_vec();
    assert_eq!(fake.call(inst, ANK_OP_CANCEL, 7, &cancel), ANK_OK);
    assert_eq!(fake.completion(7).0, ANK_OK);
    assert_eq!(fake.completion(2).0, ANK_INTERNAL);
    assert_eq!(fake.call(inst, ANK_OP_SEND, 8, &request(0)), ANK_OK);
    let (status, reply) = fake.completion(8);
    assert_eq!(
        (status, SendReply::decode(&*reply).unwrap().outcomes.len()),
        (ANK_OK, 1)
    );

    assert_eq!(fake.drain(inst, 9, 50), ANK_OK);
    assert_eq!(fake.drain(inst, 10, 50), ANK_CLOSED);
    assert_eq!(fake.call(inst, ANK_OP_SEND, 11, &request(0)), ANK_CLOSED);
    assert_eq!(fake.completion(9).0, ANK_OK);
    assert_eq!(fake.completion(3).0, ANK_INTERNAL);
    fake.close(inst);
    // Stale instances do no harm.
    assert_eq!(fake.call(inst, ANK_OP_SEND, 12, &request(0)), ANK_CLOSED);
    assert_eq!(fake.drain(inst, 13, 0), ANK_CLOSED);
    fake.close(inst);
    assert_eq!(
        fake.call(std::ptr::null_mut(), ANK_OP_SEND, 14, &request(0)),
        ANK_CLOSED
    );
}
