//! Handlers, one file per area: parse the wire into typed values and collect all violations, call
//! one store function in one transaction, turn rows into wire.

pub mod change;
pub mod deed;
pub mod error;
pub mod etag;
pub mod form;
pub mod listing;
pub mod mask;
pub mod parts;
pub mod structs;
pub mod wire;

pub mod audience;
pub mod audit;
pub mod brands;
pub mod campaigns;
pub mod channels;
pub mod cockpit;
pub mod contracts;
pub mod customers;
pub mod deliveries;
pub mod documents;
pub mod imports;
pub mod inbound;
pub mod infoboard;
pub mod messages;
pub mod offers;
pub mod operations;
pub mod orders;
pub mod org_units;
pub mod planning;
pub mod presets;
pub mod privacy;
pub mod products;
pub mod progress;
pub mod reach;
pub mod selections;
pub mod templates;
pub mod webhooks;
pub mod winback;
pub mod work_list;

use std::sync::Arc;

use anklang_domain::access::{Permission, Units};
use anklang_domain::{TenantId, name};
use anklang_store::Store;
use anklang_store::tenant::{self, Tenant};
use tonic::{Request, Response, Status};

pub use change::Change;
pub use error::ApiError;
pub use etag::tagged;

use crate::auth::{Principal, Worker};
use error::Denied;

/// Metadata key that names the caller's tenant.
pub const TENANT_KEY: &str = "anklang-tenant";

/// Metadata key of calls that are not to be answered from a replica, which may be behind: `true`.
pub const FRESH_KEY: &str = "anklang-fresh";

/// What a handler gives.
pub type ApiResult<T> = Result<T, ApiError>;

/// Who makes a call.
fn principal<T>(request: &Request<T>) -> ApiResult<&Principal> {
    let principal = request.extensions().get::<Arc<Principal>>();
    // The layer is before all handlers; without it nobody may do anything.
    principal
        .map(|principal| &**principal)
        .ok_or_else(|| ApiError::Internal("nobody has looked who calls".into()))
}

/// Whether a call's caller has a permission besides the one that the method needs.
pub fn may<T>(request: &Request<T>, permission: Permission) -> ApiResult<bool> {
    Ok(principal(request)?.rights.allows(permission))
}

/// The tenant that a call is made for, of those for which its caller may act; for callers who see all of it.
/// Those who are bound to org units are refused: calls that are for them as well use [`caller_in_units`].
pub async fn caller<T>(store: &Store, request: &Request<T>) -> ApiResult<Tenant> {
    match principal(request)?.units {
        Units::All => tenant_of(store, request).await,
        Units::Only(_) => Err(Denied::Bound("this call").into()),
    }
}

/// Who makes a call that is also for callers who are bound to org units.
pub struct Caller {
    /// For whom.
    pub tenant: Tenant,
    /// The database as far as the caller sees it: no other one may be used for the call.
    pub store: Store,
    /// What tells answers and tokens for those who are bound apart; empty for all others.
    bounds: Vec<u8>,
}

/// As [`caller`], of any caller who may act for the tenant.
pub async fn caller_in_units<T>(store: &Store, request: &Request<T>) -> ApiResult<Caller> {
    let Principal { name, units, .. } = principal(request)?;
    let bounds = match units {
        Units::All => Vec::new(),
        Units::Only(codes) if codes.is_empty() => return Err(Denied::NoUnit.into()),
        // No code has control characters.
        Units::Only(codes) => codes
            .iter()
            .fold(name.to_string(), |all, code| format!("{all}\0{code}"))
            .into_bytes(),
    };
    Ok(Caller {
        tenant: tenant_of(store, request).await?,
        store: store.within(units),
        bounds,
    })
}

/// Whose answers and tokens are meant.
pub struct Whose<'a> {
    tenant: TenantId,
    bounds: &'a [u8],
}

impl Whose<'_> {
    /// To be put before what is compared: its length and what it is. Empty for callers who see all.
    fn prefix(&self) -> Vec<u8> {
        match self.bounds {
            [] => Vec::new(),
            bounds => [&bounds.len().to_be_bytes()[..], bounds].concat(),
        }
    }
}

impl<'a> From<&'a Tenant> for Whose<'a> {
    /// Callers who see all of the tenant.
    fn from(tenant: &'a Tenant) -> Self {
        Whose {
            tenant: tenant.id,
            bounds: &[],
        }
    }
}

impl<'a> From<&'a Caller> for Whose<'a> {
    fn from(caller: &'a Caller) -> Self {
        Whose {
            tenant: caller.tenant.id,
            bounds: &caller.bounds,
        }
    }
}

/// The tenant of a call. A caller who may act for one alone need not name it.
async fn tenant_of<T>(store: &Store, request: &Request<T>) -> ApiResult<Tenant> {
    let tenants = &principal(request)?.tenants;
    let slug = match request.metadata().get(TENANT_KEY) {
        Some(value) => value
            .to_str()
            .map_err(|_| ApiError::TenantRequired("anklang-tenant must be ASCII"))?,
        None => tenants.single().ok_or(ApiError::TenantRequired(
            "the metadata key anklang-tenant is missing",
        ))?,
    };
    // Before it is looked up: who may not act for it does not hear whether there is one.
    if !tenants.has(slug) {
        return Err(Denied::Tenant.into());
    }
    tenant::by_slug(store, slug)
        .await?
        .ok_or(ApiError::TenantRequired("anklang-tenant names no tenant"))
}

/// Refuses a `worker` that is not the caller's own name, for callers who may work in theirs alone. What is no
/// name of a worker is left to the handler, which tells all that is wrong.
pub fn check_worker<T>(request: &Request<T>, worker: &str) -> ApiResult<()> {
    let own = &principal(request)?.worker;
    let Ok([user]) = name::parse(worker, ["users"]) else {
        return Ok(());
    };
    let must = match own {
        Worker::Anybody => return Ok(()),
        Worker::Own(own) if *own == user => return Ok(()),
        Worker::Own(own) => {
            let own = name::format(&[("users", own)]);
            format!("must be {own}, your own name")
        }
        Worker::Nobody => {
            "must be your own name, and your token or certificate has none".to_owned()
        }
    };
    Err(Denied::Worker(must).into())
}

/// Turns what a handler gives into what tonic sends.
pub fn reply<T>(result: ApiResult<T>) -> Result<Response<T>, Status> {
    Ok(Response::new(result?))
}
