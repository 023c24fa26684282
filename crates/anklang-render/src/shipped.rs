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

/// The German message to customers whom people did not reach: short, so that it does for SMS as well.
pub const CONTACT_MISSED_DE: MessageSource<'static> = MessageSource {
    subject: include_str!("../templates/contact-missed.de.subject"),
    text: include_str!("../templates/contact-missed.de.txt"),
    html: "",
    variables: &NO_VARIABLES,
};

/// The German mail to people of the tenant when somebody asks for an offer to a customer.
pub const OFFER_REQUEST_DE: MessageSource<'static> = MessageSource {
    subject: include_str!("../templates/offer-request.de.subject"),
    text: include_str!("../templates/offer-request.de.txt"),
    html: "",
    variables: &NO_VARIABLES,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageTemplate;
    use crate::model::{ContactData, OfferRequestData};

    #[test]
    fn what_ships_says_what_is_known() {
        let template = MessageTemplate::compile_for_contacts(&CONTACT_MISSED_DE).unwrap();
        let [full, sparse] = ContactData::samples().map(|data| template.render(&data).unwrap());
        assert_eq!(full.subject, "Wir haben Sie leider nicht erreicht");
        for part in [
            "Sehr geehrte Frau Dr. Müller,",
            "+49 6441 555 0100",
            "01.12.2026",
            "/u/AZ1",
        ] {
            assert!(full.text.contains(part), "{part}: {}", full.text);
        }
        assert!(!sparse.text.contains("Das nächste Mal"), "{}", sparse.text);

        let template = MessageTemplate::compile_for_offer_requests(&OFFER_REQUEST_DE).unwrap();
        let [full, sparse] =
            OfferRequestData::samples().map(|data| template.render(&data).unwrap());
        assert_eq!(
            full.subject,
            "Angebot anfordern: 100042 Dr. Eva-Maria Müller"
        );
        for part in [
            "20 % auf Äpfel",
            "anna",
            "A-2026-004711",
            "https://shop.example/kunden/100042",
        ] {
            assert!(full.text.contains(part), "{part}: {}", full.text);
        }
        assert!(!sparse.text.contains("https:"), "{}", sparse.text);
    }
}
