//! What criteria can use: entities with their fields, and the relations between them.
//!
//! The only source of identifiers in the SQL of selections, all of them `&'static str`. A new
//! field is one line here; it is then checked, compiled, listed and tested like the others.
//! Fields are called as in the API's resources, and hold what is in there.

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
}

impl Entity {
    /// All of them.
    pub const ALL: [Entity; 9] = [
        Entity::Customer,
        Entity::Contract,
        Entity::ContractItem,
        Entity::Order,
        Entity::OrderLine,
        Entity::ContactPoint,
        Entity::Consent,
        Entity::Offer,
        Entity::Message,
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
        }
    }

    /// Its fields, imported attributes apart.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Entity::Customer => CUSTOMER,
            Entity::Contract => CONTRACT,
            Entity::ContractItem => CONTRACT_ITEM,
            Entity::Order => ORDER,
            Entity::OrderLine => ORDER_LINE,
            Entity::ContactPoint => CONTACT_POINT,
            Entity::Consent => CONSENT,
            Entity::Offer => OFFER,
            Entity::Message => MESSAGE,
        }
    }

    /// The field of that name.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|f| f.name == name)
    }

    /// The relations that can be followed from it.
    pub fn relations(self) -> impl Iterator<Item = &'static Relation> {
        RELATIONS.iter().filter(move |r| r.from == self)
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

const BRAND: Lookup = Lookup {
    key: "brand_id",
    from: "brand x",
};
const PRODUCT_VERSION: Lookup = Lookup {
    key: "product_version_id",
    from: "product_version x JOIN product y ON y.tenant_id = x.tenant_id AND y.id = x.product_id",
};
const CAMPAIGN: Lookup = Lookup {
    key: "campaign_id",
    from: "campaign x",
};
const PHASE: Lookup = Lookup {
    key: "phase_id",
    from: "phase x",
};

/// A kind of resource name that fields hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceName {
    Brand,
    ProductVersion,
    Campaign,
    Phase,
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

const ORDER_TOTAL: Sum = Sum {
    of: "x.quantity * x.unit_price",
    table: "order_line",
    far: "order_id",
};

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

const fn field(
    name: &'static str,
    ty: FieldType,
    source: Source,
    description: &'static str,
) -> Field {
    Field {
        name,
        ty,
        description,
        source,
    }
}

/// A field with the name of its column.
const fn column(name: &'static str, ty: FieldType, description: &'static str) -> Field {
    field(name, ty, Source::Column(name), description)
}

/// A field with the name of its column, which holds one of these words.
const fn word(
    name: &'static str,
    words: &'static [&'static str],
    description: &'static str,
) -> Field {
    field(name, Text, Source::Word(name, words), description)
}

const CREATED: Field = field(
    "create_time",
    Time,
    Source::Column("created_at"),
    "When it was created here.",
);
const UPDATED: Field = field(
    "update_time",
    Time,
    Source::Column("updated_at"),
    "When it last changed.",
);
const CURRENCY_CODE: Field = field(
    "currency_code",
    Text,
    Source::Column("currency"),
    "ISO 4217 code of the currency, e.g. EUR.",
);
const BRAND_NAME: Field = field(
    "brand",
    Text,
    Source::Name(&BRAND, ResourceName::Brand),
    "The brand, as brands/{code}.",
);
const PRODUCT_NUMBER: Field = field(
    "product_number",
    Text,
    Source::Lookup(&PRODUCT_VERSION, "y.number"),
    "Number of the product.",
);
const PRODUCT_VERSION_CODE: Field = field(
    "product_version_code",
    Text,
    Source::Lookup(&PRODUCT_VERSION, "x.code"),
    "Code of the product version, whatever the product.",
);
const PRODUCT_VERSION_NAME: Field = field(
    "product_version",
    Text,
    Source::Name(&PRODUCT_VERSION, ResourceName::ProductVersion),
    "The product version, as products/{product}/versions/{version}.",
);
const CAMPAIGN_NAME: Field = field(
    "campaign",
    Text,
    Source::Name(&CAMPAIGN, ResourceName::Campaign),
    "The campaign, as campaigns/{uuid}.",
);
const PHASE_NAME: Field = field(
    "phase",
    Text,
    Source::Name(&PHASE, ResourceName::Phase),
    "The phase of a campaign, as campaigns/{uuid}/phases/{number}.",
);

const CUSTOMER: &[Field] = &[
    column("number", Text, "Customer number."),
    word("kind", &["person", "company"], "person or company."),
    word(
        "salutation",
        &["female", "male", "diverse"],
        "How a person is addressed: female, male or diverse.",
    ),
    column("title", Text, "Academic title."),
    column("first_name", Text, "First name."),
    column("last_name", Text, "Last name."),
    column("company_name", Text, "Name of the company."),
    column("customer_group", Text, "The tenant's customer group."),
    column("language", Text, "Language tag, e.g. de."),
    column(
        "time_zone",
        Text,
        "IANA time zone; not set when it is the tenant's.",
    ),
    column("birth_date", Date, "Date of birth."),
    column("street", Text, "Street without house number."),
    column("house_number", Text, "House number."),
    column("postal_code", Text, "Postcode."),
    column("city", Text, "City."),
    column("country", Text, "ISO 3166-1 code of the country, e.g. DE."),
    CREATED,
    UPDATED,
];

const CONTRACT: &[Field] = &[
    column("number", Text, "Contract number."),
    column("division", Text, "Division, e.g. electricity, gas, motor."),
    column("supply_status", Text, "Supply status."),
    column(
        "site_street",
        Text,
        "Street of the site without house number.",
    ),
    column("site_house_number", Text, "House number of the site."),
    column("site_postal_code", Text, "Postcode of the site."),
    column("site_city", Text, "City of the site."),
    column(
        "annual_quantity_kwh",
        Number,
        "Forecast quantity of a year in kWh.",
    ),
    column("start_date", Date, "First day of the contract."),
    column("end_date", Date, "Last day of the contract."),
    column("notice_date", Date, "Day of the notice."),
    PRODUCT_VERSION_NAME,
    PRODUCT_NUMBER,
    PRODUCT_VERSION_CODE,
    BRAND_NAME,
    CREATED,
    UPDATED,
];

const CONTRACT_ITEM: &[Field] = &[
    column("code", Text, "Code of the item, e.g. of a coverage."),
    field(
        "display_name",
        Text,
        Source::Column("name"),
        "Name of the item.",
    ),
    column("quantity", Number, "Quantity."),
];

const ORDER: &[Field] = &[
    column("number", Text, "Order number."),
    field(
        "order_time",
        Time,
        Source::Column("ordered_at"),
        "When it was ordered.",
    ),
    CURRENCY_CODE,
    field(
        "total",
        Number,
        Source::Sum(&ORDER_TOTAL),
        "Sum of quantity × unit price of the lines, in the order's currency.",
    ),
    BRAND_NAME,
    CREATED,
    UPDATED,
];

const ORDER_LINE: &[Field] = &[
    column("line", Number, "Number of the line, from 1."),
    column("product_number", Text, "Number of the product bought."),
    column("product_name", Text, "Name of the product bought."),
    column("product_group", Text, "Group of the product bought."),
    column("quantity", Number, "Quantity."),
    column(
        "unit_price",
        Number,
        "Price of one, in the order's currency.",
    ),
];

const CONTACT_POINT: &[Field] = &[
    column(
        "channel",
        Text,
        "Channel: mail, phone, mobile, fax, postal …",
    ),
    column("address", Text, "The address, normalised."),
    column(
        "position",
        Number,
        "Place among the customer's addresses on the channel, from 1.",
    ),
    CREATED,
    UPDATED,
];

const CONSENT: &[Field] = &[
    column("channel", Text, "Channel that it is for."),
    column("purpose", Text, "What it is for, e.g. marketing."),
    word("state", &["granted", "withdrawn"], "granted or withdrawn."),
    column("source", Text, "Where it came from."),
    field(
        "record_time",
        Time,
        Source::Column("recorded_at"),
        "When it was given or withdrawn.",
    ),
];

const OFFER: &[Field] = &[
    column("number", Text, "Offer number."),
    word(
        "state",
        &[
            "draft",
            "open",
            "accepted",
            "rejected",
            "expired",
            "withdrawn",
        ],
        "draft, open, accepted, rejected, expired or withdrawn.",
    ),
    column("offer_date", Date, "Day on which it was made."),
    field(
        "valid_until_date",
        Date,
        Source::Column("valid_until"),
        "Last day on which it can be accepted.",
    ),
    column(
        "annual_amount",
        Number,
        "Cost of a year, in the offer's currency.",
    ),
    column(
        "annual_quantity_kwh",
        Number,
        "Quantity of a year in kWh that the amount is for.",
    ),
    CURRENCY_CODE,
    field(
        "answer_time",
        Time,
        Source::Column("answered_at"),
        "When it was accepted or rejected.",
    ),
    column("answer_source", Text, "Where the answer came from."),
    column("reject_reason", Text, "Why it was rejected."),
    PRODUCT_VERSION_NAME,
    PRODUCT_NUMBER,
    PRODUCT_VERSION_CODE,
    CAMPAIGN_NAME,
    PHASE_NAME,
    CREATED,
    UPDATED,
];

const MESSAGE: &[Field] = &[
    column("channel", Text, "Channel on which it goes out."),
    column("purpose", Text, "What it is for, e.g. marketing."),
    word(
        "state",
        &[
            "queued",
            "sending",
            "sent",
            "delivered",
            "failed",
            "bounced",
            "suppressed",
            "ambiguous",
            "cancelled",
        ],
        "queued, sending, sent, delivered, failed, bounced, suppressed, ambiguous or cancelled.",
    ),
    field(
        "send_time",
        Time,
        Source::Column("sent_at"),
        "When the channel took it.",
    ),
    CAMPAIGN_NAME,
    PHASE_NAME,
    CREATED,
    UPDATED,
];

const fn relation(
    (from, near): (Entity, &'static str),
    name: &'static str,
    (to, far): (Entity, &'static str),
    description: &'static str,
) -> Relation {
    Relation {
        name,
        from,
        to,
        description,
        near,
        far,
    }
}

const ITS_CUSTOMER: &str = "The one customer that it belongs to.";
const ITS_CONTRACT: &str = "The one contract that it is for.";

const RELATIONS: &[Relation] = {
    use Entity::*;
    &[
        relation(
            (Customer, "id"),
            "contracts",
            (Contract, "customer_id"),
            "Contracts of the customer.",
        ),
        relation(
            (Customer, "id"),
            "orders",
            (Order, "customer_id"),
            "Orders of the customer.",
        ),
        relation(
            (Customer, "id"),
            "contact_points",
            (ContactPoint, "customer_id"),
            "Addresses of the customer on channels.",
        ),
        relation(
            (Customer, "id"),
            "consents",
            (Consent, "customer_id"),
            "Permissions of the customer, one per channel and purpose.",
        ),
        relation(
            (Customer, "id"),
            "offers",
            (Offer, "customer_id"),
            "Offers to the customer or for the contract.",
        ),
        relation(
            (Customer, "id"),
            "messages",
            (Message, "customer_id"),
            "Messages to the customer or with the offer.",
        ),
        relation(
            (Contract, "customer_id"),
            "customer",
            (Customer, "id"),
            ITS_CUSTOMER,
        ),
        relation(
            (Contract, "id"),
            "items",
            (ContractItem, "contract_id"),
            "Items of the contract, e.g. coverages.",
        ),
        relation(
            (Contract, "id"),
            "offers",
            (Offer, "contract_id"),
            "Offers to the customer or for the contract.",
        ),
        relation(
            (Order, "customer_id"),
            "customer",
            (Customer, "id"),
            ITS_CUSTOMER,
        ),
        relation(
            (Order, "id"),
            "lines",
            (OrderLine, "order_id"),
            "Lines of the order.",
        ),
        relation(
            (Offer, "customer_id"),
            "customer",
            (Customer, "id"),
            ITS_CUSTOMER,
        ),
        relation(
            (Offer, "contract_id"),
            "contract",
            (Contract, "id"),
            ITS_CONTRACT,
        ),
        relation(
            (Offer, "id"),
            "messages",
            (Message, "offer_id"),
            "Messages to the customer or with the offer.",
        ),
        relation(
            (Message, "customer_id"),
            "customer",
            (Customer, "id"),
            ITS_CUSTOMER,
        ),
        relation(
            (Message, "offer_id"),
            "offer",
            (Offer, "id"),
            "The one offer that the message carries.",
        ),
    ]
};

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
