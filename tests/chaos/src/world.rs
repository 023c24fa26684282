//! All that a round needs: servers with a database, peers, a tenant, and the moments for trouble.

use std::sync::Arc;
use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::handover::v1 as handover;
use anklang_testkit::receiver::{Call, Receiver, Reply};
use anklang_testkit::{Client, Database, Options, Process, TestServer, mailing};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use crate::check::{self, Figures};
use crate::job::{Job, Stage};

/// Retries come soon, and nothing is given up while the trouble lasts.
const HANDOVER: &str = "[handover]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
    poll_milliseconds = 100\nattempts = 100\nfirst_retry_milliseconds = 100\n\
    longest_retry_seconds = 1\ntimeout_seconds = 1\n";

/// What a round is given.
pub struct Given {
    /// Everything by chance comes from here.
    pub random: ChaCha8Rng,
    /// So many accounts, each with one customer.
    pub accounts: usize,
}

impl Given {
    /// From a seed.
    pub fn new(seed: u64, accounts: usize) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            accounts,
        }
    }
}

/// What differs between the worlds of cases.
#[derive(Default)]
pub struct Setup {
    /// Of the server; its `ambiguous`, `config` and lease are set here, and `account` when empty.
    pub options: Options,
    /// Its database; one of its own in the tests' shared cluster when `None`.
    pub database: Option<Database>,
    /// Where events go instead of to the receiver itself.
    pub webhook: Option<String>,
    /// Where they are received; a new receiver when `None`.
    pub receiver: Option<Receiver>,
    /// Servers besides the first.
    pub further: usize,
}

/// A world.
pub struct World {
    /// The first server.
    pub server: TestServer,
    /// Those besides it.
    pub further: Vec<Process>,
    /// Where events go.
    pub receiver: Receiver,
    /// Everything by chance comes from here.
    pub random: ChaCha8Rng,
    /// So many accounts.
    pub accounts: usize,
    /// The work.
    pub job: Arc<Job>,
    /// The webhook's name.
    pub webhook: String,
    /// Whether a doubtful mail is sent again.
    pub resends: bool,
    /// Whether a server may act on what it knew long ago: it was frozen meanwhile.
    pub late: bool,
    /// How often trouble was caused.
    pub troubles: usize,
    stage: watch::Receiver<Stage>,
}

/// When to cause trouble.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So long after the moment before, while the launch is under way.
    Launch(Duration),
    /// When so many mails have come.
    Mails(u64),
}

impl World {
    /// Makes one, with its tenant.
    pub async fn new(given: Given, setup: Setup) -> World {
        let Given {
            mut random,
            accounts,
        } = given;
        let resends = random.random_bool(0.5);
        let database = match setup.database {
            Some(database) => database,
            None => Database::create().await.unwrap(),
        };
        let options = Options {
            ambiguous: if resends { "resend" } else { "hold" },
            lease_seconds: 1,
            config: HANDOVER.into(),
            // Few mails at the same time: sending lasts a while.
            account: match setup.options.account.is_empty() {
                true => "calls = 2\nbatch = 16".into(),
                false => setup.options.account,
            },
            ..setup.options
        };
        let server = TestServer::start_on(database.clone(), options)
            .await
            .unwrap();
        server.sink.set_faults(slow(&mut random));
        let client = mailing::tenant(&server, accounts).await;
        let receiver = match setup.receiver {
            Some(receiver) => receiver,
            None => Receiver::start().await,
        };
        receiver.now_answers(taken(&mut random));
        let url = setup.webhook.unwrap_or_else(|| receiver.url("/"));
        let webhook = create(&client, url).await;
        let mut further = Vec::new();
        for _ in 0..setup.further {
            further.push(server.further().await.unwrap());
        }
        let job = Arc::new(Job::new(database, accounts, &mut random));
        let world = World {
            stage: job.stage(),
            server,
            further,
            receiver,
            random,
            accounts,
            job,
            webhook,
            resends,
            late: false,
            troubles: 0,
        };
        world.serve();
        world
    }

    /// Tells the work where servers listen now.
    pub fn serve(&self) {
        let further = self.further.iter().map(|process| process.addr);
        self.job
            .serve([self.server.addr].into_iter().chain(further).collect());
    }

    /// Does the work while trouble is caused, and balances the books when both are over.
    pub async fn play(mut self, trouble: impl AsyncFnOnce(&mut World)) -> Figures {
        let job = Arc::clone(&self.job);
        let troubled = async {
            trouble(&mut self).await;
            job.calm(true);
        };
        let (campaign, ()) = tokio::join!(job.run(), troubled);
        check::all(&self, &campaign).await
    }

    /// Moments by chance, in order: some while the launch is under way, some while mails are sent.
    pub fn moments(&mut self, launch: usize, sending: usize) -> Vec<Moment> {
        let first = (0..launch)
            .map(|_| Moment::Launch(Duration::from_millis(self.random.random_range(0..200))))
            .collect::<Vec<_>>();
        // Some messages are cancelled, as their offers are answered before.
        let last = u64::try_from(self.accounts * 3 / 4).unwrap();
        let mut mails: Vec<u64> = (0..sending)
            .map(|_| self.random.random_range(0..last))
            .collect();
        mails.sort_unstable();
        first
            .into_iter()
            .chain(mails.into_iter().map(Moment::Mails))
            .collect()
    }

    /// Waits for a moment. False when the work is beyond it: there is nothing to disturb any more.
    pub async fn reach(&mut self, moment: Moment) -> bool {
        self.job.calm(true);
        let reached = match moment {
            Moment::Launch(wait) => {
                self.in_stage(Stage::Launching).await;
                tokio::time::sleep(wait).await;
                *self.stage.borrow() == Stage::Launching
            }
            Moment::Mails(count) => {
                self.in_stage(Stage::Sending).await;
                let sink = &self.server.sink;
                tokio::select! {
                    _ = self.stage.wait_for(|stage| *stage == Stage::Over) => false,
                    enough = sink.wait_for(count, Duration::from_secs(240)) => enough.is_ok(),
                }
            }
        };
        self.troubles += usize::from(reached);
        self.job.calm(false);
        reached
    }

    async fn in_stage(&mut self, wanted: Stage) {
        let reached = self.stage.wait_for(|stage| *stage >= wanted).await;
        reached.expect("the work lives as long as the world");
    }

    /// A while between these.
    pub fn while_of(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(milliseconds))
    }
}

/// A mail server as it is when all is well: it takes its time, so that sending takes some.
pub fn slow(random: &mut ChaCha8Rng) -> Faults {
    let slow = Fault::Slow(Duration::from_millis(random.random_range(100..250)));
    Faults::none().with(Matching::All, slow)
}

/// One that takes many mails in no time.
pub fn brisk(random: &mut ChaCha8Rng) -> Faults {
    let brisk = Fault::Slow(Duration::from_millis(random.random_range(0..5)));
    Faults::none().with(Matching::All, brisk)
}

/// A receiver as it is when all is well.
pub fn taken(random: &mut ChaCha8Rng) -> impl FnMut(&Call) -> Reply + Send + use<> {
    let reply = Reply {
        status: 204,
        after: Duration::from_millis(random.random_range(0..40)),
        ..Default::default()
    };
    move |_| reply.clone()
}

async fn create(client: &Client, url: String) -> String {
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "ERP".into(),
            url,
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = client.webhooks().create_webhook(request).await.unwrap();
    made.into_inner().name
}
