//! A recording that was paused: every track of it is cut alike, whatever its browser's clock says.

use std::sync::Arc;

use shared::clock::ManualClock;
use shared::recording::RecordingState;
use shared::track::{Gap, GapReason, TrackKind};

use crate::packets;
use crate::support::{House, Upload, now};

/// What a browser's clock may be off here, as uploading takes 50 ms that nothing tells apart from it.
const OFF_MS: f64 = 120.0;

#[tokio::test]
async fn a_pause_is_cut_out_of_a_camera_and_a_late_screen_whatever_their_browsers_clock() {
    let clock = Arc::new(ManualClock::at(now()));
    let house = House::by(clock.clone()).await;
    let whole = packets::as_remuxed(&house.whole("chrome-webm-vp8"));
    for ahead_ms in [0, 3_600_000, -3_600_000] {
        let camera = Upload::of("ann", TrackKind::Video, "chrome-webm-vp8");
        let screen = Upload::of("ann", TrackKind::Screen, "chrome-webm-av1");
        let uploads = [(0, camera), (12_000, screen)];
        let recording = house.record_paused(&clock, ahead_ms, &uploads, &[(6_300, 9_300)]).await;
        let done = house.process(&recording).await;
        assert_eq!(done.state, RecordingState::Completed, "{ahead_ms}: {:?}", done.error);
        let file = house.stored_path(&house.artifacts(&recording).await[0].storage_key);
        let found = packets::of(&file);
        let first_ms = packets::times_ms(&file, "v:1")[0];
        assert!((first_ms - 9_000.0).abs() <= OFF_MS, "{ahead_ms}: the screen begins at {first_ms}");
        let (from_ms, to_ms) = (6_300.0, 9_300.0);
        let heard =
            |packets: &[packets::Packet]| packets.iter().filter(|packet| packet.stream == "a:0").count();
        let mut paused = 0;
        for packet in whole.iter().filter(|packet| packet.stream == "a:0") {
            let is_before = packet.ms < from_ms - OFF_MS;
            let placed_ms = if is_before { packet.ms } else { packet.ms - (to_ms - from_ms) };
            let same =
                |other: &&packets::Packet| other.hash == packet.hash && (other.ms - placed_ms).abs() <= 2.0;
            if is_before || packet.ms > to_ms + OFF_MS {
                assert!(found.iter().any(|other| same(&other)), "{ahead_ms}: {packet:?}");
            }
            paused += usize::from((from_ms + OFF_MS..to_ms - OFF_MS).contains(&packet.ms));
        }
        assert!(
            paused > 0 && heard(&found) <= heard(&whole) - paused,
            "{ahead_ms}: what lies in the pause is not there"
        );
        let tracks = house.tracks(&recording).await;
        let camera = tracks.iter().find(|track| track.kind == TrackKind::Video).unwrap();
        let gaps = camera.gaps.clone().unwrap();
        assert!(gaps.iter().all(|gap| gap.reason == GapReason::Paused), "{ahead_ms}: {gaps:?}");
        // From the pause on to the next keyframe, at 10,155 ms.
        let waited = gaps.iter().map(|gap| gap.to - gap.from).max().unwrap();
        assert!((700..=1_000).contains(&waited), "{ahead_ms}: {gaps:?}");
    }
}

#[tokio::test]
async fn a_recording_that_is_stopped_while_no_keyframe_has_come_after_a_pause_is_finished() {
    let clock = Arc::new(ManualClock::at(now()));
    let house = House::by(clock.clone()).await;
    // The camera's last keyframe is at 20,255 ms; the screen has none but its first.
    for (kind, fixture, pause) in [
        (TrackKind::Video, "chrome-webm-vp8", (20_000, 20_500)),
        (TrackKind::Screen, "chrome-webm-screen", (4_000, 5_000)),
    ] {
        let recording =
            house.record_paused(&clock, 0, &[(0, Upload::of("ann", kind, fixture))], &[pause]).await;
        let done = house.process(&recording).await;
        assert_eq!(done.state, RecordingState::Completed, "{fixture}: {:?}", done.error);
        let gaps = house.tracks(&recording).await.remove(0).gaps.unwrap();
        assert!(
            gaps.iter().any(|gap| gap.reason == GapReason::Paused && gap.to > gap.from + 1_000),
            "{gaps:?}"
        );
    }
}

#[tokio::test]
async fn a_recording_of_which_all_lies_in_a_pause_says_so() {
    let clock = Arc::new(ManualClock::at(now()));
    let house = House::by(clock.clone()).await;
    let camera = Upload::of("ann", TrackKind::Video, "chrome-webm-vp8");
    let recording = house.record_paused(&clock, 0, &[(0, camera)], &[(-500, 60_000)]).await;
    let done = house.process(&recording).await;
    assert_eq!((done.state, done.error.unwrap().code.as_str()), (RecordingState::Failed, "all-paused"));
    let seam = Gap { from: 0, to: 0, reason: GapReason::Paused };
    assert_eq!(house.tracks(&recording).await.remove(0).gaps, Some(vec![seam]));
}

#[tokio::test]
async fn a_screen_that_hardly_changes_is_finished() {
    let clock = Arc::new(ManualClock::at(now()));
    let house = House::by(clock.clone()).await;
    let screen = Upload::of("ann", TrackKind::Screen, "chrome-webm-screen");
    let recording = house.record_paused(&clock, 0, &[(0, screen)], &[]).await;
    let done = house.process(&recording).await;
    assert_eq!(done.state, RecordingState::Completed, "{:?}", done.error);
}
