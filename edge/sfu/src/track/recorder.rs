//! What the recorder gets of a track: one stream at a time, the best that flows, changed at a keyframe of the new one; untouched.
//! While the best gives no keyframe, it gets what does.
//!
//! Unlike a subscriber it gets a track without layers from its first packet on: what is worthless without a keyframe is for the
//! assembly to say. Padding under a number of the stream's own is recorded, without its content: the number would be missed. What
//! came before, and padding on a repair stream, does not get here (`peer::window`). It must not know legs.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::codec::{Look, Starts};
use crate::command::Muting;
use crate::packet::Packet;
use crate::peer::Stream;
use crate::tap::{StreamInfo, Tap, TapMark};

use super::Track;
use super::holes::Holes;

/// How long the recorder waits for the best layer's keyframe while it gets nothing; then any layer's will do. One that was asked for
/// comes after a round trip, and a repetition of the request after [`crate::throttle::REPEAT_AFTER`]. Without the wait every recording
/// would begin with a picture of each size.
const BEST_WITHIN: Duration = Duration::from_secs(1);

/// Streams of one track that are described to one recorder: dozens of restarts of three layers. A publisher that makes up more has them
/// read as the others of their payload type.
const MAX_DESCRIBED: usize = 128;

/// What the recorder has of a track.
#[derive(Debug, Default)]
pub(super) struct Tapped {
    /// The stream that it gets: SSRC and payload type.
    stream: Option<(u32, u8)>,
    /// Since when it gets nothing.
    nothing_since: Option<Instant>,
    /// What was described to it. Each is told once: a publisher may change between two with every packet.
    described: Vec<(u32, u8)>,
    /// What is missing of the stream that it gets.
    holes: Holes,
}

impl Tapped {
    fn ssrc(&self) -> Option<u32> {
        self.stream.map(|(ssrc, _)| ssrc)
    }

    /// Whether a stream is to be described before its packet; from then on it is what the recorder gets.
    fn is_new(&mut self, stream: (u32, u8)) -> bool {
        if self.stream.replace(stream) == Some(stream) || self.described.contains(&stream) {
            return false;
        }
        self.described.len() < MAX_DESCRIBED
    }
}

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
        if self.muting == Muting::Muted {
            self.tapped.holes = Holes::default();
            return;
        }
        if !self.records(now, packet.ssrc, look) {
            return;
        }
        self.follow(now, packet, look);
        let stream = (packet.ssrc, packet.payload_type);
        if self.tapped.is_new(stream)
            && let Some(layer) = self.layers.iter().find(|layer| layer.stream.ssrc == packet.ssrc)
        {
            self.tapped.described.push(stream);
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

    /// Notes what is missing before a packet of a picture.
    fn follow(&mut self, now: Instant, packet: &Packet, look: Look) {
        if !self.medium.is_picture() {
            return;
        }
        if self.tapped.ssrc() != Some(packet.ssrc) {
            self.tapped.holes = Holes::default();
        }
        self.tapped.holes.came(now, packet.sequence, look.is_keyframe());
    }

    /// A packet came and is kept from everybody: it is not asked for again, nor is a keyframe in its place, which would be more still.
    pub(crate) fn withheld(&mut self, now: Instant, ssrc: u32, sequence: u16) {
        if self.tapped.ssrc() == Some(ssrc) {
            self.tapped.holes.came(now, sequence, false);
        }
    }

    /// Asks for a keyframe where a packet of what is recorded will not come any more.
    pub(crate) fn mend(&mut self, now: Instant) {
        if !self.tapped.holes.lost(now) || self.muting == Muting::Muted {
            return;
        }
        let ssrc = self.tapped.ssrc();
        if let Some(layer) = self.layers.iter_mut().find(|layer| Some(layer.stream.ssrc) == ssrc) {
            layer.requests.lost(now);
        }
    }

    /// When to call [`Self::mend`].
    pub(super) fn next_mending(&self) -> Option<Instant> {
        self.tapped.holes.next()
    }

    /// Whether a packet is recorded. The keyframe that another layer needs is asked for.
    fn records(&mut self, now: Instant, ssrc: u32, look: Look) -> bool {
        if self.layers.len() == 1 || self.tapped.ssrc() == Some(ssrc) {
            return true;
        }
        let flowing = self.layers.iter().filter(|layer| layer.flows(now));
        let Some(best) = flowing.max_by_key(|layer| layer.layer) else { return false };
        let wanted = best.stream.ssrc == ssrc || self.lacks_best(now);
        let Some(layer) = self.layers.iter_mut().find(|layer| wanted && layer.stream.ssrc == ssrc) else {
            return false;
        };
        if !look.is_keyframe() {
            layer.requests.wish(now);
        }
        look.is_keyframe()
    }

    /// Whether the recorder has got nothing for so long that any layer is better.
    fn lacks_best(&mut self, now: Instant) -> bool {
        let tapped = self.tapped.ssrc();
        if self.layers.iter().any(|layer| tapped == Some(layer.stream.ssrc) && layer.flows(now)) {
            self.tapped.nothing_since = None;
            return false;
        }
        let since = *self.tapped.nothing_since.get_or_insert(now);
        now.saturating_duration_since(since) >= BEST_WITHIN
    }

    /// A recording begins, or goes on: it has seen nothing yet.
    pub(crate) fn begin_tap(&mut self, now: Instant) {
        self.tapped = Tapped::default();
        self.want_keyframes(now);
    }

    /// Nothing is recorded any more, or for now.
    pub(crate) fn end_tap(&mut self) {
        self.tapped = Tapped::default();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::format::{Codec, Extensions};
    use crate::ids::{Medium, Mid, PeerId, User};
    use crate::keyframe::Due;
    use crate::peer::ASKED_FOR;
    use crate::track::TrackId;

    /// What a recorder was given: streams as their SSRC with a minus.
    #[derive(Default)]
    struct Given(Vec<i64>);

    impl Tap for Given {
        fn stream(&mut self, _: &User, _: Medium, stream: &StreamInfo) {
            self.0.push(-i64::from(stream.ssrc));
        }
        fn rtp(&mut self, _: &User, _: Medium, _: i64, packet: &[u8]) {
            self.0.push(i64::from(packet[11]));
        }
        fn sender_report(&mut self, _: &User, _: Medium, _: i64, _: u32, _: u64, _: u32) {}
        fn pause(&mut self, _: i64) {}
        fn resume(&mut self, _: i64) {}
        fn mark(&mut self, _: &User, _: Option<Medium>, _: i64, _: TapMark) {}
    }

    fn stream(ssrc: u32, rid: &str) -> Arc<Stream> {
        let codec = Codec {
            payload_type: 96,
            mime: "video/VP8".into(),
            clock_rate: 90_000,
            channels: 0,
            fmtp: String::new(),
        };
        let (mid, extensions) = (Mid::new("1"), Extensions::default());
        Arc::new(Stream { ssrc, mid, rid: rid.into(), codec, extensions, nack: true })
    }

    fn track(now: Instant, streams: &[(u32, &str)]) -> Track {
        let owner = (PeerId(1), User::new("ann"));
        let first = stream(streams[0].0, streams[0].1);
        let mut track = Track::new(TrackId(1), owner, Medium::Video, &first, Muting::Unmuted);
        streams.iter().for_each(|(ssrc, rid)| track.add_layer(now, &stream(*ssrc, rid)));
        track
    }

    const PICTURE: Look = Look::ORDINARY;
    const KEYFRAME: Look = Look { starts: Starts::Keyframe(None), ..Look::ORDINARY };

    fn record(track: &mut Track, now: Instant, ssrc: u32, look: Look, given: &mut Given) {
        record_numbered(track, now, (ssrc, 1), look, given);
    }

    fn record_numbered(
        track: &mut Track,
        now: Instant,
        (ssrc, sequence): (u32, u16),
        look: Look,
        given: &mut Given,
    ) {
        let packet = Packet {
            marker: true,
            payload_type: 96,
            sequence,
            timestamp: 1,
            ssrc,
            extensions: Vec::new(),
            payload: Bytes::from_static(b"x"),
        };
        track.tap((now, 0), &packet, look, given, &mut BytesMut::new());
        track.forward(now, &packet, look, &mut Vec::new());
    }

    #[test]
    fn a_layer_that_gives_no_keyframe_keeps_the_others_back_for_a_moment_alone() {
        let (start, mut given) = (Instant::now(), Given::default());
        let mut track = track(start, &[(1, "q"), (3, "f")]);
        record(&mut track, start, 1, KEYFRAME, &mut given);
        record(&mut track, start, 3, PICTURE, &mut given);
        assert_eq!(given.0, [0; 0], "the best may come at once");
        let later = start + BEST_WITHIN;
        record(&mut track, later, 3, PICTURE, &mut given);
        record(&mut track, later, 1, PICTURE, &mut given);
        assert_eq!(given.0, [0; 0], "nothing shows without a keyframe");
        record(&mut track, later, 1, KEYFRAME, &mut given);
        record(&mut track, later, 3, PICTURE, &mut given);
        record(&mut track, later, 1, PICTURE, &mut given);
        record(&mut track, later, 3, KEYFRAME, &mut given);
        record(&mut track, later, 1, KEYFRAME, &mut given);
        record(&mut track, later, 3, PICTURE, &mut given);
        assert_eq!(given.0, [-1, 1, 1, -3, 3, 3], "it moves up at the first keyframe of the best");
    }

    /// With nobody watching: a lost packet that is not sent again would leave the file still until a keyframe comes by itself.
    #[test]
    fn a_packet_that_is_lost_for_good_has_a_keyframe_asked_for_once() {
        let (start, mut given) = (Instant::now(), Given::default());
        let mut track = track(start, &[(1, "")]);
        let after = |ms| start + Duration::from_millis(ms);
        record_numbered(&mut track, start, (1, 1), KEYFRAME, &mut given);
        for number in (2..100).filter(|number| ![10, 20].contains(number)) {
            let now = after(u64::from(number) * 33);
            record_numbered(&mut track, now, (1, number), PICTURE, &mut given);
            if number == 25 {
                record_numbered(&mut track, now, (1, 20), PICTURE, &mut given);
            }
            track.mend(now);
            let due = track.layers[0].requests.take(now);
            assert_eq!(due == Due::Yes, number == 42, "{number}");
            if due == Due::Yes {
                record_numbered(&mut track, now, (1, number), KEYFRAME, &mut given);
            }
        }
    }

    /// A shared screen that stands still sends nothing that would show how long a packet has been missing.
    #[test]
    fn a_picture_that_stands_still_is_mended_when_its_time_has_come() {
        let (start, mut given) = (Instant::now(), Given::default());
        let mut track = track(start, &[(1, "")]);
        record_numbered(&mut track, start, (1, 1), KEYFRAME, &mut given);
        record_numbered(&mut track, start, (1, 3), PICTURE, &mut given);
        assert_eq!(track.next(), Some(start + ASKED_FOR));
        track.mend(start + ASKED_FOR);
        assert_eq!(track.layers[0].requests.take(start + ASKED_FOR), Due::Yes);
        record_numbered(&mut track, start + ASKED_FOR, (1, 4), KEYFRAME, &mut given);
        record_numbered(&mut track, start + ASKED_FOR, (1, 6), PICTURE, &mut given);
        track.end_tap();
        assert_eq!(track.next(), None, "nobody records it");
    }

    #[test]
    fn what_was_more_than_allowed_is_not_missing() {
        let (start, mut given) = (Instant::now(), Given::default());
        let mut track = track(start, &[(1, "")]);
        record_numbered(&mut track, start, (1, 1), KEYFRAME, &mut given);
        (2..50).for_each(|number| track.withheld(start, 1, number));
        record_numbered(&mut track, start, (1, 50), PICTURE, &mut given);
        assert_eq!(track.next(), None);
    }

    #[test]
    fn two_streams_in_turns_are_described_once_each() {
        let (now, mut given) = (Instant::now(), Given::default());
        let mut track = track(now, &[(1, "")]);
        record(&mut track, now, 1, PICTURE, &mut given);
        track.add_layer(now, &stream(2, ""));
        (0..3)
            .for_each(|_| [2, 1].iter().for_each(|ssrc| record(&mut track, now, *ssrc, PICTURE, &mut given)));
        assert_eq!(given.0, [-1, 1, -2, 2, 1, 2, 1, 2, 1]);
        track.begin_tap(now);
        record(&mut track, now, 2, PICTURE, &mut given);
        assert_eq!(given.0[9..], [-2, 2], "another recording knows nothing");
    }
}
