//! What is held because its time or its codec is unknown: finds both out from what came before and after it.

use std::io::{Seek, Write};

use super::{DEFAULT_FRAME_US, Held, HeldFrame, Patience, Placer, ROUNDING_US};
use crate::assemble::codec::{self, Codec, pcm};
use crate::assemble::matroska::header::{self, Muxer, Track};
use crate::assemble::timeline::Timeline;
use crate::assemble::writer::TrackHeader;

/// Blocks with a known time that are waited for before one of a track with sound.
const PATIENCE: usize = 64;

/// Packets of sound that are taken together at most to find an even step.
const MAX_TOGETHER: usize = 8;

/// A step that is off by no more is even: times are whole milliseconds.
const EVEN_US: i64 = 1_000;

/// A cluster that began in the hole cannot put a frame this far beyond what the clocks say.
const BEYOND_US: i64 = 1_000_000;

/// An estimate this near to the cluster before the hole means that cluster: clusters are about a second apart.
const SAME_CLUSTER_US: i64 = 40_000;

/// A header for a track whose own is lost, from what came of it: milliseconds and payloads, in order.
pub(super) fn header<'a>(
    codec: Codec,
    payloads: impl Iterator<Item = (i64, &'a [u8])> + Clone,
    muxer: Muxer,
) -> TrackHeader {
    let mut each = payloads.clone().map(|(_, data)| data);
    let first = each.clone().next().unwrap_or_default();
    let data = each.find(|data| codec.picture_size(data).is_some()).unwrap_or(first);
    let mut header = header::guessed(codec, data, muxer);
    if let (Codec::PcmFloat, Some((rate, channels))) = (codec, pcm::layout(payloads)) {
        (header.sample_rate, header.channels, header.bit_depth) = (rate as f64, channels.into(), 32);
    }
    header
}

impl Placer {
    /// Recognises the tracks of a session without a head. All of those seen, unless it is time to decide.
    pub(super) fn guess_codecs<W: Write + Seek>(&mut self, patience: Patience, sink: &mut Timeline<W>) {
        if patience == Patience::Wait && self.held.len() < self.guess_at {
            return;
        }
        self.guess_at = self.held.len().saturating_mul(2).max(8);
        let mut numbers: Vec<u64> = self.frames().map(|frame| frame.track).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut tracks = Vec::new();
        let mut headers = Vec::new();
        let mut unknown = Vec::new();
        for number in numbers.iter().copied() {
            let Some(codec) = self.codec_of(number) else {
                unknown.push(number);
                continue;
            };
            let header = header(codec, self.timed_payloads(number), self.muxer);
            headers.push((number, header));
            tracks.push(Track { number, codec, default_duration_us: 0 });
        }
        if !unknown.is_empty() && patience == Patience::Wait {
            return;
        }
        for number in unknown {
            sink.leave_out(number); // nothing tells how to decode it
        }
        for (number, header) in headers {
            sink.track(number, header);
        }
        self.tracks = Some(tracks);
    }

    fn frames(&self) -> impl Iterator<Item = &HeldFrame> + Clone {
        self.held.iter().filter_map(|held| if let Held::Frame(frame) = held { Some(frame) } else { None })
    }

    /// Finds the lost cluster's time, if it can be found or must be.
    pub(super) fn time_held<W: Write + Seek>(&mut self, patience: Patience, sink: &mut Timeline<W>) {
        let Some(from) = self.untimed_from else { return };
        let deciding = patience == Patience::Decide;
        let timed = self.held.get(from..).unwrap_or_default().iter().rev();
        let timed =
            timed.take_while(|held| matches!(held, Held::Frame(frame) if frame.time_us.is_some())).count();
        if !deciding && (timed == 0 || self.tracks.is_none()) {
            return;
        }
        let late = deciding || timed >= PATIENCE || self.clusters_since_held > 1;
        let base = self.base_by_sound(from).map(|base| (base, true)).or_else(|| {
            let silent =
                self.tracks.as_ref().is_some_and(|all| all.iter().all(|track| track.codec != Codec::Opus));
            if !late && !silent {
                return None;
            }
            let by_cadence = self.base_by_cadence(from);
            if by_cadence.is_none() && !late {
                None
            } else {
                Some((by_cadence.unwrap_or_else(|| self.base_by_clock(from)), false))
            }
        });
        let Some((base, exact)) = base else { return };
        let base = self.reconcile(from, base, exact, sink);
        self.apply(from, base, exact, sink);
    }

    /// The frames from `from` on that have no time, and the ones after them that have.
    fn runs(
        &self,
        from: usize,
    ) -> (impl Iterator<Item = &HeldFrame> + Clone, impl Iterator<Item = &HeldFrame> + Clone) {
        let frames = self.held.get(from..).unwrap_or_default().iter();
        let frames = frames.filter_map(|held| if let Held::Frame(frame) = held { Some(frame) } else { None });
        let untimed = frames.clone().filter(|frame| frame.time_us.is_none());
        (untimed, frames.filter(|frame| frame.time_us.is_some()))
    }

    /// Exact: the last Opus packet without a time ends where the first one with a time begins.
    ///
    /// Where sound comes in buffers that packets do not divide, its times step unevenly but come back after a few packets
    /// (measured: 59, 69, 52 ms from Web Audio), so as many packets are taken together as step the most evenly.
    fn base_by_sound(&self, from: usize) -> Option<i64> {
        let (untimed, timed) = self.runs(from);
        let mut sound = timed.filter(|frame| self.codec_of(frame.track) == Some(Codec::Opus));
        let after = sound.next()?;
        let before: Vec<&HeldFrame> = untimed.filter(|frame| frame.track == after.track).collect();
        let mut lasts = Vec::with_capacity(before.len());
        for frame in &before {
            lasts.push(Codec::Opus.duration_us(&frame.data)?);
        }
        let unevenness = |together: usize| -> i64 {
            let pairs = before.windows(together + 1).zip(lasts.windows(together));
            let steps = pairs.filter_map(|(frames, lasts)| {
                let step = frames.last()?.relative_us - frames.first()?.relative_us;
                Some((step - lasts.iter().sum::<i64>()).abs())
            });
            steps.max().unwrap_or(0)
        };
        let most = MAX_TOGETHER.min(before.len().saturating_sub(1) / 2).max(1);
        let together = (1..=most).min_by_key(|together| (unevenness(*together).max(EVEN_US), *together))?;
        let at = before.len().checked_sub(together)?;
        Some(after.time_us? - lasts.get(at..)?.iter().sum::<i64>() - before.get(at)?.relative_us)
    }

    /// A track's codec, from the head or from what is held of it.
    fn codec_of(&self, number: u64) -> Option<Codec> {
        if let Some(tracks) = &self.tracks {
            return tracks.iter().find(|track| track.number == number).map(|track| track.codec);
        }
        codec::sniff(self.timed_payloads(number))
    }

    /// What is held of a track: milliseconds, from the cluster where nothing better is known, and payloads.
    fn timed_payloads(&self, number: u64) -> impl Iterator<Item = (i64, &[u8])> + Clone {
        let of_track = self.frames().filter(move |frame| frame.track == number);
        of_track.map(|frame| (frame.time_us.unwrap_or(frame.relative_us) / 1_000, frame.data.as_slice()))
    }

    /// A bound: the last picture without a time comes one frame before the first one with a time.
    fn base_by_cadence(&self, from: usize) -> Option<i64> {
        let (untimed, mut timed) = self.runs(from);
        let after = timed.next()?;
        let same = untimed.clone().filter(|frame| frame.track == after.track);
        let Some((first, last)) = same.clone().next().zip(same.clone().last()) else {
            let last = untimed.last()?;
            return Some(after.time_us? - last.relative_us);
        };
        let steps = i64::try_from(same.count()).ok()? - 1;
        let frame_us = if steps > 0 {
            (last.relative_us - first.relative_us) / steps
        } else {
            self.paces
                .iter()
                .find(|pace| pace.track == after.track)
                .map_or(DEFAULT_FRAME_US, |pace| pace.frame_us)
        };
        Some(after.time_us? - frame_us - last.relative_us)
    }

    /// The last resort: the client's clock, on the grid that whole Opus packets leave.
    fn base_by_clock(&self, from: usize) -> i64 {
        let (untimed, _) = self.runs(from);
        let Some(first) = untimed.clone().next() else { return 0 };
        let guess = self.clock.estimate(&first.stamp).saturating_sub(first.relative_us);
        let on_grid = untimed.clone().find_map(|frame| {
            let track = self.tracks.as_ref()?.iter().find(|track| track.number == frame.track)?;
            let pace = self.paces.iter().find(|pace| pace.track == frame.track)?;
            let step = (track.codec == Codec::Opus).then(|| Codec::Opus.duration_us(&frame.data))??;
            let off = (guess + frame.relative_us - pace.last_us).rem_euclid(step);
            Some(if off * 2 > step { guess + step - off } else { guess - off })
        });
        on_grid.unwrap_or(guess)
    }

    /// Holds a base against what else is known: the cluster before the hole, and what is already written.
    fn reconcile<W: Write + Seek>(&self, from: usize, base: i64, exact: bool, sink: &Timeline<W>) -> i64 {
        let (untimed, _) = self.runs(from);
        let earliest = |base: i64| {
            untimed.clone().all(|frame| {
                let pace = self.paces.iter().find(|pace| pace.track == frame.track);
                pace.is_none_or(|pace| base + frame.relative_us > pace.last_us - ROUNDING_US)
            })
        };
        if let Some(old) = self.old_base_us {
            let near = (base - old).abs() <= SAME_CLUSTER_US;
            let only = !exact && self.no_cluster_began(from, sink);
            if earliest(old) && ((near && !exact) || only || !earliest(base)) {
                return old;
            }
        }
        if earliest(base) {
            return base;
        }
        let first = untimed.clone().map(|frame| frame.relative_us).min().unwrap_or(0);
        sink.session_end_us().saturating_sub(first).max(base)
    }

    /// Whether the frames' own times speak against a cluster in the hole: it would have begun after all that is written,
    /// and they lie too far from their cluster for that. Without sound, clusters are as long as from keyframe to keyframe.
    fn no_cluster_began<W: Write + Seek>(&self, from: usize, sink: &Timeline<W>) -> bool {
        let (mut untimed, _) = self.runs(from);
        untimed.next().is_some_and(|first| {
            let at_least = sink.session_end_us().saturating_add(first.relative_us);
            at_least > self.clock.estimate(&first.stamp).saturating_add(BEYOND_US)
        })
    }

    fn apply<W: Write + Seek>(&mut self, from: usize, base: i64, exact: bool, sink: &mut Timeline<W>) {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for held in self.held.get_mut(from..).unwrap_or_default() {
            if let Held::Frame(frame) = held
                && frame.time_us.is_none()
            {
                let us = base.saturating_add(frame.relative_us).max(0);
                frame.time_us = Some(us);
                (first, last) = (first.min(us), last.max(us));
            }
        }
        if !exact && first <= last && self.old_base_us != Some(base) {
            sink.estimated(first, last);
        }
        self.untimed_from = None;
        if self.base_us.is_none() && self.clusters_since_held == 0 {
            self.base_us = Some(base);
        }
    }
}
