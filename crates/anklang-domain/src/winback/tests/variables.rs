//! The variables: values, Mailjet's syntax, places of errors.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::winback::*;

fn facts() -> Facts<'static> {
    Facts {
        first_name: "Jürgen",
        last_name: "Größe",
        company_name: "Müller & Söhne GmbH",
        city: "Lindau (Bodensee)",
        country: "Deutschland",
        email: "juergen@example.com",
        number: "1231456",
        group: "Endkunde",
        last_order: NaiveDate::from_ymd_opt(2026, 3, 8),
        last_product_group: "Obst & Gemüse",
        voucher: "SOMMER-7K2M",
    }
}

fn today() -> NaiveDate {
    "2026-11-23".parse().unwrap()
}

#[test]
fn all_have_their_values() {
    let values = Values::new(&facts(), today());
    let expected = [
        ("name", "Jürgen Größe"),
        ("vorname", "Jürgen"),
        ("nachname", "Größe"),
        ("firmenname", "Müller & Söhne GmbH"),
        ("ort", "Lindau (Bodensee)"),
        ("land", "Deutschland"),
        ("email", "juergen@example.com"),
        ("kundennummer", "1231456"),
        ("kundengruppe", "Endkunde"),
        ("letzte_bestellung", "08.03.2026"),
        ("letzte_bestellung_tage", "260"),
        ("letzte_warengruppe", "Obst & Gemüse"),
        ("gutschein", "SOMMER-7K2M"),
    ];
    assert_eq!(values.for_templates(), BTreeMap::from(expected));
    assert_eq!(values.for_mailjet(), BTreeMap::from(expected));
    for (variable, name) in Variable::NAMES {
        assert_eq!(
            (variable.name(), Variable::parse(name)),
            (name, Some(variable))
        );
        assert!(!values.get(variable).is_empty());
    }
}

#[test]
fn what_is_not_known_is_empty_and_not_sent_to_mailjet() {
    let values = Values::new(&Facts::default(), today());
    assert_eq!(values.for_templates().len(), 13);
    assert!(
        values
            .for_templates()
            .values()
            .all(|value| value.is_empty())
    );
    assert!(values.for_mailjet().is_empty());
    let half = Facts {
        first_name: " ",
        last_name: "Müller\r\nBcc: x",
        last_order: today().succ_opt(),
        ..Facts::default()
    };
    let values = Values::new(&half, today());
    assert_eq!(values.get(Variable::Name), "Müller Bcc: x");
    assert_eq!(values.get(Variable::Vorname), "");
    assert_eq!(values.get(Variable::LetzteBestellung), "24.11.2026");
    assert_eq!(values.get(Variable::LetzteBestellungTage), "");
    let on_the_day = Facts {
        last_order: Some(today()),
        ..Facts::default()
    };
    let values = Values::new(&on_the_day, today());
    assert_eq!(values.get(Variable::LetzteBestellungTage), "0");
}

fn text(source: &str, markup: Markup) -> String {
    translate(source, markup, MailTemplate::Voucher)
        .unwrap()
        .text
}

#[test]
fn mailjets_syntax_becomes_ours() {
    let cases = [
        (
            r#"Hallo {{var:vorname:"Kunde"}}!"#,
            r#"Hallo {{ vorname|default("Kunde", true) }}!"#,
        ),
        (r#"{{var:ort:""}}"#, "{{ ort }}"),
        ("{{var:ort:””}}", "{{ ort }}"),
        ("{{var:ort:„Köln“}}", r#"{{ ort|default("Köln", true) }}"#),
        ("{{var:ort:“Köln”}}", r#"{{ ort|default("Köln", true) }}"#),
        ("{{var:ort}}", "{{ ort }}"),
        (
            "{{ var : ort : \"Ulm\" }}",
            r#"{{ ort|default("Ulm", true) }}"#,
        ),
        (
            r#"{{var:name:"die \"Gute\" \\"}}"#,
            r#"{{ name|default("die \"Gute\" \\", true) }}"#,
        ),
        (
            r#"{{var:name:"a}}b{{c"}}"#,
            r#"{{ name|default("a}}b{{c", true) }}"#,
        ),
        (
            r#"{{var:name:"x"}}{{var:land:"y"}}"#,
            r#"{{ name|default("x", true) }}{{ land|default("y", true) }}"#,
        ),
        // What is ours, or nobody's, stays.
        (
            "{{ vorname|default('Kunde', true) }}",
            "{{ vorname|default('Kunde', true) }}",
        ),
        (
            "{% if ort %}{{ variant }}{% endif %}",
            "{% if ort %}{{ variant }}{% endif %}",
        ),
        ("Preis {1,00} var:name", "Preis {1,00} var:name"),
        ("", ""),
    ];
    for (source, expected) in cases {
        assert_eq!(text(source, Markup::Text), expected);
        assert_eq!(text(source, Markup::Html), expected);
    }
    let all: String = Variable::NAMES
        .iter()
        .map(|(_, name)| format!("{{{{var:{name}:\"?\"}}}}"))
        .collect();
    assert_eq!(
        translate(&all, Markup::Text, MailTemplate::Voucher)
            .unwrap()
            .variables
            .len(),
        13
    );
}

/// In HTML the fallback is written as HTML, and escaped again when it is printed.
#[test]
fn entities_are_read_in_html_alone() {
    let source = r#"{{var:firmenname:"Müller &amp; Co"}}"#;
    assert!(text(source, Markup::Html).contains("(\"Müller & Co\""));
    assert!(text(source, Markup::Text).contains("(\"Müller &amp; Co\""));
    let quoted = "{{var:ort:&quot;am &amp;quot; See&quot;}}";
    assert!(text(quoted, Markup::Html).contains("(\"am &quot; See\""));
    assert_eq!(
        translate(quoted, Markup::Text, MailTemplate::Voucher)
            .unwrap_err()
            .len(),
        1
    );
}

#[test]
fn the_code_of_a_voucher_is_in_its_template_alone() {
    let source = "{{var:gutschein:\"\"}}";
    assert!(translate(source, Markup::Text, MailTemplate::Voucher).is_ok());
    let errors = translate(source, Markup::Text, MailTemplate::Standard).unwrap_err();
    assert!(
        errors[0]
            .message
            .starts_with("unknown variable `gutschein`")
    );
    assert_eq!(Variable::of(MailTemplate::Standard).count(), 12);
    assert_eq!(Variable::of(MailTemplate::Voucher).count(), 13);
}

fn places(source: &str) -> Vec<(u32, u32)> {
    let errors = translate(source, Markup::Text, MailTemplate::Voucher).unwrap_err();
    errors.iter().map(|e| (e.line, e.column)).collect()
}

#[test]
fn all_errors_are_told_with_their_places() {
    let source = "Grüße, {{var:vornahme:\"Kunde\"}}\n{{var:ort:\"x\"}} äö {{var:plz}}\n";
    let errors = translate(source, Markup::Text, MailTemplate::Voucher).unwrap_err();
    assert_eq!(places(source), [(1, 14), (2, 26)]);
    assert!(errors[0].message.contains("unknown variable `vornahme`"));
    assert!(errors[0].message.contains("letzte_warengruppe"));
    assert!(errors[0].to_string().starts_with("1:14: "));
    assert_eq!(places("{{var:ort:\"x}}"), [(1, 11)], "no end");
    assert_eq!(places("{{var:ort:x}}"), [(1, 11)], "no quotes");
    assert_eq!(places("{{var:ort:\"x\"}"), [(1, 14)], "one brace");
    assert_eq!(places("{{var:ort \"x\"}}"), [(1, 11)], "no colon");
    assert_eq!(places("{{var:Ort:\"x\"}}"), [(1, 7)], "names are small");
    assert_eq!(places("{{var:"), [(1, 7)], "nothing");
    assert_eq!(
        places("{{var:ort:\"x\\"),
        [(1, 11)],
        "a backslash at the end"
    );
    let long = format!("{{{{var:ort:\"{}\"}}}}", "ä".repeat(MOST_FALLBACK + 1));
    assert_eq!(places(&long), [(1, 7)]);
}

/// What the engine finds wrong in the translation is shown where the author wrote it.
#[test]
fn places_lead_back_to_the_source() {
    let source = "ä\n{{var:ort:\"Ulm\"}} x {{var:land}} {{ wrong }}\nlast";
    let translation = translate(source, Markup::Text, MailTemplate::Voucher).unwrap();
    for (found, written) in [
        ("wrong", "wrong"),
        (" x ", " x "),
        ("last", "last"),
        ("ort|", "{{var:ort"),
    ] {
        let at = |text: &str, part: &str| {
            let before = &text[..text.find(part).unwrap()];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            (u32::try_from(line).unwrap(), u32::try_from(column).unwrap())
        };
        let (line, column) = at(&translation.text, found);
        assert_eq!(
            translation.in_source(source, line, column),
            at(source, written),
            "{found}"
        );
    }
    assert_eq!(translation.in_source(source, 99, 1), (3, 5));
}

#[test]
fn the_leading_group_is_that_of_the_greatest_share() {
    let d = |text: &str| text.parse::<Decimal>().unwrap();
    let lines = [
        ("Obst", d("5")),
        ("Gemüse", d("7")),
        ("Obst", d("3")),
        ("", d("99")),
    ];
    assert_eq!(leading_group(lines), Some("Obst"));
    assert_eq!(leading_group([("B", d("2")), ("A", d("2"))]), Some("A"));
    assert_eq!(leading_group([("A", d("-2")), ("", d("4"))]), None);
    assert_eq!(leading_group([]), None);
}

#[test]
fn dates_and_amounts_are_german() {
    assert_eq!(german_date(today()), "23.11.2026");
    let cases = [
        ("1234.56", "1.234,56 €"),
        ("0", "0,00 €"),
        ("999.995", "1.000,00 €"),
        ("-1234567.005", "-1.234.567,01 €"),
        ("-0.001", "0,00 €"),
        ("12.3", "12,30 €"),
    ];
    for (amount, expected) in cases {
        assert_eq!(german_euros(amount.parse().unwrap()), expected);
    }
}

proptest! {
    /// Any text is either translated or refused within its bounds, and what has no variable stays.
    #[test]
    fn nothing_is_too_odd(source in r#"(\{\{|var|:|ort|"|“|\}\}|\\|&quot;| |ä|\n|.){0,40}"#) {
        for markup in [Markup::Text, Markup::Html] {
            match translate(&source, markup, MailTemplate::Voucher) {
                Ok(translation) if translation.variables.is_empty() => {
                    prop_assert_eq!(translation.text, source.clone());
                }
                // A fallback may be a text that looks like a variable.
                Ok(translation) if translation.text.contains("var") => {}
                Ok(translation) => {
                    let again = translate(&translation.text, markup, MailTemplate::Voucher).unwrap();
                    prop_assert_eq!(again.text, translation.text);
                }
                Err(errors) => {
                    let lines = source.split('\n').count() as u32;
                    prop_assert!(errors.iter().all(|e| e.line >= 1 && e.line <= lines && e.column >= 1));
                }
            }
        }
    }

    /// Whatever stands in quotes comes out of the literal again.
    #[test]
    fn fallbacks_keep_every_character(fallback in "[^\\x00-\\x1f]{1,30}") {
        let quoted = fallback.replace('\\', "\\\\").replace('"', "\\\"");
        let source = format!("{{{{var:name:\"{quoted}\"}}}}");
        let text = translate(&source, Markup::Text, MailTemplate::Voucher).unwrap().text;
        prop_assert_eq!(text, format!("{{{{ name|default(\"{quoted}\", true) }}}}"));
    }
}
