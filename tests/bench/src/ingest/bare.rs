//! What the disk gives to somebody who does nothing but append and sync: one file, one chunk, one `fdatasync`, and again.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Appends `chunks` times the same bytes, each made durable before the next; returns how long that took.
pub(crate) fn append(folder: &Path, chunk: &[u8], chunks: u64) -> std::io::Result<Duration> {
    let path = folder.join("bare");
    let mut file = File::create(&path)?;
    let begun = Instant::now();
    for _ in 0..chunks {
        file.write_all(chunk)?;
        file.sync_data()?;
    }
    let took = begun.elapsed();
    std::fs::remove_file(path)?;
    Ok(took)
}
