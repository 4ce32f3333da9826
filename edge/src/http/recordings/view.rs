//! Recordings as JSON (API, section 4).

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::db::artifacts::{Artifact, ArtifactKind};
use shared::recording::{Format, Recording, RecordingError, RecordingOptions, RecordingState, Stage};
use shared::track::{Gap, Track, TrackKind, TrackSource};

use crate::http::links::Links;

/// A recording.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordingView {
    /// Its id.
    id: String,
    /// The call it belongs to.
    call_id: String,
    /// Where it stands.
    status: RecordingState,
    /// What is being done while it is `processing`.
    stage: Option<Stage>,
    /// How much of the processing is done, 0 to 1.
    progress: f32,
    /// When it began.
    started_at: DateTime<Utc>,
    /// Since when it is paused.
    paused_at: Option<DateTime<Utc>>,
    /// When it was stopped.
    stopped_at: Option<DateTime<Utc>>,
    /// When every file was in storage.
    completed_at: Option<DateTime<Utc>>,
    /// Length of the main file in milliseconds.
    duration: Option<u64>,
    /// Size of the main file in bytes.
    file_size: Option<u64>,
    /// Key of the main file in storage.
    output_path: Option<String>,
    /// Where the main file is read.
    output_url: Option<String>,
    /// The container of its files.
    format: Option<Format>,
    /// Where its pictures are read, in the order of time.
    thumbnails: Vec<String>,
    /// Its files.
    artifacts: Vec<ArtifactView>,
    /// What was captured.
    tracks: Vec<TrackView>,
    /// Where its files are.
    storage: Option<StorageView>,
    /// Why it failed.
    error: Option<RecordingError>,
    /// When it is deleted by age.
    expires_at: Option<DateTime<Utc>>,
    /// What was asked for.
    options: RecordingOptions,
}

/// A file of a recording.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ArtifactView {
    /// Its id.
    id: String,
    /// What it is.
    kind: ArtifactKind,
    /// Whose it is, when it is one person's.
    participant_id: Option<String>,
    /// Its media type.
    content_type: String,
    /// Its size in bytes.
    size: u64,
    /// Its SHA-256, lowercase hex.
    sha256: String,
    /// Its length in milliseconds.
    duration: Option<u64>,
    /// Pixels across.
    width: Option<u32>,
    /// Pixels down.
    height: Option<u32>,
    /// Its key in storage.
    key: String,
    /// Where it is read; absent until it is in storage.
    url: Option<String>,
}

/// A track of a recording.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct TrackView {
    /// Its id.
    id: String,
    /// Whose medium it is.
    participant_id: String,
    /// Who captured it.
    source: TrackSource,
    /// What it shows.
    kind: TrackKind,
    /// What was found in it, as `vp8,opus`.
    codec: Option<String>,
    /// When its first chunk arrived.
    started_at: DateTime<Utc>,
    /// Its length in milliseconds.
    duration: Option<u64>,
    /// Chunks held.
    chunks: u64,
    /// Bytes held.
    bytes: u64,
    /// What is missing from the output.
    gaps: Vec<Gap>,
}

/// Where files are.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct StorageView {
    /// `local`, `s3`, `gcs` or `vercel-blob`.
    provider: String,
    /// The bucket.
    bucket: String,
}

impl RecordingView {
    pub(super) fn of(recording: Recording, files: &[Artifact], tracks: Vec<Track>, links: &Links) -> Self {
        let pictures = files.iter().filter(|file| file.kind == ArtifactKind::Thumbnail && is_read(file));
        let thumbnails =
            pictures.map(|file| links.thumbnail(&recording.call, &recording.id, file.ordinal)).collect();
        let artifacts = files.iter().map(|file| ArtifactView::of(file, &recording, links)).collect();
        let place = recording.storage_provider.zip(recording.storage_bucket);
        Self {
            // Also while it is processed anew: the files of before are there until the new ones are.
            output_url: recording.output_key.as_ref().map(|_| links.download(&recording.call, &recording.id)),
            thumbnails,
            artifacts,
            id: recording.id.into(),
            call_id: recording.call.into(),
            status: recording.state,
            stage: recording.stage,
            progress: recording.progress,
            started_at: recording.started_at,
            paused_at: recording.pause.since.filter(|_| recording.state == RecordingState::Paused),
            stopped_at: recording.stopped_at,
            completed_at: recording.completed_at,
            duration: recording.duration_ms,
            file_size: recording.file_size,
            output_path: recording.output_key,
            format: recording.format,
            tracks: tracks.into_iter().map(TrackView::of).collect(),
            storage: place.map(|(provider, bucket)| StorageView { provider, bucket }),
            error: recording.error,
            expires_at: recording.expires_at,
            options: recording.options,
        }
    }
}

impl ArtifactView {
    fn of(file: &Artifact, recording: &Recording, links: &Links) -> Self {
        let url = || match file.kind {
            ArtifactKind::Thumbnail => links.thumbnail(&recording.call, &recording.id, file.ordinal),
            _ => links.artifact(&recording.call, &recording.id, &file.id),
        };
        Self {
            id: file.id.to_string(),
            kind: file.kind,
            participant_id: file.participant.as_ref().map(ToString::to_string),
            content_type: file.content_type.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
            duration: file.duration_ms,
            width: file.width,
            height: file.height,
            key: file.storage_key.clone(),
            url: is_read(file).then(url),
        }
    }
}

impl TrackView {
    fn of(track: Track) -> Self {
        Self {
            id: track.id.into(),
            participant_id: track.participant.into(),
            source: track.source,
            kind: track.kind,
            codec: track.codec,
            started_at: track.started_at,
            duration: track.duration_ms,
            chunks: track.chunks,
            bytes: track.bytes,
            gaps: track.gaps.unwrap_or_default(),
        }
    }
}

/// Whether a file can be read: it is in storage, and was read back there.
fn is_read(file: &Artifact) -> bool {
    file.stored_at.is_some()
}
