//! What must hold when all is over, whatever happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, Message, MessageState};
use anklang_proto::anklang::reach::v1 as reach;
use anklang_testkit::Client;
use anklang_testkit::mailing::{self, Books, TENANT};
use sha2::{Digest, Sha256};

use crate::job::Answer;
use crate::world::World;

/// What a round has seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How often trouble was caused.
    pub troubles: usize,
    /// Calls that clients had to repeat.
    pub calls: usize,
    /// Mails that arrived.
    pub mails: usize,
    /// Attempts of which nobody knows what became.
    pub doubts: usize,
    /// Mails that arrived again; each is an attempt in doubt.
    pub twice: usize,
    /// Messages that wait for a person.
    pub held: usize,
    /// Events, each delivered.
    pub events: usize,
    /// Deliveries of events that were delivered before.
    pub again: usize,
}

impl Figures {
    /// Adds those of another round.
    pub fn add(&mut self, other: &Figures) {
        self.troubles += other.troubles;
        self.calls += other.calls;
        self.mails += other.mails;
        self.doubts += other.doubts;
        self.twice += other.twice;
        self.held += other.held;
        self.events += other.events;
        self.again += other.again;
    }
}

/// Balances all books.
pub async fn all(world: &World, campaign: &str) -> Figures {
    let events = world.job.answers.values().map(Vec::len).sum();
    world.job.delivered(&world.webhook, events).await;
    // Mails that a mail server was still busy with when their sender was gone.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let client = Client::connect(world.server.addr, TENANT).await.unwrap();
    mailing::check_rows(&world.server, world.accounts).await;
    let books = mailing::balanced(&world.server, &client, campaign, world.accounts).await;
    recipients(world, &books).await;
    let figures = mailing::figures(&client, campaign).await.unwrap();
    answers(world, &figures);
    adds_up(&client, campaign, &books.ledger).await;
    documents(world).await;
    let again = told(world, events);
    let arrived = books.arrived.values().map(Vec::len);
    let doubts = books.ledger.values();
    Figures {
        troubles: world.troubles,
        calls: world.job.repeated.load(Ordering::Relaxed),
        mails: arrived.clone().sum(),
        doubts: doubts.map(in_doubt).sum(),
        twice: arrived.map(|mails| mails - 1).sum(),
        held: books.in_state(MessageState::Ambiguous).len(),
        events,
        again,
    }
}

fn in_doubt(message: &Message) -> usize {
    mailing::attempts(message, AttemptOutcome::Ambiguous)
}

/// Everybody got their mail once; or it is in doubt, and listed as such where it is not sent again; or
/// they had answered before it was sent.
async fn recipients(world: &World, books: &Books) {
    for (customer, message) in (0..world.accounts).map(|i| (i, books.message(i))) {
        let (arrived, doubts) = (books.arrivals(customer), in_doubt(message));
        let answered = world.job.answers.contains_key(&format!("V{customer:04}"));
        let fits = match message.state() {
            MessageState::Sent if world.resends => (1..=1 + doubts).contains(&arrived),
            MessageState::Sent => arrived == 1 && doubts == 0,
            MessageState::Ambiguous => !world.resends && arrived <= 1 && doubts == 1,
            MessageState::Cancelled => answered && arrived <= doubts,
            _ => false,
        };
        assert!(fits, "{arrived} mails arrived of {message:?}");
    }
}

/// The infoboard counts the answers that customers gave last.
fn answers(world: &World, figures: &campaigns::InfoboardFigures) {
    let last = |wanted| {
        let said = world.job.answers.values();
        i64::try_from(said.filter(|a| a.last() == Some(&wanted)).count()).unwrap()
    };
    let offers = figures.offers.as_ref().expect("there are offers");
    assert_eq!(
        (offers.accepted, offers.rejected),
        (last(Answer::Accept), last(Answer::Reject)),
        "{offers:?}"
    );
}

/// The proof of reach adds up, and says what the ledger says.
async fn adds_up(client: &Client, campaign: &str, ledger: &BTreeMap<String, Message>) {
    let request = reach::GetReachRequest {
        campaign: campaign.into(),
    };
    let found = client.reach().get_reach(request).await.unwrap();
    let figures = found.into_inner().total.expect("a total");
    let excluded: i64 = figures.excluded.iter().map(|e| e.count).sum();
    let messages: i64 = figures.messages.iter().map(|m| m.count).sum();
    assert_eq!(figures.candidates, excluded + figures.members);
    assert_eq!(figures.members, messages + figures.without_message);
    let mut told: BTreeMap<MessageState, i64> = BTreeMap::new();
    for line in &figures.messages {
        *told.entry(line.state()).or_default() += line.count;
    }
    let mut known: BTreeMap<MessageState, i64> = BTreeMap::new();
    for message in ledger.values() {
        *known.entry(message.state()).or_default() += 1;
    }
    assert_eq!(told, known, "{figures:?}");
}

/// Each document is in the store, whole.
async fn documents(world: &World) {
    let owner = world.server.database.connect().await.unwrap();
    let rows = owner.query("SELECT sha256 FROM document", &[]).await;
    // As the server sees it: it may have a file system of its own.
    let process = world.server.pid().expect("it runs");
    let folder = world.server.documents();
    let store = format!("/proc/{process}/root{}/documents", folder.display());
    for row in rows.unwrap() {
        let hash: Vec<u8> = row.get(0);
        let name = hex::encode(&hash);
        let file = format!("{store}/{}/{name}.pdf", &name[..2]);
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(Sha256::digest(&bytes)[..], hash, "{file}");
    }
}

/// The webhook was told each answer, of an offer in the order in which they were given. Returns how
/// many calls were repetitions.
fn told(world: &World, events: usize) -> usize {
    let calls = world.receiver.calls();
    let mut ids = BTreeSet::new();
    let mut first: HashMap<String, Vec<String>> = HashMap::new();
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for call in &calls {
        let event = call.event();
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        let contract = text(&event["data"]["contract"]);
        let sequence = text(&event["sequence"]);
        all.entry(contract.clone()).or_default().push(sequence);
        if ids.insert(call.id().to_owned()) {
            first
                .entry(contract)
                .or_default()
                .push(text(&event["type"]));
        }
    }
    assert_eq!(ids.len(), events, "each event, under one id");
    let name = |answer: &Answer| match answer {
        Answer::Accept => "anklang.offer.accepted.v1".to_owned(),
        Answer::Reject => "anklang.offer.rejected.v1".to_owned(),
    };
    for (contract, said) in &world.job.answers {
        let wanted: Vec<String> = said.iter().map(name).collect();
        assert_eq!(first.get(contract), Some(&wanted), "{contract}");
        // A repetition is one of the event before the next, unless its sender was frozen meanwhile.
        assert!(
            world.late || all[contract].is_sorted(),
            "{:?}",
            all[contract]
        );
    }
    calls.len() - ids.len()
}
