//! Figures within org units: of the customers of a region, which add up to those of the tenant.

use std::collections::BTreeMap;

use anklang_proto::anklang::messages::v1::MessageState;
use anklang_proto::anklang::winback::v1::WinbackTemplate;
use anklang_testkit::{Options, TestServer};
use chrono::{Datelike, TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::{knows, new_token};
use super::work::{CLAIM_CONTACT, RECORD_OUTCOME, with_customers};
use super::{Tenant, UPDATE_UNIT, call};
use crate::mailing::TENANT;
use crate::raw::Raw;
use crate::utility::{FEW, launch, until_sent, with_utility};
use crate::winback::desk;
use crate::winback::mails::{case_of, execute, mail, ready, until_state};

const TILES: &str = "anklang.winback.v1.WinbackCaseService/GetWinbackTiles";
const ANALYSE_WINBACK: &str = "anklang.winback.v1.WinbackCaseService/AnalyseWinback";
const ANALYSE_CONTACTS: &str = "anklang.planning.v1.WorkListService/AnalyseContacts";
const INFOBOARD: &str = "anklang.campaigns.v1.CampaignService/GetInfoboard";
const CLOSE_CASE: &str = "anklang.winback.v1.WinbackCaseService/CloseWinbackCase";

/// What parts of a list are told apart by.
const APART: [&str; 5] = ["date", "outcomeClass", "phase", "reason", "tile"];

/// Numbers by what they are of.
type Numbers = BTreeMap<String, i64>;

/// The whole numbers of an answer; shares and averages are none.
fn numbers(value: &Value, of: &str, found: &mut Numbers) {
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    if let Some(number) = number {
        *found.entry(of.to_owned()).or_default() += number;
    }
    for (name, part) in value.as_object().into_iter().flatten() {
        if name != "date" {
            numbers(part, &format!("{of}.{name}"), found);
        }
    }
    for part in value.as_array().into_iter().flatten() {
        let apart = APART.iter().filter(|name| !part[**name].is_null());
        let apart: Vec<String> = apart
            .map(|name| part[*name].to_string().replace('"', ""))
            .collect();
        numbers(part, &format!("{of}.{}", apart.join(" ")), found);
    }
}

/// What north and south are told, which must add up to what the whole tenant has.
async fn shares(tenant: &Tenant, method: &str, request: &Value) -> [Numbers; 2] {
    let mut told = Vec::new();
    for caller in [
        tenant.region("north"),
        tenant.region("south"),
        tenant.central(),
    ] {
        let answer = call(&caller, method, request).await.unwrap();
        let mut found = Numbers::new();
        numbers(&answer, "", &mut found);
        told.push(found);
    }
    let [north, south, all] = <[Numbers; 3]>::try_from(told).unwrap();
    let mut sum = north.clone();
    for (of, number) in &south {
        *sum.entry(of.clone()).or_default() += number;
    }
    sum.retain(|_, number| *number != 0);
    assert_eq!(sum, all, "{method}");
    [north, south]
}

fn number(of: &Numbers, what: &str) -> i64 {
    of.get(what).copied().unwrap_or(0)
}

/// From so many days ago to so many days ahead.
fn range(days: i64) -> Value {
    let day = |days: i64| {
        let day = (Utc::now() + TimeDelta::days(days)).date_naive();
        json!({"year": day.year(), "month": day.month(), "day": day.day()})
    };
    json!({"firstDate": day(-days), "lastDate": day(days)})
}

#[tokio::test]
async fn regions_see_winback_of_their_customers() {
    let tenant = Tenant::start().await;
    desk::shop(&tenant.server).await;
    tenant.tree().await;
    let mut cases = Vec::new();
    for (i, unit) in ["kiel", "kiel", "husum", "ulm", "ulm"].iter().enumerate() {
        let customer = format!("K{}", i + 1);
        tenant.give(&customer, unit).await;
        cases.push(desk::open(&tenant.server, &customer, &[]).await);
    }
    let close = json!({
        "name": cases[0], "worker": "users/anna", "reason": "NO_INTEREST_REASON_PRICE",
    });
    call(&tenant.agency("kiel"), CLOSE_CASE, &close)
        .await
        .unwrap();

    let [north, south] = shares(&tenant, TILES, &json!({})).await;
    let declining = ".tiles.WINBACK_TILE_DECLINING";
    for (of, count, at_stake, change) in [(&north, 2, 200, -1), (&south, 2, 200, 0)] {
        assert_eq!(number(of, &format!("{declining}.count")), count);
        assert_eq!(number(of, &format!("{declining}.atStake.units")), at_stake);
        assert_eq!(number(of, &format!("{declining}.countChange")), change);
    }
    let no_interest = ".tiles.WINBACK_TILE_NO_INTEREST.count";
    assert_eq!(
        (number(&north, no_interest), number(&south, no_interest)),
        (1, 0)
    );

    let mut request = range(60);
    request["groupBy"] = json!(["WINBACK_DIMENSION_REASON"]);
    let [north, south] = shares(&tenant, ANALYSE_WINBACK, &request).await;
    let counts =
        |of: &Numbers| ["opened", "noInterest"].map(|w| number(of, &format!(".total.{w}Count")));
    assert_eq!((counts(&north), counts(&south)), ([3, 1], [2, 0]));
    // An agency sees no more than its own.
    let kiel = call(&tenant.agency("kiel"), ANALYSE_WINBACK, &request).await;
    assert_eq!(kiel.unwrap()["total"]["openedCount"], json!("2"));
}

#[tokio::test]
async fn regions_see_what_was_mailed_and_not_what_it_cost() {
    let (own, region) = (new_token(), new_token());
    let server = TestServer::start_with(Options {
        account: "cost_per_message = '0.0150 EUR'".into(),
        config: format!(
            "[auth]\nmode = \"token\"\n{}{}org_units = ['north']\n",
            knows("own", &own, &["*"], &["central"]),
            knows("region", &region, &[TENANT], &["region"])
        ),
        token: Some(own.clone()),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, 2, 1).await;
    let raw = Raw::connect(server.addr).await;
    let (central, region) = (raw.bearing(&own), raw.bearing(&region));
    for code in ["north", "south"] {
        let unit = json!({"code": code, "displayName": code});
        let request = json!({"orgUnit": unit, "allowMissing": true});
        let made = central.call(Some(TENANT), UPDATE_UNIT, &request).await;
        made.unwrap();
    }
    let apart =
        "UPDATE customer SET org_unit_code = CASE number WHEN '0000' THEN 'north' ELSE 'south' END";
    execute(&server, apart).await;
    for number in ["0000", "0001"] {
        let case = case_of(&server, number).await;
        let mailed = mail(&client, &case, WinbackTemplate::Standard).await;
        until_state(&client, &mailed.unwrap().message, MessageState::Sent).await;
    }

    let told = async |caller: &Raw| {
        let answer = caller.call(Some(TENANT), ANALYSE_WINBACK, &range(60)).await;
        let total = answer.unwrap()["total"].clone();
        ["sentCount", "unknownCostCount", "cost"].map(|figure| total[figure].clone())
    };
    let cost = json!({"currencyCode": "EUR", "nanos": 30_000_000});
    assert_eq!(told(&central).await, [json!("2"), json!(null), cost]);
    let none = json!({"currencyCode": "EUR"});
    assert_eq!(told(&region).await, [json!("1"), json!("1"), none]);
}

#[tokio::test]
async fn regions_see_how_contacts_with_their_customers_went() {
    let tenant = with_customers().await;
    let mut contacts = Vec::new();
    for customer in ["K1", "K2", "H1", "U1"] {
        contacts.push(tenant.contact(customer).await);
    }
    for (unit, contact) in [("kiel", &contacts[0]), ("ulm", &contacts[3])] {
        let agency = tenant.agency(unit);
        let claim = json!({"name": contact, "worker": "users/anna"});
        let claim = call(&agency, CLAIM_CONTACT, &claim).await.unwrap();
        let outcome = json!({
            "name": contact, "claim": claim["claim"], "outcomeClass": "OUTCOME_CLASS_DONE",
        });
        call(&agency, RECORD_OUTCOME, &outcome).await.unwrap();
    }
    let mut request = range(2);
    request["groupBy"] = json!(["CONTACT_DIMENSION_OUTCOME_CLASS"]);
    let [north, south] = shares(&tenant, ANALYSE_CONTACTS, &request).await;
    let counts = |of: &Numbers| {
        ["planned", "open", "done", "attempt"].map(|w| number(of, &format!(".total.{w}Count")))
    };
    assert_eq!(counts(&north), [3, 2, 1, 1]);
    assert_eq!(counts(&south), [1, 0, 1, 1]);
}

#[tokio::test]
async fn regions_see_what_came_of_a_campaign_with_their_customers() {
    let tenant = Tenant::start().await;
    let (client, utility) = with_utility(&tenant.server, FEW).await;
    let launched = launch(&client, utility.launch()).await;
    let campaign = launched.campaign.unwrap().name;
    until_sent(&client, &campaign, 4).await;
    tenant.tree().await;
    let database = tenant.server.database.connect().await.unwrap();
    let apart = "UPDATE customer SET org_unit_code = CASE WHEN id = (
            SELECT customer_id FROM audience_member WHERE exclusion IS NULL ORDER BY seq LIMIT 1)
        THEN 'kiel' ELSE 'ulm' END";
    database.batch_execute(apart).await.unwrap();

    let request = json!({"name": campaign});
    let told = shares(&tenant, INFOBOARD, &request).await;
    for figure in ["offers.made", "messages.sent", "audience.members"] {
        let figures = told
            .each_ref()
            .map(|of| number(of, &format!(".total.{figure}")));
        assert!(figures.iter().all(|n| *n > 0), "{figure}: {figures:?}");
        assert_eq!(figures.iter().sum::<i64>(), 4, "{figure}");
    }
}
