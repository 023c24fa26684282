//! What people write to the bot: updates, by webhook or by asking for them (`getUpdates`).
//!
//! Asking with an offset confirms all updates before it, and Telegram forgets them: so the offset is
//! moved only when the host has acknowledged what came. Telegram keeps updates for a day.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anklang_plugin_sdk::{InboundEvent, Party};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Api;
use crate::events::{Ended, Events, Task, run};
use crate::http::Failure;

/// How long Telegram waits for something to happen.
const HELD: Duration = Duration::from_secs(25);
/// A round without news takes so long at least, should the other side not wait.
const SHORTEST_ROUND: Duration = Duration::from_millis(500);
/// Most updates in one answer.
const MOST_UPDATES: u32 = 100;
/// The most bytes of an answer.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Asks until it is dropped.
pub(super) fn start(api: Arc<Api>, events: Events) -> Task {
    let offset: Arc<tokio::sync::Mutex<i64>> = Arc::default();
    run(events.clone(), move || {
        let (api, events, offset) = (Arc::clone(&api), events.clone(), Arc::clone(&offset));
        async move { round(&api, &events, &mut *offset.lock().await).await }
    })
}

async fn round(api: &Api, events: &Events, offset: &mut i64) -> Result<(), Ended> {
    let begin = Instant::now();
    let mut body = json!({
        "limit": MOST_UPDATES, "timeout": HELD.as_secs(), "allowed_updates": ["message"],
    });
    if *offset > 0 {
        body["offset"] = (*offset).into();
    }
    let call = api.method("getUpdates").json(&body).held(HELD, MOST_BYTES);
    let reply = api.http.call(call).await.map_err(|failure| match failure {
        Failure::NotSent(_) => Ended::Failed("no connection".into()),
        Failure::Lost(_) => Ended::Failed("no answer".into()),
    })?;
    let answer = reply.json();
    let Some(updates) = answer["result"].as_array().filter(|_| answer["ok"] == true) else {
        // 409: somebody else asks, or there is a webhook.
        return Err(Ended::Failed(format!("HTTP {}", reply.status)));
    };
    for event in updates
        .iter()
        .filter_map(|update| inbound(update, api.bot()))
    {
        events.inbound(event).await?;
    }
    events.open.settled().await;
    let last = updates.iter().filter_map(|u| u["update_id"].as_i64()).max();
    match last {
        Some(last) => *offset = last + 1,
        None => sleep(SHORTEST_ROUND.saturating_sub(begin.elapsed())).await,
    }
    Ok(())
}

/// What an update brings in; nothing if it is no new message of a person.
pub(super) fn inbound(update: &Value, bot: &str) -> Option<InboundEvent> {
    let message = &update["message"];
    let from = &message["from"];
    if from["is_bot"] == true {
        return None;
    }
    let (sender, chat) = (from["id"].as_i64()?, message["chat"]["id"].as_i64()?);
    let id = message["message_id"].as_i64()?;
    let text = message["text"].as_str().or(message["caption"].as_str());
    let names = ["first_name", "last_name"];
    let names: Vec<&str> = names
        .iter()
        .filter_map(|name| from[name].as_str())
        .collect();
    let date = Duration::from_secs(message["date"].as_u64().unwrap_or_default());
    let received = SystemTime::UNIX_EPOCH
        .checked_add(date)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    Some(InboundEvent {
        sender: Some(Party {
            address: sender.to_string(),
            name: names.join(" "),
        }),
        recipient: Some(Party {
            address: bot.to_owned(),
            name: String::new(),
        }),
        text: text.unwrap_or_default().to_owned(),
        provider_message_id: format!("{chat}:{id}"),
        received_at: Some(received.into()),
        ..InboundEvent::default()
    })
}
