//! The phone as a channel of campaigns: members become planned contacts, people call them, and what
//! came of it stands in the campaign's statement. Follow-ups go from mail to phone and back.

mod followups;
mod held;
mod launches;

use std::collections::BTreeMap;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_testkit::{Client, TestServer};
use pb::launch_campaign_request::CampaignTarget;
use planning::{OutcomeClass, PlannedContact, PlannedContactState};

use crate::campaigns::ask;
use crate::mailing::{self, import, launched, request, tenant};
use crate::planning::{put_plan, weekly};
use crate::work_list::{claim, record, says};

/// The number of a customer.
fn number(customer: usize) -> String {
    format!("+4964155{customer:05}")
}

/// A tenant with so many customers, each of whom has a mail address, a phone number, and agrees to both.
pub async fn callable(server: &TestServer, customers: usize) -> Client {
    let client = tenant(server, customers).await;
    let mut points = "customer_number,channel,address\n".to_owned();
    let mut consents = "customer_number,channel,purpose,state,recorded_at\n".to_owned();
    for i in 0..customers {
        points += &format!("{i:04},phone,{}\n", number(i));
        consents += &format!("{i:04},phone,marketing,granted,2025-05-01T10:00:00Z\n");
    }
    import(&client, ImportEntity::ContactPoints, points).await;
    import(&client, ImportEntity::Consents, consents).await;
    client
}

/// A launch by phone to all customers, without documents.
pub fn by_phone(phone: pb::PhoneSpec) -> pb::LaunchCampaignRequest {
    pb::LaunchCampaignRequest {
        outbound: Some(pb::OutboundSpec {
            phone: Some(phone),
            without_document: true,
            ..Default::default()
        }),
        ..request("")
    }
}

/// The same by mail.
fn by_mail() -> pb::LaunchCampaignRequest {
    pb::LaunchCampaignRequest {
        outbound: Some(pb::OutboundSpec {
            channel_account: "channelAccounts/mail".into(),
            without_document: true,
            ..Default::default()
        }),
        ..request("")
    }
}

/// As a further phase of a campaign, for those who have shown a reaction to an earlier one.
fn after(
    launch: pb::LaunchCampaignRequest,
    phase: &str,
    kind: pb::ReactionKind,
) -> pb::LaunchCampaignRequest {
    let (campaign, _) = phase.split_once("/phases/").unwrap();
    pb::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::Campaign(campaign.into())),
        audience: None,
        reaction: Some(pb::Reaction {
            phase: phase.into(),
            kind: kind.into(),
            ..Default::default()
        }),
        ..launch
    }
}

/// Launches, and gives the campaign's and the phase's name.
async fn launch(client: &Client, request: pb::LaunchCampaignRequest) -> (String, pb::Phase) {
    let operation = ask(client, request).await.unwrap();
    let response = launched(&client.finished(&operation).await.unwrap());
    (response.campaign.unwrap().name, response.phase.unwrap())
}

/// The planned contacts of a phase, by the number of the customer.
pub async fn contacts(client: &Client, phase: &str) -> BTreeMap<usize, PlannedContact> {
    let listed = crate::planning::contacts(client, &format!("phase = {phase}")).await;
    let customer = |c: &PlannedContact| c.customer.replace("customers/", "").parse().unwrap();
    let count = listed.len();
    let all: BTreeMap<_, _> = listed.into_iter().map(|c| (customer(&c), c)).collect();
    assert_eq!(all.len(), count, "one for each member");
    all
}

async fn contact(client: &Client, name: &str) -> PlannedContact {
    let request = planning::GetPlannedContactRequest { name: name.into() };
    let found = client.planned_contacts().get_planned_contact(request).await;
    found.unwrap().into_inner()
}

/// The state of a contact, and why it is over.
async fn fate(client: &Client, name: &str) -> (PlannedContactState, String) {
    let found = contact(client, name).await;
    (found.state(), found.end_reason)
}

/// Calls a customer, and says what came of it.
async fn call(client: &Client, name: &str, class: OutcomeClass) -> PlannedContact {
    let claimed = claim(client, name, "anna").await.unwrap();
    let recorded = record(client, says(&claimed, class)).await.unwrap();
    recorded.planned_contact.unwrap()
}

async fn accept(client: &Client, offer: &str) {
    let request = offers::AcceptOfferRequest {
        name: offer.into(),
        source: "phone".into(),
        ..Default::default()
    };
    client.offers().accept_offer(request).await.unwrap();
}

/// A plan that only says when to try again: after three attempts when the line is busy, and not at all when
/// nobody answers.
async fn rules(client: &Client) -> String {
    let rule = |attempts| {
        Some(planning::RetryRule {
            first_minutes: 60,
            max_attempts: attempts,
            ..Default::default()
        })
    };
    let plan = planning::ContactPlan {
        outcome_rules: Some(planning::OutcomeRules {
            not_reached: rule(1),
            busy: rule(3),
            call_later: rule(3),
        }),
        responsible: "roles/callcenter".into(),
        ..weekly("CALLS", &["mon"], "2020-01-01", "2098-12-31")
    };
    put_plan(client, plan).await.unwrap().name
}

async fn figures(client: &Client, campaign: &str) -> pb::InfoboardFigures {
    mailing::figures(client, campaign).await.unwrap()
}

/// What the infoboard says of contacts, which must add up.
async fn contact_figures(client: &Client, campaign: &str) -> pb::ContactFigures {
    let f = figures(client, campaign).await.contacts.unwrap();
    let sum = f.open + f.claimed + f.waiting + f.done + f.given_up + f.cancelled;
    assert_eq!(f.planned, sum, "{f:?}");
    f
}
