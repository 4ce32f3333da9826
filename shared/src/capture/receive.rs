//! Takes in a body as it streams: small ones in memory within a budget, the others in a file.
//!
//! This file must not know HTTP or tracks. 200 uploaders of 10 MiB each cost the budget, not 2 GiB.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::TempPath;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;

use super::{Env, blocking, file};

/// The largest body that is kept in memory: four chunks of 256 KiB, the size that a browser sends in a second of 2 Mbit/s.
pub const SMALL_BODY_BYTES: u64 = 1024 * 1024;
/// What all bodies in memory may have together: 200 uploaders of 256 KiB fit.
pub const MEMORY_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Where bodies wait that are too large for memory.
pub(super) const INCOMING: &str = "incoming";
/// The budget is counted in pieces of this size.
const UNIT_BYTES: usize = 4096;

/// The budget in units.
pub(super) fn budget_units() -> usize {
    MEMORY_BUDGET_BYTES / UNIT_BYTES
}

/// A body that could not be taken in.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// It is longer than was allowed.
    #[error("the body is longer than {0} bytes")]
    TooLarge(u64),
    /// There is no room for it on disk.
    #[error("the disk is full")]
    DiskFull,
    /// The operating system failed.
    #[error("cannot keep the body")]
    Io(#[from] io::Error),
}

/// A body in memory is a list of blocks of this size: one piece would be moved as it grows, and hold up to twice of what the
/// budget counts.
const BLOCK_BYTES: usize = 64 * 1024;

/// A body on its way in.
pub struct Receiving {
    env: Arc<Env>,
    max_bytes: u64,
    len: u64,
    crc: u32,
    sha256: Sha256,
    place: Place,
}

enum Place {
    Memory { blocks: Vec<Vec<u8>>, budget: Option<OwnedSemaphorePermit> },
    File { file: tokio::fs::File, path: TempPath },
}

/// A body that is whole.
#[derive(Debug)]
pub struct ReceivedBody {
    /// Its bytes.
    pub len: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    pub(super) crc: u32,
    pub(super) body: Body,
}

/// Where a whole body is.
#[derive(Debug)]
pub(super) enum Body {
    Memory { blocks: Vec<Bytes>, _budget: Option<OwnedSemaphorePermit> },
    File { file: File, _path: TempPath },
}

impl ReceivedBody {
    /// A body that is in memory already, outside of the budget.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
            crc: crc32c::crc32c(&bytes),
            body: Body::Memory { blocks: vec![bytes], _budget: None },
        }
    }
}

impl Receiving {
    pub(super) fn new(env: Arc<Env>, max_bytes: u64) -> Self {
        let place = Place::Memory { blocks: Vec::new(), budget: None };
        Self { env, max_bytes, len: 0, crc: 0, sha256: Sha256::new(), place }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ReceiveError::TooLarge`] before anything beyond the limit is kept.
    pub async fn push(&mut self, part: &[u8]) -> Result<(), ReceiveError> {
        self.len += part.len() as u64;
        if self.len > self.max_bytes {
            return Err(ReceiveError::TooLarge(self.max_bytes));
        }
        self.sha256.update(part);
        self.crc = crc32c::crc32c_append(self.crc, part);
        if !self.fits_in_memory() {
            self.move_to_file().await?;
        }
        match &mut self.place {
            Place::Memory { blocks, .. } => append(blocks, part),
            Place::File { file, .. } => file.write_all(part).await.map_err(failure)?,
        }
        Ok(())
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// When the file could not be written.
    pub async fn finish(self) -> Result<ReceivedBody, ReceiveError> {
        let body = match self.place {
            Place::Memory { blocks, budget } => {
                Body::Memory { blocks: blocks.into_iter().map(Bytes::from).collect(), _budget: budget }
            }
            Place::File { mut file, path } => {
                file.flush().await.map_err(failure)?;
                Body::File { file: file.into_std().await, _path: path }
            }
        };
        Ok(ReceivedBody { len: self.len, sha256: self.sha256.finalize().into(), crc: self.crc, body })
    }

    /// Whether the body so far may be in memory; takes its share of the budget.
    fn fits_in_memory(&mut self) -> bool {
        let Place::Memory { budget, .. } = &mut self.place else { return true };
        let held = budget.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = usize::try_from(self.len).unwrap_or(usize::MAX).div_ceil(UNIT_BYTES);
        if self.len > SMALL_BODY_BYTES {
            return false;
        }
        let more = u32::try_from(wanted.saturating_sub(held)).expect("a small body has few units");
        match (self.env.memory.clone().try_acquire_many_owned(more), budget) {
            (Ok(taken), Some(budget)) => budget.merge(taken),
            (Ok(taken), none) => *none = Some(taken),
            (Err(_), _) => return false,
        }
        true
    }

    async fn move_to_file(&mut self) -> Result<(), ReceiveError> {
        if self.env.reserve.disk()?.below_reserve {
            return Err(ReceiveError::DiskFull);
        }
        let dir = self.env.config.capture_dir.join(INCOMING);
        let (file, path) =
            blocking(move || tempfile::NamedTempFile::new_in(dir)).await.map_err(failure)?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        if let Place::Memory { blocks, .. } = &self.place {
            for block in blocks {
                file.write_all(block).await.map_err(failure)?;
            }
        }
        self.place = Place::File { file, path };
        Ok(())
    }
}

fn append(blocks: &mut Vec<Vec<u8>>, mut part: &[u8]) {
    while !part.is_empty() {
        let room = blocks.last_mut().filter(|block| block.len() < BLOCK_BYTES);
        let block = match room {
            Some(block) => block,
            None => blocks.push_mut(Vec::with_capacity(BLOCK_BYTES)),
        };
        let (now, later) = part.split_at(part.len().min(BLOCK_BYTES - block.len()));
        block.extend_from_slice(now);
        part = later;
    }
}

fn failure(error: io::Error) -> ReceiveError {
    if file::is_full(&error) { ReceiveError::DiskFull } else { ReceiveError::Io(error) }
}
