//! What each table and column says about a person, and what an erasure makes of it. Exports and erasures are
//! made of this alone; a test compares it with a migrated database, so that a new column cannot be forgotten.
//!
//! Persons are the tenant's customers. People of the tenant (`users/…`) are not meant: who worked on what stays.
//! `tenant_id` is in nearly every table and says nothing of anybody.

mod contacts;
mod master;
mod nobody;
mod outreach;

use std::sync::LazyLock;

/// Columns, and lists of their members.
pub type Members = &'static [(&'static str, &'static [&'static [&'static str]])];

/// What is known of a table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Whose its rows are.
    pub whose: Whose,
    /// Its rows go as a whole.
    pub goes: bool,
    /// Exports hold its rows.
    pub told: bool,
    /// Of which of its rows exports hold: SQL over the row `t`.
    pub telling: &'static str,
    /// Of columns of objects: the members that exports hold, others are the tenant's own, e.g. who worked. A column
    /// of which they hold none, object or not, is left out.
    pub members: Members,
    /// Columns that say nothing of the person: bookkeeping, hashes, people of the tenant.
    pub other: &'static [&'static str],
    /// Keys and pseudonyms, which stay.
    pub keys: &'static [&'static str],
    /// What the person is told, and stays: amounts, states, times.
    pub shown: &'static [&'static str],
    /// What the person is told, and is erased.
    pub erased: &'static [(&'static str, To)],
}

/// Whose the rows of a table are.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// Nobody's.
    Nobody,
    /// A person's: SQL over the row `t`; `$1` is the tenant, `$2` the customer's id, `$3` its number.
    Person(&'static str),
    /// Nobody's, but they may quote a person; searched after the others, in the order of the key that is named. SQL
    /// over the row `t`; `$1` is the tenant, `$2` an array of the pieces of bytes that betray the person.
    Searched {
        /// The column that orders them, a UUID.
        by: &'static str,
        /// Whether a row quotes the person.
        quotes: &'static str,
    },
}

/// What a column is erased to.
#[derive(Debug, Clone, Copy)]
pub enum To {
    /// NULL.
    Null,
    /// An empty text.
    Empty,
    /// No bytes.
    NoBytes,
    /// An empty list.
    EmptyList,
    /// An object without members, where there is one.
    Object,
    /// The object with these members alone.
    Members(&'static [&'static str]),
    /// The object with all its members, but of these alone their values: others become an empty text, or null.
    Values(&'static [&'static [&'static str]]),
    /// This word, where something was said.
    Word(&'static str),
    /// SQL over the row `t`.
    Sql(&'static str),
}

impl To {
    /// SQL of what the column becomes.
    pub(super) fn sql(self, column: &str) -> String {
        match self {
            To::Null => "NULL".into(),
            To::Empty => "''".into(),
            To::NoBytes => "''::bytea".into(),
            To::EmptyList => "'{}'".into(),
            To::Object => format!("CASE WHEN t.{column} IS NOT NULL THEN '{{}}'::jsonb END"),
            To::Members(kept) => members(column, &[kept]),
            To::Values(kept) => format!(
                "(SELECT coalesce(jsonb_object_agg(e.key, CASE
                      WHEN e.key = ANY({}) THEN e.value
                      WHEN jsonb_typeof(e.value) = 'string' THEN '\"\"'::jsonb
                      ELSE 'null'::jsonb END), '{{}}')
                  FROM jsonb_each(t.{column}) e)",
                array(kept)
            ),
            To::Word(word) => {
                format!("CASE WHEN t.{column} = '' THEN t.{column} ELSE '{word}' END")
            }
            To::Sql(sql) => sql.into(),
        }
    }
}

/// SQL of an array of names.
fn array(names: &[&[&str]]) -> String {
    let names: Vec<&str> = names.concat();
    format!("'{{{}}}'::text[]", names.join(","))
}

/// SQL of the object in a column of the row `t` with these members alone.
fn members(column: &str, kept: &[&[&str]]) -> String {
    format!(
        "(SELECT coalesce(jsonb_object_agg(e.key, e.value), '{{}}') FROM jsonb_each(t.{column}) e
          WHERE e.key = ANY({}))",
        array(kept)
    )
}

impl Table {
    const fn new(name: &'static str, whose: Whose) -> Self {
        Table {
            name,
            whose,
            goes: false,
            told: matches!(whose, Whose::Person(_)),
            telling: "true",
            members: &[],
            other: &[],
            keys: &[],
            shown: &[],
            erased: &[],
        }
    }

    /// A table of rows of persons.
    const fn of_person(name: &'static str, whose: &'static str) -> Self {
        Self::new(name, Whose::Person(whose))
    }

    /// A table in which nobody's data is.
    const fn of_nobody(name: &'static str, other: &'static [&'static str]) -> Self {
        Self::new(name, Whose::Nobody).other(other)
    }

    const fn other(self, other: &'static [&'static str]) -> Self {
        Table { other, ..self }
    }

    const fn keys(self, keys: &'static [&'static str]) -> Self {
        Table { keys, ..self }
    }

    const fn shown(self, shown: &'static [&'static str]) -> Self {
        Table { shown, ..self }
    }

    const fn erased(self, erased: &'static [(&'static str, To)]) -> Self {
        Table { erased, ..self }
    }

    /// The rows go.
    const fn going(self) -> Self {
        Table { goes: true, ..self }
    }

    /// The rows quote the person among others, and are no part of an export.
    const fn untold(self) -> Self {
        Table {
            told: false,
            ..self
        }
    }

    /// Exports hold these rows alone.
    const fn telling(self, telling: &'static str) -> Self {
        Table { telling, ..self }
    }

    /// Exports hold these members of columns of objects alone.
    const fn members(self, members: Members) -> Self {
        Table { members, ..self }
    }

    /// All columns but `tenant_id`.
    fn columns(&self) -> impl Iterator<Item = &'static str> {
        let named = self.other.iter().chain(self.keys).chain(self.shown);
        let erased = self.erased.iter().map(|(column, _)| *column);
        named.copied().chain(erased)
    }

    /// The columns of an export, as SQL over the row `t`.
    pub(super) fn told_columns(&self) -> Vec<String> {
        self.told_names()
            .filter_map(|column| match self.members_of(column) {
                None => Some(format!("t.{column}")),
                Some([]) => None,
                Some(kept) => Some(format!("{} AS {column}", members(column, kept))),
            })
            .collect()
    }

    fn told_names(&self) -> impl Iterator<Item = &'static str> {
        let named = self.keys.iter().chain(self.shown).copied();
        named.chain(self.erased.iter().map(|(column, _)| *column))
    }

    fn members_of(&self, column: &str) -> Option<&'static [&'static [&'static str]]> {
        let named = self.members.iter().find(|(name, _)| *name == column);
        named.map(|(_, members)| *members)
    }
}

/// All tables, those first whose rows are found by others: these are as they were when it is their turn.
pub fn tables() -> &'static [Table] {
    static ALL: LazyLock<Vec<Table>> = LazyLock::new(|| {
        [
            outreach::TABLES,
            contacts::TABLES,
            master::TABLES,
            nobody::TABLES,
        ]
        .concat()
    });
    &ALL
}

/// Every table and column of the registry, `tenant_id` left out.
pub fn columns() -> Vec<(&'static str, &'static str)> {
    let of = |table: &'static Table| table.columns().map(move |column| (table.name, column));
    tables().iter().flat_map(of).collect()
}

/// The columns that exports hold as they are.
pub fn told_whole() -> Vec<(&'static str, &'static str)> {
    let of = |table: &'static Table| {
        let names = table.told_names();
        let whole = names.filter(move |column| table.members_of(column).is_none());
        whole.map(move |column| (table.name, column))
    };
    tables()
        .iter()
        .filter(|table| table.told)
        .flat_map(of)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_column_is_named_once() {
        let mut seen = BTreeSet::new();
        for (table, column) in columns() {
            assert!(seen.insert((table, column)), "{table}.{column} twice");
        }
        let names: Vec<&str> = tables().iter().map(|table| table.name).collect();
        let different: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(different.len(), names.len(), "a table twice: {names:?}");
    }

    #[test]
    fn nothing_is_erased_of_nobody() {
        for table in tables() {
            if matches!(table.whose, Whose::Nobody) {
                assert!(table.erased.is_empty() && !table.goes, "{}", table.name);
                assert!(!table.told, "{}", table.name);
            }
            // What goes as a whole needs no words of what it becomes.
            assert!(!table.goes || table.erased.is_empty(), "{}", table.name);
        }
    }

    #[test]
    fn members_that_are_told_are_of_columns_that_are() {
        for table in tables() {
            for (column, _) in table.members {
                let told = table.told && table.told_names().any(|name| name == *column);
                assert!(told, "{}.{column}", table.name);
            }
        }
    }

    #[test]
    fn erased_columns_become_what_their_rule_says() {
        assert_eq!(To::Empty.sql("city"), "''");
        assert_eq!(
            To::Word("erased").sql("reason"),
            "CASE WHEN t.reason = '' THEN t.reason ELSE 'erased' END"
        );
        let members = To::Members(&["a", "b"]).sql("detail");
        assert!(members.contains("= ANY('{a,b}'::text[])"), "{members}");
    }
}
