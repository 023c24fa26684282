//! Channels and the addresses they need.

/// The channel of contact points on which a channel's messages go out: a text message needs a
/// mobile number, a call any phone number.
pub fn contact_channel(channel: &str) -> &str {
    match channel {
        "sms" => "mobile",
        other => other,
    }
}
