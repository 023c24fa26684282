//! What analyses have in common: figures in groups, and those of all.

use crate::{Result, StoreError};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis<F> {
    /// The groups, in the order of their keys, by code points.
    pub groups: Vec<F>,
    /// There are more.
    pub more: bool,
    /// All that there is.
    pub total: F,
}

impl<F> Analysis<F> {
    /// So many rows hold the total and one group more than are wanted.
    pub(crate) fn rows(limit: usize) -> i64 {
        i64::try_from(limit).map_or(i64::MAX, |limit| limit.saturating_add(2))
    }

    /// Of the rows of a statement with `GROUPING SETS`: the total, which comes first, and the groups.
    pub(crate) fn of(mut rows: Vec<F>, limit: usize) -> Result<Self> {
        if rows.is_empty() {
            return Err(StoreError::Stored("no total of an analysis".into()));
        }
        let total = rows.remove(0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok(Analysis {
            groups: rows,
            more,
            total,
        })
    }
}

/// The columns `d0`, `d1` … by which is grouped; what is not asked for is the same for all.
pub(crate) fn keys(most: usize, of: impl Fn(usize) -> Option<String>) -> String {
    let key = |i| {
        let of = of(i).unwrap_or_else(|| "''::text".into());
        format!("({of}) COLLATE \"C\" AS d{i}")
    };
    (0..most).map(key).collect::<Vec<_>>().join(", ")
}
