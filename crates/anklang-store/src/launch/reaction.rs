//! Audiences by what came of an earlier phase, as a condition on the contract `subject`.
//!
//! The contracts are found from the earlier phase's offers, and so in one pass over these,
//! whatever else the criteria say.

use anklang_domain::TenantId;
use anklang_domain::phase::{Reaction, ReactionKind};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use diesel::sql_types::{Array, Date, Integer, Text, Timestamptz, Uuid as SqlUuid};

use crate::offer::reject_words;
use crate::planning::work::REACHED;
use crate::selection::Statement;

/// ` AND …`: there is no answer to the offer `r`, and its phase was not given up while it was open.
const NOT_TAKEN_BACK: &str = " AND (r.state = 'expired' OR (r.state = 'open' AND NOT EXISTS (
    SELECT FROM phase rp WHERE rp.tenant_id = r.tenant_id AND rp.id = r.phase_id
      AND rp.state IN ('cancelled', 'failed'))))";

/// ` AND …`: no offer for the contract was accepted since the offer `r` was made, on whatever channel.
const NOTHING_ACCEPTED: &str = " AND NOT EXISTS (
    SELECT FROM offer ra WHERE ra.tenant_id = r.tenant_id AND ra.contract_id = r.contract_id
      AND ra.state = 'accepted' AND ra.answered_at >= r.created_at)";

/// ` AND …`: the contract's offer `r` of the earlier phase has come to what the reaction says, long
/// enough before `now`, on the day `today`. With `by_phone` the members of that phase were called.
pub(super) fn has_shown(
    tenant: TenantId,
    reaction: &Reaction,
    by_phone: bool,
    now: DateTime<Utc>,
    today: NaiveDate,
) -> Statement {
    let age = TimeDelta::days(reaction.min_age_days.into());
    let before = now - age;
    let offers = Statement::new(
        " AND subject.id IN (SELECT r.contract_id FROM offer r WHERE r.tenant_id = ",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .sql(" AND r.phase_id = ")
    .bind::<SqlUuid, _>(reaction.phase.0);
    match reaction.kind {
        ReactionKind::NoAnswer if by_phone => offers
            .sql(
                " AND EXISTS (
                     SELECT FROM planned_contact rk
                     JOIN contact_attempt ra ON ra.tenant_id = rk.tenant_id
                          AND ra.contact_id = rk.id AND ra.outcome_class IN (",
            )
            .sql(REACHED)
            .sql(") WHERE rk.tenant_id = r.tenant_id AND rk.offer_id = r.id AND ra.recorded_at <= ")
            .bind::<Timestamptz, _>(before)
            .sql(
                ") AND NOT EXISTS (
                     SELECT FROM planned_contact rk
                     JOIN contact_attempt ra ON ra.tenant_id = rk.tenant_id
                          AND ra.contact_id = rk.id AND ra.outcome_class = 'order_taken'
                     WHERE rk.tenant_id = r.tenant_id AND rk.offer_id = r.id)",
            )
            .sql(NOT_TAKEN_BACK)
            .sql(NOTHING_ACCEPTED)
            .sql(")"),
        ReactionKind::NoAnswer => offers
            .sql(
                " AND EXISTS (
                     SELECT FROM message rm WHERE rm.tenant_id = r.tenant_id AND rm.offer_id = r.id
                       AND rm.state IN ('sent', 'delivered') AND rm.sent_at <= ",
            )
            .bind::<Timestamptz, _>(before)
            .sql(")")
            .sql(NOT_TAKEN_BACK)
            .sql(NOTHING_ACCEPTED)
            .sql(")"),
        ReactionKind::Accepted => offers
            .sql(" AND r.state = 'accepted' AND r.answered_at <= ")
            .bind::<Timestamptz, _>(before)
            .sql(")"),
        ReactionKind::Rejected => {
            let rejected = offers
                .sql(" AND r.state = 'rejected' AND r.answered_at <= ")
                .bind::<Timestamptz, _>(before);
            if reaction.reject_reasons.is_empty() {
                return rejected.sql(")");
            }
            rejected
                .sql(" AND r.reject_reason_code = ANY(")
                .bind::<Array<Text>, _>(reject_words(&reaction.reject_reasons))
                .sql("))")
        }
        ReactionKind::Expired => offers
            .sql(NOT_TAKEN_BACK)
            .sql(NOTHING_ACCEPTED)
            .sql(" AND r.valid_until < ")
            .bind::<Date, _>(today)
            .sql(" AND r.valid_until <= ")
            .bind::<Date, _>(today.checked_sub_signed(age).unwrap_or(NaiveDate::MIN))
            .sql(")"),
        ReactionKind::NotReached if by_phone => offers
            .sql(NOTHING_ACCEPTED)
            .sql(
                " AND r.state NOT IN ('accepted', 'rejected') AND EXISTS (
                     SELECT FROM planned_contact rk
                     WHERE rk.tenant_id = r.tenant_id AND rk.offer_id = r.id
                       AND ((rk.state = 'given_up' OR rk.end_code <> '') AND rk.updated_at <= ",
            )
            .bind::<Timestamptz, _>(before)
            .sql(
                " OR rk.state IN ('waiting', 'claimed') AND EXISTS (
                     SELECT FROM contact_attempt ra
                     WHERE ra.tenant_id = rk.tenant_id AND ra.contact_id = rk.id AND ra.attempt = ",
            )
            // No attempt is the 0th.
            .bind::<Integer, _>(reaction.min_attempts)
            .sql(" AND ra.recorded_at <= ")
            .bind::<Timestamptz, _>(before)
            .sql(
                ")) AND NOT EXISTS (
                     SELECT FROM contact_attempt ra
                     WHERE ra.tenant_id = rk.tenant_id AND ra.contact_id = rk.id
                       AND ra.outcome_class IN (",
            )
            .sql(REACHED)
            .sql("))))"),
        ReactionKind::NotReached => offers
            .sql(NOTHING_ACCEPTED)
            .sql(
                " AND r.state NOT IN ('accepted', 'rejected') AND EXISTS (
                     SELECT FROM message rm WHERE rm.tenant_id = r.tenant_id AND rm.offer_id = r.id
                       AND rm.state IN ('failed', 'bounced', 'suppressed') AND rm.updated_at <= ",
            )
            .bind::<Timestamptz, _>(before)
            .sql(
                ") AND NOT EXISTS (
                     SELECT FROM message rm WHERE rm.tenant_id = r.tenant_id AND rm.offer_id = r.id
                       AND rm.state NOT IN ('failed', 'bounced', 'suppressed', 'cancelled')))",
            ),
    }
}
