//! Offers, messages, what came back, and what was told to others.

use super::{Table, To};

const OF_MESSAGE: &str =
    "t.message_id IN (SELECT id FROM message WHERE tenant_id = $1 AND customer_id = $2)";

/// Members of events that say nothing of the person but keys, amounts, states and times; see `handover::event`.
const TOLD: &[&str] = &[
    "added_lines",
    "annual_amount",
    "annual_quantity_kwh",
    "answer_time",
    "base_price_per_year",
    "brand",
    "campaign",
    "channel",
    "channel_account",
    "code",
    "contact_date",
    "contact_plan",
    "contract",
    "currency",
    "customer",
    "delivery_date",
    "departure",
    "etag",
    "event_time",
    "in_reply_to",
    "inbound_message",
    "lines",
    "message",
    "offer",
    "offer_date",
    "order",
    "order_time",
    "order_type",
    "phase",
    "planned_contact",
    "product",
    "product_version",
    "receive_time",
    "refused",
    "reject_reason_code",
    "report",
    "state",
    "stop",
    "total",
    "unit_price_per_kwh",
    "valid_until",
    "winback_case",
];
/// Members of events in words, which are erased.
const WORDS: &[&str] = &[
    "answer_source",
    "customer_name",
    "detail",
    "note",
    "reject_reason",
    "withdraw_reason",
];
/// Members of events that name the tenant's people: they stay, and are not the customer's to know.
const PEOPLE: &[&str] = &["taken_by", "worker"];

/// Not of a mail to the tenant's own people.
const TO_CUSTOMER: &str = "EXISTS (SELECT FROM message m WHERE m.tenant_id = t.tenant_id
    AND m.id = t.message_id AND m.notice IS NULL)";

pub(super) const TABLES: &[Table] = &[
    Table::of_person(
        "document",
        "t.offer_id IN (SELECT id FROM offer WHERE tenant_id = $1 AND customer_id = $2)",
    )
    .other(&["sha256", "template_language", "template_version", "standard"])
    .keys(&["offer_id"])
    .shown(&["size_bytes", "pages", "created_at"])
    .erased(&[
        ("print_file", To::Null),
        ("print_page", To::Null),
        ("erased_at", To::Sql("coalesce(t.erased_at, now())")),
    ]),
    Table::of_person("message_attempt", OF_MESSAGE)
        .telling(TO_CUSTOMER)
        .keys(&["message_id", "attempt", "account"])
        .shown(&["started_at", "ended_at", "outcome"])
        .erased(&[("detail", To::Empty)]),
    Table::of_person("message_report", OF_MESSAGE)
        .telling(TO_CUSTOMER)
        .other(&["key", "campaign_id", "phase_id"])
        .keys(&["message_id"])
        .shown(&["state", "code", "occurred_at", "received_at"])
        .erased(&[("detail", To::Empty)]),
    Table::of_person(
        "waiting_report",
        "(t.account, t.provider_message_id) IN (
             SELECT account, provider_message_id FROM message
             WHERE tenant_id = $1 AND customer_id = $2 AND provider_message_id <> '')",
    )
    .telling(
        "EXISTS (SELECT FROM message m WHERE m.tenant_id = t.tenant_id AND m.account = t.account
             AND m.provider_message_id = t.provider_message_id AND m.provider_message_id <> ''
             AND m.notice IS NULL)",
    )
    .other(&["key", "tries", "next_try_at"])
    .keys(&["account", "provider_message_id"])
    .shown(&["state", "code", "occurred_at", "received_at"])
    .erased(&[("detail", To::Empty)]),
    // Also of the person's addresses when nobody was known by them.
    Table::of_person(
        "inbound_message",
        "(t.customer_id = $2 OR t.customer_id IS NULL AND t.address_hash IN (
             SELECT address_hash FROM contact_point WHERE tenant_id = $1 AND customer_id = $2)
          OR t.message_id IN (SELECT id FROM message
             WHERE tenant_id = $1 AND customer_id = $2 AND notice IS NULL))",
    )
    .members(&[("address_hash", &[])])
    .other(&["key"])
    .keys(&[
        "id",
        "account",
        "channel",
        "message_id",
        "customer_id",
    ])
    .shown(&["asks_to_stop", "received_at", "created_at"])
    .erased(&[
        // Of messengers it is made of the address.
        ("provider_message_id", To::Empty),
        ("sender", To::Empty),
        ("address_hash", To::NoBytes),
        ("sender_name", To::Empty),
        ("recipient", To::Empty),
        ("subject", To::Empty),
        ("body", To::Empty),
    ]),
    Table::of_person("winback_mail", OF_MESSAGE)
        .other(&["brand_id", "undone"])
        .keys(&["message_id", "case_id", "voucher_id", "mailing_id"])
        .shown(&["template", "created_at"]),
    Table::of_person("voucher", "t.customer_id = $2")
        .other(&["created_at"])
        .keys(&["id", "pool_id", "customer_id"])
        .shown(&["code", "given_at"]),
    // Before messages lose theirs. The hash stays: whoever brings the address again does not have it written to. Why an
    // address is blocked that another customer has as well is that one's to know.
    Table::of_person(
        "suppression",
        "t.address_hash IN (
             SELECT address_hash FROM contact_point WHERE tenant_id = $1 AND customer_id = $2
             UNION SELECT address_hash FROM message
             WHERE tenant_id = $1 AND customer_id = $2 AND notice IS NULL)",
    )
    .other(&["address_hash"])
    .keys(&["channel"])
    .shown(&["created_at"])
    .erased(&[(
        "reason",
        To::Sql(
            "CASE WHEN t.reason = '' OR EXISTS (SELECT FROM contact_point o
                       WHERE o.tenant_id = $1 AND o.channel = t.channel
                         AND o.address_hash = t.address_hash AND o.customer_id <> $2)
                  THEN t.reason ELSE 'erased' END",
        ),
    )]),
    // Of a provider's words the code stays: statements are told by it. Its id stays while reports may come. A notice is
    // to the tenant's own people.
    Table::of_person("message", "t.customer_id = $2")
        .telling("t.notice IS NULL")
        .members(&[("notice", &[]), ("address_hash", &[])])
        .other(&[
            "failures",
            "lease",
            "lease_until",
            "submitted_at",
            "next_attempt_at",
            "updated_at",
            "traceparent",
            "told",
            "lookups",
            "brand_id",
            "winback_undone",
        ])
        .keys(&[
            "id",
            "campaign_id",
            "phase_id",
            "outbound_id",
            "member_seq",
            "customer_id",
            "offer_id",
            "winback_case_id",
            "planned_contact_id",
            "account",
        ])
        .shown(&[
            "channel",
            "purpose",
            "state",
            "attempt",
            "template",
            "resolution",
            "created_at",
            "sent_at",
            "told_at",
        ])
        .erased(&[
            ("address", To::Empty),
            ("address_hash", To::NoBytes),
            (
                "provider_message_id",
                To::Sql(
                    "CASE WHEN coalesce(t.sent_at, t.created_at) > now() - interval '30 days'
                          THEN t.provider_message_id ELSE '' END",
                ),
            ),
            (
                "detail",
                To::Sql(
                    "coalesce(substring(t.detail
                         FROM '^[2-5][0-9][0-9](?: [245][.][0-9]{1,3}[.][0-9]{1,3})?(?![0-9])'), '')",
                ),
            ),
            ("notice", To::Object),
        ]),
    Table::of_person(
        "handover_delivery",
        "t.event_id IN (SELECT id FROM handover_event
             WHERE tenant_id = $1 AND data ->> 'customer' = $3)",
    )
    .other(&["lease_until", "next_attempt_at", "failures"])
    .keys(&["webhook_id", "event_id", "seq", "offer_id", "order_id"])
    .shown(&[
        "state",
        "attempt",
        "response_status",
        "created_at",
        "ended_at",
    ])
    .erased(&[("detail", To::Empty)]),
    Table::of_person("handover_event", "t.data ->> 'customer' = $3")
        .other(&["traceparent"])
        .keys(&[
            "id",
            "seq",
            "subject",
            "offer_id",
            "order_id",
            "winback_case_id",
        ])
        .shown(&["type", "occurred_at"])
        .members(&[("data", &[TOLD, WORDS])])
        .erased(&[("data", To::Values(&[TOLD, PEOPLE]))]),
    Table::of_person(
        "audience_member",
        // By contract, as `reach` looks for them.
        "t.customer_id = $2 AND (t.phase_id, t.contract_id) IN (
             SELECT p.id, own.id FROM phase p CROSS JOIN (
                 SELECT id FROM contract WHERE tenant_id = $1 AND customer_id = $2
                 UNION SELECT contract_id FROM offer WHERE tenant_id = $1 AND customer_id = $2) own
             WHERE p.tenant_id = $1)",
    )
    .keys(&[
        "phase_id",
        "seq",
        "customer_id",
        "contract_id",
        "contact_point_id",
    ])
    .shown(&["exclusion"]),
    // Of launches: a letter that could not be made may quote what it was to say.
    Table::of_person(
        "operation",
        "t.id IN (SELECT p.operation_id FROM offer o
                  JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
                  WHERE o.tenant_id = $1 AND o.customer_id = $2)",
    )
    .untold()
    .other(&[
        "id",
        "kind",
        "resource",
        "request",
        "state",
        "step",
        "done",
        "total",
        "failed",
        "step_started_at",
        "response",
        "error_reason",
        "error_message",
        "cancel_requested",
        "attempt",
        "failures",
        "lease_until",
        "run_at",
        "created_at",
        "updated_at",
        "traceparent",
    ])
    .erased(&[(
        "last_errors",
        To::Sql(
            "ARRAY(SELECT CASE WHEN EXISTS (
                          SELECT FROM offer q WHERE q.tenant_id = $1 AND q.customer_id = $2
                            AND (starts_with(e.line, 'offer ' || q.number || ':')
                                 OR starts_with(e.line, 'offer ' || q.id || ':')))
                       THEN 'erased' ELSE e.line END
                   FROM unnest(t.last_errors) WITH ORDINALITY e (line, place) ORDER BY e.place)",
        ),
    )]),
    Table::of_person("offer", "t.customer_id = $2")
        .other(&["document_failures", "document_template", "updated_at"])
        .keys(&[
            "id",
            "number",
            "customer_id",
            "contract_id",
            "product_version_id",
            "campaign_id",
            "phase_id",
            "member_seq",
            "superseded_by",
        ])
        .shown(&[
            "state",
            "base_price_per_year",
            "unit_price_per_kwh",
            "annual_quantity_kwh",
            "annual_amount",
            "currency",
            "offer_date",
            "valid_until",
            "answered_at",
            "supersedes",
            "withdrawn_at",
            "reject_reason_code",
            "created_at",
        ])
        .erased(&[
            ("answer_source", To::Empty),
            ("reject_reason", To::Empty),
            ("withdraw_reason", To::Word("erased")),
        ]),
];
