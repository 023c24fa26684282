//! A client of Anklang.
//!
//! ```no_run
//! use anklang_client::proto::anklang::campaigns::v1 as campaigns;
//! use anklang_client::{Client, Error};
//! use futures::TryStreamExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("https://anklang.example:50051")
//!     .tenant("linden")
//!     .token(std::env::var("ANKLANG_TOKEN")?)
//!     .connect()
//!     .await?;
//!
//! // A list of any length, page by page as it is read.
//! let mut all = client.list_all(campaigns::ListCampaignsRequest::default());
//! while let Some(campaign) = all.try_next().await? {
//!     println!("{}: {}", campaign.name, campaign.display_name);
//! }
//!
//! // What is wrong with a request is told by field.
//! let request = campaigns::LaunchCampaignRequest::default();
//! match client.campaigns().launch_campaign(request).await.map_err(Error::from) {
//!     Ok(operation) => {
//!         let launched: campaigns::LaunchCampaignResponse = client
//!             .wait(operation.get_ref(), |at| println!("{}: {} of {}", at.phase, at.done, at.total))
//!             .await?;
//!         println!("{} members", launched.members);
//!     }
//!     Err(error) => {
//!         for wrong in error.violations() {
//!             println!("{}: {}", wrong.field, wrong.description);
//!         }
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Each service is a method of [`Client`] that gives its generated client; messages are those of [`proto`]. What
//! all calls go through ([`Calls`]) names the tenant, shows the token and
//!
//! - gives a call that is answered once a deadline, which the server learns ([`Builder::deadline`]);
//! - makes calls again that the server could not answer for the moment, when that is safe ([`Retries`]): those
//!   that only read, and changes with a `request_id`, which the server does once however often they come. Where a
//!   request can have one and has none, it gets one, and [`Error::request_id`] tells it when nobody knows whether the
//!   change was done.
//!
//! A clone of a client is cheap and shares its connection, which comes back by itself when it was lost.

#![warn(missing_docs)]

mod builder;
mod calls;
mod error;
mod lists;
mod method;
mod operations;
mod retries;
mod timeout;

pub use anklang_proto as proto;
use anklang_proto::anklang as pb;
use anklang_proto::google::longrunning as lro;
use http::header::HeaderValue;

pub use builder::{BuildError, Builder};
pub use calls::Calls;
pub use error::{Error, Violation};
pub use lists::List;
pub use retries::Retries;

/// The services, as one caller calls them.
#[derive(Debug, Clone)]
pub struct Client {
    calls: Calls,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:path),+ $(,)?) => {
        impl Client {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> $client {
                    let largest = self.calls.max_answer_bytes();
                    <$client>::new(self.calls.clone()).max_decoding_message_size(largest)
                }
            )+
        }

        #[cfg(test)]
        fn services() -> Vec<&'static str> {
            vec![$(std::any::type_name::<$client>()),+]
        }
    };
}

impl Client {
    /// Begins a client of the server at an address, `http://host:port` or `https://host:port`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address.into())
    }

    /// The same client for another tenant, over the same connection.
    ///
    /// # Errors
    /// When that is no name of a tenant: it is not of visible ASCII.
    pub fn for_tenant(&self, tenant: &str) -> Result<Client, BuildError> {
        let tenant = HeaderValue::from_str(tenant).map_err(|_| BuildError::Text("tenant"))?;
        Ok(Client {
            calls: self.calls.of(Some(tenant)),
        })
    }

    /// What calls go through, for services that are not listed here, e.g. health.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

services! {
    /// The audit log.
    audit: pb::audit::v1::audit_service_client::AuditServiceClient<Calls>,
    /// Brands.
    brands: pb::brands::v1::brand_service_client::BrandServiceClient<Calls>,
    /// Products.
    products: pb::products::v1::product_service_client::ProductServiceClient<Calls>,
    /// Customers.
    customers: pb::customers::v1::customer_service_client::CustomerServiceClient<Calls>,
    /// Contracts.
    contracts: pb::contracts::v1::contract_service_client::ContractServiceClient<Calls>,
    /// Orders.
    orders: pb::orders::v1::order_service_client::OrderServiceClient<Calls>,
    /// Org units.
    org_units: pb::org::v1::org_unit_service_client::OrgUnitServiceClient<Calls>,
    /// Contact plans and what belongs to them.
    plans: pb::planning::v1::contact_plan_service_client::ContactPlanServiceClient<Calls>,
    /// Planned contacts.
    planned_contacts: pb::planning::v1::planned_contact_service_client::PlannedContactServiceClient<Calls>,
    /// The work list.
    work_list: pb::planning::v1::work_list_service_client::WorkListServiceClient<Calls>,
    /// Imports.
    imports: pb::imports::v1::import_service_client::ImportServiceClient<Calls>,
    /// Selections.
    selections: pb::selections::v1::selection_service_client::SelectionServiceClient<Calls>,
    /// Presets of selections.
    presets: pb::selections::v1::preset_service_client::PresetServiceClient<Calls>,
    /// Templates.
    templates: pb::templates::v1::template_service_client::TemplateServiceClient<Calls>,
    /// Campaigns.
    campaigns: pb::campaigns::v1::campaign_service_client::CampaignServiceClient<Calls>,
    /// Approvals of launches.
    approvals: pb::campaigns::v1::approval_service_client::ApprovalServiceClient<Calls>,
    /// Dry runs.
    dry_runs: pb::campaigns::v1::dry_run_service_client::DryRunServiceClient<Calls>,
    /// Offers.
    offers: pb::offers::v1::offer_service_client::OfferServiceClient<Calls>,
    /// Documents.
    documents: pb::documents::v1::document_service_client::DocumentServiceClient<Calls>,
    /// Channel accounts.
    channels: pb::channels::v1::channel_service_client::ChannelServiceClient<Calls>,
    /// Messages.
    messages: pb::messages::v1::message_service_client::MessageServiceClient<Calls>,
    /// Messages that came in.
    inbound: pb::inbound::v1::inbound_service_client::InboundServiceClient<Calls>,
    /// Webhooks.
    webhooks: pb::handover::v1::webhook_service_client::WebhookServiceClient<Calls>,
    /// Deliveries to webhooks.
    deliveries: pb::handover::v1::delivery_service_client::DeliveryServiceClient<Calls>,
    /// Reach.
    reach: pb::reach::v1::reach_service_client::ReachServiceClient<Calls>,
    /// Winback: settings and detections.
    winback: pb::winback::v1::winback_service_client::WinbackServiceClient<Calls>,
    /// Winback cases.
    winback_cases: pb::winback::v1::winback_case_service_client::WinbackCaseServiceClient<Calls>,
    /// Templates and vouchers of winback.
    winback_templates: pb::winback::v1::winback_template_service_client::WinbackTemplateServiceClient<Calls>,
    /// Mails of winback.
    winback_mails: pb::winback::v1::winback_mail_service_client::WinbackMailServiceClient<Calls>,
    /// Data of persons.
    privacy: pb::privacy::v1::privacy_service_client::PrivacyServiceClient<Calls>,
    /// The progress of operations; [`Client::wait`] uses it.
    progress: pb::operations::v1::operation_progress_service_client::OperationProgressServiceClient<Calls>,
    /// Operations. `WaitOperation` waits for up to a minute: give it a longer deadline than others, by
    /// [`tonic::Request::set_timeout`], or use [`Client::wait`].
    operations: lro::operations_client::OperationsClient<Calls>,
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    #[test]
    fn every_service_is_there() {
        let pool = DescriptorPool::decode(anklang_proto::DESCRIPTORS).expect("descriptors");
        let there = super::services();
        let mut wanted = 0;
        for service in pool.services() {
            let client = format!("::{}Client<", service.name());
            let of_package = format!("::{}::", service.package_name().replace('.', "::"));
            assert!(
                there
                    .iter()
                    .any(|t| t.contains(&client) && t.contains(&of_package)),
                "{}",
                service.full_name()
            );
            wanted += 1;
        }
        assert_eq!(there.len(), wanted);
    }
}
