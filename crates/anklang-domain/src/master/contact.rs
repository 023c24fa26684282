//! Addresses on channels, normalised, so that one address has one form: what is stored, compared
//! and suppressed.

use std::str::FromStr;

use email_address::{EmailAddress, Options};
use phonenumber::country;
use sha2::{Digest, Sha256};

use crate::TenantId;

/// Longest mail address in bytes (RFC 5321, path without brackets).
const MAX_MAIL: usize = 254;
/// Longest address on any other channel in characters.
const MAX_ADDRESS: usize = 320;
/// Digits of a phone number with its country code. E.164 allows 15.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("is required")]
    Missing,
    /// No mail address.
    #[error("must be an e-mail address, e.g. name@example.de: {0}")]
    Mail(String),
    /// No phone number.
    #[error("must be a phone number, e.g. +49 641 123456: {0}")]
    Phone(&'static str),
    /// Too long for any channel.
    #[error("must be at most {MAX_ADDRESS} characters")]
    TooLong,
    /// Line breaks and the like.
    #[error("must not contain line breaks or control characters")]
    Control,
}

/// The one form of an address on a channel: `mail` as by [`mail`], `phone`, `mobile` and `fax` as
/// by [`phone`], others trimmed. `country` (ISO 3166-1 alpha-2) is that of phone numbers without
/// country code.
pub fn normalise(channel: &str, address: &str, country: &str) -> Result<String, AddressError> {
    let address = address.trim();
    if address.is_empty() {
        return Err(AddressError::Missing);
    }
    if address.chars().any(char::is_control) {
        return Err(AddressError::Control);
    }
    if address.chars().count() > MAX_ADDRESS {
        return Err(AddressError::TooLong);
    }
    match channel {
        "mail" => mail(address),
        "phone" | "mobile" | "fax" => phone(address, country),
        _ => Ok(address.to_owned()),
    }
}

/// A mail address of RFC 5321, the domain lower-case and in A-labels; the local part is the
/// receiver's business and stays as it is.
pub fn mail(address: &str) -> Result<String, AddressError> {
    let wrong = |reason: &str| AddressError::Mail(reason.to_owned());
    let (local, domain) = address
        .trim()
        .rsplit_once('@')
        .ok_or_else(|| wrong("has no @"))?;
    if !local.is_ascii() {
        return Err(wrong("before the @ are characters beyond ASCII"));
    }
    let domain =
        idna::domain_to_ascii(domain).map_err(|_| wrong("the domain is no domain name"))?;
    let normal = format!("{local}@{domain}");
    if normal.len() > MAX_MAIL {
        return Err(wrong("it is longer than 254 bytes"));
    }
    if normal.chars().any(char::is_control) {
        return Err(AddressError::Control);
    }
    let options = Options::default()
        .without_display_text()
        .without_domain_literal()
        .with_required_tld();
    EmailAddress::parse_with_options(&normal, options)
        .map_err(|error| AddressError::Mail(error.to_string()))?;
    Ok(normal)
}

/// A phone number in the form of E.164: `+` and digits. Numbers without country code are read as
/// those of `country`. Numbers that no operator has given out are taken when their length can be
/// that of a number: numbering plans change faster than libraries, and those reserved for fiction
/// are in none.
pub fn phone(number: &str, country: &str) -> Result<String, AddressError> {
    let written = |c: char| {
        c.is_ascii_digit()
            || c.is_whitespace()
            || "+()/.-\u{2010}\u{2011}\u{2012}\u{2013}".contains(c)
    };
    if !number.chars().all(written) {
        return Err(AddressError::Phone(
            "it may have digits, + ( ) / . - and spaces alone",
        ));
    }
    let international = number.contains('+');
    // A country next to a country code would be used to guess.
    let region = country::Id::from_str(country)
        .ok()
        .filter(|_| !international);
    let parsed = phonenumber::parse(region, number.trim())
        .map_err(|_| AddressError::Phone("it does not read as one"))?;
    let normal = parsed.format().mode(phonenumber::Mode::E164).to_string();
    let digits = normal.strip_prefix('+').unwrap_or("");
    if !digits.bytes().all(|b| b.is_ascii_digit()) || !PHONE_DIGITS.contains(&digits.len()) {
        return Err(AddressError::Phone(
            "it must have 8 to 15 digits with its country code",
        ));
    }
    // A few that are no numbers read as one of another form; then there is no one form.
    let again = phonenumber::parse(None, &normal).ok();
    if again.is_none_or(|a| a.format().mode(phonenumber::Mode::E164).to_string() != normal) {
        return Err(AddressError::Phone("it does not read as one"));
    }
    Ok(normal)
}

/// SHA-256 of tenant, channel and normalised address: under it suppressions are kept, so that a
/// blocked address can be recognised but not read, and not be compared between tenants.
pub fn address_hash(tenant: TenantId, channel: &str, address: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(tenant.0.as_bytes())
        .chain_update(channel)
        .chain_update([0])
        .chain_update(address)
        .finalize()
        .into()
}
