//! Messages of master data as the text fields of an import, so that both are checked by the same
//! rules; violations come back under the paths of the message.

use anklang_domain::master::Row;
use anklang_domain::{Violation, Violations, name};
use anklang_proto::google::r#type::{Date, Money};
use anklang_store::StoreError;
use prost_types::Timestamp;

use super::{ApiError, ApiResult, wire};

/// Columns that have another name in the message, and that name; an empty one for columns that
/// are checked elsewhere.
pub type Names = &'static [(&'static str, &'static str)];

/// The path of a column in a message that stands at `prefix`, e.g. `brand.`.
pub fn path(prefix: &str, names: Names, column: &str) -> Option<String> {
    match names.iter().find(|(known, _)| *known == column) {
        Some((_, "")) => None,
        Some((_, name)) => Some(format!("{prefix}{name}")),
        None => Some(format!("{prefix}{column}")),
    }
}

/// A message as text fields.
pub struct Form<'v> {
    prefix: String,
    names: Names,
    fields: Vec<(&'static str, String)>,
    refused: Vec<&'static str>,
    violations: &'v mut Violations,
}

impl<'v> Form<'v> {
    /// A message at `prefix`, which brings its own dot; violations go to `violations`.
    pub fn new(prefix: impl Into<String>, names: Names, violations: &'v mut Violations) -> Self {
        Form {
            prefix: prefix.into(),
            names,
            fields: Vec::new(),
            refused: Vec::new(),
            violations,
        }
    }

    /// A field of text.
    pub fn text(&mut self, column: &'static str, value: impl Into<String>) -> &mut Self {
        self.fields.push((column, value.into()));
        self
    }

    /// A date; without one the field is empty.
    pub fn date(&mut self, column: &'static str, date: Option<&Date>) -> &mut Self {
        let text = date.map(|d| wire::naive_date(d).map(|d| d.format("%Y-%m-%d").to_string()));
        self.converted(column, text)
    }

    /// A point in time; without one the field is empty.
    pub fn time(&mut self, column: &'static str, time: Option<&Timestamp>) -> &mut Self {
        let text = time.map(|t| wire::date_time(t).map(|t| t.to_rfc3339()));
        self.converted(column, text)
    }

    /// An amount of money without its currency; without one the field is empty.
    pub fn amount(&mut self, column: &'static str, money: Option<&Money>) -> &mut Self {
        let text = money.map(|m| wire::amount(m).map(|a| a.to_string()));
        self.converted(column, text)
    }

    /// The id in the name of something in `collection`; an empty name gives an empty field.
    pub fn id(
        &mut self,
        column: &'static str,
        resource: &str,
        collection: &'static str,
    ) -> &mut Self {
        let id = (!resource.is_empty()).then(|| name::parse(resource, [collection]).map(|[id]| id));
        self.converted(column, id)
    }

    fn converted<E: std::fmt::Display>(
        &mut self,
        column: &'static str,
        value: Option<Result<String, E>>,
    ) -> &mut Self {
        match value {
            None => {}
            Some(Ok(text)) => self.fields.push((column, text)),
            Some(Err(error)) => self.refuse(column, error.to_string()),
        }
        self
    }

    /// Refuses a field that does not even become text.
    pub fn refuse(&mut self, column: &'static str, reason: impl Into<String>) {
        if let Some(path) = path(&self.prefix, self.names, column) {
            self.violations.add(path, reason);
        }
        self.refused.push(column);
    }

    /// The row, when nothing is wrong.
    pub fn parse<R: Row>(&mut self) -> Option<R> {
        let get = |column: &str| {
            let field = self.fields.iter().find(|(known, _)| *known == column);
            field.map(|(_, text)| text.as_str())
        };
        match R::parse(&get) {
            Ok(row) => self.refused.is_empty().then_some(row),
            Err(violations) => {
                for Violation { field, reason } in violations.into_vec() {
                    let known = self.refused.contains(&&*field);
                    if let Some(path) = path(&self.prefix, self.names, &field).filter(|_| !known) {
                        self.violations.add(path, reason);
                    }
                }
                None
            }
        }
    }
}

/// The ids in the name of a resource that a call is about.
pub fn ids<const N: usize>(
    field: &str,
    resource: &str,
    collections: [&str; N],
) -> ApiResult<[String; N]> {
    name::parse(resource, collections).map_err(|error| ApiError::field(field, error.to_string()))
}

/// What was read, or all that is wrong with it.
pub fn complete<T>(violations: Violations, read: Option<T>) -> ApiResult<T> {
    violations
        .finish(read)?
        .ok_or_else(|| ApiError::Internal("a message was refused without a violation".into()))
}

/// Trims the id by which a resource is found, as it is stored, and fills it in when only the name is
/// given. Gives it when there can be a resource of that id, so that it may be looked up before all is checked.
pub fn identify(id: &mut String, resource: &str, collection: &str) -> Option<String> {
    let mut found = id.trim().to_owned();
    if found.is_empty()
        && let Ok([named]) = name::parse(resource, [collection])
    {
        found = named.trim().to_owned();
    }
    id.clone_from(&found);
    Some(found).filter(|id| !id.is_empty() && !id.contains(char::is_control))
}

/// Notes when a list is longer than it may be.
pub fn at_most(violations: &mut Violations, field: &str, length: usize, most: usize) {
    if length > most {
        violations.add(
            field,
            format!("has {length} entries; at most {most} are allowed"),
        );
    }
}

/// Notes when the name of a resource is given and not that of its ids.
pub fn check_name(violations: &mut Violations, field: &str, given: &str, ids: &[(&str, &str)]) {
    let right = name::format(ids);
    if !given.is_empty() && given != right {
        violations.add(field, format!("must be empty or {right}"));
    }
}

/// An error of the store, its violations under the paths that `path` makes of their columns.
pub fn store_error(error: StoreError, path: impl Fn(&str) -> String) -> ApiError {
    let StoreError::Invalid(violations) = error else {
        return ApiError::Store(error);
    };
    let mut named = Violations::new();
    for Violation { field, reason } in violations.into_vec() {
        named.add(path(&field), reason);
    }
    ApiError::Invalid(named)
}

/// As `path`, for a field that the store refused: `number` or `items[2].code`.
pub fn stored_path(prefix: &str, names: Names, parts: Names, field: &str) -> String {
    let own = || prefix.trim_end_matches('.').to_owned();
    match field.split_once('.') {
        Some((part, column)) => {
            path(&format!("{prefix}{part}."), parts, column).unwrap_or_else(own)
        }
        None if field.ends_with(']') => format!("{prefix}{field}"),
        None => path(prefix, names, field).unwrap_or_else(own),
    }
}
