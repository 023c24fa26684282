//! What comes in of a person who is erased: that it came is known, and nothing else.

use serde_json::json;

use super::marked::{CUSTOMER, Marked, mark};
use super::{done, erase, is_nowhere};
use crate::probe::address;

#[tokio::test]
async fn what_is_written_after_an_erasure_is_not_kept() {
    let marked = Marked::start().await;
    done(
        &marked.probe.client,
        erase(&marked.probe.client, CUSTOMER).await,
    )
    .await;
    let sent = "SELECT m.id::text FROM message m JOIN customer c ON c.id = m.customer_id
                WHERE c.number = '0000' AND m.account = 'probe' AND m.state = 'sent' LIMIT 1";
    let sent = marked.probe.look(sent).await;
    let inbound = json!([
        {"from": mark("testing"), "to": "us", "subject": mark("subject"), "text": mark("later"),
         "id": mark("later")},
        {"from": mark("elsewhere"), "to": "us", "text": mark("reply"), "id": mark("reply"),
         "in_reply_to": sent},
    ]);
    let (status, answer) = marked.probe.post(&json!({"inbound": inbound})).await;
    assert_eq!(status, 200, "{answer}");
    let bounced = json!([
        {"message_id": sent, "state": "bounced", "code": "550 5.1.1", "detail": mark("mailbox"),
         "provider_message_id": mark("provider")},
        {"message_id": sent, "state": "complained"},
    ]);
    marked.probe.report(bounced).await;

    // Whoever objects has no consent any more that could be withdrawn, and no history.
    let consents = "SELECT count(*) FROM consent k JOIN customer c ON c.id = k.customer_id
                    WHERE c.number = '0000'";
    assert_eq!(marked.probe.look(consents).await, "0");

    is_nowhere(marked.server()).await;
    // One came before.
    let came = "SELECT count(*) FROM inbound_message";
    assert_eq!(marked.probe.look(came).await, "3");
    let became = format!("SELECT state || ' ' || detail FROM message WHERE id = '{sent}'");
    assert_eq!(marked.probe.look(&became).await, "bounced 550 5.1.1");

    // Of others it is kept as ever.
    let inbound = json!([{"from": address(1), "to": "us", "text": "Danke", "id": "d"}]);
    marked.probe.post(&json!({"inbound": inbound})).await;
    let kept = "SELECT count(*) FROM inbound_message WHERE body = 'Danke' AND sender <> ''";
    assert_eq!(marked.probe.look(kept).await, "1");
}
