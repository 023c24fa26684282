//! Webhooks: where events are handed over.

use std::collections::BTreeSet;

use anklang_domain::handover::EVENT_TYPES;
use anklang_domain::{EventId, Violations, WebhookId, name};
use anklang_proto::anklang::handover::v1 as pb;
use anklang_store::handover::{self as store, Settings, Webhook, delivery, event};
use anklang_store::hold::{Held, hold};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::deliveries::delivery_to_wire;
use super::form;
use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, reply, tagged, wire};
use crate::webhook::Secret;
use crate::work::App;

/// The most characters of a webhook's name.
const MAX_NAME: usize = 200;
/// The longest overlap of two secrets, in seconds: 7 days.
const LONGEST_OVERLAP: i64 = 7 * 86_400;
/// The overlap when none is given: a day.
const OVERLAP: i64 = 86_400;

/// The service.
pub struct WebhooksApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::webhook_service_server::WebhookService for WebhooksApi {
    async fn create_webhook(
        &self,
        request: Request<pb::CreateWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        reply(self.create(request).await)
    }

    async fn get_webhook(
        &self,
        request: Request<pb::GetWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        reply(self.get(request).await)
    }

    async fn list_webhooks(
        &self,
        request: Request<pb::ListWebhooksRequest>,
    ) -> Result<Response<pb::ListWebhooksResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_webhook(
        &self,
        request: Request<pb::UpdateWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        reply(self.update(request).await)
    }

    async fn delete_webhook(
        &self,
        request: Request<pb::DeleteWebhookRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete(request).await)
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<pb::RotateWebhookSecretRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        reply(self.rotate(request).await)
    }

    async fn send_test_event(
        &self,
        request: Request<pb::SendTestEventRequest>,
    ) -> Result<Response<pb::Delivery>, Status> {
        reply(self.send_test(request).await)
    }
}

impl WebhooksApi {
    async fn create(&self, request: Request<pb::CreateWebhookRequest>) -> ApiResult<pb::Webhook> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let settings = self.settings(request.webhook, None, &mut violations).await;
        violations.finish(())?;

        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let id = WebhookId::new();
        let made = store::create(&mut tx, tenant.id, id, &settings).await?;
        let secret = self.add_secret(&mut tx, &tenant, id, Utc::now()).await?;
        let mut response = self.to_wire(&made);
        // What is kept for repetitions would lie there in the open: without the secret.
        if change.finish(tx, &response).await? {
            response.secret = secret.show();
        }
        Ok(response)
    }

    async fn get(&self, request: Request<pb::GetWebhookRequest>) -> ApiResult<pb::Webhook> {
        let tenant = caller(&self.app.store, &request).await?;
        let id = webhook_id("name", &request.into_inner().name)?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| load(conn, &tenant, id))
            .await?;
        Ok(self.to_wire(&found))
    }

    async fn list(
        &self,
        request: Request<pb::ListWebhooksRequest>,
    ) -> ApiResult<pb::ListWebhooksResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &store::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| store::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListWebhooksResponse {
            webhooks: page.rows.iter().map(|w| self.to_wire(w)).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn update(&self, request: Request<pb::UpdateWebhookRequest>) -> ApiResult<pb::Webhook> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let given = request.webhook;
        let id = given
            .as_ref()
            .and_then(|w| violations.check("webhook.name", name::parse_uuid(&w.name, "webhooks")))
            .map(WebhookId);
        // Looked at twice: its host is looked up, and nothing is held meanwhile.
        let (mut webhook, mut known_url) = (given.clone(), None);
        if let (Some(id), Some(webhook)) = (id, &mut webhook) {
            let mut tx = self.app.store.begin(tenant.id).await?;
            if let Some(done) = change.before(&mut tx).await? {
                return Ok(done);
            }
            let current = self.to_wire(&load(&tx, &tenant, id).await?);
            tx.commit().await?;
            known_url = Some(current.url.clone());
            *webhook = change.settle(&webhook.name, Some(current), webhook.clone(), false)?;
        }
        let settings = self
            .settings(webhook.clone(), known_url, &mut violations)
            .await;
        let (id, given) = form::complete(violations, id.zip(given))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Webhook(id)).await?;
            let current = self.to_wire(&load(&tx, &tenant, id).await?);
            let now = change.settle(&webhook_name(id.0), Some(current), given, false)?;
            if !webhook.is_some_and(|checked| is_alike(&checked, &now)) {
                // What was checked is not what would be saved.
                return Err(ApiError::Stale(webhook_name(id.0)));
            }
        }
        let changed = store::update(&mut tx, tenant.id, id, &settings)
            .await?
            .ok_or_else(|| missing(id))?;
        let response = self.to_wire(&changed);
        change.finish(tx, &response).await?;
        self.app.wake.handover.notify_one();
        Ok(response)
    }

    async fn delete(&self, request: Request<pb::DeleteWebhookRequest>) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse_uuid(&request.name, "webhooks"));
        let id = WebhookId(form::complete(violations, id)?);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Webhook(id)).await?;
            let current = load(&tx, &tenant, id).await?;
            change.check(&request.name, &self.to_wire(&current))?;
        }
        if !store::delete(&mut tx, tenant.id, id).await? {
            return Err(missing(id));
        }
        change.finish(tx, &()).await?;
        Ok(())
    }

    async fn rotate(
        &self,
        request: Request<pb::RotateWebhookSecretRequest>,
    ) -> ApiResult<pb::Webhook> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse_uuid(&request.name, "webhooks"));
        let overlap = request.overlap.map_or(OVERLAP, |d| d.seconds);
        let whole = request.overlap.is_none_or(|d| d.nanos == 0);
        if !whole || !(0..=LONGEST_OVERLAP).contains(&overlap) {
            violations.add("overlap", "must be whole seconds, from 0 to 7 days");
        }
        violations.finish(())?;
        let id = WebhookId(id.unwrap_or_default());

        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Webhook(id)).await?;
        }
        let found = load(&tx, &tenant, id).await?;
        change.check(&request.name, &self.to_wire(&found))?;
        let until = Utc::now() + TimeDelta::seconds(overlap);
        let secret = self.add_secret(&mut tx, &tenant, id, until).await?;
        let mut response = self.to_wire(&found);
        if change.finish(tx, &response).await? {
            response.secret = secret.show();
        }
        Ok(response)
    }

    async fn send_test(
        &self,
        request: Request<pb::SendTestEventRequest>,
    ) -> ApiResult<pb::Delivery> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse_uuid(&request.name, "webhooks"));
        let id = WebhookId(form::complete(violations, id)?);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        load(&tx, &tenant, id).await?;
        let event: EventId = event::send_test(&mut tx, tenant.id, id).await?;
        let queued = delivery::get(&tx, tenant.id, id, event)
            .await?
            .ok_or_else(|| ApiError::Internal("a delivery just queued".into()))?;
        let response = delivery_to_wire(&queued);
        change.finish(tx, &response).await?;
        self.app.wake.handover.notify_one();
        Ok(response)
    }

    /// A new secret; those before it end at `until`.
    async fn add_secret(
        &self,
        tx: &mut Conn,
        tenant: &Tenant,
        webhook: WebhookId,
        until: DateTime<Utc>,
    ) -> ApiResult<Secret> {
        let (secret, id) = (Secret::generate(), Uuid::now_v7());
        let sealed = secret
            .seal(&self.app.keys, tenant.id, webhook, id)
            .map_err(|e| ApiError::Internal(format!("sealing a secret: {e}")))?;
        store::add_secret(tx, tenant.id, webhook, id, &sealed, until).await?;
        Ok(secret)
    }

    /// Reads what the owner decides. The URL's host is looked up, unless it is the one that it has
    /// already: a webhook whose host is gone can still be paused.
    async fn settings(
        &self,
        webhook: Option<pb::Webhook>,
        known_url: Option<String>,
        violations: &mut Violations,
    ) -> Settings {
        if webhook.is_none() {
            violations.add("webhook", "is required");
        }
        let given = webhook.is_some();
        let webhook = webhook.unwrap_or_default();
        if given {
            check_name(&webhook.display_name, violations);
            check_types(&webhook.event_types, violations);
            if webhook.url.is_empty() {
                violations.add("webhook.url", "is required");
            } else if known_url.as_ref() != Some(&webhook.url) {
                violations.check("webhook.url", self.app.outside.check(&webhook.url).await);
            }
        }
        Settings {
            display_name: webhook.display_name,
            url: webhook.url,
            event_types: webhook.event_types,
            paused: webhook.paused,
        }
    }

    fn to_wire(&self, webhook: &Webhook) -> pb::Webhook {
        let failing_after = self.app.config.handover.failing_after;
        let failing = webhook
            .failing_since
            .is_some_and(|since| since + failing_after <= Utc::now());
        let state = match (webhook.paused, failing) {
            (true, _) => pb::WebhookState::Paused,
            (false, true) => pb::WebhookState::Failing,
            (false, false) => pb::WebhookState::Active,
        };
        tagged(pb::Webhook {
            name: webhook_name(webhook.id),
            display_name: webhook.display_name.clone(),
            url: webhook.url.clone(),
            event_types: webhook.event_types.clone(),
            paused: webhook.paused,
            state: state.into(),
            failing_since_time: webhook.failing_since.map(wire::timestamp),
            held_until_time: webhook
                .held_until
                .filter(|until| *until > Utc::now())
                .map(wire::timestamp),
            secret: String::new(),
            create_time: Some(wire::timestamp(webhook.created_at)),
            update_time: Some(wire::timestamp(webhook.updated_at)),
            etag: String::new(),
        })
    }
}

/// Whether two webhooks have the same settings.
fn is_alike(one: &pb::Webhook, other: &pb::Webhook) -> bool {
    let settings = |w: &pb::Webhook| {
        let (name, url, types) = (w.display_name.clone(), w.url.clone(), w.event_types.clone());
        (name, url, types, w.paused)
    };
    settings(one) == settings(other)
}

fn check_name(text: &str, violations: &mut Violations) {
    if !(1..=MAX_NAME).contains(&text.chars().count()) {
        violations.add(
            "webhook.display_name",
            format!("must have 1 to {MAX_NAME} characters"),
        );
    }
    if text.chars().any(char::is_control) {
        violations.add("webhook.display_name", "must not have control characters");
    }
}

fn check_types(types: &[String], violations: &mut Violations) {
    let most = EVENT_TYPES.len();
    form::at_most(violations, "webhook.event_types", types.len(), most);
    let mut seen = BTreeSet::new();
    for (i, given) in types.iter().take(most).enumerate() {
        let field = format!("webhook.event_types[{i}]");
        if !EVENT_TYPES.contains(&&given[..]) {
            violations.add(field, format!("must be one of {}", EVENT_TYPES.join(", ")));
        } else if !seen.insert(given) {
            violations.add(field, "is given twice");
        }
    }
}

/// `webhooks/{uuid}`.
pub(super) fn webhook_name(id: Uuid) -> String {
    name::format(&[("webhooks", &id.to_string())])
}

/// The id in a webhook's name.
pub(super) fn webhook_id(field: &str, text: &str) -> ApiResult<WebhookId> {
    name::parse_uuid(text, "webhooks")
        .map(WebhookId)
        .map_err(|e| ApiError::field(field, e.to_string()))
}

fn missing(id: WebhookId) -> ApiError {
    ApiError::NotFound(webhook_name(id.0))
}

/// The webhook, which must be there.
pub(super) async fn load(conn: &Conn, tenant: &Tenant, id: WebhookId) -> ApiResult<Webhook> {
    let found: Result<Option<Webhook>, StoreError> = store::get(conn, tenant.id, id).await;
    found?.ok_or_else(|| missing(id))
}
