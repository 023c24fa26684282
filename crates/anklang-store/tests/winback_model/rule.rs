//! Who is a case by the rule.

use std::collections::{BTreeMap, BTreeSet};

use anklang_domain::OperationId;
use anklang_domain::winback::{Comparison, SeasonIndex, Settings};
use anklang_store::winback::detection::{self, Model, NewDetection, Part, Tally};
use anklang_store::winback::judge::{self, Judge, Verdicts};
use anklang_store::winback::{figures, settings};
use chrono::{Datelike, Days, NaiveDate};
use rust_decimal::Decimal;

use crate::{Lab, cdnow, day};

/// A case as the rule sees it: revenue then and now, known days, drop, drop in percent.
type Case = (Decimal, Decimal, i32, Decimal, Decimal);
/// By customer number.
type Cases = BTreeMap<String, Case>;

impl Lab {
    /// Looks at all customers, in chunks of an odd size; gives the detection.
    async fn detect(&self, as_of: NaiveDate, season: Part<SeasonIndex>) -> (OperationId, Tally) {
        let tenant = &self.tenant;
        let mut tx = self.store.begin(tenant.id).await.unwrap();
        let version = settings::pinned(&mut tx, tenant.id).await.unwrap();
        let id = OperationId::new();
        let new = NewDetection {
            id,
            as_of,
            settings_version: version.version,
            is_trial: false,
        };
        assert!(detection::create(&mut tx, tenant.id, new).await.unwrap());
        let model = Model {
            season,
            ..Model::default()
        };
        let judge = Judge::new(&version.settings, &model, as_of).unwrap();
        let look = judge.look(tenant);
        // With the weeks for every other detection: the sums are the same.
        let with_weeks = as_of.day0().is_multiple_of(2);
        let gathered = figures::gather(&mut tx, id, &look, with_weeks).await;
        assert_eq!(gathered.unwrap().weeks.is_empty(), !with_weeks);
        let (mut tally, mut after) = (Tally::default(), None);
        loop {
            let candidates = judge::candidates(&mut tx, tenant.id, id, &[], after, 4_321).await;
            let candidates = candidates.unwrap();
            let Some(last) = candidates.last() else {
                break;
            };
            after = Some(last.figures.customer_id);
            let mut found = judge.judge(&candidates, &mut tally);
            judge::add_lost_groups(&mut tx, &look, &mut found)
                .await
                .unwrap();
            let verdicts = Verdicts {
                tenant,
                detection: id,
                as_of,
                rest_days: version.settings.rest_days,
                found: &found,
            };
            verdicts.write(&mut tx, false, &mut tally).await.unwrap();
        }
        detection::set_tally(&mut tx, tenant.id, id, &tally, true)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        (id, tally)
    }

    async fn set(&self, settings: &Settings) {
        let mut tx = self.store.begin(self.tenant.id).await.unwrap();
        settings::save(&mut tx, self.tenant.id, settings, "")
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn cases(&self) -> Cases {
        let sql = "SELECT c.number, k.revenue_then, k.revenue_now, k.known_days, k.drop_amount,
                          k.drop_percent
                   FROM winback_case k JOIN customer c ON c.id = k.customer_id";
        let rows = self.connect().await.query(sql, &[]).await.unwrap();
        let case = |row: &tokio_postgres::Row| {
            let case = (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5));
            (row.get(0), case)
        };
        rows.iter().map(case).collect()
    }

    async fn forget(&self) {
        let sql = "TRUNCATE winback_case_event, winback_figure;
                   DELETE FROM winback_case; DELETE FROM winback_detection";
        self.connect().await.batch_execute(sql).await.unwrap();
    }

    /// The rule in plain SQL, from the orders alone. `season` has an index for each calendar week.
    async fn naive(&self, settings: &Settings, as_of: NaiveDate, season: &[Decimal]) -> Cases {
        let rule = &settings.detection;
        let (days, back) = match rule.comparison {
            Comparison::Preceding { days, .. } => (days, days),
            Comparison::YearBefore { days } => (days, 364),
        };
        let sql = format!(
            "WITH weeks AS (SELECT * FROM unnest($1::numeric[]) WITH ORDINALITY w (index, week)),
             bounds AS (
                 SELECT date '{as_of}' AS now_last, date '{as_of}' - {days} + 1 AS now_first,
                        date '{as_of}' - {back} AS then_last,
                        date '{as_of}' - {back} - {days} + 1 AS then_first),
             orders AS (
                 SELECT o.customer_id, (o.ordered_at AT TIME ZONE 'Europe/Berlin')::date AS day,
                        l.quantity * l.unit_price AS amount
                 FROM sales_order o JOIN order_line l ON l.order_id = o.id),
             customers AS (
                 SELECT c.number, count(*) AS orders, sum(o.amount) AS revenue,
                        coalesce(sum(o.amount) FILTER (WHERE o.day BETWEEN then_first AND then_last), 0) AS t,
                        coalesce(sum(o.amount) FILTER (WHERE o.day BETWEEN now_first AND now_last), 0) AS n,
                        greatest(then_last - greatest(then_first, min(o.day)) + 1, 0) AS known,
                        then_last, now_first, now_last
                 FROM customer c JOIN orders o ON o.customer_id = c.id CROSS JOIN bounds
                 WHERE o.day <= now_last
                 GROUP BY c.number, then_first, then_last, now_first, now_last),
             weighed AS (
                 SELECT *,
                        (SELECT sum(index) FROM generate_series(1, known) i
                         JOIN weeks ON week = extract(week FROM then_last - known + i)) AS weight_then,
                        (SELECT sum(index) FROM generate_series(0, {days} - 1) i
                         JOIN weeks ON week = extract(week FROM now_first + i)) AS weight_now
                 FROM customers WHERE known > 0 AND t > 0)
             SELECT number, t::numeric, n::numeric, known::integer,
                    round((t * weight_now - n * weight_then) * known / (weight_then * {days}), 2),
                    round((t * weight_now - n * weight_then) * 100 / (t * weight_now), 2)
             FROM weighed
             WHERE orders >= {} AND revenue >= {} AND known >= {}
               AND (t * weight_now - n * weight_then) * 100 >= t * weight_now * {}
               AND (t * weight_now - n * weight_then) * known >= {} * weight_then * {days}
               -- Who has bought since is no case any more.
               AND number NOT IN (SELECT c.number FROM customer c
                                  JOIN orders o ON o.customer_id = c.id CROSS JOIN bounds
                                  WHERE o.day > bounds.now_last AND o.amount > 0)",
            rule.least_orders,
            rule.least_revenue,
            rule.least_known_days,
            rule.least_drop_percent,
            rule.least_drop,
        );
        let rows = self.connect().await.query(&sql, &[&season]).await.unwrap();
        let case = |row: &tokio_postgres::Row| {
            let case = (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5));
            (row.get(0), case)
        };
        rows.iter().map(case).collect()
    }

    /// CDNOW, and two customers who never bought. False when it is not there.
    async fn load_cdnow(&self) -> bool {
        let Some(orders) = cdnow() else {
            return false;
        };
        let customers: BTreeSet<&str> = orders.iter().map(|o| &o.0[..]).collect();
        let customers: Vec<&str> = customers.into_iter().chain(["never", "nie"]).collect();
        self.customers(&customers).await;
        let rows: Vec<_> = orders
            .iter()
            .enumerate()
            .map(|(i, (customer, day, amount))| {
                // Morning and late evening in Berlin: the same day there.
                let time = if i % 2 == 0 { "00:30" } else { "23:30" };
                let time = format!("{day} {time} Europe/Berlin");
                (format!("O{i}"), &customer[..], time, amount.clone())
            })
            .collect();
        self.orders(&rows).await;
        let analyze = "ANALYZE customer, sales_order, order_line";
        self.connect().await.batch_execute(analyze).await.unwrap();
        true
    }
}

/// Three settings that differ in all that counts.
fn all_settings() -> [Settings; 3] {
    let mut settings: [Settings; 3] = std::array::from_fn(|_| Settings::default());
    let [preceding, year, season] = &mut settings;
    preceding.detection.comparison = Comparison::Preceding {
        days: 90,
        season: false,
    };
    preceding.detection.least_known_days = 45;
    year.detection.comparison = Comparison::YearBefore { days: 120 };
    year.detection.least_orders = 1;
    year.detection.least_known_days = 1;
    year.detection.least_drop = Decimal::new(1_250, 2);
    year.detection.least_drop_percent = Decimal::new(3_333, 2);
    season.detection.comparison = Comparison::Preceding {
        days: 60,
        season: true,
    };
    season.detection.least_orders = 3;
    season.detection.least_revenue = Decimal::from(100);
    season.detection.least_known_days = 30;
    season.detection.least_drop = Decimal::ZERO;
    season.detection.least_drop_percent = Decimal::from(10);
    settings
}

/// A season with a summer and a Christmas; week 53 is of no year of CDNOW's.
fn made_up_season() -> Vec<Decimal> {
    let index = |week: i64| match week {
        26..=34 => Decimal::new(7_000 + 13 * week, 4),
        47..=52 => Decimal::new(18_500 - 31 * week, 4),
        _ => Decimal::new(9_500 + 7 * week, 4),
    };
    (1..=53).map(index).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_is_that_of_plain_sql_on_cdnow() {
    let lab = Lab::open().await;
    if !lab.load_cdnow().await {
        return;
    }
    let dates = [
        "1997-05-04",
        "1997-06-30",
        "1997-08-15",
        "1997-10-26",
        "1997-12-31",
        "1998-01-01",
        "1998-03-29",
        "1998-04-30",
        "1998-06-15",
        "1998-06-30",
    ];
    let weeks = made_up_season();
    let flat = vec![Decimal::ONE; 53];
    for settings in all_settings() {
        lab.set(&settings).await;
        let seasonal = settings.detection.comparison.season();
        let mut with_cases = 0;
        for as_of in dates.map(day) {
            lab.forget().await;
            let season = SeasonIndex::try_from(weeks.clone()).unwrap();
            let (_, tally) = lab.detect(as_of, Part::Known(season)).await;
            let found = lab.cases().await;
            let index = if seasonal { &weeks } else { &flat };
            let naive = lab.naive(&settings, as_of, index).await;
            assert_eq!(found, naive, "{as_of} {settings:?}");
            assert_eq!(usize::try_from(tally.opened).unwrap(), found.len());
            assert!(!found.contains_key("never") && !found.contains_key("nie"));
            with_cases += usize::from(found.len() > 20);
        }
        assert!(
            with_cases >= 3,
            "{with_cases} dates with cases: {settings:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_day_changes_only_what_must() {
    let lab = Lab::open().await;
    if !lab.load_cdnow().await {
        return;
    }
    let [settings, ..] = all_settings();
    lab.set(&settings).await;
    let first = day("1998-03-10");
    let next = first + Days::new(1);
    let season = || Part::Missing("none".into());
    lab.detect(first, season()).await;
    let before = lab.cases().await;
    lab.forget().await;
    lab.detect(next, season()).await;
    let after = lab.cases().await;
    assert_ne!(before, after);
    // Orders that come into the later period, go over to the earlier one, or go out of it; and customers
    // who were one for a part of the earlier period alone.
    let periods = settings.detection.comparison.periods(first).unwrap();
    let (then, now) = (periods.then.first(), periods.now.first());
    let sql = format!(
        "SELECT c.number FROM customer c JOIN sales_order o ON o.customer_id = c.id
         GROUP BY c.number
         HAVING bool_or((o.ordered_at AT TIME ZONE 'Europe/Berlin')::date IN ('{next}', '{then}', '{now}'))
             OR min((o.ordered_at AT TIME ZONE 'Europe/Berlin')::date) > '{then}'"
    );
    let rows = lab.connect().await.query(&sql, &[]).await.unwrap();
    let touched: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let rest = |cases: &Cases| -> Cases {
        let untouched = |(number, case): (&String, &Case)| {
            (!touched.contains(number)).then(|| (number.clone(), *case))
        };
        cases.iter().filter_map(untouched).collect()
    };
    assert!(rest(&before).len() > 100);
    assert_eq!(rest(&before), rest(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_detection_writes_nothing_and_an_older_one_neither() {
    let lab = Lab::open().await;
    if !lab.load_cdnow().await {
        return;
    }
    let [settings, ..] = all_settings();
    lab.set(&settings).await;
    let season = || Part::Missing("none".into());
    let rows =
        "SELECT coalesce(string_agg(k::text || k.xmin::text, ',' ORDER BY k.id), ''), count(*)
                FROM winback_case k";
    let stored = async || {
        let row = lab.connect().await.query_one(rows, &[]).await.unwrap();
        (row.get::<_, String>(0), row.get::<_, i64>(1))
    };
    let (_, first) = lab.detect(day("1998-03-10"), season()).await;
    let before = stored().await;
    assert_eq!(first.opened, before.1);
    for as_of in ["1998-03-10", "1998-03-09", "1997-12-24"] {
        let (_, again) = lab.detect(day(as_of), season()).await;
        if as_of == "1998-03-10" {
            assert_eq!((again.opened, again.unchanged), (0, first.opened));
        }
        assert_eq!(again.refreshed, 0, "{as_of}");
        let same = stored().await;
        if again.opened == 0 {
            assert_eq!(same, before, "{as_of}");
        }
    }
    // Cases that were there before stay as they were seen last.
    let seen = "SELECT count(*) FROM winback_case k JOIN winback_detection d ON d.id = k.seen_by
                WHERE d.as_of = '1998-03-10'";
    let seen: i64 = lab
        .connect()
        .await
        .query_one(seen, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(seen, first.opened);
    let (_, later) = lab.detect(day("1998-03-11"), season()).await;
    assert!(later.refreshed > 0 && later.unchanged > 0, "{later:?}");
}
