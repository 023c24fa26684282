//! Generated clients of one tenant.

use std::net::SocketAddr;
use std::time::Duration;

use anklang_proto::anklang as pb;
use anklang_proto::anklang::imports::v1 as imports;
use anklang_proto::google::longrunning as lro;
use anyhow::{Result, bail};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Puts the tenant and the caller's token into every call.
#[derive(Clone)]
pub struct Caller {
    tenant: Option<MetadataValue<Ascii>>,
    authorization: Option<MetadataValue<Ascii>>,
}

impl tonic::service::Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(tenant) = &self.tenant {
            metadata.insert("anklang-tenant", tenant.clone());
        }
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// A channel whose calls say who makes them.
pub type Calls = InterceptedService<Channel, Caller>;

/// The services as one tenant calls them.
#[derive(Clone)]
pub struct Client {
    calls: Calls,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:path),+ $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> $client {
            <$client>::new(self.calls.clone())
        }
    )+};
}

impl Client {
    /// Connects.
    pub async fn connect(addr: SocketAddr, tenant: &str) -> Result<Self> {
        Self::connect_as(addr, Some(tenant), None).await
    }

    /// Connects with a bearer token, which may imply the tenant.
    pub async fn connect_as(
        addr: SocketAddr,
        tenant: Option<&str>,
        token: Option<&str>,
    ) -> Result<Self> {
        let channel = Endpoint::try_from(format!("http://{addr}"))?
            .connect()
            .await?;
        Self::over(channel, tenant, token)
    }

    /// Over a connection that is there, e.g. by TLS.
    pub fn over(channel: Channel, tenant: Option<&str>, token: Option<&str>) -> Result<Self> {
        let value = |text: &str| text.parse::<MetadataValue<Ascii>>();
        let bearer = token.map(|token| format!("Bearer {token}"));
        let caller = Caller {
            tenant: tenant.map(value).transpose()?,
            authorization: bearer.as_deref().map(value).transpose()?,
        };
        Ok(Self {
            calls: InterceptedService::new(channel, caller),
        })
    }

    services! {
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
        /// The work list.
        work_list: pb::planning::v1::work_list_service_client::WorkListServiceClient<Calls>,
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
        /// The progress of operations.
        progress: pb::operations::v1::operation_progress_service_client::OperationProgressServiceClient<Calls>,
        /// Operations.
        operations: lro::operations_client::OperationsClient<Calls>,
    }

    /// Imports CSV text; gives the last response with the errors of all responses.
    pub async fn import(
        &self,
        entity: imports::ImportEntity,
        csv: impl Into<Vec<u8>>,
    ) -> Result<imports::ImportResponse, Status> {
        let header = imports::ImportHeader {
            entity: entity.into(),
            ..Default::default()
        };
        self.import_with(header, csv).await
    }

    /// As `import`, with a header.
    pub async fn import_with(
        &self,
        header: imports::ImportHeader,
        csv: impl Into<Vec<u8>>,
    ) -> Result<imports::ImportResponse, Status> {
        use imports::import_request::Part;
        let csv: Vec<u8> = csv.into();
        let mut parts = vec![Part::Header(header)];
        parts.extend(csv.chunks(64 * 1024).map(|c| Part::Csv(c.to_vec().into())));
        let requests: Vec<_> = parts
            .into_iter()
            .map(|part| imports::ImportRequest { part: Some(part) })
            .collect();
        let mut responses = self
            .imports()
            .import(tonic::codegen::tokio_stream::iter(requests))
            .await?
            .into_inner();
        let mut sums = imports::ImportResponse::default();
        while let Some(response) = responses.message().await? {
            let mut errors = std::mem::take(&mut sums.errors);
            errors.extend(response.errors.clone());
            sums = imports::ImportResponse { errors, ..response };
        }
        Ok(sums)
    }

    /// Waits until an operation is over, for at most a minute.
    pub async fn finished(&self, operation: &lro::Operation) -> Result<lro::Operation> {
        let wait = lro::WaitOperationRequest {
            name: operation.name.clone(),
            timeout: Some(Duration::from_secs(60).try_into()?),
        };
        let operation = self.operations().wait_operation(wait).await?.into_inner();
        if !operation.done {
            bail!("not over after a minute: {operation:?}");
        }
        Ok(operation)
    }
}
