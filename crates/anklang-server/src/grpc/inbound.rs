//! Messages that came in.

use anklang_domain::{InboundMessageId, Violations, name};
use anklang_proto::anklang::inbound::v1 as pb;
use anklang_store::inbound::{self, InboundMessage};
use tonic::{Request, Response, Status};

use super::listing::Listing;
use super::{ApiError, ApiResult, caller_in_units, reply, wire};
use crate::work::App;

/// The service.
pub struct InboundApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::inbound_service_server::InboundService for InboundApi {
    async fn get_inbound_message(
        &self,
        request: Request<pb::GetInboundMessageRequest>,
    ) -> Result<Response<pb::InboundMessage>, Status> {
        reply(self.get(request).await)
    }

    async fn list_inbound_messages(
        &self,
        request: Request<pb::ListInboundMessagesRequest>,
    ) -> Result<Response<pb::ListInboundMessagesResponse>, Status> {
        reply(self.list(request).await)
    }
}

impl InboundApi {
    async fn get(
        &self,
        request: Request<pb::GetInboundMessageRequest>,
    ) -> ApiResult<pb::InboundMessage> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let name = request.into_inner().name;
        let id = name::parse_uuid(&name, "inboundMessages")
            .map_err(|e| ApiError::field("name", e.to_string()))?;
        let found = store
            .read(tenant.id)
            .ask(|conn| inbound::get(conn, tenant.id, InboundMessageId(id)))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(name))
    }

    async fn list(
        &self,
        request: Request<pb::ListInboundMessagesRequest>,
    ) -> ApiResult<pb::ListInboundMessagesResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &inbound::LISTABLE);
        let listing = Listing::read(keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| inbound::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListInboundMessagesResponse {
            inbound_messages: page.rows.into_iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

fn to_wire(m: InboundMessage) -> pb::InboundMessage {
    pb::InboundMessage {
        name: name::format(&[("inboundMessages", &m.id.to_string())]),
        channel: m.channel,
        channel_account: name::format(&[("channelAccounts", &m.account)]),
        sender: m.sender,
        sender_display_name: m.sender_name,
        recipient: m.recipient,
        subject: m.subject,
        text: m.body,
        in_reply_to: m
            .message_id
            .map_or_else(String::new, |id| format!("messages/{id}")),
        customer: m.customer_number.map_or_else(String::new, |number| {
            name::format(&[("customers", &number)])
        }),
        provider_message_id: m.provider_message_id,
        stop: m.asks_to_stop,
        receive_time: Some(wire::timestamp(m.received_at)),
        create_time: Some(wire::timestamp(m.created_at)),
    }
}
