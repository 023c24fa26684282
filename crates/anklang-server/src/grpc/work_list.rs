//! The work list: contacts are handed out, and what came of them is recorded.

mod analysis;
mod claims;
mod contacts;
mod feed;
mod orders;
mod outcomes;
pub(in crate::grpc) mod read;
mod watch;
mod wire;

use anklang_proto::anklang::planning::v1 as pb;
use tonic::{Request, Response, Status};

use super::reply;
use crate::work::App;

/// The service.
pub struct WorkListApi {
    /// What it works with.
    pub app: App,
    feed: feed::Feed,
}

impl WorkListApi {
    /// The service with what it works with.
    pub fn new(app: App) -> Self {
        let feed = feed::Feed::new(app.clone());
        WorkListApi { app, feed }
    }
}

macro_rules! calls {
    ($($method:ident: $handler:ident($request:ident) -> $response:ty),+ $(,)?) => {
        #[tonic::async_trait]
        impl pb::work_list_service_server::WorkListService for WorkListApi {
            $(async fn $method(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<$response>, Status> {
                reply(self.$handler(request).await)
            })+

            type WatchWorkListStream = watch::Responses;

            async fn watch_work_list(
                &self,
                request: Request<pb::WatchWorkListRequest>,
            ) -> Result<Response<Self::WatchWorkListStream>, Status> {
                reply(self.watch(request).await)
            }
        }
    };
}

calls! {
    claim_next_contact: claim_next(ClaimNextContactRequest) -> pb::ClaimNextContactResponse,
    claim_contact: claim(ClaimContactRequest) -> pb::ContactClaim,
    extend_claim: extend(ExtendClaimRequest) -> pb::ContactClaim,
    release_contact: release(ReleaseContactRequest) -> pb::PlannedContact,
    record_outcome: record(RecordOutcomeRequest) -> pb::RecordOutcomeResponse,
    list_contact_orders: contact_orders(ListContactOrdersRequest) -> pb::ListContactOrdersResponse,
    take_order: take_order(TakeOrderRequest) -> pb::TakeOrderResponse,
    list_contact_attempts: attempts(ListContactAttemptsRequest) -> pb::ListContactAttemptsResponse,
    create_planned_contact: create(CreatePlannedContactRequest) -> pb::PlannedContact,
    move_planned_contact: shift(MovePlannedContactRequest) -> pb::PlannedContact,
    assign_planned_contact: assign(AssignPlannedContactRequest) -> pb::PlannedContact,
    pin_planned_contact: pin(PinPlannedContactRequest) -> pb::PlannedContact,
    cancel_planned_contact: cancel(CancelPlannedContactRequest) -> pb::PlannedContact,
    get_contact_outcome: outcome(GetContactOutcomeRequest) -> pb::ContactOutcome,
    list_contact_outcomes: outcomes(ListContactOutcomesRequest) -> pb::ListContactOutcomesResponse,
    update_contact_outcome: update_outcome(UpdateContactOutcomeRequest) -> pb::ContactOutcome,
    delete_contact_outcome: delete_outcome(DeleteContactOutcomeRequest) -> (),
    analyse_contacts: analyse(AnalyseContactsRequest) -> pb::AnalyseContactsResponse,
}
