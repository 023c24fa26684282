//! What exports do not tell: the tenant's own people.

use serde_json::{Value, json};

use super::marked::{CUSTOMER, Marked, mark};
use super::{done, download, export};
use crate::winback::{desk, monthly, set};

#[tokio::test]
async fn an_export_names_none_of_the_tenants_people() {
    let marked = Marked::start().await;
    let (client, server) = (&marked.probe.client, marked.server());
    set(client, monthly(), "").await.unwrap();
    let settings = format!(
        "INSERT INTO winback_settings (tenant_id, version, settings)
         SELECT tenant_id, version + 1, settings || '{}' FROM winback_settings
         ORDER BY version DESC LIMIT 1",
        json!({"offer_mail_to": "chefin@stadtwerk.example", "offer_mail_account": "probe"})
    );
    desk::sql(server, &settings).await;
    let request = json!({"name": marked.case, "worker": "users/carla", "note": mark("wish")});
    let method = "winback.v1.WinbackCaseService/RequestWinbackOffer";
    marked.call(method, request).await;
    // They are in the tenant's books: a mail to them, its event, the history.
    for books in [
        "SELECT count(*) FROM message WHERE notice ->> 'worker' = 'users/carla'",
        "SELECT count(*) FROM handover_event WHERE data ->> 'mail_to' <> ''",
        "SELECT count(*) FROM customer_event WHERE details ->> 'worker' = 'users/carla'",
    ] {
        assert_eq!(marked.probe.look(books).await, "1", "{books}");
    }

    let exported = done(client, export(client, CUSTOMER).await.unwrap()).await;
    let bytes = download(client, &exported.name).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    for one in ["users/anna", "users/carla", "chefin@"] {
        assert!(!text.contains(one), "{one}");
    }
    // What was said of the customer is told.
    assert!(text.contains(&mark("wish")));
    let told: Value = serde_json::from_str(&text).unwrap();
    let messages = told["tables"]["message"].as_array().unwrap();
    assert!(!messages.is_empty());
    assert!(
        messages
            .iter()
            .all(|message| message["purpose"] != "notice")
    );
}
