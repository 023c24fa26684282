//! Brands.

use std::sync::Arc;

use anklang_domain::master::BrandRow;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::brands::v1 as pb;
use anklang_store::Store;
use anklang_store::brand::{self, Brand};
use anklang_store::hold::{Held, hold};
use tonic::{Request, Response, Status};

use super::form::{self, Form, Names};
use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::seal::Keys;

/// The service.
pub struct BrandsApi {
    store: Store,
    keys: Arc<Keys>,
}

impl BrandsApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        BrandsApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::brand_service_server::BrandService for BrandsApi {
    async fn get_brand(
        &self,
        request: Request<pb::GetBrandRequest>,
    ) -> Result<Response<pb::Brand>, Status> {
        reply(self.get(request).await)
    }

    async fn list_brands(
        &self,
        request: Request<pb::ListBrandsRequest>,
    ) -> Result<Response<pb::ListBrandsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_brand(
        &self,
        request: Request<pb::UpdateBrandRequest>,
    ) -> Result<Response<pb::Brand>, Status> {
        reply(self.update(request).await)
    }
}

/// Columns and their names in the message.
const NAMES: Names = &[("name", "display_name")];

impl BrandsApi {
    async fn get(&self, request: Request<pb::GetBrandRequest>) -> ApiResult<pb::Brand> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let [code] = form::ids("name", &request.name, ["brands"])?;
        let brand = store
            .read(tenant.id)
            .ask(|conn| brand::get(conn, tenant.id, &code))
            .await?;
        brand.map(to_proto).ok_or(ApiError::NotFound(request.name))
    }

    async fn list(
        &self,
        request: Request<pb::ListBrandsRequest>,
    ) -> ApiResult<pb::ListBrandsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let of = &brand::LISTABLE;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| brand::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListBrandsResponse {
            next_page_token: listing.token(page.next),
            brands: page.rows.into_iter().map(to_proto).collect(),
        })
    }

    async fn update(&self, request: Request<pb::UpdateBrandRequest>) -> ApiResult<pb::Brand> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut brand = request
            .brand
            .ok_or_else(|| ApiError::field("brand", "is required"))?;
        let known = form::identify(&mut brand.code, &brand.name, "brands");
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(code) = known.filter(|_| change.looks()) {
            hold(&mut tx, tenant.id, Held::Brand(&code)).await?;
            let current = brand::get(&tx, tenant.id, &code).await?.map(to_proto);
            let called = std::mem::take(&mut brand.name);
            let name = name::format(&[("brands", &code)]);
            brand = change.settle(&name, current, brand, request.allow_missing)?;
            brand.name = called;
        }
        let update = from_proto(brand, &mut violations);
        let update = form::complete(violations, update)?;
        let saved = brand::replace(&mut tx, tenant.id, update, request.allow_missing)
            .await
            .map_err(|e| form::store_error(e, |f| form::stored_path("brand.", NAMES, &[], f)))?;
        let response = to_proto(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }
}

fn from_proto(brand: pb::Brand, violations: &mut Violations) -> Option<BrandRow> {
    form::check_name(
        violations,
        "brand.name",
        &brand.name,
        &[("brands", &brand.code)],
    );
    Form::new("brand.", NAMES, violations)
        .text("code", brand.code)
        .text("name", brand.display_name)
        .text("legal_name", brand.legal_name)
        .text("street", brand.street)
        .text("house_number", brand.house_number)
        .text("postal_code", brand.postal_code)
        .text("city", brand.city)
        .text("country", brand.country)
        .text("phone", brand.phone)
        .text("email", brand.email)
        .text("website", brand.website)
        .text("register_line", brand.register_line)
        .text("vat_id", brand.vat_id)
        .text("bank_line", brand.bank_line)
        .text("sender_name", brand.sender_name)
        .text("sender_email", brand.sender_email)
        .text("reply_to", brand.reply_to)
        .parse()
}

fn to_proto(brand: Brand) -> pb::Brand {
    tagged(pb::Brand {
        name: name::format(&[("brands", &brand.code)]),
        code: brand.code,
        display_name: brand.name,
        legal_name: brand.legal_name,
        street: brand.street,
        house_number: brand.house_number,
        postal_code: brand.postal_code,
        city: brand.city,
        country: brand.country,
        phone: brand.phone,
        email: brand.email,
        website: brand.website,
        register_line: brand.register_line,
        vat_id: brand.vat_id,
        bank_line: brand.bank_line,
        sender_name: brand.sender_name,
        sender_email: brand.sender_email,
        reply_to: brand.reply_to,
        create_time: Some(wire::timestamp(brand.created_at)),
        update_time: Some(wire::timestamp(brand.updated_at)),
        etag: String::new(),
    })
}
