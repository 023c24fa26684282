//! Statements of a tenant say whose rows they mean, and do not leave that to row-level security: what docs/citus.md says
//! of them. PostgreSQL's plans of a story's statements show it, with row-level security out of the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anklang_local::cluster::{Cluster, Options as ClusterOptions};
use anklang_testkit::{Options, TestServer};
use serde_json::Value;

use super::{NAME, database, room};
use crate::story;

/// Has the policies of tenants let all rows through, and leave a mark in the plans of what runs under them.
const OPEN: &str = "DO $$ DECLARE open record; BEGIN
    FOR open IN SELECT policyname, tablename FROM pg_policies WHERE 'anklang_app' = ANY(roles) LOOP
        EXECUTE format('ALTER POLICY %I ON %I USING (current_user = ''anklang_app'')',
                       open.policyname, open.tablename);
    END LOOP;
END $$";

/// The mark.
const MARK: &str = "'anklang_app'";

/// Two that do not say it: one of its only table, one of the second.
const LOOSE: [&str; 2] = [
    "SELECT count(*) FROM brand WHERE code = 'loose'",
    "SELECT count(*) FROM offer o JOIN customer c ON c.id = o.customer_id
     WHERE o.tenant_id = '00000000-0000-0000-0000-000000000000' AND c.number = 'loose'",
];

/// Tables of tenants.
const TABLES: &str = "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'tenant_id'";

/// What of a plan's step says which rows of its table it takes, and how it is joined.
const OWN: [&str; 4] = ["Index Cond", "Recheck Cond", "Filter", "TID Cond"];
const JOINED: [&str; 3] = ["Hash Cond", "Merge Cond", "Join Filter"];

fn texts<'a>(step: &'a Value, keys: &[&str]) -> impl Iterator<Item = &'a str> {
    keys.iter().filter_map(move |key| step[key].as_str())
}

fn steps(step: &Value) -> impl Iterator<Item = &Value> {
    step["Plans"].as_array().into_iter().flatten()
}

/// Looks for the tables that a step and those below it read, and whether it is said whose rows of them are meant:
/// by what they compare with, or by the joins above.
fn look<'a>(step: &'a Value, joins: &[&'a str], found: &mut Vec<(&'a str, bool)>) {
    let mut joins = joins.to_vec();
    joins.extend(texts(step, &JOINED));
    let is_change = step["Node Type"] == "ModifyTable";
    if let (Some(table), Some(alias), false) = (
        step["Relation Name"].as_str(),
        step["Alias"].as_str(),
        is_change,
    ) {
        let column = format!("{alias}.tenant_id");
        let is_tied = texts(step, &OWN)
            .any(|text| text.contains("tenant_id = ") || text.contains("tenant_id)"))
            || joins.iter().any(|join| join.contains(&column));
        found.push((table, is_tied));
    }
    for below in steps(step) {
        look(below, &joins, found);
    }
}

/// What the log has of plans with the mark: the statement and its first step.
fn marked(log: &str) -> impl Iterator<Item = (String, Value)> {
    let plans = log.split(" plan:\n").skip(1).map(|rest| {
        let lines = rest.lines().map_while(|line| line.strip_prefix('\t'));
        lines.collect::<String>()
    });
    plans.filter(|json| json.contains(MARK)).filter_map(|json| {
        let mut plan: Value = serde_json::from_str(&json).unwrap();
        let statement = plan["Query Text"].as_str().unwrap().to_owned();
        let first = plan["Plan"].take();
        // The mark may be in the statement alone.
        first
            .to_string()
            .contains(MARK)
            .then_some((statement, first))
    })
}

#[tokio::test]
async fn statements_of_a_tenant_say_so_of_each_table() {
    let room = room();
    let mut options = ClusterOptions::test(room.path().join("postgresql"));
    let settings = [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_format", "json"),
        ("auto_explain.log_nested_statements", "on"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    options.settings = settings.map(owned).to_vec();
    let cluster = Cluster::start(options).await.unwrap();
    cluster.ensure_database(NAME).await.unwrap();
    let mut server = TestServer::start_on(database(cluster.url(NAME)), Options::default())
        .await
        .unwrap();
    server.kill();
    let owner = database(cluster.url(NAME)).connect().await.unwrap();
    owner.batch_execute(OPEN).await.unwrap();
    for loose in LOOSE {
        let sql = format!("BEGIN; SET LOCAL ROLE anklang_app; {loose}; ROLLBACK");
        owner.batch_execute(&sql).await.unwrap();
    }
    let tables = owner.query(TABLES, &[]).await.unwrap();
    let tables: BTreeSet<String> = tables.iter().map(|row| row.get(0)).collect();
    server.restart().await.unwrap();
    story::told_by(&server).await;
    server.kill();
    let log = cluster.log_file();
    drop(owner);
    cluster.stop().await.unwrap();

    let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let (mut seen, mut open) = (BTreeSet::new(), BTreeMap::new());
    for (statement, plan) in marked(&log) {
        let mut found = Vec::new();
        look(&plan, &[], &mut found);
        for (table, is_tied) in found {
            if tables.contains(table) && !is_tied {
                open.insert(statement.clone(), table.to_owned());
            }
        }
        seen.insert(statement);
    }
    assert!(seen.len() > 80, "{} statements", seen.len());
    let loose: Vec<_> = open
        .iter()
        .filter(|(statement, _)| statement.contains("'loose'"))
        .map(|(_, table)| table.as_str())
        .collect();
    assert_eq!(loose, ["brand", "customer"], "these are found");
    open.retain(|statement, _| !statement.contains("'loose'"));
    // One that has to be otherwise is for the page as well: docs/citus.md.
    assert!(open.is_empty(), "they do not say whose rows: {open:#?}");
}
