//! Lists as streams.

use std::future::Future;

use anklang_proto::anklang as pb;
use anklang_proto::google::longrunning as lro;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tonic::Status;

use crate::{Client, Error};

/// A request for a list, of which each answer is a page.
pub trait List: Clone + Send + Sync + 'static {
    /// What is listed.
    type Item: Send + 'static;

    /// Asks for the page of a token.
    fn turn_to(&mut self, token: String);

    /// Gets the page, and the token of the next one, which is empty after the last.
    fn page(
        self,
        client: &Client,
    ) -> impl Future<Output = Result<(Vec<Self::Item>, String), Status>> + Send;
}

impl Client {
    /// All items of a list, from the page on that the request names. The next page is asked for when the one
    /// before is read; how many items a page has is the request's `page_size`.
    pub fn list_all<L: List>(&self, request: L) -> BoxStream<'static, Result<L::Item, Error>> {
        let client = self.clone();
        let pages = stream::try_unfold(Some(request), move |request| {
            let client = client.clone();
            async move {
                let Some(mut request) = request else {
                    return Ok(None);
                };
                let (items, token) = request.clone().page(&client).await?;
                let next = (!token.is_empty()).then(|| {
                    request.turn_to(token);
                    request
                });
                let items = stream::iter(items.into_iter().map(Ok::<_, Error>));
                Ok::<_, Error>(Some((items, next)))
            }
        });
        pages.try_flatten().boxed()
    }
}

macro_rules! lists {
    ($($service:ident.$method:ident($request:path) -> $items:ident: $item:path),+ $(,)?) => {
        $(
            impl List for $request {
                type Item = $item;

                fn turn_to(&mut self, token: String) {
                    self.page_token = token;
                }

                async fn page(self, client: &Client) -> Result<(Vec<$item>, String), Status> {
                    let page = client.$service().$method(self).await?.into_inner();
                    Ok((page.$items, page.next_page_token))
                }
            }
        )+

        #[cfg(test)]
        fn lists() -> Vec<String> {
            vec![$(<$request as prost::Name>::full_name()),+]
        }
    };
}

lists! {
    audit.list_audit_entries(pb::audit::v1::ListAuditEntriesRequest) -> audit_entries: pb::audit::v1::AuditEntry,
    brands.list_brands(pb::brands::v1::ListBrandsRequest) -> brands: pb::brands::v1::Brand,
    campaigns.list_audience_members(pb::campaigns::v1::ListAudienceMembersRequest) -> audience_members: pb::campaigns::v1::AudienceMember,
    campaigns.list_campaigns(pb::campaigns::v1::ListCampaignsRequest) -> campaigns: pb::campaigns::v1::Campaign,
    campaigns.list_phases(pb::campaigns::v1::ListPhasesRequest) -> phases: pb::campaigns::v1::Phase,
    channels.list_channel_accounts(pb::channels::v1::ListChannelAccountsRequest) -> channel_accounts: pb::channels::v1::ChannelAccount,
    channels.list_channel_routes(pb::channels::v1::ListChannelRoutesRequest) -> channel_routes: pb::channels::v1::ChannelRoute,
    contracts.list_contracts(pb::contracts::v1::ListContractsRequest) -> contracts: pb::contracts::v1::Contract,
    customers.list_customer_events(pb::customers::v1::ListCustomerEventsRequest) -> customer_events: pb::customers::v1::CustomerEvent,
    customers.list_customers(pb::customers::v1::ListCustomersRequest) -> customers: pb::customers::v1::Customer,
    deliveries.list_deliveries(pb::handover::v1::ListDeliveriesRequest) -> deliveries: pb::handover::v1::Delivery,
    documents.list_documents(pb::documents::v1::ListDocumentsRequest) -> documents: pb::documents::v1::Document,
    dry_runs.list_dry_run_candidates(pb::campaigns::v1::ListDryRunCandidatesRequest) -> candidates: pb::campaigns::v1::DryRunCandidate,
    inbound.list_inbound_messages(pb::inbound::v1::ListInboundMessagesRequest) -> inbound_messages: pb::inbound::v1::InboundMessage,
    messages.list_messages(pb::messages::v1::ListMessagesRequest) -> messages: pb::messages::v1::Message,
    offers.list_offers(pb::offers::v1::ListOffersRequest) -> offers: pb::offers::v1::Offer,
    operations.list_operations(lro::ListOperationsRequest) -> operations: lro::Operation,
    orders.list_orders(pb::orders::v1::ListOrdersRequest) -> orders: pb::orders::v1::Order,
    org_units.list_org_units(pb::org::v1::ListOrgUnitsRequest) -> org_units: pb::org::v1::OrgUnit,
    planned_contacts.list_planned_contacts(pb::planning::v1::ListPlannedContactsRequest) -> planned_contacts: pb::planning::v1::PlannedContact,
    plans.list_contact_plans(pb::planning::v1::ListContactPlansRequest) -> contact_plans: pb::planning::v1::ContactPlan,
    plans.list_inactive_periods(pb::planning::v1::ListInactivePeriodsRequest) -> inactive_periods: pb::planning::v1::InactivePeriod,
    plans.list_plan_entries(pb::planning::v1::ListPlanEntriesRequest) -> plan_entries: pb::planning::v1::PlanEntry,
    plans.list_plan_exceptions(pb::planning::v1::ListPlanExceptionsRequest) -> plan_exceptions: pb::planning::v1::PlanException,
    plans.list_workday_calendars(pb::planning::v1::ListWorkdayCalendarsRequest) -> workday_calendars: pb::planning::v1::WorkdayCalendar,
    presets.list_presets(pb::selections::v1::ListPresetsRequest) -> presets: pb::selections::v1::Preset,
    privacy.list_privacy_requests(pb::privacy::v1::ListPrivacyRequestsRequest) -> privacy_requests: pb::privacy::v1::PrivacyRequest,
    products.list_product_versions(pb::products::v1::ListProductVersionsRequest) -> product_versions: pb::products::v1::ProductVersion,
    products.list_products(pb::products::v1::ListProductsRequest) -> products: pb::products::v1::Product,
    selections.list_selection_members(pb::selections::v1::ListSelectionMembersRequest) -> selection_members: pb::selections::v1::SelectionMember,
    selections.list_selection_ticks(pb::selections::v1::ListSelectionTicksRequest) -> selection_ticks: pb::selections::v1::SelectionTick,
    selections.list_selection_versions(pb::selections::v1::ListSelectionVersionsRequest) -> selection_versions: pb::selections::v1::SelectionVersion,
    selections.list_selections(pb::selections::v1::ListSelectionsRequest) -> selections: pb::selections::v1::Selection,
    templates.list_templates(pb::templates::v1::ListTemplatesRequest) -> templates: pb::templates::v1::Template,
    webhooks.list_webhooks(pb::handover::v1::ListWebhooksRequest) -> webhooks: pb::handover::v1::Webhook,
    winback.list_winback_detections(pb::winback::v1::ListWinbackDetectionsRequest) -> winback_detections: pb::winback::v1::WinbackDetection,
    winback.list_winback_settings_versions(pb::winback::v1::ListWinbackSettingsVersionsRequest) -> winback_settings_versions: pb::winback::v1::WinbackSettingsVersion,
    winback_cases.list_winback_case_events(pb::winback::v1::ListWinbackCaseEventsRequest) -> winback_case_events: pb::winback::v1::WinbackCaseEvent,
    winback_cases.list_winback_cases(pb::winback::v1::ListWinbackCasesRequest) -> winback_cases: pb::winback::v1::WinbackCase,
    winback_mails.list_winback_mailings(pb::winback::v1::ListWinbackMailingsRequest) -> winback_mailings: pb::winback::v1::WinbackMailing,
    winback_templates.list_voucher_pools(pb::winback::v1::ListVoucherPoolsRequest) -> voucher_pools: pb::winback::v1::VoucherPool,
    winback_templates.list_vouchers(pb::winback::v1::ListVouchersRequest) -> vouchers: pb::winback::v1::Voucher,
    work_list.list_contact_attempts(pb::planning::v1::ListContactAttemptsRequest) -> contact_attempts: pb::planning::v1::ContactAttempt,
    work_list.list_contact_orders(pb::planning::v1::ListContactOrdersRequest) -> orders: pb::orders::v1::Order,
    work_list.list_contact_outcomes(pb::planning::v1::ListContactOutcomesRequest) -> contact_outcomes: pb::planning::v1::ContactOutcome,
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    #[test]
    fn every_list_with_pages_is_there() {
        let pool = DescriptorPool::decode(anklang_proto::DESCRIPTORS).expect("descriptors");
        let methods = pool
            .services()
            .flat_map(|s| s.methods().collect::<Vec<_>>());
        let paged = methods.filter(|m| m.output().get_field_by_name("next_page_token").is_some());
        let mut wanted: Vec<String> = paged.map(|m| m.input().full_name().to_owned()).collect();
        wanted.sort();
        let mut there = super::lists();
        there.sort();
        assert_eq!(there, wanted);
    }
}
