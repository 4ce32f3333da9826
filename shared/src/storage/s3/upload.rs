//! A file into S3: in one request when it is small, else in parts, several at a time, resumed at the part where an earlier
//! attempt stopped.

use aws_sdk_s3::primitives::{ByteStream as Body, Length};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use crc_fast::CrcAlgorithm;
use futures::{StreamExt, TryStreamExt, stream};
use tracing::warn;

use super::failure::{failure, gone, is_absent};
use super::resume::{Arrived, Left};
use super::{S3Storage, client, crc64, crc64_text, options};
use crate::storage::upload::keep;
use crate::storage::{Attributes, Kept, PutFile, Resumption, Storage, StorageError, UploadWatch};

/// The size of a part, as long as that makes no more than [`PARTS_MAX`]; what fits one part is sent in one request.
const PART: u64 = 16 << 20;
/// The most parts that an upload may have.
const PARTS_MAX: u64 = 10_000;
/// Enough to fill a gigabit line over a continent; more take memory and gain nothing.
pub(super) const PARTS_IN_FLIGHT: usize = 4;
/// How often a part is sent again that was damaged on its way: a line that damages more is none to send a recording over.
const DAMAGED_MAX: u32 = 3;
/// Read from the file at once: with 4 KiB, the SDK's own, half of the time goes into reading.
pub(super) const BLOCK: usize = 128 * 1024;

/// An upload in parts.
pub(super) struct Upload<'a> {
    pub(super) id: String,
    pub(super) put: &'a PutFile<'a>,
    pub(super) size: u64,
}

impl Upload<'_> {
    /// In a whole number of MiB, so that parts begin at whole pages of the file.
    fn part_size(&self) -> u64 {
        PART.max(self.size.div_ceil(PARTS_MAX).next_multiple_of(1 << 20))
    }

    /// Number, beginning and length of each part.
    pub(super) fn parts(&self) -> impl Iterator<Item = (i32, u64, u64)> + use<> {
        let (part, size) = (self.part_size(), self.size);
        (1..)
            .zip((0..size).step_by(usize::try_from(part).unwrap_or(usize::MAX)))
            .map(move |(number, begin)| (number, begin, part.min(size - begin)))
    }
}

impl S3Storage {
    pub(super) async fn upload(
        &self,
        put: &PutFile<'_>,
        watch: &dyn UploadWatch,
    ) -> Result<(), StorageError> {
        let size = tokio::fs::metadata(put.file).await?.len();
        if size <= PART {
            self.put_object(put.key, part_of(put, 0, size).await?, put.attributes).await?;
            watch.sent(size);
            return Ok(());
        }
        let (upload, arrived, kept) = match self.left_of(put, size).await? {
            Left::Everything => {
                watch.sent(size);
                return Ok(());
            }
            Left::Parts(upload, arrived) => (upload, arrived, Kept::Yes),
            Left::Nothing => {
                let upload = self.begin(put, size).await?;
                let state = self.resumption(put.key, &upload.id);
                let kept = keep(watch, &state).await;
                (upload, Arrived::new(), self.or_abort(kept, &state).await?)
            }
        };
        let state = self.resumption(put.key, &upload.id);
        let parts = match self.send_parts(&upload, arrived, watch).await {
            // A part that was damaged on its way was not taken; those that were are as good as before.
            Err(error) if kept == Kept::Yes && error.is_transient() => return Err(error),
            parts => self.or_abort(parts, &state).await?,
        };
        match self.complete(&upload, parts).await {
            Err(error) if kept == Kept::Yes && error.lets_go_on() => Err(error),
            done => self.or_abort(done, &state).await,
        }
    }

    /// Gives the upload up when `done` says that nobody goes on with it.
    async fn or_abort<T>(
        &self,
        done: Result<T, StorageError>,
        upload: &Resumption,
    ) -> Result<T, StorageError> {
        if done.is_err() {
            // What cannot be aborted now is found by the cleanup; the error that matters is the first one.
            let _ = self.abort(upload).await;
        }
        done
    }

    pub(super) async fn put_object(
        &self,
        key: &str,
        body: Body,
        attributes: &Attributes,
    ) -> Result<(), StorageError> {
        let put = self.client.put_object().bucket(self.bucket()).key(key).body(body);
        let put = options::for_object(put, attributes, &self.settings);
        let put = put.customize().config_override(client::patient(PART)).send().await;
        put.map(drop).map_err(|error| failure(&error, self.bucket(), key))
    }

    pub(super) async fn begin<'a>(
        &self,
        put: &'a PutFile<'a>,
        size: u64,
    ) -> Result<Upload<'a>, StorageError> {
        let create = self.client.create_multipart_upload().bucket(self.bucket()).key(put.key);
        let create = options::for_upload(create, put.attributes, &self.settings);
        let whole = self.settings.checksums.then_some(ChecksumType::FullObject);
        let created = create.set_checksum_type(whole).send().await;
        let created = created.map_err(|error| failure(&error, self.bucket(), put.key))?;
        let id = created
            .upload_id
            .ok_or_else(|| StorageError::unavailable("an upload was begun without an id"))?;
        Ok(Upload { id, put, size })
    }

    async fn send_parts(
        &self,
        upload: &Upload<'_>,
        mut arrived: Arrived,
        watch: &dyn UploadWatch,
    ) -> Result<Arrived, StorageError> {
        let here = |number: &i32| arrived.contains_key(number);
        let mut sent: u64 =
            upload.parts().filter(|(number, ..)| here(number)).map(|(_, _, length)| length).sum();
        watch.sent(sent);
        let missing: Vec<_> = upload.parts().filter(|(number, ..)| !here(number)).collect();
        let mut sending = stream::iter(missing)
            .map(|(number, begin, length)| self.send_part(upload, number, begin, length))
            .buffer_unordered(PARTS_IN_FLIGHT);
        while let Some((number, length, part)) = sending.try_next().await? {
            arrived.insert(number, part);
            sent += length;
            watch.sent(sent);
        }
        Ok(arrived)
    }

    /// Sends a part, again when it was damaged on its way.
    async fn send_part(
        &self,
        upload: &Upload<'_>,
        number: i32,
        begin: u64,
        length: u64,
    ) -> Result<(i32, u64, CompletedPart), StorageError> {
        for _ in 0..DAMAGED_MAX {
            match self.send_part_once(upload, number, begin, length).await {
                Err(StorageError::Mismatch { found, .. }) => {
                    warn!(
                        "part {number} of {} was damaged on its way, and is sent again: {found}",
                        upload.put.key
                    );
                }
                sent => return sent,
            }
        }
        self.send_part_once(upload, number, begin, length).await
    }

    async fn send_part_once(
        &self,
        upload: &Upload<'_>,
        number: i32,
        begin: u64,
        length: u64,
    ) -> Result<(i32, u64, CompletedPart), StorageError> {
        let body = part_of(upload.put, begin, length).await?;
        let part = self.client.upload_part().bucket(self.bucket()).key(upload.put.key).upload_id(&upload.id);
        let part = part.part_number(number).body(body);
        let part =
            part.set_checksum_algorithm(self.settings.checksums.then_some(ChecksumAlgorithm::Crc64Nvme));
        let sent = part.customize().config_override(client::patient(length)).send().await;
        let sent = sent.map_err(|error| match is_absent(&error) {
            true => gone(upload.put.key),
            false => failure(&error, self.bucket(), upload.put.key),
        })?;
        Ok((number, length, completed(number, sent.e_tag, sent.checksum_crc64_nvme)))
    }

    async fn complete(&self, upload: &Upload<'_>, parts: Arrived) -> Result<(), StorageError> {
        let key = upload.put.key;
        let whole = whole_crc64(upload, &parts);
        let kind = whole.is_some().then_some(ChecksumType::FullObject);
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(parts.into_values().collect())).build();
        let complete =
            self.client.complete_multipart_upload().bucket(self.bucket()).key(key).upload_id(&upload.id);
        let complete =
            complete.multipart_upload(parts).set_checksum_crc64_nvme(whole).set_checksum_type(kind);
        match complete.send().await {
            Ok(_) => Ok(()),
            // The answer to an earlier attempt was lost, or another worker completed the same upload. What is there now is
            // compared with the file afterwards, by `verify`.
            Err(error) if is_absent(&error) => match self.head(key).await? {
                Some(head) if head.size == upload.size => Ok(()),
                _ => Err(gone(key)),
            },
            Err(error) => Err(failure(&error, self.bucket(), key)),
        }
    }
}

/// Read from the file as it goes out, and again for each attempt.
async fn part_of(put: &PutFile<'_>, begin: u64, length: u64) -> Result<Body, StorageError> {
    let body =
        Body::read_from().path(put.file).buffer_size(BLOCK).offset(begin).length(Length::Exact(length));
    body.build().await.map_err(|error| std::io::Error::other(error).into())
}

pub(super) fn completed(number: i32, etag: Option<String>, crc64: Option<String>) -> CompletedPart {
    CompletedPart::builder().part_number(number).set_e_tag(etag).set_checksum_crc64_nvme(crc64).build()
}

/// The CRC of the whole object from those of its parts, which the server then compares with what it has put together.
fn whole_crc64(upload: &Upload<'_>, parts: &Arrived) -> Option<String> {
    let mut whole = None;
    for (number, _, length) in upload.parts() {
        let crc = crc64(parts.get(&number)?.checksum_crc64_nvme()?)?;
        whole = Some(match whole {
            None => crc,
            Some(before) => crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, before, crc, length),
        });
    }
    whole.map(crc64_text)
}
