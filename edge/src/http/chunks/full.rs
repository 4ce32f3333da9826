//! What is answered below the disk's reserve: nothing new is stored, but a client learns of a chunk that is held already, so that
//! it lets go of it instead of sending it again until there is room.
//!
//! Its bytes are digested as they arrive and kept nowhere; JSON has to wait until it is whole, so one such body at a time.

use axum::body::Body;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::body::Arriving;
use super::head::{Head, Medium};
use super::json::{self, Whole};
use super::problem::Problem;
use super::{ChunkStored, admit, told};
use crate::app::App;
use crate::auth::Caller;
use crate::ingest::{Admission, Refused, Stored};

/// How many JSON bodies are taken at once below the reserve: each may lie in a file until it is whole.
const BODIES_AT_ONCE: usize = 1;
/// The permits for them.
static BODIES: Semaphore = Semaphore::const_new(BODIES_AT_ONCE);

/// Lets a JSON body in although the disk is below its reserve.
pub(super) fn body_turn() -> Result<SemaphorePermit<'static>, Problem> {
    BODIES.try_acquire().map_err(|_| Refused::DiskFull.into())
}

/// Answers a binary upload.
pub(super) async fn put(
    app: &App,
    admission: &Admission,
    medium: Medium,
    sequence: u64,
    head: &Head,
    body: Body,
) -> Result<(Stored, ChunkStored), Problem> {
    if !app.ingest.holds(admission, medium.kind, sequence) {
        return Err(Refused::DiskFull.into());
    }
    let (size, sha256) = digest(app, body).await?;
    head.verify(&sha256)?;
    compare(app, admission, medium, sequence, size, sha256).await
}

/// Answers an upload within JSON.
pub(super) async fn post(app: &App, caller: &Caller, body: Whole) -> Result<(Stored, ChunkStored), Problem> {
    let (said, size, sha256) = json::digest(body).await?;
    let (medium, chunk) = said.parts()?;
    let admission = admit(app, caller, &medium).await?;
    compare(app, &admission, medium, chunk.sequence, size, sha256).await
}

async fn digest(app: &App, body: Body) -> Result<(u64, [u8; 32]), Problem> {
    let max = app.ingest.chunk_max_bytes();
    let mut arriving = Arriving::new(body, app.settings.patience);
    let (mut size, mut digest) = (0, Sha256::new());
    while let Some(bytes) = arriving.next().await? {
        size += bytes.len() as u64;
        if size > max {
            return Err(Problem::TooLarge(max));
        }
        digest.update(&bytes);
    }
    Ok((size, digest.finalize().into()))
}

async fn compare(
    app: &App,
    admission: &Admission,
    medium: Medium,
    sequence: u64,
    size: u64,
    sha256: [u8; 32],
) -> Result<(Stored, ChunkStored), Problem> {
    let held = app.ingest.compare(admission, medium.kind, sequence, size, sha256).await?;
    let stored = held.ok_or(Refused::DiskFull)?;
    let told = told(medium, sequence, &stored);
    Ok((stored, told))
}
