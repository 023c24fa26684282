//! Templates that are right, wrong and hostile.

use super::*;
use crate::shipped::{OFFER_MAIL_DE, OFFER_TEXT_DE};

fn compile(subject: &str, text: &str, html: &str) -> Result<MessageTemplate, Vec<TemplateError>> {
    MessageTemplate::compile(&MessageSource {
        subject,
        text,
        html,
        variables: &BTreeMap::new(),
    })
}

#[test]
fn variables_of_a_providers_template_are_rendered_and_checked() {
    let compile = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(n, t)| ((*n).into(), (*t).into()));
        MessageTemplate::compile(&MessageSource {
            subject: "",
            text: "",
            html: "",
            variables: &variables.collect(),
        })
    };
    let template = compile(&[
        ("vorname", "{{ customer.first_name }}"),
        ("gilt", "bis {{ offer.valid_until|date }} <b>"),
    ]);
    let message = template.unwrap().render(&OfferData::sample()).unwrap();
    let gilt = message.variables["gilt"].as_str();
    assert_eq!(gilt, "bis 31.12.2026 <b>", "a text, not HTML");
    assert_eq!(message.variables.len(), 2);
    let wrong = compile(&[("a", "{{ kunde }}"), ("b", "{% if %}"), ("c", "gut")]).unwrap_err();
    let told: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let field = "provider_template.variables:1:4: a: unknown variable `kunde`";
    assert!(told.iter().any(|t| t.starts_with(field)), "{told:?}");
    assert!(told.iter().any(|t| t.contains(" b: ")), "{told:?}");
}

#[test]
fn variables_have_little_room() {
    let endless = BTreeMap::from([("a".to_owned(), "{{ 'x' * 20000 }}".to_owned())]);
    let source = MessageSource {
        variables: &endless,
        ..OFFER_MAIL_DE
    };
    let refused = MessageTemplate::compile(&source).unwrap_err();
    assert!(
        refused[0].message.contains("longer than 16384 bytes"),
        "{refused:?}"
    );
}

#[test]
fn the_shipped_text_fits_a_short_message() {
    let template = MessageTemplate::compile(&OFFER_TEXT_DE).unwrap();
    for data in [OfferData::sample(), OfferData::sparse_sample()] {
        let text = template.render(&data).unwrap().text;
        assert!(text.contains(&data.offer.number), "{text}");
        assert!(
            text.chars().count() <= 160,
            "{}: {text}",
            text.chars().count()
        );
        assert!(!text.to_lowercase().contains("none"), "{text}");
    }
}

fn render(text: &str, data: &OfferData) -> String {
    compile("s", text, "h").unwrap().render(data).unwrap().text
}

/// Part, line and column of every error.
fn places(subject: &str, text: &str, html: &str) -> Vec<(&'static str, u32, u32)> {
    let errors = compile(subject, text, html).unwrap_err();
    errors
        .iter()
        .map(|e| (e.part.as_str(), e.line, e.column))
        .collect()
}

fn messages(text: &str) -> String {
    let errors = compile("s", text, "h").unwrap_err();
    errors.iter().map(|e| format!("{}\n", e.message)).collect()
}

#[test]
fn the_shipped_mail_says_what_the_offer_is() {
    let template = MessageTemplate::compile(&OFFER_MAIL_DE).unwrap();
    let mail = template.render(&OfferData::sample()).unwrap();
    assert_eq!(
        mail.subject,
        "Ihr Angebot A-2026-004711: Lahn Ökostrom Fix 24"
    );
    for body in [&mail.text, &mail.html] {
        for part in [
            "Sehr geehrte Frau Dr. Müller,",
            "132,00 €",
            "29,84 ct",
            "3.500 kWh",
            "1.176,40 €",
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
        assert!(body.contains("31.12.2026"), "{body}");
    }
    let sparse = template.render(&OfferData::sparse_sample()).unwrap();
    assert!(
        sparse.text.starts_with("Sehr geehrte Damen und Herren,\n"),
        "{}",
        sparse.text
    );
    assert!(
        !sparse.text.to_lowercase().contains("none"),
        "{}",
        sparse.text
    );
    assert!(
        sparse.html.contains("unser Produkt <strong>"),
        "{}",
        sparse.html
    );
}

#[test]
fn all_errors_of_all_parts_come_at_once() {
    let found = places(
        "Ihr {{ offer.nubmer }} {{ ofer.number }}",
        "Zeile 1\nGrüße {{ offer.number",
        "<p>\n  {{ customer.vorname|shout }}\n{% if offer is shiny %}{% include 'x' %}{% endif %}",
    );
    let expected = [
        ("subject", 1, 8),
        ("subject", 1, 27),
        ("text_body", 2, 16),
        ("html_body", 2, 6),
        ("html_body", 2, 23),
        ("html_body", 3, 16),
        ("html_body", 3, 27),
    ];
    assert_eq!(found, expected);
}

#[test]
fn unknown_names_are_found_in_every_branch() {
    let hidden = "{% if false %}ä {{ customer.nope }}{% endif %}";
    assert_eq!(places("s", hidden, "h"), [("text_body", 1, 20)]);
    assert!(messages(hidden).contains("unknown variable `customer.nope`"));
    assert!(messages("{{ now() }}").contains("unknown variable `now`"));
    assert!(messages("{{ offer.number|nope }}").contains("unknown filter `nope`"));
    assert!(messages("{{ offer.number is not nope }}").contains("unknown test `nope`"));
    assert!(messages("{% filter nope %}x{% endfilter %}").contains("unknown filter `nope`"));
}

#[test]
fn declared_names_and_the_engines_functions_are_known() {
    let text =
        "{% set x = offer %}{% for i in range(2) %}{{ loop.index }}{{ x.number }}{% endfor %}";
    assert_eq!(
        render(text, &OfferData::sample()),
        "1A-2026-0047112A-2026-004711"
    );
}

#[test]
fn what_may_be_missing_must_be_asked_for_and_prints_nothing() {
    assert!(messages("{{ campaign.name }}").contains("undefined"));
    let asked = "[{{ offer.current_product_name }}{% if campaign %}{{ campaign.name }}{% endif %}\
                 {{ contract.end_date|date }}]";
    assert_eq!(render(asked, &OfferData::sparse_sample()), "[]");
    assert!(messages("{{ offer['nubmer'] }}").contains("undefined"));
}

#[test]
fn filters_write_german() {
    let cases = [
        ("{{ '1234.5'|money }}", "1.234,50 €"),
        ("{{ 1234.5|money('CHF') }}", "1.234,50 CHF"),
        (
            "{{ offer.annual_amount|money(offer.currency) }}",
            "1.176,40 €",
        ),
        ("{{ 1e3|number(0) }}", "1.000"),
        ("{{ offer.unit_price_per_kwh|cents }} ct", "29,84 ct"),
        ("{{ offer.valid_until|date }}", "31.12.2026"),
        ("{{ none|money }}{{ none|date }}", ""),
        ("{{ offer.annual_amount|float > 1000 }}", "True"),
    ];
    for (template, expected) in cases {
        assert_eq!(
            render(template, &OfferData::sample()),
            expected,
            "{template}"
        );
    }
    for wrong in [
        "{{ 'x'|money }}",
        "{{ offer.number|date }}",
        "{{ '2026-02-30'|date }}",
    ] {
        assert!(messages(wrong).contains("is not"), "{wrong}");
    }
}

#[test]
fn hostile_data_is_only_text() {
    let hostile =
        "<script>alert(\"1\")</script> & {{ 7*7 }} {% raw %} '\r\nBcc: x@y.z 🦊 \u{202e}אבג";
    let mut data = OfferData::sample();
    data.customer.last_name = hostile.into();
    let template = "{{ customer.last_name }}";
    let message = compile(template, template, template)
        .unwrap()
        .render(&data)
        .unwrap();
    assert_eq!(message.text, hostile);
    assert!(
        !message.subject.contains(['\r', '\n']),
        "{}",
        message.subject
    );
    assert!(
        message.subject.contains("' Bcc: x@y.z 🦊"),
        "{}",
        message.subject
    );
    assert!(
        !message.html.contains(['<', '>', '"', '\'']),
        "{}",
        message.html
    );
    assert!(message.html.contains("&lt;script&gt;") && message.html.contains("{{ 7*7 }}"));
}

#[test]
fn escaping_cannot_be_switched_off() {
    assert!(compile("s", "t", "{{ customer.last_name|safe }}").is_err());
    assert!(compile("s", "t", "{% autoescape false %}x{% endautoescape %}").is_err());
    assert!(compile("s", "{{ customer.last_name }}", "{% include 'text_body' %}").is_err());
    assert!(compile("s", "t", "{% from 'text_body' import x %}").is_err());
}

#[test]
fn endless_templates_stop() {
    let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    assert!(messages(nested).contains("fuel"));
    let recursion = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(compile("s", recursion, "h").is_err());
    let long = "{% for a in range(5000) %}{{ 'x' * 1000 }}{% endfor %}";
    assert!(
        messages(long).contains("output is longer"),
        "{}",
        messages(long)
    );
    let source = "x".repeat(crate::error::MAX_SOURCE_BYTES + 1);
    assert_eq!(places("s", &source, "h"), [("text_body", 1, 1)]);
}

#[test]
fn a_subject_is_one_line() {
    assert_eq!(
        one_line(" a\r\n b\tc\u{2028}d\u{0}e\u{85}f "),
        "a b c d e f"
    );
}
