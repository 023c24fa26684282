//! What a transaction begins with: one message that makes it a tenant's or a worker's, and bounds its time.

use anklang_domain::TenantId;

use crate::call::Call;
use crate::telemetry;
use crate::units::{Bounds, UNBOUND};
use crate::{Result, StoreError};

/// A transaction whose server sends nothing for so long is ended by the database. A server that is
/// stopped or cut off in the middle of one would else keep its locks, and with them the messages
/// and operations that others are to rescue. No transaction waits for anything but the database.
const LONGEST_IDLE: &str = "10s";

/// The longest `statement_timeout` that PostgreSQL knows, in milliseconds.
const LONGEST_STATEMENT: u128 = 2_147_483_647;

/// Of a transaction that reads alone, and sees the database as it was at one moment.
pub(crate) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// Makes a transaction that of a tenant, and of the role that owns nothing; with `bounds` that of the
/// role that sees the customers of these org units alone. In one message with BEGIN, which takes no
/// binds: a UUID, a trace context, bounds and a caller are hexadecimal digits and hyphens, the rest is ours.
pub(crate) fn as_tenant(
    tenant: TenantId,
    plans: &'static str,
    bounds: Option<&Bounds>,
) -> Result<String> {
    let traceparent = telemetry::traceparent().unwrap_or_default();
    let until = until_deadline()?;
    let caller = caller();
    let role = match bounds {
        None => format!("set_config('role', '{UNBOUND}', true)"),
        Some(bounds) => format!(
            "set_config('role', 'anklang_scoped', true), set_config('anklang.units', '{}', true)",
            bounds.as_str()
        ),
    };
    Ok(format!(
        "SELECT {role},
                set_config('anklang.tenant', '{}', true),
                set_config('idle_in_transaction_session_timeout', '{LONGEST_IDLE}', true),
                set_config('plan_cache_mode', '{plans}', true),
                set_config('anklang.traceparent', '{traceparent}', true){caller}{until}",
        tenant.0.hyphenated()
    ))
}

/// Makes a transaction that of the role that sees all tenants.
pub(crate) fn as_worker() -> Result<String> {
    let until = until_deadline()?;
    Ok(format!(
        "SELECT set_config('role', 'anklang_worker', true),
                set_config('idle_in_transaction_session_timeout', '{LONGEST_IDLE}', true){until}"
    ))
}

/// Another setting of a transaction: who makes the call, for triggers that note it (`anklang_caller()`). None where
/// there is no call.
fn caller() -> String {
    Call::current().map_or_else(String::new, |call| {
        let caller = hex::encode(call.caller.as_bytes());
        format!(", set_config('anklang.caller', '{caller}', true)")
    })
}

/// Another setting of a transaction: no statement goes on for longer than the time that is left to the call. None
/// where there is no call, or no deadline. A statement that is not the first may have begun later, and is ended
/// when its transaction is dropped.
fn until_deadline() -> Result<String> {
    let Some(left) = Call::time_left() else {
        return Ok(String::new());
    };
    if left.is_zero() {
        return Err(StoreError::Late);
    }
    // Not before the deadline, and never 0, which is none.
    let milliseconds = (left.as_millis() + 1).min(LONGEST_STATEMENT);
    Ok(format!(
        ", set_config('statement_timeout', '{milliseconds}', true)"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_transaction_has_the_time_that_is_left_to_its_call() {
        let within = |deadline| {
            let (caller, method) = ("tokens/crm".into(), "/a.v1.B/C".into());
            let call = Call {
                caller,
                method,
                deadline,
                fresh: false,
            };
            call.sync_scope(until_deadline)
        };
        let none = until_deadline().expect("no call, no deadline");
        assert_eq!(none, "");
        assert_eq!(within(None).expect("no deadline"), "");
        let now = Instant::now();
        let setting = within(Some(now + Duration::from_secs(5))).expect("time is left");
        let milliseconds: u64 = setting
            .trim_start_matches(", set_config('statement_timeout', '")
            .trim_end_matches("', true)")
            .parse()
            .expect("a number");
        assert!((1..=5_001).contains(&milliseconds), "{setting}");
        assert!(matches!(within(Some(now)), Err(StoreError::Late)));
    }

    #[test]
    fn a_transaction_knows_the_caller_whatever_it_is_called() {
        let tenant = TenantId(uuid::Uuid::nil());
        let unknown = as_tenant(tenant, "auto", None).expect("no deadline");
        assert!(!unknown.contains("anklang.caller"), "{unknown}");
        let call = Call {
            caller: "o'hara".into(),
            method: "/a.v1.B/C".into(),
            deadline: None,
            fresh: false,
        };
        let begun = call.sync_scope(|| as_tenant(tenant, "auto", None));
        let begun = begun.expect("no deadline");
        let setting = "set_config('anklang.caller', '6f2768617261', true)";
        assert!(begun.contains(setting), "{begun}");
    }

    #[test]
    fn only_who_is_bound_has_a_role_of_its_own() {
        let tenant = TenantId(uuid::Uuid::nil());
        let bounds = Bounds::new([&"north".to_owned()]);
        let bound = as_tenant(tenant, "auto", Some(&bounds)).expect("no deadline");
        assert!(bound.contains("'anklang_scoped'") && bound.contains(bounds.as_str()));
        assert!(!bound.contains("anklang_app"), "{bound}");
        let unbound = as_tenant(tenant, "auto", None).expect("no deadline");
        assert!(unbound.contains("'anklang_app'"), "{unbound}");
        assert!(!unbound.contains("anklang_scoped") && !unbound.contains("anklang.units"));
    }
}
