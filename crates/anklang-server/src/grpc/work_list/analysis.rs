//! Figures of contacts and attempts.

use anklang_domain::planning::OutcomeClass;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::planning::plan;
use anklang_store::planning::work::analysis::{
    self, CLASSES, Dimension, Figures, MAX_DIMENSIONS, Question,
};
use anklang_store::tenant::Tenant;
use chrono::NaiveDate;
use pb::ContactDimension as Wire;
use tonic::Request;
use uuid::Uuid;

use super::super::wire::{date, rate};
use super::super::{ApiResult, caller_in_units, form};
use super::claims::{LONGEST_GROUP, MAX_GROUPS, plans};
use super::{WorkListApi, read, wire};

/// The most campaigns.
const MAX_NAMES: usize = 100;
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl WorkListApi {
    pub(super) async fn analyse(
        &self,
        request: Request<pb::AnalyseContactsRequest>,
    ) -> ApiResult<pb::AnalyseContactsResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let asked = Asked::read(&request)?;
        // The planner shall see the values: a day is not a year.
        let mut tx = store.begin_read(tenant.id).await?;
        let question = asked.question(tenant);
        let found = analysis::analyse(&mut tx, tenant.id, &question).await?;
        tx.commit().await?;
        let groups = found.groups.iter();
        Ok(pb::AnalyseContactsResponse {
            groups: groups.map(|g| group(&asked.group_by, g)).collect(),
            more: found.more,
            total: Some(figures(&found.total)),
        })
    }
}

/// What is asked, read.
struct Asked<'r> {
    first: NaiveDate,
    last: NaiveDate,
    group_by: Vec<Dimension>,
    plans: Vec<String>,
    responsibles: Vec<String>,
    groups: Vec<&'r str>,
    campaigns: Vec<Uuid>,
    limit: usize,
}

impl<'r> Asked<'r> {
    fn read(request: &'r pb::AnalyseContactsRequest) -> ApiResult<Asked<'r>> {
        let mut violations = Violations::new();
        let v = &mut violations;
        let range = read::range(v, request.first_date.as_ref(), request.last_date.as_ref());
        let groups = &request.customer_groups;
        let groups = read::words(v, "customer_groups", groups, MAX_GROUPS, LONGEST_GROUP);
        let limit = read::max_groups(v, request.max_groups);
        let group_by = read::group_by(v, &request.group_by, MAX_DIMENSIONS, dimension);
        let plans = plans(&request.contact_plans, v);
        let of = &["users", "roles"];
        let responsibles = read::people(v, "responsibles", &request.responsibles, of);
        let campaigns = campaigns(&request.campaigns, v);
        let (first, last) = form::complete(violations, range)?;
        Ok(Asked {
            first,
            last,
            group_by,
            plans,
            responsibles,
            groups,
            campaigns,
            limit,
        })
    }

    fn question(&'r self, tenant: &Tenant) -> Question<'r> {
        Question {
            first: self.first,
            last: self.last,
            time_zone: tenant.time_zone.name(),
            group_by: &self.group_by,
            plans: &self.plans,
            responsibles: &self.responsibles,
            groups: &self.groups,
            campaigns: &self.campaigns,
            limit: self.limit,
        }
    }
}

fn dimension(wire: i32) -> Option<Dimension> {
    Some(match Wire::try_from(wire).ok()? {
        Wire::Unspecified => return None,
        Wire::ContactPlan => Dimension::ContactPlan,
        Wire::Worker => Dimension::Worker,
        Wire::CustomerGroup => Dimension::CustomerGroup,
        Wire::Day => Dimension::Day,
        Wire::Week => Dimension::Week,
        Wire::Month => Dimension::Month,
        Wire::Weekday => Dimension::Weekday,
        Wire::Hour => Dimension::Hour,
        Wire::OutcomeClass => Dimension::OutcomeClass,
    })
}

fn campaigns(given: &[String], violations: &mut Violations) -> Vec<Uuid> {
    form::at_most(violations, "campaigns", given.len(), MAX_NAMES);
    let mut found = Vec::new();
    for (i, campaign) in given.iter().take(MAX_NAMES).enumerate() {
        let id = name::parse_uuid(campaign, "campaigns");
        found.extend(violations.check(format!("campaigns[{i}]"), id));
    }
    found
}

fn group(group_by: &[Dimension], found: &Figures) -> pb::ContactGroup {
    let mut group = pb::ContactGroup {
        figures: Some(figures(found)),
        ..Default::default()
    };
    for (dimension, key) in group_by.iter().zip(&found.keys) {
        let day = || NaiveDate::parse_from_str(key, "%Y-%m-%d").ok().map(date);
        match dimension {
            Dimension::ContactPlan if key.is_empty() => {}
            Dimension::ContactPlan => group.contact_plan = plan::resource(key),
            Dimension::Worker => group.worker.clone_from(key),
            Dimension::CustomerGroup => group.customer_group.clone_from(key),
            Dimension::Day => group.day = day(),
            Dimension::Week => group.week = day(),
            Dimension::Month => group.month = day(),
            Dimension::Weekday => {
                let number = key.parse::<usize>().unwrap_or(0);
                let weekday = number.checked_sub(1).and_then(|i| WEEKDAYS.get(i));
                group.weekday = weekday.copied().unwrap_or_default().to_owned();
            }
            Dimension::Hour => group.hour = key.parse().ok(),
            Dimension::OutcomeClass => group.outcome_class = wire::class(key),
        }
    }
    group
}

fn figures(f: &Figures) -> pb::ContactFigures {
    let attempts: i64 = f.attempts.iter().sum();
    let talk: i64 = f.talk_seconds.iter().sum();
    let time = |(i, class): (usize, &OutcomeClass)| {
        let of = |all: &[i64]| all.get(i).copied().unwrap_or(0);
        pb::OutcomeTime {
            outcome_class: wire::class_of(*class),
            attempt_count: of(&f.attempts),
            talk_time: Some(micros(of(&f.talk_seconds) * 1_000_000)),
            claimed_time: Some(micros(of(&f.claimed_micros))),
            timed_attempt_count: of(&f.timed),
        }
    };
    let times = CLASSES.iter().enumerate().map(time);
    pb::ContactFigures {
        planned_count: f.planned,
        open_count: f.planned - f.done - f.given_up - f.cancelled,
        done_count: f.done,
        given_up_count: f.given_up,
        cancelled_count: f.cancelled,
        tried_count: f.tried,
        reached_count: f.reached,
        not_reached_count: f.tried - f.reached,
        order_taken_count: f.ordered,
        order_rate: rate(f.ordered, f.reached),
        punctual_count: f.punctual,
        late_count: f.late,
        late_time: Some(micros(f.late_micros)),
        average_late_time: average(f.late_micros, f.late),
        punctuality: rate(f.punctual, f.tried),
        attempt_count: attempts,
        talk_time: Some(micros(talk * 1_000_000)),
        average_talk_time: average(talk * 1_000_000, attempts),
        times: times.filter(|t| t.attempt_count > 0).collect(),
    }
}

fn average(micros: i64, count: i64) -> Option<prost_types::Duration> {
    (count > 0).then(|| self::micros(micros / count))
}

fn micros(micros: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: micros / 1_000_000,
        nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0),
    }
}
