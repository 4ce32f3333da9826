//! Pauses of the recording are cut out of what a browser recorded, and whatever goes with them is told.

use worker::assemble::{AssembleError, Assembled, Chunk, Gap, GapReason, Kind, Meanwhile, Pause, Plan};

use crate::probe;
use crate::sessions::{clusters_with_late_sound, joined};
use crate::support::{chunks, run};

/// By the client's clock, as every chunk tells when its media began.
fn pause(chunks: &[Chunk], (from_ms, to_ms): (i64, i64), meanwhile: Meanwhile) -> Plan {
    let zero_us = run(chunks.to_vec(), &Plan::default()).unwrap().0.origin.unwrap().zero_us;
    let us = |ms: i64| if ms == i64::MAX { ms } else { zero_us + ms * 1_000 };
    let pauses = vec![Pause { from_us: us(from_ms), to_us: us(to_ms), meanwhile }];
    Plan { pauses, zero_us, ..Plan::default() }
}

/// When each packet of sound is, and what it is, in milliseconds.
fn sounds(file: &[u8]) -> Vec<(i64, String)> {
    let packets = probe::packets("matroska", file).into_iter();
    packets
        .filter(|packet| packet.kind == "audio")
        .map(|packet| (packet.ms.round() as i64, packet.hash))
        .collect()
}

#[test]
fn a_pause_is_cut_out_of_a_recorder_that_went_on() {
    for name in ["chrome-webm-vp8", "chrome-mp4-avc3-opus-resize", "ff-webm-vp8"] {
        let all = chunks(name);
        let (whole, before) = run(all.clone(), &Plan::default()).unwrap();
        let (cut, file) = run(all.clone(), &pause(&all, (4_000, 9_000), Meanwhile::WentOn)).unwrap();
        let shorter_us = whole.duration_us - cut.duration_us;
        assert!((shorter_us - 5_000_000).abs() <= 1_000, "{name}: {shorter_us}");
        let seam = |gap: &&Gap| gap.reason == GapReason::Paused && gap.from_us == 4_000_000;
        let frozen_us = cut.gaps.iter().filter(seam).map(|gap| gap.to_us - gap.from_us).max().unwrap();
        let pictures = probe::packets("matroska", &before).into_iter();
        let mut whole_pictures = pictures.filter(|packet| packet.kind == "video" && packet.key);
        let next = whole_pictures.find(|packet| packet.ms >= 9_000.0).unwrap().ms.round() as i64;
        let off_ms = frozen_us / 1_000 - (next - 9_000);
        assert!(off_ms.abs() <= 1, "{name}: until the next picture that is whole, {off_ms}");
        let told: Vec<&Gap> = cut.gaps.iter().filter(|gap| gap.reason != GapReason::Paused).collect();
        assert_eq!(told.len(), whole.gaps.len(), "{name}: {told:?}");
        assert_eq!(probe::decode_complaints(&file), "", "{name}");
        // FFmpeg takes a decoder's delay off the times of sound, which a pause knows nothing of.
        let delays_us = whole.streams.iter().map(|stream| stream.codec_delay_us);
        let delay_ms = (delays_us.max().unwrap() as i64 + 500) / 1_000;
        let kept = sounds(&before).into_iter().filter(|(ms, _)| !(4_000..9_000).contains(&(ms + delay_ms)));
        let moved = kept.map(|(ms, hash)| (if ms + delay_ms < 9_000 { ms } else { ms - 5_000 }, hash));
        let moved: Vec<_> = moved.collect();
        assert_eq!(sounds(&file), moved, "{name}: every packet of the sound");
    }
}

#[test]
fn nothing_is_cut_out_of_a_recorder_that_rested_itself() {
    let mut all = chunks("chrome-webm-vp8");
    let (whole, before) = run(all.clone(), &Plan::default()).unwrap();
    let plan = pause(&all, (4_500, 64_500), Meanwhile::Rested { us: 60_000_000 });
    for chunk in &mut all[5..] {
        chunk.timestamp_ms = chunk.timestamp_ms.map(|ms| ms + 60_000);
        chunk.arrival_ms += 60_000;
    }
    let (cut, file) = run(all.clone(), &plan).unwrap();
    assert_eq!((cut.duration_us, sounds(&file)), (whole.duration_us, sounds(&before)));
    let seam = Gap { from_us: 4_500_000, to_us: 4_500_000, reason: GapReason::Paused };
    assert_eq!(cut.gaps, [seam]);
    let second = joined(&all, &chunks("chrome-webm-vp8"), 60_000 + whole.duration_us / 1_000);
    let (both, _) = run(second, &plan).unwrap();
    assert!((both.duration_us - 2 * whole.duration_us).abs() < 100_000, "{}", both.duration_us);
}

#[test]
fn a_recorder_that_was_stopped_for_a_pause_goes_on_where_it_began() {
    let first = chunks("chrome-webm-vp8");
    let whole_us = run(first.clone(), &Plan::default()).unwrap().0.duration_us;
    let later_ms = whole_us / 1_000 + 60_000;
    let plan = pause(&first, (whole_us / 1_000, later_ms), Meanwhile::WentOn);
    let (cut, _) = run(joined(&first, &first, later_ms), &plan).unwrap();
    assert!((cut.duration_us - 2 * whole_us).abs() < 50_000, "{} {whole_us}", cut.duration_us);
    let missing = cut.gaps.iter().filter(|gap| gap.reason != GapReason::Paused);
    assert!(missing.clone().all(|gap| gap.to_us - gap.from_us < 10_000), "{:?}", cut.gaps);
}

#[test]
fn a_pause_without_end_ends_the_file_and_one_over_all_leaves_none() {
    let all = chunks("chrome-webm-vp8");
    let (cut, _) = run(all.clone(), &pause(&all, (4_000, i64::MAX), Meanwhile::WentOn)).unwrap();
    assert!((3_900_000..4_001_000).contains(&cut.duration_us), "{}", cut.duration_us);
    let over_all = pause(&all, (-1, i64::MAX), Meanwhile::WentOn);
    assert!(matches!(run(all.clone(), &over_all), Err(AssembleError::AllPaused)));
}

/// The pictures of a fixture alone, as chunks of a cluster each, one a second by the client's clock.
fn pictures_alone(name: &str) -> Vec<Chunk> {
    let mut all = clusters_with_late_sound(name, i64::MAX);
    for chunk in &mut all {
        let ms = 1_700_000_000_000 + i64::try_from(chunk.sequence).unwrap() * 1_000;
        (chunk.timestamp_ms, chunk.arrival_ms) = (Some(ms), ms + 500);
    }
    all
}

/// The time of the last picture of a file, in milliseconds.
fn last_picture_ms(file: &[u8]) -> i64 {
    let pictures = probe::packets("matroska", file).into_iter().filter(|packet| packet.kind == "video");
    pictures.map(|packet| packet.ms.round() as i64).max().unwrap()
}

fn lasting(done: &Assembled) -> Vec<(i64, i64)> {
    let paused = done.gaps.iter().filter(|gap| gap.reason == GapReason::Paused && gap.to_us > gap.from_us);
    paused.map(|gap| (gap.from_us / 1_000, gap.to_us / 1_000)).collect()
}

// The fixture's last keyframe is at 20,255 ms; its last picture ends at about 22,170 ms.

#[test]
fn pictures_that_no_keyframe_follows_after_a_pause_are_told() {
    let all = chunks("chrome-webm-vp8");
    let (cut, file) = run(all.clone(), &pause(&all, (20_000, 20_500), Meanwhile::WentOn)).unwrap();
    let told = lasting(&cut);
    assert_eq!(told.len(), 1, "{:?}", cut.gaps);
    assert_eq!(told[0].0, 20_000);
    assert!((told[0].1 - 21_670).abs() < 100, "{told:?}");
    let pictures = cut.streams.iter().find(|stream| stream.kind == Kind::Video).unwrap();
    assert!((19_900_000..=20_000_000).contains(&pictures.end_us), "{pictures:?}");
    assert!((19_900..20_000).contains(&last_picture_ms(&file)));
    assert!((cut.duration_us - 21_670_000).abs() < 100_000, "the sound goes on: {}", cut.duration_us);
}

#[test]
fn a_file_is_as_long_as_what_is_kept_in_it() {
    let all = pictures_alone("chrome-webm-vp8");
    let (whole, file) = run(all.clone(), &Plan::default()).unwrap();
    let last_us = whole.duration_us - last_picture_ms(&file) * 1_000;
    for (span, gaps) in [((20_000, 20_500), vec![20_000]), ((20_000, i64::MAX), vec![])] {
        let (cut, file) = run(all.clone(), &pause(&all, span, Meanwhile::WentOn)).unwrap();
        let ends_us = last_picture_ms(&file) * 1_000 + last_us;
        assert!((cut.duration_us - ends_us).abs() < 40_000, "{span:?}: {} {ends_us}", cut.duration_us);
        let told: Vec<i64> = lasting(&cut).iter().map(|(from, _)| *from).collect();
        assert_eq!(told, gaps, "{span:?}");
    }
}

#[test]
fn two_pauses_without_a_keyframe_between_are_one_wait() {
    let all = chunks("chrome-webm-vp8");
    let mut plan = pause(&all, (15_100, 15_500), Meanwhile::WentOn);
    plan.pauses.extend(pause(&all, (17_500, 18_500), Meanwhile::WentOn).pauses);
    let (cut, _) = run(all, &plan).unwrap();
    // From 15,500 on to the keyframe at 20,255, less the second pause.
    let told = lasting(&cut);
    assert_eq!((told.len(), told[0].0), (1, 15_100), "{:?}", cut.gaps);
    assert!((told[0].1 - (20_255 - 1_400)).abs() <= 1, "{told:?}");
}

#[test]
fn what_begins_in_a_pause_and_goes_on_after_it_without_a_keyframe_is_not_all_paused() {
    let all = pictures_alone("chrome-webm-vp8");
    let plan = pause(&all, (-1, 21_000), Meanwhile::WentOn);
    assert!(matches!(run(all, &plan), Err(AssembleError::NoMedia { .. })));
}
#[test]
fn a_pause_in_the_first_chunk_of_a_session_without_its_head_is_cut_out() {
    for name in ["chrome-webm-vp8", "ff-webm-vp8", "chrome-mp4-avc3-opus-resize"] {
        let all = chunks(name)[1..].to_vec();
        let (whole, before) = run(all.clone(), &Plan::default()).unwrap();
        let first_ms = whole.streams.iter().map(|stream| stream.first_us).min().unwrap() / 1_000;
        let span = (first_ms + 200, first_ms + 500);
        let (cut, file) = run(all.clone(), &pause(&all, span, Meanwhile::WentOn)).unwrap();
        let shorter_us = whole.duration_us - cut.duration_us;
        assert!((shorter_us - 300_000).abs() <= 1_000, "{name}: {shorter_us}");
        let delays_us = whole.streams.iter().map(|stream| stream.codec_delay_us);
        let delay_ms = (delays_us.max().unwrap() as i64 + 500) / 1_000;
        let paused =
            sounds(&before).iter().filter(|(ms, _)| (span.0..span.1).contains(&(ms + delay_ms))).count();
        assert!(paused > 0, "{name}");
        assert_eq!(sounds(&before).len() - sounds(&file).len(), paused, "{name}");
    }
}

/// As a recorder told that began to rest 4,200 ms in and for so long.
fn rested(name: &str, ms: i64) -> Vec<Chunk> {
    let mut all = chunks(name);
    for chunk in &mut all[5..] {
        chunk.timestamp_ms = chunk.timestamp_ms.map(|told| told + ms);
        chunk.arrival_ms += ms;
    }
    all
}

#[test]
fn a_recorder_that_went_on_late_stands_where_it_did_and_the_rest_is_told() {
    let all = rested("chrome-webm-vp8", 64_800);
    let (whole, before) = run(chunks("chrome-webm-vp8"), &Plan::default()).unwrap();
    let plan = pause(&all, (4_000, 64_000), Meanwhile::Rested { us: 64_800_000 });
    let (cut, file) = run(all, &plan).unwrap();
    assert_eq!(cut.duration_us, whole.duration_us + 4_800_000);
    assert_eq!(lasting(&cut), [(4_000, 8_800)]);
    let delay_ms =
        (whole.streams.iter().map(|stream| stream.codec_delay_us).max().unwrap() as i64 + 500) / 1_000;
    let moved = |(ms, hash)| (if ms + delay_ms < 4_000 { ms } else { ms + 4_800 }, hash);
    assert_eq!(sounds(&file), sounds(&before).into_iter().map(moved).collect::<Vec<_>>());
}

#[test]
fn what_a_recorder_still_recorded_of_a_pause_is_left_out() {
    let all = rested("chrome-webm-vp8", 58_000);
    let whole = run(chunks("chrome-webm-vp8"), &Plan::default()).unwrap().0;
    let plan = pause(&all, (4_000, 64_000), Meanwhile::Rested { us: 58_000_000 });
    let (cut, file) = run(all, &plan).unwrap();
    assert!((cut.duration_us - (whole.duration_us - 2_000_000)).abs() < 1_000, "{}", cut.duration_us);
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn a_blob_that_is_lost_near_a_rest_moves_nothing_else() {
    for name in ["chrome-webm-vp8", "ff-webm-vp8"] {
        let all = rested(name, 60_000);
        let plan = pause(&all, (4_500, 64_500), Meanwhile::Rested { us: 60_000_000 });
        let (whole, before) = run(all.clone(), &plan).unwrap();
        let before = sounds(&before);
        for lost in 3..8 {
            let mut rest = all.clone();
            rest.remove(lost);
            let (cut, file) = run(rest, &plan).unwrap();
            assert!(
                (cut.duration_us - whole.duration_us).abs() <= 1_000,
                "{name} {lost}: {}",
                cut.duration_us
            );
            let found = sounds(&file);
            let there = found.iter().filter(|packet| before.contains(packet)).count();
            assert_eq!(there, found.len(), "{name} without {lost}: each packet is where it was");
        }
    }
}
