//! Going on with an upload that an earlier attempt has begun: which of its parts have arrived.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use aws_sdk_s3::types::{CompletedPart, Part};
use crc_fast::{CrcAlgorithm, Digest};
use tracing::warn;

use super::failure::{failure, is_absent};
use super::upload::{BLOCK, Upload, completed};
use super::{S3Storage, crc64_text, size as size_of};
use crate::storage::verify::is_copy;
use crate::storage::{PutFile, Resumption, Storage, StorageError};

/// Parts by their number.
pub(super) type Arrived = BTreeMap<i32, CompletedPart>;

/// What an earlier attempt has left.
pub(super) enum Left<'a> {
    /// Nothing that is of use.
    Nothing,
    /// An upload with the parts of it that have arrived whole.
    Parts(Upload<'a>, Arrived),
    /// All of it: only the answer was lost, or the note of it.
    Everything,
}

impl S3Storage {
    /// What an earlier attempt has left of this file.
    pub(super) async fn left_of<'a>(
        &self,
        put: &'a PutFile<'a>,
        size: u64,
    ) -> Result<Left<'a>, StorageError> {
        let Some(state) = put.resume else { return Ok(Left::Nothing) };
        let Some((_, id)) = self.upload_of(state).filter(|(key, _)| *key == put.key) else {
            return Ok(Left::Nothing);
        };
        let upload = Upload { id: id.to_owned(), put, size };
        let found = match self.listed_parts(&upload).await {
            Ok(Some(found)) => found,
            // It was completed, unless it was aborted.
            Ok(None) if is_copy(self, put.key, put.file).await? => return Ok(Left::Everything),
            Ok(None) => return Ok(Left::Nothing),
            Err(error @ (StorageError::Credentials(_) | StorageError::Refused(_))) => {
                self.pass_over(state, put.key, &error).await;
                return Ok(Left::Nothing);
            }
            Err(error) => return Err(error),
        };
        let mut arrived = Arrived::new();
        for (number, begin, length) in upload.parts() {
            if let Some(part) = found.get(&number).filter(|part| size_of(part.size()) == length) {
                let crc64 = self.crc64_of(part, put.file, begin, length).await?;
                arrived.insert(number, completed(number, part.e_tag.clone(), crc64));
            }
        }
        Ok(Left::Parts(upload, arrived))
    }

    /// One that we may not ask about, as after a change of keys, must not keep the file for ever from being put anew.
    async fn pass_over(&self, upload: &Resumption, key: &str, error: &StorageError) {
        warn!("what has arrived of {key} cannot be asked about, and is sent again: {error}");
        // What cannot be aborted now is found by the cleanup.
        let _ = self.abort(upload).await;
    }

    /// The parts that the server has, whole or not; `None` when it does not know the upload.
    pub(super) async fn listed_parts(
        &self,
        upload: &Upload<'_>,
    ) -> Result<Option<BTreeMap<i32, Part>>, StorageError> {
        let list = self.client.list_parts().bucket(self.bucket()).key(upload.put.key).upload_id(&upload.id);
        let mut found = BTreeMap::new();
        let mut pages = list.into_paginator().send();
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => found
                    .extend(page.parts().iter().filter_map(|part| Some((part.part_number()?, part.clone())))),
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(failure(&error, self.bucket(), upload.put.key)),
            }
        }
        Ok(Some(found))
    }

    /// The checksum of a part as the server lists it, or else of the file: not every vendor lists what it has checked when the
    /// part came (SeaweedFS does not). Should the part be another one than the file's, the checksum of the whole tells.
    async fn crc64_of(
        &self,
        part: &Part,
        file: &Path,
        begin: u64,
        length: u64,
    ) -> Result<Option<String>, StorageError> {
        if !self.settings.checksums || part.checksum_crc64_nvme().is_some() {
            return Ok(part.checksum_crc64_nvme.clone());
        }
        let file = file.to_owned();
        let read = tokio::task::spawn_blocking(move || crc64_of_file(&file, begin, length));
        let crc = read.await.map_err(std::io::Error::other)??;
        Ok(Some(crc64_text(crc)))
    }
}

/// Blocks.
fn crc64_of_file(file: &Path, begin: u64, length: u64) -> std::io::Result<u64> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(begin))?;
    let (mut part, mut crc, mut block) =
        (file.take(length), Digest::new(CrcAlgorithm::Crc64Nvme), vec![0; BLOCK]);
    loop {
        match part.read(&mut block)? {
            0 => return Ok(crc.finalize()),
            read => crc.update(block.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of parametrised CRC algorithms: of the text `123456789`.
    #[test]
    fn a_part_of_a_file_has_a_checksum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"xx123456789yy").unwrap();
        assert_eq!(crc64_of_file(file.path(), 2, 9).unwrap(), 0xae8b_1486_0a79_9888);
    }
}
