//! What a launch names, looked up.

use anklang_domain::Violations;
use anklang_domain::channel::{Carries, PHONE, carries};
use anklang_domain::phase::{CampaignState, Reaction, ReactionKind};
use anklang_domain::schedule::Stage;
use anklang_domain::selection::{Compare, Criteria, Operator, Subject};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_store::planning::calls;
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError, campaign, channel_account, channel_route, phase, selection};
use chrono::{NaiveDate, Utc};
use uuid::Uuid;

use super::super::schedule::{self, Placed};
use super::super::{CampaignsApi, phone};
use super::read::{Audience, CampaignTarget, Wanted, Wish};
use super::{Resolved, Through};
use crate::grpc::selections::{prepare_ad_hoc, prepare_preset};
use crate::grpc::{ApiError, ApiResult};

impl CampaignsApi {
    /// Looks up all that a launch names, also when something else is wrong.
    pub(in crate::grpc::campaigns) async fn resolve<'a>(
        &'a self,
        conn: &mut Conn,
        tenant: &Tenant,
        wanted: &'a Wanted,
        today: NaiveDate,
        violations: &mut Violations,
    ) -> ApiResult<Option<Resolved<'a>>> {
        let placed = resolve_place(conn, tenant, wanted, today, violations).await?;
        let reaction = resolve_reaction(conn, tenant, wanted, violations).await?;
        let audience = match &wanted.audience {
            Some(audience) => resolve_audience(conn, tenant, audience, violations).await?,
            None => None,
        };
        let target = match &wanted.product {
            Some([number, code]) => {
                let found = campaign::target(conn, tenant.id, number, code).await?;
                if found.is_none() {
                    violations.add("target_product_version", "does not exist");
                }
                found
            }
            None => None,
        };
        if target
            .as_ref()
            .and_then(|t| t.valid_to)
            .is_some_and(|to| to < today)
        {
            violations.add("target_product_version", "is not valid any more");
        }
        for number in campaign::unknown_contracts(conn, tenant.id, &wanted.deselected).await? {
            violations.add(
                "deselected_contracts",
                format!("contract {number} does not exist"),
            );
        }
        let through = match &wanted.through {
            Some(wish) => self.through(conn, tenant, wish, violations).await?,
            None => None,
        };
        let channel = through.as_ref().map_or("", |through| &through.channel);
        if carries(channel) == Carries::Documents && wanted.document_template.is_empty() {
            let reason = format!("the channel {channel} sends documents and nothing else");
            violations.add("outbound.without_document", reason);
        }
        let (
            Some(campaign),
            Some(valid_until),
            Some((criteria, selection)),
            Some(target),
            Some(through),
            Some(placed),
        ) = (
            &wanted.campaign,
            wanted.valid_until,
            audience,
            target,
            through,
            placed,
        )
        else {
            return Ok(None);
        };
        Ok(Some(Resolved {
            campaign,
            product_version: target.id,
            valid_until,
            criteria: serde_json::to_value(&criteria)
                .map_err(|e| ApiError::Internal(format!("criteria: {e}")))?,
            selection,
            reaction,
            placed,
            through,
        }))
    }

    /// Looks up through what a launch shall go; a tenant's own account or route, or the contact plan, then
    /// stays until the end of the transaction.
    async fn through(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        wish: &Wish,
        violations: &mut Violations,
    ) -> ApiResult<Option<Through>> {
        let (found, field) = match wish {
            Wish::Account(id) => {
                let own = channel_account::keep(conn, tenant.id, &[id]).await?.pop();
                let own = own.map(|own| own.channel);
                let configured = || self.app.accounts.configured_for(tenant, id);
                let channel = own.or_else(|| Some(configured()?.channel().to_owned()));
                let found = channel.map(|channel| Through {
                    channel,
                    account: id.clone(),
                    route: None,
                    calls: None,
                });
                (found, "outbound.channel_account")
            }
            Wish::Route(id) => {
                let route = channel_route::keep(conn, tenant.id, id).await?;
                let found = route.map(|route| Through {
                    channel: route.channel,
                    account: String::new(),
                    route: Some(route.id),
                    calls: None,
                });
                (found, "outbound.channel_route")
            }
            Wish::Calls(wanted) => {
                let calls = phone::resolve(conn, tenant, wanted, violations).await?;
                return Ok(Some(Through {
                    channel: PHONE.into(),
                    account: String::new(),
                    route: None,
                    calls: Some(calls),
                }));
            }
        };
        if found.is_none() {
            violations.add(field, "does not exist");
        }
        Ok(found)
    }
}

/// The place of the phase in its campaign, which is locked until it is there.
async fn resolve_place(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Wanted,
    today: NaiveDate,
    violations: &mut Violations,
) -> ApiResult<Option<Placed>> {
    let Some(CampaignTarget::Existing(id)) = wanted.campaign else {
        let none = Vec::new();
        return Ok(schedule::place(
            &wanted.schedule,
            None,
            none,
            today,
            violations,
        ));
    };
    let Some(found) = campaign::lock(conn, tenant.id, id).await? else {
        violations.add("campaign", "does not exist");
        return Ok(None);
    };
    if found.state != CampaignState::Active.as_str() {
        return Err(ApiError::Precondition {
            reason: ErrorReason::IllegalTransition,
            resource: format!("campaigns/{id}"),
            description: format!("it is {}; only active ones get further phases", found.state),
        });
    }
    let slots = phase::slots(conn, tenant.id, id, tenant.time_zone.name()).await?;
    let placed = schedule::place(&wanted.schedule, Some(id), slots, today, violations);
    Ok(placed.map(|mut placed| {
        if found.paused {
            placed.slot.stage = Stage::Waiting;
        }
        placed
    }))
}

/// The reaction with the id of its phase.
async fn resolve_reaction(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Wanted,
    violations: &mut Violations,
) -> ApiResult<Option<Reaction>> {
    let Some(reaction) = &wanted.reaction else {
        return Ok(None);
    };
    let found = phase::id(conn, tenant.id, reaction.campaign, reaction.number).await?;
    match found {
        None => violations.add("reaction.phase", "does not exist"),
        Some(phase) if reaction.kind == ReactionKind::NotReached && reaction.min_attempts > 0 => {
            if !calls::is_by_phone(conn, tenant.id, phase).await? {
                let reason = "goes with a phase by phone alone";
                violations.add("reaction.min_attempts", reason);
            }
        }
        Some(_) => {}
    }
    Ok(found.map(|phase| Reaction {
        phase,
        kind: reaction.kind,
        min_age_days: reaction.min_age_days,
        reject_reasons: reaction.reject_reasons.clone(),
        min_attempts: reaction.min_attempts,
    }))
}

/// The criteria of a launch's audience and the selection that they are from, when they are right.
async fn resolve_audience(
    conn: &mut Conn,
    tenant: &Tenant,
    audience: &Audience,
    violations: &mut Violations,
) -> ApiResult<Option<(Criteria, Option<(Uuid, i32)>)>> {
    let now = Utc::now();
    let (subject, criteria, saved, field) = match audience {
        Audience::All => (Subject::Contract, any_contract(), None, "audience"),
        Audience::AdHoc(ad_hoc) => {
            match prepare_ad_hoc(conn, tenant, ad_hoc, "criteria", now, violations).await? {
                None => return Ok(None),
                Some(p) => (p.subject(), p.criteria().clone(), None, "criteria.subject"),
            }
        }
        Audience::Preset(used) => {
            match prepare_preset(conn, tenant, used, "preset", now, violations).await? {
                None => return Ok(None),
                Some(p) => (p.subject(), p.criteria().clone(), None, "preset"),
            }
        }
        Audience::Saved(id) => match selection::get(conn, tenant.id, *id).await {
            Err(StoreError::Missing(_)) => {
                violations.add("selection", "does not exist");
                return Ok(None);
            }
            found => {
                let s = found?;
                // Fields of attributes may have changed since it was saved.
                match selection::prepare(conn, tenant, s.subject, &s.criteria, now).await {
                    Err(StoreError::Invalid(found)) => violations.extend_under("selection.", found),
                    other => drop(other?),
                }
                (
                    s.subject,
                    s.criteria,
                    Some((s.id.0, s.version)),
                    "selection",
                )
            }
        },
    };
    if subject != Subject::Contract {
        violations.add(field, "must select contracts");
    }
    Ok(Some((criteria, saved)))
}

/// Every contract has a number.
fn any_contract() -> Criteria {
    Criteria::Compare(Compare {
        field: "number".into(),
        operator: Operator::IsSet,
        values: Vec::new(),
    })
}
