//! What storage on Vercel Blob does beyond what every provider does: a service that does wrong in ways of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use e2e::servers::faults::{Fault, Plan, Refusal};
use e2e::servers::vercel_blob::{Access, StoreSettings, VercelBlobServer};
use futures::future::join_all;
use futures::{StreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::storage::{Attributes, Fingerprint, Link, SharedStorage, StorageError, verify};
use tempfile::TempDir;

use crate::files::{Watch, put, read};

mod product;

const MIB: usize = 1024 * 1024;
/// Two parts, the last of an odd size.
const LARGE: usize = 17 * MIB + 7;
/// As often as the queue of jobs would, and more seldom.
const JOB_ATTEMPTS: usize = 5;

struct Fixture {
    server: VercelBlobServer,
    storage: SharedStorage,
    folder: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        Self::of(StoreSettings::default()).await
    }

    async fn of(store: StoreSettings) -> Self {
        let server = VercelBlobServer::start_with(store).await;
        let storage = server.settings(&[]).open().await.unwrap();
        let folder = tempfile::Builder::new().prefix("callreel-vercel-").tempdir().unwrap();
        Self { server, storage, folder }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    async fn put(&self, key: &str, file: &Path) -> Result<(), StorageError> {
        put(self.storage.as_ref(), key, file, &Watch::default()).await
    }

    /// Puts and verifies until both succeed, as the job does.
    async fn put_as_the_job_does(&self, key: &str, file: &Path, bytes: &[u8]) {
        for _ in 0..JOB_ATTEMPTS {
            let error = match self.put(key, file).await {
                Ok(()) => verify(self.storage.as_ref(), key, &fingerprint(bytes), Some(file)).await.err(),
                Err(error) => Some(error),
            };
            let Some(error) = error else { return };
            assert!(error.is_transient(), "{key}: {error}");
        }
        panic!("{key} was not put in {JOB_ATTEMPTS} attempts");
    }

    /// The bytes on the server's disk.
    fn stored(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.server.stored(key)?).ok()
    }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Fingerprint { size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
}

/// Bytes that do not repeat, so that exchanged parts show.
fn noise(seed: u8, size: usize) -> Vec<u8> {
    let blocks = (0_u64..).map(|n| Sha256::digest([&[seed], &n.to_le_bytes()[..]].concat()));
    blocks.flat_map(|block| block.to_vec()).take(size).collect()
}

fn refusal(status: u16, code: &str) -> Refusal {
    let body = json!({ "error": { "code": code, "message": "as the test asks" } }).to_string();
    Refusal { status, retry_after: None, body }
}

fn bad_gateway() -> Refusal {
    Refusal { status: 502, retry_after: None, body: "<html>Bad gateway</html>".to_owned() }
}

#[tokio::test]
async fn files_of_one_part_and_of_whole_parts_arrive_and_nothing_is_left_unfinished() {
    let at = Fixture::start().await;
    for (key, size) in [("one part", 16 * MIB), ("one more", 16 * MIB + 1), ("two whole parts", 32 * MIB)] {
        let bytes = noise(1, size);
        at.put(key, &at.file("source", &bytes)).await.unwrap();
        assert!(at.stored(key).unwrap() == bytes, "{key}");
    }
    assert_eq!(at.server.unfinished_uploads(), 0);
}

#[tokio::test]
async fn a_temporary_url_is_for_one_object_shows_parts_of_it_and_ends_on_time() {
    let at = Fixture::start().await;
    let key = "recordings/Größe 1/recording.webm";
    let video = Attributes { content_type: "video/webm".to_owned(), ..Attributes::default() };
    at.storage.put_bytes(key, Bytes::from_static(b"0123456789"), &video).await.unwrap();
    let link = Link { valid: Duration::from_secs(60), disposition: Some("inline".to_owned()) };
    let url = at.storage.temporary_url(key, &link).await.unwrap().unwrap();
    let look =
        async |url: &str| reqwest::Client::new().get(url).header("range", "bytes=2-4").send().await.unwrap();
    let answer = look(&url).await;
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("inline"));
    assert_eq!(answer.text().await.unwrap(), "234");
    assert_eq!(look(&url.replace("recording.webm", "other.webm")).await.status(), 403);
    at.server.clock().advance(TimeDelta::seconds(50));
    assert_eq!(look(&url).await.status(), 206);
    at.server.clock().advance(TimeDelta::seconds(11));
    assert_eq!(look(&url).await.status(), 403);
}

#[tokio::test]
async fn what_a_store_refuses_is_told_with_its_cure() {
    let public = Fixture::of(StoreSettings { access: Access::Public, ..StoreSettings::default() }).await;
    let error = public.put("a", &public.file("a", b"a")).await.unwrap_err();
    assert!(
        matches!(&error, StorageError::Refused(why) if why.contains("private access on a public store")),
        "{error}"
    );
    let at = Fixture::start().await;
    at.server.suspend(true);
    let error = at.put("a", &at.file("a", b"a")).await.unwrap_err();
    assert!(matches!(error, StorageError::Full(_)), "{error}");
    at.server.suspend(false);
    for key in ["", "a//b", "/a", "a/../b", &"x".repeat(951)] {
        let error = at.put(key, &at.file("a", b"a")).await.unwrap_err();
        assert!(matches!(error, StorageError::Refused(_)), "{key}: {error}");
        assert_eq!(at.storage.head(key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn each_fault_alone_is_passed_over() {
    let faults = [
        Fault::Late { delay_ms: 20 },
        Fault::Torn,
        Fault::Cut,
        Fault::Refused(refusal(503, "service_unavailable")),
        Fault::Refused(refusal(500, "unknown_error")),
        Fault::Refused(bad_gateway()),
        Fault::Refused(Refusal { retry_after: Some(1), ..refusal(429, "rate_limited") }),
        Fault::Lost(refusal(500, "internal_server_error")),
    ];
    join_all(faults.into_iter().map(async |fault| {
        let at = Fixture::start().await;
        let (small, large) = (noise(3, 1000), noise(4, LARGE));
        at.server.faults().set(Plan::script([(1, fault.clone())]));
        at.put("small", &at.file("small", &small)).await.unwrap();
        assert_eq!(at.server.faults().injected(), 1);
        assert!(at.stored("small").unwrap() == small, "{fault:?}");
        // Look, create, two parts, complete: each goes wrong once, and is followed by its repetition; of late answers, three come.
        at.server.faults().set(Plan::script([1, 3, 5, 6, 9].map(|n| (n, fault.clone()))));
        at.put("large", &at.file("large", &large)).await.unwrap();
        assert!(at.server.faults().injected() >= 3, "{fault:?}");
        assert!(at.stored("large").unwrap() == large, "{fault:?}");
        at.server.faults().set(Plan::script([(1, fault.clone()), (3, fault.clone())]));
        verify(at.storage.as_ref(), "large", &fingerprint(&large), None).await.unwrap();
    }))
    .await;
}

#[tokio::test]
async fn a_complete_whose_answer_is_lost_has_succeeded() {
    let at = Fixture::start().await;
    for seed in [5, 6] {
        let large = noise(seed, LARGE);
        at.server.faults().set(Plan::script([(5, Fault::Torn)]));
        at.put("large", &at.file("large", &large)).await.unwrap();
        assert_eq!(at.server.faults().injected(), 1);
        assert!(at.stored("large").unwrap() == large);
    }
}

#[tokio::test]
async fn an_upload_that_the_service_forgot_is_no_success_and_begins_anew() {
    let at = Fixture::start().await;
    let (old, new) = (noise(7, LARGE), noise(8, LARGE));
    at.put("large", &at.file("old", &old)).await.unwrap();
    let file = at.file("new", &new);
    at.server.faults().set(Plan::script([(5, Fault::Refused(refusal(404, "not_found")))]));
    let error = at.put("large", &file).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert!(at.stored("large").unwrap() == old, "what was there stays until it is replaced");
    at.put_as_the_job_does("large", &file, &new).await;
    assert!(at.stored("large").unwrap() == new);
}

#[tokio::test]
async fn what_was_damaged_on_its_way_is_found_by_verifying() {
    let at = Fixture::start().await;
    for (size, request) in [(1000, 1), (LARGE, 4)] {
        let bytes = noise(9, size);
        let file = at.file("source", &bytes);
        for fault in [Fault::Truncated, Fault::Flipped] {
            at.server.faults().set(Plan::script([(request, fault.clone())]));
            // The two parts of a large file come in any order; of the second, what is left may be too little for the service.
            if let Err(error) = at.put("damaged", &file).await {
                assert!(matches!(error, StorageError::Refused(_)) && size == LARGE, "{fault:?}: {error}");
                continue;
            }
            let storage = at.storage.as_ref();
            let error = verify(storage, "damaged", &fingerprint(&bytes), Some(&file)).await.unwrap_err();
            assert!(matches!(error, StorageError::Mismatch { .. }), "{fault:?}: {error}");
            assert!(error.is_transient());
            at.put_as_the_job_does("damaged", &file, &bytes).await;
        }
    }
}

#[tokio::test]
async fn a_download_that_is_torn_goes_on_where_it_ended() {
    let at = Fixture::start().await;
    let bytes = noise(10, LARGE);
    at.put("large", &at.file("large", &bytes)).await.unwrap();
    let faults = [Fault::Torn, Fault::Truncated, Fault::Cut, Fault::Refused(bad_gateway()), Fault::Torn];
    at.server.faults().set(Plan::script((1..).zip(faults)));
    assert!(read(at.storage.as_ref(), "large", 0..u64::MAX).await == bytes);
    assert_eq!(at.server.faults().requests(), 6);
}

#[tokio::test]
async fn a_service_that_is_out_of_order_is_told_as_such_and_nothing_is_lost() {
    let faults = [
        Fault::Refused(refusal(503, "service_unavailable")),
        Fault::Lost(bad_gateway()),
        Fault::Torn,
        Fault::Cut,
    ];
    join_all(faults.into_iter().map(async |fault| {
        let at = Fixture::start().await;
        let (storage, bytes) = (at.storage.as_ref(), noise(11, 1000));
        let (file, large) = (at.file("source", &bytes), at.file("large", &noise(12, LARGE)));
        at.server.faults().set(Plan::every(fault.clone()));
        let (print, link) = (fingerprint(&bytes), Link { valid: Duration::from_secs(60), disposition: None });
        let results: [Result<(), StorageError>; 7] = tokio::join!(
            at.put("a", &file),
            at.put("large", &large),
            verify(storage, "a", &print, None),
            storage.delete("b"),
            async { storage.get_range("a", 0..1).await.map(drop) },
            async { storage.list("").next().await.unwrap().map(drop) },
            async { storage.temporary_url("a", &link).await.map(drop) },
        )
        .into();
        for result in results {
            let error = result.expect_err("nobody got an answer");
            assert!(matches!(error, StorageError::Unavailable { .. }), "{fault:?}: {error}");
            assert_eq!((error.code(), error.is_transient()), ("storage-unavailable", true));
        }
        // Some of it may have been carried out; then it is whole, and doing it again is right.
        assert!(at.stored("a").is_none_or(|stored| stored == bytes));
        assert!(at.stored("large").is_none() && large.exists());
        at.server.faults().set(Plan::Sound);
        at.put_as_the_job_does("a", &file, &bytes).await;
    }))
    .await;
}

#[tokio::test]
async fn a_long_wait_that_the_service_asks_for_is_left_to_the_caller() {
    let at = Fixture::start().await;
    let busy = Refusal { retry_after: Some(3600), ..refusal(429, "rate_limited") };
    at.server.faults().set(Plan::every(Fault::Refused(busy)));
    let error = at.put("a", &at.file("a", b"a")).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(at.server.faults().requests(), 1);
}

#[tokio::test]
async fn among_late_torn_and_failing_answers_every_object_arrives_whole() {
    let at = Fixture::start().await;
    let faults = vec![
        Fault::Late { delay_ms: 30 },
        Fault::Torn,
        Fault::Cut,
        Fault::Refused(refusal(503, "service_unavailable")),
        Fault::Refused(bad_gateway()),
        Fault::Refused(Refusal { retry_after: Some(1), ..refusal(429, "rate_limited") }),
        Fault::Lost(refusal(500, "unknown_error")),
    ];
    at.server.faults().set(Plan::Share { seed: 20, percent: 40, faults });
    let objects: Vec<(String, Vec<u8>)> = (0..16)
        .map(|n| (format!("recordings/{n}"), noise(n, if n % 4 == 0 { LARGE } else { 5000 })))
        .collect();
    stream::iter(&objects)
        .for_each_concurrent(8, async |(key, bytes)| {
            let file = at.file(&key.replace('/', "-"), bytes);
            at.put_as_the_job_does(key, &file, bytes).await;
        })
        .await;
    assert!(at.server.faults().injected() >= 20, "{}", at.server.faults().injected());
    for (key, bytes) in &objects {
        assert!(at.stored(key).unwrap() == *bytes, "{key}");
    }
}
