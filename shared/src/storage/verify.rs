//! Whether an object is what was put, as far as its provider can prove it.

use std::io::Read;
use std::path::Path;

use crc_fast::CrcAlgorithm;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::{Checksum, ChecksumKind, Fingerprint, Storage, StorageError};

/// Read at once.
const BLOCK: usize = 256 * 1024;

/// Compares an object with what was put: its size, and its content. Where the provider keeps a checksum of the whole object
/// and `source`, the file that was put, is at hand, the file is read again and must have both the SHA-256 that is expected and
/// the checksum that the provider keeps. Else the object is read back.
///
/// # Errors
/// [`StorageError::Mismatch`] when they differ, [`StorageError::NotFound`] when there is nothing, and those of storage.
pub async fn verify(
    storage: &dyn Storage,
    key: &str,
    expected: &Fingerprint,
    source: Option<&Path>,
) -> Result<(), StorageError> {
    let head = storage.head(key).await?.ok_or_else(|| StorageError::NotFound(key.to_owned()))?;
    if head.size != expected.size {
        let bytes = |size| format!("{size} bytes");
        return Err(mismatch(key, bytes(expected.size), bytes(head.size)));
    }
    match (head.checksum, source) {
        (Some(kept), Some(source)) => compare(key, kept, expected, source).await,
        _ => read_back(storage, key, expected).await,
    }
}

/// Whether an object is a copy of a file, as far as the provider can prove it: by the checksum that it keeps, or else read back.
///
/// # Errors
/// When storage does not say, or the file cannot be read.
pub(super) async fn is_copy(storage: &dyn Storage, key: &str, file: &Path) -> Result<bool, StorageError> {
    let size = tokio::fs::metadata(file).await?.len();
    let Some(head) = storage.head(key).await?.filter(|head| head.size == size) else { return Ok(false) };
    let (file, kind) = (file.to_owned(), head.checksum.map_or(ChecksumKind::Crc64Nvme, Checksum::kind));
    let read = tokio::task::spawn_blocking(move || of_file(&file, kind));
    let (print, checksum) = read.await.map_err(std::io::Error::other)??;
    match head.checksum {
        Some(kept) => Ok(kept == checksum),
        None => match read_back(storage, key, &print).await {
            Ok(()) => Ok(true),
            Err(StorageError::Mismatch { .. } | StorageError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        },
    }
}

async fn compare(
    key: &str,
    kept: Checksum,
    expected: &Fingerprint,
    source: &Path,
) -> Result<(), StorageError> {
    let source = source.to_owned();
    let read = tokio::task::spawn_blocking(move || of_file(&source, kept.kind()));
    let (print, checksum) = read.await.map_err(std::io::Error::other)??;
    if print != *expected {
        // What was read while it was put is as doubtful as the file.
        return Err(mismatch(
            key,
            sha256(&expected.sha256),
            format!("a source with {}", sha256(&print.sha256)),
        ));
    }
    if checksum == kept { Ok(()) } else { Err(mismatch(key, checksum.to_string(), kept.to_string())) }
}

/// Reads a file through once. Blocks.
fn of_file(file: &Path, kind: ChecksumKind) -> std::io::Result<(Fingerprint, Checksum)> {
    let mut file = std::fs::File::open(file)?;
    let (mut hash, mut size, mut block) = (Sha256::new(), 0, vec![0; BLOCK]);
    let (mut crc64, mut crc32) = (crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme), 0);
    loop {
        let read = file.read(&mut block)?;
        let bytes = block.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hash.update(bytes);
        size += read as u64;
        match kind {
            ChecksumKind::Crc64Nvme => crc64.update(bytes),
            ChecksumKind::Crc32c => crc32 = crc32c::crc32c_append(crc32, bytes),
        }
    }
    let checksum = match kind {
        ChecksumKind::Crc64Nvme => Checksum::Crc64Nvme(crc64.finalize()),
        ChecksumKind::Crc32c => Checksum::Crc32c(crc32),
    };
    Ok((Fingerprint { size, sha256: hex::encode(hash.finalize()) }, checksum))
}

async fn read_back(storage: &dyn Storage, key: &str, expected: &Fingerprint) -> Result<(), StorageError> {
    let broken = |error| match storage.local_path(key) {
        Some(_) => StorageError::from(error),
        None => StorageError::unavailable(format!("{key} cannot be read back: {error}")),
    };
    let mut bytes = storage.get_range(key, 0..expected.size).await?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    while let Some(block) = bytes.try_next().await.map_err(broken)? {
        hash.update(&block);
        size += block.len() as u64;
    }
    let found = Fingerprint { size, sha256: hex::encode(hash.finalize()) };
    if found == *expected {
        return Ok(());
    }
    Err(mismatch(key, sha256(&expected.sha256), format!("{size} bytes with {}", sha256(&found.sha256))))
}

fn sha256(hex: &str) -> String {
    format!("SHA-256 {hex}")
}

fn mismatch(key: &str, expected: String, found: String) -> StorageError {
    StorageError::Mismatch { key: key.to_owned(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of parametrised CRC algorithms: of the text `123456789`.
    #[test]
    fn a_file_is_read_for_its_fingerprint_and_the_providers_checksum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"123456789").unwrap();
        let of = |kind| of_file(file.path(), kind).unwrap();
        assert_eq!(of(ChecksumKind::Crc64Nvme).1, Checksum::Crc64Nvme(0xae8b_1486_0a79_9888));
        let (print, checksum) = of(ChecksumKind::Crc32c);
        assert_eq!(checksum, Checksum::Crc32c(0xe306_9283));
        assert_eq!((print.size, print.sha256), (9, hex::encode(Sha256::digest(b"123456789"))));
    }
}
