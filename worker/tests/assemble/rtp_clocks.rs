//! Media clocks that leave the wall clock: sound of a sender whose sound card loses samples, beside pictures that are right.

use shared::capture::rtp::Logged;
use worker::assemble::rtp::RtpAssembled;
use worker::assemble::{Codec, GapReason};

use crate::rtp_sender::{DELAY_US, START_US, Sender, arrival, blocks, merged, plan, run_logs};
use crate::support::Seeded;

const SECOND: i64 = 1_000_000;

/// How far anything may lie from where it was.
const TOLERANCE_US: i64 = 20_000;

/// How long the calls are, by the sound's count: as the one that showed the fault.
const LENGTH_US: i64 = 27 * SECOND;

/// Where the clock jumps, between two reports.
const JUMP_AT_US: i64 = 13_200_000;

/// A sender's streams, each as a log.
struct Call {
    sounds: Sender,
    pictures: Sender,
    /// Wall clock of each packet, whose number is in it.
    heard_us: Vec<i64>,
    seen_us: Vec<i64>,
    /// The number of the first packet of sound.
    first_heard: usize,
}

/// The head of a VP8 keyframe of 320x240 (RFC 6386, section 9.1).
const KEYFRAME: [u8; 10] = [0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0];

/// The head of 20 ms of Opus.
const SOUND: [u8; 1] = [0xFC];

fn numbered(head: &[u8], n: i64) -> Vec<u8> {
    let mut data = head.to_vec();
    data.extend_from_slice(&n.to_be_bytes());
    data
}

/// Sound whose wall clock is ahead of its count by `behind`, and pictures that keep time; packets are up to 15 ms late.
fn call(behind: impl Fn(i64) -> i64) -> Call {
    let (mut sounds, mut pictures) = (Sender::new(7, Codec::Opus), Sender::new(8, Codec::Vp8));
    (sounds.timestamp, sounds.sequence) = (u32::MAX - 400_000, 65_000);
    let (mut heard_us, mut seen_us) = (Vec::new(), Vec::new());
    for n in 0..LENGTH_US / 20_000 {
        let media_us = n * 20_000;
        heard_us.push(media_us + behind(media_us));
        let (data, timestamp) = (numbered(&SOUND, n), sounds.stamp(media_us));
        sounds.send_stamped(media_us + behind(media_us), timestamp, &data);
    }
    for at_us in (3 * SECOND..LENGTH_US).step_by(5 * SECOND as usize) {
        sounds.report_stamped(at_us + behind(at_us), sounds.stamp(at_us));
    }
    for n in 0..LENGTH_US / 40_000 {
        seen_us.push(n * 40_000);
        pictures.send(n * 40_000, &numbered(&KEYFRAME, n));
    }
    for second in 1..LENGTH_US / SECOND {
        pictures.report(second * SECOND);
    }
    let mut random = Seeded(8);
    for logged in sounds.log.iter_mut().chain(&mut pictures.log) {
        if let Logged::Packet { arrival_us, .. } = logged {
            *arrival_us += random.below(15_000) as i64;
        }
    }
    Call { sounds, pictures, heard_us, seen_us, first_heard: 0 }
}

/// Every packet of both files stands where it was, and none is missing.
fn check(what: &str, call: Call) -> RtpAssembled {
    let logs = [merged(vec![call.sounds.log]), merged(vec![call.pictures.log])];
    let mut done = run_logs(&logs, &plan()).into_iter().map(Result::unwrap);
    let (sounds, file) = done.next().unwrap();
    stand(&format!("{what}, sound"), &file, &call.heard_us, call.first_heard);
    let (_, file) = done.next().unwrap();
    stand(&format!("{what}, pictures"), &file, &call.seen_us, 0);
    sounds
}

fn stand(what: &str, file: &[u8], wanted_us: &[i64], first: usize) {
    let shots = blocks(file).into_iter().filter(|shot| shot.data.len() > 8);
    let mut found = 0;
    for shot in shots {
        let n = i64::from_be_bytes(shot.data[shot.data.len() - 8..].try_into().unwrap()) as usize - first;
        let off_us = shot.us - wanted_us[n] - DELAY_US;
        assert!(off_us.abs() <= TOLERANCE_US, "{what}: packet {n} is off by {off_us} us");
        found += 1;
    }
    assert_eq!(found, wanted_us.len(), "{what}: packets are missing");
}

fn jump(media_us: i64, by_us: i64) -> i64 {
    if media_us < JUMP_AT_US { 0 } else { by_us }
}

#[test]
fn sound_and_pictures_of_steady_clocks_stand_where_they_were() {
    for ppm in [0, 200] {
        let done = check(&format!("{ppm} ppm"), call(|us| us * ppm / SECOND));
        assert_eq!(done.file.gaps, []);
    }
}

#[test]
fn sound_that_is_slow_by_more_than_any_crystal_stays_with_the_pictures() {
    let done = check("14,000 ppm", call(|us| us * 14 / 1_000));
    assert_eq!(done.file.gaps, []);
}

#[test]
fn a_jump_of_the_sounds_clock_is_a_gap_and_what_follows_stands_right() {
    for by_us in [120_000, 250_000, 390_000] {
        let done = check("jump", call(|us| jump(us, by_us)));
        let gaps = &done.file.gaps;
        assert_eq!((gaps.len(), gaps[0].reason), (1, GapReason::PacketLoss), "{by_us}: {gaps:?}");
        let (from_us, to_us) = (JUMP_AT_US + DELAY_US, JUMP_AT_US + DELAY_US + by_us);
        let off = (gaps[0].from_us - from_us).abs().max((gaps[0].to_us - to_us).abs());
        assert!(off <= TOLERANCE_US, "{by_us}: {gaps:?}");
    }
}

#[test]
fn many_small_jumps_are_followed() {
    let steps = |us: i64| (us - SECOND).clamp(3 * SECOND, 20 * SECOND) / (3 * SECOND) - 1;
    check("jumps", call(|us| steps(us) * 43_000));
}

#[test]
fn a_jump_that_no_report_tells_of_does_not_move_the_pictures() {
    for at_us in [SECOND, 25 * SECOND] {
        let drifts = |us: i64| us * 14 / 1_000 + if us < at_us { 0 } else { 120_000 };
        let call = call(drifts);
        let logs = [merged(vec![call.sounds.log]), merged(vec![call.pictures.log])];
        let (_, file) = run_logs(&logs, &plan()).remove(1).unwrap();
        stand("pictures", &file, &call.seen_us, 0);
    }
}

#[test]
fn one_wrong_report_moves_neither_sound_nor_pictures() {
    for ppm in [0, 14_000] {
        for which in 0..5 {
            let mut call = call(|us| us * ppm / SECOND);
            let reports = call.sounds.log.iter_mut().filter_map(|logged| match logged {
                Logged::SenderReport { report, .. } => Some(report),
                _ => None,
            });
            let report = reports.into_iter().nth(which).unwrap();
            report.rtp = report.rtp.wrapping_sub(48 * 390);
            check(&format!("{ppm} ppm, report {which}"), call);
        }
    }
}

/// Moves the sender's wall clock: what its reports from a time on tell.
fn step(call: &mut Call, at_us: i64, by_us: i64) {
    for logged in call.sounds.log.iter_mut().chain(&mut call.pictures.log) {
        if let Logged::SenderReport { arrival_us, report } = logged
            && *arrival_us > START_US + at_us
        {
            report.ntp = report.ntp.wrapping_add_signed((by_us << 32) / SECOND);
        }
    }
}

#[test]
fn a_step_of_the_senders_wall_clock_moves_neither() {
    let steps_us = [60_000, 80_000, 120_000, 200_000, 240_000, 2 * SECOND].map(|by_us| [by_us, -by_us]);
    for at_us in [4 * SECOND, 12 * SECOND, 22 * SECOND, 24 * SECOND] {
        for by_us in steps_us.as_flattened() {
            let mut call = call(|_| 0);
            step(&mut call, at_us, *by_us);
            check(&format!("step of {by_us} us at {at_us} us"), call);
        }
    }
}

#[test]
fn a_stream_that_begins_after_a_step_of_its_senders_wall_clock_stays_with_the_others() {
    for by_us in [-200_000, 120_000, 2 * SECOND] {
        let mut call = call(|_| 0);
        step(&mut call, 9 * SECOND, by_us);
        let late_us = START_US + 12 * SECOND;
        let begun = |logged: &Logged| !matches!(logged, Logged::Packet { .. }) || arrival(logged) > late_us;
        let mut late = 0;
        call.sounds.log.retain(|logged| {
            let is_report = matches!(logged, Logged::SenderReport { .. });
            let kept = begun(logged) && (!is_report || arrival(logged) > late_us);
            late += usize::from(!kept && !is_report);
            kept
        });
        call.heard_us.drain(..late);
        call.first_heard = late;
        check(&format!("step of {by_us} us"), call);
    }
}
