//! A made-up utility whose contracts are there for a reason: each case says how many of them there
//! are and what a launch must make of them. Dates hang on today in Berlin.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::{Date, Money};
use anklang_testkit::{Client, TestServer};
use chrono::{Datelike, Days, NaiveDate, Utc};
use prost::Message;

pub use campaigns::ExclusionReason as Reason;

/// The version that is offered; it begins in a month.
pub const TARGET: &str = "products/S-OEKO/versions/NEXT";
/// A version whose validity is over.
pub const OVER: &str = "products/S-OEKO/versions/OLD";
/// The account of every test server.
pub const ACCOUNT: &str = "channelAccounts/mail";

/// Base price of the target per year, in 1/10,000 €.
const BASE: i128 = 119_4000;
/// Unit price of the target per kWh, in 1/1,000,000 €.
const UNIT: i128 = 289_125;

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
            Plain | Company | Idn | Several | EndsLater | SecondAddress | OddNumbers => Fate::Member,
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
            today: Utc::now().with_timezone(&chrono_tz::Europe::Berlin).date_naive(),
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
                customer.points.insert(0, ("mail", "gesperrt0@post.example".into()));
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
            status: if i % 3 == 0 { "AB" } else { "AU" },
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
        self.contracts.iter().filter(|c| c.case.fate() == fate).collect()
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

    /// Imports everything; all of it must be new and right.
    pub async fn import(&self, client: &Client) {
        for (entity, csv) in self.files() {
            let rows = csv.lines().count() - 1;
            let sums = client.import(entity, csv).await.unwrap();
            assert_eq!(sums.errors, [], "{entity:?}");
            assert!(sums.done, "{entity:?}");
            assert_eq!(usize::try_from(sums.created).unwrap(), rows, "{entity:?}");
        }
    }

    fn files(&self) -> Vec<(ImportEntity, String)> {
        vec![
            (ImportEntity::Brands, brands()),
            (ImportEntity::Products, products()),
            (ImportEntity::ProductVersions, self.versions()),
            (ImportEntity::Customers, self.customer_rows()),
            (ImportEntity::ContactPoints, self.contact_points()),
            (ImportEntity::Consents, self.consents()),
            (ImportEntity::Suppressions, self.suppressions()),
            (ImportEntity::Contracts, self.contract_rows()),
        ]
    }

    fn versions(&self) -> String {
        let day = |days: i64| (self.today + chrono::TimeDelta::days(days)).to_string();
        let (base, unit) = (decimal(BASE, 4), decimal(UNIT, 6));
        csv(
            "product_number,code,name,valid_from,valid_to,base_price_per_year,unit_price_per_kwh,currency",
            [
                ["S-BASIS", "CURRENT", "Basis", &day(-700), "", "132", "0.3449", "EUR"],
                ["S-OEKO", "OLD", "Öko alt", &day(-700), &day(-1), "120", "0.31", "EUR"],
                ["S-OEKO", "NEXT", "Öko neu", &day(30), "", &base, &unit, "EUR"],
                ["G-BASIS", "CURRENT", "Basis", &day(-700), "", "150", "0.11", "EUR"],
            ],
        )
    }

    fn customer_rows(&self) -> String {
        csv(
            "number,kind,salutation,title,first_name,last_name,company_name,street,house_number,postal_code,city",
            self.customers.iter().map(|c| {
                let kind = if c.company_name.is_empty() { "person" } else { "company" };
                [
                    &c.number[..], kind, c.salutation, c.title, c.first_name, &c.last_name,
                    c.company_name, &c.street, &c.house_number, &c.postal_code, c.city,
                ]
            }),
        )
    }

    fn contact_points(&self) -> String {
        let rows = self.customers.iter().flat_map(|c| {
            let points = c.points.iter().enumerate();
            points.map(|(i, (channel, address))| {
                [c.number.clone(), (*channel).into(), address.clone(), (i + 1).to_string()]
            })
        });
        csv("customer_number,channel,address,position", rows)
    }

    fn consents(&self) -> String {
        let rows = self.customers.iter().flat_map(|c| {
            let consents = c.consents.iter();
            consents.map(|(purpose, state)| {
                [&c.number[..], "mail", purpose, state, "2025-01-31T12:00:00+01:00", "Formular"]
            })
        });
        csv("customer_number,channel,purpose,state,recorded_at,source", rows)
    }

    fn suppressions(&self) -> String {
        let points = self.customers.iter().flat_map(|c| &c.points);
        let blocked = points.filter(|(_, a)| a.to_lowercase().starts_with("gesperrt"));
        // The domain in another case of letters: blocking goes by the normalised address.
        let rows = blocked.map(|(_, a)| ["mail".to_owned(), a.replace("Post.Example", "POST.example")]);
        csv("channel,address", rows)
    }

    fn contract_rows(&self) -> String {
        let day = |day: Option<NaiveDate>| day.map(|d| d.to_string()).unwrap_or_default();
        csv(
            "number,customer_number,brand_code,division,supply_status,site_street,site_house_number,\
             site_postal_code,site_city,annual_quantity_kwh,product_number,product_version_code,\
             start_date,end_date,notice_date",
            self.contracts.iter().enumerate().map(|(i, c)| {
                [
                    c.number.clone(),
                    self.customer_of(c).number.clone(),
                    c.brand.code.into(),
                    c.division.into(),
                    c.status.into(),
                    "Am Güterbahnhof".into(),
                    (i + 1).to_string(),
                    c.postal_code.clone(),
                    "Gießen".into(),
                    c.quantity_text(),
                    c.version.0.into(),
                    c.version.1.into(),
                    day(self.today.checked_sub_days(Days::new(400))),
                    day(c.end),
                    day(c.notice),
                ]
            }),
        )
    }
}

fn brands() -> String {
    let header = "code,name,legal_name,street,house_number,postal_code,city,phone,email,website,\
                  register_line,vat_id,bank_line,sender_name,sender_email,reply_to";
    let rows = BRANDS.iter().map(|b| {
        let mut row = [""; 16];
        (row[0], row[1], row[2]) = (b.code, b.name, b.legal_name);
        (row[3], row[4], row[5], row[6]) = ("Lindenallee", "1", "35394", "Gießen");
        row[14] = b.from.1;
        if let Some(reply_to) = b.reply_to {
            (row[7], row[8]) = ("+49 641 5550100", "service@linden.example");
            (row[9], row[10]) = ("https://www.linden.example", "Amtsgericht Gießen HRB 4711");
            (row[11], row[12]) = ("DE123456789", "IBAN DE02 1203 0000 0000 2020 51");
            (row[13], row[15]) = (b.from.0, reply_to);
        }
        row
    });
    csv(header, rows)
}

fn products() -> String {
    csv(
        "number,name,division,brand_code",
        [
            ["S-BASIS", "Lindenstrom Basis", "electricity", "linden"],
            ["S-OEKO", "Lindenstrom Ökö \"Fix\"", "electricity", "linden"],
            ["G-BASIS", "Lindengas", "gas", "linden"],
        ],
    )
}

/// Contracts in status AU or AB at postcodes that begin with 35.
pub fn criteria() -> selections::Criteria {
    use selections::{Operator, value::Value};
    let text = |text: &str| Value::Text(text.into());
    let both = [
        compare("supply_status", Operator::In, [text("AU"), text("AB")]),
        compare("site_postal_code", Operator::StartsWith, [text("35")]),
    ];
    let list = selections::CriteriaList { criteria: both.into() };
    selections::Criteria {
        node: Some(selections::criteria::Node::All(list)),
    }
}

/// One comparison.
pub fn compare(
    field: &str,
    operator: selections::Operator,
    values: impl IntoIterator<Item = selections::value::Value>,
) -> selections::Criteria {
    let values = values.into_iter();
    let compare = selections::Compare {
        field: field.into(),
        operator: operator.into(),
        values: values.map(|v| selections::Value { value: Some(v) }).collect(),
    };
    selections::Criteria {
        node: Some(selections::criteria::Node::Compare(compare)),
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

/// CSV of RFC 4180, all values in quotes.
fn csv<R: IntoIterator<Item = V>, V: AsRef<str>>(
    header: &str,
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut csv = format!("{header}\r\n");
    for row in rows {
        let values: Vec<String> = row
            .into_iter()
            .map(|v| format!("\"{}\"", v.as_ref().replace('"', "\"\"")))
            .collect();
        writeln!(csv, "{}\r", values.join(",")).unwrap();
    }
    csv
}

/// A number of 1/10^places as a decimal without zeros at its end.
fn decimal(number: i128, places: u32) -> String {
    let one = 10_i128.pow(places);
    let text = format!("{}.{:0width$}", number / one, number % one, width = places as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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

/// Base and unit price of the target as the API has them.
pub fn target_prices() -> [Money; 2] {
    let money = |number: i128, one: i128| Money {
        currency_code: "EUR".into(),
        units: i64::try_from(number / one).unwrap(),
        nanos: i32::try_from(number % one * (1_000_000_000 / one)).unwrap(),
    };
    [money(BASE, 10_000), money(UNIT, 1_000_000)]
}

/// Cents as the API has them.
pub fn money(cents: i128) -> Money {
    Money {
        currency_code: "EUR".into(),
        units: i64::try_from(cents / 100).unwrap(),
        nanos: i32::try_from(cents % 100 * 10_000_000).unwrap(),
    }
}

/// Cents as Germans write them: 1.257,15 €.
pub fn german_money(cents: i128) -> String {
    let mut euros = (cents / 100).to_string();
    if euros.len() > 3 {
        euros.insert(euros.len() - 3, '.');
    }
    format!("{euros},{:02} €", cents % 100)
}

/// A server with a tenant that has imported a utility.
pub async fn with_utility(server: &TestServer, cases: &[(Case, usize)]) -> (Client, Utility) {
    let client = server.client("linden").await.unwrap();
    let utility = Utility::of(cases);
    utility.import(&client).await;
    (client, utility)
}

/// Launches and waits until the operation is over.
pub async fn launch(
    client: &Client,
    request: campaigns::LaunchCampaignRequest,
) -> campaigns::LaunchCampaignResponse {
    let operation = client.campaigns().launch_campaign(request).await.unwrap();
    launched(&client.finished(operation.get_ref()).await.unwrap())
}

/// The response of a launch that succeeded.
pub fn launched(operation: &lro::Operation) -> campaigns::LaunchCampaignResponse {
    let Some(lro::operation::Result::Response(any)) = &operation.result else {
        panic!("the launch did not succeed: {operation:?}");
    };
    campaigns::LaunchCampaignResponse::decode(&any.value[..]).unwrap()
}

/// All offers of a campaign, by contract.
pub async fn offers_of(client: &Client, campaign: &str) -> HashMap<String, offers::Offer> {
    let request = offers::ListOffersRequest {
        page_size: 1_000,
        campaign: campaign.into(),
        ..Default::default()
    };
    let listed = client.offers().list_offers(request).await.unwrap().into_inner();
    listed.offers.into_iter().map(|o| (o.contract.clone(), o)).collect()
}

/// The campaign's figures, all phases together.
pub async fn figures(client: &Client, campaign: &str) -> campaigns::InfoboardFigures {
    infoboard(client, campaign).await.total.unwrap()
}

/// The campaign's infoboard.
pub async fn infoboard(client: &Client, campaign: &str) -> campaigns::Infoboard {
    let request = campaigns::GetInfoboardRequest { name: campaign.into() };
    client.campaigns().get_infoboard(request).await.unwrap().into_inner()
}

/// Waits until so many messages of a campaign were taken by the mail server.
pub async fn until_sent(client: &Client, campaign: &str, count: usize) {
    until(&format!("{count} sent messages"), async || {
        let messages = figures(client, campaign).await.messages.unwrap();
        usize::try_from(messages.sent).unwrap() == count
    })
    .await;
}

/// Looks until something is so, for at most half a minute.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    for _ in 0..300 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 seconds: {what}");
}
