//! Checked criteria: every field and relation resolved, every value of its type, every `not`
//! moved down to the leaves. Whatever can be written here compiles.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::registry::{Lookup, ResourceName, Sum};
use super::statement::Alias;

/// Whether a leaf must hold or must not. What is unknown to SQL does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    Holds,
    HoldsNot,
}

impl Sense {
    pub fn flipped(self) -> Self {
        match self {
            Sense::Holds => Sense::HoldsNot,
            Sense::HoldsNot => Sense::Holds,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Always or never.
    Constant(bool),
    All(Vec<Node>),
    Any(Vec<Node>),
    /// A value of a row passes a test.
    Compare(Sense, Expression, Test),
    /// The row pointed at passes a test.
    Lookup(Sense, Alias, &'static Lookup, LookupTest),
    /// There is such a row.
    Exists(Sense, Rows),
    /// The number of such rows compares.
    Count(Rows, &'static str, i32),
}

/// Rows that are related to one.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub table: &'static str,
    pub alias: Alias,
    /// Column of these rows, equal to …
    pub far: &'static str,
    /// … this column of the row that they are related to.
    pub near: (Alias, &'static str),
    /// What they must meet.
    pub inner: Option<Box<Node>>,
}

/// A value in SQL.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    Column(Alias, &'static str),
    /// A column of a lookup's row.
    Pointed(&'static str),
    Sum(Alias, &'static Sum),
}

#[derive(Debug, Clone)]
pub(super) enum LookupTest {
    /// One of its columns passes.
    Column(&'static str, Test),
    /// It is, or is not, among the named: one list per column of the name.
    Named(Sense, ResourceName, Vec<Vec<String>>),
}

/// What a value must meet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    All(Vec<Term>),
    Either(Term, Term),
}

/// An operator of SQL with what stands right of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term(pub &'static str, pub Operand);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// The operator is all.
    Nothing,
    Text(String),
    Number(Decimal),
    Flag(bool),
    Date(NaiveDate),
    Time(DateTime<Utc>),
    Texts(Vec<String>),
    Numbers(Vec<Decimal>),
    Dates(Vec<NaiveDate>),
}
