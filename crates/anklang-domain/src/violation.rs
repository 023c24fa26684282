//! What is wrong with an input: collected over all of it, reported all at once.

/// One field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field as the caller wrote it, e.g. `customer.contact_points[2].address`.
    pub field: String,
    /// What is wrong and what would be right; a sentence without the field's name.
    pub reason: String,
}

/// The most that are kept: more of them help nobody, and inputs may have millions.
const KEPT: usize = 1_000;

/// Collects violations; `finish` turns them into a result. Of more than a thousand the first are kept, and the others
/// counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    kept: Vec<Violation>,
    others: usize,
}

impl Violations {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        if self.kept.len() >= KEPT {
            self.others += 1;
            return;
        }
        self.kept.push(Violation {
            field: field.into(),
            reason: reason.into(),
        });
    }

    /// Takes the value, or notes the error under the field and gives `None`.
    pub fn check<T, E: std::fmt::Display>(
        &mut self,
        field: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|e| self.add(field, e.to_string())).ok()
    }

    /// Adds all of another collection, its paths prefixed with `prefix` (which brings its own dot).
    pub fn extend_under(&mut self, prefix: &str, other: Violations) {
        for Violation { field, reason } in other.kept {
            self.add(format!("{prefix}{field}"), reason);
        }
        self.others += other.others;
    }

    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many there are, also of those that are not kept.
    pub fn count(&self) -> usize {
        self.kept.len() + self.others
    }

    /// Those that are kept, in the order of finding.
    pub fn into_vec(self) -> Vec<Violation> {
        self.kept
    }

    /// Those that are kept, in the order of finding.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.kept.iter()
    }

    /// `Ok(value)` when nothing is wrong, else all violations.
    pub fn finish<T>(self, value: T) -> Result<T, Violations> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, v) in self.kept.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {}", v.field, v.reason)?;
        }
        match self.others {
            0 => Ok(()),
            others => write!(f, "; and {others} more"),
        }
    }
}

impl std::error::Error for Violations {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_the_first_are_kept_and_all_are_counted() {
        let mut inner = Violations::new();
        for i in 0..5_000 {
            inner.add(format!("[{i}]"), "is wrong");
        }
        let mut outer = Violations::new();
        outer.add("first", "is wrong");
        outer.extend_under("list", inner);
        assert_eq!(outer.count(), 5_001);
        assert!(outer.to_string().ends_with("; and 4001 more"));
        let kept = outer.into_vec();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[1].field, "list[0]");
    }
}
