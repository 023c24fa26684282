//! Rows of the work list as the API shows them.

use anklang_domain::{CampaignId, name};
use anklang_domain::planning::OutcomeClass;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::planning::contact::Contact;
use anklang_store::planning::work::Warning;
use anklang_store::planning::work::attempt::Attempt;
use anklang_store::planning::work::claim::Claim;
use chrono::NaiveTime;

use super::super::campaigns::phase_resource;
use super::super::tagged;
use super::super::wire::{date, timestamp};

/// A planned contact.
pub fn contact(row: Contact) -> pb::PlannedContact {
    let entry = row.entry_plan.as_deref().zip(row.entry_time);
    let phase = row.campaign_id.zip(row.phase_number);
    let named = |collection: &str, id: Option<uuid::Uuid>| {
        id.map_or_else(String::new, |id| format!("{collection}/{id}"))
    };
    tagged(pb::PlannedContact {
        name: format!("plannedContacts/{}", row.id),
        source: word(&row.source, "PLANNED_CONTACT_SOURCE_", pb::PlannedContactSource::from_str_name),
        contact_plan: row
            .plan_code
            .as_deref()
            .map_or_else(String::new, |code| name::format(&[("contactPlans", code)])),
        plan_entry: entry.map_or_else(String::new, |(plan, time)| {
            entry_name(plan, time, &row.customer_number)
        }),
        customer: name::format(&[("customers", &row.customer_number)]),
        plan_date: Some(date(row.plan_date)),
        contact_date: Some(date(row.contact_date)),
        contact_time: Some(timestamp(row.contact_at)),
        window_start_time: Some(timestamp(row.window_from)),
        window_end_time: Some(timestamp(row.window_to)),
        next_contact_time: row.next_at.map(timestamp),
        delivery_date: row.delivery_date.map(date),
        delivery_moved: word(&row.delivery_moved, "DELIVERY_MOVED_", pb::DeliveryMoved::from_str_name),
        state: word(&row.state, "PLANNED_CONTACT_STATE_", pb::PlannedContactState::from_str_name),
        outcome_class: class(row.outcome_class.as_deref().unwrap_or_default()),
        outcome: row.outcome,
        attempt_count: row.attempts,
        responsible: row.responsible,
        priority: row.priority,
        skills: row.skills,
        pinned: row.pinned,
        moved: row.moved,
        worked_on: row.worked_on,
        claimed_by: row.claimed_by.unwrap_or_default(),
        claim_expire_time: row.claim_until.map(timestamp),
        contact_person: row.contact_person,
        phone: row.phone,
        note: row.note,
        departure: row.departure,
        order_type: row.order_type,
        phase: phase.map_or_else(String::new, |(campaign, number)| {
            phase_resource(CampaignId(campaign), number)
        }),
        message: named("messages", row.message_id),
        operation: named("operations", row.operation_id),
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        etag: String::new(),
    })
}

fn entry_name(plan: &str, time: NaiveTime, customer: &str) -> String {
    let entry = format!("{}-{customer}", time.format("%H%M"));
    name::format(&[("contactPlans", plan), ("entries", &entry)])
}

/// A word of the database as an enum's value; 0 for none.
fn word<E: Into<i32>>(word: &str, prefix: &str, read: impl Fn(&str) -> Option<E>) -> i32 {
    let name = format!("{prefix}{}", word.to_ascii_uppercase());
    read(&name).map_or(0, Into::into)
}

pub(super) fn class(stored: &str) -> i32 {
    word(stored, "OUTCOME_CLASS_", pb::OutcomeClass::from_str_name)
}

pub(super) fn class_of(class: OutcomeClass) -> i32 {
    self::class(class.as_str())
}

pub(super) fn claim(claim: Claim) -> pb::ContactClaim {
    pb::ContactClaim {
        claim: claim.id.to_string(),
        planned_contact: Some(contact(claim.contact)),
        customer_name: claim.customer_name,
        warnings: warnings(&claim.warnings),
    }
}

pub(super) fn warnings(found: &[Warning]) -> Vec<i32> {
    let wire = |warning: &Warning| match warning {
        Warning::OutsideWindow => pb::ContactWarning::OutsideWindow,
        Warning::BeforeContactDate => pb::ContactWarning::BeforeContactDate,
    };
    found.iter().map(|warning| wire(warning).into()).collect()
}

pub(super) fn attempt(row: Attempt) -> pb::ContactAttempt {
    pb::ContactAttempt {
        attempt: row.attempt,
        worker: row.worker,
        record_time: Some(timestamp(row.recorded_at)),
        talk_time: Some(prost_types::Duration {
            seconds: row.talk_seconds.into(),
            nanos: 0,
        }),
        outcome_class: class(&row.outcome_class),
        outcome: row.outcome,
        note: row.note,
        outside_window: row.outside_window,
        escalated_to: row.escalated_to,
    }
}
