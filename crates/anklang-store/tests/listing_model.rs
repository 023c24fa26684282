//! Filters, orders and pages of lists in a real database against what they mean.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anklang_domain::access::Units;
use anklang_domain::{TenantId, Violations};
use anklang_local::cluster::{Cluster, Options};
use anklang_store::contract::{self, ContractDetails};
use anklang_store::{Store, migrate, tenant};
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rust_decimal::Decimal;

/// How many contracts there are.
const CONTRACTS: usize = 60;

struct Lab {
    tenant: TenantId,
    contracts: Vec<ContractDetails>,
    client: tokio_postgres::Client,
    store: Store,
    // After the store: connections end before the server does, the folder goes last.
    _cluster: Cluster,
    _folder: tempfile::TempDir,
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
        let zone = chrono_tz::Tz::Europe__Berlin;
        let one = tenant::upsert(&store, "one", "One", zone).await.unwrap();
        let two = tenant::upsert(&store, "two", "Two", zone).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        for tenant in [one.id, two.id] {
            client.batch_execute(&rows(tenant)).await.unwrap();
        }
        let tx = store.begin(one.id).await.unwrap();
        let all = contract::LISTABLE.all(1_000);
        let contracts = contract::list(&tx, one.id, None, &all).await.unwrap();
        assert_eq!((contracts.rows.len(), contracts.next), (CONTRACTS, None));
        Lab {
            tenant: one.id,
            contracts: contracts.rows,
            client,
            store,
            _cluster: cluster,
            _folder: folder,
        }
    }

    /// Numbers of all pages, and how many pages there were.
    async fn walk(&self, filter: &str, order_by: &str, size: usize) -> Vec<String> {
        let tx = self.store.begin(self.tenant).await.unwrap();
        let (mut numbers, mut after) = (Vec::new(), None);
        loop {
            let mut violations = Violations::new();
            let mut list = contract::LISTABLE.read(filter, order_by, size, &mut violations);
            assert!(violations.is_empty(), "{violations}: {filter}");
            if let Some(key) = after.take() {
                assert!(list.after(key));
            }
            let page = contract::list(&tx, self.tenant, None, &list)
                .await
                .unwrap_or_else(|e| panic!("{e}: {filter}: {order_by}"));
            assert!(page.rows.len() <= size);
            assert!(page.next.is_none() || page.rows.len() == size);
            numbers.extend(page.rows.into_iter().map(|c| c.contract.number));
            assert!(numbers.len() <= CONTRACTS, "does not end: {order_by}");
            match page.next {
                None => return numbers,
                next => after = next,
            }
        }
    }
}

/// A brand, a product with two versions, three customers, and contracts of few different values.
fn rows(tenant: TenantId) -> String {
    let t = tenant.0;
    let id = |kind: usize, n: usize| uuid::Uuid::from_u128(((kind as u128) << 64) + n as u128);
    let mut sql = format!(
        "INSERT INTO brand (tenant_id, id, code, name, sender_email)
             VALUES ('{t}', '{}', 'b', 'B', 'b@b.example');
         INSERT INTO product (tenant_id, id, number, name, division, brand_id)
             VALUES ('{t}', '{}', 'p', 'P', 'gas', '{}');",
        id(1, 0),
        id(2, 0),
        id(1, 0)
    );
    for n in 0..2 {
        let _ = write!(
            sql,
            "INSERT INTO product_version (tenant_id, id, product_id, code, name, valid_from,
                 base_price_per_year, unit_price_per_kwh, currency)
             VALUES ('{t}', '{}', '{}', 'v{n}', 'V', '2026-01-01', 1, 1, 'EUR');",
            id(3, n),
            id(2, 0)
        );
    }
    for n in 0..3 {
        let _ = write!(
            sql,
            "INSERT INTO customer (tenant_id, id, number, kind) VALUES ('{t}', '{}', 'c{n}', 'person');",
            id(4, n)
        );
    }
    for n in 0..CONTRACTS {
        let pick = |step: usize, of: &[&'static str]| of[(n * step / 3) % of.len()];
        let version = match n % 3 {
            2 => "NULL".to_owned(),
            v => format!("'{}'", id(3, v)),
        };
        let _ = write!(
            sql,
            "INSERT INTO contract (tenant_id, id, number, customer_id, brand_id, division,
                 supply_status, annual_quantity_kwh, product_version_id, end_date)
             VALUES ('{t}', '{}', 'n{n:02}', '{}', '{}', '{}', '{}', {}, {version}, {});",
            id(5, n),
            id(4, n % 3),
            id(1, 0),
            pick(1, &["gas", "motor"]),
            pick(4, &["", "a", "ab", "b"]),
            pick(5, &["NULL", "0", "2.5", "1000"]),
            pick(7, &["NULL", "'2026-01-31'", "'2026-02-01'"]),
        );
    }
    sql
}

/// A filter in words and what it means.
#[derive(Debug, Clone)]
enum Tree {
    Is(&'static str, &'static str, &'static str),
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
}

impl Tree {
    fn words(&self) -> String {
        let list = |all: &[Tree], word: &str| {
            let all: Vec<String> = all.iter().map(Tree::words).collect();
            format!("({})", all.join(word))
        };
        match self {
            Tree::Is(field, operator, value) => format!("{field} {operator} {value}"),
            Tree::All(all) => list(all, " AND "),
            Tree::Any(any) => list(any, " OR "),
            Tree::Not(inner) => format!("NOT {}", inner.words()),
        }
    }

    fn holds(&self, c: &ContractDetails) -> bool {
        match self {
            Tree::All(all) => all.iter().all(|t| t.holds(c)),
            Tree::Any(any) => any.iter().any(|t| t.holds(c)),
            Tree::Not(inner) => !inner.holds(c),
            Tree::Is(field, operator, value) => is(c, field, operator, value),
        }
    }
}

fn is(c: &ContractDetails, field: &str, operator: &str, value: &str) -> bool {
    let c = &c.contract;
    let text = |own: &str| match (operator, value) {
        (":", "*") => !own.is_empty(),
        (":", part) => own.contains(part),
        _ => ordered(operator, own.cmp(value.trim_matches('"'))),
    };
    match field {
        "number" => text(&c.number),
        "division" => text(&c.division),
        "supply_status" => text(&c.supply_status),
        "customer" => text(&format!("customers/{}", c.customer_number)),
        "annual_quantity_kwh" => match (operator, c.annual_quantity_kwh) {
            (":", own) => own.is_some(),
            (_, None) => false,
            (_, Some(own)) => ordered(operator, own.cmp(&value.parse::<Decimal>().unwrap())),
        },
        "end_date" => match (operator, c.end_date) {
            (":", own) => own.is_some(),
            (_, None) => false,
            (_, Some(own)) => ordered(operator, own.cmp(&value.parse().unwrap())),
        },
        "product_version" => match (operator, &c.product_version_code) {
            (":", own) => own.is_some(),
            (_, None) => false,
            (_, Some(code)) => text(&format!("products/p/versions/{code}")),
        },
        other => panic!("{other}"),
    }
}

fn ordered(operator: &str, found: Ordering) -> bool {
    match operator {
        "=" => found.is_eq(),
        "!=" => found.is_ne(),
        "<" => found.is_lt(),
        "<=" => found.is_le(),
        ">" => found.is_gt(),
        ">=" => found.is_ge(),
        other => panic!("{other}"),
    }
}

const ORDERED: &[&str] = &["=", "!=", "<", "<=", ">", ">="];

fn trees() -> impl Strategy<Value = Tree> {
    let fields: Vec<(&str, &[&str], Vec<&str>)> = vec![
        ("number", ORDERED, vec!["n30", "\"n07\"", "n99"]),
        ("division", ORDERED, vec!["gas", "h"]),
        ("supply_status", ORDERED, vec!["\"\"", "a", "ab", "b"]),
        (
            "annual_quantity_kwh",
            ORDERED,
            vec!["0", "2.5", "-1", "1000.000"],
        ),
        ("end_date", ORDERED, vec!["2026-01-31", "2026-02-01"]),
        (
            "customer",
            &["=", "!="],
            vec!["customers/c0", "\"customers/c9\""],
        ),
        (
            "product_version",
            &["=", "!="],
            vec!["products/p/versions/v1", "products/p/versions/v7"],
        ),
        ("supply_status", &[":"], vec!["*", "b"]),
        ("annual_quantity_kwh", &[":"], vec!["*"]),
        ("end_date", &[":"], vec!["*"]),
        ("product_version", &[":"], vec!["*"]),
    ];
    let leaf = prop::sample::select(fields).prop_flat_map(|(field, operators, values)| {
        (
            prop::sample::select(operators),
            prop::sample::select(values),
        )
            .prop_map(move |(operator, value)| Tree::Is(field, operator, value))
    });
    leaf.prop_recursive(4, 12, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            list.clone().prop_map(Tree::All),
            list.prop_map(Tree::Any),
            inner.prop_map(|t| Tree::Not(Box::new(t))),
        ]
    })
}

/// Fields to order by, each once.
fn orders() -> impl Strategy<Value = Vec<(&'static str, bool)>> {
    let fields = vec![
        "number",
        "division",
        "supply_status",
        "annual_quantity_kwh",
        "end_date",
    ];
    (
        prop::sample::subsequence(fields, 0..4).prop_shuffle(),
        any::<[bool; 4]>(),
    )
        .prop_map(|(fields, ways)| fields.into_iter().zip(ways).collect())
}

/// No value is greater than every value.
fn compared(a: &ContractDetails, b: &ContractDetails, order: &[(&str, bool)]) -> Ordering {
    fn nulls_last<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
        (a.is_none(), a).cmp(&(b.is_none(), b))
    }
    let (a, b) = (&a.contract, &b.contract);
    for (field, descending) in order {
        let found = match *field {
            "number" => a.number.cmp(&b.number),
            "division" => a.division.cmp(&b.division),
            "supply_status" => a.supply_status.cmp(&b.supply_status),
            "annual_quantity_kwh" => nulls_last(a.annual_quantity_kwh, b.annual_quantity_kwh),
            "end_date" => nulls_last(a.end_date, b.end_date),
            other => panic!("{other}"),
        };
        let found = if *descending { found.reverse() } else { found };
        if found.is_ne() {
            return found;
        }
    }
    let by_number = a.number.cmp(&b.number);
    let last = order.last().is_some_and(|(_, descending)| *descending);
    if last { by_number.reverse() } else { by_number }
}

/// Whatever is filtered and however it is ordered, pages of any size are the list in parts.
#[test]
fn lists_hold_what_their_filters_mean_in_the_order_wanted() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lab = runtime.block_on(Lab::open());
    let some = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(250));
    let cases = (prop::option::weighted(0.8, trees()), orders(), 1..30usize);
    runner
        .run(&cases, |(tree, order, size)| {
            let filter = tree.as_ref().map_or_else(String::new, Tree::words);
            let words: Vec<String> = order
                .iter()
                .map(|(f, d)| format!("{f}{}", if *d { " desc" } else { "" }))
                .collect();
            let found = runtime.block_on(lab.walk(&filter, &words.join(", "), size));
            let mut expected: Vec<&ContractDetails> = lab
                .contracts
                .iter()
                .filter(|c| tree.as_ref().is_none_or(|t| t.holds(c)))
                .collect();
            expected.sort_by(|a, b| compared(a, b, &order));
            if !expected.is_empty() && expected.len() < CONTRACTS {
                some.set(some.get() + 1);
            }
            let expected: Vec<&str> = expected.iter().map(|c| &*c.contract.number).collect();
            prop_assert_eq!(found, expected, "{} by {}", filter, words.join(", "));
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(
        some.get() > 60,
        "only {} filters find some, not all",
        some.get()
    );
    drop(lab);
}

/// Where a list goes in the order of an index, the database is left no memory to gather customers in.
#[tokio::test(flavor = "multi_thread")]
async fn customers_are_gathered_first_of_who_sees_few_of_the_tenants() {
    #[derive(QueryableByName)]
    struct Room {
        #[diesel(sql_type = Text)]
        room: String,
    }
    const NONE: &str = "64kB 1";
    let lab = Lab::open().await;
    let (tenant, t) = (lab.tenant, lab.tenant.0);
    let one_of_three = format!(
        "INSERT INTO org_unit (tenant_id, code, name) VALUES ('{t}', 'north', 'North');
         UPDATE customer SET org_unit_code = 'north' WHERE tenant_id = '{t}' AND number = 'c0'"
    );
    lab.client.batch_execute(&one_of_three).await.unwrap();
    let north = lab.store.within(&Units::Only(["north".to_owned()].into()));
    let room = async |order_by: &str| {
        let mut list = contract::LISTABLE.read("", order_by, 100, &mut Violations::new());
        list.within_units();
        let mut tx = north.begin(tenant).await.unwrap();
        let page = contract::list(&tx, tenant, None, &list).await.unwrap();
        assert_eq!(page.rows.len(), CONTRACTS / 3);
        let sql = "SELECT concat_ws(' ', current_setting('work_mem'),
                                    current_setting('hash_mem_multiplier')) AS room";
        let room: Room = diesel::sql_query(sql).get_result(&mut *tx).await.unwrap();
        room.room
    };
    for in_order in ["", "number", "number desc"] {
        assert_eq!(room(in_order).await, NONE, "{in_order}");
    }
    assert_ne!(room("division").await, NONE);
    let one_of_many = format!(
        "INSERT INTO customer (tenant_id, id, number, kind)
         SELECT '{t}', gen_random_uuid(), 'm' || n, 'person' FROM generate_series(1, 17) n"
    );
    lab.client.batch_execute(&one_of_many).await.unwrap();
    for gathered in ["", "number", "division"] {
        assert_ne!(room(gathered).await, NONE, "{gathered}");
    }
}
