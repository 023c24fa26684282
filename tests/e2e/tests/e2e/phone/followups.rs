//! Handover both ways: no answer to a mail becomes a call, who was not reached by phone gets a mail; and
//! both are contacts of one budget.

use std::collections::{BTreeMap, BTreeSet};

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_testkit::{Client, TestServer};
use pb::{ExclusionReason, ReactionKind};
use planning::{OutcomeClass, PlannedContactSource, PlannedContactState};

use super::{
    accept, after, by_mail, by_phone, call, callable, contacts, fate, figures, launch, rules,
};
use crate::campaigns::ask;
use crate::followups::audience;
use crate::hold::Hold;
use crate::mailing::{address, launched, ledger, until_over};
use crate::phases::run_sql;
use crate::refused;
use crate::utility::offers_of;
use crate::work_list::{asks, claim, next, record, says};

/// Customers in the audience of a phase.
async fn members(client: &Client, phase: &str) -> Vec<usize> {
    let (members, _) = audience(client, phase).await;
    let number = |contract: &String| contract.replace("contracts/V", "").parse().unwrap();
    members.iter().map(number).collect()
}

#[tokio::test]
async fn no_answer_to_a_mail_becomes_a_call() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 4).await;
    let (campaign, mailed) = launch(&client, by_mail()).await;
    until_over(&client, &campaign).await;
    let mails = ledger(&client, &campaign).await;
    assert_eq!(server.sink.count(), 4);
    accept(
        &client,
        &offers_of(&client, &campaign).await["contracts/V0002"].name,
    )
    .await;

    let no_answer = || {
        let mut request = after(
            by_phone(pb::PhoneSpec::default()),
            &mailed.name,
            ReactionKind::NoAnswer,
        );
        request.reaction.as_mut().unwrap().min_age_days = 14;
        request
    };
    let (_, too_early) = launch(&client, no_answer()).await;
    assert_eq!(contacts(&client, &too_early.name).await.len(), 0);
    run_sql(
        &server,
        "UPDATE message SET sent_at = sent_at - interval '14 days'",
    )
    .await;
    let (_, calls) = launch(&client, no_answer()).await;
    let planned = contacts(&client, &calls.name).await;
    assert_eq!(planned.keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
    for (customer, contact) in &planned {
        assert_eq!(contact.source(), PlannedContactSource::Handover);
        assert_eq!(contact.message, mails[&address(*customer)].name);
        assert_eq!(contact.phase, calls.name);
    }
    // They are on the list, and the offer that is talked about is the new one.
    let claimed = next(&client, asks("anna")).await.unwrap();
    let contact = claimed.planned_contact.clone().unwrap();
    accept(&client, &contact.offer).await;
    record(&client, says(&claimed, OutcomeClass::Done))
        .await
        .unwrap();
    let f = figures(&client, &campaign).await;
    assert_eq!(f.offers.unwrap().accepted, 2);
    assert_eq!(f.contacts.unwrap().done, 1);
}

#[tokio::test]
async fn who_was_not_reached_by_phone_gets_a_mail() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 6).await;
    let spec = pb::PhoneSpec {
        contact_plan: rules(&client).await,
        ..Default::default()
    };
    let (campaign, called) = launch(&client, by_phone(spec)).await;
    let planned = contacts(&client, &called.name).await;
    // 0: talked to, 1: busy, 2: given up, 3: to be called later, 4: given up and accepted, 5: untouched.
    for (customer, class) in [
        (0, OutcomeClass::Done),
        (1, OutcomeClass::Busy),
        (2, OutcomeClass::NotReached),
        (3, OutcomeClass::CallLater),
        (4, OutcomeClass::NotReached),
    ] {
        call(&client, &planned[&customer].name, class).await;
    }
    accept(&client, &planned[&4].offer).await;

    let found = async |kind, attempts, days| {
        let mut request = after(by_mail(), &called.name, kind);
        let reaction = request.reaction.as_mut().unwrap();
        (reaction.min_attempts, reaction.min_age_days) = (attempts, days);
        let wanted = request.reaction.clone();
        let (_, phase) = launch(&client, request).await;
        assert_eq!(phase.reaction, wanted);
        members(&client, &phase.name).await
    };
    assert_eq!(
        found(ReactionKind::NotReached, 0, 1).await,
        [0; 0],
        "not yet"
    );
    assert_eq!(found(ReactionKind::NotReached, 2, 0).await, [2]);
    assert_eq!(found(ReactionKind::NoAnswer, 0, 0).await, [0, 3]);
    assert_eq!(found(ReactionKind::NotReached, 1, 0).await, [1, 2]);
    until_over(&client, &campaign).await;
    let arrived: BTreeMap<String, usize> =
        server
            .sink
            .received()
            .iter()
            .fold(BTreeMap::new(), |mut all, mail| {
                *all.entry(mail.rcpt_to[0].clone()).or_default() += 1;
                all
            });
    let to = |customer: usize| address(customer);
    let expected = [(to(0), 1), (to(1), 1), (to(2), 2), (to(3), 1)];
    assert_eq!(arrived, expected.into());
    // The calls themselves are as they were.
    let f = figures(&client, &campaign).await.contacts.unwrap();
    assert_eq!((f.planned, f.given_up, f.waiting, f.open), (6, 2, 2, 1));
}

/// Offers for one contract that are open at the same time are alternatives: who accepts one is not called about
/// the other. What is launched later is a new matter.
#[tokio::test]
async fn who_accepts_by_mail_is_not_called_any_more() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 4).await;
    let (campaign, mailed) = launch(&client, by_mail()).await;
    until_over(&client, &campaign).await;
    let mailed_offers = offers_of(&client, &campaign).await;
    let no_answer = after(
        by_phone(pb::PhoneSpec::default()),
        &mailed.name,
        ReactionKind::NoAnswer,
    );
    let (_, calls) = launch(&client, no_answer).await;
    let planned = contacts(&client, &calls.name).await;
    assert_eq!(planned.len(), 4);

    let in_hand = claim(&client, &planned[&1].name, "anna").await.unwrap();
    for customer in [0, 1] {
        let offer = &mailed_offers[&format!("contracts/V{customer:04}")].name;
        accept(&client, offer).await;
    }
    let reason = "another offer was accepted".to_owned();
    let fate_of = async |customer: usize| fate(&client, &planned[&customer].name).await;
    let cancelled = PlannedContactState::Cancelled;
    assert_eq!(fate_of(0).await, (cancelled, reason.clone()));
    // Whoever is at it stays at it.
    assert_eq!(
        fate_of(1).await,
        (PlannedContactState::Claimed, reason.clone())
    );
    let said = says(&in_hand, OutcomeClass::CallLater);
    let said = record(&client, said).await.unwrap();
    assert_eq!(said.planned_contact.unwrap().state(), cancelled);
    assert_eq!(fate_of(2).await, (PlannedContactState::Open, String::new()));

    // Accepted between the audience and the contacts of a launch.
    let offer = &mailed_offers["contracts/V0002"].name;
    let hold = Hold::inserts(&server, "number_range", "true").await;
    let operation = ask(&client, by_phone(pb::PhoneSpec::default())).await;
    hold.reached().await;
    accept(&client, offer).await;
    assert_eq!(fate_of(2).await, (cancelled, reason.clone()));
    hold.release().await;
    let over = client.finished(&operation.unwrap()).await.unwrap();
    let phase = launched(&over).phase.unwrap().name;
    let planned = contacts(&client, &phase).await;
    let fates: Vec<_> = (planned.values())
        .map(|c| (c.state(), &c.end_reason[..]))
        .collect();
    let open = (PlannedContactState::Open, "");
    assert_eq!(fates, [open, open, (cancelled, &reason[..]), open]);
    // All the same, by a launch that comes later.
    let (_, later) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    for contact in contacts(&client, &later.name).await.values() {
        assert_eq!(contact.state(), PlannedContactState::Open);
    }
}

/// Who has ordered in the call has answered; who could not be called at all was not reached.
#[tokio::test]
async fn follow_ups_know_who_has_ordered_and_who_could_not_be_called() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 4).await;
    // The number of 3 goes while the launch is under way.
    let hold = Hold::inserts(&server, "offer", "NEW.member_seq = 4").await;
    let operation = ask(&client, by_phone(pb::PhoneSpec::default())).await;
    hold.reached().await;
    let sql = "DELETE FROM contact_point p USING customer c
               WHERE c.id = p.customer_id AND c.number = '0003' AND p.channel = 'phone'";
    run_sql(&server, sql).await;
    hold.release().await;
    let response = launched(&client.finished(&operation.unwrap()).await.unwrap());
    let called = response.phase.unwrap();
    let planned = contacts(&client, &called.name).await;
    let gone = (
        PlannedContactState::Cancelled,
        "the phone number was removed".to_owned(),
    );
    assert_eq!(fate(&client, &planned[&3].name).await, gone);
    for (customer, class) in [(0, OutcomeClass::Done), (1, OutcomeClass::OrderTaken)] {
        call(&client, &planned[&customer].name, class).await;
    }
    let (_, answered) = launch(
        &client,
        after(by_mail(), &called.name, ReactionKind::NoAnswer),
    )
    .await;
    assert_eq!(members(&client, &answered.name).await, [0]);
    let not_reached = after(by_mail(), &called.name, ReactionKind::NotReached);
    let (_, not_reached) = launch(&client, not_reached).await;
    assert_eq!(members(&client, &not_reached.name).await, [3]);
}

async fn at_most(client: &Client, max_contacts: i32) {
    let budget = messages::ContactBudget {
        max_contacts,
        window_days: 7,
        ..Default::default()
    };
    set(client, budget).await;
}

async fn set(client: &Client, budget: messages::ContactBudget) {
    let request = messages::UpdateContactBudgetRequest {
        contact_budget: Some(budget),
        ..Default::default()
    };
    client
        .messages()
        .update_contact_budget(request)
        .await
        .unwrap();
}

/// Customers that a mail to all leaves out because they have had enough; the others get it.
async fn capped(client: &Client) -> BTreeSet<usize> {
    let (campaign, phase) = launch(client, by_mail()).await;
    until_over(client, &campaign).await;
    let (_, out) = audience(client, &phase.name).await;
    let cap = i32::from(ExclusionReason::FrequencyCap);
    out.iter()
        .map(|(contract, reason)| {
            assert_eq!(*reason, cap);
            contract.replace("contracts/V", "").parse().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn calls_and_mails_share_one_budget() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 4).await;
    let (_, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    at_most(&client, 1).await;
    // A call that is planned counts as a mail that is queued.
    assert_eq!(capped(&client).await, [0, 1, 2, 3].into());
    let cancel = planning::CancelPlannedContactRequest {
        name: planned[&0].name.clone(),
        ..Default::default()
    };
    client
        .work_list()
        .cancel_planned_contact(cancel)
        .await
        .unwrap();
    // One that took place counts.
    call(&client, &planned[&1].name, OutcomeClass::Done).await;
    assert_eq!(capped(&client).await, [1, 2, 3].into());
    assert_eq!(server.sink.count(), 1);

    // The other way round: who was written to is not called.
    set(&client, messages::ContactBudget::default()).await;
    let (campaign, _) = launch(&client, by_mail()).await;
    until_over(&client, &campaign).await;
    assert_eq!(server.sink.count(), 5);
    at_most(&client, 1).await;
    assert_eq!(next(&client, asks("anna")).await, None);
    let status = claim(&client, &planned[&2].name, "anna").await.unwrap_err();
    let (_, why) = refused::precondition(&status, "PRECONDITION");
    assert!(why.contains("budget"), "{why}");
    let sql = "UPDATE message SET sent_at = sent_at - interval '7 days'";
    run_sql(&server, sql).await;
    let claimed = claim(&client, &planned[&2].name, "anna").await.unwrap();
    assert_eq!(
        claimed.planned_contact.unwrap().state(),
        PlannedContactState::Claimed
    );
    // Somebody may be speaking to 2 at this moment; a call to 3 is still planned.
    let (_, calls) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let called: Vec<usize> = contacts(&client, &calls.name).await.into_keys().collect();
    assert_eq!(called, [0]);
}

/// A call that is still waiting does not stand in the way of the mail that it asks for.
#[tokio::test]
async fn calls_leave_the_budget_to_the_follow_up_that_they_ask_for() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 2).await;
    let (_, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    call(&client, &planned[&0].name, OutcomeClass::Busy).await;
    at_most(&client, 1).await;
    let mut tried = after(by_mail(), &phase.name, ReactionKind::NotReached);
    tried.reaction.as_mut().unwrap().min_attempts = 1;
    let (campaign, mailed) = launch(&client, tried).await;
    assert_eq!(members(&client, &mailed.name).await, [0]);
    until_over(&client, &campaign).await;
    assert_eq!(server.sink.count(), 1);
    // To others it counts.
    assert_eq!(capped(&client).await, [0, 1].into());
}
