//! What a selection finds, page by page.

use anklang_domain::{Violations, name};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::selection::{self, Member};
use tonic::Request;

use super::source::{self, Source};
use super::ticks::tick;
use super::{PREVIEW_TIMEOUT, SelectionsApi, unexplained};
use crate::grpc::listing::Listing;
use crate::grpc::{ApiResult, caller_in_units};

impl SelectionsApi {
    pub(super) async fn list_members(
        &self,
        request: Request<pb::ListSelectionMembersRequest>,
    ) -> ApiResult<pb::ListSelectionMembersResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let of = &selection::MEMBERS;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        let mut tx = store.begin_read(tenant.id).await?;
        let source = request.source.as_ref().map(Source::from);
        let found = source::prepared(&mut tx, tenant, source, &mut violations).await?;
        violations.finish(())?;
        let (prepared, saved) = found.ok_or_else(unexplained)?;
        let list = &listing.list;
        let page = selection::members(&mut tx, prepared, saved, list, PREVIEW_TIMEOUT).await?;
        tx.commit().await?;
        Ok(pb::ListSelectionMembersResponse {
            selection_members: page.rows.into_iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

fn to_wire(member: Member) -> pb::SelectionMember {
    let ticked = member.tick.as_deref().map_or(pb::Tick::Unspecified, tick);
    pb::SelectionMember {
        customer: name::format(&[("customers", &member.customer_number)]),
        contract: member.contract_number.map_or_else(String::new, |number| {
            name::format(&[("contracts", &number)])
        }),
        display_name: member.name,
        place: member.place,
        tick: ticked.into(),
        selected: member.selected,
    }
}
