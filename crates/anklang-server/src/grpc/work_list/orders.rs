//! Orders that customers place in a contact.

use anklang_domain::master::{OrderLineRow, OrderRow};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::handover::event;
use anklang_store::order::take::{Existing, MAX_LINES, NewLine};
use anklang_store::order::{self, acknowledge};
use anklang_store::planning::contact;
use anklang_store::planning::work::order::{
    self as capture, DeliverySource, NewOrder, Said, Taken, To,
};
use anklang_store::planning::work::resource;
use anklang_store::units::{self, Subject};
use anklang_store::{Conn, tenant::Tenant};
use chrono::{NaiveDate, Utc};
use rust_decimal::Decimal;
use tonic::Request;
use uuid::Uuid;

use super::super::form::{self, Form, Names};
use super::super::listing::Listing;
use super::super::orders::to_proto;
use super::super::wire::date;
use super::super::{ApiError, ApiResult, Change, caller_in_units};
use super::claims::talk;
use super::{WorkListApi, read, wire};

/// The longest departure, order type and so on, in characters.
const LONGEST_NAME: usize = 200;
/// Longer than any etag.
const LONGEST_ETAG: usize = 64;
/// Columns of an order and their names in a request.
const NAMES: Names = &[
    ("customer_number", ""),
    ("ordered_at", ""),
    ("currency", "currency_code"),
    ("brand_code", "brand"),
];
/// Columns of a line that a request does not have.
const LINE_NAMES: Names = &[("order_number", ""), ("line", "")];

impl WorkListApi {
    pub(super) async fn contact_orders(
        &self,
        request: Request<pb::ListContactOrdersRequest>,
    ) -> ApiResult<pb::ListContactOrdersResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = read::contact(&mut violations, "parent", &request.parent);
        let asked = request.delivery_date.as_ref();
        let asked = read::date(&mut violations, "delivery_date", asked);
        let (keys, of) = (&self.app.keys, &order::LISTABLE);
        let listing = Listing::read(keys, &caller, of, &request, &mut violations);
        let id = form::complete(violations, id)?;
        let mut tx = store.begin(tenant.id).await?;
        let contact = contact::get(&tx, tenant.id, id).await?;
        let contact = contact.ok_or_else(|| ApiError::NotFound(resource(id)))?;
        let found = match asked {
            Some(date) => Some((date, pb::DeliveryDateSource::Request)),
            None => capture::delivery(&mut tx, tenant.id, &contact, tenant.time_zone, Utc::now())
                .await?
                .map(|(date, source)| (date, source_of(source))),
        };
        let (customer, delivery) = (&contact.customer_number, found.map(|(date, _)| date));
        let page =
            order::of_delivery(&mut tx, tenant.id, customer, delivery, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListContactOrdersResponse {
            next_page_token: listing.token(page.next),
            orders: page.rows.into_iter().map(to_proto).collect(),
            delivery_date: delivery.map(date),
            delivery_date_source: found.map_or(0, |(_, source)| source.into()),
            departure: contact.departure,
            order_type: contact.order_type,
        })
    }

    pub(super) async fn take_order(
        &self,
        request: Request<pb::TakeOrderRequest>,
    ) -> ApiResult<pb::TakeOrderResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let wanted = Wanted::read(&request, &mut violations);
        let wanted = form::complete(violations, wanted)?;
        let mut tx = store.begin_work(tenant.id).await?;
        // Before it may be looked at whose it is.
        let is_there = match &wanted.order.to {
            To::Existing(number) if tx.is_bound() => {
                order::get(&tx, tenant.id, number).await?.is_some()
            }
            _ => true,
        };
        units::enter(&mut tx, tenant.id, Subject::Contact(wanted.id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if !is_there {
            return Err(ApiError::field("add_to", "does not exist"));
        }
        let under = capture::under_claim(&mut tx, tenant.id, wanted.id, wanted.claim).await?;
        if !request.add_to_etag.is_empty() {
            seen(&mut tx, tenant, &request, &wanted.order.to).await?;
        }
        let said = wanted.said(&request);
        let taken = capture::take(&mut tx, tenant.id, &under, &wanted.order, said).await?;
        let (order, contact) = match taken {
            Taken::Order { order, contact } => (order, contact),
            Taken::Exists {
                existing,
                delivery_date,
            } => return Err(exists(&existing, delivery_date)),
        };
        let id = order.order.id;
        let order = to_proto(*order);
        event::add_order_etag(&mut tx, tenant.id, id, &order.etag).await?;
        let response = pb::TakeOrderResponse {
            order: Some(order),
            warnings: wire::warnings(&contact.warnings),
            planned_contact: Some(wire::contact(contact.contact)),
        };
        if change.finish(tx, &response).await? {
            self.app.wake.handover.notify_one();
        }
        Ok(response)
    }
}

fn source_of(source: DeliverySource) -> pb::DeliveryDateSource {
    match source {
        DeliverySource::Contact => pb::DeliveryDateSource::Contact,
        DeliverySource::Plan => pb::DeliveryDateSource::Plan,
    }
}

/// Compares the order that lines are added to with what the caller has seen of it. What there is not is
/// told with all else.
async fn seen(
    conn: &mut Conn,
    tenant: &Tenant,
    request: &pb::TakeOrderRequest,
    to: &To,
) -> ApiResult<()> {
    let To::Existing(number) = to else {
        return Ok(());
    };
    if order::get(conn, tenant.id, number).await?.is_none() {
        return Ok(());
    }
    acknowledge::hold(conn, tenant.id, number).await?;
    let current = order::get(conn, tenant.id, number).await?;
    match current.map(to_proto) {
        Some(current) if current.etag == request.add_to_etag => Ok(()),
        _ => Err(ApiError::Stale(request.add_to.clone())),
    }
}

/// The orders that stand in the way.
fn exists(existing: &Existing, delivery: NaiveDate) -> ApiError {
    let mut names = existing
        .numbers
        .iter()
        .map(|number| order::resource(number));
    let first = names.next().unwrap_or_default();
    let others: Vec<String> = names.collect();
    let others = match (&others[..], existing.more) {
        ([], _) => String::new(),
        (others, false) => format!(", and so are {}", others.join(" and ")),
        (others, true) => format!(", and so are {} and more", others.join(", ")),
    };
    ApiError::Precondition {
        reason: ErrorReason::OrderExists,
        resource: first,
        description: format!(
            "is an order of the customer for {delivery} already{others}: name one in add_to, or \
             say another"
        ),
    }
}

/// A request as it was read.
struct Wanted {
    id: Uuid,
    claim: Uuid,
    order: NewOrder,
    /// The id of an outcome of the tenant's own.
    own: Option<String>,
    talk_seconds: i32,
}

impl Wanted {
    fn read(request: &pb::TakeOrderRequest, violations: &mut Violations) -> Option<Wanted> {
        let id = read::contact(violations, "name", &request.name);
        let claim = read::claim(violations, &request.claim);
        let own = match &request.outcome[..] {
            "" => None,
            name => violations
                .check("outcome", name::parse(name, ["contactOutcomes"]))
                .map(|[id]| id),
        };
        read::text(violations, "note", &request.note, read::LONGEST_NOTE);
        let talk_seconds = talk(request.talk_time.as_ref(), violations);
        if request.outcome_later {
            for (field, is_given) in [
                ("outcome", !request.outcome.is_empty()),
                ("note", !request.note.is_empty()),
                ("talk_time", request.talk_time.is_some()),
            ] {
                if is_given {
                    violations.add(field, "comes with the outcome, which is recorded later");
                }
            }
        }
        let order = order(request, violations);
        Some(Wanted {
            id: id?,
            claim: claim?,
            order: order?,
            own,
            talk_seconds,
        })
    }

    fn said<'r>(&'r self, request: &'r pb::TakeOrderRequest) -> Option<Said<'r>> {
        (!request.outcome_later).then(|| Said {
            own: self.own.as_deref(),
            note: request.note.trim(),
            talk_seconds: self.talk_seconds,
        })
    }
}

fn order(request: &pb::TakeOrderRequest, violations: &mut Violations) -> Option<NewOrder> {
    let to = match &request.add_to[..] {
        "" => None,
        name => violations
            .check("add_to", name::parse(name, ["orders"]))
            .map(|[number]| number),
    };
    if request.add_to_etag.len() > LONGEST_ETAG {
        violations.add("add_to_etag", "is no etag");
    } else if !request.add_to_etag.is_empty() && request.add_to.is_empty() {
        violations.add("add_to_etag", "goes with add_to only");
    }
    if request.another && !request.add_to.is_empty() {
        violations.add("another", "does not go with add_to");
    }
    let Some(given) = &request.order else {
        violations.add("order", "is required");
        return None;
    };
    let delivery = given.delivery_date.as_ref();
    let delivery_date = read::date(violations, "order.delivery_date", delivery);
    let head = head(given, violations);
    for (field, text, most) in [
        ("order.departure", &given.departure, LONGEST_NAME),
        ("order.order_type", &given.order_type, LONGEST_NAME),
        ("order.note", &given.note, read::LONGEST_NOTE),
    ] {
        read::text(violations, field, text, most);
    }
    if !request.add_to.is_empty() {
        of_new_only(given, violations);
    }
    let (currency, lines) = lines(given, violations)?;
    let to = match (to, head) {
        (Some(number), _) => To::Existing(number),
        (None, head) => {
            let head = head?;
            To::New {
                number: given.number.trim().to_owned(),
                brand: head.brand_code,
                departure: given.departure.trim().to_owned(),
                order_type: given.order_type.trim().to_owned(),
                note: given.note.trim().to_owned(),
                another: request.another,
            }
        }
    };
    Some(NewOrder {
        to,
        delivery_date,
        currency,
        lines,
    })
}

/// Number and brand of an order, by the rules of master data.
fn head(given: &pb::NewOrder, violations: &mut Violations) -> Option<OrderRow> {
    order_row(
        "order.",
        given.number.trim(),
        &given.brand,
        "EUR",
        violations,
    )
}

/// A row of an order; what is not said yet is filled in.
fn order_row(
    prefix: &str,
    number: &str,
    brand: &str,
    currency: &str,
    violations: &mut Violations,
) -> Option<OrderRow> {
    Form::new(prefix, NAMES, violations)
        .text("number", if number.is_empty() { "-" } else { number })
        .id("brand_code", brand, "brands")
        .text("customer_number", "-")
        .text("ordered_at", "2000-01-01T00:00:00Z")
        .text("currency", currency)
        .parse()
}

/// What an order has that lines are added to, and nobody changes by that.
fn of_new_only(given: &pb::NewOrder, violations: &mut Violations) {
    for (field, text) in [
        ("number", &given.number),
        ("brand", &given.brand),
        ("departure", &given.departure),
        ("order_type", &given.order_type),
        ("note", &given.note),
    ] {
        if !text.is_empty() {
            violations.add(format!("order.{field}"), "goes with a new order only");
        }
    }
}

/// Lines, by the rules of master data, and their currency.
fn lines(given: &pb::NewOrder, violations: &mut Violations) -> Option<(String, Vec<NewLine>)> {
    form::at_most(violations, "order.lines", given.lines.len(), MAX_LINES);
    if given.lines.is_empty() {
        violations.add("order.lines", "are required: at least one");
    }
    let prices = given.lines.iter().map(|line| line.unit_price.as_ref());
    let first = prices.enumerate().find_map(|(i, price)| Some((i, price?)));
    let currency = first.map_or("", |(_, price)| price.currency_code.trim());
    if let Some((i, _)) = first {
        let at = format!("order.lines[{i}].unit_price.");
        order_row(&at, "", "", currency, violations);
    }
    let mut lines = Vec::new();
    for (i, line) in given.lines.iter().take(MAX_LINES).enumerate() {
        lines.extend(read_line(
            &format!("order.lines[{i}]."),
            line,
            currency,
            violations,
        ));
    }
    (!lines.is_empty()).then(|| (currency.to_owned(), lines))
}

fn read_line(
    prefix: &str,
    line: &pb::NewOrderLine,
    currency: &str,
    violations: &mut Violations,
) -> Option<NewLine> {
    let price = line.unit_price.as_ref();
    let at = |field: &str| format!("{prefix}{field}");
    if price.is_some_and(|price| price.currency_code.trim() != currency) {
        let rule = "must be that of the first price: an order has one currency";
        violations.add(at("unit_price.currency_code"), rule);
    }
    let quantity: Result<Decimal, _> = line.quantity.trim().parse();
    if quantity.is_ok_and(|quantity| quantity.is_zero()) {
        violations.add(at("quantity"), "must not be 0");
    }
    let texts = [
        &line.product_number,
        &line.product_name,
        &line.product_group,
    ];
    if texts.iter().all(|text| text.trim().is_empty()) {
        let rule = "is required, or product_name or product_group";
        violations.add(at("product_number"), rule);
    }
    let row: Option<OrderLineRow> = Form::new(prefix, LINE_NAMES, violations)
        .text("order_number", "-")
        .text("line", "1")
        .text("product_number", &line.product_number)
        .text("product_name", &line.product_name)
        .text("product_group", &line.product_group)
        .text("quantity", &line.quantity)
        .amount("unit_price", price)
        .parse();
    let row = row?;
    Some(NewLine {
        product_number: row.product_number,
        product_name: row.product_name,
        product_group: row.product_group,
        quantity: row.quantity,
        unit_price: row.unit_price,
    })
}
