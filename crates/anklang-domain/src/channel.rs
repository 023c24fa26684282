//! Channels and the addresses they need.

/// The channel on which people call customers: nothing is sent.
pub const PHONE: &str = "phone";

/// The channel of contact points on which a channel's messages go out: a text message needs a
/// mobile number. A call ([`PHONE`]) does with any number.
pub fn contact_channel(channel: &str) -> &str {
    match channel {
        "sms" => "mobile",
        other => other,
    }
}

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Mails: subject, text, HTML, attachments.
    Mails,
    /// One document for each message: a fax, a letter.
    Documents,
    /// A text, and nothing along with it.
    Texts,
}

/// What goes out on a channel. Of channels that only plugins know it is a text.
pub fn carries(channel: &str) -> Carries {
    match channel {
        "mail" => Carries::Mails,
        "fax" | "letter" => Carries::Documents,
        _ => Carries::Texts,
    }
}
