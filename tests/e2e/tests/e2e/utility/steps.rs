//! Steps that most tests take, and waiting.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, TestServer};
use prost::Message;

use super::{Case, Utility};

/// Contracts in status AU or AB at postcodes that begin with 35.
pub fn criteria() -> selections::Criteria {
    use selections::{Operator, value::Value};
    let text = |text: &str| Value::Text(text.into());
    let both = [
        compare("supply_status", Operator::In, [text("AU"), text("AB")]),
        compare("site_postal_code", Operator::StartsWith, [text("35")]),
    ];
    let list = selections::CriteriaList {
        criteria: both.into(),
    };
    selections::Criteria {
        node: Some(selections::criteria::Node::All(list)),
    }
}

/// One comparison.
pub fn compare(
    field: &str,
    operator: selections::Operator,
    values: impl IntoIterator<Item = selections::value::Value>,
) -> selections::Criteria {
    let values = values.into_iter();
    let compare = selections::Compare {
        field: field.into(),
        operator: operator.into(),
        values: values
            .map(|v| selections::Value { value: Some(v) })
            .collect(),
    };
    selections::Criteria {
        node: Some(selections::criteria::Node::Compare(compare)),
    }
}

/// A server with a tenant that has imported a utility.
pub async fn with_utility(server: &TestServer, cases: &[(Case, usize)]) -> (Client, Utility) {
    let client = server.client("linden").await.unwrap();
    let utility = Utility::of(cases);
    utility.import(&client).await;
    (client, utility)
}

/// Launches and waits until the operation is over.
pub async fn launch(
    client: &Client,
    request: campaigns::LaunchCampaignRequest,
) -> campaigns::LaunchCampaignResponse {
    let operation = client.campaigns().launch_campaign(request).await.unwrap();
    launched(&client.finished(operation.get_ref()).await.unwrap())
}

/// The response of a launch that succeeded.
pub fn launched(operation: &lro::Operation) -> campaigns::LaunchCampaignResponse {
    let Some(lro::operation::Result::Response(any)) = &operation.result else {
        panic!("the launch did not succeed: {operation:?}");
    };
    campaigns::LaunchCampaignResponse::decode(&any.value[..]).unwrap()
}

/// All offers of a campaign, by contract.
pub async fn offers_of(client: &Client, campaign: &str) -> HashMap<String, offers::Offer> {
    let request = offers::ListOffersRequest {
        page_size: 1_000,
        campaign: campaign.into(),
        ..Default::default()
    };
    let listed = client
        .offers()
        .list_offers(request)
        .await
        .unwrap()
        .into_inner();
    listed
        .offers
        .into_iter()
        .map(|o| (o.contract.clone(), o))
        .collect()
}

/// The campaign's figures, all phases together.
pub async fn figures(client: &Client, campaign: &str) -> campaigns::InfoboardFigures {
    infoboard(client, campaign).await.total.unwrap()
}

/// The campaign's infoboard.
pub async fn infoboard(client: &Client, campaign: &str) -> campaigns::Infoboard {
    let request = campaigns::GetInfoboardRequest {
        name: campaign.into(),
    };
    client
        .campaigns()
        .get_infoboard(request)
        .await
        .unwrap()
        .into_inner()
}

/// Waits until so many messages of a campaign were taken by the mail server.
pub async fn until_sent(client: &Client, campaign: &str, count: usize) {
    until(&format!("{count} sent messages"), async || {
        let messages = figures(client, campaign).await.messages.unwrap();
        usize::try_from(messages.sent).unwrap() == count
    })
    .await;
}

/// Looks until something is so, for at most half a minute.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    for _ in 0..300 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 seconds: {what}");
}
