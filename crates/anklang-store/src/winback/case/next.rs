//! The next case of somebody who asks: found and locked by one statement, then claimed as one that was asked
//! for by its name.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::winback::Tile;
use chrono::NaiveDate;
use diesel::sql_types::{Array, Bool, Date, Nullable, Numeric, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::claim::{Claim, Terms, this};
use super::{BRAND, resource};
use crate::sql::Fix;
use crate::units::CLAIM_LEFT;
use crate::winback::mailing::LEFT_ALONE;
use crate::{Conn, Result, StoreError};

/// Who asks for the next case, and for which.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Of which tiles, the first one first; those of closed cases have none.
    pub tiles: &'a [Tile],
    /// Customer groups; all when empty.
    pub groups: &'a [&'a str],
    /// Codes of brands of the newest order; all when empty.
    pub brands: &'a [String],
    /// Behind this case.
    pub after: Option<Uuid>,
    /// Also of customers who are left alone for control.
    pub control: bool,
}

/// Where a case stands in the order of a tile.
#[derive(QueryableByName)]
struct Place {
    #[diesel(sql_type = Numeric)]
    rank: Decimal,
    #[diesel(sql_type = Nullable<Date>)]
    due_on: Option<NaiveDate>,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct Day {
    #[diesel(sql_type = Date)]
    today: NaiveDate,
}

/// Hands out the next case, if there is one: the most at stake, of reminders the one due the longest. Best in
/// a transaction of [`crate::Store::begin_in_order`].
///
/// # Errors
/// `Missing` when there is no case to go on behind.
pub async fn next(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: &Wanted<'_>,
    terms: Terms<'_>,
) -> Result<Option<Claim>> {
    let place = match wanted.after {
        Some(after) => Some((after, place(conn, tenant, after).await?)),
        None => None,
    };
    let day: Day = diesel::sql_query(
        "SELECT (now() AT TIME ZONE time_zone)::date AS today FROM tenant WHERE id = $1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .fixed()
    .get_result(conn)
    .await?;
    for tile in wanted.tiles {
        if let Some(id) = first(conn, tenant, *tile, wanted, place.as_ref(), day.today).await? {
            return this(conn, tenant, id, terms).await.map(Some);
        }
    }
    Ok(None)
}

async fn place(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<Place> {
    let found = diesel::sql_query(
        "SELECT coalesce(at_stake, -1) AS rank, due_on FROM winback_case
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .fixed()
    .get_result(conn)
    .await;
    let found: Option<Place> = found.optional()?;
    found.ok_or_else(|| StoreError::Missing(resource(id)))
}

/// Finds and locks the first case of a tile that nobody has.
async fn first(
    conn: &mut Conn,
    tenant: TenantId,
    tile: Tile,
    wanted: &Wanted<'_>,
    place: Option<&(Uuid, Place)>,
    today: NaiveDate,
) -> Result<Option<Uuid>> {
    let state = match tile {
        Tile::Declining => "declining",
        Tile::ReminderDue => "reminder",
        Tile::OfferRequested => "offer_requested",
        Tile::Mailed => "mailed",
        Tile::NoInterest | Tile::WonBack => return Ok(None),
    };
    // What is not asked for costs nothing: a statement for each case.
    static SQL: [LazyLock<String>; 4] = [
        LazyLock::new(|| first_sql(false, false)),
        LazyLock::new(|| first_sql(false, true)),
        LazyLock::new(|| first_sql(true, false)),
        LazyLock::new(|| first_sql(true, true)),
    ];
    // A case that is no due reminder any more does not come again: there is no place to go on behind.
    let is_due = |place: &Place| place.due_on.is_some_and(|day| day <= today);
    let place = place.filter(|(_, place)| tile != Tile::ReminderDue || is_due(place));
    let case = 2 * usize::from(tile == Tile::ReminderDue) + usize::from(place.is_some());
    let found = diesel::sql_query(&SQL[case][..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(state)
        .bind::<Array<Text>, _>(wanted.groups)
        .bind::<Array<Text>, _>(wanted.brands)
        .bind::<Date, _>(today)
        .bind::<Nullable<Numeric>, _>(place.map(|(_, place)| place.rank))
        .bind::<Nullable<SqlUuid>, _>(place.map(|(id, _)| *id))
        .bind::<Nullable<Date>, _>(place.and_then(|(_, place)| place.due_on))
        .bind::<Bool, _>(wanted.control)
        .fixed()
        .get_result(conn)
        .await;
    let found: Option<Id> = found.optional()?;
    Ok(found.map(|row| row.id))
}

/// `$6` to `$8` are the place behind which to look.
fn first_sql(reminders: bool, behind: bool) -> String {
    let (tile, order) = match reminders {
        // Also as a literal, for the index.
        true => (
            "k.state = $2 AND k.state = 'reminder' AND k.due_on <= $5",
            "k.due_on, coalesce(k.at_stake, -1) DESC, k.id DESC",
        ),
        false => (
            "k.state = $2 AND $5::date IS NOT NULL",
            "coalesce(k.at_stake, -1) DESC, k.id DESC",
        ),
    };
    let place = match (behind, reminders) {
        (false, _) => "$6::numeric IS NULL AND $7::uuid IS NULL AND $8::date IS NULL",
        (true, false) => {
            "(coalesce(k.at_stake, -1), k.id) < ($6::numeric, $7::uuid)
             AND ($8::date IS NULL OR $8::date IS NOT NULL)"
        }
        (true, true) => {
            "(k.due_on > $8::date
              OR k.due_on = $8::date AND (coalesce(k.at_stake, -1), k.id) < ($6::numeric, $7::uuid))"
        }
    };
    let brand = &*BRAND;
    format!(
        "SELECT k.id FROM winback_case k
         WHERE k.tenant_id = $1 AND {tile} AND (k.held_until IS NULL OR k.held_until <= now() OR {CLAIM_LEFT})
           AND {place}
           AND (cardinality($3) = 0 OR (
                SELECT c.customer_group FROM customer c
                WHERE c.tenant_id = $1 AND c.id = k.customer_id) = ANY($3))
           AND (cardinality($4) = 0 OR {brand} = ANY($4))
           AND ($9 OR NOT EXISTS (SELECT FROM {LEFT_ALONE} >= $5))
         ORDER BY {order} LIMIT 1 FOR UPDATE OF k SKIP LOCKED"
    )
}
