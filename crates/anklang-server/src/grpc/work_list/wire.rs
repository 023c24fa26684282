//! Rows of the work list as the API shows them.

use anklang_domain::planning::OutcomeClass;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::planning::work::Warning;
use anklang_store::planning::work::attempt::Attempt;
use anklang_store::planning::work::claim::Claim;

pub(super) use super::super::planning::contacts::to_wire as contact;
use super::super::planning::contacts::word;
use super::super::wire::timestamp;

pub(super) fn class(stored: &str) -> i32 {
    word::<pb::OutcomeClass>("OUTCOME_CLASS_", stored)
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
        Warning::NoNumber => pb::ContactWarning::NoNumber,
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
