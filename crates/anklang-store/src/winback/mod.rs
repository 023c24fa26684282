//! Winback: settings, detections and what they found, cases and those who work them, mails with vouchers,
//! and customers who close cases by buying again.
//!
//! What the numbers mean and who is a case are the domain's ([`anklang_domain::winback`]); here are the
//! rows. Revenue of an order is the sum of its lines; orders in another currency than the settings', and
//! those that the ERP rejected, do not count. Days are those of the tenant's time zone.

/// The newest order `o` of a customer, whatever its currency: neither rejected by the ERP nor a return,
/// which comes to less than nothing. `$1` is the tenant.
macro_rules! newest_order {
    ($customer:literal) => {
        concat!(
            "sales_order o WHERE o.tenant_id = $1 AND o.customer_id = ",
            $customer,
            " AND o.state <> 'rejected' AND 0 <= coalesce((
                  SELECT sum(l.quantity * l.unit_price) FROM order_line l
                  WHERE l.tenant_id = $1 AND l.order_id = o.id), 0)
              ORDER BY o.ordered_at DESC, o.id DESC LIMIT 1"
        )
    };
}

pub mod analysis;
pub mod case;
pub mod detection;
pub mod explain;
pub mod figures;
pub mod judge;
pub mod lost;
pub mod mail;
pub mod mailing;
pub mod settings;
pub mod template;
pub mod voucher;
pub mod won_back;

use anklang_domain::SelectionId;
use anklang_domain::selection::Subject;
use chrono::{DateTime, Utc};

use crate::selection::{self, Prepared, Selection};
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// Cases that nothing leaves.
const CLOSED: &str = "('no_interest', 'won_back')";

/// Whether the event `x` of a case of the tenant `$1` is a contact: a request for an offer, or a mail. One that
/// came to nothing, still waits, or waited until its case was closed has contacted nobody.
const CONTACT: &str = "x.kind IN ('mailed', 'offer_requested') AND NOT EXISTS (
    SELECT FROM winback_mail w JOIN message m ON m.tenant_id = $1 AND m.id = w.message_id
    WHERE w.tenant_id = $1 AND w.message_id = substr(x.detail->>'message', 10)::uuid
      AND (w.undone OR m.attempt = 0 AND m.state IN ('queued', 'cancelled')))";

/// An amount as it is stored: two decimals, half away from zero, and at most what the column holds.
fn money(amount: &str) -> String {
    format!("least(greatest(round({amount}, 2), -9999999999999999.99), 9999999999999999.99)")
}

/// A saved selection of customers, with what its criteria find as of a point in time; without its ticks.
/// Or why there is none: it is gone, finds something else, or does not hold any more.
pub async fn selected(
    conn: &mut Conn,
    tenant: &Tenant,
    id: SelectionId,
    at: DateTime<Utc>,
) -> Result<std::result::Result<(Selection, Prepared), String>> {
    let saved = match selection::get(conn, tenant.id, id).await {
        Ok(saved) => saved,
        Err(StoreError::Missing(name)) => return Ok(Err(format!("{name} does not exist"))),
        Err(other) => return Err(other),
    };
    if saved.subject != Subject::Customer {
        return Ok(Err("must find customers".into()));
    }
    match selection::prepare(conn, tenant, saved.subject, &saved.criteria, at).await {
        Ok(prepared) => Ok(Ok((saved, prepared))),
        Err(StoreError::Invalid(faults)) => Ok(Err(format!("does not hold any more: {faults}"))),
        Err(other) => Err(other),
    }
}
