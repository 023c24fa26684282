//! What criteria can use: entities with their fields, and the relations between them.
//!
//! The only source of identifiers in the SQL of selections, all of them `&'static str`. A new
//! field is one line here; it is then checked, compiled, listed and tested like the others.
//! Fields are called as in the API's resources, and hold what is in there.

mod fields;
mod relations;

use anklang_domain::name::{self, NameError};
use anklang_domain::selection::{Operator, Subject};

use FieldType::{Date, Flag, Number, Text, Time};

/// A table that criteria can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// Customers.
    Customer,
    /// Contracts.
    Contract,
    /// Items of contracts.
    ContractItem,
    /// Orders.
    Order,
    /// Lines of orders.
    OrderLine,
    /// Addresses of customers.
    ContactPoint,
    /// Permissions of customers.
    Consent,
    /// Offers.
    Offer,
    /// Messages.
    Message,
    /// What channels report of messages.
    Report,
    /// Messages from customers.
    InboundMessage,
    /// Planned contacts.
    PlannedContact,
    /// Attempts to reach customers under planned contacts.
    ContactAttempt,
}

impl Entity {
    /// All of them.
    pub const ALL: [Entity; 13] = [
        Entity::Customer,
        Entity::Contract,
        Entity::ContractItem,
        Entity::Order,
        Entity::OrderLine,
        Entity::ContactPoint,
        Entity::Consent,
        Entity::Offer,
        Entity::Message,
        Entity::Report,
        Entity::InboundMessage,
        Entity::PlannedContact,
        Entity::ContactAttempt,
    ];

    /// What it is called in messages to callers, in the singular.
    pub fn noun(self) -> &'static str {
        match self {
            Entity::Customer => "customer",
            Entity::Contract => "contract",
            Entity::ContractItem => "contract item",
            Entity::Order => "order",
            Entity::OrderLine => "order line",
            Entity::ContactPoint => "contact point",
            Entity::Consent => "consent",
            Entity::Offer => "offer",
            Entity::Message => "message",
            Entity::Report => "report",
            Entity::InboundMessage => "inbound message",
            Entity::PlannedContact => "planned contact",
            Entity::ContactAttempt => "contact attempt",
        }
    }

    /// Its table; every one has `tenant_id`.
    pub(super) fn table(self) -> &'static str {
        match self {
            Entity::Customer => "customer",
            Entity::Contract => "contract",
            Entity::ContractItem => "contract_item",
            Entity::Order => "sales_order",
            Entity::OrderLine => "order_line",
            Entity::ContactPoint => "contact_point",
            Entity::Consent => "consent",
            Entity::Offer => "offer",
            Entity::Message => "message",
            Entity::Report => "message_report",
            Entity::InboundMessage => "inbound_message",
            Entity::PlannedContact => "planned_contact",
            Entity::ContactAttempt => "contact_attempt",
        }
    }

    /// Its fields, imported attributes apart.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Entity::Customer => fields::CUSTOMER,
            Entity::Contract => fields::CONTRACT,
            Entity::ContractItem => fields::CONTRACT_ITEM,
            Entity::Order => fields::ORDER,
            Entity::OrderLine => fields::ORDER_LINE,
            Entity::ContactPoint => fields::CONTACT_POINT,
            Entity::Consent => fields::CONSENT,
            Entity::Offer => fields::OFFER,
            Entity::Message => fields::MESSAGE,
            Entity::Report => fields::REPORT,
            Entity::InboundMessage => fields::INBOUND_MESSAGE,
            Entity::PlannedContact => fields::PLANNED_CONTACT,
            Entity::ContactAttempt => fields::CONTACT_ATTEMPT,
        }
    }

    /// The field of that name.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|f| f.name == name)
    }

    /// The relations that can be followed from it.
    pub fn relations(self) -> impl Iterator<Item = &'static Relation> {
        relations::RELATIONS.iter().filter(move |r| r.from == self)
    }

    /// The relation of that name that can be followed from it.
    pub fn relation(self, name: &str) -> Option<&'static Relation> {
        self.relations().find(|r| r.name == name)
    }

    /// The table of its imported attributes and the column that refers to the entity's `id`.
    pub(super) fn attributes(self) -> Option<(&'static str, &'static str)> {
        match self {
            Entity::Customer => Some(("customer_attribute", "customer_id")),
            Entity::Contract => Some(("contract_attribute", "contract_id")),
            _ => None,
        }
    }
}

impl From<Subject> for Entity {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::Customer => Entity::Customer,
            Subject::Contract => Entity::Contract,
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// Text, compared by code points.
    Text,
    /// Decimal number.
    Number,
    /// Truth value.
    Flag,
    /// Date.
    Date,
    /// Point in time.
    Time,
}

/// How text that is chosen from a list, and names of resources, compare.
const OF_WORDS: &[Operator] = &[
    Operator::Equal,
    Operator::NotEqual,
    Operator::In,
    Operator::NotIn,
    Operator::IsSet,
    Operator::IsNotSet,
];
const OF_TEXT: &[Operator] = &[
    Operator::Equal,
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Greater,
    Operator::GreaterOrEqual,
    Operator::Between,
    Operator::In,
    Operator::NotIn,
    Operator::StartsWith,
    Operator::Contains,
    Operator::IsSet,
    Operator::IsNotSet,
];
const OF_NUMBERS: &[Operator] = &[
    Operator::Equal,
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Greater,
    Operator::GreaterOrEqual,
    Operator::Between,
    Operator::In,
    Operator::NotIn,
    Operator::IsSet,
    Operator::IsNotSet,
];
/// A list of points in time is of no use.
const OF_TIMES: &[Operator] = &[
    Operator::Equal,
    Operator::NotEqual,
    Operator::Less,
    Operator::LessOrEqual,
    Operator::Greater,
    Operator::GreaterOrEqual,
    Operator::Between,
    Operator::IsSet,
    Operator::IsNotSet,
];
const OF_FLAGS: &[Operator] = &[
    Operator::Equal,
    Operator::NotEqual,
    Operator::IsSet,
    Operator::IsNotSet,
];

impl FieldType {
    /// How fields of this type compare.
    pub fn operators(self) -> &'static [Operator] {
        match self {
            Text => OF_TEXT,
            Number | Date => OF_NUMBERS,
            Time => OF_TIMES,
            Flag => OF_FLAGS,
        }
    }
}

/// A field that can be compared.
#[derive(Debug)]
pub struct Field {
    /// What callers name it by.
    pub name: &'static str,
    /// What it holds.
    pub ty: FieldType,
    /// What it means, for people.
    pub description: &'static str,
    pub(super) source: Source,
}

impl Field {
    /// How it compares.
    pub fn operators(&self) -> &'static [Operator] {
        match self.source {
            Source::Word(..) | Source::Name(..) => OF_WORDS,
            _ => self.ty.operators(),
        }
    }
}

/// Where a field's value comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A column of the table.
    Column(&'static str),
    /// A column that holds one of these words.
    Word(&'static str, &'static [&'static str]),
    /// A column of a row that the table points at; in terms of the lookup's aliases, never NULL.
    Lookup(&'static Lookup, &'static str),
    /// The resource name of a row that the table points at.
    Name(&'static Lookup, ResourceName),
    /// A sum over rows that point at the table; 0 without any.
    Sum(&'static Sum),
}

/// Rows that a table points at with one column. There are few of them, so that they are found
/// first, and the pointing rows by them.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The column that points.
    pub key: &'static str,
    /// What follows FROM. The row pointed at has the alias `x` and the columns `id` and
    /// `tenant_id`; joined tables carry the tenant in their joins.
    pub from: &'static str,
}

/// A kind of resource name that fields hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceName {
    Brand,
    ProductVersion,
    Campaign,
    Phase,
    OrgUnit,
}

impl ResourceName {
    /// The columns that the ids in the name are, in terms of the lookup's aliases, each with the
    /// cast of a text array to an array of it.
    pub fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            ResourceName::Brand => &[("x.code", "::text[]")],
            ResourceName::ProductVersion => &[("y.number", "::text[]"), ("x.code", "::text[]")],
            ResourceName::Campaign => &[("x.id", "::uuid[]")],
            ResourceName::Phase => &[("x.campaign_id", "::uuid[]"), ("x.number", "::integer[]")],
            ResourceName::OrgUnit => &[("x.id", "::text[]")],
        }
    }

    /// The ids in a name, of which each casts to its column's type.
    pub fn parse(self, text: &str) -> Result<Vec<String>, NameError> {
        match self {
            ResourceName::Brand => name::parse(text, ["brands"]).map(Vec::from),
            ResourceName::ProductVersion => {
                name::parse(text, ["products", "versions"]).map(Vec::from)
            }
            ResourceName::Campaign => {
                name::parse_uuid(text, "campaigns").map(|id| vec![id.to_string()])
            }
            ResourceName::OrgUnit => name::parse(text, ["orgUnits"]).map(Vec::from),
            ResourceName::Phase => {
                let form = || NameError::Form("campaigns/{uuid}/phases/{number}".into());
                let [campaign, phase] = name::parse(text, ["campaigns", "phases"])?;
                let campaign = uuid::Uuid::try_parse(&campaign).map_err(|_| form())?;
                let phase: i32 = phase.parse().map_err(|_| form())?;
                Ok(vec![campaign.to_string(), phase.to_string()])
            }
        }
    }
}

/// A sum over rows that point at a table's `id`.
#[derive(Debug)]
pub(super) struct Sum {
    /// What is summed, in terms of the alias `x`.
    pub of: &'static str,
    /// Their table.
    pub table: &'static str,
    /// Their column that points.
    pub far: &'static str,
}

/// A relation that can be followed. Both ends are of one tenant.
#[derive(Debug)]
pub struct Relation {
    /// What callers name it by; one name leads to one entity wherever it starts.
    pub name: &'static str,
    /// Where it starts.
    pub from: Entity,
    /// Where it leads.
    pub to: Entity,
    /// What it leads to, for people.
    pub description: &'static str,
    /// Column where it starts.
    pub(super) near: &'static str,
    /// Column with the same value where it leads.
    pub(super) far: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn names_are_unique_and_lead_to_one_entity() {
        let mut leads_to = BTreeMap::new();
        for entity in Entity::ALL {
            let mut seen = BTreeSet::new();
            for field in entity.fields() {
                assert!(seen.insert(field.name), "{} {}", entity.noun(), field.name);
                assert!(!field.name.contains('.'), "{}", field.name);
            }
            let mut seen = BTreeSet::new();
            for relation in entity.relations() {
                assert!(
                    seen.insert(relation.name),
                    "{} {}",
                    entity.noun(),
                    relation.name
                );
                let (to, description) = *leads_to
                    .entry(relation.name)
                    .or_insert((relation.to, relation.description));
                assert_eq!(to, relation.to, "{}", relation.name);
                assert_eq!(description, relation.description, "{}", relation.name);
            }
        }
    }

    #[test]
    fn names_of_resources_cast_to_their_columns() {
        let uuid = "01930000-0000-7000-8000-000000000001";
        let phase = |text: &str| ResourceName::Phase.parse(text).map_err(|e| e.to_string());
        assert_eq!(
            phase(&format!("campaigns/{uuid}/phases/02")),
            Ok(vec![uuid.into(), "2".into()])
        );
        for bad in [
            "campaigns/7/phases/1",
            &format!("campaigns/{uuid}/phases/99999999999"),
        ] {
            let form = "must have the form campaigns/{uuid}/phases/{number}";
            assert_eq!(phase(bad), Err(form.into()));
        }
        assert_eq!(
            ResourceName::ProductVersion
                .parse("products/a%2Fb/versions/c")
                .ok(),
            Some(vec!["a/b".into(), "c".into()])
        );
    }
}
