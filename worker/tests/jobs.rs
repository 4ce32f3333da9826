//! The stages of processing against a real Postgres, a real capture and real FFmpeg, without an edge.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

#[path = "jobs/frames.rs"]
mod frames;
#[path = "jobs/packets.rs"]
mod packets;
#[path = "jobs/paused.rs"]
mod paused;
#[path = "jobs/pictures.rs"]
mod pictures;
#[path = "assemble/rtp_sender.rs"]
#[allow(dead_code, reason = "the tests of assembly use the rest of it")]
mod rtp_sender;
#[path = "jobs/support.rs"]
mod support;

use chrono::TimeDelta;
use shared::capture::Mark;
use shared::capture::rtp::Logged;
use shared::db::recordings::finished_captures;
use shared::recording::RecordingState;
use shared::track::{Gap, GapReason, TrackKind, TrackSource};

use frames::frames;
use rtp_sender::{Sender, Shot};
use support::{House, Upload};
use worker::assemble::Codec;

#[tokio::test]
async fn a_captured_recording_becomes_a_file_with_thumbnails() {
    let house = House::new().await;
    let recording = house.record(&[("ann", TrackKind::Video, "chrome-webm-vp8")], "{}").await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let files = house.artifacts(&recording).await;
    assert_eq!(files.len(), 6);
    for file in &files {
        let stored = house.stored(&file.storage_key);
        assert_eq!(stored.len() as u64, file.size);
    }
    assert!(files[1..].iter().all(|picture| picture.width == Some(320)));
    assert_eq!(done.duration_ms, files[0].duration_ms);
    house.assert_nothing_left_behind(&recording);
}

#[tokio::test]
async fn several_participants_have_a_file_each() {
    let house = House::new().await;
    let tracks =
        [("ann", TrackKind::Video, "chrome-webm-vp8"), ("bob", TrackKind::Video, "chrome-mp4-avc1-kf1")];
    let recording = house.record(&tracks, r#"{"format":"mkv","thumbnails":0}"#).await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let files = house.artifacts(&recording).await;
    let owners: Vec<_> = files.iter().map(|file| file.participant.clone().unwrap().to_string()).collect();
    assert_eq!(owners, ["ann", "bob"]);
}

#[tokio::test]
async fn sound_alone_has_its_waveform_for_a_picture() {
    let house = House::new().await;
    let recording = house.record(&[("ann", TrackKind::Audio, "chrome-webm-audio")], "{}").await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let files = house.artifacts(&recording).await;
    assert_eq!((files[0].content_type.as_str(), files.len()), ("audio/webm", 2));
}

#[tokio::test]
async fn what_the_asked_container_does_not_hold_is_encoded() {
    let house = House::new().await;
    let recording =
        house.record(&[("ann", TrackKind::Video, "ff-webm-vp8")], r#"{"format":"mp4","thumbnails":1}"#).await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    assert_eq!(house.artifacts(&recording).await[0].content_type, "video/mp4");
}

/// One blob, whatever it holds.
fn bytes(blob: Vec<u8>) -> Upload<'static> {
    let (kind, blobs) = (TrackKind::Video, vec![blob]);
    Upload { user: "ann", kind, blobs, lost: Vec::new(), clock_ahead_ms: None }
}

#[tokio::test]
async fn text_that_names_other_files_is_no_media_and_reads_none_of_them() {
    let house = House::new().await;
    let text = format!("ffconcat version 1.0\nfile {}\n", support::fixture("chrome-webm-vp8", 0).display());
    let recording = house.record_tracks(vec![bytes(text.into_bytes())], Vec::new(), "{}").await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Failed);
    assert_eq!(done.error.unwrap().code, "unusable-media");
    let track = house.tracks(&recording).await.remove(0);
    // A lone blob tells no length: it was made between the recording's start and its arrival.
    let ms = track.started_at.timestamp_millis() - done.started_at.timestamp_millis();
    let to = u64::try_from(ms).unwrap().max(1);
    let gap = Gap { from: 0, to, reason: GapReason::Corrupt };
    assert_eq!((track.codec, track.gaps), (None, Some(vec![gap])));
}

#[tokio::test]
async fn what_cannot_be_played_is_missing_between_the_recordings_start_and_its_arrival_whatever_the_browser_says()
 {
    let house = House::new().await;
    for clock_ahead_ms in [-3_600_000, 3_600_000] {
        let upload = bytes(b"this is no media".to_vec()).by_a_clock(clock_ahead_ms);
        let recording = house.record_tracks(vec![upload], Vec::new(), "{}").await;
        let done = house.process(&recording).await;
        let track = house.tracks(&recording).await.remove(0);
        let ms = track.started_at.timestamp_millis() - done.started_at.timestamp_millis();
        let gap = Gap { from: 0, to: u64::try_from(ms).unwrap().max(1), reason: GapReason::Corrupt };
        assert_eq!(track.gaps, Some(vec![gap]), "{clock_ahead_ms}");
    }
}

#[tokio::test]
async fn an_attempt_that_no_longer_holds_its_step_writes_nothing_about_tracks() {
    let house = House::new().await;
    let recording = house.record_tracks(vec![bytes(b"no media".to_vec())], Vec::new(), "{}").await;
    // As where another revision has begun: this attempt's step is not the recording's.
    let elsewhere =
        "create function elsewhere() returns trigger language plpgsql as $$ begin return null; end $$;
        create trigger elsewhere before update on recording for each row when (new.state = 'failed')
            execute function elsewhere();";
    sqlx::raw_sql(elsewhere).execute(&house.db).await.unwrap();
    house.process_in_vain().await;
    let track = house.tracks(&recording).await.remove(0);
    assert_eq!((track.duration_ms, track.gaps), (None, None));
}

#[tokio::test]
async fn a_recording_without_a_single_chunk_fails_and_says_so() {
    let house = House::new().await;
    let recording = house.record(&[], "{}").await;
    let done = house.process(&recording).await;
    assert_eq!(done.error.unwrap().code, "no-media");
}

/// How far a gap that is told may be from what is missing, milliseconds.
const GAP_MS: f64 = 50.0;

#[tokio::test]
async fn with_a_blob_lost_every_other_packet_is_there_at_its_time_and_the_gap_is_told() {
    let house = House::new().await;
    let mut recordings = Vec::new();
    for fixture in
        ["chrome-webm-vp8", "chrome-webm-vp9", "chrome-webm-av1", "chrome-webm-h264", "ff-webm-vp8"]
    {
        let whole = house.whole(fixture);
        let wanted = packets::as_remuxed(&whole);
        for lost in [0, 4] {
            recordings.push((fixture, lost, wanted.clone(), house.record_without(fixture, lost).await));
        }
    }
    for (fixture, lost, wanted, recording) in recordings {
        let what = format!("{fixture} without {lost}");
        let done = house.process(&recording).await;
        assert_eq!(done.state, RecordingState::Completed, "{what}: {:?}", done.error);
        let files = house.artifacts(&recording).await;
        assert_eq!(files.len(), 1 + 5, "{what}: five pictures");
        let found = packets::of(&house.stored_path(&files[0].storage_key));
        let (from, to) =
            packets::assert_only_lost(&what, &wanted, found, &house.bytes_of_blob(fixture, lost));
        let gaps = house.tracks(&recording).await[0].gaps.clone().unwrap();
        assert_eq!(gaps.len(), 1, "{what}: {gaps:?}");
        let told = |ms: u64, real: f64| (f64::from(u32::try_from(ms).unwrap()) - real).abs() <= GAP_MS;
        assert!(told(gaps[0].from, from) && told(gaps[0].to, to), "{what}: {from} to {to}, told {gaps:?}");
    }
}

#[tokio::test]
async fn a_track_without_its_first_blobs_stays_in_step_with_the_others() {
    let house = House::new().await;
    let mut leads = Vec::new();
    for lost in [0, 5] {
        let camera = Upload::of("ann", TrackKind::Video, "chrome-webm-vp8").by_a_clock(0);
        let screen = Upload::of("ann", TrackKind::Screen, "chrome-webm-vp9").by_a_clock(0).without(0..lost);
        let options = r#"{"format":"webm","thumbnails":0}"#;
        let recording = house.record_tracks(vec![camera, screen], Vec::new(), options).await;
        let done = house.process(&recording).await;
        assert_eq!(done.state, RecordingState::Completed, "{lost}: {:?}", done.error);
        let file = house.stored_path(&house.artifacts(&recording).await[0].storage_key);
        leads.push(packets::last_ms(&file, "v:1") - packets::last_ms(&file, "v:0"));
    }
    assert!((leads[0] - leads[1]).abs() < 100.0, "{leads:?}");
}

#[tokio::test]
async fn a_chunk_that_rots_in_the_spool_costs_only_its_own_media() {
    let house = House::new().await;
    let recording = house.record(&[("ann", TrackKind::Video, "chrome-webm-vp8")], "{}").await;
    house.flip_a_byte_in_the_spool(&recording);
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let gaps = house.tracks(&recording).await[0].gaps.clone().unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].to - gaps[0].from < 1_200, "{gaps:?}");
}

#[tokio::test]
async fn a_capture_that_holds_what_its_file_does_not_is_kept() {
    let house = House::new().await;
    let whole = house.record(&[("ann", TrackKind::Video, "chrome-webm-vp8")], "{}").await;
    let without_parameter_sets = house.record_without("chrome-mp4-avc1-kf1", 0).await;
    for recording in [&whole, &without_parameter_sets] {
        assert_eq!(house.process(recording).await.state, RecordingState::Completed);
    }
    let later = support::now() + TimeDelta::days(365);
    assert_eq!(finished_captures(&house.db, later, 10).await.unwrap(), [whole]);
}

#[tokio::test]
async fn what_the_edge_captured_becomes_files_that_lie_side_by_side() {
    let house = House::new().await;
    let (pictures, sounds) = (frames(Codec::Vp8), frames(Codec::Opus));
    let mut logs = Vec::new();
    for (user, late_us) in [("ann", 0), ("bob", 3_000_000)] {
        let (mut video, mut audio) = (Sender::new(8, Codec::Vp8), Sender::new(7, Codec::Opus));
        video.send_all(&pictures, late_us);
        audio.send_all(&sounds, late_us);
        video.report(late_us + 2_000_000);
        audio.report(late_us + 2_000_000);
        logs.push((user, TrackKind::Video, rtp_sender::merged(vec![video.log])));
        logs.push((user, TrackKind::Audio, rtp_sender::merged(vec![audio.log])));
    }
    let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":1}"#).await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let files = house.artifacts(&recording).await;
    let media: Vec<_> = files.iter().filter(|file| file.content_type == "video/webm").collect();
    assert_eq!(media.len(), 2);
    let lasts: Vec<u64> = media.iter().map(|file| file.duration_ms.unwrap()).collect();
    assert!(lasts[1].abs_diff(lasts[0] + 3_000) <= 2, "{lasts:?}");
    for track in house.tracks(&recording).await {
        let late = track.participant.as_str() == "bob";
        let front = track
            .gaps
            .unwrap()
            .into_iter()
            .find(|gap| gap.reason == GapReason::Disconnected && gap.from == 0);
        assert_eq!(front.map(|gap| gap.to / 1_000), late.then_some(3), "{}", track.kind.as_str());
    }
    house.assert_nothing_left_behind(&recording);
}

#[tokio::test]
async fn what_the_browser_alone_has_stays_beside_what_the_edge_has_better() {
    let house = House::new().await;
    let log = |ssrc, codec| {
        let mut sender = Sender::new(ssrc, codec);
        sender.send_all(&frames(codec), 0);
        rtp_sender::merged(vec![sender.log])
    };
    let (camera, screen) = ((TrackKind::Video, "chrome-webm-vp9"), (TrackKind::Screen, "chrome-webm-av1"));
    let (shown, heard) = ((TrackKind::Video, log(8, Codec::Vp8)), (TrackKind::Audio, log(7, Codec::Opus)));
    let cases = [
        (
            "a screen",
            vec![camera, screen],
            vec![shown.clone(), heard.clone()],
            "vp8 av1 opus opus",
            TrackKind::Screen,
        ),
        ("a camera", vec![camera], vec![heard], "vp9 opus opus", TrackKind::Video),
        ("a microphone", vec![camera], vec![shown], "vp8 opus", TrackKind::Video),
    ];
    for (what, fixtures, logs, wanted, from_browser) in cases {
        let recording = house.record_both(&fixtures, logs, r#"{"format":"webm","thumbnails":0}"#).await;
        let done = house.process(&recording).await;
        assert_eq!(done.state, RecordingState::Completed, "{what}: {:?}", done.error);
        let file = &house.artifacts(&recording).await[0];
        assert_eq!(packets::codecs(&house.stored_path(&file.storage_key)).join(" "), wanted, "{what}");
        if what == "a camera" {
            let heard = packets::hashes(&house.stored_path(&file.storage_key), "a:0");
            let captured = packets::hashes(&house.whole("chrome-webm-vp8"), "a:0");
            let found = heard.iter().filter(|hash| captured.contains(hash)).count();
            assert!(found * 10 > heard.len() * 9, "the edge's sound comes first: {found} of {}", heard.len());
        }
        let tracks = house.tracks(&recording).await;
        let told = tracks.iter().filter(|track| track.source == TrackSource::Client && track.gaps.is_some());
        let told: Vec<_> = told.map(|track| (track.kind, track.gaps.clone().unwrap()[0].reason)).collect();
        assert_eq!(told, [(from_browser, GapReason::MissingChunk)], "{what}");
    }
}

#[tokio::test]
async fn a_pause_that_one_log_does_not_see_the_end_of_ends_where_the_others_do() {
    let house = House::new().await;
    let sounds = frames(Codec::Opus);
    let (paused_us, resumed_us) = (3_000_000, 5_000_000);
    let mut logs = Vec::new();
    for (user, ssrc) in [("ann", 7), ("bob", 8)] {
        let mut sender = Sender::new(ssrc, Codec::Opus);
        let stays = |shot: &&Shot| shot.us < paused_us || (user == "bob" && shot.us >= resumed_us);
        sender.send_all(&sounds.iter().filter(stays).cloned().collect::<Vec<_>>(), 0);
        sender.mark(paused_us + 30_000, Mark::Paused);
        if user == "bob" {
            sender.mark(resumed_us, Mark::Resumed);
        }
        logs.push((user, TrackKind::Audio, rtp_sender::merged(vec![sender.log])));
    }
    let recording = house.record_logs(logs, r#"{"format":"webm","thumbnails":0}"#).await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let files = house.artifacts(&recording).await;
    let wanted_ms = u64::try_from(sounds.last().unwrap().us - (resumed_us - paused_us)).unwrap() / 1_000;
    let lasts_ms = files[1].duration_ms.unwrap();
    assert!(lasts_ms.abs_diff(wanted_ms) < 200, "{lasts_ms} ms of {wanted_ms}");
}

#[tokio::test]
async fn a_log_of_the_reserve_is_placed_by_the_clock_of_those_that_came_first() {
    let house = House::new().await;
    let (mut shown, mut heard) = (Sender::new(8, Codec::Vp8), Sender::new(7, Codec::Opus));
    shown.send_all(&frames(Codec::Vp8), 0);
    heard.send_all(&frames(Codec::Opus), 0);
    // Sound is under way for longer than pictures, which only the reports of both tell.
    let last_us = frames(Codec::Opus).last().unwrap().us;
    for logged in &mut heard.log {
        if let Logged::Packet { arrival_us, .. } = logged {
            *arrival_us += 200_000;
        }
    }
    for sender in [&mut shown, &mut heard] {
        (1..last_us / 1_000_000).for_each(|second| sender.report(second * 1_000_000));
    }
    let logs = vec![
        ("ann", TrackKind::Video, rtp_sender::merged(vec![shown.log])),
        ("ann", TrackKind::Audio, rtp_sender::merged(vec![heard.log])),
    ];
    let upload = Upload { kind: TrackKind::Audio, ..bytes(b"this is no media".to_vec()) };
    let options = r#"{"sources":["client","server"],"format":"webm","thumbnails":0}"#;
    let recording = house.record_tracks(vec![upload], logs, options).await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let file = house.stored_path(&house.artifacts(&recording).await[0].storage_key);
    let wanted_ms = (last_us + rtp_sender::DELAY_US) as f64 / 1_000.0;
    let last_ms = packets::last_ms(&file, "a:0");
    assert!((last_ms - wanted_ms).abs() < 5.0, "{last_ms} ms instead of {wanted_ms} ms");
}

#[tokio::test]
async fn what_a_lost_edge_had_captured_itself_becomes_the_recording() {
    let house = House::new().await;
    let mut video = Sender::new(8, Codec::Vp8);
    video.send_all(&frames(Codec::Vp8), 0);
    let packets = video.log.iter().filter(|logged| matches!(logged, Logged::Packet { .. })).count();
    let log = rtp_sender::merged(vec![video.log]);
    let recording =
        house.lose_edge_of_logs(vec![("ann", TrackKind::Video, log)], r#"{"thumbnails":0}"#).await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
    let tracks = house.tracks(&recording).await;
    assert_eq!((tracks.len(), tracks[0].source), (1, TrackSource::Server));
    assert_eq!(tracks[0].chunks, packets as u64);
}
