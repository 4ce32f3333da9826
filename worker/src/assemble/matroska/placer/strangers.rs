//! Tracks of a session without a head that show themselves late: a few of their frames are held until they tell the codec.

use std::io::{self, Seek, Write};

use super::{HeldFrame, MAX_HELD_BYTES, Placer, recover};
use crate::assemble::codec::{self, Kind};
use crate::assemble::matroska::header::Track;
use crate::assemble::timeline::{Frame, Timeline};

/// Frames held at most of tracks that show themselves late: sound takes eight at worst, among others' frames.
const MAX_STRANGERS: usize = 32;

impl Placer {
    /// A frame of a track of a session without a head that has not shown itself so far: whether it has now, and the frame can
    /// be placed. A picture does so by being a keyframe, sound by several packets, which were held until then.
    pub(super) fn meet<W: Write + Seek>(
        &mut self,
        stranger: HeldFrame,
        sink: &mut Timeline<W>,
    ) -> io::Result<bool> {
        let number = stranger.track;
        self.strangers.push(stranger);
        let theirs = self.strangers.iter().filter(|held| held.track == number);
        let payloads = theirs.map(|held| (held.time_us.unwrap_or(0) / 1_000, held.data.as_slice()));
        let Some(codec) = codec::sniff(payloads.clone()) else {
            while self.strangers.len() > MAX_STRANGERS || bytes(&self.strangers) > MAX_HELD_BYTES {
                leave_out(&self.strangers.remove(0), sink)?;
            }
            return Ok(false);
        };
        let header = recover::header(codec, payloads, self.muxer);
        let mut held: Vec<_> = self.strangers.extract_if(.., |held| held.track == number).collect();
        held.pop(); // the one that has just come
        if codec.kind() == Kind::Video {
            // Before its first keyframe nothing can be decoded.
            held.drain(..).try_for_each(|held| leave_out(&held, sink))?;
        }
        sink.track(number, header);
        self.tracks.get_or_insert_default().push(Track { number, codec, default_duration_us: 0 });
        for held in &held {
            self.emit(held, held.time_us.unwrap_or(0), &held.data, &held.additions, sink)?;
        }
        Ok(true)
    }

    /// Nothing more comes that would tell how to decode what is held of tracks that have not shown themselves.
    pub(super) fn leave_strangers<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        std::mem::take(&mut self.strangers).iter().try_for_each(|held| leave_out(held, sink))
    }
}

fn bytes(held: &[HeldFrame]) -> usize {
    held.iter().map(|frame| frame.data.len() + frame.additions.len()).sum()
}

fn leave_out<W: Write + Seek>(held: &HeldFrame, sink: &mut Timeline<W>) -> io::Result<()> {
    sink.leave_out(held.track);
    let (track, marked, data) = (held.track, held.marked, &held.data);
    sink.frame(&Frame {
        track,
        time_us: held.time_us.unwrap_or(0),
        marked,
        duration_us: 0,
        data,
        additions: &[],
    })
}
