//! Generating planned contacts: the request is read and checked, then an operation does it, or a
//! transaction that is rolled back finds out what it would do.

use anklang_domain::planning::DateRange;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::Conn;
use anklang_store::operation::Operation;
use anklang_store::planning::generate::{self, Change as Single, Found, Scope};
use anklang_store::planning::{entry, plan};
use anklang_store::tenant::Tenant;
use chrono::TimeDelta;
use lro::operation::Result as Outcome;
use tonic::Request;

use super::contacts::word;
use super::{PlanningApi, optional_date, required_date, responsible};
use crate::grpc::operations::{OperationsApi, any};
use crate::grpc::{ApiError, ApiResult, Change, caller, form, wire};
use crate::work::planning::{Generation, Job, ask};

/// From the first day to the last, at most.
const LONGEST: TimeDelta = TimeDelta::days(366);
/// The most plans and customers of a request.
const MAX_NAMES: usize = 1_000;
/// The most groups and responsible people or roles of a request.
const MAX_GROUPS: usize = 100;

impl PlanningApi {
    pub(super) async fn generate(
        &self,
        request: Request<pb::GeneratePlannedContactsRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(before) = change.before(&mut tx).await? {
            return Ok(before);
        }
        let job = read(&request, &mut violations);
        check(&mut tx, &tenant, &job.scope, &mut violations).await?;
        violations.finish(())?;
        if change.is_trial() {
            let generation = Generation::begin(&mut tx, tenant, job).await?;
            let found = generation.preview(&mut tx).await?;
            return Ok(lro::Operation {
                done: true,
                result: Some(Outcome::Response(any(&to_wire(&found)))),
                ..Default::default()
            });
        }
        let operation = ask(&mut tx, tenant.id, &job, None).await?;
        let operation =
            operation.ok_or_else(|| ApiError::Internal("a generation of no night".into()))?;
        let operations = OperationsApi {
            app: self.app.clone(),
        };
        let operation = operations.wire(operation).await?;
        if change.finish(tx, &operation).await? {
            self.app.wake.operations.notify_waiters();
        }
        Ok(operation)
    }
}

fn read(request: &pb::GeneratePlannedContactsRequest, violations: &mut Violations) -> Job {
    let first = required_date("first_date", request.first_date.as_ref(), violations);
    let last = required_date("last_date", request.last_date.as_ref(), violations);
    if request.first_date.is_some() && request.last_date.is_some() {
        violations.check("last_date", DateRange::new(first, Some(last)));
        if last.signed_duration_since(first) > LONGEST {
            violations.add("last_date", "must be at most 366 days after the first date");
        }
    }
    let until = request.delete_until_date.as_ref();
    let delete_until = optional_date("delete_until_date", until, violations);
    if delete_until.is_some_and(|until| until >= first) {
        violations.add("delete_until_date", "must be before the first date");
    }
    for (field, length, most) in [
        ("contact_plans", request.contact_plans.len(), MAX_NAMES),
        ("customers", request.customers.len(), MAX_NAMES),
        ("customer_groups", request.customer_groups.len(), MAX_GROUPS),
        ("responsibles", request.responsibles.len(), MAX_GROUPS),
    ] {
        form::at_most(violations, field, length, most);
    }
    let responsibles = request.responsibles.iter().take(MAX_GROUPS);
    let responsibles = responsibles.enumerate().map(|(i, given)| {
        let field = format!("responsibles[{i}]");
        if given.is_empty() {
            violations.add(&field, "must not be empty");
        }
        responsible(&field, given, violations)
    });
    let responsibles = responsibles.collect();
    Job {
        scope: Scope {
            plans: ids(
                "contact_plans",
                "contactPlans",
                &request.contact_plans,
                violations,
            ),
            customers: ids("customers", "customers", &request.customers, violations),
            groups: request.customer_groups.clone(),
            responsibles,
        },
        first,
        last,
        delete_until,
    }
}

fn ids(
    field: &str,
    collection: &str,
    names: &[String],
    violations: &mut Violations,
) -> Vec<String> {
    let mut ids = Vec::new();
    for (i, given) in names.iter().take(MAX_NAMES).enumerate() {
        let id = violations.check(format!("{field}[{i}]"), name::parse(given, [collection]));
        ids.extend(id.map(|[id]| id));
    }
    ids
}

/// Refuses plans and customers that do not exist.
async fn check(
    conn: &mut Conn,
    tenant: &Tenant,
    scope: &Scope,
    violations: &mut Violations,
) -> ApiResult<()> {
    let known = plan::by_codes(conn, tenant.id, &scope.plans).await?;
    for code in &scope.plans {
        if !known.iter().any(|plan| plan.code == *code) {
            let reason = format!("{} does not exist", plan::resource(code));
            violations.add("contact_plans", reason);
        }
    }
    for number in generate::unknown_customers(conn, tenant.id, &scope.customers).await? {
        let name = name::format(&[("customers", &number)]);
        violations.add("customers", format!("{name} does not exist"));
    }
    Ok(())
}

/// What a generation that is over did.
pub fn response(operation: &Operation) -> ApiResult<pb::GeneratePlannedContactsResponse> {
    let stored = operation.response.clone().unwrap_or_default();
    let found: Found = serde_json::from_value(stored)
        .map_err(|e| ApiError::Internal(format!("what was found: {e}")))?;
    Ok(to_wire(&found))
}

fn change_of(text: &str) -> i32 {
    word::<pb::GenerationChange>("GENERATION_CHANGE_", text)
}

fn reason_of(text: &str) -> i32 {
    word::<pb::GenerationReason>("GENERATION_REASON_", text)
}

fn to_wire(found: &Found) -> pb::GeneratePlannedContactsResponse {
    let figures = found.figures.iter().map(|figure| pb::GenerationFigure {
        change: change_of(&figure.change),
        reason: reason_of(&figure.reason),
        count: figure.count,
    });
    pb::GeneratePlannedContactsResponse {
        added_count: found.count("added"),
        changed_count: found.count("changed"),
        removed_count: found.count("removed"),
        kept_count: found.count("kept"),
        left_out_count: found.count("left_out"),
        unchanged_count: found.count("unchanged"),
        figures: figures.collect(),
        sample: found.sample.iter().map(sample_to_wire).collect(),
    }
}

fn sample_to_wire(change: &Single) -> pb::GenerationSample {
    let entry = change.plan.as_deref().zip(change.time);
    let entry = entry.map(|(plan, time)| entry::resource(plan, &change.customer, time));
    pb::GenerationSample {
        change: change_of(&change.change),
        reason: reason_of(&change.reason),
        plan_entry: entry.unwrap_or_default(),
        customer: name::format(&[("customers", &change.customer)]),
        plan_date: Some(wire::date(change.on)),
        contact_date: Some(wire::date(change.date)),
        delivery_date: change.delivery.map(wire::date),
    }
}
