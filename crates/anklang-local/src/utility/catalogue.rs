//! Brands, products and tariff versions.

use anyhow::Result;
use chrono::{Datelike, NaiveDate};
use rust_decimal::Decimal;

use super::pick::text;
use super::sheet::Sheets;

/// Product division, as written in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Division {
    Electricity,
    Gas,
}

impl Division {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Electricity => "electricity",
            Self::Gas => "gas",
        }
    }
}

/// One price version of a product.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) product: &'static Product,
    pub(super) code: String,
    period: Period,
    pub(super) valid_from: NaiveDate,
    pub(super) valid_to: Option<NaiveDate>,
    base_price_per_year: Decimal,
    unit_price_per_kwh: Decimal,
}

/// All that is for sale on a day.
#[derive(Debug)]
pub(super) struct Catalogue {
    versions: Vec<Version>,
}

/// A product; `periods` names the versions it has.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) number: &'static str,
    name: &'static str,
    pub(super) brand: &'static str,
    pub(super) division: Division,
    /// How many contracts have it, compared to the others of brand and division.
    pub(super) weight: u32,
    periods: &'static [Period],
    /// Base price in cents a year and unit price in hundredths of a cent a kWh, for the
    /// version that is valid now.
    prices: (i64, i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    /// Three years ago.
    Oldest,
    /// Two years ago.
    Old,
    /// From last year to the end of this one.
    Current,
    /// From next year on.
    Next,
}

use Division::{Electricity, Gas};
use Period::{Current, Next, Old, Oldest};

const PRODUCTS: &[Product] = &[
    Product {
        number: "LS-KLA",
        name: "Lindenstrom Klassik",
        brand: LINDE,
        division: Electricity,
        weight: 6,
        periods: &[Oldest, Old, Current],
        prices: (13_890, 3_290),
    },
    Product {
        number: "LS-NAT",
        name: "Lindenstrom Natur",
        brand: LINDE,
        division: Electricity,
        weight: 3,
        periods: &[Old, Current, Next],
        prices: (14_640, 3_415),
    },
    Product {
        number: "LS-WRM",
        name: "Lindenstrom Wärme",
        brand: LINDE,
        division: Electricity,
        weight: 1,
        periods: &[Old, Current],
        prices: (10_320, 2_548),
    },
    Product {
        number: "LG-KLA",
        name: "Lindengas Klassik",
        brand: LINDE,
        division: Gas,
        weight: 4,
        periods: &[Oldest, Old, Current],
        prices: (15_480, 1_095),
    },
    Product {
        number: "LG-BIO",
        name: "Lindengas Bio 10",
        brand: LINDE,
        division: Gas,
        weight: 1,
        periods: &[Old, Current, Next],
        prices: (15_960, 1_238),
    },
    Product {
        number: "AS-FIX",
        name: "Auwald Strom Fix",
        brand: AUWALD,
        division: Electricity,
        weight: 3,
        periods: &[Oldest, Old, Current, Next],
        prices: (11_880, 3_184),
    },
    Product {
        number: "AS-OEK",
        name: "Auwald Ökostrom",
        brand: AUWALD,
        division: Electricity,
        weight: 2,
        periods: &[Old, Current, Next],
        prices: (12_600, 3_347),
    },
    Product {
        number: "AG-FIX",
        name: "Auwald Gas Fix",
        brand: AUWALD,
        division: Gas,
        weight: 1,
        periods: &[Oldest, Old, Current, Next],
        prices: (14_280, 1_042),
    },
];

pub(super) const LINDE: &str = "LINDE";
pub(super) const AUWALD: &str = "AUWALD";

/// The two brands. The bank accounts are the usual examples, the register and tax numbers
/// are out of the ranges in use.
const BRANDS: [[&str; 17]; 2] = [
    [
        LINDE,
        "Lindenstrom",
        "Lindenstrom Energievertrieb GmbH",
        "Lahnstraße",
        "112",
        "35398",
        "Gießen",
        "DE",
        "+49 69 90009100",
        "service@lindenstrom.example",
        "https://www.lindenstrom.example",
        "Amtsgericht Gießen, HRB 999901",
        "DE999999901",
        "Musterbank, IBAN DE89 3704 0044 0532 0130 00",
        "Lindenstrom Kundenservice",
        "service@lindenstrom.example",
        "antwort@lindenstrom.example",
    ],
    [
        AUWALD,
        "Auwald Energie",
        "Auwald Energie GmbH & Co. KG",
        "Am Mühlgraben",
        "7a",
        "35037",
        "Marburg",
        "DE",
        "+49 69 90009200",
        "kontakt@auwald-energie.example",
        "https://www.auwald-energie.example",
        "Amtsgericht Marburg, HRA 999902",
        "DE999999902",
        "Musterbank, IBAN DE02 1203 0000 0000 2020 51",
        "Auwald Energie",
        "kontakt@auwald-energie.example",
        "antwort@auwald-energie.example",
    ],
];

impl Period {
    /// First and last year, seen from `year`; the last one may be open.
    fn years(self, year: i32) -> (i32, Option<i32>) {
        match self {
            Oldest => (year - 3, Some(year - 3)),
            Old => (year - 2, Some(year - 2)),
            Current => (year - 1, Some(year)),
            Next => (year + 1, None),
        }
    }

    /// Prices in hundredths of those of the current version.
    fn price_level(self) -> Decimal {
        Decimal::new(
            match self {
                Oldest => 118,
                Old => 107,
                Current => 100,
                Next => 94,
            },
            2,
        )
    }
}

impl Catalogue {
    pub(super) fn of(as_of: NaiveDate) -> Self {
        let date = |year, month, day| {
            NaiveDate::from_ymd_opt(year, month, day).expect("the dates of this year are valid")
        };
        let version = |product: &'static Product, period: Period| {
            let (first, last) = period.years(as_of.year());
            let level = period.price_level();
            Version {
                product,
                code: first.to_string(),
                period,
                valid_from: date(first, 1, 1),
                valid_to: last.map(|last| date(last, 12, 31)),
                base_price_per_year: price(product.prices.0, 2, level, 2),
                unit_price_per_kwh: price(product.prices.1, 4, level, 4),
            }
        };
        let versions = PRODUCTS
            .iter()
            .flat_map(|product| {
                product
                    .periods
                    .iter()
                    .map(move |period| version(product, *period))
            })
            .collect();
        Self { versions }
    }

    /// The versions somebody of that brand and division may have: old ones or the current.
    pub(super) fn versions(&self, brand: &str, division: Division, old: bool) -> Vec<&Version> {
        self.versions
            .iter()
            .filter(|version| {
                version.product.brand == brand
                    && version.product.division == division
                    && match version.period {
                        Oldest | Old => old,
                        Current => !old,
                        Next => false,
                    }
            })
            .collect()
    }

    pub(super) fn write(&self, sheets: &mut Sheets) -> Result<()> {
        for brand in BRANDS {
            sheets.brands.row(brand)?;
        }
        for product in PRODUCTS {
            let division = product.division.code();
            sheets
                .products
                .row([product.number, product.name, division, product.brand])?;
        }
        for version in &self.versions {
            sheets.product_versions.row([
                version.product.number,
                &version.code,
                &format!("{} {}", version.product.name, version.code),
                &version.valid_from.to_string(),
                &text(version.valid_to),
                &version.base_price_per_year.to_string(),
                &version.unit_price_per_kwh.to_string(),
                "EUR",
            ])?;
        }
        Ok(())
    }
}

/// `units` of the given scale times `level`, with exactly `places` decimals.
fn price(units: i64, scale: u32, level: Decimal, places: u32) -> Decimal {
    let mut price = Decimal::new(units, scale) * level;
    price.rescale(places);
    price
}
