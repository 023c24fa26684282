//! The leases that this process works on: what is under them is not rescued.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// The leases that this process works on.
#[derive(Clone, Default)]
pub(in crate::work) struct Leases(Arc<Mutex<HashSet<Uuid>>>);

impl Leases {
    fn set(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(in crate::work) fn all(&self) -> Vec<Uuid> {
        self.set().iter().copied().collect()
    }

    /// Notes a lease until the guard is dropped, also by a panic: else nobody would rescue it.
    pub(in crate::work) fn hold(&self, lease: Uuid) -> HeldLease {
        self.set().insert(lease);
        HeldLease {
            leases: self.clone(),
            lease,
        }
    }
}

/// See [`Leases::hold`].
pub(in crate::work) struct HeldLease {
    leases: Leases,
    lease: Uuid,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.leases.set().remove(&self.lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_that_panics_or_is_given_up_gives_its_lease_back() {
        let leases = Leases::default();
        let (dies, hangs, works) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let _held = leases.hold(works);
        let held = leases.hold(dies);
        let panicking = tokio::spawn(async move {
            let _held = held;
            panic!("as told");
        });
        let held = leases.hold(hangs);
        let hanging = tokio::spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(panicking.await.is_err_and(|error| error.is_panic()));
        assert!(!leases.all().contains(&dies));
        assert!(leases.all().contains(&hangs));
        hanging.abort();
        assert!(hanging.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(leases.all(), [works]);
    }
}
