//! Google Cloud Storage.
//!
//! Whole objects in one request, parts of objects that are read, and signed URLs go through Google's own client. What it lacks
//! goes by the JSON API ([`client`]):
//!
//! - files in several requests ([`session`]): Google's client keeps the URI of an upload's session to itself, so that an upload
//!   ends with the process that has begun it;
//! - head, list and delete: it speaks them in gRPC alone, which no emulator does.
//!
//! Memory: a chunk is read from its file as it goes out, and again for each attempt, [`source::BLOCK`] at a time; what is sent in
//! one request is [`upload::SMALL`] at most. Time: nothing cuts off an uplink that is slow, and one that stands still is given up
//! ([`super::patience`]). Proof:
//! every object is sent with its CRC-32C, which the server compares before it keeps the object, and tells again when asked.
//!
//! No write is made to depend on what was there before (`ifGenerationMatch`): a put replaces, and one that is repeated puts the
//! same. What is read is read of one generation, however often the connection breaks.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use google_cloud_auth::signer::Signer;
use google_cloud_storage::builder::storage::SignedUrlBuilder;
use google_cloud_storage::client::Storage as Sdk;
use google_cloud_storage::model_ext::ReadRange;
use google_cloud_storage::read_object::ReadObjectResponse;
use reqwest::Method;
use tokio::time::timeout;

use super::pages::pages;
use super::patience::{CALL_MAX, DOWNLOAD_STALL_MAX, Patience, stalled};
use super::settings::GOOGLE;
use super::{
    Attributes, ByteStream, Capabilities, GcsSettings, Link, ListStream, ObjectHead, Place, PutFile,
    Resumption, Storage, StorageError, UnfinishedStream, UploadWatch,
};

mod account;
mod client;
mod failure;
mod object;
mod session;
mod source;
mod upload;

use account::Account;
use client::{Client, Target};
use failure::of_sdk;
use object::{Object, Page};
use source::Told;

/// A URL signed with V4 opens for a week at most.
const URL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest key, in bytes of UTF-8.
const KEY_MAX: usize = 1024;

/// A bucket.
#[derive(Clone)]
pub struct GcsStorage {
    sdk: Sdk,
    client: Client,
    /// Where there is a key to sign with.
    signer: Option<Signer>,
    settings: GcsSettings,
}

impl std::fmt::Debug for GcsStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GcsStorage").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl GcsStorage {
    /// Reads the key, or finds out what the machine runs as. The bucket may still be out of reach.
    ///
    /// # Errors
    /// An [`crate::env::EnvError`] when a setting is to blame; else something that may pass.
    pub async fn open(settings: &GcsSettings) -> anyhow::Result<Self> {
        Self::open_with(settings, Patience::default()).await
    }

    async fn open_with(settings: &GcsSettings, patience: Patience) -> anyhow::Result<Self> {
        let Account { credentials, signer } = account::of(settings)?;
        let endpoint = settings.endpoint.as_deref().unwrap_or(GOOGLE);
        Ok(Self {
            sdk: client::sdk(endpoint, credentials.clone(), patience).await?,
            client: Client::new(endpoint, &settings.bucket, credentials, patience)?,
            signer,
            settings: settings.clone(),
        })
    }

    fn bucket(&self) -> &str {
        &self.settings.bucket
    }

    /// The bucket as Google's client wants it named.
    fn bucket_name(&self) -> String {
        format!("projects/_/buckets/{}", self.bucket())
    }

    /// A missing bucket answers as a missing object does. Listing needs no right that we do not need anyway.
    async fn bucket_must_be_there(&self) -> Result<(), StorageError> {
        let list =
            self.client.request(Method::GET, Target::Bucket, &[("maxResults", "1"), ("fields", "kind")]);
        match self.client.call(list).await?.status.as_u16() {
            404 => Err(StorageError::NoBucket(self.bucket().to_owned())),
            _ => Ok(()),
        }
    }

    /// A request that is about the bucket, and not about an object in it: nothing found means that there is no bucket.
    fn of_bucket(&self, error: StorageError) -> StorageError {
        match error {
            StorageError::NotFound(_) => StorageError::NoBucket(self.bucket().to_owned()),
            error => error,
        }
    }

    async fn page(&self, prefix: &str, token: Option<String>) -> Result<Page, StorageError> {
        let fields = ("fields", "nextPageToken,items(name,size,timeCreated)");
        let mut query = vec![fields, ("prefix", prefix)];
        query.extend(token.as_deref().map(|token| ("pageToken", token)));
        let answer = self.client.call(self.client.request(Method::GET, Target::Bucket, &query)).await?;
        answer.json().map_err(|error| self.of_bucket(error.about(self.bucket())))
    }
}

#[async_trait]
impl Storage for GcsStorage {
    fn place(&self) -> Place {
        Place { provider: "gcs".to_owned(), bucket: self.settings.bucket.clone() }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resumes: true,
            keeps_metadata: true,
            keeps_cache_control: true,
            names_downloads: true,
            keeps_content_type: true,
            temporary_url_max: self.signer.as_ref().map(|_| URL_MAX),
            key_max: KEY_MAX,
        }
    }

    async fn put_file(&self, put: &PutFile<'_>, watch: &dyn UploadWatch) -> Result<(), StorageError> {
        self.upload(put, watch).await
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, attributes: &Attributes) -> Result<(), StorageError> {
        let crc = crc32c::crc32c(&bytes);
        let (source, moved) = Told::of(bytes);
        let put = self.sdk.write_object(self.bucket_name(), key, source);
        let put = put
            .set_content_type(&attributes.content_type)
            .set_cache_control(attributes.cache_control.clone().unwrap_or_default())
            .set_metadata(attributes.metadata.pairs())
            .with_known_crc32c(crc)
            // Whatever was there, it is the same afterwards.
            .with_idempotency(true)
            .with_resumable_upload_threshold(usize::MAX);
        let sent = tokio::select! {
            sent = put.send_unbuffered() => sent,
            () = stalled(moved, self.client.patience) => return Err(client::stands_still()),
        };
        sent.map(drop).map_err(|error| self.of_bucket(of_sdk(&error, key)))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StorageError> {
        let get = self.client.request(Method::GET, Target::Object(key), &[]);
        match self.client.call(get).await?.json::<Object>() {
            Ok(object) => Ok(Some(object.into())),
            Err(error) if error.is_absent() => self.bucket_must_be_there().await.map(|()| None),
            Err(error) => Err(error.about(key)),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError> {
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            let found = self.head(key).await?.ok_or_else(|| StorageError::NotFound(key.to_owned()));
            return found.map(|_| stream::empty().boxed());
        }
        let read = self.sdk.read_object(self.bucket_name(), key);
        let read = read.set_read_range(ReadRange::segment(range.start, length)).send();
        let begun = timeout(CALL_MAX, read).await;
        match begun.map_err(|_| StorageError::unavailable(format!("{key} is not given in time")))? {
            Ok(found) => Ok(blocks(found)),
            // Not satisfiable: the object ends before, as an empty one always does.
            Err(error) if error.http_status_code() == Some(416) => Ok(stream::empty().boxed()),
            Err(error) => match of_sdk(&error, key) {
                StorageError::NotFound(key) => {
                    self.bucket_must_be_there().await.and(Err(StorageError::NotFound(key)))
                }
                error => Err(error),
            },
        }
    }

    fn list(&self, prefix: &str) -> ListStream<'_> {
        let prefix = prefix.to_owned();
        pages(None, move |token: Option<String>| {
            let prefix = prefix.clone();
            async move {
                let page = self.page(&prefix, token).await?;
                let objects = page.items.into_iter().map(Into::into).collect();
                Ok((objects, page.next_page_token.map(Some)))
            }
        })
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let delete = self.client.request(Method::DELETE, Target::Object(key), &[]);
        match self.client.call(delete).await?.ok() {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => self.bucket_must_be_there().await,
            Err(error) => Err(error.about(key)),
        }
    }

    async fn temporary_url(&self, key: &str, link: &Link) -> Result<Option<String>, StorageError> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let url = SignedUrlBuilder::for_object(self.bucket_name(), key)
            .with_endpoint(self.settings.endpoint.as_deref().unwrap_or(GOOGLE))
            .with_expiration(link.valid.min(URL_MAX));
        let url = match &link.disposition {
            Some(disposition) => url.with_query_param("response-content-disposition", disposition),
            None => url,
        };
        let url = url.sign_with(signer).await;
        let refused = |error| StorageError::Refused(format!("a URL for {key} cannot be signed: {error}"));
        url.map(Some).map_err(refused)
    }

    /// Google tells nobody of sessions that are not finished, ends them after a week, and charges nothing for them.
    fn unfinished(&self, _prefix: &str) -> UnfinishedStream<'_> {
        stream::empty().boxed()
    }

    async fn abort(&self, upload: &Resumption) -> Result<(), StorageError> {
        match self.session_of(upload) {
            Some(session) => self.client.end_session(&session).await,
            None => Ok(()),
        }
    }
}

fn blocks(found: ReadObjectResponse) -> ByteStream {
    stream::unfold(Some(found), async |found| {
        let mut found = found?;
        let stalled = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no byte came for a minute");
        match timeout(DOWNLOAD_STALL_MAX, found.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(block))) => Some((Ok(block), Some(found))),
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Err(_) => Some((Err(stalled()), None)),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::env::Env;
    use crate::storage::StorageSettings;

    /// A bucket at a server that takes what it is sent and says nothing.
    async fn at_a_silent_server() -> GcsStorage {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut block = vec![0; 1 << 16];
                    while matches!(stream.read(&mut block).await, Ok(1..)) {}
                });
            }
        });
        let env =
            Env::from_pairs([("RECORDING_GCS_BUCKET", "b"), ("RECORDING_GCS_ENDPOINT", endpoint.as_str())]);
        let StorageSettings::Gcs(settings) = StorageSettings::from_env(&env).unwrap() else { panic!() };
        let moment = Duration::from_millis(300);
        let patience = Patience { attempts: 1, standing_max: moment, answer_max: moment };
        GcsStorage::open_with(&settings, patience).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_that_takes_a_body_and_says_nothing_is_given_up() {
        let storage = at_a_silent_server().await;
        let small = storage.put_bytes("k", vec![7; 1 << 20].into(), &Attributes::default()).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        let session = session::Session { uri: storage.client.endpoint().parse().unwrap(), size: 1 << 20 };
        let body = source::Source::of(file.path()).body(&(0..1 << 20)).await.unwrap();
        let chunk = storage.client.put_chunk(&session, &(0..1 << 20), body, None, "k").await;
        for error in [small.unwrap_err(), chunk.map(drop).unwrap_err(), storage.head("k").await.unwrap_err()]
        {
            assert!(error.is_transient() && error.to_string().contains("stands still"), "{error}");
        }
    }
}
