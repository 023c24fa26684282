//! The utility as CSV, and its import.

use std::fmt::Write as _;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::Client;
use chrono::{Days, NaiveDate};

use super::amounts::{BASE, UNIT, decimal};
use super::{BRANDS, Utility};

impl Utility {
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
                [
                    "S-BASIS",
                    "CURRENT",
                    "Basis",
                    &day(-700),
                    "",
                    "132",
                    "0.3449",
                    "EUR",
                ],
                [
                    "S-OEKO",
                    "OLD",
                    "Öko alt",
                    &day(-700),
                    &day(-1),
                    "120",
                    "0.31",
                    "EUR",
                ],
                [
                    "S-OEKO",
                    "NEXT",
                    "Öko neu",
                    &day(30),
                    "",
                    &base,
                    &unit,
                    "EUR",
                ],
                [
                    "G-BASIS",
                    "CURRENT",
                    "Basis",
                    &day(-700),
                    "",
                    "150",
                    "0.11",
                    "EUR",
                ],
            ],
        )
    }

    fn customer_rows(&self) -> String {
        csv(
            "number,kind,salutation,title,first_name,last_name,company_name,street,house_number,postal_code,city",
            self.customers.iter().map(|c| {
                let kind = if c.company_name.is_empty() {
                    "person"
                } else {
                    "company"
                };
                [
                    &c.number[..],
                    kind,
                    c.salutation,
                    c.title,
                    c.first_name,
                    &c.last_name,
                    c.company_name,
                    &c.street,
                    &c.house_number,
                    &c.postal_code,
                    c.city,
                ]
            }),
        )
    }

    fn contact_points(&self) -> String {
        let rows = self.customers.iter().flat_map(|c| {
            let points = c.points.iter().enumerate();
            points.map(|(i, (channel, address))| {
                [
                    c.number.clone(),
                    (*channel).into(),
                    address.clone(),
                    (i + 1).to_string(),
                ]
            })
        });
        csv("customer_number,channel,address,position", rows)
    }

    fn consents(&self) -> String {
        let rows = self.customers.iter().flat_map(|c| {
            let consents = c.consents.iter();
            consents.map(|(purpose, state)| {
                [
                    &c.number[..],
                    "mail",
                    purpose,
                    state,
                    "2025-01-31T12:00:00+01:00",
                    "Formular",
                ]
            })
        });
        csv(
            "customer_number,channel,purpose,state,recorded_at,source",
            rows,
        )
    }

    fn suppressions(&self) -> String {
        let points = self.customers.iter().flat_map(|c| &c.points);
        let blocked = points.filter(|(_, a)| a.to_lowercase().starts_with("gesperrt"));
        // The domain in another case of letters: blocking goes by the normalised address.
        let rows =
            blocked.map(|(_, a)| ["mail".to_owned(), a.replace("Post.Example", "POST.example")]);
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
