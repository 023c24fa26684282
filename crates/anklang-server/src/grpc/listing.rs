//! What all List calls share: page size and token, filter and order.
//!
//! A handler reads its request with [`Listing::read`], gives [`Listing::list`] to the store, and
//! makes the answer's token with [`Listing::token`]. A new List request is one more line at
//! [`ListRequest`], and its noun's [`Listable`] in the store. Exports that are no lists seal their cursors
//! with [`Places`], as lists do their tokens.

use std::sync::Arc;

use anklang_domain::Violations;
use anklang_proto::anklang as pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::listing::{Key, List, Listable};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Whose;
use crate::seal::Keys;

const DEFAULT_SIZE: i32 = 50;
const MAX_SIZE: i32 = 1_000;
/// The most bytes of a token; ours have a few hundred.
const MAX_TOKEN: usize = 16_384;

/// A request of a list.
pub trait ListRequest: Message + prost::Name + Clone {
    /// The field of the token.
    const TOKEN: &'static str = "page_token";

    /// `page_size` and `page_token`, taken out.
    fn take_page(&mut self) -> (i32, String);
    /// `filter`.
    fn filter(&self) -> &str;
    /// `order_by`.
    fn order_by(&self) -> &str;
}

macro_rules! list_requests {
    ($($request:path),+ $(,)?) => {$(
        impl ListRequest for $request {
            fn take_page(&mut self) -> (i32, String) {
                (std::mem::take(&mut self.page_size), std::mem::take(&mut self.page_token))
            }

            fn filter(&self) -> &str {
                &self.filter
            }

            fn order_by(&self) -> &str {
                &self.order_by
            }
        }
    )+};
}

list_requests! {
    pb::audit::v1::ListAuditEntriesRequest,
    pb::brands::v1::ListBrandsRequest,
    pb::campaigns::v1::ListAudienceMembersRequest,
    pb::campaigns::v1::ListCampaignsRequest,
    pb::campaigns::v1::ListDryRunCandidatesRequest,
    pb::campaigns::v1::ListPhasesRequest,
    pb::channels::v1::ListChannelAccountsRequest,
    pb::channels::v1::ListChannelRoutesRequest,
    pb::contracts::v1::ListContractsRequest,
    pb::customers::v1::ListCustomerEventsRequest,
    pb::customers::v1::ListCustomersRequest,
    pb::documents::v1::ListDocumentsRequest,
    pb::handover::v1::ListDeliveriesRequest,
    pb::handover::v1::ListWebhooksRequest,
    pb::inbound::v1::ListInboundMessagesRequest,
    pb::messages::v1::ListMessagesRequest,
    pb::offers::v1::ListOffersRequest,
    pb::orders::v1::ListOrdersRequest,
    pb::org::v1::ListOrgUnitsRequest,
    pb::planning::v1::ListContactAttemptsRequest,
    pb::planning::v1::ListContactOrdersRequest,
    pb::planning::v1::ListContactOutcomesRequest,
    pb::planning::v1::ListContactPlansRequest,
    pb::planning::v1::ListInactivePeriodsRequest,
    pb::planning::v1::ListPlanEntriesRequest,
    pb::planning::v1::ListPlanExceptionsRequest,
    pb::planning::v1::ListPlannedContactsRequest,
    pb::privacy::v1::ListPrivacyRequestsRequest,
    pb::planning::v1::ListWorkdayCalendarsRequest,
    pb::products::v1::ListProductVersionsRequest,
    pb::products::v1::ListProductsRequest,
    pb::selections::v1::ListPresetsRequest,
    pb::selections::v1::ListSelectionMembersRequest,
    pb::selections::v1::ListSelectionTicksRequest,
    pb::selections::v1::ListSelectionVersionsRequest,
    pb::selections::v1::ListSelectionsRequest,
    pb::templates::v1::ListTemplatesRequest,
    pb::winback::v1::ListWinbackDetectionsRequest,
    pb::winback::v1::ListWinbackSettingsVersionsRequest,
    pb::winback::v1::ListWinbackCaseEventsRequest,
    pb::winback::v1::ListWinbackCasesRequest,
    pb::winback::v1::ListVoucherPoolsRequest,
    pb::winback::v1::ListVouchersRequest,
    pb::winback::v1::ListWinbackMailingsRequest,
}

/// A list page by page into a file; its cursors are tokens of pages.
impl ListRequest for pb::winback::v1::ExportWinbackCasesRequest {
    const TOKEN: &'static str = "cursor";

    fn take_page(&mut self) -> (i32, String) {
        (MAX_SIZE, std::mem::take(&mut self.cursor))
    }

    fn filter(&self) -> &str {
        &self.filter
    }

    fn order_by(&self) -> &str {
        &self.order_by
    }
}

/// Google's, without an order.
impl ListRequest for lro::ListOperationsRequest {
    fn take_page(&mut self) -> (i32, String) {
        (
            std::mem::take(&mut self.page_size),
            std::mem::take(&mut self.page_token),
        )
    }

    fn filter(&self) -> &str {
        &self.filter
    }

    fn order_by(&self) -> &str {
        ""
    }
}

/// Seals places in what is read part by part, so that a caller goes on where it was. A token is bound to the
/// tenant, the caller's org units, the call and the request.
pub struct Places {
    keys: Arc<Keys>,
    /// What its tokens are for.
    purpose: Vec<u8>,
}

impl Places {
    /// Those of a request, from which what may differ between its parts was taken out.
    pub fn of<R: Message + prost::Name>(
        keys: &Arc<Keys>,
        whose: &Whose<'_>,
        request: &R,
    ) -> Places {
        let mut purpose = whose.tenant.0.as_bytes().to_vec();
        purpose.extend(whose.prefix());
        purpose.extend(R::full_name().as_bytes());
        purpose.push(0);
        purpose.extend(request.encode_to_vec());
        Places {
            keys: Arc::clone(keys),
            purpose,
        }
    }

    /// The token of a place.
    pub fn token(&self, place: &impl Serialize) -> String {
        let content = serde_json::to_vec(place).unwrap_or_default();
        let sealed = self.keys.seal(&self.purpose, &content);
        BASE64_URL_SAFE_NO_PAD.encode(sealed.expect("a server has a key"))
    }

    /// The place of a token; `None` for one that is not of this request.
    pub fn read<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        serde_json::from_slice(&self.keys.open(&self.purpose, &sealed).ok()?).ok()
    }
}

/// A list that was asked for.
pub struct Listing {
    /// What to load.
    pub list: List,
    places: Places,
}

impl Listing {
    /// Reads what a request wants of a list. Its tokens are bound to all of the request but the page size.
    pub fn read<'w, R: ListRequest>(
        keys: &Arc<Keys>,
        whose: impl Into<Whose<'w>>,
        of: &'static Listable,
        request: &R,
        violations: &mut Violations,
    ) -> Listing {
        let mut request = request.clone();
        let (size, token) = request.take_page();
        if !(0..=MAX_SIZE).contains(&size) {
            violations.add("page_size", format!("must be between 0 and {MAX_SIZE}"));
        }
        let size = if size == 0 { DEFAULT_SIZE } else { size };
        let size = usize::try_from(size).unwrap_or(0);
        let whose = whose.into();
        let places = Places::of(keys, &whose, &request);

        let before = violations.iter().count();
        let mut list = of.read(request.filter(), request.order_by(), size, violations);
        if !whose.bounds.is_empty() {
            list.within_units();
        }
        let is_readable = violations.iter().count() == before;
        // A token is of another list when its filter cannot be read, which is said already.
        if !token.is_empty() && is_readable {
            let after: Option<Key> = places.read(&token);
            if !after.is_some_and(|after| list.after(after)) {
                violations.add(R::TOKEN, "is no token of this list with these filters");
            }
        }
        Listing { list, places }
    }

    /// The token of the page behind this key; empty for none.
    pub fn token(&self, next: Option<Key>) -> String {
        next.map(|key| self.places.token(&key)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use anklang_store::listing::Kind;
    use anklang_store::{
        audit, brand, campaign, channel_account, channel_route, contract, customer, document,
        handover, inbound, message, offer, operation, order, planning, privacy,
    };
    use anklang_store::{product, selection, template, winback};

    /// Words of the database and names of the API are the same but for prefix and case.
    #[test]
    fn enums_of_filters_are_those_of_the_api() {
        let pool =
            prost_reflect::DescriptorPool::decode(anklang_proto::DESCRIPTORS).expect("descriptors");
        let names: BTreeSet<String> = pool
            .all_enums()
            .flat_map(|e| e.values().map(|v| v.name().to_owned()).collect::<Vec<_>>())
            .collect();
        let lists = [
            &audit::LISTABLE,
            &brand::LISTABLE,
            &campaign::CANDIDATES,
            &campaign::LISTABLE,
            &campaign::PHASES,
            &channel_account::LISTABLE,
            &channel_route::LISTABLE,
            &contract::LISTABLE,
            &customer::EVENTS,
            &customer::LISTABLE,
            &document::LISTABLE,
            &handover::LISTABLE,
            &handover::delivery::LISTABLE,
            &inbound::LISTABLE,
            &message::LISTABLE,
            &offer::LISTABLE,
            &operation::LISTABLE,
            &order::LISTABLE,
            &planning::work::attempt::LISTABLE,
            &planning::work::outcome::LISTABLE,
            &planning::calendar::LISTABLE,
            &planning::contact::LISTABLE,
            &planning::entry::LISTABLE,
            &planning::exception::LISTABLE,
            &planning::period::LISTABLE,
            &planning::plan::LISTABLE,
            &privacy::request::LISTABLE,
            &product::LISTABLE,
            &product::VERSIONS,
            &selection::LISTABLE,
            &selection::MEMBERS,
            &selection::PRESETS,
            &selection::TICKS,
            &selection::VERSIONS,
            &template::LISTABLE,
            &winback::detection::LISTABLE,
            &winback::settings::LISTABLE,
            &winback::case::LISTABLE,
            &winback::case::event::LISTABLE,
            &winback::mailing::MAILINGS,
            &winback::voucher::LISTABLE,
            &winback::voucher::VOUCHERS,
        ];
        for field in lists.iter().flat_map(|list| list.fields) {
            if let Kind::Word(prefix, words) = field.kind {
                for word in words {
                    let name = format!("{prefix}{}", word.to_ascii_uppercase());
                    assert!(names.contains(&name), "{name}");
                }
                let all = names.iter().filter(|n| n.starts_with(prefix)).count();
                assert_eq!(all, words.len() + 1, "{prefix}: all but UNSPECIFIED");
            }
        }
    }
}
