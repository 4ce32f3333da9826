//! One frame from the payloads of its packets, in order and without a hole.
//!
//! Own few lines per format, over borrowed bytes: the depacketizers that were tried reject short payloads that are legal,
//! misparse descriptors when they are reused, and do not tell where a frame begins, on which everything here hangs. An
//! [`Unpacker`] is for one frame alone. It reads hostile bytes, and answers `None` where they make no sense.

mod av1;
mod h264;
mod vp8;
mod vp9;

use crate::assemble::codec::{Codec, Marked};

pub(super) use av1::config as av1_config;

/// The largest frame that is put together; beyond it the packets are no frame. A keyframe of 4K is below 4 MiB.
pub(super) const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// What a packet says of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Whether the frame can begin here, when packets before were lost.
    pub(super) begins: Begins,
    /// Whether the frame is said to be a keyframe.
    pub(super) marked: Marked,
    /// Whether other frames are decoded from this one.
    pub(super) reference: Reference,
}

/// Whether a packet is a frame's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    Yes,
    No,
}

/// Whether a frame's loss is seen in others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    Yes,
    No,
}

/// Puts one frame together.
#[derive(Debug)]
pub(super) enum Unpacker {
    Whole,
    Vp8,
    Vp9(vp9::Layers),
    H264(h264::Fragment),
    Av1(av1::Fragment),
}

impl Unpacker {
    /// For one frame; `None` for a codec that has no payload format here.
    pub(super) fn new(codec: Codec) -> Option<Self> {
        Some(match codec {
            Codec::Opus => Self::Whole,
            Codec::Vp8 => Self::Vp8,
            Codec::Vp9 => Self::Vp9(vp9::Layers::default()),
            Codec::H264 => Self::H264(h264::Fragment::default()),
            Codec::Av1 => Self::Av1(av1::Fragment::default()),
            Codec::Aac | Codec::PcmFloat => return None,
        })
    }

    /// Appends what a packet holds of the frame.
    pub(super) fn push(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<Part> {
        (out.len() + payload.len() <= MAX_FRAME_BYTES).then_some(())?;
        match self {
            Self::Whole => {
                out.extend_from_slice(payload);
                Some(Part { begins: Begins::Yes, marked: Marked::Key, reference: Reference::No })
            }
            Self::Vp8 => vp8::push(payload, out),
            Self::Vp9(layers) => layers.push(payload, out),
            Self::H264(fragment) => fragment.push(payload, out),
            Self::Av1(fragment) => fragment.push(payload, out),
        }
    }

    /// Ends the frame; `None` when its end is missing.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Whole | Self::Vp8 => Some(()),
            Self::Vp9(layers) => layers.finish(out),
            Self::H264(fragment) => fragment.finish(),
            Self::Av1(fragment) => fragment.finish(),
        }
    }
}
