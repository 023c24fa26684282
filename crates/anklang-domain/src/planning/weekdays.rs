//! Sets of weekdays.

use chrono::Weekday;
use serde::{Deserialize, Serialize};

use crate::window::{WEEKDAYS, day_of_week};

/// At least one weekday. Stored as a list of words, e.g. `["tue", "thu"]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<&'static str>")]
pub struct Weekdays([bool; 7]);

impl Weekdays {
    /// Any weekday.
    pub const ANY: Weekdays = Weekdays([true; 7]);
    /// Monday to Friday.
    pub const MONDAY_TO_FRIDAY: Weekdays = Weekdays([true, true, true, true, true, false, false]);

    /// Those given, in whatever order; `None` when there are none.
    pub fn new(days: impl IntoIterator<Item = Weekday>) -> Option<Weekdays> {
        let mut set = [false; 7];
        for day in days {
            set[day_of_week(day)] = true;
        }
        (set != [false; 7]).then_some(Weekdays(set))
    }

    /// Reads words `mon` … `sun`; none: any weekday.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Weekdays, &'static str> {
        let days: Result<Vec<Weekday>, _> =
            words.iter().map(|word| parse_word(word.as_ref())).collect();
        Ok(Weekdays::new(days?).unwrap_or(Weekdays::ANY))
    }

    /// Whether a weekday is among them.
    pub fn contains(self, day: Weekday) -> bool {
        self.0[day_of_week(day)]
    }

    /// All of them, Monday first.
    pub fn iter(self) -> impl Iterator<Item = Weekday> {
        ALL.into_iter().filter(move |day| self.contains(*day))
    }

    /// Their words, Monday first.
    pub fn words(self) -> Vec<&'static str> {
        self.iter().map(word).collect()
    }
}

impl TryFrom<Vec<String>> for Weekdays {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        if words.is_empty() {
            return Err("must have at least one weekday");
        }
        Weekdays::parse(&words)
    }
}

impl From<Weekdays> for Vec<&'static str> {
    fn from(days: Weekdays) -> Self {
        days.words()
    }
}

const ALL: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

fn parse_word(word: &str) -> Result<Weekday, &'static str> {
    let day = WEEKDAYS.iter().position(|day| *day == word);
    day.map(|day| ALL[day])
        .ok_or("must be some of mon, tue, wed, thu, fri, sat, sun")
}

fn word(day: Weekday) -> &'static str {
    WEEKDAYS[day_of_week(day)]
}

/// The weekday's name in a sentence.
pub(super) fn name(day: Weekday) -> &'static str {
    const NAMES: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    NAMES[day_of_week(day)]
}

/// Weekdays in JSON, as the words of [`Weekdays`].
pub(super) mod as_word {
    use super::{Weekday, parse_word, word};
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn serialize<S: Serializer>(day: &Weekday, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(word(*day))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Weekday, D::Error> {
        let word = String::deserialize(deserializer)?;
        parse_word(&word).map_err(serde::de::Error::custom)
    }
}
