//! Messages that nobody may send now do not count as due: else each paused campaign would be an alert, and would have
//! workers started that have nothing to do.

use anklang_proto::anklang::campaigns::v1 as campaigns;

use super::{CUSTOMERS, TRACE, launch, server};
use crate::collector::Collector;
use crate::mailing::{self, until};
use crate::phases;

/// Waits until so many messages are due, and so many are held back.
async fn stands(collector: &Collector, due: f64, held_back: f64) {
    until("what is due and what is held back", async || {
        let count = |state: &str| collector.value("anklang.messages", &["account=mail", state]);
        let age = collector.value("anklang.messages.oldest_due_age", &["account=mail"]);
        count("state=due") == Some(due)
            && count("state=held_back") == Some(held_back)
            && age.is_some_and(|age| (age > 0.0) == (due > 0.0))
    })
    .await;
}

#[tokio::test]
async fn what_is_held_back_is_not_due() {
    let collector = Collector::start().await;
    // Nobody sends: all of it stays in the queue.
    let server = server(&collector.url(), true).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    let campaign = launch(&client, TRACE, "01").await;
    let all = CUSTOMERS as f64;
    stands(&collector, all, 0.0).await;

    let phase = format!("{campaign}/phases/1");
    phases::pause(&client, &phase).await.unwrap();
    stands(&collector, 0.0, all).await;
    phases::resume(&client, &phase).await.unwrap();
    stands(&collector, all, 0.0).await;

    let pause = campaigns::PauseCampaignRequest {
        name: campaign.clone(),
        ..Default::default()
    };
    client.campaigns().pause_campaign(pause).await.unwrap();
    stands(&collector, 0.0, all).await;
    let resume = campaigns::ResumeCampaignRequest {
        name: campaign,
        ..Default::default()
    };
    client.campaigns().resume_campaign(resume).await.unwrap();
    stands(&collector, all, 0.0).await;

    // A phase whose approval was voided.
    let owner = server.database.connect().await.unwrap();
    let voided = |unapproved: bool| format!("UPDATE phase SET unapproved = {unapproved}");
    owner.batch_execute(&voided(true)).await.unwrap();
    stands(&collector, 0.0, all).await;
    owner.batch_execute(&voided(false)).await.unwrap();
    stands(&collector, all, 0.0).await;

    // The channel of the account wants to be left alone.
    let held = "INSERT INTO account_pace (tenant_id, account, held_until)
        SELECT id, 'mail', now() + interval '1 hour' FROM tenant
        ON CONFLICT (tenant_id, account) DO UPDATE SET held_until = excluded.held_until";
    owner.batch_execute(held).await.unwrap();
    stands(&collector, 0.0, all).await;
}
