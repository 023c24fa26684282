//! What tables show of each kind of message. One that is not here shows all its fields that are one text.

/// A column of a table.
#[derive(Clone)]
pub struct Column {
    /// What stands above it.
    pub heading: String,
    /// The way to the field; it goes into messages, and into what an `Any` has.
    pub path: String,
    /// Whether of a name only the last part is shown: that is enough for commands.
    pub last: bool,
}

/// Heading and way; `#` behind the way: only the last part of the name.
type Declared = (&'static str, &'static str);

const TABLES: &[(&str, &[Declared])] = &[
    (
        "anklang.campaigns.v1.Campaign",
        &[
            ("campaign", "name#"),
            ("title", "display_name"),
            ("state", "state"),
            ("paused", "paused"),
            ("start", "planned_start_date"),
            ("created", "create_time"),
        ],
    ),
    (
        "anklang.campaigns.v1.Phase",
        &[
            ("phase", "name"),
            ("title", "display_name"),
            ("state", "state"),
            ("paused", "paused"),
            ("offers", "target_product_version"),
            ("valid until", "offer_valid_until_date"),
            ("start", "planned_start_date"),
            ("operation", "operation#"),
        ],
    ),
    (
        "anklang.campaigns.v1.PhaseFigures",
        &[
            ("phase", "phase#"),
            ("members", "figures.audience.members"),
            ("offers", "figures.offers.made"),
            ("open", "figures.offers.outstanding"),
            ("accepted", "figures.offers.accepted"),
            ("rejected", "figures.offers.rejected"),
            ("expired", "figures.offers.expired"),
            ("sent", "figures.messages.sent"),
            ("delivered", "figures.messages.delivered"),
            ("failed", "figures.messages.failed"),
            ("reached by phone", "figures.contacts.reached"),
        ],
    ),
    (
        "anklang.reach.v1.PhaseReach",
        &[
            ("phase", "phase#"),
            ("candidates", "figures.candidates"),
            ("members", "figures.members"),
            ("without message", "figures.without_message"),
        ],
    ),
    (
        "anklang.reach.v1.Candidacy",
        &[
            ("phase", "phase"),
            ("campaign", "campaign_display_name"),
            ("contract", "contract#"),
            ("left out", "exclusion_reason"),
            ("offer", "offer#"),
            ("message", "message_state"),
            ("because", "message_reason"),
            ("sent", "send_time"),
            ("contact", "planned_contact_state"),
        ],
    ),
    (
        "google.longrunning.Operation",
        &[
            ("operation", "name#"),
            ("kind", "metadata.kind"),
            ("resource", "metadata.resource"),
            ("phase", "metadata.phase"),
            ("done", "metadata.done"),
            ("total", "metadata.total"),
            ("failed", "metadata.failed"),
            ("created", "metadata.create_time"),
            ("over", "done"),
            ("error", "error"),
        ],
    ),
    (
        "anklang.offers.v1.Offer",
        &[
            ("offer", "name#"),
            ("customer", "customer#"),
            ("contract", "contract#"),
            ("product", "product_version"),
            ("state", "state"),
            ("a year", "annual_amount"),
            ("valid until", "valid_until_date"),
            ("answered", "answer_time"),
        ],
    ),
    (
        "anklang.messages.v1.Message",
        &[
            ("message", "name#"),
            ("customer", "customer#"),
            ("channel", "channel"),
            ("account", "channel_account#"),
            ("state", "state"),
            ("attempts", "attempt_count"),
            ("sent", "send_time"),
            ("detail", "detail"),
        ],
    ),
    (
        "anklang.channels.v1.ChannelAccount",
        &[
            ("account", "name#"),
            ("channel", "channel"),
            ("plugin", "plugin"),
            ("state", "state"),
            ("rate", "rate"),
            ("held until", "hold_until_time"),
            ("detail", "state_detail"),
        ],
    ),
    (
        "anklang.channels.v1.ChannelPlugin",
        &[
            ("plugin", "name#"),
            ("channel", "channel"),
            ("version", "version"),
            ("for tenants", "available"),
            ("refused", "refused_reason"),
        ],
    ),
    (
        "anklang.planning.v1.ContactPlan",
        &[
            ("plan", "name#"),
            ("title", "display_name"),
            ("responsible", "responsible"),
            ("from", "valid_from_date"),
            ("to", "valid_to_date"),
            ("calendar", "workday_calendar#"),
        ],
    ),
    (
        "anklang.planning.v1.PlannedContact",
        &[
            ("contact", "name#"),
            ("customer", "customer#"),
            ("plan", "contact_plan#"),
            ("due", "contact_time"),
            ("state", "state"),
            ("attempts", "attempt_count"),
            ("priority", "priority"),
            ("responsible", "responsible"),
            ("claimed by", "claimed_by"),
            ("passed over", "passed_over"),
        ],
    ),
    (
        "anklang.winback.v1.WinbackTileFigures",
        &[
            ("tile", "tile"),
            ("cases", "count"),
            ("change", "count_change"),
            ("at stake", "at_stake"),
            ("change", "at_stake_change"),
        ],
    ),
    (
        "anklang.winback.v1.WinbackCase",
        &[
            ("case", "name#"),
            ("customer", "customer#"),
            ("name", "customer_name"),
            ("tile", "tile"),
            ("opened", "open_date"),
            ("due", "due_date"),
            ("drop", "revenue_drop"),
            ("at stake", "at_stake"),
            ("held by", "held_by"),
        ],
    ),
    (
        "anklang.winback.v1.WinbackGroup",
        &[
            ("week", "week"),
            ("worker", "worker"),
            ("template", "template"),
            ("brand", "brand#"),
            ("reason", "reason"),
            ("opened", "figures.opened_count"),
            ("mails", "figures.mail_count"),
            ("contacted", "figures.contacted_count"),
            ("won back", "figures.won_back_count"),
            ("after contact", "figures.won_after_contact_count"),
            ("revenue", "figures.revenue"),
        ],
    ),
    (
        "anklang.customers.v1.Customer",
        &[
            ("customer", "name#"),
            ("kind", "kind"),
            ("first name", "first_name"),
            ("last name", "last_name"),
            ("company", "company_name"),
            ("group", "customer_group"),
            ("place", "city"),
            ("changed", "update_time"),
        ],
    ),
    (
        "anklang.customers.v1.CustomerEvent",
        &[
            ("when", "event_time"),
            ("what", "kind"),
            ("resource", "resource"),
            ("campaign", "campaign#"),
        ],
    ),
    (
        "anklang.privacy.v1.PrivacyRequest",
        &[
            ("request", "name#"),
            ("kind", "kind"),
            ("customer", "customer#"),
            ("reason", "reason"),
            ("state", "state"),
            ("asked by", "requested_by"),
            ("asked", "create_time"),
            ("done", "done_time"),
        ],
    ),
    (
        "anklang.audit.v1.AuditEntry",
        &[
            ("entry", "name#"),
            ("when", "create_time"),
            ("caller", "caller"),
            ("call", "method"),
            ("resources", "resources"),
            ("number", "seq"),
        ],
    ),
    (
        "anklang.selections.v1.Selection",
        &[
            ("selection", "name#"),
            ("title", "display_name"),
            ("of", "subject"),
            ("version", "version"),
            ("org unit", "org_unit#"),
            ("changed", "update_time"),
        ],
    ),
    (
        "anklang.selections.v1.SelectionMember",
        &[
            ("customer", "customer#"),
            ("contract", "contract#"),
            ("name", "display_name"),
            ("place", "place"),
            ("tick", "tick"),
            ("selected", "selected"),
        ],
    ),
];

/// The columns of a kind of message that are declared.
pub fn declared(message: &str) -> Option<Vec<Column>> {
    let (_, columns) = TABLES.iter().find(|(name, _)| *name == message)?;
    let column = |(heading, path): &Declared| Column {
        heading: (*heading).to_owned(),
        path: path.trim_end_matches('#').to_owned(),
        last: path.ends_with('#'),
    };
    Some(columns.iter().map(column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::args::field;
    use crate::grpc::mask::POOL;

    #[test]
    fn every_column_is_a_field() {
        let metadata = "anklang.operations.v1.OperationMetadata";
        let metadata = POOL.get_message_by_name(metadata).expect("ours");
        for (name, _) in TABLES {
            let message = POOL.get_message_by_name(name).expect(name);
            for column in declared(name).expect("declared") {
                let found = match column.path.strip_prefix("metadata.") {
                    Some(path) => field(&metadata, path),
                    None => field(&message, &column.path),
                };
                assert!(found.is_some(), "{name}: {}", column.path);
                assert!(!column.heading.is_empty());
            }
        }
    }
}
