//! Customers with contact points, consents, attributes and history; suppressions.

pub mod attributes;

mod convert;

use std::sync::Arc;

use anklang_domain::master::{Row, SuppressionRow};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::customers::v1 as pb;
use anklang_store::Store;
use anklang_store::customer::{self, CustomerEvent};
use anklang_store::hold::{Held, hold};
use anklang_store::suppression::{self, Suppression};
use tonic::{Request, Response, Status};

use super::form::{self, Form};
use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::seal::Keys;

/// The service.
pub struct CustomersApi {
    store: Store,
    keys: Arc<Keys>,
}

impl CustomersApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        CustomersApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::customer_service_server::CustomerService for CustomersApi {
    async fn get_customer(
        &self,
        request: Request<pb::GetCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        reply(self.get(request).await)
    }

    async fn list_customers(
        &self,
        request: Request<pb::ListCustomersRequest>,
    ) -> Result<Response<pb::ListCustomersResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_customer(
        &self,
        request: Request<pb::UpdateCustomerRequest>,
    ) -> Result<Response<pb::Customer>, Status> {
        reply(self.update(request).await)
    }

    async fn list_customer_events(
        &self,
        request: Request<pb::ListCustomerEventsRequest>,
    ) -> Result<Response<pb::ListCustomerEventsResponse>, Status> {
        reply(self.list_events(request).await)
    }

    async fn create_suppression(
        &self,
        request: Request<pb::CreateSuppressionRequest>,
    ) -> Result<Response<pb::Suppression>, Status> {
        reply(self.suppress(request).await)
    }

    async fn get_suppression(
        &self,
        request: Request<pb::GetSuppressionRequest>,
    ) -> Result<Response<pb::Suppression>, Status> {
        reply(self.suppression(request).await)
    }

    async fn delete_suppression(
        &self,
        request: Request<pb::DeleteSuppressionRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.unsuppress(request).await)
    }
}

impl CustomersApi {
    async fn get(&self, request: Request<pb::GetCustomerRequest>) -> ApiResult<pb::Customer> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let [number] = form::ids("name", &request.name, ["customers"])?;
        let customer = store
            .read(tenant.id)
            .ask(|conn| customer::get(conn, tenant.id, &number))
            .await?;
        customer
            .map(convert::to_proto)
            .ok_or(ApiError::NotFound(request.name))
    }

    async fn list(
        &self,
        request: Request<pb::ListCustomersRequest>,
    ) -> ApiResult<pb::ListCustomersResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let of = &customer::LISTABLE;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| customer::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListCustomersResponse {
            next_page_token: listing.token(page.next),
            customers: page.rows.into_iter().map(convert::to_proto).collect(),
        })
    }

    async fn update(&self, request: Request<pb::UpdateCustomerRequest>) -> ApiResult<pb::Customer> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut customer = request
            .customer
            .ok_or_else(|| ApiError::field("customer", "is required"))?;
        let known = form::identify(&mut customer.number, &customer.name, "customers");
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(number) = known.filter(|_| change.looks()) {
            hold(&mut tx, tenant.id, Held::Customer(&number)).await?;
            let current = customer::get(&tx, tenant.id, &number)
                .await?
                .map(convert::to_proto);
            let called = std::mem::take(&mut customer.name);
            let name = name::format(&[("customers", &number)]);
            customer = change.settle(&name, current, customer, request.allow_missing)?;
            customer.name = called;
        }
        let keys = attributes::keys(&customer.attributes);
        let update = convert::from_proto(customer, &mut violations);
        let update = form::complete(violations, update)?;
        let saved = customer::replace(&mut tx, tenant.id, update, request.allow_missing)
            .await
            .map_err(|e| form::store_error(e, |f| convert::stored_path(&keys, f)))?;
        let response = convert::to_proto(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn list_events(
        &self,
        request: Request<pb::ListCustomerEventsRequest>,
    ) -> ApiResult<pb::ListCustomerEventsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let parent = violations.check("parent", name::parse(&request.parent, ["customers"]));
        let of = &customer::EVENTS;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        let [number] = form::complete(violations, parent)?;
        let page = store
            .read(tenant.id)
            .ask(|conn| customer::events(conn, tenant.id, &number, &listing.list))
            .await?;
        let page = page.ok_or(ApiError::NotFound(request.parent))?;
        Ok(pb::ListCustomerEventsResponse {
            next_page_token: listing.token(page.next),
            customer_events: page.rows.into_iter().map(event_to_proto).collect(),
        })
    }

    async fn suppress(
        &self,
        request: Request<pb::CreateSuppressionRequest>,
    ) -> ApiResult<pb::Suppression> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let suppression = request
            .suppression
            .ok_or_else(|| ApiError::field("suppression", "is required"))?;
        let row: Option<SuppressionRow> = Form::new("suppression.", &[], &mut violations)
            .text("channel", suppression.channel)
            .text("address", suppression.address)
            .text("reason", suppression.reason)
            .parse();
        let row = form::complete(violations, row)?;
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let stored = suppression::create(&mut tx, tenant.id, &row).await?;
        let response = suppression_to_proto(stored);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn suppression(
        &self,
        request: Request<pb::GetSuppressionRequest>,
    ) -> ApiResult<pb::Suppression> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let row = address(&request.channel, &request.address)?;
        let found = self
            .store
            .read(tenant.id)
            .ask(|conn| suppression::get(conn, tenant.id, &row.channel, &row.address))
            .await?;
        found.map(suppression_to_proto).ok_or_else(not_suppressed)
    }

    async fn unsuppress(&self, request: Request<pb::DeleteSuppressionRequest>) -> ApiResult<()> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        violations.finish(())?;
        let row = address(&request.channel, &request.address)?;
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Suppression(&row.channel)).await?;
            let current = suppression::get(&tx, tenant.id, &row.channel, &row.address).await?;
            let current = current
                .map(suppression_to_proto)
                .ok_or_else(not_suppressed)?;
            change.check("the suppression of this address", &current)?;
        }
        let deleted = suppression::delete(&mut tx, tenant.id, &row.channel, &row.address).await?;
        if !deleted {
            return Err(not_suppressed());
        }
        change.finish(tx, &()).await?;
        Ok(())
    }
}

/// An address to look up, normalised.
fn address(channel: &str, address: &str) -> ApiResult<SuppressionRow> {
    Ok(SuppressionRow::parse(&|field| match field {
        "channel" => Some(channel),
        "address" => Some(address),
        _ => None,
    })?)
}

/// The address itself is not repeated: messages of errors end up in logs.
fn not_suppressed() -> ApiError {
    ApiError::NotFound("the suppression of this address".into())
}

fn suppression_to_proto(suppression: Suppression) -> pb::Suppression {
    tagged(pb::Suppression {
        channel: suppression.channel,
        address: String::new(),
        reason: suppression.reason,
        create_time: Some(wire::timestamp(suppression.created_at)),
        etag: String::new(),
    })
}

fn event_to_proto(event: CustomerEvent) -> pb::CustomerEvent {
    let campaign = event.campaign_id.map(|id| id.to_string());
    pb::CustomerEvent {
        kind: event.kind,
        event_time: Some(wire::timestamp(event.occurred_at)),
        resource: event.resource,
        campaign: campaign.map_or_else(String::new, |id| name::format(&[("campaigns", &id)])),
        details: convert::to_struct(event.details),
    }
}
