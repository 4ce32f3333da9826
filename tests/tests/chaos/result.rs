//! What a recording must be in the end, whatever has happened on the way.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use e2e::client::{Client, Recording};
use e2e::compare::compare;
use e2e::fixtures::Fixture;
use e2e::output::Output;
use e2e::probe::{Reference, decode_complaints, demuxer, packets};
use e2e::system::{Folders, System};
use serde_json::{Value, json};

use crate::moments::working_below;

/// A fixture's reference, looked at once.
fn reference(fixture: &Fixture) -> Arc<Reference> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Reference>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(known.entry(fixture.name.clone()).or_insert_with(|| Arc::new(Reference::of(fixture))))
}

/// The recording was completed once, with every packet that each of these people uploaded, and nothing else lies about.
pub(crate) async fn assert_whole(
    system: &System,
    client: &Client,
    recording: &Recording,
    people: &[(&str, &Fixture)],
) {
    let (told, output) = assert_completed_once(system, client, recording).await;
    assert_eq!(output.media.len(), people.len(), "{told}");
    for (user, fixture) in people {
        let file = output.media.iter().find(|file| file.told["participantId"] == *user);
        let file = file.unwrap_or_else(|| panic!("no file of {user}: {told}"));
        let found = packets(&file.path, demuxer(&file.path));
        let compared = compare(&reference(fixture).packets, &found);
        let is_whole = compared.missing.is_empty() && compared.mistimed.is_empty() && compared.foreign == 0;
        assert!(is_whole, "{} of {user} in {}: {compared:?}", fixture.name, recording.id);
    }
    for track in told["tracks"].as_array().into_iter().flatten() {
        assert_eq!(track["gaps"], json!([]), "{told}");
    }
    assert_received(client, recording, people).await;
}

/// The upload's status knows of every chunk.
async fn assert_received(client: &Client, recording: &Recording, people: &[(&str, &Fixture)]) {
    let path = format!("/video-calls/recording/{}/status", recording.id);
    let status = client.get(&path).await.expect(200).data();
    for (user, fixture) in people {
        let mut tracks = status["tracks"].as_array().into_iter().flatten();
        let track = tracks
            .find(|track| track["participantId"] == *user)
            .unwrap_or_else(|| panic!("{user}: {status}"));
        assert_eq!(track["received"], json!([[0, fixture.last_sequence()]]), "{status}");
        assert_eq!((&track["missing"], &track["complete"]), (&json!([]), &json!(true)), "{status}");
    }
}

/// The recording was completed once, re-encoded: it plays as long as what was uploaded, and nothing else lies about.
pub(crate) async fn assert_encoded(
    system: &System,
    client: &Client,
    recording: &Recording,
    fixture: &Fixture,
) {
    let (told, output) = assert_completed_once(system, client, recording).await;
    let path = &output.only().path;
    assert_eq!(decode_complaints(path, demuxer(path)), "", "{told}");
    #[expect(clippy::cast_precision_loss, reason = "a few seconds in milliseconds")]
    let lasts_ms = told["duration"].as_u64().unwrap_or_default() as f64;
    let wanted_ms = reference(fixture).end_ms();
    assert!((lasts_ms - wanted_ms).abs() <= 200.0, "{wanted_ms} ms were uploaded: {told}");
}

/// One completion, files that are what rows and API say of them, no other files of it anywhere.
async fn assert_completed_once(system: &System, client: &Client, recording: &Recording) -> (Value, Output) {
    let told = client.recording(recording).await;
    assert_eq!(told["status"], "completed", "{told}");
    let completions: i64 = sqlx::query_scalar(
        "select count(*) from event where recording_id = $1 and type = 'recording.completed'",
    )
    .bind(&recording.id)
    .fetch_one(&system.db)
    .await
    .expect("the database runs");
    assert_eq!(completions, 1, "{told}");
    let keys: Vec<String> =
        sqlx::query_scalar("select storage_key from artifact where recording_id = $1 and state = 'stored'")
            .bind(&recording.id)
            .fetch_all(&system.db)
            .await
            .expect("the database runs");
    let wanted: BTreeSet<PathBuf> = keys.into_iter().map(PathBuf::from).collect();
    assert_eq!(stored_files(system, recording), wanted, "files in storage and rows");
    let staged = Folders::files(&system.folders.spool().join(&recording.id).join("staged"));
    assert!(staged.is_empty(), "{staged:?} wait for a job that is not there");
    // Size and checksum of every file are looked at by the download.
    let output = Output::of(client, &told).await;
    assert_eq!(output.media.len() + output.pictures.len(), wanted.len(), "{told}");
    (told, output)
}

fn stored_files(system: &System, recording: &Recording) -> BTreeSet<PathBuf> {
    let files = Folders::files(&system.folders.recordings()).into_iter();
    files.filter(|file| file.to_string_lossy().contains(&recording.id)).collect()
}

/// No worker has left anything: no folder in scratch, no program that goes on without it. For when all have ended.
pub(crate) fn assert_tidy(system: &System) {
    let scratch = system.folders.scratch();
    let left: Vec<PathBuf> =
        Folders::files(&scratch).into_iter().filter(|file| file.as_os_str() != "lock").collect();
    assert!(left.is_empty(), "left in scratch: {left:?}");
    let running = working_below(&scratch);
    assert!(running.is_empty(), "go on without their worker: {running:?}");
}
