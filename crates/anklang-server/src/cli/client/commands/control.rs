//! What is watched over: approvals of launches, data of persons, the audit log.

use super::{AUDIT_LIST, Arg, Task, bare, flag, task};

const PHASE: Arg = Arg {
    name: "phase",
    field: "phase",
    help: "The phase in full: campaigns/…/phases/…",
    bare: true,
    required: true,
    of: None,
};
const CUSTOMER: Arg = bare("customer", "customer", "customers");
const POLICY_ETAG: Arg = flag(
    "etag",
    "approval_policy.etag",
    "Only if it is still as it was read with this etag",
);

pub const TASKS: &[Task] = &[
    task(
        "approvals get",
        "anklang.campaigns.v1.ApprovalService/GetLaunchApproval",
        "See what a launch that needs an approval has to send, and its hash",
        &[PHASE],
    ),
    task(
        "approvals approve",
        "anklang.campaigns.v1.ApprovalService/ApproveLaunch",
        "Approve somebody else's launch: it goes out",
        &[
            PHASE,
            flag("hash", "hash", "What is approved: the hash that get shows").required(),
            flag("remark", "remark", "A remark"),
        ],
    ),
    task(
        "approvals refuse",
        "anklang.campaigns.v1.ApprovalService/RefuseLaunch",
        "Refuse somebody else's launch: its phase is cancelled",
        &[PHASE, flag("reason", "reason", "Why").required()],
    ),
    task(
        "approvals policy get",
        "anklang.campaigns.v1.ApprovalService/GetApprovalPolicy",
        "See which launches need an approval",
        &[],
    ),
    task(
        "approvals policy set",
        "anklang.campaigns.v1.ApprovalService/UpdateApprovalPolicy",
        "Let launches over a size need an approval",
        &[
            flag(
                "members-over",
                "approval_policy.members_over",
                "Those with more members need one; 0 for each",
            )
            .required(),
            flag(
                "window-hours",
                "approval_policy.window_hours",
                "Launches and mailings of one caller count together for so many hours; 20 unless given",
            ),
            POLICY_ETAG,
        ],
    )
    .always(&[("update_mask", "membersOver,windowHours")]),
    task(
        "approvals policy clear",
        "anklang.campaigns.v1.ApprovalService/UpdateApprovalPolicy",
        "Let no launch need an approval any more",
        &[POLICY_ETAG],
    )
    .always(&[
        ("approval_policy.name", "approvalPolicy"),
        ("update_mask", "membersOver"),
    ]),
    task(
        "privacy export",
        "anklang.privacy.v1.PrivacyService/ExportPersonalData",
        "Gather all that is stored about a customer into a file",
        &[CUSTOMER],
    ),
    task(
        "privacy erase",
        "anklang.privacy.v1.PrivacyService/ErasePersonalData",
        "Erase a customer's data for good",
        &[
            CUSTOMER,
            flag("reason", "reason", "Why: the grounds of GDPR, article 17").required(),
        ],
    ),
    task(
        "privacy requests list",
        "anklang.privacy.v1.PrivacyService/ListPrivacyRequests",
        "List exports and erasures, the newest first",
        &[],
    ),
    task(
        AUDIT_LIST,
        "anklang.audit.v1.AuditService/ListAuditEntries",
        "List entries of the audit log, sealed or not, the newest first",
        &[flag(
            "resource",
            "resource",
            "Only those that name this resource, e.g. customers/4711",
        )],
    ),
];
