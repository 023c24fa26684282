//! The functions behind the C interface: each guards against panics, finds the instance and
//! hands over to safe code.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::Manifest;
use futures::FutureExt;
use prost::Message;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::host::RawHost;
use crate::instance::{Instance, Operate};
use crate::{Channel, Host, OpenError};

/// Threads of the runtime of one plugin library. Channels wait for the network, they do not
/// compute; the second keeps the others going while one future is long.
pub const WORKER_THREADS: usize = 2;

/// Longest drain that is waited for: a year, so that no deadline overflows.
const LONGEST_DRAIN: Duration = Duration::from_secs(365 * 24 * 3600);

/// The opened instances of this library by handle. A handle is what the host holds as
/// `ank_inst *`: a number and never dereferenced, so that a stale one does no harm.
static INSTANCES: LazyLock<RwLock<HashMap<usize, Arc<dyn Operate>>>> =
    LazyLock::new(RwLock::default);
static NEXT_HANDLE: AtomicUsize = AtomicUsize::new(1);

/// The manifest of `C`, built once; null if building it panics.
pub fn manifest<C: Channel>(cell: &'static OnceLock<AnkManifest>) -> *const AnkManifest {
    let build = || {
        let manifest = Manifest {
            id: C::ID.to_owned(),
            version: C::VERSION.to_owned(),
            channel: C::CHANNEL.to_owned(),
            capabilities: C::CAPABILITIES.iter().map(|c| i32::from(*c)).collect(),
            config_json_schema: schemars::schema_for!(C::Config).as_value().to_string(),
            ambiguous_policy: C::AMBIGUOUS_POLICY.into(),
            max_batch: C::MAX_BATCH.max(1),
            max_calls_in_flight: C::MAX_CALLS_IN_FLIGHT.max(1),
        };
        AnkManifest {
            size: size_u32::<AnkManifest>(),
            abi_major: ANK_ABI_MAJOR,
            abi_minor_required: 0,
            magic: ANK_MAGIC,
            manifest: AnkBytes::lend(manifest.encode_to_vec().leak()),
        }
    };
    catch_unwind(|| std::ptr::from_ref(cell.get_or_init(build))).unwrap_or_else(|panic| {
        std::mem::forget(panic);
        std::ptr::null()
    })
}

/// Fills in the host's table with the functions of `C`.
///
/// # Safety
/// Both pointers are null or point to tables whose `size` is set.
pub unsafe fn init<C: Channel>(host: *const AnkHost, out: *mut AnkPlugin) -> AnkStatus {
    guarded(|| {
        // SAFETY: the caller's promise is handed on.
        if out.is_null() || unsafe { RawHost::copy(host) }.is_none() {
            return ANK_INVALID;
        }
        let table = AnkPlugin {
            size: size_u32::<AnkPlugin>(),
            abi_major: ANK_ABI_MAJOR,
            abi_minor: ANK_ABI_MINOR,
            open: Some(open::<C>),
            call: Some(call),
            drain: Some(drain),
            close: Some(close),
        };
        // SAFETY: not null, writable for its `size` by the caller's promise.
        unsafe { copy_out(&table, out) };
        ANK_OK
    })
}

unsafe extern "C" fn open<C: Channel>(
    host: *const AnkHost,
    inst_id: u64,
    call_id: u64,
    config: AnkBytes,
    out: *mut *mut AnkInst,
) -> AnkStatus {
    guarded(|| {
        // SAFETY: null or a table with its size, by contract.
        let raw = unsafe { RawHost::copy(host) };
        // SAFETY: lent for the duration of this call, by contract.
        let config = unsafe { config.read() };
        let (Some(raw), Some(config), false) = (raw, config, out.is_null()) else {
            return ANK_INVALID;
        };
        let Ok(runtime) = runtime(C::ID) else {
            return ANK_INTERNAL;
        };
        let handle = NEXT_HANDLE.fetch_add(1, Ordering::Relaxed);
        // SAFETY: not null, writable by contract.
        unsafe { out.write(std::ptr::without_provenance_mut(handle)) };
        let (config, host) = (config.to_vec(), Host { raw, inst_id });
        let opening = open_instance::<C>(config, host, runtime.clone());
        runtime.spawn(async move {
            let opened = AssertUnwindSafe(opening).catch_unwind().await;
            let (status, reply) = match opened {
                Ok(Ok(instance)) => {
                    instances_mut().insert(handle, instance);
                    (ANK_OK, String::new())
                }
                Ok(Err(OpenError::Invalid(reason))) => (ANK_INVALID, reason),
                Ok(Err(OpenError::Failed(reason))) => (ANK_INTERNAL, reason),
                Err(panic) => (ANK_INTERNAL, panic_text(panic)),
            };
            raw.complete(call_id, status, reply.as_bytes());
        });
        ANK_OK
    })
}

async fn open_instance<C: Channel>(
    config: Vec<u8>,
    host: Host,
    runtime: Handle,
) -> Result<Arc<dyn Operate>, OpenError> {
    let json = &mut serde_json::Deserializer::from_slice(&config);
    let config = serde_path_to_error::deserialize(json).map_err(|error| {
        let reason = without_value(&error.inner().to_string());
        OpenError::Invalid(format!("{}: {reason}", error.path()))
    })?;
    let channel = C::open(config, host.clone()).await?;
    Ok(Instance::new(channel, host, runtime))
}

/// serde quotes the offending value, which may be a secret: keep what was expected.
fn without_value(reason: &str) -> String {
    match reason.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => reason.to_owned(),
    }
}

unsafe extern "C" fn call(
    inst: *mut AnkInst,
    op: u32,
    call_id: u64,
    request: AnkBytes,
) -> AnkStatus {
    guarded(|| {
        let Some(instance) = find(inst) else {
            return ANK_CLOSED;
        };
        // SAFETY: lent for the duration of this call, by contract.
        match unsafe { request.read() } {
            Some(request) => instance.call(op, call_id, request),
            None => ANK_INVALID,
        }
    })
}

unsafe extern "C" fn drain(inst: *mut AnkInst, call_id: u64, deadline_ms: u64) -> AnkStatus {
    let patience = Duration::from_millis(deadline_ms).min(LONGEST_DRAIN);
    guarded(|| find(inst).map_or(ANK_CLOSED, |instance| instance.drain(call_id, patience)))
}

unsafe extern "C" fn close(inst: *mut AnkInst) {
    guarded(|| {
        let instance = instances_mut().remove(&inst.addr());
        // Sockets and timers of the channel are dropped with the runtime at hand.
        let entered = RUNTIME
            .get()
            .and_then(|r| r.as_ref().ok())
            .map(Runtime::enter);
        drop(instance);
        drop(entered);
        ANK_OK
    });
}

fn find(inst: *mut AnkInst) -> Option<Arc<dyn Operate>> {
    let instances = INSTANCES.read().unwrap_or_else(PoisonError::into_inner);
    instances.get(&inst.addr()).cloned()
}

fn instances_mut() -> std::sync::RwLockWriteGuard<'static, HashMap<usize, Arc<dyn Operate>>> {
    INSTANCES.write().unwrap_or_else(PoisonError::into_inner)
}

static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();

/// The runtime of this library, started by the first open and never stopped.
fn runtime(name: &str) -> Result<&'static Handle, &'static io::Error> {
    let started = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name(format!("plugin-{name}"))
            .enable_all()
            .build()
    });
    started.as_ref().map(Runtime::handle)
}

/// Runs an entry point; a panic becomes `ANK_INTERNAL`.
fn guarded(entry: impl FnOnce() -> AnkStatus) -> AnkStatus {
    catch_unwind(AssertUnwindSafe(entry)).unwrap_or_else(|panic| {
        std::mem::forget(panic);
        ANK_INTERNAL
    })
}

/// What a panic said. The payload is leaked: dropping it runs foreign code that may panic.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    std::mem::forget(panic);
    format!("panic: {}", said.as_deref().unwrap_or("without a text"))
}

fn size_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("a table is far smaller than 4 GiB")
}
