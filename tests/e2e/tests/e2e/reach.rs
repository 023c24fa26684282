//! Proof of reach: statements that add up, exports that go on where they broke off, and why a
//! customer was contacted or not.

use std::collections::{BTreeMap, BTreeSet};

use anklang_local::smtp::{Fault, Faults, Matching, Reply};
use anklang_proto::anklang::campaigns::v1::{self as campaigns, ExclusionReason};
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_proto::anklang::reach::v1 as reach;
use anklang_testkit::{Client, Options, TestServer};

use crate::mailing::{
    SLIP, address, figures, import, launch, launched, ledger, over, request, tenant, until_figures,
    until_over,
};
use crate::refused;

async fn get(client: &Client, campaign: &str) -> reach::Reach {
    let request = reach::GetReachRequest {
        campaign: campaign.into(),
    };
    client
        .reach()
        .get_reach(request)
        .await
        .unwrap()
        .into_inner()
}

async fn explain(client: &Client, customer: &str, campaign: &str) -> reach::CustomerExplanation {
    let request = reach::ExplainCustomerRequest {
        customer: customer.into(),
        campaign: campaign.into(),
    };
    let explained = client.reach().explain_customer(request).await;
    explained.unwrap().into_inner()
}

/// Text and cursors of an export, at most so many parts of it.
async fn export(client: &Client, campaign: &str, cursor: &str, parts: usize) -> (String, String) {
    let request = reach::ExportReachRequest {
        campaign: campaign.into(),
        cursor: cursor.into(),
    };
    let mut stream = client
        .reach()
        .export_reach(request)
        .await
        .unwrap()
        .into_inner();
    let (mut csv, mut last) = (Vec::new(), cursor.to_owned());
    for _ in 0..parts {
        let Some(part) = stream.message().await.unwrap() else {
            break;
        };
        csv.extend(part.csv);
        last = part.cursor;
    }
    (String::from_utf8(csv).unwrap(), last)
}

fn rows(csv: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

/// As documented at `ReachFigures`.
fn assert_adds_up(figures: &reach::ReachFigures) {
    let excluded: i64 = figures.excluded.iter().map(|e| e.count).sum();
    assert_eq!(
        figures.candidates,
        excluded + figures.members,
        "{figures:?}"
    );
    let messages: i64 = figures.messages.iter().map(|m| m.count).sum();
    assert_eq!(
        figures.members,
        messages + figures.without_message,
        "{figures:?}"
    );
}

fn counts(figures: &reach::ReachFigures) -> BTreeMap<(MessageState, &str), i64> {
    let messages = figures.messages.iter();
    messages
        .map(|m| ((m.state(), &m.reason[..]), m.count))
        .collect()
}

#[tokio::test]
async fn every_candidate_is_accounted_for() {
    let server = TestServer::start_with(Options {
        ambiguous: "hold",
        ..Default::default()
    })
    .await
    .unwrap();
    let reject = |code, text| Fault::RejectRecipient(Reply::new(code, text));
    let to = |customer| Matching::Recipient(address(customer));
    let faults = Faults::none()
        .with(to(0), reject(550, "5.1.1 <kunde0000@post.example> unknown"))
        .with(to(1), reject(550, "5.1.1 <kunde0001@post.example> unknown"))
        .with(to(2), reject(554, "no"))
        .with(to(3), Fault::CloseAfterDot { keep: true })
        .with(to(4), reject(450, "4.2.0 later"));
    server.sink.set_faults(faults);
    let client = tenant(&server, 9).await;
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    0007,mail,marketing,withdrawn,2026-01-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, consents).await;
    import(
        &client,
        ImportEntity::Suppressions,
        format!("channel,address\nmail,{}\n", address(8)),
    )
    .await;
    let campaign = launch(&client, SLIP).await;
    until_figures(&client, &campaign, |m| {
        (m.sent, m.failed, m.ambiguous, m.queued) == (2, 3, 1, 1)
    })
    .await;
    crate::mailing::until_tried(&client, &campaign, 1).await;

    let statement = get(&client, &campaign).await;
    let total = statement.total.unwrap();
    assert_adds_up(&total);
    assert_eq!(
        (total.candidates, total.members, total.without_message),
        (9, 7, 0)
    );
    let excluded: BTreeMap<_, _> = total
        .excluded
        .iter()
        .map(|e| (e.reason(), e.count))
        .collect();
    let wanted = [
        (ExclusionReason::NoConsent, 1),
        (ExclusionReason::Suppressed, 1),
    ];
    assert_eq!(excluded, BTreeMap::from(wanted));
    let found = counts(&total);
    assert_eq!(found[&(MessageState::Failed, "550 5.1.1")], 2, "{found:?}");
    assert_eq!(found[&(MessageState::Failed, "554")], 1);
    assert_eq!(found[&(MessageState::Queued, "450 4.2.0")], 1);
    assert_eq!(found[&(MessageState::Sent, "")], 2);
    let ambiguous = found
        .iter()
        .filter(|((s, _), _)| *s == MessageState::Ambiguous);
    assert_eq!(ambiguous.map(|(_, n)| n).sum::<i64>(), 1);
    assert_eq!(statement.phases.len(), 1);
    assert_eq!(statement.phases[0].figures.as_ref(), Some(&total));

    // The same one by one.
    let (csv, _) = export(&client, &campaign, "", 10).await;
    let rows = rows(&csv);
    assert_eq!(rows.len(), 9, "{csv}");
    let ledger = ledger(&client, &campaign).await;
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row["contract"], format!("contracts/V{i:04}"));
        assert_eq!(row["customer"], format!("customers/{i:04}"));
        let Some(message) = ledger.get(&address(i)) else {
            assert_eq!(row["state"], "excluded");
            assert_eq!(row["message"], "");
            continue;
        };
        assert_eq!(row["message"], message.name);
        assert_eq!(row["offer"], message.offer);
        assert_eq!(row["reason"], message.detail);
        assert_eq!(row["attempts"], message.attempt_count.to_string());
        assert_eq!(row["channel_account"], "channelAccounts/mail");
        assert_eq!(row["address_hash"].len(), 64);
        assert_eq!(row["document_sha256"].len(), 64);
        assert_eq!(row["send_time"].is_empty(), message.send_time.is_none());
    }
    assert_eq!(
        (&rows[7]["reason"][..], &rows[8]["reason"][..]),
        ("no_consent", "suppressed")
    );
    let hashes: BTreeSet<_> = rows.iter().take(7).map(|r| &r["address_hash"]).collect();
    assert_eq!(hashes.len(), 7);
    assert!(!csv.contains("kunde0005@post.example"), "{csv}");
}

#[tokio::test]
async fn several_phases_add_up_together() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 3).await;
    let campaign = launch(&client, SLIP).await;
    let mut second = request(SLIP);
    second.campaign_target =
        Some(campaigns::launch_campaign_request::CampaignTarget::Campaign(campaign.clone()));
    second.deselected_contracts = vec!["contracts/V0001".into()];
    let operation = client.campaigns().launch_campaign(second).await.unwrap();
    launched(&client.finished(operation.get_ref()).await.unwrap());
    until_over(&client, &campaign).await;
    let statement = get(&client, &campaign).await;
    let total = statement.total.unwrap();
    assert_adds_up(&total);
    assert_eq!((total.candidates, total.members), (6, 5));
    let members: Vec<i64> = statement
        .phases
        .iter()
        .map(|p| p.figures.as_ref().unwrap())
        .inspect(|f| assert_adds_up(f))
        .map(|f| f.members)
        .collect();
    assert_eq!(members, [3, 2]);
    let (csv, _) = export(&client, &campaign, "", 10).await;
    let phases: Vec<String> = rows(&csv).into_iter().map(|r| r["phase"].clone()).collect();
    let wanted = [1, 1, 1, 2, 2, 2].map(|n| format!("{campaign}/phases/{n}"));
    assert_eq!(phases, wanted);
}

#[tokio::test]
async fn an_export_goes_on_where_it_broke_off() {
    let server = TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    // A full part and a bit more.
    let client = tenant(&server, 2_100).await;
    let without_documents = async || {
        let mut request = request("");
        request.outbound.as_mut().unwrap().without_document = true;
        let operation = client.campaigns().launch_campaign(request).await.unwrap();
        let operation = over(&client, &operation.get_ref().name).await;
        launched(&operation).campaign.unwrap().name
    };
    let campaign = without_documents().await;
    let (whole, end) = export(&client, &campaign, "", usize::MAX).await;
    assert_eq!(rows(&whole).len(), 2_100);
    // One part only, then the rest; then there is nothing more.
    let (first, cursor) = export(&client, &campaign, "", 1).await;
    assert!(first.ends_with('\n') && first.len() < whole.len());
    let (rest, last) = export(&client, &campaign, &cursor, usize::MAX).await;
    assert_eq!(first + &rest, whole);
    for end in [end, last] {
        let nothing = export(&client, &campaign, &end, 1).await;
        assert_eq!(nothing, (String::new(), end));
    }

    let total = get(&client, &campaign).await.total.unwrap();
    assert_adds_up(&total);
    assert_eq!(
        counts(&total),
        BTreeMap::from([((MessageState::Queued, ""), 2_100)])
    );
    // One of another campaign would leave out the beginning of this one.
    let other = without_documents().await;
    let (_, foreign) = export(&client, &other, "", 1).await;
    for cursor in ["x", "1.2000", &foreign] {
        let request = reach::ExportReachRequest {
            campaign: campaign.clone(),
            cursor: cursor.into(),
        };
        let status = client.reach().export_reach(request).await.unwrap_err();
        refused::names(&status, &["cursor"]);
    }
}

#[tokio::test]
async fn one_call_says_why_and_why_not() {
    let server = TestServer::start().await.unwrap();
    let reject = Fault::RejectRecipient(Reply::new(550, "5.1.1 User unknown"));
    let faults = Faults::none().with(Matching::Recipient(address(0)), reject);
    server.sink.set_faults(faults);
    let client = tenant(&server, 3).await;
    let consents = "customer_number,channel,purpose,state,recorded_at,source\n\
                    0001,mail,marketing,withdrawn,2026-01-01T10:00:00Z,Telefon\n";
    import(&client, ImportEntity::Consents, consents).await;
    let csv = "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,\
               product_number,product_version_code\nV0002,0002,sw,electricity,XX,3000,P,OLD\n";
    import(&client, ImportEntity::Contracts, csv).await;
    let campaign = launch(&client, SLIP).await;
    until_over(&client, &campaign).await;
    import(
        &client,
        ImportEntity::Suppressions,
        format!("channel,address,reason\nmail,{},Bounce\n", address(0)),
    )
    .await;

    // A member that was not reached.
    let why = explain(&client, "customers/0000", "").await;
    let [candidacy] = &why.candidacies[..] else {
        panic!("{why:?}");
    };
    let phase = format!("{campaign}/phases/1");
    assert_eq!(
        (&candidacy.phase, &candidacy.contract[..]),
        (&phase, "contracts/V0000")
    );
    assert_eq!(candidacy.exclusion_reason(), ExclusionReason::Unspecified);
    assert_eq!(candidacy.message_state(), MessageState::Failed);
    assert_eq!(candidacy.message_reason, "550 5.1.1 User unknown");
    let message = &ledger(&client, &campaign).await[&address(0)];
    assert_eq!(
        (&candidacy.message, &candidacy.offer),
        (&message.name, &message.offer)
    );
    assert!(why.addresses[0].suppressed);
    assert_eq!(why.addresses[0].reason, "Bounce");
    assert_eq!(why.time_zone, "Europe/Berlin");
    assert_eq!(why.budget, Some(reach::BudgetState::default()));

    // One left out.
    let why = explain(&client, "customers/0001", &campaign).await;
    assert_eq!(why.candidacies.len(), 1);
    assert_eq!(
        why.candidacies[0].exclusion_reason(),
        ExclusionReason::NoConsent
    );
    assert_eq!(why.candidacies[0].message, "");
    assert_eq!(why.phases_without, [""; 0]);
    assert!(!why.consents[0].granted && why.consents[0].source == "Telefon");

    // One that was not even found.
    let why = explain(&client, "customers/0002", &campaign).await;
    assert_eq!(why.candidacies, []);
    assert_eq!(why.phases_without, [phase]);
    assert!(why.consents[0].granted && !why.addresses[0].suppressed);

    let request = reach::ExplainCustomerRequest {
        customer: "customers/9999".into(),
        ..Default::default()
    };
    let status = client.reach().explain_customer(request).await.unwrap_err();
    refused::is(&status, tonic::Code::NotFound, "NOT_FOUND");
    // It changed nothing.
    assert_eq!(
        figures(&client, &campaign)
            .await
            .unwrap()
            .messages
            .unwrap()
            .failed,
        1
    );
}
