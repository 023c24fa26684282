//! Contact points and consents.

use anyhow::Result;
use chrono::NaiveDate;
use rand::{Rng, RngExt};

use super::customer::Customer;
use super::pick::{any, ascii, frequent, past_time, percent};
use super::sheet::Sheets;

/// Domains that RFC 2606 keeps free.
const DOMAINS: [&str; 8] = [
    "example.com",
    "example.org",
    "example.net",
    "post.example",
    "webmail.example",
    "lahnpost.example",
    "mail.mittelhessen.example",
    "briefkasten.example",
];

/// Numbers kept for media (Bundesnetzagentur, Mitteilung 148/2021): area code and first
/// digits; any three digits follow.
const LANDLINES: [(&str, &str); 5] = [
    ("30", "23125"),
    ("69", "90009"),
    ("40", "66969"),
    ("221", "4710"),
    ("89", "99998"),
];

/// The mobile ones of the same notice: two blocks, in which any two digits follow, and ten
/// single ones.
const MOBILE_BLOCKS: [(&str, &str); 2] = [("171", "39200"), ("176", "040690")];
const MOBILES: [(&str, &str); 10] = [
    ("152", "28817386"),
    ("152", "28895456"),
    ("152", "54599371"),
    ("172", "9925904"),
    ("172", "9968532"),
    ("172", "9973185"),
    ("172", "9973186"),
    ("172", "9980752"),
    ("174", "9091317"),
    ("174", "9464308"),
];

/// Writes how the customer can be reached and what he has agreed to.
pub(super) fn write(
    rng: &mut impl Rng,
    sheets: &mut Sheets,
    customer: &Customer,
    as_of: NaiveDate,
) -> Result<()> {
    let mut point = |channel, address: &str, position| {
        sheets
            .contact_points
            .row([&customer.number, channel, address, position])
    };
    let has_mail = percent(rng, 94.0);
    if has_mail {
        let address = mail_address(rng, customer);
        point("mail", &address, "1")?;
        if percent(rng, 3.0) {
            // Differs from all others because the first one does.
            point("mail", &format!("zweit.{address}"), "2")?;
        }
    }
    let has_mobile = percent(rng, if customer.is_company { 40.0 } else { 76.0 });
    if has_mobile {
        point("mobile", &mobile(rng), "1")?;
    }
    let has_phone = percent(rng, if customer.is_company { 95.0 } else { 48.0 });
    if has_phone {
        point("phone", &landline(rng), "1")?;
    }
    if percent(rng, if customer.is_company { 35.0 } else { 2.0 }) {
        point("fax", &landline(rng), "1")?;
    }
    if has_mail {
        consent(rng, sheets, customer, "mail", (88.0, 4.0), as_of)?;
    }
    if has_phone || has_mobile {
        consent(rng, sheets, customer, "phone", (17.0, 2.0), as_of)?;
    }
    Ok(())
}

/// Writes the consent to marketing on a channel, if the customer was ever asked; `shares`
/// are the per cent who have granted and withdrawn it.
fn consent(
    rng: &mut impl Rng,
    sheets: &mut Sheets,
    customer: &Customer,
    channel: &str,
    (granted, withdrawn): (f64, f64),
    as_of: NaiveDate,
) -> Result<()> {
    let point = rng.random_range(0.0..100.0);
    if point >= granted + withdrawn {
        return Ok(());
    }
    let recorded = past_time(rng, 60, as_of);
    let (state, source, evidence) = if point < granted {
        let source = frequent(
            rng,
            &["Vertragsabschluss", "Webportal", "Telefonat", "Messe"],
        );
        let evidence = match source {
            "Webportal" => format!("Double-Opt-in {:08x}", rng.random::<u32>()),
            "Telefonat" => format!("Aufzeichnung {:06}", rng.random_range(0..1_000_000)),
            _ => format!("Formular {:07}", rng.random_range(0..10_000_000)),
        };
        ("granted", source, evidence)
    } else {
        let source = any(rng, &["Abmeldelink", "Telefonat", "Schreiben"]);
        let evidence = format!("Vorgang {:07}", rng.random_range(0..10_000_000));
        ("withdrawn", source, evidence)
    };
    sheets.consents.row([
        &customer.number,
        channel,
        "marketing",
        state,
        source,
        &evidence,
        &recorded,
    ])
}

/// A unique address: the customer's index, which no name contains, tells them apart.
fn mail_address(rng: &mut impl Rng, customer: &Customer) -> String {
    let tag = customer.index + 1;
    let (first, last) = (ascii(customer.first_name), ascii(&customer.last_name));
    if customer.is_company {
        let role = any(rng, &["info", "kontakt", "buero", "verwaltung"]);
        // A label of a domain has at most 63 characters.
        let company: String = ascii(&customer.company_name).chars().take(50).collect();
        let company = company.trim_end_matches('-');
        return format!("{role}@{company}-{tag}.example");
    }
    let initial = &first[..1];
    let local = match rng.random_range(0..5) {
        0 | 1 => format!("{first}.{last}{tag}"),
        2 => format!("{initial}.{last}.{tag}"),
        3 => format!("{last}-{first}-{tag}"),
        _ => format!("{first}_{last}_{tag}"),
    };
    format!("{local}@{}", any(rng, &DOMAINS))
}

fn landline(rng: &mut impl Rng) -> String {
    let (area, block) = any(rng, &LANDLINES);
    let rest = rng.random_range(0..1000);
    spelled(rng, area, &format!("{block}{rest:03}"))
}

fn mobile(rng: &mut impl Rng) -> String {
    // Each of the 210 numbers as often as any other.
    if rng.random_range(0..210) < MOBILES.len() {
        let (prefix, number) = any(rng, &MOBILES);
        return spelled(rng, prefix, number);
    }
    let (prefix, block) = any(rng, &MOBILE_BLOCKS);
    let rest = rng.random_range(0..100);
    spelled(rng, prefix, &format!("{block}{rest:02}"))
}

/// As people write numbers down; they are made uniform when imported.
fn spelled(rng: &mut impl Rng, prefix: &str, number: &str) -> String {
    match rng.random_range(0..10) {
        0..6 => format!("+49 {prefix} {number}"),
        6 | 7 => format!("+49{prefix}{number}"),
        8 => format!("0{prefix} {number}"),
        _ => format!("0{prefix}/{number}"),
    }
}
