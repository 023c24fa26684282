//! The fields of every entity. They bear the names that they have in the API.

mod back;

use super::FieldType::{self, Date, Number, Text, Time};
use super::{Field, Lookup, ResourceName, Source, Sum};

pub(super) use back::{CONTACT_ATTEMPT, INBOUND_MESSAGE, PLANNED_CONTACT, REPORT};

const BRAND: Lookup = Lookup {
    key: "brand_id",
    from: "brand x",
};
const ORG_UNIT: Lookup = Lookup {
    key: "org_unit_code",
    from: "(SELECT tenant_id, code AS id FROM org_unit) x",
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

const ORDER_TOTAL: Sum = Sum {
    of: "x.quantity * x.unit_price",
    table: "order_line",
    far: "order_id",
};

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

pub(super) const CUSTOMER: &[Field] = &[
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
    field(
        "org_unit",
        Text,
        Source::Name(&ORG_UNIT, ResourceName::OrgUnit),
        "The org unit that it belongs to, not those above it, as orgUnits/{code}.",
    ),
    CREATED,
    UPDATED,
];

pub(super) const CONTRACT: &[Field] = &[
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

pub(super) const CONTRACT_ITEM: &[Field] = &[
    column("code", Text, "Code of the item, e.g. of a coverage."),
    field(
        "display_name",
        Text,
        Source::Column("name"),
        "Name of the item.",
    ),
    column("quantity", Number, "Quantity."),
];

pub(super) const ORDER: &[Field] = &[
    column("number", Text, "Order number."),
    field(
        "order_time",
        Time,
        Source::Column("ordered_at"),
        "When it was ordered.",
    ),
    column("delivery_date", Date, "When it is delivered."),
    word(
        "state",
        &["taken", "accepted", "rejected"],
        "Of an order that was taken under a planned contact: taken, accepted or rejected by the \
         ERP; not set for others.",
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

pub(super) const ORDER_LINE: &[Field] = &[
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

pub(super) const CONTACT_POINT: &[Field] = &[
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

pub(super) const CONSENT: &[Field] = &[
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

pub(super) const OFFER: &[Field] = &[
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
    column("reject_reason", Text, "Why it was rejected, in words."),
    word(
        "reject_reason_code",
        &[
            "price",
            "term",
            "service",
            "competitor",
            "satisfied",
            "moving",
            "not_interested",
            "other",
        ],
        "Why it was rejected: price, term, service, competitor, satisfied, moving, not_interested \
         or other; not set when not told.",
    ),
    PRODUCT_VERSION_NAME,
    PRODUCT_NUMBER,
    PRODUCT_VERSION_CODE,
    CAMPAIGN_NAME,
    PHASE_NAME,
    CREATED,
    UPDATED,
];

pub(super) const MESSAGE: &[Field] = &[
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
