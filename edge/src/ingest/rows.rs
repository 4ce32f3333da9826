//! Facts about live tracks on their way to rows: a bounded queue, and one task that writes them when the database is there.
//!
//! Rows of live tracks are for those who look at them from elsewhere; nothing depends on them, as the seal writes every fact
//! again. So a fact is dropped rather than waited for.

use shared::db::{is_unavailable, tracks};
use shared::lifecycle::Tasks;
use shared::track::Track;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::backoff::Backoff;

/// Facts that wait at once: a few for each track of 200 recordings, some 400 bytes each.
const QUEUE: usize = 1_024;

/// The way in.
#[derive(Debug, Clone)]
pub(super) struct Rows(mpsc::Sender<Track>);

impl Rows {
    /// Starts the task that writes.
    pub(super) fn start(db: PgPool, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let stop = tasks.stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = write_all(db, receiver) => {}
                () = stop.cancelled() => {}
            }
        });
        Self(sender)
    }

    /// Says what is known of a track; never waits.
    pub(super) fn tell(&self, track: Track) {
        if let Err(dropped) = self.0.try_send(track) {
            debug!("a track's facts wait for the seal: {dropped}");
        }
    }
}

async fn write_all(db: PgPool, mut facts: mpsc::Receiver<Track>) {
    while let Some(track) = facts.recv().await {
        write(&db, &track).await;
    }
}

async fn write(db: &PgPool, track: &Track) {
    let mut backoff = Backoff::default();
    loop {
        match tracks::upsert(db, track).await {
            Ok(()) => return,
            Err(error) if is_unavailable(&error) => tokio::time::sleep(backoff.next()).await,
            Err(error) => {
                warn!(recording.id = %track.recording, "cannot write the row of track {}: {error}", track.id);
                return;
            }
        }
    }
}
