//! A recording that some edge has captured and sealed, and a worker that runs until it is finished.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use shared::capture::rtp::Logged;
use shared::capture::{
    Capture, CaptureConfig, ChunkHeader, ReceivedBody, SegmentHeader, TrackReader, TrackSpec,
};
use shared::clock::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};
use shared::db::calls::{self, NewCall};
use shared::db::recordings::{self, NewRecording, Step};
use shared::db::{artifacts, edges, tracks};
use shared::env::Env;
use shared::id::{CallId, EdgeId, RecordingId, TrackId, UserId};
use shared::jobs::{self, Job, MuxRecording, Sweep};
use shared::recording::{Recording, RecordingState, Stage};
use shared::spool::Spool;
use shared::testing::{Changes, TestDatabase};
use shared::track::{Track, TrackKind, TrackSource};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use worker::{Settings, Worker};

use crate::rtp_sender;

/// How long a test waits for a recording to be finished, on a machine that builds something else at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser's uploads of one track.
#[derive(Clone)]
pub(crate) struct Upload<'a> {
    pub(crate) user: &'a str,
    pub(crate) kind: TrackKind,
    pub(crate) blobs: Vec<Vec<u8>>,
    /// Blobs that never arrive.
    pub(crate) lost: Vec<u64>,
    /// Chunks that tell when they began: one a second from the recording's start on, by a clock that is ahead by so much.
    pub(crate) clock_ahead_ms: Option<i64>,
}

impl<'a> Upload<'a> {
    /// All blobs of a fixture, which tell no time.
    pub(crate) fn of(user: &'a str, kind: TrackKind, fixture: &str) -> Self {
        let blobs = blobs(fixture);
        assert!(!blobs.is_empty(), "no such fixture");
        Self { user, kind, blobs, lost: Vec::new(), clock_ahead_ms: None }
    }

    pub(crate) fn without(self, lost: impl IntoIterator<Item = u64>) -> Self {
        Self { lost: lost.into_iter().collect(), ..self }
    }

    pub(crate) fn by_a_clock(self, ahead_ms: i64) -> Self {
        Self { clock_ahead_ms: Some(ahead_ms), ..self }
    }
}

pub(crate) struct House {
    pub(crate) db: PgPool,
    url: String,
    dir: TempDir,
    capture: Capture,
    spool: Spool,
    edge: EdgeId,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::by(Arc::new(SystemClock)).await
    }

    /// One whose capture goes by a clock of its own.
    pub(crate) async fn by(clock: SharedClock) -> Self {
        let database = TestDatabase::create().await;
        let db = database.pool(5).await;
        worker::queue::migrate(&db).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().join("spool")).unwrap();
        let config = CaptureConfig::new(dir.path().join("capture"), spool.clone());
        let (capture, _) = Capture::open(config, clock).unwrap();
        let edge = EdgeId::generate();
        edges::register(&db, &edge, "http://127.0.0.1", "test", now()).await.unwrap();
        Self { db, url: database.url, dir, capture, spool, edge }
    }

    /// Records what browsers upload, and logs that the edge wrote, one track each, and seals the recording. Logs begin
    /// [`rtp_sender::START_US`] after 1970 and are moved to where the recording begins.
    pub(crate) async fn record_tracks(
        &self,
        uploads: Vec<Upload<'_>>,
        logs: Vec<(&str, TrackKind, Vec<Logged>)>,
        options: &str,
    ) -> RecordingId {
        let id = self.start(options).await;
        for upload in uploads {
            self.upload(&id, upload).await;
        }
        for (user, kind, log) in logs {
            self.capture_log(&id, user, kind, log).await;
        }
        self.seal(&id).await;
        id
    }

    /// Records fixtures, one track each.
    pub(crate) async fn record(&self, fixtures: &[(&str, TrackKind, &str)], options: &str) -> RecordingId {
        let uploads = fixtures.iter().map(|(user, kind, fixture)| Upload::of(user, *kind, fixture));
        self.record_tracks(uploads.collect(), Vec::new(), options).await
    }

    /// Records a fixture of which one blob never arrives.
    pub(crate) async fn record_without(&self, fixture: &str, lost: u64) -> RecordingId {
        let upload = Upload::of("ann", TrackKind::Video, fixture).without([lost]);
        self.record_tracks(vec![upload], Vec::new(), "{}").await
    }

    pub(crate) async fn record_logs(
        &self,
        logs: Vec<(&str, TrackKind, Vec<Logged>)>,
        options: &str,
    ) -> RecordingId {
        self.record_tracks(Vec::new(), logs, options).await
    }

    /// Records one participant both ways: fixtures as the browser uploads them, each without its fifth blob, and logs.
    pub(crate) async fn record_both(
        &self,
        fixtures: &[(TrackKind, &str)],
        logs: Vec<(TrackKind, Vec<Logged>)>,
        options: &str,
    ) -> RecordingId {
        let uploads = fixtures.iter().map(|(kind, fixture)| Upload::of("ann", *kind, fixture).without([4]));
        let logs = logs.into_iter().map(|(kind, log)| ("ann", kind, log));
        self.record_tracks(uploads.collect(), logs.collect(), options).await
    }

    /// A recording whose edge was lost after all of its logs had reached the spool, and whose deadline was long ago.
    pub(crate) async fn lose_edge_of_logs(
        &self,
        logs: Vec<(&str, TrackKind, Vec<Logged>)>,
        options: &str,
    ) -> RecordingId {
        let id = self.start(options).await;
        for (user, kind, log) in logs {
            self.spool_log(&id, user, kind, log).await;
        }
        let lost = "update recording set deadline_at = now() - interval '1 hour' where id = $1";
        sqlx::query(lost).bind(id.as_str()).execute(&self.db).await.unwrap();
        jobs::enqueue(&mut self.db.acquire().await.unwrap(), &Sweep {}).await.unwrap();
        id
    }

    /// Records uploads of browsers whose clock is ahead by so much, each so late, milliseconds after the recording's start, with
    /// pauses between such times. A chunk a second comes when its media end.
    pub(crate) async fn record_paused(
        &self,
        clock: &ManualClock,
        ahead_ms: i64,
        uploads: &[(i64, Upload<'_>)],
        pauses: &[(i64, i64)],
    ) -> RecordingId {
        let id = self.start(r#"{"format":"webm","thumbnails":0}"#).await;
        let began = recordings::find(&self.db, &id).await.unwrap().unwrap().started_at;
        for (from_ms, to_ms) in pauses {
            let add = "insert into recording_pause (recording_id, paused_at, resumed_at) values ($1, $2, $3)";
            let at = |ms: &i64| began + TimeDelta::milliseconds(*ms);
            let add = sqlx::query(add).bind(id.as_str()).bind(at(from_ms)).bind(at(to_ms));
            add.execute(&self.db).await.unwrap();
        }
        for (late_ms, upload) in uploads {
            let (participant, last) = (UserId::parse(upload.user).unwrap(), upload.blobs.len() as u64 - 1);
            let source = TrackSource::Client;
            let spec = TrackSpec { recording: id.clone(), participant, source, kind: upload.kind };
            let log = self.capture.track(&spec).await.unwrap();
            for (sequence, blob) in (0..).zip(&upload.blobs) {
                let begins =
                    began + TimeDelta::milliseconds(late_ms + i64::try_from(sequence).unwrap() * 1_000);
                clock.advance(begins + TimeDelta::milliseconds(1_050) - clock.now());
                let client_timestamp_ms = Some(begins.timestamp_millis() + ahead_ms);
                let header = ChunkHeader { sequence, client_timestamp_ms, mime: None };
                log.append_chunk(header, ReceivedBody::from_bytes(Bytes::from(blob.clone()))).await.unwrap();
            }
            log.complete(last).await.unwrap();
        }
        self.seal(&id).await;
        id
    }

    async fn capture_log(&self, id: &RecordingId, user: &str, kind: TrackKind, log: Vec<Logged>) {
        let track = self.spool_log(id, user, kind, log).await;
        let facts = TrackReader::open(&self.spool, id, &track).unwrap().facts().unwrap();
        tracks::upsert(&self.db, &facts.row(now())).await.unwrap();
    }

    /// Puts a log into the spool as one segment.
    async fn spool_log(
        &self,
        id: &RecordingId,
        user: &str,
        kind: TrackKind,
        mut log: Vec<Logged>,
    ) -> TrackId {
        let began = recordings::find(&self.db, id).await.unwrap().unwrap().started_at;
        let base_us = began.timestamp_micros();
        shift(&mut log, base_us - rtp_sender::START_US);
        let (participant, track) = (UserId::parse(user).unwrap(), TrackId::generate());
        let spec = TrackSpec { recording: id.clone(), participant, source: TrackSource::Server, kind };
        let header = SegmentHeader { spec, track, number: 0, base_us, salt: 5 };
        let file = self.dir.path().join("segment");
        std::fs::write(&file, rtp_sender::segment(&header, &log)).unwrap();
        self.spool.publish(id, &header.track, 0, &file).unwrap();
        header.track
    }

    async fn start(&self, options: &str) -> RecordingId {
        let (id, call, by) = (RecordingId::generate(), CallId::generate(), UserId::parse("ann").unwrap());
        let mut tx = self.db.begin().await.unwrap();
        let new = NewCall {
            id: call.clone(),
            host: by.clone(),
            title: None,
            participants: Vec::new(),
            max_participants: 2,
            metadata: serde_json::json!({}),
            record_options: None,
        };
        calls::create(&mut tx, &new, now()).await.unwrap();
        let options = serde_json::from_str(options).unwrap();
        let (edge, at, deadline) = (&self.edge, now(), now() + TimeDelta::hours(1));
        let new = NewRecording { id: &id, call: &call, by: &by, options: &options, edge, at, deadline };
        recordings::start(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn upload(&self, id: &RecordingId, upload: Upload<'_>) {
        let began_ms = recordings::find(&self.db, id).await.unwrap().unwrap().started_at.timestamp_millis();
        let Upload { user, kind, blobs, lost, clock_ahead_ms } = upload;
        let (participant, last) = (UserId::parse(user).unwrap(), blobs.len() as u64 - 1);
        let spec = TrackSpec { recording: id.clone(), participant, source: TrackSource::Client, kind };
        let log = self.capture.track(&spec).await.unwrap();
        for (sequence, blob) in (0..).zip(blobs).filter(|(sequence, _)| !lost.contains(sequence)) {
            let told = |ahead_ms| began_ms + ahead_ms + i64::try_from(sequence).unwrap() * 1_000;
            let client_timestamp_ms = clock_ahead_ms.map(told);
            let header = ChunkHeader { sequence, client_timestamp_ms, mime: None };
            log.append_chunk(header, ReceivedBody::from_bytes(Bytes::from(blob))).await.unwrap();
        }
        log.complete(last).await.unwrap();
    }

    async fn seal(&self, id: &RecordingId) {
        let facts = self.capture.close_recording(id).await.unwrap();
        let mut tx = self.db.begin().await.unwrap();
        recordings::stop(&mut tx, id, now(), now() + TimeDelta::hours(1)).await.unwrap();
        for facts in facts {
            let track = facts.row(now());
            tracks::upsert(&mut *tx, &track).await.unwrap();
        }
        recordings::flushed(&mut tx, id, &self.edge, now()).await.unwrap();
        let step = Step { stage: Stage::Mux, token: "first".to_owned() };
        recordings::begin_processing(&mut tx, id, &step, now(), now() + TimeDelta::hours(1)).await.unwrap();
        let job = MuxRecording { recording: id.clone(), token: step.token };
        jobs::enqueue(&mut tx, &job).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Runs a worker until the recording is finished.
    pub(crate) async fn process(&self, id: &RecordingId) -> Recording {
        self.work_until(async || {
            let recording = recordings::find(&self.db, id).await.unwrap().unwrap();
            let done = matches!(recording.state, RecordingState::Completed | RecordingState::Failed);
            done.then_some(recording)
        })
        .await
    }

    /// Runs a worker until its first job is dead.
    pub(crate) async fn process_in_vain(&self) {
        self.work_until(async || {
            let states = sqlx::query_scalar("select job_state(j) from apalis.jobs j where job_type = $1");
            let states: Vec<String> = states.bind(MuxRecording::QUEUE).fetch_all(&self.db).await.unwrap();
            (states == ["dead"]).then_some(())
        })
        .await;
    }

    /// Runs a worker until what is asked for is there.
    async fn work_until<T>(&self, found: impl AsyncFn() -> Option<T>) -> T {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let env = Env::from_pairs([
            ("DATABASE_URL", self.url.clone()),
            ("SPOOL_URL", path("spool")),
            ("SCRATCH_DIR", path("scratch")),
            ("RECORDING_OUTPUT_DIR", path("out")),
            ("METRICS_PORT", "0".to_owned()),
            ("SWEEP_PATIENCE", "0s".to_owned()),
        ]);
        let worker = Worker::bind(Settings::from_env(&env).unwrap()).await.unwrap();
        let stop = CancellationToken::new();
        let mut changes = Changes::of(&self.db, &["recording", "apalis.jobs"]).await;
        let running = tokio::spawn(worker.run(stop.clone()));
        let finished = async {
            loop {
                if let Some(found) = found().await {
                    return found;
                }
                changes.next().await;
            }
        };
        let finished = tokio::time::timeout(PATIENCE, finished).await.expect("it is finished in time");
        stop.cancel();
        running.await.unwrap().unwrap();
        finished
    }

    pub(crate) async fn artifacts(&self, id: &RecordingId) -> Vec<artifacts::Artifact> {
        artifacts::of_recording(&self.db, id).await.unwrap()
    }

    pub(crate) async fn tracks(&self, id: &RecordingId) -> Vec<Track> {
        tracks::of_recording(&self.db, id).await.unwrap()
    }

    pub(crate) fn stored(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.stored_path(key)).unwrap()
    }

    pub(crate) fn stored_path(&self, key: &str) -> PathBuf {
        self.dir.path().join("out").join(key)
    }

    /// A fixture's blobs one behind the other, as the browser would have saved them.
    pub(crate) fn whole(&self, fixture: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{fixture}.webm"));
        std::fs::write(&path, blobs(fixture).concat()).unwrap();
        path
    }

    /// Where a blob is in [`Self::whole`].
    pub(crate) fn bytes_of_blob(&self, fixture: &str, blob: u64) -> Range<usize> {
        let (mut at, blobs) = (0, blobs(fixture));
        let mut ranges = blobs.iter().map(|blob| {
            let from = at;
            at += blob.len();
            from..at
        });
        ranges.nth(usize::try_from(blob).unwrap()).unwrap()
    }

    /// Flips one byte in the middle of the only track's first segment.
    pub(crate) fn flip_a_byte_in_the_spool(&self, id: &RecordingId) {
        let track = self.spool.tracks(id).unwrap().remove(0);
        let folder = self.dir.path().join("spool").join(id.as_str()).join(track.as_str());
        let segment = folder.join(format!("{:06}.seg", self.spool.segments(id, &track).unwrap()[0]));
        let mut bytes = std::fs::read(&segment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(segment, bytes).unwrap();
    }

    /// Scratch is empty and nothing is staged; the capture itself is kept for re-processing.
    pub(crate) fn assert_nothing_left_behind(&self, id: &RecordingId) {
        assert!(self.spool.tokens(id).unwrap().is_empty());
        assert!(!self.spool.tracks(id).unwrap().is_empty());
        let scratch = std::fs::read_dir(self.dir.path().join("scratch")).unwrap();
        let folders = scratch.filter(|entry| entry.as_ref().unwrap().path().is_dir());
        assert_eq!(folders.count(), 0);
    }
}

/// Where a blob of a fixture is.
pub(crate) fn fixture(name: &str, blob: usize) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mediarecorder");
    data.join(name).join(format!("{blob:04}.bin"))
}

fn blobs(name: &str) -> Vec<Vec<u8>> {
    (0..).map_while(|n| std::fs::read(fixture(name, n)).ok()).collect()
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Moves a log in time.
fn shift(log: &mut [Logged], by_us: i64) {
    for logged in log {
        match logged {
            Logged::Packet { arrival_us, .. }
            | Logged::SenderReport { arrival_us, .. }
            | Logged::Mark { arrival_us, .. } => *arrival_us += by_us,
            Logged::Damaged(_) => {}
        }
    }
}
