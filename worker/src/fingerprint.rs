//! What a file is, by size and SHA-256: taken when it is made, compared after it was put elsewhere.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use shared::storage::Fingerprint;

/// Read at once.
const BLOCK: usize = 256 * 1024;

/// Reads a file through. Blocks.
///
/// # Errors
/// When it cannot be read.
pub fn of(file: &Path) -> std::io::Result<Fingerprint> {
    let mut file = std::fs::File::open(file)?;
    let (mut hash, mut size, mut block) = (Sha256::new(), 0, vec![0; BLOCK]);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(Fingerprint { size, sha256: hex::encode(hash.finalize()) });
        }
        hash.update(block.get(..read).unwrap_or_default());
        size += read as u64;
    }
}
