//! Which process an instance has at the moment, and who starts the next one.
//!
//! An instance has one **session** at a time, or waits for one. A task watches each session that
//! can end by itself: when it does, it opens another after the wait that [`Breaker`] says. Each
//! replacement begins a new **generation**; what belongs to an earlier one has no say any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::board::Hub;
use crate::instance::{DROPPED_DRAIN, InstanceOptions, number};
use crate::isolation::breaker::{Breaker, Next};
use crate::session::Session;
use crate::{CallError, DrainError, OpenError, Plugin};

/// What to open.
pub(crate) struct Spec {
    pub(crate) plugin: Plugin,
    /// The configuration, as JSON.
    pub(crate) config: Vec<u8>,
}

/// See the module's documentation.
pub(crate) struct Shared {
    pub(crate) number: u64,
    pub(crate) options: InstanceOptions,
    state: Mutex<State>,
    /// Sessions that were replaced, and are drained.
    leaving: Mutex<JoinSet<()>>,
}

struct State {
    spec: Arc<Spec>,
    generation: u64,
    now: Now,
    /// How often a session failed, or did not open.
    failures: u64,
    /// Where events go; nowhere when it is closed.
    hub: Option<Hub>,
}

enum Now {
    Up(Arc<Session>),
    Down {
        reason: String,
        next: Next,
        until: Instant,
    },
    Closed,
}

/// Why there is no session.
struct Failure {
    /// In our words alone, for logs.
    kind: String,
    /// For those whose settings they are: in the plugin's words as well, without secrets.
    reason: String,
}

impl Failure {
    /// A session has ended; nothing of that is in the plugin's words.
    fn ended(reason: String) -> Self {
        Self {
            kind: reason.clone(),
            reason,
        }
    }

    /// Opening one has failed.
    fn unopened(spec: &Spec, error: &OpenError) -> Self {
        let said = format!("it did not open: {error}");
        Self {
            kind: format!("it did not open: {}", error.kind()),
            reason: spec.plugin.without_secrets(&spec.config, said),
        }
    }
}

impl Shared {
    /// Opens the first session, or goes on trying to if the options say so.
    pub(crate) async fn open(
        spec: Arc<Spec>,
        options: InstanceOptions,
        hub: Hub,
    ) -> Result<Arc<Self>, OpenError> {
        let first = match open_session(&spec, options, hub.clone()).await {
            Ok(session) => Ok(Arc::new(session)),
            Err(error @ (OpenError::Failed(_) | OpenError::Timeout(_))) if options.retry_open => {
                Err(Failure::unopened(&spec, &error))
            }
            Err(error) => return Err(error),
        };
        let now = match &first {
            Ok(session) => Now::Up(Arc::clone(session)),
            Err(failure) => Now::Down {
                reason: failure.reason.clone(),
                next: Next::StartIn(Duration::ZERO),
                until: Instant::now(),
            },
        };
        let shared = Arc::new(Self {
            number: number(),
            options,
            state: Mutex::new(State {
                spec: Arc::clone(&spec),
                generation: 0,
                now,
                failures: 0,
                hub: Some(hub),
            }),
            leaving: Mutex::default(),
        });
        Arc::clone(&shared).watch(0, first, spec);
        Ok(shared)
    }

    /// The plugin that is called.
    pub(crate) fn plugin(&self) -> Plugin {
        self.state().spec.plugin.clone()
    }

    /// The session for a call.
    pub(crate) fn session(&self) -> Result<Arc<Session>, CallError> {
        match &self.state().now {
            Now::Up(session) => match session.is_over() {
                None => Ok(Arc::clone(session)),
                Some(reason) => Err(CallError::Down(format!("the plugin failed: {reason}"))),
            },
            Now::Down {
                reason,
                next,
                until,
            } => {
                let left = until.saturating_duration_since(Instant::now());
                Err(CallError::Down(down(reason, *next, left)))
            }
            Now::Closed => Err(CallError::Closed),
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.state().failures
    }

    /// Whether the circuit breaker is open.
    pub(crate) fn is_left_alone(&self) -> bool {
        matches!(
            &self.state().now,
            Now::Down {
                next: Next::TryIn(_),
                ..
            }
        )
    }

    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state().now, Now::Closed)
    }

    /// Opens another session in place of the current one, which drains.
    pub(crate) async fn replace(
        self: &Arc<Self>,
        spec: Arc<Spec>,
        deadline: Duration,
    ) -> Result<(), OpenError> {
        let closed = || OpenError::Failed("the instance is closed".to_owned());
        let hub = self.state().hub.clone().ok_or_else(closed)?;
        let session = Arc::new(open_session(&spec, self.options, hub).await?);
        let replaced = {
            let mut state = self.state();
            match state.now {
                Now::Closed => None,
                _ => {
                    state.generation += 1;
                    state.spec = Arc::clone(&spec);
                    let now = Now::Up(Arc::clone(&session));
                    let before = std::mem::replace(&mut state.now, now);
                    Some((state.generation, before))
                }
            }
        };
        let Some((generation, before)) = replaced else {
            session.drain(DROPPED_DRAIN).await;
            return Err(closed());
        };
        Arc::clone(self).watch(generation, Ok(session), spec);
        if let Now::Up(before) = before {
            let number = self.number;
            let mut leaving = self.leaving();
            while leaving.try_join_next().is_some() {}
            leaving.spawn(async move {
                if !before.drain(deadline).await {
                    tracing::warn!(instance = number, "what was replaced did not drain");
                }
            });
        }
        Ok(())
    }

    /// Ends it, with what was replaced before.
    pub(crate) async fn drain(&self, deadline: Duration) -> Result<(), DrainError> {
        let now = std::mem::replace(&mut self.state().now, Now::Closed);
        let completed = match now {
            Now::Closed => return Err(DrainError::Drained),
            Now::Down { .. } => true,
            Now::Up(session) => session.drain(deadline).await,
        };
        let mut leaving = std::mem::take(&mut *self.leaving());
        let left = async { while leaving.join_next().await.is_some() {} };
        // They have deadlines of their own, which may be later.
        let _ = timeout(deadline, left).await;
        self.state().hub = None;
        if completed {
            return Ok(());
        }
        tracing::error!(
            plugin = self.plugin().manifest().id,
            instance = self.number,
            "the plugin did not complete its drain; the instance is abandoned"
        );
        Err(DrainError::Unresponsive)
    }

    /// Watches a session that may end by itself, or did not open, and those after it.
    fn watch(
        self: Arc<Self>,
        generation: u64,
        first: Result<Arc<Session>, Failure>,
        spec: Arc<Spec>,
    ) {
        if first.as_ref().map_or(true, |session| session.may_end()) {
            tokio::spawn(async move { self.supervise(generation, first, spec).await });
        }
    }

    async fn supervise(
        self: Arc<Self>,
        generation: u64,
        first: Result<Arc<Session>, Failure>,
        spec: Arc<Spec>,
    ) {
        let mut breaker = Breaker::new(&spec.plugin.hosting().process);
        let mut failure = match first {
            Ok(first) => {
                breaker.up(Instant::now());
                Failure::ended(first.ended().await)
            }
            Err(failure) => failure,
        };
        loop {
            let next = breaker.failed(Instant::now());
            if !self.is_down(generation, &failure, next) {
                return;
            }
            sleep(next.wait()).await;
            let Some(hub) = self.hub(generation) else {
                return;
            };
            failure = match open_session(&spec, self.options, hub).await {
                Ok(session) => {
                    breaker.up(Instant::now());
                    let session = Arc::new(session);
                    if !self.is_up(generation, &session) {
                        session.drain(DROPPED_DRAIN).await;
                        return;
                    }
                    if !session.may_end() {
                        return;
                    }
                    Failure::ended(session.ended().await)
                }
                Err(error) => Failure::unopened(&spec, &error),
            };
        }
    }

    /// Notes a failure; `false` if that is nobody's business any more.
    fn is_down(&self, generation: u64, failure: &Failure, next: Next) -> bool {
        let mut state = self.state();
        if state.generation != generation || matches!(state.now, Now::Closed) {
            return false;
        }
        state.failures += 1;
        let (plugin, instance) = (&state.spec.plugin.manifest().id, self.number);
        let Failure { kind, reason } = failure;
        match next {
            Next::StartIn(wait) => {
                tracing::warn!(plugin, instance, reason = kind, ?wait, "a plugin failed");
            }
            Next::TryIn(wait) => {
                tracing::error!(
                    plugin,
                    instance,
                    reason = kind,
                    ?wait,
                    "a plugin is left alone"
                );
            }
        }
        if kind != reason {
            tracing::debug!(plugin, instance, reason, "why a plugin failed");
        }
        state.now = Now::Down {
            reason: reason.clone(),
            next,
            until: Instant::now() + next.wait(),
        };
        true
    }

    fn is_up(&self, generation: u64, session: &Arc<Session>) -> bool {
        let mut state = self.state();
        if state.generation != generation || matches!(state.now, Now::Closed) {
            return false;
        }
        let plugin = &state.spec.plugin.manifest().id;
        tracing::info!(plugin, instance = self.number, "a plugin is open again");
        state.now = Now::Up(Arc::clone(session));
        true
    }

    fn hub(&self, generation: u64) -> Option<Hub> {
        let state = self.state();
        let ours = state.generation == generation && !matches!(state.now, Now::Closed);
        ours.then(|| state.hub.clone()).flatten()
    }

    // No code that can panic runs under these locks.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no session, for people.
fn down(reason: &str, next: Next, left: Duration) -> String {
    let seconds = left.as_secs_f64();
    match next {
        Next::StartIn(_) => {
            format!("the plugin failed: {reason}; it is started again in {seconds:.1} s")
        }
        Next::TryIn(_) => format!(
            "the plugin failed too often and is left alone (circuit breaker open); last: {reason}; \
             it is tried in {seconds:.1} s"
        ),
    }
}

/// Opens on a task of its own, so that what opens after we gave up is drained.
async fn open_session(
    spec: &Arc<Spec>,
    options: InstanceOptions,
    hub: Hub,
) -> Result<Session, OpenError> {
    let (sender, receiver) = oneshot::channel();
    let spec = Arc::clone(spec);
    tokio::spawn(async move {
        let opened = Session::open(&spec.plugin, &spec.config, options, hub).await;
        let _ = sender.send(opened.map(|session| Opened(Some(session), Handle::current())));
    });
    match timeout(options.open_deadline, receiver).await {
        Ok(Ok(opened)) => opened.map(Opened::take),
        Ok(Err(_)) => Err(OpenError::Failed("the runtime shuts down".to_owned())),
        Err(_) => Err(OpenError::Timeout(options.open_deadline)),
    }
}

/// A session on its way to who wants it; drained if it does not get there.
struct Opened(Option<Session>, Handle);

impl Opened {
    fn take(mut self) -> Session {
        self.0.take().expect("taken once")
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            self.1
                .spawn(async move { session.drain(DROPPED_DRAIN).await });
        }
    }
}
