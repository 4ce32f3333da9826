//! What the recorder gets of a track: one stream at a time, the best that flows, changed at a keyframe of the new one; untouched.
//!
//! Unlike a subscriber it gets a track without layers from its first packet on: what is worthless without a keyframe is for the
//! assembly to say. Padding under a number of the stream's own is recorded, without its content: the number would be missed. What
//! came before, and padding on a repair stream, does not get here (`peer::window`). It must not know legs.

use std::time::Instant;

use bytes::BytesMut;

use crate::codec::{Look, Starts};
use crate::command::Muting;
use crate::packet::Packet;
use crate::peer::Stream;
use crate::tap::{StreamInfo, Tap, TapMark};

use super::Track;

impl Track {
    /// Gives a packet to the recorder, if it is of the layer that is recorded.
    pub(crate) fn tap(
        &mut self,
        (now, arrival_us): (Instant, i64),
        packet: &Packet,
        look: Look,
        tap: &mut dyn Tap,
        wire: &mut BytesMut,
    ) {
        if self.muting == Muting::Muted || !self.records(now, packet.ssrc, look) {
            return;
        }
        if self.tapped.replace(packet.ssrc) != Some(packet.ssrc)
            && let Some(layer) = self.layers.iter().find(|layer| layer.stream.ssrc == packet.ssrc)
        {
            tap.stream(&self.user, self.medium, &describe(&layer.stream));
        }
        if let Starts::Keyframe(Some(size)) = look.starts {
            let pixels = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
            let mark = TapMark::Keyframe { width: pixels(size.width), height: pixels(size.height) };
            tap.mark(&self.user, Some(self.medium), arrival_us, mark);
        }
        wire.clear();
        packet.write(wire);
        tap.rtp(&self.user, self.medium, arrival_us, wire);
    }

    /// Whether a packet is recorded. The keyframe that a better layer needs is asked for.
    fn records(&mut self, now: Instant, ssrc: u32, look: Look) -> bool {
        if self.layers.len() == 1 {
            return true;
        }
        let flowing = self.layers.iter_mut().filter(|layer| layer.flows(now));
        let Some(best) = flowing.max_by_key(|layer| layer.layer) else { return false };
        if best.stream.ssrc == ssrc && self.tapped != Some(ssrc) && !look.is_keyframe() {
            best.requests.wish(now);
            return false;
        }
        best.stream.ssrc == ssrc || self.tapped == Some(ssrc)
    }

    /// A recording begins: it has seen nothing yet.
    pub(crate) fn begin_tap(&mut self, now: Instant) {
        self.tapped = None;
        self.want_keyframes(now);
    }
}

fn describe(stream: &Stream) -> StreamInfo {
    StreamInfo {
        ssrc: stream.ssrc,
        payload_type: stream.codec.payload_type,
        mime: stream.codec.mime.clone(),
        clock_rate: stream.codec.clock_rate,
        channels: stream.codec.channels,
        fmtp: stream.codec.fmtp.clone(),
        rid: stream.rid.to_string(),
        extensions: stream.extensions.0.iter().map(|(id, uri)| (*id, uri.to_string())).collect(),
    }
}
