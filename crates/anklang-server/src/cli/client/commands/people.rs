//! Contacts by people, customers who drift away, and the data that campaigns select from.

use super::{Arg, File, Task, bare, flag, task};

const CONTACT: Arg = bare("contact", "name", "plannedContacts");
const CLAIM: Arg = flag("claim", "claim", "The claim that it was handed out with").required();
const CUSTOMER: Arg = bare("customer", "customer", "customers");
const SELECTION: Arg = bare("selection", "selection", "selections");
const FROM: Arg = flag("from", "first_date", "The first day, e.g. 2027-01-31").required();
const TO: Arg = flag("to", "last_date", "The last day").required();
const PLANS: Arg =
    flag("plan", "contact_plans", "Only of this plan; again for more").of("contactPlans");
const GROUPS: Arg = flag(
    "customer-group",
    "customer_groups",
    "Only of customers of this group; again for more",
);
const AS_OF: Arg = flag(
    "as-of",
    "as_of_date",
    "As of this day; today when not given",
);

pub const TASKS: &[Task] = &[
    task(
        "plans list",
        "anklang.planning.v1.ContactPlanService/ListContactPlans",
        "List contact plans",
        &[],
    ),
    task(
        "plans get",
        "anklang.planning.v1.ContactPlanService/GetContactPlan",
        "Read one contact plan",
        &[bare("plan", "name", "contactPlans")],
    ),
    task(
        "plans generate",
        "anklang.planning.v1.PlannedContactService/GeneratePlannedContacts",
        "Bring the planned contacts in line with their plans",
        &[
            FROM,
            TO,
            PLANS,
            flag(
                "customer",
                "customers",
                "Only of this customer; again for more",
            )
            .of("customers"),
            GROUPS,
            flag(
                "responsible",
                "responsibles",
                "Only of users/… or roles/…; again for more",
            ),
        ],
    ),
    task(
        "contacts list",
        "anklang.planning.v1.PlannedContactService/ListPlannedContacts",
        "List planned contacts",
        &[],
    ),
    task(
        "contacts get",
        "anklang.planning.v1.PlannedContactService/GetPlannedContact",
        "Read one planned contact",
        &[CONTACT],
    ),
    task(
        "contacts next",
        "anklang.planning.v1.WorkListService/ClaimNextContact",
        "Take the next contact from the work list",
        &[
            flag("worker", "worker", "Who asks").of("users").required(),
            flag("skill", "skills", "What the worker knows; again for more"),
            flag("role", "roles", "A role of the worker's; again for more").of("roles"),
            flag(
                "only-mine",
                "only_mine",
                "Only what the worker is responsible for",
            ),
            PLANS,
            GROUPS,
            flag(
                "claim-seconds",
                "claim_seconds",
                "How long it is the worker's",
            ),
        ],
    ),
    task(
        "contacts release",
        "anklang.planning.v1.WorkListService/ReleaseContact",
        "Give a contact back without an outcome",
        &[CONTACT, CLAIM],
    ),
    task(
        "contacts outcome",
        "anklang.planning.v1.WorkListService/RecordOutcome",
        "Record what came of a contact",
        &[
            CONTACT,
            CLAIM,
            flag("class", "outcome_class", "What came of it"),
            flag(
                "outcome",
                "outcome",
                "The same as an outcome of the tenant's own",
            )
            .of("contactOutcomes"),
            flag("note", "note", "What was said"),
            flag("talk-time", "talk_time", "How long it took, e.g. 90s"),
            flag(
                "call-later",
                "call_later_time",
                "When to call again, e.g. 2027-01-31T10:00:00+01:00",
            ),
            flag(
                "escalate-to",
                "escalate_to",
                "The role that goes on with it",
            )
            .of("roles"),
        ],
    ),
    task(
        "winback tiles",
        "anklang.winback.v1.WinbackCaseService/GetWinbackTiles",
        "See the tiles: how many cases there are, and what is at stake",
        &[],
    ),
    task(
        "winback cases list",
        "anklang.winback.v1.WinbackCaseService/ListWinbackCases",
        "List winback cases",
        &[flag("tile", "tile", "Only of this tile")],
    ),
    task(
        "winback cases get",
        "anklang.winback.v1.WinbackCaseService/GetWinbackCase",
        "Read one case",
        &[bare("case", "name", "winbackCases")],
    ),
    task(
        "winback detect",
        "anklang.winback.v1.WinbackService/DetectWinback",
        "Find who drifts away, and open cases",
        &[
            AS_OF,
            flag("trial", "trial", "Open no cases, only tell the figures"),
        ],
    ),
    task(
        "winback explain",
        "anklang.winback.v1.WinbackService/ExplainWinback",
        "See whether a customer drifts away, and why",
        &[CUSTOMER, AS_OF],
    ),
    task(
        "winback analyse",
        "anklang.winback.v1.WinbackCaseService/AnalyseWinback",
        "See what winback did and brought",
        &[
            FROM,
            TO,
            flag("by", "group_by", "Apart for each of these; again for more"),
            flag("worker", "workers", "Only of this worker; again for more").of("users"),
            flag("brand", "brands", "Only of this brand; again for more").of("brands"),
            GROUPS,
        ],
    ),
    task(
        "customers list",
        "anklang.customers.v1.CustomerService/ListCustomers",
        "List customers",
        &[],
    ),
    task(
        "customers get",
        "anklang.customers.v1.CustomerService/GetCustomer",
        "Read one customer",
        &[bare("customer", "name", "customers")],
    ),
    task(
        "customers history",
        "anklang.customers.v1.CustomerService/ListCustomerEvents",
        "List what happened with a customer",
        &[bare("customer", "parent", "customers")],
    ),
    task(
        "customers explain",
        "anklang.reach.v1.ReachService/ExplainCustomer",
        "See in which audiences a customer was, and what would hold a message back now",
        &[
            CUSTOMER,
            flag("campaign", "campaign", "Only in this campaign").of("campaigns"),
        ],
    ),
    task(
        "selections list",
        "anklang.selections.v1.SelectionService/ListSelections",
        "List saved selections",
        &[flag(
            "visible-to",
            "visible_to",
            "Only what this org unit works with",
        )
        .of("orgUnits")],
    ),
    task(
        "selections get",
        "anklang.selections.v1.SelectionService/GetSelection",
        "Read one selection",
        &[bare("selection", "name", "selections")],
    ),
    task(
        "selections count",
        "anklang.selections.v1.SelectionService/PreviewSelection",
        "Count what a selection finds, a saved one or the criteria of a file",
        &[
            SELECTION,
            flag("mode", "mode", "Count, or only estimate, which is quick"),
        ],
    )
    .file(File::Can),
    task(
        "selections preview",
        "anklang.selections.v1.SelectionService/PreviewSelection",
        "Count what a selection finds, and show some of it",
        &[
            SELECTION,
            flag(
                "sample",
                "sample_size",
                "How many are shown; 10 when not given",
            ),
        ],
    )
    .always(&[("sample_size", "10")])
    .file(File::Can),
    task(
        "selections members",
        "anklang.selections.v1.SelectionService/ListSelectionMembers",
        "List all that a selection finds, and what is ticked in it",
        &[SELECTION],
    )
    .file(File::Can),
];
