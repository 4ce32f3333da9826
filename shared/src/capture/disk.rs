//! How much room the capture's disk has, and when it counts as full.
//!
//! This file must not know tracks.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

/// For how long an answer of the operating system is used: at 1 GB/s, a second more costs less than the reserve.
const FRESH: Duration = Duration::from_secs(1);

/// How much of the disk is kept free: the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskReserve {
    /// Percent of the disk.
    pub percent: u8,
    /// Bytes.
    pub min_bytes: u64,
}

impl Default for DiskReserve {
    /// 5 %, and at least 1 GiB.
    fn default() -> Self {
        Self { percent: 5, min_bytes: 1024 * 1024 * 1024 }
    }
}

/// Whether there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Bytes of the whole disk.
    pub total: u64,
    /// Whether less is free than is to be kept: then new recordings and chunks are refused.
    pub below_reserve: bool,
}

/// Watches one disk.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    keep: DiskReserve,
    last: Mutex<Option<(Instant, Disk)>>,
}

impl Reserve {
    /// Watches the disk that holds `dir`.
    #[must_use]
    pub fn new(dir: PathBuf, keep: DiskReserve) -> Self {
        Self { dir, keep, last: Mutex::new(None) }
    }

    /// The disk, at most a second ago.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn disk(&self) -> io::Result<Disk> {
        let mut last = self.last.lock().expect("no code panics while it holds the last answer");
        if let Some((at, disk)) = *last
            && at.elapsed() < FRESH
        {
            return Ok(disk);
        }
        let stat = statvfs(&self.dir)?;
        let disk = disk_of(
            stat.blocks_available().saturating_mul(stat.fragment_size()),
            stat.blocks().saturating_mul(stat.fragment_size()),
            self.keep,
        );
        *last = Some((Instant::now(), disk));
        Ok(disk)
    }
}

fn disk_of(free: u64, total: u64, keep: DiskReserve) -> Disk {
    let reserve = (total / 100 * u64::from(keep.percent)).max(keep.min_bytes);
    Disk { free, total, below_reserve: free < reserve }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_percent_and_bytes_is_kept() {
        let keep = DiskReserve { percent: 5, min_bytes: 100 };
        assert!(disk_of(99, 1_000, keep).below_reserve);
        assert!(!disk_of(100, 1_000, keep).below_reserve);
        assert!(disk_of(499, 10_000, keep).below_reserve);
        assert!(!disk_of(500, 10_000, keep).below_reserve);
    }
}
