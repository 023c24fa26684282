//! Cases that customers close by buying again, as [`anklang_domain::winback::on_order`] says: by the first
//! order after the day of finding, in the case's own currency.
//!
//! All open cases are looked at, not only new orders: an order may arrive late, or get its lines later.
//! What comes to nothing or less is a return, or has no lines yet, and wins nobody back.

use std::sync::LazyLock;

use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Date, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::figures::orders;
use super::settings::Settings;
use super::{CLOSED, CONTACT, money};
use crate::tenant::Tenant;
use crate::{Conn, Result};

/// Joins to the case `k` the order that wins its customer back; `$3` is today.
fn winning() -> String {
    let orders = orders("k.currency");
    format!(
        "CROSS JOIN LATERAL (
             SELECT o.id, o.day, o.number, r.revenue
             FROM ({orders} AND customer_id = k.customer_id
                     AND ordered_at >= k.opened_on::timestamp AT TIME ZONE $2) o
             CROSS JOIN LATERAL (
                 SELECT sum(l.quantity * l.unit_price) AS revenue FROM order_line l
                 WHERE l.tenant_id = $1 AND l.order_id = o.id) r
             WHERE o.day > k.opened_on AND o.day <= $3 AND r.revenue > 0
             ORDER BY o.ordered_at, o.id LIMIT 1) o"
    )
}

/// Closes cases whose customers have bought again, at most `limit`; gives how many, and none while another
/// server does the same. Whoever works on one of them is waited for, and what they did is looked at; that
/// somebody holds a case does not matter.
pub async fn close(
    conn: &mut Conn,
    tenant: &Tenant,
    settings: &Settings,
    today: NaiveDate,
    limit: i64,
) -> Result<usize> {
    static FIND: LazyLock<String> = LazyLock::new(|| {
        let winning = winning();
        format!(
            "SELECT k.id FROM winback_case k {winning}
             WHERE k.tenant_id = $1 AND k.state NOT IN {CLOSED} LIMIT $4"
        )
    });
    static WRITE: LazyLock<String> = LazyLock::new(|| {
        let (winning, revenue) = (winning(), money("o.revenue"));
        format!(
            "WITH won AS MATERIALIZED (
                 SELECT k.id, k.state, o.id AS order_id, o.number, {revenue} AS revenue,
                        EXISTS (
                            SELECT FROM winback_case_event x
                            WHERE x.tenant_id = $1 AND x.case_id = k.id AND {CONTACT}
                              AND o.day - (x.created_at AT TIME ZONE $2)::date BETWEEN 0 AND $5
                        ) AS contacted
                 FROM winback_case k {winning}
                 WHERE k.tenant_id = $1 AND k.state NOT IN {CLOSED} AND k.id = ANY($4)),
             closed AS (
                 UPDATE winback_case k
                 SET state = 'won_back', due_on = NULL, closed_on = $3, held_by = NULL,
                     held_until = NULL, claim_id = NULL, claim_units = NULL, won_order_id = won.order_id,
                     won_contacted = won.contacted, won_revenue = won.revenue, updated_at = now()
                 FROM won WHERE k.tenant_id = $1 AND k.id = won.id
                 RETURNING k.id)
             INSERT INTO winback_case_event (tenant_id, id, case_id, kind, from_state, to_state, detail)
             SELECT $1, anklang_uuid7(), won.id, 'won_back', won.state, 'won_back',
                    jsonb_build_object('order', won.number, 'revenue', won.revenue,
                                       'contacted', won.contacted)
             FROM won JOIN closed ON closed.id = won.id"
        )
    });
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    #[derive(QueryableByName)]
    struct Turn {
        #[diesel(sql_type = Bool)]
        is_ours: bool,
    }
    let turn: Turn = diesel::sql_query(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('won back ' || $1::text, 0)) AS is_ours",
    )
    .bind::<SqlUuid, _>(tenant.id.0)
    .get_result(conn)
    .await?;
    if !turn.is_ours {
        return Ok(0);
    }
    let window = i32::try_from(settings.win_window_days).unwrap_or(i32::MAX);
    let found: Vec<Row> = diesel::sql_query(&*FIND)
        .bind::<SqlUuid, _>(tenant.id.0)
        .bind::<Text, _>(tenant.time_zone.name())
        .bind::<Date, _>(today)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = found.into_iter().map(|row| row.id).collect();
    // By a statement of its own: the next one sees what whoever had them did.
    diesel::sql_query(
        "SELECT id FROM winback_case WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<Array<SqlUuid>, _>(&ids)
    .execute(conn)
    .await?;
    Ok(diesel::sql_query(&*WRITE)
        .bind::<SqlUuid, _>(tenant.id.0)
        .bind::<Text, _>(tenant.time_zone.name())
        .bind::<Date, _>(today)
        .bind::<Array<SqlUuid>, _>(&ids)
        .bind::<Integer, _>(window)
        .execute(conn)
        .await?)
}
