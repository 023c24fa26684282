//! Batches of text messages.

use anklang_channels::proto::{Message, Party, SendRequest, TextContent, message};

/// A batch of text messages.
pub fn texts(texts: &[&str]) -> SendRequest {
    let message = |text: &&str| Message {
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: Some(Party::default()),
        content: Some(message::Content::Text(TextContent {
            text: (*text).to_owned(),
        })),
        ..Message::default()
    };
    SendRequest {
        messages: texts.iter().map(message).collect(),
        traceparent: String::new(),
    }
}
