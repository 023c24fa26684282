//! Lists within org units, however many customers these have.

use anklang_proto::anklang::imports::v1::ImportEntity;
use serde_json::{Value, json};

use super::{LIST_CUSTOMERS, Tenant, call};
use crate::raw::Raw;

const LIST_ORDERS: &str = "anklang.orders.v1.OrderService/ListOrders";

#[tokio::test]
async fn lists_are_the_same_for_few_customers_and_for_many() {
    let tenant = Tenant::start().await;
    tenant.tree().await;
    let client = tenant.server.client("linden").await.unwrap();
    let many = 5_100;
    let mut csv = "number,kind,last_name,org_unit_code\nU1,person,Ulmer,ulm\nU2,person,Unger,ulm\n"
        .to_owned();
    csv.extend((0..many).map(|n| format!("K{n:04},person,Kern,kiel\n")));
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!(sums.created, many + 2);
    let orders = "number,customer_number,ordered_at,currency\nA,K0007,2026-01-01T00:00:00Z,EUR\n\
                  B,U1,2026-01-02T00:00:00Z,EUR\nC,K5099,2026-01-03T00:00:00Z,EUR\n";
    let sums = client.import(ImportEntity::Orders, orders).await.unwrap();
    assert_eq!((sums.created, sums.failed), (3, 0));

    let all = async |caller: &Raw, method: &str, of: &str, request: &Value| {
        let (mut request, mut found) = (request.clone(), Vec::new());
        loop {
            let page = call(caller, method, &request).await.unwrap();
            let listed = page[of].as_array().into_iter().flatten();
            found.extend(listed.map(|one| one["number"].as_str().unwrap().to_owned()));
            match page["nextPageToken"].as_str() {
                None => return found,
                Some(token) => request["pageToken"] = json!(token),
            }
        }
    };
    let (kiel, ulm, central) = (
        tenant.agency("kiel"),
        tenant.agency("ulm"),
        tenant.region("central"),
    );
    for (caller, customers, numbers) in [
        (&kiel, 5_100, &["A", "C"][..]),
        (&ulm, 2, &["B"][..]),
        (&central, 5_102, &["A", "B", "C"][..]),
    ] {
        let pages = json!({"pageSize": 1_000});
        let found = all(caller, LIST_CUSTOMERS, "customers", &pages).await;
        assert_eq!(found.len(), customers);
        assert!(found.is_sorted());
        let one = json!({"pageSize": 1});
        assert_eq!(all(caller, LIST_ORDERS, "orders", &one).await, numbers);
        let latest = json!({"orderBy": "order_time desc", "pageSize": 2});
        let found = all(caller, LIST_ORDERS, "orders", &latest).await;
        assert!(found.iter().rev().eq(numbers), "{found:?}");
    }
}
