//! Reads bits from the most significant on, for the headers that are written so.
//!
//! Must not know any codec.

/// A place in some bytes. Every reading gives `None` at their end.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// One bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.at / 8)?;
        let set = byte >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        Some(set)
    }

    /// Up to 32 bits.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32, "a u32 holds 32 bits");
        let mut value = 0u32;
        for _ in 0..count {
            value = (value << 1) | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Passes over bits.
    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// An Exp-Golomb number: `ue(v)` of H.264 9.1, `uvlc()` of AV1 4.10.3. `None` for one of more than 31 bits.
    pub(crate) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.take(zeros)?;
        Some(((1u64 << zeros) - 1) as u32 + rest)
    }

    /// A signed Exp-Golomb number: `se(v)` of H.264 9.1.1.
    pub(crate) fn signed_golomb(&mut self) -> Option<i32> {
        let code = i64::from(self.golomb()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 0 { -magnitude } else { magnitude }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golomb_numbers_are_those_of_the_table() {
        // 1, 010, 011, 00100, 00101: 0 1 2 3 4 (H.264 table 9-2).
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!((0..5).map(|_| bits.golomb()).collect::<Vec<_>>(), [0, 1, 2, 3, 4].map(Some));
    }

    #[test]
    fn signed_golomb_numbers_alternate() {
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!((0..5).map(|_| bits.signed_golomb()).collect::<Vec<_>>(), [0, 1, -1, 2, -2].map(Some));
    }

    #[test]
    fn the_end_is_told() {
        let mut bits = Bits::new(&[0xff]);
        assert_eq!(bits.take(8), Some(255));
        assert_eq!(bits.flag(), None);
        assert_eq!(Bits::new(&[0; 9]).golomb(), None);
        assert_eq!(Bits::new(&[0]).skip(9), None);
        assert_eq!(Bits::new(&[0]).skip(8), Some(()));
    }
}
