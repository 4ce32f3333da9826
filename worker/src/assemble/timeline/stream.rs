//! One stream of the output: what is counted and learnt of it, and the packing of its payloads.

use super::{DEFAULT_FRAME_US, Edge, Route, STEADY_US};
use crate::assemble::codec::{Codec, Kind, av1, h264};
use crate::assemble::cut::{Cut, Span};
use crate::assemble::writer::{MAX_CODEC_PRIVATE, TrackHeader};
use crate::assemble::{PictureSize, StreamInfo};

/// Changes of resolution kept per stream: one a minute for a day.
const MAX_SIZES: usize = 1_440;

/// A step this many times the one before is a jump over a hole and tells nothing of how long a frame lasts.
const JUMP: i64 = 4;

/// Steps that are looked at to tell whether a stream is steady.
const STEPS: usize = 4;

/// The longest that a frame without a duration of its own is taken to last.
const MAX_FRAME_US: i64 = 1_000_000;

/// One stream of the output.
pub(super) struct Stream {
    pub(super) header: TrackHeader,
    pub(super) info: StreamInfo,
    /// Start of the last frame, and end of all, whether they are kept or not.
    pub(super) last_us: i64,
    pub(super) end_us: i64,
    /// When the first pause ended since whose pictures none was kept: what follows can be shown from the next keyframe on.
    pub(super) resumed_us: Option<i64>,
    /// The step to the last frame from the one before.
    frame_us: i64,
    /// The last steps, whatever they were.
    steps: [i64; STEPS],
}

impl Stream {
    pub(super) fn new(mut header: TrackHeader) -> Self {
        header.codec_private.truncate(MAX_CODEC_PRIVATE);
        let codec = header.codec;
        let info = StreamInfo {
            kind: codec.kind(),
            codec,
            codec_delay_us: header.codec_delay_ns / 1_000,
            packets: 0,
            keyframes: 0,
            first_us: 0,
            last_us: 0,
            end_us: 0,
            sizes: Vec::new(),
        };
        Self {
            header,
            info,
            last_us: 0,
            end_us: 0,
            resumed_us: None,
            frame_us: DEFAULT_FRAME_US,
            steps: [0; STEPS],
        }
    }

    /// Notes the pause that a frame lies in, or that pictures go on after one; since when they could have.
    pub(super) fn waits(&mut self, paused: Option<Span>, key: bool) -> Option<i64> {
        if self.info.kind == Kind::Audio {
            return None;
        }
        match paused {
            Some((_, resumed_us)) => {
                self.resumed_us.get_or_insert(resumed_us);
                None
            }
            None if key => self.resumed_us.take(),
            None => None,
        }
    }

    /// Moves on to a frame, whether it is kept or not.
    pub(super) fn advance(&mut self, time_us: i64, duration_us: i64, data: &[u8]) {
        let since = (time_us - self.last_us).min(MAX_FRAME_US);
        let cadence = if (1..=self.frame_us * JUMP).contains(&since) { since } else { self.frame_us };
        if self.info.packets > 0 && since > 0 {
            self.frame_us = since;
            self.steps.rotate_left(1);
            self.steps[STEPS - 1] = since;
        }
        let told = self.header.codec.duration_us(data).unwrap_or(duration_us);
        self.end_us = self.end_us.max(time_us + if told > 0 { told } else { cadence });
        self.last_us = self.last_us.max(time_us);
    }

    /// Counts a frame that is kept, and learns from it.
    pub(super) fn count(&mut self, time_us: i64, data: &[u8], key: bool, cut: &Cut) {
        let (codec, time_us) = (self.header.codec, cut.place(time_us));
        if self.info.packets == 0 {
            self.info.first_us = time_us;
        }
        self.info.last_us = self.info.last_us.max(time_us);
        self.info.end_us = self.info.end_us.max(cut.place(self.end_us));
        self.info.packets += 1;
        self.info.keyframes += u64::from(key);
        if key && codec.kind() == Kind::Video {
            self.note_size(time_us, data);
            if codec == Codec::Av1 && self.header.codec_private.is_empty() {
                self.header.codec_private = av1::config_record(data).unwrap_or_default();
            }
        }
    }

    /// Where it stops.
    pub(super) fn edge(&self) -> Edge {
        let is_steady = self.steps.iter().all(|step| *step <= STEADY_US);
        let end_us = if self.info.packets > 0 { self.end_us } else { 0 };
        Edge { end_us, step_us: self.frame_us.min(STEADY_US), is_steady }
    }

    fn note_size(&mut self, time_us: i64, data: &[u8]) {
        let Some((width, height)) = self.header.codec.picture_size(data) else { return };
        self.header.size.get_or_insert((width, height));
        let same = self.info.sizes.last().is_some_and(|last| (last.width, last.height) == (width, height));
        if !same && self.info.sizes.len() < MAX_SIZES {
            self.info.sizes.push(PictureSize { time_us, width, height });
        }
    }

    pub(super) fn into_info(self) -> StreamInfo {
        let mut info = self.info;
        if let (true, Some((width, height))) = (info.sizes.is_empty(), self.header.size) {
            info.sizes.push(PictureSize { time_us: info.first_us, width, height });
        }
        info
    }
}

/// Brings an H.264 frame into four-byte lengths, and says whether it is a keyframe. Copies only what is not so already.
pub(super) fn repack<'a>(
    scratch: &'a mut Vec<u8>,
    stream: &mut Stream,
    route: &Route,
    data: &'a [u8],
) -> (&'a [u8], bool) {
    if route.length_size == 4 {
        let key = h264::has_idr(data);
        if !key || route.inject.is_empty() {
            return (data, key);
        }
        scratch.clear();
        scratch.extend_from_slice(&route.inject);
        scratch.extend_from_slice(data);
        return (scratch, key);
    }
    scratch.clear();
    if route.length_size == 0 {
        h264::append(scratch, h264::annex_b(data));
    } else {
        h264::append(scratch, h264::prefixed(data, route.length_size));
    }
    let key = h264::has_idr(scratch);
    if key && stream.header.codec_private.is_empty() {
        stream.header.codec_private = h264::avcc_from(h264::prefixed(scratch, 4)).unwrap_or_default();
    }
    if key && !route.inject.is_empty() {
        scratch.splice(0..0, route.inject.iter().copied());
    }
    (scratch, key)
}
