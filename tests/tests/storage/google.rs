//! Google Cloud Storage at its worst: answers that are refused, late, lost or lies, chunks that arrive in part or damaged, and
//! workers that are killed meanwhile. And links, and what happens where nobody can sign them.

use bytes::Bytes;
use e2e::client::TrackKind;
use e2e::fake_gcs::FakeGcs;
use e2e::faults::{Proxy, Weather};
use e2e::fixtures::Fixture;
use e2e::gcs::{Fault, Gcs};
use e2e::system::{Builder, System};
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::storage::{Link, SharedStorage, Storage, StorageError, verify};
use std::time::Duration;

use crate::files::{File, Watch, attributes, put, read};
use crate::resume::cut_off;
use crate::staged::{completed, stage};

const KEY: &str = "recordings/rec_1/recording.webm";
/// Three chunks, the last one short.
const SIZE: usize = (5 << 24) + 12_345;
const CHUNK: u64 = 32 << 20;

async fn opened(server: &Gcs) -> SharedStorage {
    server.settings(&[]).open().await.unwrap()
}

async fn stored(storage: &dyn Storage, file: &File) {
    verify(storage, KEY, &file.print, Some(&file.path)).await.unwrap();
    verify(storage, KEY, &file.print, None).await.unwrap();
}

/// The ranges that were sent.
fn chunks(server: &Gcs) -> Vec<String> {
    let requests = server.requests();
    requests.iter().filter_map(|line| line.strip_prefix("PUT bytes ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn what_is_refused_for_a_while_is_tried_again() {
    let server = Gcs::start().await;
    let (storage, file) = (opened(&server).await, File::of(SIZE));
    // The session's beginning, its first chunk, the question that follows, and the chunk again.
    server.set([(503, 0), (429, 1), (408, 0), (500, 0)].map(|(status, after)| Fault::Refuses(status, after)));
    put(storage.as_ref(), KEY, &file.path, &Watch::default()).await.unwrap();
    assert!(server.faults_left().is_empty());
    server.set([Fault::Refuses(429, 0)]);
    stored(storage.as_ref(), &file).await;
    server.set([Fault::Refuses(503, 0)]);
    storage.put_bytes("small", Bytes::from_static(b"x"), &attributes()).await.unwrap();
    server.set([Fault::Refuses(503, 0)]);
    storage.delete("small").await.unwrap();
    assert!(server.faults_left().is_empty());
}

#[tokio::test]
async fn who_asks_for_a_long_pause_is_left_alone() {
    let server = Gcs::start().await;
    let storage = opened(&server).await;
    server.set([Fault::Refuses(429, 3_600)]);
    let refused = storage.head(KEY).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(3_600)));
    assert!(refused.is_transient());
}

#[tokio::test]
async fn what_has_arrived_of_a_chunk_is_not_sent_again() {
    let server = Gcs::start().await;
    let (storage, file, watch) = (opened(&server).await, File::of(SIZE), Watch::default());
    server.set([Fault::KeepsLittle(300 * 1024)]);
    put(storage.as_ref(), KEY, &file.path, &watch).await.unwrap();
    stored(storage.as_ref(), &file).await;
    let begun = |from: u64| chunks(&server).iter().any(|range| range.starts_with(&format!("{from}-")));
    // Whole steps of 256 KiB are kept.
    assert!(begun(256 * 1024) && begun(256 * 1024 + CHUNK), "{:?}", chunks(&server));
    assert_eq!((chunks(&server).len(), watch.sent()), (4, SIZE as u64));
}

#[tokio::test]
async fn a_file_that_is_damaged_on_its_way_does_not_become_an_object() {
    let server = Gcs::start().await;
    let storage = opened(&server).await;
    for file in [File::of(SIZE), File::of(1_000)] {
        server.set([Fault::Damages]);
        let damaged =
            put(storage.as_ref(), KEY, &file.path, &Watch { keeps: true, ..Watch::default() }).await;
        assert!(matches!(damaged, Err(StorageError::Mismatch { .. })), "{damaged:?}");
        assert!(storage.head(KEY).await.unwrap().is_none());
        assert_eq!((server.open_sessions(), server.faults_left().len()), (0, 0));
        put(storage.as_ref(), KEY, &file.path, &Watch::default()).await.unwrap();
        stored(storage.as_ref(), &file).await;
        storage.delete(KEY).await.unwrap();
    }
}

#[tokio::test]
async fn an_upload_whose_last_answer_is_lost_is_not_repeated() {
    let server = Gcs::start().await;
    let (storage, file) = (opened(&server).await, File::of(SIZE));
    server.set([Fault::LosesAnswer]);
    let watch = Watch { keeps: true, ..Watch::default() };
    put(storage.as_ref(), KEY, &file.path, &watch).await.unwrap();
    stored(storage.as_ref(), &file).await;
    assert_eq!((chunks(&server).len(), server.faults_left().len()), (4, 0), "three chunks, and one question");

    // The worker, too, may be gone before it has the answer. What was deleted since is put again.
    put(storage.as_ref(), KEY, &file.path, &watch).await.unwrap();
    assert_eq!(chunks(&server).len(), 5, "one question more");
    storage.delete(KEY).await.unwrap();
    let again = Watch { kept: watch.kept, ..Watch::default() };
    put(storage.as_ref(), KEY, &file.path, &again).await.unwrap();
    stored(storage.as_ref(), &file).await;
}

#[tokio::test]
async fn a_session_that_has_ended_is_begun_anew() {
    let server = Gcs::start().await;
    let (storage, file) = (opened(&server).await, File::of(SIZE));
    server.set([Fault::Forgets]);
    let watch = Watch { keeps: true, ..Watch::default() };
    let gone = put(storage.as_ref(), KEY, &file.path, &watch).await.unwrap_err();
    assert!(gone.is_transient() && gone.to_string().contains("begin anew"), "{gone}");
    let again = Watch { kept: watch.kept, keeps: true, ..Watch::default() };
    put(storage.as_ref(), KEY, &file.path, &again).await.unwrap();
    stored(storage.as_ref(), &file).await;
}

#[tokio::test]
async fn a_session_that_may_not_be_asked_about_is_passed_over() {
    for status in [400, 401, 403] {
        let server = Gcs::start().await;
        let (storage, file) = (opened(&server).await, File::of(SIZE));
        let cut = cut_off(storage.as_ref(), KEY, &File::of(7 << 24)).await;
        server.set([Fault::Denies(status)]);
        let again = Watch { kept: cut.kept, keeps: true, ..Watch::default() };
        let size = std::fs::metadata(&file.path).unwrap().len();
        // The question is about a file of the same size.
        again.kept.lock().unwrap().as_mut().unwrap().0["size"] = size.into();
        put(storage.as_ref(), KEY, &file.path, &again).await.unwrap();
        assert!(server.faults_left().is_empty(), "{status}");
        stored(storage.as_ref(), &file).await;
    }
}

#[tokio::test]
async fn an_ok_without_an_object_is_no_success() {
    let server = Gcs::start().await;
    let (storage, file) = (opened(&server).await, File::of(SIZE));
    server.set([Fault::Lies]);
    let lied = put(storage.as_ref(), KEY, &file.path, &Watch::default()).await;
    assert!(matches!(lied, Err(StorageError::Mismatch { .. })), "{lied:?}");
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on() {
    let server = Gcs::start().await;
    let (storage, file) = (opened(&server).await, File::of(1_000_000));
    put(storage.as_ref(), KEY, &file.path, &Watch::default()).await.unwrap();
    server.set([Fault::BreaksOff]);
    assert_eq!(read(storage.as_ref(), KEY, 10..900_000).await, file.bytes()[10..900_000]);
    assert!(server.faults_left().is_empty());
}

#[tokio::test]
async fn a_link_opens_as_it_was_signed_and_not_otherwise() {
    let server = Gcs::start().await;
    let storage = opened(&server).await;
    let key = "a/ü ñ+&=?%41#'()!.webm";
    storage.put_bytes(key, Bytes::from_static(b"bytes"), &attributes()).await.unwrap();
    storage.put_bytes("a/other", Bytes::from_static(b"other"), &attributes()).await.unwrap();
    let link = Link { valid: Duration::from_secs(3_600), disposition: None };
    let url = storage.temporary_url(key, &link).await.unwrap().unwrap();
    let part = reqwest::Client::new().get(&url).header("range", "bytes=1-2").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, &b"yt"[..]));
    let longer = url.replace("X-Goog-Expires=3600", "X-Goog-Expires=86400");
    let (before, query) = url.split_once('?').unwrap();
    let other = format!("{}/a/other?{query}", before.split("/a/").next().unwrap());
    for forged in [longer, other, before.to_owned()] {
        assert_eq!(reqwest::get(&forged).await.unwrap().status().as_u16(), 403, "{forged}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_a_killed_worker_stopped() {
    let server = Gcs::start().await;
    let proxy = Proxy::before(server.address()).await;
    let set = |builder: Builder, (name, value): (&str, String)| builder.set(name, value);
    let builder = server.variables().into_iter().fold(System::builder().workers(0), set);
    let mut system = builder.set("RECORDING_GCS_ENDPOINT", proxy.url()).start().await;
    let storage = opened(&server).await;
    let staged = stage(&system, &[SIZE, 20_000]).await;

    proxy.set(Weather::StopsAfter(CHUNK + CHUNK / 2));
    system.spawn_worker().await;
    proxy.faults(1).await;
    system.worker().kill9();
    assert_eq!(server.open_sessions(), 1);

    let before = proxy.sent();
    proxy.set(Weather::Fair);
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    let more = proxy.sent() - before;
    // What had arrived of the chunk that broke off is not sent again either, but for what was in the proxy and in buffers.
    assert!(more < SIZE as u64 - CHUNK - CHUNK / 4, "{more} bytes were sent again, of {SIZE}");
    for (key, print) in &staged.objects {
        verify(storage.as_ref(), key, print, None).await.unwrap();
    }
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn a_recording_in_a_bucket_that_nobody_can_sign_for_comes_through_the_edge() {
    let server = FakeGcs::start().await;
    let system = server
        .variables()
        .into_iter()
        .fold(System::builder(), |builder, (name, value)| builder.set(name, value));
    let system = system.start().await;
    let (ann, fixture) = (system.client("ann"), Fixture::load("chrome-webm-vp8"));
    let recording = ann.record(json!({})).await;
    ann.upload(&recording, TrackKind::Video, &fixture).await;
    let done = ann.finish(&recording).await;
    assert_eq!(done["storage"], json!({ "provider": "gcs", "bucket": "recordings" }));
    for file in done["artifacts"].as_array().expect("a completed recording has files") {
        let text = |name: &str| file[name].as_str().unwrap_or_else(|| panic!("no {name} in {file}"));
        let answer = ann.get(text("url")).await.expect(200);
        assert_eq!(hex::encode(Sha256::digest(&answer.body)), text("sha256"), "{file}");
    }
}
