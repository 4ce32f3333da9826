//! A spool in a bucket: edge and worker share the database and the bucket, and no folder. The bucket may be away while people are
//! recorded, and the edge may be killed.

use std::collections::BTreeSet;
use std::path::Path;

use e2e::client::{Client, Recording, TrackKind};
use e2e::compare::compare;
use e2e::faults::{Proxy, Weather};
use e2e::fixtures::Fixture;
use e2e::gcs::Gcs;
use e2e::postgres::Postgres;
use e2e::probe::{self, Reference};
use e2e::program::{LOOK_EVERY, START_MAX};
use e2e::seaweed::{BUCKET, Seaweed};
use e2e::system::{Builder, Folders, System};
use futures::TryStreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::jobs::{ExpireRecordings, enqueue};
use shared::storage::SharedStorage;
use tempfile::TempDir;
use tokio::time::{Instant, interval};

use crate::doctor::{Machine, is_ill, line};

/// What the edge takes before something happens; the rest follows.
const FIRST: usize = 4;

/// An edge with a recording that goes on, and the bucket that its segments go to.
struct Call {
    system: System,
    storage: SharedStorage,
    /// The worker's folders: another machine's.
    elsewhere: TempDir,
    ann: Client,
    recording: Recording,
    fixture: Fixture,
}

impl Call {
    /// One that has taken the first chunks.
    async fn begin(variables: &[(&str, String)], spool: &str, storage: SharedStorage) -> Self {
        let set = |builder: Builder, (name, value): &(&str, String)| builder.set(name, value.clone());
        let builder = variables.iter().fold(System::builder().workers(0), set);
        let system = builder.set("SPOOL_URL", spool).start().await;
        let (ann, fixture) = (system.client("ann"), Fixture::load("chrome-webm-vp8"));
        let recording = ann.record(json!({})).await;
        let elsewhere = tempfile::Builder::new().prefix("callreel-elsewhere-").tempdir().unwrap();
        let call = Self { system, storage, elsewhere, ann, recording, fixture };
        call.upload(0..FIRST).await;
        call
    }

    async fn upload(&self, chunks: std::ops::Range<usize>) {
        for (sequence, blob) in (0..).zip(&self.fixture.blobs).skip(chunks.start).take(chunks.len()) {
            let (kind, mime) = (TrackKind::Video, &self.fixture.mime);
            let stored = self.ann.put_chunk(&self.recording, kind, sequence, mime, blob.clone()).await;
            let _ = stored.expect(201);
        }
    }

    async fn upload_the_rest(&self) {
        self.upload(FIRST..self.fixture.blobs.len()).await;
        self.ann.complete(&self.recording, TrackKind::Video, self.fixture.last_sequence()).await;
    }

    /// What the bucket holds for workers.
    async fn spooled(&self) -> BTreeSet<String> {
        self.storage.list("spool/").map_ok(|object| object.key).try_collect().await.unwrap()
    }

    /// Returns when the bucket has as many segments, while the recording goes on.
    async fn segments(&self, count: usize) {
        let (deadline, mut looks) = (Instant::now() + START_MAX, interval(LOOK_EVERY));
        while self.spooled().await.len() < count {
            assert!(
                Instant::now() < deadline,
                "no {count} segments in the bucket: {:?}",
                self.spooled().await
            );
            looks.tick().await;
        }
        assert_eq!(self.ann.recording(&self.recording).await["status"], "recording");
    }

    /// Starts a worker that shares no folder with the edge.
    async fn spawn_worker(&mut self) {
        for name in ["CAPTURE_DIR", "SCRATCH_DIR", "RECORDING_OUTPUT_DIR"] {
            self.system.set(name, self.elsewhere.path().join(name).display().to_string());
        }
        self.system.spawn_worker().await;
    }

    /// Stops the recording and holds what came of it against what was recorded.
    async fn assert_whole(&self) -> Value {
        let done = self.ann.finish(&self.recording).await;
        let told = &done["artifacts"][0];
        let answer = self.ann.get(told["url"].as_str().unwrap()).await.expect(302);
        let bytes = reqwest::get(answer.header("location")).await.unwrap().bytes().await.unwrap();
        assert_eq!(
            (told["size"].as_u64().unwrap(), &told["sha256"]),
            (bytes.len() as u64, &json!(sha256(&bytes)))
        );
        let path = self.elsewhere.path().join("recording.webm");
        std::fs::write(&path, &bytes).unwrap();
        let reference = Reference::of(&self.fixture);
        let compared = compare(&reference.packets, &probe::packets(&path, probe::demuxer(&path)));
        assert_eq!((compared.kept, compared.foreign), (reference.packets.len(), 0));
        let off_ms = (told["duration"].as_f64().unwrap() - reference.end_ms()).abs();
        assert!(off_ms <= 100.0, "{off_ms} ms off");
        assert_eq!(done["tracks"][0]["bytes"], self.fixture.whole().len());
        assert_eq!(done["tracks"][0]["gaps"], json!([]));
        done
    }

    /// The capture stays in the bucket, for processing again; nothing is staged any more, and no disk holds anything.
    async fn assert_tidy(&self) {
        let (deadline, mut looks) = (Instant::now() + START_MAX, interval(LOOK_EVERY));
        while self.spooled().await.iter().any(|key| key.contains("/staged/")) {
            assert!(Instant::now() < deadline, "{:?}", self.spooled().await);
            looks.tick().await;
        }
        assert!(self.spooled().await.iter().all(|key| key.ends_with(".seg")), "{:?}", self.spooled().await);
        let media = |folder: &Path| {
            let files = Folders::files(folder).into_iter();
            files
                .filter(|file| file.extension().is_some_and(|ending| ending == "seg" || ending == "last"))
                .count()
        };
        assert_eq!(media(self.system.folders.root()), 0);
        assert!(!self.system.folders.spool().exists() && !self.system.folders.scratch().exists());
    }

    /// Deletes the recording, after which the bucket is empty.
    async fn assert_deleted(&self) {
        let _ = self.ann.delete(&self.recording.path()).await.expect(202);
        let (deadline, mut looks) = (Instant::now() + START_MAX, interval(LOOK_EVERY));
        while self.storage.list("").try_next().await.unwrap().is_some() {
            assert!(Instant::now() < deadline, "{:?} is still there", self.spooled().await);
            looks.tick().await;
        }
    }

    /// A figure that the edge tells Prometheus.
    async fn told(&self, metric: &str) -> f64 {
        let text =
            reqwest::get(format!("{}/metrics", self.system.edge.url())).await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {metric} in {text}"))
    }

    /// Returns when a figure is as it shall be.
    async fn tells(&self, metric: &str, is_right: impl Fn(f64) -> bool) {
        let (deadline, mut looks) = (Instant::now() + START_MAX, interval(LOOK_EVERY));
        while !is_right(self.told(metric).await) {
            assert!(Instant::now() < deadline, "{metric} is {}", self.told(metric).await);
            looks.tick().await;
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

async fn of_seaweed(server: &Seaweed, endpoint: String) -> Call {
    let mut variables = server.variables().to_vec();
    variables.push(("RECORDING_S3_ENDPOINT", endpoint));
    let storage = server.settings(&[]).open().await.unwrap();
    Call::begin(&variables, &format!("s3://{BUCKET}/spool"), storage).await
}

async fn completes_where_nothing_is_shared(mut call: Call) {
    call.segments(1).await;
    call.upload_the_rest().await;
    call.spawn_worker().await;
    call.assert_whole().await;
    call.assert_tidy().await;
    call.assert_deleted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_shares_no_disk_with_the_edge_completes_a_recording() {
    let server = Seaweed::start().await;
    let call = of_seaweed(&server, server.endpoint()).await;
    completes_where_nothing_is_shared(call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_shares_no_disk_completes_a_recording_through_google() {
    let server = Gcs::start().await;
    let storage = server.settings(&[]).open().await.unwrap();
    let variables = server.variables().map(|(name, value)| (name, value));
    let call = Call::begin(&variables, "gs://recordings/spool", storage).await;
    completes_where_nothing_is_shared(call).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_for_a_while_stops_nothing_and_its_segments_follow() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut call = of_seaweed(&server, proxy.url()).await;
    proxy.set(Weather::Away);
    proxy.faults(3).await;
    call.upload_the_rest().await;
    call.tells("callreel_spool_lag_bytes ", |bytes| bytes > 0.0).await;
    assert!(call.spooled().await.is_empty());
    proxy.set(Weather::Fair);
    call.segments(1).await;
    call.tells("callreel_spool_lag_bytes ", |bytes| bytes == 0.0).await;
    call.spawn_worker().await;
    call.assert_whole().await;
    call.assert_tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_goes_on_also_while_its_bucket_is_away() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut call = of_seaweed(&server, proxy.url()).await;
    // The first segment has left, and a second one is open.
    call.segments(1).await;
    call.upload(FIRST..FIRST + 2).await;
    call.system.edge.kill9();
    proxy.set(Weather::Away);
    call.system.edge.restart().await;
    call.upload(FIRST + 2..FIRST + 3).await;
    let taken = call.fixture.blobs[FIRST].clone();
    let again =
        call.ann.put_chunk(&call.recording, TrackKind::Video, FIRST as u64, &call.fixture.mime, taken);
    let _ = again.await.expect(200);
    proxy.faults(1).await;
    proxy.set(Weather::Fair);
    call.upload(FIRST + 3..call.fixture.blobs.len()).await;
    call.ann.complete(&call.recording, TrackKind::Video, call.fixture.last_sequence()).await;
    call.spawn_worker().await;
    call.assert_whole().await;
    call.assert_tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_followed_by_one_on_another_machine() {
    let server = Seaweed::start().await;
    let mut call = of_seaweed(&server, server.endpoint()).await;
    call.upload_the_rest().await;
    call.system.set("WORKER_QUEUES", "mux-recording");
    call.spawn_worker().await;
    call.ann.stop(&call.recording).await;
    let (deadline, mut looks) = (Instant::now() + START_MAX, interval(LOOK_EVERY));
    while !call.spooled().await.iter().any(|key| key.contains("/staged/")) {
        assert!(Instant::now() < deadline, "{:?}", call.spooled().await);
        looks.tick().await;
    }
    call.system.worker().kill9();
    call.elsewhere = tempfile::Builder::new().prefix("callreel-elsewhere-").tempdir().unwrap();
    call.system.set("WORKER_QUEUES", "");
    call.system.set("CAPTURE_KEEP", "0s");
    call.spawn_worker().await;
    let done = call.ann.wait_final(&call.recording).await;
    assert_eq!(done["status"], "completed", "{done}");
    call.assert_tidy().await;

    // What a recording that is done has left there goes after its time.
    enqueue(&mut call.system.db.acquire().await.unwrap(), &ExpireRecordings {}).await.unwrap();
    let (deadline, mut looks) = (Instant::now() + START_MAX, interval(LOOK_EVERY));
    while !call.spooled().await.is_empty() {
        assert!(Instant::now() < deadline, "{:?}", call.spooled().await);
        looks.tick().await;
    }
    assert_eq!(call.ann.recording(&call.recording).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_ends_when_it_is_told_to_while_its_bucket_says_nothing_and_the_next_goes_on() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut call = of_seaweed(&server, proxy.url()).await;
    proxy.set(Weather::StopsAfter(0));
    call.upload_the_rest().await;
    call.ann.stop(&call.recording).await;
    proxy.faults(1).await;
    call.system.edge.term().await;
    proxy.set(Weather::Fair);
    call.system.edge.restart().await;
    call.spawn_worker().await;
    let done = call.ann.wait_final(&call.recording).await;
    assert_eq!((&done["status"], &done["tracks"][0]["gaps"]), (&json!("completed"), &json!([])), "{done}");
    call.assert_tidy().await;
}

#[tokio::test]
async fn the_doctor_looks_at_a_spool_in_a_bucket() {
    let (database, server) = (Postgres::create().await, Seaweed::start().await);
    let set = |machine: Machine, (name, value): (&str, String)| machine.set(name, value);
    let machine = server.variables().into_iter().fold(Machine::with(database.url()), set);
    let machine = machine.set("SPOOL_URL", format!("s3://{BUCKET}/spool"));
    let done = machine.examine();
    assert!(done.ok && line(&done, "spool").contains("takes, tells, gives, links and deletes"), "{done:?}");
    let storage = server.settings(&[]).open().await.unwrap();
    assert!(storage.list("").try_next().await.unwrap().is_none(), "nothing stays");
    let machine = machine.set("SPOOL_URL", "s3://no-such-bucket/spool");
    is_ill(&machine.examine(), "spool", "no-such-bucket");
    let machine = machine.set("SPOOL_URL", format!("s3://{BUCKET}/recordings"));
    is_ill(&machine.examine(), "settings", "SPOOL_URL wants a prefix that shares no folder");
}
