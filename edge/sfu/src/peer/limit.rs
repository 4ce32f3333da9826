//! What one user may send, kept to by those who do not keep to it themselves: a token bucket over everything that comes on a
//! section, layers, repeated packets and padding together, and one over all sections of a kind, so that many sections are no way
//! around it.
//!
//! Senders that keep to our descriptions are never touched: their encoders are told the limit (RFC 3890), which leaves out headers,
//! repetition and probes, and may make a large picture at once. Some send what they were set to instead, as OBS does; of that, what
//! is too much is lost, out of any picture. It must not know packets: it counts bytes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::ids::Mid;

/// What may come in the long run, in percent of the limit. Sound of 128 kbit/s in packets of 10 ms has 20 % of headers, a line that
/// loses 15 % has as much sent again, and probes are a few percent.
const TOLERATED_PERCENT: u64 = 160;

/// What may come at once, as time at the limit: 1.25 MB of pictures, a keyframe of a 4K screen; or all that a network has held
/// back for so long.
const BURST: Duration = Duration::from_secs(5);

/// Sections of a kind that a user may fill: camera and screen, microphone and the sound of what is shown.
const SECTIONS_OF_A_KIND: u32 = 2;

/// The buckets of one user.
#[derive(Debug)]
pub(super) struct Buckets {
    limits: Limits,
    sections: HashMap<Mid, Bucket>,
    sound: Bucket,
    pictures: Bucket,
}

impl Buckets {
    /// Full ones.
    pub(super) fn new(now: Instant, limits: Limits) -> Self {
        let whole = |limit_bps: u32| Bucket::new(now, limit_bps.saturating_mul(SECTIONS_OF_A_KIND));
        let (sound, pictures) = (whole(limits.audio_bps), whole(limits.video_bps));
        Self { limits, sections: HashMap::new(), sound, pictures }
    }

    /// Forgets the sections that are no more.
    pub(super) fn retain(&mut self, is: impl Fn(&Mid) -> bool) {
        self.sections.retain(|mid, _| is(mid));
    }

    /// So many bytes have come on a section.
    pub(super) fn take(&mut self, now: Instant, mid: &Mid, is_sound: bool, bytes: usize) -> Verdict {
        let (whole, limit_bps) = match is_sound {
            true => (&mut self.sound, self.limits.audio_bps),
            false => (&mut self.pictures, self.limits.video_bps),
        };
        let verdict = match self.sections.get_mut(mid) {
            Some(bucket) => bucket.take(now, bytes),
            None => self.sections.entry(mid.clone()).or_insert(Bucket::new(now, limit_bps)).take(now, bytes),
        };
        match verdict {
            Verdict::Within => whole.take(now, bytes),
            Verdict::Over => Verdict::Over,
        }
    }
}

#[derive(Debug)]
struct Bucket {
    since: Instant,
    /// In bits times microseconds, so that no rest of a division is lost.
    left: u64,
    rate_bps: u64,
    most: u64,
}

/// Whether a packet is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Within,
    Over,
}

const SECOND_US: u64 = 1_000_000;

impl Bucket {
    fn new(now: Instant, limit_bps: u32) -> Self {
        let limit_bps = u64::from(limit_bps);
        let most = limit_bps * BURST.as_micros() as u64;
        Self { since: now, left: most, rate_bps: limit_bps * TOLERATED_PERCENT / 100, most }
    }

    fn take(&mut self, now: Instant, bytes: usize) -> Verdict {
        let passed_us = now.saturating_duration_since(self.since).min(BURST).as_micros() as u64;
        self.since = now;
        self.left = (self.left + self.rate_bps * passed_us).min(self.most);
        match self.left.checked_sub(bytes as u64 * 8 * SECOND_US) {
            Some(left) => {
                self.left = left;
                Verdict::Within
            }
            None => Verdict::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits a second that pass in a minute of packets of 1,200 bytes at this rate.
    fn passed(limit_bps: u32, sent_bps: u64) -> u64 {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, limit_bps);
        let packets = sent_bps * 60 / 9_600;
        let passes = |at: &u64| {
            let now = start + Duration::from_micros(at * 60 * SECOND_US / packets);
            bucket.take(now, 1_200) == Verdict::Within
        };
        (0..packets).filter(passes).count() as u64 * 9_600 / 60
    }

    #[test]
    fn what_is_near_the_limit_passes_and_no_more_than_that_of_the_rest() {
        assert_eq!(passed(2_000_000, 3_000_000), 3_000_000);
        let (burst, rate) = (2_000_000 * 5 / 60, 3_200_000);
        for sent in [5_000_000, 50_000_000] {
            assert!(passed(2_000_000, sent).abs_diff(rate + burst) < 10_000, "{}", passed(2_000_000, sent));
        }
    }

    #[test]
    fn many_sections_are_no_way_around() {
        let start = Instant::now();
        let limits = Limits { video_bps: 2_000_000, ..Limits::default() };
        let mids: Vec<Mid> = (0..10).map(|mid: u8| Mid::new(mid.to_string())).collect();
        let mut buckets = Buckets::new(start, limits);
        let mut passes = |mids: &[Mid]| {
            let takes = (0..1_000).flat_map(|_| mids);
            takes.filter(|mid| buckets.take(start, mid, false, 1_200) == Verdict::Within).count()
        };
        assert_eq!(passes(&mids[..2]), 2_000, "camera and screen at once");
        assert!(passes(&mids[2..]) < 100);
    }

    #[test]
    fn a_keyframe_of_a_large_screen_passes_at_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 2_000_000);
        assert!((0..1_000).all(|_| bucket.take(start, 1_200) == Verdict::Within));
        assert!((0..100).any(|_| bucket.take(start, 1_200) == Verdict::Over));
        assert_eq!(bucket.take(start + Duration::from_secs(4), 1_200_000), Verdict::Within);
    }
}
