//! The direct rooms with people: found in the account data `m.direct`, where all clients of a user
//! note them, or made and noted there.
//!
//! Trade-offs: Matrix cannot make a room idempotently. When the answer to making one is lost, the
//! next attempt may make another, and the person gets a second invitation, but no second message.
//! `m.direct` is read and written as a whole, so rooms are made one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anklang_plugin_sdk::{Outcome, Reason};
use serde_json::{Value, json};

use super::{Api, refused};
use crate::common::{beforehand, unasked};
use crate::events::Events;
use crate::http::Call;

/// Most rooms that are remembered (and asked first who is there); then all are forgotten and looked up again.
const MOST: usize = 10_000;

/// See the module's documentation.
pub(super) struct Rooms {
    api: Arc<Api>,
    events: Events,
    known: Mutex<HashMap<String, String>>,
    /// Held while `m.direct` is read and written.
    turn: tokio::sync::Mutex<()>,
}

impl Rooms {
    pub(super) fn new(api: Arc<Api>, events: Events) -> Self {
        Self {
            api,
            events,
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The direct room with a user, made if there is none. An error is the outcome of the message.
    pub(super) async fn direct(&self, user: &str) -> Result<String, Outcome> {
        if let Some(room) = self.remembered(user).await? {
            return Ok(room);
        }
        let _turn = self.turn.lock().await;
        // Another message to the same person may have found it in the meantime.
        if let Some(room) = self.remembered(user).await? {
            return Ok(room);
        }
        let me = self.api.me().await?;
        let noted = self.noted(me).await?;
        let room = match self.still_there(&noted, user).await? {
            Some(room) => room,
            None => self.make(me, noted, user).await?,
        };
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(user.to_owned(), room.clone());
        Ok(room)
    }

    /// The room of before, if the user still is there.
    async fn remembered(&self, user: &str) -> Result<Option<String>, Outcome> {
        let room = self.known().get(user).cloned();
        match room {
            Some(room) if self.is_in(&room, user).await? => Ok(Some(room)),
            _ => Ok(None),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        // No code that can panic runs under the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account data `m.direct`: lists of rooms by user.
    async fn noted(&self, me: &str) -> Result<Value, Outcome> {
        let reply = self.api.call(Call::get(&account_data(me))).await;
        let reply = reply.map_err(unasked)?;
        match reply.status {
            404 => Ok(json!({})),
            200 => Ok(reply.json()),
            _ => Err(beforehand(refused(&reply, Reason::Config))),
        }
    }

    /// The first of the noted rooms in which the user still is, or is invited.
    async fn still_there(&self, noted: &Value, user: &str) -> Result<Option<String>, Outcome> {
        let rooms = noted[user].as_array().into_iter().flatten();
        for room in rooms.filter_map(Value::as_str) {
            if self.is_in(room, user).await? {
                return Ok(Some(room.to_owned()));
            }
        }
        Ok(None)
    }

    /// Whether the user is in a room, or invited; and we are, else we may not ask.
    async fn is_in(&self, room: &str, user: &str) -> Result<bool, Outcome> {
        let path = [
            "_matrix",
            "client",
            "v3",
            "rooms",
            room,
            "state",
            "m.room.member",
        ];
        let call = Call::get(&[&path[..], &[user]].concat());
        let reply = self.api.call(call).await.map_err(unasked)?;
        match reply.status {
            200 => Ok(matches!(
                reply.json()["membership"].as_str(),
                Some("join" | "invite")
            )),
            403 | 404 => Ok(false),
            _ => Err(beforehand(refused(&reply, Reason::Recipient))),
        }
    }

    async fn make(&self, me: &str, mut noted: Value, user: &str) -> Result<String, Outcome> {
        let call = Call::post(&["_matrix", "client", "v3", "createRoom"]).json(&json!({
            "preset": "trusted_private_chat", "is_direct": true, "invite": [user],
        }));
        // Once: a repetition would make another room.
        let made = self.api.http.call(call.bearer(&self.api.token)).await;
        let reply = made.map_err(unasked)?;
        let body = reply.json();
        let Some(room) = body["room_id"].as_str().filter(|_| reply.is_success()) else {
            return Err(beforehand(refused(&reply, Reason::Recipient)));
        };
        if !noted[user].is_array() {
            noted[user] = json!([]);
        }
        if let Some(rooms) = noted[user].as_array_mut() {
            rooms.push(room.into());
        }
        let note = Call::put(&account_data(me)).json(&noted);
        match self.api.call(note).await {
            Ok(reply) if reply.is_success() => {}
            // The room is there and is used; after a restart it may not be found again.
            Ok(reply) => self.warn(&format!("HTTP {}", reply.status)),
            Err(_) => self.warn("no answer"),
        }
        Ok(room.to_owned())
    }

    fn warn(&self, reason: &str) {
        let text = "a direct room could not be noted in m.direct";
        self.events.warn(text, reason.to_owned());
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
        "m.direct",
    ]
}
