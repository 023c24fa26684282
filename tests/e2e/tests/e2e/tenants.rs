//! Tenants cannot see each other: at every method of the API, and in the database itself.

mod calls;
mod others;

use std::collections::BTreeSet;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::{Client, TestServer};
use serde_json::json;
use tonic::Code;

use crate::raw::{self, Raw};
use crate::refused;
use crate::utility::{Case, Utility};
use crate::world::{named, populate};

/// Lists without a parent.
const LISTS: [&str; 24] = [
    "anklang.audit.v1.AuditService/ListAuditEntries",
    "anklang.brands.v1.BrandService/ListBrands",
    "anklang.products.v1.ProductService/ListProducts",
    "anklang.customers.v1.CustomerService/ListCustomers",
    "anklang.contracts.v1.ContractService/ListContracts",
    "anklang.orders.v1.OrderService/ListOrders",
    "anklang.selections.v1.SelectionService/ListSelections",
    "anklang.org.v1.OrgUnitService/ListOrgUnits",
    "anklang.planning.v1.ContactPlanService/ListContactPlans",
    "anklang.planning.v1.ContactPlanService/ListWorkdayCalendars",
    "anklang.planning.v1.PlannedContactService/ListPlannedContacts",
    "anklang.campaigns.v1.CampaignService/ListCampaigns",
    "anklang.channels.v1.ChannelService/ListChannelRoutes",
    "anklang.offers.v1.OfferService/ListOffers",
    "anklang.inbound.v1.InboundService/ListInboundMessages",
    "anklang.messages.v1.MessageService/ListMessages",
    "anklang.handover.v1.WebhookService/ListWebhooks",
    "anklang.planning.v1.WorkListService/ListContactOutcomes",
    "anklang.winback.v1.WinbackService/ListWinbackDetections",
    "anklang.winback.v1.WinbackService/ListWinbackSettingsVersions",
    "anklang.winback.v1.WinbackCaseService/ListWinbackCases",
    "anklang.winback.v1.WinbackMailService/ListWinbackMailings",
    "anklang.privacy.v1.PrivacyService/ListPrivacyRequests",
    "google.longrunning.Operations/ListOperations",
];

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    server.client("other").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let calls = named(&world);

    let mut known: BTreeSet<&str> = calls.iter().map(|(method, _)| *method).collect();
    known.extend(LISTS);
    known.extend(calls::methods(&world));
    let all: Vec<String> = raw::methods().map(|m| raw::path(&m)).collect();
    assert_eq!(
        known,
        all.iter().map(|m| &m[..]).collect(),
        "every method is looked at"
    );

    for (method, request) in &calls {
        match raw.call(Some("other"), method, request).await {
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{method}: {status:?}"),
            Ok(response) => panic!("{method}: {response}"),
        }
    }
    for method in LISTS {
        let listed = raw.call(Some("other"), method, &json!({})).await.unwrap();
        assert_eq!(listed, json!({}), "{method}");
    }
    // The same calls find something for whom it belongs to.
    for method in LISTS {
        let listed = raw.call(Some("linden"), method, &json!({})).await.unwrap();
        assert_ne!(listed, json!({}), "{method}");
    }
    for (method, request) in &calls {
        if let Err(status) = raw.call(Some("linden"), method, request).await {
            // Answered already; kept as a record.
            assert_eq!(
                status.code(),
                Code::FailedPrecondition,
                "{method}: {status:?}"
            );
        }
    }
}

#[tokio::test]
async fn every_call_names_its_tenant() {
    let server = TestServer::start().await.unwrap();
    server.client("linden").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let mut looked_at = 0;
    for method in raw::methods().filter(|m| !m.is_client_streaming()) {
        for tenant in [None, Some("nobody"), Some("Linden"), Some("")] {
            let result = raw.call(tenant, &raw::path(&method), &json!({})).await;
            let status = result.expect_err(&raw::path(&method));
            refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
        }
        looked_at += 1;
    }
    assert!(looked_at > 40, "{looked_at}");
    let nobody = Client::connect(server.addr, "nobody").await.unwrap();
    let status = nobody
        .import(ImportEntity::Brands, "code,name,sender_email\n")
        .await
        .unwrap_err();
    refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
}

/// Tables with a tenant's rows.
async fn tenant_tables(database: &tokio_postgres::Client) -> Vec<String> {
    let rows = database
        .query(
            "SELECT table_name::text FROM information_schema.columns
             WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_database_shows_a_tenant_its_own_rows() {
    let server = TestServer::start().await.unwrap();
    populate(&server).await;
    let other = server.client("other").await.unwrap();
    Utility::of(&[(Case::Plain, 2)]).import(&other).await;
    let mut database = server.database.connect().await.unwrap();

    let tables = tenant_tables(&database).await;
    let mut with_rows = 0;
    for table in &tables {
        let own: i64 = database
            .query_one(
                &format!(
                    "SELECT count(*) FROM {table} JOIN tenant t ON t.id = tenant_id
                          WHERE t.slug = 'other'"
                ),
                &[],
            )
            .await
            .unwrap()
            .get(0);
        let all: i64 = database
            .query_one(&format!("SELECT count(*) FROM {table}"), &[])
            .await
            .unwrap()
            .get(0);
        // Made by what is not part of the world: a rate, an erasure, a repeated call, a policy that a known caller loosens.
        let elsewhere = [
            "account_pace",
            "erased_file",
            "former_approval_policy",
            "request_log",
        ];
        assert!(
            all > own || elsewhere.contains(&&table[..]),
            "{table} has nothing of the first tenant"
        );

        let seen = async |database: &mut tokio_postgres::Client, tenant: &str| {
            let tx = database.transaction().await.unwrap();
            tx.batch_execute(&format!(
                "SELECT set_config('role', 'anklang_app', true),
                        set_config('anklang.tenant', ({tenant})::text, true)"
            ))
            .await
            .unwrap();
            let row = tx
                .query_one(&format!("SELECT count(*) FROM {table}"), &[])
                .await
                .unwrap();
            row.get::<_, i64>(0)
        };
        let id = "SELECT id FROM tenant WHERE slug = 'other'";
        assert_eq!(seen(&mut database, id).await, own, "{table}");
        assert_eq!(
            seen(&mut database, "''").await,
            0,
            "{table} without a tenant"
        );
        with_rows += usize::from(own > 0);
    }
    assert!(
        tables.len() > 20 && with_rows >= 7,
        "{with_rows} of {}",
        tables.len()
    );

    // Nor can it write rows of another.
    let tx = database.transaction().await.unwrap();
    tx.batch_execute(
        "SELECT set_config('role', 'anklang_app', true), set_config('anklang.tenant',
            (SELECT id FROM tenant WHERE slug = 'other')::text, true)",
    )
    .await
    .unwrap();
    let stolen = tx
        .execute("UPDATE customer SET city = 'x' WHERE number LIKE 'K%'", &[])
        .await;
    assert_eq!(stolen.unwrap(), 2);
    let given = tx
        .execute(
            "UPDATE customer SET tenant_id = (SELECT id FROM tenant WHERE slug = 'linden')",
            &[],
        )
        .await
        .unwrap_err();
    let given = given.as_db_error().unwrap();
    assert!(given.message().contains("row-level security"), "{given}");
}

#[tokio::test]
async fn every_table_is_secured_and_led_by_its_tenant() {
    let server = TestServer::start().await.unwrap();
    let database = server.database.connect().await.unwrap();
    let tables = tenant_tables(&database).await;
    assert!(tables.len() > 20, "{tables:?}");
    for table in &tables {
        let row = database
            .query_one(
                "SELECT c.relrowsecurity, pg_get_userbyid(c.relowner)::text,
                        (SELECT array_agg(r.rolname::text || ': ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '')
                                          ORDER BY r.rolname)
                         FROM pg_policy p, pg_roles r
                         WHERE p.polrelid = c.oid AND r.oid = ANY(p.polroles))
                 FROM pg_class c WHERE c.oid = $1::text::regclass",
                &[table],
            )
            .await
            .unwrap();
        assert!(row.get::<_, bool>(0), "{table} has no row-level security");
        let owner: String = row.get(1);
        assert!(!owner.starts_with("anklang_"), "{table} belongs to {owner}");
        let policies: Vec<String> = row.get::<_, Option<_>>(2).unwrap_or_default();
        let [app, scoped, deletes, worker] = &policies[..] else {
            panic!("four policies on {table}: {policies:?}");
        };
        assert!(
            app.starts_with("anklang_app: (tenant_id = ") && app.contains("anklang_tenant()"),
            "{app}"
        );
        // What it shows: `identity/units/tables.rs`.
        for scoped in [scoped, deletes] {
            assert!(scoped.starts_with("anklang_scoped: "), "{scoped}");
        }
        assert_eq!(worker, "anklang_worker: true", "{table}");
    }
    let others = database
        .query(
            "SELECT i.indexrelid::regclass::text FROM pg_index i
             JOIN pg_attribute t ON t.attrelid = i.indrelid AND t.attname = 'tenant_id'
             WHERE i.indrelid::regclass::text = ANY($1) AND i.indkey[0] <> t.attnum",
            &[&tables],
        )
        .await
        .unwrap();
    let others: Vec<String> = others.iter().map(|row| row.get(0)).collect();
    assert!(others.is_empty(), "not led by the tenant: {others:?}");
    let bypass = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'anklang_%'
                  AND (rolbypassrls OR rolsuper OR rolcanlogin)";
    assert_eq!(server.database.one(bypass).await.unwrap(), "0");
}
