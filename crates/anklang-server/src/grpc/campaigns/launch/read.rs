//! What a launch asks for, as it is read.

use anklang_domain::offer::OpenOffers;
use anklang_domain::phase::MAX_AGE_DAYS;
use anklang_domain::{CampaignId, SelectionId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::selections::v1 as selections_pb;
use chrono::NaiveDate;

use super::super::phone::{self, WantedCalls};
use super::super::schedule::{self, Schedule, WantedReaction};
use super::super::{check_word, text_of, valid_until};
use crate::content::OFFER_LETTER;
use crate::grpc::offers::read_policy;
use crate::grpc::wire;

/// At most so many unticked contracts in a launch.
const MAX_DESELECTED: usize = 10_000;

/// What a launch asks for, as far as its words are right by themselves.
pub(in crate::grpc::campaigns) struct Wanted {
    pub(super) campaign: Option<CampaignTarget>,
    pub(super) audience: Option<Audience>,
    pub(super) product: Option<[String; 2]>,
    pub(super) valid_until: Option<NaiveDate>,
    pub(super) deselected: Vec<String>,
    pub(super) through: Option<Wish>,
    /// As its channel has it when there is none.
    pub(super) message_template: Option<String>,
    pub(super) document_template: String,
    pub(super) purpose: String,
    pub(super) schedule: Schedule,
    pub(super) reaction: Option<WantedReaction>,
    pub(super) open_offers: OpenOffers,
    pub(super) one_per_household: bool,
    pub(super) ending_within_days: Option<u16>,
    pub(super) leave_out_terminated: bool,
}

/// Through what a launch shall go, by its id; or by whom.
pub(super) enum Wish {
    Account(String),
    Route(String),
    Calls(WantedCalls),
}

/// The campaign that gets the phase.
pub(super) enum CampaignTarget {
    New {
        name: String,
        planned_start: Option<NaiveDate>,
    },
    Existing(CampaignId),
}

/// Whom the phase is for.
pub(super) enum Audience {
    /// Whoever has shown the reaction.
    All,
    AdHoc(selections_pb::AdHocCriteria),
    Saved(SelectionId),
    Preset(selections_pb::PresetUse),
}

/// Reads what a launch asks for, and collects what is wrong in itself.
pub(in crate::grpc::campaigns) fn read_launch(
    request: &pb::LaunchCampaignRequest,
    today: NaiveDate,
    violations: &mut Violations,
) -> Wanted {
    use pb::launch_campaign_request as wire_pb;
    let campaign = match &request.campaign_target {
        None => {
            violations.add("campaign_target", "is required: new_campaign or campaign");
            None
        }
        Some(wire_pb::CampaignTarget::Campaign(name)) => violations
            .check("campaign", name::parse_uuid(name, "campaigns"))
            .map(|id| CampaignTarget::Existing(CampaignId(id))),
        Some(wire_pb::CampaignTarget::NewCampaign(new)) => {
            text_of(
                violations,
                "new_campaign.display_name",
                &new.display_name,
                1,
                200,
            );
            let planned_start = new.planned_start_date.as_ref().and_then(|date| {
                violations.check("new_campaign.planned_start_date", wire::naive_date(date))
            });
            Some(CampaignTarget::New {
                name: new.display_name.trim().to_owned(),
                planned_start,
            })
        }
    };
    text_of(
        violations,
        "phase_display_name",
        &request.phase_display_name,
        0,
        200,
    );
    let audience = match &request.audience {
        None if request.reaction.is_some() => Some(Audience::All),
        None => {
            violations.add(
                "audience",
                "is required: selection, criteria, preset or reaction",
            );
            None
        }
        Some(wire_pb::Audience::Selection(name)) => violations
            .check("selection", name::parse_uuid(name, "selections"))
            .map(|id| Audience::Saved(SelectionId(id))),
        Some(wire_pb::Audience::Criteria(criteria)) => Some(Audience::AdHoc(criteria.clone())),
        Some(wire_pb::Audience::Preset(used)) => Some(Audience::Preset(used.clone())),
    };
    let product = violations.check(
        "target_product_version",
        name::parse(&request.target_product_version, ["products", "versions"]),
    );
    let until = &request.offer_valid_until_date;
    let valid_until = valid_until("offer_valid_until_date", until, today, violations);
    if request.deselected_contracts.len() > MAX_DESELECTED {
        violations.add(
            "deselected_contracts",
            format!("must be at most {MAX_DESELECTED}"),
        );
    }
    let deselected = request
        .deselected_contracts
        .iter()
        .take(MAX_DESELECTED)
        .enumerate()
        .filter_map(|(i, name)| {
            let field = format!("deselected_contracts[{i}]");
            violations
                .check(field, name::parse(name, ["contracts"]))
                .map(|[n]| n)
        })
        .collect();
    let spec = request.outbound.clone().unwrap_or_default();
    let through = read_through(&spec, violations);
    let mut word = |field: &str, text: &str, default: &str| {
        let text = if text.is_empty() { default } else { text };
        check_word(violations, field, text);
        text.to_owned()
    };
    let message_template = match &spec.message_template[..] {
        "" => None,
        key => Some(word("outbound.message_template", key, "")),
    };
    let document_template = if spec.without_document {
        String::new()
    } else {
        word(
            "outbound.document_template",
            &spec.document_template,
            OFFER_LETTER,
        )
    };
    let purpose = word("outbound.purpose", &spec.purpose, "marketing");
    if spec.without_document && !spec.document_template.is_empty() {
        let reason = "must be empty when no document shall go along";
        violations.add("outbound.document_template", reason);
    }
    let schedule = schedule::read(request.schedule.as_ref(), today, violations);
    if schedule.start.zip(valid_until).is_some_and(|(s, v)| s > v) {
        violations.add(
            "schedule.planned_start_date",
            "must not be after offer_valid_until_date",
        );
    }
    let reaction = request
        .reaction
        .as_ref()
        .and_then(|r| schedule::read_reaction(r, violations));
    if !(0..=MAX_AGE_DAYS).contains(&request.ending_within_days) {
        violations.add(
            "ending_within_days",
            format!("must be from 0 to {MAX_AGE_DAYS}"),
        );
    }
    Wanted {
        schedule,
        reaction,
        open_offers: read_policy("open_offers", request.open_offers, violations),
        one_per_household: request.one_per_household,
        ending_within_days: u16::try_from(request.ending_within_days)
            .ok()
            .filter(|days| *days > 0),
        leave_out_terminated: request.leave_out_terminated,
        campaign,
        audience,
        product,
        valid_until,
        deselected,
        through,
        message_template,
        document_template,
        purpose,
    }
}

/// An account, a route, or how members are called.
fn read_through(spec: &pb::OutboundSpec, violations: &mut Violations) -> Option<Wish> {
    if let Some(calls) = &spec.phone {
        for (field, value) in [
            ("outbound.channel_account", &spec.channel_account),
            ("outbound.channel_route", &spec.channel_route),
            ("outbound.message_template", &spec.message_template),
        ] {
            if !value.is_empty() {
                violations.add(field, "must be empty by phone: nothing is sent");
            }
        }
        return Some(Wish::Calls(phone::read(calls, violations)));
    }
    if spec.channel_route.is_empty() {
        let account = name::parse(&spec.channel_account, ["channelAccounts"]);
        let account = violations.check("outbound.channel_account", account);
        return account.map(|[id]| Wish::Account(id));
    }
    let field = "outbound.channel_route";
    if !spec.channel_account.is_empty() {
        violations.add(field, "must be empty when channel_account is given");
    }
    let route = violations.check(field, name::parse(&spec.channel_route, ["channelRoutes"]));
    route.map(|[id]| Wish::Route(id))
}
