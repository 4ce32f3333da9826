//! The capture as the ingest uses it: by recording, participant and kind, in the terms of rows.
//!
//! Only this file and `admit` know `shared::capture`; neither knows how records reach the disk.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use shared::capture::{
    AppendError, Batch, Capture, CaptureConfig, CaptureFact, ChunkHeader, Closed, OpenError, ReceivedBody,
    Receiving, TrackError, TrackFacts, TrackLog, TrackSpec,
};
use shared::clock::SharedClock;
use shared::env::unusable_folder;
use shared::id::{RecordingId, UserId};
use shared::lifecycle::Tasks;
use shared::track::{Track, TrackKind, TrackSource};
use tracing::warn;

use super::{IngestSettings, lag, metrics};

/// The capture of this edge.
pub(super) struct Log {
    capture: Capture,
    clock: SharedClock,
    /// The recordings that an earlier process left, and which of them it had closed.
    recovered: BTreeSet<RecordingId>,
    closed: Mutex<HashSet<RecordingId>>,
}

/// What a client says of a chunk.
#[derive(Debug, Clone)]
pub(crate) struct NewChunk {
    /// Of which medium.
    pub(crate) kind: TrackKind,
    /// Its place, from 0.
    pub(crate) sequence: u64,
    /// Its mime type, when known.
    pub(crate) mime: Option<String>,
    /// The client's time in milliseconds since 1970.
    pub(crate) client_timestamp_ms: Option<i64>,
}

/// Whether a chunk was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was.
    Stored,
    /// The same bytes were held before.
    Duplicate,
}

/// A chunk on stable storage.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Whether it was new.
    pub(crate) outcome: Outcome,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its SHA-256.
    pub(crate) sha256: [u8; 32],
    /// Its track, when that was new too.
    pub(crate) new_track: Option<Track>,
}

/// A chunk that was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("the recording is closed")]
    Closed,
    #[error("other bytes are held under this sequence")]
    Conflict,
    #[error("{0}")]
    Sequence(String),
    #[error("the disk is full")]
    DiskFull,
    #[error("cannot write the capture")]
    Failed(#[source] anyhow::Error),
}

impl Log {
    /// Opens the capture, and keeps it moving closed segments to the spool.
    pub(super) async fn open(
        settings: &IngestSettings,
        clock: SharedClock,
        tasks: &Tasks,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let sync_seconds =
            metrics::histogram("callreel_capture_sync_seconds", "Seconds of each fdatasync of the capture")?;
        registry.register(Box::new(sync_seconds.clone()))?;
        let lag = lag::Metrics::register(registry)?;
        let failures = lag.failures.clone();
        let (capture_dir, spool) =
            (settings.capture_dir.clone(), settings.spool.open(&settings.capture_dir).await?);
        let (reserve, capture_clock) = (settings.disk_reserve, clock.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let mut config = CaptureConfig::new(capture_dir, spool);
            config.reserve = reserve;
            config.observe = Arc::new(move |fact| match fact {
                CaptureFact::Synced { took, .. } => sync_seconds.observe(took.as_secs_f64()),
                CaptureFact::ShipFailed => failures.inc(),
                CaptureFact::SyncFailed | CaptureFact::Shipped { .. } => {}
            });
            Capture::open(config, capture_clock).map_err(|error| match error {
                OpenError::Io(error) => unusable_folder("CAPTURE_DIR", error),
                locked @ OpenError::Locked(_) => locked.into(),
            })
        });
        let (capture, recovered) = opened.await??;
        for track in recovered.iter().filter(|track| track.damaged_bytes > 0) {
            let (id, bytes) = (track.log.id(), track.damaged_bytes);
            warn!(track.id = %id, "{bytes} bytes of track {id} were torn or damaged; none of a torn end was acknowledged");
        }
        let of = |track: &shared::capture::RecoveredTrack| track.log.spec().recording.clone();
        let closed = recovered.iter().filter(|track| track.closed == Closed::Yes).map(of).collect();
        let recovered = recovered.iter().map(of).collect();
        let (running, stop) = (capture.clone(), tasks.stop.clone());
        tasks.spawn(async move { running.run(stop).await });
        tasks.spawn(lag::run(capture.clone(), clock.clone(), lag, tasks.stop.clone()));
        Ok(Self { capture, clock, recovered, closed: Mutex::new(closed) })
    }

    /// The recordings that an earlier process left.
    pub(super) fn recovered(&self) -> impl Iterator<Item = &RecordingId> {
        self.recovered.iter()
    }

    /// Whether the recording's capture was closed, by this process or an earlier one.
    pub(super) fn is_closed(&self, recording: &RecordingId) -> bool {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).contains(recording)
    }

    pub(super) fn has_disk(&self) -> bool {
        self.capture.disk().is_ok_and(|disk| !disk.below_reserve)
    }

    pub(super) fn disk_free(&self) -> Option<u64> {
        self.capture.disk().ok().map(|disk| disk.free)
    }

    pub(super) fn receive(&self, max_bytes: u64) -> Receiving {
        self.capture.receive(max_bytes)
    }

    /// Puts a chunk on stable storage.
    pub(super) async fn append(
        &self,
        recording: &RecordingId,
        participant: &UserId,
        chunk: NewChunk,
        body: ReceivedBody,
    ) -> Result<Stored, LogError> {
        shared::chunk::checked_sequence(chunk.sequence)
            .map_err(|error| LogError::Sequence(error.to_string()))?;
        let spec = spec(recording, participant, chunk.kind);
        let known = self.capture.find(&spec).is_some();
        let track = self.capture.track(&spec).await?;
        let header = ChunkHeader {
            sequence: chunk.sequence,
            client_timestamp_ms: chunk.client_timestamp_ms,
            mime: chunk.mime,
        };
        let appended = track.append_chunk(header, body).await?;
        let outcome = match appended.outcome {
            shared::capture::Outcome::Stored => Outcome::Stored,
            shared::capture::Outcome::Duplicate => Outcome::Duplicate,
        };
        let new_track = (!known).then(|| self.row(track.facts()));
        Ok(Stored { outcome, size: appended.size, sha256: appended.sha256, new_track })
    }

    /// Writes what the edge captured itself; gives the track when it is new.
    pub(super) async fn append_batch(
        &self,
        recording: &RecordingId,
        participant: &UserId,
        kind: TrackKind,
        batch: Batch,
    ) -> Result<Option<Track>, LogError> {
        let spec = TrackSpec { source: TrackSource::Server, ..spec(recording, participant, kind) };
        let known = self.capture.find(&spec).is_some();
        let track = self.capture.track(&spec).await?;
        track.append_batch(batch).await?;
        Ok((!known).then(|| self.row(track.facts())))
    }

    /// Whether a chunk is held under a sequence.
    pub(super) fn holds(&self, spec: &TrackSpec, sequence: u64) -> bool {
        self.capture.find(spec).is_some_and(|track| track.holds(sequence))
    }

    /// Compares a chunk with what is held under its sequence. `None`: nothing is held.
    pub(super) async fn compare(
        &self,
        spec: &TrackSpec,
        sequence: u64,
        size: u64,
        sha256: [u8; 32],
    ) -> Result<Option<Stored>, LogError> {
        let Some(track) = self.capture.find(spec) else { return Ok(None) };
        let held = track.compare_chunk(sequence, size, sha256).await?;
        Ok(held.map(|_| Stored { outcome: Outcome::Duplicate, size, sha256, new_track: None }))
    }

    /// Notes durably which sequence is a track's last.
    pub(super) async fn complete(
        &self,
        recording: &RecordingId,
        participant: &UserId,
        kind: TrackKind,
        last_sequence: u64,
    ) -> Result<Track, LogError> {
        shared::chunk::checked_sequence(last_sequence)
            .map_err(|error| LogError::Sequence(error.to_string()))?;
        let track = self.capture.track(&spec(recording, participant, kind)).await?;
        if let Some((_, held)) = track.status().received.last().filter(|(_, held)| *held > last_sequence) {
            return Err(LogError::Sequence(format!("lastSequence is below {held}, which is held already")));
        }
        track.complete(last_sequence).await?;
        Ok(self.row(track.facts()))
    }

    /// What is known of a recording's tracks.
    pub(super) fn tracks(&self, recording: &RecordingId) -> Vec<Track> {
        self.capture.tracks_of(recording).iter().map(TrackLog::facts).map(|facts| self.row(facts)).collect()
    }

    /// Takes no more for a recording, moves all of it to the spool, and returns the final facts. Safe to repeat.
    pub(super) async fn close(&self, recording: &RecordingId) -> std::io::Result<Vec<Track>> {
        let facts = self.capture.close_recording(recording).await?;
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).insert(recording.clone());
        Ok(facts.into_iter().map(|facts| self.row(facts)).collect())
    }

    /// Lets go of a recording whose facts are in its rows; the spool has its media.
    pub(super) async fn forget(&self, recording: &RecordingId) {
        if let Err(error) = self.capture.forget(recording).await {
            warn!(recording.id = %recording, "cannot tidy the capture of {recording} up, the next start will: {error}");
        }
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).remove(recording);
    }

    fn row(&self, facts: TrackFacts) -> Track {
        facts.row(self.clock.now())
    }
}

pub(super) fn spec(recording: &RecordingId, participant: &UserId, kind: TrackKind) -> TrackSpec {
    TrackSpec {
        recording: recording.clone(),
        participant: participant.clone(),
        source: TrackSource::Client,
        kind,
    }
}

impl From<TrackError> for LogError {
    fn from(error: TrackError) -> Self {
        match error {
            TrackError::Closed => Self::Closed,
            TrackError::Io(error) => AppendError::from(error).into(),
        }
    }
}

impl From<AppendError> for LogError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Closed => Self::Closed,
            AppendError::Conflict(_) => Self::Conflict,
            AppendError::SequenceTooHigh(error) => Self::Sequence(error.to_string()),
            AppendError::DiskFull => Self::DiskFull,
            // The receiving end allows less than a record holds, so a chunk that is too long for one is a fault of ours.
            error @ (AppendError::TooLarge(_) | AppendError::Io(_)) => Self::Failed(error.into()),
        }
    }
}
