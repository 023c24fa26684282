//! Names and the planned start of campaigns, and names of phases, that are corrected afterwards.

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_testkit::{Client, TestServer};
use mail_parser::MessageParser;
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::mailing::save_message;
use crate::phases::{cancel_campaign, phase, planned, run_sql};
use crate::refused;
use crate::utility::{FEW, until_sent, with_utility};

fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(|p| (*p).to_owned()).collect();
    Some(FieldMask { paths })
}

async fn campaign(client: &Client, name: &str) -> pb::Campaign {
    let request = pb::GetCampaignRequest { name: name.into() };
    let found = client.campaigns().get_campaign(request).await.unwrap();
    found.into_inner()
}

async fn update(
    client: &Client,
    campaign: pb::Campaign,
    paths: &[&str],
) -> Result<pb::Campaign, Status> {
    let request = pb::UpdateCampaignRequest {
        campaign: Some(campaign),
        update_mask: mask(paths),
        ..Default::default()
    };
    let updated = client.campaigns().update_campaign(request).await?;
    Ok(updated.into_inner())
}

/// Gives a campaign another name, and leaves all else.
pub async fn rename_campaign(client: &Client, name: &str, title: &str) -> pb::Campaign {
    let given = pb::Campaign {
        name: name.into(),
        display_name: title.into(),
        ..Default::default()
    };
    update(client, given, &["display_name"]).await.unwrap()
}

async fn update_phase(
    client: &Client,
    phase: pb::Phase,
    paths: &[&str],
) -> Result<pb::Phase, Status> {
    let request = pb::UpdatePhaseRequest {
        phase: Some(phase),
        update_mask: mask(paths),
        ..Default::default()
    };
    let updated = client.campaigns().update_phase(request).await?;
    Ok(updated.into_inner())
}

/// Gives a phase another name.
pub async fn rename_phase(client: &Client, name: &str, title: &str) -> pb::Phase {
    let given = pb::Phase {
        name: name.into(),
        display_name: title.into(),
        ..Default::default()
    };
    update_phase(client, given, &["display_name"])
        .await
        .unwrap()
}

#[tokio::test]
async fn campaigns_are_corrected() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (name, _) = planned(&client, &utility, 3).await;
    let before = campaign(&client, &name).await;

    let named = rename_campaign(&client, &name, " Ökostrom ").await;
    let expected = pb::Campaign {
        display_name: "Ökostrom".into(),
        etag: named.etag.clone(),
        ..before.clone()
    };
    assert_eq!(named, expected);
    assert_ne!(named.etag, before.etag);
    let moved = pb::Campaign {
        planned_start_date: utility.day(9),
        ..named.clone()
    };
    let moved = update(&client, moved, &[]).await.unwrap();
    assert_eq!(moved.planned_start_date, utility.day(9));
    assert_eq!(campaign(&client, &name).await, moved);
    let unset = pb::Campaign {
        name: name.clone(),
        ..Default::default()
    };
    let unset = update(&client, unset, &["planned_start_date"])
        .await
        .unwrap();
    assert_eq!(
        (&unset.display_name[..], unset.planned_start_date),
        ("Ökostrom", None)
    );

    // Who has seen an older one is told.
    let status = update(&client, before, &[]).await.unwrap_err();
    refused::is(&status, Code::Aborted, "ETAG_MISMATCH");
    let wrong = pb::Campaign {
        name: name.clone(),
        display_name: "a\nb".into(),
        planned_start_date: Some(anklang_proto::google::r#type::Date {
            year: 2027,
            month: 13,
            day: 1,
        }),
        ..Default::default()
    };
    let status = update(&client, wrong, &[]).await.unwrap_err();
    let told = ["campaign.display_name", "campaign.planned_start_date"];
    refused::names(&status, &told);
    let status = update(&client, unset.clone(), &["state"])
        .await
        .unwrap_err();
    refused::names(&status, &["update_mask"]);
    let nobody = pb::Campaign {
        name: format!("campaigns/{}", uuid::Uuid::nil()),
        display_name: "Niemand".into(),
        ..Default::default()
    };
    for paths in [&["display_name"][..], &[]] {
        let status = update(&client, nobody.clone(), paths).await.unwrap_err();
        refused::not_found(&status);
    }

    // Also of what is over.
    cancel_campaign(&client, &name).await.unwrap();
    let over = rename_campaign(&client, &name, "Vorbei").await;
    assert_eq!(
        (&over.display_name[..], over.state()),
        ("Vorbei", pb::CampaignState::Cancelled)
    );
}

#[tokio::test]
async fn phases_are_read_and_renamed() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, _) = planned(&client, &utility, 3).await;
    let name = format!("{campaign}/phases/1");
    let get = async |name: &str| {
        let request = pb::GetPhaseRequest { name: name.into() };
        let found = client.campaigns().get_phase(request).await;
        found.map(tonic::Response::into_inner)
    };
    let before = get(&name).await.unwrap();
    assert_eq!(before, phase(&client, &name).await, "as it is listed");
    refused::not_found(&get(&format!("{campaign}/phases/2")).await.unwrap_err());
    refused::names(&get(&campaign).await.unwrap_err(), &["name"]);

    let named = rename_phase(&client, &name, "Erste Welle").await;
    let expected = pb::Phase {
        display_name: "Erste Welle".into(),
        etag: named.etag.clone(),
        ..before.clone()
    };
    assert_eq!(named, expected);
    assert_ne!(named.etag, before.etag);
    assert_eq!(get(&name).await.unwrap(), named);
    let status = update_phase(&client, before, &[]).await.unwrap_err();
    refused::is(&status, Code::Aborted, "ETAG_MISMATCH");
    // What it was launched with is not a matter of its name.
    for path in ["target_product_version", "planned_start_date", "criteria"] {
        let status = update_phase(&client, named.clone(), &[path]).await;
        refused::names(&status.unwrap_err(), &["update_mask"]);
    }
    let nameless = pb::Phase {
        display_name: String::new(),
        ..named
    };
    let status = update_phase(&client, nameless, &[]).await.unwrap_err();
    refused::names(&status, &["phase.display_name"]);
    let nobody = pb::Phase {
        name: format!("{campaign}/phases/2"),
        display_name: "Niemand".into(),
        ..Default::default()
    };
    let status = update_phase(&client, nobody, &[]).await.unwrap_err();
    refused::not_found(&status);
}

const SUBJECT: &str = "Neu: {% if campaign %}{{ campaign.name }}{% endif %}";

#[tokio::test]
async fn what_is_made_later_bears_the_new_name() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    for brand in ["linden", "nordlicht"] {
        let template = format!("brands/{brand}/templates/offer_mail.de");
        let text = "{{ offer.number }}";
        save_message(&client, &template, SUBJECT, text)
            .await
            .unwrap();
    }
    let (campaign, operation) = planned(&client, &utility, 3).await;
    rename_campaign(&client, &campaign, "Ganz neu").await;
    let sql = format!("UPDATE phase SET start_date = '{}'", utility.today);
    run_sql(&server, &sql).await;
    client.finished(&operation).await.unwrap();
    until_sent(&client, &campaign, 4).await;
    let mails = server.sink.received();
    let subjects: Vec<String> = mails
        .iter()
        .map(|mail| {
            let mail = MessageParser::default().parse(&mail.data).unwrap();
            mail.subject().unwrap().to_owned()
        })
        .collect();
    assert_eq!(subjects, ["Neu: Ganz neu"; 4]);
}
