//! Customers: who they are and where they live.

use anyhow::Result;
use chrono::{Months, NaiveDate};
use rand::{Rng, RngExt};

use super::pick::{Words, any, day, frequent, percent, text, weighted};
use super::sheet::Sheets;

/// Numbers start here, so that all have eight digits.
const FIRST_NUMBER: u64 = 10_000_001;

/// One customer, as far as other files need it.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) index: u64,
    pub(super) number: String,
    pub(super) is_company: bool,
    salutation: &'static str,
    title: &'static str,
    pub(super) first_name: &'static str,
    pub(super) last_name: String,
    pub(super) company_name: String,
    group: &'static str,
    language: &'static str,
    birth_date: Option<NaiveDate>,
    pub(super) address: Address,
    pub(super) brand: &'static str,
}

/// A postal address in Germany.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) street: &'static str,
    pub(super) house_number: String,
    pub(super) postal_code: &'static str,
    pub(super) city: &'static str,
}

impl Address {
    pub(super) fn draw(rng: &mut impl Rng, words: &Words) -> Self {
        let place = weighted(rng, &words.places, |place| place.weight);
        // Most streets are short.
        let number = 1 + (rng.random::<f64>().powi(2) * 140.0) as u32;
        let letter = if percent(rng, 9.0) {
            any(rng, &["a", "a", "a", "b", "b", "c", "d"])
        } else {
            ""
        };
        Self {
            street: frequent(rng, &words.streets),
            house_number: format!("{number}{letter}"),
            postal_code: place.postal_code,
            city: place.city,
        }
    }
}

impl Customer {
    /// The customer of that index. `previous` may turn out to live in the same household.
    pub(super) fn draw(
        rng: &mut impl Rng,
        words: &Words,
        index: u64,
        as_of: NaiveDate,
        previous: Option<&Self>,
    ) -> Self {
        let brand = if percent(rng, 64.0) {
            super::catalogue::LINDE
        } else {
            super::catalogue::AUWALD
        };
        let blank = Self {
            index,
            number: (FIRST_NUMBER + index).to_string(),
            is_company: false,
            salutation: "",
            title: "",
            first_name: "",
            last_name: String::new(),
            company_name: String::new(),
            group: "Haushalt",
            language: "de",
            birth_date: None,
            address: Address::draw(rng, words),
            brand,
        };
        if percent(rng, 8.0) {
            return blank.company(rng, words);
        }
        let mut person = blank.person(rng, words, as_of);
        let partner = previous.filter(|other| !other.is_company && other.language == "de");
        if let Some(partner) = partner
            && person.language == "de"
            && percent(rng, 4.0)
        {
            person.last_name = partner.last_name.clone();
            person.address = partner.address.clone();
        }
        person
    }

    fn person(mut self, rng: &mut impl Rng, words: &Words, as_of: NaiveDate) -> Self {
        self.language = language(rng);
        let female = percent(rng, 50.0);
        let (women, men, surnames) = if self.language == "tr" {
            (
                &words.turkish_female,
                &words.turkish_male,
                &words.turkish_surnames,
            )
        } else {
            (&words.female, &words.male, &words.surnames)
        };
        self.first_name = frequent(rng, if female { women } else { men });
        self.last_name = surname(rng, surnames);
        self.salutation = match (percent(rng, 0.4), female) {
            (true, _) => "diverse",
            (false, true) => "female",
            (false, false) => "male",
        };
        self.title = match rng.random_range(0..1000) {
            0..18 => "Dr.",
            18..22 => "Prof. Dr.",
            _ => "",
        };
        if percent(rng, 12.0) {
            self.group = "Haushalt Plus";
        }
        if percent(rng, 95.0) {
            let years = |years: u32| Months::new(12 * years);
            self.birth_date = Some(day(rng, as_of - years(91), as_of - years(19)));
        }
        self
    }

    fn company(mut self, rng: &mut impl Rng, words: &Words) -> Self {
        self.is_company = true;
        let owner = frequent(rng, &words.surnames);
        self.company_name = any(rng, &words.companies).replace("{}", owner);
        self.group = weighted(
            rng,
            &[("Gewerbe", 8), ("Landwirtschaft", 1), ("Filialist", 1)],
            |group| group.1,
        )
        .0;
        // Most have told whom to write to.
        if percent(rng, 60.0) {
            let female = percent(rng, 45.0);
            self.salutation = if female { "female" } else { "male" };
            self.first_name = frequent(rng, if female { &words.female } else { &words.male });
            self.last_name = surname(rng, &words.surnames);
        }
        self
    }

    pub(super) fn write(&self, sheets: &mut Sheets) -> Result<()> {
        sheets.customers.row([
            &self.number,
            if self.is_company { "company" } else { "person" },
            self.salutation,
            self.title,
            self.first_name,
            &self.last_name,
            &self.company_name,
            self.group,
            self.language,
            "Europe/Berlin",
            &text(self.birth_date),
            self.address.street,
            &self.address.house_number,
            self.address.postal_code,
            self.address.city,
            "DE",
        ])
    }

    /// What the utility knows besides; `articles` are those bought in the shop.
    pub(super) fn write_attributes(
        &self,
        rng: &mut impl Rng,
        sheets: &mut Sheets,
        articles: &[&str],
    ) -> Result<()> {
        let mut attribute = |key, kind, value: &str| {
            sheets
                .attributes
                .row(["customer", &self.number, key, kind, value])
        };
        let ways = [
            "Empfehlung",
            "Vergleichsportal",
            "Webseite",
            "Messe",
            "Übernahme",
        ];
        attribute("acquisition_channel", "text", frequent(rng, &ways))?;
        let wallbox = articles.contains(&"WB-11") || percent(rng, 5.0);
        attribute("has_wallbox", "bool", &wallbox.to_string())?;
        let solar = articles.contains(&"PV-800") || percent(rng, 7.0);
        attribute("has_solar", "bool", &solar.to_string())?;
        if percent(rng, 93.0) {
            // Most pay: the best scores are the most frequent ones.
            let score = 100 - (rng.random::<f64>().powi(2) * 60.0) as u32;
            attribute("credit_score", "number", &score.to_string())?;
        }
        if !self.is_company && percent(rng, 60.0) {
            let persons = frequent(rng, &["2", "1", "3", "4", "5", "6"]);
            attribute("household_size", "number", persons)?;
        }
        Ok(())
    }
}

fn language(rng: &mut impl Rng) -> &'static str {
    weighted(rng, &[("de", 95), ("en", 3), ("tr", 2)], |language| {
        language.1
    })
    .0
}

/// A surname, sometimes a double one.
fn surname(rng: &mut impl Rng, surnames: &[&'static str]) -> String {
    let first = frequent(rng, surnames);
    if percent(rng, 4.0) {
        let second = frequent(rng, surnames);
        let joinable = |name: &str| !name.contains([' ', '-']);
        if second != first && joinable(first) && joinable(second) {
            return format!("{first}-{second}");
        }
    }
    first.to_owned()
}
