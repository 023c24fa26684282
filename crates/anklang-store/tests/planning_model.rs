//! Generations in a real database against what the rules say, over generated plans, entries, periods
//! and what people did in between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anklang_domain::OperationId;
use anklang_domain::planning::{CustomerDate, DateRange, DayType, InactivePeriod, for_customer};
use anklang_local::cluster::{Cluster, Options};
use anklang_store::planning::clock::Clock;
use anklang_store::planning::generate::{self, Chunk, Found, PlanDay};
use anklang_store::tenant::Tenant;
use anklang_store::{Store, migrate, tenant};
use chrono::{Days, NaiveDate, NaiveTime, Weekday};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

const PLANS: [&str; 3] = ["A", "B", "C"];
const CUSTOMERS: usize = 3;
/// Entries are each of these times in each plan, or not.
const TIMES: [&str; 2] = ["08:00", "10:30"];
/// Dates are days of these from the first on.
const SPAN: u64 = 6;

/// An entry by its plan, customer and time.
type Entry = (usize, usize, usize);

#[derive(Debug, Clone)]
struct Day {
    plan: usize,
    on: u64,
    date: u64,
    without: bool,
    deliveries: Vec<u64>,
}

#[derive(Debug, Clone)]
struct Period {
    customer: usize,
    delivery: bool,
    weekday: Option<u8>,
    first: u64,
    length: u64,
}

/// Everything at one moment.
#[derive(Debug, Clone)]
struct World {
    duplicates: [bool; 3],
    /// With priority, and whether it is valid on the last days only.
    entries: BTreeMap<Entry, (i32, bool)>,
    days: Vec<Day>,
    periods: Vec<Period>,
    /// Which of the contacts that are there people pin, by their number.
    pins: BTreeSet<usize>,
}

fn first() -> NaiveDate {
    NaiveDate::from_ymd_opt(2027, 3, 26).unwrap()
}

fn day(n: u64) -> NaiveDate {
    first() + Days::new(n)
}

fn days() -> impl Strategy<Value = Vec<Day>> {
    let one = (
        0..PLANS.len(),
        0..SPAN,
        prop::option::weighted(0.2, 0..SPAN),
        prop::bool::weighted(0.15),
        prop::collection::btree_set(1..12u64, 0..3),
    );
    prop::collection::vec(one, 0..12).prop_map(|all| {
        let mut days = BTreeMap::new();
        for (plan, on, date, without, deliveries) in all {
            let date = date.unwrap_or(on);
            days.insert(
                (plan, on),
                Day {
                    plan,
                    on,
                    date,
                    without,
                    deliveries: deliveries.into_iter().map(|d| date + d).collect(),
                },
            );
        }
        // A plan has one contact on a date.
        let mut taken = BTreeSet::new();
        days.into_values()
            .filter(|day| taken.insert((day.plan, day.date)))
            .collect()
    })
}

fn worlds() -> impl Strategy<Value = Vec<World>> {
    let entry = (0..PLANS.len(), 0..CUSTOMERS, 0..TIMES.len());
    let entries = prop::collection::btree_map(entry, (0..3i32, prop::bool::weighted(0.2)), 0..9);
    let period = (
        0..CUSTOMERS,
        any::<bool>(),
        prop::option::of(0..7u8),
        0..SPAN,
        0..8u64,
    )
        .prop_map(|(customer, delivery, weekday, first, length)| Period {
            customer,
            delivery,
            weekday,
            first,
            length,
        });
    let world = (
        days(),
        prop::collection::vec(period, 0..4),
        prop::collection::btree_set(0..20usize, 0..4),
    );
    // Plans and entries stay: what changes them is the API's.
    (
        any::<[bool; 3]>(),
        entries,
        prop::collection::vec(world, 1..4),
    )
        .prop_map(|(duplicates, entries, worlds)| {
            let world = |(days, periods, pins)| World {
                duplicates,
                entries: entries.clone(),
                days,
                periods,
                pins,
            };
            worlds.into_iter().map(world).collect()
        })
}

/// A contact: its date, its delivery, and why that moved; and whether it is pinned.
type Contact = (NaiveDate, Option<NaiveDate>, &'static str);
type Contacts = BTreeMap<(Entry, NaiveDate), (Contact, bool)>;

impl World {
    fn periods(&self, customer: usize) -> Vec<InactivePeriod> {
        let own = self.periods.iter().filter(|p| p.customer == customer);
        own.map(|p| InactivePeriod {
            day_type: if p.delivery {
                DayType::Delivery
            } else {
                DayType::Contact
            },
            weekday: p.weekday.map(|day| Weekday::try_from(day).unwrap()),
            days: DateRange::new(day(p.first), Some(day(p.first + p.length))).unwrap(),
        })
        .collect()
    }

    /// What each slot would be, if it is not a duplicate.
    fn slots(&self) -> BTreeMap<(Entry, NaiveDate), Contact> {
        let mut slots = BTreeMap::new();
        for (entry, (_, late)) in &self.entries {
            for of in self.days.iter().filter(|day| day.plan == entry.0) {
                if of.without || (*late && of.date < SPAN / 2) {
                    continue;
                }
                let deliveries: Vec<NaiveDate> = of.deliveries.iter().map(|n| day(*n)).collect();
                let periods = self.periods(entry.1);
                let found = for_customer(&periods, day(of.date), &deliveries);
                if let CustomerDate::Contact { delivery, moved } = found {
                    let why = if moved.is_some() { "inactive" } else { "" };
                    slots.insert((*entry, day(of.on)), (day(of.date), delivery, why));
                }
            }
        }
        slots
    }

    /// What there is after a generation.
    fn after(&self, before: &Contacts) -> Contacts {
        let slots = self.slots();
        let mut after: Contacts = before.clone();
        after.retain(|_, (_, pinned)| *pinned);
        let has_day = |(plan, customer, _): Entry, date: NaiveDate| {
            let contend = slots.iter().filter(|((entry, on), contact)| {
                entry.1 == customer
                    && contact.0 == date
                    && !self.duplicates[entry.0]
                    && !after_has(before, *entry, *on)
            });
            let blocked = |other: usize| {
                before.iter().any(|((entry, _), (contact, pinned))| {
                    *pinned
                        && entry.1 == customer
                        && contact.0 == date
                        && entry.0 != other
                        && !self.duplicates[entry.0]
                })
            };
            let best = contend
                .map(|((entry, _), _)| entry)
                .filter(|entry| !blocked(entry.0))
                .max_by_key(|entry| (self.entries[*entry].0, std::cmp::Reverse(entry.0)));
            best.is_some_and(|best| best.0 == plan)
        };
        for ((entry, on), contact) in &slots {
            if after_has(before, *entry, *on) {
                continue;
            }
            if self.duplicates[entry.0] || has_day(*entry, contact.0) {
                after.insert((*entry, *on), (*contact, false));
            }
        }
        after
    }
}

/// Whether a contact is pinned.
fn after_has(before: &Contacts, entry: Entry, on: NaiveDate) -> bool {
    before.get(&(entry, on)).is_some_and(|(_, pinned)| *pinned)
}

struct Lab {
    tenant: Tenant,
    store: Store,
    owner: tokio_postgres::Client,
    // After the store: connections end before the server does, the folder goes last.
    _cluster: Cluster,
    _folder: tempfile::TempDir,
}

fn entry_id((plan, customer, time): Entry) -> Uuid {
    Uuid::from_u128((1 << 64) + (plan * 100 + customer * 10 + time) as u128)
}

fn customer_id(customer: usize) -> Uuid {
    Uuid::from_u128((2 << 64) + customer as u128)
}

impl Lab {
    async fn open() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options::test(folder.path().join("db"));
        let cluster = Cluster::start(options).await.unwrap();
        cluster.ensure_database("model").await.unwrap();
        let url = cluster.url("model");
        let store = Store::new(&url, 4).unwrap();
        migrate::up(&store).await.unwrap();
        let zone = chrono_tz::Europe::Berlin;
        let tenant = tenant::upsert(&store, "one", "One", zone).await.unwrap();
        let connecting = tokio_postgres::connect(&url, tokio_postgres::NoTls);
        let (owner, connection) = connecting.await.unwrap();
        tokio::spawn(connection);
        let mut sql = String::new();
        for n in 0..CUSTOMERS {
            let _ = write!(
                sql,
                "INSERT INTO customer (tenant_id, id, number, kind)
                 VALUES ('{}', '{}', '{n}', 'person');",
                tenant.id,
                customer_id(n)
            );
        }
        owner.batch_execute(&sql).await.unwrap();
        Lab {
            tenant,
            store,
            owner,
            _cluster: cluster,
            _folder: folder,
        }
    }

    async fn begin(&self, world: &World) {
        let t = self.tenant.id;
        let mut sql = "DELETE FROM planned_contact; DELETE FROM plan_entry;
                       DELETE FROM contact_plan;"
            .to_owned();
        for (plan, code) in PLANS.iter().enumerate() {
            let _ = write!(
                sql,
                "INSERT INTO contact_plan (tenant_id, code, name, recurrence, valid_from, time_zone,
                     holiday_rule, outcome_rules, duplicates)
                 VALUES ('{t}', '{code}', '', '{{}}', '2027-01-01', '', 'skip', '{{}}', {});",
                world.duplicates[plan]
            );
        }
        for (entry, (priority, late)) in &world.entries {
            let from = match late {
                true => format!("'{}'", day(SPAN / 2)),
                false => "NULL".into(),
            };
            let _ = write!(
                sql,
                "INSERT INTO plan_entry (tenant_id, id, plan_code, customer_id, contact_time,
                     priority, valid_from)
                 VALUES ('{t}', '{}', '{}', '{}', '{}', {priority}, {from});",
                entry_id(*entry),
                PLANS[entry.0],
                customer_id(entry.1),
                TIMES[entry.2]
            );
        }
        self.owner.batch_execute(&sql).await.unwrap();
    }

    async fn set_periods(&self, world: &World) {
        let mut sql = "DELETE FROM inactive_period;".to_owned();
        for (n, period) in world.periods.iter().enumerate() {
            let weekday = period
                .weekday
                .map_or(String::new(), |day| (day + 1).to_string());
            let _ = write!(
                sql,
                "INSERT INTO inactive_period (tenant_id, customer_id, id, day_type, weekdays,
                     first_day, last_day)
                 VALUES ('{}', '{}', '{n}', '{}', '{{{weekday}}}', '{}', '{}');",
                self.tenant.id,
                customer_id(period.customer),
                if period.delivery {
                    "delivery"
                } else {
                    "contact"
                },
                day(period.first),
                day(period.first + period.length)
            );
        }
        self.owner.batch_execute(&sql).await.unwrap();
    }

    async fn generate(&self, world: &World, apply: bool) -> Found {
        let days: Vec<PlanDay> = world.days.iter().map(|day| plan_day(world, day)).collect();
        let plans = PLANS.map(str::to_owned);
        let chunk = Chunk {
            plans: &plans,
            customers: &[],
            groups: &[],
            first: first(),
            last: day(SPAN - 1),
            after: Uuid::nil(),
            until: Uuid::max(),
        };
        let tenant = self.tenant.id;
        let mut tx = self.store.begin(tenant).await.unwrap();
        let operation = apply.then(OperationId::new);
        let found = generate::chunk(&mut tx, tenant, &chunk, &days, operation, 1_000);
        let found = found.await.unwrap();
        if apply {
            tx.commit().await.unwrap();
        }
        found
    }

    async fn contacts(&self, world: &World) -> Contacts {
        let sql = "SELECT entry_id, plan_date, contact_date, delivery_date, delivery_moved,
                          marks <> '{}', contact_at = (contact_date + e.contact_time)
                              AT TIME ZONE 'Europe/Berlin'
                   FROM planned_contact k JOIN plan_entry e ON e.id = k.entry_id";
        let rows = self.owner.query(sql, &[]).await.unwrap();
        let mut contacts = Contacts::new();
        for row in &rows {
            let id: Uuid = row.get(0);
            let entry = world.entries.keys().find(|entry| entry_id(**entry) == id);
            let why: &str = row.get(4);
            let why = if why == "inactive" { "inactive" } else { "" };
            assert!(row.get::<_, bool>(6), "the time of {id}");
            let contact = (row.get(2), row.get(3), why);
            contacts.insert((*entry.unwrap(), row.get(1)), (contact, row.get(5)));
        }
        assert_eq!(contacts.len(), rows.len());
        contacts
    }

    /// Pins some contacts; gives what there is then.
    async fn pin(&self, contacts: &mut Contacts, pins: &BTreeSet<usize>) {
        for (n, ((entry, on), (_, pinned))) in contacts.iter_mut().enumerate() {
            if pins.contains(&n) {
                *pinned = true;
                let sql = "UPDATE planned_contact SET marks = '{pinned}'
                           WHERE entry_id = $1 AND plan_date = $2";
                self.owner
                    .execute(sql, &[&entry_id(*entry), on])
                    .await
                    .unwrap();
            }
        }
    }

    async fn check(&self, worlds: &[World]) {
        self.begin(&worlds[0]).await;
        let mut contacts = Contacts::new();
        for world in worlds {
            self.pin(&mut contacts, &world.pins).await;
            self.set_periods(world).await;
            let preview = self.generate(world, false).await;
            let done = self.generate(world, true).await;
            assert_eq!(preview, done);
            let expected = world.after(&contacts);
            let found = self.contacts(world).await;
            assert_eq!(found, expected, "{world:#?}\nbefore: {contacts:#?}");
            let count = |n: usize| i64::try_from(n).unwrap();
            let new = expected.keys().filter(|key| !contacts.contains_key(key));
            assert_eq!(done.count("added"), count(new.count()));
            let gone = contacts.keys().filter(|key| !expected.contains_key(key));
            assert_eq!(done.count("removed"), count(gone.count()));
            let again = self.generate(world, true).await;
            assert_eq!(
                again.count("added") + again.count("changed") + again.count("removed"),
                0
            );
            contacts = found;
        }
    }
}

fn plan_day(world: &World, of: &Day) -> PlanDay {
    let latest = NaiveTime::from_hms_opt(23, 59, 0).unwrap();
    PlanDay {
        plan: PLANS[of.plan].into(),
        on: day(of.on),
        date: day(of.date),
        without: if of.without { "no_workday" } else { "" },
        under: PLANS[of.plan].into(),
        responsible: String::new(),
        exclusive: !world.duplicates[of.plan],
        deliveries: of.deliveries.iter().map(|n| day(*n)).collect(),
        delivery_moved: "",
        hours: (NaiveTime::MIN, latest),
        // Over the end of winter time.
        clock: Clock::of(day(of.date), chrono_tz::Europe::Berlin),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_makes_what_the_rules_say() {
    let lab = Lab::open().await;
    let handle = tokio::runtime::Handle::current();
    let config = ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    tokio::task::block_in_place(|| {
        TestRunner::new(config)
            .run(&worlds(), |worlds| {
                handle.block_on(lab.check(&worlds));
                Ok(())
            })
            .unwrap();
    });
}
