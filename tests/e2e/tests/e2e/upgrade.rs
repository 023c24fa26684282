//! An upgrade while there is work: the version before and this one on one database, one server after the other, and
//! no caller and no recipient notices.
//!
//! The version before is the program of `ANKLANG_TEST_PREVIOUS` (scripts/upgrade); without it this one is both.

mod migrating;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::audit::v1 as audit;
use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_proto::anklang::operations::v1 as operations;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Database, Options, Process, Program, TestServer, program};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::mailing::{TENANT, balanced, begin, check_rows, launched, tenant, until, until_over};
use crate::master_data::customer;

const MEMBERS: usize = 200;

/// The servers, called in turn, as a channel over several addresses does it.
#[derive(Default)]
struct Servers {
    clients: RefCell<Vec<(SocketAddr, Client)>>,
    calls: Cell<usize>,
    are_left_alone: Cell<bool>,
}

impl Servers {
    async fn add(&self, addr: SocketAddr) {
        let client = Client::connect(addr, TENANT).await.unwrap();
        self.clients.borrow_mut().push((addr, client));
    }

    fn remove(&self, addr: SocketAddr) {
        self.clients.borrow_mut().retain(|(own, _)| *own != addr);
    }

    /// All of them, with each call another one first.
    fn in_turn(&self) -> Vec<Client> {
        let clients = self.clients.borrow();
        let mut clients: Vec<Client> = clients.iter().map(|(_, c)| c.clone()).collect();
        let first = self.calls.get() % clients.len();
        clients.rotate_left(first);
        clients
    }

    /// Makes a call. A server that is UNAVAILABLE is passed over, as it leaves; nothing else is forgiven.
    async fn call<T>(&self, what: &str, call: impl AsyncFn(Client) -> Result<T, Status>) -> T {
        let mut refusals = Vec::new();
        for client in self.in_turn() {
            match call(client).await {
                Ok(answer) => {
                    self.calls.set(self.calls.get() + 1);
                    return answer;
                }
                Err(status) if status.code() == Code::Unavailable => refusals.push(status),
                Err(status) => panic!("{what}: {status:?}"),
            }
        }
        panic!("{what}: no server takes it: {refusals:?}");
    }

    /// Until there were some more calls.
    async fn go_on(&self) {
        let before = self.calls.get();
        until("calls go on", async || self.calls.get() >= before + 50).await;
    }

    /// Whether callers go on, after a moment.
    async fn are_called(&self) -> bool {
        tokio::time::sleep(Duration::from_millis(20)).await;
        !self.are_left_alone.get()
    }
}

/// Saves customers, and reads each; gives the numbers of those whose saving was acknowledged.
async fn save(servers: &Servers, caller: &str) -> Vec<String> {
    let mut saved = Vec::new();
    while servers.are_called().await {
        let number = format!("{caller}{}", saved.len());
        let request = customers::UpdateCustomerRequest {
            customer: Some(customer(&number)),
            allow_missing: true,
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let update = async |client: Client| {
            let request = request.clone();
            client.customers().update_customer(request).await
        };
        servers.call("save a customer", update).await;
        let request = customers::GetCustomerRequest {
            name: format!("customers/{number}"),
        };
        let get = async |client: Client| {
            let request = request.clone();
            client.customers().get_customer(request).await
        };
        let found = servers.call("get a customer", get).await.into_inner();
        assert_eq!(found.number, number);
        saved.push(number);
    }
    saved
}

/// Reads brands, and pages of customers, each by another server.
async fn read(servers: &Servers) {
    while servers.are_called().await {
        let list = async |client: Client| {
            let request = brands::ListBrandsRequest::default();
            client.brands().list_brands(request).await
        };
        let found = servers.call("list brands", list).await.into_inner();
        assert_eq!(found.brands.len(), 1);
        let mut token = String::new();
        for _ in 0..3 {
            token = page(servers, 50, token).await.next_page_token;
            assert!(!token.is_empty(), "there are more than three pages");
        }
    }
}

async fn page(servers: &Servers, size: i32, token: String) -> customers::ListCustomersResponse {
    let request = customers::ListCustomersRequest {
        page_size: size,
        page_token: token,
        ..Default::default()
    };
    let list = async |client: Client| {
        let request = request.clone();
        client.customers().list_customers(request).await
    };
    servers.call("list customers", list).await.into_inner()
}

/// Imports customers, some at a time; gives the numbers of those whose import was acknowledged.
async fn import(servers: &Servers) -> Vec<String> {
    const ROWS: usize = 200;
    let mut imported = Vec::new();
    while servers.are_called().await {
        let numbers = imported.len()..imported.len() + ROWS;
        let numbers: Vec<String> = numbers.map(|i| format!("imported{i}")).collect();
        let rows: Vec<String> = numbers
            .iter()
            .map(|n| format!("{n},person,Muster\n"))
            .collect();
        let csv = format!("number,kind,last_name\n{}", rows.concat());
        // Once more by another server changes nothing.
        let call = async |client: Client| client.import(ImportEntity::Customers, csv.clone()).await;
        let sums = servers.call("import customers", call).await;
        assert_eq!((sums.failed, sums.done), (0, true), "{sums:?}");
        imported.extend(numbers);
    }
    imported
}

/// Watches an operation to its end, by whichever server there is.
async fn watch(servers: &Servers, name: &str) -> lro::Operation {
    loop {
        let begin = async |client: Client| {
            let request = operations::WatchOperationRequest { name: name.into() };
            client.progress().watch_operation(request).await
        };
        let mut progress = servers.call("watch", begin).await.into_inner();
        loop {
            match progress.message().await {
                Ok(told) => {
                    let told = told.expect("no end before the operation's");
                    let operation = told.operation.unwrap();
                    if operation.done {
                        return operation;
                    }
                }
                Err(status) if status.code() == Code::Unavailable => break,
                Err(status) => panic!("watch: {status:?}"),
            }
        }
    }
}

/// Migrates, and has new servers take the place of the old ones; gives the new ones.
async fn upgrade(servers: &Servers, old: &mut TestServer, other: Process) -> [Process; 2] {
    let under_way = "SELECT attempt > 0 FROM operation WHERE kind = 'LaunchCampaign'";
    let database = old.database.clone();
    until("the launch is under way", async || {
        database.one(under_way).await.unwrap() == "t"
    })
    .await;
    servers.go_on().await;
    old.migrate_with(program()).await.unwrap();
    servers.go_on().await;

    let first = old.further_of(program()).await.unwrap();
    servers.add(first.addr).await;
    servers.go_on().await;
    let addr = other.addr;
    let status = other.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", old.log());
    servers.remove(addr);
    servers.go_on().await;

    let second = old.further_of(program()).await.unwrap();
    servers.add(second.addr).await;
    // The last one leaves in the midst of sending.
    let soon = Duration::from_secs(180);
    old.sink.wait_for(5, soon).await.unwrap();
    let addr = old.addr;
    let status = old.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", old.log());
    servers.remove(addr);
    servers.go_on().await;
    [first, second]
}

#[tokio::test]
async fn an_upgrade_under_load_fails_no_call_and_loses_no_message() {
    let options = Options {
        // Whatever is in doubt afterwards would stay so.
        ambiguous: "hold",
        lease_seconds: 10,
        program: Some(Program::previous().unwrap()),
        ..Default::default()
    };
    let database = Database::create_empty().await.unwrap();
    let mut old = TestServer::start_on(database, options).await.unwrap();
    let slow = Fault::Slow(Duration::from_millis(100));
    let faults = Faults::none().with(Matching::All, slow);
    old.sink.set_faults(faults);
    let client = tenant(&old, MEMBERS).await;
    let other = old.further().await.unwrap();
    let servers = Servers::default();
    servers.add(old.addr).await;
    servers.add(other.addr).await;

    // The letter that ships takes its time.
    let operation = begin(&client, "").await;
    let upgraded = async {
        let new = upgrade(&servers, &mut old, other).await;
        let client = Client::connect(new[0].addr, TENANT).await.unwrap();
        until("the launch is over", async || {
            let request = lro::GetOperationRequest {
                name: operation.name.clone(),
            };
            let found = client.operations().get_operation(request).await.unwrap();
            found.into_inner().done
        })
        .await;
        servers.are_left_alone.set(true);
        (new, client)
    };
    let ((_new, client), launch, first, second, imported, ()) = tokio::join!(
        upgraded,
        watch(&servers, &operation.name),
        save(&servers, "first"),
        save(&servers, "second"),
        import(&servers),
        read(&servers),
    );

    let campaign = launched(&launch).campaign.unwrap().name;
    until_over(&client, &campaign).await;
    check_rows(&old, MEMBERS).await;
    let books = balanced(&old, &client, &campaign, MEMBERS).await;
    assert_eq!(books.in_state(MessageState::Sent).len(), MEMBERS);
    assert_eq!(books.arrived.len(), MEMBERS);
    assert!(books.arrived.values().all(|mails| mails.len() == 1));

    // What the old servers did is found in the audit log as what the new ones did.
    for number in [first.first(), first.last(), second.first(), second.last()] {
        let request = audit::ListAuditEntriesRequest {
            resource: format!("customers/{}", number.unwrap()),
            ..Default::default()
        };
        let listed = client.audit().list_audit_entries(request).await.unwrap();
        let [entry] = &listed.get_ref().audit_entries[..] else {
            panic!("{listed:?}");
        };
        assert!(entry.method.ends_with("/UpdateCustomer"), "{entry:?}");
    }

    let mut there = BTreeSet::new();
    let mut token = String::new();
    loop {
        let page = page(&servers, 1_000, token).await;
        there.extend(page.customers.into_iter().map(|c| c.number));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let acknowledged: BTreeSet<String> = [first, second, imported].into_iter().flatten().collect();
    let lost: Vec<&String> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(there.len(), acknowledged.len() + MEMBERS);
}
