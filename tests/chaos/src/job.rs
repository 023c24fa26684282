//! The work that is disturbed: a launch, its sending, and customers who answer meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::mailing::{self, SLIP, TENANT};
use anklang_testkit::{Client, Database};
use handover::DeliveryState;
use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tonic::{Code, Response, Status};
use uuid::Uuid;

/// How long one call may take; another server is asked afterwards.
const CALL: Duration = Duration::from_secs(5);
/// How long anything may take, with all its repetitions.
const PATIENCE: Duration = Duration::from_secs(240);
/// Of so many accounts one answers.
const ANSWERS: usize = 8;

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It has not begun.
    Ahead,
    /// The launch is under way.
    Launching,
    /// Messages are sent.
    Sending,
    /// Nothing is left to send.
    Over,
}

/// What a customer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Accept,
    /// No.
    Reject,
}

/// The work of a round.
pub struct Job {
    /// Where servers listen, at the moment.
    servers: Mutex<Vec<SocketAddr>>,
    database: Database,
    stage: watch::Sender<Stage>,
    calm: AtomicBool,
    /// Calls that did not succeed at once.
    pub repeated: AtomicUsize,
    /// What customers say in the end and before, by the contract's number: a further answer takes the
    /// one before back, behind the server's back.
    pub answers: BTreeMap<String, Vec<Answer>>,
    /// Waits before answers.
    waits: Vec<Duration>,
}

impl Job {
    /// Decides who answers, and what.
    pub fn new(database: Database, accounts: usize, random: &mut ChaCha8Rng) -> Self {
        let answers: BTreeMap<_, _> = index::sample(random, accounts, accounts / ANSWERS)
            .into_iter()
            .map(|contract| {
                let first = random.random_bool(0.5);
                let said = if random.random_bool(0.3) { 3 } else { 1 };
                let answer = |i: usize| match first ^ (i % 2 == 1) {
                    true => Answer::Accept,
                    false => Answer::Reject,
                };
                (format!("V{contract:04}"), (0..said).map(answer).collect())
            })
            .collect();
        let waits = answers.iter().map(|_| random.random_range(0..150));
        Self {
            waits: waits.map(Duration::from_millis).collect(),
            servers: Mutex::default(),
            database,
            stage: watch::Sender::new(Stage::Ahead),
            calm: AtomicBool::new(true),
            repeated: AtomicUsize::new(0),
            answers,
        }
    }

    fn servers(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Servers listen here from now on.
    pub fn serve(&self, servers: Vec<SocketAddr>) {
        *self.servers() = servers;
    }

    /// How far it is.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Between troubles, what waits for another attempt need not wait any more. While there is one it
    /// must: else attempts would be used up.
    pub fn calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    /// Does it all, and gives the campaign's name.
    pub async fn run(&self) -> String {
        let launch = campaigns::LaunchCampaignRequest {
            request_id: Uuid::now_v7().to_string(),
            ..mailing::request(SLIP)
        };
        let begin = async |client: Client| client.campaigns().launch_campaign(launch.clone()).await;
        let operation = self.insist("the launch", begin).await;
        self.stage.send_replace(Stage::Launching);
        let send = async {
            let campaign = self.launched(&operation.name).await;
            self.stage.send_replace(Stage::Sending);
            self.sent(&campaign).await;
            self.stage.send_replace(Stage::Over);
            campaign
        };
        let (campaign, ()) = tokio::join!(send, self.answer());
        campaign
    }

    async fn launched(&self, name: &str) -> String {
        let begun = Instant::now();
        loop {
            let get = lro::GetOperationRequest { name: name.into() };
            let look = async |client: Client| client.operations().get_operation(get.clone()).await;
            let operation = self.insist("the operation", look).await;
            if operation.done {
                let launched = mailing::launched(&operation);
                return launched.campaign.expect("a launch makes one").name;
            }
            assert!(begun.elapsed() < PATIENCE, "not launched: {operation:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Until nothing is queued or under way.
    async fn sent(&self, campaign: &str) {
        let begun = Instant::now();
        loop {
            let get = campaigns::GetInfoboardRequest {
                name: campaign.into(),
            };
            let look = async |client: Client| client.campaigns().get_infoboard(get.clone()).await;
            let board = self.insist("the infoboard", look).await;
            let messages = board.total.and_then(|t| t.messages).unwrap_or_default();
            if messages.queued == 0 && messages.sending == 0 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not sent: {messages:?}");
            if self.calm.load(Ordering::Relaxed) {
                self.make_due().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Lets messages that wait for another attempt be tried now. None may wait for longer than the
    /// longest wait there is.
    async fn make_due(&self) {
        let late = "SELECT count(*)::text FROM message
                    WHERE state = 'queued' AND next_attempt_at > now() + interval '5 hours'";
        // The database may be away.
        if let Ok(late) = self.database.one(late).await {
            assert_eq!(late, "0", "messages wait for another day");
        }
        self.behind("UPDATE message SET next_attempt_at = now() WHERE state = 'queued'")
            .await;
    }

    async fn answer(&self) {
        for ((contract, answers), wait) in self.answers.iter().zip(&self.waits) {
            tokio::time::sleep(*wait).await;
            let offer = self.open_offer(contract).await;
            for (i, answer) in answers.iter().enumerate() {
                if i > 0 {
                    let number = offer.strip_prefix("offers/").expect("a name");
                    let back = format!("UPDATE offer SET state = 'open' WHERE number = '{number}'");
                    self.behind(&back).await;
                }
                self.say(&offer, *answer).await;
            }
        }
    }

    async fn say(&self, offer: &str, answer: Answer) {
        let (name, source) = (offer.to_owned(), "web".to_owned());
        match answer {
            Answer::Accept => {
                let request = offers::AcceptOfferRequest {
                    name,
                    source,
                    ..Default::default()
                };
                let accept =
                    async |client: Client| client.offers().accept_offer(request.clone()).await;
                self.insist("accepting", accept).await;
            }
            Answer::Reject => {
                let request = offers::RejectOfferRequest {
                    name,
                    source,
                    ..Default::default()
                };
                let reject =
                    async |client: Client| client.offers().reject_offer(request.clone()).await;
                self.insist("rejecting", reject).await;
            }
        }
    }

    /// Waits for a contract's offer.
    async fn open_offer(&self, contract: &str) -> String {
        let list = offers::ListOffersRequest {
            contract: format!("contracts/{contract}"),
            states: vec![offers::OfferState::Open.into()],
            ..Default::default()
        };
        let begun = Instant::now();
        loop {
            let look = async |client: Client| client.offers().list_offers(list.clone()).await;
            let listed = self.insist("the offers", look).await.offers;
            if let Some(offer) = listed.first() {
                return offer.name.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "no offer for {contract}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Until so many deliveries are over, all taken.
    pub async fn delivered(&self, webhook: &str, count: usize) {
        let begun = Instant::now();
        loop {
            let list = handover::ListDeliveriesRequest {
                parent: webhook.into(),
                page_size: 1_000,
                ..Default::default()
            };
            let look =
                async |client: Client| client.deliveries().list_deliveries(list.clone()).await;
            let listed = self.insist("the deliveries", look).await.deliveries;
            let taken = |d: &&handover::Delivery| d.state() == DeliveryState::Delivered;
            if listed.len() == count && listed.iter().all(|d| taken(&d)) {
                return;
            }
            let open: Vec<_> = listed.iter().filter(|d| !taken(d)).take(3).collect();
            assert!(
                begun.elapsed() < PATIENCE && listed.len() <= count,
                "{} deliveries of {count}, not over: {open:?}",
                listed.len()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A statement behind the server's back, which changes nothing when it runs twice.
    async fn behind(&self, sql: &str) {
        let begun = Instant::now();
        loop {
            let run = async {
                let owner = self.database.connect().await.ok()?;
                owner.batch_execute(sql).await.ok()
            };
            if let Ok(Some(())) = tokio::time::timeout(CALL, run).await {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the database is gone: {sql}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Calls until a server answers with success, as a good client does: only what may succeed another
    /// time is tried again.
    pub async fn insist<T>(
        &self,
        what: &str,
        call: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> T {
        let begun = Instant::now();
        for turn in 0.. {
            let server = {
                let servers = self.servers();
                servers[turn % servers.len()]
            };
            let tried = tokio::time::timeout(CALL, async {
                match Client::connect(server, TENANT).await {
                    Ok(client) => call(client).await,
                    Err(error) => Err(Status::unavailable(error.to_string())),
                }
            });
            let status = match tried.await {
                Ok(Ok(response)) => return response.into_inner(),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer"),
            };
            assert!(may_succeed(&status), "{what}: {status:?}");
            assert!(begun.elapsed() < PATIENCE, "{what}: {status:?}");
            self.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("turns do not end")
    }
}

/// What a server says of itself must be one of the codes that tell clients to try again; a connection
/// that broke may be reported under any code, and then has a cause on this side.
fn may_succeed(status: &Status) -> bool {
    let ours = std::error::Error::source(status).is_some();
    let again = [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted];
    ours || again.contains(&status.code())
}
