//! Sequence numbers of a leg: every packet that goes out gets the next one, in order of the source; a hole in the
//! source (a packet lost or late) keeps its number free on the leg.
//!
//! What was given to whom is remembered as runs: a stretch of the source's numbers shifted by the same amount. A leg
//! without switches and left-out packets needs one run, one that drops every second frame needs one a frame: so
//! [`MAX_RUNS`] reach back four seconds in the worst case and far more in the usual one, in 1 KiB.
//!
//! No number goes out twice, also not for the same packet: encrypting another header under the same SRTP index would
//! give away the key stream (RFC 3711 9.1, RFC 7714 8.2). Must not know timestamps or payloads.

/// Runs that are remembered: 15 left-out frames a second (half of 30) for four seconds.
pub const MAX_RUNS: usize = 64;

/// Numbers behind the newest that are remembered as given or free: at 1,000 packets a second, a second; older ones
/// are of no use to a receiver that plays within a few hundred milliseconds.
pub const MAX_LATE: u64 = 1_024;

/// A jump forward of more packets than this, or back by more than [`MAX_LATE`], is not loss or lateness but a new
/// beginning, once a second packet follows the first there (RFC 3550 A.1 `MAX_DROPOUT`): a stray one is refused.
pub const MAX_DROPOUT: u64 = 3_000;

/// What number a packet gets, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first packet of a source, or of its new beginning.
    First {
        /// The beginning's count: names the source's offsets.
        epoch: u32,
        /// The leg's number.
        sequence: u16,
    },
    /// Newer than all before.
    Next {
        /// The beginning it belongs to.
        epoch: u32,
        /// The leg's number.
        sequence: u16,
        /// Pictures left out since the beginning.
        skipped_pictures: u16,
    },
    /// Older than another that was placed before it.
    Late {
        /// The beginning it belongs to.
        epoch: u32,
        /// The leg's number.
        sequence: u16,
        /// Pictures left out from the beginning to this place.
        skipped_pictures: u16,
    },
}

impl Place {
    /// The leg's number.
    pub fn sequence(self) -> u16 {
        match self {
            Self::First { sequence, .. } | Self::Next { sequence, .. } | Self::Late { sequence, .. } => {
                sequence
            }
        }
    }
}

/// A stretch of source numbers `from..=to`, of which the first got `out`: the lower bits of extended numbers, which
/// are unique among what is remembered. Epoch 0 is unused.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    from: u32,
    to: u32,
    out: u32,
    epoch: u16,
    skipped_pictures: u16,
}

impl Run {
    /// How far behind the first a number of this run is.
    fn offset(&self, epoch: u32, extended: u64) -> Option<u32> {
        let offset = (extended as u32).wrapping_sub(self.from);
        (self.epoch == epoch as u16 && offset <= self.to.wrapping_sub(self.from)).then_some(offset)
    }
}

/// A source since it was last begun.
#[derive(Debug, Clone, Copy)]
struct Origin {
    ssrc: u32,
    epoch: u32,
    state: OriginState,
}

#[derive(Debug, Clone, Copy)]
enum OriginState {
    /// No packet yet.
    Waiting,
    /// The extended number of its first and newest packet.
    Started { first: u64, newest: u64 },
}

impl Origin {
    /// The extended number nearest to the newest (RFC 3550 A.1).
    fn extend(&self, sequence: u16) -> Option<u64> {
        let OriginState::Started { newest, .. } = self.state else { return None };
        let ahead = i64::from(sequence.wrapping_sub(newest as u16) as i16);
        newest.checked_add_signed(ahead)
    }

    fn started(&self) -> bool {
        matches!(self.state, OriginState::Started { .. })
    }
}

/// Extended numbers begin here, so that going back by less than a cycle never goes below zero.
const BASE: u64 = 1 << 32;

/// Gives numbers, and remembers them.
#[derive(Debug)]
pub struct Sequencer {
    /// The next number of the leg, extended.
    next: u64,
    current: Option<Origin>,
    previous: Option<Origin>,
    epochs: u32,
    /// Whether the next forwarded packet opens a run: after a packet was left out or padding was put in.
    broken: Broken,
    skipped_pictures: u16,
    /// The number that would make a jump a new beginning.
    suspect: Option<u16>,
    runs: [Run; MAX_RUNS],
    newest_run: usize,
    given: Given,
}

/// Whether the newest run can be prolonged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    No,
    Yes,
}

impl Sequencer {
    /// Begins with a number drawn at random by the caller.
    pub fn new(first: u16) -> Self {
        Self {
            next: BASE + u64::from(first),
            current: None,
            previous: None,
            epochs: 0,
            broken: Broken::Yes,
            skipped_pictures: 0,
            suspect: None,
            runs: [Run::default(); MAX_RUNS],
            newest_run: 0,
            given: Given::default(),
        }
    }

    /// The current beginning's count.
    pub fn epoch(&self) -> u32 {
        self.epochs
    }

    /// Begins anew with this source at its next packet. Twice for one source without a packet in between is once.
    pub fn follow(&mut self, ssrc: u32) {
        if let Some(current) = self.current.filter(Origin::started) {
            self.previous = Some(current);
        }
        self.epochs = self.epochs.wrapping_add(1);
        self.skipped_pictures = 0;
        self.suspect = None;
        self.current = Some(Origin { ssrc, epoch: self.epochs, state: OriginState::Waiting });
    }

    /// The beginning of the followed source, if this is it and a packet of it went out.
    pub fn started(&self, ssrc: u32) -> Option<u32> {
        self.current.filter(|it| it.ssrc == ssrc && it.started()).map(|it| it.epoch)
    }

    /// Whether this packet is newer than all of the followed source so far.
    pub fn is_newest(&self, ssrc: u32, sequence: u16) -> bool {
        self.current.filter(|it| it.ssrc == ssrc).is_some_and(|origin| match origin.state {
            OriginState::Waiting => true,
            OriginState::Started { newest, .. } => origin.extend(sequence).is_some_and(|it| it > newest),
        })
    }

    /// Gives a packet its number; `None` for a duplicate, one too old, or one of no source that is or was followed.
    pub fn place(&mut self, ssrc: u32, sequence: u16) -> Option<Place> {
        match self.current.filter(|it| it.ssrc == ssrc) {
            Some(origin) => self.place_current(origin, sequence),
            None => self.place_previous(ssrc, sequence),
        }
    }

    fn place_current(&mut self, origin: Origin, sequence: u16) -> Option<Place> {
        let OriginState::Started { first, newest } = origin.state else {
            return Some(self.begin(origin.ssrc, sequence));
        };
        let extended = origin.extend(sequence)?;
        if extended > newest + MAX_DROPOUT || extended + MAX_LATE < newest {
            return self.jumped(origin.ssrc, sequence);
        }
        self.suspect = None;
        if extended <= newest {
            let late = self.late(origin.epoch, extended);
            return if extended < first { self.place_previous(origin.ssrc, sequence) } else { late };
        }
        self.advance(first, extended);
        let sequence = self.append(extended, newest);
        Some(Place::Next { epoch: self.epochs, sequence, skipped_pictures: self.skipped_pictures })
    }

    /// Believes a jump at its second packet.
    fn jumped(&mut self, ssrc: u32, sequence: u16) -> Option<Place> {
        if self.suspect.replace(sequence.wrapping_add(1)) != Some(sequence) {
            return None;
        }
        self.follow(ssrc);
        Some(self.begin(ssrc, sequence))
    }

    /// Late packets of the source that was followed before: no new ones.
    fn place_previous(&mut self, ssrc: u32, sequence: u16) -> Option<Place> {
        let origin = self.previous.filter(|it| it.ssrc == ssrc)?;
        self.late(origin.epoch, origin.extend(sequence)?)
    }

    fn begin(&mut self, ssrc: u32, sequence: u16) -> Place {
        let extended = BASE + u64::from(sequence);
        let epoch = self.epochs;
        let state = OriginState::Started { first: extended, newest: extended };
        self.current = Some(Origin { ssrc, epoch, state });
        self.broken = Broken::Yes;
        Place::First { epoch, sequence: self.append(extended, extended - 1) }
    }

    fn advance(&mut self, first: u64, newest: u64) {
        if let Some(origin) = &mut self.current {
            origin.state = OriginState::Started { first, newest };
        }
    }

    /// Prolongs the newest run up to this packet, or opens one that also keeps places for the packets missing since
    /// the newest before it.
    fn append(&mut self, extended: u64, newest: u64) -> u16 {
        let out = self.next + (extended - newest - 1);
        self.cover(newest + 1, extended);
        self.broken = Broken::No;
        self.next = out + 1;
        self.given.take(out);
        out as u16
    }

    /// Has the newest run reach from the newest packet to this one, or opens one.
    fn cover(&mut self, from: u64, to: u64) {
        if self.broken == Broken::Yes {
            self.newest_run = (self.newest_run + 1) % MAX_RUNS;
            self.runs[self.newest_run] = Run {
                from: from as u32,
                to: to as u32,
                out: self.next as u32,
                epoch: self.epochs as u16,
                skipped_pictures: self.skipped_pictures,
            };
        } else {
            self.runs[self.newest_run].to = to as u32;
        }
    }

    fn late(&mut self, epoch: u32, extended: u64) -> Option<Place> {
        let found = self.runs.iter().find_map(|run| Some((run, run.offset(epoch, extended)?)));
        let (run, offset) = found?;
        let behind = (self.next as u32).wrapping_sub(run.out.wrapping_add(offset));
        let (out, skipped_pictures) = (self.next - u64::from(behind), run.skipped_pictures);
        if !self.given.take(out) {
            return None;
        }
        Some(Place::Late { epoch, sequence: out as u16, skipped_pictures })
    }

    /// Leaves a packet of the followed source out, and with it so many pictures. A late one keeps its place, empty.
    pub fn skip(&mut self, ssrc: u32, sequence: u16, pictures: u16) {
        let Some(origin) = self.current.filter(|it| it.ssrc == ssrc) else { return };
        let OriginState::Started { first, newest } = origin.state else { return };
        let Some(extended) = origin.extend(sequence) else { return };
        if extended <= newest || extended > newest + MAX_DROPOUT {
            return;
        }
        if extended > newest + 1 {
            // They may still come.
            self.cover(newest + 1, extended - 1);
            self.next += extended - newest - 1;
        }
        self.advance(first, extended);
        self.broken = Broken::Yes;
        self.skipped_pictures = self.skipped_pictures.wrapping_add(pictures);
    }

    /// A number for a packet of our own; `None` before the first packet.
    pub fn pad(&mut self) -> Option<u16> {
        if !self.given.any() {
            return None;
        }
        let out = self.next;
        self.next += 1;
        self.broken = Broken::Yes;
        self.given.take(out);
        Some(out as u16)
    }
}

const WORD: u64 = u64::BITS as u64;

/// Which of the last [`MAX_LATE`] numbers went out: the window of RFC 3711 3.3.2.
#[derive(Debug, Default)]
struct Given {
    newest: u64,
    bits: [u64; (MAX_LATE / WORD) as usize],
}

impl Given {
    fn any(&self) -> bool {
        self.newest != 0
    }

    /// Marks a number. False if it went out before, or is too old to know.
    fn take(&mut self, number: u64) -> bool {
        if number > self.newest {
            let ahead = (number - self.newest).min(MAX_LATE);
            for step in 0..ahead {
                let (word, bit) = Self::place(number - step);
                self.bits[word] &= !bit;
            }
            self.newest = number;
        } else if self.newest - number >= MAX_LATE {
            return false;
        }
        let (word, bit) = Self::place(number);
        let is_free = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        is_free
    }

    fn place(number: u64) -> (usize, u64) {
        let at = number % MAX_LATE;
        ((at / WORD) as usize, 1 << (at % WORD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(place: Option<Place>) -> Option<u16> {
        place.map(Place::sequence)
    }

    #[test]
    fn a_hole_keeps_its_number_and_a_left_out_packet_has_none() {
        let mut numbers = Sequencer::new(100);
        numbers.follow(1);
        assert_eq!(given(numbers.place(1, 65_535)), Some(100));
        assert_eq!(given(numbers.place(1, 1)), Some(102));
        numbers.skip(1, 3, 0);
        assert_eq!(given(numbers.place(1, 4)), Some(104));
        assert_eq!(given(numbers.place(1, 2)), Some(103));
        assert_eq!(given(numbers.place(1, 0)), Some(101));
        assert_eq!(given(numbers.place(1, 3)), None, "was left out");
        assert_eq!(given(numbers.place(1, 0)), None, "went out before");
    }

    #[test]
    fn consecutive_left_out_packets_with_holes_are_told_apart() {
        let mut numbers = Sequencer::new(10);
        numbers.follow(1);
        numbers.place(1, 0);
        numbers.skip(1, 2, 1);
        numbers.skip(1, 4, 1);
        let next = numbers.place(1, 5).unwrap();
        assert_eq!(next, Place::Next { epoch: 1, sequence: 13, skipped_pictures: 2 });
        assert_eq!(given(numbers.place(1, 1)), Some(11));
        let late = numbers.place(1, 3).unwrap();
        assert_eq!(late, Place::Late { epoch: 1, sequence: 12, skipped_pictures: 1 });
    }

    #[test]
    fn a_jump_is_a_new_beginning_without_a_gap_once_a_second_packet_confirms_it() {
        let mut numbers = Sequencer::new(10);
        numbers.follow(1);
        numbers.place(1, 0);
        assert_eq!(numbers.place(1, 20_000), None);
        assert_eq!(numbers.place(1, 20_001), Some(Place::First { epoch: 2, sequence: 11 }));
        assert_eq!(numbers.place(1, 5), None, "a stray packet");
        assert_eq!(given(numbers.place(1, 20_002)), Some(12));
        assert_eq!(numbers.place(1, 6), None);
        assert_eq!(numbers.place(1, 7), Some(Place::First { epoch: 3, sequence: 13 }));
    }

    #[test]
    fn a_pause_of_more_than_half_a_cycle_ends_when_it_is_followed_again() {
        let mut numbers = Sequencer::new(10);
        numbers.follow(1);
        numbers.place(1, 0);
        numbers.follow(1);
        assert_eq!(given(numbers.place(1, 40_000)), Some(11));
        assert_eq!(given(numbers.place(1, 40_001)), Some(12));
    }

    #[test]
    fn what_is_too_old_is_refused() {
        let mut numbers = Sequencer::new(10);
        numbers.follow(1);
        numbers.place(1, 0);
        numbers.place(1, 2);
        for sequence in 3..=(MAX_LATE as u16 + 2) {
            numbers.place(1, sequence);
        }
        assert_eq!(numbers.place(1, 1), None);
    }

    #[test]
    fn runs_are_bounded_and_the_newest_are_known() {
        let mut numbers = Sequencer::new(0);
        numbers.follow(1);
        for index in 0..2_000u16 {
            let base = index * 3;
            numbers.place(1, base);
            numbers.skip(1, base + 1, 0);
        }
        let newest = 1_999 * 3;
        assert!(numbers.place(1, newest - 1).is_some());
        assert_eq!(numbers.place(1, newest - 3 * MAX_RUNS as u16 - 1), None);
    }
}
