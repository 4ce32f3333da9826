//! The jobs, one file each, and their wiring, one line each.
//!
//! Every job looks first (is there still something to do, and do I hold the stage?), works aside, and publishes in one
//! transaction that its stage's token fences. Running twice, on two machines at once, changes nothing.

use std::time::Duration;

use shared::jobs::{
    AbortUploads, DeleteRecording, EmptyBackup, ExpireRecordings, Job, MakeThumbnails, MuxRecording, Sweep,
    UploadRecording,
};
use shared::storage::Storages;

use crate::ctx::Ctx;
use crate::queue::{PURGE_QUEUE, Runner};

pub mod abort_uploads;
pub mod delete_recording;
pub mod empty_backup;
pub mod expire_recordings;
pub mod make_thumbnails;
pub mod mux_recording;
mod stage;
pub mod sweep;
pub mod upload_recording;

/// Assembling and, in the worst case, encoding a whole day of video.
const MUX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Five seeks in a finished file take a second; a slow volume gets half an hour.
const THUMBNAILS_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// A day of video over a slow uplink.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Listing and deleting some hundred objects.
const HOUSEKEEPING_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How often deadlines are looked at: a recording is at most this much later than its deadline said.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often ages are looked at; they are days.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// How often uploads are looked for that nobody goes on with; what they hold costs money by the month.
const ABORT_UPLOADS_EVERY: Duration = Duration::from_secs(3600);

/// How often files are moved from the backup to where they belong. A copy that was moved is deleted by the next run: a link to
/// it is good for that long, as `PRESIGN_TTL` is by default.
const EMPTY_BACKUP_EVERY: Duration = Duration::from_secs(300);

/// Every queue that a worker can serve.
pub const QUEUES: [&str; 9] = [
    MuxRecording::QUEUE,
    MakeThumbnails::QUEUE,
    UploadRecording::QUEUE,
    DeleteRecording::QUEUE,
    ExpireRecordings::QUEUE,
    AbortUploads::QUEUE,
    EmptyBackup::QUEUE,
    Sweep::QUEUE,
    PURGE_QUEUE,
];

/// Registers every job. `concurrency` is how many FFmpeg processes may run at once.
#[must_use]
pub fn register(runner: Runner<Ctx>, concurrency: usize, storage: &Storages) -> Runner<Ctx> {
    let runner = runner
        .register(concurrency, MUX_TIMEOUT, mux_recording::run)
        .register(concurrency, THUMBNAILS_TIMEOUT, make_thumbnails::run)
        .register(concurrency, UPLOAD_TIMEOUT, upload_recording::run)
        .register(concurrency, HOUSEKEEPING_TIMEOUT, delete_recording::run)
        .register(1, HOUSEKEEPING_TIMEOUT, expire_recordings::run)
        .register(1, HOUSEKEEPING_TIMEOUT, abort_uploads::run)
        .register(1, HOUSEKEEPING_TIMEOUT, sweep::run)
        .register(1, UPLOAD_TIMEOUT, empty_backup::run)
        .cron("sweep", SWEEP_EVERY, || Sweep {})
        .cron("expire-recordings", EXPIRE_EVERY, || ExpireRecordings {})
        .cron("abort-uploads", ABORT_UPLOADS_EVERY, || AbortUploads {});
    match storage.backup {
        Some(_) => runner.cron("empty-backup", EMPTY_BACKUP_EVERY, || EmptyBackup {}),
        None => runner,
    }
}
