//! Who sends and who receives: numbers, short codes, names.

/// Type of number and numbering plan, as SMPP and GSM number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// 0 unknown, 1 international, 3 of the network, 5 alphanumeric.
    pub(crate) ton: u8,
    /// 0 unknown, 1 telephone (E.164).
    pub(crate) npi: u8,
}

const INTERNATIONAL: Kind = Kind { ton: 1, npi: 1 };
const OF_THE_NETWORK: Kind = Kind { ton: 3, npi: 0 };
const ALPHANUMERIC: Kind = Kind { ton: 5, npi: 0 };

/// Most characters of a name as sender: 11 septets in 10 octets.
const LONGEST_NAME: usize = 11;

/// A sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) kind: Kind,
    /// Without `+`.
    pub(crate) address: String,
}

impl Source {
    /// Reads a number (`+49…`), a short code of 2 to 8 digits or a name of up to 11 characters
    /// with a letter among them; `None` for anything else.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let (kind, address) = if text.starts_with('+') {
            (INTERNATIONAL, e164(text)?)
        } else if text.bytes().all(|octet| octet.is_ascii_digit()) {
            (
                OF_THE_NETWORK,
                Some(text).filter(|t| (2..=8).contains(&t.len()))?,
            )
        } else {
            let is_name = text.len() <= LONGEST_NAME
                && text.bytes().any(|octet| octet.is_ascii_alphabetic())
                // Those of ASCII that the GSM alphabet has at the same place.
                && text.bytes().all(|o| o.is_ascii_alphanumeric() || b" !\"#%&'()*+,-./:;<=>?".contains(&o));
            (ALPHANUMERIC, Some(text).filter(|_| is_name)?)
        };
        Some(Self {
            kind,
            address: address.to_owned(),
        })
    }

    /// As it was configured or asked for.
    pub(crate) fn shown(&self) -> String {
        shown(self.kind.ton, &self.address)
    }
}

/// The digits of a recipient's number in E.164; `None` if it is none.
pub(crate) fn e164(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('+')?;
    let is_number = (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then_some(digits)
}

/// What a recipient's digits are.
pub(crate) const RECIPIENT: Kind = INTERNATIONAL;

/// An address as people write it.
pub(crate) fn shown(ton: u8, address: &str) -> String {
    let bare = address.bytes().all(|octet| octet.is_ascii_digit()) && !address.is_empty();
    if ton == INTERNATIONAL.ton && bare {
        format!("+{address}")
    } else {
        address.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Option<(u8, u8, String)> {
        Source::read(text).map(|s| (s.kind.ton, s.kind.npi, s.address))
    }

    #[test]
    fn senders() {
        assert_eq!(source("+4930123456"), Some((1, 1, "4930123456".to_owned())));
        assert_eq!(source("80888"), Some((3, 0, "80888".to_owned())));
        assert_eq!(source("Stadtwerk"), Some((5, 0, "Stadtwerk".to_owned())));
        assert_eq!(source("SW-24 & Co"), Some((5, 0, "SW-24 & Co".to_owned())));
        for wrong in [
            "",
            " ",
            "+49",
            "+0491234567",
            "123456789",
            "1",
            "Stadtwerke 1",
            "Müller",
            "a\0b",
            "--",
            "+49 30 1234567",
        ] {
            assert_eq!(source(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn recipients() {
        assert_eq!(e164("+491711234567"), Some("491711234567"));
        for wrong in [
            "491711234567",
            "+0171123456",
            "+49171",
            "+4917112345678901",
            "+49171a23456",
            "",
        ] {
            assert_eq!(e164(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn numbers_are_shown_with_their_plus() {
        assert_eq!(shown(1, "491711234567"), "+491711234567");
        assert_eq!(shown(1, "+491711234567"), "+491711234567");
        assert_eq!(shown(0, "01711234567"), "01711234567");
        assert_eq!(shown(5, "Bank"), "Bank");
        assert_eq!(
            Source::read("+4930123456").map(|s| s.shown()).as_deref(),
            Some("+4930123456")
        );
    }
}
