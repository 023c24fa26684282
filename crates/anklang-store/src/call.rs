//! The call that work is done for: who made it, which, and until when. It is there all the way down without being
//! passed, as the trace is; work of the server's own has none. Nothing is allowed or hidden by it. The statements of
//! a call that has a deadline end at it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A call under way. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who made it, as `Principal::name` says: `tokens/{id}`, `certificates/{id}`, an issuer and its subject,
    /// `anybody`.
    pub caller: Arc<str>,
    /// Its path, `/{package}.{service}/{method}`.
    pub method: Arc<str>,
    /// When it ends, whether it is done or not.
    pub deadline: Option<Instant>,
    /// Whether it must not see what is older than its beginning, as a replica may show it.
    pub fresh: bool,
}

tokio::task_local! {
    static CURRENT: Call;
}

impl Call {
    /// The call that the running task works for. Tasks that it spawns have none unless they are run in
    /// [`Call::scope`].
    pub fn current() -> Option<Call> {
        CURRENT.try_with(Call::clone).ok()
    }

    /// Who made it; empty when the running task works for none.
    pub fn current_caller() -> String {
        Call::current().map_or_else(String::new, |call| call.caller.to_string())
    }

    /// The time that is left to the call that the running task works for, if it has a deadline.
    pub fn time_left() -> Option<Duration> {
        let deadline = CURRENT.try_with(|call| call.deadline).ok().flatten()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the running task works for a call that must not see what is older than itself.
    pub fn wants_fresh() -> bool {
        CURRENT.try_with(|call| call.fresh).unwrap_or(false)
    }

    /// Runs work for this call.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Runs work for this call that does not wait: one poll of a stream.
    pub fn sync_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }
}

/// Work that is to be spawned, for the call that the running task works for, if there is one.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let call = Call::current();
    async move {
        match call {
            Some(call) => call.scope(work).await,
            None => work.await,
        }
    }
}
