//! The ledger of messages.

use anklang_domain::{CampaignId, MessageId, Violations, name};
use anklang_proto::anklang::messages::v1 as pb;
use anklang_store::message::{self, Attempt, Filter, Message};
use tonic::{Request, Response, Status};

use super::form;
use super::listing::Listing;
use super::{ApiError, ApiResult, caller, reply, wire};
use crate::work::App;

/// The service.
pub struct MessagesApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::message_service_server::MessageService for MessagesApi {
    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::Message>, Status> {
        reply(self.get(request).await)
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        reply(self.list(request).await)
    }
}

impl MessagesApi {
    async fn get(&self, request: Request<pb::GetMessageRequest>) -> ApiResult<pb::Message> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let id = name::parse_uuid(&name, "messages")
            .map_err(|e| ApiError::field("name", e.to_string()))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let found = message::get(&mut tx, tenant.id, MessageId(id)).await?;
        let attempts = message::attempts(&mut tx, tenant.id, MessageId(id)).await?;
        tx.commit().await?;
        let mut wired = to_wire(found.ok_or(ApiError::NotFound(name))?);
        wired.attempts = attempts.into_iter().map(attempt).collect();
        Ok(wired)
    }

    async fn list(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> ApiResult<pb::ListMessagesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let filter = read_filter(&request, &mut violations);
        let (key, of) = (&self.app.keys, &message::LISTABLE);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let page = message::list(&mut tx, tenant.id, &filter, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListMessagesResponse {
            messages: page.rows.into_iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

fn read_filter(request: &pb::ListMessagesRequest, violations: &mut Violations) -> Filter {
    let mut filter = Filter::default();
    if !request.campaign.is_empty() {
        filter.campaign = violations
            .check("campaign", name::parse_uuid(&request.campaign, "campaigns"))
            .map(CampaignId);
    }
    if !request.customer.is_empty() {
        filter.customer_number = violations
            .check("customer", name::parse(&request.customer, ["customers"]))
            .map(|[number]| number);
    }
    form::at_most(violations, "states", request.states.len(), STATES.len());
    for (i, state) in request.states.iter().take(STATES.len()).enumerate() {
        match pb::MessageState::try_from(*state).ok().and_then(state_word) {
            Some(word) => filter.states.push(word),
            None => violations.add(format!("states[{i}]"), "is no state of a message"),
        }
    }
    filter
}

const STATES: [(pb::MessageState, &str); 9] = [
    (pb::MessageState::Queued, "queued"),
    (pb::MessageState::Sending, "sending"),
    (pb::MessageState::Sent, "sent"),
    (pb::MessageState::Delivered, "delivered"),
    (pb::MessageState::Failed, "failed"),
    (pb::MessageState::Bounced, "bounced"),
    (pb::MessageState::Suppressed, "suppressed"),
    (pb::MessageState::Ambiguous, "ambiguous"),
    (pb::MessageState::Cancelled, "cancelled"),
];

fn state_word(state: pb::MessageState) -> Option<&'static str> {
    STATES
        .iter()
        .find(|(s, _)| *s == state)
        .map(|(_, word)| *word)
}

fn state(word: &str) -> pb::MessageState {
    STATES
        .iter()
        .find(|(_, w)| *w == word)
        .map_or(pb::MessageState::Unspecified, |(s, _)| *s)
}

fn to_wire(m: Message) -> pb::Message {
    pb::Message {
        name: name::format(&[("messages", &m.id.to_string())]),
        customer: name::format(&[("customers", &m.customer_number)]),
        offer: name::format(&[("offers", &m.offer_number)]),
        outbound: name::format(&[
            ("campaigns", &m.campaign_id.to_string()),
            ("phases", &m.phase_number.to_string()),
            ("outbounds", &m.outbound_number.to_string()),
        ]),
        channel: m.channel,
        channel_account: name::format(&[("channelAccounts", &m.account)]),
        address: m.address,
        state: state(&m.state).into(),
        attempt_count: m.attempt,
        detail: m.detail,
        provider_message_id: m.provider_message_id,
        next_attempt_time: Some(wire::timestamp(m.next_attempt_at)),
        create_time: Some(wire::timestamp(m.created_at)),
        send_time: m.sent_at.map(wire::timestamp),
        attempts: Vec::new(),
    }
}

fn attempt(a: Attempt) -> pb::Attempt {
    use pb::AttemptOutcome::*;
    pb::Attempt {
        attempt: a.attempt,
        start_time: Some(wire::timestamp(a.started_at)),
        end_time: a.ended_at.map(wire::timestamp),
        outcome: match a.outcome.as_deref() {
            Some("accepted") => Accepted,
            Some("permanent") => Permanent,
            Some("transient") => Transient,
            Some("throttled") => Throttled,
            Some("ambiguous") => Ambiguous,
            Some("not_submitted") => NotSubmitted,
            _ => Unspecified,
        }
        .into(),
        detail: a.detail,
    }
}
