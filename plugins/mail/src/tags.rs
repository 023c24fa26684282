//! The ids of messages in addresses and header lines, by which what comes back is recognised.
//!
//! A message's id is a UUID in its text form. In an address it stands where `{id}` is written in
//! the configuration (a return path of its own for each message is known as VERP), in a mail it is
//! the left part of the `Message-ID`. Servers on the way may change the case of an address, so it
//! does not count there.

use lettre::Address;

/// Where the id stands in an address of the configuration.
const PLACE: &str = "{id}";

/// An address that may carry the id of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tagged {
    before: String,
    /// What follows the id, up to the `@`; `None` if the address carries none.
    after: Option<String>,
    /// In ASCII, lower case.
    domain: String,
}

impl Tagged {
    /// An address with a place for the id.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let tagged = Self::parse_untagged(text)?;
        match tagged.after {
            Some(_) => Ok(tagged),
            None => Err(format!("has no {PLACE} before the @")),
        }
    }

    /// An address with or without a place for the id.
    pub(crate) fn parse_untagged(text: &str) -> Result<Self, String> {
        let (local, domain) = text.rsplit_once('@').ok_or("has no @")?;
        let domain = idna::domain_to_ascii(domain).map_err(|e| format!("domain: {e}"))?;
        let (before, after) = match local.split_once(PLACE) {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (local.to_owned(), None),
        };
        let tagged = Self {
            before,
            after,
            domain,
        };
        // A UUID has 36 characters, and what comes before the @ at most 64.
        let longest = "0".repeat(36);
        match tagged.address(&longest) {
            Some(address) if address.user().len() <= 64 => Ok(tagged),
            Some(_) => Err("is too long before the @ with an id in it".to_owned()),
            None => Err("is no address".to_owned()),
        }
    }

    /// The address for a message.
    pub(crate) fn address(&self, id: &str) -> Option<Address> {
        let local = match &self.after {
            Some(after) => format!("{}{id}{after}", self.before),
            None => self.before.clone(),
        };
        Address::new(local, &self.domain).ok()
    }

    /// The id that an address carries.
    pub(crate) fn id_in(&self, address: &str) -> Option<String> {
        let (local, domain) = address.rsplit_once('@')?;
        if !domain.eq_ignore_ascii_case(&self.domain) {
            return None;
        }
        let rest = strip_prefix(local, &self.before)?;
        let id = strip_suffix(rest, self.after.as_ref()?)?;
        is_id(id).then(|| id.to_ascii_lowercase())
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(rest)
}

/// Whether a text is the id of a message: a UUID.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The id of the message whose `Message-ID` this is, with or without its brackets.
pub(crate) fn id_of(message_id: &str) -> Option<String> {
    let bare = message_id.trim().trim_matches(['<', '>']);
    let (id, _) = bare.split_once('@')?;
    // Ours are lower case; those of some mail programs are UUIDs as well, but upper case.
    (is_id(id) && !id.bytes().any(|b| b.is_ascii_uppercase())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0197a2b4-7c1e-7d00-8000-00000000abcd";

    fn tagged(text: &str) -> Tagged {
        Tagged::parse_untagged(text).expect("is an address")
    }

    #[test]
    fn an_id_is_found_again_in_its_address() {
        for text in [
            "bounces+{id}@example.org",
            "{id}@bounces.example.org",
            "b-{id}-x@müller.example",
        ] {
            let tagged = tagged(text);
            let address = tagged.address(ID).expect("is an address").to_string();
            assert_eq!(tagged.id_in(&address).as_deref(), Some(ID), "{address}");
            let shouted = address.to_ascii_uppercase();
            assert_eq!(tagged.id_in(&shouted).as_deref(), Some(ID), "{shouted}");
        }
    }

    #[test]
    fn other_addresses_carry_no_id() {
        let tagged = tagged("bounces+{id}@example.org");
        for other in [
            "bounces@example.org",
            "bounces+@example.org",
            "bounces+0197a2b4@example.org",
            "b+0197a2b4-7c1e-7d00-8000-00000000abcd@example.org",
            "bounces+0197a2b4-7c1e-7d00-8000-00000000abcd@example.com",
            "bounces+0197a2b4-7c1e-7d00-8000-00000000abcdé@example.org",
            "bounces+0197a2b4_7c1e_7d00_8000_00000000abcd@example.org",
            "",
            "@",
            "ä@ö",
        ] {
            assert_eq!(tagged.id_in(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "bounces",
            "{id}",
            "a b@example.org",
            "x@",
            "<a@example.org>",
        ] {
            assert!(Tagged::parse_untagged(bad).is_err(), "{bad}");
        }
        let long = format!("{}{{id}}@example.org", "x".repeat(29));
        assert!(Tagged::parse_untagged(&long).is_err());
        assert!(Tagged::parse("bounces@example.org").is_err());
        assert_eq!(
            tagged("bounces@example.org")
                .address(ID)
                .map(|a| a.to_string()),
            Some("bounces@example.org".to_owned())
        );
    }

    #[test]
    fn message_ids_of_ours() {
        assert_eq!(id_of(&format!("<{ID}@example.org>")).as_deref(), Some(ID));
        assert_eq!(id_of(&format!("{ID}@example.org")).as_deref(), Some(ID));
        for other in [
            ID.to_owned(),
            "<abc@example.org>".to_owned(),
            format!("<{}@example.org>", ID.to_ascii_uppercase()),
        ] {
            assert_eq!(id_of(&other), None, "{other}");
        }
    }
}
