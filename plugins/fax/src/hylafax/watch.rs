//! Looks at finished jobs and tells the host what became of them.
//!
//! HylaFAX keeps finished jobs for a while, and they carry their messages: that list is all the
//! memory there is. After a restart, the jobs that finished within `report_hours` are told once more;
//! what the host has committed, it recognises. A job that the server removes before it was looked at
//! is never told: its message stays sent.
//!
//! Each look is a connection of its own: hfaxd remembers few jobs per connection and forgets any,
//! so that lists and submissions do not mix.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anklang_plugin_sdk::{DeliveryEvent, Host, HostClosed, Level};

use super::config::Settings;
use super::job::{self, Listed};
use super::session::{Fault, Session};

/// Jobs that are told in one look; the others are in the next.
const TOLD_AT_ONCE: usize = 200;
/// An event that the host has not committed for so long is told again.
const REPEAT_AFTER: Duration = Duration::from_secs(300);

/// What the host was told.
#[derive(Default)]
pub(crate) struct Told {
    state: Mutex<State>,
}

struct State {
    last_event: u64,
    jobs: HashMap<Key, Event>,
}

impl Default for State {
    fn default() -> Self {
        State {
            last_event: anklang_plugin_sdk::events_from(),
            jobs: HashMap::new(),
        }
    }
}

/// Ids of jobs begin anew some day; with its message, a job is one.
type Key = (u32, String);

struct Event {
    id: u64,
    /// When it was told last; `None` once the host has committed it.
    open_since: Option<Instant>,
}

impl Told {
    /// The host has committed these.
    pub(crate) fn acknowledge(&self, event_ids: &[u64]) {
        let mut state = self.state();
        for event in state.jobs.values_mut() {
            if event_ids.contains(&event.id) {
                event.open_since = None;
            }
        }
    }

    /// Those of the finished jobs that the host has to hear of; forgets jobs that are gone.
    fn due(&self, done: &[Listed], since: SystemTime, now: Instant) -> Vec<Listed> {
        let mut state = self.state();
        let there: std::collections::HashSet<Key> = done.iter().map(key).collect();
        state.jobs.retain(|key, _| there.contains(key));
        let is_due = |job: &&Listed| match state.jobs.get(&key(job)) {
            None => job.is_over() && job.at >= since,
            Some(event) => event
                .open_since
                .is_some_and(|told| now.duration_since(told) >= REPEAT_AFTER),
        };
        done.iter()
            .filter(is_due)
            .take(TOLD_AT_ONCE)
            .cloned()
            .collect()
    }

    /// The number of the event of a job that is told now.
    fn event_of(&self, job: &Listed, now: Instant) -> u64 {
        let mut state = self.state();
        let next = state.last_event + 1;
        let event = state.jobs.entry(key(job)).or_insert(Event {
            id: next,
            open_since: None,
        });
        event.open_since = Some(now);
        let id = event.id;
        state.last_event = state.last_event.max(id);
        id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(job: &Listed) -> Key {
    (job.id, job.message_id.clone())
}

/// Looks again and again, until the host is gone or the task is stopped.
pub(crate) async fn watch(settings: Arc<Settings>, told: Arc<Told>, host: Host) {
    let mut failed = false;
    loop {
        tokio::time::sleep(settings.poll).await;
        match look(&settings, &told, &host).await {
            Ok(()) => failed = false,
            Err(Ended::Host) => return,
            Err(Ended::Fault(fault)) => {
                // Once, not every few seconds.
                if !failed {
                    let reason = ("reason", fault.detail());
                    host.log(Level::Warn, "finished faxes cannot be looked at", &[reason]);
                }
                failed = true;
            }
        }
    }
}

enum Ended {
    Fault(Fault),
    Host,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<HostClosed> for Ended {
    fn from(_: HostClosed) -> Self {
        Self::Host
    }
}

async fn look(settings: &Settings, told: &Told, host: &Host) -> Result<(), Ended> {
    let mut session = Session::open(settings).await?;
    let done = job::list(&mut session, "doneq", &settings.username).await?;
    let since = SystemTime::now()
        .checked_sub(settings.report)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    for job in told.due(&done, since, Instant::now()) {
        let finished = match job::read(&mut session, job.id).await {
            Ok(finished) => finished,
            // Removed just now, or not ours to read: the others go on.
            Err(Fault::Refused(reply)) if reply.code == 550 => continue,
            Err(fault) => return Err(fault.into()),
        };
        // One that is being written has none yet.
        let Some(verdict) = job::verdict(&finished) else {
            continue;
        };
        let event_id = told.event_of(&job, Instant::now());
        host.delivery(&DeliveryEvent {
            event_id,
            message_id: job.message_id,
            provider_message_id: job.id.to_string(),
            state: verdict.state.into(),
            code: verdict.code.to_owned(),
            detail: verdict.detail,
            occurred_at: Some(job.at.into()),
        })
        .await?;
    }
    session.quit().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn done(id: u32, state: char, at: u64) -> Listed {
        Listed {
            id,
            message_id: format!("m{id}"),
            state,
            at: UNIX_EPOCH + Duration::from_secs(at),
            pages: 1,
        }
    }

    fn ids(due: &[Listed]) -> Vec<u32> {
        due.iter().map(|job| job.id).collect()
    }

    #[test]
    fn each_job_is_told_until_it_is_committed() {
        let (told, now) = (Told::default(), Instant::now());
        let since = UNIX_EPOCH + Duration::from_secs(100);
        let jobs = [
            done(1, 'D', 99),
            done(2, 'D', 100),
            done(3, 'F', 200),
            done(4, 'R', 200),
        ];
        // Too long ago; not over.
        let due = told.due(&jobs, since, now);
        assert_eq!(ids(&due), [2, 3]);
        let events: Vec<_> = due.iter().map(|job| told.event_of(job, now)).collect();
        assert_eq!(events[1], events[0] + 1);
        assert!(told.due(&jobs, since, now).is_empty());
        told.acknowledge(&[events[1]]);
        let later = now + REPEAT_AFTER;
        let again = told.due(&jobs, since, later);
        assert_eq!(ids(&again), [2], "it was not committed");
        let event = told.event_of(&again[0], later);
        assert_eq!(event, events[0], "the same event");
        told.acknowledge(&[event, 77]);
        assert!(told.due(&jobs, since, later + REPEAT_AFTER).is_empty());
    }

    #[test]
    fn jobs_that_are_gone_are_forgotten() {
        let (told, now) = (Told::default(), Instant::now());
        let before = told.state().last_event;
        for round in 1..=3 {
            // The same id some day, for another message.
            let mut job = done(1, 'D', 100);
            job.message_id = format!("round{round}");
            let due = told.due(&[job], UNIX_EPOCH, now);
            assert_eq!(told.event_of(&due[0], now), before + round);
            assert_eq!(told.state().jobs.len(), 1);
        }
    }

    #[test]
    fn many_are_told_in_several_looks() {
        let (told, now) = (Told::default(), Instant::now());
        let jobs: Vec<_> = (1..=500).map(|id| done(id, 'D', 100)).collect();
        let mut looks = Vec::new();
        loop {
            let due = told.due(&jobs, UNIX_EPOCH, now);
            if due.is_empty() {
                break;
            }
            for job in &due {
                told.event_of(job, now);
            }
            looks.push(due.len());
        }
        assert_eq!(looks, [200, 200, 100]);
    }
}
