//! What becomes of pictures that must be turned, that change their size, or that refer to lost ones.

use std::path::PathBuf;
use std::process::Command;

use shared::capture::rtp::Logged;
use shared::db::recordings;
use shared::id::RecordingId;
use shared::recording::RecordingState;
use shared::track::TrackKind;
use worker::assemble::Codec;

use crate::frames::{frames, frames_of};
use crate::packets;
use crate::rtp_sender::{self, Sender, Shot};
use crate::support::House;

/// What turns a picture by quarters clockwise.
const TURNED: [&str; 4] = ["null", "transpose=clock", "hflip,vflip", "transpose=cclock"];

/// Two pictures that are as like as this are the same one, encoded anew; its neighbour of the same clip is less so.
const LIKE_DB: f64 = 22.0;

/// The size of Chromium's VP8.
const SIZE: (u32, u32) = (320, 240);

/// Changes its size from 320x240 to 640x360 after 5 s, and to 180x320 after 10.
const RESIZED: &str = "chrome-webm-vp8-resize";

/// A sender's log of pictures that are turned by so many quarters clockwise, as in the header extension (3GPP TS 26.114, section
/// 7.4.5), up to a time and from there on.
fn turned(codec: Codec, shots: &[Shot], (before, after): (u8, u8), at_us: i64) -> Vec<Logged> {
    let mut sender = Sender::new(8, codec);
    for shot in shots {
        sender.rotation = Some(if shot.us < at_us { before } else { after });
        sender.send(shot.us, &shot.data);
    }
    sender.log
}

/// A sender's log of sound.
fn heard(fixture: &str) -> Vec<Logged> {
    let mut sender = Sender::new(7, Codec::Opus);
    sender.send_all(&frames_of(fixture, Codec::Opus), 0);
    sender.log
}

/// The only file of a recording that must be completed.
async fn file_of(house: &House, recording: &RecordingId, what: &str) -> PathBuf {
    let done = house.process(recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{what}: {:?}", done.error);
    house.stored_path(&house.artifacts(recording).await[0].storage_key)
}

#[tokio::test]
async fn pictures_after_a_loss_are_frozen_or_kept_as_the_owner_says() {
    let house = House::new().await;
    let shots = frames(Codec::Vp8);
    let mut counts = Vec::new();
    for after_loss in ["", r#""afterLoss":"freeze","#, r#""afterLoss":"keep","#] {
        let mut sender = Sender::new(8, Codec::Vp8);
        sender.send_all(&shots, 0);
        let delta = shots.iter().position(|shot| shot.us > 2_000_000 && !shot.key).unwrap();
        let lost_us = rtp_sender::START_US + rtp_sender::DELAY_US + shots[delta].us;
        sender.log.retain(|logged| rtp_sender::arrival(logged) != lost_us);
        let options = format!(r#"{{{after_loss}"format":"webm","thumbnails":0}}"#);
        let logs = vec![("ann", TrackKind::Video, rtp_sender::merged(vec![sender.log]))];
        let recording = house.record_logs(logs, &options).await;
        let done = house.process(&recording).await;
        assert_eq!(done.state, RecordingState::Completed, "{after_loss}: {:?}", done.error);
        let file = house.stored_path(&house.artifacts(&recording).await[0].storage_key);
        counts.push(packets::hashes(&file, "v:0").len());
    }
    assert_eq!((counts[0], counts[2]), (counts[1], shots.len() - 1), "{counts:?}");
    assert!(counts[1] < counts[2], "{counts:?}");
}

#[tokio::test]
async fn a_phone_that_is_turned_is_upright_in_the_file() {
    let house = House::new().await;
    let shots = frames(Codec::Vp8);
    for (what, before, after) in [("held upright", 1, 1), ("turned", 0, 3), ("upside down", 2, 2)] {
        let log = turned(Codec::Vp8, &shots, (before, after), 4_000_000);
        let logs = vec![("ann", TrackKind::Video, rtp_sender::merged(vec![log]))];
        let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":0}"#).await;
        let stored = file_of(&house, &recording, what).await;
        let captured = house.whole("chrome-webm-vp8");
        let side = if before == after { String::new() } else { format!(",pad={0}:{0}:-1:-1", SIZE.0) };
        for (at, quarters) in [(2, before), (8, after)] {
            let wanted = format!("{}{side}", TURNED[usize::from(quarters)]);
            let likeness = packets::likeness(&captured, &wanted, &stored, at);
            assert!(likeness > LIKE_DB, "{what}, at {at} s: {likeness} dB");
        }
    }
}

#[tokio::test]
async fn a_turned_screen_keeps_its_sound() {
    let house = House::new().await;
    let log = turned(Codec::Vp8, &frames(Codec::Vp8), (1, 1), 0);
    let logs = vec![("ann", TrackKind::Screen, rtp_sender::merged(vec![log, heard("chrome-webm-vp8")]))];
    let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":0}"#).await;
    let stored = file_of(&house, &recording, "a screen").await;
    assert_eq!(packets::codecs(&stored), ["vp8", "opus"]);
    let likeness = packets::likeness(&house.whole("chrome-webm-vp8"), TURNED[1], &stored, 2);
    assert!(likeness > LIKE_DB, "{likeness} dB");
}

#[tokio::test]
async fn pictures_that_are_encoded_fill_the_largest_that_there_was_whatever_size_they_began_with() {
    let house = House::new().await;
    let shots = frames_of(RESIZED, Codec::Vp8);
    let fitted = |width: u32, height: u32| {
        format!("scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:-1:-1")
    };
    let cases = [
        ("held upright", "webm", (1, 1), [format!("transpose=clock,{}", fitted(360, 640)), String::new()]),
        ("turned", "webm", (0, 1), [fitted(640, 640), format!("{},transpose=clock", fitted(640, 640))]),
        ("in another container", "mp4", (0, 0), [fitted(640, 360), String::new()]),
    ];
    for (what, format, (before, after), [wanted, then]) in cases {
        let log = turned(Codec::Vp8, &shots, (before, after), 6_000_000);
        let logs = vec![("ann", TrackKind::Screen, rtp_sender::merged(vec![log, heard(RESIZED)]))];
        let options = format!(r#"{{"format":"{format}","thumbnails":0}}"#);
        let recording = house.record_logs(logs, &options).await;
        let stored = file_of(&house, &recording, what).await;
        for at in [2, 8, 12] {
            let filter = if at > 6 && !then.is_empty() { &then } else { &wanted };
            let likeness = packets::likeness(&house.whole(RESIZED), filter, &stored, at);
            assert!(likeness > LIKE_DB, "{what}, at {at} s: {likeness} dB");
        }
    }
}

#[tokio::test]
async fn pictures_that_are_encoded_keep_their_times_at_whatever_rate_they_come() {
    let house = House::new().await;
    let (slow, fast) = (drawn("testsrc2=size=320x240:rate=5"), drawn("testsrc2=size=320x240:rate=50"));
    let later = fast.into_iter().map(|shot| Shot { us: shot.us + 1_000_000, ..shot });
    let shots: Vec<Shot> = slow.into_iter().chain(later).collect();
    let log = turned(Codec::Vp8, &shots, (1, 1), 0);
    let logs = vec![("ann", TrackKind::Video, rtp_sender::merged(vec![log]))];
    let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":0}"#).await;
    let stored = file_of(&house, &recording, "both rates").await;
    let times_ms = packets::times_ms(&stored, "v:0");
    assert_eq!(times_ms.len(), shots.len());
    for (shot, ms) in shots.iter().zip(times_ms) {
        let wanted_ms = (shot.us + rtp_sender::DELAY_US) as f64 / 1_000.0;
        assert!((wanted_ms - ms).abs() <= 1.0, "{wanted_ms} ms: {ms}");
    }
}

#[tokio::test]
async fn a_picture_that_claims_to_be_huge_is_encoded_at_a_size_that_can_be() {
    let house = House::new().await;
    let shots = drawn("testsrc2=size=4400x2200:rate=5");
    let log = turned(Codec::Vp8, &shots, (0, 1), 500_000);
    let logs = vec![("ann", TrackKind::Video, rtp_sender::merged(vec![log]))];
    let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":0}"#).await;
    file_of(&house, &recording, "huge").await;
    let file = house.artifacts(&recording).await.remove(0);
    assert_eq!((file.width, file.height), (Some(3_840), Some(3_840)));
}

/// A second of VP8 that FFmpeg has drawn.
#[expect(clippy::disallowed_methods, reason = "a test encodes with FFmpeg")]
fn drawn(source: &str) -> Vec<Shot> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", source, "-t", "1", "-c:v", "libvpx"]);
    ffmpeg.args(["-deadline", "realtime", "-cpu-used", "16", "-b:v", "300k", "-g", "5"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("drawn.mkv");
    assert!(ffmpeg.arg(&file).status().unwrap().success(), "{source}");
    rtp_sender::blocks(&std::fs::read(file).unwrap())
}

#[tokio::test]
async fn pictures_that_cannot_be_turned_are_kept_as_they_came_and_cost_nobody_else_theirs() {
    let house = House::new().await;
    // Turned and fitted into a frame, it is less than a pixel wide, which no encoder takes.
    let flat = turned(Codec::Vp8, &drawn("testsrc2=size=16000x2:rate=10"), (1, 1), 0);
    let (flat, usual) = (rtp_sender::merged(vec![flat]), rtp_sender::merged(vec![heard("chrome-webm-vp8")]));
    let logs = vec![("ann", TrackKind::Video, flat), ("bob", TrackKind::Audio, usual)];
    let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":0}"#).await;
    file_of(&house, &recording, "both").await;
    let files = house.artifacts(&recording).await;
    let shown: Vec<_> = files.iter().map(|file| (file.width, file.height)).collect();
    assert_eq!(shown, [(Some(16_000), Some(2)), (None, None)]);
    let odd = recordings::find(&house.db, &recording).await.unwrap().unwrap().error;
    assert_eq!(odd.unwrap().code, "pictures-not-upright", "whoever asks for it is told");
    let tried = "select attempts = max_attempts from apalis.jobs where job_type = 'mux-recording'";
    let tried: bool = sqlx::query_scalar(tried).fetch_one(&house.db).await.unwrap();
    assert!(tried, "every attempt but the last gives way to the next");
}

#[tokio::test]
async fn a_screen_beside_a_phone_that_is_held_upright_is_copied() {
    let house = House::new().await;
    let screen = frames_of("chrome-webm-vp9", Codec::Vp9);
    let (camera, screen) =
        (turned(Codec::Vp8, &frames(Codec::Vp8), (1, 1), 0), turned(Codec::Vp9, &screen, (0, 0), 0));
    let (camera, screen) = (rtp_sender::merged(vec![camera]), rtp_sender::merged(vec![screen]));
    let logs = vec![("ann", TrackKind::Video, camera), ("ann", TrackKind::Screen, screen)];
    let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":0}"#).await;
    let stored = file_of(&house, &recording, "both").await;
    assert_eq!(packets::codecs(&stored), ["vp8", "vp9"]);
    let captured = packets::hashes(&house.whole("chrome-webm-vp9"), "v:0");
    assert_eq!(packets::hashes(&stored, "v:1"), captured);
    let likeness = packets::likeness(&house.whole("chrome-webm-vp8"), TURNED[1], &stored, 2);
    assert!(likeness > LIKE_DB, "{likeness} dB");
}
