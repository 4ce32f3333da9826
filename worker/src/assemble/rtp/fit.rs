//! Lines through pairs of clock readings: robust against outliers, with the drift between two clocks where it shows.
//!
//! Pure arithmetic. All numbers are microseconds; a clock may be off by [`MAX_DRIFT`] and by any constant.

/// No two clocks of computers drift apart faster: crystals are within 100 ppm, and a fit beyond this is a wrong fit.
const MAX_DRIFT: f64 = 500e-6;

/// Points that the slope is taken from at most; the median over all pairs of them is what costs.
const MAX_POINTS: usize = 160;

/// A line: `y = y0 + (x - x0) * (1 + drift)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    x0: i64,
    y0: i64,
    drift: f64,
}

impl Line {
    /// The other clock's reading.
    pub(super) fn at(&self, x: i64) -> i64 {
        let since = x - self.x0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "drift of days is below 2^53"
        )]
        let drifted = (since as f64 * self.drift).round() as i64;
        self.y0.saturating_add(since).saturating_add(drifted)
    }
}

/// Where the line lies among its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Through {
    /// The middle: readings are off to both sides.
    Middle,
    /// The lower edge: readings are only ever late.
    LowerEdge,
}

/// Fits a line to pairs (x, y); `None` without any. A drift that moves the ends apart by less than `floor_us` is taken
/// for noise.
pub(super) fn line(points: &[(i64, i64)], through: Through, floor_us: f64) -> Option<Line> {
    let &(x0, _) = points.first()?;
    let drift = drift(points).filter(|drift| (drift * span(points)).abs() >= floor_us).unwrap_or(0.0);
    let flat = Line { x0, y0: x0, drift };
    let mut offsets: Vec<i64> = points.iter().map(|&(x, y)| y - flat.at(x)).collect();
    offsets.sort_unstable();
    let index = if through == Through::Middle { offsets.len() / 2 } else { 0 };
    Some(Line { x0, y0: x0.saturating_add(*offsets.get(index)?), drift })
}

#[expect(clippy::cast_precision_loss, reason = "spans of days are below 2^53 microseconds")]
fn span(points: &[(i64, i64)]) -> f64 {
    let xs = points.iter().map(|&(x, _)| x);
    (xs.clone().max().unwrap_or(0) - xs.min().unwrap_or(0)) as f64
}

/// The median of the slopes between points that are at least a third of the whole apart (Theil and Sen), less one.
#[expect(clippy::cast_precision_loss, reason = "differences of days are below 2^53 microseconds")]
fn drift(points: &[(i64, i64)]) -> Option<f64> {
    let few: Vec<_> = points.iter().step_by(points.len().div_ceil(MAX_POINTS)).collect();
    let apart = span(points) / 3.0;
    let mut slopes = Vec::new();
    for (n, (x1, y1)) in few.iter().enumerate() {
        for (x2, y2) in few.iter().skip(n + 1) {
            let dx = (x2 - x1) as f64;
            if dx.abs() >= apart && dx != 0.0 {
                slopes.push(((y2 - y1) - (x2 - x1)) as f64 / dx);
            }
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().filter(|slope| slope.abs() <= MAX_DRIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_do_not_move_the_middle() {
        let mut points: Vec<_> = (0..100).map(|n| (n * 1_000_000, n * 1_000_000 + 5_000)).collect();
        points[40].1 += 9_000_000;
        points[41].1 -= 9_000_000;
        let fit = line(&points, Through::Middle, 5_000.0).unwrap();
        assert_eq!(fit.at(50_000_000), 50_005_000);
    }

    #[test]
    fn drift_is_followed_along_the_lower_edge() {
        let late = |n: i64| (n * 7_919) % 40_000;
        let points: Vec<_> = (0..360).map(|n| (n * 10_000_000, n * 10_000_500 + 300 + late(n))).collect();
        let fit = line(&points, Through::LowerEdge, 20_000.0).unwrap();
        for at in [0, 180, 359] {
            let off = fit.at(at * 10_000_000) - (at * 10_000_500 + 300);
            assert!(off.abs() < 4_000, "{off} us off at {at}");
        }
    }

    #[test]
    fn noise_of_a_short_track_is_no_drift() {
        let points = [(0, 7), (1_000_000, 1_000_900), (2_000_000, 2_000_007)];
        assert_eq!(line(&points, Through::LowerEdge, 20_000.0).unwrap().at(2_000_000), 2_000_007);
        assert_eq!(line(&[], Through::Middle, 0.0), None);
    }
}
