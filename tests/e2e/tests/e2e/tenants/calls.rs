//! Calls of methods beside those of [`crate::world::named`] and the lists.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::changes::{launch_by_phone, launch_of};
use crate::world::{World, new_channels};

/// Methods with nothing of a tenant to point to, and nothing to find.
const NOTHING: [(&str, &str); 5] = [
    (
        "anklang.channels.v1.ChannelService/ListChannelPlugins",
        "the operator's, and the same for all",
    ),
    (
        "anklang.channels.v1.ChannelService/GetChannelPlugin",
        "the operator's, and the same for all",
    ),
    (
        "anklang.imports.v1.ImportService/Import",
        "a stream: what its rows point to has a test of its own",
    ),
    (
        "anklang.imports.v1.ImportService/ImportRows",
        "the same rows, read and written by the same code",
    ),
    (
        "anklang.winback.v1.WinbackService/DetectWinback",
        "an operation: what it finds has a test of its own",
    ),
];

/// All methods that are looked at here.
pub fn methods(world: &World) -> BTreeSet<&'static str> {
    let pointing = pointing(world, "").into_iter().map(|(method, ..)| method);
    let looking = looking(world).into_iter().map(|look| look.method);
    let setting = setting().into_iter().map(|(method, _)| method);
    let nothing = NOTHING.into_iter().map(|(method, _)| method);
    let all = pointing.chain(looking).chain(setting).chain(nothing);
    all.collect()
}

pub type Fields = &'static [&'static str];

/// Calls that point to what `linden` has, and the fields they do it in; without any, what is named is not found.
/// `customers` is a selection of customers.
pub fn pointing(w: &World, customers: &str) -> Vec<(&'static str, Value, Fields)> {
    let mut launch = launch_of(w);
    launch.as_object_mut().unwrap().remove("criteria");
    let mut follow_up = launch.clone();
    follow_up
        .as_object_mut()
        .unwrap()
        .remove("deselectedContracts");
    follow_up["outbound"] = json!({"channelRoute": "channelRoutes/first"});
    follow_up["reaction"] = json!({"phase": w.phase, "kind": "REACTION_KIND_NO_ANSWER"});
    launch["selection"] = json!(w.selection);
    launch["deselectedContracts"] = json!([w.contract]);
    let settings = json!({
        "currencyCode": "EUR", "leastOrders": 3, "leastDropPercent": 12.5, "leastKnownDays": 5,
        "reminderDays": 14, "winWindowDays": 60, "workdayCalendar": "workdayCalendars/nord",
        "comparison": {"kind": "WINBACK_COMPARISON_KIND_PRECEDING", "days": 60},
        "exclusions": [{"displayName": "Gold", "selection": customers}],
    });
    let [(_, _), (new_route, route)] = new_channels();
    let calls: [(&'static str, Value, Fields); 11] = [
        (
            "anklang.campaigns.v1.CampaignService/LaunchCampaign",
            launch.clone(),
            &[
                "campaign",
                "deselected_contracts",
                "selection",
                "target_product_version",
            ],
        ),
        (
            "anklang.campaigns.v1.CampaignService/LaunchCampaign",
            follow_up,
            &[
                "campaign",
                "outbound.channel_route",
                "reaction.phase",
                "target_product_version",
            ],
        ),
        (
            "anklang.campaigns.v1.CampaignService/LaunchCampaign",
            launch_by_phone(w),
            &[
                "campaign",
                "outbound.phone.contact_plan",
                "target_product_version",
            ],
        ),
        (
            "anklang.campaigns.v1.DryRunService/DryRunLaunch",
            json!({"launch": launch}),
            &[
                "launch.campaign",
                "launch.deselected_contracts",
                "launch.selection",
                "launch.target_product_version",
            ],
        ),
        (
            "anklang.planning.v1.WorkListService/CreatePlannedContact",
            json!({"plannedContact": {
                "customer": w.customer, "contactPlan": "contactPlans/NORD",
                "contactTime": chrono::Utc::now().to_rfc3339(),
            }}),
            &["planned_contact.contact_plan", "planned_contact.customer"],
        ),
        (
            "anklang.planning.v1.PlannedContactService/GeneratePlannedContacts",
            json!({
                "firstDate": {"year": 2027, "month": 5, "day": 3},
                "lastDate": {"year": 2027, "month": 5, "day": 28},
                "contactPlans": ["contactPlans/NORD"], "customers": [w.customer],
            }),
            &["contact_plans", "customers"],
        ),
        (
            "anklang.winback.v1.WinbackMailService/MailWinbackCases",
            json!({"template": "WINBACK_TEMPLATE_STANDARD", "selection": customers}),
            &["selection"],
        ),
        (
            "anklang.winback.v1.WinbackService/UpdateWinbackSettings",
            json!({"winbackSettings": settings}),
            &[
                "winback_settings.exclusions[0].selection",
                "winback_settings.workday_calendar",
            ],
        ),
        (
            "anklang.winback.v1.WinbackCaseService/NextWinbackCase",
            json!({"worker": "users/zoe", "tile": "WINBACK_TILE_DECLINING", "after": w.winback[0]}),
            &[],
        ),
        (
            "anklang.selections.v1.SelectionService/CreateSelection",
            json!({
                "selection": {"displayName": "Konten"}, "preset": {"preset": w.preset},
                "orgUnit": "orgUnits/north",
            }),
            &["org_unit", "preset.preset"],
        ),
        (
            new_route,
            route,
            &["channel_route.entries[0].channel_account"],
        ),
    ];
    calls.into()
}

/// A call that finds things by itself.
pub struct Look {
    pub method: &'static str,
    pub request: Value,
    /// Names of what `linden` has, which narrow it down.
    pub naming: Value,
    /// Whether there is anything of `linden` in the answer.
    pub finds: fn(&Value) -> bool,
}

fn look(method: &'static str, request: Value, naming: Value, finds: fn(&Value) -> bool) -> Look {
    Look {
        method,
        request,
        naming,
        finds,
    }
}

fn is_filled(list: &Value) -> bool {
    list.as_array().is_some_and(|items| !items.is_empty())
}

/// Whether something with a name is among the items.
fn has_named(list: &Value, field: &str, name: &str) -> bool {
    let mut items = list.as_array().into_iter().flatten();
    items.any(|item| item[field] == name)
}

/// Calls that say what there is, or hand some of it out.
pub fn looking(w: &World) -> Vec<Look> {
    let date = |days: i64| {
        let day = w.utility.day(days).unwrap();
        json!({"year": day.year, "month": day.month, "day": day.day})
    };
    let lately = json!({"firstDate": date(-40), "lastDate": date(2)});
    let may = json!({
        "firstDate": {"year": 2027, "month": 5, "day": 3},
        "lastDate": {"year": 2027, "month": 5, "day": 28}, "validateOnly": true,
    });
    vec![
        look(
            "anklang.audit.v1.AuditService/GetAuditHead",
            json!({}),
            json!({}),
            |head| head["seq"].is_string() || head["unsealedCount"].is_string(),
        ),
        look(
            "anklang.audit.v1.AuditService/ExportAuditEntries",
            json!({}),
            json!({}),
            |part| is_filled(&part["auditEntries"]),
        ),
        look(
            "anklang.campaigns.v1.ApprovalService/GetApprovalPolicy",
            json!({}),
            json!({}),
            |policy| policy["updater"].is_string(),
        ),
        // Every tenant has what the operator has configured, and its own.
        look(
            "anklang.channels.v1.ChannelService/ListChannelAccounts",
            json!({}),
            json!({}),
            |listed| has_named(&listed["channelAccounts"], "name", "channelAccounts/probe"),
        ),
        look(
            "anklang.messages.v1.MessageService/GetContactBudget",
            json!({}),
            json!({}),
            |budget| budget["maxContacts"] == 1_000,
        ),
        look(
            "anklang.offers.v1.OfferService/GetCockpit",
            json!({"expiringWithinDays": 30}),
            json!({}),
            |cockpit| is_filled(&cockpit["rows"]),
        ),
        look(
            "anklang.offers.v1.OfferService/GetOfferNumberRange",
            json!({}),
            json!({}),
            |range| range["nextNumber"] != "1",
        ),
        look(
            "anklang.planning.v1.PlannedContactService/GeneratePlannedContacts",
            may,
            json!({}),
            |operation| operation["response"]["addedCount"].is_string(),
        ),
        look(
            "anklang.planning.v1.WorkListService/AnalyseContacts",
            lately.clone(),
            json!({"contactPlans": ["contactPlans/NORD"], "campaigns": [w.campaign]}),
            |found| found["total"]["plannedCount"].is_string(),
        ),
        look(
            "anklang.planning.v1.WorkListService/ClaimNextContact",
            json!({"worker": "users/zoe"}),
            json!({"contactPlans": ["contactPlans/NORD"]}),
            |answer| answer["contactClaim"].is_object(),
        ),
        look(
            "anklang.planning.v1.WorkListService/WatchWorkList",
            json!({}),
            json!({}),
            |first| is_filled(&first["changes"]),
        ),
        // Every tenant begins with one.
        look(
            "anklang.selections.v1.PresetService/ListPresets",
            json!({}),
            json!({}),
            |listed| has_named(&listed["presets"], "name", "presets/konten"),
        ),
        // What a tenant has imported is no field of another's selections.
        look(
            "anklang.selections.v1.SelectionService/ListSelectionFields",
            json!({"subject": "SUBJECT_CONTRACT"}),
            json!({}),
            |listed| has_named(&listed["fields"], "field", "attributes.solar"),
        ),
        look(
            "anklang.winback.v1.WinbackService/GetWinbackSettings",
            json!({}),
            json!({}),
            |settings| settings["version"].is_number(),
        ),
        look(
            "anklang.winback.v1.WinbackCaseService/AnalyseWinback",
            lately,
            json!({"brands": ["brands/linden"]}),
            |found| found["total"]["openedCount"].is_string(),
        ),
        look(
            "anklang.winback.v1.WinbackCaseService/ExportWinbackCases",
            json!({}),
            json!({}),
            |part| {
                let csv = STANDARD.decode(part["csv"].as_str().unwrap()).unwrap();
                // The headings, and more.
                csv.iter().filter(|byte| **byte == b'\n').count() > 1
            },
        ),
        look(
            "anklang.winback.v1.WinbackCaseService/GetWinbackTiles",
            json!({}),
            json!({}),
            |tiles| {
                let tiles = tiles["tiles"].as_array().unwrap();
                tiles.iter().any(|tile| tile["count"].is_string())
            },
        ),
        look(
            "anklang.winback.v1.WinbackCaseService/NextWinbackCase",
            json!({"worker": "users/zoe", "includeControl": true}),
            json!({"brands": ["brands/linden"]}),
            |answer| answer["winbackCaseClaim"].is_object(),
        ),
    ]
}

/// Calls that make and set a tenant's own, some by ids that `linden` has as well.
pub fn setting() -> Vec<(&'static str, Value)> {
    let criteria = json!({"compare": {"field": "number", "operator": "OPERATOR_IS_SET"}});
    vec![
        (
            "anklang.campaigns.v1.ApprovalService/UpdateApprovalPolicy",
            json!({"approvalPolicy": {"windowHours": 7}}),
        ),
        (
            "anklang.channels.v1.ChannelService/CreateChannelAccount",
            json!({"channelAccountId": "probe", "channelAccount": {
                "plugin": "testing", "config": {"account": "fremd", "token": "geheim"},
            }}),
        ),
        (
            "anklang.customers.v1.CustomerService/CreateSuppression",
            json!({"suppression": {"channel": "mail", "address": "niemand@post.example"}}),
        ),
        (
            "anklang.handover.v1.WebhookService/CreateWebhook",
            json!({"webhook": {
                "displayName": "ERP", "url": "https://1.1.1.1/fremd", "paused": true,
            }}),
        ),
        (
            "anklang.messages.v1.MessageService/UpdateContactBudget",
            json!({"contactBudget": {"maxContacts": 3, "windowDays": 2}}),
        ),
        (
            "anklang.offers.v1.OfferService/UpdateOfferNumberRange",
            json!({"offerNumberRange": {"prefix": "F-", "nextNumber": "500"}}),
        ),
        (
            "anklang.selections.v1.PresetService/CreatePreset",
            json!({"presetId": "konten", "preset": {
                "displayName": "Fremd", "subject": "SUBJECT_CONTRACT", "criteria": criteria,
            }}),
        ),
        (
            "anklang.winback.v1.WinbackService/UpdateWinbackSettings",
            json!({"winbackSettings": {
                "currencyCode": "EUR", "leastOrders": 1, "leastDropPercent": 20.5,
                "leastKnownDays": 1, "reminderDays": 14, "winWindowDays": 60,
                "comparison": {"kind": "WINBACK_COMPARISON_KIND_PRECEDING", "days": 30},
            }}),
        ),
    ]
}
