//! Outbounds by phone: how their members are called, read from and written to the wire.

use anklang_domain::Violations;
use anklang_domain::master::planning::MAX_PRIORITY;
use anklang_domain::name;
use anklang_domain::planning::Calls;
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_store::campaign::Outbound;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::{calls, plan};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};

use crate::grpc::ApiResult;
use crate::grpc::planning::{responsible, time_of, time_text};
use crate::grpc::work_list::read;

/// The most skills that a call wants.
const MAX_SKILLS: usize = 16;
/// The most days of calls.
const MAX_DAYS: i32 = 366;

/// What is asked for, as far as its words are right by themselves.
pub(super) struct WantedCalls {
    calls: Calls,
    plan: Option<String>,
}

/// Reads how members are called.
pub(super) fn read(spec: &pb::PhoneSpec, violations: &mut Violations) -> WantedCalls {
    let field = |name: &str| format!("outbound.phone.{name}");
    let plan = match &spec.contact_plan[..] {
        "" => None,
        plan => violations
            .check(field("contact_plan"), name::parse(plan, ["contactPlans"]))
            .map(|[code]| code),
    };
    let responsible = responsible(&field("responsible"), &spec.responsible, violations);
    let earliest = time_of(&field("earliest_time"), &spec.earliest_time, violations);
    let latest = time_of(&field("latest_time"), &spec.latest_time, violations);
    if earliest.zip(latest).is_some_and(|(from, to)| to < from) {
        let reason = "must not be before the earliest time";
        violations.add(field("latest_time"), reason);
    }
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&spec.priority) {
        violations.add(field("priority"), "must be -1,000 to 1,000");
    }
    let skills = read::skills(violations, &field("skills"), &spec.skills, MAX_SKILLS);
    if !(0..=MAX_DAYS).contains(&spec.valid_days) {
        violations.add(field("valid_days"), format!("must be from 0 to {MAX_DAYS}"));
    }
    read::text(violations, &field("note"), &spec.note, read::LONGEST_NOTE);
    let valid_days = u16::try_from(spec.valid_days).ok().filter(|days| *days > 0);
    WantedCalls {
        calls: Calls {
            responsible,
            earliest,
            latest,
            priority: spec.priority,
            skills: skills.into_iter().map(str::to_owned).collect(),
            valid_days,
            note: spec.note.trim().to_owned(),
        },
        plan,
    }
}

/// Looks up the contact plan, which then stays until the end of the transaction, and takes from it what
/// was not said; with its code.
pub(super) async fn resolve(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &WantedCalls,
    violations: &mut Violations,
) -> ApiResult<(Calls, Option<String>)> {
    let mut calls = wanted.calls.clone();
    let Some(code) = &wanted.plan else {
        return Ok((calls, None));
    };
    hold(conn, tenant.id, Held::ContactPlan(code)).await?;
    match plan::get(conn, tenant.id, code).await? {
        None => violations.add("outbound.phone.contact_plan", "does not exist"),
        Some(found) => {
            if calls.responsible.is_empty() {
                calls.responsible = found.responsible;
            }
            if calls.earliest.is_none() && calls.latest.is_none() {
                (calls.earliest, calls.latest) = (found.earliest, found.latest);
            }
        }
    }
    Ok((calls, Some(code.clone())))
}

/// How the members of an outbound are called.
pub(super) fn to_wire(outbound: &Outbound) -> Result<Option<pb::PhoneSpec>, StoreError> {
    let Some(stored) = &outbound.phone else {
        return Ok(None);
    };
    let calls = calls::read(stored)?;
    let plan = outbound.contact_plan.as_deref();
    Ok(Some(pb::PhoneSpec {
        contact_plan: plan.map(plan::resource).unwrap_or_default(),
        responsible: calls.responsible,
        earliest_time: time_text(calls.earliest),
        latest_time: time_text(calls.latest),
        priority: calls.priority,
        skills: calls.skills,
        valid_days: calls.valid_days.map_or(0, Into::into),
        note: calls.note,
    }))
}
