//! The tenant of a call's span: that for which the call was made, whatever a header says.

use anklang_testkit::{Options, TestServer};
use serde_json::json;

use super::{config, named};
use crate::collector::{Collector, texts};
use crate::identity::{knows, new_token};
use crate::raw::Raw;

const LIST: &str = "anklang.brands.v1.BrandService/ListBrands";

#[tokio::test]
async fn a_span_names_the_tenant_that_its_call_is_for_and_no_other() {
    let collector = Collector::start().await;
    let (all, one) = (new_token(), new_token());
    let mut server = TestServer::start_with(Options {
        config: format!(
            "{}[auth]\nmode = 'token'\n{}{}",
            config(&collector.url()),
            knows("all", &all, &["*"], &["central"]),
            knows("one", &one, &["linden"], &["auditor"]),
        ),
        ..Default::default()
    })
    .await
    .unwrap();
    for tenant in ["linden", "other"] {
        server.add_tenant(tenant).await.unwrap();
    }
    let raw = Raw::connect(server.addr).await;
    let [all, one, stranger] = [all, one, new_token()].map(|token| raw.bearing(&token));
    let calls = [
        // It need not name its only one.
        (&one, None, "0", Some("linden")),
        (&one, Some("linden"), "0", Some("linden")),
        (&all, Some("other"), "0", Some("other")),
        (&one, Some("other"), "7", None),
        (&all, Some("nobodys-words"), "16", None),
        (&stranger, Some("linden"), "16", None),
    ];
    for (caller, tenant, _, _) in calls {
        let _ = caller.call(tenant, LIST, &json!({})).await;
    }
    assert!(server.terminate().await.unwrap().success());
    let mut told = told(&collector);
    let wanted = calls.map(|(_, _, status, tenant)| (status.to_owned(), tenant.map(str::to_owned)));
    let mut wanted = Vec::from(wanted);
    told.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn a_span_names_the_tenant_also_of_calls_that_are_too_many() {
    let collector = Collector::start().await;
    let rate = "[server.limits]\nrequests_per_second = 1\nburst = 1\n";
    let mut server = TestServer::start_with(Options {
        config: format!("{}{rate}", config(&collector.url())),
        ..Default::default()
    })
    .await
    .unwrap();
    server.add_tenant("linden").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let nothing = json!({});
    let calls = (0..20).map(|_| raw.call(Some("linden"), LIST, &nothing));
    futures::future::join_all(calls).await;
    assert!(server.terminate().await.unwrap().success());
    let told = told(&collector);
    assert!(told.iter().any(|(status, _)| status == "8"), "{told:?}");
    let is_lindens = |(_, tenant): &(String, Option<String>)| tenant.as_deref() == Some("linden");
    assert!(told.len() == 20 && told.iter().all(is_lindens), "{told:?}");
}

/// The status and the tenant of each call's span.
fn told(collector: &Collector) -> Vec<(String, Option<String>)> {
    let spans = collector.spans();
    let spans = named(&spans, LIST).into_iter();
    let told = spans.map(|span| {
        let texts = texts(&span.attributes);
        let text = |key: &str| {
            let mut found = texts.iter().filter_map(|text| text.strip_prefix(key));
            found.next().map(str::to_owned)
        };
        (
            text("rpc.grpc.status_code=").unwrap(),
            text("anklang.tenant="),
        )
    });
    told.collect()
}
