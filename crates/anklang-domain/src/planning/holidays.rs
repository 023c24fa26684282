//! Public holidays of countries and their parts.
//!
//! The facts are in `holidays.txt`, which `scripts/holidays` writes from the Python package of that
//! name; its head says in which form. A country's lines are read when somebody asks for it, and only
//! its block is looked at. What is known reaches from 1990 to 2050, in some countries less
//! ([`PublicHolidays::known`]): future ones are by today's laws, and those by the moon are estimates
//! and say so in their names. The last years of countries with such holidays may lack some.
//! Holidays of half a day, of banks, schools or authorities alone are none. `DE-BY-catholic` stands for
//! the municipalities of Bavaria with Mariä Himmelfahrt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chrono::NaiveDate;

use super::DateRange;

static TEXT: &str = include_str!("holidays.txt");

/// The block of each country, by its code, and its head line.
static COUNTRIES: LazyLock<BTreeMap<&'static str, Country>> = LazyLock::new(|| {
    let blocks = TEXT.split("\n=").skip(1);
    blocks.filter_map(Country::read).collect()
});

/// A country of the file.
#[derive(Debug)]
struct Country {
    /// First and last year.
    years: (i32, i32),
    parts: Vec<&'static str>,
    lines: &'static str,
}

impl Country {
    fn read(block: &'static str) -> Option<(&'static str, Country)> {
        let (head, lines) = block.split_once('\n').unwrap_or((block, ""));
        let mut fields = head.split('\t');
        let (code, years, parts) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, last) = years.split_once('-')?;
        let country = Country {
            years: (first.parse().ok()?, last.parse().ok()?),
            parts: parts.split_whitespace().collect(),
            lines,
        };
        Some((code, country))
    }
}

/// A country, or a part of it with holidays of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    country: &'static str,
    part: Option<&'static str>,
}

impl Region {
    /// Reads a code of ISO 3166 such as `AT` or `DE-BY`; case does not matter.
    ///
    /// # Errors
    /// What is wrong, for people, with the parts that the country has.
    pub fn parse(code: &str) -> Result<Region, String> {
        let (country, part) = match code.split_once('-') {
            Some((country, part)) => (country, Some(part)),
            None => (code, None),
        };
        let (country, known) = COUNTRIES
            .get_key_value(country.to_ascii_uppercase().as_str())
            .ok_or(
                "must begin with a country of ISO 3166-1 whose holidays are known, as in DE-BY",
            )?;
        let part = part.map(|part| {
            let mut parts = known.parts.iter();
            let found = parts.find(|known| known.eq_ignore_ascii_case(part));
            found.copied().ok_or_else(|| match known.parts.as_slice() {
                [] => format!("must be {country}: the parts of that country are not known"),
                parts => format!(
                    "must be {country}, or {country}- and one of {}",
                    parts.join(", ")
                ),
            })
        });
        Ok(Region {
            country,
            part: part.transpose()?,
        })
    }

    /// All that are known, countries before their parts.
    pub fn all() -> impl Iterator<Item = Region> {
        COUNTRIES.iter().flat_map(|(country, known)| {
            let parts = known.parts.iter().map(|part| Some(*part));
            std::iter::once(None)
                .chain(parts)
                .map(|part| Region { country, part })
        })
    }

    /// Its holidays.
    pub fn holidays(self) -> PublicHolidays {
        let mut all = PublicHolidays {
            years: (0, 0),
            names: BTreeMap::new(),
            workdays: BTreeSet::new(),
        };
        let Some(country) = COUNTRIES.get(self.country) else {
            return all;
        };
        all.years = country.years;
        for line in country.lines.lines() {
            let mut fields = line.split('\t');
            let (Some(name), Some(regions), Some(days)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if !self.is_among(regions) {
                continue;
            }
            for day in days.split(' ').flat_map(read_days) {
                if name == "+" {
                    all.workdays.insert(day);
                } else {
                    all.add(day, name);
                }
            }
        }
        all
    }

    fn is_among(self, regions: &str) -> bool {
        let own = self.part.unwrap_or(".");
        match regions.strip_prefix('!') {
            Some(others) => !others.split(' ').any(|region| region == own),
            None => regions == "*" || regions.split(' ').any(|region| region == own),
        }
    }
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.part {
            Some(part) => write!(f, "{}-{part}", self.country),
            None => f.write_str(self.country),
        }
    }
}

/// The holidays of a region.
#[derive(Debug, Clone)]
pub struct PublicHolidays {
    years: (i32, i32),
    names: BTreeMap<NaiveDate, String>,
    workdays: BTreeSet<NaiveDate>,
}

impl PublicHolidays {
    fn add(&mut self, day: NaiveDate, name: &str) {
        let names = self.names.entry(day).or_default();
        if !names.is_empty() {
            names.push_str(", ");
        }
        names.push_str(name);
    }

    /// The name of the holiday on a day in the country's language, with the English one where that is
    /// not in Latin letters; several are joined by commas.
    pub fn name(&self, day: NaiveDate) -> Option<&str> {
        self.names.get(&day).map(String::as_str)
    }

    /// Whether the region has made a day of the weekend a workday.
    pub fn is_workday(&self, day: NaiveDate) -> bool {
        self.workdays.contains(&day)
    }

    /// Days and names of a range, ascending.
    pub fn in_range(&self, range: DateRange) -> impl Iterator<Item = (NaiveDate, &str)> {
        let days = self.names.range(range.first()..=range.last());
        days.map(|(day, name)| (*day, name.as_str()))
    }

    /// The days for which holidays are known.
    pub fn known(&self) -> DateRange {
        let (first, last) = self.years;
        DateRange::years(first, last)
    }
}

/// Reads `1990-2050:0101` or `2000:0424,0416,-`.
pub(super) fn read_days(token: &str) -> Vec<NaiveDate> {
    let Some((years, days)) = token.split_once(':') else {
        return Vec::new();
    };
    let day = |year: i32, day: &str| {
        let month_and_day: u32 = day.parse().ok()?;
        NaiveDate::from_ymd_opt(year, month_and_day / 100, month_and_day % 100)
    };
    let year = |text: &str| text.parse().unwrap_or(i32::MAX);
    match years.split_once('-') {
        Some((first, last)) => (year(first)..=year(last))
            .filter_map(|year| day(year, days))
            .collect(),
        None => (year(years)..)
            .zip(days.split(','))
            .filter_map(|(year, text)| day(year, text))
            .collect(),
    }
}
