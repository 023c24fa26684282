//! Drawing from lists, and the lists of words.

use chrono::{Days, Months, NaiveDate};
use rand::{Rng, RngExt};

/// The words that people, companies and addresses are made of, most frequent first.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) female: Vec<&'static str>,
    pub(super) male: Vec<&'static str>,
    pub(super) surnames: Vec<&'static str>,
    pub(super) turkish_female: Vec<&'static str>,
    pub(super) turkish_male: Vec<&'static str>,
    pub(super) turkish_surnames: Vec<&'static str>,
    /// Company names with `{}` for a surname.
    pub(super) companies: Vec<&'static str>,
    pub(super) streets: Vec<&'static str>,
    pub(super) places: Vec<Place>,
}

/// A postcode area.
#[derive(Debug)]
pub(super) struct Place {
    /// Inhabitants in thousands, roughly.
    pub(super) weight: u32,
    pub(super) postal_code: &'static str,
    pub(super) city: &'static str,
}

impl Words {
    pub(super) fn read() -> Self {
        let lines = |text: &'static str| text.lines().collect();
        Self {
            female: lines(include_str!("data/female.txt")),
            male: lines(include_str!("data/male.txt")),
            surnames: lines(include_str!("data/surnames.txt")),
            turkish_female: lines(include_str!("data/turkish_female.txt")),
            turkish_male: lines(include_str!("data/turkish_male.txt")),
            turkish_surnames: lines(include_str!("data/turkish_surnames.txt")),
            companies: lines(include_str!("data/companies.txt")),
            streets: lines(include_str!("data/streets.txt")),
            places: include_str!("data/places.txt").lines().map(place).collect(),
        }
    }
}

/// `20 35037 Marburg`.
fn place(line: &'static str) -> Place {
    let mut fields = line.splitn(3, ' ');
    let mut field = || {
        fields
            .next()
            .expect("a place has a weight, a postcode and a town")
    };
    Place {
        weight: field().parse().expect("the weight is a number"),
        postal_code: field(),
        city: field(),
    }
}

/// Any of them.
pub(super) fn any<T: Copy>(rng: &mut impl Rng, list: &[T]) -> T {
    list[rng.random_range(0..list.len())]
}

/// Any of them, the first ones more often, as names are distributed.
pub(super) fn frequent<T: Copy>(rng: &mut impl Rng, list: &[T]) -> T {
    let position: f64 = rng.random::<f64>().powf(1.7);
    list[(position * list.len() as f64) as usize]
}

/// Any of them by weight; the weights are not all zero.
pub(super) fn weighted<'a, T>(
    rng: &mut impl Rng,
    list: &'a [T],
    weight: impl Fn(&T) -> u32,
) -> &'a T {
    let total: u32 = list.iter().map(&weight).sum();
    let mut point = rng.random_range(0..total);
    list.iter()
        .find(|item| {
            let hit = point < weight(item);
            point = point.saturating_sub(weight(item));
            hit
        })
        .expect("the point lies below the sum of the weights")
}

/// Whether something happens that happens in so many of a hundred cases.
pub(super) fn percent(rng: &mut impl Rng, percent: f64) -> bool {
    rng.random_bool(percent / 100.0)
}

/// A day between two, both included; `first` if they are in the wrong order.
pub(super) fn day(rng: &mut impl Rng, first: NaiveDate, last: NaiveDate) -> NaiveDate {
    let span = (last - first).num_days().max(0).unsigned_abs();
    first + Days::new(rng.random_range(0..=span))
}

/// A time in the last `months` months before the day `as_of`, in business hours, as RFC 3339
/// in UTC.
pub(super) fn past_time(rng: &mut impl Rng, months: u32, as_of: NaiveDate) -> String {
    let day = day(rng, as_of - Months::new(months), as_of - Days::new(1));
    let (hour, minute, second) = (
        rng.random_range(6..20),
        rng.random_range(0..60),
        rng.random_range(0..60),
    );
    format!("{day}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Empty for none.
pub(super) fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Lower-case ASCII as German addresses spell it; anything else becomes a hyphen.
pub(super) fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 4);
    for c in text.to_lowercase().chars() {
        match c {
            'ä' => plain.push_str("ae"),
            'ö' => plain.push_str("oe"),
            'ü' => plain.push_str("ue"),
            'ß' => plain.push_str("ss"),
            'ç' => plain.push('c'),
            'ğ' => plain.push('g'),
            'ı' => plain.push('i'),
            'ş' => plain.push('s'),
            // 'İ' in lower case is an i with a dot above.
            '\u{307}' => {}
            c if c.is_ascii_alphanumeric() => plain.push(c),
            _ if plain.is_empty() || plain.ends_with('-') => {}
            _ => plain.push('-'),
        }
    }
    plain.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_spelling() {
        assert_eq!(ascii("Jörg Weiß-Müller"), "joerg-weiss-mueller");
        assert_eq!(ascii("İbrahim Yıldırım"), "ibrahim-yildirim");
        assert_eq!(ascii("Bau & Söhne (GmbH)"), "bau-soehne-gmbh");
    }

    #[test]
    fn the_lists_are_sound() {
        let words = Words::read();
        assert!(words.female.len() + words.male.len() >= 150);
        assert!(words.surnames.len() >= 300);
        assert!(words.streets.len() >= 120);
        assert!(words.places.len() >= 60);
        for place in &words.places {
            assert_eq!(place.postal_code.len(), 5, "{place:?}");
            assert!(place.weight > 0 && !place.city.is_empty(), "{place:?}");
        }
        for name in words
            .surnames
            .iter()
            .chain(&words.female)
            .chain(&words.male)
        {
            assert!(!name.is_empty() && name.trim() == *name, "{name:?}");
        }
        assert!(words.companies.iter().all(|name| name.contains("{}")));
    }
}
