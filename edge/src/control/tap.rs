//! The tap that a room's shard writes a recording to: WebRTC's words become the capture's.
//!
//! It is called from the thread that forwards media, so it only copies into the queue.

use std::collections::{BTreeMap, BTreeSet};

use sfu::{Medium, StreamInfo, Tap, TapMark, User};
use shared::capture::Mark;
use shared::capture::rtp::{SenderReport, StreamDescription};
use shared::id::UserId;
use shared::track::TrackKind;

use super::queue::{Queue, TrackKey};

/// How many SSRCs' sequences are followed at once; more than a room of a thousand has. Beyond it the oldest numbers start anew,
/// which a reader does not mind.
const FOLLOWED_MAX: usize = 16_384;

/// One recording's tap. Dropping it ends the queue.
pub(super) struct RoomTap {
    queue: Queue,
    /// What has flown, for marks that concern a person.
    known: BTreeSet<TrackKey>,
    /// The last extended sequence of each SSRC.
    followed: BTreeMap<u32, u32>,
    /// Streams that were described and have not flown yet; their mark takes the time of the first packet.
    described: Vec<(TrackKey, StreamDescription)>,
}

impl RoomTap {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, known: BTreeSet::new(), followed: BTreeMap::new(), described: Vec::new() }
    }

    fn key(&mut self, user: &User, medium: Medium) -> Option<TrackKey> {
        let key = (UserId::parse(user.as_str()).ok()?, kind(medium));
        if !self.known.contains(&key) {
            self.known.insert(key.clone());
        }
        Some(key)
    }

    /// The packet's sequence beyond 16 bits: the one closest to the last (RFC 3711, section 3.3.1).
    fn extended(&mut self, ssrc: u32, sequence: u16) -> u32 {
        if self.followed.len() >= FOLLOWED_MAX && !self.followed.contains_key(&ssrc) {
            self.followed.clear();
        }
        // One turn ahead, so that a packet from before the first has a number too.
        let last = *self.followed.entry(ssrc).or_insert(u32::from(sequence) + 0x1_0000);
        let ahead = sequence.wrapping_sub(last as u16) as i16;
        let extended = last.wrapping_add_signed(ahead.into());
        if ahead > 0 {
            self.followed.insert(ssrc, extended);
        }
        extended
    }
}

impl Tap for RoomTap {
    fn stream(&mut self, user: &User, medium: Medium, stream: &StreamInfo) {
        let Some(key) = self.key(user, medium) else { return };
        let described = StreamDescription {
            ssrc: stream.ssrc,
            payload_type: stream.payload_type,
            clock_rate: stream.clock_rate,
            channels: u8::try_from(stream.channels).unwrap_or(u8::MAX),
            mime: stream.mime.clone(),
            fmtp: stream.fmtp.clone(),
            rid: stream.rid.clone(),
            extensions: stream.extensions.clone(),
        };
        self.described.push((key, described));
    }

    fn rtp(&mut self, user: &User, medium: Medium, arrival_us: i64, packet: &[u8]) {
        let Some(key) = self.key(user, medium) else { return };
        // RFC 3550, section 5.1: sequence at 2, SSRC at 8.
        let (Some(sequence), Some(ssrc)) = (number(packet, 2), number(packet, 8)) else { return };
        for (key, stream) in self.described.drain(..) {
            self.queue.mark(&key, arrival_us, Mark::Stream(stream));
        }
        let extended = self.extended(u32::from_be_bytes(ssrc), u16::from_be_bytes(sequence));
        self.queue.rtp(&key, extended, arrival_us, packet);
    }

    fn sender_report(&mut self, user: &User, medium: Medium, arrival_us: i64, ssrc: u32, ntp: u64, rtp: u32) {
        let Some(key) = self.key(user, medium) else { return };
        self.queue.sender_report(&key, arrival_us, &SenderReport { ssrc, ntp, rtp });
    }

    fn mark(&mut self, user: &User, medium: Option<Medium>, arrival_us: i64, mark: TapMark) {
        let keys: Vec<TrackKey> = match medium {
            Some(medium) => self.key(user, medium).into_iter().collect(),
            None => self.known.iter().filter(|(known, _)| known.as_str() == user.as_str()).cloned().collect(),
        };
        for key in keys {
            self.queue.mark(&key, arrival_us, marked(mark));
        }
    }
}

impl Drop for RoomTap {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A screen's sound stands in the screen's log: they are one medium for whoever watches.
fn kind(medium: Medium) -> TrackKind {
    match medium {
        Medium::Audio => TrackKind::Audio,
        Medium::Video => TrackKind::Video,
        Medium::Screen | Medium::ScreenAudio => TrackKind::Screen,
    }
}

fn marked(mark: TapMark) -> Mark {
    match mark {
        TapMark::Joined => Mark::Joined,
        TapMark::Left => Mark::Left,
        TapMark::Muted => Mark::Muted,
        TapMark::Unmuted => Mark::Unmuted,
        TapMark::Keyframe { width, height } => Mark::Keyframe { width, height },
    }
}

fn number<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_on_over_their_wrap_and_back() {
        let mut tap = RoomTap::new(Queue::default());
        let numbers: Vec<u32> =
            [65_534, 65_535, 1, 0, 65_533, 2].into_iter().map(|sequence| tap.extended(7, sequence)).collect();
        let first = numbers[0];
        assert_eq!(numbers, [first, first + 1, first + 3, first + 2, first - 1, first + 4]);
    }
}
