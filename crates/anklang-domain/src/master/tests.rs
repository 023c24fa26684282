use proptest::prelude::*;

use super::*;
use crate::TenantId;

/// Reads a row out of pairs.
fn row<R: Row>(pairs: &[(&str, &str)]) -> Result<R, Vec<(String, String)>> {
    R::parse(&|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)).map_err(|v| {
        v.into_vec()
            .into_iter()
            .map(|v| (v.field, v.reason))
            .collect()
    })
}

fn fields<R: Row>(pairs: &[(&str, &str)]) -> Vec<String> {
    row::<R>(pairs)
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|(field, _)| field)
        .collect()
}

#[test]
fn all_that_is_wrong_with_a_row_is_said_at_once() {
    let bad = [
        ("number", ""),
        ("kind", "human"),
        ("birth_date", "31.12.1980"),
        ("time_zone", "Europe/Giessen"),
        ("language", "deutsch"),
        ("country", "Germany"),
        ("city", "Gie\nßen"),
    ];
    let mut found = fields::<CustomerRow>(&bad);
    found.sort();
    assert_eq!(
        found,
        [
            "birth_date",
            "city",
            "country",
            "kind",
            "language",
            "number",
            "time_zone"
        ]
    );
    assert_eq!(
        fields::<CustomerRow>(&[("number", "1"), ("kind", "company"), ("last_name", "X")]),
        ["company_name"]
    );
}

#[test]
fn values_are_trimmed_and_defaults_stand_in() {
    let customer: CustomerRow = row(&[
        ("number", " 4711 "),
        ("kind", "person"),
        ("last_name", "Müller"),
    ])
    .expect("a good row");
    assert_eq!(customer.number, "4711");
    assert_eq!((&*customer.language, &*customer.country), ("de", "DE"));
}

#[test]
fn decimals_have_a_dot_and_bounds() {
    let quantity = |text| {
        row::<ContractRow>(&[
            ("number", "1"),
            ("customer_number", "1"),
            ("brand_code", "1"),
            ("division", "gas"),
            ("annual_quantity_kwh", text),
        ])
        .map(|row| row.annual_quantity_kwh.map(|q| q.to_string()))
        .map_err(|v| v[0].1.clone())
    };
    assert_eq!(quantity("3200.50"), Ok(Some("3200.5".into())));
    assert_eq!(quantity("0"), Ok(Some("0".into())));
    assert_eq!(quantity(""), Ok(None));
    assert_eq!(
        quantity("999999999.99900000000000000000000000000"),
        Ok(Some("999999999.999".into()))
    );
    assert!(quantity("1.234,5").is_err_and(|why| why.contains("with a dot")));
    for bad in ["-1", "1e3", "1000000000", "0.0001", ".5", "5.", "NaN", "٣"] {
        assert!(quantity(bad).is_err(), "{bad}");
    }
}

#[test]
fn product_versions_and_contracts_agree_with_themselves() {
    let version = [
        ("product_number", "P"),
        ("code", "1"),
        ("name", "x"),
        ("valid_from", "2026-02-01"),
        ("valid_to", "2026-01-31"),
        ("base_price_per_year", "-1"),
        ("unit_price_per_kwh", "0.1234567"),
        ("currency", "EURO"),
    ];
    let mut found = fields::<ProductVersionRow>(&version);
    found.dedup();
    assert_eq!(
        found,
        [
            "base_price_per_year",
            "unit_price_per_kwh",
            "currency",
            "valid_to"
        ]
    );
    let contract = [
        ("number", "1"),
        ("customer_number", "1"),
        ("brand_code", "1"),
        ("division", "Gas"),
        ("product_number", "P"),
        ("start_date", "2026-02-30"),
    ];
    assert_eq!(
        fields::<ContractRow>(&contract),
        ["division", "start_date", "product_version_code"]
    );
}

#[test]
fn contracts_do_not_end_before_they_start() {
    let ends = |end| {
        fields::<ContractRow>(&[
            ("number", "1"),
            ("customer_number", "1"),
            ("brand_code", "1"),
            ("division", "gas"),
            ("start_date", "2026-02-01"),
            ("end_date", end),
        ])
    };
    assert_eq!(ends("2026-01-31"), ["end_date"]);
    assert!(ends("2026-02-01").is_empty());
}

#[test]
fn dates_have_one_form() {
    let read = |text: &str| Fields::new(&|_| Some(text)).date("d").is_some();
    assert!(read("2028-02-29") && read(" 2026-12-31 "));
    for bad in [
        "2026-1-5",
        "26-01-05",
        "2026-02-29",
        "31.12.2026",
        "20260105",
        "0000-01-01",
    ] {
        assert!(!read(bad), "{bad}");
    }
}

#[test]
fn attributes_are_read_by_their_type() {
    let value = |kind, value| {
        row::<AttributeRow>(&[
            ("entity", "customer"),
            ("number", "1"),
            ("key", "k"),
            ("type", kind),
            ("value", value),
        ])
        .map(|row| row.value)
        .map_err(|v| v[0].0.clone())
    };
    assert_eq!(value("bool", "true"), Ok(AttributeValue::Flag(true)));
    assert_eq!(value("flag", "0"), Ok(AttributeValue::Flag(false)));
    assert_eq!(value("text", ""), Ok(AttributeValue::Text(String::new())));
    for (kind, bad) in [
        ("flag", "ja"),
        ("number", ""),
        ("date", "1.1.2026"),
        ("number", "1,5"),
    ] {
        assert_eq!(value(kind, bad), Err("value".into()), "{kind} {bad}");
    }
    assert_eq!(value("json", "{}"), Err("type".into()));
}

#[test]
fn mail_addresses_have_one_form() {
    for (text, normal) in [
        ("Erika.Muster@Example.DE", "Erika.Muster@example.de"),
        (" info@bäcker-müller.de ", "info@xn--bcker-mller-l8a23a.de"),
        ("o'neill+x@sub.example.com", "o'neill+x@sub.example.com"),
    ] {
        assert_eq!(contact::mail(text).as_deref(), Ok(normal), "{text}");
    }
    let long = format!("a@{}.de", "b".repeat(260));
    for bad in [
        "",
        "a",
        "@b.de",
        "a@",
        "a@b",
        "a b@c.de",
        "ä@b.de",
        "a@[127.0.0.1]",
        "a@b@c.de",
        "A <a@b.de>",
        "a@b.de\nBcc: x@y.de",
        &long,
    ] {
        assert!(contact::mail(bad).is_err(), "{bad}");
    }
}

#[test]
fn phone_numbers_have_one_form() {
    for (text, country, normal) in [
        ("0641 / 123-456", "DE", "+49641123456"),
        ("+49 (0)641 123456", "DE", "+49641123456"),
        ("+49 641 123456", "AT", "+49641123456"),
        // Numbers of Italy keep their 0.
        ("+39 (0)6 69812345", "DE", "+390669812345"),
        ("06 69812345", "IT", "+390669812345"),
        ("0049 641 123456", "DE", "+49641123456"),
        ("(0641) 123456", "DE", "+49641123456"),
        // Reserved for fiction by the Bundesnetzagentur.
        ("+49 171 39200 00", "DE", "+491713920000"),
        ("0171 39200 00", "DE", "+491713920000"),
        ("030 23125 000", "DE", "+493023125000"),
        ("030-0074321", "DE", "+49300074321"),
        ("(5) 555-4729", "MX", "+5255554729"),
        ("(171) 555-7788", "GB", "+441715557788"),
    ] {
        assert_eq!(
            contact::phone(text, country).as_deref(),
            Ok(normal),
            "{text} {country}"
        );
    }
    for bad in [
        "",
        "110",
        "abc",
        "+",
        "+++",
        "0800-AUTO",
        "+49 1234567890123456",
        "12 34",
    ] {
        assert!(contact::phone(bad, "DE").is_err(), "{bad}");
    }
}

#[test]
fn a_hash_belongs_to_tenant_channel_and_address() {
    let (a, b) = (TenantId::new(), TenantId::new());
    let hash = contact::address_hash(a, "mail", "x@y.de");
    assert_eq!(hash, contact::address_hash(a, "mail", "x@y.de"));
    assert_ne!(hash, contact::address_hash(b, "mail", "x@y.de"));
    assert_ne!(hash, contact::address_hash(a, "mai", "lx@y.de"));
}

#[test]
fn keys_do_not_run_together() {
    assert_ne!(key_of(&["a", "bc"]), key_of(&["ab", "c"]));
}

proptest! {
    /// Whatever stands in the fields, a row is read or refused, and no reason is without a field
    /// of that entity.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}|[0-9+()/ .-]{0,30}|.{0,20}") {
        macro_rules! try_all { ($($row:ty),+) => {$(
            if let Err(violations) = <$row>::parse(&|_| Some(text.as_str())) {
                for violation in violations.iter() {
                    prop_assert!(
                        <$row>::ENTITY.required_columns().contains(&&*violation.field)
                            || <$row>::ENTITY.optional_columns().contains(&&*violation.field),
                        "{}", violation.field
                    );
                }
            }
        )+} }
        try_all!(
            BrandRow, ProductRow, ProductVersionRow, CustomerRow, ContactPointRow, ConsentRow,
            SuppressionRow, ContractRow, ContractItemRow, OrderRow, OrderLineRow, AttributeRow,
            PlanEntryRow, InactivePeriodRow, VoucherRow
        );
        for channel in ["mail", "phone", "matrix"] {
            let _ = contact::normalise(channel, &text, "DE");
        }
    }

    /// Normalising what is normal changes nothing.
    #[test]
    fn normal_forms_are_stable(
        local in "[a-z0-9.]{1,12}", domain in "[a-zäöü]{1,12}", digits in "[0-9 /()-]{3,16}",
    ) {
        if let Ok(mail) = contact::mail(&format!("{local}@{domain}.de")) {
            prop_assert_eq!(contact::mail(&mail), Ok(mail.clone()));
        }
        if let Ok(phone) = contact::phone(&digits, "DE") {
            prop_assert!(phone.starts_with('+'));
            prop_assert_eq!(contact::phone(&phone, "US"), Ok(phone.clone()));
        }
    }

    #[test]
    fn dates_read_as_they_are_written(days in 0..3_652_000i32) {
        let date = chrono::NaiveDate::from_num_days_from_ce_opt(days + 1).expect("a date");
        let text = date.to_string();
        let read = Fields::new(&|_| Some(text.as_str())).date("d");
        prop_assert_eq!(read, Some(date));
    }
}
