//! Who may upload to which recording. Answered from memory; the database is asked only about a recording that this edge does
//! not hold, and about a person it does not know.

use std::sync::Arc;

use shared::call::Standing;
use shared::db::{calls, edges, is_unavailable, recordings};
use shared::id::{CallId, RecordingId, UserId};
use shared::track::{Track, TrackKind};

use super::log::{self, LogError, NewChunk, Stored};
use super::registry::{InFlight, Live};
use super::{Ingest, Inner, watch};
use shared::capture::{ReceivedBody, Receiving};

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// No such recording.
    #[error("no such recording")]
    Unknown,
    /// It takes no chunks any more.
    #[error("the recording takes no more chunks")]
    NotLive,
    /// The user has no part in the call.
    #[error("only the host and participants of the call upload to its recording")]
    Stranger,
    /// Another edge holds the recording; this is its URL.
    #[error("another edge holds the recording")]
    Elsewhere(String),
    /// The database is away, and memory does not know.
    #[error("the database is away")]
    DatabaseAway,
    /// Other bytes are held under the sequence.
    #[error("other bytes are held under this sequence")]
    Conflict,
    /// The sequence is too high, or below what is held.
    #[error("{0}")]
    Sequence(String),
    /// The disk is below its reserve.
    #[error("the disk is full; keep the chunk and send it again later")]
    DiskFull,
    /// Ours.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

/// A user's upload that was let in. The recording's finish waits for it while it exists.
#[derive(Debug)]
pub(crate) struct Admission {
    live: Arc<Live>,
    user: UserId,
    _in_flight: InFlight,
}

impl Admission {
    /// The recording's call.
    pub(crate) fn call(&self) -> &CallId {
        &self.live.call
    }
}

impl Ingest {
    /// Lets a user's upload in, or says why not.
    pub(crate) async fn admit(&self, recording: &RecordingId, user: &UserId) -> Result<Admission, Refused> {
        let live = match self.inner.registry.find(recording) {
            Some(live) => live,
            None => look_up(&self.inner, recording).await?,
        };
        if !live.knows(user) {
            let standing = calls::standing(&self.inner.db, &live.call, user).await?;
            if matches!(standing, None | Some(Standing::Stranger)) {
                return Err(Refused::Stranger);
            }
            live.learn(user.clone());
        }
        let in_flight = live.enter().map_err(|_| Refused::NotLive)?;
        Ok(Admission { live, user: user.clone(), _in_flight: in_flight })
    }

    /// Begins to take in a chunk's bytes, of which there may be as many as the settings allow.
    pub(crate) fn receive(&self) -> Receiving {
        self.inner.log.receive(self.inner.settings.chunk_max_bytes)
    }

    /// Whether a chunk of the user's is held already.
    pub(crate) fn holds(&self, admission: &Admission, kind: TrackKind, sequence: u64) -> bool {
        let spec = log::spec(&admission.live.id, &admission.user, kind);
        self.inner.log.holds(&spec, sequence)
    }

    /// Compares a chunk with what is held under its sequence, and stores nothing. `None`: nothing is held.
    pub(crate) async fn compare(
        &self,
        admission: &Admission,
        kind: TrackKind,
        sequence: u64,
        size: u64,
        sha256: [u8; 32],
    ) -> Result<Option<Stored>, Refused> {
        let spec = log::spec(&admission.live.id, &admission.user, kind);
        Ok(self.inner.log.compare(&spec, sequence, size, sha256).await?)
    }

    /// Puts a chunk on stable storage.
    pub(crate) async fn store(
        &self,
        admission: &Admission,
        chunk: NewChunk,
        body: ReceivedBody,
    ) -> Result<Stored, Refused> {
        let live = &admission.live;
        let _open = live.open_gate().await.map_err(|_| Refused::NotLive)?;
        let stored = self.inner.log.append(&live.id, &admission.user, chunk, body).await?;
        live.touch();
        if let Some(track) = &stored.new_track {
            self.inner.rows.tell(track.clone());
        }
        Ok(stored)
    }

    /// Notes which sequence is a track's last; returns what is known of the track then.
    pub(crate) async fn complete(
        &self,
        admission: &Admission,
        kind: TrackKind,
        last_sequence: u64,
    ) -> Result<Track, Refused> {
        let live = &admission.live;
        let _open = live.open_gate().await.map_err(|_| Refused::NotLive)?;
        let track = self.inner.log.complete(&live.id, &admission.user, kind, last_sequence).await?;
        live.touch();
        self.inner.rows.tell(track.clone());
        Ok(track)
    }

    /// What a user is to the call of a recording that this edge holds, as far as memory knows.
    pub(crate) fn live_standing(&self, recording: &RecordingId, user: &UserId) -> Option<(CallId, Standing)> {
        let live = self.inner.registry.find(recording)?;
        let standing = match () {
            () if *user == live.host => Standing::Host,
            () if live.knows(user) => Standing::Participant,
            () => Standing::Stranger,
        };
        Some((live.call.clone(), standing))
    }
}

/// Finds a recording that memory does not know: this edge may have just been started, or another one may hold it.
async fn look_up(inner: &Arc<Inner>, recording: &RecordingId) -> Result<Arc<Live>, Refused> {
    let row = recordings::find(&inner.db, recording).await?.ok_or(Refused::Unknown)?;
    if !row.state.takes_chunks() {
        return Err(Refused::NotLive);
    }
    let holder = edges::holding(&inner.db, recording).await?.ok_or(Refused::NotLive)?;
    if holder.id != inner.edge_id {
        return Err(Refused::Elsewhere(holder.url));
    }
    // Ours, and yet unknown: either not adopted yet, or flushed and waiting for the share of another edge.
    let ours = recordings::live_by_edge(&inner.db, &inner.edge_id).await?;
    let row = ours.into_iter().find(|row| row.id == *recording).ok_or(Refused::NotLive)?;
    watch::adopt(inner, &row).await?.ok_or(Refused::NotLive)
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            return Self::DatabaseAway;
        }
        Self::Internal(error.into())
    }
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Closed => Self::NotLive,
            LogError::Conflict => Self::Conflict,
            LogError::Sequence(why) => Self::Sequence(why),
            LogError::DiskFull => Self::DiskFull,
            LogError::Failed(error) => Self::Internal(error),
        }
    }
}
