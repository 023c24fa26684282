//! Contracts with items and attributes.

use std::sync::Arc;

use anklang_domain::master::{ContractItemRow, ContractRow};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::contracts::v1 as pb;
use anklang_store::Store;
use anklang_store::contract::{self, ContractDetails, ContractUpdate};
use anklang_store::hold::{Held, hold};
use tonic::{Request, Response, Status};

use super::customers::attributes;
use super::form::{self, Form, Names};
use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::seal::Keys;

/// The most items of a contract.
const MAX_ITEMS: usize = 500;

/// Columns of contracts and their names in the message.
const NAMES: Names = &[
    ("customer_number", "customer"),
    ("brand_code", "brand"),
    ("product_number", "product_version"),
    ("product_version_code", "product_version"),
];
/// Columns of items and their names in the message.
const ITEM_NAMES: Names = &[("contract_number", ""), ("name", "display_name")];

/// The service.
pub struct ContractsApi {
    store: Store,
    keys: Arc<Keys>,
}

impl ContractsApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        ContractsApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::contract_service_server::ContractService for ContractsApi {
    async fn get_contract(
        &self,
        request: Request<pb::GetContractRequest>,
    ) -> Result<Response<pb::Contract>, Status> {
        reply(self.get(request).await)
    }

    async fn list_contracts(
        &self,
        request: Request<pb::ListContractsRequest>,
    ) -> Result<Response<pb::ListContractsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_contract(
        &self,
        request: Request<pb::UpdateContractRequest>,
    ) -> Result<Response<pb::Contract>, Status> {
        reply(self.update(request).await)
    }
}

impl ContractsApi {
    async fn get(&self, request: Request<pb::GetContractRequest>) -> ApiResult<pb::Contract> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let [number] = form::ids("name", &request.name, ["contracts"])?;
        let contract = store
            .read(tenant.id)
            .ask(|conn| contract::get(conn, tenant.id, &number))
            .await?;
        contract
            .map(to_proto)
            .ok_or(ApiError::NotFound(request.name))
    }

    async fn list(
        &self,
        request: Request<pb::ListContractsRequest>,
    ) -> ApiResult<pb::ListContractsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let customer = customer_filter(&request.customer, &mut violations);
        let of = &contract::LISTABLE;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| contract::list(conn, tenant.id, customer, &listing.list))
            .await?;
        Ok(pb::ListContractsResponse {
            next_page_token: listing.token(page.next),
            contracts: page.rows.into_iter().map(to_proto).collect(),
        })
    }

    async fn update(&self, request: Request<pb::UpdateContractRequest>) -> ApiResult<pb::Contract> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut contract = request
            .contract
            .ok_or_else(|| ApiError::field("contract", "is required"))?;
        let known = form::identify(&mut contract.number, &contract.name, "contracts");
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(number) = known.filter(|_| change.looks()) {
            hold(&mut tx, tenant.id, Held::Contract(&number)).await?;
            let current = contract::get(&tx, tenant.id, &number).await?.map(to_proto);
            let called = std::mem::take(&mut contract.name);
            let name = name::format(&[("contracts", &number)]);
            contract = change.settle(&name, current, contract, request.allow_missing)?;
            contract.name = called;
        }
        let keys = attributes::keys(&contract.attributes);
        let update = from_proto(contract, &mut violations);
        let update = form::complete(violations, update)?;
        let saved = contract::replace(&mut tx, tenant.id, update, request.allow_missing)
            .await
            .map_err(|e| form::store_error(e, |f| stored_path(&keys, f)))?;
        let response = to_proto(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }
}

/// The number in the filter `customer`; none for all.
pub(super) fn customer_filter(customer: &str, violations: &mut Violations) -> Option<String> {
    if customer.is_empty() {
        return None;
    }
    let [number] = violations.check("customer", name::parse(customer, ["customers"]))?;
    Some(number)
}

/// The path of a field that the store refused; `keys` are those of the attributes.
fn stored_path(keys: &[String], field: &str) -> String {
    let key = field
        .strip_prefix("attributes[")
        .and_then(|rest| rest.split(']').next()?.parse::<usize>().ok())
        .and_then(|i| keys.get(i));
    match key {
        Some(key) => attributes::path("contract.", key),
        None => form::stored_path("contract.", NAMES, ITEM_NAMES, field),
    }
}

fn from_proto(mut contract: pb::Contract, violations: &mut Violations) -> Option<ContractUpdate> {
    let number = contract.number.clone();
    form::check_name(
        violations,
        "contract.name",
        &contract.name,
        &[("contracts", &number)],
    );
    let items = items(&mut contract, violations);
    let values = std::mem::take(&mut contract.attributes);
    let attributes = attributes::from_proto("contract.", "contract", &number, values, violations);
    Some(ContractUpdate {
        contract: row(contract, violations)?,
        items,
        attributes,
    })
}

fn row(contract: pb::Contract, violations: &mut Violations) -> Option<ContractRow> {
    let mut form = Form::new("contract.", NAMES, violations);
    if !contract.product_version.is_empty() {
        match name::parse(&contract.product_version, ["products", "versions"]) {
            Ok([product, version]) => {
                form.text("product_number", product)
                    .text("product_version_code", version);
            }
            Err(error) => form.refuse("product_number", error.to_string()),
        }
    }
    form.text("number", contract.number)
        .id("customer_number", &contract.customer, "customers")
        .id("brand_code", &contract.brand, "brands")
        .text("division", contract.division)
        .text("supply_status", contract.supply_status)
        .text("site_street", contract.site_street)
        .text("site_house_number", contract.site_house_number)
        .text("site_postal_code", contract.site_postal_code)
        .text("site_city", contract.site_city)
        .text("annual_quantity_kwh", contract.annual_quantity_kwh)
        .date("start_date", contract.start_date.as_ref())
        .date("end_date", contract.end_date.as_ref())
        .date("notice_date", contract.notice_date.as_ref())
        .parse()
}

fn items(contract: &mut pb::Contract, violations: &mut Violations) -> Vec<ContractItemRow> {
    let items = std::mem::take(&mut contract.items);
    form::at_most(violations, "contract.items", items.len(), MAX_ITEMS);
    let mut rows = Vec::new();
    for (i, item) in items.into_iter().take(MAX_ITEMS).enumerate() {
        let prefix = format!("contract.items[{i}].");
        let row: Option<ContractItemRow> = Form::new(prefix, ITEM_NAMES, violations)
            .text("contract_number", &contract.number)
            .text("code", item.code)
            .text("name", item.display_name)
            .text("quantity", item.quantity)
            .parse();
        rows.extend(row);
    }
    rows
}

fn to_proto(details: ContractDetails) -> pb::Contract {
    let contract = details.contract;
    let version = contract.product_number.zip(contract.product_version_code);
    let decimal = |d: rust_decimal::Decimal| d.normalize().to_string();
    tagged(pb::Contract {
        name: name::format(&[("contracts", &contract.number)]),
        number: contract.number,
        customer: name::format(&[("customers", &contract.customer_number)]),
        brand: name::format(&[("brands", &contract.brand_code)]),
        division: contract.division,
        supply_status: contract.supply_status,
        site_street: contract.site_street,
        site_house_number: contract.site_house_number,
        site_postal_code: contract.site_postal_code,
        site_city: contract.site_city,
        annual_quantity_kwh: contract
            .annual_quantity_kwh
            .map(decimal)
            .unwrap_or_default(),
        product_version: version.map_or_else(String::new, |(product, code)| {
            name::format(&[("products", &product), ("versions", &code)])
        }),
        start_date: contract.start_date.map(wire::date),
        end_date: contract.end_date.map(wire::date),
        notice_date: contract.notice_date.map(wire::date),
        items: details
            .items
            .into_iter()
            .map(|item| pb::ContractItem {
                code: item.code,
                display_name: item.name,
                quantity: item.quantity.map(decimal).unwrap_or_default(),
            })
            .collect(),
        attributes: attributes::to_proto(details.attributes),
        create_time: Some(wire::timestamp(contract.created_at)),
        update_time: Some(wire::timestamp(contract.updated_at)),
        etag: String::new(),
    })
}
