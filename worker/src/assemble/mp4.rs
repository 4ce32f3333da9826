//! stub
use super::GapReason;
use super::clock::{Clock, Stamp};
use super::matroska::{Head, Tail};
use super::timeline::Timeline;
use std::io::{self, Seek, Write};
pub(super) struct Reader {
    clock: Clock,
}
pub(super) fn begins(_b: &[u8]) -> bool {
    false
}
impl Reader {
    pub(super) fn new(_head: Head) -> Self {
        Self { clock: Clock::default() }
    }
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
    pub(super) fn why_empty(&self) -> &'static str {
        "mp4"
    }
    pub(super) fn hole<W: Write + Seek>(&mut self, _r: GapReason, _s: &mut Timeline<W>) -> io::Result<()> {
        Ok(())
    }
    pub(super) fn push<W: Write + Seek>(
        &mut self,
        _st: Stamp,
        _b: &[u8],
        _s: &mut Timeline<W>,
    ) -> io::Result<()> {
        Ok(())
    }
    pub(super) fn finish<W: Write + Seek>(&mut self, _s: &mut Timeline<W>) -> io::Result<Tail> {
        Ok(Tail::Whole)
    }
}
