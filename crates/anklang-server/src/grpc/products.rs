//! Products and product versions.

use std::sync::Arc;

use anklang_domain::master::{ProductRow, ProductVersionRow};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::products::v1 as pb;
use anklang_store::Store;
use anklang_store::hold::{Held, hold};
use anklang_store::product::{self, Product, ProductVersion};
use tonic::{Request, Response, Status};

use super::form::{self, Form, Names};
use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::seal::Keys;

/// The service.
pub struct ProductsApi {
    store: Store,
    keys: Arc<Keys>,
}

impl ProductsApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        ProductsApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::product_service_server::ProductService for ProductsApi {
    async fn get_product(
        &self,
        request: Request<pb::GetProductRequest>,
    ) -> Result<Response<pb::Product>, Status> {
        reply(self.get(request).await)
    }

    async fn list_products(
        &self,
        request: Request<pb::ListProductsRequest>,
    ) -> Result<Response<pb::ListProductsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_product(
        &self,
        request: Request<pb::UpdateProductRequest>,
    ) -> Result<Response<pb::Product>, Status> {
        reply(self.update(request).await)
    }

    async fn get_product_version(
        &self,
        request: Request<pb::GetProductVersionRequest>,
    ) -> Result<Response<pb::ProductVersion>, Status> {
        reply(self.get_version(request).await)
    }

    async fn list_product_versions(
        &self,
        request: Request<pb::ListProductVersionsRequest>,
    ) -> Result<Response<pb::ListProductVersionsResponse>, Status> {
        reply(self.list_versions(request).await)
    }

    async fn update_product_version(
        &self,
        request: Request<pb::UpdateProductVersionRequest>,
    ) -> Result<Response<pb::ProductVersion>, Status> {
        reply(self.update_version(request).await)
    }
}

/// Columns of products and their names in the message.
const NAMES: Names = &[("name", "display_name"), ("brand_code", "brand")];
/// Columns of product versions and their names in the message.
const VERSION_NAMES: Names = &[
    ("name", "display_name"),
    ("product_number", "name"),
    ("currency", "base_price_per_year.currency_code"),
];

impl ProductsApi {
    async fn get(&self, request: Request<pb::GetProductRequest>) -> ApiResult<pb::Product> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let [number] = form::ids("name", &request.name, ["products"])?;
        let product = store
            .read(tenant.id)
            .ask(|conn| product::get(conn, tenant.id, &number))
            .await?;
        product
            .map(to_proto)
            .ok_or(ApiError::NotFound(request.name))
    }

    async fn list(
        &self,
        request: Request<pb::ListProductsRequest>,
    ) -> ApiResult<pb::ListProductsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let of = &product::LISTABLE;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| product::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListProductsResponse {
            next_page_token: listing.token(page.next),
            products: page.rows.into_iter().map(to_proto).collect(),
        })
    }

    async fn update(&self, request: Request<pb::UpdateProductRequest>) -> ApiResult<pb::Product> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut product = request
            .product
            .ok_or_else(|| ApiError::field("product", "is required"))?;
        let known = form::identify(&mut product.number, &product.name, "products");
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(number) = known.filter(|_| change.looks()) {
            hold(&mut tx, tenant.id, Held::Product(&number)).await?;
            let current = product::get(&tx, tenant.id, &number).await?.map(to_proto);
            let called = std::mem::take(&mut product.name);
            let name = name::format(&[("products", &number)]);
            product = change.settle(&name, current, product, request.allow_missing)?;
            product.name = called;
        }
        let update = from_proto(product, &mut violations);
        let update = form::complete(violations, update)?;
        let saved = product::replace(&mut tx, tenant.id, update, request.allow_missing)
            .await
            .map_err(|e| form::store_error(e, |f| form::stored_path("product.", NAMES, &[], f)))?;
        let response = to_proto(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn get_version(
        &self,
        request: Request<pb::GetProductVersionRequest>,
    ) -> ApiResult<pb::ProductVersion> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let [number, code] = form::ids("name", &request.name, ["products", "versions"])?;
        let version = store
            .read(tenant.id)
            .ask(|conn| product::get_version(conn, tenant.id, &number, &code))
            .await?;
        version
            .map(version_to_proto)
            .ok_or(ApiError::NotFound(request.name))
    }

    async fn list_versions(
        &self,
        request: Request<pb::ListProductVersionsRequest>,
    ) -> ApiResult<pb::ListProductVersionsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let parent = violations.check("parent", name::parse(&request.parent, ["products"]));
        let of = &product::VERSIONS;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        let [product] = form::complete(violations, parent)?;
        let one = (product != "-").then_some(product);
        let mut tx = store.begin(tenant.id).await?;
        if let Some(number) = &one
            && product::get(&tx, tenant.id, number).await?.is_none()
        {
            return Err(ApiError::NotFound(request.parent));
        }
        let page = product::list_versions(&mut tx, tenant.id, one, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListProductVersionsResponse {
            next_page_token: listing.token(page.next),
            product_versions: page.rows.into_iter().map(version_to_proto).collect(),
        })
    }

    async fn update_version(
        &self,
        request: Request<pb::UpdateProductVersionRequest>,
    ) -> ApiResult<pb::ProductVersion> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut version = request
            .product_version
            .ok_or_else(|| ApiError::field("product_version", "is required"))?;
        let ids = name::parse(&version.name, ["products", "versions"]);
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        // As they are stored.
        version.code = version.code.trim().to_owned();
        if let Ok([number, code]) = ids.map(|ids| ids.map(|id| id.trim().to_owned())) {
            if version.code.is_empty() {
                version.code.clone_from(&code);
            }
            if change.looks() && version.code == code {
                hold(&mut tx, tenant.id, Held::Product(&number)).await?;
                let current = product::get_version(&tx, tenant.id, &number, &code).await?;
                let (name, current) = (version.name.clone(), current.map(version_to_proto));
                version = change.settle(&name, current, version, request.allow_missing)?;
            }
        }
        let row = version_from_proto(version, &mut violations);
        let row = form::complete(violations, row)?;
        let saved = product::replace_version(&mut tx, tenant.id, row, request.allow_missing)
            .await
            .map_err(|e| {
                let path = |f: &str| form::stored_path("product_version.", VERSION_NAMES, &[], f);
                form::store_error(e, path)
            })?;
        let response = version_to_proto(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }
}

fn from_proto(product: pb::Product, violations: &mut Violations) -> Option<ProductRow> {
    let ids = [("products", &*product.number)];
    form::check_name(violations, "product.name", &product.name, &ids);
    Form::new("product.", NAMES, violations)
        .text("number", product.number)
        .text("name", product.display_name)
        .text("division", product.division)
        .id("brand_code", &product.brand, "brands")
        .parse()
}

fn version_from_proto(
    version: pb::ProductVersion,
    violations: &mut Violations,
) -> Option<ProductVersionRow> {
    let (base, unit) = (&version.base_price_per_year, &version.unit_price_per_kwh);
    let currency = base.as_ref().map_or("", |m| &m.currency_code);
    if unit.as_ref().is_some_and(|m| m.currency_code != currency) {
        violations.add(
            "product_version.unit_price_per_kwh.currency_code",
            "must be that of base_price_per_year",
        );
    }
    let mut form = Form::new("product_version.", VERSION_NAMES, violations);
    match name::parse(&version.name, ["products", "versions"]) {
        Ok([product, code]) => {
            if code != version.code {
                form.refuse("code", format!("must be that of the name, {code}"));
            }
            form.text("product_number", product);
        }
        Err(error) => form.refuse("product_number", error.to_string()),
    }
    form.text("code", &version.code)
        .text("name", &version.display_name)
        .date("valid_from", version.valid_from.as_ref())
        .date("valid_to", version.valid_to.as_ref())
        .amount("base_price_per_year", base.as_ref())
        .amount("unit_price_per_kwh", unit.as_ref())
        .text("currency", currency)
        .parse()
}

fn to_proto(product: Product) -> pb::Product {
    tagged(pb::Product {
        name: name::format(&[("products", &product.number)]),
        number: product.number,
        display_name: product.name,
        division: product.division,
        brand: name::format(&[("brands", &product.brand_code)]),
        create_time: Some(wire::timestamp(product.created_at)),
        update_time: Some(wire::timestamp(product.updated_at)),
        etag: String::new(),
    })
}

fn version_to_proto(version: ProductVersion) -> pb::ProductVersion {
    tagged(pb::ProductVersion {
        name: name::format(&[
            ("products", &version.product_number),
            ("versions", &version.code),
        ]),
        code: version.code,
        display_name: version.name,
        valid_from: Some(wire::date(version.valid_from)),
        valid_to: version.valid_to.map(wire::date),
        base_price_per_year: Some(wire::money(version.base_price_per_year, &version.currency)),
        unit_price_per_kwh: Some(wire::money(version.unit_price_per_kwh, &version.currency)),
        create_time: Some(wire::timestamp(version.created_at)),
        update_time: Some(wire::timestamp(version.updated_at)),
        etag: String::new(),
    })
}
