//! The heartbeat: says that this process lives, learns which of its attempts were taken away or cancelled, gives back what it
//! does not know, and rescues the jobs of processes that died.
//!
//! Decisions:
//! - A task and a connection of its own: no number of busy handlers, full pools or slow claims can hold it up.
//! - After an outage every worker looks dead to the first that comes back. So nobody rescues before it saw the database for
//!   [`RESCUE_AFTER_BEATS`] heartbeats in a row, by the database's clock: by then the living have said so. That wait is shorter
//!   than a lease, so the restart of a killed worker is not slowed by it.
//! - A lease is lost when the database says so, not when a heartbeat failed: the work of hours survives an outage, and if
//!   somebody else did take the job, fencing refuses our writes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::sync::{Notify, SetOnce, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Names,
    attempt::StopReason,
    backoff::{Backoff, DB_CALL_TIMEOUT, limited},
    ledger::{self, OpenAttempt, Outcome, Settled},
    metrics,
    roster::{AttemptId, Roster},
};

/// Heartbeats in a row before the first rescue. At 5 s that is 15 s: under the lease of 20 s, over the longest pause between
/// two tries in an outage ([`DB_CALL_TIMEOUT`] and a backoff of 2 s, or of a heartbeat when that is shorter).
const RESCUE_AFTER_BEATS: f64 = 3.0;

/// An attempt that the database holds open for us, but that we do not know, is given back at this age. Its claim was answered
/// within [`DB_CALL_TIMEOUT`] or never; twice that leaves room for the way.
const ABANDONED_AFTER: Duration = DB_CALL_TIMEOUT.saturating_mul(2);

pub(super) struct Pulse {
    pub(super) db: PgPool,
    pub(super) names: Arc<Names>,
    pub(super) roster: Arc<Roster>,
    pub(super) every: Duration,
    pub(super) lease: Duration,
    /// Rung when an operator cancelled something.
    pub(super) look_now: Arc<Notify>,
    /// Set with the first heartbeat: from then on the workers exist and may claim.
    pub(super) registered: Arc<SetOnce<()>>,
    /// Weak, so that the settler ends with the last executor.
    pub(super) outcomes: mpsc::WeakSender<Settled>,
}

/// Since when the database has been seen without a gap, in seconds of its own clock.
#[derive(Debug, Clone, Copy)]
struct Seen {
    since_s: f64,
    last_s: f64,
}

impl Pulse {
    /// Beats until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut seen: Option<Seen> = None;
        let mut backoff = Backoff::up_to(self.every);
        loop {
            match self.beat(seen).await {
                Ok(now) => {
                    seen = Some(now);
                    // Refused from the second time on.
                    let _ = self.registered.set(());
                    backoff = Backoff::up_to(self.every);
                    if now.last_s - now.since_s >= self.every.as_secs_f64() * RESCUE_AFTER_BEATS {
                        self.rescue().await;
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.look_now.notified() => {}
                        () = tokio::time::sleep(self.every) => {}
                    }
                }
                Err(error) => {
                    seen = None;
                    tracing::warn!(%error, "heartbeat failed");
                    if stop.run_until_cancelled(backoff.wait()).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn beat(&self, seen: Option<Seen>) -> sqlx::Result<Seen> {
        let known: HashMap<_, _> = self.roster.snapshot().into_iter().collect();
        let now_s = limited(ledger::beat(&self.db, &self.names.workers, &self.names.queues)).await?;
        let progress: Vec<_> =
            known.iter().filter_map(|(id, running)| Some((*id, running.progress()?))).collect();
        if !progress.is_empty() {
            limited(ledger::write_progress(&self.db, &progress)).await?;
        }
        let open = limited(ledger::open_attempts(&self.db, &self.names.workers)).await?;
        let open: HashMap<AttemptId, OpenAttempt> = open.into_iter().map(|one| (one.id, one)).collect();
        for (id, running) in &known {
            match open.get(id) {
                // Closed by a rescue; or by its own outcome since the snapshot, and then it does not heed this.
                None => running.stop(StopReason::LeaseLost),
                Some(attempt) if attempt.is_cancelled => running.stop(StopReason::Operator),
                Some(_) => {}
            }
        }
        self.give_back_abandoned(open.into_values());
        // A gap in the database's clock without a failed beat: this machine slept, and the others perhaps with it.
        let longest_gap_s = (self.every + DB_CALL_TIMEOUT).as_secs_f64();
        let since_s =
            seen.filter(|seen| now_s - seen.last_s <= longest_gap_s).map_or(now_s, |seen| seen.since_s);
        Ok(Seen { since_s, last_s: now_s })
    }

    fn give_back_abandoned(&self, open: impl Iterator<Item = OpenAttempt>) {
        for attempt in open.filter(|one| one.age > ABANDONED_AFTER && self.roster.get(one.id).is_none()) {
            tracing::warn!(job.attempt_id = attempt.id.0, "giving back a job whose claim was never answered");
            let worker: Arc<str> = attempt.worker.into();
            let returned = Settled { id: attempt.id, worker, outcome: Outcome::Returned, error: None };
            // Full: the next beat finds it again. Closed: the process is ending, and the lease ends with it.
            if let Some(outcomes) = self.outcomes.upgrade() {
                let _ = outcomes.try_send(returned);
            }
        }
    }

    async fn rescue(&self) {
        match limited(ledger::rescue(&self.db, self.lease)).await {
            Ok(rescued) => {
                for job in rescued {
                    metrics::METRICS.finished(&job.queue, "lost");
                    tracing::error!(
                        job.id = job.job,
                        job.queue = job.queue,
                        "rescued job {} from lost worker {}",
                        job.job,
                        job.worker
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for lost workers"),
        }
    }
}
