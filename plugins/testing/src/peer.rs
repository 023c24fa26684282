//! The made-up provider behind the test channel: what it reports, by its requests and over its
//! session. The session's peer lies in a folder and remembers, as a real one does: each event is a file
//! there until it is acknowledged, and is told again when an instance opens.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{DeliveryEvent, Host, InboundEvent, Party, delivery_event::State};
use serde::{Deserialize, Serialize};

/// How often a gate is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What the provider says of a message.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Our id of it.
    pub message_id: String,
    /// The provider's id of it.
    pub provider_message_id: String,
    /// What happened: `delivered`, `bounced` …
    pub state: String,
    /// The provider's code.
    pub code: String,
    /// The provider's words.
    pub detail: String,
    /// When, in seconds since 1970; 0 is not said.
    pub at: u64,
}

/// What somebody wrote.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inbound {
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// The text.
    pub text: String,
    /// The subject.
    pub subject: String,
    /// Our message that it answers.
    pub in_reply_to: String,
    /// The provider's id.
    pub id: String,
}

/// A request of the provider.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// Answered with this status; 0 is 200.
    pub status: u32,
    /// Answered with this body.
    pub answer: String,
    /// Answered when this file is there.
    pub after: Option<PathBuf>,
    /// Reports.
    pub deliveries: Vec<Delivery>,
    /// What came in.
    pub inbound: Vec<Inbound>,
}

fn state(word: &str) -> State {
    match word {
        "delivered" => State::Delivered,
        "bounced" => State::Bounced,
        "failed" => State::Failed,
        "opened" => State::Opened,
        "clicked" => State::Clicked,
        "complained" => State::Complained,
        "unsubscribed" => State::Unsubscribed,
        _ => State::Unspecified,
    }
}

impl From<Delivery> for DeliveryEvent {
    fn from(d: Delivery) -> Self {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(d.at);
        DeliveryEvent {
            event_id: 0,
            state: state(&d.state).into(),
            message_id: d.message_id,
            provider_message_id: d.provider_message_id,
            code: d.code,
            detail: d.detail,
            occurred_at: (d.at > 0).then(|| at.into()),
        }
    }
}

impl From<Inbound> for InboundEvent {
    fn from(i: Inbound) -> Self {
        let party = |address| Party {
            address,
            name: String::new(),
        };
        InboundEvent {
            event_id: 0,
            sender: Some(party(i.from)),
            recipient: Some(party(i.to)),
            text: i.text,
            subject: i.subject,
            in_reply_to_message_id: i.in_reply_to,
            provider_message_id: i.id,
            received_at: None,
        }
    }
}

/// Waits as long as a file is there.
pub async fn while_there(gate: &Path) {
    while gate.exists() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until a file is there.
pub async fn until_there(gate: &Path) {
    while !gate.exists() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The session's peer.
#[derive(Debug)]
pub struct Peer {
    folder: PathBuf,
    next: AtomicU64,
}

impl Peer {
    /// The one whose memory lies in `folder`.
    pub fn new(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let peer = Peer {
            folder,
            next: AtomicU64::new(1),
        };
        let last = peer.events().into_iter().map(|(id, _)| id).max();
        peer.next.store(last.unwrap_or(0) + 1, Ordering::Relaxed);
        Ok(peer)
    }

    fn events(&self) -> Vec<(u64, Delivery)> {
        let Ok(files) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let read = files.flatten().filter_map(|file| {
            let name = file.file_name();
            let id = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
            let event = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
            Some((id, event))
        });
        let mut events: Vec<_> = read.collect();
        events.sort_by_key(|(id, _)| *id);
        events
    }

    /// Remembers an event and gives its number.
    pub fn remember(&self, event: &Delivery) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (made, file) = (self.folder.join("new"), self.file(id));
        let written = serde_json::to_vec(event)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&made, bytes))
            .and_then(|()| std::fs::rename(&made, file));
        written.expect("the folder of the peer can be written to");
        id
    }

    /// Tells an event.
    pub async fn tell(&self, host: &Host, id: u64, event: Delivery) -> bool {
        let event = DeliveryEvent {
            event_id: id,
            ..event.into()
        };
        host.delivery(&event).await.is_ok()
    }

    /// Tells again what was not acknowledged.
    pub async fn tell_again(&self, host: &Host) {
        for (id, event) in self.events() {
            if !self.tell(host, id, event).await {
                return;
            }
        }
    }

    /// Forgets what is acknowledged; not while there is a file `hold-acknowledgements`.
    pub async fn forget(&self, ids: Vec<u64>) {
        while_there(&self.gate("hold-acknowledgements")).await;
        for id in ids {
            let _ = std::fs::remove_file(self.file(id));
        }
    }

    /// A file that holds things up.
    pub fn gate(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn file(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}
