//! Selections in a real database against what they mean.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod make;
mod naive;
mod trees;
mod world;

use std::cell::Cell as Counter;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anklang_domain::selection::{Compare, Criteria, Operator, Quantifier, Related, Subject, Value};
use anklang_domain::{SelectionId, TenantId};
use anklang_local::cluster::{Cluster, Options};
use anklang_store::selection::registry::Entity;
use anklang_store::selection::{self, Prepared, Statement};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, Store, StoreError, migrate};
use diesel::pg::Pg;
use diesel::row::NamedRow;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel::{QueryableByName, deserialize};
use diesel_async::RunQueryDsl;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;
use uuid::Uuid;

use world::{World, as_of};

/// A database with two tenants; the tests are about the first.
struct Lab {
    tenant: Tenant,
    other: Tenant,
    world: World,
    store: Store,
    // After the store: connections end before the server does, the folder goes last.
    _cluster: Cluster,
    _folder: TempDir,
}

impl Lab {
    async fn open() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = Cluster::start(Options::test(folder.path().join("db")))
            .await
            .unwrap();
        cluster.ensure_database("model").await.unwrap();
        let url = cluster.url("model");
        let store = Store::new(&url, 4).unwrap();
        migrate::up(&store).await.unwrap();
        let (tenant, world) = make::tenant(&store, &url, "one", 1).await;
        let (other, _) = make::tenant(&store, &url, "two", 2).await;
        Lab {
            tenant,
            other,
            world,
            store,
            _cluster: cluster,
            _folder: folder,
        }
    }

    async fn prepare(&self, conn: &mut Conn, subject: Subject, criteria: &Criteria) -> Prepared {
        selection::prepare(conn, &self.tenant, subject, criteria, as_of())
            .await
            .unwrap_or_else(|e| panic!("{e}: {criteria:?}"))
    }

    /// Ids that the database finds, in order. Sees all tenants' rows, but for the criteria.
    async fn found(&self, subject: Subject, criteria: &Criteria) -> Vec<Uuid> {
        let mut tx = self.store.begin_worker().await.unwrap();
        let prepared = self.prepare(&mut tx, subject, criteria).await;
        ids(&mut tx, &prepared).await
    }

    /// Ids that should be found, in order.
    fn expected(&self, subject: Subject, criteria: &Criteria) -> Vec<Uuid> {
        let entity = Entity::from(subject);
        let rows = self.world.of(entity).iter();
        let mut ids: Vec<Uuid> = rows
            .filter(|row| naive::holds(&self.world, entity, row, criteria))
            .map(|row| row.id)
            .collect();
        ids.sort();
        ids
    }
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

async fn ids(conn: &mut Conn, prepared: &Prepared) -> Vec<Uuid> {
    let select = match prepared.subject() {
        Subject::Customer => "SELECT subject.id FROM customer subject WHERE ",
        Subject::Contract => "SELECT subject.id FROM contract subject WHERE ",
    };
    let statement = Statement::new(select)
        .criteria(prepared)
        .sql(" ORDER BY subject.id");
    let rows: Vec<Id> = statement
        .clone()
        .load(conn)
        .await
        .unwrap_or_else(|e| panic!("{e}: {statement:?}"));
    rows.into_iter().map(|row| row.id).collect()
}

fn compare(field: &str, operator: Operator, values: Vec<Value>) -> Criteria {
    Criteria::Compare(Compare {
        field: field.into(),
        operator,
        values,
    })
}

fn text(values: &[&str]) -> Vec<Value> {
    values.iter().map(|v| Value::Text((*v).into())).collect()
}

fn equal(field: &str, value: &str) -> Criteria {
    compare(field, Operator::Equal, text(&[value]))
}

fn related(relation: &str, quantifier: Quantifier, criteria: Criteria) -> Criteria {
    Criteria::Related(Related {
        relation: relation.into(),
        quantifier,
        criteria: Some(Box::new(criteria)),
    })
}

fn all(criteria: Vec<Criteria>) -> Criteria {
    Criteria::All { criteria }
}

fn not(criteria: Criteria) -> Criteria {
    Criteria::Not {
        criteria: Box::new(criteria),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

/// Every tree finds in SQL what it means, whatever is not set, negated, nested or counted, and
/// nothing of another tenant.
#[test]
fn criteria_find_what_they_mean() {
    let runtime = runtime();
    let lab = runtime.block_on(Lab::open());
    let (some, cases) = (Counter::new(0), Counter::new(0));
    for subject in [Subject::Customer, Subject::Contract] {
        let whole = lab.world.of(subject.into()).len();
        let mut runner = TestRunner::new(ProptestConfig::with_cases(600));
        runner
            .run(&trees::criteria(&lab.world, subject.into(), 5), |tree| {
                let found = runtime.block_on(lab.found(subject, &tree));
                let expected = lab.expected(subject, &tree);
                cases.set(cases.get() + 1);
                if !expected.is_empty() && expected.len() < whole {
                    some.set(some.get() + 1);
                }
                prop_assert_eq!(found, expected);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{e}"));
    }
    assert!(
        some.get() * 3 > cases.get(),
        "only {some:?} of {cases:?} find some, not all"
    );
    drop(lab);
}

/// Every node of every tree is explained as it means, also below relations.
#[test]
fn nodes_are_explained_as_they_mean() {
    let runtime = runtime();
    let lab = runtime.block_on(Lab::open());
    for subject in [Subject::Customer, Subject::Contract] {
        let rows = lab.world.of(subject.into()).to_vec();
        let trees = trees::criteria(&lab.world, subject.into(), 5);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(150));
        runner
            .run(&(trees, prop::sample::select(rows)), |(tree, row)| {
                let Some(world::Cell::Text(number)) = row.cells.get("number") else {
                    panic!("{row:?} has a number");
                };
                let explained = runtime.block_on(async {
                    let mut tx = lab.store.begin(lab.tenant.id).await.unwrap();
                    selection::explain(&mut tx, &lab.tenant, subject, &tree, number, as_of())
                        .await
                        .unwrap_or_else(|e| panic!("{e}: {tree:?}"))
                        .expect("a row of that number")
                });
                let mut expected = Vec::new();
                naive::explain(&lab.world, subject.into(), &[&row], &tree, &mut expected);
                let found: Vec<[usize; 4]> = explained
                    .nodes
                    .iter()
                    .map(|n| [n.rows, n.matching, n.related, n.matching_related])
                    .map(|numbers| numbers.map(|n| usize::try_from(n).unwrap()))
                    .collect();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(explained.id, row.id);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{e}"));
    }
    drop(lab);
}

/// Every field of every entity by every operator, each with some values, plain and negated.
#[test]
fn every_field_compares_by_every_operator() {
    let ways: [(Entity, Subject, &[&str]); 13] = [
        (Entity::Customer, Subject::Customer, &[]),
        (Entity::Contract, Subject::Contract, &[]),
        (Entity::ContractItem, Subject::Contract, &["items"]),
        (Entity::Order, Subject::Customer, &["orders"]),
        (Entity::OrderLine, Subject::Customer, &["orders", "lines"]),
        (Entity::ContactPoint, Subject::Customer, &["contact_points"]),
        (Entity::Consent, Subject::Customer, &["consents"]),
        (Entity::Offer, Subject::Contract, &["offers"]),
        (Entity::Message, Subject::Customer, &["messages"]),
        (Entity::Report, Subject::Customer, &["messages", "reports"]),
        (
            Entity::InboundMessage,
            Subject::Customer,
            &["inbound_messages"],
        ),
        (
            Entity::PlannedContact,
            Subject::Customer,
            &["planned_contacts"],
        ),
        (
            Entity::ContactAttempt,
            Subject::Customer,
            &["planned_contacts", "attempts"],
        ),
    ];
    let runtime = runtime();
    let lab = runtime.block_on(Lab::open());
    let mut runner = TestRunner::deterministic();
    for (entity, subject, way) in ways {
        for comparisons in trees::every_comparison(&lab.world, entity) {
            for is_negated in [false, true, false, true] {
                let compare = comparisons.new_tree(&mut runner).unwrap().current();
                let inner = if is_negated { not(compare) } else { compare };
                let wrap = |inner, relation: &&str| related(relation, Quantifier::Any, inner);
                let criteria = way.iter().rev().fold(inner, wrap);
                let found = runtime.block_on(lab.found(subject, &criteria));
                assert_eq!(found, lab.expected(subject, &criteria), "{criteria:?}");
            }
        }
    }
    drop(lab);
}

/// A line of a plan, or a name.
struct Line(String);

impl QueryableByName<Pg> for Line {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        NamedRow::get::<Text, _>(row, "QUERY PLAN").map(Line)
    }
}

/// An index leads from every row to its related ones, so that nobody's table need be read as a whole. Which one a small
/// table is read by is the planner's to say.
#[tokio::test(flavor = "multi_thread")]
async fn related_rows_are_found_by_an_index() {
    let lab = Lab::open().await;
    let mut tx = lab.store.begin(lab.tenant.id).await.unwrap();
    let ways: [(&[&str], &str); 9] = [
        (&["contracts"], "customer_id"),
        (&["orders"], "customer_id"),
        (&["messages"], "customer_id"),
        (&["messages", "reports"], "message_id"),
        (&["messages", "replies"], "message_id"),
        (&["inbound_messages"], "customer_id"),
        (&["planned_contacts"], "customer_id"),
        (&["planned_contacts", "attempts"], "contact_id"),
        (&["offers", "planned_contacts"], "offer_id"),
    ];
    for (way, column) in ways {
        // A count is looked at row by row.
        let mut criteria = None;
        for relation in way.iter().rev() {
            criteria = Some(Box::new(Criteria::Related(Related {
                relation: (*relation).into(),
                quantifier: Quantifier::Count {
                    operator: Operator::GreaterOrEqual,
                    value: 2,
                },
                criteria,
            })));
        }
        let prepared = lab
            .prepare(&mut tx, Subject::Customer, &criteria.unwrap())
            .await;
        let plan: Vec<Line> =
            Statement::new("EXPLAIN SELECT subject.id FROM customer subject WHERE ")
                .criteria(&prepared)
                .load(&mut tx)
                .await
                .unwrap();
        let alias = format!(" s{}", way.len());
        let table = plan.iter().find_map(|line| {
            let (scan, _) = line.0.split_once("  (cost")?;
            let (_, table) = scan.strip_suffix(&alias)?.rsplit_once(" on ")?;
            Some(table.to_owned())
        });
        let table = table.unwrap_or_else(|| panic!("{way:?}: no table"));
        let leading: Vec<Line> = diesel::sql_query(
            "SELECT i.indexrelid::regclass::text AS \"QUERY PLAN\" FROM pg_index i
             JOIN pg_attribute t ON t.attrelid = i.indrelid AND t.attnum = i.indkey[0]
             JOIN pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = i.indkey[1]
             WHERE i.indrelid = $1::regclass AND t.attname = 'tenant_id' AND c.attname = $2",
        )
        .bind::<Text, _>(&table)
        .bind::<Text, _>(column)
        .load(&mut tx)
        .await
        .unwrap();
        assert!(!leading.is_empty(), "{way:?}: {table} by {column}");
    }
}

/// The questions that the language was made for, one selection each.
#[test]
fn known_questions_are_one_selection_each() {
    let motor_without_glass = all(vec![
        equal("division", "motor"),
        related("items", Quantifier::None, equal("code", "glass")),
    ]);
    let tariff = all(vec![
        compare(
            "product_version",
            Operator::In,
            text(&["products/A/versions/2025", "products/B%2Fx/versions/2026"]),
        ),
        compare(
            "annual_quantity_kwh",
            Operator::Between,
            vec![Value::Number(2.into()), Value::Number(1005.into())],
        ),
        compare(
            "site_postal_code",
            Operator::Between,
            text(&["35000", "35999"]),
        ),
        compare("supply_status", Operator::In, text(&["AU", "AB"])),
    ]);
    let bought = |days| {
        all(vec![
            compare(
                "order_time",
                Operator::GreaterOrEqual,
                vec![Value::DaysAgo(days)],
            ),
            related("lines", Quantifier::Any, equal("product_group", "Obst")),
        ])
    };
    let fruit_before_but_not_lately = all(vec![
        related("orders", Quantifier::Any, bought(3)),
        related("orders", Quantifier::None, bought(1)),
    ]);
    let offered = all(vec![
        equal(
            "campaign",
            &format!("campaigns/{}", world::id(make::CAMPAIGN, 0)),
        ),
        compare("state", Operator::In, text(&["open", "expired"])),
    ]);
    let no_answer = related("offers", Quantifier::Any, offered);
    let runtime = runtime();
    let lab = runtime.block_on(Lab::open());
    for (name, subject, criteria) in [
        (
            "motor without glass",
            Subject::Contract,
            motor_without_glass,
        ),
        ("tariff", Subject::Contract, tariff),
        ("fruit", Subject::Customer, fruit_before_but_not_lately),
        ("no answer, contracts", Subject::Contract, no_answer.clone()),
        ("no answer, customers", Subject::Customer, no_answer),
    ] {
        let expected = lab.expected(subject, &criteria);
        assert!(!expected.is_empty(), "{name} finds nobody: a poor example");
        assert!(
            expected.len() < lab.world.of(subject.into()).len(),
            "{name} finds everybody"
        );
        assert_eq!(
            runtime.block_on(lab.found(subject, &criteria)),
            expected,
            "{name}"
        );
    }
    drop(lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_counts_exactly_and_shows_the_first() {
    let lab = Lab::open().await;
    let criteria = compare("division", Operator::NotEqual, text(&["gas"]));
    let mut tx = lab.store.begin(lab.tenant.id).await.unwrap();
    let prepared = lab.prepare(&mut tx, Subject::Contract, &criteria).await;
    let long = Duration::from_secs(30);
    let preview = selection::preview(&mut tx, &prepared, 3, long)
        .await
        .unwrap();

    let entity = Entity::Contract;
    let rows: Vec<_> = lab
        .world
        .of(entity)
        .iter()
        .filter(|row| naive::holds(&lab.world, entity, row, &criteria))
        .collect();
    let mut customers: Vec<Uuid> = rows.iter().map(|row| row.points_at["customer"]).collect();
    customers.sort();
    customers.dedup();
    assert_eq!(usize::try_from(preview.count).unwrap(), rows.len());
    assert_eq!(usize::try_from(preview.customers).unwrap(), customers.len());
    assert!(
        customers.len() < rows.len(),
        "a customer with two contracts is wanted"
    );
    let numbers: Vec<&str> = preview
        .sample
        .iter()
        .filter_map(|s| s.contract.as_deref())
        .collect();
    let expected: Vec<String> = rows
        .iter()
        .take(3)
        .map(|row| match &row.cells["number"] {
            world::Cell::Text(number) => number.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, expected);

    // Nobody, and no sample.
    let nobody = lab
        .prepare(&mut tx, Subject::Customer, &equal("number", "none"))
        .await;
    let preview = selection::preview(&mut tx, &nobody, 100, long)
        .await
        .unwrap();
    assert_eq!(
        (preview.count, preview.customers, preview.sample.len()),
        (0, 0, 0)
    );
    let everybody = lab
        .prepare(
            &mut tx,
            Subject::Customer,
            &compare("number", Operator::IsSet, vec![]),
        )
        .await;
    let preview = selection::preview(&mut tx, &everybody, 0, long)
        .await
        .unwrap();
    assert_eq!(
        (preview.count, preview.customers, preview.sample.len()),
        (40, 40, 0)
    );
    tx.commit().await.unwrap();

    // Too expensive: six relations counted within each other.
    let ways = [
        "customer",
        "orders",
        "customer",
        "contracts",
        "customer",
        "orders",
        "customer",
    ];
    let costly =
        ways.into_iter()
            .rev()
            .fold(compare("number", Operator::IsSet, vec![]), |inner, way| {
                let quantifier = Quantifier::Count {
                    operator: Operator::GreaterOrEqual,
                    value: 2,
                };
                match way {
                    "customer" => related(way, Quantifier::Any, inner),
                    _ => related(way, quantifier, inner),
                }
            });
    let mut tx = lab.store.begin(lab.tenant.id).await.unwrap();
    let costly = lab.prepare(&mut tx, Subject::Contract, &costly).await;
    let refused = selection::preview(&mut tx, &costly, 1, Duration::from_millis(1)).await;
    assert!(
        matches!(refused, Err(StoreError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn selections_are_saved_versioned_and_deleted() {
    let lab = Lab::open().await;
    let tenant = lab.tenant.id;
    let mut tx = lab.store.begin(tenant).await.unwrap();
    let first = lab
        .prepare(&mut tx, Subject::Contract, &equal("division", "gas"))
        .await;
    let saved = selection::create(&mut tx, "Gas", "all gas", &first, None)
        .await
        .unwrap();
    assert_eq!(
        (saved.version, &*saved.name, &*saved.description),
        (1, "Gas", "all gas")
    );
    assert_eq!(&saved.criteria, first.criteria());
    assert_eq!(selection::get(&tx, tenant, saved.id).await.unwrap(), saved);

    let second = lab
        .prepare(&mut tx, Subject::Contract, &equal("division", "motor"))
        .await;
    let updated = selection::update(&mut tx, saved.id, "Motor", "", &second)
        .await
        .unwrap();
    assert_eq!(
        (updated.version, &*updated.name, updated.id),
        (2, "Motor", saved.id)
    );
    assert_eq!(&updated.criteria, second.criteria());

    let customers = lab
        .prepare(&mut tx, Subject::Customer, &equal("city", "Kiel"))
        .await;
    let refused = selection::update(&mut tx, saved.id, "Motor", "", &customers).await;
    let Err(StoreError::Invalid(violations)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(violations.into_vec()[0].field, "subject");

    let newest = selection::create(&mut tx, "Kiel", "", &customers, None)
        .await
        .unwrap();
    let mut list = selection::LISTABLE.all(1);
    let first = selection::list(&tx, tenant, None, &list).await.unwrap();
    assert_eq!(first.rows[..], [newest]);
    assert!(list.after(first.next.unwrap()));
    let older = selection::list(&tx, tenant, None, &list).await.unwrap();
    assert_eq!((older.rows, older.next), (vec![updated], None));
    tx.commit().await.unwrap();

    is_missing_for(&lab, lab.other.id, saved.id).await;
    let mut tx = lab.store.begin(tenant).await.unwrap();
    selection::delete(&mut tx, tenant, saved.id).await.unwrap();
    tx.commit().await.unwrap();
    is_missing_for(&lab, tenant, saved.id).await;
}

/// Neither read nor changed nor deleted, even by one who sees all tenants.
async fn is_missing_for(lab: &Lab, tenant: TenantId, id: SelectionId) {
    let mut tx = lab.store.begin_worker().await.unwrap();
    let name = format!("selections/{id}");
    let is_missing = |error: StoreError| matches!(error, StoreError::Missing(what) if what == name);
    assert!(is_missing(
        selection::get(&tx, tenant, id).await.unwrap_err()
    ));
    assert!(is_missing(
        selection::delete(&mut tx, tenant, id).await.unwrap_err()
    ));
    let of = if tenant == lab.tenant.id {
        &lab.tenant
    } else {
        &lab.other
    };
    let criteria = equal("division", "gas");
    let prepared = selection::prepare(&mut tx, of, Subject::Contract, &criteria, as_of())
        .await
        .unwrap();
    assert!(is_missing(
        selection::update(&mut tx, id, "x", "", &prepared)
            .await
            .unwrap_err()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_known_by_tenant_and_the_net_holds() {
    let lab = Lab::open().await;
    let mut tx = lab.store.begin_worker().await.unwrap();
    let unknown = compare("attributes.nothing", Operator::IsSet, vec![]);
    let refused =
        selection::prepare(&mut tx, &lab.tenant, Subject::Customer, &unknown, as_of()).await;
    let Err(StoreError::Invalid(violations)) = refused else {
        panic!("{refused:?}");
    };
    let violation = &violations.into_vec()[0];
    assert_eq!(violation.field, "criteria.compare.field");
    assert_eq!(
        violation.reason,
        "is no imported attribute of a customer; \
         known are attributes.score, attributes.segment, attributes.vip"
    );
    // Under row-level security another tenant's statement finds nothing.
    let everybody = compare("number", Operator::IsSet, vec![]);
    let prepared = lab.prepare(&mut tx, Subject::Customer, &everybody).await;
    assert_eq!(ids(&mut tx, &prepared).await.len(), 40);
    let mut tx = lab.store.begin(lab.other.id).await.unwrap();
    assert!(ids(&mut tx, &prepared).await.is_empty());
}
