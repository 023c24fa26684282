//! In whose name callers work: clerks in their own alone.

use std::collections::BTreeSet;

use anklang_domain::access::Role;
use anklang_testkit::violations;
use prost_reflect::{Kind, MethodDescriptor};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::issuer::Issuer;
use super::keys::Key;
use super::{denied, knows, needed, new_token, serving};
use crate::changes::{changes, is_as_before, stored};
use crate::raw;
use crate::world::populate;

/// Whether a call says who makes it.
fn names_a_worker(method: &MethodDescriptor) -> bool {
    let input = method.input();
    let worker = input.get_field_by_name("worker");
    worker.is_some_and(|f| f.kind() == Kind::String && !f.is_list())
}

fn as_worker(request: &Value, worker: &str) -> Value {
    let mut request = request.clone();
    request["worker"] = json!(worker);
    request
}

/// Checks that the worker's name is what is wrong.
#[track_caller]
fn of_another(status: &Status) {
    denied(status);
    let told = violations(status);
    let [(field, must)] = &told[..] else {
        panic!("one field: {status:?}");
    };
    assert_eq!(field, "worker");
    assert!(must.starts_with("must be"), "{must}");
    assert!(status.message().contains("worker"), "{status:?}");
}

#[tokio::test]
async fn clerks_work_in_their_own_name() {
    let key = Key::ed25519("k");
    let issuer = Issuer::publishing(&[&key]).await;
    // Nobody is behind it who could have a name.
    let desk = new_token();
    let trusts = [
        issuer.trusted("idp", ""),
        knows("desk", &desk, &["linden"], &["clerk"]),
    ];
    let (server, raw) = serving("", &trusts.concat()).await;
    let world = populate(&server).await;
    let with = |roles: &[&str], name: Value| {
        let mut claims = issuer.claims(roles);
        claims["preferred_username"] = name;
        raw.bearing(&key.sign(&claims))
    };
    let anna = with(&["clerk"], json!("anna"));
    let refused = [
        (&anna, "users/berta"),
        (&anna, "users/Anna"),
        (&anna, "users/anna2"),
        (&anna, "users/users%2Fanna"),
        // One who may see more works in no other name for that.
        (&with(&["clerk", "auditor"], json!("anna")), "users/berta"),
        (&with(&["clerk"], json!(null)), "users/anna"),
        (&with(&["clerk"], json!(["anna", "berta"])), "users/berta"),
        (&raw.bearing(&desk), "users/anna"),
    ];
    let allowed = [
        (&anna, "users/anna"),
        (&with(&["clerk", "auditor"], json!("anna")), "users/anna"),
        (&with(&["clerk"], json!("b/e rta")), "users/b%2Fe%20rta"),
        (&with(&["clerk", "central"], json!("anna")), "users/berta"),
        (&with(&["service"], json!(null)), "users/berta"),
    ];

    let mut all = BTreeSet::new();
    for method in raw::methods().filter(names_a_worker) {
        assert!(
            Role::Clerk.allows(needed(&method)),
            "{}",
            raw::path(&method)
        );
        all.insert(raw::path(&method));
    }
    let mut calls = changes(&world);
    calls.retain(|(method, _)| all.contains(*method));
    let called: BTreeSet<String> = calls.iter().map(|(method, _)| (*method).into()).collect();
    assert_eq!(called, all, "every such method is tried");

    let before = stored(&server).await;
    for (method, request) in &calls {
        for (caller, worker) in refused {
            let request = as_worker(request, worker);
            let result = caller.call(Some("linden"), method, &request).await;
            of_another(&result.expect_err(&format!("{method} as {worker}")));
        }
        // What is no name at all is wrong for everybody.
        let nobody = as_worker(request, "anna");
        let status = anna
            .call(Some("linden"), method, &nobody)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status:?}");
    }
    is_as_before(&server, &before).await;
    for (method, request) in &calls {
        for (caller, worker) in allowed {
            let mut request = as_worker(request, worker);
            request["validateOnly"] = json!(true);
            if let Err(status) = caller.call(Some("linden"), method, &request).await {
                // Done already.
                assert_eq!(
                    status.code(),
                    Code::FailedPrecondition,
                    "{method}: {status:?}"
                );
            }
        }
    }

    // Whose work is looked at is another matter.
    let method = "anklang.winback.v1.WinbackCaseService/AnalyseWinback";
    let day = json!({"year": 2026, "month": 1, "day": 1});
    let request = json!({"firstDate": day, "lastDate": day, "workers": ["users/berta"]});
    anna.call(Some("linden"), method, &request).await.unwrap();
}
