//! Criteria against the registry: gives the checked tree, or all that is wrong at once.

mod explain;
mod holes;

use std::collections::HashSet;

use anklang_domain::Violations;
use anklang_domain::selection::{
    Compare, Criteria, MAX_VALUES, Operator, Parameter, Quantifier, Related, Value,
    check_preset_shape, check_shape, is_within_limits,
};

pub(super) use explain::{Piece, pieces};

use super::attributes::{Attributes, PREFIX};
use super::operand::{Calendar, Values, is_set};
use super::registry::{Entity, Field, FieldType, ResourceName, Source};
use super::statement::Alias;
use super::tree::{Expression, LookupTest, Node, Operand, Rows, Sense, Term, Test};

/// The most names that a violation lists.
const MAX_LISTED: usize = 30;

/// Checks criteria about rows of `root`, of which `attributes` are the tenant's.
///
/// # Errors
/// Everything that is wrong, with paths from `criteria`. Of a tree beyond the limits, only what
/// can be said without walking it.
pub(super) fn check(
    root: Entity,
    criteria: &Criteria,
    attributes: &Attributes,
    calendar: Calendar,
) -> Result<Node, Violations> {
    let shape = check_shape(criteria);
    if !is_within_limits(criteria) {
        return Err(shape);
    }
    Checker::new(attributes, calendar, None, shape).whole(root, criteria)
}

/// Checks criteria with holes, as far as can be said before they are filled: as for [`check`].
pub(super) fn check_preset(
    root: Entity,
    criteria: &Criteria,
    parameters: &[Parameter],
    attributes: &Attributes,
    calendar: Calendar,
) -> Result<(), Violations> {
    let shape = check_preset_shape(criteria);
    if !is_within_limits(criteria) {
        return Err(shape);
    }
    Checker::new(attributes, calendar, Some(parameters), shape)
        .whole(root, criteria)
        .map(drop)
}

/// The row that a part of the tree is about.
#[derive(Clone, Copy)]
struct Row {
    entity: Entity,
    alias: Alias,
}

struct Checker<'a> {
    attributes: &'a Attributes,
    calendar: Calendar,
    /// What holes may be filled with; `None` where there must be none.
    parameters: Option<&'a [Parameter]>,
    /// Aliases given so far.
    aliases: u32,
    /// Paths that the check of the shape reported.
    known: HashSet<String>,
    /// Lists of names that were given already: once is enough, a status has little room.
    listed: HashSet<(Entity, &'static str)>,
    violations: Violations,
}

/// A field of the registry, or an attribute.
enum Found<'a> {
    Field(&'static Field),
    Attribute(&'a str, FieldType),
}

impl Found<'_> {
    fn ty(&self) -> FieldType {
        match self {
            Found::Field(field) => field.ty,
            Found::Attribute(_, ty) => *ty,
        }
    }

    fn operators(&self) -> &'static [Operator] {
        match self {
            Found::Field(field) => field.operators(),
            Found::Attribute(_, ty) => ty.operators(),
        }
    }
}

impl<'a> Checker<'a> {
    fn new(
        attributes: &'a Attributes,
        calendar: Calendar,
        parameters: Option<&'a [Parameter]>,
        shape: Violations,
    ) -> Self {
        Checker {
            attributes,
            calendar,
            parameters,
            aliases: 0,
            known: shape.iter().map(|v| v.field.clone()).collect(),
            listed: HashSet::new(),
            violations: shape,
        }
    }

    fn whole(mut self, root: Entity, criteria: &Criteria) -> Result<Node, Violations> {
        let row = Row {
            entity: root,
            alias: Alias(0),
        };
        let node = self.node(criteria, row, Sense::Holds, "criteria");
        match node {
            Some(node) if self.violations.is_empty() => Ok(node),
            _ => Err(self.violations),
        }
    }
}

/// Every part gives `None` when it, or something below it, has a violation.
impl Checker<'_> {
    fn report(&mut self, path: String, reason: String) {
        if !self.known.contains(&path) {
            self.violations.add(path, reason);
        }
    }

    fn next_alias(&mut self) -> Alias {
        self.aliases += 1;
        Alias(self.aliases)
    }

    fn node(&mut self, criteria: &Criteria, row: Row, sense: Sense, path: &str) -> Option<Node> {
        match (criteria, sense) {
            (Criteria::All { criteria }, Sense::Holds) => self
                .list(criteria, row, sense, &format!("{path}.all"))
                .map(Node::All),
            (Criteria::Any { criteria }, Sense::Holds) => self
                .list(criteria, row, sense, &format!("{path}.any"))
                .map(Node::Any),
            // Every node holds or does not, so De Morgan's laws are valid.
            (Criteria::All { criteria }, Sense::HoldsNot) => self
                .list(criteria, row, sense, &format!("{path}.all"))
                .map(Node::Any),
            (Criteria::Any { criteria }, Sense::HoldsNot) => self
                .list(criteria, row, sense, &format!("{path}.any"))
                .map(Node::All),
            (Criteria::Not { criteria }, _) => {
                self.node(criteria, row, sense.flipped(), &format!("{path}.not"))
            }
            (Criteria::Compare(compare), _) => {
                self.compare(compare, row, sense, &format!("{path}.compare"))
            }
            (Criteria::Related(related), _) => {
                self.related(related, row, sense, &format!("{path}.related"))
            }
        }
    }

    fn list(
        &mut self,
        criteria: &[Criteria],
        row: Row,
        sense: Sense,
        path: &str,
    ) -> Option<Vec<Node>> {
        let nodes: Vec<Option<Node>> = criteria
            .iter()
            .enumerate()
            .map(|(i, c)| self.node(c, row, sense, &format!("{path}.criteria[{i}]")))
            .collect();
        nodes.into_iter().collect()
    }

    fn compare(&mut self, compare: &Compare, row: Row, sense: Sense, path: &str) -> Option<Node> {
        let found = self.find(&compare.field, row.entity, path)?;
        let (operator, sense) = match compare.operator {
            Operator::IsNotSet => (Operator::IsSet, sense.flipped()),
            other => (other, sense),
        };
        let operators = found.operators();
        if !operators.contains(&operator) {
            let words: Vec<&str> = operators.iter().map(|o| o.as_str()).collect();
            self.report(
                format!("{path}.operator"),
                format!("the field compares with {}", words.join(", ")),
            );
        }
        if let Some(parameters) = self.parameters
            && compare
                .values
                .iter()
                .any(|v| matches!(v, Value::Parameter(_)))
        {
            return self.with_holes(compare, &found, parameters, path);
        }
        let values = &compare.values[..compare.values.len().min(MAX_VALUES)];
        let values = match Values::read(found.ty(), values, self.calendar) {
            Ok(values) => values,
            Err(wrong) => {
                for i in wrong {
                    let reason = format!("must be {}", value_words(found.ty()));
                    self.report(format!("{path}.values[{i}]"), reason);
                }
                return None;
            }
        };
        if operator == Operator::Between && values.is_reversed() {
            self.report(
                format!("{path}.values"),
                "the first must not be greater than the second".into(),
            );
        }
        match found {
            Found::Attribute(key, ty) => {
                let rows = self.attribute(key, ty, row, values.test(operator)?)?;
                Some(Node::Exists(sense, rows))
            }
            Found::Field(field) => self.field(field, operator, values, row, sense, path),
        }
    }

    fn find<'f>(&mut self, name: &'f str, entity: Entity, path: &str) -> Option<Found<'f>> {
        let known: Vec<String>;
        let of = entity.noun();
        let (what, reason) = match name.strip_prefix(PREFIX) {
            Some(key) if entity.attributes().is_some() => {
                if let Some(ty) = self.attributes.get(entity, key) {
                    return Some(Found::Attribute(key, ty));
                }
                let keys = self.attributes.of(entity);
                known = keys.map(|(key, _)| format!("{PREFIX}{key}")).collect();
                ("attributes", format!("is no imported attribute of a {of}"))
            }
            _ => {
                if let Some(field) = entity.field(name) {
                    return Some(Found::Field(field));
                }
                let fields = entity.fields().iter().map(|f| f.name.to_owned());
                let keys = entity.attributes().map(|_| format!("{PREFIX}KEY"));
                known = fields.chain(keys).collect();
                ("fields", format!("is no field of a {of}"))
            }
        };
        let reason = self.with_known((entity, what), reason, &known);
        self.report(format!("{path}.field"), reason);
        None
    }

    /// Adds the known names to a reason, the first time.
    fn with_known(
        &mut self,
        of: (Entity, &'static str),
        reason: String,
        known: &[String],
    ) -> String {
        if !self.listed.insert(of) {
            return reason;
        }
        match known.len() {
            0 => format!("{reason}; there are none"),
            n if n > MAX_LISTED => format!(
                "{reason}; known are {} and {} more",
                known[..MAX_LISTED].join(", "),
                n - MAX_LISTED
            ),
            _ => format!("{reason}; known are {}", known.join(", ")),
        }
    }

    /// The rows with an attribute's value; they have a table of their own.
    fn attribute(&mut self, key: &str, ty: FieldType, row: Row, test: Test) -> Option<Rows> {
        let (table, far) = row.entity.attributes()?;
        let alias = self.next_alias();
        let column = match ty {
            FieldType::Text => "text_value",
            FieldType::Number => "number_value",
            FieldType::Flag => "flag_value",
            FieldType::Date | FieldType::Time => "date_value",
        };
        let compare =
            |column, test| Node::Compare(Sense::Holds, Expression::Column(alias, column), test);
        let is_key = Test::All(vec![Term(" = ", Operand::Text(key.to_owned()))]);
        Some(Rows {
            table,
            alias,
            far,
            near: (row.alias, "id"),
            inner: Some(Box::new(Node::All(vec![
                compare("key", is_key),
                compare(column, test),
            ]))),
        })
    }

    fn field(
        &mut self,
        field: &'static Field,
        operator: Operator,
        values: Values,
        row: Row,
        sense: Sense,
        path: &str,
    ) -> Option<Node> {
        let compare = |expression, test| Some(Node::Compare(sense, expression, test));
        match &field.source {
            Source::Column(column) => compare(
                Expression::Column(row.alias, column),
                values.test(operator)?,
            ),
            Source::Word(column, words) => {
                self.words(words, &values, path)?;
                compare(
                    Expression::Column(row.alias, column),
                    values.test(operator)?,
                )
            }
            Source::Sum(sum) => compare(Expression::Sum(row.alias, sum), values.test(operator)?),
            Source::Lookup(lookup, column) => {
                let test = LookupTest::Column(column, values.test(operator)?);
                Some(Node::Lookup(sense, row.alias, lookup, test))
            }
            Source::Name(lookup, _) if operator == Operator::IsSet => {
                compare(Expression::Column(row.alias, lookup.key), is_set())
            }
            Source::Name(lookup, name) => {
                let among = match operator {
                    Operator::Equal | Operator::In => Sense::Holds,
                    _ => Sense::HoldsNot,
                };
                let test = LookupTest::Named(among, *name, self.names(*name, &values, path)?);
                Some(Node::Lookup(sense, row.alias, lookup, test))
            }
        }
    }

    /// Checks that all values are among the words of the field.
    fn words(&mut self, words: &[&str], values: &Values, path: &str) -> Option<()> {
        let Values::Text(values) = values else {
            return None;
        };
        let mut all_known = Some(());
        for (i, value) in values.iter().enumerate() {
            if !words.contains(&&**value) {
                let reason = format!("must be one of {}", words.join(", "));
                self.report(format!("{path}.values[{i}]"), reason);
                all_known = None;
            }
        }
        all_known
    }

    /// Reads resource names; gives one list per column of the name.
    fn names(
        &mut self,
        name: ResourceName,
        values: &Values,
        path: &str,
    ) -> Option<Vec<Vec<String>>> {
        let Values::Text(values) = values else {
            return None;
        };
        let mut columns = Some(vec![Vec::new(); name.columns().len()]);
        for (i, value) in values.iter().enumerate() {
            match name.parse(value) {
                Ok(ids) => {
                    for (column, id) in columns.iter_mut().flatten().zip(ids) {
                        column.push(id);
                    }
                }
                Err(error) => {
                    self.report(format!("{path}.values[{i}]"), error.to_string());
                    columns = None;
                }
            }
        }
        columns
    }

    fn related(&mut self, related: &Related, row: Row, sense: Sense, path: &str) -> Option<Node> {
        let Some(relation) = row.entity.relation(&related.relation) else {
            let known: Vec<String> = row.entity.relations().map(|r| r.name.to_owned()).collect();
            let reason = format!("cannot be followed from a {}", row.entity.noun());
            let reason = self.with_known((row.entity, "relations"), reason, &known);
            self.report(format!("{path}.relation"), reason);
            return None;
        };
        let to = Row {
            entity: relation.to,
            alias: self.next_alias(),
        };
        let inner = match &related.criteria {
            None => None,
            Some(criteria) => {
                let path = format!("{path}.criteria");
                Some(Box::new(self.node(criteria, to, Sense::Holds, &path)?))
            }
        };
        let rows = Rows {
            table: relation.to.table(),
            alias: to.alias,
            far: relation.far,
            near: (row.alias, relation.near),
            inner,
        };
        match related.quantifier {
            Quantifier::Any => Some(Node::Exists(sense, rows)),
            Quantifier::None => Some(Node::Exists(sense.flipped(), rows)),
            Quantifier::Count { operator, value } => count(rows, operator, value, sense),
        }
    }
}

/// A condition on a number of rows; where existence says it, as existence. `None` for operators
/// that compare no numbers, which the check of the shape has reported.
fn count(rows: Rows, operator: Operator, value: i32, sense: Sense) -> Option<Node> {
    use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let operator = match (sense, operator) {
        (Sense::Holds, operator) => operator,
        (Sense::HoldsNot, Equal) => NotEqual,
        (Sense::HoldsNot, NotEqual) => Equal,
        (Sense::HoldsNot, Less) => GreaterOrEqual,
        (Sense::HoldsNot, LessOrEqual) => Greater,
        (Sense::HoldsNot, Greater) => LessOrEqual,
        (Sense::HoldsNot, GreaterOrEqual) => Less,
        (Sense::HoldsNot, _) => return None,
    };
    Some(match (operator, value) {
        (Less, 0) => Node::Constant(false),
        (GreaterOrEqual, 0) => Node::Constant(true),
        (Equal | LessOrEqual, 0) | (Less, 1) => Node::Exists(Sense::HoldsNot, rows),
        (NotEqual | Greater, 0) | (GreaterOrEqual, 1) => Node::Exists(Sense::Holds, rows),
        (Equal, n) => Node::Count(rows, " = ", n),
        (NotEqual, n) => Node::Count(rows, " <> ", n),
        (Less, n) => Node::Count(rows, " < ", n),
        (LessOrEqual, n) => Node::Count(rows, " <= ", n),
        (Greater, n) => Node::Count(rows, " > ", n),
        (GreaterOrEqual, n) => Node::Count(rows, " >= ", n),
        _ => return None,
    })
}

fn value_words(ty: FieldType) -> &'static str {
    match ty {
        FieldType::Text => "text",
        FieldType::Number => "a number",
        FieldType::Flag => "a flag",
        FieldType::Date => "a date or days_ago",
        FieldType::Time => "a time, a date or days_ago",
    }
}
