//! Pages of a list: sizes and keyset tokens, bound to the query that they belong to.

use anklang_domain::Violations;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const DEFAULT_SIZE: i32 = 50;
const MAX_SIZE: i32 = 1_000;

/// A page that was asked for. Load `limit()` rows after `after`, then call `cut`.
#[derive(Debug)]
pub struct Page {
    size: usize,
    query: String,
    /// Key of the last row of the page before, as given to `cut`; empty for the first page.
    pub after: Vec<String>,
}

impl Page {
    /// Reads size and token. `query` is what the token is bound to: method and filters.
    pub fn read(size: i32, token: &str, query: String, violations: &mut Violations) -> Page {
        if !(0..=MAX_SIZE).contains(&size) {
            violations.add("page_size", format!("must be between 0 and {MAX_SIZE}"));
        }
        let size = if size == 0 { DEFAULT_SIZE } else { size };
        let after = if token.is_empty() {
            Vec::new()
        } else {
            decode(token, &query).unwrap_or_else(|| {
                violations.add("page_token", "is no token of this list with these filters");
                Vec::new()
            })
        };
        Page {
            size: usize::try_from(size).unwrap_or(0),
            query,
            after,
        }
    }

    /// So many rows tell the page and whether there is another.
    pub fn limit(&self) -> i64 {
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }

    /// Cuts the rows to the page and gives the token of the next one, empty on the last.
    pub fn cut<R>(&self, rows: &mut Vec<R>, key: impl Fn(&R) -> Vec<String>) -> String {
        if rows.len() <= self.size {
            return String::new();
        }
        rows.truncate(self.size);
        rows.last()
            .map_or_else(String::new, |last| encode(&key(last), &self.query))
    }
}

fn encode(key: &[String], query: &str) -> String {
    let parts: Vec<&str> = std::iter::once(query)
        .chain(key.iter().map(String::as_str))
        .collect();
    let mut bytes = Sha256::digest(serde_json::to_vec(&parts).unwrap_or_default())[..8].to_vec();
    bytes.extend(serde_json::to_vec(key).unwrap_or_default());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(token: &str, query: &str) -> Option<Vec<String>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let key: Vec<String> = serde_json::from_slice(bytes.get(8..)?).ok()?;
    (encode(&key, query) == token).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_query() {
        let mut none = Violations::new();
        let page = Page::read(2, "", "ListX a".into(), &mut none);
        let mut rows = vec![1, 2, 3];
        let token = page.cut(&mut rows, |r| vec![r.to_string()]);
        assert_eq!(rows, [1, 2]);
        let next = Page::read(2, &token, "ListX a".into(), &mut none);
        assert_eq!(next.after, ["2"]);
        assert_eq!(next.cut(&mut vec![3], |r| vec![r.to_string()]), "");
        assert!(none.is_empty());

        let mut found = Violations::new();
        Page::read(2, &token, "ListX b".into(), &mut found);
        Page::read(-1, "x", "ListX a".into(), &mut found);
        assert_eq!(found.into_vec().len(), 3);
    }
}
