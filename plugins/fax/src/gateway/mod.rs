//! An account at a gateway that makes faxes of mails: accepted is what its mail server took. What
//! became of the fax, the gateway mails to the account's owner; nothing of that is read here.

pub(crate) mod config;
mod mail;
mod smtp;

use std::sync::Arc;

use anklang_plugin_sdk::{
    HealthReply, Host, Level, LookupResult, Message, OpenError, Outcome, health_reply::Status,
    lookup_result, outcome::Kind,
};
use tokio::time::Instant;

use self::config::{GatewayConfig, Settings};
use self::mail::Mail;
use self::smtp::{Connection, Delivered};
use crate::document::unreadable;
use crate::late;

/// One account.
pub(crate) struct Gateway {
    settings: Arc<Settings>,
    host: Host,
}

impl Gateway {
    pub(crate) async fn open(config: GatewayConfig, host: Host) -> Result<Self, OpenError> {
        let settings = Arc::new(config.resolve().await?);
        Ok(Self { settings, host })
    }

    /// One outcome for each message, one after the other over one connection.
    pub(crate) async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let deadline = Instant::now() + self.settings.begin_within;
        let mut connection = None;
        // What no mail can be sent for now, such as a wrong password, is found out once.
        let mut down: Option<Outcome> = None;
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in batch {
            let mail = match self.build(message).await {
                Ok(mail) => mail,
                Err(refused) => {
                    outcomes.push(refused);
                    continue;
                }
            };
            if down.is_none() && Instant::now() >= deadline {
                down = Some(late());
            }
            if down.is_none() && connection.is_none() {
                match Connection::open(&self.settings).await {
                    Ok(opened) => connection = Some(opened),
                    Err(failed) => {
                        self.warn(&failed);
                        down = Some(failed);
                    }
                }
            }
            outcomes.push(match (&down, connection.take()) {
                (None, Some(open)) => {
                    let Delivered {
                        outcome,
                        connection: left,
                    } = open.deliver(&mail).await;
                    connection = left;
                    outcome
                }
                (down, left) => {
                    connection = left;
                    down.clone().unwrap_or_else(late)
                }
            });
        }
        if let Some(connection) = connection {
            connection.quit().await;
        }
        outcomes
    }

    /// Apart from the runtime's threads: a document may be large, and one that was made to break
    /// its reader breaks nothing else.
    async fn build(&self, message: Message) -> Result<Mail, Outcome> {
        let settings = Arc::clone(&self.settings);
        let building = tokio::task::spawn_blocking(move || mail::build(&settings, message));
        building
            .await
            .unwrap_or_else(|_| Err(unreadable("the document cannot be read".to_owned())))
    }

    /// Nobody can be asked.
    pub(crate) fn lookup(&self, message_ids: &[String]) -> Vec<LookupResult> {
        let unknown = Outcome::ambiguous("a gateway by mail cannot be asked");
        let unknown = LookupResult {
            kind: Some(lookup_result::Kind::Outcome(unknown)),
        };
        vec![unknown; message_ids.len()]
    }

    pub(crate) async fn health(&self) -> HealthReply {
        let (status, detail) = match Connection::open(&self.settings).await {
            Ok(connection) => {
                connection.quit().await;
                (Status::Serving, "connected".to_owned())
            }
            Err(failed) => (Status::NotServing, described(&failed)),
        };
        HealthReply {
            status: status.into(),
            detail,
        }
    }

    fn warn(&self, failed: &Outcome) {
        let reason = ("reason", described(failed));
        self.host.log(
            Level::Warn,
            "no connection to the mail server of the gateway",
            &[reason],
        );
    }
}

/// Code and detail of a failed connection, for people.
fn described(outcome: &Outcome) -> String {
    match &outcome.kind {
        Some(Kind::Transient(failed)) => format!("{}: {}", failed.code, failed.detail),
        other => format!("{other:?}"),
    }
}
