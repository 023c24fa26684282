//! What happens between two steps of a piece of work: data that changes, a server that dies.

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{Client, TestServer};

use crate::hold::Hold;
use crate::story::{download, pdf_text};
use crate::utility::{Case, FEW, figures, launched, offers_of, until, until_sent, with_utility};

#[tokio::test]
async fn a_quantity_that_is_gone_when_offers_are_made_leaves_its_contract_out() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let members = utility.members();
    let gone = utility.first(Case::Plain);
    // The audience is frozen, and nothing read for the offers.
    let hold = Hold::inserts(&server, "number_range", "true").await;
    let operation = client
        .campaigns()
        .launch_campaign(utility.launch())
        .await
        .unwrap()
        .into_inner();
    hold.reached().await;
    let owner = server.database.connect().await.unwrap();
    let sql = "UPDATE contract SET annual_quantity_kwh = NULL WHERE number = $1";
    assert_eq!(owner.execute(sql, &[&gone.number]).await.unwrap(), 1);
    hold.release().await;

    let done = launched(&client.finished(&operation).await.unwrap());
    let campaign = done.campaign.unwrap().name;
    let left = members.len() - 1;
    assert_eq!(done.members, i64::try_from(left).unwrap());
    until_sent(&client, &campaign, left).await;
    let figures = figures(&client, &campaign).await;
    assert_eq!(figures.offers.unwrap().made, i64::try_from(left).unwrap());
    let request = campaigns::ListAudienceMembersRequest {
        parent: done.phase.unwrap().name,
        exclusion_reason: campaigns::ExclusionReason::NoQuantity.into(),
        ..Default::default()
    };
    let listed = client.campaigns().list_audience_members(request).await;
    let listed = listed.unwrap().into_inner().audience_members;
    assert!(
        listed.iter().any(|m| m.contract == gone.name()),
        "{listed:?}"
    );
    assert!(
        !offers_of(&client, &campaign)
            .await
            .contains_key(&gone.name())
    );
}

#[tokio::test]
async fn an_offer_whose_server_died_before_its_document_gets_it() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let contract = utility.first(Case::Plain);
    let hold = Hold::inserts(&server, "document", "true").await;
    let request = utility.switch(contract);
    let creating = tokio::spawn(async move { client.offers().create_offer(request).await });
    hold.reached().await;
    server.kill();
    assert!(creating.await.unwrap().is_err(), "its server is gone");
    hold.release().await;
    let owner = server.database.connect().await.unwrap();
    // Who makes an offer is given a minute.
    let later = "UPDATE offer SET created_at = created_at - interval '2 minutes'";
    assert_eq!(owner.execute(later, &[]).await.unwrap(), 1);

    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    until("the offer is open", async || {
        only_offer(&client).await.state() == offers::OfferState::Open
    })
    .await;
    let offer = only_offer(&client).await;
    let text = pdf_text(&download(&client, &offer.name).await);
    assert!(text.contains(&offer.number), "{text}");
}

async fn only_offer(client: &Client) -> offers::Offer {
    let request = offers::ListOffersRequest::default();
    let mut offers = client
        .offers()
        .list_offers(request)
        .await
        .unwrap()
        .into_inner()
        .offers;
    assert_eq!(offers.len(), 1);
    offers.remove(0)
}
