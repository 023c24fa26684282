//! Callers who are bound to org units.
//!
//! What they see is up to the database: `Store::within` begins transactions of the role `anklang_scoped`, and the
//! policies `units` (migration 003400) show it the customers of its units and of all below them, what hangs on
//! these, and the tenant's common things to read. Lists, and claims of what comes next, run under them from
//! beginning to end.
//!
//! What is done with one thing that was named first asks whether the caller sees it ([`enter`]), and goes on as for
//! everybody: numbers are drawn, webhooks told and messages queued in tables that are closed to the role, and the
//! lines of an order are written by the statement that makes it, where no policy sees it yet.

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::planning::work;
use crate::sql::Fix;
use crate::winback::case;
use crate::{Conn, Result, StoreError, Tx};

/// The role of transactions that see all of their tenant.
pub(crate) const UNBOUND: &str = "anklang_app";

/// The org units that transactions are bound to, as the database reads them: a list in JSON, in hexadecimal
/// digits, of whatever characters the codes may be.
pub(crate) struct Bounds(String);

impl Bounds {
    pub(crate) fn new<'a>(codes: impl IntoIterator<Item = &'a String>) -> Self {
        let list = serde_json::Value::from_iter(codes.into_iter().map(String::as_str));
        Bounds(hex::encode(list.to_string()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// The offer with that number.
    Offer(&'a str),
    /// A planned contact.
    Contact(Uuid),
    /// A winback case.
    Case(Uuid),
}

/// Goes on without bounds, when the caller sees what the call is about; for callers who are bound to nothing this
/// is so at once. What else the call names must have been looked at before.
///
/// # Errors
/// `Missing` when the caller does not see it, whether there is one or not.
pub async fn enter(tx: &mut Tx, tenant: TenantId, about: Subject<'_>) -> Result<()> {
    if !tx.is_bound() {
        return Ok(());
    }
    let (found, key, missing) = match about {
        Subject::Offer(number) => (
            "offer WHERE tenant_id = $1 AND number = $2",
            number.to_owned(),
            anklang_domain::name::format(&[("offers", number)]),
        ),
        Subject::Contact(id) => (
            "planned_contact WHERE tenant_id = $1 AND id = $2::uuid",
            id.to_string(),
            work::resource(id),
        ),
        Subject::Case(id) => (
            "winback_case WHERE tenant_id = $1 AND id = $2::uuid",
            id.to_string(),
            case::resource(id),
        ),
    };
    // Who sees no row keeps its role.
    let sql = format!("SELECT set_config('role', '{UNBOUND}', true) FROM {found}");
    let seen = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(key)
        .fixed()
        .execute(&mut **tx)
        .await?;
    if seen == 0 {
        return Err(StoreError::Missing(missing));
    }
    tx.unbound();
    Ok(())
}

/// Of a contact or a case `k` that somebody has claimed under bounds (`claim_units`, whose first is the claim's id): its
/// customer is where the holder does not see it. The claim has run out then, as by itself, so that what follows is what
/// always follows. It is looked at as of the statement's beginning, under no lock. Fenced (see [`crate::launch`]): a
/// customer looked up by its key for each such claim, of which there are some.
pub(crate) const CLAIM_LEFT: &str = "(k.claim_units IS NOT NULL
    AND k.claim_units[1] IS NOT DISTINCT FROM k.claim_id::text AND NOT EXISTS (
        SELECT FROM customer c
        WHERE c.tenant_id = k.tenant_id AND c.id = k.customer_id
          AND (c.org_unit_code = ANY (k.claim_units)
               OR anklang_is_within(c.tenant_id, c.org_unit_code, k.claim_units)) OFFSET 0))";

/// A caller who sees no more customers than these sees few.
const FEW: i64 = 5_000;
/// In the order of an index who sees few does so of a tenant with this many times as many: of a larger share the rows of
/// a page are found there soon.
const TIMES: i64 = 20;

/// Whether a caller who is bound sees few customers, so that it pays to gather them and to go on from them to what is
/// theirs. The database does not know: it takes them for some, and for each statement gathers them all before it looks at
/// the first row. Where it does not pay, and rows come `in_order` of an index, it is kept from that for the rest of the
/// transaction, by leaving it no room, and asks for each row that it comes to.
pub(crate) async fn sees_few(mut conn: &Conn, tenant: TenantId, in_order: bool) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Seen {
        #[diesel(sql_type = Bool)]
        few: bool,
    }
    let seen: Seen = diesel::sql_query(
        "SELECT seen.few, CASE WHEN $3 AND NOT seen.few THEN
                    set_config('work_mem', '64kB', true) || set_config('hash_mem_multiplier', '1', true)
                END AS room
         FROM (SELECT CASE WHEN n > $2 THEN false WHEN $3 THEN anklang_has_customers($1, $4 * n)
                           ELSE true END AS few
               FROM (SELECT count(*) AS n FROM (
                         SELECT FROM customer WHERE tenant_id = $1 LIMIT $2 + 1) first) counted
               OFFSET 0) seen",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(FEW)
    .bind::<Bool, _>(in_order)
    .bind::<BigInt, _>(TIMES)
    .fixed()
    .get_result(&mut conn)
    .await?;
    Ok(seen.few)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_nothing_but_digits() {
        let code = "a'); DROP TABLE customer; --\"\\ä".to_owned();
        let bounds = Bounds::new([&code]);
        let digits = bounds.as_str();
        assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()), "{digits}");
        let list = hex::decode(digits).expect("digits");
        let list: Vec<String> = serde_json::from_slice(&list).expect("a list");
        assert_eq!(list, [code]);
        assert_eq!(Bounds::new(&[]).as_str(), hex::encode("[]"));
    }
}
