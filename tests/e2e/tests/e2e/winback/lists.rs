//! Lists of cases: by every column, and by what they show.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1::{self as pb, WinbackTile as Tile};
use anklang_testkit::{Client, TestServer};

use super::cases::listed;
use super::desk::{open, open_in, shop, sql};

/// The fields of the list, with what a naive list would order by; over the case `k`, its customer `c`,
/// its newest order `o` with brand `b`, and `g`, the leading group.
const FIELDS: [(&str, &str); 38] = [
    ("customer", "c.number"),
    (
        "customer_name",
        "coalesce(nullif(c.company_name, ''), c.first_name || ' ' || c.last_name)",
    ),
    ("customer_group", "c.customer_group"),
    ("state", "k.state"),
    ("open_date", "k.opened_on"),
    ("due_date", "k.due_on"),
    ("standard_mail_date", "k.standard_on"),
    ("voucher_mail_date", "k.voucher_on"),
    ("contact_date", "k.contacted_on"),
    ("no_interest_reason", "k.no_interest"),
    ("close_date", "k.closed_on"),
    (
        "held_by",
        "CASE WHEN k.held_until > now() THEN k.held_by END",
    ),
    (
        "hold_expire_time",
        "CASE WHEN k.held_until > now() THEN k.held_until END",
    ),
    ("revenue_then", "k.revenue_then"),
    ("revenue_now", "k.revenue_now"),
    ("known_days", "k.known_days"),
    ("season", "k.season"),
    ("expected_revenue", "k.expected"),
    ("actual_revenue", "k.actual"),
    ("revenue_drop", "k.drop_amount"),
    ("drop_percent", "k.drop_percent"),
    ("last_order_date", "k.last_order"),
    ("lost_group_share", "k.lost_share"),
    ("alive", "k.alive"),
    ("expected_purchases", "k.purchases"),
    ("order_value", "k.order_value"),
    ("at_stake", "k.at_stake"),
    ("currency_code", "k.currency"),
    ("last_order", "o.number"),
    ("last_order_brand", "b.code"),
    ("last_order_group", "coalesce(g.product_group, '')"),
    ("won_order", "w.number"),
    ("won_after_contact", "k.won_contacted"),
    ("won_revenue", "k.won_revenue"),
    ("offer", "NULL::text"),
    ("create_time", "k.created_at"),
    ("update_time", "k.updated_at"),
    ("control_until_date", "NULL::date"),
];

/// Sixty cases of customers with few different values, closed ones and the newest.
async fn many(server: &TestServer, client: &Client) {
    let mut customers = "number,kind,first_name,last_name,company_name,customer_group\n".to_owned();
    let mut orders = "number,customer_number,brand_code,ordered_at,currency\n".to_owned();
    let mut lines =
        "order_number,line,product_number,product_group,quantity,unit_price\n".to_owned();
    for i in 0..60 {
        let company = if i % 7 == 0 {
            format!("Firma{}", i % 14)
        } else {
            String::new()
        };
        let kind = if company.is_empty() {
            "person"
        } else {
            "company"
        };
        let (name, group) = (i % 5, i % 3);
        customers += &format!("M{i:02},{kind},Vera,Viel{name},{company},G{group}\n");
        // Of some the newest does not count: another currency, or no order at all.
        for (n, currency) in [(1, "EUR"), (2, if i % 11 == 0 { "CHF" } else { "EUR" })] {
            if i % 10 == 9 {
                continue;
            }
            let brand = ["garten", "markt", ""][(i + n) % 3];
            orders += &format!("M{i:02}-{n},M{i:02},{brand},2025-0{n}-01T10:00:00Z,{currency}\n");
            lines += &format!(
                "M{i:02}-{n},1,P,Korb,1,5\nM{i:02}-{n},2,P,Obst,1,{}\nM{i:02}-{n},3,P,,1,99\n",
                [-5, 0, 5, 10][i % 4],
            );
        }
    }
    for (entity, csv) in [
        (ImportEntity::Customers, customers),
        (ImportEntity::Orders, orders),
        (ImportEntity::OrderLines, lines),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, [], "{entity:?}");
    }
    let make = "
        INSERT INTO winback_case (tenant_id, id, customer_id, state, opened_on, opened_by, seen_by,
            due_on, standard_on, voucher_on, contacted_on, no_interest, closed_on, held_by,
            held_until, claim_id, revenue_then, revenue_now, known_days, season, expected, actual,
            drop_amount, drop_percent, last_order, lost_share, alive, purchases, order_value,
            at_stake, currency, won_order_id, won_contacted, won_revenue, created_at, updated_at)
        SELECT c.tenant_id, gen_random_uuid(), c.id, s.state, date '2026-01-01' + n % 4, c.id, c.id,
               CASE s.state WHEN 'reminder' THEN current_date + n / 6 % 3 * 2 - 2 END,
               CASE n % 3 WHEN 0 THEN date '2026-02-01' + n % 5 END,
               CASE n % 4 WHEN 0 THEN date '2026-03-01' + n % 2 END,
               CASE n % 2 WHEN 0 THEN date '2026-04-01' + n % 6 END,
               CASE s.state WHEN 'no_interest' THEN (ARRAY['price', 'gone'])[1 + n % 2] END,
               CASE WHEN s.state IN ('no_interest', 'won_back') THEN date '2026-05-01' + n % 3 END,
               h.by, h.until, h.claim,
               n % 6 * 10, n % 5 - 2, n % 4, 1 + n % 3 * 0.5, n % 8, n % 9 - 4, 1 + n % 7, n % 10,
               date '2026-01-01' + n % 12, n % 3 / 2.0::float8, m.alive, m.alive * 3, 10 / (1 + n % 3)::float8,
               CASE n % 6 WHEN 0 THEN NULL ELSE n % 13 * 1.25 END,
               (ARRAY['EUR', 'CHF'])[1 + n / 50],
               CASE s.state WHEN 'won_back' THEN (SELECT id FROM sales_order o
                    WHERE o.customer_id = c.id ORDER BY number LIMIT 1) END,
               CASE s.state WHEN 'won_back' THEN n % 4 < 2 END,
               CASE s.state WHEN 'won_back' THEN n % 5 END,
               now() - make_interval(hours => n % 5), now() - make_interval(hours => n % 3)
        FROM (SELECT *, substr(number, 2)::int AS n FROM customer WHERE number LIKE 'M%') c
        CROSS JOIN LATERAL (SELECT (ARRAY['declining', 'reminder', 'offer_requested', 'mailed',
            'no_interest', 'won_back'])[1 + n % 6] AS state) s
        CROSS JOIN LATERAL (SELECT CASE n % 5 WHEN 0 THEN NULL ELSE 1 / (1 + n % 7)::float8 END AS alive) m
        LEFT JOIN LATERAL (SELECT 'users/u' || n % 3 AS by,
                   now() + make_interval(hours => CASE n % 2 WHEN 0 THEN -1 ELSE n % 4 END) AS until,
                   gen_random_uuid() AS claim
            WHERE s.state IN ('declining', 'mailed') AND n % 3 > 0) h ON true";
    sql(server, make).await;
}

#[tokio::test]
async fn pages_by_every_column_are_the_whole_list_sorted() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    many(&server, &client).await;

    // All fields that are documented.
    let proto = include_str!("../../../../../proto/anklang/winback/v1/cases.proto");
    let request = proto
        .split("message ListWinbackCasesRequest")
        .nth(1)
        .unwrap();
    let fields = request.split("Fields: ").nth(1).unwrap();
    let fields = fields.split('.').next().unwrap().replace("//", "");
    let fields: Vec<&str> = fields.split(',').map(str::trim).collect();
    assert_eq!(fields, FIELDS.map(|(field, _)| field));

    let database = server.database.connect().await.unwrap();
    let naive = async |order: &str, only: &str| -> Vec<String> {
        let sql = format!(
            "SELECT 'winbackCases/' || k.id FROM winback_case k
             JOIN customer c ON c.id = k.customer_id
             LEFT JOIN LATERAL (SELECT * FROM sales_order o WHERE o.customer_id = k.customer_id
                   AND 0 <= coalesce((SELECT sum(quantity * unit_price) FROM order_line l
                                      WHERE l.order_id = o.id), 0)
                 ORDER BY ordered_at DESC, id DESC LIMIT 1) o ON true
             LEFT JOIN brand b ON b.id = o.brand_id
             LEFT JOIN sales_order w ON w.id = k.won_order_id
             LEFT JOIN LATERAL (SELECT product_group, sum(quantity * unit_price) AS sum
                 FROM order_line l WHERE l.order_id = o.id AND product_group <> ''
                 GROUP BY product_group ORDER BY 2 DESC, 1 LIMIT 1) g ON g.sum > 0
             WHERE {only} ORDER BY {order}"
        );
        let rows = database.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let paged = async |tile: Tile, order_by: &str| -> Vec<String> {
        let mut request = pb::ListWinbackCasesRequest {
            tile: tile.into(),
            order_by: order_by.into(),
            page_size: 7,
            ..Default::default()
        };
        let mut names = Vec::new();
        loop {
            let page = client
                .winback_cases()
                .list_winback_cases(request.clone())
                .await;
            let page = page.unwrap().into_inner();
            names.extend(page.winback_cases.into_iter().map(|case| case.name));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return names;
            }
        }
    };
    let stake = "coalesce(k.at_stake, -1)";
    for (field, sql) in FIELDS {
        for way in ["", " desc"] {
            let order = format!("{sql}{way}, {stake}{way}, k.id{way}");
            let wanted = naive(&order, "TRUE").await;
            assert_eq!(wanted.len(), 60);
            let found = paged(Tile::Unspecified, &format!("{field}{way}")).await;
            assert_eq!(found, wanted, "{field}{way}");
        }
    }
    let order = format!("{stake} DESC, k.id DESC");
    let found = paged(Tile::Declining, "").await;
    assert_eq!(found, naive(&order, "k.state = 'declining'").await);
    let due = "k.state = 'reminder' AND k.due_on <= (now() AT TIME ZONE 'Europe/Berlin')::date";
    let found = paged(Tile::ReminderDue, "last_order_group, alive desc").await;
    let order = format!("coalesce(g.product_group, ''), k.alive DESC, {order}");
    assert_eq!(found, naive(&order, due).await);
    assert!((1..10).contains(&found.len()), "{found:?}");
}

#[tokio::test]
async fn cases_are_filtered_by_what_they_show() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let held = [
        ("held_by", "'users/anna'"),
        ("held_until", "now() + interval '1 hour'"),
        ("claim_id", "anklang_uuid7()"),
        ("alive", "0.25"),
    ];
    open(&server, "K1", &held).await;
    let over = [held[0], ("held_until", "now()"), held[2]];
    open(&server, "K2", &over).await;
    open(&server, "K5", &[("at_stake", "350.50"), ("alive", "0.5")]).await;
    open_in(&server, "K6", "no_interest").await;
    for (filter, wanted) in [
        ("customer = customers/K5", "K5"),
        ("customer_group = Obst", "K1 K2"),
        ("customer_name:kunde5", "K5"),
        ("last_order_brand = brands/markt", "K5 K6"),
        ("last_order = orders/B2 OR last_order = orders/A5", "K2"),
        ("last_order_group = Korb AND state = DECLINING", "K1 K2 K5"),
        ("held_by = \"users/anna\"", "K1"),
        ("NOT held_by:*", "K2 K5 K6"),
        ("alive < 0.4 AND at_stake >= 100", "K1"),
        ("at_stake > 350.49", "K5"),
        ("state = NO_INTEREST AND no_interest_reason = PRICE", "K6"),
        ("no_interest_reason = GONE", ""),
        (
            "revenue_drop = 150 AND drop_percent <= 75 AND NOT due_date:*",
            "K1 K2 K5 K6",
        ),
    ] {
        let found = listed(&client, Tile::Unspecified, filter, "customer").await;
        assert_eq!(found, wanted, "{filter}");
    }
    assert_eq!(
        listed(&client, Tile::Declining, "alive:*", "customer desc").await,
        "K5 K1"
    );
}
