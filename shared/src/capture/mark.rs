//! Marks: what happened to a track besides media, and how a mark's record is encoded.
//!
//! This file must not know who sets marks. A mark of a kind that a later version adds is passed over by earlier readers.

use super::format::{Fields, MAX_MIME_BYTES};
use super::rtp::StreamDescription;

/// Something that holds from its place in the log on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The client has sent all it has, up to this sequence.
    Complete {
        /// The last sequence that there is.
        last_sequence: u32,
    },
    /// The chunks from here on have this mime type.
    Mime(String),
    /// The participant muted this track.
    Muted,
    /// The participant unmuted it.
    Unmuted,
    /// The recording was paused.
    Paused,
    /// The recording went on.
    Resumed,
    /// A keyframe of this size was forwarded.
    Keyframe {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
    /// The packets of an SSRC from here on are this.
    Stream(StreamDescription),
    /// The participant came, or came back.
    Joined,
    /// The participant went.
    Left,
    /// The edge could not write these packets: its queue or its disk was full.
    Dropped {
        /// Arrival of the first, microseconds since 1970 UTC.
        from_us: i64,
        /// Arrival of the last.
        to_us: i64,
        /// How many.
        packets: u32,
    },
    /// What the segments before this one hold of a server track; stands at the start of each.
    Totals {
        /// Packets.
        packets: u64,
        /// Their bytes.
        bytes: u64,
        /// When the first came, microseconds since 1970 UTC.
        first_us: i64,
    },
}

impl Mark {
    /// The body of a mark's record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Complete { last_sequence } => [&[1], last_sequence.to_le_bytes().as_slice()].concat(),
            Self::Mime(mime) => [&[2], mime.as_bytes()].concat(),
            Self::Muted => vec![3],
            Self::Unmuted => vec![4],
            Self::Paused => vec![5],
            Self::Resumed => vec![6],
            Self::Keyframe { width, height } => {
                [&[7], width.to_le_bytes().as_slice(), height.to_le_bytes().as_slice()].concat()
            }
            Self::Stream(stream) => {
                let mut body = vec![8];
                stream.encode(&mut body);
                body
            }
            Self::Joined => vec![9],
            Self::Left => vec![10],
            Self::Dropped { from_us, to_us, packets } => {
                [&[11], from_us.to_le_bytes().as_slice(), &to_us.to_le_bytes(), &packets.to_le_bytes()]
                    .concat()
            }
            Self::Totals { packets, bytes, first_us } => {
                [&[12], packets.to_le_bytes().as_slice(), &bytes.to_le_bytes(), &first_us.to_le_bytes()]
                    .concat()
            }
        }
    }

    /// Reads a mark; `None` when it is of a kind not known here.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (&code, rest) = body.split_first()?;
        let mut fields = Fields(rest);
        Some(match code {
            1 => Self::Complete { last_sequence: u32::from_le_bytes(fields.array()?) },
            2 => Self::Mime(
                std::str::from_utf8(rest).ok().filter(|mime| mime.len() <= MAX_MIME_BYTES)?.to_owned(),
            ),
            3 => Self::Muted,
            4 => Self::Unmuted,
            5 => Self::Paused,
            6 => Self::Resumed,
            7 => Self::Keyframe {
                width: u16::from_le_bytes(fields.array()?),
                height: u16::from_le_bytes(fields.array()?),
            },
            8 => Self::Stream(StreamDescription::decode(rest)?),
            9 => Self::Joined,
            10 => Self::Left,
            11 => Self::Dropped {
                from_us: i64::from_le_bytes(fields.array()?),
                to_us: i64::from_le_bytes(fields.array()?),
                packets: u32::from_le_bytes(fields.array()?),
            },
            12 => Self::Totals {
                packets: u64::from_le_bytes(fields.array()?),
                bytes: u64::from_le_bytes(fields.array()?),
                first_us: i64::from_le_bytes(fields.array()?),
            },
            _ => return None,
        })
    }
}
