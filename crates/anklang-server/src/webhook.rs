//! What is posted to a webhook: a CloudEvent 1.0 in structured JSON mode, signed as Standard
//! Webhooks say. docs/handover.md describes both for receivers; the body is stable.

use anklang_domain::{TenantId, WebhookId};
use anklang_store::handover::delivery::Event;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::SecondsFormat;
use ring::{hmac, rand};
use serde::Serialize;
use uuid::Uuid;

use crate::seal::{Keys, SealError};

/// Content type of the body.
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The attributes of a CloudEvent that we give, in the order in which they are written.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: Uuid,
    source: String,
    r#type: &'a str,
    subject: &'a str,
    time: String,
    /// Of the extension "Sequence": later events compare greater as text.
    sequence: String,
    datacontenttype: &'static str,
    /// Of the extension "Distributed Tracing": the trace in which it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    data: &'a serde_json::Value,
}

/// The body of an event: the same bytes each time.
pub fn body(tenant_slug: &str, event: &Event) -> String {
    let event = CloudEvent {
        specversion: "1.0",
        id: event.event_id,
        source: format!("/anklang/tenants/{tenant_slug}"),
        r#type: &event.event_type,
        subject: &event.subject,
        time: event
            .occurred_at
            .to_rfc3339_opts(SecondsFormat::Micros, true),
        sequence: format!("{:020}", event.seq),
        datacontenttype: "application/json",
        traceparent: event.traceparent.as_deref(),
        data: &event.data,
    };
    serde_json::to_string(&event).expect("texts and JSON become JSON")
}

/// A secret that deliveries are signed with.
pub struct Secret(Vec<u8>);

impl Secret {
    /// A new one: 256 random bits.
    pub fn generate() -> Secret {
        let bytes: rand::Random<[u8; 32]> =
            rand::generate(&rand::SystemRandom::new()).expect("Linux has random numbers");
        Secret(bytes.expose().to_vec())
    }

    /// As it is shown to its owner.
    pub fn show(&self) -> String {
        format!("whsec_{}", BASE64_STANDARD.encode(&self.0))
    }

    /// As it is kept.
    pub fn seal(
        &self,
        keys: &Keys,
        tenant: TenantId,
        webhook: WebhookId,
        id: Uuid,
    ) -> Result<Vec<u8>, SealError> {
        keys.seal(context(tenant, webhook, id).as_bytes(), &self.0)
    }

    /// The one that was kept.
    pub fn open(
        keys: &Keys,
        tenant: TenantId,
        webhook: WebhookId,
        id: Uuid,
        sealed: &[u8],
    ) -> Result<Secret, SealError> {
        keys.open(context(tenant, webhook, id).as_bytes(), sealed)
            .map(Secret)
    }

    /// One signature: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let code = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(code))
    }
}

fn context(tenant: TenantId, webhook: WebhookId, secret: Uuid) -> String {
    format!("webhook_secret/{tenant}/{webhook}/{secret}")
}

/// The value of `webhook-signature`: a signature for each secret, apart by spaces.
pub fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &str) -> String {
    let all: Vec<String> = secrets
        .iter()
        .map(|secret| secret.sign(id, timestamp, body))
        .collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::json;

    /// The example of the reference implementations of Standard Webhooks.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let secret = |text: &str| Secret(BASE64_STANDARD.decode(text).expect("base64"));
        let known = secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(known.show(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = r#"{"test": 2432232314}"#;
        let signed = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(known.sign(id, 1_614_265_330, body), signed);
        let both = signatures(&[Secret::generate(), known], id, 1_614_265_330, body);
        let both: Vec<&str> = both.split(' ').collect();
        assert_eq!((both.len(), both[1]), (2, signed));
        assert_ne!(both[0], signed);
    }

    /// Receivers rely on it: change it only by adding.
    #[test]
    fn the_body_is_stable() {
        let event = Event {
            event_id: Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001),
            seq: 17,
            event_type: "anklang.offer.accepted.v1".into(),
            subject: "offers/A-00000001".into(),
            occurred_at: DateTime::from_timestamp(1_790_000_000, 5_000).expect("a time"),
            data: json!({"state": "accepted", "offer": "A-00000001"}),
            traceparent: None,
        };
        assert_eq!(
            body("acme", &event),
            r#"{"specversion":"1.0","id":"01990000-0000-7000-8000-000000000001","source":"/anklang/tenants/acme","type":"anklang.offer.accepted.v1","subject":"offers/A-00000001","time":"2026-09-21T14:13:20.000005Z","sequence":"00000000000000000017","datacontenttype":"application/json","data":{"offer":"A-00000001","state":"accepted"}}"#
        );
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let traced = Event {
            traceparent: Some(traceparent.into()),
            ..event.clone()
        };
        let extension = format!(r#""traceparent":"{traceparent}","data":"#);
        let expected = body("acme", &event).replace(r#""data":"#, &extension);
        assert_eq!(body("acme", &traced), expected);
    }
}
