//! Which of a stream's packets have come: a browser fills its line with packets that it has sent before, and a network may double
//! any. Whoever counts, forwards or records wants each once.
//!
//! That costs a bit per packet, 512 bytes a stream, and an access to an array per packet. A packet too old to be known is taken
//! for a new one: better twice in a recording than not at all.

/// Packets remembered behind the newest: at 1,000 packets a second (a screen of 8 Mbit/s) four seconds, and browsers repeat what
/// is about a second old.
const REMEMBERED: u16 = 4_096;

const WORD: usize = u64::BITS as usize;

/// How a packet stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// The first of its stream.
    First,
    /// Newer than all before.
    Next,
    /// Behind a newer one: overtaken, or sent again.
    Late,
    /// It has come before.
    Again,
}

/// The packets of one stream.
#[derive(Debug)]
pub(super) struct Window {
    newest: Option<u16>,
    /// The number that would show that the stream began anew with others (RFC 3550, appendix A.1).
    suspect: Option<u16>,
    bits: Box<[u64]>,
}

impl Window {
    /// One that has seen nothing.
    pub(super) fn new() -> Self {
        let bits = vec![0; usize::from(REMEMBERED) / WORD].into_boxed_slice();
        Self { newest: None, suspect: None, bits }
    }

    /// Notes a packet, and tells how it came.
    pub(super) fn take(&mut self, sequence: u16) -> Came {
        let Some(newest) = self.newest else {
            self.begin(sequence);
            return Came::First;
        };
        let ahead = sequence.wrapping_sub(newest).cast_signed();
        if ahead > 0 {
            self.suspect = None;
            self.advance(newest, sequence);
            return Came::Next;
        }
        if ahead.unsigned_abs() >= REMEMBERED {
            return self.far_behind(sequence);
        }
        self.suspect = None;
        if self.note(sequence) { Came::Late } else { Came::Again }
    }

    fn begin(&mut self, sequence: u16) {
        self.bits.fill(0);
        self.note(sequence);
        (self.newest, self.suspect) = (Some(sequence), None);
    }

    fn advance(&mut self, newest: u16, sequence: u16) {
        let passed = sequence.wrapping_sub(newest).min(REMEMBERED);
        for back in 0..passed {
            let (word, bit) = place(sequence.wrapping_sub(back));
            self.bits[word] &= !bit;
        }
        self.note(sequence);
        self.newest = Some(sequence);
    }

    /// Believes a new beginning at its second packet.
    fn far_behind(&mut self, sequence: u16) -> Came {
        if self.suspect.replace(sequence.wrapping_add(1)) == Some(sequence) {
            self.begin(sequence);
            return Came::Next;
        }
        Came::Late
    }

    /// False if it was there.
    fn note(&mut self, sequence: u16) -> bool {
        let (word, bit) = place(sequence);
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        is_new
    }
}

fn place(sequence: u16) -> (usize, u64) {
    let at = usize::from(sequence % REMEMBERED);
    (at / WORD, 1 << (at % WORD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn each_packet_is_new_once_over_wraps_and_reordering() {
        let (mut random, mut window) = (Random::seeded(3), Window::new());
        let mut order: Vec<u32> = (65_000..200_000).collect();
        for at in 0..order.len() - 50 {
            order.swap(at, at + random.below(50) as usize);
        }
        let mut twice = 0;
        for (at, number) in order.iter().enumerate() {
            assert_ne!(window.take(*number as u16), Came::Again, "{number}");
            let former = order[at.saturating_sub(random.below(3_000) as usize)];
            twice += u32::from(window.take(former as u16) == Came::Again);
        }
        assert_eq!(twice, 135_000);
    }

    #[test]
    fn a_stream_that_begins_anew_with_other_numbers_is_believed_and_loses_nothing() {
        let mut window = Window::new();
        let came = [50_000, 50_001, 30_000, 30_001, 30_002, 30_001].map(|number| window.take(number));
        assert_eq!(came, [Came::First, Came::Next, Came::Late, Came::Next, Came::Next, Came::Again]);
    }

    #[test]
    fn a_stray_number_costs_nothing() {
        let mut window = Window::new();
        let came = [100, 101, 30_000, 102, 103, 104].map(|number| window.take(number));
        assert_eq!(came, [Came::First, Came::Next, Came::Next, Came::Late, Came::Next, Came::Next]);
    }
}
