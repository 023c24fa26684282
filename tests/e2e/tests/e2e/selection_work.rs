//! Working on selections: versions, copies, ticks, estimates, and why somebody is found or not.

use anklang_proto::anklang::campaigns::v1::launch_campaign_request::Audience;
use anklang_proto::anklang::campaigns::v1::{ExclusionReason, ListAudienceMembersRequest};
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as pb;
use anklang_testkit::{Client, TestServer, violations};
use pb::preview_selection_request::Source;
use pb::value::Value;
use pb::{Operator, Quantifier, Subject, Tick};
use tonic::{Code, Status};

use crate::refused;
use crate::selections::{
    all, compare, create, equal, import, not, preview, related, selection, texts,
};
use crate::utility::{FEW, launch, with_utility};

async fn electricity(client: &Client) -> pb::Selection {
    let criteria = all(vec![
        equal("division", "electricity"),
        compare("supply_status", Operator::In, texts(&["AU", "AB"])),
    ]);
    let wanted = selection(Subject::Contract, criteria);
    create(client, wanted, "").await.unwrap()
}

async fn numbers(client: &Client, selection: &str) -> String {
    let source = Source::Selection(selection.into());
    let found = preview(client, source, 100).await.unwrap();
    let names = found.sample.iter();
    let numbers: Vec<&str> = names.map(|r| &r.contract["contracts/".len()..]).collect();
    assert_eq!(usize::try_from(found.count).unwrap(), numbers.len());
    numbers.join(" ")
}

#[tokio::test]
async fn every_update_makes_a_version_that_can_be_had_again() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let first = electricity(&client).await;
    let request = pb::UpdateSelectionRequest {
        selection: Some(pb::Selection {
            display_name: "Motor".into(),
            criteria: Some(equal("division", "motor")),
            ..first.clone()
        }),
        ..Default::default()
    };
    let second = client
        .selections()
        .update_selection(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(second.version, 2);
    let list = pb::ListSelectionVersionsRequest {
        parent: first.name.clone(),
        ..Default::default()
    };
    let versions = async || {
        let listed = client
            .selections()
            .list_selection_versions(list.clone())
            .await
            .unwrap();
        listed.into_inner().selection_versions
    };
    let listed = versions().await;
    let shown: Vec<(i32, &str)> = listed
        .iter()
        .map(|v| (v.version, &*v.display_name))
        .collect();
    assert_eq!(shown, [(2, "Motor"), (1, "Auswahl")]);
    assert_eq!(listed[1].criteria, first.criteria);

    let name = format!("{}/versions/1", first.name);
    let request = pb::GetSelectionVersionRequest { name: name.clone() };
    let got = client
        .selections()
        .get_selection_version(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((&got.name, &got), (&name, &listed[1]));

    let request = pb::RestoreSelectionVersionRequest {
        name,
        ..Default::default()
    };
    let restored = client
        .selections()
        .restore_selection_version(request)
        .await
        .unwrap();
    let restored = restored.into_inner();
    assert_eq!(restored.version, 3);
    assert_eq!(restored.display_name, "Auswahl");
    assert_eq!(restored.criteria, first.criteria);
    assert_eq!(numbers(&client, &first.name).await, "E1 E2 E3 E5 E6");
    assert_eq!(versions().await.len(), 3);

    for name in [
        format!("{}/versions/9", first.name),
        format!("selections/{}/versions/1", uuid::Uuid::nil()),
    ] {
        let request = pb::RestoreSelectionVersionRequest {
            name,
            ..Default::default()
        };
        let status = client.selections().restore_selection_version(request).await;
        refused::not_found(&status.unwrap_err());
    }
    let request = pb::GetSelectionVersionRequest {
        name: format!("{}/versions/x", first.name),
    };
    let status = client.selections().get_selection_version(request).await;
    refused::names(&status.unwrap_err(), &["name"]);
}

#[tokio::test]
async fn a_copy_goes_its_own_way() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let original = electricity(&client).await;
    ticks(
        &client,
        &original.name,
        &["contracts/M1"],
        &["contracts/E1"],
    )
    .await
    .unwrap();
    let request = pb::CopySelectionRequest {
        name: original.name.clone(),
        display_name: "Kopie".into(),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let copy = async || {
        let copied = client
            .selections()
            .copy_selection(request.clone())
            .await
            .unwrap();
        copied.into_inner()
    };
    let copied = copy().await;
    assert_eq!(copy().await, copied, "once");
    assert_ne!(copied.name, original.name);
    assert_eq!((&*copied.display_name, copied.version), ("Kopie", 1));
    assert_eq!(copied.criteria, original.criteria);
    let request = pb::DeleteSelectionRequest {
        name: original.name,
        ..Default::default()
    };
    client.selections().delete_selection(request).await.unwrap();
    assert_eq!(numbers(&client, &copied.name).await, "E2 E3 E5 E6 M1");
}

pub async fn ticks(
    client: &Client,
    name: &str,
    include: &[&str],
    exclude: &[&str],
) -> Result<pb::SelectionTicks, Status> {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let request = pb::UpdateSelectionTicksRequest {
        name: name.into(),
        include: owned(include),
        exclude: owned(exclude),
        ..Default::default()
    };
    let counts = client.selections().update_selection_ticks(request).await?;
    Ok(counts.into_inner())
}

#[tokio::test]
async fn members_are_ticked_one_by_one() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let name = electricity(&client).await.name;
    let counts = ticks(
        &client,
        &name,
        &["contracts/M1"],
        &["contracts/E1", "contracts/E4"],
    );
    let counts = counts.await.unwrap();
    assert_eq!((counts.included, counts.excluded), (1, 2));
    assert_eq!(numbers(&client, &name).await, "E2 E3 E5 E6 M1");
    // The other way round, and the same again.
    for _ in 0..2 {
        let counts = ticks(&client, &name, &["contracts/E4"], &["contracts/M1"])
            .await
            .unwrap();
        assert_eq!((counts.included, counts.excluded), (1, 2));
    }
    assert_eq!(numbers(&client, &name).await, "E2 E3 E4 E5 E6");

    let request = pb::ListSelectionTicksRequest {
        parent: name.clone(),
        filter: "tick = EXCLUDED".into(),
        order_by: "number desc".into(),
        ..Default::default()
    };
    let listed = client
        .selections()
        .list_selection_ticks(request)
        .await
        .unwrap();
    let listed: Vec<(String, Tick)> = listed
        .into_inner()
        .selection_ticks
        .into_iter()
        .map(|t| (t.member.clone(), t.tick()))
        .collect();
    let out = |name: &str| (name.to_owned(), Tick::Excluded);
    assert_eq!(listed, [out("contracts/M1"), out("contracts/E1")]);

    let request = pb::UpdateSelectionTicksRequest {
        name: name.clone(),
        clear: vec!["contracts/E1".into()],
        ..Default::default()
    };
    let counts = client
        .selections()
        .update_selection_ticks(request)
        .await
        .unwrap();
    assert_eq!(counts.into_inner().excluded, 1);
    let request = pb::UpdateSelectionTicksRequest {
        name: name.clone(),
        exclude: vec!["contracts/E2".into()],
        clear_all: true,
        ..Default::default()
    };
    let counts = client
        .selections()
        .update_selection_ticks(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((counts.included, counts.excluded), (0, 1));
    assert_eq!(numbers(&client, &name).await, "E1 E3 E5 E6");
}

#[tokio::test]
async fn wrong_ticks_change_nothing() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let name = electricity(&client).await.name;
    let status = ticks(
        &client,
        &name,
        &["contracts/E1", "customers/1"],
        &["contracts/E1", ""],
    );
    refused::names(
        &status.await.unwrap_err(),
        &["include[1]", "exclude[0]", "exclude[1]"],
    );
    let status = ticks(
        &client,
        &name,
        &["contracts/E1", "contracts/no"],
        &["contracts/nix"],
    );
    refused::names(&status.await.unwrap_err(), &["include[1]", "exclude[0]"]);
    let many: Vec<String> = (0..100_001).map(|n| format!("contracts/{n}")).collect();
    let many: Vec<&str> = many.iter().map(|n| &**n).collect();
    let status = ticks(&client, &name, &[], &many).await.unwrap_err();
    let told = violations(&status);
    assert!(told.contains(&(
        "exclude".into(),
        "has 100001 entries; at most 100000 are allowed".into()
    )));
    let missing = format!("selections/{}", uuid::Uuid::nil());
    refused::not_found(
        &ticks(&client, &missing, &["contracts/E1"], &[])
            .await
            .unwrap_err(),
    );
    assert_eq!(numbers(&client, &name).await, "E1 E2 E3 E5 E6");
}

#[tokio::test]
async fn a_hundred_thousand_are_ticked_at_once() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let mut csv = "number,customer_number,brand_code,division,supply_status\n".to_owned();
    for n in 0..100_000 {
        csv += &format!("T{n},1,SW,electricity,AU\n");
    }
    let sums = client.import(ImportEntity::Contracts, csv).await.unwrap();
    assert_eq!(sums.created, 100_000);
    let name = electricity(&client).await.name;
    let many: Vec<String> = (0..100_000).map(|n| format!("contracts/T{n}")).collect();
    let many: Vec<&str> = many.iter().map(|n| &**n).collect();
    let counts = ticks(&client, &name, &[], &many).await.unwrap();
    assert_eq!(counts.excluded, 100_000);
    assert_eq!(numbers(&client, &name).await, "E1 E2 E3 E5 E6");
    let status = ticks(&client, &name, &["contracts/M1"], &[])
        .await
        .unwrap_err();
    refused::names(&status, &["name"]);
}

#[tokio::test]
async fn a_preview_takes_ticks_that_are_not_saved() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let given = pb::AdHocCriteria {
        subject: Subject::Contract.into(),
        criteria: Some(equal("division", "motor")),
    };
    let request = pb::PreviewSelectionRequest {
        source: Some(Source::Criteria(given)),
        include: vec!["contracts/E1".into(), "contracts/E2".into()],
        exclude: vec!["contracts/M1".into(), "contracts/E2".into()],
        sample_size: 10,
        ..Default::default()
    };
    let found = client
        .selections()
        .preview_selection(request.clone())
        .await
        .unwrap();
    let names: Vec<String> = found
        .into_inner()
        .sample
        .into_iter()
        .map(|r| r.contract)
        .collect();
    assert_eq!(names, ["contracts/E1", "contracts/M2"]);
    let wrong = pb::PreviewSelectionRequest {
        include: vec!["customers/1".into()],
        exclude: vec!["contracts/none".into()],
        ..request
    };
    let status = client
        .selections()
        .preview_selection(wrong)
        .await
        .unwrap_err();
    refused::names(&status, &["include[0]", "exclude[0]"]);
}

#[tokio::test]
async fn an_estimate_runs_nothing() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let estimate = async |criteria: pb::Criteria, sample_size| {
        let given = pb::AdHocCriteria {
            subject: Subject::Contract.into(),
            criteria: Some(criteria),
        };
        let request = pb::PreviewSelectionRequest {
            source: Some(Source::Criteria(given)),
            mode: pb::PreviewMode::Estimate.into(),
            sample_size,
            ..Default::default()
        };
        let found = client.selections().preview_selection(request).await?;
        Ok::<_, Status>(found.into_inner())
    };
    let one = estimate(equal("division", "electricity"), 0).await.unwrap();
    assert!(
        one.estimated_count >= 1 && one.estimated_cost > 0.0,
        "{one:?}"
    );
    assert_eq!((one.count, one.customers, one.sample.len()), (0, 0, 0));
    // What would take the database days is estimated at once, and costs more.
    let mut deep = equal("product_group", "Obst");
    for relation in ["lines", "orders", "customer"] {
        let quantifier = pb::Related {
            relation: relation.into(),
            quantifier: Quantifier::Count.into(),
            count: Some(pb::CountCondition {
                operator: Operator::Greater.into(),
                value: 2,
            }),
            criteria: Some(Box::new(deep)),
        };
        deep = pb::Criteria {
            node: Some(pb::criteria::Node::Related(Box::new(quantifier))),
        };
    }
    let much = estimate(deep, 0).await.unwrap();
    assert!(much.estimated_cost > one.estimated_cost, "{much:?} {one:?}");
    let status = estimate(equal("division", "gas"), 5).await.unwrap_err();
    refused::names(&status, &["sample_size"]);
    let status = estimate(equal("colour", "red"), 0).await.unwrap_err();
    refused::names(&status, &["criteria.criteria.compare.field"]);
}

async fn explain(
    client: &Client,
    source: pb::explain_selection_request::Source,
    member: &str,
) -> Result<pb::ExplainSelectionResponse, Status> {
    let request = pb::ExplainSelectionRequest {
        source: Some(source),
        member: member.into(),
    };
    let explained = client.selections().explain_selection(request).await?;
    Ok(explained.into_inner())
}

#[tokio::test]
async fn every_criterion_says_whether_it_holds() {
    use pb::explain_selection_request::Source;
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let since = compare(
        "order_time",
        Operator::GreaterOrEqual,
        vec![Value::DaysAgo(90)],
    );
    let fruit = related("lines", Quantifier::Any, equal("product_group", "Obst"));
    let given = pb::AdHocCriteria {
        subject: Subject::Customer.into(),
        criteria: Some(all(vec![
            equal("kind", "person"),
            not(equal("city", "Berlin")),
            related("orders", Quantifier::None, all(vec![since, fruit])),
        ])),
    };
    let source = || Source::Criteria(given.clone());
    let explained = explain(&client, source(), "customers/4").await.unwrap();
    assert!(!explained.selected);
    assert_eq!(explained.tick(), Tick::Unspecified);
    let shown: Vec<(&str, bool, [i64; 4])> = explained
        .explanations
        .iter()
        .map(|e| {
            let numbers = [
                e.rows,
                e.matching_rows,
                e.related_rows,
                e.matching_related_rows,
            ];
            (&e.path[..], e.holds, numbers)
        })
        .collect();
    let below = "criteria.all.criteria[2].related.criteria";
    assert_eq!(
        shown,
        [
            ("criteria", false, [1, 0, 0, 0]),
            ("criteria.all.criteria[0].compare", true, [1, 1, 0, 0]),
            ("criteria.all.criteria[1]", false, [1, 0, 0, 0]),
            ("criteria.all.criteria[1].not.compare", true, [1, 1, 0, 0]),
            // Two orders, one of them new, one of them with fruit, none with both.
            ("criteria.all.criteria[2].related", true, [1, 1, 2, 0]),
            (below, false, [2, 0, 0, 0]),
            (
                &format!("{below}.all.criteria[0].compare"),
                true,
                [2, 1, 0, 0]
            ),
            (
                &format!("{below}.all.criteria[1].related"),
                true,
                [2, 1, 3, 1]
            ),
            (
                &format!("{below}.all.criteria[1].related.criteria.compare"),
                true,
                [3, 1, 0, 0]
            ),
        ]
    );
    assert!(
        explain(&client, source(), "customers/1")
            .await
            .unwrap()
            .selected
    );
    let missing = explain(&client, source(), "customers/99")
        .await
        .unwrap_err();
    refused::is(&missing, Code::NotFound, "NOT_FOUND");
    let status = explain(&client, source(), "contracts/E1")
        .await
        .unwrap_err();
    refused::names(&status, &["member"]);

    let name = electricity(&client).await.name;
    ticks(&client, &name, &["contracts/M1"], &["contracts/E1"])
        .await
        .unwrap();
    for (member, selected, tick, holds) in [
        ("contracts/M1", true, Tick::Included, false),
        ("contracts/E1", false, Tick::Excluded, true),
        ("contracts/E2", true, Tick::Unspecified, true),
        ("contracts/E4", false, Tick::Unspecified, false),
    ] {
        let source = Source::Selection(name.clone());
        let explained = explain(&client, source, member).await.unwrap();
        let found = (
            explained.selected,
            explained.tick(),
            explained.explanations[0].holds,
        );
        assert_eq!(found, (selected, tick, holds), "{member}");
    }

    // Of a preset what was filled in.
    let mask = pb::PresetUse {
        preset: "presets/supply-accounts".into(),
        arguments: vec![],
    };
    let explained = explain(&client, Source::Preset(mask), "contracts/E4")
        .await
        .unwrap();
    let paths: Vec<&str> = explained.explanations.iter().map(|e| &e.path[..]).collect();
    assert_eq!(paths, ["criteria", "criteria.all.criteria[0].compare"]);
    assert!(!explained.selected && explained.criteria.is_some());
    let request = pb::ExplainSelectionRequest::default();
    let status = client
        .selections()
        .explain_selection(request)
        .await
        .unwrap_err();
    refused::names(&status, &["criteria", "member"]);
}

#[tokio::test]
async fn a_launch_goes_by_the_ticks() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let members: Vec<String> = utility.members().into_keys().collect();
    let [a, b, c] = &members[..3] else {
        panic!("too few: {members:?}");
    };
    let number = |name: &str| name["contracts/".len()..].to_owned();
    let numbers = [number(a), number(b)];
    let found = compare("number", Operator::In, texts(&[&numbers[0], &numbers[1]]));
    let wanted = selection(Subject::Contract, found);
    let saved = create(&client, wanted, "").await.unwrap().name;
    ticks(&client, &saved, &[c], &[b]).await.unwrap();

    let mut request = utility.launch();
    request.audience = Some(Audience::Selection(saved.clone()));
    let launched = launch(&client, request).await;
    // What is ticked later does not matter.
    ticks(&client, &saved, &[b], &[c]).await.unwrap();
    assert_eq!((launched.candidates, launched.members), (3, 2));
    let request = ListAudienceMembersRequest {
        parent: launched.phase.unwrap().name,
        ..Default::default()
    };
    let listed = client.campaigns().list_audience_members(request).await;
    let mut listed: Vec<_> = listed
        .unwrap()
        .into_inner()
        .audience_members
        .into_iter()
        .map(|m| (m.exclusion_reason(), m.contract))
        .collect();
    listed.sort_by_key(|(reason, contract)| (i32::from(*reason), contract.clone()));
    let member = ExclusionReason::Unspecified;
    let mut expected = vec![(member, a.clone()), (member, c.clone())];
    expected.push((ExclusionReason::Deselected, b.clone()));
    assert_eq!(listed, expected);
}
