//! Matrix: the client-server API, version 3
//! (<https://spec.matrix.org/latest/client-server-api/>).
//!
//! A message to a person goes into the direct room with that person ([`rooms`]), a public post into
//! the configured room. The id of the message is the transaction id of the request, and a homeserver
//! answers the same transaction id with the same event: so a request without an answer is made
//! again, and only what is still open then is ambiguous. With `inbound`, answers and read receipts
//! come in ([`sync`]).
//!
//! | answer | outcome |
//! |---|---|
//! | `M_LIMIT_EXCEEDED` | throttled, account |
//! | `M_UNKNOWN_TOKEN`, `M_MISSING_TOKEN`, `M_USER_…`, `M_CONSENT_NOT_GIVEN` | transient `CONFIG` |
//! | `M_FORBIDDEN`, `M_NOT_FOUND` | permanent: of a person recipient, of the public room config |
//! | `M_TOO_LARGE` | permanent, content |
//!
//! Trade-off: no encryption. Rooms are made without, and what is encrypted cannot be read.

mod rooms;
mod sync;

use std::sync::Arc;
use std::time::Duration;

use anklang_plugin_sdk::{Host, OpenError, Outcome, Reason};
use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::common::{
    Network, Outgoing, To, accepted, account_rests, address_invalid, beforehand, by_status, config,
    content, mendable, no_public_posts, too_long, unanswered, unasked,
};
use crate::config::{Connection, Secret, Serves, base_url, invalid};
use crate::events::{Events, Open, Task};
use crate::http::{Call, Http, Reply};
use rooms::Rooms;

/// Events have 65,536 bytes at most, in which the text is escaped and not alone.
const MOST_BYTES: usize = 60_000;
/// Most bytes of a user id or the like.
const LONGEST_ID: usize = 255;

/// A user of a Matrix homeserver.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the homeserver.
    base_url: String,
    /// Access token of the user.
    access_token: Secret,
    /// The room for public posts, which the user has joined: `!id`, `!id:server` or `#alias:server`.
    #[schemars(length(min = 2, max = 255))]
    public_room: Option<String>,
    /// Whether answers and read receipts are read. Of one server alone: each reads all.
    #[serde(default)]
    inbound: bool,
    /// What the account is used for.
    #[serde(default)]
    pub(crate) serves: Serves,
    /// How the homeserver is called.
    #[serde(default)]
    pub(crate) connection: Connection,
}

/// The homeserver, as our user sees it.
pub(crate) struct Api {
    http: Http,
    token: SecretString,
    me: OnceCell<String>,
}

impl Api {
    /// Makes a call whose repetition does no harm.
    async fn call(&self, call: Call) -> Result<Reply, crate::http::Failure> {
        self.http.call_safely(&call.bearer(&self.token)).await
    }

    /// Asks something that comes before a message; an error is the outcome of the message.
    async fn ask(&self, call: Call, forbidden: Reason) -> Result<Value, Outcome> {
        let reply = self.call(call).await.map_err(unasked)?;
        match reply.is_success() {
            true => Ok(reply.json()),
            false => Err(beforehand(refused(&reply, forbidden))),
        }
    }

    /// Our user id, which the token tells.
    async fn me(&self) -> Result<&str, Outcome> {
        let asked = self.me.get_or_try_init(|| async {
            let call = Call::get(&["_matrix", "client", "v3", "account", "whoami"]);
            let found = self.ask(call, Reason::Config).await?;
            match found["user_id"].as_str() {
                Some(me) => Ok(me.to_owned()),
                None => Err(mendable("base_url: this is no Matrix homeserver")),
            }
        });
        asked.await.map(String::as_str)
    }
}

/// The outcome of a refusal; `forbidden` is to blame where it is not allowed or not found.
fn refused(reply: &Reply, forbidden: Reason) -> Outcome {
    let body = reply.json();
    let code = body["errcode"].as_str().unwrap_or_default();
    let said = body["error"].as_str().unwrap_or_default();
    let detail = format!("{code}: {said}");
    match code {
        "M_LIMIT_EXCEEDED" => {
            let in_body = body["retry_after_ms"].as_u64().map(Duration::from_millis);
            account_rests(reply.retry_after().or(in_body))
        }
        "M_UNKNOWN_TOKEN"
        | "M_MISSING_TOKEN"
        | "M_USER_DEACTIVATED"
        | "M_USER_LOCKED"
        | "M_USER_SUSPENDED"
        | "M_CONSENT_NOT_GIVEN" => mendable(detail),
        "M_FORBIDDEN" | "M_NOT_FOUND" => Outcome::permanent(forbidden, code, said),
        "M_TOO_LARGE" => content(code, said),
        "M_UNRECOGNIZED" | "" => by_status(reply, said),
        _ if (400..500).contains(&reply.status) && reply.status != 429 => content(code, said),
        _ => by_status(reply, &detail),
    }
}

/// See the module's documentation.
pub(crate) struct Matrix {
    api: Arc<Api>,
    rooms: Rooms,
    public_room: Option<String>,
    /// The id of the public room, once asked for.
    public_id: OnceCell<String>,
    open: Arc<Open>,
    _sync: Option<Task>,
}

impl Matrix {
    pub(crate) async fn open(
        config: &Config,
        host: Host,
    ) -> Result<(Self, Vec<SecretString>), OpenError> {
        let token = config.access_token.read("access_token").await?;
        if let Some(room) = &config.public_room
            && !(is_room(room) || is_id('#', room))
        {
            return Err(invalid(
                "public_room: must be !id, !id:server or #alias:server",
            ));
        }
        let api = Arc::new(Api {
            http: Http::open(base_url(&config.base_url)?, &config.connection)?,
            token: token.clone(),
            me: OnceCell::new(),
        });
        let events = Events::new(host);
        let network = Self {
            rooms: Rooms::new(Arc::clone(&api), events.clone()),
            public_room: config.public_room.clone(),
            public_id: OnceCell::new(),
            open: Arc::clone(&events.open),
            _sync: config
                .inbound
                .then(|| sync::start(Arc::clone(&api), events)),
            api,
        };
        Ok((network, vec![token]))
    }

    async fn deliver(&self, message: &Outgoing) -> Result<Outcome, Outcome> {
        if message.text.len() > MOST_BYTES {
            return Err(too_long(message.text.len(), MOST_BYTES));
        }
        match &message.to {
            To::Public => {
                self.put(message, self.public().await?, Reason::Config)
                    .await
            }
            To::Person(user) if !is_id('@', user) => {
                Err(address_invalid("a Matrix user: @name:server"))
            }
            To::Person(user) => {
                let room = self.rooms.direct(user).await?;
                self.put(message, &room, Reason::Recipient).await
            }
        }
    }

    /// The id of the room for public posts.
    async fn public(&self) -> Result<&str, Outcome> {
        let room = self.public_room.as_deref().ok_or_else(no_public_posts)?;
        if room.starts_with('!') {
            return Ok(room);
        }
        let asked = self.public_id.get_or_try_init(|| async {
            let call = Call::get(&["_matrix", "client", "v3", "directory", "room", room]);
            let found = self.api.ask(call, Reason::Config).await?;
            match found["room_id"].as_str() {
                Some(id) => Ok(id.to_owned()),
                None => Err(config("M_NOT_FOUND", "public_room: there is no such room")),
            }
        });
        asked.await.map(String::as_str)
    }

    /// Puts the message into a room; the same message id gives the same event.
    async fn put(
        &self,
        message: &Outgoing,
        room: &str,
        forbidden: Reason,
    ) -> Result<Outcome, Outcome> {
        let path = [
            "_matrix",
            "client",
            "v3",
            "rooms",
            room,
            "send",
            "m.room.message",
        ];
        let call = Call::put(&[&path[..], &[&*message.id]].concat());
        let call = call.json(&json!({ "msgtype": "m.text", "body": message.text }));
        let reply = self.api.call(call).await.map_err(unanswered)?;
        let body = reply.json();
        match body["event_id"].as_str() {
            Some(event) if reply.is_success() => Ok(accepted(event, "")),
            _ => Err(refused(&reply, forbidden)),
        }
    }
}

impl Network for Matrix {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Outcome> {
        async move { self.deliver(message).await.unwrap_or_else(|failed| failed) }.boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<String, Outcome>> {
        async move {
            let call = Call::get(&["_matrix", "client", "v3", "account", "whoami"]);
            let found = self.api.ask(call, Reason::Config).await?;
            match found["user_id"].as_str() {
                Some(me) => Ok(format!("Matrix: {me}")),
                None => Err(mendable("base_url: this is no Matrix homeserver")),
            }
        }
        .boxed()
    }

    fn acknowledge(&self, event_ids: &[u64]) {
        self.open.acknowledge(event_ids);
    }
}

/// Whether this is the id of a room. Rooms of version 12 and later have no server in it.
fn is_room(id: &str) -> bool {
    let clean = !id.chars().any(|c| c.is_whitespace() || c.is_control());
    clean && id.len() <= LONGEST_ID && id.strip_prefix('!').is_some_and(|id| !id.is_empty())
}

/// Whether this is an id of a kind: its mark, a name, a colon, a server.
fn is_id(mark: char, id: &str) -> bool {
    let clean = !id.chars().any(|c| c.is_whitespace() || c.is_control());
    let parts = id.strip_prefix(mark).and_then(|rest| rest.split_once(':'));
    clean && id.len() <= LONGEST_ID && parts.is_some_and(|(n, s)| !n.is_empty() && !s.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_may_have_no_server() {
        for good in ["!a:e.org", "!nb6IttjPeB-wMxYEK2Whc1YmCmlA740GjVfE4wRt0I0"] {
            assert!(is_room(good), "{good}");
        }
        for bad in ["", "!", "#a:e.org", "lobby", "!a b"] {
            assert!(!is_room(bad), "{bad}");
        }
    }

    #[test]
    fn ids_have_a_mark_a_name_and_a_server() {
        for good in ["@erika:example.org", "@a/b=c:e.org:8448", "@ü:[::1]"] {
            assert!(is_id('@', good), "{good}");
        }
        let long = format!("@{}:e.org", "a".repeat(LONGEST_ID));
        for bad in [
            "",
            "@",
            "erika",
            "@erika",
            "@:e.org",
            "@e:",
            "#e:f.org",
            "@e f:g.org",
            &long,
        ] {
            assert!(!is_id('@', bad), "{bad}");
        }
    }
}
