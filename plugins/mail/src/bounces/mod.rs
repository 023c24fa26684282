//! What comes back by mail: reports of delivery, complaints, withdrawals of consent and answers,
//! read from a mailbox by IMAP and told to the host.
//!
//! Guarantees: a mail is moved out of the folder only when the host has acknowledged its event, so
//! that a crash at any point has it read again: told at least once. A mail that cannot be read, or
//! belongs to no message, is moved aside and logged by its number, never by its content; one that
//! breaks the connection again and again is moved aside unread. Memory is bounded by [`ledger`] and
//! by what is read of a mail. The state of the mailbox never keeps mails from being sent.
//!
//! Trade-offs: several servers with the same account read the same mailbox, and the host sees each
//! event more than once; what it does with it is the same each time.

mod fields;
mod imap;
mod ledger;
mod report;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anklang_plugin_sdk::{Host, HostClosed, Level};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::BounceSettings;
use crate::tags::Tagged;
use imap::{Failure, Imap, Raw, Woke};
use ledger::{Ledger, Place};
use report::{Addresses, News};

/// First pause after a failure, doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A mail at which the connection failed so often is moved aside unread.
const STRIKES: u32 = 3;
/// Mails that one command moves.
const MOVED_AT_ONCE: usize = 100;

/// The mailbox of an account, read by a task of its own.
pub(crate) struct Bounces {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    ledger: Mutex<Ledger>,
    state: Mutex<String>,
    /// There is something to put away, or it is time to end.
    wake: Notify,
    ending: AtomicBool,
}

impl Bounces {
    /// Begins to read. What fails is tried again for as long as the account is open.
    pub(crate) fn open(settings: BounceSettings, return_path: Option<Tagged>, host: Host) -> Self {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(SystemTime::now())),
            state: Mutex::new("connecting".to_owned()),
            wake: Notify::new(),
            ending: AtomicBool::new(false),
        });
        let reader = Reader {
            addresses: Addresses {
                return_path,
                unsubscribe: settings.unsubscribe.clone(),
            },
            settings,
            host,
            shared: Arc::clone(&shared),
            trouble: None,
        };
        Self {
            shared,
            task: Mutex::new(Some(tokio::spawn(reader.run()))),
        }
    }

    /// The host has committed these events: their mails can be put away.
    pub(crate) fn acknowledge(&self, event_ids: &[u64]) {
        self.shared.ledger().acknowledge(event_ids);
        self.shared.wake.notify_one();
    }

    /// How the mailbox is, in words.
    pub(crate) fn state(&self) -> String {
        let waiting = self.shared.ledger().waiting();
        let state = self.shared.state();
        format!("{state}, {waiting} events not acknowledged")
    }

    /// Puts away what is acknowledged, and takes leave.
    pub(crate) async fn shut_down(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // It never panics; and the caller has a deadline.
            let _ = task.await;
        }
    }
}

impl Drop for Bounces {
    fn drop(&mut self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Shared {
    // No code that can panic runs under these locks.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

/// Why reading has ended.
enum End {
    /// It was asked to, or the host is gone.
    Wanted,
    /// For this reason; it can be tried again.
    Failed(String),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.reason)
    }
}

impl From<HostClosed> for End {
    fn from(_: HostClosed) -> Self {
        Self::Wanted
    }
}

struct Reader {
    settings: BounceSettings,
    addresses: Addresses,
    host: Host,
    shared: Arc<Shared>,
    /// The mail that is being fetched, and how often the connection failed meanwhile.
    trouble: Option<(u32, u32)>,
}

impl Reader {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.shared.is_ending() {
            let began = Instant::now();
            let Err(End::Failed(reason)) = self.session().await else {
                return;
            };
            self.shared.state().clone_from(&reason);
            let fields = [("reason", reason)];
            self.host
                .log(Level::Warn, "the mailbox cannot be read", &fields);
            // What worked for a while begins anew.
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            self.rest(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits, unless the account is closed meanwhile.
    async fn rest(&self, pause: Duration) {
        let until = tokio::time::Instant::now() + pause;
        while !self.shared.is_ending() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// Reads until the connection ends.
    async fn session(&mut self) -> Result<(), End> {
        let mut imap = Imap::open(&self.settings).await?;
        for folder in [&self.settings.done_folder, &self.settings.aside_folder] {
            imap.create(folder).await?;
        }
        let validity = imap.select(&self.settings.folder).await?;
        self.shared.ledger().opened(validity);
        *self.shared.state() = "connected".to_owned();
        let mut look = true;
        loop {
            self.put_away(&mut imap).await;
            if self.shared.is_ending() {
                imap.logout().await;
                return Ok(());
            }
            let more = look && self.read(&mut imap).await?;
            // Some mails need no acknowledgement, and make room at once.
            if self.put_away(&mut imap).await && more {
                continue;
            }
            let (next, woke) = imap.wait(self.settings.poll, &self.shared.wake).await?;
            imap = next;
            // If there was no room for all, there may be some after an acknowledgement.
            look = more || woke == Woke::News;
        }
    }

    /// Moves what is to leave the folder; whether anything did. What cannot be moved is tried
    /// again with the next look.
    async fn put_away(&self, imap: &mut Imap) -> bool {
        let mut moved = false;
        let places = [
            (Place::Done, &self.settings.done_folder),
            (Place::Aside, &self.settings.aside_folder),
        ];
        for (place, folder) in places {
            let mails = self.shared.ledger().leaving(place);
            for some in mails.chunks(MOVED_AT_ONCE) {
                if let Err(failure) = imap.put_away(some, folder).await {
                    let fields = [("reason", failure.reason)];
                    self.host
                        .log(Level::Warn, "mails cannot be put away", &fields);
                    return moved;
                }
                self.shared.ledger().left(some);
                moved = true;
            }
        }
        moved
    }

    /// Reads what is new in the folder; whether there is more than there was room for.
    async fn read(&mut self, imap: &mut Imap) -> Result<bool, End> {
        let found = imap.mails().await?;
        let (mails, more) = self.shared.ledger().unread(found, Instant::now());
        for mail in mails {
            if self.shared.is_ending() {
                break;
            }
            if let Some(raw) = self.fetch(imap, mail).await? {
                self.tell(mail, &raw).await?;
            }
        }
        Ok(more)
    }

    /// A mail; `None` if it is gone, or breaks the connection and is moved aside.
    async fn fetch(&mut self, imap: &mut Imap, mail: u32) -> Result<Option<Raw>, End> {
        let strikes = match self.trouble {
            Some((known, strikes)) if known == mail => strikes,
            _ => 0,
        };
        if strikes >= STRIKES {
            self.trouble = None;
            self.aside(mail, "the server's answer cannot be read");
            return Ok(None);
        }
        let fetched = imap.mail(mail).await;
        self.trouble = match &fetched {
            Err(failure) if failure.unreadable => Some((mail, strikes + 1)),
            _ => None,
        };
        Ok(fetched?)
    }

    async fn tell(&self, mail: u32, raw: &Raw) -> Result<(), End> {
        let reading = || report::read(&raw.bytes, raw.received, &self.addresses);
        // The parser promises not to panic; should it do so, one mail must not stop all others.
        let news = catch_unwind(AssertUnwindSafe(reading)).unwrap_or_else(|panic| {
            std::mem::forget(panic);
            News::Unreadable("the reader failed at it")
        });
        let now = Instant::now();
        match news {
            News::Delivery(mut event) => {
                event.event_id = self.shared.ledger().tell(mail, now);
                self.unless_ending(self.host.delivery(&event)).await
            }
            News::Inbound(mut event) => {
                event.event_id = self.shared.ledger().tell(mail, now);
                self.unless_ending(self.host.inbound(&event)).await
            }
            News::Nothing => {
                self.shared.ledger().leave(mail, Place::Done);
                Ok(())
            }
            News::Unreadable(reason) => {
                self.aside(mail, reason);
                Ok(())
            }
        }
    }

    /// A host that takes nothing more must not keep the account from closing.
    async fn unless_ending(
        &self,
        telling: impl Future<Output = Result<(), HostClosed>>,
    ) -> Result<(), End> {
        tokio::pin!(telling);
        loop {
            tokio::select! {
                told = &mut telling => return Ok(told?),
                () = self.shared.wake.notified() => {
                    if self.shared.is_ending() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn aside(&self, mail: u32, reason: &str) {
        self.shared.ledger().leave(mail, Place::Aside);
        let fields = [("uid", mail.to_string()), ("reason", reason.to_owned())];
        self.host.log(Level::Warn, "a mail is moved aside", &fields);
    }
}
