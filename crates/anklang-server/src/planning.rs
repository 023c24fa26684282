//! Contact plans as they are kept, made ready for the rules of the domain.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anklang_domain::TenantId;
use anklang_domain::planning::{
    Calendar, Change, DateOutcome, DateRange, Delivery, Exception, NoContact, OnHoliday, Plan,
    Weekdays, plan_dates, under_plan,
};
use anklang_store::planning::calendar::{self, weekdays};
use anklang_store::planning::clock::Clock;
use anklang_store::planning::exception::{self, Exception as ExceptionRow};
use anklang_store::planning::generate::PlanDay;
use anklang_store::planning::plan::{self, Plan as PlanRow};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use chrono::NaiveTime;
use chrono_tz::Tz;
use uuid::Uuid;

/// The last minute of a day.
const LAST_MINUTE: NaiveTime = NaiveTime::from_hms_opt(23, 59, 0).expect("there is this minute");

/// A plan with its calendar.
#[derive(Debug, Clone)]
pub struct Ready {
    /// As it is kept.
    pub row: PlanRow,
    /// What its dates go by.
    pub rules: Plan,
    /// Its workdays.
    pub calendar: Arc<Calendar>,
}

/// Plans with their calendars and exceptions, and the plans that these name.
#[derive(Debug, Default)]
pub struct Plans {
    ready: BTreeMap<String, Ready>,
    exceptions: HashMap<String, Vec<Exception>>,
}

/// The id under which the rules know a plan: any, as long as it is that plan's alone.
pub fn plan_id(code: &str) -> Uuid {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(code.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Uuid::from_bytes(bytes)
}

/// The word of a rule for holidays.
pub fn holiday_word(rule: OnHoliday) -> &'static str {
    match rule {
        OnHoliday::Skip => "skip",
        OnHoliday::NextWorkday => "next_workday",
        OnHoliday::PreviousWorkday => "previous_workday",
    }
}

fn on_holiday(word: &str) -> OnHoliday {
    match word {
        "next_workday" => OnHoliday::NextWorkday,
        "previous_workday" => OnHoliday::PreviousWorkday,
        _ => OnHoliday::Skip,
    }
}

/// The rules of a plan.
pub fn rules(row: &PlanRow) -> Result<Plan, StoreError> {
    let validity = DateRange::new(row.valid_from, row.valid_to).map_err(|e| {
        StoreError::Stored(format!("{}: its validity {e}", plan::resource(&row.code)))
    })?;
    Ok(Plan {
        recurrence: row.recurrence()?,
        validity,
        on_holiday: on_holiday(&row.holiday_rule),
        deliveries: weekdays(&row.delivery_weekdays),
    })
}

/// An exception as the rules know it.
pub fn exception_of(row: &ExceptionRow) -> Exception {
    let change = match (row.contact_date, row.delivery_date, &row.other_plan_code) {
        (_, _, Some(other)) => Change::Plan {
            plan: plan_id(other),
        },
        (Some(date), delivery, None) => Change::Contact { date, delivery },
        (None, Some(date), None) => Change::Delivery { date },
        (None, None, None) if row.duplicates => Change::AsPlanned,
        (None, None, None) => Change::Nothing,
    };
    Exception {
        on: row.plan_date,
        change,
        duplicates: row.duplicates,
    }
}

/// Plans made ready, by their codes; those that do not exist are left out.
pub async fn load(
    conn: &mut Conn,
    tenant: TenantId,
    codes: &[String],
) -> Result<BTreeMap<String, Ready>, StoreError> {
    let rows = plan::by_codes(conn, tenant, codes).await?;
    let mut ids: Vec<String> = rows.iter().filter_map(|p| p.calendar_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut calendars = HashMap::new();
    for row in calendar::by_ids(conn, tenant, &ids).await? {
        calendars.insert(row.id.clone(), Arc::new(row.rules()?));
    }
    let always = Arc::new(Calendar::new(Weekdays::ANY, None, []));
    let mut ready = BTreeMap::new();
    for row in rows {
        let own = row.calendar_id.as_ref().and_then(|id| calendars.get(id));
        let plan = Ready {
            rules: rules(&row)?,
            calendar: Arc::clone(own.unwrap_or(&always)),
            row,
        };
        ready.insert(plan.row.code.clone(), plan);
    }
    Ok(ready)
}

impl Plans {
    /// Plans by their codes.
    pub async fn load(
        conn: &mut Conn,
        tenant: TenantId,
        codes: &[String],
    ) -> Result<Plans, StoreError> {
        let exceptions = exception::of_plans(conn, tenant, codes).await?;
        let others = exceptions.iter().filter_map(|e| e.other_plan_code.clone());
        let mut all: Vec<String> = codes.iter().cloned().chain(others).collect();
        all.sort_unstable();
        all.dedup();
        let mut plans = Plans {
            ready: load(conn, tenant, &all).await?,
            exceptions: HashMap::new(),
        };
        for row in exceptions {
            let of_plan = plans.exceptions.entry(row.plan_code.clone()).or_default();
            of_plan.push(exception_of(&row));
        }
        Ok(plans)
    }

    /// What the dates of a plan mean for its entries, for contact dates in a range.
    pub fn days(&self, tenant: &Tenant, code: &str, range: DateRange) -> Vec<PlanDay> {
        let Some(plan) = self.ready.get(code) else {
            return Vec::new();
        };
        let exceptions = self.exceptions.get(code).map_or(&[][..], Vec::as_slice);
        let zone = plan.zone(tenant);
        let dates = plan_dates(&plan.rules, exceptions, &plan.calendar, range);
        dates
            .into_iter()
            .map(|planned| {
                let (under, outcome) = match planned.outcome {
                    DateOutcome::OtherPlan { plan: id } => self.under(id, planned.date),
                    outcome => (Some(plan), outcome),
                };
                let under = under.unwrap_or(plan);
                let (without, delivery) = match outcome {
                    DateOutcome::Contact { delivery, .. } => ("", delivery),
                    DateOutcome::None(why) => (word(&why), Delivery::default()),
                    DateOutcome::OtherPlan { .. } => ("exception", Delivery::default()),
                };
                PlanDay {
                    plan: code.to_owned(),
                    on: planned.on,
                    date: planned.date,
                    without,
                    under: under.row.code.clone(),
                    responsible: under.row.responsible.clone(),
                    exclusive: !under.row.duplicates && !planned.duplicates,
                    delivery_moved: moved(&delivery),
                    deliveries: delivery.candidates,
                    hours: plan.hours(),
                    clock: Clock::of(planned.date, zone),
                }
            })
            .collect()
    }

    /// What becomes of a contact that an exception hands to another plan.
    fn under(&self, id: Uuid, date: chrono::NaiveDate) -> (Option<&Ready>, DateOutcome) {
        let other = self.ready.values().find(|p| plan_id(&p.row.code) == id);
        let outcome = other.map(|other| under_plan(&other.rules, &other.calendar, date));
        (
            other,
            outcome.unwrap_or(DateOutcome::None(NoContact::Exception)),
        )
    }
}

impl Ready {
    /// The zone of its times.
    pub fn zone(&self, tenant: &Tenant) -> Tz {
        // Checked when it was written; empty is the tenant's.
        self.row.time_zone.parse().unwrap_or(tenant.time_zone)
    }

    /// The hours of entries that do not say.
    pub fn hours(&self) -> (NaiveTime, NaiveTime) {
        let (earliest, latest) = (self.row.earliest, self.row.latest);
        (
            earliest.unwrap_or(NaiveTime::MIN),
            latest.unwrap_or(LAST_MINUTE),
        )
    }
}

/// Why there is no contact, as generations tell.
fn word(why: &NoContact) -> &'static str {
    match why {
        NoContact::Exception => "exception",
        NoContact::NotWorkday(_) => "no_workday",
        NoContact::OutsideValidity => "outside_validity",
        NoContact::SameDate => "same_date",
    }
}

/// Why a delivery is not on the plan's usual day, as it is kept.
fn moved(delivery: &Delivery) -> &'static str {
    match delivery {
        Delivery {
            by_exception: true, ..
        } => "exception",
        Delivery { skipped, .. } if !skipped.is_empty() => "no_workday",
        _ => "",
    }
}
