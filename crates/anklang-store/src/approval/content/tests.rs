use serde_json::json;

use super::*;

/// As rows have it that were written before shipped follow-ups were a part of it.
#[test]
fn what_was_approved_before_is_still_shown() {
    let json = json!({
        "members": 4, "members_sha256": "00", "documents": 4, "failed_documents": 0,
        "annual_amount": "1234.5", "campaign_name": "Herbst", "phase": 1, "candidates": 6,
        "excluded": {"no_consent": 2}, "channel": "email", "route_accounts": [],
        "message_template": "campaign-offer", "shipped_template": "ab", "follow_ups": null,
        "templates": [], "follow_up_templates": [], "product_name": "Gas", "version_name": "2026",
        "prices": {"base_price_per_year": "120.00", "unit_price_per_kwh": "0.09", "currency": "EUR",
                   "valid_from": "2026-01-01", "valid_to": null},
    });
    let content = Content {
        hash: [0; 32],
        json,
    };
    let facts = content.facts().expect("they read");
    assert_eq!((facts.members, facts.candidates), (4, 6));
    assert_eq!(facts.shipped_template.as_deref(), Some("ab"));
    assert!(facts.shipped_follow_ups.is_empty());
}
