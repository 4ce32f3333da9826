//! The SSRCs of a log side by side: each is ordered and built on its own, and frames leave in the order of their times.
//!
//! A frame waits while another SSRC holds something earlier behind a hole, so that a layer's late retransmissions still
//! come before what followed it. Knows nothing of files.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Seek, Write};

use shared::capture::rtp::{RtpPacket, StreamDescription};

use super::clocks::Clocks;
use super::codec_of;
use super::frames::{Builder, Frame};
use super::output::{Output, Placed};
use super::reorder::{Held, Next, Reorder, WINDOW_US};
use super::survey::{MAX_STREAMS, Survey};
use super::unwrap::{Position, Unwrapper, us};
use crate::assemble::codec::{Codec, h264};

/// How often, by arrivals, SSRCs are looked at that have no packet: holes in them grow old as well.
const SWEEP_US: i64 = 1_000_000;

/// All SSRCs of a log.
pub(super) struct Lanes<'a> {
    survey: &'a Survey,
    clocks: &'a Clocks,
    lanes: BTreeMap<u32, Lane>,
    swept_us: i64,
    lost: u64,
    unplaced: u64,
}

struct Lane {
    rate: i64,
    unwrapper: Unwrapper,
    reorder: Reorder,
    builder: Builder,
    ready: VecDeque<(i64, Frame)>,
    sets: Sets,
    /// Arrival of its last packet.
    last_us: i64,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(survey: &'a Survey, clocks: &'a Clocks) -> Self {
        Self { survey, clocks, lanes: BTreeMap::new(), swept_us: i64::MIN, lost: 0, unplaced: 0 }
    }

    /// Packets that never came.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Frames whose clock is not known; there are none as long as both readers of the log place packets alike.
    pub(super) fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// Takes the next packet of the log.
    pub(super) fn packet<W: Write + Seek>(
        &mut self,
        arrival_us: i64,
        bytes: Vec<u8>,
        output: &mut Output<'_, W>,
    ) -> io::Result<()> {
        let Some(packet) = RtpPacket::parse(&bytes) else { return Ok(()) };
        let (ssrc, sequence, timestamp) = (packet.ssrc, packet.sequence, packet.timestamp);
        let Some(known) = self.survey.streams.get(&ssrc) else { return Ok(()) };
        if self.survey.description(ssrc, packet.payload_type).is_none() {
            return Ok(());
        }
        debug_assert!(self.lanes.len() <= MAX_STREAMS, "the survey knows no more");
        let lane = self.lanes.entry(ssrc).or_insert_with(|| Lane::new(known.rate, known.first_sequence));
        lane.last_us = arrival_us;
        if let Some(at) = lane.unwrapper.place(sequence, timestamp, arrival_us) {
            lane.reorder.push(Held { at, arrival_us, bytes });
            self.pump(ssrc, arrival_us);
        }
        if arrival_us.saturating_sub(self.swept_us) > SWEEP_US {
            self.swept_us = arrival_us;
            self.pump_all(arrival_us);
        }
        self.emit(output)
    }

    /// No more packets come: nothing is waited for.
    pub(super) fn finish<W: Write + Seek>(&mut self, output: &mut Output<'_, W>) -> io::Result<()> {
        self.pump_all(i64::MAX);
        self.emit(output)
    }

    fn pump_all(&mut self, now_us: i64) {
        let ssrcs: Vec<u32> = self.lanes.keys().copied().collect();
        ssrcs.into_iter().for_each(|ssrc| self.pump(ssrc, now_us));
        // A frame whose end never comes must not hold up the other SSRCs for ever.
        for lane in self.lanes.values_mut().filter(|lane| now_us.saturating_sub(lane.last_us) > WINDOW_US) {
            lane.builder.abandon();
        }
    }

    /// Builds frames of what is in order.
    fn pump(&mut self, ssrc: u32, now_us: i64) {
        let Some(lane) = self.lanes.get_mut(&ssrc) else { return };
        while let Some(next) = lane.reorder.pop(now_us) {
            match next {
                Next::Lost(packets) => {
                    self.lost += packets;
                    lane.builder.lost();
                }
                Next::Packet(held) => {
                    let Some(packet) = RtpPacket::parse(&held.bytes) else { continue };
                    let description = self.survey.description(ssrc, packet.payload_type);
                    let described = description.and_then(|found| Some((found, codec_of(found)?)));
                    let (ready, rate, clocks) = (&mut lane.ready, lane.rate, self.clocks);
                    let (sets, unplaced) = (&mut lane.sets, &mut self.unplaced);
                    lane.builder.packet(held.at, &packet, described, |mut frame| {
                        if let Some((description, codec)) =
                            described.filter(|(_, codec)| *codec == frame.codec)
                        {
                            sets.complete(&mut frame, codec, description);
                        }
                        match clocks.edge_us(ssrc, frame.at.epoch, us(frame.at.ticks, rate)) {
                            Some(edge_us) => ready.push_back((edge_us, frame)),
                            None => *unplaced += 1,
                        }
                    });
                }
            }
        }
    }

    /// Hands over what nothing earlier can precede any more.
    fn emit<W: Write + Seek>(&mut self, output: &mut Output<'_, W>) -> io::Result<()> {
        loop {
            let heads = self.lanes.iter().filter_map(|(ssrc, lane)| Some((lane.ready.front()?.0, *ssrc)));
            let Some((time_us, ssrc)) = heads.min() else { return Ok(()) };
            let waits = |(other, lane): (&u32, &Lane)| {
                *other != ssrc
                    && lane.ready.is_empty()
                    && lane.pending_us(self.clocks, *other).is_some_and(|pending| pending < time_us)
            };
            if self.lanes.iter().any(waits) {
                return Ok(());
            }
            let Some(lane) = self.lanes.get_mut(&ssrc) else { return Ok(()) };
            let Some((edge_us, frame)) = lane.ready.pop_front() else { return Ok(()) };
            output.frame(&Placed { ssrc, edge_us, frame })?;
        }
    }
}

/// Where the parameter sets of an SSRC's H.264 stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sets {
    /// None has come: the description's hold.
    #[default]
    Described,
    /// In the stream, which may have changed them since.
    Sent,
}

impl Sets {
    /// Puts the description's sets before an IDR picture, so that each can be decoded from, whatever stands before it in the file.
    fn complete(&mut self, frame: &mut Frame, codec: Codec, description: &StreamDescription) {
        if codec != Codec::H264 || *self == Self::Sent {
            return;
        }
        if h264::has_sets(&frame.data) {
            *self = Self::Sent;
        } else if h264::has_idr(&frame.data) {
            frame.data.splice(..0, h264::sets_of_fmtp(&description.fmtp));
        }
    }
}

impl Lane {
    fn new(rate: i64, first_sequence: i64) -> Self {
        Self {
            rate,
            unwrapper: Unwrapper::new(u32::try_from(rate).unwrap_or(u32::MAX)),
            reorder: Reorder::new(first_sequence),
            builder: Builder::default(),
            ready: VecDeque::new(),
            sets: Sets::default(),
            last_us: 0,
        }
    }

    /// When the earliest media lies that this SSRC has and has not made a frame of.
    fn pending_us(&self, clocks: &Clocks, ssrc: u32) -> Option<i64> {
        let Position { ticks, epoch, .. } =
            self.builder.pending().or_else(|| self.reorder.first().map(|held| held.at))?;
        clocks.edge_us(ssrc, epoch, us(ticks, self.rate))
    }
}
