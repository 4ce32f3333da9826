//! Behaviour of the capture on real files.

mod bucket;
mod crash;
mod damage;
mod packets;
mod writing;

use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use tempfile::TempDir;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::id::UserId;
use crate::spool::Spool;
use crate::track::{TrackKind, TrackSource};

/// A capture in a folder of its own.
pub(super) struct House {
    pub(super) dir: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) capture: Capture,
    pub(super) recovered: Vec<RecoveredTrack>,
    pub(super) spec: TrackSpec,
}

impl House {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap()));
        let (capture, recovered) = Capture::open(config(dir.path()), clock.clone()).unwrap();
        Self { dir, clock, capture, recovered, spec: spec() }
    }

    /// Ends this process' hold on the folder, does something to the files, and opens it again.
    pub(super) async fn restart(self, between: impl FnOnce(&Path)) -> Self {
        let (dir, clock, spec) = self.end().await;
        between(dir.path());
        let (capture, recovered) = Capture::open(config(dir.path()), clock.clone()).unwrap();
        Self { dir, clock, capture, recovered, spec }
    }

    /// Ends this process' hold on the folder.
    pub(super) async fn end(self) -> (TempDir, Arc<ManualClock>, TrackSpec) {
        let Self { dir, clock, capture, recovered, spec } = self;
        drop((capture, recovered));
        // Tasks that have answered already may hold the folder a moment longer.
        while matches!(lock(&dir.path().join("capture")), Err(OpenError::Locked(_))) {
            tokio::task::yield_now().await;
        }
        (dir, clock, spec)
    }

    pub(super) async fn log(&self) -> TrackLog {
        self.capture.track(&self.spec).await.unwrap()
    }

    pub(super) fn spool(&self) -> Spool {
        Spool::open(self.dir.path().join("spool")).unwrap()
    }

    pub(super) async fn later(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
        self.capture.tick().await;
    }

    /// Closes the recording, and reads all that a worker would.
    pub(super) async fn read(&self) -> Vec<(u64, Vec<u8>)> {
        let facts = self.capture.close_recording(&self.spec.recording).await.unwrap();
        let mut reader = TrackReader::open(&self.spool(), &self.spec.recording, &facts[0].id).unwrap();
        assert!(reader.damaged().is_empty());
        reader.iter().map(|(chunk, bytes)| (chunk.sequence(), bytes.unwrap().to_vec())).collect()
    }
}

pub(super) fn config(dir: &Path) -> CaptureConfig {
    let mut config = CaptureConfig::new(dir.join("capture"), Spool::open(dir.join("spool")).unwrap());
    config.reserve = DiskReserve { percent: 0, min_bytes: 0 };
    config
}

pub(super) fn spec() -> TrackSpec {
    TrackSpec {
        recording: RecordingId::generate(),
        participant: UserId::parse("ann").unwrap(),
        source: TrackSource::Client,
        kind: TrackKind::Video,
    }
}

pub(super) fn media(sequence: u64) -> Vec<u8> {
    format!("media of {sequence} ").repeat(20).into_bytes()
}

pub(super) async fn put(log: &TrackLog, sequence: u64, bytes: Vec<u8>) -> Result<Outcome, AppendError> {
    let header = ChunkHeader { sequence, client_timestamp_ms: Some(5), mime: Some("video/webm".into()) };
    log.append_chunk(header, ReceivedBody::from_bytes(Bytes::from(bytes)))
        .await
        .map(|appended| appended.outcome)
}

pub(super) async fn put_all(log: &TrackLog, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        assert_eq!(put(log, sequence, media(sequence)).await.unwrap(), Outcome::Stored);
    }
}

pub(super) fn all(sequences: impl IntoIterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
    sequences.into_iter().map(|sequence| (sequence, media(sequence))).collect()
}

/// Segments of the capture folder that are not in the spool.
pub(super) fn local_segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let tracks = dir.join("capture/tracks");
    for recording in spool::names(&tracks).unwrap() {
        for track in spool::names(&tracks.join(&recording)).unwrap() {
            let dir = tracks.join(&recording).join(track);
            if dir.is_dir() {
                found.extend(
                    spool::segment_numbers(&dir).unwrap().iter().map(|&n| dir.join(spool::segment_name(n))),
                );
            }
        }
    }
    found
}
