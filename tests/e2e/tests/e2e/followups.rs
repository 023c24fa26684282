//! Follow-ups: phases whose audience is what came of an earlier one, and reasons of rejection.

use std::collections::BTreeSet;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_testkit::{Client, TestServer};
use offers::RejectReason;
use pb::ReactionKind;
use pb::launch_campaign_request::CampaignTarget;
use pb::phase_schedule::Position;

use crate::campaigns::ask;
use crate::phases::{reject, run_sql};
use crate::refused;
use crate::utility::{
    FEW, Utility, compare, infoboard, launch, launched, offers_of, until_sent, with_utility,
};

/// The contracts of a phase's audience, members and left out.
pub async fn audience(client: &Client, phase: &str) -> (BTreeSet<String>, Vec<(String, i32)>) {
    let request = pb::ListAudienceMembersRequest {
        parent: phase.into(),
        page_size: 1_000,
        ..Default::default()
    };
    let listed = client.campaigns().list_audience_members(request).await;
    let (members, out): (Vec<_>, Vec<_>) = listed
        .unwrap()
        .into_inner()
        .audience_members
        .into_iter()
        .partition(|m| m.exclusion_reason == 0);
    (
        members.into_iter().map(|m| m.contract).collect(),
        out.into_iter()
            .map(|m| (m.contract, m.exclusion_reason))
            .collect(),
    )
}

/// A campaign of four whose first accepts, whose second finds it too expensive, whose third rejects
/// without a word, and whose fourth is silent; their contracts in this order.
async fn answered(client: &Client, utility: &Utility) -> (String, String, Vec<String>) {
    let first = launch(client, utility.launch()).await;
    let (campaign, phase) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    until_sent(client, &campaign, 4).await;
    let offers = offers_of(client, &campaign).await;
    let mut contracts: Vec<String> = offers.keys().cloned().collect();
    contracts.sort();
    let name = |i: usize| offers[&contracts[i]].name.clone();
    let yes = offers::AcceptOfferRequest {
        name: name(0),
        source: "web".into(),
        ..Default::default()
    };
    client.offers().accept_offer(yes).await.unwrap();
    let no = offers::RejectOfferRequest {
        name: name(1),
        reason: "90 Euro mehr als bisher".into(),
        reason_code: RejectReason::Price.into(),
        ..Default::default()
    };
    client.offers().reject_offer(no).await.unwrap();
    reject(client, &name(2)).await;
    (campaign, phase, contracts)
}

/// A launch for those who have shown a reaction to a phase.
pub fn follow_up(
    utility: &Utility,
    campaign: &str,
    phase: &str,
    kind: ReactionKind,
    min_age_days: i32,
    reject_reasons: &[RejectReason],
) -> pb::LaunchCampaignRequest {
    pb::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::Campaign(campaign.into())),
        audience: None,
        reaction: Some(pb::Reaction {
            phase: phase.into(),
            kind: kind.into(),
            min_age_days,
            reject_reasons: reject_reasons.iter().map(|r| (*r).into()).collect(),
            ..Default::default()
        }),
        ..utility.launch()
    }
}

#[tokio::test]
async fn each_reaction_finds_its_contracts() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, phase, contracts) = answered(&client, &utility).await;
    let found = async |kind: ReactionKind, age: i32, reasons: &[RejectReason]| {
        let request = follow_up(&utility, &campaign, &phase, kind, age, reasons);
        let response = launch(&client, request).await;
        let (members, out) = audience(&client, &response.phase.unwrap().name).await;
        assert_eq!(out, []);
        let index = |c: &String| contracts.iter().position(|o| o == c).unwrap();
        members.iter().map(index).collect::<Vec<usize>>()
    };
    use ReactionKind::*;
    assert_eq!(found(NoAnswer, 0, &[]).await, [3]);
    assert_eq!(found(NoAnswer, 14, &[]).await, [0; 0], "not yet");
    assert_eq!(found(Accepted, 0, &[]).await, [0]);
    assert_eq!(found(Rejected, 0, &[]).await, [1, 2]);
    assert_eq!(found(Rejected, 1, &[]).await, [0; 0], "not yet");
    assert_eq!(found(Rejected, 0, &[RejectReason::Price]).await, [1]);
    assert_eq!(found(Rejected, 0, &[RejectReason::Unspecified]).await, [2]);
    assert_eq!(found(Rejected, 0, &[RejectReason::Moving]).await, [0; 0]);
    assert_eq!(found(Expired, 0, &[]).await, [0; 0]);
    assert_eq!(found(NotReached, 0, &[]).await, [0; 0]);

    // Time passes: a fortnight since the mail, and the last day is over.
    let sql = format!(
        "UPDATE message SET sent_at = sent_at - interval '14 days';
         UPDATE offer SET valid_until = '{}'::date - 2 FROM phase p
         WHERE p.id = phase_id AND p.number = 1",
        utility.today
    );
    run_sql(&server, &sql).await;
    assert_eq!(found(NoAnswer, 14, &[]).await, [3]);
    assert_eq!(found(NoAnswer, 15, &[]).await, [0; 0]);
    assert_eq!(found(Expired, 2, &[]).await, [3]);
    assert_eq!(found(Expired, 3, &[]).await, [0; 0]);
    // The mails of two have come back, of which one has answered by phone.
    let sql = "UPDATE message m SET state = 'bounced' FROM phase p, contract c, offer o
               WHERE p.id = m.phase_id AND p.number = 1 AND o.id = m.offer_id
                 AND c.id = o.contract_id AND 'contracts/' || c.number IN ";
    run_sql(
        &server,
        &format!("{sql} ('{}', '{}')", contracts[1], contracts[3]),
    )
    .await;
    assert_eq!(found(NotReached, 0, &[]).await, [3]);
    assert_eq!(found(NoAnswer, 0, &[]).await, [0; 0]);
}

/// Whoever was to be reminded of an offer is not when it is taken back, also while that is not yet
/// written for each of them.
#[tokio::test]
async fn offers_of_a_cancelled_phase_show_no_reaction() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let (campaign, phase) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    until_sent(&client, &campaign, 4).await;
    let other = launch(&client, utility.launch())
        .await
        .campaign
        .unwrap()
        .name;
    let reminded = async |kind| {
        let request = follow_up(&utility, &other, &phase, kind, 0, &[]);
        launch(&client, request).await.members
    };
    assert_eq!(reminded(ReactionKind::NoAnswer).await, 4);
    // As it is between the call and the last of a million offers.
    run_sql(
        &server,
        "UPDATE phase SET state = 'cancelled' WHERE number = 1",
    )
    .await;
    assert_eq!(reminded(ReactionKind::NoAnswer).await, 0);
    run_sql(&server, "UPDATE offer SET valid_until = offer_date - 1").await;
    assert_eq!(reminded(ReactionKind::Expired).await, 0);
}

#[tokio::test]
async fn a_reaction_goes_with_criteria_and_exclusions() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, phase, contracts) = answered(&client, &utility).await;
    let mut request = follow_up(&utility, &campaign, &phase, ReactionKind::Rejected, 0, &[]);
    let wanted = compare(
        "number",
        selections::Operator::Equal,
        [selections::value::Value::Text(
            contracts[1].trim_start_matches("contracts/").into(),
        )],
    );
    request.audience = Some(pb::launch_campaign_request::Audience::Criteria(
        selections::AdHocCriteria {
            subject: selections::Subject::Contract.into(),
            criteria: Some(wanted),
        },
    ));
    let reaction = request.reaction.clone();
    let made = launch(&client, request).await.phase.unwrap();
    assert_eq!(made.reaction, reaction);
    let (members, _) = audience(&client, &made.name).await;
    assert_eq!(members, [contracts[1].clone()].into());

    let mut request = follow_up(&utility, &campaign, &phase, ReactionKind::Rejected, 0, &[]);
    request.deselected_contracts = vec![contracts[2].clone()];
    let made = launch(&client, request).await.phase.unwrap();
    let (members, out) = audience(&client, &made.name).await;
    assert_eq!(members, [contracts[1].clone()].into());
    let deselected = pb::ExclusionReason::Deselected.into();
    assert_eq!(out, [(contracts[2].clone(), deselected)]);

    let missing = format!("{campaign}/phases/99");
    let request = follow_up(&utility, &campaign, &missing, ReactionKind::Expired, 0, &[]);
    let status = ask(&client, request).await.unwrap_err();
    refused::names(&status, &["reaction.phase"]);
}

/// A follow-up that is planned goes by what has come until it starts.
#[tokio::test]
async fn a_planned_follow_up_looks_when_it_starts() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let (campaign, phase) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    let price = [RejectReason::Price];
    let mut request = follow_up(
        &utility,
        &campaign,
        &phase,
        ReactionKind::Rejected,
        0,
        &price,
    );
    request.schedule = Some(pb::PhaseSchedule {
        position: Some(Position::Order(pb::PhaseOrder::AfterPrevious.into())),
        ..Default::default()
    });
    let operation = ask(&client, request).await.unwrap();
    let offers = offers_of(&client, &campaign).await;
    let mut expensive = BTreeSet::new();
    for (i, offer) in offers.values().enumerate() {
        let mut request = offers::RejectOfferRequest {
            name: offer.name.clone(),
            ..Default::default()
        };
        if i % 2 == 0 {
            request.reason_code = RejectReason::Price.into();
            expensive.insert(offer.contract.clone());
        }
        client.offers().reject_offer(request).await.unwrap();
    }
    let response = launched(&client.finished(&operation).await.unwrap());
    let (members, _) = audience(&client, &response.phase.unwrap().name).await;
    assert_eq!(members, expensive);
    assert_eq!(members.len(), 2);
}

#[tokio::test]
async fn reasons_of_rejection_are_shown_counted_and_selectable() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, phase, contracts) = answered(&client, &utility).await;
    let rejections: Vec<(i32, i64)> = infoboard(&client, &campaign).await.phases[0]
        .figures
        .as_ref()
        .unwrap()
        .rejections
        .iter()
        .map(|r| (r.reason, r.count))
        .collect();
    let price = i32::from(RejectReason::Price);
    assert_eq!(rejections, [(0, 1), (price, 1)]);

    let listed = |code: RejectReason| {
        let request = offers::ListOffersRequest {
            phase: phase.clone(),
            reject_reason_codes: vec![code.into()],
            ..Default::default()
        };
        let client = client.clone();
        async move {
            let listed = client.offers().list_offers(request).await.unwrap();
            listed.into_inner().offers
        }
    };
    let [expensive] = &listed(RejectReason::Price).await[..] else {
        panic!("one");
    };
    assert_eq!(expensive.contract, contracts[1]);
    assert_eq!(expensive.reject_reason, "90 Euro mehr als bisher");
    assert_eq!(expensive.reject_reason_code(), RejectReason::Price);
    let untold = listed(RejectReason::Unspecified).await;
    assert_eq!(untold.len(), 1);
    assert_eq!(untold[0].contract, contracts[2]);

    let code = compare(
        "reject_reason_code",
        selections::Operator::Equal,
        [selections::value::Value::Text("price".into())],
    );
    let related = selections::Related {
        relation: "offers".into(),
        quantifier: selections::Quantifier::Any.into(),
        criteria: Some(Box::new(code)),
        ..Default::default()
    };
    let criteria = selections::Criteria {
        node: Some(selections::criteria::Node::Related(Box::new(related))),
    };
    let mut request = utility.launch();
    request.audience = Some(pb::launch_campaign_request::Audience::Criteria(
        selections::AdHocCriteria {
            subject: selections::Subject::Contract.into(),
            criteria: Some(criteria),
        },
    ));
    let made = launch(&client, request).await.phase.unwrap();
    let (members, _) = audience(&client, &made.name).await;
    assert_eq!(members, [contracts[1].clone()].into());
}
