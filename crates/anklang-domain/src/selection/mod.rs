//! The selection language: a typed tree of criteria over customers and contracts.
//!
//! The tree says what is wanted and knows no table: names of fields and relations are text here
//! and meet the registry in the store. [`check_shape`] checks all that needs no registry.
//!
//! # Meaning
//! A comparison with a field without a value does not hold, whatever the operator (but
//! [`Operator::IsNotSet`]), so its [`Criteria::Not`] does: every node holds or does not, there is
//! no third truth value. Empty text is no value.
//!
//! # Storage
//! Criteria are stored as JSON with the names given here by serde. They never change; a new
//! meaning takes a new name.

mod preset;
mod shape;

use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

pub use preset::{
    Argument, Filled, MAX_PARAMETERS, Parameter, ParameterType, argument_path, check_parameters,
    fill,
};
pub use shape::{check_preset_shape, check_shape, is_within_limits};

/// The most levels of a tree; a single node is one level.
pub const MAX_DEPTH: usize = 8;
/// The most nodes of a tree.
pub const MAX_NODES: usize = 64;
/// The most values of a list.
pub const MAX_VALUES: usize = 1_000;
/// The most characters of a text value.
pub const MAX_TEXT: usize = 1_000;
/// The most days that [`Value::DaysAgo`] reaches, in both directions: a hundred years.
pub const MAX_DAYS: i32 = 36_500;
/// The greatest number of related rows that can be asked for.
pub const MAX_COUNT: i32 = 1_000_000;
/// Years of dates and times that can be compared.
pub const YEARS: RangeInclusive<i32> = 1..=9999;

/// What a selection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Customers.
    Customer,
    /// Contracts.
    Contract,
}

impl Subject {
    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Subject::Customer => "customer",
            Subject::Contract => "contract",
        }
    }

    /// Reads the word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        [Subject::Customer, Subject::Contract]
            .into_iter()
            .find(|s| s.as_str() == word)
    }
}

/// A tree of criteria.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "node", rename_all = "snake_case")]
pub enum Criteria {
    /// All of them hold.
    All {
        /// 1 to 63 of them.
        criteria: Vec<Criteria>,
    },
    /// At least one of them holds.
    Any {
        /// 1 to 63 of them.
        criteria: Vec<Criteria>,
    },
    /// It does not hold.
    Not {
        /// What does not hold.
        criteria: Box<Criteria>,
    },
    /// A field compares.
    Compare(Compare),
    /// Related rows meet criteria.
    Related(Related),
}

/// A field against values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// Name of the field in the registry, or `attributes.KEY`.
    pub field: String,
    /// How to compare.
    pub operator: Operator,
    /// As many as the operator takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
}

/// Related rows against criteria.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Related {
    /// Name of the relation in the registry.
    pub relation: String,
    /// How many must meet the criteria.
    pub quantifier: Quantifier,
    /// What they must meet; without, only their existence counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criteria: Option<Box<Criteria>>,
}

/// How many related rows must meet the criteria.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantifier {
    /// At least one.
    Any,
    /// None.
    None,
    /// A number of them for which the condition holds.
    Count {
        /// One of [`Operator::OF_COUNTS`].
        operator: Operator,
        /// 0 to [`MAX_COUNT`].
        value: i32,
    },
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Equal to the one value.
    Equal,
    /// Has a value, and it is another.
    NotEqual,
    /// Less than the one value.
    Less,
    /// Less than or equal to the one value.
    LessOrEqual,
    /// Greater than the one value.
    Greater,
    /// Greater than or equal to the one value.
    GreaterOrEqual,
    /// Between the two values, both included.
    Between,
    /// One of the values.
    In,
    /// Has a value, and it is none of these.
    NotIn,
    /// Text begins with the one value, in upper or lower case.
    StartsWith,
    /// Text contains the one value, in upper or lower case.
    Contains,
    /// Has a value.
    IsSet,
    /// Has no value.
    IsNotSet,
}

impl Operator {
    /// Those that compare numbers of rows.
    pub const OF_COUNTS: [Operator; 6] = [
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
    ];

    /// The word that callers use.
    pub fn as_str(self) -> &'static str {
        match self {
            Operator::Equal => "EQUAL",
            Operator::NotEqual => "NOT_EQUAL",
            Operator::Less => "LESS",
            Operator::LessOrEqual => "LESS_OR_EQUAL",
            Operator::Greater => "GREATER",
            Operator::GreaterOrEqual => "GREATER_OR_EQUAL",
            Operator::Between => "BETWEEN",
            Operator::In => "IN",
            Operator::NotIn => "NOT_IN",
            Operator::StartsWith => "STARTS_WITH",
            Operator::Contains => "CONTAINS",
            Operator::IsSet => "IS_SET",
            Operator::IsNotSet => "IS_NOT_SET",
        }
    }

    /// How many values it takes.
    pub fn arity(self) -> RangeInclusive<usize> {
        match self {
            Operator::IsSet | Operator::IsNotSet => 0..=0,
            Operator::Between => 2..=2,
            Operator::In | Operator::NotIn => 1..=MAX_VALUES,
            _ => 1..=1,
        }
    }
}

/// A value of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Value {
    /// Text of 1 to [`MAX_TEXT`] characters.
    Text(String),
    /// Decimal number.
    Number(Decimal),
    /// Truth value.
    Flag(bool),
    /// Date; for a field that holds a time: that day in the tenant's zone.
    Date(NaiveDate),
    /// Point in time, compared to the microsecond.
    Time(DateTime<Utc>),
    /// So many days before the day on which the selection runs, in the tenant's zone;
    /// -[`MAX_DAYS`] to [`MAX_DAYS`], negative is in the future.
    DaysAgo(i32),
    /// The values of a preset's parameter; stands in presets alone.
    Parameter(String),
}
