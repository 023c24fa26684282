//! What can be wrong with a template, and where.

use std::fmt;

/// Longest template source accepted, in bytes. A letter has a few kilobytes; the
/// limit keeps parsing fast and line numbers inside what both engines count.
pub(crate) const MAX_SOURCE_BYTES: usize = 512 * 1024;

/// Which source of a template an error is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Subject line of a message.
    Subject,
    /// Plain text body of a message.
    TextBody,
    /// HTML body of a message.
    HtmlBody,
    /// The variables of a provider's template.
    ProviderVariables,
    /// Typst source of a document.
    TypstSource,
}

impl Part {
    /// The name of the field that carries this source in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::TextBody => "text_body",
            Self::HtmlBody => "html_body",
            Self::ProviderVariables => "provider_template.variables",
            Self::TypstSource => "typst_source",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One error (or warning) in a template source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{part}:{line}:{column}: {message}")]
pub struct TemplateError {
    /// The source it is in.
    pub part: Part,
    /// Line in that source, from 1.
    pub line: u32,
    /// Column in that line in characters (not bytes), from 1.
    pub column: u32,
    /// What is wrong, in English, with hints in brackets where the engine has
    /// any. May quote the source, and values that the template itself turned
    /// into an error message.
    pub message: String,
}

impl TemplateError {
    /// An error at a byte offset of `source`; 0 if the place is not known.
    pub(crate) fn at(part: Part, source: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = position(source, offset);
        Self {
            part,
            line,
            column,
            message: message.into(),
        }
    }

    /// The error for a source longer than [`MAX_SOURCE_BYTES`], if it is.
    pub(crate) fn too_long(part: Part, source: &str) -> Option<Self> {
        (source.len() > MAX_SOURCE_BYTES).then(|| {
            let message = format!("template is longer than {MAX_SOURCE_BYTES} bytes");
            Self::at(part, source, 0, message)
        })
    }
}

/// A compiled template could not be rendered with some data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The template failed with this data: a missing value, a type that does not
    /// fit, a limit. Never empty.
    #[error("template failed: {}", join(.0))]
    Template(Vec<TemplateError>),
    /// A value of the data cannot be shown, for example a date after year 9999.
    #[error("data cannot be rendered: {0}")]
    Data(String),
    /// The engine itself failed (a bug); other documents are not affected.
    #[error("rendering engine failed: {0}")]
    Engine(String),
}

fn join(errors: &[TemplateError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Line and column of a byte offset, both from 1, the column in characters. An
/// offset behind the end or inside a character counts as the place before it.
fn position(source: &str, offset: usize) -> (u32, u32) {
    let before = &source[..source.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[start..].chars().count() + 1;
    (saturate(line), saturate(column))
}

fn saturate(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = "äö\r\nüx\n";
        assert_eq!(position(source, 0), (1, 1));
        assert_eq!(position(source, 2), (1, 2));
        assert_eq!(position(source, source.find('x').unwrap()), (2, 2));
        assert_eq!(position(source, source.len()), (3, 1));
        assert_eq!(position(source, 1), (1, 1), "inside ä");
        assert_eq!(position(source, 999), (3, 1), "behind the end");
        assert_eq!(position("", 0), (1, 1));
    }
}
