//! Resource names (AIP-122): `customers/4711`, `products/LS-K/versions/2025`.
//!
//! The ids of master data are the tenant's own numbers, which may hold any printable character;
//! in a name they are percent-encoded as URL path segments.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

/// All but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Builds a name out of pairs of collection and id.
pub fn format(pairs: &[(&str, &str)]) -> String {
    let mut name = String::new();
    for (collection, id) in pairs {
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(collection);
        name.push('/');
        name.extend(utf8_percent_encode(id, SEGMENT));
    }
    name
}

/// The most bytes of a name.
const LONGEST: usize = 2_000;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is missing.
    #[error("is required, in the form {0}")]
    Missing(String),
    /// The name has another form.
    #[error("must have the form {0}")]
    Form(String),
    /// No name is as long.
    #[error("must have at most {LONGEST} bytes")]
    Long,
}

/// Reads the ids out of a name of the given collections, e.g.
/// `parse("products/a/versions/b", ["products", "versions"])` is `["a", "b"]`.
pub fn parse<const N: usize>(name: &str, collections: [&str; N]) -> Result<[String; N], NameError> {
    let form = || {
        collections
            .map(|c| format!("{c}/{{{}}}", c.trim_end_matches('s')))
            .join("/")
    };
    if name.is_empty() {
        return Err(NameError::Missing(form()));
    }
    if name.len() > LONGEST {
        return Err(NameError::Long);
    }
    let segments: Vec<&str> = name.split('/').collect();
    if segments.len() != 2 * N {
        return Err(NameError::Form(form()));
    }
    let mut ids: [String; N] = std::array::from_fn(|_| String::new());
    for (i, collection) in collections.iter().enumerate() {
        let id = percent_decode_str(segments[2 * i + 1])
            .decode_utf8()
            .ok()
            .filter(|id| !id.is_empty() && !id.chars().any(char::is_control));
        match id {
            Some(id) if segments[2 * i] == *collection => ids[i] = id.into_owned(),
            _ => return Err(NameError::Form(form())),
        }
    }
    Ok(ids)
}

/// As `parse`, for a name of one collection whose id is a UUID.
pub fn parse_uuid(name: &str, collection: &str) -> Result<Uuid, NameError> {
    let [id] = parse(name, [collection])?;
    Uuid::try_parse(&id).map_err(|_| NameError::Form(format!("{collection}/{{uuid}}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_refused_with_the_form_they_should_have() {
        let form = |name| parse(name, ["products", "versions"]).map_err(|e| e.to_string());
        assert_eq!(
            form(""),
            Err("is required, in the form products/{product}/versions/{version}".into())
        );
        for bad in [
            "products/a",
            "products//versions/b",
            "products/a/version/b",
            "products/a/versions/b/c",
            "products/a/versions/%ff",
            "products/a/versions/%00",
        ] {
            assert!(form(bad).is_err(), "{bad}");
        }
        assert!(parse_uuid("campaigns/17", "campaigns").is_err());
    }

    proptest! {
        #[test]
        fn any_printable_number_survives(a in "[^\\p{C}]{1,64}", b in "[^\\p{C}]{1,64}") {
            let name = format(&[("products", &a), ("versions", &b)]);
            prop_assert_eq!(parse(&name, ["products", "versions"]), Ok([a, b]));
        }
    }
}
