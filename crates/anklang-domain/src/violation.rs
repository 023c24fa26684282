//! What is wrong with an input: collected over all of it, reported all at once.

/// One field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field as the caller wrote it, e.g. `customer.contact_points[2].address`.
    pub field: String,
    /// What is wrong and what would be right; a sentence without the field's name.
    pub reason: String,
}

/// Collects violations; `finish` turns them into a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Violation {
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
        self.0.extend(other.0.into_iter().map(|v| Violation {
            field: format!("{prefix}{}", v.field),
            reason: v.reason,
        }));
    }

    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of finding.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }

    /// All of them, in the order of finding.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
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
        for (i, v) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {}", v.field, v.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}
