//! S3, and what speaks as S3 does.
//!
//! Memory: a part is read from its file as it goes out, and again for each attempt; at most
//! [`upload::PARTS_IN_FLIGHT`] of them, [`upload::BLOCK`] each. Time: nothing cuts off an uplink that is slow, see
//! [`client`]. Proof: every part and every object carries a CRC-64/NVME, which the server checks as it arrives and tells
//! again when asked, unless a vendor refuses it.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream as Body, DateTime};
use aws_sdk_s3::types::{ChecksumMode, MultipartUpload};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::TimeZone;
use futures::{StreamExt, stream};
use serde_json::json;

use super::pages::pages;
use super::patience::Patience;
use super::{
    Attributes, ByteStream, Capabilities, Checksum, Link, ListStream, Listed, Metadata, ObjectHead, Place,
    PutFile, Resumption, S3Settings, Storage, StorageError, Unfinished, UnfinishedStream, UploadWatch,
};
use crate::clock::Timestamp;

mod client;
mod download;
mod failure;
mod options;
mod resume;
mod trial;
mod upload;
mod watched;

use download::Reading;
use failure::{failure, is_absent, status};

/// A URL signed with SigV4 opens for a week at most.
const URL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest key, in bytes of UTF-8.
const KEY_MAX: usize = 1024;

/// A bucket.
#[derive(Debug, Clone)]
pub struct S3Storage {
    client: Client,
    settings: S3Settings,
}

impl S3Storage {
    /// Finds region and credentials. The bucket may still be out of reach.
    ///
    /// # Errors
    /// When no region is known.
    pub async fn open(settings: &S3Settings) -> Result<Self, crate::env::EnvError> {
        Self::open_with(settings, Patience::default()).await
    }

    async fn open_with(settings: &S3Settings, patience: Patience) -> Result<Self, crate::env::EnvError> {
        Ok(Self { client: client::open(settings, patience).await?, settings: settings.clone() })
    }

    fn bucket(&self) -> &str {
        &self.settings.bucket
    }

    /// A missing bucket answers as a missing object does where the answer has no body.
    async fn bucket_must_be_there(&self) -> Result<(), StorageError> {
        match self.client.head_bucket().bucket(self.bucket()).send().await {
            Err(error) if status(&error) == Some(404) => {
                Err(StorageError::NoBucket(self.bucket().to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn resumption(&self, key: &str, upload_id: &str) -> Resumption {
        Resumption(json!({ "provider": "s3", "bucket": self.bucket(), "key": key, "uploadId": upload_id }))
    }

    fn unfinished_of(&self, upload: &MultipartUpload) -> Option<Unfinished> {
        let (key, id) = (upload.key()?, upload.upload_id()?);
        let begun_at = upload.initiated().and_then(timestamp);
        Some(Unfinished { key: key.to_owned(), begun_at, upload: self.resumption(key, id) })
    }

    /// The id of an upload in this bucket, and the key it goes to.
    fn upload_of<'a>(&self, upload: &'a Resumption) -> Option<(&'a str, &'a str)> {
        let text = |name: &str| upload.0.get(name)?.as_str();
        let ours = text("provider")? == "s3" && text("bucket")? == self.bucket();
        if ours { Some((text("key")?, text("uploadId")?)) } else { None }
    }
}

#[async_trait]
impl Storage for S3Storage {
    fn place(&self) -> Place {
        Place { provider: "s3".to_owned(), bucket: self.settings.bucket.clone() }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resumes: true,
            keeps_metadata: true,
            keeps_content_type: true,
            keeps_cache_control: true,
            names_downloads: true,
            temporary_url_max: Some(URL_MAX),
            key_max: KEY_MAX,
        }
    }

    async fn put_file(&self, put: &PutFile<'_>, watch: &dyn UploadWatch) -> Result<(), StorageError> {
        self.upload(put, watch).await
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, attributes: &Attributes) -> Result<(), StorageError> {
        self.put_object(key, Body::from(bytes), attributes).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StorageError> {
        let mut head = self.client.head_object().bucket(self.bucket()).key(key);
        if self.settings.checksums {
            head = head.checksum_mode(ChecksumMode::Enabled);
        }
        let found = match head.send().await {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return self.bucket_must_be_there().await.map(|()| None),
            Err(error) => return Err(failure(&error, self.bucket(), key)),
        };
        let pairs = found.metadata().into_iter().flatten();
        Ok(Some(ObjectHead {
            size: size(found.content_length()),
            etag: found.e_tag().map(str::to_owned),
            checksum: found.checksum_crc64_nvme().and_then(crc64).map(Checksum::Crc64Nvme),
            modified_at: found.last_modified().and_then(timestamp),
            content_type: found.content_type().map(str::to_owned),
            cache_control: found.cache_control().map(str::to_owned),
            metadata: Metadata::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str()))),
        }))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError> {
        if range.is_empty() {
            let found = self.head(key).await?.ok_or_else(|| StorageError::NotFound(key.to_owned()));
            return found.map(|_| stream::empty().boxed());
        }
        match Reading::begin(self, key, &range).await? {
            Some(reading) => Ok(stream::try_unfold(reading, Reading::next).boxed()),
            None => Ok(stream::empty().boxed()),
        }
    }

    fn list(&self, prefix: &str) -> ListStream<'_> {
        let prefix = prefix.to_owned();
        pages(None, move |token: Option<String>| {
            let list = self.client.list_objects_v2().bucket(self.bucket()).prefix(&prefix);
            let list = list.set_continuation_token(token).send();
            async move {
                let page = list.await.map_err(|error| failure(&error, self.bucket(), ""))?;
                let objects = page.contents().iter().filter_map(listed).collect();
                Ok((objects, page.next_continuation_token.map(Some)))
            }
        })
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.client.delete_object().bucket(self.bucket()).key(key).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(failure(&error, self.bucket(), key)),
        }
    }

    async fn temporary_url(&self, key: &str, link: &Link) -> Result<Option<String>, StorageError> {
        let refused =
            |error: String| StorageError::Refused(format!("a URL for {key} cannot be signed: {error}"));
        let valid = PresigningConfig::expires_in(link.valid.min(URL_MAX))
            .map_err(|error| refused(error.to_string()))?;
        let get = self.client.get_object().bucket(self.bucket()).key(key);
        let get = get.set_response_content_disposition(link.disposition.clone());
        let url = get.presigned(valid).await.map_err(|error| failure(&error, self.bucket(), key))?;
        Ok(Some(url.uri().to_owned()))
    }

    fn unfinished(&self, prefix: &str) -> UnfinishedStream<'_> {
        let prefix = prefix.to_owned();
        pages((None, None), move |(key, id): (Option<String>, Option<String>)| {
            let list = self.client.list_multipart_uploads().bucket(self.bucket()).prefix(&prefix);
            let list = list.set_key_marker(key).set_upload_id_marker(id).send();
            async move {
                let page = list.await.map_err(|error| failure(&error, self.bucket(), ""))?;
                let uploads = page.uploads().iter().filter_map(|upload| self.unfinished_of(upload)).collect();
                let more = page.is_truncated().unwrap_or(false) && page.next_key_marker().is_some();
                Ok((uploads, more.then_some((page.next_key_marker, page.next_upload_id_marker))))
            }
        })
    }

    async fn abort(&self, upload: &Resumption) -> Result<(), StorageError> {
        let Some((key, id)) = self.upload_of(upload) else { return Ok(()) };
        let abort = self.client.abort_multipart_upload().bucket(self.bucket()).key(key).upload_id(id);
        match abort.send().await {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(failure(&error, self.bucket(), key)),
        }
    }

    async fn try_parts(&self, key: &str) -> Result<(), StorageError> {
        trial::try_parts(self, key).await
    }
}

fn listed(object: &aws_sdk_s3::types::Object) -> Option<Listed> {
    Some(Listed {
        key: object.key()?.to_owned(),
        size: size(object.size()),
        modified_at: object.last_modified().and_then(timestamp),
    })
}

fn size(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

fn timestamp(at: &DateTime) -> Option<Timestamp> {
    chrono::Utc.timestamp_opt(at.secs(), at.subsec_nanos()).single()
}

/// S3 writes the eight bytes of the CRC, most significant first, in Base64.
fn crc64(text: &str) -> Option<u64> {
    let bytes = BASE64.decode(text).ok()?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn crc64_text(crc: u64) -> String {
    BASE64.encode(crc.to_be_bytes())
}
