//! One opened configuration: turns operations into calls of the [`Channel`].

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{
    AckEvents, CallbackRequest, CancelRequest, Capability, LookupReply, LookupRequest, SendReply,
    SendRequest, SpanEvent,
};
use futures::FutureExt;
use prost::Message;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::calls::Calls;
use crate::{Channel, Host};

/// What the entry points need to know of an instance, whatever its channel.
pub(crate) trait Operate: Send + Sync {
    fn call(self: Arc<Self>, op: u32, call_id: u64, request: &[u8]) -> AnkStatus;
    fn drain(self: Arc<Self>, call_id: u64, patience: Duration) -> AnkStatus;
}

pub(crate) struct Instance<C> {
    channel: C,
    host: Host,
    calls: Arc<Calls>,
    runtime: Handle,
}

impl<C: Channel> Instance<C> {
    pub(crate) fn new(channel: C, host: Host, runtime: Handle) -> Arc<Self> {
        let limit = usize::try_from(C::MAX_CALLS_IN_FLIGHT.max(1)).unwrap_or(usize::MAX);
        Arc::new(Self {
            channel,
            calls: Calls::new(host.raw, limit),
            host,
            runtime,
        })
    }

    /// Decodes the request and starts the call.
    fn start<Q, F, W>(self: Arc<Self>, call_id: u64, request: &[u8], work: F) -> AnkStatus
    where
        Q: Message + Default + 'static,
        F: FnOnce(Arc<Self>, Q) -> W + Send + 'static,
        W: Future<Output = Vec<u8>> + Send + 'static,
    {
        let Ok(request) = Q::decode(request) else {
            return ANK_INVALID;
        };
        let me = Arc::clone(&self);
        let work = async move { work(me, request).await };
        self.calls.start(&self.runtime, call_id, work)
    }

    async fn send(&self, request: SendRequest) -> Vec<u8> {
        let (started, count) = (SystemTime::now(), request.messages.len());
        let ids = request.messages.iter().map(|m| &m.message_id[..]);
        let ids = named(ids);
        let sending = self.channel.send(request.messages);
        #[cfg(feature = "faults")]
        let sending = crate::faults::TRACE.scope(request.traceparent.clone(), sending);
        let outcomes = sending.await;
        self.span("send", request.traceparent, started, count, ids);
        SendReply { outcomes }.encode_to_vec()
    }

    async fn lookup(&self, request: LookupRequest) -> Vec<u8> {
        let (started, count) = (SystemTime::now(), request.message_ids.len());
        let ids = named(request.message_ids.iter().map(|id| &id[..]));
        let results = self.channel.lookup(request.message_ids).await;
        self.span("lookup", request.traceparent, started, count, ids);
        LookupReply { results }.encode_to_vec()
    }

    /// Tells of work on messages that is over, when its caller is traced.
    fn span(
        &self,
        name: &str,
        traceparent: String,
        started: SystemTime,
        count: usize,
        ids: String,
    ) {
        if traceparent.is_empty() {
            return;
        }
        self.host.span(&SpanEvent {
            traceparent,
            name: name.to_owned(),
            started_at: Some(started.into()),
            ended_at: Some(SystemTime::now().into()),
            failed: false,
            attributes: [
                ("messages".to_owned(), count.to_string()),
                ("message_ids".to_owned(), ids),
            ]
            .into(),
        });
    }

    fn cancel(&self, call_id: u64, request: &[u8]) -> AnkStatus {
        let Ok(request) = CancelRequest::decode(request) else {
            return ANK_INVALID;
        };
        self.calls.cancel(request.call_id);
        self.host.raw.complete(call_id, ANK_OK, &[]);
        ANK_OK
    }
}

/// So many ids are named in a span: all that are handed over together.
const NAMED: usize = 64;

/// The ids of the first messages with commas between.
fn named<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.take(NAMED).collect::<Vec<_>>().join(",")
}

impl<C: Channel> Operate for Instance<C> {
    fn call(self: Arc<Self>, op: u32, call_id: u64, request: &[u8]) -> AnkStatus {
        match op {
            ANK_OP_SEND => self.start(call_id, request, |me, request| async move {
                me.send(request).await
            }),
            ANK_OP_LOOKUP
                if C::CAPABILITIES.contains(&Capability::Lookup) && self.channel.looks_up() =>
            {
                self.start(call_id, request, |me, request: LookupRequest| async move {
                    me.lookup(request).await
                })
            }
            ANK_OP_CANCEL => self.cancel(call_id, request),
            ANK_OP_CALLBACK
                if C::CAPABILITIES.contains(&Capability::Callback)
                    && self.channel.is_called_back() =>
            {
                self.start(
                    call_id,
                    request,
                    |me, request: CallbackRequest| async move {
                        me.channel.callback(request).await.encode_to_vec()
                    },
                )
            }
            ANK_OP_HEALTH => self.start(call_id, request, |me, (): ()| async move {
                me.channel.health().await.encode_to_vec()
            }),
            ANK_OP_ACK_EVENTS => {
                self.start(call_id, request, |me, request: AckEvents| async move {
                    // Without any, the host only looks whether the runtime still works.
                    if !request.event_ids.is_empty() {
                        me.channel.acknowledge(request.event_ids).await;
                    }
                    Vec::new()
                })
            }
            _ => ANK_UNSUPPORTED,
        }
    }

    fn drain(self: Arc<Self>, call_id: u64, patience: Duration) -> AnkStatus {
        if !self.calls.close() {
            return ANK_CLOSED;
        }
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            let deadline = Instant::now() + patience;
            self.calls.wait(patience).await;
            self.calls.abandon().await;
            let goodbye = AssertUnwindSafe(self.channel.shut_down()).catch_unwind();
            // A goodbye that is late or panics changes nothing for the host.
            if let Ok(Err(panic)) = tokio::time::timeout_at(deadline, goodbye).await {
                std::mem::forget(panic);
            }
            let raw = self.host.raw;
            // Our hold on the channel ends before the host may close.
            drop(self);
            raw.complete(call_id, ANK_OK, &[]);
        });
        ANK_OK
    }
}
