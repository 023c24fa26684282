//! What people do with customers: planned contacts, winback, selections by hand, and the history.

use super::{Table, To};

/// Members of lines of history, all but the tenant's people.
const DETAILS: &[&str] = &[
    "amount",
    "annual_amount",
    "attempt",
    "channel",
    "code",
    "contact_plan",
    "currency",
    "delivery_date",
    "detail",
    "dropped_lines",
    "due_date",
    "follow_up",
    "lines",
    "message",
    "note",
    "offer",
    "outcome",
    "planned_contact",
    "purpose",
    "reason",
    "refused",
    "reject_reason",
    "resolution",
    "source",
    "state",
    "stop",
    "superseded_by",
    "taken_number",
    "talk_seconds",
    "text",
];

/// Members of the history of winback cases that analyses go by: templates, messages, days.
const CASE_DETAIL: &[&str] = &[
    "contacted",
    "detection",
    "due_date",
    "mailing",
    "message",
    "message_state",
    "offer",
    "order",
    "reason",
    "revenue",
    "template",
];

pub(super) const TABLES: &[Table] = &[
    Table::of_person("customer_event", "t.customer_id = $2")
        .keys(&["customer_id", "id", "resource", "campaign_id"])
        .shown(&["kind", "occurred_at"])
        .members(&[("details", &[DETAILS])])
        .erased(&[("details", To::Object)]),
    Table::of_person(
        "selection_tick",
        "(t.customer_id = $2 OR t.contract_id IN (
             SELECT id FROM contract WHERE tenant_id = $1 AND customer_id = $2))",
    )
    .other(&["member_id"])
    .keys(&["selection_id", "customer_id", "contract_id"])
    .shown(&["tick", "created_at"])
    .going(),
    Table::of_person(
        "contact_attempt",
        "t.contact_id IN (SELECT id FROM planned_contact WHERE tenant_id = $1 AND customer_id = $2)",
    )
    .other(&["worker", "escalated_to", "claimed_at"])
    .keys(&["contact_id", "attempt", "customer_id"])
    .shown(&[
        "purpose",
        "recorded_at",
        "talk_seconds",
        "outcome_class",
        "outcome",
        "outside_window",
    ])
    .erased(&[("note", To::Empty)]),
    Table::of_person("planned_contact", "t.customer_id = $2")
        .other(&[
            "responsible",
            "marks",
            "claimed_by",
            "claim_until",
            "claim_id",
            "claim_units",
            "claimed_at",
            "holds_day",
            "changed_in",
            "ordered_outside",
            "not_before",
            "passed_over",
            "updated_at",
            "any_time",
        ])
        .keys(&[
            "id",
            "plan_code",
            "entry_id",
            "customer_id",
            "outbound_id",
            "message_id",
            "operation_id",
            "member_seq",
            "offer_id",
        ])
        .shown(&[
            "source",
            "plan_date",
            "contact_date",
            "contact_at",
            "window_from",
            "window_to",
            "next_at",
            "delivery_date",
            "delivery_moved",
            "state",
            "outcome_class",
            "outcome",
            "attempts",
            "priority",
            "ends_at",
            "end_reason",
            "end_code",
            "created_at",
        ])
        .members(&[("details", &[&["contact_person", "note", "phone"]])])
        .erased(&[
            ("details", To::Object),
            ("skills", To::EmptyList),
            ("customer_group", To::Null),
        ]),
    Table::of_person("plan_entry", "t.customer_id = $2")
        .other(&["updated_at"])
        .keys(&["id", "plan_code", "customer_id"])
        .shown(&[
            "contact_time",
            "contact_person",
            "phone",
            "earliest",
            "latest",
            "priority",
            "skills",
            "valid_from",
            "valid_to",
            "created_at",
        ])
        .going(),
    Table::of_person("inactive_period", "t.customer_id = $2")
        .other(&["updated_at"])
        .keys(&["customer_id", "id"])
        .shown(&[
            "day_type",
            "weekdays",
            "first_day",
            "last_day",
            "reason",
            "created_at",
        ])
        .going(),
    Table::of_person(
        "winback_case_event",
        "t.case_id IN (SELECT id FROM winback_case WHERE tenant_id = $1 AND customer_id = $2)",
    )
    .other(&["actor"])
    .keys(&["id", "case_id"])
    .shown(&["kind", "from_state", "to_state", "created_at"])
    .members(&[("detail", &[CASE_DETAIL, &["note", "text"]])])
    .erased(&[("detail", To::Members(CASE_DETAIL))]),
    Table::of_person("winback_case", "t.customer_id = $2")
        .other(&["held_by", "held_until", "claim_id", "claim_units", "updated_at"])
        .keys(&[
            "id",
            "customer_id",
            "opened_by",
            "seen_by",
            "won_order_id",
            "offer_id",
        ])
        .shown(&[
            "state",
            "opened_on",
            "due_on",
            "standard_on",
            "voucher_on",
            "contacted_on",
            "no_interest",
            "closed_on",
            "revenue_then",
            "revenue_now",
            "known_days",
            "season",
            "expected",
            "actual",
            "drop_amount",
            "drop_percent",
            "last_order",
            "lost_share",
            "lost_groups",
            "alive",
            "purchases",
            "order_value",
            "at_stake",
            "currency",
            "won_contacted",
            "won_revenue",
            "created_at",
        ]),
    Table::of_person("winback_figure", "t.customer_id = $2")
        .keys(&["detection_id", "customer_id"])
        .shown(&[
            "first_order",
            "last_order",
            "orders",
            "revenue",
            "revenue_then",
            "revenue_now",
            "repeats",
            "mean_repeat",
        ])
        .going(),
    Table::of_person("winback_control", "t.customer_id = $2").keys(&[
        "mailing_id",
        "customer_id",
        "case_id",
    ]),
    Table::of_person("winback_mailing_member", "t.customer_id = $2")
        .keys(&["mailing_id", "case_id", "customer_id"])
        .shown(&["is_decided", "refusal", "is_drawn"]),
];
