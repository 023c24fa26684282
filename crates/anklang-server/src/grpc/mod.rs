//! Handlers, one file per area: parse the wire into typed values and collect all violations, call
//! one store function in one transaction, turn rows into wire.

pub mod change;
pub mod error;
pub mod etag;
pub mod form;
pub mod listing;
pub mod mask;
pub mod structs;
pub mod wire;

pub mod audience;
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
pub mod products;
pub mod progress;
pub mod reach;
pub mod selections;
pub mod templates;
pub mod webhooks;
pub mod winback;
pub mod work_list;

use anklang_store::Store;
use anklang_store::tenant::{self, Tenant};
use tonic::{Request, Response, Status};

pub use change::Change;
pub use error::ApiError;
pub use etag::tagged;

/// Metadata key that names the caller's tenant.
pub const TENANT_KEY: &str = "anklang-tenant";

/// What a handler gives.
pub type ApiResult<T> = Result<T, ApiError>;

/// The tenant that a call is made for.
pub async fn caller<T>(store: &Store, request: &Request<T>) -> ApiResult<Tenant> {
    let slug = request
        .metadata()
        .get(TENANT_KEY)
        .ok_or(ApiError::TenantRequired(
            "the metadata key anklang-tenant is missing",
        ))?
        .to_str()
        .map_err(|_| ApiError::TenantRequired("anklang-tenant must be ASCII"))?;
    tenant::by_slug(store, slug)
        .await?
        .ok_or(ApiError::TenantRequired("anklang-tenant names no tenant"))
}

/// Turns what a handler gives into what tonic sends.
pub fn reply<T>(result: ApiResult<T>) -> Result<Response<T>, Status> {
    Ok(Response::new(result?))
}
