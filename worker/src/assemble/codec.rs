//! What a coded frame says about itself: its codec, whether it is a keyframe, its picture size, how long it sounds.
//!
//! Knows payload formats only, never containers or time lines. Everything here reads hostile bytes and answers
//! `None` or `false` where they make no sense.

pub(super) mod av1;
pub(super) mod h264;
pub(super) mod opus;
pub(super) mod pcm;
mod vp9;

use std::fmt;

/// Whether a stream is seen or heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// The codecs that browsers record and that Matroska can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `V_VP8`
    Vp8,
    /// `V_VP9`
    Vp9,
    /// `V_AV1`
    Av1,
    /// `V_MPEG4/ISO/AVC`
    H264,
    /// `A_OPUS`
    Opus,
    /// `A_AAC`
    Aac,
    /// `A_PCM/FLOAT/IEEE` (Chromium's `audio/webm;codecs=pcm`)
    PcmFloat,
}

impl Codec {
    /// Seen or heard.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H264 => Kind::Video,
            Self::Opus | Self::Aac | Self::PcmFloat => Kind::Audio,
        }
    }

    /// The Matroska codec id (RFC 9559, Matroska codec registry).
    #[must_use]
    pub fn matroska_id(self) -> &'static str {
        match self {
            Self::Vp8 => "V_VP8",
            Self::Vp9 => "V_VP9",
            Self::Av1 => "V_AV1",
            Self::H264 => "V_MPEG4/ISO/AVC",
            Self::Opus => "A_OPUS",
            Self::Aac => "A_AAC",
            Self::PcmFloat => "A_PCM/FLOAT/IEEE",
        }
    }

    /// The codec of a Matroska codec id, or `None` for one that is not supported.
    pub(super) fn from_matroska_id(id: &[u8]) -> Option<Self> {
        let all = [Self::Vp8, Self::Vp9, Self::Av1, Self::H264, Self::Opus, Self::Aac, Self::PcmFloat];
        let id = id.strip_suffix(&[0]).unwrap_or(id);
        all.into_iter().find(|codec| codec.matroska_id().as_bytes() == id)
    }

    /// Whether `frame` decodes without any frame before it; `marked` is what the container claims. H.264 is packed with
    /// four-byte lengths here and beneath.
    pub(super) fn is_keyframe(self, frame: &[u8], marked: Marked) -> bool {
        match self {
            Self::Vp8 => vp8_keyframe(frame),
            Self::Vp9 => vp9::size(frame).is_some(),
            Self::H264 => h264::has_idr(frame),
            Self::Av1 => marked == Marked::Key && av1::sequence(frame).is_some(),
            Self::Opus | Self::Aac | Self::PcmFloat => true,
        }
    }

    /// Width and height in pixels, where a keyframe tells them.
    pub(super) fn picture_size(self, frame: &[u8]) -> Option<(u32, u32)> {
        match self {
            Self::Vp8 => vp8_size(frame),
            Self::Vp9 => vp9::size(frame),
            Self::H264 => h264::prefixed(frame, 4).find_map(h264::sps_size),
            Self::Av1 => av1::sequence(frame).map(|found| found.size),
            Self::Opus | Self::Aac | Self::PcmFloat => None,
        }
    }

    /// How long a frame lasts in microseconds, for codecs whose frames tell it.
    pub(super) fn duration_us(self, frame: &[u8]) -> Option<i64> {
        if self == Self::Opus { opus::duration_us(frame) } else { None }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Av1 => "av1",
            Self::H264 => "h264",
            Self::Opus => "opus",
            Self::Aac => "aac",
            Self::PcmFloat => "pcm_f32le",
        })
    }
}

/// What the container said of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    Key,
    Delta,
}

/// Recognises the codec of a track whose header is lost, from its frames: (milliseconds, payload), in order.
///
/// A video codec shows itself in a keyframe alone, Opus in the agreement of its own durations with the times.
pub(super) fn sniff<'a>(mut frames: impl Iterator<Item = (i64, &'a [u8])> + Clone) -> Option<Codec> {
    let video = |frame: &[u8]| {
        if vp8_keyframe(frame) {
            Some(Codec::Vp8)
        } else if frame.starts_with(&[0, 0, 0, 1]) || frame.starts_with(&[0, 0, 1]) {
            h264::has_idr_annex_b(frame).then_some(Codec::H264)
        } else if vp9::size(frame).is_some() {
            Some(Codec::Vp9)
        } else {
            av1::sequence(frame).map(|_| Codec::Av1)
        }
    };
    if pcm::layout(frames.clone()).is_some() {
        return Some(Codec::PcmFloat); // first: samples are long enough to look like anything somewhere
    }
    if opus::times_agree(frames.clone()) {
        return Some(Codec::Opus);
    }
    frames.find_map(|(_, frame)| video(frame))
}

/// A VP8 frame tag with the key bit clear and the start code behind it (RFC 6386, section 9.1).
fn vp8_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|tag| tag & 1 == 0) && frame.get(3..6) == Some(&[0x9D, 0x01, 0x2A])
}

fn vp8_size(frame: &[u8]) -> Option<(u32, u32)> {
    let dimension = |at: usize| {
        let bytes: [u8; 2] = frame.get(at..at + 2)?.try_into().ok()?;
        Some(u32::from(u16::from_le_bytes(bytes) & 0x3FFF))
    };
    vp8_keyframe(frame).then_some(())?;
    Some((dimension(6)?, dimension(8)?))
}
