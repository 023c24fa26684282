//! An account on the channel "testing", whose made-up provider says what a test wants: by requests, over
//! a session that remembers what was not acknowledged, and when it is asked.

use std::net::SocketAddr;
use std::path::PathBuf;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{self as messages, Message, MessageState};
use anklang_testkit::{Client, Options, TestServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mailing::{self, TENANT, import, launched, over, request, save_message, tenant};

/// How a probe differs from the usual one.
#[derive(Debug, Default)]
pub struct Settings {
    /// More TOML for the server.
    pub config: String,
    /// Lines for `[channels]`.
    pub channels: &'static str,
    /// Lines for the account.
    pub account: &'static str,
    /// Lines for the plugin.
    pub plugin: &'static str,
}

/// A server with the account `probe`.
pub struct Probe {
    pub server: TestServer,
    pub client: Client,
    folder: TempDir,
}

/// Nobody is asked by itself before a test is long over.
const LATE: &str = "first_lookup_milliseconds = 86400000\n";

impl Probe {
    /// One with so many customers, who can be reached through it.
    pub async fn start(customers: usize, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let late = match settings.channels.contains("first_lookup") {
            true => "",
            false => LATE,
        };
        let config = format!(
            "[channels]\n{late}{channels}\n\
             [channel_accounts.probe]\nplugin = 'testing'\n{account}\n\
             [channel_accounts.probe.config]\naccount = 'probe'\nsession = '{session}'\n{plugin}\n\
             {more}\n",
            channels = settings.channels,
            account = settings.account,
            session = folder.path().display(),
            plugin = settings.plugin,
            more = settings.config,
        );
        let options = Options {
            config,
            ..Default::default()
        };
        let server = TestServer::start_with(options).await.unwrap();
        let client = tenant(&server, customers).await;
        reachable(&client, customers).await;
        Probe {
            server,
            client,
            folder,
        }
    }

    /// A file of the session's peer, by which things are held up.
    pub fn gate(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Holds things up until the file is removed.
    pub fn hold(&self, name: &str) -> PathBuf {
        let gate = self.gate(name);
        std::fs::write(&gate, "").unwrap();
        gate
    }

    /// Events that the peer still remembers.
    pub fn remembered(&self) -> usize {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let events = files.flatten().filter(|file| {
            let name = file.file_name();
            name.to_string_lossy().ends_with(".json")
        });
        events.count()
    }

    /// Launches to all customers; the text says what the channel does.
    pub async fn launch(&self, text: &str) -> String {
        tell_channel(&self.client, text).await;
        let launch = self.client.campaigns().launch_campaign(wanted()).await;
        let operation = launch.unwrap().into_inner();
        let launched = launched(&over(&self.client, &operation.name).await);
        launched.campaign.unwrap().name
    }

    /// Launches, and waits until all messages are in this state.
    pub async fn launch_until(&self, text: &str, state: MessageState) -> String {
        let campaign = self.launch(text).await;
        self.until(&campaign, state).await;
        campaign
    }

    /// Waits until all messages of a campaign are in this state.
    pub async fn until(&self, campaign: &str, state: MessageState) {
        mailing::until("the state of all", async || {
            let ledger = mailing::ledger(&self.client, campaign).await;
            ledger.values().all(|m| m.state() == state)
        })
        .await;
    }

    /// A customer's message.
    pub async fn message(&self, campaign: &str, customer: usize) -> Message {
        let ledger = mailing::ledger(&self.client, campaign).await;
        ledger[&address(customer)].clone()
    }

    /// The id of a customer's message.
    pub async fn id(&self, campaign: &str, customer: usize) -> String {
        let name = self.message(campaign, customer).await.name;
        name.strip_prefix("messages/").unwrap().to_owned()
    }

    /// A request of the provider; gives status and answer.
    pub async fn post(&self, body: &Value) -> (u16, String) {
        post(self.server.addr, &path(TENANT, "probe"), body).await
    }

    /// Reports of messages, which are taken.
    pub async fn report(&self, deliveries: Value) {
        let (status, answer) = self.post(&json!({"deliveries": deliveries})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Kinds of a customer's history without what the launch made, by name: what comes of one
    /// transaction is in no order.
    pub async fn history(&self, customer: usize) -> Vec<String> {
        let events = history(&self.client, customer).await.into_iter();
        let kinds = events.map(|e| e.kind);
        let mut kinds: Vec<String> = kinds
            .filter(|k| !k.starts_with("offer.") && k != "consent.granted")
            .collect();
        kinds.sort_unstable();
        kinds
    }

    /// What a query of one value says behind the server's back.
    pub async fn look(&self, sql: &str) -> String {
        self.server.database.one(sql).await.unwrap()
    }

    /// Starts the server again after a kill.
    pub async fn restart(&mut self) {
        self.server.restart().await.unwrap();
        self.client = self.server.client(TENANT).await.unwrap();
    }
}

/// A launch to all customers through the account.
pub fn wanted() -> campaigns::LaunchCampaignRequest {
    let mut request = request("");
    let outbound = request.outbound.as_mut().unwrap();
    outbound.channel_account = "channelAccounts/probe".into();
    outbound.message_template = "order".into();
    outbound.without_document = true;
    request
}

/// The address of a customer on the channel.
pub fn address(customer: usize) -> String {
    format!("probe{customer}")
}

/// Where the provider of an account reports.
pub fn path(tenant: &str, account: &str) -> String {
    format!("/channels/{tenant}/{account}/events?a=1")
}

/// Addresses and consents on the channel.
pub async fn reachable(client: &Client, customers: usize) {
    let rows = |row: &dyn Fn(usize) -> String| (0..customers).map(row).collect::<String>();
    let points = rows(&|i| format!("{i:04},testing,{}\n", address(i)));
    let points = format!("customer_number,channel,address\n{points}");
    import(client, ImportEntity::ContactPoints, points).await;
    let consents = rows(&|i| format!("{i:04},testing,marketing,granted,2025-05-01T10:00:00Z\n"));
    let consents = format!("customer_number,channel,purpose,state,recorded_at\n{consents}");
    import(client, ImportEntity::Consents, consents).await;
}

/// Says what the channel does with messages from now on.
pub async fn tell_channel(client: &Client, text: &str) {
    let name = "brands/sw/templates/order.de";
    save_message(client, name, "Auftrag", text).await.unwrap();
}

/// A customer's history, oldest first.
pub async fn history(client: &Client, customer: usize) -> Vec<customers::CustomerEvent> {
    let request = customers::ListCustomerEventsRequest {
        parent: format!("customers/{customer:04}"),
        page_size: 1_000,
        ..Default::default()
    };
    let listed = client.customers().list_customer_events(request).await;
    let mut events = listed.unwrap().into_inner().customer_events;
    events.reverse();
    events
}

/// Messages that a filter finds, in the given order.
pub async fn filtered(client: &Client, filter: &str, order_by: &str) -> Vec<Message> {
    let request = messages::ListMessagesRequest {
        page_size: 1_000,
        filter: filter.into(),
        order_by: order_by.into(),
        ..Default::default()
    };
    let listed = client.messages().list_messages(request).await;
    listed.unwrap().into_inner().messages
}

/// A request of the provider of `probe`.
pub async fn post(addr: SocketAddr, path: &str, body: &Value) -> (u16, String) {
    http(addr, "POST", path, "x-token: probe\r\n", &body.to_string()).await
}

/// Status and the whole answer of a request over HTTP/1.1.
pub async fn http(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let head = head(method, path, headers, length);
    exchange(addr, &format!("{head}{body}")).await
}

/// The head of a request.
pub fn head(method: &str, path: &str, headers: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: post.sw.example\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Sends a text and reads the answer to its end.
pub async fn exchange(addr: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}
