//! Cases as the API shows them.

use anklang_domain::name;
use anklang_domain::winback::{CaseState, Tile, link, tile_of};
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::r#type::Money;
use anklang_store::winback::case::claim::Claim;
use anklang_store::winback::case::event::Event;
use anklang_store::winback::case::{self, Case, Product};
use anklang_store::winback::settings::Links;
use chrono::NaiveDate;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;

use super::read::tile_to_wire;
use crate::grpc::planning::contacts::word;
use crate::grpc::structs;
use crate::grpc::tagged;
use crate::grpc::wire::{date, money, timestamp};

/// The tile that a case lies on.
pub(super) fn tile(case: &Case, today: NaiveDate) -> Option<Tile> {
    tile_of(CaseState::parse(&case.state)?, case.due_on, today)
}

/// A case without its links and products.
pub(super) fn case(row: Case, today: NaiveDate) -> pb::WinbackCase {
    let tile = tile(&row, today).map_or(0, |tile| tile_to_wire(tile).into());
    let named = |collection: &str, id: &Option<String>| {
        let named = |id: &String| name::format(&[(collection, id)]);
        id.as_ref().map(named).unwrap_or_default()
    };
    let amount = |amount: Decimal| Some(money(amount, &row.currency));
    tagged(pb::WinbackCase {
        name: case::resource(row.id),
        customer: name::format(&[("customers", &row.customer_number)]),
        state: state(&row.state),
        tile,
        open_date: Some(date(row.opened_on)),
        due_date: row.due_on.map(date),
        standard_mail_date: row.standard_on.map(date),
        voucher_mail_date: row.voucher_on.map(date),
        contact_date: row.contacted_on.map(date),
        no_interest_reason: (row.no_interest.as_deref()).map_or(0, reason),
        close_date: row.closed_on.map(date),
        hold_expire_time: row.held_until.map(timestamp),
        revenue_then: amount(row.revenue_then),
        revenue_now: amount(row.revenue_now),
        known_days: row.known_days,
        season: row.season.normalize().to_string(),
        expected_revenue: amount(row.expected),
        actual_revenue: amount(row.actual),
        revenue_drop: amount(row.drop_amount),
        drop_percent: row.drop_percent.normalize().to_string(),
        last_order_date: Some(date(row.last_order)),
        lost_group_share: row.lost_share,
        alive: row.alive,
        expected_purchases: row.purchases,
        order_value: row
            .order_value
            .and_then(|value| rounded(value, &row.currency)),
        at_stake: row.at_stake.and_then(amount),
        last_order: named("orders", &row.last_order_number),
        last_order_brand: named("brands", &row.last_order_brand),
        won_order: named("orders", &row.won_order),
        won_after_contact: row.won_contacted.unwrap_or_default(),
        won_revenue: row.won_revenue.and_then(amount),
        offer: named("offers", &row.offer_number),
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        customer_name: row.customer_name,
        customer_group: row.customer_group,
        held_by: row.held_by.unwrap_or_default(),
        lost_groups: row.lost_groups,
        control_until_date: row.control_until.map(date),
        last_order_group: row.last_order_group,
        ..Default::default()
    })
}

/// Money of an estimate, in cents. `None` for what is no amount.
fn rounded(value: f64, currency: &str) -> Option<Money> {
    Decimal::from_f64(value).map(|value| money(value.round_dp(2), currency))
}

/// A state of the ledger.
pub(super) fn state(word_of: &str) -> i32 {
    word::<pb::WinbackCaseState>("WINBACK_CASE_STATE_", word_of)
}

/// A reason of the ledger.
pub(super) fn reason(word_of: &str) -> i32 {
    word::<pb::NoInterestReason>("NO_INTEREST_REASON_", word_of)
}

/// The case with its links and the products of the newest order. The etag does not cover them.
pub(super) fn with_links(
    mut shown: pb::WinbackCase,
    links: &Links,
    products: Vec<Product>,
) -> pb::WinbackCase {
    let linked = |template: &str, collection: &'static str, resource: &str| {
        let id = name::parse(resource, [collection]).ok();
        id.map(|[id]| link(template, &id)).unwrap_or_default()
    };
    shown.customer_link = linked(&links.customer, "customers", &shown.customer);
    shown.order_link = linked(&links.order, "orders", &shown.last_order);
    let currency = shown.revenue_then.as_ref().map(|m| m.currency_code.clone());
    let currency = currency.unwrap_or_default();
    let product = |product: Product| pb::WinbackProduct {
        link: match &product.number[..] {
            "" => String::new(),
            number => link(&links.product, number),
        },
        number: product.number,
        display_name: product.name,
        product_group: product.product_group,
        revenue: Some(money(product.revenue, &currency)),
    };
    shown.last_order_products = products.into_iter().map(product).collect();
    shown
}

/// A claim with the case in full.
pub(super) fn claim(claim: &Claim, shown: pb::WinbackCase) -> pb::WinbackCaseClaim {
    pb::WinbackCaseClaim {
        claim: claim.id.to_string(),
        winback_case: Some(shown),
    }
}

/// A line of a case's history.
pub(super) fn event(row: Event) -> pb::WinbackCaseEvent {
    pb::WinbackCaseEvent {
        kind: word::<pb::WinbackCaseEventKind>("WINBACK_CASE_EVENT_KIND_", &row.kind),
        from_state: state(&row.from_state),
        to_state: state(&row.to_state),
        actor: row.actor,
        details: Some(structs::from_json(&row.detail)),
        create_time: Some(timestamp(row.created_at)),
    }
}
