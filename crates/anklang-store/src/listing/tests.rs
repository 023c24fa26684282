use super::*;

static THINGS: Listable = Listable {
    fields: &[
        Field::column("name", Kind::Text),
        Field::nullable("size", Kind::Number, "size"),
        Field::column("state", Kind::Word("THING_STATE_", &["open", "shut"])),
        Field::column("fine", Kind::Flag),
        Field::nullable("day", Kind::Date, "day"),
        Field::nullable("made", Kind::Time, "made_at"),
        Field::resource(
            "phase",
            &[
                Part::new("campaigns", "campaign_id", PartType::Uuid),
                Part::new("phases", "phase", PartType::Integer),
            ],
        ),
        Field::resource(
            "brand",
            &[Part::new("brands", "brand_code", PartType::Text)],
        ),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

fn found(filter: &str, order_by: &str) -> Vec<(String, String)> {
    let mut violations = Violations::new();
    let _ = THINGS.read(filter, order_by, 10, &mut violations);
    violations
        .into_vec()
        .into_iter()
        .map(|v| (v.field, v.reason))
        .collect()
}

fn sql(filter: &str, order_by: &str, after: Option<Key>) -> String {
    let mut violations = Violations::new();
    let mut list = THINGS.read(filter, order_by, 10, &mut violations);
    assert!(violations.is_empty(), "{violations}");
    if let Some(key) = after {
        assert!(list.after(key));
    }
    format!("{:?}", compile::page(&list, Statement::new("SELECT"), None))
}

#[test]
fn values_are_of_the_type_of_their_field() {
    for right in [
        "name = \"\" AND name:x AND name < b AND name:*",
        "size >= -2.5 AND size:*",
        "state = OPEN OR state != THING_STATE_SHUT OR state = \"OPEN\"",
        "fine = true AND fine != false",
        "day = 2026-01-31 OR day > \"2026-02-01\"",
        "made < 2026-01-31T12:00:00+01:00",
        "phase = campaigns/01930000-0000-7000-8000-000000000001/phases/2",
    ] {
        assert_eq!(found(right, ""), [], "{right}");
    }
    for (wrong, reason) in [
        ("size = x", "size must be a number"),
        ("size = \"1\"", "size must be a number"),
        ("size = 1_000", "size must be a number"),
        ("size:1", "size is no text; size:* asks"),
        ("state = open", "state must be one of OPEN, SHUT"),
        ("state < OPEN", "state compares with = and != alone"),
        ("fine = 1", "fine must be true or false"),
        ("day = 2026-02-30", "day must be a date"),
        ("day = 99999-01-01", "day must be a date"),
        ("made = 2026-01-31", "made must be a point in time"),
        (
            "phase = phases/1",
            "must have the form campaigns/{campaign}/phases/{phase}",
        ),
        (
            "phase = campaigns/1/phases/1",
            "the id after campaigns/ must be a UUID",
        ),
        ("name = \"a\0b\"", "name must be text without NUL"),
        (
            "colour = red",
            "colour is no field of this list; known are name, size, state, fine",
        ),
        ("id = x", "id is no field"),
    ] {
        let found = found(wrong, "");
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        assert_eq!(found[0].0, "filter");
        assert!(found[0].1.contains(reason), "{wrong}: {found:?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let found = found(
        "size = x AND (fine = 2 OR NOT colour = 1)",
        "phase, colour desc, name",
    );
    let told: Vec<(&str, &str)> = found
        .iter()
        .map(|(field, reason)| (&field[..], &reason[..20]))
        .collect();
    assert_eq!(
        told,
        [
            ("filter", "at character 8: size"),
            ("filter", "at character 22: fin"),
            ("filter", "at character 31: col"),
            ("order_by", "at character 1: ther"),
            ("order_by", "at character 8: colo"),
        ]
    );
}

#[test]
fn orders_end_in_the_key() {
    let order = |order_by| {
        let sql = sql("", order_by, None);
        let start = sql.find(" ORDER BY ").expect("an order");
        sql[start..].to_owned()
    };
    assert_eq!(order(""), " ORDER BY r.id DESC LIMIT $1");
    assert_eq!(order("name"), " ORDER BY r.name, r.id LIMIT $1");
    assert_eq!(
        order("name, size desc"),
        " ORDER BY r.name, r.size DESC, r.id DESC LIMIT $1"
    );
    assert_eq!(
        order("brand desc"),
        " ORDER BY r.brand_code DESC, r.id DESC LIMIT $1"
    );
}

#[test]
fn what_few_customers_have_is_found_by_them() {
    let list = THINGS.all(10);
    let of = |seen| format!("{:?}", compile::page(&list, Statement::new("SELECT"), seen));
    let tenant = anklang_domain::TenantId::new();
    let found = of(Some(tenant));
    assert!(
        found.contains("r.customer_id = ANY(ARRAY(SELECT"),
        "{found}"
    );
    assert!(!of(None).contains("customer"), "{}", of(None));
}

#[test]
fn an_order_that_is_spelled_out_is_that_of_the_key() {
    static NUMBERED: Listable = Listable {
        fields: &[
            Field::column("number", Kind::Text),
            Field::column("line", Kind::Number),
            Field::column("name", Kind::Text),
        ],
        key: &[
            Sort::key("number", "::text", false),
            Sort::key("line", "::numeric", false),
        ],
    };
    let is_so = |order_by| {
        let list = NUMBERED.read("", order_by, 10, &mut Violations::new());
        list.in_key_order
    };
    for order_by in ["", " ", "number", "number, line", "number desc"] {
        assert!(is_so(order_by), "{order_by}");
    }
    for order_by in ["line", "number, line desc", "number, name", "name"] {
        assert!(!is_so(order_by), "{order_by}");
    }
}

#[test]
fn keys_of_other_orders_do_not_fit() {
    let mut list = THINGS.read("", "size", 10, &mut Violations::new());
    assert!(!list.after(vec![Some("1".into())]));
    assert!(!list.after(vec![Some("1".into()), None]));
    assert!(list.after(vec![None, Some("1".into())]));
}

#[test]
fn one_way_goes_on_by_rows_and_others_by_columns() {
    let some = |text: &str| Some(text.to_owned());
    let by_rows = sql("", "name desc", Some(vec![some("a"), some("b")]));
    assert!(
        by_rows.contains("(r.name, r.id) < ($1::text, $2::uuid)"),
        "{by_rows}"
    );
    let mixed = sql(
        "",
        "size, name desc",
        Some(vec![some("1"), some("a"), some("b")]),
    );
    assert!(
        mixed.contains(
            "(r.size > $1::numeric OR r.size IS NULL OR (r.size = $2::numeric AND \
             (r.name < $3::text OR (r.name = $4::text AND (r.id < $5::uuid)))))"
        ),
        "{mixed}"
    );
}
