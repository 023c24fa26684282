//! Deliveries: events on their way to webhooks, listed and replayed.

use anklang_domain::{EventId, Violations, WebhookId, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::handover::v1 as pb;
use anklang_store::handover::delivery::{self, Delivery, Filter};
use anklang_store::hold::{Held, hold};
use chrono::Utc;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::deed::Asked;
use super::form;
use super::listing::Listing;
use super::webhooks::{load, webhook_id};
use super::{ApiError, ApiResult, Change, caller, reply, tagged, wire};
use crate::webhook;
use crate::work::App;

/// Dead deliveries that are replayed in one transaction.
const REPLAYED_PER_CHUNK: i64 = 10_000;

/// The service.
pub struct DeliveriesApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::delivery_service_server::DeliveryService for DeliveriesApi {
    async fn get_delivery(
        &self,
        request: Request<pb::GetDeliveryRequest>,
    ) -> Result<Response<pb::Delivery>, Status> {
        reply(self.get(request).await)
    }

    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> Result<Response<pb::ListDeliveriesResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn replay_delivery(
        &self,
        request: Request<pb::ReplayDeliveryRequest>,
    ) -> Result<Response<pb::Delivery>, Status> {
        reply(self.replay(request).await)
    }

    async fn replay_dead_deliveries(
        &self,
        request: Request<pb::ReplayDeadDeliveriesRequest>,
    ) -> Result<Response<pb::ReplayDeadDeliveriesResponse>, Status> {
        reply(self.replay_dead(request).await)
    }
}

impl DeliveriesApi {
    async fn get(&self, request: Request<pb::GetDeliveryRequest>) -> ApiResult<pb::Delivery> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let (webhook, event) = delivery_ids(&name)?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| delivery::get(conn, tenant.id, webhook, event))
            .await?;
        let found = found.ok_or(ApiError::NotFound(name))?;
        let mut wired = delivery_to_wire(&found);
        wired.event_json = webhook::body(&tenant.slug, &found.event);
        Ok(wired)
    }

    async fn list(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> ApiResult<pb::ListDeliveriesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let webhook = violations.check("parent", name::parse_uuid(&request.parent, "webhooks"));
        let filter = read_filter(&request, &mut violations);
        let (keys, of) = (&self.app.keys, &delivery::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let webhook = WebhookId(webhook.unwrap_or_default());
        let tx = self.app.store.begin(tenant.id).await?;
        load(&tx, &tenant, webhook).await?;
        let page = delivery::list(&tx, tenant.id, webhook, &filter, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListDeliveriesResponse {
            deliveries: page.rows.iter().map(delivery_to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn replay(&self, request: Request<pb::ReplayDeliveryRequest>) -> ApiResult<pb::Delivery> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        violations.finish(())?;
        let name = request.name;
        let (webhook, event) = delivery_ids(&name)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Delivery(webhook, event)).await?;
            let current = delivery::get(&tx, tenant.id, webhook, event).await?;
            let current = current.ok_or_else(|| ApiError::NotFound(name.clone()))?;
            change.check(&name, &delivery_to_wire(&current))?;
        }
        let replayed = delivery::replay(&mut tx, tenant.id, webhook, event).await?;
        let found = delivery::get(&tx, tenant.id, webhook, event).await?;
        let found = found.ok_or_else(|| ApiError::NotFound(name.clone()))?;
        if !replayed {
            return Err(ApiError::Precondition {
                reason: ErrorReason::Precondition,
                resource: name,
                description: "is being delivered just now".into(),
            });
        }
        let response = delivery_to_wire(&found);
        change.finish(tx, &response).await?;
        self.app.wake.handover.notify_one();
        Ok(response)
    }

    async fn replay_dead(
        &self,
        request: Request<pb::ReplayDeadDeliveriesRequest>,
    ) -> ApiResult<pb::ReplayDeadDeliveriesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let webhook = webhook_id("parent", &request.parent)?;
        let deed = Asked::of(&request).deed()?;
        let tx = self.app.store.begin(tenant.id).await?;
        load(&tx, &tenant, webhook).await?;
        tx.commit().await?;
        // What dies again meanwhile is left: this comes to an end.
        let before = Utc::now();
        let mut response = pb::ReplayDeadDeliveriesResponse::default();
        loop {
            let limit = REPLAYED_PER_CHUNK;
            let store = &self.app.store;
            let some =
                delivery::replay_dead(store, tenant.id, webhook, before, limit, &deed).await?;
            let some = i64::try_from(some).unwrap_or(i64::MAX);
            response.replayed_count += some;
            self.app.wake.handover.notify_one();
            if some < limit {
                return Ok(response);
            }
        }
    }
}

fn delivery_ids(text: &str) -> ApiResult<(WebhookId, EventId)> {
    let read = name::parse(text, ["webhooks", "deliveries"]).map_err(|e| e.to_string());
    let ids = read.and_then(|[webhook, event]| {
        let uuid = |text: &str| Uuid::try_parse(text).map_err(|_| FORM.to_owned());
        Ok((WebhookId(uuid(&webhook)?), EventId(uuid(&event)?)))
    });
    ids.map_err(|why| ApiError::field("name", why))
}

const FORM: &str = "must have the form webhooks/{uuid}/deliveries/{uuid}";

fn read_filter(request: &pb::ListDeliveriesRequest, violations: &mut Violations) -> Filter {
    let mut filter = Filter::default();
    if !request.offer.is_empty() {
        filter.offer_number = violations
            .check("offer", name::parse(&request.offer, ["offers"]))
            .map(|[number]| number);
    }
    form::at_most(violations, "states", request.states.len(), STATES.len());
    for (i, wanted) in request.states.iter().take(STATES.len()).enumerate() {
        let found = pb::DeliveryState::try_from(*wanted)
            .ok()
            .and_then(|wanted| STATES.iter().find(|(state, _)| *state == wanted));
        match found {
            Some((_, word)) => filter.states.push(word),
            None => violations.add(format!("states[{i}]"), "is no state of a delivery"),
        }
    }
    filter
}

const STATES: [(pb::DeliveryState, &str); 4] = [
    (pb::DeliveryState::Pending, "pending"),
    (pb::DeliveryState::Delivering, "delivering"),
    (pb::DeliveryState::Delivered, "delivered"),
    (pb::DeliveryState::Dead, "dead"),
];

/// A delivery without its event.
pub(super) fn delivery_to_wire(delivery: &Delivery) -> pb::Delivery {
    let state = STATES
        .iter()
        .find(|(_, word)| *word == delivery.state)
        .map_or(pb::DeliveryState::Unspecified, |(state, _)| *state);
    tagged(pb::Delivery {
        name: name::format(&[
            ("webhooks", &delivery.webhook_id.to_string()),
            ("deliveries", &delivery.event.event_id.to_string()),
        ]),
        event_type: delivery.event.event_type.clone(),
        subject: delivery.event.subject.clone(),
        event_time: Some(wire::timestamp(delivery.event.occurred_at)),
        state: state.into(),
        attempt_count: delivery.attempt,
        failure_count: delivery.failures,
        next_attempt_time: Some(wire::timestamp(delivery.next_attempt_at)),
        response_status: delivery.response_status.unwrap_or(0),
        detail: delivery.detail.clone(),
        end_time: delivery.ended_at.map(wire::timestamp),
        event_json: String::new(),
        etag: String::new(),
    })
}
