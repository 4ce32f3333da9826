//! Capture of chunks: the seam that handlers call. Holds the live recordings of this edge.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::clock::{SharedClock, Timestamp};
use shared::env::{Env, EnvError};
use shared::id::{CallId, EdgeId, RecordingId, UserId};
use shared::lifecycle::Tasks;
use shared::recording::RecordingState;
use shared::track::Track;
use sqlx::PgPool;

/// What the ingest needs to know.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// `CAPTURE_DIR`.
    pub capture_dir: PathBuf,
    /// `SPOOL_URL`.
    pub spool_dir: PathBuf,
    /// `CHUNK_MAX_BYTES`.
    pub chunk_max_bytes: u64,
    /// `DISK_RESERVE` in bytes.
    pub disk_reserve: u64,
    /// `RECORDING_FINISH_TIMEOUT`.
    pub finish_timeout: Duration,
    /// `RECORDING_MAX_DURATION`: what a start's deadline is made from.
    pub max_duration: Duration,
    /// `PUBLIC_URL`.
    pub public_url: String,
}

impl IngestSettings {
    /// Reads them; the spool is a setting that edge and worker share.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn from_env(env: &Env, spool_dir: PathBuf, public_url: String) -> Result<Self, EnvError> {
        Ok(Self {
            capture_dir: env.optional("CAPTURE_DIR").unwrap_or("data/capture").into(),
            spool_dir,
            chunk_max_bytes: env.bytes("CHUNK_MAX_BYTES", 10 << 20)?,
            disk_reserve: env.bytes("DISK_RESERVE", 1 << 30)?,
            finish_timeout: env.duration("RECORDING_FINISH_TIMEOUT", Duration::from_secs(15))?,
            max_duration: env.duration("RECORDING_MAX_DURATION", Duration::from_secs(12 * 3600))?,
            public_url,
        })
    }
}

/// A recording that this edge captures.
#[derive(Debug, Clone)]
pub struct LiveRecording {
    /// Which.
    pub id: RecordingId,
    /// Of which call.
    pub call: CallId,
    /// Who hosts the call.
    pub host: UserId,
    /// Who may upload, beside the host.
    pub participants: BTreeSet<UserId>,
    /// Where it stands.
    pub state: RecordingState,
    /// When it must have been stopped.
    pub deadline_at: Timestamp,
}

/// The capture and the live recordings.
#[derive(Debug, Clone)]
pub struct Ingest {
    edge: EdgeId,
    live: Arc<Mutex<HashMap<RecordingId, LiveRecording>>>,
    disk: Disk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Enough,
    BelowReserve,
}

impl Ingest {
    /// Opens it.
    ///
    /// # Errors
    /// When the capture's folder cannot be made.
    #[expect(clippy::unused_async, reason = "opening waits for the database")]
    pub async fn open(
        settings: IngestSettings,
        _db: PgPool,
        _clock: SharedClock,
        _tasks: Tasks,
        _registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&settings.capture_dir)?;
        let below = settings.disk_reserve >= 1 << 50;
        Ok(Self {
            edge: EdgeId::generate(),
            live: Arc::default(),
            disk: if below { Disk::BelowReserve } else { Disk::Enough },
        })
    }

    /// This edge.
    #[must_use]
    pub fn edge_id(&self) -> &EdgeId {
        &self.edge
    }

    /// A recording has started here; to be called after its transaction was committed.
    pub fn started(&self, recording: LiveRecording) {
        self.recordings().insert(recording.id.clone(), recording);
    }

    /// The people of a call are others now.
    #[expect(clippy::needless_pass_by_value, reason = "the ingest keeps what it is given")]
    pub fn participants_changed(&self, call: &CallId, participants: BTreeSet<UserId>) {
        for recording in self.recordings().values_mut().filter(|recording| recording.call == *call) {
            recording.participants = participants.clone();
        }
    }

    /// A recording was stopped; to be called after its transaction was committed.
    pub fn stopped(&self, recording: &RecordingId) {
        self.recordings().remove(recording);
    }

    /// The tracks of a recording that this edge still captures.
    #[must_use]
    pub fn live_tracks(&self, recording: &RecordingId) -> Option<Vec<Track>> {
        self.recordings().get(recording).map(|_| Vec::new())
    }

    /// Whether the capture's disk is above its reserve.
    #[must_use]
    pub fn has_disk(&self) -> bool {
        self.disk == Disk::Enough
    }

    /// How many recordings this edge captures.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.recordings().len()
    }

    fn recordings(&self) -> std::sync::MutexGuard<'_, HashMap<RecordingId, LiveRecording>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
