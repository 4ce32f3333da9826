//! What can be done: one payload for each kind of job. Queue names and field names are stored; neither is ever changed.

use serde::{Deserialize, Serialize};

use super::Job;
use crate::id::RecordingId;

/// Attempts of a job that costs minutes of FFmpeg: what fails five times over ten minutes is not the weather.
const MEDIA_ATTEMPTS: u32 = 5;
/// Attempts of a job that waits for storage: with a backoff of at most ten minutes they cover about two hours of outage.
const STORAGE_ATTEMPTS: u32 = 20;
/// Attempts of a job that the clock makes again anyway.
const CRON_ATTEMPTS: u32 = 2;

macro_rules! stage_job {
    ($(#[$doc:meta])* $name:ident, $queue:literal, $attempts:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub struct $name {
            /// Which.
            pub recording: RecordingId,
            /// The stage's token: a job whose token is no longer the recording's has nothing to do.
            pub token: String,
        }

        impl Job for $name {
            const QUEUE: &'static str = $queue;
            const MAX_ATTEMPTS: u32 = $attempts;

            fn key(&self) -> Option<String> {
                Some(format!("{}:{}", self.recording, self.token))
            }
        }
    };
}

stage_job!(
    /// Assembles a sealed recording's capture into finished files.
    MuxRecording,
    "mux-recording",
    MEDIA_ATTEMPTS
);
stage_job!(
    /// Takes pictures from the finished file.
    MakeThumbnails,
    "make-thumbnails",
    MEDIA_ATTEMPTS
);
stage_job!(
    /// Puts every artifact into storage, reads it back, and completes the recording.
    UploadRecording,
    "upload-recording",
    STORAGE_ATTEMPTS
);

/// Removes every object and every capture of a recording that was deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteRecording {
    /// Which.
    pub recording: RecordingId,
}

impl Job for DeleteRecording {
    const QUEUE: &'static str = "delete-recording";
    const MAX_ATTEMPTS: u32 = STORAGE_ATTEMPTS;

    fn key(&self) -> Option<String> {
        Some(self.recording.to_string())
    }
}

/// Ends what has overrun its deadline, and cleans up what crashes have left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sweep {}

impl Job for Sweep {
    const QUEUE: &'static str = "sweep";
    const MAX_ATTEMPTS: u32 = CRON_ATTEMPTS;
}

/// Deletes recordings that have reached their age, and captures that are no longer needed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExpireRecordings {}

impl Job for ExpireRecordings {
    const QUEUE: &'static str = "expire-recordings";
    const MAX_ATTEMPTS: u32 = CRON_ATTEMPTS;
}

/// Gives up uploads to storage that were begun and that nobody goes on with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AbortUploads {}

impl Job for AbortUploads {
    const QUEUE: &'static str = "abort-uploads";
    const MAX_ATTEMPTS: u32 = CRON_ATTEMPTS;
}

/// Moves files from the backup storage to the first one, and deletes what nobody needs there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EmptyBackup {}

impl Job for EmptyBackup {
    const QUEUE: &'static str = "empty-backup";
    const MAX_ATTEMPTS: u32 = CRON_ATTEMPTS;
}
