//! Keeps the live registry and the database of one mind: adopts what this edge ought to hold, stops what has lasted too long,
//! and lets go of what somebody else has ended. Also samples the disk.
//!
//! This file must not be in the way of a chunk: it runs beside, and a database that is away only makes it wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use shared::db::{calls, recordings};
use shared::id::RecordingId;
use shared::recording::{Recording, RecordingState};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::registry::{Live, NotLive, Phase};
use super::{EdgeCaptures, Inner, LiveRecording, WATCH_EVERY, finish};
use crate::backoff::Backoff;
use crate::recordings::StopReason;

/// Runs until the process stops. `first` is told when the database has been read once.
pub(super) async fn run(inner: Arc<Inner>, first: oneshot::Sender<()>) {
    let stop = inner.tasks.stop.clone();
    tokio::select! {
        () = keep(&inner, first) => {}
        () = stop.cancelled() => {}
    }
}

async fn keep(inner: &Arc<Inner>, first: oneshot::Sender<()>) {
    let mut backoff = Backoff::default();
    while let Err(error) = begin(inner).await {
        let wait = backoff.next();
        warn!("cannot read this edge's recordings, trying again in {wait:?}: {error}");
        tokio::time::sleep(wait).await;
    }
    // Whoever opened the ingest may have stopped waiting.
    let _ = first.send(());
    loop {
        tokio::time::sleep(until_next(inner)).await;
        inner.sample_disk();
        if let Err(error) = pass(inner).await {
            warn!("cannot compare the live recordings with the database: {error:#}");
        }
    }
}

/// The first reading after a start: adopts the live recordings, and begins to hand over what is left of those that are no longer
/// live, some of which were ended because this edge was away. That goes on beside: a spool that is away must not keep this edge from its live recordings.
async fn begin(inner: &Arc<Inner>) -> sqlx::Result<()> {
    for row in recordings::live_by_edge(&inner.db, &inner.edge_id).await? {
        adopt(inner, &row).await?;
    }
    let left = inner.log.recovered().filter(|recording| inner.registry.find(recording).is_none());
    for recording in left {
        let (inner, recording) = (Arc::clone(inner), recording.clone());
        inner.tasks.clone().spawn(async move { finish::close(&inner, &recording).await });
    }
    Ok(())
}

/// The time to the next pass: the usual one, or less when a recording's deadline comes first.
fn until_next(inner: &Inner) -> Duration {
    let now = inner.clock.now();
    let on = inner.registry.all().into_iter().filter(|live| live.progress().phase == Phase::On);
    let first_deadline = on.map(|live| (live.deadline_at - now).to_std().unwrap_or_default()).min();
    // A deadline that has passed while the database is away must not make this spin.
    first_deadline.unwrap_or(WATCH_EVERY).clamp(MIN_WAIT, WATCH_EVERY)
}

/// The shortest time between passes.
const MIN_WAIT: Duration = Duration::from_millis(100);

async fn pass(inner: &Arc<Inner>) -> anyhow::Result<()> {
    let now = inner.clock.now();
    // Taken before the rows are read: a recording that starts in between must not be taken for one that is gone.
    let held = inner.registry.all();
    for live in held.iter().filter(|live| live.deadline_at <= now) {
        stop_overdue(inner, live).await?;
    }
    let rows = recordings::live_by_edge(&inner.db, &inner.edge_id).await?;
    let known: HashSet<&RecordingId> = rows.iter().map(|row| &row.id).collect();
    for row in &rows {
        adopt(inner, row).await?;
    }
    for live in held.iter().filter(|live| !known.contains(&live.id)) {
        let_go(inner, live);
    }
    Ok(())
}

async fn stop_overdue(inner: &Arc<Inner>, live: &Arc<Live>) -> anyhow::Result<()> {
    if live.progress().phase != Phase::On {
        return Ok(());
    }
    let mut tx = inner.db.begin().await?;
    let at = inner.clock.now();
    crate::recordings::stop(&mut tx, &live.call, &live.id, StopReason::MaxDuration, at).await?;
    tx.commit().await?;
    info!(recording.id = %live.id, "stopped {} at its longest duration", live.id);
    inner.stopped(live);
    Ok(())
}

/// Takes a recording into the registry, when this edge does not hold it yet, and follows its state. `None` when the row is
/// stale: the recording was sealed or let go by this process after it was read.
pub(super) async fn adopt(inner: &Arc<Inner>, row: &Recording) -> sqlx::Result<Option<Arc<Live>>> {
    let live = match inner.registry.find(&row.id) {
        Some(live) => live,
        None => match inner.add(load(inner, row).await?) {
            Ok(live) => live,
            Err(NotLive) => return Ok(None),
        },
    };
    inner.turned(&live, row.pause);
    if row.state == RecordingState::Stopping {
        inner.stopped(&live);
    }
    Ok(Some(live))
}

async fn load(inner: &Inner, row: &Recording) -> sqlx::Result<LiveRecording> {
    let call = calls::find(&inner.db, &row.call).await?.ok_or(sqlx::Error::RowNotFound)?;
    let people = calls::participants(&inner.db, &row.call).await?;
    Ok(LiveRecording {
        id: row.id.clone(),
        call: call.id,
        host: call.host,
        participants: people.into_iter().map(|person| person.user).collect(),
        state: row.state,
        pause: row.pause,
        deadline_at: row.deadline_at.unwrap_or_else(|| inner.clock.now()),
        edge_captures: EdgeCaptures::of(&row.options),
    })
}

/// Somebody else has ended the recording: no more chunks, and what there is goes to the spool.
fn let_go(inner: &Arc<Inner>, live: &Arc<Live>) {
    if live.progress().phase == Phase::Sealing {
        return;
    }
    info!(recording.id = %live.id, "{} was ended elsewhere", live.id);
    let (inner, live) = (Arc::clone(inner), Arc::clone(live));
    inner.tasks.clone().spawn(async move {
        live.shut().await;
        finish::close(&inner, &live.id).await;
    });
}
