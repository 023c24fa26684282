//! Orders: the sales history, and what the tenant's ERP makes of orders that were taken here.

use std::sync::Arc;

use anklang_domain::master::{OrderLineRow, OrderRow};
use anklang_domain::order::{Acknowledgement, OrderState};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::orders::v1 as pb;
use anklang_store::Store;
use anklang_store::hold::{Held, hold};
use anklang_store::order::acknowledge::{self, Outcome};
use anklang_store::order::{self, OrderDetails, OrderLine, OrderUpdate};
use tonic::{Request, Response, Status};

use super::contracts::customer_filter;
use super::form::{self, Form, Names};
use super::listing::Listing;
use super::planning::contacts::resource as contact;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::seal::Keys;

/// The most lines of an order.
const MAX_LINES: usize = 1_000;
/// The longest number of an order, in characters.
const LONGEST_NUMBER: usize = 64;
/// The longest reason of a rejection, in characters.
const LONGEST_REASON: usize = 2_000;

/// Columns of orders and their names in the message.
const NAMES: Names = &[
    ("customer_number", "customer"),
    ("brand_code", "brand"),
    ("ordered_at", "order_time"),
    ("currency", "currency_code"),
];
/// Columns of lines and their names in the message.
const LINE_NAMES: Names = &[("order_number", "")];

/// The service.
pub struct OrdersApi {
    store: Store,
    keys: Arc<Keys>,
}

impl OrdersApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        OrdersApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::order_service_server::OrderService for OrdersApi {
    async fn get_order(
        &self,
        request: Request<pb::GetOrderRequest>,
    ) -> Result<Response<pb::Order>, Status> {
        reply(self.get(request).await)
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_order(
        &self,
        request: Request<pb::UpdateOrderRequest>,
    ) -> Result<Response<pb::Order>, Status> {
        reply(self.update(request).await)
    }

    async fn acknowledge_order(
        &self,
        request: Request<pb::AcknowledgeOrderRequest>,
    ) -> Result<Response<pb::Order>, Status> {
        reply(self.acknowledge(request).await)
    }
}

impl OrdersApi {
    async fn get(&self, request: Request<pb::GetOrderRequest>) -> ApiResult<pb::Order> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let [number] = form::ids("name", &request.name, ["orders"])?;
        let order = store
            .read(tenant.id)
            .ask(|conn| order::find(conn, tenant.id, &number))
            .await?;
        order.map(to_proto).ok_or(ApiError::NotFound(request.name))
    }

    async fn list(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> ApiResult<pb::ListOrdersResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let customer = customer_filter(&request.customer, &mut violations);
        let of = &order::LISTABLE;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| order::list(conn, tenant.id, customer, &listing.list))
            .await?;
        Ok(pb::ListOrdersResponse {
            next_page_token: listing.token(page.next),
            orders: page.rows.into_iter().map(to_proto).collect(),
        })
    }

    async fn update(&self, request: Request<pb::UpdateOrderRequest>) -> ApiResult<pb::Order> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut order = request
            .order
            .ok_or_else(|| ApiError::field("order", "is required"))?;
        let known = form::identify(&mut order.number, &order.name, "orders");
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        // By the number under which it was taken it is the same order.
        let named = order::resource(&order.number);
        if known.is_some() && (order.name.is_empty() || order.name == named) {
            order.number = order::number_now(&mut tx, tenant.id, &order.number).await?;
            order.name = order::resource(&order.number);
        }
        if change.looks() && known.is_some() {
            let number = order.number.clone();
            hold(&mut tx, tenant.id, Held::Order(&number)).await?;
            let current = order::get(&tx, tenant.id, &number).await?.map(to_proto);
            let called = std::mem::take(&mut order.name);
            let name = name::format(&[("orders", &number)]);
            order = change.settle(&name, current, order, request.allow_missing)?;
            order.name = called;
        }
        let update = from_proto(order, &mut violations);
        let update = form::complete(violations, update)?;
        let saved = order::replace(&mut tx, tenant.id, update, request.allow_missing)
            .await
            .map_err(|e| {
                form::store_error(e, |f| form::stored_path("order.", NAMES, LINE_NAMES, f))
            })?;
        let response = to_proto(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn acknowledge(
        &self,
        request: Request<pb::AcknowledgeOrderRequest>,
    ) -> ApiResult<pb::Order> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let number = violations.check("name", name::parse(&request.name, ["orders"]));
        let said = acknowledgement(&request, &mut violations);
        let ([number], said) = form::complete(violations, number.zip(said))?;
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let held = acknowledge::hold(&mut tx, tenant.id, &number).await?;
        if change.looks() {
            let current = order::get(&tx, tenant.id, &held).await?;
            let current = current.ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
            change.check(&request.name, &to_proto(current))?;
        }
        let outcome = acknowledge::acknowledge(&mut tx, tenant.id, &number, said).await?;
        let order = match outcome {
            Outcome::Done(order) => to_proto(*order),
            Outcome::Refused(reason) => {
                return Err(ApiError::Precondition {
                    reason: ErrorReason::IllegalTransition,
                    resource: order::resource(&held),
                    description: reason.into(),
                });
            }
        };
        change.finish(tx, &order).await?;
        Ok(order)
    }
}

/// What the ERP says of an order.
fn acknowledgement<'r>(
    request: &'r pb::AcknowledgeOrderRequest,
    violations: &mut Violations,
) -> Option<Acknowledgement<'r>> {
    let (number, reason) = (request.number.trim(), request.reject_reason.trim());
    if number.chars().count() > LONGEST_NUMBER || number.chars().any(char::is_control) {
        let rule = format!("must have 1 to {LONGEST_NUMBER} printable characters");
        violations.add("number", rule);
    }
    if reason.chars().count() > LONGEST_REASON {
        let rule = format!("must have at most {LONGEST_REASON} characters");
        violations.add("reject_reason", rule);
    }
    if reason.chars().any(|c| c.is_control() && c != '\n') {
        violations.add("reject_reason", "must not have control characters");
    }
    match request.state() {
        pb::OrderState::Accepted => {
            if !reason.is_empty() {
                violations.add("reject_reason", "goes with ORDER_STATE_REJECTED only");
            }
            Some(Acknowledgement::Accepted { number })
        }
        pb::OrderState::Rejected => {
            if !number.is_empty() {
                violations.add("number", "goes with ORDER_STATE_ACCEPTED only");
            }
            if reason.is_empty() {
                violations.add("reject_reason", "is required");
            }
            Some(Acknowledgement::Rejected { reason })
        }
        pb::OrderState::Unspecified | pb::OrderState::Taken => {
            let rule = "must be ORDER_STATE_ACCEPTED or ORDER_STATE_REJECTED";
            violations.add("state", rule);
            None
        }
    }
}

fn from_proto(mut order: pb::Order, violations: &mut Violations) -> Option<OrderUpdate> {
    form::check_name(
        violations,
        "order.name",
        &order.name,
        &[("orders", &order.number)],
    );
    let lines = lines(&mut order, violations);
    let order: Option<OrderRow> = Form::new("order.", NAMES, violations)
        .text("number", order.number)
        .id("customer_number", &order.customer, "customers")
        .id("brand_code", &order.brand, "brands")
        .time("ordered_at", order.order_time.as_ref())
        .text("currency", order.currency_code)
        .date("delivery_date", order.delivery_date.as_ref())
        .parse();
    Some(OrderUpdate {
        order: order?,
        lines,
    })
}

fn lines(order: &mut pb::Order, violations: &mut Violations) -> Vec<OrderLineRow> {
    let lines = std::mem::take(&mut order.lines);
    form::at_most(violations, "order.lines", lines.len(), MAX_LINES);
    let mut rows = Vec::new();
    for (i, line) in lines.into_iter().take(MAX_LINES).enumerate() {
        let prefix = format!("order.lines[{i}].");
        let price = line.unit_price.as_ref();
        if price.is_some_and(|m| m.currency_code != order.currency_code) {
            let field = format!("{prefix}unit_price.currency_code");
            violations.add(field, "must be that of the order");
        }
        let row: Option<OrderLineRow> = Form::new(prefix, LINE_NAMES, violations)
            .text("order_number", &order.number)
            .text("line", line.line.to_string())
            .text("product_number", line.product_number)
            .text("product_name", line.product_name)
            .text("product_group", line.product_group)
            .text("quantity", line.quantity)
            .amount("unit_price", price)
            .parse();
        rows.extend(row);
    }
    rows
}

/// An order on the wire.
pub fn to_proto(details: OrderDetails) -> pb::Order {
    let total = details.total();
    let order = details.order;
    let line = |line: OrderLine| pb::OrderLine {
        line: line.line,
        product_number: line.product_number,
        product_name: line.product_name,
        product_group: line.product_group,
        quantity: line.quantity.normalize().to_string(),
        unit_price: Some(wire::money(line.unit_price, &order.currency)),
    };
    tagged(pb::Order {
        name: name::format(&[("orders", &order.number)]),
        number: order.number,
        customer: name::format(&[("customers", &order.customer_number)]),
        brand: order
            .brand_code
            .map_or_else(String::new, |code| name::format(&[("brands", &code)])),
        order_time: Some(wire::timestamp(order.ordered_at)),
        total: Some(wire::money(total, &order.currency)),
        lines: details.lines.into_iter().map(line).collect(),
        currency_code: order.currency,
        create_time: Some(wire::timestamp(order.created_at)),
        update_time: Some(wire::timestamp(order.updated_at)),
        delivery_date: order.delivery_date.map(wire::date),
        departure: order.departure,
        order_type: order.order_type,
        note: order.note,
        planned_contact: order.contact_id.map(contact).unwrap_or_default(),
        taken_by: order.taken_by,
        state: state(&order.state).into(),
        taken_number: order.taken_number,
        reject_reason: order.reject_reason,
        acknowledge_time: order.acknowledged_at.map(wire::timestamp),
        etag: String::new(),
    })
}

/// How far an order is; unspecified for one that was not taken here.
fn state(stored: &str) -> pb::OrderState {
    match OrderState::parse(stored) {
        None => pb::OrderState::Unspecified,
        Some(OrderState::Taken) => pb::OrderState::Taken,
        Some(OrderState::Accepted) => pb::OrderState::Accepted,
        Some(OrderState::Rejected) => pb::OrderState::Rejected,
    }
}
