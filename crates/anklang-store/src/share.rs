//! What calls may have of the connections to the database: never all of them, and one tenant's never all that calls
//! have. Else slow calls of one tenant would keep those of others waiting, and the server's own work, whose leases
//! run out meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anklang_domain::TenantId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::call::Call;
use crate::{Result, StoreError};

/// The connections that calls may use. Whoever has one of them and begins a second transaction may wait for itself
/// for as long as is waited at all: no call does so.
pub(crate) struct Share {
    calls: Arc<Semaphore>,
    of_each: usize,
    /// Those that have called.
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

/// That a call may use one of them.
pub(crate) struct Place {
    _of_tenant: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Share {
    /// Of so many: three quarters, and each tenant three quarters of these.
    pub(crate) fn of(connections: usize) -> Self {
        let reserved = (connections / 4).max(1);
        let calls = connections.saturating_sub(reserved).max(1);
        Share {
            calls: Arc::new(Semaphore::new(calls)),
            of_each: (calls * 3 / 4).max(1),
            tenants: Mutex::default(),
        }
    }

    /// A place for the call that the running task works for, when there is one within that time. Work of the server's
    /// own needs none.
    pub(crate) async fn place(
        &self,
        tenant: Option<TenantId>,
        within: Duration,
    ) -> Result<Option<Place>> {
        if Call::current().is_none() {
            return Ok(None);
        }
        // First its tenant's: who waits for that takes nothing from others.
        let place = async {
            let of_tenant = match tenant {
                Some(tenant) => Some(self.tenants(tenant).acquire_owned().await?),
                None => None,
            };
            let of_all = Arc::clone(&self.calls).acquire_owned().await?;
            Ok::<_, AcquireError>(Place {
                _of_tenant: of_tenant,
                _of_all: of_all,
            })
        };
        let why = match timeout(within, place).await {
            Ok(Ok(place)) => return Ok(Some(place)),
            Ok(Err(closed)) => closed.to_string(),
            Err(_) => "other calls have all connections that there are for calls".to_owned(),
        };
        Err(StoreError::Pool(why))
    }

    fn tenants(&self, tenant: TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(self.of_each));
        Arc::clone(tenants.entry(tenant).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// What a call of a tenant gets at once.
    fn call(share: &Share, tenant: Option<TenantId>) -> Option<Place> {
        let call = Call {
            caller: "tokens/crm".into(),
            method: "/a.v1.B/C".into(),
            deadline: None,
            fresh: false,
        };
        let place =
            call.sync_scope(|| share.place(tenant, Duration::from_secs(5)).now_or_never())?;
        place.expect("no error")
    }

    #[tokio::test]
    async fn calls_leave_some_for_other_tenants_and_for_the_server() {
        let share = Share::of(16);
        let [eager, other, third] = [(); 3].map(|()| Some(TenantId::new()));
        let mut held: Vec<_> = (0..100).map_while(|_| call(&share, eager)).collect();
        assert_eq!(held.len(), 9);
        held.extend((0..100).map_while(|_| call(&share, other)));
        assert_eq!(held.len(), 12, "four are left");
        assert!(call(&share, third).is_none());
        assert!(call(&share, None).is_none());
        let own = share.place(eager, Duration::ZERO).await;
        assert!(own.expect("no place is needed").is_none());
        // Whoever gives one back gives it to those who have fewer as well.
        held.pop();
        assert!(call(&share, eager).is_none());
        assert!(call(&share, third).is_some());
        assert!(call(&share, None).is_some());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_and_takes_nothing() {
        let share = Share::of(1);
        let held = call(&share, None);
        assert!(held.is_some(), "there is always one");
        let waiting = Call {
            caller: "tokens/crm".into(),
            method: "/a.v1.B/C".into(),
            deadline: None,
            fresh: false,
        };
        let tenant = Some(TenantId::new());
        let place = waiting
            .scope(share.place(tenant, Duration::from_millis(20)))
            .await;
        assert!(matches!(place, Err(StoreError::Pool(_))));
        drop(held);
        assert!(call(&share, tenant).is_some());
    }
}
