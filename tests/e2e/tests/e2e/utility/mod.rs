//! A made-up utility whose contracts are there for a reason: each case says how many of them there
//! are and what a launch must make of them. Dates hang on today in Berlin.

mod amounts;
mod rows;
mod steps;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::google::r#type::Date;
use chrono::{Datelike, NaiveDate, Utc};

pub use amounts::{german_money, money, target_prices};
pub use campaigns::ExclusionReason as Reason;
pub use steps::{
    compare, criteria, figures, infoboard, launch, launched, offers_of, until, until_sent,
    with_utility,
};

use amounts::{BASE, UNIT, decimal};

/// The version that is offered; it begins in a month.
pub const TARGET: &str = "products/S-OEKO/versions/NEXT";
/// A version whose validity is over.
pub const OVER: &str = "products/S-OEKO/versions/OLD";
/// The account of every test server.
pub const ACCOUNT: &str = "channelAccounts/mail";

/// Why a contract is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// A person who may be written to.
    Plain,
    /// A company with an ampersand in its name.
    Company,
    /// A mail address whose domain has umlauts; its price ends on half a cent.
    Idn,
    /// Contracts of one customer.
    Several,
    /// Notice was given, but the contract still runs for a while.
    EndsLater,
    /// The first of two addresses is blocked.
    SecondAddress,
    /// Numbers that must be escaped in resource names.
    OddNumbers,
    /// Unticked by a person.
    Deselected,
    /// Unticked, and ended as well: the first reason counts.
    DeselectedAndEnded,
    /// Ended long ago.
    Ended,
    /// Ends today.
    EndsToday,
    /// Notice without an end.
    Notice,
    /// Ended, gas, without quantity, address and consent: the first reason counts.
    EndedAndAllElse,
    /// Gas.
    OtherDivision,
    /// Has the target already.
    OnTarget,
    /// Nobody knows how much it takes.
    NoQuantity,
    /// No contact point at all.
    NoAddress,
    /// A phone, no mail address.
    PhoneOnly,
    /// The only address is blocked.
    Suppressed,
    /// Never asked.
    NeverAsked,
    /// Agreed, then withdrew.
    Withdrawn,
    /// Agreed to something else.
    OtherPurpose,
    /// In a supply status that the selection does not want.
    OtherStatus,
    /// In a place that the selection does not want.
    Elsewhere,
}

impl Case {
    /// What a launch must make of it: nothing, a member, or why not.
    pub fn fate(self) -> Fate {
        use Case::*;
        match self {
            Plain | Company | Idn | Several | EndsLater | SecondAddress | OddNumbers => {
                Fate::Member
            }
            Deselected | DeselectedAndEnded => Fate::Out(Reason::Deselected),
            Ended | EndsToday | Notice | EndedAndAllElse => Fate::Out(Reason::ContractEnded),
            OtherDivision => Fate::Out(Reason::OtherDivision),
            OnTarget => Fate::Out(Reason::AlreadyOnTarget),
            NoQuantity => Fate::Out(Reason::NoQuantity),
            NoAddress | PhoneOnly => Fate::Out(Reason::NoAddress),
            Suppressed => Fate::Out(Reason::Suppressed),
            NeverAsked | Withdrawn | OtherPurpose => Fate::Out(Reason::NoConsent),
            OtherStatus | Elsewhere => Fate::NotFound,
        }
    }
}

/// What becomes of a contract in a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The selection does not find it.
    NotFound,
    /// It gets an offer.
    Member,
    /// It is left out.
    Out(Reason),
}

/// Every case, 80 contracts.
pub const EVERY_CASE: &[(Case, usize)] = &[
    (Case::Plain, 30),
    (Case::Company, 1),
    (Case::Idn, 1),
    (Case::Several, 3),
    (Case::EndsLater, 2),
    (Case::SecondAddress, 1),
    (Case::OddNumbers, 1),
    (Case::Deselected, 3),
    (Case::DeselectedAndEnded, 1),
    (Case::Ended, 3),
    (Case::EndsToday, 1),
    (Case::Notice, 2),
    (Case::EndedAndAllElse, 1),
    (Case::OtherDivision, 5),
    (Case::OnTarget, 4),
    (Case::NoQuantity, 3),
    (Case::NoAddress, 2),
    (Case::PhoneOnly, 2),
    (Case::Suppressed, 2),
    (Case::NeverAsked, 3),
    (Case::Withdrawn, 2),
    (Case::OtherPurpose, 1),
    (Case::OtherStatus, 3),
    (Case::Elsewhere, 3),
];

/// Enough for tests that look at something else than the audience: four members.
pub const FEW: &[(Case, usize)] = &[
    (Case::Plain, 4),
    (Case::Ended, 1),
    (Case::OtherDivision, 1),
    (Case::OnTarget, 1),
    (Case::NoQuantity, 1),
    (Case::NeverAsked, 1),
];

/// A brand, and what mails of it must show.
#[derive(Debug)]
pub struct Brand {
    pub code: &'static str,
    pub name: &'static str,
    pub legal_name: &'static str,
    /// Display name and address of From.
    pub from: (&'static str, &'static str),
    pub reply_to: Option<&'static str>,
}

/// Linden has all that a brand can have, Nordlicht only what it must.
pub const BRANDS: [Brand; 2] = [
    Brand {
        code: "linden",
        name: "Lindenstrom",
        legal_name: "Linden Energie GmbH",
        from: ("Lindenstrom Kundenservice", "angebote@linden.example"),
        reply_to: Some("antwort@linden.example"),
    },
    Brand {
        code: "nordlicht",
        name: "Nordlicht Wärme",
        legal_name: "Nordlicht Wärme AG",
        from: ("Nordlicht Wärme", "post@nordlicht.example"),
        reply_to: None,
    },
];

/// A customer.
#[derive(Debug, Clone, Default)]
pub struct Customer {
    pub number: String,
    pub salutation: &'static str,
    pub title: &'static str,
    pub first_name: &'static str,
    pub last_name: String,
    pub company_name: &'static str,
    pub street: String,
    pub house_number: String,
    pub postal_code: String,
    pub city: &'static str,
    /// Addresses as they are imported: channel and address, best first.
    pub points: Vec<(&'static str, String)>,
    /// The mail address that a message must go to.
    pub mail: String,
    /// Purpose and state of consents for mail.
    pub consents: Vec<(&'static str, &'static str)>,
}

impl Customer {
    /// As in the recipient of a mail.
    pub fn display_name(&self) -> String {
        if !self.company_name.is_empty() {
            return self.company_name.to_owned();
        }
        let parts = [self.title, self.first_name, &self.last_name];
        let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        parts.join(" ")
    }

    /// The first line of a letter.
    pub fn salutation_line(&self) -> String {
        let titled = format!("{} {}", self.title, self.last_name);
        let titled = titled.trim();
        match self.salutation {
            "female" => format!("Sehr geehrte Frau {titled},"),
            "male" => format!("Sehr geehrter Herr {titled},"),
            _ if self.company_name.is_empty() => format!("Guten Tag {},", self.display_name()),
            _ => "Sehr geehrte Damen und Herren,".into(),
        }
    }
}

/// A contract.
#[derive(Debug, Clone)]
pub struct Contract {
    pub case: Case,
    pub number: String,
    pub customer: usize,
    pub brand: &'static Brand,
    pub division: &'static str,
    pub status: &'static str,
    pub postal_code: String,
    /// In 1/1,000 kWh.
    pub quantity: Option<i128>,
    pub version: (&'static str, &'static str),
    pub end: Option<NaiveDate>,
    pub notice: Option<NaiveDate>,
}

impl Contract {
    /// `contracts/{number}`.
    pub fn name(&self) -> String {
        format!("contracts/{}", escaped(&self.number))
    }

    /// The quantity as a decimal without zeros at its end.
    pub fn quantity_text(&self) -> String {
        self.quantity.map(|q| decimal(q, 3)).unwrap_or_default()
    }

    /// Cost of a year on the target in cents: base price + unit price × quantity, half a cent up.
    pub fn annual_cents(&self) -> i128 {
        // 1/1,000 kWh × 1/1,000,000 € = 1/1,000,000,000 €.
        let nanos = BASE * 100_000 + UNIT * self.quantity.unwrap();
        (nanos + 5_000_000) / 10_000_000
    }
}

/// All of it.
#[derive(Debug)]
pub struct Utility {
    pub today: NaiveDate,
    pub customers: Vec<Customer>,
    pub contracts: Vec<Contract>,
}

impl Utility {
    /// So many of each case.
    pub fn of(cases: &[(Case, usize)]) -> Self {
        let mut made = Utility {
            today: Utc::now()
                .with_timezone(&chrono_tz::Europe::Berlin)
                .date_naive(),
            customers: Vec::new(),
            contracts: Vec::new(),
        };
        for (case, count) in cases {
            for i in 0..*count {
                if *case != Case::Several || i == 0 {
                    made.add_customer(*case);
                }
                made.add_contract(*case);
            }
        }
        made
    }

    fn add_customer(&mut self, case: Case) {
        const NAMES: [(&str, &str, &str, &str); 6] = [
            ("female", "Dr.", "Käthe", "Öztürk"),
            ("male", "", "Jürgen", "Groß"),
            ("diverse", "", "Kim", "Çelik"),
            ("male", "Prof. Dr.", "Søren", "Łukasiewicz"),
            ("female", "", "Anne-Sophie", "von der Mühlen"),
            ("", "", "Toni", "O'Neill"),
        ];
        let i = self.customers.len();
        let (salutation, title, first_name, last_name) = NAMES[i % NAMES.len()];
        let mut customer = Customer {
            number: format!("K{:04}", i + 1),
            salutation,
            title,
            first_name,
            last_name: format!("{last_name}-{}", word(i)),
            street: "Gießener Straße".into(),
            house_number: format!("{}a", i + 1),
            postal_code: format!("{}", 35_390 + i),
            city: "Gießen",
            mail: format!("kunde{}@post.example", i + 1),
            consents: vec![("marketing", "granted")],
            ..Default::default()
        };
        customer.points = vec![("mail", customer.mail.clone())];
        match case {
            Case::Company => {
                customer.company_name = "Bäckerei Krümel & Söhne <GmbH>";
                (customer.salutation, customer.title) = ("", "");
                (customer.first_name, customer.last_name) = ("", String::new());
            }
            Case::Idn => {
                customer.points[0].1 = "Einkauf@BÄCKEREI-Krümel.example".into();
                customer.mail = "Einkauf@xn--bckerei-krmel-bfb38a.example".into();
            }
            Case::SecondAddress => {
                customer
                    .points
                    .insert(0, ("mail", "gesperrt0@post.example".into()));
            }
            Case::OddNumbers => customer.number = "K/ä 7%".into(),
            Case::NoAddress => customer.points.clear(),
            Case::PhoneOnly => customer.points = vec![("phone", "+49 641 1234567".into())],
            Case::Suppressed => customer.points[0].1 = format!("Gesperrt{i}@Post.Example"),
            Case::NeverAsked => customer.consents.clear(),
            Case::Withdrawn => customer.consents[0].1 = "withdrawn",
            Case::OtherPurpose => customer.consents[0].0 = "service",
            Case::EndedAndAllElse => {
                customer.points.clear();
                customer.consents.clear();
            }
            _ => {}
        }
        self.customers.push(customer);
    }

    fn add_contract(&mut self, case: Case) {
        let i = self.contracts.len();
        let on = |days: i64| Some(self.today + chrono::TimeDelta::days(days));
        let mut contract = Contract {
            case,
            number: format!("V{:04}", i + 1),
            customer: self.customers.len() - 1,
            brand: &BRANDS[i % 2],
            division: "electricity",
            status: if i.is_multiple_of(3) { "AB" } else { "AU" },
            postal_code: format!("{}", 35_390 + i),
            quantity: Some(2_500_000 + 137_125 * i128::try_from(i).unwrap()),
            version: ("S-BASIS", "CURRENT"),
            end: None,
            notice: None,
        };
        match case {
            Case::Idn => contract.quantity = Some(1_000_000),
            Case::EndsLater => (contract.end, contract.notice) = (on(90), on(-5)),
            Case::OddNumbers => contract.number = "V ü/8".into(),
            Case::Ended | Case::DeselectedAndEnded => contract.end = on(-30),
            Case::EndsToday => contract.end = on(0),
            Case::Notice => contract.notice = on(-3),
            Case::EndedAndAllElse => {
                (contract.end, contract.division, contract.quantity) = (on(-1), "gas", None);
                contract.version = ("G-BASIS", "CURRENT");
            }
            Case::OtherDivision => {
                (contract.division, contract.version) = ("gas", ("G-BASIS", "CURRENT"));
            }
            Case::OnTarget => contract.version = ("S-OEKO", "NEXT"),
            Case::NoQuantity => contract.quantity = None,
            Case::OtherStatus => contract.status = "XX",
            Case::Elsewhere => contract.postal_code = "10115".into(),
            _ => {}
        }
        self.contracts.push(contract);
    }

    /// Contracts with a fate.
    pub fn with_fate(&self, fate: Fate) -> Vec<&Contract> {
        self.contracts
            .iter()
            .filter(|c| c.case.fate() == fate)
            .collect()
    }

    /// Contracts that get an offer, by their resource names.
    pub fn members(&self) -> BTreeMap<String, &Contract> {
        let members = self.with_fate(Fate::Member).into_iter();
        members.map(|c| (c.name(), c)).collect()
    }

    /// Contracts left out, by their resource names, with the reason.
    pub fn excluded(&self) -> BTreeMap<String, Reason> {
        let out = self.contracts.iter().filter_map(|c| match c.case.fate() {
            Fate::Out(reason) => Some((c.name(), reason)),
            _ => None,
        });
        out.collect()
    }

    /// The first contract of a case.
    pub fn first(&self, case: Case) -> &Contract {
        self.contracts.iter().find(|c| c.case == case).unwrap()
    }

    /// Who has a contract.
    pub fn customer_of(&self, contract: &Contract) -> &Customer {
        &self.customers[contract.customer]
    }

    /// A day so many days from today, as the API has it.
    pub fn day(&self, days: i64) -> Option<Date> {
        Some(date(self.today + chrono::TimeDelta::days(days)))
    }

    /// A launch of a new campaign on everything that the selection finds, without what is unticked.
    pub fn launch(&self) -> campaigns::LaunchCampaignRequest {
        use campaigns::launch_campaign_request::{Audience, CampaignTarget};
        campaigns::LaunchCampaignRequest {
            campaign_target: Some(CampaignTarget::NewCampaign(campaigns::Campaign {
                display_name: "Ökostrom für alle".into(),
                planned_start_date: self.day(1),
                ..Default::default()
            })),
            audience: Some(Audience::Criteria(selections::AdHocCriteria {
                subject: selections::Subject::Contract.into(),
                criteria: Some(criteria()),
            })),
            deselected_contracts: self
                .with_fate(Fate::Out(Reason::Deselected))
                .iter()
                .map(|c| c.name())
                .collect(),
            target_product_version: TARGET.into(),
            offer_valid_until_date: self.day(30),
            outbound: Some(campaigns::OutboundSpec {
                channel_account: ACCOUNT.into(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// A single product switch of a contract to the target.
    pub fn switch(&self, contract: &Contract) -> offers::CreateOfferRequest {
        offers::CreateOfferRequest {
            contract: contract.name(),
            product_version: TARGET.into(),
            valid_until_date: self.day(14),
            ..Default::default()
        }
    }
}

/// Letters for a number: names of customers differ and stay words.
fn word(i: usize) -> String {
    const SYLLABLES: [&str; 10] = ["ba", "de", "fi", "go", "hu", "ke", "lo", "mi", "nu", "sa"];
    let digits = i.to_string();
    let digits = digits.bytes().map(|b| SYLLABLES[usize::from(b - b'0')]);
    let word: String = digits.collect();
    format!("{}{}", word[..1].to_uppercase(), &word[1..])
}

/// An id as a segment of a resource name.
pub fn escaped(id: &str) -> String {
    let mut escaped = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            write!(escaped, "%{byte:02X}").unwrap();
        }
    }
    escaped
}

/// A date as the API has it.
pub fn date(day: NaiveDate) -> Date {
    Date {
        year: day.year(),
        month: day.month().try_into().unwrap(),
        day: day.day().try_into().unwrap(),
    }
}
