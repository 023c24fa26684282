//! What winback mails say: their templates, and the values of their variables.

mod countries;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anklang_domain::winback::{
    self, MailTemplate, Markup, Translation, Values, Variable, translate,
};
use anklang_render::{MessageSource, MessageTemplate, Part, Samples, TemplateError};
use anklang_store::winback::template::Facts;
use chrono::NaiveDate;
use serde::Serialize;
use serde_json::Value;

use countries::country_name;

/// What stands for the code of a voucher where none is given out.
pub const PLACEHOLDER: &str = "XXXX-XXXX";

/// Where the recipient withdraws consent, besides the variables.
const UNSUBSCRIBE: &str = "unsubscribe_url";

/// What templates see.
#[derive(Debug, Serialize)]
pub struct Data<'a> {
    #[serde(flatten)]
    values: BTreeMap<&'static str, &'a str>,
    unsubscribe_url: &'a str,
}

impl<'a> Data<'a> {
    /// Values, and where the recipient withdraws consent.
    pub fn new(values: &'a Values, unsubscribe_url: &'a str) -> Self {
        Data {
            values: values.for_templates(),
            unsubscribe_url,
        }
    }
}

/// The values for a customer as of a day.
pub fn values(facts: &Facts, today: NaiveDate) -> Values {
    let country = country_name(&facts.country);
    let facts = winback::Facts {
        first_name: &facts.first_name,
        last_name: &facts.last_name,
        company_name: &facts.company_name,
        city: &facts.city,
        country: &country,
        email: &facts.email,
        number: &facts.number,
        group: &facts.customer_group,
        last_order: facts.last_order,
        last_product_group: &facts.last_group,
        voucher: &facts.voucher,
    };
    Values::new(&facts, today)
}

/// The examples with which a template is tried: one with all values, and one with none.
fn samples(template: MailTemplate) -> &'static Samples {
    static STANDARD: LazyLock<Samples> = LazyLock::new(|| of(MailTemplate::Standard));
    static VOUCHER: LazyLock<Samples> = LazyLock::new(|| of(MailTemplate::Voucher));
    fn of(template: MailTemplate) -> Samples {
        let object = |text: &str| -> Value {
            let names = Variable::of(template).map(|(_, name)| name);
            let all = names.chain([UNSUBSCRIBE]);
            all.map(|name| (name.to_owned(), Value::from(text)))
                .collect()
        };
        Samples::new(object("Beispiel"), [object("")])
    }
    match template {
        MailTemplate::Standard => &STANDARD,
        MailTemplate::Voucher => &VOUCHER,
    }
}

/// The parts of a template in our syntax, and what led there.
struct Translated {
    translations: BTreeMap<(Part, String), (String, Translation)>,
    errors: Vec<TemplateError>,
}

impl Translated {
    /// Translates a part; one that cannot be is empty from here on, its faults are noted.
    fn part(&mut self, part: Part, variable: &str, source: &str, template: MailTemplate) -> String {
        let markup = match part {
            Part::HtmlBody => Markup::Html,
            _ => Markup::Text,
        };
        match translate(source, markup, template) {
            Ok(translation) => {
                let text = translation.text.clone();
                let key = (part, variable.to_owned());
                self.translations
                    .insert(key, (source.to_owned(), translation));
                text
            }
            Err(faults) => {
                let prefix = match variable {
                    "" => String::new(),
                    name => format!("{name}: "),
                };
                self.errors
                    .extend(faults.into_iter().map(|fault| TemplateError {
                        part,
                        line: fault.line,
                        column: fault.column,
                        message: format!("{prefix}{}", fault.message),
                    }));
                String::new()
            }
        }
    }

    /// The same error where the author wrote it.
    fn in_source(&self, mut error: TemplateError) -> TemplateError {
        let variable = match error.part {
            Part::ProviderVariables => error.message.split(": ").next().unwrap_or_default(),
            _ => "",
        };
        let key = (error.part, variable.to_owned());
        if let Some((source, translation)) = self.translations.get(&key) {
            (error.line, error.column) = translation.in_source(source, error.line, error.column);
        }
        error
    }
}

/// Compiles and checks a winback template, in Mailjet's syntax or ours.
///
/// # Errors
/// All errors of all parts at once, where the author wrote them. Of the voucher template also that it
/// has no voucher, unless it lies with the provider.
pub fn compile(
    source: &MessageSource<'_>,
    template: MailTemplate,
    at_provider: bool,
) -> Result<MessageTemplate, Vec<TemplateError>> {
    let mut translated = Translated {
        translations: BTreeMap::new(),
        errors: Vec::new(),
    };
    let subject = translated.part(Part::Subject, "", source.subject, template);
    let text = translated.part(Part::TextBody, "", source.text, template);
    let html = translated.part(Part::HtmlBody, "", source.html, template);
    let variables = source.variables.iter().map(|(name, text)| {
        let text = translated.part(Part::ProviderVariables, name, text, template);
        (name.clone(), text)
    });
    let variables: BTreeMap<String, String> = variables.collect();
    let ours = MessageSource {
        subject: &subject,
        text: &text,
        html: &html,
        variables: &variables,
    };
    let mut errors = std::mem::take(&mut translated.errors);
    match MessageTemplate::compile_for(&ours, samples(template)) {
        Ok(compiled) => {
            let needs = template == MailTemplate::Voucher && !at_provider && errors.is_empty();
            if needs && !compiled.uses(Variable::Gutschein.name()) {
                errors.push(TemplateError {
                    part: Part::TextBody,
                    line: 1,
                    column: 1,
                    message: "has no voucher: write {{var:gutschein:\"\"}} where its code shall be"
                        .into(),
                });
            }
            if errors.is_empty() {
                return Ok(compiled);
            }
        }
        Err(found) => {
            errors.extend(found.into_iter().map(|error| translated.in_source(error)));
        }
    }
    errors.sort();
    errors.dedup();
    Err(errors)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use super::*;

    fn source<'a>(
        parts: [&'a str; 3],
        variables: &'a BTreeMap<String, String>,
    ) -> MessageSource<'a> {
        MessageSource {
            subject: parts[0],
            text: parts[1],
            html: parts[2],
            variables,
        }
    }

    fn facts() -> Facts {
        Facts {
            message_id: uuid::Uuid::nil(),
            brand_id: uuid::Uuid::nil(),
            brand_code: String::new(),
            sender_name: String::new(),
            sender_email: String::new(),
            reply_to: String::new(),
            language: "de".into(),
            first_name: String::new(),
            last_name: "Grün & Söhne <b>".into(),
            company_name: String::new(),
            city: "Köln".into(),
            country: "DE".into(),
            email: String::new(),
            number: "7".into(),
            customer_group: String::new(),
            last_order: NaiveDate::from_ymd_opt(2026, 3, 8),
            last_group: "Obst".into(),
            voucher: "AB-12".into(),
        }
    }

    #[test]
    fn both_syntaxes_are_rendered_with_their_fallbacks() {
        let none = BTreeMap::new();
        let source = source(
            [
                "Hallo {{var:vorname:\"Kunde\"}}",
                "{{ name }} aus {{ort}}, {{var:land}}: {{ firmenname|default(\"privat\", true) }}",
                "<p>{{var:nachname:\"\"}} {{var:letzte_bestellung:“nie”}} {{var:gutschein}}</p>",
            ],
            &none,
        );
        let template = compile(&source, MailTemplate::Voucher, false).unwrap();
        let values = values(&facts(), "2026-11-23".parse().unwrap());
        let mail = template.render(&Data::new(&values, "")).unwrap();
        assert_eq!(mail.subject, "Hallo Kunde");
        assert_eq!(mail.text, "Grün & Söhne <b> aus Köln, Deutschland: privat");
        assert_eq!(
            mail.html,
            "<p>Grün &amp; Söhne &lt;b&gt; 08.03.2026 AB-12</p>"
        );
    }

    #[test]
    fn all_faults_are_told_at_once_where_they_are() {
        let variables = BTreeMap::from([("x".to_owned(), "{{var:plz}}".to_owned())]);
        let source = source(
            [
                "{{var:vornahme:\"\"}}",
                "ä {{var:ort:\"Ulm\"}} {{ kunde }}",
                "{% if %}",
            ],
            &variables,
        );
        let errors = compile(&source, MailTemplate::Standard, false).unwrap_err();
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(
            told[0].starts_with("subject:1:7: unknown variable `vornahme`"),
            "{told:?}"
        );
        assert!(
            told[1].starts_with("text_body:1:24: unknown variable `kunde`"),
            "{told:?}"
        );
        assert!(told[2].starts_with("html_body:1:"), "{told:?}");
        assert!(told[3].contains("x: unknown variable `plz`"), "{told:?}");
    }

    #[test]
    fn a_voucher_template_has_its_voucher() {
        let none = BTreeMap::new();
        let without = source(["s", "t", ""], &none);
        assert!(compile(&without, MailTemplate::Standard, false).is_ok());
        let errors = compile(&without, MailTemplate::Voucher, false).unwrap_err();
        assert!(errors[0].message.contains("gutschein"), "{errors:?}");
        assert!(compile(&without, MailTemplate::Voucher, true).is_ok());
        let with = source(["s", "{{ gutschein }}", ""], &none);
        assert!(compile(&with, MailTemplate::Standard, false).is_err());
        assert!(compile(&with, MailTemplate::Voucher, false).is_ok());
    }
}
