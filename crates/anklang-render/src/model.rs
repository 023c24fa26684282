//! The data that templates see: the fields of [`OfferData`] are the top-level
//! variables of a message template and the keys of `sys.inputs` in Typst.
//!
//! Text that is not there is the empty string, so that templates can always
//! print it; what is a value of its own (a date, a campaign) is an option and
//! prints as nothing. Amounts are exact decimals: message templates see them as
//! text and format them with filters, Typst sees `decimal` values.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Everything about one offer to one customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferData {
    /// What is offered.
    pub offer: Offer,
    /// To whom.
    pub customer: Customer,
    /// For which contract.
    pub contract: Contract,
    /// By whom.
    pub brand: Brand,
    /// In which campaign; none for a single product switch.
    pub campaign: Option<Campaign>,
    /// Where the recipient withdraws consent with one click; empty in documents, and
    /// when the server has no public address.
    #[serde(default)]
    pub unsubscribe_url: String,
}

/// Everything about a planned contact whose customer was not reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactData {
    /// Who was not reached.
    pub customer: Customer,
    /// Who writes.
    pub brand: Brand,
    /// The contact.
    pub contact: Contact,
    /// As [`OfferData::unsubscribe_url`].
    #[serde(default)]
    pub unsubscribe_url: String,
}

/// A planned contact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Whom to ask for.
    pub person: String,
    /// Name of the contact plan.
    pub plan: String,
    /// The user or role that is responsible, without `users/` or `roles/`.
    pub responsible: String,
    /// The day on which it was planned.
    pub date: NaiveDate,
    /// The day of the customer's next planned contact.
    pub next_date: Option<NaiveDate>,
}

/// What a notice to people of the tenant says: somebody asks for an offer to a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRequestData {
    /// To whom.
    pub customer: Customer,
    /// By whom.
    pub brand: Brand,
    /// What was noted.
    pub note: String,
    /// Who asks, without `users/`.
    pub worker: String,
    /// Number of the offer, when one was made at once.
    pub offer: String,
    /// Where the customer is shown.
    pub customer_url: String,
}

impl ContactData {
    /// A complete example, and one with what may be missing left out.
    #[must_use]
    pub fn samples() -> [Self; 2] {
        let [full, sparse] = OfferData::samples();
        let contact = Contact {
            person: "Frau Schneider".into(),
            plan: "Wochenbestellung Nord".into(),
            responsible: "anna".into(),
            date: day(2026, 11, 24),
            next_date: Some(day(2026, 12, 1)),
        };
        let bare = Contact {
            date: contact.date,
            ..Contact::default()
        };
        [(full, contact), (sparse, bare)].map(|(offer, contact)| offer.for_contact(contact))
    }
}

impl OfferRequestData {
    /// As [`ContactData::samples`].
    #[must_use]
    pub fn samples() -> [Self; 2] {
        let [full, sparse] = OfferData::samples();
        let of = |data: OfferData, full: bool| {
            let text = |text: &str| if full { text.to_owned() } else { String::new() };
            Self {
                customer: data.customer,
                brand: data.brand,
                note: "20 % auf Äpfel, wenn er wieder wöchentlich bestellt".into(),
                worker: "anna".into(),
                offer: text("A-2026-004711"),
                customer_url: text("https://shop.example/kunden/100042"),
            }
        };
        [of(full, true), of(sparse, false)]
    }
}

/// The offered product version and its prices. The product decides whether
/// prices include taxes; all amounts of one offer are of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Offer number; also the reference of the letter.
    pub number: String,
    /// Date of the offer, of the letter and of the PDF's metadata.
    pub date: NaiveDate,
    /// Last day on which it can be accepted.
    pub valid_until: NaiveDate,
    /// Name of the product.
    pub product_name: String,
    /// Name of the product version, for example `2027-01`.
    pub version_name: String,
    /// Base price (Grundpreis) in `currency` per year.
    pub base_price_per_year: Decimal,
    /// Unit price (Arbeitspreis) in `currency` per kWh, for example `0.2984`.
    pub unit_price_per_kwh: Decimal,
    /// Forecast annual quantity in kWh.
    pub annual_quantity_kwh: Decimal,
    /// Base price and forecast quantity together, in `currency` per year.
    pub annual_amount: Decimal,
    /// ISO 4217 code, for example `EUR`.
    pub currency: String,
    /// The product that the customer has today, if known.
    pub current_product_name: Option<String>,
    /// True when a document of it goes along with its messages.
    pub has_document: bool,
}

/// The person or company that receives the offer, at its postal address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// Customer number.
    pub number: String,
    /// `Frau`, `Herr`, `Familie`, `Firma` or empty.
    pub salutation: String,
    /// Academic title, for example `Dr.`.
    pub title: String,
    /// First name of the person or of the company's contact person.
    pub first_name: String,
    /// Last name of the person or of the company's contact person.
    pub last_name: String,
    /// Name of the company; empty for a person.
    pub company_name: String,
    /// How the customer is called in lists, for example `Dr. Eva Müller`.
    pub display_name: String,
    /// First line of a letter, see [`Customer::with_salutation_line`].
    pub salutation_line: String,
    /// Street.
    pub street: String,
    /// House number with its suffix.
    pub house_number: String,
    /// Postal code.
    pub postal_code: String,
    /// City.
    pub city: String,
    /// Country name as printed under a foreign address; empty inside Germany.
    pub country: String,
}

impl Customer {
    /// Fills in `salutation_line` from the other fields, by the first rule that
    /// applies:
    ///
    /// 1. Salutation *Firma*, or nobody is named → `Sehr geehrte Damen und Herren,`
    /// 2. *Frau*, *Herr* or *Familie* and a last name → `Sehr geehrte Frau Dr. Müller,`
    /// 3. Any other salutation, or none → `Guten Tag Dr. Alex Kim,`
    #[must_use]
    pub fn with_salutation_line(mut self) -> Self {
        self.salutation_line = crate::salutation::salutation_line(&self);
        self
    }
}

/// The contract (supply account) that the offer is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Contract number.
    pub number: String,
    /// `electricity`, `gas` or another division of the tenant.
    pub division: String,
    /// Street of the supplied site.
    pub site_street: String,
    /// House number of the supplied site.
    pub site_house_number: String,
    /// Postal code of the supplied site.
    pub site_postal_code: String,
    /// City of the supplied site.
    pub site_city: String,
    /// First day of the contract, if known.
    pub start_date: Option<NaiveDate>,
    /// Last day of the contract; none if it runs on.
    pub end_date: Option<NaiveDate>,
}

/// The company name under which the tenant sells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brand {
    /// Short name, as in the letterhead.
    pub name: String,
    /// Name in the commercial register.
    pub legal_name: String,
    /// Street.
    pub street: String,
    /// House number.
    pub house_number: String,
    /// Postal code.
    pub postal_code: String,
    /// City.
    pub city: String,
    /// Country name.
    pub country: String,
    /// Telephone number for customers.
    pub phone: String,
    /// E-mail address for customers.
    pub email: String,
    /// Website with its scheme, for example `https://www.example.de`.
    pub website: String,
    /// Court and number of the register, management; for the footer.
    pub register_line: String,
    /// VAT id (USt-IdNr.).
    pub vat_id: String,
    /// Bank and IBAN; for the footer.
    pub bank_line: String,
    /// Sender in one line, above the recipient in the window of the envelope.
    pub return_address_line: String,
}

/// The campaign that the offer belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Name of the campaign.
    pub name: String,
}

impl OfferData {
    /// A complete example: a person with a title, in a campaign. For previews.
    #[must_use]
    pub fn sample() -> Self {
        Self {
            offer: Offer {
                number: "A-2026-004711".into(),
                date: day(2026, 11, 2),
                valid_until: day(2026, 12, 31),
                product_name: "Lahn Ökostrom Fix 24".into(),
                version_name: "2027-01".into(),
                base_price_per_year: Decimal::new(13_200, 2),
                unit_price_per_kwh: Decimal::new(2_984, 4),
                annual_quantity_kwh: Decimal::from(3_500),
                annual_amount: Decimal::new(117_640, 2),
                currency: "EUR".into(),
                current_product_name: Some("Lahn Strom Basis".into()),
                has_document: true,
            },
            customer: sample_customer(),
            contract: Contract {
                number: "V-200311-7".into(),
                division: "electricity".into(),
                site_street: "Gießener Straße".into(),
                site_house_number: "12a".into(),
                site_postal_code: "35578".into(),
                site_city: "Wetzlar".into(),
                start_date: Some(day(2019, 4, 1)),
                end_date: Some(day(2026, 12, 31)),
            },
            brand: sample_brand(),
            campaign: Some(Campaign {
                name: "Ökostrom-Wechsel 2027".into(),
            }),
            unsubscribe_url: "https://post.example/u/AZ1sampleAZ1sample".into(),
        }
    }

    /// The opposite example: a company without anything that may be missing.
    #[must_use]
    pub fn sparse_sample() -> Self {
        let mut data = Self::sample();
        data.offer.current_product_name = None;
        data.campaign = None;
        data.unsubscribe_url = String::new();
        data.contract.start_date = None;
        data.contract.end_date = None;
        data.contract.division = "gas".into();
        data.customer = Customer {
            number: "100815".into(),
            company_name: "Stahlbau Özdemir & Söhne GmbH".into(),
            display_name: "Stahlbau Özdemir & Söhne GmbH".into(),
            street: "Am Güterbahnhof".into(),
            postal_code: "35390".into(),
            city: "Gießen".into(),
            ..Customer::default()
        }
        .with_salutation_line();
        data
    }

    /// The data that every template is checked with when it is compiled.
    #[must_use]
    pub fn samples() -> [Self; 2] {
        [Self::sample(), Self::sparse_sample()]
    }

    /// A contact with the customer of this offer, by its brand.
    #[must_use]
    pub fn for_contact(self, contact: Contact) -> ContactData {
        ContactData {
            customer: self.customer,
            brand: self.brand,
            contact,
            unsubscribe_url: self.unsubscribe_url,
        }
    }
}

fn sample_customer() -> Customer {
    Customer {
        number: "100042".into(),
        salutation: "Frau".into(),
        title: "Dr.".into(),
        first_name: "Eva-Maria".into(),
        last_name: "Müller".into(),
        company_name: String::new(),
        display_name: "Dr. Eva-Maria Müller".into(),
        salutation_line: String::new(),
        street: "Gießener Straße".into(),
        house_number: "12a".into(),
        postal_code: "35578".into(),
        city: "Wetzlar".into(),
        country: String::new(),
    }
    .with_salutation_line()
}

fn sample_brand() -> Brand {
    Brand {
        name: "Lahnstrom".into(),
        legal_name: "Lahnstrom Energie GmbH".into(),
        street: "Bahnhofstraße".into(),
        house_number: "8".into(),
        postal_code: "35576".into(),
        city: "Wetzlar".into(),
        country: "Deutschland".into(),
        phone: "+49 6441 555 0100".into(),
        email: "service@lahnstrom.example".into(),
        website: "https://www.lahnstrom.example".into(),
        register_line: "Amtsgericht Wetzlar, HRB 12345 · Geschäftsführung: Petra Lang".into(),
        vat_id: "DE123456789".into(),
        bank_line: "Sparkasse Wetzlar · IBAN DE02 1203 0000 0000 2020 51".into(),
        return_address_line: "Lahnstrom Energie GmbH · Bahnhofstraße 8 · 35576 Wetzlar".into(),
    }
}

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("the samples' dates exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_adds_up() {
        let offer = OfferData::sample().offer;
        let expected =
            offer.base_price_per_year + offer.unit_price_per_kwh * offer.annual_quantity_kwh;
        assert_eq!(offer.annual_amount, expected);
    }

    #[test]
    fn json_keeps_every_value() {
        for data in OfferData::samples() {
            let json = serde_json::to_string(&data).unwrap();
            assert_eq!(serde_json::from_str::<OfferData>(&json).unwrap(), data);
        }
    }
}
