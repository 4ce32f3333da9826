//! What is held because its time or its codec is unknown: finds both out from what came before and after it.

use std::io::{Seek, Write};

use super::{DEFAULT_FRAME_US, Held, HeldFrame, Patience, Placer, ROUNDING_US};
use crate::assemble::codec::{self, Codec};
use crate::assemble::matroska::header::{self, Track};
use crate::assemble::timeline::Timeline;

/// Blocks with a known time that are waited for before one of a track with sound.
const PATIENCE: usize = 64;

/// An estimate this near to the cluster before the hole means that cluster: clusters are about a second apart.
const SAME_CLUSTER_US: i64 = 40_000;

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
        for number in numbers.iter().copied() {
            let Some(codec) = self.codec_of(number) else { continue };
            let mut payloads =
                self.frames().filter(|frame| frame.track == number).map(|frame| frame.data.as_slice());
            let first = payloads.clone().next().unwrap_or_default();
            let data = payloads.find(|data| codec.picture_size(data).is_some()).unwrap_or(first);
            headers.push((number, header::guessed(codec, data, self.muxer)));
            tracks.push(Track { number, codec, default_duration_us: 0 });
        }
        if tracks.len() < numbers.len() && patience == Patience::Wait {
            return;
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
    fn base_by_sound(&self, from: usize) -> Option<i64> {
        let (untimed, mut timed) = self.runs(from);
        let after = timed.find(|frame| self.codec_of(frame.track) == Some(Codec::Opus))?;
        let before = untimed.filter(|frame| frame.track == after.track).last()?;
        let lasts = Codec::Opus.duration_us(&before.data)?;
        Some(after.time_us? - lasts - before.relative_us)
    }

    /// A track's codec, from the head or from what is held of it.
    fn codec_of(&self, number: u64) -> Option<Codec> {
        if let Some(tracks) = &self.tracks {
            return tracks.iter().find(|track| track.number == number).map(|track| track.codec);
        }
        let of_track = self.frames().filter(move |frame| frame.track == number);
        codec::sniff(
            of_track.map(|frame| (frame.time_us.unwrap_or(frame.relative_us) / 1_000, frame.data.as_slice())),
        )
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
            if earliest(old) && ((near && !exact) || !earliest(base)) {
                return old;
            }
        }
        if earliest(base) {
            return base;
        }
        let first = untimed.clone().map(|frame| frame.relative_us).min().unwrap_or(0);
        sink.session_end_us().saturating_sub(first).max(base)
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
