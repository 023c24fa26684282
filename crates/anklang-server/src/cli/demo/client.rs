//! The demo as a client: calls over gRPC, as any other client would make them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportResponse;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::operations::v1::OperationMetadata;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::google::longrunning as lro;
use anyhow::{Context, bail};
use chrono::{Days, NaiveDate};
use futures::stream::{self, StreamExt, TryStreamExt};
use prost::Message;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::cli::import;
use crate::grpc::{TENANT_KEY, wire};

/// Names the tenant in every call.
#[derive(Clone)]
struct Tenant(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Tenant {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(TENANT_KEY, self.0.clone());
        Ok(request)
    }
}

type Calls = InterceptedService<Channel, Tenant>;

/// A connection for one tenant.
pub struct Client {
    channel: Channel,
    tenant: String,
    calls: Calls,
}

/// Offers that are answered at the same time.
const ANSWERS_AT_ONCE: usize = 16;

impl Client {
    /// Connects to a server.
    pub async fn connect(addr: SocketAddr, tenant: &str) -> anyhow::Result<Self> {
        let channel = Endpoint::try_from(format!("http://{addr}"))?
            .connect()
            .await?;
        let calls = InterceptedService::new(channel.clone(), Tenant(tenant.parse()?));
        Ok(Self {
            channel,
            tenant: tenant.to_owned(),
            calls,
        })
    }

    /// Imports a file; gives the sums.
    pub async fn import(
        &mut self,
        entity: &str,
        path: &Path,
        on_rows: impl FnMut(u64),
    ) -> anyhow::Result<ImportResponse> {
        import::file_for_demo(self.channel.clone(), &self.tenant, entity, path, on_rows).await
    }

    /// Saves: active electricity accounts of the brand on tariff versions of two and three years
    /// ago, with 1,500 to 8,000 kWh a year, in the postcodes 35000 to 35999.
    pub async fn save_selection(&mut self, year: i32) -> anyhow::Result<String> {
        use selections::{Operator, value::Value as V};
        let versions = [("LS-KLA", 3), ("LS-KLA", 2), ("LS-NAT", 2), ("LS-WRM", 2)]
            .map(|(product, age)| V::Text(format!("products/{product}/versions/{}", year - age)));
        let text = |t: &str| V::Text(t.to_owned());
        let number = |n: &str| V::Number(n.to_owned());
        let criteria = all([
            compare("division", Operator::Equal, [text("electricity")]),
            compare("supply_status", Operator::In, [text("AU"), text("AB")]),
            compare(
                "annual_quantity_kwh",
                Operator::Between,
                [number("1500"), number("8000")],
            ),
            compare(
                "site_postal_code",
                Operator::Between,
                [text("35000"), text("35999")],
            ),
            compare("product_version", Operator::In, versions),
        ]);
        let saved =
            selections::selection_service_client::SelectionServiceClient::new(self.calls.clone())
                .create_selection(selections::CreateSelectionRequest {
                    selection: Some(selections::Selection {
                        display_name: "Electricity on old tariffs".into(),
                        subject: selections::Subject::Contract.into(),
                        criteria: Some(criteria),
                        ..Default::default()
                    }),
                    ..Default::default()
                })
                .await?;
        Ok(saved.into_inner().name)
    }

    /// Counts a selection, with examples.
    pub async fn preview(
        &mut self,
        selection: &str,
    ) -> anyhow::Result<selections::PreviewSelectionResponse> {
        let source = selections::preview_selection_request::Source::Selection(selection.to_owned());
        let preview =
            selections::selection_service_client::SelectionServiceClient::new(self.calls.clone())
                .preview_selection(selections::PreviewSelectionRequest {
                    source: Some(source),
                    sample_size: 5,
                    ..Default::default()
                })
                .await?;
        Ok(preview.into_inner())
    }

    fn campaigns(&self) -> campaigns::campaign_service_client::CampaignServiceClient<Calls> {
        campaigns::campaign_service_client::CampaignServiceClient::new(self.calls.clone())
    }

    /// Launches the campaign: offers of next year's green tariff, valid for four weeks.
    pub async fn launch(
        &mut self,
        selection: &str,
        today: NaiveDate,
    ) -> anyhow::Result<lro::Operation> {
        use campaigns::launch_campaign_request::{Audience, CampaignTarget};
        use chrono::Datelike;
        let until = today.checked_add_days(Days::new(28)).context("a date")?;
        let operation = self
            .campaigns()
            .launch_campaign(campaigns::LaunchCampaignRequest {
                campaign_target: Some(CampaignTarget::NewCampaign(campaigns::Campaign {
                    display_name: "Switch to Lindenstrom Natur".into(),
                    planned_start_date: Some(wire::date(today)),
                    ..Default::default()
                })),
                audience: Some(Audience::Selection(selection.to_owned())),
                target_product_version: format!("products/LS-NAT/versions/{}", today.year() + 1),
                offer_valid_until_date: Some(wire::date(until)),
                outbound: Some(campaigns::OutboundSpec {
                    channel_account: "channelAccounts/mail".into(),
                    ..Default::default()
                }),
                request_id: uuid::Uuid::now_v7().to_string(),
                ..Default::default()
            })
            .await?;
        Ok(operation.into_inner())
    }

    /// An operation as it stands.
    pub async fn operation(&mut self, name: &str) -> anyhow::Result<lro::Operation> {
        let operation = lro::operations_client::OperationsClient::new(self.calls.clone())
            .get_operation(lro::GetOperationRequest {
                name: name.to_owned(),
            })
            .await?;
        Ok(operation.into_inner())
    }

    /// Numbers of candidates left out, by reason.
    pub async fn exclusions(&mut self, campaign: &str) -> anyhow::Result<BTreeMap<String, i64>> {
        let board = self.infoboard(campaign).await?;
        let audience = board.total.and_then(|t| t.audience).unwrap_or_default();
        Ok(audience
            .excluded
            .iter()
            .map(|e| {
                let word = e
                    .reason()
                    .as_str_name()
                    .trim_start_matches("EXCLUSION_REASON_");
                (word.to_lowercase().replace('_', " "), e.count)
            })
            .collect())
    }

    /// The campaign in numbers.
    pub async fn infoboard(&mut self, campaign: &str) -> anyhow::Result<campaigns::Infoboard> {
        let board = self
            .campaigns()
            .get_infoboard(campaigns::GetInfoboardRequest {
                name: campaign.to_owned(),
            })
            .await?;
        Ok(board.into_inner())
    }

    /// Plays the answers back: of a hundred customers 22 accept, 9 reject, the rest is silent.
    pub async fn answer(
        &mut self,
        campaign: &str,
        seed: u64,
        mut on_offers: impl FnMut(u64),
    ) -> anyhow::Result<(u64, u64)> {
        let (mut seen, mut accepted, mut rejected) = (0, 0, 0);
        let mut page_token = String::new();
        loop {
            let page = self.offers(campaign, page_token).await?;
            let calls = &self.calls;
            let answered: Vec<Option<bool>> = stream::iter(&page.offers)
                .map(|offer| answer_one(calls.clone(), &offer.name, fate(seed, &offer.number)))
                .buffer_unordered(ANSWERS_AT_ONCE)
                .try_collect()
                .await?;
            seen += answered.len() as u64;
            accepted += answered.iter().filter(|a| **a == Some(true)).count() as u64;
            rejected += answered.iter().filter(|a| **a == Some(false)).count() as u64;
            on_offers(seen);
            if page.next_page_token.is_empty() {
                return Ok((accepted, rejected));
            }
            page_token = page.next_page_token;
        }
    }

    async fn offers(
        &mut self,
        campaign: &str,
        page_token: String,
    ) -> anyhow::Result<offers::ListOffersResponse> {
        let page = offers::offer_service_client::OfferServiceClient::new(self.calls.clone())
            .list_offers(offers::ListOffersRequest {
                page_size: 1_000,
                page_token,
                campaign: campaign.to_owned(),
                ..Default::default()
            })
            .await?;
        Ok(page.into_inner())
    }

    /// The history of one customer who accepted, oldest line first.
    pub async fn history_of_one(
        &mut self,
        campaign: &str,
    ) -> anyhow::Result<Option<(String, Vec<String>)>> {
        let page = offers::offer_service_client::OfferServiceClient::new(self.calls.clone())
            .list_offers(offers::ListOffersRequest {
                page_size: 1,
                campaign: campaign.to_owned(),
                states: vec![offers::OfferState::Accepted.into()],
                ..Default::default()
            })
            .await?
            .into_inner();
        let Some(offer) = page.offers.into_iter().next() else {
            return Ok(None);
        };
        let events =
            customers::customer_service_client::CustomerServiceClient::new(self.calls.clone())
                .list_customer_events(customers::ListCustomerEventsRequest {
                    parent: offer.customer.clone(),
                    page_size: 20,
                    ..Default::default()
                })
                .await?
                .into_inner();
        let lines = events
            .customer_events
            .iter()
            .rev()
            .map(|e| format!("{:<18} {}", e.kind, e.resource))
            .collect();
        Ok(Some((offer.customer, lines)))
    }
}

fn compare<const N: usize>(
    field: &str,
    operator: selections::Operator,
    values: [selections::value::Value; N],
) -> selections::Criteria {
    selections::Criteria {
        node: Some(selections::criteria::Node::Compare(selections::Compare {
            field: field.to_owned(),
            operator: operator.into(),
            values: values
                .into_iter()
                .map(|value| selections::Value { value: Some(value) })
                .collect(),
        })),
    }
}

fn all<const N: usize>(criteria: [selections::Criteria; N]) -> selections::Criteria {
    let list = selections::CriteriaList {
        criteria: criteria.into(),
    };
    selections::Criteria {
        node: Some(selections::criteria::Node::All(list)),
    }
}

/// What the customer of an offer does: accept, reject, or nothing.
fn fate(seed: u64, number: &str) -> Option<bool> {
    use sha2::{Digest, Sha256};
    let hash = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(number)
        .finalize();
    match u16::from_be_bytes([hash[0], hash[1]]) % 100 {
        0..22 => Some(true),
        22..31 => Some(false),
        _ => None,
    }
}

async fn answer_one(calls: Calls, name: &str, fate: Option<bool>) -> anyhow::Result<Option<bool>> {
    let mut client = offers::offer_service_client::OfferServiceClient::new(calls);
    let (name, source) = (name.to_owned(), "web".to_owned());
    match fate {
        Some(true) => {
            let request = offers::AcceptOfferRequest {
                name,
                source,
                ..Default::default()
            };
            client.accept_offer(request).await?;
        }
        Some(false) => {
            let request = offers::RejectOfferRequest {
                name,
                source,
                reason: String::new(),
                reason_code: offers::RejectReason::Price.into(),
                ..Default::default()
            };
            client.reject_offer(request).await?;
        }
        None => {}
    }
    Ok(fate)
}

/// How far an operation is.
pub fn metadata(operation: &lro::Operation) -> anyhow::Result<OperationMetadata> {
    let any = operation
        .metadata
        .as_ref()
        .context("metadata of an operation")?;
    Ok(OperationMetadata::decode(&any.value[..])?)
}

/// What a launch that is over came to.
pub fn launched(operation: lro::Operation) -> anyhow::Result<campaigns::LaunchCampaignResponse> {
    match operation.result {
        Some(lro::operation::Result::Response(any)) => {
            Ok(campaigns::LaunchCampaignResponse::decode(&any.value[..])?)
        }
        Some(lro::operation::Result::Error(status)) => {
            bail!("the launch failed: {}", status.message)
        }
        None => bail!("the launch is not over"),
    }
}
