//! Campaigns, what they send and what comes back, and the work behind them.

use super::{Arg, File, Task, bare, flag, task};

const CAMPAIGN: Arg = bare("campaign", "name", "campaigns");
const OPERATION: Arg = bare("operation", "name", "operations");
const OFFER: Arg = bare("offer", "name", "offers");
const ACCOUNT: Arg = bare("account", "name", "channelAccounts");
const CHANGED_ACCOUNT: Arg = bare("account", "channel_account.name", "channelAccounts");
const OF_CAMPAIGN: Arg = flag("campaign", "campaign", "Only of this campaign").of("campaigns");
const OF_CUSTOMER: Arg = flag("customer", "customer", "Only of this customer").of("customers");
const SOURCE: Arg = flag(
    "source",
    "source",
    "Where the answer comes from, e.g. phone",
);

pub const TASKS: &[Task] = &[
    task(
        "campaigns list",
        "anklang.campaigns.v1.CampaignService/ListCampaigns",
        "List campaigns",
        &[],
    ),
    task(
        "campaigns get",
        "anklang.campaigns.v1.CampaignService/GetCampaign",
        "Read one campaign",
        &[CAMPAIGN],
    ),
    task(
        "campaigns phases",
        "anklang.campaigns.v1.CampaignService/ListPhases",
        "List the phases of a campaign",
        &[bare("campaign", "parent", "campaigns")],
    ),
    task(
        "campaigns launch",
        "anklang.campaigns.v1.CampaignService/LaunchCampaign",
        "Launch a campaign, and follow the launch to its end",
        &[],
    )
    .file(File::Must)
    .dry_run("anklang.campaigns.v1.DryRunService/DryRunLaunch", "launch"),
    task(
        "campaigns pause",
        "anklang.campaigns.v1.CampaignService/PauseCampaign",
        "Let a campaign send nothing for now",
        &[CAMPAIGN],
    ),
    task(
        "campaigns resume",
        "anklang.campaigns.v1.CampaignService/ResumeCampaign",
        "Let a paused campaign go on",
        &[CAMPAIGN],
    ),
    task(
        "campaigns cancel",
        "anklang.campaigns.v1.CampaignService/CancelCampaign",
        "End a campaign: what is not sent is not sent, open offers are withdrawn",
        &[CAMPAIGN],
    ),
    task(
        "campaigns rename",
        "anklang.campaigns.v1.CampaignService/UpdateCampaign",
        "Give a campaign another name; approvals of what it has left to send are void then",
        &[
            bare("campaign", "campaign.name", "campaigns"),
            flag("title", "campaign.display_name", "What people call it").required(),
        ],
    )
    .always(&[("update_mask", "displayName")]),
    task(
        "campaigns infoboard",
        "anklang.campaigns.v1.CampaignService/GetInfoboard",
        "See a campaign in figures, by phase and day",
        &[CAMPAIGN],
    ),
    task(
        "campaigns reach",
        "anklang.reach.v1.ReachService/GetReach",
        "See whom a campaign reached, and why others not",
        &[bare("campaign", "campaign", "campaigns")],
    ),
    task(
        "operations list",
        "google.longrunning.Operations/ListOperations",
        "List long work, the newest first",
        &[],
    ),
    task(
        "operations get",
        "google.longrunning.Operations/GetOperation",
        "See how far an operation is, and what came of it",
        &[OPERATION],
    ),
    task(
        "operations watch",
        "anklang.operations.v1.OperationProgressService/WatchOperation",
        "Follow an operation to its end. Exit code: 0 it succeeded, 1 it did not",
        &[OPERATION],
    ),
    task(
        "operations cancel",
        "google.longrunning.Operations/CancelOperation",
        "Ask an operation to stop",
        &[OPERATION],
    ),
    task(
        "offers list",
        "anklang.offers.v1.OfferService/ListOffers",
        "List offers",
        &[
            OF_CAMPAIGN,
            OF_CUSTOMER,
            flag("contract", "contract", "Only of this contract").of("contracts"),
            flag("state", "states", "Only in this state; again for more"),
        ],
    ),
    task(
        "offers get",
        "anklang.offers.v1.OfferService/GetOffer",
        "Read one offer",
        &[OFFER],
    ),
    task(
        "offers accept",
        "anklang.offers.v1.OfferService/AcceptOffer",
        "Record that a customer accepts",
        &[OFFER, SOURCE],
    ),
    task(
        "offers reject",
        "anklang.offers.v1.OfferService/RejectOffer",
        "Record that a customer rejects",
        &[
            OFFER,
            SOURCE,
            flag("reason", "reason", "Why, in words"),
            flag("reason-code", "reason_code", "Why, of the known reasons"),
        ],
    ),
    task(
        "offers withdraw",
        "anklang.offers.v1.OfferService/WithdrawOffer",
        "Take an open offer back",
        &[OFFER, flag("reason", "reason", "Why, in words")],
    ),
    task(
        "cockpit",
        "anklang.offers.v1.OfferService/GetCockpit",
        "See the open offers of all campaigns in figures",
        &[flag(
            "expiring-within-days",
            "expiring_within_days",
            "What counts as expiring soon",
        )],
    ),
    task(
        "messages list",
        "anklang.messages.v1.MessageService/ListMessages",
        "List messages",
        &[
            OF_CAMPAIGN,
            OF_CUSTOMER,
            flag("state", "states", "Only in this state; again for more"),
        ],
    ),
    task(
        "messages get",
        "anklang.messages.v1.MessageService/GetMessage",
        "Read one message with its attempts and what was reported of it",
        &[bare("message", "name", "messages")],
    ),
    task(
        "messages why",
        "anklang.reach.v1.ReachService/ExplainCustomer",
        "See why a customer got messages or none, and what would hold one back now",
        &[bare("customer", "customer", "customers"), OF_CAMPAIGN],
    ),
    task(
        "channels accounts list",
        "anklang.channels.v1.ChannelService/ListChannelAccounts",
        "List channel accounts",
        &[],
    ),
    task(
        "channels accounts get",
        "anklang.channels.v1.ChannelService/GetChannelAccount",
        "Read one channel account",
        &[ACCOUNT],
    ),
    task(
        "channels accounts pause",
        "anklang.channels.v1.ChannelService/UpdateChannelAccount",
        "Let an account send nothing for now",
        &[CHANGED_ACCOUNT],
    )
    .always(&[
        ("channel_account.paused", "true"),
        ("update_mask", "paused"),
    ]),
    task(
        "channels accounts resume",
        "anklang.channels.v1.ChannelService/UpdateChannelAccount",
        "Let a paused account go on",
        &[CHANGED_ACCOUNT],
    )
    .always(&[("update_mask", "paused")]),
    task(
        "channels accounts test",
        "anklang.channels.v1.ChannelService/TestChannelAccount",
        "Send one message to try an account",
        &[
            ACCOUNT,
            flag("recipient", "recipient", "The address it goes to").required(),
            flag("brand", "brand", "The brand it comes from").of("brands"),
            flag("subject", "subject", "Its subject"),
            flag("text", "text", "Its text"),
        ],
    ),
    task(
        "channels plugins",
        "anklang.channels.v1.ChannelService/ListChannelPlugins",
        "List the channel plugins of the server",
        &[],
    ),
];
