//! Rings the queues' bells: by one LISTEN connection for all queues, and by a poll that finds what no notification tells:
//! jobs whose time has come, retries, and whatever was missed while the connection was away.
//!
//! The poll is also the watchdog's measure: a process that cannot ask the database for [`WATCHDOG`](super::QueueSettings) ends.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Deserialize;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgNotification},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Names, QueueError,
    backoff::{Backoff, limited},
    ledger,
};

/// apalis' own trigger notifies here on insert, with JSON that names the queue.
const INSERTED: &str = "apalis::job::insert";
/// Our trigger notifies here when a row becomes runnable again, with the queue's name.
const RUNNABLE: &str = "callreel_job_runnable";
/// Our trigger notifies here when an operator cancels a running job.
const CANCELLED: &str = "callreel_job_cancel";

/// One bell for every queue, and one for cancellations.
pub(super) struct Bells {
    pub(super) queues: HashMap<&'static str, Arc<Notify>>,
    pub(super) cancels: Arc<Notify>,
}

impl Bells {
    fn ring(&self, queue: &str) {
        if let Some(bell) = self.queues.get(queue) {
            bell.notify_one();
        }
    }

    fn ring_all(&self) {
        self.queues.values().for_each(|bell| bell.notify_one());
        self.cancels.notify_one();
    }

    fn hear(&self, notification: &PgNotification) {
        match notification.channel() {
            INSERTED => match serde_json::from_str::<Inserted>(notification.payload()) {
                Ok(inserted) => self.ring(inserted.job_type),
                Err(_) => self.ring_all(),
            },
            RUNNABLE => self.ring(notification.payload()),
            CANCELLED => self.cancels.notify_one(),
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct Inserted<'a> {
    job_type: &'a str,
}

/// Listens until `stop`. A lost connection is replaced, and everything is looked at once, because nobody knows what was missed.
pub(super) async fn listen(db: PgPool, bells: Arc<Bells>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let Some(ended) = stop.run_until_cancelled(listen_once(&db, &bells, &mut backoff)).await else {
            return;
        };
        tracing::warn!(error = %ended, "lost the notifications of new jobs, polling until they are back");
        if stop.run_until_cancelled(backoff.wait()).await.is_none() {
            return;
        }
    }
}

async fn listen_once(db: &PgPool, bells: &Bells, backoff: &mut Backoff) -> sqlx::Error {
    let mut listener = match PgListener::connect_with(db).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if let Err(error) = listener.listen_all([INSERTED, RUNNABLE, CANCELLED]).await {
        return error;
    }
    *backoff = Backoff::default();
    bells.ring_all();
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => bells.hear(&notification),
            // The listener reconnects by itself on its next call.
            Ok(None) => bells.ring_all(),
            Err(error) => return error,
        }
    }
}

/// Polls until `stop`.
///
/// # Errors
/// [`QueueError::Watchdog`] when no poll succeeded for `watchdog`.
pub(super) async fn poll(
    db: PgPool,
    names: Arc<Names>,
    bells: Arc<Bells>,
    every: Duration,
    watchdog: Duration,
    stop: CancellationToken,
) -> Result<(), QueueError> {
    let mut last_success = Instant::now();
    loop {
        match limited(look(&db, &names, &bells)).await {
            Ok(()) => last_success = Instant::now(),
            Err(error) if last_success.elapsed() >= watchdog => {
                return Err(QueueError::Watchdog(watchdog, error));
            }
            Err(error) => tracing::warn!(%error, "cannot poll for jobs"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return Ok(());
        }
    }
}

async fn look(db: &PgPool, names: &Names, bells: &Bells) -> sqlx::Result<()> {
    for queue in ledger::due_queues(db, &names.queues).await? {
        bells.ring(&queue);
    }
    if ledger::has_cancel_requests(db, &names.workers).await? {
        bells.cancels.notify_one();
    }
    Ok(())
}
