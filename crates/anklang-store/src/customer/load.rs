//! Customers, contact points and consents on their way into the tables.

use anklang_domain::master::contact::address_hash;
use anklang_domain::master::{ConsentRow, ContactPointRow, CustomerRow};

use crate::import::{Load, Reference, Spec, bytes, date, int, text, text_or_null, time};

/// The customer that a row belongs to.
pub(crate) const CUSTOMER: Reference = Reference {
    field: "customer_number",
    join:
        "LEFT JOIN LATERAL (SELECT id, erased_at FROM customer
                   WHERE tenant_id = (SELECT $1) AND number = s.customer_number OFFSET 0) c ON true",
    good: "c.id IS NOT NULL AND c.erased_at IS NULL",
    reason: "CASE WHEN c.id IS NULL THEN 'there is no customer with this number'
             ELSE 'the customer was erased' END",
};
/// Who is erased does not come back.
const ERASED: Reference = Reference {
    field: "number",
    join: "LEFT JOIN LATERAL (SELECT erased_at FROM customer
           WHERE tenant_id = (SELECT $1) AND number = s.number OFFSET 0) e ON true",
    good: "e.erased_at IS NULL",
    reason: "'the customer was erased'",
};

/// The org unit that a customer belongs to. It stays until the row is written: who deletes it waits.
const ORG_UNIT: Reference = Reference {
    field: "org_unit_code",
    join: "LEFT JOIN LATERAL (SELECT code FROM org_unit
           WHERE tenant_id = (SELECT $1) AND code = s.org_unit_code OFFSET 0 FOR KEY SHARE) u ON true",
    good: "s.org_unit_code IS NULL OR u.code IS NOT NULL",
    reason: "'there is no org unit with this code'",
};

impl Load for CustomerRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("customer")
            .with_id()
            .stamped()
            .key(text("number", |r| &r.number))
            .reference(ERASED)
            // One that was erased since this was looked up.
            .guard("t.erased_at IS NULL")
            .value(text("kind", |r| r.kind))
            .value(text("salutation", |r| r.salutation))
            .value(text("title", |r| &r.title))
            .value(text("first_name", |r| &r.first_name))
            .value(text("last_name", |r| &r.last_name))
            .value(text("company_name", |r| &r.company_name))
            .value(text("customer_group", |r| &r.customer_group))
            .value(text("language", |r| &r.language))
            .value(text("time_zone", |r| &r.time_zone))
            .value(date("birth_date", |r| r.birth_date))
            .value(text("street", |r| &r.street))
            .value(text("house_number", |r| &r.house_number))
            .value(text("postal_code", |r| &r.postal_code))
            .value(text("city", |r| &r.city))
            .value(text("country", |r| &r.country))
            .reference(ORG_UNIT)
            .value(text_or_null("org_unit_code", |r| {
                r.org_unit_code.as_deref()
            }));
        vec![spec]
    }
}

impl Load for ContactPointRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("contact_point")
            .with_id()
            .stamped()
            .send(text("customer_number", |r| &r.customer_number))
            .reference(CUSTOMER)
            .key_from("customer_id", "c.id")
            .key(text("channel", |r| &r.channel))
            .key(text("address", |r| &r.address))
            .value_of(
                bytes("address_hash", |tenant, r| {
                    address_hash(tenant, &r.channel, &r.address).to_vec()
                }),
                &["address"],
            )
            .value(int("position", |r| r.position));
        vec![spec]
    }
}

impl Load for ConsentRow {
    /// What is older than the stored consent changes nothing: a withdrawal is not undone by an
    /// old list.
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("consent")
            .stamped()
            .send(text("customer_number", |r| &r.customer_number))
            .reference(CUSTOMER)
            .key_from("customer_id", "c.id")
            .key(text("channel", |r| &r.channel))
            .key(text("purpose", |r| &r.purpose))
            .value(text("state", |r| r.state))
            .value(time("recorded_at", |r| r.recorded_at))
            .value(text("source", |r| &r.source))
            .value(text("evidence", |r| &r.evidence))
            .guard("excluded.recorded_at >= t.recorded_at")
            .then(
                ", events AS (
                     INSERT INTO customer_event (tenant_id, customer_id, kind, occurred_at, details)
                     SELECT $1, customer_id, 'consent.' || state, recorded_at,
                            jsonb_build_object('channel', channel, 'purpose', purpose, 'source', source)
                     FROM written ORDER BY customer_id, channel, purpose)",
            );
        vec![spec]
    }
}
