//! What the database shows to callers who are bound to org units, table by table. A new table is closed to them
//! until its migration says more (`anklang_bound`), and has to be decided about here.

use std::collections::BTreeMap;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::Tenant;
use crate::world::populate;

/// Who sees what of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Nothing.
    Closed,
    /// The tenant's common things: everything, to read.
    Common,
    /// Everything, to read and write: the server compares whose it is.
    Own,
    /// Nothing, to be added to.
    Added,
    /// What belongs to customers of the units.
    Bounded,
    /// What is shared with the units.
    Shared,
}

use Shown::{Added, Bounded, Closed, Common, Own, Shared};

const TABLES: &[(Shown, &[&str])] = &[
    (
        Bounded,
        &[
            "audience_member",
            "consent",
            "contact_attempt",
            "contact_point",
            "contract",
            "contract_attribute",
            "contract_item",
            "customer",
            "customer_attribute",
            "customer_event",
            "document",
            "dry_run_candidate",
            "inactive_period",
            "inbound_message",
            "message",
            "message_attempt",
            "message_report",
            "offer",
            "order_line",
            "plan_entry",
            "planned_contact",
            "sales_order",
            "voucher",
            "winback_case",
            "winback_case_event",
            "winback_control",
            "winback_figure",
            "winback_mail",
            "winback_mailing_member",
        ],
    ),
    (
        Shared,
        &["selection", "selection_tick", "selection_version"],
    ),
    (
        Common,
        &[
            "attribute_definition",
            "brand",
            "campaign",
            "contact_budget",
            "contact_outcome",
            "contact_plan",
            "org_unit",
            "outbound",
            "phase",
            "plan_exception",
            "product",
            "product_version",
            "selection_preset",
            "suppression",
            "template",
            "winback_mailing",
            "winback_settings",
            "workday_calendar",
        ],
    ),
    (Own, &["request_log"]),
    (Added, &["audit_entry"]),
    (
        Closed,
        &[
            "account_pace",
            "approval_policy",
            "audience",
            "audit_resource",
            "bundle",
            "bundle_file",
            "channel_account",
            "channel_route",
            "contact_generation",
            "dry_run",
            "erased_file",
            "former_approval_policy",
            "handover_delivery",
            "handover_event",
            "launch_approval",
            "launch_decision",
            "number_range",
            "operation",
            "planned_contact_gone",
            "privacy_request",
            "voucher_pool",
            "waiting_report",
            "webhook",
            "webhook_secret",
            "winback_detection",
            "winback_sender",
        ],
    ),
];

fn decided() -> BTreeMap<&'static str, Shown> {
    let all = TABLES
        .iter()
        .flat_map(|(shown, tables)| tables.iter().map(|table| (*table, *shown)));
    all.collect()
}

/// A transaction of a caller who is bound to a unit.
async fn bound<'c>(database: &'c mut Client, unit: &str) -> Transaction<'c> {
    let tx = database.transaction().await.unwrap();
    let units = hex::encode(format!("[\"{unit}\"]"));
    tx.batch_execute(&format!(
        "SELECT set_config('anklang.tenant', ({LINDEN})::text, true),
                set_config('anklang.units', '{units}', true);
         SELECT set_config('role', 'anklang_scoped', true)"
    ))
    .await
    .unwrap();
    tx
}

/// So many rows of a table one sees.
async fn count(tx: &Transaction<'_>, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table} WHERE tenant_id = ({LINDEN})");
    tx.query_one(&sql, &[]).await.unwrap().get(0)
}

const LINDEN: &str = "SELECT id FROM tenant WHERE slug = 'linden'";

#[tokio::test]
async fn every_table_is_decided_about() {
    let tenant = Tenant::start().await;
    let database = tenant.server.database.connect().await.unwrap();
    let sql =
        "SELECT c.relname::text, p.polpermissive, p.polcmd::text, p.polroles::regrole[]::text[],
                      pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
               FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'units'
               WHERE c.relkind = 'r' AND c.relrowsecurity";
    let unguarded = "SELECT count(*) FROM pg_policy u WHERE u.polname = 'units' AND NOT EXISTS (
        SELECT FROM pg_policy d
        WHERE d.polrelid = u.polrelid AND d.polname = 'units_delete' AND d.polcmd = 'd' AND NOT d.polpermissive
          AND pg_get_expr(d.polqual, d.polrelid) = pg_get_expr(u.polwithcheck, u.polrelid))";
    let unguarded: i64 = database.query_one(unguarded, &[]).await.unwrap().get(0);
    assert_eq!(unguarded, 0, "deletes are asked as writes are");
    let mut found = BTreeMap::new();
    for row in database.query(sql, &[]).await.unwrap() {
        let table: String = row.get(0);
        let text = |column: usize| row.get::<_, Option<String>>(column).unwrap_or_default();
        let is_policy = row.get::<_, Option<bool>>(1) == Some(false);
        assert!(is_policy, "nothing restricts {table}");
        assert_eq!(text(2), "*", "{table}");
        let roles: Vec<String> = row.get(3);
        assert_eq!(roles, ["anklang_scoped"], "{table}");
        let shown = match (&text(4)[..], &text(5)[..]) {
            ("false", "false") => Closed,
            ("false", "true") => Added,
            ("true", "false") => Common,
            ("true", "true") => Own,
            (of, "false") if !of.is_empty() => Shared,
            (of, writes) if of == writes => Bounded,
            other => panic!("{table}: {other:?}"),
        };
        found.insert(table, shown);
    }
    let decided = decided();
    let found: BTreeMap<&str, Shown> = found.iter().map(|(t, shown)| (&t[..], *shown)).collect();
    assert_eq!(found, decided);
}

#[tokio::test]
async fn the_database_shows_what_belongs_to_the_units() {
    let tenant = Tenant::start().await;
    populate(&tenant.server).await;
    tenant.tree().await;
    let mut database = tenant.server.database.connect().await.unwrap();
    let ulm = "UPDATE customer SET org_unit_code = 'ulm';
               UPDATE inbound_message i SET customer_id = c.id FROM customer c
               WHERE c.tenant_id = i.tenant_id AND c.number = 'K0001'";
    database.batch_execute(ulm).await.unwrap();
    for (table, shown) in decided() {
        let all = count(&database.transaction().await.unwrap(), table).await;
        let of_kiel = count(&bound(&mut database, "kiel").await, table).await;
        let of_ulm = count(&bound(&mut database, "ulm").await, table).await;
        match shown {
            Closed | Added => assert_eq!((of_kiel, of_ulm), (0, 0), "{table}"),
            Common | Own => assert_eq!((of_kiel, of_ulm), (all, all), "{table}"),
            Bounded if table == "voucher" => assert_eq!(of_kiel, 0, "{table}"),
            Bounded => {
                assert_eq!((of_kiel, of_ulm), (0, all), "{table}");
                assert!(all > 0, "{table} has rows");
            }
            // Ticks name contracts.
            Shared if table == "selection_tick" => assert_eq!((of_kiel, of_ulm), (0, all)),
            Shared => assert_eq!((of_kiel, of_ulm), (all, all), "{table}"),
        }
    }

    // What is seen can be changed, and not be given away; what is common cannot.
    for (unit, sql) in [
        ("ulm", "UPDATE customer SET org_unit_code = 'kiel'"),
        ("kiel", "INSERT INTO brand (tenant_id, id, code, name, sender_email)
                  SELECT tenant_id, anklang_uuid7(), 'neu', 'Neu', 'a@b.example' FROM brand LIMIT 1"),
        ("kiel", "UPDATE org_unit SET parent_code = NULL"),
    ] {
        let tx = bound(&mut database, unit).await;
        let refused = tx.execute(sql, &[]).await.unwrap_err();
        let refused = refused.as_db_error().unwrap().message().to_owned();
        assert!(refused.contains("row-level security"), "{sql}: {refused}");
    }
    // Nothing of it can be deleted: nothing is found that could be.
    for (table, shown) in decided() {
        if matches!(shown, Bounded | Own) {
            continue;
        }
        let tx = bound(&mut database, "ulm").await;
        match tx.execute(&format!("DELETE FROM {table}"), &[]).await {
            Ok(deleted) => assert_eq!(deleted, 0, "{table}"),
            Err(refused) => {
                let code = refused.code();
                assert_eq!(code, Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{table}");
            }
        }
    }
    let tx = bound(&mut database, "kiel").await;
    let delete = "DELETE FROM consent";
    assert_eq!(tx.execute(delete, &[]).await.unwrap(), 0, "of others");
}
