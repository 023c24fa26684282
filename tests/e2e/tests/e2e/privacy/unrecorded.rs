//! Letters that lie in the store and were never recorded: their server died in between.

use super::marked::{CUSTOMER, MARK, Marked};
use super::{done, erase, files};
use crate::mailing::until;

#[tokio::test]
async fn letters_that_were_never_recorded_go() {
    let mut marked = Marked::start().await;
    let listed = "SELECT count(*) FROM erased_file";
    // Those that were recorded are off the list.
    assert_eq!(marked.probe.look(listed).await, "0");
    let before = files(&marked.server().documents()).len();
    let [young, old] = ["aa", "bb"].map(|start| {
        let hash = start.repeat(32);
        let folder = marked.server().documents().join("documents").join(start);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{hash}.pdf"));
        std::fs::write(&file, MARK).unwrap();
        file
    });
    // One to the customer, one to another, and one that was recorded by somebody else meanwhile.
    let letters = "INSERT INTO erased_file (tenant_id, offer_id, sha256, created_at)
        SELECT o.tenant_id, o.id,
               CASE c.number WHEN '0000' THEN decode(repeat('aa', 32), 'hex')
                             WHEN '0001' THEN decode(repeat('bb', 32), 'hex') ELSE d.sha256 END,
               now() - CASE c.number WHEN '0000' THEN interval '0' ELSE interval '2 hours' END
        FROM offer o JOIN document d ON d.offer_id = o.id JOIN customer c ON c.id = o.customer_id
        WHERE c.number IN ('0000', '0001', '0002')";
    let database = marked.server().database.connect().await.unwrap();
    database.batch_execute(letters).await.unwrap();
    assert_eq!(marked.probe.look(listed).await, "3");

    // It looks when it starts, and every minute.
    marked.probe.restart().await;
    until("only the young one is listed", async || {
        marked.probe.look(listed).await == "1"
    })
    .await;
    assert!(young.exists() && !old.exists());
    assert_eq!(files(&marked.server().documents()).len(), before + 1);

    let client = &marked.probe.client;
    done(client, erase(client, CUSTOMER).await).await;
    assert!(!young.exists());
    assert_eq!(marked.probe.look(listed).await, "0");
}
