//! Links to the tenant's own pages.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986, so that a number stays in its place: path or query.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A link for a number, from a template such as `https://shop.example/customers/{number}`. An empty template
/// gives none.
pub fn link(template: &str, number: &str) -> String {
    template.replace("{number}", &utf8_percent_encode(number, VALUE).to_string())
}

#[cfg(test)]
mod tests {
    use super::link;

    #[test]
    fn numbers_stay_in_their_place() {
        for (template, number, wanted) in [
            (
                "https://a.example/{number}",
                "4711",
                "https://a.example/4711",
            ),
            (
                "https://a.example/k/{number}?of={number}#x",
                "A/1 &?ä",
                "https://a.example/k/A%2F1%20%26%3F%C3%A4?of=A%2F1%20%26%3F%C3%A4#x",
            ),
            ("https://a.example/", "1", "https://a.example/"),
            (
                "https://a.example/{number}",
                "{number}",
                "https://a.example/%7Bnumber%7D",
            ),
            ("", "1", ""),
        ] {
            assert_eq!(link(template, number), wanted);
        }
    }
}
