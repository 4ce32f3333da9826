//! What stands between the media threads and the disk: a bounded queue of packets, gathered per track.
//!
//! This file must not know WebRTC or files. A media thread adds and never waits; one task takes everything at once. When the
//! queue is full, packets are dropped and their span is noted, so that the recording tells the gap. Marks of a batch that could
//! not be written wait for the next that can: without its description a stream could never be read. What senders tell again by
//! themselves, reports and pictures' sizes, is kept up to a limit of its own.
//!
//! Decision: one lock around gathered batches, not a channel of packets. The writer holds it for as long as it takes to swap a
//! map; a packet costs one copy into its track's batch and no allocation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::capture::rtp::SenderReport;
use shared::capture::{Batch, Mark};
use shared::id::UserId;
use shared::track::TrackKind;
use tokio::sync::Notify;

/// How much of one recording may wait for the disk: 50 cameras of 2 Mbit/s for a third of a second, some 40 times as long as a
/// sync takes on a busy disk.
const QUEUE_MAX_BYTES: usize = 4 << 20;

/// How many sender reports and keyframes' sizes of one track may wait for the disk: those of three layers for minutes, in 24 kB.
/// Any more are left out, not the first: those stand beside the packets that were kept, and clocks are compared there. What
/// comes once the disk writes again stands beside the next.
const RETOLD_MAX: usize = 512;

/// How many descriptions of streams of one track may wait for the disk: restarts of three layers by the dozen, in 600 kB at most, as
/// the media threads bound each. A publisher makes one with every SSRC that it makes up.
const STREAMS_MAX: usize = 256;

/// Whose medium.
pub(crate) type TrackKey = (UserId, TrackKind);

/// The queue of one recording. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    tracks: BTreeMap<TrackKey, Track>,
    bytes: usize,
    state: State,
}

#[derive(Debug, Default)]
struct Track {
    batch: Batch,
    /// How many records of the batch count for [`RETOLD_MAX`].
    retold: usize,
    /// How many for [`STREAMS_MAX`].
    streams: usize,
    dropped: Option<Dropped>,
}

/// What is left of a batch that could not be written.
#[derive(Debug)]
pub(crate) struct Lost {
    marks: Vec<(i64, Mark)>,
    dropped: Option<Dropped>,
}

/// Packets that could not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dropped {
    from_us: i64,
    to_us: i64,
    packets: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Closed,
}

/// What the writer finds.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Something to write.
    Batches(Vec<(TrackKey, Batch)>),
    /// Nothing, for now.
    Nothing,
    /// Nothing, and nothing will come.
    Ended,
}

impl Queue {
    /// Adds a packet, or notes that it was dropped.
    pub(crate) fn rtp(&self, key: &TrackKey, sequence: u32, arrival_us: i64, packet: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes + packet.len() > QUEUE_MAX_BYTES {
            let one = Dropped { from_us: arrival_us, to_us: arrival_us, packets: 1 };
            waiting.track(key).drop_more(one);
            return;
        }
        waiting.bytes += packet.len();
        waiting.track(key).batch.rtp(sequence, arrival_us, packet);
        drop(waiting);
        self.more.notify_one();
    }

    /// Adds a mark. All are kept beside a full queue, because they are told once and a thousandth of what flows; but not all
    /// sizes of keyframes and descriptions of streams, of which a sender can make as many as it likes.
    pub(crate) fn mark(&self, key: &TrackKey, arrival_us: i64, mark: Mark) {
        if matches!(mark, Mark::Keyframe { .. }) {
            return self.retold(key, |batch| batch.mark(arrival_us, mark));
        }
        self.lock().track(key).mark(arrival_us, mark);
        self.more.notify_one();
    }

    /// Adds a sender report, up to [`RETOLD_MAX`].
    pub(crate) fn sender_report(&self, key: &TrackKey, arrival_us: i64, report: &SenderReport) {
        self.retold(key, |batch| batch.sender_report(arrival_us, report));
    }

    fn retold(&self, key: &TrackKey, add: impl FnOnce(&mut Batch)) {
        let mut waiting = self.lock();
        let track = waiting.track(key);
        if track.retold < RETOLD_MAX {
            track.retold += 1;
            add(&mut track.batch);
            drop(waiting);
            self.more.notify_one();
        }
    }

    /// Notes that a batch could not be written; its marks and its span are told with the next that can.
    pub(crate) fn lost(&self, key: &TrackKey, lost: Lost) {
        self.lock().track(key).take_back(lost);
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        self.lock().state = State::Closed;
        self.more.notify_one();
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> Taken {
        let (tracks, state) = {
            let mut waiting = self.lock();
            waiting.bytes = 0;
            (std::mem::take(&mut waiting.tracks), waiting.state)
        };
        let batches: Vec<_> = tracks.into_iter().map(|(key, track)| (key, track.batch())).collect();
        match (batches.is_empty(), state) {
            (false, _) => Taken::Batches(batches),
            (true, State::Open) => Taken::Nothing,
            (true, State::Closed) => Taken::Ended,
        }
    }

    /// Resolves when something was added or the queue was closed, also before this was called.
    pub(crate) async fn more(&self) {
        self.more.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn track(&mut self, key: &TrackKey) -> &mut Track {
        if !self.tracks.contains_key(key) {
            self.tracks.insert(key.clone(), Track::default());
        }
        self.tracks.get_mut(key).expect("it was just put there")
    }
}

impl Track {
    fn mark(&mut self, at_us: i64, mark: Mark) {
        let describes = matches!(mark, Mark::Stream(_));
        if describes && self.streams >= STREAMS_MAX {
            return;
        }
        self.streams += usize::from(describes);
        self.batch.mark(at_us, mark);
    }

    /// Puts the marks before what has come since.
    fn take_back(&mut self, lost: Lost) {
        let since = std::mem::take(&mut self.batch);
        lost.marks.into_iter().for_each(|(at_us, mark)| self.mark(at_us, mark));
        self.batch.append(since);
        if let Some(dropped) = lost.dropped {
            self.drop_more(dropped);
        }
    }

    fn drop_more(&mut self, more: Dropped) {
        let all = self.dropped.get_or_insert(Dropped { packets: 0, ..more });
        all.from_us = all.from_us.min(more.from_us);
        all.to_us = all.to_us.max(more.to_us);
        all.packets = all.packets.saturating_add(more.packets);
    }

    fn batch(mut self) -> Batch {
        if let Some(Dropped { from_us, to_us, packets }) = self.dropped {
            self.batch.mark(to_us, Mark::Dropped { from_us, to_us, packets });
        }
        self.batch
    }
}

impl Lost {
    /// What is to be told of a batch if it cannot be written. Sizes of pictures are told again by the next keyframe.
    pub(crate) fn of(batch: &Batch) -> Self {
        let packets = u32::try_from(batch.packets()).unwrap_or(u32::MAX);
        let mut track = Track::default();
        if let Some((from_us, to_us)) = batch.packet_arrivals_us() {
            track.drop_more(Dropped { from_us, to_us, packets });
        }
        let mut marks = Vec::new();
        for (at_us, mark) in batch.marks() {
            match *mark {
                Mark::Dropped { from_us, to_us, packets } => {
                    track.drop_more(Dropped { from_us, to_us, packets });
                }
                Mark::Keyframe { .. } => {}
                ref mark => marks.push((at_us, mark.clone())),
            }
        }
        Self { marks, dropped: track.dropped }
    }

    /// Whether nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.dropped.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::capture::rtp::StreamDescription;

    fn key() -> TrackKey {
        (UserId::parse("ann").unwrap(), TrackKind::Video)
    }

    #[test]
    fn a_full_queue_drops_and_tells_the_span() {
        let (queue, key) = (Queue::default(), key());
        let packet = vec![0; 1 << 20];
        for arrival_us in 0..7 {
            queue.rtp(&key, 0, arrival_us, &packet);
        }
        let Taken::Batches(batches) = queue.take() else { panic!("there is something") };
        let mut expected = Batch::default();
        (0..4).for_each(|arrival_us| expected.rtp(0, arrival_us, &packet));
        expected.mark(6, Mark::Dropped { from_us: 4, to_us: 6, packets: 3 });
        assert_eq!(format!("{:?}", batches[0].1), format!("{expected:?}"));
        queue.rtp(&key, 0, 8, &packet);
        assert!(matches!(queue.take(), Taken::Batches(_)), "there is room again");
    }

    #[test]
    fn a_batch_that_cannot_be_written_leaves_its_marks_and_its_span_to_the_next() {
        let (queue, key) = (Queue::default(), key());
        let keyframe = Mark::Keyframe { width: 320, height: 180 };
        queue.mark(&key, 9, Mark::Joined);
        for arrival_us in [10, 20, 30] {
            queue.mark(&key, arrival_us, keyframe.clone());
            queue.rtp(&key, 1, arrival_us, b"packet");
            let Taken::Batches(batches) = queue.take() else { panic!("there is something") };
            queue.lost(&key, Lost::of(&batches[0].1));
        }
        queue.rtp(&key, 2, 40, b"packet");
        let Taken::Batches(batches) = queue.take() else { panic!("there is something") };
        let mut expected = Batch::default();
        expected.mark(9, Mark::Joined);
        expected.rtp(2, 40, b"packet");
        expected.mark(30, Mark::Dropped { from_us: 10, to_us: 30, packets: 3 });
        assert_eq!(format!("{:?}", batches[0].1), format!("{expected:?}"));
    }

    #[test]
    fn a_flood_of_reports_and_keyframes_is_bounded_and_takes_no_other_mark_along() {
        let (queue, key) = (Queue::default(), key());
        let (report, keyframe) =
            (SenderReport { ssrc: 7, ntp: 0, rtp: 0 }, Mark::Keyframe { width: 320, height: 180 });
        let once = [Mark::Joined, Mark::Muted, Mark::Unmuted, Mark::Left];
        let mut expected = Batch::default();
        for arrival_us in 0..2_000 {
            queue.sender_report(&key, arrival_us, &report);
            queue.mark(&key, arrival_us, keyframe.clone());
            if arrival_us < 256 {
                expected.sender_report(arrival_us, &report);
                expected.mark(arrival_us, keyframe.clone());
            }
            if let Some(mark) = usize::try_from(arrival_us / 500).ok().filter(|_| arrival_us % 500 == 0) {
                queue.mark(&key, arrival_us, once[mark].clone());
                expected.mark(arrival_us, once[mark].clone());
            }
        }
        let Taken::Batches(batches) = queue.take() else { panic!("there is something") };
        assert_eq!(format!("{:?}", batches[0].1), format!("{expected:?}"));
        queue.sender_report(&key, 2_000, &report);
        assert!(matches!(queue.take(), Taken::Batches(_)), "there is room again");
    }

    #[test]
    fn a_flood_of_descriptions_is_bounded_while_the_disk_takes_nothing() {
        let (queue, key) = (Queue::default(), key());
        let described = |ssrc| StreamDescription {
            ssrc,
            payload_type: 96,
            clock_rate: 90_000,
            channels: 0,
            mime: "video/VP8".to_owned(),
            fmtp: String::new(),
            rid: String::new(),
            extensions: Vec::new(),
        };
        for round in 0..3 {
            (0..200).for_each(|at| queue.mark(&key, 1, Mark::Stream(described(round * 200 + at))));
            queue.mark(&key, 2, Mark::Muted);
            let Taken::Batches(batches) = queue.take() else { panic!("there is something") };
            let marks = |is: fn(&Mark) -> bool| batches[0].1.marks().filter(|(_, mark)| is(mark)).count();
            let (streams, muted) =
                (marks(|mark| matches!(mark, Mark::Stream(_))), marks(|mark| *mark == Mark::Muted));
            assert_eq!(
                (streams, muted),
                ([200, STREAMS_MAX, STREAMS_MAX][round as usize], round as usize + 1)
            );
            queue.lost(&key, Lost::of(&batches[0].1));
        }
    }

    #[test]
    fn a_closed_queue_is_emptied_before_it_ends() {
        let queue = Queue::default();
        assert!(matches!(queue.take(), Taken::Nothing));
        queue.mark(&key(), 1, Mark::Left);
        queue.close();
        assert!(matches!(queue.take(), Taken::Batches(_)));
        assert!(matches!(queue.take(), Taken::Ended));
    }

    #[tokio::test]
    async fn what_was_added_before_waiting_is_noticed() {
        let queue = Queue::default();
        queue.rtp(&key(), 1, 1, b"packet");
        queue.more().await;
    }
}
