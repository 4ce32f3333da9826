//! What a recording's host may ask for, who takes part, and how it goes away again.

use std::time::Duration;

use e2e::client::{Client, Recording, TrackKind};
use e2e::compare::compare;
use e2e::fixtures::Fixture;
use e2e::output::Output;
use e2e::probe::{self, Reference};
use e2e::system::{Folders, System};
use serde_json::{Value, json};
use shared::testing::Changes;
use tokio::time::timeout;

/// How long jobs may take to clean up.
const CLEAN_MAX: Duration = Duration::from_secs(60);

/// Uploads to a recording with options, and returns it when it is final.
async fn recorded(client: &Client, options: Value, kind: TrackKind, fixture: &Fixture) -> (Recording, Value) {
    let recording = client.record(options).await;
    client.upload(&recording, kind, fixture).await;
    client.stop(&recording).await;
    let done = client.wait_final(&recording).await;
    (recording, done)
}

#[tokio::test]
async fn each_of_several_participants_has_a_file() {
    let system = System::start().await;
    let (ann, bob) = (system.client("ann"), system.client("bob"));
    let (hers, his) = (Fixture::load("chrome-webm-vp8").first(6), Fixture::load("ff-webm-vp8").first(6));
    let call = ann.create_call(&["bob"]).await;
    let recording = ann.start_recording(&call, &json!({})).await;
    ann.upload(&recording, TrackKind::Video, &hers).await;
    bob.upload(&recording, TrackKind::Video, &his).await;
    let done = ann.finish(&recording).await;

    let output = Output::of(&bob, &done).await;
    let owners: Vec<_> = output.media.iter().map(|file| file.told["participantId"].as_str()).collect();
    assert_eq!(owners, [Some("ann"), Some("bob")]);
    for (file, fixture) in output.media.iter().zip([&hers, &his]) {
        assert_eq!(file.told["kind"], "participant");
        let compared = compare(&Reference::of(fixture).packets, &probe::packets(&file.path, "matroska"));
        assert_eq!((compared.missing.len(), compared.mistimed.len(), compared.foreign), (0, 0, 0));
    }
    assert_eq!(output.pictures.len(), 5);
}

#[tokio::test]
async fn camera_and_screen_of_one_participant_share_a_file() {
    let system = System::start().await;
    let ann = system.client("ann");
    let (camera, screen) =
        (Fixture::load("chrome-webm-vp8").first(6), Fixture::load("chrome-webm-vp9").first(6));
    let recording = ann.record(json!({})).await;
    ann.upload(&recording, TrackKind::Video, &camera).await;
    ann.upload(&recording, TrackKind::Screen, &screen).await;
    let done = ann.finish(&recording).await;

    let output = Output::of(&ann, &done).await;
    assert_eq!(output.only().told["kind"], "recording");
    assert_eq!(probe::codecs(&output.only().path), ["opus", "opus", "vp8", "vp9"]);
    assert_eq!(done["tracks"].as_array().map(Vec::len), Some(2));
    assert!(probe::is_seekable(&output.only().path));
    assert_eq!(probe::decode_complaints(&output.only().path, "matroska"), "");
}

#[tokio::test]
async fn vp8_asked_for_as_mp4_is_encoded_and_plays() {
    let system = System::start().await;
    let ann = system.client("ann");
    let fixture = Fixture::load("chrome-webm-vp8").first(5);
    let (_, done) = recorded(&ann, json!({ "format": "mp4" }), TrackKind::Video, &fixture).await;
    assert_eq!((&done["status"], &done["format"]), (&json!("completed"), &json!("mp4")), "{done}");
    let output = Output::of(&ann, &done).await;
    let file = output.only();
    assert_eq!(file.told["contentType"], "video/mp4");
    assert!(probe::codecs(&file.path).contains(&"h264".to_owned()), "{:?}", probe::codecs(&file.path));
    assert!(probe::is_seekable(&file.path));
    assert_eq!(probe::decode_complaints(&file.path, "mov"), "");
    let (wanted, told) = (Reference::of(&fixture).end_ms(), done["duration"].as_f64().unwrap_or_default());
    assert!((wanted - told).abs() <= 150.0, "{told} for {wanted}");
}

#[tokio::test]
async fn matroska_sound_alone_and_no_pictures_are_had_for_the_asking() {
    let system = System::start().await;
    let ann = system.client("ann");
    let fixture = Fixture::load("chrome-webm-vp8").first(5);
    let video = TrackKind::Video;
    let (_, mkv) = recorded(&ann, json!({ "format": "mkv", "thumbnails": 2 }), video, &fixture).await;
    let output = Output::of(&ann, &mkv).await;
    assert_eq!(output.only().told["contentType"], "video/x-matroska");
    assert_eq!((output.pictures.len(), probe::is_seekable(&output.only().path)), (2, true));

    let (_, sound) = recorded(&ann, json!({ "audioOnly": true }), video, &fixture).await;
    let output = Output::of(&ann, &sound).await;
    assert_eq!(probe::codecs(&output.only().path), ["opus"]);
    assert_eq!(output.only().told["contentType"], "audio/webm");
    assert_eq!(output.pictures.len(), 1, "the waveform");

    let (_, bare) = recorded(&ann, json!({ "thumbnails": 0 }), video, &fixture).await;
    assert_eq!((&bare["status"], &bare["thumbnails"]), (&json!("completed"), &json!([])));
}

#[tokio::test]
async fn what_no_container_holds_is_refused_with_the_reason() {
    let system = System::builder().workers(0).start().await;
    let ann = system.client("ann");
    let call = ann.create_call(&[]).await;
    for (options, reason) in [
        (json!({ "format": "webm", "videoCodec": "h264" }), "webm does not hold h264"),
        (json!({ "format": "webm", "audioCodec": "aac" }), "webm does not hold aac"),
        (json!({ "format": "mp4", "videoCodec": "vp8" }), "mp4 does not hold vp8"),
        (json!({ "format": "avi" }), "avi"),
        (json!({ "thumbnails": 21 }), "thumbnails"),
        (json!({ "videoBitrat": 1 }), "videoBitrat"),
    ] {
        let answer = ann.post(&format!("/video-calls/{call}/recording/start"), &options).await.expect(422);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.code(), "invalid-options");
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(reason), "{options}: {detail}");
    }
    let answer = ann.get(&format!("/video-calls/{call}/recordings")).await.expect(200);
    assert_eq!(answer.data(), json!([]), "a refused start leaves nothing");
}

#[tokio::test]
async fn a_deleted_recording_leaves_nothing() {
    let system = System::start().await;
    let ann = system.client("ann");
    let fixture = Fixture::load("chrome-webm-vp8").first(3);
    let (recording, done) = recorded(&ann, json!({}), TrackKind::Video, &fixture).await;
    assert_eq!(done["status"], "completed", "{done}");
    let folders = &system.folders;
    assert!(
        !Folders::files(&folders.recordings()).is_empty() && !Folders::files(&folders.spool()).is_empty()
    );

    let answer = ann.delete(&recording.path()).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    for path in [recording.path(), format!("{}/download", recording.path())] {
        let answer = ann.get(&path).await.expect(404);
        assert_eq!(answer.code(), "no-such-recording");
    }
    let _ = ann.delete(&recording.path()).await.expect(404);
    let mut changes = Changes::of(&system.db, &["artifact", "recording", "apalis.jobs"]).await;
    let mut left = None;
    let clean = async {
        loop {
            let files = [Folders::files(&folders.recordings()), Folders::files(&folders.spool())].concat();
            let rows: i64 = sqlx::query_scalar("select count(*) from artifact where recording_id = $1")
                .bind(&recording.id)
                .fetch_one(&system.db)
                .await
                .unwrap();
            if files.is_empty() && rows == 0 {
                return;
            }
            left = Some((files, rows));
            changes.next().await;
        }
    };
    assert!(timeout(CLEAN_MAX, clean).await.is_ok(), "left, with rows of artifacts: {left:?}");
}

#[tokio::test]
async fn what_was_never_uploaded_is_a_failure_with_a_code() {
    let system = System::start().await;
    let ann = system.client("ann");
    let recording = ann.record(json!({})).await;
    ann.stop(&recording).await;
    let done = ann.wait_final(&recording).await;
    assert_eq!((&done["status"], &done["error"]["code"]), (&json!("failed"), &json!("no-media")), "{done}");
    let _ = ann.get(&format!("{}/download", recording.path())).await.expect(409);
}
