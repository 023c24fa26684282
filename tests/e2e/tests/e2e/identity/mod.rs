//! Who calls, and what they may do: bearer tokens, certificates, permissions, roles.

mod authorities;
mod certificates;
mod claims;
mod configured;
mod exclusions;
mod issuer;
mod jwt;
mod keys;
mod open;
mod reloaded;
mod rights;
mod rotation;
mod streams;
mod tokens;
mod units;
mod waits;
mod workers;

use std::collections::HashMap;

use anklang_domain::access::Permission;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::{Options, TestServer, reason};
use prost_reflect::MethodDescriptor;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::raw::{self, Raw};
use crate::refused;

/// A call that only reads.
const LIST: &str = "anklang.brands.v1.BrandService/ListBrands";
/// A call that changes something.
const UPDATE: &str = "anklang.brands.v1.BrandService/UpdateBrand";

/// A static token that nobody has yet.
pub fn new_token() -> String {
    format!("anklang_{}", keys::base64(rand::random::<[u8; 32]>()))
}

/// Settings by which a server knows a static token.
pub fn knows(id: &str, token: &str, tenants: &[&str], roles: &[&str]) -> String {
    format!(
        "[auth.tokens.{id}]\nsha256 = \"{}\"\ntenants = {tenants:?}\nroles = {roles:?}\n",
        hex::encode(Sha256::digest(token))
    )
}

/// A server that authenticates its callers; its own clients may do everything. `auth` are more settings of
/// the section, `trusts` says who else is known.
async fn serving(auth: &str, trusts: &str) -> (TestServer, Raw) {
    let token = new_token();
    let own = knows("own", &token, &["*"], &["central"]);
    let server = TestServer::start_with(Options {
        config: format!("[auth]\nmode = \"token\"\n{auth}\n{own}\n{trusts}"),
        token: Some(token),
        ..Default::default()
    })
    .await
    .unwrap();
    let raw = Raw::connect(server.addr).await;
    (server, raw)
}

/// The same with the tenants `linden` and `other`, each of which has one brand, of its name.
pub async fn guarded(auth: &str, trusts: &str) -> (TestServer, Raw) {
    let (server, raw) = serving(auth, trusts).await;
    for tenant in ["linden", "other"] {
        let client = server.client(tenant).await.unwrap();
        let csv = format!("code,name,sender_email\n{tenant},{tenant},post@sw.example\n");
        let sums = client.import(ImportEntity::Brands, csv).await.unwrap();
        assert_eq!((sums.created, sums.failed), (1, 0));
    }
    (server, raw)
}

/// A change: the brand of that code is there afterwards.
pub fn brand(code: &str) -> Value {
    let brand = json!({"code": code, "displayName": code, "senderEmail": "post@sw.example"});
    json!({"brand": brand, "allowMissing": true})
}

pub async fn update(raw: &Raw, tenant: Option<&str>, request: &Value) -> Result<Value, Status> {
    raw.call(tenant, UPDATE, request).await
}

/// The codes of the brands that a caller sees.
async fn list(raw: &Raw, tenant: Option<&str>) -> Result<Vec<String>, Status> {
    let listed = raw.call(tenant, LIST, &json!({})).await?;
    let brands = listed["brands"].as_array().into_iter().flatten();
    Ok(brands
        .map(|b| b["code"].as_str().unwrap().to_owned())
        .collect())
}

/// Checks that nobody knows who calls, and that what they sent is not repeated.
#[track_caller]
fn nobody(status: &Status, sent: &str) {
    refused::is(status, Code::Unauthenticated, "UNAUTHENTICATED");
    let told = format!("{status:?}");
    assert!(sent.len() < 16 || !told.contains(sent), "{told}");
}

/// Checks that the caller is known and may not do that: its tenant, its worker's name.
#[track_caller]
fn denied(status: &Status) {
    refused::is(status, Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(lacking(status), None, "{status:?}");
}

/// The permission that a caller is told to lack.
pub fn lacking(status: &Status) -> Option<String> {
    if (status.code(), &reason(status)[..]) != (Code::PermissionDenied, "PERMISSION_DENIED") {
        return None;
    }
    metadata(status).remove("permission")
}

fn metadata(status: &Status) -> HashMap<String, String> {
    let details = status.get_error_details();
    let info = details.error_info().cloned();
    info.map(|info| info.metadata).unwrap_or_default()
}

/// What a method needs: it says so itself, but for Google's.
fn needed(method: &MethodDescriptor) -> Permission {
    let path = raw::path(method);
    let word = match &path[..] {
        "google.longrunning.Operations/CancelOperation"
        | "google.longrunning.Operations/DeleteOperation" => "operations.write".to_owned(),
        path if path.starts_with("google.") => "operations.read".to_owned(),
        _ => crate::conventions::declared(method).unwrap_or_default(),
    };
    Permission::parse(&word).unwrap_or_else(|| panic!("{path} needs {word:?}"))
}
