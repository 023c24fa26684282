//! The templates that come with the product, embedded at compile time.

use std::collections::BTreeMap;

use crate::content::MessageSource;

static NO_VARIABLES: BTreeMap<String, String> = BTreeMap::new();

/// Typst source of the German offer letter: DIN 5008 form B with a reply slip
/// on its second page.
pub const OFFER_LETTER_DE: &str = include_str!("../templates/offer-letter.de.typ");

/// The German mail that goes with [`OFFER_LETTER_DE`].
pub const OFFER_MAIL_DE: MessageSource<'static> = MessageSource {
    subject: include_str!("../templates/offer-mail.de.subject"),
    text: include_str!("../templates/offer-mail.de.txt"),
    html: include_str!("../templates/offer-mail.de.html"),
    variables: &NO_VARIABLES,
};

/// The German text for channels that carry nothing else, such as SMS: about 160 characters.
pub const OFFER_TEXT_DE: MessageSource<'static> = MessageSource {
    subject: include_str!("../templates/offer-mail.de.subject"),
    text: include_str!("../templates/offer-text.de.txt"),
    html: "",
    variables: &NO_VARIABLES,
};
