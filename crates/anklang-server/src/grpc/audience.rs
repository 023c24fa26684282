//! Audiences: members, and everyone left out with the reason.

use anklang_domain::{CampaignId, PhaseId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_store::campaign::{self, Candidate, Side};
use tonic::Request;
use uuid::Uuid;

use super::campaigns::{CampaignsApi, phase_name};
use super::listing::Listing;
use super::{ApiError, ApiResult, caller};

impl CampaignsApi {
    /// Lists a page of an audience.
    pub(super) async fn audience(
        &self,
        request: Request<pb::ListAudienceMembersRequest>,
    ) -> ApiResult<pb::ListAudienceMembersResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let parent = violations.check("parent", phase_name(&request.parent));
        let side = match pb::AudienceSide::try_from(request.side) {
            Ok(pb::AudienceSide::Unspecified) => Side::Both,
            Ok(pb::AudienceSide::Members) => Side::Members,
            Ok(pb::AudienceSide::Excluded) => Side::Excluded,
            Err(_) => {
                violations.add("side", "is no side of an audience");
                Side::Both
            }
        };
        let exclusion = pb::ExclusionReason::try_from(request.exclusion_reason)
            .map_err(|_| "is no reason of exclusion");
        let exclusion = violations
            .check("exclusion_reason", exclusion)
            .and_then(exclusion_word);
        let (key, of) = (&self.app.keys, &campaign::CANDIDATES);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let (campaign, number) = parent.unwrap_or((CampaignId(Uuid::nil()), 0));

        let mut tx = self.app.store.begin(tenant.id).await?;
        let phases = campaign::phases(&tx, tenant.id, campaign, None).await?;
        let phase = phases
            .iter()
            .find(|p| p.number == number)
            .ok_or(ApiError::NotFound(request.parent))?;
        let page = campaign::candidates(
            &mut tx,
            tenant.id,
            PhaseId(phase.id),
            side,
            exclusion,
            &listing.list,
        )
        .await?;
        tx.commit().await?;
        Ok(pb::ListAudienceMembersResponse {
            audience_members: page.rows.into_iter().map(member_to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

const EXCLUSIONS: [(pb::ExclusionReason, &str); 13] = [
    (pb::ExclusionReason::Deselected, "deselected"),
    (pb::ExclusionReason::ContractEnded, "contract_ended"),
    (pb::ExclusionReason::OtherDivision, "other_division"),
    (pb::ExclusionReason::AlreadyOnTarget, "already_on_target"),
    (pb::ExclusionReason::NoQuantity, "no_quantity"),
    (pb::ExclusionReason::NoAddress, "no_address"),
    (pb::ExclusionReason::Suppressed, "suppressed"),
    (pb::ExclusionReason::NoConsent, "no_consent"),
    (pb::ExclusionReason::OpenOffer, "open_offer"),
    (
        pb::ExclusionReason::DuplicateHousehold,
        "duplicate_household",
    ),
    (pb::ExclusionReason::ContractEnding, "contract_ending"),
    (pb::ExclusionReason::FrequencyCap, "frequency_cap"),
    (
        pb::ExclusionReason::ContractTerminated,
        "contract_terminated",
    ),
];

fn exclusion_word(reason: pb::ExclusionReason) -> Option<&'static str> {
    EXCLUSIONS
        .iter()
        .find(|(r, _)| *r == reason)
        .map(|(_, w)| *w)
}

/// The reason that a word of the store stands for.
pub fn exclusion(word: &str) -> pb::ExclusionReason {
    EXCLUSIONS
        .iter()
        .find(|(_, w)| *w == word)
        .map_or(pb::ExclusionReason::Unspecified, |(r, _)| *r)
}

fn member_to_wire(c: Candidate) -> pb::AudienceMember {
    pb::AudienceMember {
        customer: name::format(&[("customers", &c.customer_number)]),
        contract: name::format(&[("contracts", &c.contract_number)]),
        exclusion_reason: c.exclusion.map_or(0, |word| exclusion(&word).into()),
        offer: c
            .offer_number
            .map_or_else(String::new, |number| name::format(&[("offers", &number)])),
    }
}
