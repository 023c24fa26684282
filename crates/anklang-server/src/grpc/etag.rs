//! The etag of everything that calls can change: a hash of what the API shows of it.
//!
//! So it changes exactly when what a caller can see changes, is the same on every server and after a
//! restore, and costs no column. What is watched rather than decided (how a webhook's deliveries go)
//! and what is shown only sometimes is left out, see [`Tagged::leave_out`]. The messages' maps are
//! sorted (`anklang-proto`), so that one message has one encoding.

use anklang_proto::anklang as pb;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost::Message;
use sha2::{Digest, Sha256};

/// Bytes of the hash that are shown: enough that two states never share them.
const LENGTH: usize = 16;

/// A resource with an etag.
pub trait Tagged: Message + Clone {
    /// The field `etag`.
    fn etag_mut(&mut self) -> &mut String;

    /// The etag that it carries.
    fn etag(&self) -> &str;

    /// Takes out what the etag does not cover.
    fn leave_out(&mut self) {}
}

/// The message with its etag.
pub fn tagged<M: Tagged>(mut message: M) -> M {
    let mut covered = message.clone();
    covered.etag_mut().clear();
    covered.leave_out();
    let hash = Sha256::digest(covered.encode_to_vec());
    *message.etag_mut() = BASE64_URL_SAFE_NO_PAD.encode(&hash[..LENGTH]);
    message
}

macro_rules! tagged {
    ($($message:path $({ $($left_out:ident),+ })?),+ $(,)?) => {$(
        impl Tagged for $message {
            fn etag_mut(&mut self) -> &mut String {
                &mut self.etag
            }

            fn etag(&self) -> &str {
                &self.etag
            }

            $(fn leave_out(&mut self) {
                $(self.$left_out = Default::default();)+
            })?
        }
    )+};
}

tagged! {
    pb::brands::v1::Brand,
    pb::campaigns::v1::ApprovalPolicy { stricter },
    pb::campaigns::v1::Campaign,
    pb::campaigns::v1::LaunchApproval { message_cost },
    pb::campaigns::v1::Phase,
    pb::channels::v1::ChannelAccount {
        state, state_detail, plugin_version, plugin_sha256, hold_until_time, hold_reason
    },
    pb::channels::v1::ChannelRoute,
    pb::contracts::v1::Contract,
    pb::customers::v1::Customer,
    pb::customers::v1::Suppression,
    pb::handover::v1::Delivery { event_json },
    pb::handover::v1::Webhook { state, failing_since_time, held_until_time, secret },
    pb::messages::v1::ContactBudget,
    pb::messages::v1::Message { attempts, reports, responses, update_time, lookup_count },
    pb::offers::v1::Offer,
    pb::offers::v1::OfferNumberRange,
    pb::orders::v1::Order,
    pb::org::v1::OrgUnit,
    pb::planning::v1::ContactOutcome,
    pb::planning::v1::ContactPlan,
    pb::planning::v1::InactivePeriod,
    pb::planning::v1::PlanEntry,
    pb::planning::v1::PlanException,
    pb::planning::v1::PlannedContact { passed_over, passed_over_until_time },
    pb::planning::v1::WorkdayCalendar,
    pb::products::v1::Product,
    pb::products::v1::ProductVersion,
    pb::selections::v1::Preset,
    pb::selections::v1::Selection,
    pb::templates::v1::Template,
    pb::winback::v1::WinbackSettings,
    pb::winback::v1::WinbackCase {
        tile, held_by, hold_expire_time, customer_link, order_link, last_order_products,
        control_until_date
    },
    pb::winback::v1::VoucherPool { voucher_count, left_count },
    pb::winback::v1::WinbackSender { templates },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_follow_what_is_covered() {
        let webhook = pb::handover::v1::Webhook {
            display_name: "ERP".into(),
            ..Default::default()
        };
        let first = tagged(webhook.clone());
        assert_eq!(first.etag.len(), 22);
        assert_eq!(tagged(first.clone()), first, "an etag is no part of itself");
        let watched = pb::handover::v1::Webhook {
            secret: "whsec_x".into(),
            state: 2,
            ..webhook.clone()
        };
        assert_eq!(tagged(watched).etag, first.etag);
        let changed = pb::handover::v1::Webhook {
            paused: true,
            ..webhook
        };
        assert_ne!(tagged(changed).etag, first.etag);
    }

    #[test]
    fn the_order_of_attributes_does_not_matter() {
        use pb::customers::v1::{AttributeValue, Customer};
        let keys: Vec<String> = (0..50).map(|i| format!("key{i}")).collect();
        let of = |keys: &mut dyn Iterator<Item = &String>| {
            tagged(Customer {
                attributes: keys
                    .map(|k| (k.clone(), AttributeValue::default()))
                    .collect(),
                ..Default::default()
            })
        };
        assert_eq!(of(&mut keys.iter()), of(&mut keys.iter().rev()));
    }
}
