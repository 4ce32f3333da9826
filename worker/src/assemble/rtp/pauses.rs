//! When a recording was paused, from what all of its logs tell.

use super::survey::{Span, Survey};

/// Packets that come this soon after a pause began were under way to the log; later ones say that it has ended.
pub(super) const STRAGGLERS_US: i64 = 1_000_000;

/// The pauses of a recording, as its logs tell of them. One that a log does not see the end of ends where another does,
/// because a pause holds for all; it goes on for ever where none does.
#[must_use]
pub fn pauses(logs: &[&Survey]) -> Vec<Span> {
    let ends = |from: i64| {
        let told = logs.iter().flat_map(|log| &log.paused).map(|(_, to)| *to).filter(move |to| *to > from);
        let begun = logs.iter().filter_map(|log| log.first_packet_us);
        told.chain(begun.filter(move |at_us| *at_us > from.saturating_add(STRAGGLERS_US)))
    };
    let all = logs.iter().flat_map(|log| log.paused.iter().copied());
    all.map(|(from, to)| (from, if to == i64::MAX { ends(from).min().unwrap_or(to) } else { to })).collect()
}
