//! What a video payload says of itself, as far as forwarding needs it: does a keyframe begin here, how large is it,
//! may it be left out.
//!
//! Nothing is decoded or reassembled, and nothing is remembered from packet to packet: every function takes any bytes
//! and gives an answer, because they come from the network. A payload too short to tell is an ordinary one.
//! This module must not know RTP headers, SSRCs or legs.

pub mod av1;
mod bits;
pub mod h264;
pub mod vp8;
pub mod vp9;

/// The codec of a track, as negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Audio: RFC 7587. Every packet stands alone.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AV1 RTP payload format of the Alliance for Open Media, version 1.0.
    Av1,
}

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels of a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

/// What begins with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    /// A keyframe: a decoder can begin here. Its size, where this packet holds the header that says it.
    Keyframe(Option<Size>),
    /// A frame that needs earlier ones, or the rest of a frame, or something unreadable.
    Nothing,
}

/// Whether other frames need this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// It may be referred to: leaving it out breaks what follows.
    Needed,
    /// The encoder says that nothing refers to it.
    Discardable,
}

/// What one packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What begins here.
    pub starts: Starts,
    /// Temporal layer, 0 (base) where the payload does not say.
    pub temporal: u8,
    /// Whether others need it.
    pub worth: Worth,
}

impl Look {
    /// The answer for a payload that says nothing.
    pub const ORDINARY: Self = Self { starts: Starts::Nothing, temporal: 0, worth: Worth::Needed };

    /// Whether a decoder can begin here.
    pub fn is_keyframe(&self) -> bool {
        matches!(self.starts, Starts::Keyframe(_))
    }
}

impl Codec {
    /// Reads the beginning of an RTP payload. Opus has no keyframes: the answer is [`Look::ORDINARY`].
    pub fn look(self, payload: &[u8]) -> Look {
        match self {
            Self::Opus => Look::ORDINARY,
            Self::Vp8 => vp8::look(payload),
            Self::Vp9 => vp9::look(payload),
            Self::H264 => h264::look(payload),
            Self::Av1 => av1::look(payload),
        }
    }

    /// Where the payload counts its pictures. Only VP8 and VP9 do.
    pub fn counters(self, payload: &[u8]) -> Counters {
        match self {
            Self::Vp8 => vp8::Descriptor::parse(payload).map(|it| it.counters).unwrap_or_default(),
            Self::Vp9 => vp9::Descriptor::parse(payload).map(|it| it.counters).unwrap_or_default(),
            Self::Opus | Self::H264 | Self::Av1 => Counters::default(),
        }
    }
}

/// The counters of a payload descriptor that must stay continuous for a decoder: they are rewritten in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// The picture id, if there is one.
    pub picture: Option<PictureId>,
    /// `TL0PICIDX`: the count of base layer frames, if there is one.
    pub base: Option<BaseIndex>,
}

/// A picture id and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// Offset in the payload of its first byte.
    pub at: u8,
    /// Its value.
    pub value: u16,
    /// How many bits it has.
    pub width: PictureWidth,
}

/// The two lengths of a picture id (M bit of RFC 7741 4.2, RFC 9628 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureWidth {
    /// One byte.
    Bits7,
    /// Two bytes, the first with its high bit set.
    Bits15,
}

/// `TL0PICIDX` and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseIndex {
    /// Offset in the payload.
    pub at: u8,
    /// Its value.
    pub value: u8,
}

impl PictureId {
    /// Reads the one or two bytes at `at`.
    fn read(payload: &[u8], at: usize) -> Option<Self> {
        let first = *payload.get(at)?;
        let offset = u8::try_from(at).ok()?;
        if first & 0x80 == 0 {
            return Some(Self { at: offset, value: u16::from(first), width: PictureWidth::Bits7 });
        }
        let second = *payload.get(at + 1)?;
        let value = (u16::from(first & 0x7f) << 8) | u16::from(second);
        Some(Self { at: offset, value, width: PictureWidth::Bits15 })
    }

    /// How many bytes it takes.
    fn length(self) -> usize {
        match self.width {
            PictureWidth::Bits7 => 1,
            PictureWidth::Bits15 => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const VIDEO: [Codec; 4] = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];

    #[test]
    fn any_bytes_are_answered() {
        let mut random = Random::seeded(7);
        for _ in 0..200_000 {
            let payload = random.bytes(40);
            for codec in VIDEO {
                let look = codec.look(&payload);
                assert!(look.temporal < 8);
                let counters = codec.counters(&payload);
                if let Some(picture) = counters.picture {
                    assert!(usize::from(picture.at) + picture.length() <= payload.len());
                }
                if let Some(base) = counters.base {
                    assert_eq!(payload[usize::from(base.at)], base.value);
                }
            }
        }
    }

    #[test]
    fn every_header_byte_before_every_short_rest_is_answered() {
        for codec in VIDEO {
            for first in 0..=255u8 {
                for second in 0..=255u8 {
                    for length in 0..=6 {
                        let payload = [first, second, 0xff, 0x9d, 0x01, 0x2a];
                        codec.look(&payload[..length]);
                        codec.counters(&payload[..length]);
                    }
                }
            }
        }
    }
}
