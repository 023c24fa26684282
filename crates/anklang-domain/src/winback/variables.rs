//! The variables of winback templates, twelve and in the voucher template one more: their values for a
//! customer, and Mailjet's way of writing them.
//!
//! A template says `{{var:vorname:"Kunde"}}` as in Mailjet, or `{{ vorname|default("Kunde", true) }}`
//! as in all of our templates; both mean the value, and the text behind it when that is empty.
//! [`translate`] turns the first into the second and leaves everything else alone, so that one
//! engine renders and checks both. A template that lives at Mailjet gets the values along with the
//! message ([`Values::for_mailjet`]).
//!
//! All values are text as it is printed, dates and amounts in German notation. They are data: nothing
//! in them is ever read as template.
//!
//! # Mailjet's syntax
//! `{{var:NAME:"TEXT"}}` or `{{var:NAME}}`, with spaces wherever they separate. The quotes may also be
//! those that word processors make of them (`“ ” „`), and `&quot;` in HTML. A quote in the text is
//! written `\"`, a backslash `\\`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rust_decimal::{Decimal, RoundingStrategy};

use super::case::MailTemplate;

/// Longest fallback in characters.
pub const MOST_FALLBACK: usize = 500;

/// A variable of winback templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// First and last name.
    Name,
    /// First name.
    Vorname,
    /// Last name.
    Nachname,
    /// Name of the company.
    Firmenname,
    /// City.
    Ort,
    /// Country.
    Land,
    /// E-mail address.
    Email,
    /// Customer number.
    Kundennummer,
    /// Customer group.
    Kundengruppe,
    /// Day of the last order, `23.12.2017`.
    LetzteBestellung,
    /// Days since then, `238`.
    LetzteBestellungTage,
    /// The product group with the greatest share of the last order.
    LetzteWarengruppe,
    /// The code of the voucher; in the voucher template alone.
    Gutschein,
}

impl Variable {
    /// All of them with their names in templates.
    pub const NAMES: [(Variable, &'static str); 13] = [
        (Variable::Name, "name"),
        (Variable::Vorname, "vorname"),
        (Variable::Nachname, "nachname"),
        (Variable::Firmenname, "firmenname"),
        (Variable::Ort, "ort"),
        (Variable::Land, "land"),
        (Variable::Email, "email"),
        (Variable::Kundennummer, "kundennummer"),
        (Variable::Kundengruppe, "kundengruppe"),
        (Variable::LetzteBestellung, "letzte_bestellung"),
        (Variable::LetzteBestellungTage, "letzte_bestellung_tage"),
        (Variable::LetzteWarengruppe, "letzte_warengruppe"),
        (Variable::Gutschein, "gutschein"),
    ];

    /// Those that a template may have.
    pub fn of(template: MailTemplate) -> impl Iterator<Item = (Variable, &'static str)> {
        let is_there = move |variable| match variable {
            Variable::Gutschein => template == MailTemplate::Voucher,
            _ => true,
        };
        let all = Self::NAMES.into_iter();
        all.filter(move |(variable, _)| is_there(*variable))
    }

    /// The name in templates.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// Reads the name in templates.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find_map(|(variable, n)| (n == name).then_some(variable))
    }
}

/// What the values are made of; text that is not known is empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// First name.
    pub first_name: &'a str,
    /// Last name.
    pub last_name: &'a str,
    /// Name of the company.
    pub company_name: &'a str,
    /// City.
    pub city: &'a str,
    /// Name of the country, e.g. `Deutschland`.
    pub country: &'a str,
    /// E-mail address.
    pub email: &'a str,
    /// Customer number.
    pub number: &'a str,
    /// Customer group.
    pub group: &'a str,
    /// Day of the last order in the tenant's time zone.
    pub last_order: Option<NaiveDate>,
    /// Its [`leading_group`].
    pub last_product_group: &'a str,
    /// The code of the voucher that goes along.
    pub voucher: &'a str,
}

/// The values for one customer, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(BTreeMap<Variable, String>);

impl Values {
    /// The values as of a day. An order after that day has no days since then.
    pub fn new(facts: &Facts<'_>, today: NaiveDate) -> Values {
        let names = [facts.first_name, facts.last_name].map(words);
        let both: Vec<&str> = names.iter().map(String::as_str).collect();
        let days = facts.last_order.map(|day| (today - day).num_days());
        let days = days.filter(|days| *days >= 0);
        let of = |variable| match variable {
            Variable::Name => words(&both.join(" ")),
            Variable::Vorname => names[0].clone(),
            Variable::Nachname => names[1].clone(),
            Variable::Firmenname => words(facts.company_name),
            Variable::Ort => words(facts.city),
            Variable::Land => words(facts.country),
            Variable::Email => words(facts.email),
            Variable::Kundennummer => words(facts.number),
            Variable::Kundengruppe => words(facts.group),
            Variable::LetzteBestellung => facts.last_order.map(german_date).unwrap_or_default(),
            Variable::LetzteBestellungTage => days.map(|days| days.to_string()).unwrap_or_default(),
            Variable::LetzteWarengruppe => words(facts.last_product_group),
            Variable::Gutschein => words(facts.voucher),
        };
        let all = Variable::NAMES.map(|(variable, _)| (variable, of(variable)));
        Values(all.into())
    }

    /// A value; empty when there is none.
    pub fn get(&self, variable: Variable) -> &str {
        self.0.get(&variable).map_or("", String::as_str)
    }

    /// What our templates see: all by their names, also the empty ones.
    pub fn for_templates(&self) -> BTreeMap<&'static str, &str> {
        let all = self.0.iter();
        all.map(|(variable, value)| (variable.name(), value.as_str()))
            .collect()
    }

    /// What goes to Mailjet as `Variables`: those that have a value, so that the fallback of its template
    /// holds for the others.
    pub fn for_mailjet(&self) -> BTreeMap<&'static str, &str> {
        let mut values = self.for_templates();
        values.retain(|_, value| !value.is_empty());
        values
    }
}

/// The text with single spaces and without control characters: one line, whatever was entered.
fn words(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// The product group with the greatest share of an order, from its lines; of equal ones the first by
/// name. Lines without a group count for none. `None` when there is no group with an amount above
/// zero.
pub fn leading_group<'a>(lines: impl IntoIterator<Item = (&'a str, Decimal)>) -> Option<&'a str> {
    let mut sums: BTreeMap<&str, Decimal> = BTreeMap::new();
    for (group, amount) in lines.into_iter().filter(|(group, _)| !group.is_empty()) {
        *sums.entry(group).or_default() += amount;
    }
    let mut leading: Option<(&str, Decimal)> = None;
    for (group, sum) in sums {
        if sum > leading.map_or(Decimal::ZERO, |(_, most)| most) {
            leading = Some((group, sum));
        }
    }
    leading.map(|(group, _)| group)
}

/// 23 November 2026 → `23.11.2026`.
pub fn german_date(day: NaiveDate) -> String {
    day.format("%d.%m.%Y").to_string()
}

/// `1234.56` → `1.234,56 €`: rounded to two decimals, half away from zero.
pub fn german_euros(amount: Decimal) -> String {
    let rounded = amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    let plain = format!("{:.2}", rounded.abs());
    let (whole, cents) = plain.split_once('.').unwrap_or((&plain, "00"));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push('.');
        }
        grouped.push(digit);
    }
    let sign = if rounded < Decimal::ZERO { "-" } else { "" };
    format!("{sign}{grouped},{cents} €")
}

/// What a template is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// Plain text, e.g. a subject.
    Text,
    /// HTML, in which fallbacks may hold `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&#39;`, `&nbsp;`.
    Html,
}

/// Something wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct VariableError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A template in our syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The template.
    pub text: String,
    /// The variables that it had in Mailjet's syntax.
    pub variables: BTreeSet<Variable>,
    /// Bytes where a translated variable began and ended, in the source and here.
    places: Vec<[usize; 4]>,
}

impl Translation {
    /// Where a place of the translated text is in its source: line and column, from 1, of an error that
    /// was found in the translation. A place within a translated variable is that variable's.
    pub fn in_source(&self, source: &str, line: u32, column: u32) -> (u32, u32) {
        let here = offset(&self.text, line, column);
        let before = self.places.iter().rfind(|place| place[2] <= here);
        let there = match before {
            Some([from, _, _, until]) if here < *until => *from,
            Some([_, to, _, until]) => to + (here - until),
            None => here,
        };
        position(source, there)
    }
}

/// Translates a template from Mailjet's syntax to ours; what is not in that syntax stays as it is.
///
/// # Errors
/// All variables that such a template has not and all that are not well written, in their order.
pub fn translate(
    source: &str,
    markup: Markup,
    template: MailTemplate,
) -> Result<Translation, Vec<VariableError>> {
    let mut translation = Translation {
        text: String::with_capacity(source.len()),
        variables: BTreeSet::new(),
        places: Vec::new(),
    };
    let mut errors = Vec::new();
    let mut done = 0;
    while let Some((start, inner)) = next_variable(source, done) {
        translation.text.push_str(&source[done..start]);
        match read(inner, markup, template) {
            Ok((variable, fallback, rest)) => {
                done = source.len() - rest.len();
                let from = translation.text.len();
                translation.text.push_str(&ours(variable, &fallback));
                let until = translation.text.len();
                translation.places.push([start, done, from, until]);
                translation.variables.insert(variable);
            }
            Err((rest, message)) => {
                let (line, column) = position(source, source.len() - rest.len());
                errors.push(VariableError {
                    line,
                    column,
                    message,
                });
                done = source.len() - inner.len();
            }
        }
    }
    translation.text.push_str(&source[done..]);
    if errors.is_empty() {
        Ok(translation)
    } else {
        Err(errors)
    }
}

/// The next `{{var:` from an offset on: where it starts, and the source behind it.
fn next_variable(source: &str, from: usize) -> Option<(usize, &str)> {
    let mut braces = source[from..].match_indices("{{");
    braces.find_map(|(at, _)| {
        let start = from + at;
        let inner = source[start + 2..].trim_start().strip_prefix("var")?;
        let inner = inner.trim_start().strip_prefix(':')?;
        Some((start, inner))
    })
}

/// Where reading stopped, and why.
type Misread<'a> = (&'a str, String);

/// Reads name, fallback and end of a variable; gives what comes behind it.
fn read(
    inner: &str,
    markup: Markup,
    template: MailTemplate,
) -> Result<(Variable, String, &str), Misread<'_>> {
    let inner = inner.trim_start();
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
    let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    let Some((variable, _)) = Variable::of(template).find(|(_, known)| *known == name) else {
        let names: Vec<_> = Variable::of(template).map(|(_, name)| name).collect();
        let message = format!("unknown variable `{name}`; there are {}", names.join(", "));
        return Err((inner, message));
    };
    let rest = rest.trim_start();
    let (fallback, rest) = match rest.strip_prefix(':') {
        Some(rest) => quoted(rest.trim_start(), markup)?,
        None => (String::new(), rest),
    };
    let rest = rest.trim_start();
    match rest.strip_prefix("}}") {
        Some(rest) if fallback.chars().count() <= MOST_FALLBACK => Ok((variable, fallback, rest)),
        Some(_) => Err((
            inner,
            format!("the text behind `{name}` is longer than {MOST_FALLBACK} characters"),
        )),
        None => Err((
            rest,
            format!("must go on with `}}}}`: write {{{{var:{name}:\"…\"}}}}"),
        )),
    }
}

/// Reads a text in quotes.
fn quoted(source: &str, markup: Markup) -> Result<(String, &str), Misread<'_>> {
    const TYPOGRAPHIC: [char; 3] = ['“', '”', '„'];
    let open = |message: &str| (source, message.to_owned());
    if let Some(rest) = source
        .strip_prefix("&quot;")
        .filter(|_| markup == Markup::Html)
    {
        let end = rest
            .find("&quot;")
            .ok_or_else(|| open("this text has no end"))?;
        return Ok((unescaped(&rest[..end]), &rest[end + "&quot;".len()..]));
    }
    if let Some(rest) = source.strip_prefix(TYPOGRAPHIC) {
        let end = rest
            .find(['“', '”'])
            .ok_or_else(|| open("this text has no end"))?;
        let text = plain(&rest[..end], markup);
        let behind = rest[end..].strip_prefix(['“', '”']);
        return Ok((text, behind.unwrap_or_default()));
    }
    let Some(rest) = source.strip_prefix('"') else {
        return Err(open("must be a text in quotes, which may be empty"));
    };
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((plain(&text, markup), &rest[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => text.push(c),
                Some((_, c)) => text.extend(['\\', c]),
                None => break,
            },
            c => text.push(c),
        }
    }
    Err(open("this text has no end"))
}

fn plain(text: &str, markup: Markup) -> String {
    match markup {
        Markup::Text => text.to_owned(),
        Markup::Html => unescaped(text),
    }
}

/// The text of an HTML source: it is escaped again when it is printed.
fn unescaped(html: &str) -> String {
    // The ampersand last, so that nothing is unescaped twice.
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", "\u{a0}"),
        ("&amp;", "&"),
    ];
    entities
        .into_iter()
        .fold(html.to_owned(), |text, (entity, c)| text.replace(entity, c))
}

/// A variable in our syntax.
fn ours(variable: Variable, fallback: &str) -> String {
    let name = variable.name();
    if fallback.is_empty() {
        return format!("{{{{ {name} }}}}");
    }
    let mut literal = String::with_capacity(fallback.len());
    for c in fallback.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            c => literal.push(c),
        }
    }
    format!("{{{{ {name}|default(\"{literal}\", true) }}}}")
}

/// Line and column of a byte offset, both from 1, the column in characters.
fn position(source: &str, offset: usize) -> (u32, u32) {
    let before = &source[..source.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[start..].chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(line), number(column))
}

/// The byte offset of a line and column; the end of what there is for one beyond.
fn offset(source: &str, line: u32, column: u32) -> usize {
    let lines = source.split_inclusive('\n');
    let start: usize = lines
        .take(line.saturating_sub(1) as usize)
        .map(str::len)
        .sum();
    let rest = source[start..].char_indices();
    let at = rest
        .map(|(at, _)| at)
        .nth(column.saturating_sub(1) as usize);
    at.map_or(source.len(), |at| start + at)
}
