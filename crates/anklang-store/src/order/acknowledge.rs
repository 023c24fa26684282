//! What the tenant's ERP makes of orders that were taken here.

use std::sync::LazyLock;

use anklang_domain::order::{Acknowledged, Acknowledgement, OrderState, acknowledge as decide};
use anklang_domain::{TenantId, Violations};
use diesel::sql_types::{Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::{OrderDetails, get, resource};
use crate::handover::event::ANNOUNCE_ORDER;
use crate::{Conn, Result, StoreError};

/// What came of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order as it is now.
    Done(Box<OrderDetails>),
    /// It cannot be, for this reason; nothing was changed.
    Refused(&'static str),
}

#[derive(QueryableByName)]
struct Standing {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    number: String,
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
    #[diesel(sql_type = Text)]
    state: String,
}

/// Holds the order that was taken under that number, or else has it, until the end of the transaction;
/// gives its number.
///
/// # Errors
/// `Missing` when there is none.
pub async fn hold(conn: &mut Conn, tenant: TenantId, number: &str) -> Result<String> {
    let found = standing(conn, tenant, number, CHANGES).await?;
    Ok(found
        .ok_or_else(|| StoreError::Missing(resource(number)))?
        .number)
}

/// How an order is locked that changes, and one that goes.
const CHANGES: &str = "FOR NO KEY UPDATE";
const GOES: &str = "FOR UPDATE";

async fn standing(
    conn: &mut Conn,
    tenant: TenantId,
    number: &str,
    lock: &'static str,
) -> Result<Option<Standing>> {
    for column in ["taken_number", "number"] {
        let found = diesel::sql_query(format!(
            "SELECT id, number, customer_id, state FROM sales_order
             WHERE tenant_id = $1 AND {column} = $2 AND {column} <> '' {lock}"
        ))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(number)
        .get_result(conn)
        .await
        .optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Records what the ERP says of the order with that number, or that was taken under it. An accepted one
/// gets the ERP's number; an order that came from the ERP under that number is made one with it.
///
/// # Errors
/// `Missing`; `Invalid` with a violation at `number`.
pub async fn acknowledge(
    conn: &mut Conn,
    tenant: TenantId,
    number: &str,
    said: Acknowledgement<'_>,
) -> Result<Outcome> {
    let missing = || StoreError::Missing(resource(number));
    let order = standing(conn, tenant, number, CHANGES).await?;
    let order = order.ok_or_else(missing)?;
    let state = OrderState::parse(&order.state);
    let becomes = match decide(state, &order.number, said) {
        Acknowledged::Refused(reason) => return Ok(Outcome::Refused(reason)),
        Acknowledged::AsBefore => None,
        Acknowledged::Becomes(state) => Some(state),
    };
    let (new_number, reason) = match said {
        Acknowledgement::Accepted { number } if !number.is_empty() => (number, ""),
        Acknowledgement::Accepted { .. } => (&order.number[..], ""),
        Acknowledgement::Rejected { reason } => (&order.number[..], reason),
    };
    if let Some(state) = becomes {
        let dropped = match new_number == order.number {
            true => None,
            false => unite(conn, tenant, &order, new_number).await?,
        };
        let said = Said {
            state,
            number: new_number,
            reason,
            dropped,
        };
        write(conn, tenant, order.id, &said).await?;
    }
    let shown = match becomes {
        Some(_) => new_number,
        None => &order.number,
    };
    let details = get(conn, tenant, shown).await?.ok_or_else(missing)?;
    Ok(Outcome::Done(Box::new(details)))
}

/// What is written of an acknowledgement.
struct Said<'a> {
    state: OrderState,
    number: &'a str,
    reason: &'a str,
    /// Lines that were taken and are not among those of the ERP's order.
    dropped: Option<Value>,
}

async fn write(conn: &mut Conn, tenant: TenantId, order: Uuid, said: &Said<'_>) -> Result<()> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "WITH changed AS (
                 UPDATE sales_order
                 SET state = $3, number = $4, reject_reason = $5, acknowledged_at = now(),
                     updated_at = now()
                 WHERE tenant_id = $1 AND id = $2
                 RETURNING *),
             told_lines AS (
                 SELECT line, product_number, product_name, product_group, quantity, unit_price
                 FROM order_line WHERE tenant_id = $1 AND order_id = $2),
             news AS (
                 SELECT 'rejected'::text AS kind, $6::text AS subject, contact_id,
                        taken_by AS worker, '[]'::jsonb AS added_lines
                 FROM changed WHERE state = 'rejected'),
             {ANNOUNCE_ORDER}
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, details)
             SELECT $1, c.customer_id, 'order.' || c.state, $6,
                    jsonb_strip_nulls(jsonb_build_object(
                        'planned_contact', 'plannedContacts/' || c.contact_id,
                        'taken_by', c.taken_by, 'taken_number', c.taken_number,
                        'reject_reason', nullif(c.reject_reason, ''), 'dropped_lines', $7))
             FROM changed c"
        )
    });
    let written = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(order)
        .bind::<Text, _>(said.state.as_str())
        .bind::<Text, _>(said.number)
        .bind::<Text, _>(said.reason)
        .bind::<Text, _>(resource(said.number))
        .bind::<Nullable<Jsonb>, _>(&said.dropped)
        .execute(conn)
        .await?;
    match written {
        1 => Ok(()),
        n => Err(StoreError::Stored(format!("{n} orders of one number"))),
    }
}

/// Makes one of an order that is about to get a number and the one that the ERP has sent under it
/// meanwhile, if there is such a one: what the ERP says of it holds, and so does what is known from
/// taking it. Gives the lines that were taken and that the ERP's order does not have, if there are any; one
/// that has no lines at all leaves them as they are.
async fn unite(
    conn: &mut Conn,
    tenant: TenantId,
    order: &Standing,
    number: &str,
) -> Result<Option<Value>> {
    #[derive(QueryableByName)]
    struct Dropped {
        #[diesel(sql_type = Nullable<Jsonb>)]
        lines: Option<Value>,
    }
    // Nobody adds lines to it that would go with it.
    let Some(sent) = standing(conn, tenant, number, GOES).await? else {
        return Ok(None);
    };
    let mut violations = Violations::new();
    if !sent.state.is_empty() {
        violations.add("number", "is that of another order that was taken here");
    } else if sent.customer_id != order.customer_id {
        violations.add("number", "is that of an order of another customer");
    }
    violations.finish(())?;
    let dropped: Dropped = diesel::sql_query(DROPPED)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(order.id)
        .bind::<SqlUuid, _>(sent.id)
        .get_result(conn)
        .await?;
    for sql in UNITE {
        diesel::sql_query(sql)
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(order.id)
            .bind::<SqlUuid, _>(sent.id)
            .execute(conn)
            .await?;
    }
    Ok(dropped.lines)
}

/// Lines of the order `$2`, of which the order `$3`, which has lines, has none with the same product, quantity
/// and price.
const DROPPED: &str = "
    SELECT jsonb_agg(jsonb_build_object(
               'line', o.line, 'product_number', o.product_number, 'product_name', o.product_name,
               'product_group', o.product_group, 'quantity', o.quantity::text,
               'unit_price', o.unit_price::text) ORDER BY o.line) AS lines
    FROM order_line o
    WHERE o.tenant_id = $1 AND o.order_id = $2
      AND EXISTS (SELECT FROM order_line WHERE tenant_id = $1 AND order_id = $3)
      AND NOT EXISTS (
          SELECT FROM order_line s
          WHERE s.tenant_id = $1 AND s.order_id = $3
            AND (s.product_number, s.quantity, s.unit_price)
                = (o.product_number, o.quantity, o.unit_price)
            AND (o.product_number <> '' OR s.product_name = o.product_name))";

/// `$2` is the order that stays, `$3` the one that the ERP has sent. One after the other, because the
/// numbers of orders and lines are unique at each moment.
const UNITE: [&str; 4] = [
    "UPDATE sales_order
     SET (brand_id, ordered_at, currency, delivery_date) = (
         SELECT s.brand_id, s.ordered_at, s.currency,
                coalesce(s.delivery_date, sales_order.delivery_date)
         FROM sales_order s WHERE s.tenant_id = $1 AND s.id = $3)
     WHERE tenant_id = $1 AND id = $2",
    "DELETE FROM order_line WHERE tenant_id = $1 AND order_id = $2
       AND EXISTS (SELECT FROM order_line WHERE tenant_id = $1 AND order_id = $3)",
    "UPDATE order_line SET order_id = $2 WHERE tenant_id = $1 AND order_id = $3",
    "DELETE FROM sales_order WHERE tenant_id = $1 AND id = $3 AND id <> $2",
];
