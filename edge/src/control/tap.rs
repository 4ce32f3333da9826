//! The tap that a room's shard writes a recording to: WebRTC's words become the capture's.
//!
//! It is called from the thread that forwards media, so it only copies into the queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sfu::{Medium, StreamInfo, Tap, TapMark, User};
use shared::capture::Mark;
use shared::capture::rtp::{SenderReport, StreamDescription};
use shared::id::UserId;
use shared::track::TrackKind;

use super::queue::{Queue, TrackKey};

/// How many SSRCs' sequences are followed at once; more than a room of a thousand has. With one more all start anew, which a reader
/// does not mind.
const FOLLOWED_MAX: usize = 16_384;

/// How many pauses a log that begins late is told of, the newest: a worker joins those of all logs.
const PAUSES_TOLD: usize = 64;

/// One recording's tap. Dropping it ends the queue.
pub(super) struct RoomTap {
    queue: Queue,
    /// What has a log, for marks that concern a person.
    known: BTreeSet<TrackKey>,
    /// Who is there: what a log of theirs begins with, however late it does.
    present: BTreeMap<UserId, Presence>,
    /// The recording's pauses, oldest first; the last may not have ended.
    pauses: VecDeque<(i64, Option<i64>)>,
    /// The last extended sequence of each SSRC.
    followed: BTreeMap<u32, u32>,
    /// Streams that were described and have not flown yet; their mark takes the time of the first packet.
    described: Vec<(TrackKey, StreamDescription)>,
}

/// What is known of somebody as a whole.
#[derive(Debug, Clone, Copy)]
struct Presence {
    /// Since when they are there, microseconds since 1970 UTC.
    since_us: i64,
    /// Since when all of theirs is muted.
    muted_us: Option<i64>,
}

impl RoomTap {
    pub(super) fn new(queue: Queue) -> Self {
        let (known, present) = (BTreeSet::new(), BTreeMap::new());
        let (pauses, followed) = (VecDeque::new(), BTreeMap::new());
        Self { queue, known, present, pauses, followed, described: Vec::new() }
    }

    fn key(&mut self, user: &User, medium: Medium) -> Option<TrackKey> {
        let key = (UserId::parse(user.as_str()).ok()?, kind(medium));
        if !self.known.contains(&key) {
            self.known.insert(key.clone());
            self.begin(&key);
        }
        Some(key)
    }

    /// Whose log it is has come before. A log that an earlier process began may say that the recording is paused, or that they are
    /// away or muted.
    fn begin(&self, key: &TrackKey) {
        let presence = self.present.get(&key.0).copied();
        let since_us = presence.map(|presence| presence.since_us);
        if let Some(ended_us) = since_us.into_iter().chain(self.pauses.front().map(|(from, _)| *from)).min() {
            self.queue.mark(key, ended_us, Mark::Resumed);
        }
        for (from_us, to_us) in &self.pauses {
            self.queue.mark(key, *from_us, Mark::Paused);
            if let Some(to_us) = to_us {
                self.queue.mark(key, *to_us, Mark::Resumed);
            }
        }
        let Some(Presence { since_us, muted_us }) = presence else { return };
        self.queue.mark(key, since_us, Mark::Joined);
        match muted_us {
            None => self.queue.mark(key, since_us, Mark::Unmuted),
            Some(muted_us) => self.queue.mark(key, muted_us, Mark::Muted),
        }
    }

    /// Notes what concerns all of somebody's tracks, those that have no log yet included.
    fn note(&mut self, user: &UserId, arrival_us: i64, mark: TapMark) {
        match mark {
            TapMark::Joined => {
                let muted_us = self.present.get(user).and_then(|known| known.muted_us);
                self.present.insert(user.clone(), Presence { since_us: arrival_us, muted_us });
            }
            TapMark::Left => drop(self.present.remove(user)),
            TapMark::Muted | TapMark::Unmuted => {
                if let Some(known) = self.present.get_mut(user) {
                    known.muted_us = (mark == TapMark::Muted).then_some(arrival_us);
                }
            }
            TapMark::Keyframe { .. } => {}
        }
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

    fn pause(&mut self, since_us: i64) {
        if self.pauses.len() == PAUSES_TOLD {
            self.pauses.pop_front();
        }
        self.pauses.push_back((since_us, None));
        self.known.iter().for_each(|key| self.queue.mark(key, since_us, Mark::Paused));
    }

    fn resume(&mut self, at_us: i64) {
        if let Some((_, to_us)) = self.pauses.back_mut() {
            *to_us = Some(at_us);
        }
        self.known.iter().for_each(|key| self.queue.mark(key, at_us, Mark::Resumed));
    }

    fn mark(&mut self, user: &User, medium: Option<Medium>, arrival_us: i64, mark: TapMark) {
        let Ok(person) = UserId::parse(user.as_str()) else { return };
        let keys: Vec<TrackKey> = match medium {
            Some(medium) => self.key(user, medium).into_iter().collect(),
            None => {
                self.note(&person, arrival_us, mark);
                self.known.iter().filter(|(known, _)| *known == person).cloned().collect()
            }
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
    use super::super::queue::Taken;
    use super::*;

    /// What each log of a person holds, in its order.
    fn logged(queue: &Queue, kind: TrackKind) -> Vec<(i64, Mark)> {
        let Taken::Batches(batches) = queue.take() else { return Vec::new() };
        let of_kind = batches.into_iter().filter(|((_, of), _)| *of == kind);
        of_kind
            .flat_map(|(_, batch)| batch.marks().map(|(at, mark)| (at, mark.clone())).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn a_log_begins_with_its_persons_coming_however_late_they_speak() {
        let (queue, ann) = (Queue::default(), User::new("ann"));
        let mut tap = RoomTap::new(queue.clone());
        tap.mark(&ann, None, 1, TapMark::Joined);
        tap.mark(&ann, None, 1, TapMark::Unmuted);
        assert!(matches!(queue.take(), Taken::Nothing), "nobody has a log yet");
        tap.rtp(&ann, Medium::Audio, 5, &[0x80; 16]);
        let begun = [(1, Mark::Resumed), (1, Mark::Joined), (1, Mark::Unmuted)];
        assert_eq!(logged(&queue, TrackKind::Audio), begun, "whatever an earlier process wrote of them");
        tap.mark(&ann, None, 6, TapMark::Muted);
        assert_eq!(logged(&queue, TrackKind::Audio), [(6, Mark::Muted)]);
        tap.rtp(&ann, Medium::Video, 7, &[0x80; 16]);
        let begun = [(1, Mark::Resumed), (1, Mark::Joined), (6, Mark::Muted)];
        assert_eq!(logged(&queue, TrackKind::Video), begun);
        tap.mark(&ann, None, 8, TapMark::Left);
        tap.mark(&ann, Some(Medium::Screen), 9, TapMark::Muted);
        assert_eq!(logged(&queue, TrackKind::Screen), [(9, Mark::Muted)], "they are not there");
    }

    #[test]
    fn every_log_tells_of_every_pause_however_late_it_begins() {
        let (queue, ann) = (Queue::default(), User::new("ann"));
        let mut tap = RoomTap::new(queue.clone());
        tap.rtp(&ann, Medium::Audio, 1, &[0x80; 16]);
        tap.pause(2);
        tap.resume(5);
        assert_eq!(logged(&queue, TrackKind::Audio), [(2, Mark::Paused), (5, Mark::Resumed)]);
        tap.pause(7);
        tap.mark(&ann, Some(Medium::Video), 8, TapMark::Muted);
        let pauses = [(2, Mark::Resumed), (2, Mark::Paused), (5, Mark::Resumed), (7, Mark::Paused)];
        assert_eq!(logged(&queue, TrackKind::Video), [&pauses[..], &[(8, Mark::Muted)]].concat());
        (0..1_000).for_each(|at_us| {
            tap.resume(at_us);
            tap.pause(at_us);
        });
        assert_eq!(tap.pauses.len(), PAUSES_TOLD);
    }

    #[test]
    fn sequences_go_on_over_their_wrap_and_back() {
        let mut tap = RoomTap::new(Queue::default());
        let numbers: Vec<u32> =
            [65_534, 65_535, 1, 0, 65_533, 2].into_iter().map(|sequence| tap.extended(7, sequence)).collect();
        let first = numbers[0];
        assert_eq!(numbers, [first, first + 1, first + 3, first + 2, first - 1, first + 4]);
    }
}
