//! Fields of what comes back from customers, and of contacts by people.

use super::{CREATED, UPDATED, column, field, word};
use crate::selection::registry::FieldType::{Date, Flag, Number, Text, Time};
use crate::selection::registry::{Field, Source};

const RECEIVED: Field = field(
    "receive_time",
    Time,
    Source::Column("received_at"),
    "When it came in.",
);

pub(in crate::selection::registry) const REPORT: &[Field] = &[
    word(
        "state",
        &[
            "delivered",
            "bounced",
            "failed",
            "opened",
            "clicked",
            "complained",
            "unsubscribed",
        ],
        "What happened: delivered, bounced, failed, opened, clicked, complained or unsubscribed.",
    ),
    column("code", Text, "The provider's code, e.g. 550 5.1.1."),
    field(
        "event_time",
        Time,
        Source::Column("occurred_at"),
        "When it happened, as the provider says; else when it was reported.",
    ),
    RECEIVED,
];

pub(in crate::selection::registry) const INBOUND_MESSAGE: &[Field] = &[
    column("channel", Text, "Channel on which it came."),
    column("subject", Text, "Its subject, where the channel has one."),
    field("text", Text, Source::Column("body"), "What it says."),
    field(
        "stop",
        Flag,
        Source::Column("asks_to_stop"),
        "Whether it was one of the words that ask for no more messages.",
    ),
    RECEIVED,
    CREATED,
];

pub(in crate::selection::registry) const PLANNED_CONTACT: &[Field] = &[
    word(
        "source",
        &["plan", "campaign", "manual", "handover"],
        "What planned it: plan, campaign, manual or handover.",
    ),
    word(
        "state",
        &[
            "open",
            "claimed",
            "waiting",
            "done",
            "given_up",
            "cancelled",
        ],
        "open, claimed, waiting, done, given_up or cancelled.",
    ),
    column("contact_date", Date, "The day of the contact."),
    field(
        "contact_time",
        Time,
        Source::Column("contact_at"),
        "When the contact is planned for.",
    ),
    field(
        "attempt_count",
        Number,
        Source::Column("attempts"),
        "Attempts so far.",
    ),
    column("priority", Number, "What is more important is higher."),
    CREATED,
    UPDATED,
];

pub(in crate::selection::registry) const CONTACT_ATTEMPT: &[Field] = &[
    word(
        "outcome_class",
        &[
            "done",
            "order_taken",
            "not_reached",
            "busy",
            "call_later",
            "cancelled",
        ],
        "What came of it: done, order_taken, not_reached, busy, call_later or cancelled.",
    ),
    field(
        "record_time",
        Time,
        Source::Column("recorded_at"),
        "When its outcome was recorded.",
    ),
    column(
        "outside_window",
        Flag,
        "Whether it was outside of the hours in which the customer may be contacted.",
    ),
];
