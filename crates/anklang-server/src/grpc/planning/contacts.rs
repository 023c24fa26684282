//! Planned contacts as they stand.

use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_store::planning::contact::{self, Contact};
use anklang_store::planning::{entry, plan};
use tonic::Request;

use super::PlanningApi;
use crate::grpc::listing::Listing;
use crate::grpc::{ApiError, ApiResult, caller_in_units, tagged, wire};

impl PlanningApi {
    pub(super) async fn get_contact(
        &self,
        request: Request<pb::GetPlannedContactRequest>,
    ) -> ApiResult<pb::PlannedContact> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let id = name::parse_uuid(&request.name, "plannedContacts");
        let id = id.map_err(|e| ApiError::field("name", e.to_string()))?;
        let found = store
            .read(tenant.id)
            .ask(|conn| contact::get(conn, tenant.id, id))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(request.name))
    }

    pub(super) async fn list_contacts(
        &self,
        request: Request<pb::ListPlannedContactsRequest>,
    ) -> ApiResult<pb::ListPlannedContactsResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &contact::LISTABLE);
        let listing = Listing::read(keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| contact::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListPlannedContactsResponse {
            next_page_token: listing.token(page.next),
            planned_contacts: page.rows.into_iter().map(to_wire).collect(),
        })
    }
}

/// The name of a planned contact.
pub fn resource(id: uuid::Uuid) -> String {
    format!("plannedContacts/{id}")
}

/// A planned contact on the wire.
pub fn to_wire(c: Contact) -> pb::PlannedContact {
    let entry = c.entry_plan.as_deref().zip(c.entry_time);
    let entry = entry.map(|(plan, time)| entry::resource(plan, &c.customer_number, time));
    let phase = c.campaign_id.zip(c.phase_number);
    let phase = phase.map(|(campaign, number)| format!("campaigns/{campaign}/phases/{number}"));
    tagged(pb::PlannedContact {
        name: resource(c.id),
        source: word::<pb::PlannedContactSource>("PLANNED_CONTACT_SOURCE_", &c.source),
        contact_plan: c
            .plan_code
            .as_deref()
            .map(plan::resource)
            .unwrap_or_default(),
        plan_entry: entry.unwrap_or_default(),
        customer: name::format(&[("customers", &c.customer_number)]),
        plan_date: Some(wire::date(c.plan_date)),
        contact_date: Some(wire::date(c.contact_date)),
        contact_time: Some(wire::timestamp(c.contact_at)),
        window_start_time: Some(wire::timestamp(c.window_from)),
        window_end_time: Some(wire::timestamp(c.window_to)),
        next_contact_time: c.next_at.map(wire::timestamp),
        delivery_date: c.delivery_date.map(wire::date),
        delivery_moved: word::<pb::DeliveryMoved>("DELIVERY_MOVED_", &c.delivery_moved),
        state: word::<pb::PlannedContactState>("PLANNED_CONTACT_STATE_", &c.state),
        outcome_class: c.outcome_class.map_or(0, |class| {
            word::<pb::OutcomeClass>("OUTCOME_CLASS_", &class)
        }),
        outcome: c.outcome,
        attempt_count: c.attempts,
        responsible: c.responsible,
        priority: c.priority,
        skills: c.skills,
        pinned: c.pinned,
        moved: c.moved,
        worked_on: c.worked_on,
        claimed_by: c.claimed_by.unwrap_or_default(),
        claim_expire_time: c.claim_until.map(wire::timestamp),
        contact_person: c.contact_person,
        phone: c.phone,
        note: c.note,
        departure: c.departure,
        order_type: c.order_type,
        phase: phase.unwrap_or_default(),
        message: c
            .message_id
            .map_or_else(String::new, |id| format!("messages/{id}")),
        operation: c
            .operation_id
            .map_or_else(String::new, |id| format!("operations/{id}")),
        create_time: Some(wire::timestamp(c.created_at)),
        update_time: Some(wire::timestamp(c.updated_at)),
        offer: c
            .offer_number
            .map_or_else(String::new, |number| name::format(&[("offers", &number)])),
        contract: c.contract_number.map_or_else(String::new, |number| {
            name::format(&[("contracts", &number)])
        }),
        expire_time: c.ends_at.map(wire::timestamp),
        end_reason: c.end_reason,
        // Whoever asks for the next contact changes these, and shall not disturb who edits it: the etag
        // leaves them out.
        passed_over: word::<pb::PassedOver>("PASSED_OVER_", &c.passed_over),
        passed_over_until_time: c.passed_over_until.map(wire::timestamp),
        etag: String::new(),
    })
}

/// An enum with names.
pub trait Named: Sized + Into<i32> {
    /// The value of that name.
    fn named(name: &str) -> Option<Self>;
}

macro_rules! named {
    ($($of:path),+ $(,)?) => {$(
        impl Named for $of {
            fn named(name: &str) -> Option<Self> {
                <$of>::from_str_name(name)
            }
        }
    )+};
}

named! {
    pb::DeliveryMoved,
    pb::GenerationChange,
    pb::GenerationReason,
    pb::OutcomeClass,
    pb::PassedOver,
    pb::PlannedContactSource,
    pb::PlannedContactState,
    anklang_proto::anklang::winback::v1::WinbackReason,
    winback::NoInterestReason,
    winback::WinbackCaseEventKind,
    winback::WinbackCaseState,
    winback::WinbackTemplate,
}

/// The value of an enum whose name is the prefix and a word of the database; 0 when there is none.
pub fn word<E: Named>(prefix: &str, word: &str) -> i32 {
    E::named(&format!("{prefix}{}", word.to_ascii_uppercase())).map_or(0, Into::into)
}
