//! What a launch that needs an approval has to send, for people and for the hash.

use anklang_domain::{CampaignId, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_render::MessageSource;
use anklang_store::approval::{self, Approval, Content, Decision, Facts, Sample, Shipped};
use anklang_store::campaign::{self, Outbound};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use sha2::{Digest, Sha256};

use crate::content::{CONTACT_MISSED, FALLBACK_LANGUAGE, shipped_message};
use crate::grpc::audience::exclusion;
use crate::grpc::campaigns::{outbound_to_wire, phase_resource};
use crate::grpc::{ApiResult, tagged, wire};
use crate::work::{App, dry_run};

/// So many members are shown.
const SAMPLE: i64 = 10;

/// An approval with what it is of.
pub(super) struct View {
    /// How it stands.
    pub(super) approval: Approval,
    /// What is to be approved, or was; none while it is being made, and when it never goes out.
    pub(super) content: Option<Content>,
    /// The same for people.
    pub(super) wire: pb::LaunchApproval,
    outbound: Outbound,
}

impl View {
    /// Reads all that belongs to it.
    pub(super) async fn load(
        app: &App,
        conn: &mut Conn,
        tenant: &Tenant,
        (campaign, number): (CampaignId, i32),
        approval: Approval,
    ) -> ApiResult<View> {
        let missing = |what: &str| StoreError::Stored(format!("a phase without {what}"));
        let (id, name) = (approval.phase(), phase_resource(campaign, number));
        let phases = campaign::phases(conn, tenant.id, campaign, Some(id)).await?;
        let phase = phases.into_iter().next();
        let phase = phase.ok_or_else(|| missing("audience"))?;
        let outbounds = campaign::outbounds(conn, tenant.id, campaign).await?;
        let outbound = outbounds.into_iter().find(|o| o.phase_id == id.0);
        let outbound = outbound.ok_or_else(|| missing("outbound"))?;
        let decisions = approval::decisions(conn, tenant.id, id).await?;
        let mut shown = pb::LaunchApproval {
            phase: name.clone(),
            state: standing(&approval, &decisions).into(),
            members_over: approval.members_over,
            launcher: approval.launched_by.clone(),
            changers: approval.changed_by.clone(),
            launch_time: Some(wire::timestamp(approval.launched_at)),
            outbound: Some(outbound_to_wire(&name, &outbound)?),
            target_product_version: name::format(&[
                ("products", &phase.product_number),
                ("versions", &phase.product_version_code),
            ]),
            offer_valid_until_date: Some(wire::date(phase.offer_valid_until)),
            planned_start_date: phase.start_date.map(wire::date),
            planned_end_date: phase.end_date.map(wire::date),
            decisions: decisions.into_iter().map(decision_to_wire).collect(),
            ..Default::default()
        };
        let content = match shown.state() {
            pb::LaunchApprovalState::Awaiting => {
                let shipped = shipped(&outbound.message_template);
                Some(approval::content(conn, tenant.id, id, &shipped).await?)
            }
            pb::LaunchApprovalState::Approved => {
                Some(approval::approved(conn, tenant.id, id).await?)
            }
            _ => None,
        };
        if let Some(found) = &content {
            let facts = found.facts()?;
            if outbound.phone.is_none() {
                let through = (&outbound.account[..], outbound.route.as_deref());
                let cost = dry_run::message_cost(app, conn, tenant, through, facts.members).await;
                shown.message_cost = cost.map(|(amount, currency)| wire::money(amount, &currency));
            }
            shown.hash = hex::encode(found.hash);
            let sample = approval::sample(conn, tenant.id, id, SAMPLE).await?;
            shown.sample = sample.into_iter().map(sample_to_wire).collect();
            show(&mut shown, facts);
        }
        Ok(View {
            approval,
            content,
            wire: tagged(shown),
            outbound,
        })
    }

    /// Whether its members get documents.
    pub(super) fn has_documents(&self) -> bool {
        !self.outbound.document_template.is_empty()
    }
}

/// How an approval stands, by the phase and the newest decision.
fn standing(of: &Approval, decisions: &[Decision]) -> pb::LaunchApprovalState {
    use pb::LaunchApprovalState::*;
    let newest = decisions.first().map(|decision| &decision.kind[..]);
    match (&of.state[..], newest) {
        (_, Some("refused")) => Refused,
        _ if !of.unapproved => Approved,
        ("launching", _) => Preparing,
        ("awaiting_approval", _) => Awaiting,
        _ => Ended,
    }
}

/// The facts for people.
fn show(shown: &mut pb::LaunchApproval, facts: Facts) {
    let currency = &facts.prices.currency;
    shown.candidates = facts.candidates;
    shown.members = facts.members;
    shown.exclusions = facts
        .excluded
        .iter()
        .map(|(word, count)| pb::ExclusionFigure {
            reason: exclusion(word).into(),
            count: *count,
        })
        .collect();
    shown.route_accounts = facts
        .route_accounts
        .iter()
        .map(|account| name::format(&[("channelAccounts", account)]))
        .collect();
    let own = facts.templates.into_iter().chain(facts.follow_up_templates);
    let own = own.map(|t| pb::ApprovedTemplate {
        template: name::format(&[
            ("brands", &t.brand),
            ("templates", &format!("{}.{}", t.key, t.language)),
        ]),
        version: t.version,
        sha256: t.sha256,
    });
    let shipped = facts.shipped_template.into_iter();
    let shipped = shipped.chain(facts.shipped_follow_ups.into_values());
    let shipped = shipped.map(|sha256| pb::ApprovedTemplate {
        sha256,
        ..Default::default()
    });
    shown.templates = own.chain(shipped).collect();
    shown.product_display_name = facts.product_name;
    shown.version_display_name = facts.version_name;
    shown.base_price_per_year = Some(wire::money(facts.prices.base_price_per_year, currency));
    shown.unit_price_per_kwh = Some(wire::money(facts.prices.unit_price_per_kwh, currency));
    shown.valid_from_date = Some(wire::date(facts.prices.valid_from));
    shown.valid_to_date = facts.prices.valid_to.map(wire::date);
    shown.annual_amount = Some(wire::money(facts.annual_amount, currency));
    shown.documents = facts.documents;
    shown.failed_documents = facts.failed_documents;
}

/// The templates that ship for messages with this key, and for those to whom nobody reaches by phone.
fn shipped(message_template: &str) -> Shipped {
    let hash = |key: &str| shipped_message(key).map(|source| hash_of(&source));
    Shipped {
        message: hash(message_template),
        follow_ups: hash(CONTACT_MISSED)
            .map(|sha256| (CONTACT_MISSED.to_owned(), sha256))
            .into_iter()
            .collect(),
    }
}

/// The hash of a template that ships: each part with its length, so that none runs into the next one.
fn hash_of(source: &MessageSource<'_>) -> String {
    let mut hash = Sha256::new();
    for part in [FALLBACK_LANGUAGE, source.subject, source.text, source.html] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

fn sample_to_wire(s: Sample) -> pb::LaunchApprovalMember {
    let currency = s.currency.unwrap_or_default();
    pb::LaunchApprovalMember {
        customer: name::format(&[("customers", &s.customer_number)]),
        contract: name::format(&[("contracts", &s.contract_number)]),
        offer: s
            .offer_number
            .map_or_else(String::new, |number| name::format(&[("offers", &number)])),
        annual_amount: s.amount.map(|amount| wire::money(amount, &currency)),
    }
}

fn decision_to_wire(d: Decision) -> pb::LaunchDecision {
    use pb::LaunchDecisionKind::*;
    pb::LaunchDecision {
        kind: match &d.kind[..] {
            "approved" => Approved,
            "refused" => Refused,
            "voided" => Voided,
            _ => Unspecified,
        }
        .into(),
        decider: d.decided_by,
        decide_time: Some(wire::timestamp(d.decided_at)),
        remark: d.remark,
        hash: d.hash.map_or_else(String::new, hex::encode),
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use pb::LaunchApprovalState as State;

    use super::*;

    fn of(state: &str, unapproved: bool, newest: Option<&str>) -> State {
        let approval = Approval {
            phase_id: uuid::Uuid::nil(),
            state: state.into(),
            unapproved,
            launched_by: "tokens/anna".into(),
            changed_by: Vec::new(),
            launched_at: Utc::now(),
            members_over: 0,
            valid_until: Utc::now().date_naive(),
            product_version: uuid::Uuid::nil(),
        };
        let decisions: Vec<Decision> = newest
            .into_iter()
            .map(|kind| Decision {
                kind: kind.into(),
                decided_by: String::new(),
                decided_at: Utc::now(),
                remark: String::new(),
                hash: None,
            })
            .collect();
        standing(&approval, &decisions)
    }

    #[test]
    fn an_approval_stands_as_phase_and_decisions_say() {
        assert_eq!(of("launching", true, None), State::Preparing);
        assert_eq!(of("awaiting_approval", true, None), State::Awaiting);
        assert_eq!(
            of("awaiting_approval", true, Some("voided")),
            State::Awaiting
        );
        for state in ["launching", "active", "completed", "cancelled"] {
            assert_eq!(
                of(state, false, Some("approved")),
                State::Approved,
                "{state}"
            );
        }
        assert_eq!(of("cancelled", true, Some("refused")), State::Refused);
        assert_eq!(of("cancelled", true, None), State::Ended);
        assert_eq!(of("failed", true, Some("voided")), State::Ended);
    }
}
