//! Picture ids and `TL0PICIDX` of a leg (RFC 7741 4.2, RFC 9628 4.2): decoders and jitter buffers tell by them which
//! frames belong together, so each simulcast switch continues the count, and frames left out leave no gap.
//!
//! The bytes are changed in place: a count of 7 bits stays one of 7 bits, so no payload changes its length.
//! Must not know sequence numbers or timestamps.

use crate::codec::{Counters, PictureId, PictureWidth};

/// Changes to the first bytes of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patch {
    picture: Option<PictureId>,
    base: Option<crate::codec::BaseIndex>,
}

impl Patch {
    /// Whether nothing changes, so that the payload may be shared between legs.
    pub fn is_empty(&self) -> bool {
        self.picture.is_none() && self.base.is_none()
    }

    /// Writes the changes into the payload it was made from. Bytes beyond a shorter one are left out.
    pub fn apply(&self, payload: &mut [u8]) {
        if let Some(picture) = self.picture {
            let [high, low] = picture.value.to_be_bytes();
            let at = usize::from(picture.at);
            match (picture.width, payload.get_mut(at..)) {
                (PictureWidth::Bits7, Some([byte, ..])) => *byte = low & 0x7f,
                (PictureWidth::Bits15, Some([first, second, ..])) => (*first, *second) = (high | 0x80, low),
                _ => {}
            }
        }
        if let Some(base) = self.base
            && let Some(byte) = payload.get_mut(usize::from(base.at))
        {
            *byte = base.value;
        }
    }
}

/// Shifts of one beginning.
#[derive(Debug, Clone, Copy)]
struct Shift {
    epoch: u32,
    picture: u16,
    base: u8,
    /// The newest id of the source itself.
    newest: Option<PictureId>,
}

/// Gives picture ids.
#[derive(Debug, Default)]
pub struct Pictures {
    current: Option<Shift>,
    previous: Option<Shift>,
    last_picture: Option<u16>,
    last_base: Option<u8>,
}

impl Pictures {
    /// Takes up a source with its first packet: its counts continue those that went out.
    pub fn begin(&mut self, epoch: u32, counters: Counters) {
        let shift = |last: Option<u16>, value: Option<u16>| match (last, value) {
            (Some(last), Some(value)) => last.wrapping_add(1).wrapping_sub(value),
            _ => 0,
        };
        let picture = shift(self.last_picture, counters.picture.map(|it| it.value));
        let base = shift(self.last_base.map(u16::from), counters.base.map(|it| u16::from(it.value)));
        self.previous = self.current;
        self.current = Some(Shift { epoch, picture, base: base as u8, newest: None });
    }

    /// Whether this id was not seen yet from the source that is followed.
    pub fn is_new(&self, epoch: u32, picture: Option<PictureId>) -> bool {
        let (Some(shift), Some(picture)) = (self.current.filter(|it| it.epoch == epoch), picture) else {
            return false;
        };
        shift.newest.is_none_or(|newest| is_after(picture, newest.value))
    }

    /// Notes a picture of the followed source, whether it goes out or not.
    pub fn saw(&mut self, epoch: u32, picture: Option<PictureId>) {
        if self.is_new(epoch, picture)
            && let Some(shift) = &mut self.current
        {
            shift.newest = picture;
        }
    }

    /// What to write into a packet in front of which so many pictures of its beginning were left out.
    pub fn patch(&mut self, epoch: u32, skipped: u16, counters: Counters) -> Patch {
        let known = [self.current, self.previous].into_iter().flatten().find(|it| it.epoch == epoch);
        let Some(shift) = known else { return Patch::default() };
        let picture = counters.picture.map(|it| {
            let value = it.value.wrapping_add(shift.picture).wrapping_sub(skipped) & mask(it.width);
            PictureId { value, ..it }
        });
        let base = counters.base.map(|mut it| {
            it.value = it.value.wrapping_add(shift.base);
            it
        });
        self.note(epoch, counters.picture, picture, base.map(|it| it.value));
        Patch {
            picture: picture.filter(|_| picture != counters.picture),
            base: base.filter(|_| base != counters.base),
        }
    }

    /// Keeps the newest of what went out.
    fn note(&mut self, epoch: u32, source: Option<PictureId>, sent: Option<PictureId>, base: Option<u8>) {
        if self.current.is_none_or(|it| it.epoch != epoch) {
            return;
        }
        self.saw(epoch, source);
        if let Some(sent) = sent
            && self.last_picture.is_none_or(|last| is_after(sent, last))
        {
            self.last_picture = Some(sent.value);
        }
        if let Some(base) = base
            && self.last_base.is_none_or(|last| (base.wrapping_sub(last) as i8) > 0)
        {
            self.last_base = Some(base);
        }
    }
}

fn mask(width: PictureWidth) -> u16 {
    match width {
        PictureWidth::Bits7 => 0x7f,
        PictureWidth::Bits15 => 0x7fff,
    }
}

/// Whether an id comes after another within half a cycle of its width.
fn is_after(picture: PictureId, other: u16) -> bool {
    let mask = mask(picture.width);
    let ahead = picture.value.wrapping_sub(other) & mask;
    ahead != 0 && ahead <= mask / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::BaseIndex;

    fn counters(value: u16, base: u8, width: PictureWidth) -> Counters {
        Counters {
            picture: Some(PictureId { at: 2, value, width }),
            base: Some(BaseIndex { at: 4, value: base }),
        }
    }

    fn sent(patch: Patch, from: Counters) -> (u16, u8) {
        (patch.picture.or(from.picture).unwrap().value, patch.base.or(from.base).unwrap().value)
    }

    #[test]
    fn ids_wrap_within_their_width() {
        let mut pictures = Pictures::default();
        let first = counters(0x7fff, 255, PictureWidth::Bits15);
        pictures.begin(1, first);
        assert!(pictures.patch(1, 0, first).is_empty());
        let other = counters(5, 9, PictureWidth::Bits15);
        pictures.begin(2, other);
        assert_eq!(sent(pictures.patch(2, 0, other), other), (0, 0));
        let short = counters(100, 9, PictureWidth::Bits7);
        pictures.begin(3, short);
        assert_eq!(sent(pictures.patch(3, 0, short), short), (1, 1));
    }

    #[test]
    fn a_late_packet_of_the_source_before_keeps_its_shift() {
        let mut pictures = Pictures::default();
        let old = counters(10, 1, PictureWidth::Bits15);
        pictures.begin(1, old);
        pictures.patch(1, 0, counters(11, 2, PictureWidth::Bits15));
        let new = counters(500, 60, PictureWidth::Bits15);
        pictures.begin(2, new);
        assert_eq!(sent(pictures.patch(2, 0, new), new), (12, 3));
        assert_eq!(sent(pictures.patch(1, 0, old), old), (10, 1));
    }

    #[test]
    fn all_packets_of_a_picture_get_the_same_id() {
        let mut pictures = Pictures::default();
        let first = counters(10, 1, PictureWidth::Bits15);
        pictures.begin(1, first);
        pictures.patch(1, 0, first);
        let next = counters(12, 2, PictureWidth::Bits15);
        assert!(pictures.is_new(1, next.picture));
        assert_eq!(pictures.patch(1, 1, next), pictures.patch(1, 1, next));
        assert!(!pictures.is_new(1, next.picture));
    }

    #[test]
    fn a_patch_changes_only_its_bytes() {
        let patch = Patch {
            picture: Some(PictureId { at: 2, value: 0x1234, width: PictureWidth::Bits15 }),
            base: Some(BaseIndex { at: 4, value: 9 }),
        };
        let mut payload = [1, 2, 3, 4, 5, 6];
        patch.apply(&mut payload);
        assert_eq!(payload, [1, 2, 0x92, 0x34, 9, 6]);
        patch.apply(&mut payload[..3]);
    }
}
