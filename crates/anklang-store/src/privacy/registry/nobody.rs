//! Tables in which nobody's data is: settings, the catalogue, campaigns and figures, what the tenant's own people
//! made. Keys of customers and contracts, e.g. of those ticked out, are pseudonyms.

use super::{Table, To, Whose};

pub(super) const TABLES: &[Table] = &[
    // Answers that are given again to who repeats a call. Of an answer that quotes the person nothing stays.
    Table::new(
        "request_log",
        Whose::Searched {
            by: "request_id",
            quotes: "EXISTS (SELECT FROM unnest($2::bytea[]) n WHERE position(n IN t.response) > 0)",
        },
    )
    .other(&["request_id", "method", "body_hash", "created_at"])
    .erased(&[("response", To::NoBytes), ("erased", To::Sql("true"))]),
    Table::of_nobody("account_pace", &["account", "free_at", "held_until", "held_reason", "held_since", "failing_since", "failing_reason", "probe_at"]),
    Table::of_nobody("approval_policy", &["members_over", "window_hours", "updated_by", "updated_at"]),
    Table::of_nobody("attribute_definition", &["entity", "key", "value_type", "created_at"]),
    Table::of_nobody("audience", &["phase_id", "selection_id", "selection_version", "criteria", "deselected", "frozen_at", "candidates", "members", "reaction", "included"]),
    // Names of resources are pseudonyms; who did something is one of the tenant's own.
    Table::of_nobody("audit_entry", &["id", "at", "caller", "method", "resources", "request_id", "request_hash", "trace_id", "written", "refused", "seq", "hash"]),
    Table::of_nobody("audit_resource", &["resource_hash", "entry_id"]),
    Table::of_nobody("brand", &["id", "code", "name", "legal_name", "street", "house_number", "postal_code", "city", "country", "phone", "email", "website", "register_line", "vat_id", "bank_line", "sender_name", "sender_email", "reply_to", "created_at", "updated_at"]),
    Table::of_nobody("bundle", &["outbound_id", "operation_id", "state", "created_at", "completed_at"]),
    Table::of_nobody("bundle_file", &["outbound_id", "number", "path", "sha256", "size_bytes", "letters", "pages", "standard", "last_seq", "created_at", "remake_for"]),
    Table::of_nobody("campaign", &["id", "name", "planned_start", "created_at", "state", "paused"]),
    Table::of_nobody("channel_account", &["id", "display_name", "plugin", "channel", "config", "secrets", "secrets_set", "paused", "ambiguous", "rate", "burst", "batch", "calls", "hours", "days", "cost", "cost_currency", "revision", "replaced_by", "deleted_at", "created_at", "updated_at"]),
    Table::of_nobody("channel_route", &["id", "display_name", "channel", "accounts", "priorities", "shares", "failover_seconds", "created_at", "updated_at"]),
    Table::of_nobody("contact_budget", &["max_contacts", "window_days", "exempt_purposes", "updated_at"]),
    Table::of_nobody("contact_generation", &["operation_id", "night", "after_customer", "figures", "sample"]),
    Table::of_nobody("contact_outcome", &["id", "name", "class", "created_at", "updated_at"]),
    Table::of_nobody("contact_plan", &["code", "name", "description", "responsible", "recurrence", "delivery_weekdays", "departure", "order_type", "valid_from", "valid_to", "calendar_id", "time_zone", "holiday_rule", "duplicates", "earliest", "latest", "outcome_rules", "created_at", "updated_at", "follow_up_messages"]),
    Table::of_nobody("dry_run", &["dry_run_id", "as_of", "product_version_id", "selection_id", "selection_version", "criteria", "deselected", "included", "reaction", "frozen_at", "candidates", "members", "created_at"]),
    Table::of_nobody("dry_run_candidate", &["dry_run_id", "seq", "customer_id", "contract_id", "contact_point_id", "exclusion"]),
    Table::of_nobody("erased_file", &["id", "request_id", "offer_id", "sha256", "path", "created_at"]),
    Table::of_nobody("former_approval_policy", &["id", "members_over", "window_hours", "replaced_by", "replaced_at"]),
    Table::of_nobody("launch_approval", &["phase_id", "members_over", "brands", "members", "documents", "failed_documents", "annual_amount", "excluded", "members_sha256", "created_at"]),
    Table::of_nobody("launch_decision", &["phase_id", "id", "kind", "decided_by", "decided_at", "remark", "hash", "content"]),
    Table::of_nobody("number_range", &["kind", "next_value", "prefix"]),
    Table::of_nobody("org_unit", &["code", "name", "parent_code", "created_at", "updated_at"]),
    Table::of_nobody("outbound", &["id", "phase_id", "number", "channel", "account", "message_template", "document_template", "purpose", "created_at", "route", "phone", "contact_plan"]),
    Table::of_nobody("phase", &["id", "campaign_id", "number", "name", "product_version_id", "offer_valid_until", "state", "operation_id", "created_at", "paused", "winding_up", "start_date", "end_date", "parallel_group", "predecessors", "open_offers", "one_per_household", "ending_within_days", "started_at", "completed_at", "unapproved", "launched_by", "changed_by"]),
    Table::of_nobody("plan_exception", &["plan_code", "plan_date", "contact_date", "delivery_date", "other_plan_code", "duplicates", "reason", "created_at", "updated_at"]),
    Table::of_nobody("planned_contact_gone", &["changed_in", "id", "gone_at"]),
    Table::of_nobody("product", &["id", "number", "name", "division", "brand_id", "created_at", "updated_at"]),
    Table::of_nobody("product_version", &["id", "product_id", "code", "name", "valid_from", "valid_to", "base_price_per_year", "unit_price_per_kwh", "currency", "created_at", "updated_at"]),
    Table::of_nobody("selection", &["id", "name", "description", "subject", "criteria", "version", "created_at", "updated_at", "org_unit_code", "shared_with"]),
    Table::of_nobody("selection_preset", &["code", "name", "description", "subject", "criteria", "parameters", "version", "created_at", "updated_at"]),
    Table::of_nobody("selection_version", &["selection_id", "version", "name", "description", "criteria", "created_at"]),
    Table::of_nobody("server_key", &["id", "key", "created_at"]),
    Table::of_nobody("template", &["brand_id", "key", "language", "version", "kind", "subject", "text_body", "html_body", "typst_source", "created_at", "provider_template", "provider_variables"]),
    Table::of_nobody("tenant", &["id", "slug", "name", "time_zone", "created_at", "unsubscribe_key"]),
    Table::of_nobody("voucher_pool", &["id", "brand_id", "code", "display_name", "value_text", "valid_until", "created_at", "updated_at"]),
    Table::of_nobody("webhook", &["id", "display_name", "url", "event_types", "paused", "failing_since", "held_until", "deleted_at", "created_at", "updated_at"]),
    Table::of_nobody("webhook_secret", &["webhook_id", "id", "sealed", "expires_at", "created_at"]),
    Table::of_nobody("winback_detection", &["id", "as_of", "settings_version", "is_trial", "model", "result", "created_at", "done_at"]),
    Table::of_nobody("winback_mailing", &["id", "template", "filter", "control_percent", "window_days", "currency", "drawn_on", "created_at", "done_at", "tile", "selection_id", "selection_version", "criteria", "included", "excluded", "drawn_at", "launched_by"]),
    Table::of_nobody("winback_sender", &["brand_id", "account", "purpose", "sender_name", "sender_email", "reply_to", "voucher_pool_id", "created_at", "updated_at"]),
    Table::of_nobody("winback_settings", &["version", "settings", "changed_by", "created_at"]),
    Table::of_nobody("workday_calendar", &["id", "name", "region", "workdays", "own_days", "created_at", "updated_at"]),
];
