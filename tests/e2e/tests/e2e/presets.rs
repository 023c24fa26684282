//! Presets: the one that ships, those of administrators, and what people fill in.

use anklang_proto::anklang::campaigns::v1::launch_campaign_request::Audience;
use anklang_proto::anklang::selections::v1 as pb;
use anklang_testkit::{Client, TestServer, violations};
use pb::preview_selection_request::Source;
use pb::value::Value;
use pb::{FieldType, Operator, Quantifier, Subject};
use tonic::{Code, Status};

use crate::refused;
use crate::selections::{all, compare, create, import, not, preview, related, texts};
use crate::utility::{FEW, launch, with_utility};

const MASK: &str = "presets/supply-accounts";

fn argument(parameter: &str, values: Vec<Value>) -> pb::PresetArgument {
    pb::PresetArgument {
        parameter: parameter.into(),
        values: values
            .into_iter()
            .map(|value| pb::Value { value: Some(value) })
            .collect(),
        operator: 0,
    }
}

fn number(text: &str) -> Vec<Value> {
    vec![Value::Number(text.into())]
}

fn used(preset: &str, arguments: Vec<pb::PresetArgument>) -> pb::PresetUse {
    pb::PresetUse {
        preset: preset.into(),
        arguments,
    }
}

/// Numbers that a preset finds.
async fn found(
    client: &Client,
    preset: &str,
    arguments: Vec<pb::PresetArgument>,
) -> Result<String, Status> {
    let preview = preview(client, Source::Preset(used(preset, arguments)), 100).await?;
    let names = preview.sample.into_iter().map(|row| match &*row.contract {
        "" => row.customer,
        _ => row.contract,
    });
    let numbers: Vec<String> = names
        .map(|name| name.split('/').next_back().unwrap().to_owned())
        .collect();
    Ok(numbers.join(" "))
}

fn hole(parameter: &str) -> Value {
    Value::Parameter(parameter.into())
}

fn parameter(name: &str, ty: FieldType) -> pb::PresetParameter {
    pb::PresetParameter {
        parameter: name.into(),
        display_name: name.into(),
        r#type: ty.into(),
        ..Default::default()
    }
}

/// Who ordered of a group since a day, or does not live in a city.
fn buyers() -> pb::Preset {
    let since = compare("order_time", Operator::GreaterOrEqual, vec![hole("since")]);
    let group = compare("product_group", Operator::In, vec![hole("groups")]);
    let lines = related("lines", Quantifier::Any, group);
    pb::Preset {
        display_name: "Käufer".into(),
        description: "Wer aus einer Warengruppe\nbestellt hat".into(),
        subject: Subject::Customer.into(),
        criteria: Some(all(vec![
            related("orders", Quantifier::Any, all(vec![since, lines])),
            not(compare("city", Operator::Equal, vec![hole("city")])),
        ])),
        parameters: vec![
            pb::PresetParameter {
                required: true,
                ..parameter("since", FieldType::Time)
            },
            pb::PresetParameter {
                multiple: true,
                ..parameter("groups", FieldType::Text)
            },
            pb::PresetParameter {
                allowed_operators: vec![Operator::StartsWith.into(), Operator::IsNotSet.into()],
                ..parameter("city", FieldType::Text)
            },
        ],
        ..Default::default()
    }
}

async fn save(client: &Client, id: &str, preset: pb::Preset) -> Result<pb::Preset, Status> {
    let request = pb::CreatePresetRequest {
        preset_id: id.into(),
        preset: Some(preset),
        ..Default::default()
    };
    Ok(client.presets().create_preset(request).await?.into_inner())
}

#[tokio::test]
async fn every_tenant_has_the_mask_for_supply_accounts() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let list = pb::ListPresetsRequest::default();
    let listed = client
        .presets()
        .list_presets(list)
        .await
        .unwrap()
        .into_inner();
    let [mask] = &listed.presets[..] else {
        panic!("{listed:?}");
    };
    assert_eq!((&*mask.name, mask.version), (MASK, 1));
    let names: Vec<&str> = mask.parameters.iter().map(|p| &*p.parameter).collect();
    assert_eq!(
        names,
        [
            "supply_status",
            "annual_quantity_from",
            "annual_quantity_to",
            "postal_code_from",
            "postal_code_to",
            "product_versions"
        ]
    );

    // Everything open: the default status alone.
    let all = found(&client, MASK, vec![]).await.unwrap();
    assert_eq!(all, "E1 E2 E3 E5 E6");
    for (arguments, expected) in [
        (vec![argument("supply_status", texts(&["AB"]))], "E2 E5"),
        (
            vec![argument("annual_quantity_from", number("5000"))],
            "E2 E3 E5",
        ),
        (
            vec![argument("annual_quantity_to", number("5000"))],
            "E1 E3",
        ),
        (
            vec![
                argument("annual_quantity_from", number("2500")),
                argument("annual_quantity_to", number("8000")),
                argument("postal_code_from", texts(&["35000"])),
                argument("postal_code_to", texts(&["35999"])),
                argument(
                    "product_versions",
                    texts(&["products/A/versions/2025", "products/B/versions/2025"]),
                ),
            ],
            "E1 E2",
        ),
        (
            vec![
                argument("postal_code_to", texts(&["35390"])),
                argument("product_versions", texts(&["products/A/versions/2025"])),
                argument("annual_quantity_to", vec![]),
            ],
            "E1",
        ),
    ] {
        let shown = format!("{arguments:?}");
        assert_eq!(
            found(&client, MASK, arguments).await.unwrap(),
            expected,
            "{shown}"
        );
    }
}

#[tokio::test]
async fn wrong_values_are_told_all_at_once_by_parameter() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let wrong = found(
        &client,
        MASK,
        vec![
            argument("supply_status", texts(&["AU", "XX"])),
            argument("annual_quantity_from", texts(&["much"])),
            argument("annual_quantity_to", number("1e3")),
            argument("postal_code_from", texts(&["4"])),
            argument("postal_code_to", texts(&["3"])),
            argument(
                "product_versions",
                texts(&["products/A/versions/2025", "A"]),
            ),
            argument("colour", texts(&["red"])),
        ],
    );
    let status = wrong.await.unwrap_err();
    refused::names(
        &status,
        &[
            "preset.arguments[\"supply_status\"].values[1]",
            "preset.arguments[\"annual_quantity_from\"].values[0]",
            "preset.arguments[\"annual_quantity_to\"].values[0]",
            "preset.arguments[\"postal_code_to\"]",
            "preset.arguments[\"product_versions\"].values[1]",
            "preset.arguments[\"colour\"]",
        ],
    );
    let told = format!("{:?}", violations(&status));
    assert!(told.contains("must be one of AU, AB"), "{told}");
    assert!(told.contains("must have the form products/"), "{told}");

    let missing = found(&client, "presets/none", vec![]).await.unwrap_err();
    refused::names(&missing, &["preset.preset"]);
    let many = texts(&vec!["products/A/versions/2025"; 1_001]);
    let status = found(&client, MASK, vec![argument("product_versions", many)]).await;
    refused::names(
        &status.unwrap_err(),
        &["preset.arguments[\"product_versions\"]"],
    );
    let huge = texts(&[&"x".repeat(1 << 20)]);
    let status = found(&client, MASK, vec![argument("postal_code_from", huge)]).await;
    refused::names(
        &status.unwrap_err(),
        &["preset.arguments[\"postal_code_from\"].values[0]"],
    );
    let status = found(&client, MASK, vec![argument("x", vec![]); 1_000]).await;
    let fields = violations(&status.unwrap_err());
    assert!(
        fields.iter().any(|(f, _)| f == "preset.arguments"),
        "{fields:?}"
    );
}

#[tokio::test]
async fn administrators_make_presets_without_code() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    import(&client).await.unwrap();
    let saved = save(&client, "kaeufer", buyers()).await.unwrap();
    assert_eq!((&*saved.name, saved.version), ("presets/kaeufer", 1));
    assert_eq!(saved.criteria, buyers().criteria);
    assert_eq!(saved.parameters, buyers().parameters);
    let again = save(&client, "kaeufer", buyers()).await.unwrap_err();
    refused::is(&again, Code::AlreadyExists, "ALREADY_EXISTS");

    let since = |days| argument("since", vec![Value::DaysAgo(days)]);
    let find = async |arguments| found(&client, "presets/kaeufer", arguments).await;
    let status = find(vec![]).await.unwrap_err();
    refused::names(&status, &["preset.arguments[\"since\"]"]);
    assert_eq!(find(vec![since(90)]).await.unwrap(), "2 4");
    let fruit = argument("groups", texts(&["Obst", "Gemüse"]));
    assert_eq!(find(vec![since(90), fruit.clone()]).await.unwrap(), "2");
    let city = |operator: Operator, values| pb::PresetArgument {
        operator: operator.into(),
        ..argument("city", values)
    };
    let berlin = city(Operator::StartsWith, texts(&["ber"]));
    assert_eq!(find(vec![since(365), berlin]).await.unwrap(), "1 2");
    let unknown = city(Operator::IsNotSet, vec![]);
    assert_eq!(find(vec![since(1_000), unknown]).await.unwrap(), "1 2 4");
    let refused_operator = city(Operator::Contains, texts(&["x"]));
    let status = find(vec![since(1), refused_operator]).await.unwrap_err();
    refused::names(&status, &["preset.arguments[\"city\"].operator"]);

    // What was made from it stays as it is when it changes and goes.
    let request = pb::CreateSelectionRequest {
        selection: Some(pb::Selection {
            display_name: "Obstkäufer".into(),
            ..Default::default()
        }),
        preset: Some(used("presets/kaeufer", vec![since(90), fruit.clone()])),
        ..Default::default()
    };
    let selection = client.selections().create_selection(request).await.unwrap();
    let selection = selection.into_inner();
    assert_eq!(selection.subject, i32::from(Subject::Customer));
    let mut changed = saved.clone();
    changed.parameters[1].default_values = fruit.values;
    let request = pb::UpdatePresetRequest {
        preset: Some(changed),
        ..Default::default()
    };
    let updated = client
        .presets()
        .update_preset(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(updated.version, 2);
    assert_eq!(find(vec![since(90)]).await.unwrap(), "2");
    let request = pb::DeletePresetRequest {
        name: saved.name,
        ..Default::default()
    };
    client.presets().delete_preset(request).await.unwrap();
    let status = find(vec![since(90)]).await.unwrap_err();
    refused::names(&status, &["preset.preset"]);
    let source = Source::Selection(selection.name);
    assert_eq!(preview(&client, source, 0).await.unwrap().count, 1);
}

#[tokio::test]
async fn presets_are_checked_when_they_are_saved() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let mut wrong = buyers();
    wrong.display_name.clear();
    wrong.parameters[0].r#type = FieldType::Number.into();
    wrong.parameters[1].parameter = "group".into();
    wrong.parameters[2].default_values = vec![pb::Value {
        value: Some(Value::Flag(true)),
    }];
    wrong
        .parameters
        .push(parameter("A b", FieldType::Unspecified));
    let status = save(&client, "Käufer", wrong).await.unwrap_err();
    let inner = "preset.criteria.all.criteria[0].related.criteria.all.criteria";
    refused::names(
        &status,
        &[
            "preset_id",
            "preset.display_name",
            "preset.parameters[3].type",
            &format!("{inner}[0].compare.values[0]"),
            &format!("{inner}[1].related.criteria.compare.values[0]"),
            "preset.criteria.all.criteria[1].not.compare.values[0]",
            "preset.parameters[1].parameter",
            "preset.parameters[2].default_values[0]",
            "preset.parameters[3].parameter",
        ],
    );

    // Values that are known must fit the field: words and names of resources.
    let kinds = |values: &[&str]| pb::Preset {
        criteria: Some(compare("kind", Operator::Equal, vec![hole("kind")])),
        parameters: vec![pb::PresetParameter {
            allowed_values: texts(values)
                .into_iter()
                .map(|value| pb::Value { value: Some(value) })
                .collect(),
            ..parameter("kind", FieldType::Text)
        }],
        ..buyers()
    };
    save(&client, "a", kinds(&["person", "company"]))
        .await
        .unwrap();
    let status = save(&client, "b", kinds(&["person", "firma"]))
        .await
        .unwrap_err();
    refused::names(&status, &["preset.criteria.compare.values[0]"]);

    // Holes are for presets alone.
    let criteria = compare("kind", Operator::Equal, vec![hole("kind")]);
    let selection = crate::selections::selection(Subject::Customer, criteria);
    let status = create(&client, selection, "").await.unwrap_err();
    refused::names(&status, &["selection.criteria.compare.values[0]"]);
}

#[tokio::test]
async fn a_campaign_is_launched_with_a_preset() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    request.audience = Some(Audience::Preset(used(
        MASK,
        vec![argument("annual_quantity_from", texts(&["x"]))],
    )));
    let status = client.campaigns().launch_campaign(request.clone()).await;
    refused::names(
        &status.unwrap_err(),
        &["preset.arguments[\"annual_quantity_from\"].values[0]"],
    );
    request.audience = Some(Audience::Preset(used(MASK, vec![])));
    let launched = launch(&client, request).await;
    let expected = preview(&client, Source::Preset(used(MASK, vec![])), 0)
        .await
        .unwrap();
    assert!(expected.count > 0);
    assert_eq!(launched.candidates, expected.count);
}
