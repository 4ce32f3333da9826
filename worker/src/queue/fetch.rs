//! Claims due jobs of one queue whenever a slot is free and the queue's bell rang.
//!
//! Decision: as many rows are claimed as slots are free, never more. Nothing waits claimed in a buffer, so nothing of a live
//! worker can be taken for abandoned, and another worker gets what this one cannot start.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SetOnce, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    attempt::Running,
    backoff::{Backoff, limited},
    ledger::{self, ClaimedRow},
    roster::{AttemptId, Roster},
};

/// A claimed job with its slot. The slot is free again when this is dropped.
pub(super) struct Claimed {
    pub(super) id: AttemptId,
    pub(super) payload: Vec<u8>,
    pub(super) waited: std::time::Duration,
    pub(super) running: Arc<Running>,
    _slot: OwnedSemaphorePermit,
}

/// Claims for one queue.
pub(super) struct Fetcher {
    pub(super) db: PgPool,
    pub(super) queue: &'static str,
    pub(super) worker: Arc<str>,
    pub(super) slots: Arc<Semaphore>,
    /// Rung when a job may be due. It remembers one ring, so none is lost between two claims.
    pub(super) bell: Arc<Notify>,
    pub(super) roster: Arc<Roster>,
    /// Set when the worker exists in the database.
    pub(super) registered: Arc<SetOnce<()>>,
    pub(super) feed: mpsc::Sender<Claimed>,
    pub(super) shutdown: CancellationToken,
}

impl Fetcher {
    /// Claims until the shutdown; closing the feed then lets the worker drain. A claim under way is always waited for: its
    /// rows would otherwise be ours without anybody knowing.
    pub(super) async fn run(self) {
        if self.shutdown.run_until_cancelled(self.registered.wait()).await.is_none() {
            return;
        }
        let mut backoff = Backoff::default();
        loop {
            let Some(slots) = self.shutdown.run_until_cancelled(self.free_slots()).await else { return };
            let wanted = slots.len();
            match limited(ledger::claim(&self.db, self.queue, &self.worker, wanted)).await {
                Ok(rows) => {
                    backoff = Backoff::default();
                    // A full claim means that more may be due: ring for ourselves.
                    if rows.len() == wanted {
                        self.bell.notify_one();
                    }
                    self.hand_over(rows, slots).await;
                }
                Err(error) => {
                    tracing::warn!(job.queue = self.queue, %error, "cannot claim jobs of {}", self.queue);
                    self.bell.notify_one();
                    if self.shutdown.run_until_cancelled(backoff.wait()).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for the bell, then for a slot, and takes every slot that is free.
    async fn free_slots(&self) -> Vec<OwnedSemaphorePermit> {
        self.bell.notified().await;
        let first = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
        let more = std::iter::from_fn(|| Arc::clone(&self.slots).try_acquire_owned().ok());
        std::iter::once(first).chain(more).collect()
    }

    async fn hand_over(&self, rows: Vec<ClaimedRow>, slots: Vec<OwnedSemaphorePermit>) {
        for (row, slot) in rows.into_iter().zip(slots) {
            let running = Arc::new(Running::new(Arc::clone(&self.worker), row.job, row.number, row.max));
            self.roster.add(row.id, Arc::clone(&running));
            let claimed =
                Claimed { id: row.id, payload: row.payload, waited: row.waited, running, _slot: slot };
            // The worker reads until this end closes. Were it gone, the attempt would be given back as abandoned.
            if self.feed.send(claimed).await.is_err() {
                self.roster.remove(row.id);
            }
        }
    }
}
