//! The parser of orders.

use super::{Fault, MAX_ORDER, MAX_ORDER_FIELDS};

/// A field to order by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderItem {
    /// Name of the field.
    pub field: String,
    /// Where it stands, from 1, in characters.
    pub position: usize,
    /// The greatest first.
    pub descending: bool,
}

/// Reads an order; empty for text without any.
///
/// # Errors
/// The first fault, with its position.
pub fn parse_order(text: &str) -> Result<Vec<OrderItem>, Fault> {
    let fault = |position, reason: String| Err(Fault { position, reason });
    if text.len() > MAX_ORDER {
        return fault(1, format!("an order has at most {MAX_ORDER} bytes"));
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut items: Vec<OrderItem> = Vec::new();
    let mut start = 0;
    for part in text.split(',') {
        let blanks = part.chars().take_while(|c| c.is_whitespace()).count();
        let position = start + blanks + 1;
        start += part.chars().count() + 1;
        let mut words = part.split_whitespace();
        let field = words.next().unwrap_or_default().to_owned();
        if field.is_empty() {
            return fault(position, "a field is missing here".into());
        }
        let descending = match words.next() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return fault(position, "only asc or desc may follow a field".into()),
        };
        if words.next().is_some() {
            return fault(position, "only asc or desc may follow a field".into());
        }
        if items.iter().any(|i| i.field == field) {
            return fault(position, format!("{field} is there twice"));
        }
        if items.len() == MAX_ORDER_FIELDS {
            return fault(position, format!("has more than {MAX_ORDER_FIELDS} fields"));
        }
        items.push(OrderItem {
            field,
            position,
            descending,
        });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, bool)>, String> {
        parse_order(text)
            .map(|items| items.into_iter().map(|i| (i.field, i.descending)).collect())
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn fields_ascend_unless_said_otherwise() {
        assert_eq!(parsed(" "), Ok(vec![]));
        let expected = [("a", false), ("b_c", true), ("d", false)];
        let expected: Vec<_> = expected.map(|(f, d)| (f.to_owned(), d)).into();
        assert_eq!(parsed("a, b_c  desc,d asc"), Ok(expected));
    }

    #[test]
    fn faults_say_where_they_are() {
        for (text, fault) in [
            ("a,", "at character 3: a field is missing here"),
            (
                "ä, b down",
                "at character 4: only asc or desc may follow a field",
            ),
            (
                "a desc desc",
                "at character 1: only asc or desc may follow a field",
            ),
            ("a, a desc", "at character 4: a is there twice"),
            (
                "a,b,c,d,e,f,g,h,i",
                "at character 17: has more than 8 fields",
            ),
        ] {
            assert_eq!(parsed(text), Err(fault.to_owned()), "{text}");
        }
        let long = "a".repeat(1 << 20);
        assert!(
            parsed(&long)
                .expect_err("a fault")
                .contains("at most 1024 bytes")
        );
    }
}
