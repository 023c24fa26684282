//! Messages: subject, plain text and HTML from one template (MiniJinja).
//!
//! # Guarantees
//! - Compiling reports every error it can find, of all parts at once: syntax,
//!   unknown variables (also nested ones such as `offer.nubmer`), unknown
//!   filters and tests in any branch, and whatever fails when rendered with
//!   [`OfferData::samples`].
//! - A missing value is an error, never an empty place in a customer's mail. A
//!   value that may be missing (an option) prints as nothing.
//! - HTML bodies are escaped, and nothing in a template can switch that off. The
//!   subject is one line whatever the data holds, so that it is safe in a header.
//! - Rendering stops with an error after [`FUEL`] instructions or
//!   [`MAX_OUTPUT_BYTES`]. Templates cannot include others, read files or know
//!   the time.
//!
//! # What remains
//! A template that doubles a string again and again can use much memory within
//! its fuel. Its author is an administrator of the tenant, not a customer.
//!
//! # Filters besides MiniJinja's own
//! | filter | example | result |
//! |---|---|---|
//! | `money(currency="EUR")` | `offer.annual_amount\|money(offer.currency)` | `1.176,40 €` |
//! | `number(digits=2)` | `offer.annual_quantity_kwh\|number(0)` | `3.500` |
//! | `cents`, `cents(digits)` | `offer.unit_price_per_kwh\|cents`: two decimals, or as many as the price has | `29,84` |
//! | `date` | `offer.valid_until\|date` | `31.12.2026` |
//!
//! Decimals are text until a filter formats them: compare with
//! `offer.annual_amount|float > 100`.

mod check;
mod filters;

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, escape_formatter};
use serde::Serialize;

use crate::error::{Part, RenderError, TemplateError};
use crate::model::{ContactData, OfferData, OfferRequestData};

/// Instructions of the template engine that one part may use; a long mail needs
/// about a thousand, and this many take some milliseconds.
pub const FUEL: u64 = 100_000;

/// Longest rendered part in bytes. Mail clients cut HTML off at about 100 kB.
pub const MAX_OUTPUT_BYTES: usize = 2 * 1024 * 1024;

/// Instructions that one variable of a provider's template may use, and its length in bytes: there may
/// be hundreds.
const VARIABLE_FUEL: u64 = 2_000;
const MAX_VARIABLE_BYTES: usize = 16 * 1024;

const PARTS: [Part; 3] = [Part::Subject, Part::TextBody, Part::HtmlBody];

/// The sources of a message template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageSource<'a> {
    /// Subject line.
    pub subject: &'a str,
    /// Plain text body.
    pub text: &'a str,
    /// HTML body.
    pub html: &'a str,
    /// The variables of a provider's template by their names, each a template of a text.
    pub variables: &'a BTreeMap<String, String>,
}

impl MessageSource<'_> {
    fn part(&self, part: Part) -> &str {
        match part {
            Part::Subject => self.subject,
            Part::TextBody => self.text,
            _ => self.html,
        }
    }
}

/// A rendered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Subject: one line without control characters, not encoded.
    pub subject: String,
    /// Plain text body.
    pub text: String,
    /// HTML body.
    pub html: String,
    /// The variables of a provider's template by their names.
    pub variables: BTreeMap<String, String>,
}

/// What templates of one kind see, by examples: the first has all names, and every template is rendered
/// with each.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples(Vec<serde_json::Value>);

impl Samples {
    /// These examples, each an object; the first has all names.
    #[must_use]
    pub fn new(
        complete: serde_json::Value,
        others: impl IntoIterator<Item = serde_json::Value>,
    ) -> Self {
        Samples(std::iter::once(complete).chain(others).collect())
    }
}

/// [`OfferData::samples`].
static OFFERS: LazyLock<Samples> = LazyLock::new(|| samples(OfferData::samples()));
/// [`ContactData::samples`].
static CONTACTS: LazyLock<Samples> = LazyLock::new(|| samples(ContactData::samples()));
/// [`OfferRequestData::samples`].
static OFFER_REQUESTS: LazyLock<Samples> = LazyLock::new(|| samples(OfferRequestData::samples()));

/// What templates of one kind see, by two examples.
fn samples<T: Serialize>([complete, sparse]: [T; 2]) -> Samples {
    let plain = |data| serde_json::to_value(data).expect("the model is plain data");
    Samples::new(plain(complete), [plain(sparse)])
}

/// A checked message template. Cheap to keep, safe to share between threads.
#[derive(Debug)]
pub struct MessageTemplate {
    environment: Environment<'static>,
    variables: Vec<String>,
    of_variables: Environment<'static>,
}

impl MessageTemplate {
    /// Compiles and checks all parts of a template for offers.
    ///
    /// # Errors
    /// All errors of all parts, ordered by part, line and column.
    pub fn compile(source: &MessageSource<'_>) -> Result<Self, Vec<TemplateError>> {
        Self::compile_for(source, &OFFERS)
    }

    /// Compiles and checks all parts of a template for planned contacts.
    ///
    /// # Errors
    /// As those of [`MessageTemplate::compile`].
    pub fn compile_for_contacts(source: &MessageSource<'_>) -> Result<Self, Vec<TemplateError>> {
        Self::compile_for(source, &CONTACTS)
    }

    /// Compiles and checks all parts of a template for requests for offers.
    ///
    /// # Errors
    /// As those of [`MessageTemplate::compile`].
    pub fn compile_for_offer_requests(
        source: &MessageSource<'_>,
    ) -> Result<Self, Vec<TemplateError>> {
        Self::compile_for(source, &OFFER_REQUESTS)
    }

    /// Compiles and checks all parts of a template that sees other data.
    ///
    /// # Errors
    /// As those of [`MessageTemplate::compile`].
    pub fn compile_for(
        source: &MessageSource<'_>,
        samples: &Samples,
    ) -> Result<Self, Vec<TemplateError>> {
        let mut template = Self {
            environment: environment(FUEL),
            variables: source.variables.keys().cloned().collect(),
            of_variables: environment(VARIABLE_FUEL),
        };
        let mut errors: Vec<_> = PARTS
            .into_iter()
            .flat_map(|part| template.add(part, part.as_str(), source.part(part), samples))
            .collect();
        for (variable, source) in source.variables {
            let found = template.add(Part::ProviderVariables, &key(variable), source, samples);
            errors.extend(found.into_iter().map(|error| of_variable(variable, error)));
        }
        errors.sort();
        errors.dedup();
        if errors.is_empty() {
            Ok(template)
        } else {
            Err(errors)
        }
    }

    /// Renders all parts with the data of one customer.
    ///
    /// # Errors
    /// [`RenderError::Template`] with the first error of every part that failed.
    pub fn render<T: Serialize>(&self, data: &T) -> Result<Message, RenderError> {
        let context = Value::from(Serde(data));
        let mut errors = Vec::new();
        let [subject, text, html] = PARTS.map(|part| {
            let rendered = self.render_part(part, part.as_str(), &context);
            rendered.unwrap_or_else(|error| {
                errors.push(error);
                String::new()
            })
        });
        let mut variables = BTreeMap::new();
        for variable in &self.variables {
            match self.render_part(Part::ProviderVariables, &key(variable), &context) {
                Ok(value) => drop(variables.insert(variable.clone(), value)),
                Err(error) => errors.push(of_variable(variable, error)),
            }
        }
        if !errors.is_empty() {
            return Err(RenderError::Template(errors));
        }
        Ok(Message {
            subject: one_line(&subject),
            text,
            html,
            variables,
        })
    }

    /// Adds a part and returns what is wrong with it. Rendering it with samples
    /// says little about a part with static errors, so that comes last.
    fn add(
        &mut self,
        part: Part,
        name: &str,
        source: &str,
        samples: &Samples,
    ) -> Vec<TemplateError> {
        if let Some(error) = TemplateError::too_long(part, source) {
            return vec![error];
        }
        let environment = match part {
            Part::ProviderVariables => &mut self.of_variables,
            _ => &mut self.environment,
        };
        if let Err(error) = environment.add_template_owned(name.to_owned(), source.to_owned()) {
            return vec![located(part, source, &error)];
        }
        let errors = check::check(self.environment(part), &samples.0[0], part, name, source);
        if !errors.is_empty() {
            return errors;
        }
        let render = |data| {
            self.render_part(part, name, &Value::from(Serde(data)))
                .err()
        };
        samples.0.iter().filter_map(render).collect()
    }

    /// Whether some part of the message itself has a variable of this name.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        let mut templates = self.environment.templates();
        templates.any(|(_, template)| template.undeclared_variables(false).contains(variable))
    }

    fn environment(&self, part: Part) -> &Environment<'static> {
        match part {
            Part::ProviderVariables => &self.of_variables,
            _ => &self.environment,
        }
    }

    fn render_part(
        &self,
        part: Part,
        name: &str,
        context: &Value,
    ) -> Result<String, TemplateError> {
        let template = self
            .environment(part)
            .get_template(name)
            .map_err(|error| located(part, "", &error))?;
        let mut output = Limited {
            written: Vec::new(),
            most: match part {
                Part::ProviderVariables => MAX_VARIABLE_BYTES,
                _ => MAX_OUTPUT_BYTES,
            },
        };
        template
            .render_captured_to(context.clone(), &mut output)
            .map_err(|error| located(part, template.source(), &error))?;
        Ok(String::from_utf8(output.written).expect("the engine writes whole strings"))
    }
}

/// What the engine calls the template of a variable.
fn key(variable: &str) -> String {
    format!("variables.{variable}")
}

fn of_variable(variable: &str, mut error: TemplateError) -> TemplateError {
    error.message = format!("{variable}: {}", error.message);
    error
}

fn environment(fuel: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_debug(true); // errors carry their place in the source
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(fuel));
    environment.set_auto_escape_callback(|name| {
        if name == Part::HtmlBody.as_str() {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    environment.set_formatter(|output, state, value| {
        if value.is_none() {
            Ok(())
        } else {
            escape_formatter(output, state, value)
        }
    });
    environment.remove_filter("safe"); // no value of the model is HTML
    filters::register(&mut environment);
    environment
}

/// A writer that refuses to grow beyond so many bytes.
struct Limited {
    written: Vec<u8>,
    most: usize,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.len() + bytes.len() > self.most {
            let message = format!("output is longer than {} bytes", self.most);
            return Err(io::Error::other(message));
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An engine's error with its place, and its causes in one message.
fn located(part: Part, source: &str, error: &minijinja::Error) -> TemplateError {
    let mut message = error.kind().to_string();
    if let Some(detail) = error.detail() {
        message = format!("{message}: {detail}");
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    let line_start = |line| {
        let mut lines = source.split_inclusive('\n');
        lines.by_ref().take(line - 1).map(str::len).sum()
    };
    let offset = match (error.range(), error.line()) {
        (Some(range), _) => range.start,
        (None, Some(line)) => line_start(line),
        (None, None) => 0,
    };
    TemplateError::at(part, source, offset, message)
}

/// Words with single spaces between them: no line break, no control character.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() && c != '\u{a0}' || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;
