//! What a server does: `server.roles`.

use figment::value::Value;

use super::Reader;

/// The roles of a server; it has at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Answers calls, providers, and recipients who follow links.
    pub api: bool,
    /// Runs operations, sends, hands events over.
    pub worker: bool,
    /// Moves phases on, seals the audit log, and does what the passing of time asks for.
    pub scheduler: bool,
}

impl Roles {
    /// Whether it needs the channel accounts open.
    pub fn opens_accounts(self) -> bool {
        self.api || self.worker
    }
}

impl Reader {
    pub(super) fn roles(&mut self) -> Option<Roles> {
        let path = "server.roles";
        let words = match self.take(path) {
            Some(Value::Array(_, words)) if !words.is_empty() => words,
            _ => {
                self.violations.add(
                    path,
                    "must be a list of at least one of \"api\", \"worker\" and \"scheduler\"",
                );
                return None;
            }
        };
        let mut roles = Roles {
            api: false,
            worker: false,
            scheduler: false,
        };
        let mut wrong = false;
        for (i, word) in words.into_iter().enumerate() {
            match word.as_str() {
                Some("api") => roles.api = true,
                Some("worker") => roles.worker = true,
                Some("scheduler") => roles.scheduler = true,
                _ => {
                    wrong = true;
                    self.violations.add(
                        format!("{path}[{i}]"),
                        "must be \"api\", \"worker\" or \"scheduler\"",
                    );
                }
            }
        }
        (!wrong).then_some(roles)
    }
}
