//! What the tenant's ERP makes of orders that were taken here.

use std::sync::LazyLock;

use anklang_domain::order::{Acknowledged, Acknowledgement, OrderState, acknowledge as decide};
use anklang_domain::{TenantId, Violations};
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
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
    let found = standing(conn, tenant, number).await?;
    Ok(found
        .ok_or_else(|| StoreError::Missing(resource(number)))?
        .number)
}

async fn standing(conn: &mut Conn, tenant: TenantId, number: &str) -> Result<Option<Standing>> {
    for column in ["taken_number", "number"] {
        let found = diesel::sql_query(format!(
            "SELECT id, number, customer_id, state FROM sales_order
             WHERE tenant_id = $1 AND {column} = $2 AND {column} <> '' FOR NO KEY UPDATE"
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
    let order = standing(conn, tenant, number).await?.ok_or_else(missing)?;
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
        if new_number != order.number {
            unite(conn, tenant, &order, new_number).await?;
        }
        write(conn, tenant, order.id, state, new_number, reason).await?;
    }
    let shown = match becomes {
        Some(_) => new_number,
        None => &order.number,
    };
    let details = get(conn, tenant, shown).await?.ok_or_else(missing)?;
    Ok(Outcome::Done(Box::new(details)))
}

async fn write(
    conn: &mut Conn,
    tenant: TenantId,
    order: Uuid,
    state: OrderState,
    number: &str,
    reason: &str,
) -> Result<()> {
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
                        'reject_reason', nullif(c.reject_reason, '')))
             FROM changed c"
        )
    });
    let written = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(order)
        .bind::<Text, _>(state.as_str())
        .bind::<Text, _>(number)
        .bind::<Text, _>(reason)
        .bind::<Text, _>(resource(number))
        .execute(conn)
        .await?;
    match written {
        1 => Ok(()),
        n => Err(StoreError::Stored(format!("{n} orders of one number"))),
    }
}

/// Makes one of an order that is about to get a number and the one that the ERP has sent under it
/// meanwhile, if there is such a one: what the ERP says of it holds, and so does what is known from
/// taking it.
async fn unite(conn: &mut Conn, tenant: TenantId, order: &Standing, number: &str) -> Result<()> {
    let sent: Option<Standing> = diesel::sql_query(
        "SELECT id, number, customer_id, state FROM sales_order
         WHERE tenant_id = $1 AND number = $2 AND id <> $3 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(number)
    .bind::<SqlUuid, _>(order.id)
    .get_result(conn)
    .await
    .optional()?;
    let Some(sent) = sent else {
        return Ok(());
    };
    let mut violations = Violations::new();
    if !sent.state.is_empty() {
        violations.add("number", "is that of another order that was taken here");
    } else if sent.customer_id != order.customer_id {
        violations.add("number", "is that of an order of another customer");
    }
    violations.finish(())?;
    for sql in UNITE {
        diesel::sql_query(sql)
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(order.id)
            .bind::<SqlUuid, _>(sent.id)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// `$2` is the order that stays, `$3` the one that the ERP has sent. One after the other, because the
/// numbers of orders and lines are unique at each moment.
const UNITE: [&str; 4] = [
    "UPDATE sales_order
     SET (brand_id, ordered_at, currency, delivery_date) = (
         SELECT s.brand_id, s.ordered_at, s.currency,
                coalesce(s.delivery_date, sales_order.delivery_date)
         FROM sales_order s WHERE s.tenant_id = $1 AND s.id = $3)
     WHERE tenant_id = $1 AND id = $2",
    "DELETE FROM order_line WHERE tenant_id = $1 AND order_id = $2 AND $2 <> $3",
    "UPDATE order_line SET order_id = $2 WHERE tenant_id = $1 AND order_id = $3",
    "DELETE FROM sales_order WHERE tenant_id = $1 AND id = $3 AND id <> $2",
];
