//! Shapes of uploads that our recordings do not have, and other browsers or settings give: one blob at the end, as on iOS; blobs
//! that end anywhere; fragments of MP4 with AAC.

use bytes::Bytes;
use e2e::client::TrackKind;
use e2e::compare::compare;
use e2e::fixtures::Fixture;
use e2e::output::Output;
use e2e::probe::{self, Reference};
use e2e::program::{command, output};
use e2e::system::System;
use serde_json::json;

/// A film of FFmpeg's own making: a test picture and a tone, or a fixture's streams, muxed with `args`.
fn made(name: &str, mime: &str, input: Option<&Fixture>, args: &[&str]) -> Fixture {
    let folder = tempfile::tempdir().expect("a folder below /tmp");
    let file = folder.path().join(if mime.contains("mp4") { "made.mp4" } else { "made.webm" });
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args(["-v", "error"]);
    match input {
        Some(fixture) => {
            let whole = folder.path().join("whole");
            std::fs::write(&whole, fixture.whole()).expect("/tmp has room");
            ffmpeg.args(["-f", fixture.demuxer(), "-i"]).arg(whole).args(["-c", "copy", "-copyts"]);
        }
        None => {
            ffmpeg.args(["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30:duration=6"]);
            ffmpeg.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=6"]);
        }
    }
    let done = output(ffmpeg.args(args).arg(&file));
    assert!(done.ok, "FFmpeg makes no {name}: {}", done.stderr);
    let blob = Bytes::from(std::fs::read(&file).expect("FFmpeg has made it"));
    Fixture { name: name.to_owned(), mime: mime.to_owned(), blobs: vec![blob] }
}

/// The same bytes in pieces of `size`.
fn in_pieces(fixture: &Fixture, size: usize) -> Fixture {
    let whole = fixture.whole();
    Fixture { blobs: whole.chunks(size).map(Bytes::copy_from_slice).collect(), ..fixture.clone() }
}

async fn comes_out_whole(fixture: &Fixture) {
    let system = System::start().await;
    let ann = system.client("ann");
    let recording = ann.record(json!({ "thumbnails": 1 })).await;
    ann.upload(&recording, TrackKind::Video, fixture).await;
    let done = ann.finish(&recording).await;
    assert_eq!(done["tracks"][0]["gaps"], json!([]), "{}", fixture.name);
    let output = Output::of(&ann, &done).await;
    let (path, reference) = (&output.only().path, Reference::of(fixture));
    let compared = compare(&reference.packets, &probe::packets(path, probe::demuxer(path)));
    assert_eq!((&compared.mistimed[..], &compared.missing[..]), (&[][..], &[][..]), "{}", fixture.name);
    assert!(compared.kept > 200 && compared.foreign == 0, "{}: {compared:?}", fixture.name);
    assert_eq!(
        probe::decode_complaints(path, probe::demuxer(path)),
        reference.complaints,
        "{}",
        fixture.name
    );
    assert!(probe::is_seekable(path), "{}", fixture.name);
}

const H264_AAC: [&str; 10] =
    ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "30", "-c:a", "aac"];

#[tokio::test]
async fn a_finished_webm_file_in_one_blob_comes_out_whole() {
    let fixture = Fixture::load("chrome-webm-vp8");
    comes_out_whole(&made("finished webm", &fixture.mime, Some(&fixture), &[])).await;
}

#[tokio::test]
async fn blobs_of_webm_that_end_anywhere_come_out_whole() {
    comes_out_whole(&in_pieces(&Fixture::load("chrome-webm-vp8"), 7_001)).await;
}

#[tokio::test]
async fn blobs_of_mp4_that_end_anywhere_come_out_whole() {
    comes_out_whole(&in_pieces(&Fixture::load("chrome-mp4-avc1-kf1"), 20_011)).await;
}

#[tokio::test]
async fn fragments_of_h264_and_aac_in_one_blob_come_out_whole() {
    let args = [&H264_AAC[..], &["-movflags", "frag_keyframe+empty_moov+default_base_moof"]].concat();
    comes_out_whole(&made("fragmented mp4", "video/mp4", None, &args)).await;
}

/// No recorder gives one: its samples are found by tables that are written when it is finished. It must be refused in words, not
/// half understood.
#[tokio::test]
async fn a_finished_mp4_file_is_no_recording_and_is_told_so() {
    let args = [&H264_AAC[..], &["-movflags", "+faststart"]].concat();
    let file = made("finished mp4", "video/mp4", None, &args);
    let system = System::start().await;
    let ann = system.client("ann");
    let recording = ann.record(json!({})).await;
    ann.upload(&recording, TrackKind::Video, &file).await;
    ann.stop(&recording).await;
    let done = ann.wait_final(&recording).await;
    assert_eq!(
        (&done["status"], &done["error"]["code"]),
        (&json!("failed"), &json!("unusable-media")),
        "{done}"
    );
}
