//! Orders that customers place in a contact.
//!
//! # Guarantees
//! An order, its event for the tenant's ERP and the outcome of the contact are one transaction, under the
//! claim as [`super::record`] is. Those who take orders of one customer take turns, so that of two that
//! find no order for a delivery date only one makes it. Orders that an import brings at that moment are not
//! waited for.

use anklang_domain::planning::{Calendar, OutcomeClass, Weekdays, deliveries};
use anklang_domain::{TenantId, Violations};
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use diesel::sql_types::{Array, Bool, Date, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::change::DAYS_AHEAD;
use super::claim::found;
use super::record::{self, Outcome, Recorded, Report};
use super::rules::{self, Warning};
use super::{Standing, hold, outcome};
use crate::order::take::{self, Existing, Head, MAX_LINES, NewLine, Occasion};
use crate::order::{self, OrderDetails};
use crate::planning::contact::Contact;
use crate::planning::{calendar, exception, plan};
use crate::{Conn, Result, StoreError};

/// Where a delivery date comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliverySource {
    /// It stands on the contact.
    Contact,
    /// It is the plan's next one.
    Plan,
}

/// When an order is delivered that is taken in a contact, if nobody says: the contact's delivery date;
/// without one that is to come, the first delivery day of its plan after the contact date and today on
/// which the customer gets deliveries. `tenant_zone` is where contacts without a plan are.
pub async fn delivery(
    conn: &mut Conn,
    tenant: TenantId,
    contact: &Contact,
    tenant_zone: Tz,
    now: DateTime<Utc>,
) -> Result<Option<(NaiveDate, DeliverySource)>> {
    let plan = match &contact.plan_code {
        Some(code) => plan::get(conn, tenant, code).await?,
        None => None,
    };
    let zone = match &plan {
        Some(plan) if !plan.time_zone.is_empty() => rules::zone(&plan.time_zone)?,
        _ => tenant_zone,
    };
    let today = now.with_timezone(&zone).date_naive();
    if let Some(date) = contact.delivery_date.filter(|date| *date >= today) {
        return Ok(Some((date, DeliverySource::Contact)));
    }
    let Some(plan) = plan else {
        return Ok(None);
    };
    let calendar = match &plan.calendar_id {
        Some(id) => calendar::get(conn, tenant, id).await?,
        None => None,
    };
    let calendar = match calendar {
        Some(calendar) => calendar.rules()?,
        None => Calendar::new(Weekdays::ANY, None, []),
    };
    let exception = exception::get(conn, tenant, &plan.code, contact.contact_date).await?;
    let days = deliveries(
        calendar::weekdays(&plan.delivery_weekdays),
        &calendar,
        contact.contact_date.max(today),
        exception.and_then(|exception| exception.delivery_date),
    );
    let first = first_active(conn, tenant, &contact.customer_number, &days.candidates).await?;
    Ok(first.map(|date| (date, DeliverySource::Plan)))
}

/// The first of these days on which the customer gets deliveries.
async fn first_active(
    conn: &mut Conn,
    tenant: TenantId,
    customer: &str,
    days: &[NaiveDate],
) -> Result<Option<NaiveDate>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Date>)]
        day: Option<NaiveDate>,
    }
    let row: Row = diesel::sql_query(
        "SELECT min(d.day) AS day FROM unnest($3::date[]) d (day)
         WHERE NOT EXISTS (
             SELECT FROM inactive_period p
             JOIN customer c ON c.tenant_id = p.tenant_id AND c.id = p.customer_id
             WHERE p.tenant_id = $1 AND c.number = $2 AND p.day_type = 'delivery'
               AND d.day BETWEEN p.first_day AND p.last_day
               AND (p.weekdays = '{}'
                    OR extract(isodow FROM d.day)::smallint = ANY(p.weekdays)))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(customer)
    .bind::<Array<Date>, _>(days)
    .get_result(conn)
    .await?;
    Ok(row.day)
}

/// What a customer orders.
#[derive(Debug, Clone)]
pub struct NewOrder {
    /// Where to.
    pub to: To,
    /// When it is delivered.
    pub delivery_date: Option<NaiveDate>,
    /// ISO 4217, of all prices.
    pub currency: String,
    /// At least one.
    pub lines: Vec<NewLine>,
}

/// Where lines go.
#[derive(Debug, Clone)]
pub enum To {
    /// The order with that number.
    Existing(String),
    /// A new order.
    New {
        /// Its number; empty for one of ours.
        number: String,
        /// The code of its brand; empty for none.
        brand: String,
        /// The plan's when empty.
        departure: String,
        /// The plan's when empty.
        order_type: String,
        /// For people.
        note: String,
        /// Also when there is one for the same delivery date.
        another: bool,
    },
}

/// What is said of a contact in which something was ordered.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The id of an outcome of the tenant's own, of the class of orders taken.
    pub own: Option<&'a str>,
    /// What to remember.
    pub note: &'a str,
    /// How long was talked.
    pub talk_seconds: i32,
}

/// A contact under a claim, which stays so until the end of the transaction.
#[derive(Debug, Clone)]
pub struct UnderClaim {
    id: Uuid,
    claim: Uuid,
    standing: Standing,
    contact: Contact,
}

/// What came of taking an order.
#[derive(Debug, Clone)]
pub enum Taken {
    /// It is taken.
    Order {
        /// As it is now.
        order: Box<OrderDetails>,
        /// What became of the contact.
        contact: Box<Recorded>,
    },
    /// There are orders for the same delivery date; nothing was changed.
    Exists {
        /// Them.
        existing: Existing,
        /// That date.
        delivery_date: NaiveDate,
    },
}

/// Holds a contact under a claim, and those back who take orders of the same customer.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over.
pub async fn under_claim(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    claim: Uuid,
) -> Result<UnderClaim> {
    let standing = hold(conn, tenant, id).await?;
    standing.must_be_under(id, claim)?;
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/orders/' || $2::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(standing.customer_id)
    .execute(conn)
    .await?;
    Ok(UnderClaim {
        id,
        claim,
        standing,
        contact: found(conn, tenant, id).await?,
    })
}

/// Takes an order in a contact, and records that as its outcome; without `said` the contact stays in hand.
///
/// # Errors
/// `Refused` when nothing can be added to the order, or there is one with the number; `Invalid` with
/// violations at `add_to`, `order.delivery_date`, `order.brand`, `order.number`, `order.lines` and
/// `outcome`.
pub async fn take(
    conn: &mut Conn,
    tenant: TenantId,
    under: &UnderClaim,
    new: &NewOrder,
    said: Option<Said<'_>>,
) -> Result<Taken> {
    let mut violations = Violations::new();
    check_outcome(conn, tenant, said, &mut violations).await?;
    let worker = under.standing.claimed_by.as_deref().unwrap_or_default();
    let occasion = Occasion {
        contact: under.id,
        worker,
        lines: &new.lines,
    };
    let number = match &new.to {
        To::Existing(number) => {
            let to = addable(conn, tenant, under, new, number, &mut violations).await?;
            violations.finish(())?;
            let (to, last) = to.ok_or_else(|| StoreError::Missing(order::resource(number)))?;
            take::add(conn, tenant, &to, last, &occasion).await?;
            number.clone()
        }
        To::New { another, .. } => {
            let ready = resolved(conn, tenant, under, new, &mut violations).await?;
            violations.finish(())?;
            let (date, head) =
                ready.ok_or_else(|| StoreError::Stored("an order without a date".into()))?;
            if !another
                && let Some(existing) = take::existing(conn, tenant, head.customer, date).await?
            {
                return Ok(Taken::Exists {
                    existing,
                    delivery_date: date,
                });
            }
            take::place(conn, tenant, &head, &occasion).await?
        }
    };
    let order = order::get(conn, tenant, &number).await?;
    let order = order.ok_or_else(|| StoreError::Missing(order::resource(&number)))?;
    Ok(Taken::Order {
        order: Box::new(order),
        contact: Box::new(recorded(conn, tenant, under, said).await?),
    })
}

async fn check_outcome(
    conn: &mut Conn,
    tenant: TenantId,
    said: Option<Said<'_>>,
    violations: &mut Violations,
) -> Result<()> {
    let Some(own) = said.and_then(|said| said.own) else {
        return Ok(());
    };
    match outcome::get(conn, tenant, own).await? {
        None => violations.add("outcome", "there is no such outcome"),
        Some(own) if own.class()? != OutcomeClass::OrderTaken => {
            violations.add("outcome", "must be of the class ORDER_TAKEN");
        }
        Some(_) => {}
    }
    Ok(())
}

/// The order that lines are added to, held, and the number of its last line.
async fn addable(
    conn: &mut Conn,
    tenant: TenantId,
    under: &UnderClaim,
    new: &NewOrder,
    number: &str,
    violations: &mut Violations,
) -> Result<Option<(take::Held, i32)>> {
    let Some(to) = take::hold(conn, tenant, number).await? else {
        violations.add("add_to", "does not exist");
        return Ok(None);
    };
    if to.customer_id != under.standing.customer_id {
        violations.add("add_to", "is an order of another customer");
        return Ok(None);
    }
    if let Some(reason) = not_addable(&to.state) {
        return Err(StoreError::Refused {
            resource: order::resource(number),
            reason: reason.into(),
        });
    }
    if new.delivery_date.is_some() && new.delivery_date != to.delivery_date {
        let its = to
            .delivery_date
            .map_or_else(String::new, |date| date.to_string());
        violations.add(
            "order.delivery_date",
            format!("must be that of the order: {its}"),
        );
    }
    if new.currency != to.currency {
        let its = &to.currency;
        violations.add(
            "order.lines",
            format!("must have prices in the order's currency: {its}"),
        );
    }
    let lines = take::lines(conn, tenant, to.id).await?;
    let count = usize::try_from(lines.count).unwrap_or(MAX_LINES) + new.lines.len();
    // Lines that others have written may bear any number.
    let numbers = i32::try_from(new.lines.len()).ok();
    if count > MAX_LINES || numbers.and_then(|n| lines.last.checked_add(n)).is_none() {
        violations.add(
            "order.lines",
            format!("make the order longer than {MAX_LINES} lines"),
        );
    }
    Ok(Some((to, lines.last)))
}

/// Why nothing is added to an order in that state.
fn not_addable(state: &str) -> Option<&'static str> {
    match state {
        "taken" => None,
        "" => Some("it was not taken here: the ERP has it; make another order"),
        "rejected" => Some("the ERP has rejected it; make another order"),
        _ => Some("the ERP has accepted it; make another order"),
    }
}

/// A new order with what is known of it, and its delivery date.
async fn resolved<'n>(
    conn: &mut Conn,
    tenant: TenantId,
    under: &'n UnderClaim,
    new: &'n NewOrder,
    violations: &mut Violations,
) -> Result<Option<(NaiveDate, Head<'n>)>> {
    let To::New {
        number,
        brand,
        departure,
        order_type,
        note,
        ..
    } = &new.to
    else {
        return Ok(None);
    };
    let date = date(conn, tenant, under, new.delivery_date, violations).await?;
    let brand_id = match &brand[..] {
        "" => None,
        code => brand_of(conn, tenant, code).await?,
    };
    if brand_id.is_none() && !brand.is_empty() {
        violations.add("order.brand", "does not exist");
    }
    if !number.is_empty() && order::find(conn, tenant, number).await?.is_some() {
        violations.add("order.number", "there is an order with this number");
    }
    let or_of_plan = |given: &'n str, plan: &'n str| if given.is_empty() { plan } else { given };
    let head = |delivery_date| Head {
        number,
        customer: under.standing.customer_id,
        brand: brand_id,
        currency: &new.currency,
        delivery_date,
        departure: or_of_plan(departure, &under.contact.departure),
        order_type: or_of_plan(order_type, &under.contact.order_type),
        note,
    };
    Ok(date.map(|date| (date, head(date))))
}

/// The delivery date of a new order, if that can be.
async fn date(
    conn: &mut Conn,
    tenant: TenantId,
    under: &UnderClaim,
    given: Option<NaiveDate>,
    violations: &mut Violations,
) -> Result<Option<NaiveDate>> {
    let zone = rules::zone(&under.standing.time_zone)?;
    let now = under.standing.now;
    let Some(date) = given else {
        // The zone of the contact is that of its plan already.
        let found = delivery(conn, tenant, &under.contact, zone, now).await?;
        if found.is_none() {
            let why = "is required: neither the contact nor its plan has one to come";
            violations.add("order.delivery_date", why);
        }
        return Ok(found.map(|(date, _)| date));
    };
    let today = now.with_timezone(&zone).date_naive();
    if date < today {
        violations.add("order.delivery_date", "must not be before today");
    } else if (date - today).num_days() > DAYS_AHEAD {
        let rule = format!("must be at most {DAYS_AHEAD} days ahead");
        violations.add("order.delivery_date", rule);
    }
    Ok(Some(date))
}

async fn brand_of(conn: &mut Conn, tenant: TenantId, code: &str) -> Result<Option<Uuid>> {
    #[derive(QueryableByName)]
    struct Id {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let found: Option<Id> =
        diesel::sql_query("SELECT id FROM brand WHERE tenant_id = $1 AND code = $2 FOR KEY SHARE")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(code)
            .get_result(conn)
            .await
            .optional()?;
    Ok(found.map(|row| row.id))
}

/// Records the outcome, or leaves the contact in hand: should its person never say what came of it, the end of
/// the claim does (`free` in `claim.rs`).
async fn recorded(
    conn: &mut Conn,
    tenant: TenantId,
    under: &UnderClaim,
    said: Option<Said<'_>>,
) -> Result<Recorded> {
    let Some(said) = said else {
        let warnings = rules::warnings(&under.standing.when())?;
        diesel::sql_query(
            "UPDATE planned_contact SET ordered_outside = $3 WHERE tenant_id = $1 AND id = $2",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(under.id)
        .bind::<Bool, _>(warnings.contains(&Warning::OutsideWindow))
        .execute(conn)
        .await?;
        return Ok(Recorded {
            contact: under.contact.clone(),
            warnings,
            message: None,
        });
    };
    let report = Report {
        outcome: match said.own {
            Some(own) => Outcome::Own(own),
            None => Outcome::Class(OutcomeClass::OrderTaken),
        },
        note: said.note,
        talk_seconds: said.talk_seconds,
        wish: None,
        escalate_to: "",
    };
    record::record(conn, tenant, under.id, under.claim, &report).await
}
