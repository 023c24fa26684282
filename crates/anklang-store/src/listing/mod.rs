//! Lists of resources: filtered, in any allowed order, page by page.
//!
//! A noun says in a [`Listable`] what its list can be filtered and ordered by; [`Listable::read`]
//! checks a caller's words against it, and `List::load` runs a SELECT of the noun's as a derived
//! table `r`, whose columns the fields name. PostgreSQL flattens it, so that keys and filters reach
//! the indexes.
//!
//! # Guarantees
//! Identifiers are literals and values are binds, as in selections. An order always ends in a
//! unique key, so that pages neither repeat nor leave out rows, whatever comes and goes between
//! them. NULL is greater than everything: last ascending, first descending.
//!
//! # Meaning
//! A comparison with a field without a value does not hold, its `NOT` does; text is never without
//! a value, but may be empty.

mod check;
mod compile;
mod field;
mod matching;

#[cfg(test)]
mod tests;

use anklang_domain::listing::{parse_filter, parse_order};
use anklang_domain::{TenantId, Violations};
use diesel::QueryableByName;
use diesel::deserialize;
use diesel::pg::Pg;
use diesel::row::NamedRow;
use diesel::sql_types::{Array, Nullable, Text};
use diesel_async::RunQueryDsl;

pub use field::{Field, Kind, Part, PartType};
pub use matching::{Cell, Cells};

use crate::selection::Statement;
use crate::{Conn, Result, units};
use check::Node;

/// What a list can be filtered and ordered by.
#[derive(Debug)]
pub struct Listable {
    /// The fields.
    pub fields: &'static [Field],
    /// Columns that are unique together, and the order of a list of which nothing is asked.
    pub key: &'static [Sort],
}

/// A column to order by.
#[derive(Debug, Clone, Copy)]
pub struct Sort {
    column: &'static str,
    cast: &'static str,
    nullable: bool,
    descending: bool,
}

impl Sort {
    /// A column of a key, of a type as in `::text`; never NULL.
    pub const fn key(column: &'static str, cast: &'static str, descending: bool) -> Self {
        Sort {
            column,
            cast,
            nullable: false,
            descending,
        }
    }
}

/// The values of a row in the columns that a list is ordered by.
pub type Key = Vec<Option<String>>;

/// A list as a caller wants it.
#[derive(Debug)]
pub struct List {
    filter: Option<Node>,
    order: Vec<Sort>,
    /// It is that of the key, which an index has, from the one end or the other.
    in_key_order: bool,
    after: Option<Key>,
    size: usize,
    within_units: bool,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<R> {
    /// Its rows.
    pub rows: Vec<R>,
    /// The key of its last row, if there are more behind it.
    pub next: Option<Key>,
}

impl Listable {
    /// Reads a filter (AIP-160) and an order (AIP-132). All that is wrong is added to the
    /// violations of `filter` and `order_by`.
    pub fn read(
        &'static self,
        filter: &str,
        order_by: &str,
        size: usize,
        violations: &mut Violations,
    ) -> List {
        let filter = match parse_filter(filter) {
            Ok(None) => None,
            Ok(Some(filter)) => check::check(self.fields, &filter, violations),
            Err(fault) => {
                violations.add("filter", fault.to_string());
                None
            }
        };
        let order = match parse_order(order_by) {
            Ok(items) => check::order(self, &items, violations),
            Err(fault) => {
                violations.add("order_by", fault.to_string());
                Vec::new()
            }
        };
        let in_key_order = self.is_key_order(&order);
        List {
            filter,
            order,
            in_key_order,
            after: None,
            size,
            within_units: false,
        }
    }

    fn is_key_order(&self, order: &[Sort]) -> bool {
        let columns = order.iter().map(|sort| sort.column);
        let ways = order.iter().zip(self.key);
        let mut turned = ways.map(|(sort, key)| sort.descending != key.descending);
        let is_turned = turned.next();
        columns.eq(self.key.iter().map(|key| key.column))
            && turned.all(|one| Some(one) == is_turned)
    }

    /// All rows in the order of the key, at most `size` on a page.
    pub fn all(&'static self, size: usize) -> List {
        self.read("", "", size, &mut Violations::new())
    }
}

impl List {
    /// Goes on behind the row with this key. False when it is the key of another order.
    #[must_use]
    pub fn after(&mut self, key: Key) -> bool {
        let fits = key.len() == self.order.len()
            && key
                .iter()
                .zip(&self.order)
                .all(|(v, s)| s.nullable || v.is_some());
        if fits {
            self.after = Some(key);
        }
        fits
    }

    /// It is for a caller who is bound to org units. What is shown does not depend on that, only how it is found.
    pub fn within_units(&mut self) {
        self.within_units = true;
    }

    /// True when the filter takes that row; as in the database, but for letters in upper and lower case,
    /// which are Unicode's.
    pub fn takes(&self, row: &impl Cells) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| matching::holds(filter, row))
    }

    /// Of the rows that `base` selects what is to be `selected` of `r`, for at most `limit` that the
    /// filter takes, in any order.
    pub(crate) fn matching(
        &self,
        selected: &'static str,
        base: Statement,
        limit: i64,
    ) -> Statement {
        compile::matching(self, selected, base, limit)
    }

    /// A page of the rows that `base` selects, a whole SELECT without an order.
    pub(crate) async fn load<R>(&self, conn: &Conn, base: Statement) -> Result<Page<R>>
    where
        R: QueryableByName<Pg> + Send + 'static,
    {
        self.rows(conn, compile::page(self, base, None)).await
    }

    /// As [`List::load`], of what is customers': `base` has the column `customer_id`. A caller who sees few customers
    /// gets theirs, instead of all being passed over.
    pub(crate) async fn load_of_customers<R>(
        &self,
        conn: &Conn,
        tenant: TenantId,
        base: Statement,
    ) -> Result<Page<R>>
    where
        R: QueryableByName<Pg> + Send + 'static,
    {
        let few = self.within_units && units::sees_few(conn, tenant, self.in_key_order).await?;
        let of_seen = few.then_some(tenant);
        self.rows(conn, compile::page(self, base, of_seen)).await
    }

    async fn rows<R>(&self, mut conn: &Conn, page: Statement) -> Result<Page<R>>
    where
        R: QueryableByName<Pg> + Send + 'static,
    {
        let mut rows: Vec<Keyed<R>> = page.load(&mut conn).await?;
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        let next = match rows.last_mut() {
            Some(last) if more => Some(std::mem::take(&mut last.key)),
            _ => None,
        };
        Ok(Page {
            rows: rows.into_iter().map(|keyed| keyed.row).collect(),
            next,
        })
    }
}

/// A row with its key.
struct Keyed<R> {
    row: R,
    key: Key,
}

impl<R: QueryableByName<Pg>> QueryableByName<Pg> for Keyed<R> {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        Ok(Keyed {
            row: R::build(row)?,
            key: NamedRow::get::<Array<Nullable<Text>>, _>(row, compile::KEY)?,
        })
    }
}
