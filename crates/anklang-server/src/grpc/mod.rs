//! Handlers, one file per area: parse the wire into typed values and collect all violations, call
//! one store function in one transaction, turn rows into wire.

pub mod error;
pub mod form;
pub mod listing;
pub mod wire;

pub mod audience;
pub mod brands;
pub mod campaigns;
pub mod channels;
pub mod cockpit;
pub mod contracts;
pub mod customers;
pub mod deliveries;
pub mod imports;
pub mod infoboard;
pub mod messages;
pub mod offers;
pub mod operations;
pub mod orders;
pub mod presets;
pub mod products;
pub mod progress;
pub mod reach;
pub mod selections;
pub mod templates;
pub mod webhooks;

use anklang_domain::{TenantId, Violations};
use anklang_store::request_log::{self, Known};
use anklang_store::tenant::{self, Tenant};
use anklang_store::{Conn, Store};
use prost::Message;
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub use error::ApiError;

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

/// A `request_id` as it came: none, or a UUID.
pub fn request_id(text: &str, violations: &mut Violations) -> Option<Uuid> {
    if text.is_empty() {
        return None;
    }
    violations.check(
        "request_id",
        Uuid::try_parse(text).map_err(|_| "must be a UUID"),
    )
}

/// A mutation that may carry a `request_id`: looked up before, recorded after, both in the
/// caller's transaction.
pub struct Once<'a> {
    tenant: TenantId,
    request: Option<request_log::Request<'a>>,
}

impl<'a> Once<'a> {
    /// A call of `method` with the encoded request `body`.
    pub fn new(tenant: TenantId, id: Option<Uuid>, method: &'static str, body: &'a [u8]) -> Self {
        Once {
            tenant,
            request: id.map(|id| request_log::Request { id, method, body }),
        }
    }

    /// The response that was given before, if it was.
    pub async fn before<R: Message + Default>(&self, conn: &mut Conn) -> ApiResult<Option<R>> {
        let Some(request) = self.request else {
            return Ok(None);
        };
        match request_log::lookup(conn, self.tenant, request).await? {
            Known::New => Ok(None),
            Known::Reused => Err(ApiError::RequestIdReused),
            Known::Done(bytes) => R::decode(&bytes[..])
                .map(Some)
                .map_err(|e| ApiError::Internal(format!("recorded response: {e}"))),
        }
    }

    /// Keeps the response for the next time.
    pub async fn after<R: Message>(&self, conn: &mut Conn, response: &R) -> ApiResult<()> {
        if let Some(request) = self.request {
            request_log::record(conn, self.tenant, request, &response.encode_to_vec()).await?;
        }
        Ok(())
    }
}
