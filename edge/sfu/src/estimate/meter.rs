//! Bits a second over a sliding window, by a clock given in microseconds: of what is sent, and of what arrives.

/// Bucket length.
const BUCKET_US: i64 = 50_000;

/// Whole buckets that count: 600 ms, enough packets to be even at 300 kbit/s, short enough for the moment of overuse.
const BUCKETS: usize = 12;

/// Less than this is not measured: one burst would be taken for a rate.
const LEAST_US: i64 = 200_000;

/// A window that slides. Late bytes fall into their own bucket while that is within it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    /// The newest is being filled and does not count.
    buckets: [u64; BUCKETS + 1],
    newest: Option<i64>,
    first: i64,
}

impl Meter {
    /// Counts bytes at an instant.
    pub(crate) fn add(&mut self, at_us: i64, bytes: u32) {
        let bucket = at_us.div_euclid(BUCKET_US);
        let newest = *self.newest.get_or_insert_with(|| {
            self.first = bucket;
            bucket
        });
        let length = self.buckets.len() as i64;
        if bucket > newest {
            for passed in (newest + 1).max(bucket - length + 1)..=bucket {
                self.buckets[passed.rem_euclid(length) as usize] = 0;
            }
            self.newest = Some(bucket);
        }
        if bucket > newest - length {
            self.buckets[bucket.rem_euclid(length) as usize] += u64::from(bytes);
        }
    }

    /// Bits a second, once there is enough to tell.
    pub(crate) fn bps(&self) -> Option<f64> {
        let newest = self.newest?;
        let span = (newest - self.first).min(BUCKETS as i64) * BUCKET_US;
        if span < LEAST_US {
            return None;
        }
        let filling = newest.rem_euclid(self.buckets.len() as i64) as usize;
        let bytes: u64 = self.buckets.iter().sum::<u64>() - self.buckets[filling];
        Some(bytes as f64 * 8e6 / span as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_stream_has_its_rate_and_a_pause_lowers_it() {
        let mut meter = Meter::default();
        for index in 0..300 {
            meter.add(index * 10_000, 1_250);
        }
        assert_eq!(meter.bps(), Some(1_000_000.0));
        meter.add(3_300_000, 1_250);
        let after = meter.bps().unwrap();
        assert!((400_000.0..600_000.0).contains(&after), "{after}");
        meter.add(-5, 1_250);
        meter.add(90_000_000, 1_250);
        assert_eq!(meter.bps(), Some(0.0));
    }

    #[test]
    fn a_short_time_tells_nothing() {
        let mut meter = Meter::default();
        assert_eq!(meter.bps(), None);
        meter.add(0, 1_250);
        meter.add(100_000, 1_250);
        assert_eq!(meter.bps(), None);
    }
}
