//! Medians, percentiles, and rows of the table.

use std::fmt::Display;
use std::time::Duration;

/// The median; of an even number, the upper one.
///
/// # Panics
/// When there are no values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that `share` of the sorted ones are not above, by the nearest rank.
///
/// # Panics
/// When there are no values.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank within the list"
)]
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Bytes and a time as MB/s.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub(crate) fn megabytes_per_second(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// Whether a figure is what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NoGoal,
}

impl From<bool> for Verdict {
    fn from(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }
}

/// Prints a row of the table.
pub(crate) fn row(figure: impl Display, measured: impl Display, goal: impl Display, verdict: Verdict) {
    let word = match verdict {
        Verdict::Met => "ok",
        Verdict::Missed => "MISSED",
        Verdict::NoGoal => "-",
    };
    println!("=\t{figure}\t{measured}\t{goal}\t{word}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_list() {
        let list: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&list, 0.0), list[0]);
        assert_eq!(percentile(&list, 0.99), list[98]);
        assert_eq!(percentile(&list[..1], 0.99), list[0]);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
