//! The templates that come with the product, embedded at compile time.

use crate::content::MessageSource;

/// Typst source of the German offer letter: DIN 5008 form B with a reply slip
/// on its second page.
pub const OFFER_LETTER_DE: &str = include_str!("../templates/offer-letter.de.typ");

/// The German mail that goes with [`OFFER_LETTER_DE`].
pub const OFFER_MAIL_DE: MessageSource<'static> = MessageSource {
    subject: include_str!("../templates/offer-mail.de.subject"),
    text: include_str!("../templates/offer-mail.de.txt"),
    html: include_str!("../templates/offer-mail.de.html"),
};
