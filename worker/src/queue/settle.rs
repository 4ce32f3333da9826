//! Writes outcomes, many in one transaction: what arrives while one commit is under way goes into the next (group commit).
//! An outcome is kept until the database took it, however long it is away.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::mpsc;

use super::{
    backoff::{Backoff, limited},
    ledger::{self, Outcome, Settled},
    metrics,
    roster::Roster,
};

/// Outcomes waiting to be written. When it is full, finished jobs keep their slots, so nothing grows during an outage.
pub(super) const OUTCOMES_WAITING_MAX: usize = 256;

/// Outcomes in one transaction: bounds the time for which its rows are locked.
const OUTCOMES_PER_COMMIT: usize = 100;

/// Writes outcomes until every sender is gone and nothing is left.
pub(super) async fn run(
    db: PgPool,
    roster: Arc<Roster>,
    queues: Arc<super::Names>,
    mut outcomes: mpsc::Receiver<Settled>,
) {
    let mut batch = Vec::with_capacity(OUTCOMES_PER_COMMIT);
    while outcomes.recv_many(&mut batch, OUTCOMES_PER_COMMIT).await > 0 {
        let mut backoff = Backoff::default();
        let written = loop {
            match limited(ledger::settle(&db, &batch)).await {
                Ok(written) => break written,
                Err(error) => {
                    tracing::warn!(%error, "cannot write {} job outcomes, trying again", batch.len());
                    backoff.wait().await;
                }
            }
        };
        for settled in batch.drain(..) {
            log(&settled, &roster, &queues, written.contains(&settled.id));
            roster.remove(settled.id);
        }
    }
}

/// One line and one count for every attempt that ended. An outcome is refused when the attempt was closed before: by a rescue,
/// or by this very write whose answer was lost with its connection.
fn log(settled: &Settled, roster: &Roster, queues: &super::Names, is_written: bool) {
    let Some(running) = roster.get(settled.id) else { return };
    let (job, queue) = (&running.attempt.job, queues.queue_of(&settled.worker));
    if !is_written {
        metrics::METRICS.finished(queue, "refused");
        tracing::warn!(job.id = %job, job.queue = queue, "outcome of job {job} came too late and was refused");
        return;
    }
    let (outcome, error) = (settled.outcome.word(), settled.error.as_deref().unwrap_or_default());
    let is_dead = matches!(settled.outcome, Outcome::Failed { .. }) && running.attempt.is_last();
    metrics::METRICS.finished(queue, if is_dead { "dead" } else { outcome });
    match settled.outcome {
        Outcome::Done => tracing::info!(job.id = %job, job.queue = queue, "finished job {job}"),
        Outcome::GaveUp => tracing::error!(job.id = %job, job.queue = queue, error, "job {job} gave up"),
        Outcome::Failed { .. } if is_dead => {
            tracing::error!(job.id = %job, job.queue = queue, error, "job {job} is dead after its last attempt");
        }
        Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Returned => {
            tracing::warn!(job.id = %job, job.queue = queue, error, "attempt of job {job} ended: {outcome}");
        }
    }
}
