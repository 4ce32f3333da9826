//! Randomness that can be repeated.

use shared::env::Env;

/// Numbers from a seed (splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) struct Seed(u64);

impl Seed {
    /// From `CHAOS_SEED`, or new; printed in either case.
    #[expect(clippy::print_stderr, reason = "a run can only be repeated by whoever knows its seed")]
    pub(crate) fn announced() -> Self {
        let given = Env::from_process()
            .optional("CHAOS_SEED")
            .expect("CHAOS_SEED is a number")
            .map(|seed| seed.parse().expect("CHAOS_SEED is a number"));
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(nanos()));
        eprintln!("CHAOS_SEED={seed}");
        Self(seed)
    }

    /// A number from a range.
    pub(crate) fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        range.start + usize::try_from(mixed % range.len() as u64).expect("less than a usize")
    }

    /// `count` numbers from a range, ascending.
    pub(crate) fn ascending(&mut self, count: usize, range: std::ops::Range<usize>) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..count).map(|_| self.within(range.clone())).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn nanos() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    u32::try_from(RandomState::new().hash_one(0) >> 40).expect("24 bits")
}
