//! What has changed since a snapshot, whatever commits when.

use std::collections::BTreeMap;

use anklang_store::planning::work::watch::{self, Change, Moment};
use uuid::Uuid;

use super::{Dice, Lab};

impl Lab {
    /// What has changed since a moment, so many at once, and the moment of that.
    async fn since(&self, moment: &Moment, at_once: i64) -> (Vec<Change>, Moment) {
        let mut tx = self.store.begin_snapshot(self.tenant).await.unwrap();
        let now = watch::moment(&mut tx).await.unwrap();
        let mut all: Vec<Change> = Vec::new();
        loop {
            let snapshot = &moment.snapshot;
            let part = watch::changed(&mut tx, self.tenant, snapshot, all.last(), at_once)
                .await
                .unwrap();
            let is_last = part.len() < usize::try_from(at_once).unwrap();
            all.extend(part);
            if is_last {
                tx.commit().await.unwrap();
                return (all, now);
            }
        }
    }

    /// The ids of those, ascending; negative when they are gone.
    async fn ids(&self, moment: &Moment) -> Vec<i64> {
        let (changes, _) = self.since(moment, 2).await;
        let sign = |c: &Change| if c.is_gone { -1 } else { 1 };
        let mut ids: Vec<i64> = changes.iter().map(|c| sign(c) * number(c.id)).collect();
        ids.sort_unstable();
        ids
    }

    async fn now(&self) -> Moment {
        watch::now(&self.store, self.tenant).await.unwrap()
    }
}

fn number(id: Uuid) -> i64 {
    i64::try_from(id.as_u128()).unwrap()
}

fn touch(n: usize) -> String {
    format!(
        "UPDATE planned_contact SET priority = priority + 1 WHERE id = '{}'",
        id(n)
    )
}

fn id(n: usize) -> Uuid {
    Uuid::from_u128(n as u128)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_not_missed() {
    let lab = Lab::open().await;
    lab.contacts(9).await;
    let (slow, fast) = (lab.connect().await, lab.connect().await);
    let first = lab.now().await;
    assert!(lab.ids(&first).await.is_empty());

    // One that is under way for long, also by parts that are taken back and others that are not.
    slow.batch_execute(&format!("BEGIN; {}", touch(1)))
        .await
        .unwrap();
    let part = format!(
        "SAVEPOINT a; {}; ROLLBACK TO a; SAVEPOINT b; {}; RELEASE b;
         DELETE FROM planned_contact WHERE id = '{}'",
        touch(2),
        touch(3),
        id(4)
    );
    slow.batch_execute(&part).await.unwrap();
    let begun = lab.now().await;
    // Others come and go meanwhile.
    fast.batch_execute(&touch(5)).await.unwrap();
    assert_eq!(lab.ids(&begun).await, [5]);
    assert_eq!(lab.ids(&first).await, [5]);
    let second = lab.now().await;
    assert!(lab.ids(&second).await.is_empty());
    let gone = format!("DELETE FROM planned_contact WHERE id = '{}'", id(6));
    fast.batch_execute(&gone).await.unwrap();
    fast.batch_execute(&format!("BEGIN; {}; ROLLBACK", touch(7)))
        .await
        .unwrap();
    assert_eq!(lab.ids(&second).await, [-6]);
    let third = lab.now().await;
    assert!(third.snapshot.includes(&second.snapshot));
    assert!(!second.snapshot.includes(&third.snapshot));

    slow.batch_execute("COMMIT").await.unwrap();
    assert_eq!(lab.ids(&third).await, [-4, 1, 3]);
    assert_eq!(lab.ids(&second).await, [-6, -4, 1, 3]);
    assert_eq!(lab.ids(&first).await, [-6, -4, 1, 3, 5]);
    // What one has told is over, also for its token's text.
    let last = lab.now().await;
    assert!(lab.ids(&last).await.is_empty());
    let text = third.snapshot.to_string();
    let read = Moment {
        snapshot: text.parse().unwrap(),
        ..third
    };
    assert_eq!(lab.ids(&read).await, [-4, 1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_come_in_parts_and_each_once() {
    let lab = Lab::open().await;
    lab.contacts(700).await;
    let before = lab.now().await;
    let sql = lab.connect().await;
    sql.batch_execute(
        "BEGIN; UPDATE planned_contact SET priority = 1 WHERE id::text < '00000000-0000-0000-0000-000000000100';
         DELETE FROM planned_contact WHERE id::text > '00000000-0000-0000-0000-000000000200'; COMMIT",
    )
    .await
    .unwrap();
    for at_once in [1, 7, 255, 444, 10_000] {
        let (changes, _) = lab.since(&before, at_once).await;
        let mut ids: Vec<i64> = changes.iter().map(|c| number(c.id)).collect();
        ids.sort_unstable();
        let expected: Vec<i64> = (1..0x100).chain(0x201..=700).collect();
        assert_eq!(ids, expected, "{at_once}");
        assert!(changes.iter().all(|c| c.is_gone == (number(c.id) > 0x200)));
    }
    // Of those a contact is read once, as it is now.
    let mut tx = lab.store.begin_snapshot(lab.tenant).await.unwrap();
    let moment = &before.snapshot;
    let changes = watch::changed(&mut tx, lab.tenant, moment, None, 300)
        .await
        .unwrap();
    let found = watch::contacts(&mut tx, lab.tenant, &changes)
        .await
        .unwrap();
    assert_eq!(found.len(), 255);
    assert!(found.iter().all(|(_, contact)| contact.priority == 1));
    // They are forgotten some days later.
    watch::forget(&mut tx, lab.tenant, 10)
        .await
        .expect_err("a snapshot is for reading alone");
    drop(tx);
    for (forgotten, days) in [(0, 1), (100, 3), (88, 3), (0, 3)] {
        let age =
            format!("UPDATE planned_contact_gone SET gone_at = now() - interval '{days} days'");
        sql.batch_execute(&age).await.unwrap();
        let mut tx = lab.store.begin_work(lab.tenant).await.unwrap();
        assert_eq!(
            watch::forget(&mut tx, lab.tenant, 100).await.unwrap(),
            forgotten
        );
        tx.commit().await.unwrap();
    }
}

/// Changes contacts by transactions of any length, of which some are taken back.
async fn writes(sql: tokio_postgres::Client, mut dice: Dice, contacts: usize) {
    for _ in 0..40 {
        sql.batch_execute("BEGIN").await.unwrap();
        // Ascending, so that writers do not wait for each other in a circle.
        let mut ids: Vec<usize> = (0..dice.roll(4)).map(|_| 1 + dice.roll(contacts)).collect();
        ids.sort_unstable();
        for n in ids {
            let change = match dice.roll(12) {
                0 => format!("DELETE FROM planned_contact WHERE id = '{}'", id(n)),
                _ => touch(n),
            };
            sql.batch_execute(&change).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(dice.roll(4) as u64)).await;
        }
        let end = dice.pick(&["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]);
        sql.batch_execute(end).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_has_in_the_end_what_there_is() {
    const CONTACTS: usize = 200;
    let lab = Lab::open().await;
    lab.contacts(CONTACTS).await;
    let mut seen = lab.now().await;
    let mut have: BTreeMap<Uuid, i32> = (1..=CONTACTS).map(|n| (id(n), 0)).collect();
    let mut writers = tokio::task::JoinSet::new();
    for seed in 1..=8_u64 {
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        writers.spawn(writes(lab.connect().await, dice, CONTACTS));
    }
    loop {
        while let Some(written) = writers.try_join_next() {
            written.unwrap();
        }
        let is_over = writers.is_empty();
        let mut tx = lab.store.begin_snapshot(lab.tenant).await.unwrap();
        let now = watch::moment(&mut tx).await.unwrap();
        let changes = watch::changed(&mut tx, lab.tenant, &seen.snapshot, None, 1_000)
            .await
            .unwrap();
        for change in changes.iter().filter(|c| c.is_gone) {
            assert!(have.remove(&change.id).is_some(), "gone once");
        }
        for (_, contact) in watch::contacts(&mut tx, lab.tenant, &changes)
            .await
            .unwrap()
        {
            let before = have.insert(contact.id, contact.priority);
            assert!(
                before.unwrap() < contact.priority,
                "nothing goes back, nothing is told twice"
            );
        }
        seen = now;
        if is_over {
            break;
        }
    }
    let rows = lab.connect().await;
    let rows = rows
        .query("SELECT id::text, priority FROM planned_contact", &[])
        .await
        .unwrap();
    let there: BTreeMap<Uuid, i32> = rows
        .iter()
        .map(|row| (row.get::<_, String>(0).parse().unwrap(), row.get(1)))
        .collect();
    assert!(there.len() < CONTACTS && there.values().any(|p| *p > 1));
    assert_eq!(have, there);
}
