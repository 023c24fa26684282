//! What a tenant may set.

use crate::winback::*;

fn fields(settings: &Settings) -> Vec<String> {
    let violations = settings.violations();
    violations.iter().map(|v| v.field.clone()).collect()
}

#[test]
fn what_holds_by_default_is_sound_and_survives_storing() {
    let settings = Settings::default();
    assert_eq!(fields(&settings), [""; 0]);
    let stored = serde_json::to_value(&settings).unwrap();
    assert_eq!(
        serde_json::from_value::<Settings>(stored).unwrap(),
        settings
    );
}

#[test]
fn all_that_is_wrong_is_told() {
    let mut settings = Settings {
        currency: "EURO".into(),
        reminder_days: 0,
        win_window_days: 3_661,
        rest_days: 3_661,
        control_percent: f64::NAN,
        links: Links {
            customer: "http://shop.example/{number}".into(),
            product: "https://shop.example/".into(),
            order: "https://shop.example/{number}/{number}".into(),
        },
        offer_mail_to: "angebote".into(),
        ..Settings::default()
    };
    settings.detection.least_orders = 0;
    let all = [
        "least_orders",
        "currency",
        "reminder_days",
        "win_window_days",
        "rest_days",
        "control_percent",
        "links.customer",
        "links.product",
        "links.order",
        "offer_mail_to",
    ];
    assert_eq!(fields(&settings), all);
}

#[test]
fn links_are_addresses_with_one_number() {
    let with = |link: &str| {
        let links = Links {
            order: link.into(),
            ..Links::default()
        };
        let settings = Settings {
            links,
            ..Settings::default()
        };
        fields(&settings).is_empty()
    };
    for good in [
        "",
        "https://shop.example/{number}",
        "https://shop.example:8443/k?id={number}#oben",
        "https://bücher.example/{number}.html",
    ] {
        assert!(with(good), "{good}");
    }
    for bad in [
        "javascript:alert({number})",
        "https:///{number}",
        "https://{number}",
        "https://a b/{number}",
        "https://user@shop.example/{number}",
        "https://shop.example/{name}/{number}",
        "https://shop.example/\"{number}",
        "https://shop.example/number",
    ] {
        assert!(!with(bad), "{bad}");
    }
}
