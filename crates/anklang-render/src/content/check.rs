//! Static checks of a message template: every branch, not just the rendered ones.
//!
//! The engine knows which variables are not declared but not where they stand,
//! so the tokens of the source are searched for them.

use std::collections::BTreeSet;

use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};

use crate::error::{Part, TemplateError};

/// Unknown variables, filters and tests of a part that is in the environment
/// under this name, and statements that messages do not get. The complete sample
/// has all names of the model.
pub(super) fn check(
    environment: &Environment<'_>,
    model: &serde_json::Value,
    part: Part,
    name: &str,
    source: &str,
) -> Vec<TemplateError> {
    let Ok(template) = environment.get_template(name) else {
        return Vec::new();
    };
    let unknown: BTreeSet<String> = template
        .undeclared_variables(true)
        .into_iter()
        .filter(|path| !is_known(environment, model, path))
        .collect();
    let tokens: Vec<_> = tokenize(source, false, SyntaxConfig::default())
        .filter_map(Result::ok)
        .collect();
    let mut errors = Vec::new();
    for index in 0..tokens.len() {
        let problem = variable(&tokens[index..], before(&tokens, index), &unknown)
            .or_else(|| callee(environment, &tokens, index))
            .or_else(|| statement(&tokens, index));
        if let Some(message) = problem {
            let offset = tokens[index].1.start_offset as usize;
            errors.push(TemplateError::at(part, source, offset, message));
        }
    }
    errors
}

type Located<'a> = (Token<'a>, Span);

fn before<'a>(tokens: &'a [Located<'a>], index: usize) -> Option<&'a Token<'a>> {
    index.checked_sub(1).map(|index| &tokens[index].0)
}

/// Whether a dotted path leads to a variable of the model, as far as the model
/// knows it, or to a function of the engine.
fn is_known(environment: &Environment<'_>, model: &serde_json::Value, path: &str) -> bool {
    let mut names = path.split('.');
    let root = names.next().unwrap_or_default();
    let Some(mut value) = model.get(root) else {
        return environment.globals().any(|(name, _)| name == root);
    };
    for name in names {
        let Some(fields) = value.as_object() else {
            return true; // an attribute of text is for rendering to judge
        };
        let Some(field) = fields.get(name) else {
            return false;
        };
        value = field;
    }
    true
}

/// An unknown variable that starts at the first of these tokens.
fn variable(
    tokens: &[Located<'_>],
    before: Option<&Token<'_>>,
    unknown: &BTreeSet<String>,
) -> Option<String> {
    if matches!(before, Some(Token::Dot | Token::Pipe)) {
        return None;
    }
    let mut path = String::new();
    let mut rest = tokens;
    while let [(Token::Ident(name), _), after @ ..] = rest {
        path.push_str(name);
        if unknown.contains(&path) && !matches!(after, [(Token::Assign, _), ..]) {
            return Some(format!("unknown variable `{path}`"));
        }
        let [(Token::Dot, _), after @ ..] = after else {
            break;
        };
        path.push('.');
        rest = after;
    }
    None
}

/// An unknown filter (`x|name`, `{% filter name %}`) or test (`x is not name`).
fn callee(environment: &Environment<'_>, tokens: &[Located<'_>], index: usize) -> Option<String> {
    let Token::Ident(name) = tokens[index].0 else {
        return None;
    };
    let back = |steps| index.checked_sub(steps).map(|index| &tokens[index].0);
    let mut state = environment.empty_state();
    match (back(3), back(2), back(1)) {
        (_, _, Some(Token::Pipe)) | (_, Some(Token::BlockStart), Some(Token::Ident("filter"))) => {
            let kind = state.apply_filter(name, &[Value::from(())]).err()?.kind();
            (kind == ErrorKind::UnknownFilter).then(|| format!("unknown filter `{name}`"))
        }
        (Some(dot), Some(Token::Ident("is")), Some(Token::Ident("not")))
        | (_, Some(dot), Some(Token::Ident("is")))
            if name != "not" && !matches!(dot, Token::Dot) =>
        {
            let kind = state.perform_test(name, &[Value::from(())]).err()?.kind();
            (kind == ErrorKind::UnknownTest).then(|| format!("unknown test `{name}`"))
        }
        _ => None,
    }
}

/// Statements that would bring in other templates, or unescaped data: a text body
/// included in an HTML body is rendered without escaping.
fn statement(tokens: &[Located<'_>], index: usize) -> Option<String> {
    let Token::Ident(name) = tokens[index].0 else {
        return None;
    };
    let refused = ["autoescape", "extends", "from", "import", "include"];
    let starts = matches!(before(tokens, index), Some(Token::BlockStart));
    (starts && refused.contains(&name)).then(|| format!("`{name}` is not available in messages"))
}
