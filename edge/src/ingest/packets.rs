//! The way into the capture for what the edge receives itself: packets, reports and marks of a call's tracks.
//!
//! This file must not know WebRTC. A capture counts as an upload in flight: the recording is not sealed while one is open,
//! within the same limits as for clients.

use std::sync::Arc;

use shared::capture::Batch;
use shared::id::{RecordingId, UserId};
use shared::track::TrackKind;

use super::admit::Refused;
use super::registry::{InFlight, Live};
use super::{Ingest, Inner};

/// An open capture of one recording. The seal waits for its drop.
pub(crate) struct ServerCapture {
    inner: Arc<Inner>,
    live: Arc<Live>,
    _in_flight: InFlight,
}

impl Ingest {
    /// Opens the capture of a recording that is live here; `None` when it is not, or not any more.
    pub(crate) fn server_capture(&self, recording: &RecordingId) -> Option<ServerCapture> {
        let live = self.inner.registry.find(recording)?;
        let in_flight = live.enter().ok()?;
        Some(ServerCapture { inner: Arc::clone(&self.inner), live, _in_flight: in_flight })
    }
}

impl ServerCapture {
    /// The recording.
    pub(crate) fn recording(&self) -> &RecordingId {
        &self.live.id
    }

    /// Writes what came of one participant's medium. After `Ok` a killed process does not lose it.
    ///
    /// # Errors
    /// When the recording takes no more, or the disk is full or broken; then nothing of the batch is kept.
    pub(crate) async fn append(&self, user: &UserId, kind: TrackKind, batch: Batch) -> Result<(), Refused> {
        let _open = self.live.open_gate().await.map_err(|_| Refused::NotLive)?;
        let bytes = batch.packet_bytes();
        let new_track = self.inner.log.append_batch(&self.live.id, user, kind, batch).await?;
        self.inner.metrics.bytes.inc_by(bytes);
        if let Some(track) = new_track {
            self.inner.rows.tell(track);
        }
        Ok(())
    }
}
