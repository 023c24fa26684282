//! Misbehaviour on demand: which mails it hits, and what happens to them.

use std::time::Duration;

/// A refusal, as the client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Reply code: 4xx means "try again later", 5xx "never".
    pub code: u16,
    /// One line of text, beginning with the enhanced status code, such as `4.2.0 busy`.
    pub text: String,
}

impl Reply {
    /// A reply; line ends in the text become blanks.
    pub fn new(code: u16, text: &str) -> Self {
        Self {
            code,
            text: text.replace(['\r', '\n'], " "),
        }
    }
}

/// What goes wrong. Times are the longest: waiting ends when the faults are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `RCPT TO` is refused, for example with 450, 451 or 550.
    RejectRecipient(Reply),
    /// The mail is refused after its final dot, and not recorded.
    RejectMail(Reply),
    /// The answer to `DATA` comes that much later.
    HangBeforeData(Duration),
    /// The connection is closed when the first line of the mail has come.
    CloseInData,
    /// The mail is recorded and acknowledged that much later.
    Slow(Duration),
    /// The mail is recorded at once, but acknowledged that much later: a client that gives
    /// up before cannot know that it was taken.
    HangAfterDot(Duration),
    /// The connection is closed instead of the acknowledgement.
    CloseAfterDot {
        /// Whether the mail is recorded all the same.
        keep: bool,
    },
}

/// Which mails a rule hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matching {
    /// Every mail.
    All,
    /// Mails to a recipient whose address contains this text, in any case of letters. For
    /// [`Fault::RejectRecipient`] that recipient alone, else the mail if any of its accepted
    /// recipients matches.
    Recipient(String),
    /// The n-th mail of this sink: accepted `MAIL FROM` commands, counted from 1 over all
    /// connections.
    Mail(u64),
}

/// One misbehaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whom it hits.
    pub matching: Matching,
    /// What happens.
    pub fault: Fault,
    /// How often it still happens; `None` is for ever. One time makes a greylisting server.
    pub times: Option<u64>,
}

/// Rules in order; at each point of the dialogue the first one that matches counts. Faults
/// of different points of the dialogue combine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Rule>);

impl Faults {
    /// A server without fault.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a rule that holds for ever.
    #[must_use]
    pub fn with(self, matching: Matching, fault: Fault) -> Self {
        self.push(matching, fault, None)
    }

    /// Adds a rule that holds for the next `times` matches.
    #[must_use]
    pub fn with_times(self, matching: Matching, fault: Fault, times: u64) -> Self {
        self.push(matching, fault, Some(times))
    }

    fn push(mut self, matching: Matching, fault: Fault, times: Option<u64>) -> Self {
        self.0.push(Rule {
            matching,
            fault,
            times,
        });
        self
    }

    /// The fault of this stage for a mail, if any; uses up one of its times.
    pub(super) fn take(&mut self, stage: Stage, mail: u64, to: &[String]) -> Option<Fault> {
        let rule = self.0.iter_mut().find(|rule| {
            rule.fault.stage() == stage && rule.times != Some(0) && rule.matching.hits(mail, to)
        })?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.fault.clone())
    }
}

/// Points of the dialogue at which something may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Recipient,
    BeforeData,
    InData,
    BeforeRecording,
    AfterDot,
}

impl Fault {
    fn stage(&self) -> Stage {
        match self {
            Self::RejectRecipient(_) => Stage::Recipient,
            Self::HangBeforeData(_) => Stage::BeforeData,
            Self::CloseInData => Stage::InData,
            Self::Slow(_) => Stage::BeforeRecording,
            Self::RejectMail(_) | Self::HangAfterDot(_) | Self::CloseAfterDot { .. } => {
                Stage::AfterDot
            }
        }
    }
}

impl Matching {
    fn hits(&self, mail: u64, to: &[String]) -> bool {
        match self {
            Self::All => true,
            Self::Mail(number) => *number == mail,
            Self::Recipient(part) => {
                let part = part.to_lowercase();
                to.iter()
                    .any(|address| address.to_lowercase().contains(&part))
            }
        }
    }
}
