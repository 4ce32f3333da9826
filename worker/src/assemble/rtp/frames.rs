//! One SSRC's packets, in order, become frames: whole ones alone, each with what was lost before it.
//!
//! Knows no clock. A frame is whole when its first packet shows itself as such, no sequence is missing up to its last, and
//! its last is marked or followed by another timestamp without a hole.

use shared::capture::rtp::{RtpPacket, StreamDescription};

use super::depacketize::{Begins, Part, Reference, Unpacker};
use super::unwrap::Position;
use crate::assemble::codec::{Codec, Marked};

/// URI of the rotation header extension (3GPP TS 26.114, 7.4.5).
const ORIENTATION: &str = "urn:3gpp:video-orientation";

/// What was lost between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Loss {
    /// Nothing.
    #[default]
    None,
    /// A frame that no other needs.
    Disposable,
    /// Something that later frames may need.
    Reference,
}

/// A whole frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) at: Position,
    pub(super) codec: Codec,
    pub(super) marked: Marked,
    pub(super) data: Vec<u8>,
    pub(super) lost_before: Loss,
    /// Degrees clockwise, where a packet told them.
    pub(super) rotation: Option<u16>,
}

/// Builds frames.
#[derive(Debug, Default)]
pub(super) struct Builder {
    partial: Option<Partial>,
    /// What was lost since the last whole frame.
    lost: Loss,
    /// Whether the packet before the next one is missing.
    hole: Hole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hole {
    #[default]
    No,
    Yes,
}

#[derive(Debug)]
struct Partial {
    at: Position,
    codec: Codec,
    /// `None` once something of the frame is missing.
    unpacker: Option<Unpacker>,
    marked: Marked,
    reference: Reference,
    data: Vec<u8>,
    rotation: Option<u16>,
}

impl Builder {
    /// Takes the next packet, and gives the frames that it ends: at most the one before it and its own.
    pub(super) fn packet(
        &mut self,
        at: Position,
        packet: &RtpPacket<'_>,
        described: Option<(&StreamDescription, Codec)>,
        mut done: impl FnMut(Frame),
    ) {
        let Some((description, codec)) = described.filter(|_| !packet.payload.is_empty()) else { return };
        let same = |partial: &Partial| {
            (partial.at.ticks, partial.at.epoch, partial.codec) == (at.ticks, at.epoch, codec)
        };
        if self.partial.as_ref().is_some_and(|partial| !same(partial)) {
            self.finish().map(&mut done);
        }
        let hole = std::mem::take(&mut self.hole);
        let partial = self.partial.get_or_insert_with(|| Partial::new(at, codec));
        let first = partial.at.sequence == at.sequence;
        partial.take(packet.payload, if first { Place::First(hole) } else { Place::Later(hole) });
        let rotation = description.extension_id(ORIENTATION).and_then(|id| packet.extension(id));
        if let Some(&[byte, ..]) = rotation {
            partial.rotation = Some(u16::from(byte & 3) * 90);
        }
        if packet.marker || codec == Codec::Opus {
            self.finish().map(done);
        }
    }

    /// Packets are missing before the next one.
    pub(super) fn lost(&mut self) {
        self.hole = Hole::Yes;
        self.lost = Loss::Reference;
        if let Some(partial) = &mut self.partial {
            partial.unpacker = None;
        }
    }

    /// No more packets come: what has begun lacks its end.
    pub(super) fn abandon(&mut self) {
        if self.partial.take().is_some() {
            self.lost = Loss::Reference;
        }
    }

    /// Where the frame stands that is not whole yet.
    pub(super) fn pending(&self) -> Option<Position> {
        self.partial.as_ref().map(|partial| partial.at)
    }

    /// Ends the frame that is being built.
    fn finish(&mut self) -> Option<Frame> {
        let mut partial = self.partial.take()?;
        let reference = partial.reference;
        let whole = partial.unpacker.take().and_then(|unpacker| unpacker.finish(&mut partial.data));
        if whole.is_none() || partial.data.is_empty() {
            let loss = if reference == Reference::No { Loss::Disposable } else { Loss::Reference };
            self.lost = self.lost.max(loss);
            return None;
        }
        Some(Frame {
            at: partial.at,
            codec: partial.codec,
            marked: partial.marked,
            data: partial.data,
            lost_before: std::mem::take(&mut self.lost),
            rotation: partial.rotation,
        })
    }
}

/// Where a packet stands in its frame, and whether packets before it are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First(Hole),
    Later(Hole),
}

impl Partial {
    fn new(at: Position, codec: Codec) -> Self {
        Self {
            at,
            codec,
            unpacker: Unpacker::new(codec),
            marked: Marked::Delta,
            reference: Reference::Yes,
            data: Vec::new(),
            rotation: None,
        }
    }

    fn take(&mut self, payload: &[u8], place: Place) {
        let Some(unpacker) = &mut self.unpacker else { return };
        let part = unpacker.push(payload, &mut self.data);
        let Some(Part { begins, marked, reference }) = part else {
            self.unpacker = None;
            return;
        };
        if marked == Marked::Key {
            self.marked = Marked::Key;
        }
        self.reference = reference;
        // Without a hole a frame begins where the last one ended, whatever its first packet looks like.
        let unproven = place == Place::First(Hole::Yes) && begins == Begins::No;
        if unproven || place == Place::Later(Hole::Yes) {
            self.unpacker = None;
        }
    }
}
