//! When a recording was paused, for tracks that browsers recorded: by their clocks, and with what their recorders did meanwhile.
//!
//! Chunks are taken while a recording is paused, because they may be late. A page may go on recording, stop, or pause its recorder;
//! what its chunks' media and clocks say tells which.

use std::io::{self, Seek, SeekFrom, Write};

use shared::db::recordings::{self, PauseSpan};
use shared::recording::Recording;

use super::track::AssembledTrack;
use crate::assemble::{Cut, Meanwhile, Pause, Reading, Span};
use crate::ctx::Ctx;
use shared::track::TrackSource;

/// How many readings on each side of a pause are compared: enough to outvote two late ones.
const READINGS: usize = 5;

/// A recorder that seems to have rested for less than a pause by no more than this rested for all of it: readings are right to
/// 30 ms, people are this slow alike, and pictures left out for it would cost all up to the next keyframe.
const SHORT_US: i64 = 250_000;

/// The same of one that rested longer, which costs nothing.
const LONG_US: i64 = 40_000;

/// When it was paused, by the edge's clock, microseconds since the epoch; the last may not end.
///
/// # Errors
/// Those of the database.
pub(super) async fn of(ctx: &Ctx, recording: &Recording) -> sqlx::Result<Vec<Span>> {
    let pauses = recordings::pauses(&ctx.db, &recording.id).await?;
    let span =
        |PauseSpan { from, to }| (from.timestamp_micros(), to.map_or(i64::MAX, |to| to.timestamp_micros()));
    Ok(pauses.into_iter().map(span).collect())
}

/// The pauses by a browser's clock, which the edge's is so much ahead of, with what its recorder did. `readings`: of the track with
/// nothing cut out.
pub(super) fn by_the_browsers_clock(paused: &[Span], ahead_ms: i64, readings: &[Reading]) -> Vec<Pause> {
    let ahead_us = ahead_ms.saturating_mul(1_000);
    let told = |us: i64| if us == i64::MAX { us } else { us.saturating_sub(ahead_us) };
    let told: Vec<Span> = paused.iter().map(|(from, to)| (told(*from), told(*to))).collect();
    let next = told.iter().skip(1).map(|(from, _)| *from).chain([i64::MAX]);
    let pause = |(&(from_us, to_us), next_us)| {
        let meanwhile = meanwhile((from_us, to_us), next_us, readings);
        Pause { from_us, to_us, meanwhile }
    };
    told.iter().zip(next).map(pause).collect()
}

/// A recorder that rested has media that fall behind its clock by the pause.
fn meanwhile((from_us, to_us): Span, next_us: i64, readings: &[Reading]) -> Meanwhile {
    let behind = |reading: &Reading| reading.wall_us.saturating_sub(reading.time_us);
    let before = readings.iter().rev().filter(|reading| reading.wall_us < from_us).map(behind);
    let after = readings.iter().filter(|reading| (to_us..next_us).contains(&reading.wall_us)).map(behind);
    let (before, after) = (median(before.take(READINGS)), median(after.take(READINGS)));
    let Some((before, after)) = before.zip(after) else { return Meanwhile::WentOn };
    let (rested, pause) = (after.saturating_sub(before), to_us.saturating_sub(from_us));
    if rested <= pause / 2 {
        return Meanwhile::WentOn;
    }
    let alike = (-SHORT_US..=LONG_US).contains(&rested.saturating_sub(pause));
    Meanwhile::Rested { us: if alike { pause } else { rested } }
}

fn median(values: impl Iterator<Item = i64>) -> Option<i64> {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// Moves tracks that began after pauses up by those: the edge's lie at the recording's start, which has none before it.
pub(super) fn move_up(assembled: &mut [AssembledTrack], paused: &[Span]) {
    let cut = Cut::new(0, paused);
    for track in assembled.iter_mut().filter(|track| track.source == TrackSource::Client) {
        let began_us = track.began_ms.saturating_add(track.ahead_ms).saturating_mul(1_000);
        let before_us = began_us.saturating_sub(cut.place(began_us));
        track.began_ms = track.began_ms.saturating_sub(before_us / 1_000);
    }
}

/// Where the file of a first reading goes.
#[derive(Debug, Default)]
pub(super) struct Nowhere {
    at: u64,
    end: u64,
}

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.at += bytes.len() as u64;
        self.end = self.end.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk a second, read 20 ms to and fro; one second of media is a second, but for what the recorder rested.
    fn readings(rested: impl Fn(i64) -> i64) -> Vec<Reading> {
        let reading = |n: i64| {
            let wall_us = 1_000_000 * n + 20_000 * (n % 3 - 1);
            Reading { wall_us, time_us: 1_000_000 * n - rested(n) }
        };
        (0..60).map(reading).collect()
    }

    #[test]
    fn a_recorder_that_rested_fell_behind_its_clock() {
        let paused = [(10_300_000, 20_300_000), (40_000_000, 40_400_000)];
        let rested = readings(|n| if n > 20 { 10_000_000 } else { 0 } + if n > 40 { 400_000 } else { 0 });
        let went_on = readings(|_| 0);
        let told = |readings: &[Reading]| {
            let pauses = by_the_browsers_clock(&paused, 0, readings);
            pauses.iter().map(|pause| pause.meanwhile).collect::<Vec<_>>()
        };
        let all = [Meanwhile::Rested { us: 10_000_000 }, Meanwhile::Rested { us: 400_000 }];
        assert_eq!(told(&rested), all);
        assert_eq!(told(&went_on), [Meanwhile::WentOn, Meanwhile::WentOn]);
        assert_eq!(
            told(&readings(|n| if n > 40 { 400_000 } else { 0 })),
            [Meanwhile::WentOn, Meanwhile::Rested { us: 400_000 }]
        );
        for (rested_us, told_us) in
            [(14_800_000, 14_800_000), (8_000_000, 8_000_000), (9_800_000, 10_000_000)]
        {
            let reading = |n: i64| {
                let wall_us = 1_000_000 * n + if n > 10 { rested_us } else { 0 };
                Reading { wall_us, time_us: 1_000_000 * n }
            };
            let rested: Vec<Reading> = (0..60).map(reading).collect();
            assert_eq!(told(&rested), [Meanwhile::Rested { us: told_us }, Meanwhile::WentOn]);
        }
        assert_eq!(told(&[]), [Meanwhile::WentOn, Meanwhile::WentOn]);
    }

    #[test]
    fn a_pause_is_told_by_the_browsers_clock_and_one_without_end_stays_so() {
        let pauses = by_the_browsers_clock(&[(5_000_000, 7_000_000), (9_000_000, i64::MAX)], 2_000, &[]);
        let spans: Vec<Span> = pauses.iter().map(|pause| (pause.from_us, pause.to_us)).collect();
        assert_eq!(spans, [(3_000_000, 5_000_000), (7_000_000, i64::MAX)]);
    }
}
