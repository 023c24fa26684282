//! Launches that need an approval: everything is made and kept back, the operation waits, and goes on with what was
//! approved.

use anklang_store::approval::{self, Gate};
use anklang_store::{Tx, offer, operation};

use super::{Interrupted, Launch, OPENING, ROWS_PER_CHUNK, keep_lease, progress};

impl Launch<'_> {
    /// A transaction in which it may go on. When there is no approval (any more) the operation is given back, and due
    /// again with the approval; when there will be none it is over.
    pub(super) async fn go_on(&mut self) -> Result<Tx, Interrupted> {
        let mut tx = self.app.store.begin_work(self.tenant.id).await?;
        match approval::gate(&mut tx, self.tenant.id, self.phase()).await? {
            Gate::Open => Ok(tx),
            Gate::Waits => {
                operation::park(&mut tx, self.held).await?;
                tx.commit().await?;
                self.app.wake.handover.notify_waiters();
                Err(Interrupted::Waiting)
            }
            Gate::Closed => {
                tx.rollback().await?;
                Err(Interrupted::Cancelled)
            }
        }
    }

    /// Everything is made, and nobody outside has seen it.
    pub(super) async fn await_approval(&mut self) -> Result<(), Interrupted> {
        let (total, failed) = (self.held.operation.total, self.held.operation.failed);
        let mut tx = self.app.store.begin_work(self.tenant.id).await?;
        let keeping = approval::keep_members(&mut tx, self.tenant.id, self.phase());
        keep_lease(self.app, self.held, keeping).await?;
        tx.commit().await?;
        let mut tx = self.go_on().await?;
        self.advance(&mut tx, progress(OPENING, 0, total, failed))
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The offers that were approved, a part of them.
    pub(super) async fn open_offers(&mut self) -> Result<(), Interrupted> {
        let (done, total) = (self.held.operation.done, self.held.operation.total);
        let failed = self.held.operation.failed;
        let until = (done + ROWS_PER_CHUNK).min(total);
        let mut tx = self.go_on().await?;
        let opening = offer::open_members(&mut tx, self.tenant.id, self.phase(), done, until);
        keep_lease(self.app, self.held, opening).await?;
        let next = match until < total {
            true => progress(OPENING, until, total, failed),
            false => progress(self.plan.last_step(), 0, total, failed),
        };
        self.advance(&mut tx, next).await?;
        tx.commit().await?;
        Ok(())
    }
}
