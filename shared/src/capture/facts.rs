//! What is held of a track, as its row tells it.
//!
//! This file must not know where it was found: an open log and the segments of the spool give the same.

use super::format::{TrackSpec, timestamp_of};
use super::held::Held;
use crate::clock::Timestamp;
use crate::id::TrackId;
use crate::track::Track;

/// What is held of a track; all of it is on stable storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackStatus {
    /// Sequences held: inclusive, ascending.
    pub received: Vec<(u64, u64)>,
    /// Sequences missing up to the declared last, or the highest held.
    pub missing: Vec<(u64, u64)>,
    /// Chunks held; packets of a server track.
    pub chunks: u64,
    /// Bytes of media held.
    pub bytes: u64,
    /// The last sequence, when the client declared it; the highest held when that is beyond what was declared.
    pub last_sequence: Option<u64>,
    /// Whether the last is declared and nothing up to it is missing.
    pub complete: bool,
    /// When the first chunk arrived.
    pub first_arrival: Option<Timestamp>,
    /// When the last chunk arrived.
    pub last_arrival: Option<Timestamp>,
    /// The mime type that was given last.
    pub mime: Option<String>,
}

/// A track and what is held of it, for its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFacts {
    /// The track.
    pub id: TrackId,
    /// Whose medium it is.
    pub spec: TrackSpec,
    /// What is held of it.
    pub status: TrackStatus,
}

impl TrackFacts {
    /// Its row, as far as the capture tells. `otherwise` is when a track began of which nothing has arrived.
    #[must_use]
    pub fn row(self, otherwise: Timestamp) -> Track {
        let status = self.status;
        Track {
            id: self.id,
            recording: self.spec.recording,
            participant: self.spec.participant,
            source: self.spec.source,
            kind: self.spec.kind,
            mime_type: status.mime,
            codec: None,
            started_at: status.first_arrival.unwrap_or(otherwise),
            duration_ms: None,
            chunks: status.chunks,
            bytes: status.bytes,
            received: status.received,
            last_sequence: status.last_sequence,
            gaps: None,
        }
    }
}

impl From<Held> for TrackStatus {
    fn from(held: Held) -> Self {
        let received = held.ranges.pairs();
        let highest = received.last().map_or(0, |(_, last)| *last);
        let last_sequence = held.last_sequence.map(|last| u64::from(last).max(highest));
        let missing = held.ranges.missing(last_sequence);
        Self {
            complete: last_sequence.is_some() && missing.is_empty(),
            received,
            missing,
            chunks: held.ranges.count() + held.flow.packets,
            bytes: held.bytes,
            last_sequence,
            first_arrival: held.arrivals_us.map(|(first, _)| timestamp_of(first)),
            last_arrival: held.arrivals_us.map(|(_, last)| timestamp_of(last)),
            mime: held.mime,
        }
    }
}
