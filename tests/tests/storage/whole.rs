//! A recording whose files go into a bucket: from the browser's chunks to the download, and away again.

use e2e::client::{Client, Recording, TrackKind};
use e2e::fixtures::Fixture;
use e2e::seaweed::{BUCKET, Seaweed};
use e2e::system::{Folders, System};
use futures::TryStreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::storage::Storage;
use shared::testing::Changes;

/// A recording of ann's, finished.
pub(crate) async fn recorded(ann: &Client) -> (Recording, Value) {
    let recording = ann.record(json!({})).await;
    ann.upload(&recording, TrackKind::Video, &Fixture::load("chrome-webm-vp8")).await;
    let done = ann.finish(&recording).await;
    (recording, done)
}

/// Each of a recording's files is opened by the address that it is told with. Returns how many there are.
pub(crate) async fn opened(ann: &Client, done: &Value) -> usize {
    let files = done["artifacts"].as_array().expect("a completed recording has files");
    for file in files {
        let text = |name: &str| file[name].as_str().unwrap_or_else(|| panic!("no {name} in {file}"));
        let answer = ann.get(text("url")).await.expect(302);
        assert_eq!(answer.header("cache-control"), "no-store");
        // Without the token: the address is all that is needed.
        let opened = reqwest::get(answer.header("location")).await.expect("an answer");
        let opened = opened.error_for_status().expect("the file");
        assert_eq!(opened.headers()["content-type"], text("contentType"));
        let bytes = opened.bytes().await.expect("all of it");
        assert_eq!(hex::encode(Sha256::digest(&bytes)), text("sha256"), "{file}");
    }
    files.len()
}

/// Deletes a recording, after which nothing is stored.
pub(crate) async fn deleted(system: &System, ann: &Client, recording: &Recording, storage: &dyn Storage) {
    let mut rows = Changes::of(&system.db, &["artifact"]).await;
    let _ = ann.delete(&recording.path()).await.expect(202);
    let left = "select count(*) from artifact";
    while sqlx::query_scalar::<_, i64>(left).fetch_one(&system.db).await.expect("the database runs") > 0 {
        rows.next().await;
    }
    assert!(storage.list("").try_next().await.expect("a list").is_none());
}

#[tokio::test]
async fn a_recording_is_kept_in_a_bucket_downloaded_from_there_and_deleted() {
    let server = Seaweed::start().await;
    let set = |builder: e2e::system::Builder, (name, value): (&str, String)| builder.set(name, value);
    let builder = server.variables().into_iter().fold(System::builder(), set);
    let system =
        builder.set("RECORDING_KEY_TEMPLATE", "calls/{call}/{year}/{recording}/{file}").start().await;
    let ann = system.client("ann");
    let (recording, done) = recorded(&ann).await;
    assert_eq!(done["storage"], json!({ "provider": "s3", "bucket": BUCKET }));
    let files = opened(&ann, &done).await;

    let storage = server.settings(&[]).open().await.unwrap();
    let stored: Vec<_> = storage.list("calls/").try_collect().await.unwrap();
    assert_eq!(stored.len(), files);
    let main = storage.head(done["outputPath"].as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!(main.metadata.recording.as_deref(), done["id"].as_str());
    assert_eq!(main.metadata.kind.as_deref(), Some("recording"));
    assert_eq!(main.metadata.duration_ms, done["duration"].as_u64());
    assert!(Folders::files(&system.folders.recordings()).is_empty(), "nothing is kept on disk");

    deleted(&system, &ann, &recording, storage.as_ref()).await;
}
