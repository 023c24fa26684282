//! Calls that name what a [`World`] has, one for each method.

use serde_json::{Value, json};

use super::{WEBHOOK, World};
use crate::utility::TARGET;

/// Calls that make an account and a route.
pub fn new_channels() -> [(&'static str, Value); 2] {
    [
        (
            "anklang.channels.v1.ChannelService/CreateChannelAccount",
            json!({"channelAccountId": "neu", "channelAccount": {
                "plugin": "testing", "config": {"account": "neu", "token": "geheim"},
            }}),
        ),
        (
            "anklang.channels.v1.ChannelService/CreateChannelRoute",
            json!({"channelRouteId": "neu", "channelRoute": {
                "channel": "testing", "entries": [{"channelAccount": "channelAccounts/probe"}],
            }}),
        ),
    ]
}

/// Calls that name something of a tenant, in an order in which the tenant itself can make them all.
pub fn named(w: &World) -> Vec<(&'static str, Value)> {
    let date = |days: i64| {
        let day = w.utility.day(days).unwrap();
        json!({"year": day.year, "month": day.month, "day": day.day})
    };
    let money = json!({"currencyCode": "EUR", "units": "1"});
    let criteria = json!({"compare": {"field": "number", "operator": "OPERATOR_IS_SET"}});
    let address = json!({"channel": "mail", "address": "niemand@post.example"});
    let customer = json!({"number": "K0001", "kind": "CUSTOMER_KIND_PERSON", "lastName": "Neu"});
    let contract = json!({
        "number": "V0001", "customer": w.customer, "brand": "brands/linden", "division": "gas",
    });
    let order = json!({
        "number": "O1", "customer": w.customer, "orderTime": "2025-05-01T10:00:00Z",
        "currencyCode": "EUR",
    });
    let product = json!({
        "number": "S-BASIS", "displayName": "Neu", "division": "electricity",
        "brand": "brands/linden",
    });
    let version = json!({
        "name": TARGET, "code": "NEXT", "displayName": "Neu", "validFrom": date(1),
        "basePricePerYear": money, "unitPricePerKwh": money,
    });
    let brand = json!({"code": "linden", "displayName": "Neu", "senderEmail": "a@b.example"});
    let template = "brands/linden/templates/spring_mail.de";
    let content = json!({"subject": "Neu", "textBody": "Neu"});
    let pool = "brands/linden/voucherPools/sommer";
    let mut calls = crate::work_list::named(&w.work);
    calls.extend(crate::winback::desk::named(&w.cases));
    calls.extend(vec![
        (
            "anklang.brands.v1.BrandService/GetBrand",
            json!({"name": "brands/linden"}),
        ),
        (
            "anklang.brands.v1.BrandService/UpdateBrand",
            json!({"brand": brand}),
        ),
        (
            "anklang.products.v1.ProductService/GetProduct",
            json!({"name": "products/S-BASIS"}),
        ),
        (
            "anklang.products.v1.ProductService/UpdateProduct",
            json!({"product": product}),
        ),
        (
            "anklang.products.v1.ProductService/GetProductVersion",
            json!({"name": TARGET}),
        ),
        (
            "anklang.products.v1.ProductService/ListProductVersions",
            json!({"parent": "products/S-OEKO"}),
        ),
        (
            "anklang.products.v1.ProductService/UpdateProductVersion",
            json!({"productVersion": version}),
        ),
        (
            "anklang.customers.v1.CustomerService/GetCustomer",
            json!({"name": w.customer}),
        ),
        (
            "anklang.customers.v1.CustomerService/ListCustomerEvents",
            json!({"parent": w.customer}),
        ),
        (
            "anklang.customers.v1.CustomerService/GetSuppression",
            address.clone(),
        ),
        (
            "anklang.contracts.v1.ContractService/GetContract",
            json!({"name": w.contract}),
        ),
        (
            "anklang.orders.v1.OrderService/GetOrder",
            json!({"name": "orders/O1"}),
        ),
        (
            "anklang.orders.v1.OrderService/UpdateOrder",
            json!({"order": order}),
        ),
        (
            "anklang.selections.v1.SelectionService/GetSelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/PreviewSelection",
            json!({"selection": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/CopySelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/ShareSelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.org.v1.OrgUnitService/GetOrgUnit",
            json!({"name": "orgUnits/south"}),
        ),
        (
            "anklang.org.v1.OrgUnitService/UpdateOrgUnit",
            json!({"orgUnit": {"code": "south", "displayName": "Süd"}}),
        ),
        (
            "anklang.org.v1.OrgUnitService/DeleteOrgUnit",
            json!({"name": "orgUnits/south"}),
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionVersions",
            json!({"parent": w.selection}),
        ),
        (
            "anklang.planning.v1.PlannedContactService/GetPlannedContact",
            json!({"name": w.contact}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetContactPlan",
            json!({"name": "contactPlans/NORD"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdateContactPlan",
            json!({"contactPlan": {
                "code": "SUED", "displayName": "Neu", "validFromDate": {"year": 2027, "month": 1, "day": 1},
                "recurrence": {"weekly": {"weekdays": ["mon"]}},
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeleteContactPlan",
            json!({"name": "contactPlans/SUED"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetPlanEntry",
            json!({"name": "contactPlans/NORD/entries/0900-K0001"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListPlanEntries",
            json!({"parent": "contactPlans/NORD"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdatePlanEntry",
            json!({"planEntry": {"name": "contactPlans/NORD/entries/1000-K0001", "priority": 3}}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeletePlanEntry",
            json!({"name": "contactPlans/NORD/entries/1000-K0001"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetPlanException",
            json!({"name": "contactPlans/NORD/exceptions/2027-03-02"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListPlanExceptions",
            json!({"parent": "contactPlans/NORD"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdatePlanException",
            json!({"planException": {
                "name": "contactPlans/NORD/exceptions/2027-03-09", "duplicatesPermitted": true,
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeletePlanException",
            json!({"name": "contactPlans/NORD/exceptions/2027-03-09"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetInactivePeriod",
            json!({"name": "customers/K0001/inactivePeriods/contact"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListInactivePeriods",
            json!({"parent": "customers/K0001"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdateInactivePeriod",
            json!({"inactivePeriod": {
                "name": "customers/K0001/inactivePeriods/delivery", "dayType": "DAY_TYPE_DELIVERY",
                "firstDate": {"year": 2027, "month": 1, "day": 1},
                "lastDate": {"year": 2027, "month": 1, "day": 2},
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeleteInactivePeriod",
            json!({"name": "customers/K0001/inactivePeriods/delivery"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetWorkdayCalendar",
            json!({"name": "workdayCalendars/nord"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdateWorkdayCalendar",
            json!({"workdayCalendar": {
                "name": "workdayCalendars/sued", "displayName": "Neu", "workdays": ["mon"],
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeleteWorkdayCalendar",
            json!({"name": "workdayCalendars/sued"}),
        ),
        (
            "anklang.selections.v1.SelectionService/GetSelectionVersion",
            json!({"name": format!("{}/versions/1", w.selection)}),
        ),
        (
            "anklang.selections.v1.SelectionService/RestoreSelectionVersion",
            json!({"name": format!("{}/versions/1", w.selection)}),
        ),
        (
            "anklang.selections.v1.SelectionService/UpdateSelectionTicks",
            json!({"name": w.selection, "exclude": [w.contract]}),
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionTicks",
            json!({"parent": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionMembers",
            json!({"selection": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/ExplainSelection",
            json!({"selection": w.selection, "member": w.contract}),
        ),
        (
            "anklang.selections.v1.PresetService/GetPreset",
            json!({"name": w.preset}),
        ),
        (
            "anklang.selections.v1.PresetService/UpdatePreset",
            json!({"preset": {
                "name": w.preset, "displayName": "Neu", "subject": "SUBJECT_CONTRACT",
                "criteria": criteria,
            }}),
        ),
        (
            "anklang.selections.v1.PresetService/DeletePreset",
            json!({"name": w.preset}),
        ),
        (
            "anklang.selections.v1.SelectionService/UpdateSelection",
            json!({"selection": {
                "name": w.selection, "displayName": "Neu", "subject": "SUBJECT_CONTRACT",
                "criteria": criteria,
            }}),
        ),
        (
            "anklang.templates.v1.TemplateService/GetTemplate",
            json!({"name": template}),
        ),
        (
            "anklang.templates.v1.TemplateService/UpdateTemplate",
            json!({"template": {"name": template, "message": content}, "allowMissing": true}),
        ),
        (
            "anklang.templates.v1.TemplateService/PreviewTemplate",
            json!({"name": template, "message": content, "contract": w.contract}),
        ),
        (
            "anklang.templates.v1.TemplateService/ListTemplates",
            json!({"parent": "brands/linden"}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/GetCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/UpdateCampaign",
            json!({"campaign": {"name": w.campaign, "displayName": "Neu"}}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/GetPhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/UpdatePhase",
            json!({"phase": {"name": w.phase, "displayName": "Neu"}}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ListPhases",
            json!({"parent": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ListAudienceMembers",
            json!({"parent": w.phase}),
        ),
        (
            "anklang.campaigns.v1.DryRunService/ListDryRunCandidates",
            json!({"parent": w.dry_run}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/GetInfoboard",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/PauseCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ResumeCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.ApprovalService/GetLaunchApproval",
            json!({"phase": w.phase}),
        ),
        (
            "anklang.campaigns.v1.ApprovalService/ApproveLaunch",
            json!({"phase": w.phase, "hash": "0".repeat(64)}),
        ),
        (
            "anklang.campaigns.v1.ApprovalService/RefuseLaunch",
            json!({"phase": w.phase, "reason": "Zu viele"}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/PausePhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ResumePhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ReschedulePhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/CancelPhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/CancelCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.offers.v1.OfferService/CreateOffer",
            json!({"contract": w.contract, "productVersion": TARGET, "validUntilDate": date(3)}),
        ),
        (
            "anklang.offers.v1.OfferService/GetOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.offers.v1.OfferService/DownloadOfferDocument",
            json!({"name": w.offer}),
        ),
        (
            "anklang.documents.v1.DocumentService/ListDocuments",
            json!({"parent": w.outbound}),
        ),
        (
            "anklang.documents.v1.DocumentService/GetBundle",
            json!({"name": format!("{}/bundle", w.outbound)}),
        ),
        (
            "anklang.documents.v1.DocumentService/MakeBundle",
            json!({"parent": w.outbound}),
        ),
        (
            "anklang.documents.v1.DocumentService/DownloadFile",
            json!({"name": format!("{}/index", w.outbound)}),
        ),
        (
            "anklang.offers.v1.OfferService/AcceptOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.offers.v1.OfferService/RejectOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.offers.v1.OfferService/WithdrawOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.messages.v1.MessageService/GetMessage",
            json!({"name": w.message}),
        ),
        (
            "anklang.inbound.v1.InboundService/GetInboundMessage",
            json!({"name": w.inbound}),
        ),
        (
            "anklang.messages.v1.MessageService/LookupMessages",
            json!({"names": [w.message]}),
        ),
        (
            "anklang.messages.v1.MessageService/BatchResolveMessages",
            json!({"names": [w.message], "resolution": "MESSAGE_RESOLUTION_CANCEL"}),
        ),
        (
            "anklang.handover.v1.WebhookService/GetWebhook",
            json!({"name": w.webhook}),
        ),
        (
            "anklang.handover.v1.WebhookService/UpdateWebhook",
            json!({"webhook": {
                "name": w.webhook, "displayName": "Neu", "url": WEBHOOK, "paused": true,
            }}),
        ),
        (
            "anklang.handover.v1.WebhookService/RotateWebhookSecret",
            json!({"name": w.webhook}),
        ),
        (
            "anklang.handover.v1.WebhookService/SendTestEvent",
            json!({"name": w.webhook}),
        ),
        (
            "anklang.handover.v1.DeliveryService/ListDeliveries",
            json!({"parent": w.webhook}),
        ),
        (
            "anklang.handover.v1.DeliveryService/GetDelivery",
            json!({"name": w.delivery}),
        ),
        (
            "anklang.handover.v1.DeliveryService/ReplayDelivery",
            json!({"name": w.delivery}),
        ),
        (
            "anklang.handover.v1.DeliveryService/ReplayDeadDeliveries",
            json!({"parent": w.webhook}),
        ),
        (
            "anklang.channels.v1.ChannelService/GetChannelAccount",
            json!({"name": "channelAccounts/probe"}),
        ),
        (
            "anklang.channels.v1.ChannelService/UpdateChannelAccount",
            json!({"channelAccount": {
                "name": "channelAccounts/probe", "plugin": "testing", "displayName": "Neu",
                "config": {"account": "neu"},
            }}),
        ),
        (
            "anklang.channels.v1.ChannelService/TestChannelAccount",
            json!({"name": "channelAccounts/probe", "recipient": "wer"}),
        ),
        (
            "anklang.channels.v1.ChannelService/GetChannelRoute",
            json!({"name": "channelRoutes/first"}),
        ),
        (
            "anklang.channels.v1.ChannelService/UpdateChannelRoute",
            json!({"channelRoute": {
                "name": "channelRoutes/first", "channel": "testing", "displayName": "Neu",
                "entries": [{"channelAccount": "channelAccounts/probe", "share": 3}],
            }}),
        ),
        (
            "anklang.channels.v1.ChannelService/DeleteChannelRoute",
            json!({"name": "channelRoutes/second"}),
        ),
        (
            "anklang.channels.v1.ChannelService/DeleteChannelAccount",
            json!({"name": "channelAccounts/spare"}),
        ),
        (
            "anklang.messages.v1.MessageService/ResolveMessage",
            json!({"name": w.message, "resolution": "MESSAGE_RESOLUTION_RESEND"}),
        ),
        (
            "anklang.reach.v1.ReachService/GetReach",
            json!({"campaign": w.campaign}),
        ),
        (
            "anklang.reach.v1.ReachService/ExportReach",
            json!({"campaign": w.campaign}),
        ),
        (
            "anklang.reach.v1.ReachService/ExplainCustomer",
            json!({"customer": w.customer, "campaign": w.campaign}),
        ),
        (
            "anklang.operations.v1.OperationProgressService/WatchOperation",
            json!({"name": w.operation}),
        ),
        (
            "anklang.winback.v1.WinbackService/GetWinbackDetection",
            json!({"name": w.detection}),
        ),
        (
            "anklang.winback.v1.WinbackService/ExplainWinback",
            json!({"customer": w.customer}),
        ),
        (
            "google.longrunning.Operations/GetOperation",
            json!({"name": w.operation}),
        ),
        (
            "google.longrunning.Operations/WaitOperation",
            json!({"name": w.operation, "timeout": "0s"}),
        ),
        (
            "google.longrunning.Operations/CancelOperation",
            json!({"name": w.operation}),
        ),
        (
            "google.longrunning.Operations/DeleteOperation",
            json!({"name": w.operation}),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/GetWinbackSender",
            json!({"name": "winbackSenders/linden"}),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/UpdateWinbackSender",
            json!({"winbackSender": {
                "name": "winbackSenders/linden", "channelAccount": "channelAccounts/mail",
                "purpose": "marketing", "senderName": "Neu",
            }}),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/PreviewWinbackMail",
            json!({
                "customer": w.customer, "template": "WINBACK_TEMPLATE_STANDARD",
                "brand": "brands/linden",
            }),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/UpdateVoucherPool",
            json!({"voucherPool": {"name": pool, "displayName": "Neu"}}),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/GetVoucherPool",
            json!({"name": pool}),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/ListVoucherPools",
            json!({"parent": "brands/linden"}),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/GenerateVouchers",
            json!({"name": pool, "count": 3}),
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/ListVouchers",
            json!({"parent": pool}),
        ),
        (
            "anklang.winback.v1.WinbackMailService/MailWinbackCase",
            json!({
                "name": w.winback[0], "template": "WINBACK_TEMPLATE_STANDARD",
                "worker": "users/anna",
            }),
        ),
        (
            "anklang.winback.v1.WinbackMailService/ReportWinbackMailing",
            json!({"name": w.winback[1]}),
        ),
        // Last: these change what the others name.
        (
            "anklang.customers.v1.CustomerService/UpdateCustomer",
            json!({"customer": customer}),
        ),
        (
            "anklang.contracts.v1.ContractService/UpdateContract",
            json!({"contract": contract}),
        ),
        (
            "anklang.customers.v1.CustomerService/DeleteSuppression",
            address,
        ),
        (
            "anklang.selections.v1.SelectionService/DeleteSelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.handover.v1.WebhookService/DeleteWebhook",
            json!({"name": w.webhook}),
        ),
    ]);
    calls.extend(crate::privacy::named(w));
    calls
}
