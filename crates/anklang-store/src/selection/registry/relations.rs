//! The relations between entities.

use super::{Entity, Relation};

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
const CONTACTS: &str = "Planned contacts with the customer or about the offer, calls and others.";
const ITS_CONTRACT: &str = "The one contract that it is for.";

/// All of them.
pub(super) const RELATIONS: &[Relation] = {
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
            (Customer, "id"),
            "inbound_messages",
            (InboundMessage, "customer_id"),
            "Messages from the customer.",
        ),
        relation(
            (Customer, "id"),
            "planned_contacts",
            (PlannedContact, "customer_id"),
            CONTACTS,
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
        relation(
            (Message, "id"),
            "reports",
            (Report, "message_id"),
            "What the channel reported of the message: delivered, opened, clicked …",
        ),
        relation(
            (Message, "id"),
            "replies",
            (InboundMessage, "message_id"),
            "Messages that answer the message.",
        ),
        relation(
            (Offer, "id"),
            "planned_contacts",
            (PlannedContact, "offer_id"),
            CONTACTS,
        ),
        relation(
            (PlannedContact, "id"),
            "attempts",
            (ContactAttempt, "contact_id"),
            "Attempts to reach the customer.",
        ),
    ]
};
