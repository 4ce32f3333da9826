//! Server tracks: what the network, senders and disks do to RTP, and where every frame must stand all the same.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shared::capture::rtp::{Logged, Records};
use shared::capture::{Mark, SegmentHeader, TrackSpec};
use shared::id::{RecordingId, TrackId, UserId};
use shared::track::{TrackKind, TrackSource};
use worker::assemble::rtp::{AfterLoss, RtpAssembled, RtpPlan};
use worker::assemble::{AssembleError, Codec, GapReason, Plan};

use crate::probe;
use crate::rtp_sender::{
    DELAY_US, START_US, Sender, Shot, arrival, av1, blocks, merged, plan, run_log, run_logs, segment,
};
use crate::support::{Seeded, chunks, run};

/// Rounding: to a tick of 90 kHz, and to the file's 0.1 ms.
const EXACT_US: i64 = 120;

const SECOND: i64 = 1_000_000;

/// The frames of one codec of a fixture, from time zero.
fn fixture(name: &str, codec: Codec) -> Vec<Shot> {
    let (assembled, file) = run(chunks(name), &Plan::default()).unwrap();
    let track = assembled.streams.iter().position(|stream| stream.codec == codec).unwrap() as u64 + 1;
    let mut shots = blocks(&file);
    shots.retain(|shot| shot.track == track);
    shots
}

fn vp8() -> Vec<Shot> {
    fixture("chrome-webm-vp8", Codec::Vp8)
}

fn opus() -> Vec<Shot> {
    fixture("chrome-webm-vp8", Codec::Opus)
}

/// A sender's log of these frames with a report every second.
fn sent(ssrc: u32, codec: Codec, shots: &[Shot]) -> Sender {
    let mut sender = Sender::new(ssrc, codec);
    sender.send_all(shots, 0);
    for second in 1..shots.last().unwrap().us / SECOND {
        sender.report(second * SECOND);
    }
    sender.log.sort_by_key(arrival);
    sender
}

fn is_silence(shot: &Shot) -> bool {
    shot.data.len() == 3 && shot.data[1..] == [0xFF, 0xFE]
}

/// Every frame of `want` that is in the file must stand where it was sent; gives the frames that are not in it.
fn check(what: &str, want: &[Shot], file: &[u8], shift_us: i64, tolerance_us: i64) -> Vec<Shot> {
    let mut found: HashMap<Vec<u8>, Vec<i64>> = HashMap::new();
    for shot in blocks(file).into_iter().filter(|shot| !is_silence(shot)) {
        found.entry(shot.data).or_default().push(shot.us);
    }
    let mut missing = Vec::new();
    for shot in want.iter().filter(|shot| !is_silence(shot)) {
        let wanted_us = shot.us + shift_us;
        let times = found.get_mut(&shot.data);
        match times.and_then(|times| {
            Some(times.swap_remove(times.iter().position(|us| (us - wanted_us).abs() <= tolerance_us)?))
        }) {
            Some(_) => {}
            None => missing.push(shot.clone()),
        }
    }
    let foreign: Vec<i64> = found.into_values().flatten().collect();
    assert!(
        foreign.is_empty(),
        "{what}: {} frames stand where none was sent: {:?}, missing {:?}",
        foreign.len(),
        &foreign[..foreign.len().min(5)],
        missing.iter().map(|shot| shot.us).take(5).collect::<Vec<_>>()
    );
    missing
}

fn whole(what: &str, want: &[Shot], log: &[Logged]) -> (RtpAssembled, Vec<u8>) {
    let (done, file) = run_log(log, &plan()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let missing = check(what, want, &file, DELAY_US, EXACT_US);
    assert!(missing.is_empty(), "{what}: {} of {} are missing", missing.len(), want.len());
    (done, file)
}

#[test]
fn every_codec_comes_back_exactly_and_decodes() {
    let clips = [
        (Codec::Vp8, vp8()),
        (Codec::Opus, opus()),
        (Codec::Vp9, fixture("chrome-webm-vp9", Codec::Vp9)),
        (Codec::H264, fixture("chrome-webm-h264", Codec::H264)),
        (Codec::Av1, av1()),
    ];
    for (codec, mut shots) in clips {
        if codec == Codec::Av1 {
            shots.iter_mut().for_each(|shot| without_delimiter(&mut shot.data));
        }
        let (done, file) = whole(&codec.to_string(), &shots, &sent(7, codec, &shots).log);
        assert_eq!(done.file.gaps, [], "{codec}");
        assert_eq!((done.file.streams.len(), done.file.streams[0].codec), (1, codec));
        let keys = |shots: &[Shot]| shots.iter().filter(|shot| shot.key && !is_silence(shot)).count();
        assert_eq!(keys(&blocks(&file)), keys(&shots), "{codec}: keyframes");
        assert_eq!(probe::decode_complaints(&file), "", "{codec}");
        let container = if codec == Codec::H264 { "mp4" } else { "webm" };
        assert_eq!(
            probe::packets(
                if container == "mp4" { "mov" } else { "matroska" },
                &probe::copied(&file, container)
            )
            .len(),
            blocks(&file).len()
        );
    }
}

/// Takes the temporal delimiter off that FFmpeg's own files may have.
fn without_delimiter(unit: &mut Vec<u8>) {
    if unit.starts_with(&[0x12, 0x00]) {
        unit.drain(..2);
    }
}

#[test]
fn order_duplicates_and_late_retransmissions_change_nothing() {
    let shots = vp8();
    let clean = sent(7, Codec::Vp8, &shots).log;
    let (want, file) = whole("clean", &shots, &clean);
    let mut random = Seeded(3);
    let mut mixed = clean.clone();
    for at in (0..clean.len()).filter(|at| at % 3 == 0) {
        let Logged::Packet { arrival_us, .. } = &mut mixed[at] else { continue };
        *arrival_us += 40_000 + random.below(30_000) as i64;
    }
    for (n, at) in (50..clean.len() - 500).step_by(97).enumerate() {
        let Logged::Packet { sequence, bytes, arrival_us } = clean[at].clone() else { continue };
        let late = Logged::Packet { sequence, bytes, arrival_us: arrival_us + 3 * SECOND };
        if n % 2 == 0 { mixed.push(late) } else { mixed[at] = late }
    }
    let (again, same) = run_log(&merged(vec![mixed]), &plan()).unwrap();
    assert_eq!((again.lost, again.file.gaps.len()), (0, 0));
    assert!(same == file, "another order made another file");
    assert_eq!(again.file.streams, want.file.streams);
}

#[test]
fn both_wraps_are_passed() {
    for (codec, shots) in [(Codec::Vp8, vp8()), (Codec::Opus, opus())] {
        let mut sender = Sender::new(7, codec);
        (sender.sequence, sender.timestamp) = (65_500, u32::MAX - 100_000);
        sender.send_all(&shots, 0);
        sender.report(2 * SECOND);
        let (done, _) = whole("wraps", &shots, &merged(vec![sender.log]));
        assert_eq!(done.file.gaps, []);
    }
}

#[test]
fn jitter_without_any_report_is_taken_out_by_the_quickest_packets() {
    let shots = opus();
    let mut sender = Sender::new(7, Codec::Opus);
    sender.send_all(&shots, 0);
    let mut random = Seeded(5);
    for (n, logged) in sender.log.iter_mut().enumerate() {
        let Logged::Packet { arrival_us, .. } = logged else { continue };
        *arrival_us += if n % 50 == 9 { 0 } else { random.below(80_000) as i64 };
    }
    whole("no report", &shots, &merged(vec![sender.log]));
}

#[test]
fn a_report_that_comes_late_holds_for_what_came_before() {
    // Sound and picture of one sender: pictures are 300 ms under way, and only the reports know that.
    let (video, audio) = (vp8(), opus());
    let mut pictures = Sender::new(8, Codec::Vp8);
    pictures.send_all(&video, 0);
    for logged in &mut pictures.log {
        if let Logged::Packet { arrival_us, .. } = logged {
            *arrival_us += 200_000;
        }
    }
    pictures.report(video.last().unwrap().us);
    let sounds = sent(7, Codec::Opus, &audio);
    let logs = [merged(vec![pictures.log]), sounds.log];
    let mut done = run_logs(&logs, &plan()).into_iter().map(Result::unwrap);
    let (_, file) = done.next().unwrap();
    assert!(check("pictures", &video, &file, DELAY_US, EXACT_US).is_empty());
    let (_, file) = done.next().unwrap();
    assert!(check("sounds", &audio, &file, DELAY_US, EXACT_US).is_empty());
}

#[test]
fn another_ssrc_goes_on_where_the_first_ended() {
    for with_reports in [true, false] {
        let shots = vp8();
        let key = shots.iter().rposition(|shot| shot.key && shot.us < 6 * SECOND).unwrap();
        assert!(key > 0, "the clip has a keyframe in its middle");
        let mut first = Sender::new(7, Codec::Vp8);
        first.send_all(&shots[..key], 0);
        let mut second = Sender::new(9, Codec::Vp8);
        (second.sequence, second.timestamp) = (40_000, 0xF000_0000);
        second.send_all(&shots[key..], 0);
        if with_reports {
            first.report(SECOND);
        }
        let (done, _) = whole("ssrc change", &shots, &merged(vec![first.log, second.log]));
        assert_eq!((done.file.gaps.len(), done.file.sessions), (0, 2), "{:?}", done.file.gaps);
    }
}

#[test]
fn stragglers_of_a_layer_do_not_stop_the_next_one() {
    let shots = vp8();
    let key = shots.iter().rposition(|shot| shot.key && shot.us < 6 * SECOND).unwrap();
    let mut low = Sender::new(7, Codec::Vp8);
    low.send_all(&shots[..key], 0);
    low.send_all(&shots[key + 1..key + 5], 10_000);
    let mut high = Sender::new(9, Codec::Vp8);
    high.send_all(&shots[key..], 0);
    whole("stragglers", &shots, &merged(vec![low.log, high.log]));
}

#[test]
fn who_reconnects_leaves_a_gap_and_no_time_is_lost() {
    let shots = opus();
    let away = 7 * SECOND;
    let end = shots.last().map(|last| last.us + lasts(&last.data)).unwrap();
    let mut first = sent(7, Codec::Opus, &shots);
    first.mark(end + 10_000, Mark::Left);
    let mut second = Sender::new(9, Codec::Opus);
    second.mark(end + away - 5_000, Mark::Joined);
    second.send_all(&shots, end + away);
    let (done, file) = run_log(&merged(vec![first.log, second.log]), &plan()).unwrap();
    let twice: Vec<Shot> = [0, end + away]
        .into_iter()
        .flat_map(|by| shots.iter().map(move |shot| Shot { us: shot.us + by, ..shot.clone() }))
        .collect();
    assert!(check("reconnect", &twice, &file, DELAY_US, EXACT_US).is_empty());
    let reasons: Vec<_> = done.file.gaps.iter().map(|gap| gap.reason).collect();
    assert_eq!(reasons, [GapReason::Disconnected]);
    let gap = done.file.gaps[0];
    assert!(
        (gap.from_us - end - DELAY_US).abs() < 1_000 && (gap.to_us - end - away - DELAY_US).abs() < 1_000,
        "{gap:?}"
    );
    assert_filled(&file);
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn sound_and_pictures_of_one_log_do_not_stand_in_each_others_way() {
    let (sounds, pictures) = (opus(), vp8());
    let log = merged(vec![sent(7, Codec::Opus, &sounds).log, sent(9, Codec::Vp8, &pictures).log]);
    let both = [sounds, pictures].concat();
    let (done, file) = whole("a screen", &both, &log);
    assert_eq!((done.file.gaps.as_slice(), done.file.streams.len()), (&[][..], 2));
    assert_eq!(probe::decode_complaints(&file), "");
}

/// How much earlier than what stands before them blocks of a file are, at most.
fn set_back_us(file: &[u8]) -> i64 {
    let mut newest_us = 0;
    let set_back = |shot: Shot| {
        newest_us = newest_us.max(shot.us);
        newest_us - shot.us
    };
    blocks(file).into_iter().map(set_back).max().unwrap_or(0)
}

#[test]
fn sound_that_begins_late_or_ends_early_stands_beside_its_pictures_in_the_file() {
    let (pictures, begins) = (vp8(), 15 * SECOND);
    let sounds: Vec<Shot> = opus().into_iter().filter(|shot| shot.us < 2 * SECOND).collect();
    let mut heard = Sender::new(7, Codec::Opus);
    heard.send_all(&sounds, begins);
    let log = merged(vec![heard.log, sent(9, Codec::Vp8, &pictures).log]);
    let stop_us = START_US + pictures.last().unwrap().us;
    let (done, file) = run_log(&log, &RtpPlan { stop_us: Some(stop_us), ..plan() }).unwrap();
    let moved = sounds.iter().map(|shot| Shot { us: shot.us + begins, ..shot.clone() });
    let both = [pictures, moved.collect()].concat();
    assert_eq!(check("late sound", &both, &file, DELAY_US, EXACT_US), []);
    assert!(set_back_us(&file) < 6 * SECOND, "{} us", set_back_us(&file));
    let heard: Vec<Shot> = blocks(&file).into_iter().filter(|shot| shot.track == 2).collect();
    assert_eq!((heard[0].us, is_silence(&heard[0])), (0, true));
    assert!(heard.last().unwrap().us > stop_us - START_US - 6 * SECOND, "it is silent to the end");
    let told: Vec<_> = done.file.gaps.iter().map(|gap| gap.reason).collect();
    assert_eq!(told, [GapReason::Disconnected, GapReason::Muted], "{:?}", done.file.gaps);
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn a_side_that_ends_early_is_told() {
    let (sounds, pictures) = (opus(), vp8());
    let end_us = sounds.last().unwrap().us.min(pictures.last().unwrap().us);
    let early =
        |shots: &[Shot]| -> Vec<Shot> { shots.iter().filter(|shot| shot.us < 9 * SECOND).cloned().collect() };
    let gaps = |sounds: &[Shot], pictures: &[Shot], marks: &[(i64, Mark)], pauses: &[(i64, i64)]| {
        let mut heard = sent(7, Codec::Opus, sounds);
        marks.iter().for_each(|(at_us, mark)| heard.mark(*at_us, mark.clone()));
        let log = merged(vec![heard.log, sent(9, Codec::Vp8, pictures).log]);
        let pauses = pauses.iter().map(|(from, to)| (START_US + from, START_US + to)).collect();
        let plan = RtpPlan { stop_us: Some(START_US + end_us), pauses, ..plan() };
        let gaps = run_log(&log, &plan).unwrap().0.file.gaps;
        gaps.iter().map(|gap| (gap.from_us / SECOND, gap.to_us / SECOND, gap.reason)).collect::<Vec<_>>()
    };
    let end = end_us / SECOND;
    assert_eq!(gaps(&sounds, &pictures, &[], &[]), []);
    assert_eq!(gaps(&sounds, &early(&pictures), &[], &[]), [(9, end, GapReason::Disconnected)]);
    assert_eq!(gaps(&early(&sounds), &pictures, &[], &[]), [(9, end, GapReason::Muted)]);
    assert_eq!(gaps(&early(&sounds), &early(&pictures), &[], &[]), [(9, end, GapReason::Disconnected)]);
    let muted = [(9 * SECOND, Mark::Muted)];
    assert_eq!(gaps(&early(&sounds), &pictures, &muted, &[]), [(9, end, GapReason::Muted)]);
    let to_the_end = [(9 * SECOND, 99 * SECOND)];
    let told = gaps(&sounds, &pictures, &[], &to_the_end);
    assert!(told.iter().all(|(_, _, reason)| *reason == GapReason::Paused), "{told:?}");
}

#[test]
fn a_track_that_goes_and_comes_back_as_the_same_stream_leaves_a_gap_and_one_that_stands_still_does_not() {
    let shots = vp8();
    let middle = shots.iter().rposition(|shot| shot.key && shot.us < 6 * SECOND).unwrap();
    let (before, after) = shots.split_at(middle);
    let (end, away) = (before.last().unwrap().us, 5 * SECOND);
    let paused = |marks: &[(i64, Mark)]| {
        let mut sender = Sender::new(7, Codec::Vp8);
        sender.send_all(before, 0);
        marks.iter().for_each(|(at_us, mark)| sender.mark(*at_us, mark.clone()));
        sender.send_all(after, away);
        run_log(&sender.log, &plan()).unwrap().0.file.gaps
    };
    assert_eq!(paused(&[]), []);
    let gone = (end + 50_000, Mark::Left);
    let back = (after[0].us + away - 1_000, Mark::Joined);
    let gaps = paused(&[gone, back]);
    assert_eq!(gaps.iter().map(|gap| gap.reason).collect::<Vec<_>>(), [GapReason::Disconnected]);
    assert!((gaps[0].from_us - end - DELAY_US).abs() < SECOND / 10, "{gaps:?}");
    assert!((gaps[0].to_us - after[0].us - away - DELAY_US).abs() < 1_000, "{gaps:?}");
}

/// Sound is everywhere, from zero to the end, but for less than 2.5 ms in a row.
fn assert_filled(file: &[u8]) {
    let mut end = 0;
    for shot in blocks(file) {
        assert!((-200..2_600).contains(&(shot.us - end)), "a hole of {} us at {end}", shot.us - end);
        end = shot.us + lasts(&shot.data);
    }
}

/// Opus in these tests: 60 ms by Chromium's recorder, and silence of 2.5 to 20 ms.
fn lasts(packet: &[u8]) -> i64 {
    let frame = match packet[0] >> 3 {
        config if config >= 16 => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
        config if config >= 12 => [10_000, 20_000][usize::from(config & 1)],
        config => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
    };
    frame
        * match packet[0] & 3 {
            0 => 1,
            3 => i64::from(packet[1] & 0x3F),
            _ => 2,
        }
}

#[test]
fn a_lost_packet_costs_its_frame_and_what_refers_to_it() {
    for (codec, shots) in [
        (Codec::Vp8, vp8()),
        (Codec::H264, fixture("chrome-webm-h264", Codec::H264)),
        (Codec::Vp9, fixture("chrome-webm-vp9", Codec::Vp9)),
    ] {
        let log = sent(7, codec, &shots).log;
        for lost in [40, 41, log.len() / 2, log.len() / 2 + 3] {
            let mut rest = log.clone();
            let Logged::Packet { .. } = rest.remove(lost) else { continue };
            for after_loss in [AfterLoss::default(), AfterLoss::Keep] {
                let plan = RtpPlan { after_loss, ..plan() };
                let (done, file) = run_log(&rest, &plan).unwrap();
                let what = format!("{codec} without {lost}, {after_loss:?}");
                let missing = check(&what, &shots, &file, DELAY_US, EXACT_US);
                assert_eq!(done.lost, 1, "{what}");
                assert!(!missing.is_empty(), "{what}");
                if after_loss == AfterLoss::Keep {
                    assert_eq!(missing.len(), 1, "{what}");
                } else {
                    let next = shots.iter().find(|shot| shot.us > missing.last().unwrap().us);
                    let spans = missing.last().unwrap().us - missing[0].us;
                    if next.is_none_or(|next| next.key) {
                        assert_eq!(probe::decode_complaints(&file), "", "{what}");
                    } else {
                        assert!((9_900_000..10_100_000).contains(&spans), "{what}: {spans} us frozen");
                    }
                }
                assert_eq!(done.file.gaps.len(), 1, "{what}: {:?}", done.file.gaps);
                let gap = done.file.gaps[0];
                assert_eq!(gap.reason, GapReason::PacketLoss, "{what}");
                assert!((gap.from_us - missing[0].us - DELAY_US).abs() < 40_000, "{what}: {gap:?}");
            }
        }
    }
}

#[test]
fn a_picture_that_is_not_whole_right_at_the_beginning_is_no_loss() {
    let all = vp8();
    let large = all.iter().max_by_key(|shot| shot.data.len()).unwrap();
    assert!(large.data.len() > 1_200, "it takes more than one packet");
    let later = all.iter().map(|shot| Shot { us: shot.us + 33_000, ..shot.clone() });
    let shots: Vec<Shot> = std::iter::once(Shot { us: 0, ..large.clone() }).chain(later).collect();
    let mut log = sent(7, Codec::Vp8, &shots).log;
    let first = log.iter().position(|logged| matches!(logged, Logged::Packet { .. })).unwrap();
    log.remove(first + 1);
    let (done, _) = run_log(&log, &plan()).unwrap();
    assert_eq!(done.file.gaps, []);
}

#[test]
fn lost_sound_is_silence_of_the_same_length() {
    let shots = opus();
    let mut log = sent(7, Codec::Opus, &shots).log;
    log.drain(60..63);
    let (done, file) = run_log(&log, &plan()).unwrap();
    let missing = check("lost sound", &shots, &file, DELAY_US, EXACT_US);
    let lost_us: i64 = missing.iter().map(|shot| lasts(&shot.data)).sum();
    let gap = done.file.gaps[0];
    assert_eq!((done.file.gaps.len(), gap.reason), (1, GapReason::PacketLoss));
    assert!((gap.to_us - gap.from_us - lost_us).abs() < 1_000, "{gap:?}");
    assert_filled(&file);
}

#[test]
fn a_mute_is_silence_and_told() {
    let shots = opus();
    let (from, to) = (3 * SECOND, 6 * SECOND);
    let mut sender = Sender::new(7, Codec::Opus);
    let heard: Vec<Shot> = shots.iter().filter(|shot| shot.us < from || shot.us >= to).cloned().collect();
    sender.send_all(&heard, 0);
    sender.mark(from, Mark::Muted);
    sender.mark(to, Mark::Unmuted);
    let (done, file) = whole("mute", &heard, &merged(vec![sender.log]));
    assert_filled(&file);
    let reasons: Vec<_> = done.file.gaps.iter().map(|gap| gap.reason).collect();
    assert_eq!(reasons, [GapReason::Muted], "{:?}", done.file.gaps);
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn discontinuous_transmission_is_silence_and_no_gap() {
    let shots = opus();
    let heard: Vec<Shot> = shots
        .iter()
        .filter(|shot| shot.us % (2 * SECOND) < SECOND || shot.us % 400_000 < 60_000)
        .cloned()
        .collect();
    let (done, file) = whole("dtx", &heard, &sent(7, Codec::Opus, &heard).log);
    assert_eq!(done.file.gaps, []);
    assert_filled(&file);
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn sound_that_is_quiet_when_the_recording_begins_misses_nothing() {
    for (quiet, gaps) in [(400_000, 0), (SECOND, 1)] {
        let mut sender = Sender::new(7, Codec::Opus);
        sender.send_all(&opus(), quiet);
        let (done, file) = run_log(&sender.log, &plan()).unwrap();
        assert_eq!(done.file.gaps.len(), gaps, "{:?}", done.file.gaps);
        assert_filled(&file);
    }
}

#[test]
fn who_joins_late_is_silent_until_then_and_in_step_with_the_others() {
    let (video, audio, late) = (vp8(), opus(), 5 * SECOND);
    let mut pictures = Sender::new(8, Codec::Vp8);
    pictures.send_all(&video, late);
    let mut sounds = Sender::new(7, Codec::Opus);
    sounds.send_all(&audio, late);
    let mut done = run_logs(&[pictures.log, sounds.log], &plan()).into_iter().map(Result::unwrap);
    for (shots, what) in [(video, "pictures"), (audio, "sounds")] {
        let (done, file) = done.next().unwrap();
        assert!(check(what, &shots, &file, late + DELAY_US, EXACT_US).is_empty(), "{what}");
        assert_eq!((done.file.gaps.len(), done.file.gaps[0].reason), (1, GapReason::Disconnected), "{what}");
        assert_eq!(done.file.gaps[0].from_us, 0, "{what}");
        if what == "sounds" {
            assert_filled(&file);
        }
    }
}

#[test]
fn sizes_and_turns_of_the_picture_are_noted() {
    for (name, codec) in
        [("chrome-webm-vp8-resize", Codec::Vp8), ("chrome-mp4-avc3-opus-resize", Codec::H264)]
    {
        check_sizes(name, codec);
    }
}

fn check_sizes(name: &str, codec: Codec) {
    let shots = fixture(name, codec);
    let mut sender = Sender::new(7, codec);
    for (n, shot) in shots.iter().enumerate() {
        sender.rotation = (n > 30).then_some(if n > 60 { 3 } else { 1 });
        sender.send(shot.us, &shot.data);
    }
    let (done, file) = whole(name, &shots, &merged(vec![sender.log]));
    assert!(done.file.streams[0].sizes.len() > 1, "{:?}", done.file.streams[0].sizes);
    let degrees: Vec<_> = done.rotations.iter().map(|turn| turn.degrees).collect();
    assert_eq!(degrees, [90, 270]);
    assert_eq!(probe::decode_complaints(&file), "");
}

/// NAL units with their four-byte lengths.
fn nals(mut packed: &[u8]) -> Vec<&[u8]> {
    let mut nals = Vec::new();
    while let Some((length, rest)) = packed.split_first_chunk::<4>() {
        let (nal, after) = rest.split_at(u32::from_be_bytes(*length) as usize);
        nals.push(nal);
        packed = after;
    }
    nals
}

#[test]
fn parameter_sets_that_the_description_alone_has_come_before_each_idr_picture() {
    let whole = fixture("chrome-webm-h264", Codec::H264);
    let is_set = |nal: &&[u8]| matches!(nal[0] & 0x1F, 7 | 8);
    let sets: Vec<&[u8]> = nals(&whole[0].data).into_iter().filter(is_set).collect();
    let packed = |nals: &[&[u8]]| -> Vec<u8> {
        nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    };
    let mut sender = Sender::new(7, Codec::H264);
    let mut wanted = Vec::new();
    for shot in &whole {
        let pictures: Vec<&[u8]> = nals(&shot.data).into_iter().filter(|nal| !is_set(nal)).collect();
        sender.send(shot.us, &packed(&pictures));
        let idr = pictures.iter().any(|nal| nal[0] & 0x1F == 5);
        let data = packed(&if idr { [&sets[..], &pictures[..]].concat() } else { pictures });
        wanted.push(Shot { data, ..shot.clone() });
    }
    let bare = merged(vec![sender.log]);
    assert!(run_log(&bare, &plan()).is_err(), "nothing tells how to decode it");
    let mut described = bare;
    let Logged::Mark { mark: Mark::Stream(stream), .. } = &mut described[0] else {
        panic!("it is described")
    };
    let sprop: Vec<String> = sets.iter().map(|set| BASE64_STANDARD.encode(set)).collect();
    stream.fmtp = format!("packetization-mode=1;sprop-parameter-sets={}", sprop.join(","));
    let (done, file) = run_log(&described, &plan()).unwrap();
    assert_eq!(check("described", &wanted, &file, DELAY_US, EXACT_US), []);
    assert_eq!((done.file.gaps.as_slice(), probe::decode_complaints(&file).as_str()), (&[][..], ""));
}

#[test]
fn absurd_timestamps_do_not_stretch_the_file() {
    let shots = opus();
    let length = shots.last().map(|last| last.us + lasts(&last.data)).unwrap();
    // So many that each an epoch for good would be more than are kept.
    let many: Vec<Shot> = (0..20)
        .flat_map(|turn| shots.iter().map(move |shot| Shot { us: shot.us + turn * length, ..shot.clone() }))
        .collect();
    for absurd in [0x7000_0000u32, 0x9000_0000, 48_000 * 3_600] {
        let mut sender = Sender::new(7, Codec::Opus);
        let mut random = Seeded(4);
        for (n, shot) in many.iter().enumerate() {
            let right = sender.timestamp.wrapping_add((shot.us * 48 / 1_000) as u32);
            let off = absurd.wrapping_add(random.below(1 << 30) as u32);
            sender.send_stamped(
                shot.us,
                if n % 20 == 13 { right.wrapping_add(off) } else { right },
                &shot.data,
            );
        }
        let (done, file) = run_log(&sender.log, &plan()).unwrap();
        let missing = check("absurd", &many, &file, DELAY_US, EXACT_US);
        assert!(missing.len() <= many.len() / 20 + 1, "{} of {} are missing", missing.len(), many.len());
        let end = many.last().unwrap().us + 100_000;
        assert!(done.file.duration_us < end + DELAY_US, "{} us", done.file.duration_us);
    }
}

#[test]
fn a_clock_that_stood_still_goes_on_where_its_packets_came() {
    for with_reports in [true, false] {
        let shots = opus();
        let stood = 4 * SECOND;
        let (before, after) = shots.split_at(shots.len() / 2);
        let mut sender = Sender::new(7, Codec::Opus);
        sender.send_all(before, 0);
        if with_reports {
            sender.report(2 * SECOND);
        }
        sender.timestamp = sender.timestamp.wrapping_sub(4 * 48_000);
        sender.send_all(after, stood);
        if with_reports {
            sender.report(shots.last().unwrap().us + stood);
        }
        let moved = after.iter().map(|shot| Shot { us: shot.us + stood, ..shot.clone() });
        let want: Vec<Shot> = before.iter().cloned().chain(moved).collect();
        let (done, file) = whole("stood still", &want, &merged(vec![sender.log]));
        let reasons: Vec<_> = done.file.gaps.iter().map(|gap| gap.reason).collect();
        assert_eq!(reasons, [GapReason::Muted]);
        assert_filled(&file);
    }
}

#[test]
fn packets_that_came_before_their_description_stand_where_they_were_sent() {
    let shots = opus();
    for (what, timestamp, stood) in [("wraps", u32::MAX - 100_000, 0), ("stands still", 5_000, 4 * SECOND)] {
        let mut sender = Sender::new(7, Codec::Opus);
        sender.timestamp = timestamp;
        let description = sender.log.remove(0);
        let (before, after) = shots.split_at(shots.len() / 3);
        sender.send_all(before, 0);
        sender.timestamp = sender.timestamp.wrapping_sub((stood * 48 / 1_000) as u32);
        sender.send_all(after, stood);
        sender.log.insert(sender.log.len() * 2 / 3, description);
        let moved = after.iter().map(|shot| Shot { us: shot.us + stood, ..shot.clone() });
        let want: Vec<Shot> = before.iter().cloned().chain(moved).collect();
        whole(what, &want, &sender.log);
    }
}

#[test]
fn stalls_of_the_network_move_nothing() {
    for with_reports in [true, false] {
        let shots = vp8();
        let mut sender = Sender::new(7, Codec::Vp8);
        sender.send_all(&shots, 0);
        for logged in &mut sender.log {
            let Logged::Packet { arrival_us, .. } = logged else { continue };
            let since = (*arrival_us - START_US) % (5 * SECOND);
            if (2 * SECOND..4 * SECOND).contains(&since) {
                *arrival_us += 4 * SECOND - since + since / 1_000; // they come at once, in order
            }
        }
        if with_reports {
            sender.report(5 * SECOND);
        }
        let (done, _) = whole("stall", &shots, &merged(vec![sender.log]));
        assert_eq!(done.file.gaps, []);
    }
}

#[test]
fn a_last_packet_that_comes_late_stands_where_it_was_sent() {
    let shots = opus();
    let mut log = sent(7, Codec::Opus, &shots).log;
    if let Some(Logged::Packet { arrival_us, .. }) = log.last_mut() {
        *arrival_us += 2 * SECOND;
    }
    let (done, _) = whole("late end", &shots, &log);
    assert_eq!(done.file.gaps, []);
}

#[test]
fn reports_that_lie_move_nothing() {
    let shots = opus();
    let mut sender = Sender::new(7, Codec::Opus);
    sender.send_all(&shots, 0);
    let mut random = Seeded(6);
    for second in 1..20 {
        sender.report(second * SECOND);
        if let Some(Logged::SenderReport { report, .. }) = sender.log.last_mut() {
            report.ntp = report.ntp.wrapping_add((random.below(1 << 40) as u64) << 20);
        }
    }
    whole("lies", &shots, &merged(vec![sender.log]));
}

#[test]
fn another_codec_in_mid_track_gets_a_stream_of_its_own() {
    let (first, second) = (vp8(), fixture("chrome-webm-h264", Codec::H264));
    let after = first.last().unwrap().us + 33_000;
    let one = sent(7, Codec::Vp8, &first);
    let mut two = Sender::new(9, Codec::H264);
    two.send_all(&second, after);
    let (done, file) = run_log(&merged(vec![one.log, two.log]), &plan()).unwrap();
    let codecs: Vec<_> = done.file.streams.iter().map(|stream| stream.codec).collect();
    assert_eq!(codecs, [Codec::Vp8, Codec::H264]);
    assert_eq!(blocks(&file).len(), first.len() + second.len());
}

#[test]
fn what_a_tap_rested_beyond_a_pause_is_told() {
    let pauses = vec![(START_US + 3 * SECOND, START_US + 5 * SECOND)];
    let went_on = 6 * SECOND + SECOND / 2;
    for (codec, shots) in [(Codec::Opus, opus()), (Codec::Vp8, vp8())] {
        let next = shots.iter().position(|shot| shot.us >= went_on && shot.key).unwrap();
        // Whoever goes on is asked for a keyframe.
        let late = went_on + SECOND / 20 - shots[next].us;
        let mut sender = Sender::new(7, codec);
        sender.send_all(&shots.iter().filter(|shot| shot.us < 3 * SECOND).cloned().collect::<Vec<_>>(), 0);
        sender.mark(3 * SECOND, Mark::Paused);
        sender.mark(went_on, Mark::Resumed);
        sender.send_all(&shots[next..], late);
        let whole_us = run_log(&sent(7, codec, &shots).log, &plan()).unwrap().0.file.duration_us;
        let done = run_log(&sender.log, &RtpPlan { pauses: pauses.clone(), ..plan() }).unwrap().0.file;
        assert!(
            (done.duration_us - (whole_us + late - 2 * SECOND)).abs() < SECOND / 20,
            "{codec:?} {whole_us}: {done:?}"
        );
        let told: Vec<_> = done.gaps.iter().filter(|gap| gap.to_us - gap.from_us > SECOND / 2).collect();
        assert_eq!(told.len(), 1, "{codec:?}: {:?}", done.gaps);
        let to_us = went_on + SECOND / 20 - 2 * SECOND + DELAY_US;
        assert!((told[0].from_us - 3 * SECOND).abs() < SECOND / 10, "{codec:?}: {told:?}");
        assert!((told[0].to_us - to_us).abs() < SECOND / 20, "{codec:?} {to_us}: {told:?}");
        assert_eq!(told[0].reason, GapReason::Paused, "{codec:?}");
    }
}

#[test]
fn a_log_that_lies_in_a_pause_is_all_paused() {
    let pauses = vec![(START_US - SECOND, i64::MAX)];
    let done = run_log(&sent(7, Codec::Opus, &opus()).log, &RtpPlan { pauses, ..plan() });
    assert!(matches!(done, Err(AssembleError::AllPaused)), "{done:?}");
}

#[test]
fn a_pause_is_cut_out_and_told() {
    let shots = opus();
    let pauses = vec![(START_US + 2 * SECOND, START_US + 4 * SECOND)];
    let (done, file) = run_log(&sent(7, Codec::Opus, &shots).log, &RtpPlan { pauses, ..plan() }).unwrap();
    let kept: Vec<Shot> = shots
        .iter()
        .filter(|shot| !(2 * SECOND - DELAY_US..4 * SECOND - DELAY_US).contains(&shot.us))
        .map(|shot| Shot {
            us: if shot.us > 3 * SECOND { shot.us - 2 * SECOND } else { shot.us },
            ..shot.clone()
        })
        .collect();
    let missing = check("pause", &kept, &file, DELAY_US, EXACT_US);
    assert!(missing.len() <= 1, "a packet that sounds into the pause may cover the first after it");
    assert!(done.file.gaps.iter().all(|gap| gap.reason == GapReason::Paused), "{:?}", done.file.gaps);
    assert!(!done.file.gaps.is_empty());
}

#[test]
fn what_the_disk_refused_is_told_as_the_disks() {
    let shots = vp8();
    let mut sender = sent(7, Codec::Vp8, &shots);
    let (from, to) = (START_US + 3 * SECOND, START_US + 4 * SECOND);
    sender.log.retain(
        |logged| !matches!(logged, Logged::Packet { arrival_us, .. } if (from..to).contains(arrival_us)),
    );
    sender.mark(4 * SECOND, Mark::Dropped { from_us: from, to_us: to, packets: 99 });
    let (done, file) = run_log(&merged(vec![sender.log]), &plan()).unwrap();
    check("disk", &shots, &file, DELAY_US, EXACT_US);
    let reasons: Vec<_> = done.file.gaps.iter().map(|gap| gap.reason).collect();
    assert_eq!(reasons, [GapReason::Disk], "{:?}", done.file.gaps);
}

#[test]
fn clocks_that_drift_stay_together_for_an_hour() {
    // The sender's computer runs 50 ppm fast: after an hour its clock is 180 ms ahead of where it was.
    let mut sender = Sender::new(7, Codec::Opus);
    let mut random = Seeded(11);
    let mut want = Vec::new();
    for n in 0..3_600i64 {
        let by_sender = n * SECOND;
        let true_us = (by_sender as f64 / 1.000_05).round() as i64;
        let mut data = vec![0xFC];
        data.extend_from_slice(&n.to_be_bytes());
        sender.send(by_sender, &data);
        want.push(Shot { us: true_us, key: true, track: 1, data });
        let jitter = if n % 4 == 0 { 0 } else { random.below(30_000) as i64 };
        if let Some(Logged::Packet { arrival_us, .. }) = sender.log.last_mut() {
            *arrival_us = START_US + true_us + DELAY_US + jitter;
        }
        if n % 5 == 1 {
            sender.report(by_sender);
            if let Some(Logged::SenderReport { arrival_us, .. }) = sender.log.last_mut() {
                *arrival_us = START_US + true_us + DELAY_US + jitter;
            }
        }
    }
    let (_, file) = run_log(&merged(vec![sender.log]), &plan()).unwrap();
    assert!(check("drift", &want, &file, DELAY_US, 3_000).is_empty());
}

fn header() -> SegmentHeader {
    let (recording, track) = (RecordingId::generate(), TrackId::generate());
    let spec = TrackSpec {
        recording,
        participant: UserId::parse("ann").unwrap(),
        source: TrackSource::Server,
        kind: TrackKind::Video,
    };
    SegmentHeader { spec, track, number: 0, base_us: START_US, salt: 9 }
}

fn read(bytes: &[u8]) -> Vec<Logged> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("000000.seg"), bytes).unwrap();
    let mut records = Records::in_folder(folder.path()).unwrap();
    let mut log = Vec::new();
    while let Some(logged) = records.read_next().unwrap() {
        log.push(logged);
    }
    log
}

#[test]
fn a_torn_log_keeps_all_before_the_tear() {
    let shots = vp8();
    let bytes = segment(&header(), &sent(7, Codec::Vp8, &shots).log);
    let (_, file) = whole("written and read", &shots, &read(&bytes));
    let cut = bytes.len() * 2 / 3;
    let (_, torn) = run_log(&read(&bytes[..cut]), &plan()).unwrap();
    let missing = check("torn", &shots, &torn, DELAY_US, EXACT_US);
    assert!(blocks(&torn).len() > blocks(&file).len() / 2);
    let kept = blocks(&torn).last().unwrap().us - DELAY_US;
    assert!(missing.iter().all(|shot| shot.us > kept), "frames before the tear are missing");
}

#[test]
fn flipped_bits_cost_what_they_touch_and_are_told_as_corrupt() {
    let shots = vp8();
    let bytes = segment(&header(), &sent(7, Codec::Vp8, &shots).log);
    let mut random = Seeded(2);
    for _ in 0..10 {
        let mut flipped = bytes.clone();
        let at = bytes.len() / 4 + random.below(bytes.len() / 2);
        flipped[at] ^= 0x10;
        let keep = RtpPlan { after_loss: AfterLoss::Keep, ..plan() };
        let (done, file) = run_log(&read(&flipped), &keep).unwrap();
        let missing = check("flipped", &shots, &file, DELAY_US, EXACT_US);
        assert!(missing.len() <= 1, "byte {at}: {}", missing.len());
        let reasons: Vec<_> = done.file.gaps.iter().map(|gap| gap.reason).collect();
        assert_eq!(reasons, vec![GapReason::Corrupt; missing.len()], "byte {at}: {:?}", done.file.gaps);
    }
}

#[test]
fn garbage_is_no_media_and_never_fatal() {
    let mut random = Seeded(1);
    let shots = vp8();
    let clean = sent(7, Codec::Vp8, &shots[..60]).log;
    for _ in 0..30 {
        let mut log = clean.clone();
        for logged in &mut log {
            let Logged::Packet { bytes, .. } = logged else { continue };
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            let keep = random.below(bytes.len() * 3).max(1).min(bytes.len());
            bytes.truncate(keep);
        }
        if let Ok((done, _)) = run_log(&log, &plan()) {
            assert!(done.file.duration_us < 60 * SECOND, "{}", done.file.duration_us);
        }
    }
    assert!(run_log(&[], &plan()).is_err());
}
