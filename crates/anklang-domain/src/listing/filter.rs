//! The parser of filters: recursive descent with limits, so that no text makes it run long or
//! deep.

use super::{Fault, MAX_COMPARISONS, MAX_DEPTH, MAX_FILTER};

/// A filter; every node holds for a row or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of them hold; at least two.
    All(Vec<Filter>),
    /// At least one of them holds; at least two.
    Any(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A field compares.
    Compare(Comparison),
}

/// A field against a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Name of the field.
    pub field: String,
    /// Where it stands, from 1, in characters.
    pub position: usize,
    /// How to compare.
    pub comparator: Comparator,
    /// The value.
    pub value: Literal,
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// Its text, without quotes.
    pub text: String,
    /// Whether it had quotes.
    pub quoted: bool,
    /// Where it stands, from 1, in characters.
    pub position: usize,
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `:`
    Has,
}

impl Comparator {
    /// Longer ones before those that they begin with.
    const ALL: [Comparator; 7] = [
        Comparator::NotEqual,
        Comparator::LessOrEqual,
        Comparator::GreaterOrEqual,
        Comparator::Equal,
        Comparator::Less,
        Comparator::Greater,
        Comparator::Has,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Comparator::Equal => "=",
            Comparator::NotEqual => "!=",
            Comparator::Less => "<",
            Comparator::LessOrEqual => "<=",
            Comparator::Greater => ">",
            Comparator::GreaterOrEqual => ">=",
            Comparator::Has => ":",
        }
    }
}

/// Reads a filter; `None` for text without any.
///
/// # Errors
/// The first fault, with its position.
pub fn parse_filter(text: &str) -> Result<Option<Filter>, Fault> {
    if text.len() > MAX_FILTER {
        return Err(Fault {
            position: 1,
            reason: format!("a filter has at most {MAX_FILTER} bytes"),
        });
    }
    let mut parser = Parser {
        chars: text.chars().collect(),
        next: 0,
        comparisons: 0,
    };
    parser.blanks();
    if parser.peek().is_none() {
        return Ok(None);
    }
    let filter = parser.expression(1)?;
    match parser.peek() {
        None => Ok(Some(filter)),
        Some(')') => parser.fault("a parenthesis is closed that was not opened"),
        Some(_) => parser.fault("AND or OR is missing before this"),
    }
}

struct Parser {
    chars: Vec<char>,
    next: usize,
    comparisons: usize,
}

/// Every part begins and ends on something else than a blank.
impl Parser {
    fn fault<T>(&self, reason: impl Into<String>) -> Result<T, Fault> {
        Err(Fault {
            position: self.next + 1,
            reason: reason.into(),
        })
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.next).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next += 1;
        }
    }

    /// Takes `word` when it stands here and is not the beginning of a longer one.
    fn keyword(&mut self, word: &str) -> bool {
        let end = self.next + word.len();
        let here = self
            .chars
            .get(self.next..end)
            .is_some_and(|found| found.iter().copied().eq(word.chars()));
        let goes_on = |c: &char| is_of_name(*c) || *c == ':' || *c == '=';
        if !here || self.chars.get(end).is_some_and(goes_on) {
            return false;
        }
        self.next = end;
        self.blanks();
        true
    }

    /// `factor {AND factor}`
    fn expression(&mut self, depth: usize) -> Result<Filter, Fault> {
        let mut factors = vec![self.factor(depth)?];
        while self.keyword("AND") {
            factors.push(self.factor(depth)?);
        }
        Ok(one_or(factors, Filter::All))
    }

    /// `term {OR term}`
    fn factor(&mut self, depth: usize) -> Result<Filter, Fault> {
        let mut terms = vec![self.term(depth)?];
        while self.keyword("OR") {
            terms.push(self.term(depth)?);
        }
        Ok(one_or(terms, Filter::Any))
    }

    /// `[NOT | -] ( "(" expression ")" | comparison )`
    fn term(&mut self, depth: usize) -> Result<Filter, Fault> {
        if depth > MAX_DEPTH {
            return self.fault(format!("is deeper than {MAX_DEPTH} levels"));
        }
        if self.keyword("NOT") {
            return Ok(Filter::Not(Box::new(self.term(depth + 1)?)));
        }
        match self.peek() {
            Some('-') => {
                self.next += 1;
                Ok(Filter::Not(Box::new(self.term(depth + 1)?)))
            }
            Some('(') => {
                self.next += 1;
                self.blanks();
                let inner = self.expression(depth + 1)?;
                if self.peek() != Some(')') {
                    return self.fault("a closing parenthesis, AND or OR is missing here");
                }
                self.next += 1;
                self.blanks();
                Ok(inner)
            }
            _ => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Result<Filter, Fault> {
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return self.fault(format!("has more than {MAX_COMPARISONS} comparisons"));
        }
        let position = self.next + 1;
        let field = self.run(is_of_name);
        if field.is_empty() {
            return self.fault("a field is missing here");
        }
        if self.peek() == Some('(') {
            return self.fault("functions are not supported");
        }
        self.blanks();
        let Some(comparator) = self.comparator() else {
            return self.fault("one of = != < <= > >= : is missing here");
        };
        let value = self.literal()?;
        self.blanks();
        Ok(Filter::Compare(Comparison {
            field,
            position,
            comparator,
            value,
        }))
    }

    fn comparator(&mut self) -> Option<Comparator> {
        let rest = &self.chars[self.next..];
        let found = Comparator::ALL.into_iter().find(|c| {
            let mut here = rest.iter().copied();
            c.as_str().chars().all(|c| here.next() == Some(c))
        })?;
        self.next += found.as_str().len();
        self.blanks();
        Some(found)
    }

    fn literal(&mut self) -> Result<Literal, Fault> {
        let position = self.next + 1;
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            self.next += 1;
            return Ok(Literal {
                text: self.quoted(quote)?,
                quoted: true,
                position,
            });
        }
        let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | '"' | '\'');
        let text = self.run(is_plain);
        if text.is_empty() {
            return self.fault("a value is missing here");
        }
        if self.peek() == Some('(') {
            return self.fault("functions are not supported");
        }
        Ok(Literal {
            text,
            quoted: false,
            position,
        })
    }

    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else {
                return self.fault(format!("the closing {quote} is missing"));
            };
            self.next += 1;
            if c == quote {
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
            } else if let Some(escaped) = self.peek() {
                self.next += 1;
                text.push(escaped);
            }
        }
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let start = self.next;
        while self.peek().is_some_and(&belongs) {
            self.next += 1;
        }
        self.chars[start..self.next].iter().collect()
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

fn one_or(mut several: Vec<Filter>, make: fn(Vec<Filter>) -> Filter) -> Filter {
    if several.len() == 1 {
        several.remove(0)
    } else {
        make(several)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tree with all its parentheses.
    fn shown(filter: &Filter) -> String {
        let list = |all: &[Filter], word: &str| {
            let all: Vec<String> = all.iter().map(shown).collect();
            format!("({})", all.join(word))
        };
        match filter {
            Filter::All(all) => list(all, " AND "),
            Filter::Any(any) => list(any, " OR "),
            Filter::Not(inner) => format!("NOT {}", shown(inner)),
            Filter::Compare(c) => {
                let quoted = c.value.text.replace('\\', "\\\\").replace('"', "\\\"");
                let value = if c.value.quoted {
                    format!("\"{quoted}\"")
                } else {
                    quoted
                };
                format!("{}{}{value}", c.field, c.comparator.as_str())
            }
        }
    }

    fn parsed(text: &str) -> Result<String, String> {
        parse_filter(text)
            .map(|filter| filter.as_ref().map_or_else(String::new, shown))
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn or_binds_tighter_than_and() {
        for (text, tree) in [
            ("", ""),
            ("  ", ""),
            ("a=1", "a=1"),
            ("a = 1 AND b != 2 OR c < 3", "(a=1 AND (b!=2 OR c<3))"),
            ("(a=1 AND b=2) OR c=3", "((a=1 AND b=2) OR c=3)"),
            ("NOT a=1 OR -b=2", "(NOT a=1 OR NOT b=2)"),
            ("NOT (a=1 AND NOT b:x)", "NOT (a=1 AND NOT b:x)"),
            ("((a=1))", "a=1"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(tree), "{text}");
        }
    }

    #[test]
    fn values_are_plain_or_quoted() {
        for (text, tree) in [
            (
                "t >= 2026-01-31T12:00:00+01:00",
                "t>=2026-01-31T12:00:00+01:00",
            ),
            ("customer=customers/47%2F11", "customer=customers/47%2F11"),
            ("n > -2.5", "n>-2.5"),
            ("a:*", "a:*"),
            (r#"a = "x \"y\" \\ ('z')""#, r#"a="x \"y\" \\ ('z')""#),
            (r#"a = 'x "y"'"#, r#"a="x \"y\"""#),
            (
                "ANDY=1 AND ORDER=2 AND NOTE=3",
                "(ANDY=1 AND ORDER=2 AND NOTE=3)",
            ),
            ("a=\"\"", "a=\"\""),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(tree), "{text}");
        }
    }

    #[test]
    fn faults_say_where_they_are() {
        for (text, fault) in [
            (
                "a",
                "at character 2: one of = != < <= > >= : is missing here",
            ),
            ("a =", "at character 4: a value is missing here"),
            ("= 1", "at character 1: a field is missing here"),
            ("ä = 1", "at character 1: a field is missing here"),
            (
                "a = 1 b = 2",
                "at character 7: AND or OR is missing before this",
            ),
            (
                "a = 1)",
                "at character 6: a parenthesis is closed that was not opened",
            ),
            (
                "(a = 1",
                "at character 7: a closing parenthesis, AND or OR is missing here",
            ),
            ("a = \"x", "at character 7: the closing \" is missing"),
            ("f(x) = 1", "at character 2: functions are not supported"),
            ("a = f(x)", "at character 6: functions are not supported"),
            ("a = 1 AND", "at character 10: a field is missing here"),
            (
                "a ~ 1",
                "at character 3: one of = != < <= > >= : is missing here",
            ),
        ] {
            assert_eq!(parsed(text), Err(fault.to_owned()), "{text}");
        }
    }

    #[test]
    fn size_is_limited() {
        let deep = |n: usize| format!("{}a=1{}", "(".repeat(n), ")".repeat(n));
        assert!(parse_filter(&deep(MAX_DEPTH - 1)).is_ok());
        for much in [MAX_DEPTH, 4_000] {
            assert!(
                parsed(&deep(much))
                    .expect_err("a fault")
                    .contains("deeper than 16")
            );
            let nots = format!("{}a=1", "NOT ".repeat(much / 2 + MAX_DEPTH));
            assert!(parsed(&nots).is_err());
        }
        let wide = |n: usize| vec!["a=1"; n].join(" OR ");
        assert!(parse_filter(&wide(MAX_COMPARISONS)).is_ok());
        assert!(
            parsed(&wide(65))
                .expect_err("a fault")
                .contains("more than 64")
        );
        let long = "a".repeat(1 << 20);
        assert!(
            parsed(&long)
                .expect_err("a fault")
                .contains("at most 8192 bytes")
        );
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let leaf = ("[a-z][a-z_]{0,5}", 0..7usize, ".{0,8}").prop_map(|(field, c, text)| {
            Filter::Compare(Comparison {
                field,
                position: 0,
                comparator: Comparator::ALL[c],
                value: Literal {
                    text,
                    quoted: true,
                    position: 0,
                },
            })
        });
        leaf.prop_recursive(6, 30, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                list.clone().prop_map(Filter::All),
                list.prop_map(Filter::Any),
                inner.prop_map(|f| Filter::Not(Box::new(f))),
            ]
        })
    }

    proptest! {
        /// What is written is what is read.
        #[test]
        fn filters_survive_being_written(filter in filters()) {
            let text = shown(&filter);
            let again = parse_filter(&text).expect("a filter").expect("one");
            prop_assert_eq!(shown(&again), text);
        }

        /// Whatever comes, it is read or refused.
        #[test]
        fn no_text_is_too_much(text in ".{0,200}") {
            let _ = parse_filter(&text);
        }

        #[test]
        fn nor_is_one_of_its_own_words(words in prop::collection::vec(
            prop::sample::select(vec!["(", ")", "a", "=", "\"", "AND ", "OR ", "NOT ", "-", " ", "1", "\\"]), 0..40)) {
            let _ = parse_filter(&words.concat());
        }
    }
}
