//! What a selection finds, page by page, and what is ticked in it.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as pb;
use anklang_testkit::{Client, TestServer};
use pb::list_selection_members_request::Source;
use pb::{Operator, Subject, Tick};
use tonic::Status;

use crate::refused;
use crate::selection_work::ticks;
use crate::selections::{compare, create, equal, import, preview, selection, texts};

/// Contracts T000 to T249 of customer 1, besides those of [`import`].
async fn with_many(server: &TestServer) -> Client {
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let mut csv =
        "number,customer_number,brand_code,division,site_postal_code,site_city\n".to_owned();
    for n in 0..250 {
        let place = ["35390,Gießen", "60311,Frankfurt"][n % 2];
        csv += &format!("T{n:03},1,SW,electricity,{place}\n");
    }
    let sums = client.import(ImportEntity::Contracts, csv).await.unwrap();
    assert_eq!(sums.created, 250);
    client
}

fn many() -> pb::Criteria {
    compare("number", Operator::StartsWith, texts(&["T"]))
}

async fn saved(client: &Client) -> String {
    let wanted = selection(Subject::Contract, many());
    create(client, wanted, "").await.unwrap().name
}

fn of(source: Source) -> pb::ListSelectionMembersRequest {
    pb::ListSelectionMembersRequest {
        source: Some(source),
        page_size: 1_000,
        ..Default::default()
    }
}

async fn page(
    client: &Client,
    request: pb::ListSelectionMembersRequest,
) -> Result<pb::ListSelectionMembersResponse, Status> {
    let listed = client.selections().list_selection_members(request).await?;
    Ok(listed.into_inner())
}

fn number(member: &pb::SelectionMember) -> String {
    member.contract.replace("contracts/", "")
}

/// The numbers of a list that is one page.
async fn numbers(client: &Client, source: Source, filter: &str, order_by: &str) -> Vec<String> {
    let request = pb::ListSelectionMembersRequest {
        filter: filter.into(),
        order_by: order_by.into(),
        ..of(source)
    };
    let listed = page(client, request).await.unwrap();
    assert_eq!(listed.next_page_token, "", "{filter}");
    listed.selection_members.iter().map(number).collect()
}

#[tokio::test]
async fn all_that_is_found_is_listed() {
    let server = TestServer::start().await.unwrap();
    let client = with_many(&server).await;
    let name = saved(&client).await;
    let everything: Vec<String> = (0..250).map(|n| format!("T{n:03}")).collect();

    let mut request = pb::ListSelectionMembersRequest {
        page_size: 100,
        ..of(Source::Selection(name.clone()))
    };
    let (mut sizes, mut walked) = (Vec::new(), Vec::new());
    // More than there are, so that too many are told of.
    while sizes.len() < 9 {
        let listed = page(&client, request.clone()).await.unwrap();
        sizes.push(listed.selection_members.len());
        walked.extend(listed.selection_members.iter().map(number));
        request.page_token = listed.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(walked, everything);
    let counted = pb::preview_selection_request::Source::Selection(name.clone());
    assert_eq!(preview(&client, counted, 0).await.unwrap().count, 250);

    // Without being saved, and of a preset.
    let given = pb::AdHocCriteria {
        subject: Subject::Contract.into(),
        criteria: Some(many()),
    };
    let found = numbers(&client, Source::Criteria(given), "", "").await;
    assert_eq!(found, everything);
    let preset = pb::PresetUse {
        preset: "presets/supply-accounts".into(),
        arguments: vec![],
    };
    let found = numbers(&client, Source::Preset(preset), "", "").await;
    assert_eq!(found, ["E1", "E2", "E3", "E5", "E6"]);

    let listed = page(&client, of(Source::Selection(name))).await.unwrap();
    let first = pb::SelectionMember {
        customer: "customers/1".into(),
        contract: "contracts/T000".into(),
        display_name: "Erika Müller".into(),
        place: "35390 Gießen".into(),
        tick: Tick::Unspecified.into(),
        selected: true,
    };
    assert_eq!(listed.selection_members.first(), Some(&first));

    // Of customers there are no contracts.
    let given = pb::AdHocCriteria {
        subject: Subject::Customer.into(),
        criteria: Some(equal("kind", "company")),
    };
    let listed = page(&client, of(Source::Criteria(given))).await.unwrap();
    let company = pb::SelectionMember {
        customer: "customers/2".into(),
        contract: String::new(),
        display_name: "Bäckerei & Söhne".into(),
        place: "35576 Wetzlar".into(),
        tick: Tick::Unspecified.into(),
        selected: true,
    };
    assert_eq!(listed.selection_members, [company]);
}

#[tokio::test]
async fn members_are_listed_with_their_ticks() {
    let server = TestServer::start().await.unwrap();
    let client = with_many(&server).await;
    let name = saved(&client).await;
    let (included, excluded) = (
        ["contracts/M1", "contracts/T002"],
        ["contracts/M2", "contracts/T001"],
    );
    ticks(&client, &name, &included, &excluded).await.unwrap();
    let list = async |filter: &str, order_by: &str| {
        numbers(&client, Source::Selection(name.clone()), filter, order_by).await
    };

    // Who was ticked out is there to be ticked again, also who is found no more.
    assert_eq!(list("", "").await[..4], ["M1", "M2", "T000", "T001"]);
    assert_eq!(list("selected = true", "").await.len(), 250);
    assert_eq!(list("selected = false", "").await, ["M2", "T001"]);
    assert_eq!(list("tick = EXCLUDED", "").await, ["M2", "T001"]);
    assert_eq!(list("tick = TICK_INCLUDED", "").await, ["M1", "T002"]);
    assert_eq!(
        list("tick:*", "contract desc").await,
        ["T002", "T001", "M2", "M1"]
    );
    assert_eq!(list("NOT tick:*", "").await.len(), 248);
    let listed = page(&client, of(Source::Selection(name.clone()))).await;
    let listed = listed.unwrap().selection_members;
    let ticked = |member: &&pb::SelectionMember| member.tick() != Tick::Unspecified;
    let shown: Vec<(String, Tick, bool)> = listed
        .iter()
        .filter(ticked)
        .map(|m| (number(m), m.tick(), m.selected))
        .collect();
    let row = |number: &str, tick, selected| (number.to_owned(), tick, selected);
    assert_eq!(
        shown,
        [
            row("M1", Tick::Included, true),
            row("M2", Tick::Excluded, false),
            row("T001", Tick::Excluded, false),
            row("T002", Tick::Included, true),
        ]
    );

    // The ticks are the selection's alone.
    let given = pb::AdHocCriteria {
        subject: Subject::Contract.into(),
        criteria: Some(many()),
    };
    let unticked = numbers(&client, Source::Criteria(given), "tick:*", "").await;
    assert!(unticked.is_empty(), "{unticked:?}");

    assert_eq!(list("place:frankfurt", "").await.len(), 125);
    assert_eq!(list("contract = contracts/T007", "").await, ["T007"]);
    assert_eq!(list("customer = customers/2", "").await, ["M2"]);
    assert_eq!(list("display_name:bäckerei", "").await, ["M2"]);
    let by_place = list(
        "contract != contracts/M1 AND contract != contracts/M2",
        "place, contract",
    );
    let by_place = by_place.await;
    assert_eq!(by_place[..2], ["T000", "T002"]);
    assert_eq!(by_place[125..127], ["T001", "T003"]);
}

#[tokio::test]
async fn a_place_in_a_list_of_members_is_of_that_list() {
    let server = TestServer::start().await.unwrap();
    let client = with_many(&server).await;
    let (one, other) = (saved(&client).await, saved(&client).await);
    let request = pb::ListSelectionMembersRequest {
        page_size: 10,
        ..of(Source::Selection(one.clone()))
    };
    let first = page(&client, request.clone()).await.unwrap();
    let next = pb::ListSelectionMembersRequest {
        page_token: first.next_page_token,
        ..request
    };
    let second = page(&client, next.clone()).await.unwrap();
    assert_eq!(number(&second.selection_members[0]), "T010");

    let given = pb::AdHocCriteria {
        subject: Subject::Contract.into(),
        criteria: Some(many()),
    };
    for wrong in [
        pb::ListSelectionMembersRequest {
            source: Some(Source::Selection(other)),
            ..next.clone()
        },
        pb::ListSelectionMembersRequest {
            source: Some(Source::Criteria(given)),
            ..next.clone()
        },
        pb::ListSelectionMembersRequest {
            filter: "selected = true".into(),
            ..next.clone()
        },
        pb::ListSelectionMembersRequest {
            order_by: "place".into(),
            ..next.clone()
        },
    ] {
        let status = page(&client, wrong).await.unwrap_err();
        refused::names(&status, &["page_token"]);
    }
    // Pages before know nothing of what is ticked meanwhile; those behind do.
    ticks(&client, &one, &[], &["contracts/T000", "contracts/T010"])
        .await
        .unwrap();
    let second = page(&client, next).await.unwrap();
    let shown = &second.selection_members[0];
    assert_eq!((number(shown), shown.selected), ("T010".into(), false));

    let nothing = pb::ListSelectionMembersRequest {
        filter: "colour = red".into(),
        ..Default::default()
    };
    let status = page(&client, nothing).await.unwrap_err();
    refused::names(&status, &["criteria", "filter"]);
    let gone = Source::Selection(format!("selections/{}", uuid::Uuid::nil()));
    refused::not_found(&page(&client, of(gone)).await.unwrap_err());
}
