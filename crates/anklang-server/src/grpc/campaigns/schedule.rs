//! When phases run: places and dates as they are asked for, and changed.

use anklang_domain::offer::RejectReason;
use anklang_domain::phase::{Control, MAX_AGE_DAYS, MAX_MIN_ATTEMPTS, ReactionKind};
use anklang_domain::schedule::{Overlap, Slot, Stage, arrange};
use anklang_domain::{CampaignId, Violations};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::google::r#type::Date;
use anklang_store::hold::{Held, hold};
use anklang_store::{campaign, phase};
use chrono::{NaiveDate, TimeDelta, Utc};
use tonic::Request;
use uuid::Uuid;

use super::control::settled;
use super::{CampaignsApi, find_phase, phase_name, phase_resource};
use crate::grpc::offers::read_reject_reason;
use crate::grpc::{ApiError, ApiResult, Change, caller, form, wire};

/// The most phases that one can come after.
const MAX_PREDECESSORS: usize = 100;
/// The most reasons of rejection of a reaction; there are fewer.
const MAX_REJECT_REASONS: usize = 20;

/// When a new phase shall run, as far as the words are right by themselves.
pub(super) struct Schedule {
    pub start: Option<NaiveDate>,
    pub end: Option<NaiveDate>,
    position: Position,
    overlap: Overlap,
}

enum Position {
    Alone,
    AfterPrevious,
    ParallelWithPrevious,
    After(Vec<(String, CampaignId, i32)>),
    ParallelWith(CampaignId, i32),
}

pub(super) fn read(
    schedule: Option<&pb::PhaseSchedule>,
    today: NaiveDate,
    violations: &mut Violations,
) -> Schedule {
    use pb::phase_schedule::Position as Wire;
    let schedule = schedule.cloned().unwrap_or_default();
    let (start, end) = read_dates(
        "schedule.",
        (&schedule.planned_start_date, &schedule.planned_end_date),
        today,
        violations,
    );
    let position = match &schedule.position {
        None => Position::Alone,
        Some(Wire::Order(order)) => match pb::PhaseOrder::try_from(*order) {
            Ok(pb::PhaseOrder::Unspecified) => Position::Alone,
            Ok(pb::PhaseOrder::AfterPrevious) => Position::AfterPrevious,
            Ok(pb::PhaseOrder::ParallelWithPrevious) => Position::ParallelWithPrevious,
            Err(_) => {
                violations.add("schedule.order", "is no order of phases");
                Position::Alone
            }
        },
        Some(Wire::After(names)) => Position::After(read_names(&names.phases, violations)),
        Some(Wire::ParallelWith(name)) => violations
            .check("schedule.parallel_with", phase_name(name))
            .map_or(Position::Alone, |(c, n)| Position::ParallelWith(c, n)),
    };
    Schedule {
        start,
        end,
        position,
        overlap: read_overlap("schedule.overlap", schedule.overlap, violations),
    }
}

fn read_names(names: &[String], violations: &mut Violations) -> Vec<(String, CampaignId, i32)> {
    if !(1..=MAX_PREDECESSORS).contains(&names.len()) {
        violations.add(
            "schedule.after.phases",
            format!("must be 1 to {MAX_PREDECESSORS}"),
        );
    }
    let mut read = Vec::new();
    for (i, name) in names.iter().take(MAX_PREDECESSORS).enumerate() {
        let field = format!("schedule.after.phases[{i}]");
        if let Some((campaign, number)) = violations.check(field.clone(), phase_name(name)) {
            read.push((field, campaign, number));
        }
    }
    read
}

fn read_dates(
    prefix: &str,
    dates: (&Option<Date>, &Option<Date>),
    today: NaiveDate,
    violations: &mut Violations,
) -> (Option<NaiveDate>, Option<NaiveDate>) {
    let mut read = |field: &str, date: &Option<Date>| {
        let field = format!("{prefix}{field}");
        let day = violations.check(field.clone(), wire::naive_date(date.as_ref()?))?;
        if day < today {
            violations.add(field, format!("must be {today} or later"));
        }
        Some(day)
    };
    let start = read("planned_start_date", dates.0);
    let end = read("planned_end_date", dates.1);
    if start.zip(end).is_some_and(|(start, end)| end < start) {
        violations.add(
            format!("{prefix}planned_end_date"),
            "must not be before the planned start",
        );
    }
    (start, end)
}

fn read_overlap(field: &str, wanted: i32, violations: &mut Violations) -> Overlap {
    match pb::OverlapPolicy::try_from(wanted) {
        Ok(pb::OverlapPolicy::Unspecified) => Overlap::Refuse,
        Ok(pb::OverlapPolicy::Shift) => Overlap::Shift,
        Ok(pb::OverlapPolicy::Clip) => Overlap::Clip,
        Err(_) => {
            violations.add(field, "is no policy for overlaps");
            Overlap::Refuse
        }
    }
}

/// The place of a new phase among the phases of its campaign (none for a new campaign), and those
/// whose dates change because of it.
pub(super) struct Placed {
    pub slot: Slot,
    pub moved: Vec<Slot>,
}

pub(super) fn place(
    schedule: &Schedule,
    campaign: Option<CampaignId>,
    slots: Vec<Slot>,
    today: NaiveDate,
    violations: &mut Violations,
) -> Option<Placed> {
    let find = |of: CampaignId, number: i32| {
        let same = Some(of) == campaign;
        slots.iter().find(|s| same && s.number == number)
    };
    let unknown = "must be a phase of the same campaign";
    let number = slots.last().map_or(0, |s| s.number) + 1;
    let mut slot = Slot {
        number,
        group: number,
        predecessors: Vec::new(),
        start: schedule.start,
        end: schedule.end,
        stage: Stage::Begun,
    };
    let parallel = match &schedule.position {
        Position::Alone => None,
        Position::AfterPrevious | Position::ParallelWithPrevious if slots.is_empty() => {
            violations.add("schedule.order", "there is no phase before this one");
            return None;
        }
        Position::AfterPrevious => {
            slot.predecessors = vec![number - 1];
            None
        }
        Position::ParallelWithPrevious => slots.last(),
        Position::After(names) => {
            for (field, of, number) in names {
                match find(*of, *number) {
                    None => violations.add(field.clone(), unknown),
                    Some(found) => slot.predecessors.push(found.number),
                }
            }
            None
        }
        Position::ParallelWith(of, number) => {
            let found = find(*of, *number);
            if found.is_none() {
                violations.add("schedule.parallel_with", unknown);
            }
            found
        }
    };
    if let Some(other) = parallel {
        slot.group = other.group;
        slot.predecessors = other.predecessors.clone();
    }
    if slot.start.is_some_and(|start| start > today) || !slot.predecessors.is_empty() {
        slot.stage = Stage::Waiting;
    }
    let before = slots.clone();
    let all = slots.into_iter().chain([slot]).collect();
    let arranged = violations.check("schedule.overlap", arrange(all, schedule.overlap))?;
    let (mut new, others): (Vec<Slot>, Vec<Slot>) =
        arranged.into_iter().partition(|s| s.number == number);
    Some(Placed {
        slot: new.pop()?,
        moved: others.into_iter().filter(|s| !before.contains(s)).collect(),
    })
}

/// A reaction that is asked for, as far as its words are right by themselves.
pub(super) struct WantedReaction {
    pub campaign: CampaignId,
    pub number: i32,
    pub kind: ReactionKind,
    pub min_age_days: i32,
    pub reject_reasons: Vec<Option<RejectReason>>,
    pub min_attempts: i32,
}

pub(super) const REACTIONS: [(pb::ReactionKind, ReactionKind); 5] = [
    (pb::ReactionKind::NoAnswer, ReactionKind::NoAnswer),
    (pb::ReactionKind::Accepted, ReactionKind::Accepted),
    (pb::ReactionKind::Rejected, ReactionKind::Rejected),
    (pb::ReactionKind::Expired, ReactionKind::Expired),
    (pb::ReactionKind::NotReached, ReactionKind::NotReached),
];

pub(super) fn read_reaction(
    reaction: &pb::Reaction,
    violations: &mut Violations,
) -> Option<WantedReaction> {
    let phase = violations.check("reaction.phase", phase_name(&reaction.phase));
    let kind = REACTIONS
        .iter()
        .find(|(kind, _)| i32::from(*kind) == reaction.kind)
        .map(|(_, kind)| *kind)
        .ok_or("is required, and must be a kind of reaction");
    let kind = violations.check("reaction.kind", kind);
    if !(0..=MAX_AGE_DAYS).contains(&reaction.min_age_days) {
        violations.add(
            "reaction.min_age_days",
            format!("must be from 0 to {MAX_AGE_DAYS}"),
        );
    }
    let mut reject_reasons = Vec::new();
    let (given, most) = (&reaction.reject_reasons, MAX_REJECT_REASONS);
    form::at_most(violations, "reaction.reject_reasons", given.len(), most);
    for (i, reason) in given.iter().take(most).enumerate() {
        let field = format!("reaction.reject_reasons[{i}]");
        reject_reasons.extend(violations.check(field, read_reject_reason(*reason)));
    }
    if !reject_reasons.is_empty() && kind != Some(ReactionKind::Rejected) {
        violations.add("reaction.reject_reasons", "go with REJECTED alone");
    }
    if !(0..=MAX_MIN_ATTEMPTS).contains(&reaction.min_attempts) {
        let reason = format!("must be from 0 to {MAX_MIN_ATTEMPTS}");
        violations.add("reaction.min_attempts", reason);
    } else if reaction.min_attempts > 0 && kind != Some(ReactionKind::NotReached) {
        violations.add("reaction.min_attempts", "goes with NOT_REACHED alone");
    }
    let (campaign, number) = phase?;
    Some(WantedReaction {
        campaign,
        number,
        kind: kind?,
        min_age_days: reaction.min_age_days,
        reject_reasons,
        min_attempts: reaction.min_attempts,
    })
}

impl CampaignsApi {
    /// Replaces the planned dates of a phase and arranges the others.
    pub(super) async fn reschedule(
        &self,
        request: Request<pb::ReschedulePhaseRequest>,
    ) -> ApiResult<pb::Phase> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let today = tenant.day(Utc::now());
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let name = violations.check("name", phase_name(&request.name));
        let dates = (&request.planned_start_date, &request.planned_end_date);
        let (start, end) = read_dates("", dates, today, &mut violations);
        let overlap = read_overlap("overlap", request.overlap, &mut violations);
        violations.finish(())?;
        let (campaign, number) = name.unwrap_or((CampaignId(Uuid::nil()), 0));

        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        campaign::lock(&mut tx, tenant.id, campaign)
            .await?
            .ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Phase(campaign, number)).await?;
            let current = find_phase(&tx, tenant.id, campaign, number).await?;
            change.check(&request.name, &current)?;
        }
        let legal = phase::control(&mut tx, tenant.id, campaign, number, Control::Reschedule);
        settled(legal.await?, &request.name)?;
        let zone = tenant.time_zone.name();
        let before = phase::slots(&mut tx, tenant.id, campaign, zone).await?;
        let slots = with_dates(before.clone(), number, start, end)?;
        let arranged =
            arrange(slots, overlap).map_err(|e| ApiError::field("overlap", e.to_string()))?;
        let moved: Vec<Slot> = arranged
            .into_iter()
            .filter(|s| !before.contains(s))
            .collect();
        phase::set_dates(&mut tx, tenant.id, campaign, &moved).await?;
        let phase = find_phase(&tx, tenant.id, campaign, number).await?;
        let days = |date: &Option<Date>| date.as_ref().and_then(|d| wire::naive_date(d).ok());
        if days(&phase.planned_start_date) > days(&phase.offer_valid_until_date) {
            let reason = "must not be after offer_valid_until_date of the phase";
            return Err(ApiError::field("planned_start_date", reason));
        }
        change.finish(tx, &phase).await?;
        self.app.wake.phases.notify_waiters();
        Ok(phase)
    }
}

/// The slots with other dates for one of them.
fn with_dates(
    mut slots: Vec<Slot>,
    number: i32,
    start: Option<NaiveDate>,
    end: Option<NaiveDate>,
) -> ApiResult<Vec<Slot>> {
    let Some(slot) = slots.iter_mut().find(|s| s.number == number) else {
        return Ok(slots);
    };
    if slot.stage == Stage::Waiting {
        slot.start = start;
    } else if start.is_some() {
        let reason = "must be unset: the phase has begun";
        return Err(ApiError::field("planned_start_date", reason));
    }
    slot.end = end;
    Ok(slots)
}

/// The last day of a phase's offers moves along with its first day.
pub(super) fn moved_along(
    last_day: NaiveDate,
    wanted: Option<NaiveDate>,
    placed: Option<NaiveDate>,
) -> NaiveDate {
    let by = wanted
        .zip(placed)
        .map_or(TimeDelta::zero(), |(from, to)| to - from);
    last_day.checked_add_signed(by).unwrap_or(last_day)
}

/// Names of the phases of a campaign with these numbers.
pub(super) fn names(campaign: CampaignId, numbers: impl Iterator<Item = i32>) -> Vec<String> {
    numbers.map(|n| phase_resource(campaign, n)).collect()
}
