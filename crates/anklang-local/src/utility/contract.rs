//! Supply contracts.

use anyhow::Result;
use chrono::{Days, Months, NaiveDate};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, LogNormal};

use super::Size;
use super::catalogue::{Catalogue, Division, Version};
use super::customer::{Address, Customer};
use super::pick::{Words, any, day, frequent, percent, text, weighted};
use super::sheet::Sheets;

/// Contract numbers start here, so that all have ten digits.
const FIRST_NUMBER: u64 = 4_000_000_001;

/// Share of gas among a customer's further contracts: whoever has two mostly has both.
const GAS_AMONG_FURTHER: f64 = 0.6;

/// Share of gas among all contracts.
const GAS: f64 = 0.18;

/// Per cent of the contracts that are on an old tariff version.
const ON_OLD_VERSION: f64 = 40.0;

/// What is being supplied: the state of writing contracts.
#[derive(Debug)]
pub(super) struct Supply {
    as_of: NaiveDate,
    next_number: u64,
    /// Contracts that every customer has.
    pub(super) base: u64,
    /// Contracts beyond that still to be given out.
    pub(super) extra_left: u64,
    /// Share of gas among first contracts.
    gas_among_first: f64,
    /// The current customer's places, and what is supplied there.
    sites: Vec<(Address, Vec<Division>)>,
}

/// The dates and the state of a contract.
struct Term {
    status: &'static str,
    start: NaiveDate,
    end: Option<NaiveDate>,
    notice: Option<NaiveDate>,
}

impl Supply {
    pub(super) fn new(size: Size, as_of: NaiveDate) -> Self {
        let base = u64::from(size.contracts >= size.customers);
        let extra_left = size.contracts - base * size.customers;
        let first = (base * size.customers) as f64;
        let wanted = GAS * size.contracts as f64 - GAS_AMONG_FURTHER * extra_left as f64;
        let gas_among_first = if base == 1 {
            (wanted / first).clamp(0.02, GAS)
        } else {
            GAS
        };
        Self {
            as_of,
            next_number: FIRST_NUMBER,
            base,
            extra_left,
            gas_among_first,
            sites: Vec::new(),
        }
    }

    /// Forgets the current customer's places.
    pub(super) fn next_customer(&mut self) {
        self.sites.clear();
    }

    /// Writes one more contract of the customer.
    pub(super) fn write(
        &mut self,
        rng: &mut impl Rng,
        sheets: &mut Sheets,
        words: &Words,
        catalogue: &Catalogue,
        customer: &Customer,
    ) -> Result<()> {
        let division = self.division(rng);
        let site = self.site(rng, words, customer, division);
        let number = self.next_number.to_string();
        self.next_number += 1;
        let old = percent(rng, ON_OLD_VERSION);
        let versions = catalogue.versions(customer.brand, division, old);
        let version = *weighted(rng, &versions, |version| version.product.weight);
        let term = term(rng, version, self.as_of);
        sheets.contracts.row([
            &number,
            &customer.number,
            customer.brand,
            division.code(),
            term.status,
            site.street,
            &site.house_number,
            site.postal_code,
            site.city,
            &format!("{:.1}", quantity(rng, division, customer.is_company)),
            version.product.number,
            &version.code,
            &term.start.to_string(),
            &text(term.end),
            &text(term.notice),
        ])?;
        items(rng, sheets, &number, division)?;
        self.attributes(rng, sheets, &number, term.start)
    }

    fn division(&self, rng: &mut impl Rng) -> Division {
        let gas = if self.sites.is_empty() {
            self.gas_among_first
        } else {
            GAS_AMONG_FURTHER
        };
        if rng.random_bool(gas) {
            Division::Gas
        } else {
            Division::Electricity
        }
    }

    /// Where it is supplied: at home first, then wherever the division is missing, and if
    /// it is nowhere, at another place.
    fn site(
        &mut self,
        rng: &mut impl Rng,
        words: &Words,
        customer: &Customer,
        division: Division,
    ) -> Address {
        if let Some((address, supplied)) = self
            .sites
            .iter_mut()
            .find(|(_, supplied)| !supplied.contains(&division))
        {
            supplied.push(division);
            return address.clone();
        }
        // Some live elsewhere than where they take energy.
        let address = if self.sites.is_empty() && !percent(rng, 6.0) {
            customer.address.clone()
        } else {
            Address::draw(rng, words)
        };
        self.sites.push((address.clone(), vec![division]));
        address
    }

    fn attributes(
        &self,
        rng: &mut impl Rng,
        sheets: &mut Sheets,
        number: &str,
        start: NaiveDate,
    ) -> Result<()> {
        let mut attribute = |key, kind, value: &str| {
            sheets
                .attributes
                .row(["contract", number, key, kind, value])
        };
        if percent(rng, 95.0) {
            let first = start.max(self.as_of - Months::new(13));
            let read = day(rng, first, self.as_of);
            attribute("last_meter_reading", "date", &read.to_string())?;
        }
        let ways = ["Lastschrift", "Überweisung", "Dauerauftrag"];
        attribute("payment_method", "text", frequent(rng, &ways))
    }
}

/// State and dates. Nobody joins a tariff after its end, nobody ends before the start.
fn term(rng: &mut impl Rng, version: &Version, as_of: NaiveDate) -> Term {
    // An old version is mostly had by those who came while it was sold, or were moved to it.
    let last = version
        .valid_to
        .unwrap_or(as_of)
        .min(as_of - Months::new(2));
    let first = if percent(rng, 55.0) {
        version.valid_from
    } else {
        version.valid_from - Months::new(12 * 9)
    };
    let start = day(rng, first, last);
    let after = |days: u64| as_of + Days::new(days);
    match rng.random_range(0..100) {
        0..78 => Term {
            status: "AU",
            start,
            end: None,
            notice: None,
        },
        78..95 => Term {
            status: "AB",
            start,
            end: Some(after(rng.random_range(1..730))),
            notice: None,
        },
        _ => {
            let end = if percent(rng, 60.0) {
                let first = (start + Months::new(1)).max(as_of - Months::new(14));
                day(rng, first, as_of - Days::new(1))
            } else {
                after(rng.random_range(0..180))
            };
            // Given two to six weeks before the end, and not in the future.
            let given = (end - Days::new(rng.random_range(14..45)))
                .min(as_of - Days::new(rng.random_range(0..30)));
            Term {
                status: "GE",
                start,
                end: Some(end),
                notice: Some(given.max(start)),
            }
        }
    }
}

/// Annual quantity in kWh.
fn quantity(rng: &mut impl Rng, division: Division, is_company: bool) -> f64 {
    let (median, spread, least, most): (f64, f64, f64, f64) = match (division, is_company) {
        (Division::Electricity, false) => (3_000.0, 0.42, 1_000.0, 12_000.0),
        (Division::Electricity, true) => (5_500.0, 0.45, 1_000.0, 12_000.0),
        (Division::Gas, _) => (17_000.0, 0.38, 3_000.0, 80_000.0),
    };
    LogNormal::new(median.ln(), spread)
        .expect("the spread is a positive number")
        .sample(rng)
        .clamp(least, most)
}

/// What comes with the contract, in about a quarter of them.
fn items(
    rng: &mut impl Rng,
    sheets: &mut Sheets,
    contract: &str,
    division: Division,
) -> Result<()> {
    if !percent(rng, 25.0) {
        return Ok(());
    }
    let offers: &[(&str, &str)] = match division {
        Division::Electricity => &[
            ("GREEN", "Ökostrom-Option"),
            ("SMART", "Smart-Meter-Option"),
            ("EMOB", "Ladestrom-Option"),
        ],
        Division::Gas => &[
            ("BIOGAS", "Biogas-Anteil 10 %"),
            ("HEATCARE", "Heizungs-Schutz"),
        ],
    };
    let (code, name) = any(rng, offers);
    sheets.contract_items.row([contract, code, name, "1"])
}
