//! Phases of campaigns: their states, what a person may do in which, and reactions to them.

use serde::{Deserialize, Serialize};

use crate::PhaseId;
use crate::offer::RejectReason;

/// State of a phase. Being paused is no state: a paused phase goes on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseState {
    /// Waits for its day or for other phases.
    Planned,
    /// Its operation makes audience, offers, documents and messages.
    Launching,
    /// What it has to send waits for a second person.
    AwaitingApproval,
    /// Messages go out, answers come in.
    Active,
    /// Its messages have come to an end, and its offers or its time too.
    Completed,
    /// Its launch failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl PhaseState {
    /// All of them, with the words of the ledger.
    pub const WORDS: [(PhaseState, &'static str); 7] = [
        (PhaseState::Planned, "planned"),
        (PhaseState::Launching, "launching"),
        (PhaseState::AwaitingApproval, "awaiting_approval"),
        (PhaseState::Active, "active"),
        (PhaseState::Completed, "completed"),
        (PhaseState::Failed, "failed"),
        (PhaseState::Cancelled, "cancelled"),
    ];

    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    /// Reads the word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS
            .into_iter()
            .find_map(|(state, w)| (w == word).then_some(state))
    }

    /// Whether phases after it need not wait for it any more. A failed one keeps them waiting:
    /// something went wrong, and a person decides.
    pub fn is_over(self) -> bool {
        matches!(self, PhaseState::Completed | PhaseState::Cancelled)
    }
}

/// State of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CampaignState {
    /// Its phases run as they are planned.
    Active,
    /// Over for good.
    Cancelled,
}

impl CampaignState {
    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            CampaignState::Active => "active",
            CampaignState::Cancelled => "cancelled",
        }
    }

    /// Reads the word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        [CampaignState::Active, CampaignState::Cancelled]
            .into_iter()
            .find(|s| s.as_str() == word)
    }
}

/// What a person does to a phase or a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Hold it.
    Pause,
    /// Let it go on.
    Resume,
    /// End it for good.
    Cancel,
    /// Give it other dates.
    Reschedule,
}

impl Control {
    fn participle(self) -> &'static str {
        match self {
            Control::Pause => "paused",
            Control::Resume => "resumed",
            Control::Cancel => "cancelled",
            Control::Reschedule => "rescheduled",
        }
    }
}

/// Which control is legal in which state of a phase: pause, resume, cancel, reschedule. What has
/// ended can still be cancelled: a completed phase may have open offers, and a failed one keeps
/// others waiting.
const OF_PHASES: [(PhaseState, [bool; 4]); 7] = [
    (PhaseState::Planned, [true, true, true, true]),
    (PhaseState::Launching, [true, true, true, true]),
    (PhaseState::AwaitingApproval, [true, true, true, true]),
    (PhaseState::Active, [true, true, true, true]),
    (PhaseState::Completed, [false, false, true, false]),
    (PhaseState::Failed, [false, false, true, false]),
    (PhaseState::Cancelled, [false, false, true, false]),
];

/// Why a control was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is {state}; only what is {legal} can be {control}")]
pub struct ControlError {
    state: &'static str,
    control: &'static str,
    legal: String,
}

/// A phase or campaign: its state, and whether it is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<S> {
    /// Its state.
    pub state: S,
    /// Whether it is held.
    pub paused: bool,
}

/// What a control makes of a phase; the same standing when it was so already.
pub fn control_phase(
    now: Standing<PhaseState>,
    control: Control,
) -> Result<Standing<PhaseState>, ControlError> {
    let legal = |(_, row): &(PhaseState, [bool; 4])| row[control as usize];
    if OF_PHASES.iter().any(|row| row.0 == now.state && legal(row)) {
        return Ok(after(now, control, PhaseState::Cancelled));
    }
    let states: Vec<&str> = OF_PHASES
        .iter()
        .filter(|row| legal(row))
        .map(|row| row.0.as_str())
        .collect();
    Err(ControlError {
        state: now.state.as_str(),
        control: control.participle(),
        legal: states.join(", "),
    })
}

/// What a control makes of a campaign; the same standing when it was so already.
pub fn control_campaign(
    now: Standing<CampaignState>,
    control: Control,
) -> Result<Standing<CampaignState>, ControlError> {
    if now.state == CampaignState::Active || control == Control::Cancel {
        return Ok(after(now, control, CampaignState::Cancelled));
    }
    Err(ControlError {
        state: now.state.as_str(),
        control: control.participle(),
        legal: CampaignState::Active.as_str().into(),
    })
}

fn after<S>(now: Standing<S>, control: Control, cancelled: S) -> Standing<S> {
    match control {
        Control::Pause => Standing {
            paused: true,
            ..now
        },
        Control::Resume => Standing {
            paused: false,
            ..now
        },
        Control::Cancel => Standing {
            state: cancelled,
            paused: false,
        },
        Control::Reschedule => now,
    }
}

/// What came of an offer of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReactionKind {
    /// Its message was sent, or somebody spoke to the customer, and there is no answer.
    NoAnswer,
    /// It was accepted.
    Accepted,
    /// It was rejected.
    Rejected,
    /// It expired.
    Expired,
    /// No message about it was sent, or nobody reached the customer by phone.
    NotReached,
}

/// The most days of [`Reaction::min_age_days`].
pub const MAX_AGE_DAYS: i32 = 3_650;

/// The most attempts of [`Reaction::min_attempts`].
pub const MAX_MIN_ATTEMPTS: i32 = 100;

/// A reaction to an earlier phase, by which an audience is found. Stored as JSON with these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// The earlier phase.
    pub phase: PhaseId,
    /// What came of its offer.
    pub kind: ReactionKind,
    /// Since at least so many days, 0 to [`MAX_AGE_DAYS`].
    pub min_age_days: i32,
    /// Only rejected for one of these; `None` is "not told". All when empty.
    #[serde(default)]
    pub reject_reasons: Vec<Option<RejectReason>>,
    /// Not reached by phone in so many attempts, also when there will be more; 0 to
    /// [`MAX_MIN_ATTEMPTS`], 0 for only those given up.
    #[serde(default)]
    pub min_attempts: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROLS: [Control; 4] = [
        Control::Pause,
        Control::Resume,
        Control::Cancel,
        Control::Reschedule,
    ];

    #[test]
    fn only_what_runs_is_paused_and_all_is_cancelled() {
        for (state, word) in PhaseState::WORDS {
            assert_eq!(PhaseState::parse(word), Some(state));
            assert_eq!(state.as_str(), word);
            let runs = matches!(
                state,
                PhaseState::Planned
                    | PhaseState::Launching
                    | PhaseState::AwaitingApproval
                    | PhaseState::Active
            );
            for paused in [false, true] {
                for control in CONTROLS {
                    let after = control_phase(Standing { state, paused }, control);
                    let expected = match control {
                        Control::Cancel => Some((PhaseState::Cancelled, false)),
                        _ if !runs => None,
                        Control::Pause => Some((state, true)),
                        Control::Resume => Some((state, false)),
                        Control::Reschedule => Some((state, paused)),
                    };
                    let after = after.ok().map(|s| (s.state, s.paused));
                    assert_eq!(after, expected, "{state:?} {control:?}");
                }
            }
        }
        let completed = Standing {
            state: PhaseState::Completed,
            paused: false,
        };
        let refused = control_phase(completed, Control::Pause).map_err(|e| e.to_string());
        assert_eq!(
            refused,
            Err(
                "it is completed; only what is planned, launching, awaiting_approval, active can be paused"
                    .into()
            )
        );
    }

    #[test]
    fn controls_are_idempotent() {
        for (state, _) in PhaseState::WORDS {
            for control in CONTROLS {
                let now = Standing {
                    state,
                    paused: false,
                };
                if let Ok(once) = control_phase(now, control) {
                    assert_eq!(control_phase(once, control), Ok(once));
                }
            }
        }
        let cancelled = Standing {
            state: CampaignState::Cancelled,
            paused: false,
        };
        assert_eq!(control_campaign(cancelled, Control::Cancel), Ok(cancelled));
        assert!(control_campaign(cancelled, Control::Resume).is_err());
    }
}
