//! The settings that edge and worker have in common. Each process adds its own beside its `main`.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::env::{Env, EnvError, Secret};
use crate::recording::{AUDIO_BITRATE, AudioCodec, Format, VIDEO_BITRATE, VideoCodec};
use crate::spool::SpoolSettings;
use crate::storage::{BackupSettings, KeyTemplate, StorageSettings};
use crate::telemetry::LogSettings;

/// A recording's age in days after which it is deleted, unless `RECORDING_RETENTION_DAYS` says otherwise.
const RETENTION_DAYS: u32 = 30;
/// The most days that `RECORDING_RETENTION_DAYS` may say: a hundred years, which no clock of ours overflows.
const RETENTION_DAYS_MAX: u32 = 36_500;
/// The most connections that one process may be told to open: Postgres has a process for each, and ten times fewer by default.
const DATABASE_CONNECTIONS_MAX: u32 = 1_000;
/// How long a capture is kept after completion for re-processing, unless `CAPTURE_KEEP` says otherwise.
const CAPTURE_KEEP: Duration = Duration::from_secs(24 * 3600);

/// What both processes read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `DATABASE_URL`.
    pub database_url: Secret,
    /// `SPOOL_URL`: where closed segments of the capture wait for a worker.
    pub spool: SpoolSettings,
    /// Where finished files go.
    pub storage: StorageSettings,
    /// Where they go while that is away, when there is such a place.
    pub backup: Option<BackupSettings>,
    /// `RECORDING_KEY_TEMPLATE`: how finished files are named there.
    pub keys: KeyTemplate,
    /// What outputs are when their owner did not say.
    pub media: MediaDefaults,
    /// When finished recordings are deleted.
    pub retention: Retention,
    /// `CAPTURE_KEEP`: how long a capture outlives its recording's completion.
    pub capture_keep: Duration,
    /// `LOG_FORMAT`, `RUST_LOG`.
    pub log: LogSettings,
}

/// `RECORDING_FORMAT`, `RECORDING_VIDEO_CODEC`, `RECORDING_AUDIO_CODEC`, `VIDEO_BITRATE`, `AUDIO_BITRATE`.
///
/// A recording's own options win: where its format does not hold a codec that only the environment asks for, that codec is not
/// asked for, and its media is copied or encoded as if the variable were not set. Where only the environment's format is in the
/// way of a codec, the container that holds the codec is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaDefaults {
    /// The container, when it holds the captured codecs.
    pub format: Format,
    /// What video is encoded as; `Copy` where the container holds what came.
    pub video_codec: VideoCodec,
    /// What audio is encoded as; `Copy` where the container holds what came.
    pub audio_codec: AudioCodec,
    /// Bits per second of encoded video.
    pub video_bitrate: u32,
    /// Bits per second of encoded audio.
    pub audio_bitrate: u32,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let (storage, keys) = (StorageSettings::from_env(env)?, KeyTemplate::from_env(env)?);
        let spool = SpoolSettings::from_env(env)?;
        spool.must_be_apart_from(&storage, &keys)?;
        let backup = BackupSettings::from_env(env, &storage)?;
        if let Some(backup) = &backup {
            spool.must_be_apart_from(&backup.storage, &keys)?;
        }
        Ok(Self {
            database_url: database_url(env)?,
            spool,
            storage,
            backup,
            keys,
            media: MediaDefaults::from_env(env)?,
            retention: Retention::from_env(env)?,
            capture_keep: env.duration("CAPTURE_KEEP", CAPTURE_KEEP)?,
            log: LogSettings::from_env(env)?,
        })
    }
}

impl Settings {
    /// The password-like values of storage, for a test that none of them is ever printed.
    #[must_use]
    pub fn storage_secrets(&self) -> Vec<&Secret> {
        let backup = self.backup.iter().flat_map(|backup| backup.storage.secrets());
        self.storage.secrets().into_iter().chain(backup).collect()
    }
}

/// When finished recordings are deleted: the oldest first, by whichever of these is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// `RECORDING_RETENTION_DAYS`: their age, unless a recording's own options say when; `None` (0 in the environment) keeps for ever.
    pub days: Option<u32>,
    /// `RECORDING_RETENTION_MAX_SIZE`: bytes of all of their files together.
    pub max_bytes: Option<u64>,
    /// `RECORDING_RETENTION_MIN_FREE`: bytes that are kept free on the disk of a storage that is a folder. Must be fewer
    /// than the disk has.
    pub min_free: Option<u64>,
}

impl Retention {
    fn from_env(env: &Env) -> Result<Self, EnvError> {
        let days = env.within("RECORDING_RETENTION_DAYS", RETENTION_DAYS, 0..=RETENTION_DAYS_MAX)?;
        let bytes = |name| Ok(Some(env.bytes(name, 0)?).filter(|bytes| *bytes > 0));
        Ok(Self {
            days: (days > 0).then_some(days),
            max_bytes: bytes("RECORDING_RETENTION_MAX_SIZE")?,
            min_free: bytes("RECORDING_RETENTION_MIN_FREE")?,
        })
    }
}

/// `DATABASE_URL`.
///
/// # Errors
/// When it is missing or no `postgres://` URL.
pub fn database_url(env: &Env) -> Result<Secret, EnvError> {
    let url = env.required("DATABASE_URL", "a postgres:// URL")?;
    let ours = url.starts_with("postgres://") || url.starts_with("postgresql://");
    match url.parse::<PgConnectOptions>() {
        Ok(_) if ours => Ok(Secret::new(url.to_owned())),
        _ => Err(EnvError::wants("DATABASE_URL", "a postgres:// URL")),
    }
}

/// `DATABASE_MAX_CONNECTIONS`.
///
/// # Errors
/// When it is not 1 to 1000.
pub fn database_max_connections(env: &Env, default: u32) -> Result<u32, EnvError> {
    env.within("DATABASE_MAX_CONNECTIONS", default, 1..=DATABASE_CONNECTIONS_MAX)
}

impl MediaDefaults {
    fn from_env(env: &Env) -> Result<Self, EnvError> {
        let defaults = Self {
            format: env.parsed("RECORDING_FORMAT", Format::Webm, "webm, mp4 or mkv")?,
            video_codec: env.parsed("RECORDING_VIDEO_CODEC", VideoCodec::Copy, "vp8, vp9, h264 or copy")?,
            audio_codec: env.parsed("RECORDING_AUDIO_CODEC", AudioCodec::Copy, "opus, aac or copy")?,
            video_bitrate: env.within("VIDEO_BITRATE", 2_000_000, VIDEO_BITRATE)?,
            audio_bitrate: env.within("AUDIO_BITRATE", 128_000, AUDIO_BITRATE)?,
        };
        // A format that nobody set gives way to a codec that somebody did.
        if env.optional("RECORDING_FORMAT")?.is_some() {
            defaults.fit_together()?;
        }
        Ok(defaults)
    }

    fn fit_together(&self) -> Result<(), EnvError> {
        let (codec, wants) = if !self.format.can_hold_video(self.video_codec) {
            ("RECORDING_VIDEO_CODEC", "a codec that RECORDING_FORMAT holds")
        } else if !self.format.can_hold_audio(self.audio_codec) {
            ("RECORDING_AUDIO_CODEC", "a codec that RECORDING_FORMAT holds")
        } else {
            return Ok(());
        };
        Err(EnvError::wants(codec, wants))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_that_cannot_be_made_is_refused_by_name() {
        for (pairs, line) in [
            (
                vec![("RECORDING_FORMAT", "webm"), ("RECORDING_VIDEO_CODEC", "h264")],
                "RECORDING_VIDEO_CODEC wants a codec that RECORDING_FORMAT holds",
            ),
            (
                vec![("RECORDING_FORMAT", "webm"), ("RECORDING_AUDIO_CODEC", "aac")],
                "RECORDING_AUDIO_CODEC wants a codec that RECORDING_FORMAT holds",
            ),
            (vec![("VIDEO_BITRATE", "0")], "VIDEO_BITRATE wants a number from 50000 to 50000000"),
            (vec![("AUDIO_BITRATE", "1")], "AUDIO_BITRATE wants a number from 6000 to 510000"),
        ] {
            assert_eq!(MediaDefaults::from_env(&Env::from_pairs(pairs)).unwrap_err().to_string(), line);
        }
        for pairs in [
            vec![("RECORDING_VIDEO_CODEC", "h264")],
            vec![("RECORDING_FORMAT", "mkv"), ("RECORDING_VIDEO_CODEC", "h264")],
        ] {
            assert!(MediaDefaults::from_env(&Env::from_pairs(pairs)).is_ok());
        }
    }

    #[test]
    fn a_database_is_postgres() {
        for bad in ["mysql://localhost", "postgres://u@h:badport/x", "postgres://u@h/x?sslmode=odd"] {
            let env = Env::from_pairs([("DATABASE_URL", bad)]);
            assert_eq!(database_url(&env).unwrap_err().to_string(), "DATABASE_URL wants a postgres:// URL");
        }
        assert!(database_url(&Env::from_pairs([("DATABASE_URL", "postgres://u@h:1/x")])).is_ok());
    }
}
