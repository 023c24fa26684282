//! Customers and what belongs to them. Last, as others are found by these.

use super::{Table, To};

/// Rows of the customer's contracts, also of those that were the customer's when they were offered something.
const OF_CONTRACT: &str =
    "t.contract_id IN (SELECT id FROM contract WHERE tenant_id = $1 AND customer_id = $2)";

pub(super) const TABLES: &[Table] = &[
    Table::of_person(
        "order_line",
        "t.order_id IN (SELECT id FROM sales_order WHERE tenant_id = $1 AND customer_id = $2)",
    )
    .keys(&["order_id", "line"])
    .shown(&[
        "product_number",
        "product_name",
        "product_group",
        "quantity",
        "unit_price",
    ]),
    Table::of_person("sales_order", "t.customer_id = $2")
        .other(&["taken_by", "updated_at"])
        .keys(&[
            "id",
            "number",
            "taken_number",
            "customer_id",
            "brand_id",
            "contact_id",
        ])
        .shown(&[
            "ordered_at",
            "currency",
            "delivery_date",
            "departure",
            "order_type",
            "state",
            "acknowledged_at",
            "created_at",
        ])
        .erased(&[("note", To::Empty), ("reject_reason", To::Empty)]),
    Table::of_person("contract_item", OF_CONTRACT)
        .keys(&["contract_id", "code"])
        .shown(&["name", "quantity"])
        .going(),
    Table::of_person("contract_attribute", OF_CONTRACT)
        .keys(&["contract_id", "key"])
        .shown(&["text_value", "number_value", "flag_value", "date_value"])
        .going(),
    Table::of_person("contract", "t.customer_id = $2")
        .other(&["updated_at"])
        .keys(&[
            "id",
            "number",
            "customer_id",
            "brand_id",
            "product_version_id",
        ])
        .shown(&[
            "division",
            "start_date",
            "end_date",
            "notice_date",
            "created_at",
        ])
        .erased(&[
            ("supply_status", To::Empty),
            ("site_street", To::Empty),
            ("site_house_number", To::Empty),
            ("site_postal_code", To::Empty),
            ("site_city", To::Empty),
            ("annual_quantity_kwh", To::Null),
            ("erased_at", To::Sql("coalesce(t.erased_at, now())")),
        ]),
    Table::of_person("customer_attribute", "t.customer_id = $2")
        .keys(&["customer_id", "key"])
        .shown(&["text_value", "number_value", "flag_value", "date_value"])
        .going(),
    Table::of_person("consent", "t.customer_id = $2")
        .other(&["updated_at"])
        .keys(&["customer_id", "channel", "purpose"])
        .shown(&["state", "source", "evidence", "recorded_at"])
        .going(),
    Table::of_person("contact_point", "t.customer_id = $2")
        .other(&["address_hash", "updated_at"])
        .keys(&["id", "customer_id", "channel"])
        .shown(&["address", "position", "created_at"])
        .going(),
    Table::of_person("privacy_request", "t.customer_id = $2")
        .other(&[
            "requested_by",
            "counts",
            "path",
            "sha256",
            "size_bytes",
            "expires_at",
            "again_at",
            "rounds",
        ])
        .keys(&["id", "customer_id"])
        .shown(&["kind", "reason", "state", "created_at", "done_at"]),
    Table::of_person("customer", "t.id = $2")
        .other(&["updated_at"])
        .keys(&["id", "number"])
        .shown(&["kind", "created_at", "org_unit_code"])
        .erased(&[
            ("salutation", To::Empty),
            ("title", To::Empty),
            ("first_name", To::Empty),
            ("last_name", To::Empty),
            ("company_name", To::Empty),
            ("customer_group", To::Empty),
            ("language", To::Empty),
            ("time_zone", To::Empty),
            ("birth_date", To::Null),
            ("street", To::Empty),
            ("house_number", To::Empty),
            ("postal_code", To::Empty),
            ("city", To::Empty),
            ("country", To::Empty),
            ("erased_at", To::Sql("coalesce(t.erased_at, now())")),
        ]),
];
