//! Launches that need an approval: everything is made and kept back, the operation waits, and goes on with what was
//! approved.

use anklang_store::{Conn, StoreError, approval, offer, operation};

use super::{Interrupted, Launch, OPENING, ROWS_PER_CHUNK, keep_lease, progress};

impl Launch<'_> {
    /// Whether it has to stop here, as there is no approval (any more). Then it is given back in this transaction,
    /// which the caller commits, and due again with the approval.
    pub(super) async fn waits(&mut self, conn: &mut Conn) -> Result<bool, StoreError> {
        if !approval::waits(conn, self.tenant.id, self.phase()).await? {
            return Ok(false);
        }
        operation::park(conn, self.held).await?;
        Ok(true)
    }

    /// Everything is made, and nobody outside has seen it.
    pub(super) async fn await_approval(&mut self) -> Result<(), Interrupted> {
        let (total, failed) = (self.held.operation.total, self.held.operation.failed);
        let mut tx = self.app.store.begin_work(self.tenant.id).await?;
        if self.waits(&mut tx).await? {
            tx.commit().await?;
            self.app.wake.handover.notify_waiters();
            return Err(Interrupted::Waiting);
        }
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
        let mut tx = self.app.store.begin_work(self.tenant.id).await?;
        if self.waits(&mut tx).await? {
            tx.commit().await?;
            return Err(Interrupted::Waiting);
        }
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
