//! A stream filters in memory, a list in the database: both take the same.

use std::collections::BTreeSet;

use anklang_domain::Violations;
use anklang_store::planning::contact;
use anklang_store::planning::work::watch::View;
use uuid::Uuid;

use super::{Dice, Lab, customer};

/// Comparisons of each field with values that some contacts have.
const COMPARISONS: [&str; 77] = [
    "source = MANUAL",
    "source != PLAN",
    "source:*",
    "contact_plan = contactPlans/P",
    "contact_plan != contactPlans/P",
    "contact_plan:*",
    "customer = customers/K1",
    "customer != customers/K1",
    "plan_date = 2026-11-02",
    "contact_date > 2026-11-02",
    "contact_date <= 2026-11-02",
    "contact_date != 2026-11-02",
    "contact_time < 2026-11-02T10:00:00Z",
    "contact_time >= 2026-11-02T10:00:00Z",
    "contact_time = 2026-11-02T10:00:00.000000999Z",
    "next_contact_time:*",
    "next_contact_time > 2026-11-02T10:00:00Z",
    "next_contact_time != 2026-11-02T10:00:00Z",
    "delivery_date:*",
    "delivery_date = 2026-11-05",
    "delivery_date < 2026-11-06",
    "delivery_moved:*",
    "delivery_moved = INACTIVE",
    "delivery_moved != NO_WORKDAY",
    "state = OPEN",
    "state != DONE",
    "state = PLANNED_CONTACT_STATE_WAITING",
    "outcome_class = BUSY",
    "outcome_class != BUSY",
    "outcome_class:*",
    "outcome = \"\"",
    "outcome = contactOutcomes/band",
    "outcome:*",
    "outcome:BAND",
    "outcome > contactOutcomes",
    "attempt_count = 0",
    "attempt_count >= 1",
    "attempt_count < 1.5",
    "responsible = users/anna",
    "responsible = \"\"",
    "responsible:ROLES",
    "responsible:\"%\"",
    "responsible < users/b",
    "responsible >= roles/",
    "priority = 3",
    "priority > -1",
    "priority <= 0.0",
    "priority != 3",
    "pinned = true",
    "pinned = false",
    "moved = true",
    "moved != true",
    "worked_on = true",
    "claimed_by:*",
    "claimed_by = users/anna",
    "claimed_by != users/anna",
    "claimed_by:BERT",
    "message:*",
    "operation = operations/00000000-0000-0000-0000-00000000000a",
    "operation != operations/00000000-0000-0000-0000-00000000000A",
    "create_time > 2000-01-01T00:00:00Z",
    "update_time < 2000-01-01T00:00:00Z",
    "passed_over = HELD",
    "passed_over != NO_CONSENT",
    "passed_over:*",
    "end_reason:*",
    "end_reason = beantwortet",
    "end_reason:WORT",
    "expire_time:*",
    "expire_time > 2026-11-02T10:00:00Z",
    "expire_time != 2026-11-02T10:00:00Z",
    "phase:*",
    "phase = campaigns/00000000-0000-0000-0000-00000000000a/phases/1",
    "offer:*",
    "offer != offers/A-1",
    "contract:*",
    "contract = contracts/V1",
];

fn contact_row(lab: &Lab, n: usize, dice: &mut Dice) -> String {
    let state = dice.pick(&[
        "open",
        "open",
        "claimed",
        "waiting",
        "done",
        "given_up",
        "cancelled",
    ]);
    let is_over = ["done", "given_up", "cancelled"].contains(&state);
    let claim = match state {
        "claimed" => {
            let who = dice.pick(&["users/anna", "users/bert"]);
            format!("'{who}', now(), gen_random_uuid()")
        }
        _ => "NULL, NULL, NULL".into(),
    };
    let day = 1 + dice.roll(3);
    let hour = 9 + dice.roll(3);
    let at = format!("'2026-11-0{day} {hour}:00+00'");
    let next = if is_over { "NULL" } else { &at };
    let plan = dice.pick(&["NULL", "'P'", "'Q'"]);
    let delivery = dice.pick(&["NULL", "'2026-11-05'", "'2026-11-06'"]);
    let moved = dice.pick(&["", "inactive", "no_workday"]);
    let class = dice.pick(&["NULL", "'busy'", "'done'"]);
    let outcome = dice.pick(&["", "contactOutcomes/band", "contactOutcomes/zurück"]);
    let responsible = dice.pick(&["", "users/anna", "users/zoe", "roles/innen"]);
    let marks = dice.pick(&["{}", "{pinned}", "{moved,worked_on}", "{worked_on}"]);
    let passed_over = dice.pick(&["", "", "held", "no_consent"]);
    let end_reason = dice.pick(&["", "", "beantwortet"]);
    let ends = dice.pick(&["NULL", "'2026-11-02 10:00+00'", "'2026-11-09 10:00+00'"]);
    let operation = dice.pick(&["NULL", "'00000000-0000-0000-0000-00000000000a'"]);
    format!(
        "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date, contact_date,
             contact_at, window_from, window_to, next_at, plan_code, delivery_date, delivery_moved,
             state, claimed_by, claim_until, claim_id, outcome_class, outcome, attempts, responsible,
             priority, marks, passed_over, end_reason, ends_at, operation_id)
         VALUES ('{}', '{}', '{}', '{}', '2026-11-0{day}', '2026-11-0{day}', {at}, {at}, {at}, {next},
                 {plan}, {delivery}, '{moved}', '{state}', {claim}, {class}, '{outcome}', {},
                 '{responsible}', {}, '{marks}', '{passed_over}', '{end_reason}', {ends}, {operation});",
        lab.tenant.0,
        Uuid::from_u128(n as u128),
        dice.pick(&["plan", "manual"]),
        customer(dice.roll(9)),
        dice.roll(3),
        dice.pick(&[-2, 0, 3]),
    )
}

fn filter(dice: &mut Dice, depth: usize) -> String {
    if depth == 0 || dice.roll(3) == 0 {
        return dice.pick(&COMPARISONS).to_owned();
    }
    match dice.roll(3) {
        0 => format!("NOT ({})", filter(dice, depth - 1)),
        1 => format!(
            "({}) AND ({})",
            filter(dice, depth - 1),
            filter(dice, depth - 1)
        ),
        _ => format!(
            "({}) OR ({})",
            filter(dice, depth - 1),
            filter(dice, depth - 1)
        ),
    }
}

fn view(filter: &str, groups: &[&str]) -> View {
    let mut violations = Violations::new();
    let list = contact::LISTABLE.read(filter, "", 1_000, &mut violations);
    assert!(violations.is_empty(), "{violations}: {filter}");
    View {
        list,
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_takes_in_memory_what_it_takes_in_the_database() {
    let lab = Lab::open().await;
    let mut dice = Dice(4_711);
    let plan = |code: &str| {
        format!(
            "INSERT INTO contact_plan (tenant_id, code, name, recurrence, valid_from, time_zone,
                 holiday_rule, outcome_rules)
             VALUES ('{}', '{code}', 'x', '{{}}', '2020-01-01', '', 'skip', '{{}}');",
            lab.tenant.0
        )
    };
    let mut rows = plan("P") + &plan("Q");
    for n in 1..=120 {
        rows += &contact_row(&lab, n, &mut dice);
    }
    lab.connect().await.batch_execute(&rows).await.unwrap();
    let mut tx = lab.store.begin_snapshot(lab.tenant).await.unwrap();
    let all = view("", &[]).first(&mut tx, lab.tenant).await.unwrap().rows;
    assert_eq!(all.len(), 120);
    let each = COMPARISONS.map(str::to_owned).into_iter();
    let mixed: Vec<String> = (0..300).map(|_| filter(&mut dice, 4)).collect();
    for filter in each.chain(mixed) {
        for groups in [&[][..], &["Obst"], &["Brot", ""]] {
            let view = view(&filter, groups);
            let listed = view.first(&mut tx, lab.tenant).await.unwrap().rows;
            let listed: BTreeSet<Uuid> = listed.into_iter().map(|c| c.id).collect();
            let taken = all.iter().filter(|c| view.takes(c)).map(|c| c.id);
            assert_eq!(
                taken.collect::<BTreeSet<_>>(),
                listed,
                "{filter} {groups:?}"
            );
            let some: Vec<Uuid> = all.iter().step_by(3).map(|c| c.id).collect();
            let among = view.among(&mut tx, lab.tenant, some.clone()).await.unwrap();
            let among: BTreeSet<Uuid> = among.rows.iter().map(|c| c.id).collect();
            let expected = some.into_iter().filter(|id| listed.contains(id));
            assert_eq!(among, expected.collect(), "{filter} {groups:?}");
        }
    }
}

/// A field that nobody can compare in memory would never hold there.
#[test]
fn every_field_is_compared() {
    let fields: BTreeSet<&str> = contact::LISTABLE.fields.iter().map(|f| f.name).collect();
    let compared = COMPARISONS
        .iter()
        .filter_map(|c| c.split([' ', ':']).next());
    assert_eq!(compared.collect::<BTreeSet<_>>(), fields);
}
