//! Criteria taken apart: every node by itself, as it is compiled in the whole.

use anklang_domain::Violations;
use anklang_domain::selection::Criteria;

use super::super::attributes::Attributes;
use super::super::operand::Calendar;
use super::super::registry::Entity;
use super::super::statement::Alias;
use super::super::tree::{Node, Rows, Sense};
use super::{Checker, Row};

/// A node of criteria by itself.
pub(in crate::selection) struct Piece {
    /// Where it stands, from `criteria`.
    pub path: String,
    /// The related rows that it is about, each of the one before; empty for the subject itself.
    pub chain: Vec<Rows>,
    /// What must hold.
    pub node: Node,
    /// Of a relation: the rows that it leads to, and what they must meet.
    pub related: Option<(Rows, Option<Node>)>,
}

/// All nodes, one before those below it.
///
/// # Errors
/// What is wrong with the criteria; nothing when they were checked before.
pub(in crate::selection) fn pieces(
    root: Entity,
    criteria: &Criteria,
    attributes: &Attributes,
    calendar: Calendar,
) -> Result<Vec<Piece>, Violations> {
    let mut checker = Checker::new(attributes, calendar, None, Violations::new());
    let row = Row {
        entity: root,
        alias: Alias(0),
    };
    let mut out = Vec::new();
    checker.take_apart(criteria, row, &[], "criteria", &mut out);
    checker.violations.finish(out)
}

impl Checker<'_> {
    fn take_apart(
        &mut self,
        criteria: &Criteria,
        row: Row,
        chain: &[Rows],
        path: &str,
        out: &mut Vec<Piece>,
    ) -> Option<()> {
        let node = self.node(criteria, row, Sense::Holds, path)?;
        let place = out.len();
        out.push(Piece {
            path: path.to_owned(),
            chain: chain.to_vec(),
            node,
            related: None,
        });
        match criteria {
            Criteria::All { criteria: list } | Criteria::Any { criteria: list } => {
                let word = if matches!(criteria, Criteria::All { .. }) {
                    "all"
                } else {
                    "any"
                };
                for (i, inner) in list.iter().enumerate() {
                    let path = format!("{path}.{word}.criteria[{i}]");
                    self.take_apart(inner, row, chain, &path, out)?;
                }
            }
            Criteria::Not { criteria } => {
                self.take_apart(criteria, row, chain, &format!("{path}.not"), out)?;
            }
            Criteria::Compare(_) => out[place].path.push_str(".compare"),
            Criteria::Related(related) => {
                out[place].path.push_str(".related");
                let relation = row.entity.relation(&related.relation)?;
                let to = Row {
                    entity: relation.to,
                    alias: self.next_alias(),
                };
                let rows = Rows {
                    table: relation.to.table(),
                    alias: to.alias,
                    far: relation.far,
                    near: (row.alias, relation.near),
                    inner: None,
                };
                let path = format!("{path}.related.criteria");
                let inner = match &related.criteria {
                    None => None,
                    Some(inner) => {
                        let chain = [chain, std::slice::from_ref(&rows)].concat();
                        self.take_apart(inner, to, &chain, &path, out)?;
                        Some(self.node(inner, to, Sense::Holds, &path)?)
                    }
                };
                out[place].related = Some((rows, inner));
            }
        }
        Some(())
    }
}
