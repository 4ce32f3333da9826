//! Every recording that a real browser made, uploaded whole: nothing is missing, nothing moved, and the file is one that
//! players like.

use e2e::client::{Answer, Client, Recording, TrackKind};
use e2e::compare::compare;
use e2e::fixtures::Fixture;
use e2e::output::{File, Output};
use e2e::probe::{self, Reference};
use e2e::system::{Folders, System};
use serde_json::{Value, json};

/// How far the API's duration may be from that of the browser's own file, milliseconds.
const DURATION_MS: f64 = 100.0;

/// By which route chunks are uploaded.
enum Route {
    Bytes,
    Json,
}

#[tokio::test]
async fn chromium_vp8_comes_out_whole() {
    comes_out_whole("chrome-webm-vp8", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_vp8_with_a_pause_comes_out_whole() {
    comes_out_whole("chrome-webm-vp8-pause", Route::Json).await;
}

#[tokio::test]
async fn chromium_vp8_that_changes_its_size_comes_out_whole() {
    comes_out_whole("chrome-webm-vp8-resize", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_vp9_comes_out_whole() {
    comes_out_whole("chrome-webm-vp9", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_h264_in_matroska_comes_out_whole() {
    comes_out_whole("chrome-webm-h264", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_mp4_comes_out_whole() {
    comes_out_whole("chrome-mp4-avc1-kf1", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_mp4_that_changes_its_size_comes_out_whole() {
    comes_out_whole("chrome-mp4-avc3-opus-resize", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_sound_alone_comes_out_whole() {
    comes_out_whole("chrome-webm-audio", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_av1_comes_out_whole() {
    comes_out_whole("chrome-webm-av1", Route::Bytes).await;
}

#[tokio::test]
async fn chromium_sound_alone_in_mp4_comes_out_whole() {
    comes_out_whole("chrome-mp4-audio", Route::Bytes).await;
}

#[tokio::test]
async fn firefox_vp8_comes_out_whole() {
    comes_out_whole("ff-webm-vp8", Route::Bytes).await;
}

async fn comes_out_whole(name: &str, route: Route) {
    let system = System::start().await;
    let fixture = Fixture::load(name);
    let ann = system.client("ann");
    let kind = if fixture.has_video() { TrackKind::Video } else { TrackKind::Audio };
    let recording = ann.record(json!({})).await;
    match route {
        Route::Bytes => ann.upload(&recording, kind, &fixture).await,
        Route::Json => upload_as_json(&ann, &recording, kind, &fixture).await,
    }
    let done = ann.finish(&recording).await;
    let output = Output::of(&ann, &done).await;
    let reference = Reference::of(&fixture);

    every_packet_is_there_at_its_time(&reference, output.only());
    it_plays(&reference, output.only());
    there_are_pictures(&fixture, &output);
    the_recording_is_told(&fixture, &reference, &recording, &done);
    the_call_tells_it(&ann, &recording, &done).await;
    the_events_are_told(&system, &recording).await;
    parts_are_served(&ann, &done, output.only()).await;
    nothing_is_left_over(&system);
}

async fn the_call_tells_it(client: &Client, recording: &Recording, done: &Value) {
    let call = client.get(&format!("/video-calls/{}", recording.call)).await.expect(200).data();
    assert_eq!(call["recordingStatus"], "completed");
    assert!(done["outputUrl"].is_string(), "{done}");
    assert_eq!(call["recordingUrl"], done["outputUrl"]);
}

async fn upload_as_json(client: &Client, recording: &Recording, kind: TrackKind, fixture: &Fixture) {
    for (sequence, blob) in (0..).zip(&fixture.blobs) {
        let answer = client.upload_json(recording, kind, sequence, &fixture.mime, blob).await.expect(201);
        assert_eq!(answer.data()["size"], blob.len());
    }
    client.complete(recording, kind, fixture.last_sequence()).await;
}

fn every_packet_is_there_at_its_time(reference: &Reference, file: &File) {
    let found = probe::packets(&file.path, probe::demuxer(&file.path));
    let compared = compare(&reference.packets, &found);
    assert!(reference.packets.len() > 100);
    assert_eq!(compared.mistimed, []);
    assert_eq!(compared.missing, []);
    assert_eq!((compared.kept, compared.foreign), (reference.packets.len(), 0));
}

fn it_plays(reference: &Reference, file: &File) {
    assert!(probe::is_seekable(&file.path), "its index is behind its media");
    let complaints = probe::decode_complaints(&file.path, probe::demuxer(&file.path));
    assert_eq!(complaints, reference.complaints, "it decodes with other errors than the browser's own file");
    let told =
        probe::facts(&file.path)["format"]["duration"].as_str().and_then(|text| text.parse::<f64>().ok());
    let duration_ms = told.expect("a finished file says how long it is") * 1_000.0;
    assert!(
        (duration_ms - reference.end_ms()).abs() <= DURATION_MS,
        "{duration_ms} for {}",
        reference.end_ms()
    );
}

fn there_are_pictures(fixture: &Fixture, output: &Output) {
    let wanted = if fixture.has_video() { 5 } else { 1 };
    assert_eq!(output.pictures.len(), wanted);
    for picture in &output.pictures {
        let (width, height) = probe::picture(&picture.path);
        assert!(width == 320 && height > 0 && height % 2 == 0, "{width}×{height}");
        assert_eq!((&picture.told["width"], &picture.told["height"]), (&json!(width), &json!(height)));
        assert_eq!(picture.told["contentType"], "image/jpeg");
    }
}

fn the_recording_is_told(fixture: &Fixture, reference: &Reference, recording: &Recording, done: &Value) {
    let fields = [
        "artifacts",
        "callId",
        "completedAt",
        "duration",
        "error",
        "expiresAt",
        "fileSize",
        "format",
        "id",
        "options",
        "outputPath",
        "outputUrl",
        "progress",
        "startedAt",
        "status",
        "stoppedAt",
        "storage",
        "stage",
        "thumbnails",
        "tracks",
    ];
    has_fields(done, &fields);
    assert_eq!((&done["id"], &done["callId"]), (&json!(recording.id), &json!(recording.call)));
    assert_eq!(
        (&done["status"], &done["stage"], &done["error"]),
        (&json!("completed"), &Value::Null, &Value::Null)
    );
    assert_eq!(done["progress"].as_f64(), Some(1.0));
    for time in ["startedAt", "stoppedAt", "completedAt", "expiresAt"] {
        let text = done[time].as_str().unwrap_or_default();
        assert!(text.starts_with("20") && text.ends_with('Z'), "{time}: {text}");
    }
    let is_h264 = ["avc1", "avc3", "h264"].iter().any(|codec| fixture.name.contains(codec));
    let format = if is_h264 { "mp4" } else { "webm" };
    assert_eq!(done["format"], format);
    assert_eq!(done["outputPath"], format!("recordings/{}/recording.{format}", recording.id));
    assert_eq!(done["storage"], json!({ "provider": "local", "bucket": "local" }));
    let duration = done["duration"].as_f64().unwrap_or_default();
    assert!((duration - reference.end_ms()).abs() <= DURATION_MS, "{duration} for {}", reference.end_ms());
    the_file_is_told(done);
    the_track_is_told(fixture, done);
}

fn the_file_is_told(done: &Value) {
    let fields = [
        "contentType",
        "duration",
        "height",
        "id",
        "kind",
        "participantId",
        "sha256",
        "size",
        "url",
        "width",
    ];
    for artifact in done["artifacts"].as_array().into_iter().flatten() {
        has_fields(artifact, &fields);
    }
    let file = &done["artifacts"][0];
    assert_eq!((&file["kind"], &file["participantId"]), (&json!("recording"), &json!("ann")));
    assert_eq!((&file["size"], &file["duration"]), (&done["fileSize"], &done["duration"]));
    let pictures = done["artifacts"].as_array().map_or(0, |all| all.len() - 1);
    assert_eq!(done["thumbnails"].as_array().map(Vec::len), Some(pictures));
}

fn the_track_is_told(fixture: &Fixture, done: &Value) {
    let tracks = done["tracks"].as_array().expect("tracks");
    let [track] = tracks.as_slice() else { panic!("{} tracks instead of one", tracks.len()) };
    let fields = [
        "bytes",
        "chunks",
        "codec",
        "duration",
        "gaps",
        "id",
        "kind",
        "participantId",
        "source",
        "startedAt",
    ];
    has_fields(track, &fields);
    assert_eq!((&track["participantId"], &track["source"]), (&json!("ann"), &json!("client")));
    assert_eq!(track["kind"], if fixture.has_video() { "video" } else { "audio" });
    assert_eq!(track["chunks"], fixture.blobs.len());
    assert_eq!(track["bytes"], fixture.whole().len());
    assert_eq!(track["gaps"], json!([]));
    assert!(track["codec"].as_str().is_some_and(|codec| codec.contains("opus")), "{track}");
}

#[track_caller]
fn has_fields(value: &Value, fields: &[&str]) {
    let object = value.as_object().expect("an object");
    let absent: Vec<_> = fields.iter().filter(|field| !object.contains_key(**field)).collect();
    assert!(absent.is_empty(), "no {absent:?} in {value}");
}

async fn the_events_are_told(system: &System, recording: &Recording) {
    let events: Vec<String> = sqlx::query_scalar(
        "select type from event where recording_id = $1 and type <> 'recording.progress' order by id",
    )
    .bind(&recording.id)
    .fetch_all(&system.db)
    .await
    .expect("events");
    let wanted = [
        "recording.started",
        "recording.stopping",
        "recording.processing",
        "thumbnails.generated",
        "recording.uploaded",
        "recording.completed",
    ];
    assert_eq!(events, wanted);
}

/// RFC 9110, section 14.
async fn parts_are_served(client: &Client, done: &Value, file: &File) {
    let url = done["outputUrl"].as_str().expect("a finished recording has a URL");
    let whole = std::fs::read(&file.path).expect("it was just downloaded");
    assert!(
        client.download(url).await == whole,
        "the recording's URL serves another file than its artifact's"
    );
    let size = whole.len();
    let part = |answer: Answer| (answer.header("content-range").to_owned(), answer.body);
    let (range, body) = part(client.download_range(url, "bytes=100-299").await.expect(206));
    assert_eq!(range, format!("bytes 100-299/{size}"));
    assert!(body == whole[100..300]);
    let (range, body) = part(client.download_range(url, "bytes=-500").await.expect(206));
    assert_eq!(range, format!("bytes {}-{}/{size}", size - 500, size - 1));
    assert!(body == whole[size - 500..]);
    let (_, body) = part(client.download_range(url, &format!("bytes={}-", size - 7)).await.expect(206));
    assert!(body == whole[size - 7..]);
    let (range, _) = part(client.download_range(url, &format!("bytes={size}-")).await.expect(416));
    assert_eq!(range, format!("bytes */{size}"));
}

/// The capture stays in the spool, for processing again; nothing else stays anywhere.
fn nothing_is_left_over(system: &System) {
    let spool = Folders::files(&system.folders.spool());
    assert!(spool.iter().all(|file| file.extension().is_some_and(|ending| ending == "seg")), "{spool:?}");
    let scratch = Folders::files(&system.folders.scratch());
    assert!(scratch.iter().all(|file| file.ends_with("lock")), "{scratch:?}");
    let recordings = Folders::files(&system.folders.recordings());
    assert!(recordings.iter().all(|file| !file.to_string_lossy().contains(".partial-")), "{recordings:?}");
    let capture = Folders::files(&system.folders.capture());
    assert!(capture.iter().all(|file| file.extension().is_none_or(|ending| ending != "seg")), "{capture:?}");
}
