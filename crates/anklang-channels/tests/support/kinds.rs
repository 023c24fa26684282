//! Outcomes, for comparison.

use anklang_channels::proto::{Outcome, outcome};

/// The names of the outcomes' kinds.
pub fn kinds(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes
        .iter()
        .map(
            |outcome| match outcome.kind.as_ref().expect("the host fills in every kind") {
                outcome::Kind::Accepted(_) => "accepted",
                outcome::Kind::Permanent(_) => "permanent",
                outcome::Kind::Transient(_) => "transient",
                outcome::Kind::Throttled(_) => "throttled",
                outcome::Kind::Ambiguous(_) => "ambiguous",
            },
        )
        .collect()
}
