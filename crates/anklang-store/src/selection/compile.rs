//! The checked tree as SQL.
//!
//! Every table carries the tenant as a bind of its own. Existence and its absence are literal
//! `EXISTS` and `NOT EXISTS`, which the planner turns into joins; a negated comparison is
//! `(…) IS NOT TRUE`, so that what is unknown does not hold.

use anklang_domain::TenantId;
use diesel::sql_types::{Array, Bool, Date, Integer, Numeric, Text, Timestamptz, Uuid as SqlUuid};

use super::check::Piece;
use super::registry::{Lookup, ResourceName};
use super::statement::{Alias, Statement};
use super::tree::{Expression, LookupTest, Node, Operand, Rows, Sense, Term, Test};

/// The condition on the row with the alias `subject`, its tenant included, in parentheses. Nobody is found whose data
/// is erased.
pub(super) fn compile(tenant: TenantId, node: &Node) -> Statement {
    let mut compiler = Compiler {
        tenant,
        out: Statement::new("(subject.tenant_id = "),
    };
    compiler.tenant();
    compiler.sql(" AND subject.erased_at IS NULL AND ");
    compiler.node(node);
    compiler.sql(")");
    compiler.out
}

/// An array of four numbers for each piece, of the row with the alias `subject`: rows that it was
/// held against, rows for which it holds, related rows, and those of them that meet what they must.
pub(super) fn explanation(tenant: TenantId, pieces: &[Piece]) -> Statement {
    let mut compiler = Compiler {
        tenant,
        out: Statement::new("ARRAY["),
    };
    for (i, piece) in pieces.iter().enumerate() {
        compiler.sql(if i > 0 { ", " } else { "" });
        compiler.number(&piece.chain, None);
        compiler.sql(", ");
        compiler.number(&piece.chain, Some(&piece.node));
        match &piece.related {
            None => compiler.sql(", 0, 0"),
            Some((rows, inner)) => {
                let chain = [&piece.chain[..], std::slice::from_ref(rows)].concat();
                compiler.sql(", ");
                compiler.number(&chain, None);
                compiler.sql(", ");
                compiler.number(&chain, inner.as_ref());
            }
        }
    }
    compiler.sql("]::bigint[]");
    compiler.out
}

struct Compiler {
    tenant: TenantId,
    out: Statement,
}

impl Compiler {
    fn sql(&mut self, sql: &'static str) {
        self.out.push(sql);
    }

    /// In parentheses, so that the planner reckons with an average tenant. Of one that is newer
    /// than its statistics it would else expect no rows, and compare each with each.
    fn tenant(&mut self) {
        self.sql("(SELECT ");
        self.out.push_bind::<SqlUuid, _>(self.tenant.0);
        self.sql(")");
    }

    fn column(&mut self, alias: Alias, column: &'static str) {
        self.out.push_alias(alias);
        self.sql(".");
        self.sql(column);
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Constant(true) => self.sql("TRUE"),
            Node::Constant(false) => self.sql("FALSE"),
            Node::All(nodes) => self.list(nodes, " AND "),
            Node::Any(nodes) => self.list(nodes, " OR "),
            Node::Compare(sense, expression, test) => {
                self.scalar(*sense, |c| c.test(expression, test));
            }
            Node::Lookup(sense, alias, lookup, test) => {
                self.scalar(*sense, |c| c.lookup(*alias, lookup, test));
            }
            Node::Exists(sense, rows) => {
                if *sense == Sense::HoldsNot {
                    self.sql("NOT ");
                }
                self.sql("EXISTS (SELECT 1");
                self.rows(rows);
                self.sql(")");
            }
            Node::Count(rows, operator, value) => {
                self.sql("(SELECT count(*)");
                self.rows(rows);
                self.sql(")");
                self.sql(operator);
                self.out.push_bind::<Integer, _>(*value);
            }
        }
    }

    /// How many rows there are at the end of a chain for which a node holds; without a chain the
    /// subject itself.
    fn number(&mut self, chain: &[Rows], node: Option<&Node>) {
        let Some((first, rest)) = chain.split_first() else {
            match node {
                None => self.sql("1"),
                Some(node) => {
                    self.sql("coalesce((");
                    self.node(node);
                    self.sql("), FALSE)::int");
                }
            }
            return;
        };
        self.sql("(SELECT count(*) FROM ");
        for (i, rows) in chain.iter().enumerate() {
            self.sql(if i > 0 { ", " } else { "" });
            self.sql(rows.table);
            self.sql(" ");
            self.out.push_alias(rows.alias);
        }
        self.sql(" WHERE ");
        self.joined(first);
        for rows in rest {
            self.sql(" AND ");
            self.joined(rows);
        }
        if let Some(node) = node {
            self.sql(" AND ");
            self.node(node);
        }
        self.sql(")");
    }

    fn joined(&mut self, rows: &Rows) {
        self.column(rows.alias, "tenant_id");
        self.sql(" = ");
        self.tenant();
        self.sql(" AND ");
        self.column(rows.alias, rows.far);
        self.sql(" = ");
        self.column(rows.near.0, rows.near.1);
    }

    fn list(&mut self, nodes: &[Node], between: &'static str) {
        self.sql("(");
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                self.sql(between);
            }
            self.node(node);
        }
        self.sql(")");
    }

    fn scalar(&mut self, sense: Sense, expression: impl FnOnce(&mut Self)) {
        match sense {
            Sense::Holds => expression(self),
            Sense::HoldsNot => {
                self.sql("(");
                expression(self);
                self.sql(") IS NOT TRUE");
            }
        }
    }

    /// What follows SELECT in a subquery of related rows.
    fn rows(&mut self, rows: &Rows) {
        self.sql(" FROM ");
        self.sql(rows.table);
        self.sql(" ");
        self.out.push_alias(rows.alias);
        self.sql(" WHERE ");
        self.joined(rows);
        if let Some(inner) = &rows.inner {
            self.sql(" AND ");
            self.node(inner);
        }
    }

    fn lookup(&mut self, alias: Alias, lookup: &'static Lookup, test: &LookupTest) {
        self.column(alias, lookup.key);
        self.sql(" IN (SELECT x.id FROM ");
        self.sql(lookup.from);
        self.sql(" WHERE x.tenant_id = ");
        self.tenant();
        self.sql(" AND ");
        match test {
            LookupTest::Column(column, test) => self.test(&Expression::Pointed(column), test),
            LookupTest::Named(sense, name, columns) => {
                self.scalar(*sense, |c| c.named(*name, columns));
            }
        }
        self.sql(")");
    }

    fn named(&mut self, name: ResourceName, columns: &[Vec<String>]) {
        let casts = name.columns();
        self.sql("(");
        for (i, (column, _)) in casts.iter().enumerate() {
            self.sql(if i > 0 { ", " } else { "" });
            self.sql(column);
        }
        self.sql(") IN (SELECT * FROM unnest(");
        for (i, ((_, cast), ids)) in casts.iter().zip(columns).enumerate() {
            self.sql(if i > 0 { ", " } else { "" });
            self.out.push_bind::<Array<Text>, _>(ids.clone());
            self.sql(cast);
        }
        self.sql("))");
    }

    fn test(&mut self, expression: &Expression, test: &Test) {
        match test {
            Test::All(terms) => {
                for (i, term) in terms.iter().enumerate() {
                    if i > 0 {
                        self.sql(" AND ");
                    }
                    self.term(expression, term);
                }
            }
            Test::Either(one, other) => {
                self.sql("(");
                self.term(expression, one);
                self.sql(" OR ");
                self.term(expression, other);
                self.sql(")");
            }
        }
    }

    fn term(&mut self, expression: &Expression, Term(operator, operand): &Term) {
        match expression {
            Expression::Column(alias, column) => self.column(*alias, column),
            Expression::Pointed(column) => self.sql(column),
            Expression::Sum(alias, sum) => {
                self.sql("(SELECT coalesce(sum(");
                self.sql(sum.of);
                self.sql("), 0) FROM ");
                self.sql(sum.table);
                self.sql(" x WHERE x.tenant_id = ");
                self.tenant();
                self.sql(" AND x.");
                self.sql(sum.far);
                self.sql(" = ");
                self.column(*alias, "id");
                self.sql(")");
            }
        }
        self.sql(operator);
        self.operand(operand);
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::Nothing => {}
            Operand::Text(text) => self.out.push_bind::<Text, _>(text.clone()),
            Operand::Number(number) => self.out.push_bind::<Numeric, _>(*number),
            Operand::Flag(flag) => self.out.push_bind::<Bool, _>(*flag),
            Operand::Date(date) => self.out.push_bind::<Date, _>(*date),
            Operand::Time(time) => self.out.push_bind::<Timestamptz, _>(*time),
            Operand::Texts(texts) => self.array::<Text, _>(texts.clone()),
            Operand::Numbers(numbers) => self.array::<Numeric, _>(numbers.clone()),
            Operand::Dates(dates) => self.array::<Date, _>(dates.clone()),
        }
    }

    /// The right side of ANY or ALL.
    fn array<ST, T>(&mut self, values: Vec<T>)
    where
        diesel::pg::Pg: diesel::sql_types::HasSqlType<ST>,
        ST: Send + Sync + 'static,
        T: Send + Sync + 'static,
        Vec<T>: diesel::serialize::ToSql<Array<ST>, diesel::pg::Pg>,
    {
        self.sql("(");
        self.out.push_bind::<Array<ST>, _>(values);
        self.sql(")");
    }
}
