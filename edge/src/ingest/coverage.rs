//! What is missing of a track: arithmetic on the ranges that rows and the capture hold.

use shared::track::{Track, TrackSource};

/// The ranges missing from 0 to the declared last sequence, or to the highest held when that is higher or none was declared.
#[must_use]
pub(crate) fn missing(track: &Track) -> Vec<(u64, u64)> {
    let mut missing = Vec::new();
    let mut next = 0;
    for &(first, last) in &track.received {
        if first > next {
            missing.push((next, first - 1));
        }
        next = last + 1;
    }
    if let Some(last) = track.last_sequence.filter(|last| *last >= next) {
        missing.push((next, last));
    }
    missing
}

/// Whether nothing more is to come: the last sequence was declared and nothing up to it is missing. The edge's own tracks have
/// no sequences; while it captures, it counts as an upload in flight.
#[must_use]
pub(crate) fn is_complete(track: &Track) -> bool {
    track.source == TrackSource::Server || track.last_sequence.is_some() && missing(track).is_empty()
}

/// A track of which these ranges are held, for the tests of this and other files.
#[cfg(test)]
pub(super) fn track(received: &[(u64, u64)], last_sequence: Option<u64>) -> Track {
    Track {
        id: shared::id::TrackId::generate(),
        recording: shared::id::RecordingId::generate(),
        participant: shared::id::UserId::parse("ann").unwrap(),
        source: TrackSource::Client,
        kind: shared::track::TrackKind::Video,
        mime_type: None,
        codec: None,
        started_at: shared::clock::Timestamp::default(),
        duration_ms: None,
        chunks: 0,
        bytes: 0,
        received: received.to_vec(),
        last_sequence,
        gaps: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_to_the_declared_last() {
        let held = [(1, 2), (5, 5)];
        assert_eq!(missing(&track(&held, None)), [(0, 0), (3, 4)]);
        assert_eq!(missing(&track(&held, Some(7))), [(0, 0), (3, 4), (6, 7)]);
        assert_eq!(missing(&track(&[], Some(0))), [(0, 0)]);
    }

    #[test]
    fn a_track_is_complete_when_its_last_is_declared_and_all_are_held() {
        assert!(is_complete(&track(&[(0, 3)], Some(3))));
        assert!(!is_complete(&track(&[(0, 3)], None)));
        assert!(!is_complete(&track(&[(0, 3)], Some(4))));
        assert!(!is_complete(&track(&[(1, 3)], Some(3))));
    }
}
