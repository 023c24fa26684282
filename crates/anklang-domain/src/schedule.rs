//! The planned dates of a campaign's phases, when some come after others.
//!
//! Phases that are parallel form a group, which bears the number of the first of them; all of a
//! group come after the same phases. A phase comes after the groups of its predecessors, and these
//! have lower numbers, so that going by group visits each phase after all that it waits for.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};

/// How far a phase is, as far as dates are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun: its dates can move.
    Waiting,
    /// It has begun: its start stays.
    Begun,
    /// It is over: nobody waits for its end.
    Over,
}

/// A phase with its planned days, the first and the last included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub number: i32,
    /// Number of its group.
    pub group: i32,
    /// Numbers of the phases that it comes after.
    pub predecessors: Vec<i32>,
    /// First day.
    pub start: Option<NaiveDate>,
    /// Last day.
    pub end: Option<NaiveDate>,
    /// How far it is.
    pub stage: Stage,
}

/// What happens when phases in sequence overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is an error.
    Refuse,
    /// The later one moves by the overlap.
    Shift,
    /// The earlier one ends sooner.
    Clip,
}

/// Why dates cannot be arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverlapError {
    /// They overlap, and nothing is to be done about it.
    #[error(
        "phase {later} starts on {start}, when phase {earlier} runs until {end}; choose SHIFT or CLIP"
    )]
    Overlaps {
        /// Number of the earlier phase.
        earlier: i32,
        /// Number of the later phase.
        later: i32,
        /// First day of the later one.
        start: NaiveDate,
        /// Last day of the earlier one.
        end: NaiveDate,
    },
    /// Nothing would be left of the earlier phase.
    #[error("phase {earlier} would end before it starts if it were clipped for phase {later}")]
    NothingLeft {
        /// Number of the earlier phase.
        earlier: i32,
        /// Number of the later phase.
        later: i32,
    },
    /// There are no such days.
    #[error("phase {0} would move beyond all calendars")]
    TooLate(i32),
}

/// Arranges the phases of a campaign so that none which waits starts before the last planned day
/// of the phases that it comes after is over. Gives all of them, in any order.
pub fn arrange(mut slots: Vec<Slot>, overlap: Overlap) -> Result<Vec<Slot>, OverlapError> {
    slots.sort_by_key(|s| (s.group, s.number));
    let groups: BTreeMap<i32, i32> = slots.iter().map(|s| (s.number, s.group)).collect();
    for later in 0..slots.len() {
        if slots[later].stage != Stage::Waiting {
            continue;
        }
        let before: Vec<i32> = slots[later]
            .predecessors
            .iter()
            .filter_map(|number| groups.get(number).copied())
            .collect();
        for earlier in 0..slots.len() {
            let waited_for = before.contains(&slots[earlier].group);
            if waited_for && slots[earlier].stage != Stage::Over {
                separate(&mut slots, earlier, later, overlap)?;
            }
        }
    }
    Ok(slots)
}

/// Sees to it that one phase is over when the other starts.
fn separate(
    slots: &mut [Slot],
    earlier: usize,
    later: usize,
    overlap: Overlap,
) -> Result<(), OverlapError> {
    let (Some(end), Some(start)) = (slots[earlier].end, slots[later].start) else {
        return Ok(());
    };
    if end < start {
        return Ok(());
    }
    let numbers = (slots[earlier].number, slots[later].number);
    match overlap {
        Overlap::Refuse => Err(OverlapError::Overlaps {
            earlier: numbers.0,
            later: numbers.1,
            start,
            end,
        }),
        Overlap::Shift => {
            let days = end - start + TimeDelta::days(1);
            let moved = |day: Option<NaiveDate>| match day {
                None => Ok(None),
                Some(day) => day
                    .checked_add_signed(days)
                    .map(Some)
                    .ok_or(OverlapError::TooLate(numbers.1)),
            };
            slots[later].start = moved(slots[later].start)?;
            slots[later].end = moved(slots[later].end)?;
            Ok(())
        }
        Overlap::Clip => {
            let clipped = start.pred_opt();
            if clipped.is_none()
                || slots[earlier]
                    .start
                    .is_some_and(|first| clipped < Some(first))
            {
                return Err(OverlapError::NothingLeft {
                    earlier: numbers.0,
                    later: numbers.1,
                });
            }
            slots[earlier].end = clipped;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(n: i64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, 1).expect("a day") + TimeDelta::days(n)
    }

    fn slot(number: i32, predecessors: &[i32], start: i64, end: i64) -> Slot {
        Slot {
            number,
            group: number,
            predecessors: predecessors.to_vec(),
            start: Some(day(start)),
            end: Some(day(end)),
            stage: Stage::Waiting,
        }
    }

    /// Campaigns as they come about: each phase names earlier ones, or is parallel with one.
    fn campaigns() -> impl Strategy<Value = Vec<Slot>> {
        let phase = (
            proptest::option::of(0..60i64),
            proptest::option::of(0..20i64),
            any::<bool>(),
            proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
            0..6u8,
        );
        proptest::collection::vec(phase, 1..8).prop_map(|phases| {
            let mut slots: Vec<Slot> = Vec::new();
            for (i, (start, length, parallel, others, stage)) in phases.into_iter().enumerate() {
                let number = i32::try_from(i).expect("few") + 1;
                let mut slot = Slot {
                    number,
                    group: number,
                    predecessors: Vec::new(),
                    start: start.map(day),
                    end: length.map(|l| day(start.unwrap_or(0) + l)),
                    stage: match stage {
                        0 => Stage::Begun,
                        1 => Stage::Over,
                        _ => Stage::Waiting,
                    },
                };
                let picked: Vec<&Slot> = others
                    .iter()
                    .filter(|_| i > 0)
                    .map(|o| &slots[o.index(i)])
                    .collect();
                match (parallel, picked.first()) {
                    (true, Some(other)) => {
                        slot.group = other.group;
                        slot.predecessors = other.predecessors.clone();
                    }
                    _ => slot.predecessors = picked.iter().map(|p| p.number).collect(),
                }
                slots.push(slot);
            }
            slots
        })
    }

    fn by_number(mut slots: Vec<Slot>) -> Vec<Slot> {
        slots.sort_by_key(|s| s.number);
        slots
    }

    fn overlaps(slots: &[Slot]) -> bool {
        slots.iter().any(|later| {
            later.stage == Stage::Waiting
                && slots.iter().any(|earlier| {
                    let waited_for = slots.iter().any(|p| {
                        later.predecessors.contains(&p.number) && p.group == earlier.group
                    });
                    waited_for
                        && earlier.stage != Stage::Over
                        && earlier.end.zip(later.start).is_some_and(|(e, s)| e >= s)
                })
        })
    }

    proptest! {
        /// Nothing overlaps any more, nobody gets earlier or shorter, what has begun stays, and
        /// doing it again changes nothing.
        #[test]
        fn shifting_keeps_lengths(slots in campaigns()) {
            let after = by_number(arrange(slots.clone(), Overlap::Shift).expect("in time"));
            prop_assert!(!overlaps(&after));
            for (before, after) in slots.iter().zip(&after) {
                prop_assert!(after.start >= before.start);
                if let (Some(b), Some(a)) = (before.start, after.start) {
                    let (from, to) = (before.end.map(|e| e - b), after.end.map(|e| e - a));
                    prop_assert_eq!(from, to);
                } else {
                    prop_assert_eq!(before.end, after.end);
                }
                if before.stage != Stage::Waiting {
                    prop_assert_eq!(before, after);
                }
            }
            prop_assert_eq!(by_number(arrange(after.clone(), Overlap::Shift).expect("again")), after);
        }

        /// A shifted phase starts on the day after one that it waits for.
        #[test]
        fn shifting_moves_no_further_than_needed(slots in campaigns()) {
            let after = by_number(arrange(slots.clone(), Overlap::Shift).expect("in time"));
            for (before, moved) in slots.iter().zip(&after) {
                if before.start != moved.start {
                    let day_before = moved.start.and_then(|s| s.pred_opt());
                    prop_assert!(after.iter().any(|s| s.end == day_before));
                }
            }
        }

        /// Nothing overlaps any more, starts stay, ends get earlier but never before the start.
        #[test]
        fn clipping_keeps_starts(slots in campaigns()) {
            match arrange(slots.clone(), Overlap::Clip) {
                Ok(after) => {
                    let after = by_number(after);
                    prop_assert!(!overlaps(&after));
                    for (before, after) in slots.iter().zip(&after) {
                        prop_assert_eq!(before.start, after.start);
                        prop_assert_eq!(before.end.is_some(), after.end.is_some());
                        prop_assert!(after.end <= before.end);
                        let order = after.start.zip(after.end).is_none_or(|(s, e)| s <= e);
                        prop_assert!(order);
                    }
                    prop_assert_eq!(
                        by_number(arrange(after.clone(), Overlap::Clip).expect("again")), after);
                }
                Err(error) => {
                    let nothing_left = matches!(error, OverlapError::NothingLeft { .. });
                    prop_assert!(nothing_left && overlaps(&slots));
                }
            }
        }

        #[test]
        fn refusing_tells_of_every_overlap(slots in campaigns()) {
            let refused = arrange(slots.clone(), Overlap::Refuse);
            prop_assert_eq!(refused.is_err(), overlaps(&slots));
            if let Ok(after) = refused {
                prop_assert_eq!(by_number(after), slots);
            }
        }
    }

    #[test]
    fn a_shift_goes_through_the_sequence() {
        // 1 and 2 are parallel, 3 comes after them, 4 after 3, 5 on its own.
        let mut slots = vec![
            slot(1, &[], 0, 9),
            slot(2, &[], 0, 14),
            slot(3, &[1], 10, 19),
            slot(4, &[3], 22, 29),
            slot(5, &[], 5, 9),
        ];
        slots[1].group = 1;
        let days = |slots: Vec<Slot>| -> Vec<(Option<NaiveDate>, Option<NaiveDate>)> {
            by_number(slots)
                .into_iter()
                .map(|s| (s.start, s.end))
                .collect()
        };
        let expected = |days: [(i64, i64); 5]| -> Vec<_> {
            days.map(|(s, e)| (Some(day(s)), Some(day(e)))).into()
        };
        assert_eq!(
            arrange(slots.clone(), Overlap::Shift).map(days),
            Ok(expected([(0, 9), (0, 14), (15, 24), (25, 32), (5, 9)]))
        );
        assert_eq!(
            arrange(slots.clone(), Overlap::Clip).map(days),
            Ok(expected([(0, 9), (0, 9), (10, 19), (22, 29), (5, 9)]))
        );
        assert_eq!(
            arrange(slots, Overlap::Refuse),
            Err(OverlapError::Overlaps {
                earlier: 2,
                later: 3,
                start: day(10),
                end: day(14)
            })
        );
    }

    #[test]
    fn nothing_is_clipped_away() {
        let slots = vec![slot(1, &[], 5, 9), slot(2, &[1], 5, 19)];
        assert_eq!(
            arrange(slots, Overlap::Clip),
            Err(OverlapError::NothingLeft {
                earlier: 1,
                later: 2
            })
        );
    }
}
