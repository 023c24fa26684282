//! Regions and agencies: they see and work on the customers of their org units and of all below, at every
//! method of the API.

mod figures;
mod lists;
mod moves;
mod tables;
mod work;

use std::collections::BTreeSet;
use std::time::Duration;

use anklang_domain::access::Role;
use anklang_testkit::TestServer;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::issuer::Issuer;
use super::keys::Key;
use super::{denied, lacking, needed, serving};
use crate::changes::{is_as_before, stored};
use crate::raw::{self, Raw};
use crate::refused;
use crate::world::{named, populate};

/// Calls about customers and what is theirs.
const OF_CUSTOMERS: [&str; 38] = [
    "anklang.customers.v1.CustomerService/GetCustomer",
    "anklang.customers.v1.CustomerService/ListCustomers",
    "anklang.customers.v1.CustomerService/ListCustomerEvents",
    "anklang.contracts.v1.ContractService/GetContract",
    "anklang.contracts.v1.ContractService/ListContracts",
    "anklang.orders.v1.OrderService/GetOrder",
    "anklang.orders.v1.OrderService/ListOrders",
    "anklang.offers.v1.OfferService/GetOffer",
    "anklang.offers.v1.OfferService/ListOffers",
    "anklang.offers.v1.OfferService/DownloadOfferDocument",
    "anklang.offers.v1.OfferService/AcceptOffer",
    "anklang.offers.v1.OfferService/RejectOffer",
    "anklang.offers.v1.OfferService/WithdrawOffer",
    "anklang.messages.v1.MessageService/GetMessage",
    "anklang.messages.v1.MessageService/ListMessages",
    "anklang.inbound.v1.InboundService/GetInboundMessage",
    "anklang.inbound.v1.InboundService/ListInboundMessages",
    "anklang.planning.v1.PlannedContactService/GetPlannedContact",
    "anklang.planning.v1.PlannedContactService/ListPlannedContacts",
    "anklang.planning.v1.WorkListService/ClaimContact",
    "anklang.planning.v1.WorkListService/ExtendClaim",
    "anklang.planning.v1.WorkListService/ReleaseContact",
    "anklang.planning.v1.WorkListService/RecordOutcome",
    "anklang.planning.v1.WorkListService/TakeOrder",
    "anklang.planning.v1.WorkListService/ListContactOrders",
    "anklang.planning.v1.WorkListService/ListContactAttempts",
    "anklang.selections.v1.SelectionService/ExplainSelection",
    "anklang.winback.v1.WinbackCaseService/GetWinbackCase",
    "anklang.winback.v1.WinbackCaseService/ListWinbackCases",
    "anklang.winback.v1.WinbackCaseService/ListWinbackCaseEvents",
    "anklang.winback.v1.WinbackCaseService/ClaimWinbackCase",
    "anklang.winback.v1.WinbackCaseService/ExtendWinbackCase",
    "anklang.winback.v1.WinbackCaseService/ReleaseWinbackCase",
    "anklang.winback.v1.WinbackCaseService/CloseWinbackCase",
    "anklang.winback.v1.WinbackCaseService/RequestWinbackOffer",
    "anklang.winback.v1.WinbackCaseService/RemindWinbackCase",
    "anklang.winback.v1.WinbackCaseService/AddWinbackRemark",
    "anklang.winback.v1.WinbackMailService/MailWinbackCase",
];

/// Calls about what the tenant has in common, and those that hand out what comes next.
const OTHERS: [&str; 22] = [
    "anklang.brands.v1.BrandService/GetBrand",
    "anklang.brands.v1.BrandService/ListBrands",
    "anklang.products.v1.ProductService/GetProduct",
    "anklang.products.v1.ProductService/ListProducts",
    "anklang.products.v1.ProductService/GetProductVersion",
    "anklang.products.v1.ProductService/ListProductVersions",
    "anklang.templates.v1.TemplateService/GetTemplate",
    "anklang.templates.v1.TemplateService/ListTemplates",
    "anklang.org.v1.OrgUnitService/GetOrgUnit",
    "anklang.org.v1.OrgUnitService/ListOrgUnits",
    "anklang.selections.v1.PresetService/GetPreset",
    "anklang.selections.v1.PresetService/ListPresets",
    "anklang.selections.v1.SelectionService/GetSelection",
    "anklang.selections.v1.SelectionService/ListSelections",
    "anklang.selections.v1.SelectionService/ListSelectionFields",
    "anklang.selections.v1.SelectionService/ListSelectionVersions",
    "anklang.selections.v1.SelectionService/GetSelectionVersion",
    "anklang.selections.v1.SelectionService/ListSelectionTicks",
    "anklang.selections.v1.SelectionService/ListSelectionMembers",
    "anklang.selections.v1.SelectionService/PreviewSelection",
    "anklang.planning.v1.WorkListService/GetContactOutcome",
    "anklang.planning.v1.WorkListService/ListContactOutcomes",
];
const NEXT: [&str; 2] = [
    "anklang.planning.v1.WorkListService/ClaimNextContact",
    "anklang.winback.v1.WinbackCaseService/NextWinbackCase",
];

/// Figures of customers and what is theirs.
const FIGURES: [&str; 4] = [
    "anklang.campaigns.v1.CampaignService/GetInfoboard",
    "anklang.planning.v1.WorkListService/AnalyseContacts",
    "anklang.winback.v1.WinbackCaseService/AnalyseWinback",
    "anklang.winback.v1.WinbackCaseService/GetWinbackTiles",
];

/// Lists of customers' things without a parent.
const LISTS: [&str; 8] = [
    "anklang.customers.v1.CustomerService/ListCustomers",
    "anklang.contracts.v1.ContractService/ListContracts",
    "anklang.orders.v1.OrderService/ListOrders",
    "anklang.offers.v1.OfferService/ListOffers",
    "anklang.messages.v1.MessageService/ListMessages",
    "anklang.inbound.v1.InboundService/ListInboundMessages",
    "anklang.planning.v1.PlannedContactService/ListPlannedContacts",
    "anklang.winback.v1.WinbackCaseService/ListWinbackCases",
];

const GET_CUSTOMER: &str = "anklang.customers.v1.CustomerService/GetCustomer";
const LIST_CUSTOMERS: &str = "anklang.customers.v1.CustomerService/ListCustomers";
const MEMBERS: &str = "anklang.selections.v1.SelectionService/ListSelectionMembers";
const UPDATE_CUSTOMER: &str = "anklang.customers.v1.CustomerService/UpdateCustomer";
const UPDATE_UNIT: &str = "anklang.org.v1.OrgUnitService/UpdateOrgUnit";

/// Long for a call that has nothing to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that trusts an issuer, and whoever has its tokens.
struct Tenant {
    server: TestServer,
    raw: Raw,
    issuer: Issuer,
    key: Key,
}

impl Tenant {
    async fn start() -> Self {
        let key = Key::ed25519("k");
        let issuer = Issuer::publishing(&[&key]).await;
        let (server, raw) = serving("", &issuer.trusted("idp", "")).await;
        server.client("linden").await.unwrap();
        Self {
            server,
            raw,
            issuer,
            key,
        }
    }

    /// Anna, of these org units.
    fn anna(&self, roles: &[&str], units: Value) -> Raw {
        let mut claims = self.issuer.claims(roles);
        claims["sub"] = json!(format!("anna of {units}"));
        claims["anklang_org_units"] = units;
        self.raw.bearing(&self.key.sign(&claims))
    }

    fn agency(&self, unit: &str) -> Raw {
        self.anna(&["agency"], json!(unit))
    }

    fn region(&self, unit: &str) -> Raw {
        self.anna(&["region"], json!([unit]))
    }

    fn central(&self) -> Raw {
        self.anna(&["central"], json!(null))
    }

    /// Central with the regions north and south; the agencies kiel and husum are in the north, ulm in the south.
    async fn tree(&self) {
        for (code, parent) in [
            ("central", ""),
            ("north", "central"),
            ("south", "central"),
            ("kiel", "north"),
            ("husum", "north"),
            ("ulm", "south"),
        ] {
            self.put(code, parent).await;
        }
    }

    /// Puts a unit below another one.
    async fn put(&self, code: &str, parent: &str) {
        let parent = match parent {
            "" => String::new(),
            code => format!("orgUnits/{code}"),
        };
        let unit = json!({"code": code, "displayName": code, "parent": parent});
        let request = json!({"orgUnit": unit, "allowMissing": true});
        call(&self.central(), UPDATE_UNIT, &request).await.unwrap();
    }

    /// Gives a customer to a unit.
    async fn give(&self, number: &str, unit: &str) {
        let customer = json!({"number": number, "orgUnit": format!("orgUnits/{unit}")});
        let request = json!({"customer": customer, "updateMask": "orgUnit"});
        let given = call(&self.central(), UPDATE_CUSTOMER, &request).await;
        assert_eq!(given.unwrap()["orgUnit"], json!(format!("orgUnits/{unit}")));
    }
}

async fn call(caller: &Raw, method: &str, request: &Value) -> Result<Value, Status> {
    caller.call(Some("linden"), method, request).await
}

/// Whether the call is refused because the caller is bound to org units.
fn is_closed(status: &Status) -> bool {
    let told = status.message().contains("bound to org units");
    if told {
        denied(status);
    }
    told
}

/// The numbers of the customers that a caller sees.
async fn customers(caller: &Raw) -> Vec<String> {
    let listed = call(caller, LIST_CUSTOMERS, &json!({})).await.unwrap();
    let listed = listed["customers"].as_array().into_iter().flatten();
    listed
        .map(|c| c["number"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn every_other_call_is_closed_to_who_is_bound() {
    let tenant = Tenant::start().await;
    tenant.tree().await;
    let open = || {
        OF_CUSTOMERS
            .into_iter()
            .chain(OTHERS)
            .chain(NEXT)
            .chain(FIGURES)
    };
    let all: BTreeSet<String> = raw::methods().map(|m| raw::path(&m)).collect();
    let unknown: Vec<&str> = open().filter(|path| !all.contains(*path)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for (role, caller) in [
        (Role::Agency, tenant.agency("kiel")),
        (Role::Region, tenant.region("north")),
    ] {
        let mut closed = 0;
        for method in raw::methods() {
            let (path, allowed) = (raw::path(&method), role.allows(needed(&method)));
            let result = timeout(PATIENCE, call(&caller, &path, &json!({}))).await;
            let result = result.unwrap_or_else(|_| panic!("{path} as {role:?} takes too long"));
            let status = result.as_ref().err();
            assert_eq!(
                status.and_then(lacking).is_none(),
                allowed,
                "{path}: {result:?}"
            );
            let is_closed = status.is_some_and(is_closed);
            let is_open = open().any(|known| known == path);
            assert_eq!(
                is_closed,
                allowed && !is_open,
                "{path} as {role:?}: {result:?}"
            );
            closed += usize::from(is_closed);
        }
        assert!(closed > 20, "{closed} as {role:?}");
    }
}

#[tokio::test]
async fn what_belongs_to_other_units_does_not_exist() {
    let tenant = Tenant::start().await;
    let world = populate(&tenant.server).await;
    tenant.tree().await;
    let all_of_ulm = "UPDATE customer SET org_unit_code = 'ulm';
        UPDATE inbound_message i SET customer_id = c.id FROM customer c
        WHERE c.tenant_id = i.tenant_id AND c.number = 'K0001'";
    let database = tenant.server.database.connect().await.unwrap();
    database.batch_execute(all_of_ulm).await.unwrap();

    let mut calls = named(&world);
    calls.retain(|(method, _)| OF_CUSTOMERS.contains(method) || OTHERS.contains(method));
    for (_, request) in &mut calls {
        // In whose name they work is their own.
        if request.get("worker").is_some() {
            request["worker"] = json!("users/anna");
        }
    }
    let called: BTreeSet<&str> = calls.iter().map(|(method, _)| *method).collect();
    for method in OF_CUSTOMERS.into_iter().filter(|m| !LISTS.contains(m)) {
        assert!(called.contains(method), "{method} is tried");
    }

    let before = stored(&tenant.server).await;
    for caller in [tenant.agency("kiel"), tenant.region("north")] {
        for (method, request) in &calls {
            let result = call(&caller, method, request).await;
            match (OF_CUSTOMERS.contains(method), result) {
                (true, Err(status)) => refused::not_found(&status),
                (false, Ok(_)) => {}
                (_, other) => panic!("{method}: {other:?}"),
            }
        }
        for method in LISTS {
            let listed = call(&caller, method, &json!({})).await.unwrap();
            assert_eq!(listed, json!({}), "{method}");
        }
        let preview = "anklang.selections.v1.SelectionService/PreviewSelection";
        let found = call(&caller, preview, &json!({"selection": world.selection})).await;
        assert_eq!(found.unwrap(), json!({}), "nobody is found");
        let listed = call(&caller, MEMBERS, &json!({"selection": world.selection})).await;
        assert_eq!(listed.unwrap(), json!({}), "nobody is listed");
    }
    is_as_before(&tenant.server, &before).await;

    // For whom it belongs to, and the region above, it is there.
    for caller in [tenant.agency("ulm"), tenant.region("south")] {
        for method in LISTS {
            let listed = call(&caller, method, &json!({})).await.unwrap();
            assert_ne!(listed, json!({}), "{method}");
        }
    }
    let ulm = tenant.agency("ulm");
    let listed = call(&ulm, MEMBERS, &json!({"selection": world.selection})).await;
    assert_ne!(listed.unwrap(), json!({}), "its own are listed");
    for (method, request) in &calls {
        if let Err(status) = call(&ulm, method, request).await {
            // Answered already.
            let code = status.code();
            assert_eq!(code, Code::FailedPrecondition, "{method}: {status:?}");
        }
    }
    // Others hear of what was done, as of all else.
    let told = "SELECT count(*) FROM handover_event e
                JOIN handover_delivery d ON d.tenant_id = e.tenant_id AND d.event_id = e.id
                WHERE e.type = 'anklang.offer.accepted.v1' AND e.subject = ";
    let told = format!("{told}'{}'", world.offer);
    assert_ne!(tenant.server.database.one(&told).await.unwrap(), "0");
}

#[tokio::test]
async fn where_units_and_customers_belong_counts_at_once() {
    let tenant = Tenant::start().await;
    tenant.tree().await;
    let client = tenant.server.client("linden").await.unwrap();
    let csv = "number,kind,last_name,org_unit_code\nH,person,Holm,husum\nK,person,Kern,kiel\n\
               N,person,Nord,north\nO,person,Ohne,\nU,person,Ulmer,ulm\n";
    let entity = anklang_proto::anklang::imports::v1::ImportEntity::Customers;
    assert_eq!(client.import(entity, csv).await.unwrap().created, 5);

    let (kiel, ulm) = (tenant.agency("kiel"), tenant.agency("ulm"));
    let (north, south) = (tenant.region("north"), tenant.region("south"));
    assert_eq!(customers(&kiel).await, ["K"]);
    assert_eq!(customers(&ulm).await, ["U"]);
    assert_eq!(customers(&north).await, ["H", "K", "N"]);
    assert_eq!(customers(&south).await, ["U"]);
    assert_eq!(
        customers(&tenant.region("central")).await,
        ["H", "K", "N", "U"]
    );
    let both = tenant.anna(&["agency"], json!(["kiel", "ulm", "nowhere"]));
    assert_eq!(customers(&both).await, ["K", "U"]);
    assert!(customers(&tenant.agency("nowhere")).await.is_empty());
    for odd in ["'; DROP TABLE customer; --", "\"", "\\", "ä"] {
        assert!(customers(&tenant.agency(odd)).await.is_empty(), "{odd}");
    }
    // Another role gives the whole tenant, without a unit there is nothing.
    let everybody = ["H", "K", "N", "O", "U"];
    assert_eq!(customers(&tenant.central()).await, everybody);
    let clerk = tenant.anna(&["clerk", "agency"], json!("kiel"));
    assert_eq!(customers(&clerk).await, everybody);
    for none in [json!(null), json!([]), json!([""])] {
        let nobody = tenant.anna(&["region", "agency"], none);
        let status = call(&nobody, LIST_CUSTOMERS, &json!({})).await.unwrap_err();
        denied(&status);
        assert!(status.message().contains("names no org unit"), "{status:?}");
    }

    tenant.put("ulm", "north").await;
    assert_eq!(customers(&north).await, ["H", "K", "N", "U"]);
    assert!(customers(&south).await.is_empty());
    tenant.give("U", "kiel").await;
    assert_eq!(customers(&kiel).await, ["K", "U"]);
    let status = call(&ulm, GET_CUSTOMER, &json!({"name": "customers/U"})).await;
    refused::not_found(&status.unwrap_err());

    // A place in a list is of the caller whose list it was.
    let first = json!({"pageSize": 1});
    let page = call(&north, LIST_CUSTOMERS, &first).await.unwrap();
    let second = json!({"pageSize": 1, "pageToken": page["nextPageToken"]});
    let next = call(&north, LIST_CUSTOMERS, &second).await.unwrap();
    assert_eq!(next["customers"][0]["number"], json!("K"));
    for other in [&kiel, &tenant.central()] {
        let status = call(other, LIST_CUSTOMERS, &second).await.unwrap_err();
        refused::names(&status, &["page_token"]);
    }
}
