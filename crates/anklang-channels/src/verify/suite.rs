//! The rules about instances.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{
    AckEvents, CancelRequest, Capability, HealthReply, Message, SendReply, SendRequest,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{NO_CONFIG, Report, Verdict, VerifyOptions};
use crate::board::{Answer, Hub};
use crate::session::{Session, check_in_process};
use crate::{CallError, InstanceOptions, OpenError, Plugin};

/// Calls before the memory is looked at for the first time, as a part of the soak.
const WARM_UP: u32 = 5;
/// Growth of memory in bytes for each call that is still noise.
const NOISE: u64 = 512;
/// Calls at once beyond the bound.
const BEYOND: u32 = 8;
/// Looks at how many calls are in flight, and the time between them.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// An instance to try things on, made anew when it is gone.
pub(super) struct Suite {
    plugin: Plugin,
    config: Option<Vec<u8>>,
    options: VerifyOptions,
    session: Option<Arc<Session>>,
    events: Vec<Box<dyn std::any::Any + Send>>,
}

type Tried = Result<Verdict, String>;

/// Tables of another host.
pub(super) async fn tables(plugin: &Plugin, which: i32, patience: Duration) -> Verdict {
    let (hub, _events) = hub();
    match check_in_process(plugin, which, hub, patience).await {
        Ok(()) => Verdict::Ok,
        Err(OpenError::Refused(reason)) => Verdict::Failed(reason),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

fn hub() -> (Hub, Box<dyn std::any::Any + Send>) {
    let (deliveries, deliveries_out) = mpsc::channel(1_024);
    let (telemetry, telemetry_out) = mpsc::channel(1_024);
    let hub = Hub {
        deliveries,
        telemetry,
    };
    (hub, Box::new((deliveries_out, telemetry_out)))
}

impl Suite {
    pub(super) fn new(plugin: Plugin, config: Option<Vec<u8>>, options: VerifyOptions) -> Self {
        Self {
            plugin,
            config,
            options,
            session: None,
            events: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, report: &mut Report) {
        let refused = self.bad_configs().await;
        report.note("it refuses configurations that it cannot read", refused);
        macro_rules! rules {
            ($($rule:literal => $check:ident,)+) => {$(
                let verdict = self.attempt(async |suite: &mut Self| suite.$check().await).await;
                report.note($rule, verdict);
            )+};
        }
        rules! {
            "it opens" => opens,
            "it says how it is" => health,
            "it refuses operations that it does not know" => unknown_operations,
            "it refuses requests that it cannot read" => unreadable_requests,
            "it gives one outcome for each message" => outcomes,
            "it takes the largest batch that it names" => largest_batch,
            "it takes the same message again" => repeated,
            "it gives up a call that it is told to" => cancel,
            "it takes acknowledgements" => acknowledge,
            "it bounds its calls in flight" => bound,
            "it lasts for many calls" => soak,
            "it completes each call once" => once,
            "it ends its calls with a drain, and takes no more" => drain,
        }
    }

    /// Tries a rule; an instance that is gone afterwards breaks it.
    async fn attempt(&mut self, check: impl AsyncFnOnce(&mut Self) -> Tried) -> Verdict {
        if self.config.is_none() {
            return Verdict::NotApplicable(NO_CONFIG.to_owned());
        }
        if let Err(reason) = self.session().await {
            return Verdict::Failed(reason);
        }
        let verdict = check(self).await.unwrap_or_else(Verdict::Failed);
        let Some(session) = self.session.clone() else {
            return verdict;
        };
        let moment = Duration::from_millis(50);
        if let Ok(reason) = tokio::time::timeout(moment, session.ended()).await {
            self.session = None;
            return Verdict::Failed(reason);
        }
        verdict
    }

    /// The instance; opens one if there is none.
    async fn session(&mut self) -> Result<Arc<Session>, String> {
        if let Some(session) = &self.session {
            return Ok(Arc::clone(session));
        }
        let config = self.config.clone().unwrap_or_default();
        let opened = self.open(&config).await.map_err(|e| e.to_string())?;
        let opened = Arc::new(opened);
        self.session = Some(Arc::clone(&opened));
        Ok(opened)
    }

    async fn open(&mut self, config: &[u8]) -> Result<Session, OpenError> {
        let (hub, events) = hub();
        self.events.push(events);
        let options = InstanceOptions {
            open_deadline: self.options.patience,
            call_deadline: self.options.patience,
            event_capacity: 1_024,
            retry_open: false,
        };
        let opening = Session::open(&self.plugin, config, options, hub);
        let opened = tokio::time::timeout(self.options.patience, opening).await;
        opened.unwrap_or(Err(OpenError::Timeout(self.options.patience)))
    }

    async fn bad_configs(&mut self) -> Verdict {
        for config in ["{", "\"text\""] {
            match self.open(config.as_bytes()).await {
                Err(OpenError::Refused(_)) => {}
                Err(OpenError::Failed(reason)) if reason == format!("status {ANK_INVALID}") => {}
                Err(error) => return Verdict::Failed(format!("{config}: {error}")),
                Ok(session) => {
                    session.drain(self.options.patience).await;
                    return Verdict::Failed(format!("{config}: it opens"));
                }
            }
        }
        Verdict::Ok
    }

    async fn call(&mut self, op: u32, request: &[u8]) -> Result<Vec<u8>, CallError> {
        let session = self.session().await.map_err(CallError::Down)?;
        session.call(op, request, self.options.patience).await
    }

    async fn opens(&mut self) -> Tried {
        self.session().await.map(|_| Verdict::Ok)
    }

    async fn health(&mut self) -> Tried {
        let reply = self.call(ANK_OP_HEALTH, &[]).await.map_err(text)?;
        let read = HealthReply::decode(&*reply).map_err(text)?;
        match read.status {
            0 => Err("it does not say".to_owned()),
            _ => Ok(Verdict::Ok),
        }
    }

    async fn unknown_operations(&mut self) -> Tried {
        for op in [0, 99, u32::MAX] {
            match self.call(op, &[]).await {
                Err(CallError::Unsupported) => {}
                Err(error) => return Err(format!("operation {op}: {error}")),
                Ok(_) => return Err(format!("operation {op}: it takes it")),
            }
        }
        Ok(Verdict::Ok)
    }

    async fn unreadable_requests(&mut self) -> Tried {
        for (op, name) in [
            (ANK_OP_SEND, "SEND"),
            (ANK_OP_LOOKUP, "LOOKUP"),
            (ANK_OP_CANCEL, "CANCEL"),
        ] {
            match self.call(op, &[0xff; 7]).await {
                Err(CallError::Invalid(_) | CallError::Unsupported) => {}
                Err(error) => return Err(format!("{name}: {error}")),
                Ok(_) => return Err(format!("{name}: it takes it")),
            }
        }
        Ok(Verdict::Ok)
    }

    async fn outcomes(&mut self) -> Tried {
        self.send(&batch(3, 1)).await.map(|()| Verdict::Ok)
    }

    async fn largest_batch(&mut self) -> Tried {
        let most = self.plugin.manifest().max_batch;
        self.send(&batch(most, 1)).await.map(|()| Verdict::Ok)
    }

    async fn repeated(&mut self) -> Tried {
        for attempt in 1..=2 {
            self.send(&batch(2, attempt)).await?;
        }
        Ok(Verdict::Ok)
    }

    async fn cancel(&mut self) -> Tried {
        let unknown = CancelRequest { call_id: u64::MAX };
        match self.call(ANK_OP_CANCEL, &unknown.encode_to_vec()).await {
            Ok(_) => Ok(Verdict::Ok),
            Err(CallError::Unsupported) => {
                Ok(Verdict::NotApplicable("it has no CANCEL".to_owned()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn acknowledge(&mut self) -> Tried {
        let none = AckEvents::default().encode_to_vec();
        match self.call(ANK_OP_ACK_EVENTS, &none).await {
            Ok(_) => Ok(Verdict::Ok),
            Err(CallError::Unsupported) if !self.can(Capability::Events) => {
                Ok(Verdict::NotApplicable("it has no events".to_owned()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn can(&self, capability: Capability) -> bool {
        let mut has = self.plugin.manifest().capabilities();
        has.any(|known| known == capability)
    }

    async fn send(&mut self, request: &SendRequest) -> Result<(), String> {
        let reply = self.call(ANK_OP_SEND, &request.encode_to_vec()).await;
        one_each(request, &reply.map_err(text)?)
    }

    /// Makes more calls at once than it takes.
    async fn bound(&mut self) -> Tried {
        let limit = self.plugin.manifest().max_calls_in_flight;
        let session = self.session().await?;
        let request = batch(1, 1).encode_to_vec();
        let call = |_| Box::pin(session.call(ANK_OP_SEND, &request, self.options.patience));
        let mut calls: Vec<_> = (0..limit.saturating_add(BEYOND)).map(call).collect();
        let mut ended = Vec::new();
        // The first poll makes the call: so all of them are made before any is waited for.
        poll_fn(|cx| {
            calls.retain_mut(|call| match call.as_mut().poll(cx) {
                Poll::Ready(reply) => {
                    ended.push(reply);
                    false
                }
                Poll::Pending => true,
            });
            Poll::Ready(())
        })
        .await;
        let at_once = least_in_flight(&session).await;
        for call in calls {
            ended.push(call.await);
        }
        let (mut busy, mut failed) = (0, None);
        for reply in ended {
            match reply {
                Ok(_) => {}
                Err(CallError::Busy) => busy += 1,
                Err(error) => failed = Some(error.to_string()),
            }
        }
        match failed {
            _ if at_once > usize::try_from(limit).unwrap_or(usize::MAX) => {
                Err(format!("{at_once} at once, and it names {limit}"))
            }
            Some(reason) => Err(reason),
            None if busy > 0 => Ok(Verdict::Ok),
            None => Ok(Verdict::NotApplicable(
                "its calls end too soon to reach the bound".to_owned(),
            )),
        }
    }

    async fn soak(&mut self) -> Tried {
        let session = self.session().await?;
        let warm = self.options.calls / WARM_UP;
        self.many(&session, warm).await?;
        let before = memory(&session);
        let rest = self.options.calls - warm;
        self.many(&session, rest).await?;
        let (Some(before), Some(after)) = (before, memory(&session)) else {
            return Ok(Verdict::Ok);
        };
        let more = after.saturating_sub(before);
        if more > NOISE * u64::from(rest) {
            return Err(format!(
                "its memory grew by {} KiB with {rest} calls",
                more / 1_024
            ));
        }
        Ok(Verdict::Ok)
    }

    /// As many calls as it takes at once, until there were so many.
    async fn many(&self, session: &Arc<Session>, count: u32) -> Result<(), String> {
        let at_once = self.plugin.manifest().max_calls_in_flight.min(16);
        let most = self.plugin.manifest().max_batch.min(10);
        let mut senders = JoinSet::new();
        for sender in 0..at_once {
            let (session, patience) = (Arc::clone(session), self.options.patience);
            let share = count / at_once + u32::from(sender < count % at_once);
            senders.spawn(async move {
                for i in 0..share {
                    let request = batch(1 + i % most, 1);
                    let bytes = request.encode_to_vec();
                    loop {
                        match session.call(ANK_OP_SEND, &bytes, patience).await {
                            Err(CallError::Busy) => {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                            reply => break one_each(&request, &reply.map_err(text)?)?,
                        }
                    }
                }
                Ok::<(), String>(())
            });
        }
        while let Some(ended) = senders.join_next().await {
            ended.map_err(text)??;
        }
        Ok(())
    }

    /// After all that was done before.
    async fn once(&mut self) -> Tried {
        // What it counts itself, its process tells before it answers this.
        self.health().await?;
        let counters = self.plugin.counters();
        if counters.stray_completions > 0 {
            let strays = counters.stray_completions;
            return Err(format!(
                "{strays} completions of calls that were over, or never made"
            ));
        }
        if counters.refused_events > 0 {
            return Err(format!(
                "{} events that nobody can read",
                counters.refused_events
            ));
        }
        Ok(Verdict::Ok)
    }

    async fn drain(&mut self) -> Tried {
        let session = self.session().await?;
        self.session = None;
        let patience = self.options.patience;
        match session.finish(patience).await {
            Some(Answer::Completed(completion)) if completion.status == ANK_OK => {}
            Some(other) => return Err(format!("{other:?}")),
            None => {
                session.close(false).await;
                return Err("it does not say that it is done".to_owned());
            }
        }
        let again = session.finish(patience).await;
        let late = session.call(ANK_OP_HEALTH, &[], patience).await;
        session.close(true).await;
        if !matches!(again, Some(Answer::NotTaken(ANK_CLOSED))) {
            return Err(format!("drained again, it says {again:?}"));
        }
        match late {
            Err(CallError::Closed) => Ok(Verdict::Ok),
            other => Err(format!("a call after it: {other:?}")),
        }
    }
}

/// Messages to nobody about nothing; with the same ids each time.
fn batch(count: u32, attempt: u32) -> SendRequest {
    let message = |i: u32| Message {
        message_id: format!("00000000-0000-7000-8000-{i:012}"),
        attempt,
        ..Message::default()
    };
    SendRequest {
        messages: (0..count).map(message).collect(),
        traceparent: String::new(),
    }
}

fn one_each(request: &SendRequest, reply: &[u8]) -> Result<(), String> {
    let reply = SendReply::decode(reply).map_err(text)?;
    let (wanted, got) = (request.messages.len(), reply.outcomes.len());
    if wanted != got {
        return Err(format!("{got} outcomes for {wanted} messages"));
    }
    match reply.outcomes.iter().all(|outcome| outcome.kind.is_some()) {
        true => Ok(()),
        false => Err("an outcome says nothing".to_owned()),
    }
}

/// Bytes of memory of its process that are its own.
/// The least of several looks: a call that has ended makes room for the next before the host
/// hears of its end, so that a single look may count both.
async fn least_in_flight(session: &Session) -> usize {
    let mut least = session.in_flight().await.unwrap_or_default();
    for _ in 1..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        least = least.min(session.in_flight().await.unwrap_or_default());
    }
    least
}

fn memory(session: &Session) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", session.process()?)).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
