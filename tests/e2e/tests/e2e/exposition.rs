//! The text format of Prometheus, read strictly: each line must be as the format demands.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// What was scraped.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Types of metrics by name.
    pub types: BTreeMap<String, String>,
    pub samples: Vec<(String, Labels, f64)>,
}

impl Scrape {
    /// Reads the text format; each line must be as it demands.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut scrape = Scrape::default();
        let (mut family, mut helped) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty() && helped.insert(name), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(helped.contains(name), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let before = scrape.types.insert(name.into(), kind.into());
                assert_eq!(before, None, "{line}");
                name.clone_into(&mut family);
            } else {
                let (name, labels, value) = sample(line);
                let suffix = name.strip_prefix(&family[..]);
                let suffixes: &[&str] = match &scrape.types[&family][..] {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffix.is_some_and(|s| suffixes.contains(&s)), "{line}");
                scrape.samples.push((name, labels, value));
            }
        }
        let series: BTreeSet<_> = scrape.samples.iter().map(|(n, l, _)| (n, l)).collect();
        assert_eq!(series.len(), scrape.samples.len(), "a series twice");
        scrape.check_histograms();
        scrape
    }

    /// Buckets never fall, and the last one is the count.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<(&str, Labels), Vec<f64>> = BTreeMap::new();
        for (name, labels, value) in &self.samples {
            if let Some(name) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let bound: f64 = labels.remove("le").unwrap().parse().unwrap();
                let of = buckets.entry((name, labels)).or_default();
                assert!(of.last().is_none_or(|last| last <= value), "{name}");
                assert!(bound >= 0.0);
                of.push(*value);
            }
        }
        for ((name, labels), counts) in buckets {
            let labels: Vec<_> = labels.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            let count = self.value(&format!("{name}_count"), &labels);
            assert_eq!(counts.last().copied(), count, "{name}");
        }
    }

    /// The one value with these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |all: &Labels| {
            let mut wanted = labels.iter();
            wanted.all(|(k, v)| all.get(*k).is_some_and(|have| have == v))
        };
        let found = self.samples.iter().filter(|(n, l, _)| n == name && has(l));
        let found: Vec<f64> = found.map(|(.., value)| *value).collect();
        assert!(found.len() <= 1, "{name} {labels:?} is not one: {found:?}");
        found.first().copied()
    }
}

/// A line `name{label="value",…} value`.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap();
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
        None => (series, ""),
    };
    let is_name = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(fits)
    };
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(label), "{line}");
        let (text, after) = quoted(after);
        assert_eq!(labels.insert(label.into(), text), None, "{line}");
        rest = match after {
            "" => "",
            more => more.strip_prefix(',').unwrap(),
        };
    }
    (name.to_owned(), labels, value)
}

/// The value of a label up to its closing quote, and what comes after that.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                c => panic!("\\{c} in {text}"),
            },
            c => value.push(c),
        }
    }
    panic!("no quote at the end: {text}")
}
