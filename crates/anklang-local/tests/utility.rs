//! The invented utility, read back from its files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use anklang_local::utility::{Manifest, Size, Utility};
use chrono::{DateTime, NaiveDate};
use email_address::EmailAddress;
use tempfile::TempDir;

type Row = HashMap<String, String>;

const DEMO: Size = Size {
    customers: 10_000,
    contracts: 12_000,
};

fn as_of() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 1).unwrap()
}

fn generate(size: Size, seed: u64) -> (TempDir, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Utility::generate(size, seed, as_of(), folder.path()).unwrap();
    (folder, manifest)
}

/// All files of the demo's size, by name. Made once for all tests.
static ALL: LazyLock<HashMap<&'static str, Vec<Row>>> = LazyLock::new(|| {
    let (_folder, manifest) = generate(DEMO, 1);
    manifest
        .files
        .iter()
        .map(|file| {
            let rows = read(&file.path);
            assert_eq!(rows.len() as u64, file.rows, "{}", file.name);
            (file.name, rows)
        })
        .collect()
});

fn read(path: &Path) -> Vec<Row> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

fn keys<'a>(name: &str, column: &str) -> HashSet<&'a str> {
    ALL[name].iter().map(|row| row[column].as_str()).collect()
}

/// Share of rows that match, in per cent.
fn share(rows: &[Row], matches: impl Fn(&Row) -> bool) -> f64 {
    100.0 * rows.iter().filter(|row| matches(row)).count() as f64 / rows.len() as f64
}

#[track_caller]
fn around(actual: f64, expected: f64, tolerance: f64) {
    let off = (actual - expected).abs();
    assert!(
        off <= tolerance,
        "{actual}, expected {expected} ± {tolerance}"
    );
}

fn date(text: &str) -> NaiveDate {
    text.parse()
        .unwrap_or_else(|_| panic!("'{text}' is no date"))
}

#[test]
fn same_seed_same_bytes() {
    let size = Size {
        customers: 300,
        contracts: 360,
    };
    let (one, manifest) = generate(size, 7);
    let (two, _) = generate(size, 7);
    let (other, _) = generate(size, 8);
    assert_eq!(manifest.files.len(), 11);
    for file in &manifest.files {
        let name = file.path.file_name().unwrap();
        let bytes = |folder: &TempDir| fs::read(folder.path().join(name)).unwrap();
        assert_eq!(bytes(&one), bytes(&two), "{name:?}");
        let master = ["brands", "products", "product_versions"].contains(&file.name);
        assert_eq!(bytes(&one) == bytes(&other), master, "{name:?}");
        assert!(bytes(&one).ends_with(b"\r\n"));
    }
}

#[test]
fn the_size_is_exact() {
    for (customers, contracts) in [(1, 0), (1, 5), (100, 100), (100, 40), (50, 500)] {
        let (_folder, manifest) = generate(
            Size {
                customers,
                contracts,
            },
            3,
        );
        assert_eq!(manifest.rows("customers"), customers);
        assert_eq!(manifest.rows("contracts"), contracts);
    }
    let nobody = Size {
        customers: 0,
        contracts: 0,
    };
    let folder = tempfile::tempdir().unwrap();
    assert!(Utility::generate(nobody, 1, as_of(), folder.path()).is_err());
}

#[test]
fn all_references_lead_somewhere() {
    for (name, column, target, key) in [
        ("products", "brand_code", "brands", "code"),
        ("product_versions", "product_number", "products", "number"),
        ("contact_points", "customer_number", "customers", "number"),
        ("consents", "customer_number", "customers", "number"),
        ("contracts", "customer_number", "customers", "number"),
        ("contracts", "brand_code", "brands", "code"),
        ("contract_items", "contract_number", "contracts", "number"),
        ("orders", "customer_number", "customers", "number"),
        ("orders", "brand_code", "brands", "code"),
        ("order_lines", "order_number", "orders", "number"),
    ] {
        let known = keys(target, key);
        for row in &ALL[name] {
            assert!(known.contains(row[column].as_str()), "{name}: {row:?}");
        }
    }
    let (customers, contracts) = (keys("customers", "number"), keys("contracts", "number"));
    for row in &ALL["attributes"] {
        let known = match row["entity"].as_str() {
            "customer" => &customers,
            "contract" => &contracts,
            other => panic!("{other}"),
        };
        assert!(known.contains(row["number"].as_str()), "{row:?}");
    }
    assert_eq!(keys("contracts", "customer_number").len(), 10_000);
}

#[test]
fn numbers_are_unique() {
    for (name, columns) in [
        ("brands", &["code"][..]),
        ("products", &["number"]),
        ("product_versions", &["product_number", "code"]),
        ("customers", &["number"]),
        (
            "contact_points",
            &["customer_number", "channel", "position"],
        ),
        ("consents", &["customer_number", "channel", "purpose"]),
        ("contracts", &["number"]),
        ("contract_items", &["contract_number", "code"]),
        ("orders", &["number"]),
        ("order_lines", &["order_number", "line"]),
        ("attributes", &["entity", "number", "key"]),
    ] {
        let mut seen = HashSet::new();
        for row in &ALL[name] {
            let key: Vec<_> = columns.iter().map(|column| &row[*column]).collect();
            assert!(seen.insert(key), "{name}: {row:?}");
        }
        assert!(!seen.is_empty(), "{name}");
    }
}

#[test]
fn nobody_real_can_be_reached() {
    let (mut mails, mut numbers) = (HashSet::new(), HashSet::new());
    for row in &ALL["contact_points"] {
        let address = row["address"].as_str();
        if row["channel"] == "mail" {
            let domain = address.split_once('@').unwrap().1;
            let top = domain.rsplit('.').next().unwrap();
            let reserved = ["example.com", "example.org", "example.net"].contains(&domain);
            assert!(reserved || top == "example", "{address}");
            assert!(address.is_ascii(), "{address}");
            assert!(EmailAddress::is_valid(address), "{address}");
            assert!(mails.insert(address.to_lowercase()), "{address} twice");
        } else {
            let digits: String = address.chars().filter(char::is_ascii_digit).collect();
            let national = digits.strip_prefix("49").or(digits.strip_prefix('0'));
            let national = national.unwrap();
            let block = [
                ("3023125", 3),
                ("6990009", 3),
                ("4066969", 3),
                ("2214710", 3),
                ("8999998", 3),
                ("17139200", 2),
                ("176040690", 2),
                ("15228817386", 0),
                ("15228895456", 0),
                ("15254599371", 0),
                ("1729925904", 0),
                ("1729968532", 0),
                ("1729973185", 0),
                ("1729973186", 0),
                ("1729980752", 0),
                ("1749091317", 0),
                ("1749464308", 0),
            ];
            let reserved = block.iter().any(|(start, more)| {
                national.starts_with(start) && national.len() == start.len() + more
            });
            assert!(reserved, "{address}");
            if numbers.insert(address) {
                let number = phonenumber::parse(Some(phonenumber::country::DE), address);
                assert!(number.unwrap().is_valid(), "{address}");
            }
            let mobile = national.starts_with('1');
            assert_eq!(mobile, row["channel"] == "mobile", "{row:?}");
        }
    }
    assert!(mails.len() > 9_000);
}

#[test]
fn customers_are_like_customers() {
    let customers = &ALL["customers"];
    around(share(customers, |row| row["kind"] == "person"), 92.0, 1.5);
    around(share(customers, |row| row["language"] == "de"), 95.4, 1.5);
    around(
        share(customers, |row| row["salutation"] == "female"),
        48.5,
        3.0,
    );
    around(
        share(customers, |row| row["title"].contains("Dr.")),
        2.0,
        1.0,
    );
    around(
        share(customers, |row| row["postal_code"].starts_with("35")),
        89.0,
        4.0,
    );
    for row in customers {
        let company = row["kind"] == "company";
        assert_eq!(company, !row["company_name"].is_empty(), "{row:?}");
        assert!(company || !row["last_name"].is_empty(), "{row:?}");
        assert!(row["house_number"].starts_with(|c: char| ('1'..='9').contains(&c)));
        if !row["birth_date"].is_empty() {
            let days = (as_of() - date(&row["birth_date"])).num_days();
            assert!((18 * 365..=92 * 366).contains(&days), "{row:?}");
        }
    }
    assert!(keys("customers", "city").len() > 50);
    assert!(keys("customers", "street").len() >= 110);
    assert!(
        customers
            .iter()
            .any(|row| row["house_number"].ends_with('a'))
    );
    assert!(customers.iter().any(|row| row["last_name"].contains('ü')));
    assert!(customers.iter().any(|row| row["last_name"].contains('-')));
}

#[test]
fn consents_are_like_consents() {
    let with_mail: HashSet<_> = ALL["contact_points"]
        .iter()
        .filter(|row| row["channel"] == "mail")
        .map(|row| row["customer_number"].as_str())
        .collect();
    around(with_mail.len() as f64, 9_400.0, 100.0);
    let of = |state: &str| {
        let rows = ALL["consents"].iter();
        let count = rows
            .filter(|row| row["channel"] == "mail" && row["state"] == state)
            .count();
        100.0 * count as f64 / with_mail.len() as f64
    };
    around(of("granted"), 88.0, 1.5);
    around(of("withdrawn"), 4.0, 1.0);
    for row in &ALL["consents"] {
        let at = DateTime::parse_from_rfc3339(&row["recorded_at"]).unwrap();
        assert!(at.date_naive() < as_of(), "{row:?}");
        assert!(!row["source"].is_empty() && !row["evidence"].is_empty());
        assert_eq!(row["purpose"], "marketing");
        let mail = with_mail.contains(row["customer_number"].as_str());
        assert!(row["channel"] != "mail" || mail, "{row:?}");
    }
}

#[test]
fn contracts_are_like_contracts() {
    let contracts = &ALL["contracts"];
    around(share(contracts, |row| row["division"] == "gas"), 18.0, 2.0);
    around(
        share(contracts, |row| row["supply_status"] == "AU"),
        78.0,
        1.5,
    );
    around(
        share(contracts, |row| row["supply_status"] == "AB"),
        17.0,
        1.5,
    );
    around(
        share(contracts, |row| row["supply_status"] == "GE"),
        5.0,
        1.0,
    );
    let old = |row: &Row| ["2023", "2024"].contains(&row["product_version_code"].as_str());
    around(share(contracts, old), 40.0, 2.0);

    for (division, median, least, most) in [
        ("electricity", 3_200.0, 1_000.0, 12_000.0),
        ("gas", 17_500.0, 3_000.0, 80_000.0),
    ] {
        let mut quantities: Vec<f64> = contracts
            .iter()
            .filter(|row| row["division"] == division)
            .map(|row| {
                let text = &row["annual_quantity_kwh"];
                assert_eq!(text.split_once('.').unwrap().1.len(), 1, "{text}");
                text.parse().unwrap()
            })
            .collect();
        quantities.sort_by(f64::total_cmp);
        around(quantities[quantities.len() / 2], median, median * 0.1);
        assert!(quantities[0] >= least && quantities[quantities.len() - 1] <= most);
    }
    let mut per_customer: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut sites: HashMap<&str, HashSet<(&str, &str, &str)>> = HashMap::new();
    for row in contracts {
        let customer = row["customer_number"].as_str();
        per_customer
            .entry(customer)
            .or_default()
            .insert(&row["division"]);
        sites.entry(customer).or_default().insert((
            &row["site_postal_code"],
            &row["site_street"],
            &row["site_house_number"],
        ));
    }
    let both = per_customer.values().filter(|all| all.len() == 2).count();
    assert!((900..1_600).contains(&both), "{both}");
    let several = sites.values().filter(|all| all.len() > 1).count();
    assert!((200..1_200).contains(&several), "{several}");
}

#[test]
fn contracts_fit_tariffs_and_time() {
    let product: HashMap<_, _> = ALL["products"]
        .iter()
        .map(|row| (row["number"].as_str(), row))
        .collect();
    let versions: HashMap<_, _> = ALL["product_versions"]
        .iter()
        .map(|row| ((row["product_number"].as_str(), row["code"].as_str()), row))
        .collect();
    for row in &ALL["contracts"] {
        let product = product[row["product_number"].as_str()];
        assert_eq!(product["division"], row["division"]);
        assert_eq!(product["brand_code"], row["brand_code"]);
        let key = (
            row["product_number"].as_str(),
            row["product_version_code"].as_str(),
        );
        let version = versions[&key];
        assert!(date(&version["valid_from"]) <= as_of(), "{row:?}");
        let start = date(&row["start_date"]);
        assert!(start < as_of(), "{row:?}");
        assert!(start <= date(&version["valid_to"]), "{row:?}");
        let terminated = row["supply_status"] == "GE";
        assert_eq!(terminated, !row["notice_date"].is_empty(), "{row:?}");
        match row["supply_status"].as_str() {
            "AU" => assert_eq!(row["end_date"], ""),
            "AB" => assert!(date(&row["end_date"]) > as_of(), "{row:?}"),
            _ => {
                let (notice, end) = (date(&row["notice_date"]), date(&row["end_date"]));
                assert!(
                    start <= notice && notice <= end && notice <= as_of(),
                    "{row:?}"
                );
            }
        }
    }
    let ended = |row: &Row| row["supply_status"] == "GE" && date(&row["end_date"]) < as_of();
    let ending = |row: &Row| row["supply_status"] == "GE" && date(&row["end_date"]) >= as_of();
    assert!(ALL["contracts"].iter().any(ended) && ALL["contracts"].iter().any(ending));
}

#[test]
fn tariffs_have_a_future() {
    assert_eq!(ALL["brands"].len(), 2);
    for brand in keys("brands", "code") {
        for division in ["electricity", "gas"] {
            let products = ALL["products"].iter();
            assert!(
                products
                    .clone()
                    .any(|row| { row["brand_code"] == brand && row["division"] == division })
            );
        }
    }
    let next: Vec<_> = ALL["product_versions"]
        .iter()
        .filter(|row| date(&row["valid_from"]) > as_of())
        .map(|row| row["name"].as_str())
        .collect();
    assert!(next.contains(&"Lindenstrom Natur 2027"), "{next:?}");
    for row in &ALL["product_versions"] {
        assert_eq!(
            row["unit_price_per_kwh"].split_once('.').unwrap().1.len(),
            4
        );
        assert!(row["valid_to"].is_empty() || row["valid_from"] < row["valid_to"]);
    }
}

#[test]
fn attributes_have_their_types() {
    for row in &ALL["attributes"] {
        let value = row["value"].as_str();
        match row["type"].as_str() {
            "bool" => assert!(value.parse::<bool>().is_ok(), "{row:?}"),
            "number" => assert!(value.parse::<f64>().is_ok(), "{row:?}"),
            "date" => assert!(date(value) <= as_of(), "{row:?}"),
            "text" => assert!(!value.is_empty(), "{row:?}"),
            other => panic!("{other}"),
        }
    }
    let known = keys("attributes", "key");
    for key in [
        "has_wallbox",
        "credit_score",
        "last_meter_reading",
        "acquisition_channel",
    ] {
        assert!(known.contains(key), "{key}");
    }
}
