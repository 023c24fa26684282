//! Answers and read receipts, by `/sync`.
//!
//! The position is kept with the homeserver, in the account data [`POSITION`] of our user, and is
//! written only when the host has acknowledged all that came before it: so a restart loses nothing,
//! and may repeat what was not acknowledged. The first time ever it begins at the present.
//!
//! A room in which more happened than one answer tells is read backwards by `/messages`, up to
//! [`MOST_PAGES`]. A read receipt names the newest message that was read, and only that is told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{DeliveryEvent, InboundEvent, Party, delivery_event::State};
use serde_json::{Value, json};

use super::Api;
use crate::events::{Ended, Events, Task, run};
use crate::http::{Call, Failure, Reply};

/// Account data of our user with the position up to which all is acknowledged.
const POSITION: &str = "anklang.sync";
/// How long the homeserver waits for something to happen.
const HELD: Duration = Duration::from_secs(25);
/// Messages of a room in one answer.
const MOST_MESSAGES: usize = 50;
/// Further pages of a room, of [`MOST_PER_PAGE`] messages.
const MOST_PAGES: usize = 20;
const MOST_PER_PAGE: &str = "100";
/// The most bytes of an answer: many rooms may have news.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Reads until it is dropped.
pub(super) fn start(api: Arc<Api>, events: Events) -> Task {
    let since: Arc<tokio::sync::Mutex<Option<String>>> = Arc::default();
    run(events.clone(), move || {
        let (api, events, since) = (Arc::clone(&api), events.clone(), Arc::clone(&since));
        async move {
            let mut since = since.lock().await;
            Reader {
                api: &api,
                events: &events,
            }
            .round(&mut since)
            .await
        }
    })
}

struct Reader<'a> {
    api: &'a Api,
    events: &'a Events,
}

impl Reader<'_> {
    /// Asks for what happened since then, hands it over, and moves on when it is acknowledged.
    async fn round(&self, since: &mut Option<String>) -> Result<(), Ended> {
        let me = self.api.me().await;
        let me = me.map_err(|_| Ended::Failed("the homeserver does not say who we are".into()))?;
        let position = match since.take() {
            Some(position) => position,
            None => self.position(me).await?,
        };
        let news = self.news(&position, HELD).await?;
        let next = text(&news["next_batch"]);
        for (room, joined) in news["rooms"]["join"].as_object().into_iter().flatten() {
            self.receipts(me, &joined["ephemeral"]["events"]).await?;
            self.messages(me, room, &joined["timeline"], &position)
                .await?;
        }
        self.events.open.settled().await;
        if next != position {
            self.keep(me, next).await?;
        }
        *since = Some(next.to_owned());
        Ok(())
    }

    /// The position that was kept, or the present.
    async fn position(&self, me: &str) -> Result<String, Ended> {
        let reply = self.get(Call::get(&account_data(me))).await?;
        let kept = reply.json();
        match (reply.status, kept["since"].as_str()) {
            (200, Some(since)) => return Ok(since.to_owned()),
            (200 | 404, _) => {}
            (status, _) => return Err(failed(status)),
        }
        let news = self.news("", Duration::ZERO).await?;
        let present = text(&news["next_batch"]);
        self.keep(me, present).await?;
        Ok(present.to_owned())
    }

    async fn keep(&self, me: &str, position: &str) -> Result<(), Ended> {
        let call = Call::put(&account_data(me)).json(&json!({ "since": position }));
        match self.get(call).await?.status {
            200 => Ok(()),
            status => Err(failed(status)),
        }
    }

    async fn news(&self, since: &str, held: Duration) -> Result<Value, Ended> {
        let none = json!({ "types": [] });
        let filter = json!({
            "presence": none, "account_data": none,
            "room": {
                "account_data": none, "state": none,
                "ephemeral": { "types": ["m.receipt"] },
                "timeline": { "types": ["m.room.message"], "limit": MOST_MESSAGES },
            },
        })
        .to_string();
        let wait = held.as_millis().to_string();
        let mut query = vec![("filter", &*filter), ("timeout", &*wait)];
        if !since.is_empty() {
            query.push(("since", since));
        }
        let call = Call::get(&["_matrix", "client", "v3", "sync"]).query(&query);
        let reply = self.get(call.held(held, MOST_BYTES)).await?;
        let news = reply.json();
        match (reply.status, news["next_batch"].as_str()) {
            (200, Some(_)) => Ok(news),
            (status, _) => Err(failed(status)),
        }
    }

    async fn receipts(&self, me: &str, events: &Value) -> Result<(), Ended> {
        let receipts = events.as_array().into_iter().flatten();
        for receipt in receipts.filter(|event| event["type"] == "m.receipt") {
            for (event_id, kinds) in receipt["content"].as_object().into_iter().flatten() {
                let readers = kinds["m.read"].as_object().into_iter().flatten();
                for (_, read) in readers.filter(|(user, _)| *user != me) {
                    let event = DeliveryEvent {
                        provider_message_id: event_id.clone(),
                        state: State::Opened.into(),
                        occurred_at: Some(time(&read["ts"]).into()),
                        ..DeliveryEvent::default()
                    };
                    self.events.delivery(event).await?;
                }
            }
        }
        Ok(())
    }

    async fn messages(
        &self,
        me: &str,
        room: &str,
        timeline: &Value,
        since: &str,
    ) -> Result<(), Ended> {
        let mut messages = Vec::new();
        if timeline["limited"] == true {
            messages = self
                .earlier(room, text(&timeline["prev_batch"]), since)
                .await?;
        }
        messages.extend(timeline["events"].as_array().into_iter().flatten().cloned());
        let others = messages.iter().filter(|event| {
            event["type"] == "m.room.message" && event["sender"] != me
                // Without content: it was deleted.
                && event["content"]["body"].is_string()
        });
        for event in others {
            let party = |address: &str| {
                Some(Party {
                    address: address.to_owned(),
                    name: String::new(),
                })
            };
            let event = InboundEvent {
                sender: party(text(&event["sender"])),
                recipient: party(me),
                text: text(&event["content"]["body"]).to_owned(),
                provider_message_id: text(&event["event_id"]).to_owned(),
                received_at: Some(time(&event["origin_server_ts"]).into()),
                ..InboundEvent::default()
            };
            self.events.inbound(event).await?;
        }
        Ok(())
    }

    /// What happened in a room between two positions, oldest first.
    async fn earlier(&self, room: &str, from: &str, to: &str) -> Result<Vec<Value>, Ended> {
        let filter = json!({ "types": ["m.room.message"] }).to_string();
        let (mut from, mut messages) = (from.to_owned(), Vec::new());
        for _ in 0..MOST_PAGES {
            let call = Call::get(&["_matrix", "client", "v3", "rooms", room, "messages"]).query(&[
                ("dir", "b"),
                ("from", &from),
                ("to", to),
                ("limit", MOST_PER_PAGE),
                ("filter", &filter),
            ]);
            let reply = self.get(call.held(Duration::ZERO, MOST_BYTES)).await?;
            if reply.status != 200 {
                return Err(failed(reply.status));
            }
            let page = reply.json();
            let found = page["chunk"].as_array().cloned().unwrap_or_default();
            messages.extend(found);
            match page["end"].as_str() {
                Some(end) if end != from => from = end.to_owned(),
                _ => {
                    messages.reverse();
                    return Ok(messages);
                }
            }
        }
        let text = "a room has more news than are read; the oldest are left out";
        self.events
            .warn(text, format!("{} messages", messages.len()));
        messages.reverse();
        Ok(messages)
    }

    async fn get(&self, call: Call) -> Result<Reply, Ended> {
        self.api.call(call).await.map_err(|failure| match failure {
            Failure::NotSent(_) => Ended::Failed("no connection".into()),
            Failure::Lost(_) => Ended::Failed("no answer".into()),
        })
    }
}

fn account_data(me: &str) -> [&str; 7] {
    [
        "_matrix",
        "client",
        "v3",
        "user",
        me,
        "account_data",
        POSITION,
    ]
}

fn failed(status: u16) -> Ended {
    Ended::Failed(format!("HTTP {status}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Milliseconds since 1970.
fn time(millis: &Value) -> SystemTime {
    let millis = Duration::from_millis(millis.as_u64().unwrap_or_default());
    SystemTime::UNIX_EPOCH
        .checked_add(millis)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
