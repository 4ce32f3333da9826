//! Pauses of a recording, cut out of a timeline: what lies in one is left out, what follows moves up.
//!
//! Pure. It must not know what is on the timeline.

/// From and to, microseconds.
pub(crate) type Span = (i64, i64);

/// Where times lie once pauses are cut out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut {
    start_us: i64,
    /// Ascending, apart from each other.
    pauses: Vec<Span>,
}

impl Cut {
    /// Of a timeline that begins at `start_us`; what of the pauses is before it does not count.
    pub(crate) fn new(start_us: i64, pauses: &[Span]) -> Self {
        let mut apart: Vec<Span> = Vec::new();
        let mut all = pauses.to_vec();
        all.sort_unstable();
        for (from, to) in all {
            let from = from.max(start_us);
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ if from < to => apart.push((from, to)),
                _ => {}
            }
        }
        Self { start_us, pauses: apart }
    }

    /// A time where it lies after the cut; within a pause, where the pause was cut out.
    pub(crate) fn place(&self, us: i64) -> i64 {
        let paused = self.pauses.iter().take_while(|(from, _)| *from < us);
        let cut: i64 = paused.map(|(from, to)| us.min(*to).saturating_sub(*from)).sum();
        us.saturating_sub(self.start_us).saturating_sub(cut)
    }

    /// Where a time lay before the cut; one where a pause was cut out, at the pause's end.
    pub(super) fn unplace(&self, us: i64) -> i64 {
        let us = us.saturating_add(self.start_us);
        let grow = |us: i64, (from, to): &Span| if us < *from { us } else { us.saturating_add(to - from) };
        self.pauses.iter().fold(us, grow)
    }

    /// What is cut out.
    pub(super) fn spans(&self) -> impl Iterator<Item = Span> {
        self.pauses.iter().copied()
    }

    /// The pause that a time lies in.
    pub(super) fn pause_at(&self, us: i64) -> Option<Span> {
        self.pauses.iter().copied().find(|(from, to)| (*from..*to).contains(&us))
    }

    /// Where pauses were cut out.
    pub(super) fn seams(&self) -> impl Iterator<Item = i64> {
        self.pauses.iter().map(|(from, _)| self.place(*from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_cut_out_and_what_follows_moves_up() {
        let cut = Cut::new(1_000, &[(3_000, 5_000), (4_000, 6_000), (0, 500)]);
        assert_eq!(
            [2_000, 3_000, 4_500, 6_000, 7_000].map(|us| cut.place(us)),
            [1_000, 2_000, 2_000, 2_000, 3_000]
        );
        assert_eq!([1_000, 2_000, 3_000].map(|us| cut.unplace(us)), [2_000, 6_000, 7_000]);
        assert_eq!((cut.pause_at(3_000), cut.pause_at(6_000)), (Some((3_000, 6_000)), None));
        assert_eq!(cut.seams().collect::<Vec<_>>(), [2_000]);
    }

    #[test]
    fn a_timeline_that_begins_in_a_pause_begins_with_its_end() {
        let cut = Cut::new(0, &[(-2_000, 1_000), (5_000, i64::MAX)]);
        assert_eq!([0, 500, 1_500, 5_000, 9_000].map(|us| cut.place(us)), [0, 0, 500, 4_000, 4_000]);
    }
}
