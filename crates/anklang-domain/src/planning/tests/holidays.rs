use chrono::{Datelike, Days};

use super::*;

fn names_of(region: &str, year: i32) -> Vec<(String, String)> {
    let region = Region::parse(region).unwrap();
    let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
    let range = DateRange::new(first, NaiveDate::from_ymd_opt(year, 12, 31)).unwrap();
    let holidays = region.holidays();
    let all = holidays.in_range(range);
    all.map(|(day, name)| (day.to_string(), name.to_owned()))
        .collect()
}

#[test]
fn bavaria_in_2026() {
    let expected = [
        ("2026-01-01", "Neujahr"),
        ("2026-01-06", "Heilige Drei Könige"),
        ("2026-04-03", "Karfreitag"),
        ("2026-04-06", "Ostermontag"),
        ("2026-05-01", "Erster Mai"),
        ("2026-05-14", "Christi Himmelfahrt"),
        ("2026-05-25", "Pfingstmontag"),
        ("2026-06-04", "Fronleichnam"),
        ("2026-10-03", "Tag der Deutschen Einheit"),
        ("2026-11-01", "Allerheiligen"),
        ("2026-12-25", "Erster Weihnachtstag"),
        ("2026-12-26", "Zweiter Weihnachtstag"),
    ];
    let expected = expected.map(|(day, name)| (day.to_owned(), name.to_owned()));
    assert_eq!(names_of("DE-BY", 2026), expected);
    // Only where most people are Catholics, and in all of the Saarland.
    let assumption = day("2026-08-15");
    for (region, there) in [
        ("DE", false),
        ("DE-BY", false),
        ("DE-BY-catholic", true),
        ("de-by-CATHOLIC", true),
        ("DE-Augsburg", true),
        ("DE-SL", true),
        ("DE-BE", false),
        ("AT", true),
    ] {
        let holidays = Region::parse(region).unwrap().holidays();
        assert_eq!(holidays.name(assumption).is_some(), there, "{region}");
    }
}

#[test]
fn laws_change_over_the_years() {
    let name = |region: &str, date: &str| {
        let holidays = Region::parse(region).unwrap().holidays();
        holidays.name(day(date)).map(str::to_owned)
    };
    assert_eq!(name("DE-BE", "2018-03-08"), None);
    assert_eq!(name("DE-BE", "2019-03-08").as_deref(), Some("Frauentag"));
    assert_eq!(name("DE-BB", "2019-03-08"), None);
    assert_eq!(name("DE-MV", "2022-03-08"), None);
    assert_eq!(name("DE-MV", "2023-03-08").as_deref(), Some("Frauentag"));
    assert_eq!(name("DE-HH", "2016-10-31"), None);
    assert!(name("DE-HH", "2017-10-31").is_some());
    assert!(name("DE-HH", "2018-10-31").is_some());
    assert!(name("DE-NW", "2017-10-31").is_some());
    assert_eq!(name("DE-NW", "2018-10-31"), None);
    assert!(name("DE-NW", "1994-11-16").is_some());
    assert_eq!(name("DE-NW", "1995-11-22"), None);
    assert!(name("DE-SN", "1995-11-22").is_some());
    assert!(name("GB-SCT", "2026-01-02").is_some());
    assert_eq!(name("GB-ENG", "2026-01-02"), None);
    assert!(name("US", "2026-11-26").is_some());
    assert!(name("CH-TI", "2026-03-19").is_some());
    assert_eq!(name("CH-ZH", "2026-03-19"), None);
}

/// Easter by the rule of the Gregorian calendar (Meeus), Good Friday and the days that follow it.
#[test]
fn what_hangs_on_easter_is_right_in_all_years() {
    let holidays = Region::parse("DE-BY").unwrap().holidays();
    for year in 1991..=2050 {
        let (a, b, c) = (year % 19, year / 100, year % 100);
        let h = (19 * a + b - b / 4 - (b - (b + 8) / 25 + 1) / 3 + 15) % 30;
        let l = (32 + 2 * (b % 4) + 2 * (c / 4) - h - c % 4) % 7;
        let m = (a + 11 * h + 22 * l) / 451;
        let n = u32::try_from(h + l - 7 * m + 114).unwrap();
        let easter = NaiveDate::from_ymd_opt(year, n / 31, n % 31 + 1).unwrap();
        assert_eq!(easter.weekday(), chrono::Weekday::Sun);
        assert_eq!(holidays.name(easter - Days::new(2)), Some("Karfreitag"));
        for (after, name) in [
            (1, "Ostermontag"),
            (39, "Christi Himmelfahrt"),
            (50, "Pfingstmontag"),
            (60, "Fronleichnam"),
        ] {
            let found = holidays.name(easter + Days::new(after)).unwrap_or_default();
            assert!(found.contains(name), "{year} {name}: {found}");
        }
    }
}

#[test]
fn every_region_can_be_read() {
    let regions: Vec<Region> = Region::all().collect();
    assert!(regions.len() > 850, "{}", regions.len());
    let europe = "AD AL AT BA BE BG BY CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV \
                  MC MD ME MK MT NL NO PL PT RO RS RU SE SI SK SM TR UA VA XK";
    for country in europe.split_whitespace() {
        Region::parse(country).unwrap();
    }
    let lands = "BB BE BW BY HB HE HH MV NI NW RP SH SL SN ST TH";
    for land in lands.split(' ') {
        Region::parse(&format!("DE-{land}")).unwrap();
    }
    for region in regions {
        assert_eq!(Region::parse(&region.to_string()), Ok(region));
        let holidays = region.holidays();
        let known = holidays.known();
        for year in known.first().year()..=known.last().year() {
            let year =
                NaiveDate::from_ymd_opt(year, 1, 1).zip(NaiveDate::from_ymd_opt(year, 12, 31));
            let (first, last) = year.unwrap();
            let year = DateRange::new(first, Some(last)).unwrap();
            let count = holidays.in_range(year).count();
            assert!(count <= 60, "{region} {first}: {count}");
        }
        // In Ukraine there are none during the war.
        let all = DateRange::new(FIRST_DAY, None).unwrap();
        let years = known.last().year() - known.first().year() + 1;
        let count = i32::try_from(holidays.in_range(all).count()).unwrap();
        assert!(count >= 2 * years, "{region}: {count} in {years} years");
        let all = holidays.in_range(all);
        assert!(
            all.into_iter()
                .all(|(day, name)| known.contains(day) && !name.is_empty()),
            "{region}"
        );
    }
}

/// Each line of the file has its three fields and gives as many days as it has tokens for.
#[test]
fn nothing_in_the_file_is_passed_over() {
    for line in include_str!("../holidays.txt").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let good = line.starts_with('#') || fields.len() == 3 && !fields[0].is_empty();
        assert!(good, "{line}");
        if line.starts_with(['#', '=']) {
            continue;
        }
        let given = fields[2].split(' ').map(|token| {
            let (years, days) = token.split_once(':').unwrap();
            match years.split_once('-') {
                Some((first, last)) => {
                    last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1
                }
                None => days.split(',').filter(|day| *day != "-").count(),
            }
        });
        let read: usize = fields[2]
            .split(' ')
            .map(|token| crate::planning::holidays::read_days(token).len())
            .sum();
        assert_eq!(read, given.sum::<usize>(), "{line}");
    }
}

#[test]
fn what_is_no_region_is_refused() {
    let error = |code: &str| Region::parse(code).unwrap_err();
    assert!(error("").contains("ISO 3166-1"));
    assert!(error("XX").contains("ISO 3166-1"));
    assert!(error("Deutschland").contains("ISO 3166-1"));
    assert!(error("DE-XX").contains("BY"), "{}", error("DE-XX"));
    assert!(error("DE-").contains("BY"));
    assert!(error("MC-1").contains("must be MC"), "{}", error("MC-1"));
}

#[test]
fn own_days_go_before_the_regions_and_these_before_weekdays() {
    let own = |date: &str, kind, name: &str| OwnDay {
        date: day(date),
        kind,
        name: name.into(),
    };
    let region = Region::parse("DE-BY").unwrap();
    let calendar = Calendar::new(
        weekdays(&["mon", "tue", "wed", "thu", "fri", "sat"]),
        Some(region),
        [
            own("2026-06-04", OwnDayKind::Workday, ""),
            own("2026-06-05", OwnDayKind::Holiday, "Brückentag"),
            own("2026-06-07", OwnDayKind::Workday, "Inventur"),
            own("2026-06-09", OwnDayKind::Holiday, ""),
            own("2026-06-10", OwnDayKind::Workday, ""),
            own("2026-06-10", OwnDayKind::Holiday, "Sommerfest"),
        ],
    );
    let says = |date: &str| calendar.day(day(date)).to_string();
    assert_eq!(says("2026-06-04"), "workday");
    assert_eq!(says("2026-06-05"), "Brückentag");
    assert_eq!(says("2026-06-06"), "workday");
    assert_eq!(says("2026-06-07"), "workday");
    assert_eq!(says("2026-06-08"), "workday");
    assert_eq!(says("2026-06-09"), "holiday");
    assert_eq!(says("2026-06-10"), "Sommerfest");
    assert_eq!(says("2026-06-14"), "Sunday");
    assert_eq!(says("2026-10-03"), "Tag der Deutschen Einheit");
    let after: Vec<NaiveDate> = calendar.workdays_after(day("2026-06-08")).take(2).collect();
    assert_eq!(after, days(&["2026-06-11", "2026-06-12"]));
    assert_eq!(
        calendar.workday_before(day("2026-06-11")),
        Some(day("2026-06-08"))
    );
    // Saturdays that Taiwan works for its long holidays.
    let taiwan = super::calendar("TW");
    let moved: Vec<_> = (2000..2050)
        .flat_map(|year| {
            NaiveDate::from_ymd_opt(year, 1, 1)
                .unwrap()
                .iter_days()
                .take(365)
        })
        .filter(|day| day.weekday() == chrono::Weekday::Sat && taiwan.is_workday(*day))
        .collect();
    assert!(!moved.is_empty());
}

#[test]
fn a_calendar_without_workdays_ends_its_search() {
    let begin = day("2026-01-01");
    let closed = begin.iter_days().take(400).map(|date| OwnDay {
        date,
        kind: OwnDayKind::Holiday,
        name: String::new(),
    });
    let calendar = Calendar::new(Weekdays::ANY, None, closed);
    let middle = day("2026-07-01");
    assert_eq!(calendar.workdays_after(middle).next(), None);
    assert_eq!(calendar.workday_before(middle), None);
    assert_eq!(
        calendar.workday_before(day("2026-01-05")),
        Some(day("2025-12-31"))
    );
}

#[test]
fn years_without_known_holidays_are_told() {
    let bavaria = calendar("DE-BY");
    assert_eq!(
        bavaria.unknown(range("1991-01-01", "2050-12-31")),
        [None, None]
    );
    assert_eq!(
        bavaria.unknown(range("1990-06-01", "2051-02-03")),
        [
            Some(range("1990-06-01", "1990-12-31")),
            Some(range("2051-01-01", "2051-02-03"))
        ]
    );
    assert_eq!(
        bavaria.unknown(range("1980-01-01", "1980-02-01")),
        [Some(range("1980-01-01", "1980-02-01")), None]
    );
    assert_eq!(
        plain().unknown(range("1980-01-01", "2080-02-01")),
        [None, None]
    );
}
