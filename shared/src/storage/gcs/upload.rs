//! A file into a bucket: in one request when it is small, else chunk by chunk, resumed where an earlier attempt stopped.

use serde_json::json;
use tracing::warn;

use super::failure::mismatch;
use super::object::Object;
use super::session::{Session, Standing};
use super::source::Source;
use super::{GcsStorage, Resumption};
use crate::storage::upload::keep;
use crate::storage::verify::is_copy;
use crate::storage::{Checksum, Kept, PutFile, Storage, StorageError, UploadWatch};

/// What is sent in one request, and held in memory while it is.
pub(super) const SMALL: u64 = 4 << 20;
/// The size of a chunk: a whole number of 256 KiB, as the API wants it. Between two of them the line rests for the time of an
/// answer; what has arrived of one that breaks off is kept in any case.
const CHUNK: u64 = 32 << 20;

/// A file that goes by a session.
struct Upload<'a> {
    session: Session,
    source: Source<'a>,
    key: &'a str,
}

/// What an earlier attempt has left.
enum Left<'a> {
    /// Nothing that is of use.
    Nothing,
    /// A session with so many bytes.
    Session(Upload<'a>, u64),
    /// All of it: only the answer was lost.
    Everything,
}

impl GcsStorage {
    pub(super) async fn upload(
        &self,
        put: &PutFile<'_>,
        watch: &dyn UploadWatch,
    ) -> Result<(), StorageError> {
        let size = tokio::fs::metadata(put.file).await?.len();
        if size <= SMALL {
            let bytes = tokio::fs::read(put.file).await?;
            self.put_bytes(put.key, bytes.into(), put.attributes).await?;
            watch.sent(size);
            return Ok(());
        }
        let (mut upload, arrived, kept) = match self.left_of(put, size).await? {
            Left::Everything => {
                watch.sent(size);
                return Ok(());
            }
            Left::Session(upload, arrived) => (upload, arrived, Kept::Yes),
            Left::Nothing => {
                let begun = self.client.begin_session(put.key, size, put.attributes).await;
                let session = begun.map_err(|error| self.of_bucket(error))?;
                let kept = keep(watch, &self.resumption(put.key, &session)).await;
                let kept = self.or_end(kept, &session).await?;
                (Upload { session, source: Source::of(put.file), key: put.key }, 0, kept)
            }
        };
        let done = self.send(&mut upload, arrived, watch).await;
        match kept {
            Kept::Yes if done.as_ref().is_err_and(StorageError::lets_go_on) => done,
            _ => self.or_end(done, &upload.session).await,
        }
    }

    /// Gives the session up when `done` says that nobody goes on with it.
    async fn or_end<T>(&self, done: Result<T, StorageError>, session: &Session) -> Result<T, StorageError> {
        if done.is_err() {
            // What cannot be ended now ends by itself; the error that matters is the first one.
            let _ = self.client.end_session(session).await;
        }
        done
    }

    async fn send(
        &self,
        upload: &mut Upload<'_>,
        mut arrived: u64,
        watch: &dyn UploadWatch,
    ) -> Result<(), StorageError> {
        let size = upload.session.size;
        let (mut told, mut pauses) = (arrived, self.client.pauses());
        watch.sent(arrived);
        loop {
            let standing = match self.send_chunk(upload, arrived).await {
                // Much of it may have arrived.
                Err(error @ StorageError::Unavailable { .. }) => {
                    pauses.wait(error).await?;
                    self.client.ask_session(&upload.session, upload.key).await?
                }
                standing => standing?,
            };
            match standing {
                Standing::Done(object) => {
                    let crc = upload.source.read_until(size).await?;
                    same(&object, size, crc).map_err(|found| mismatch(upload.key, found))?;
                    watch.sent(size);
                    return Ok(());
                }
                Standing::Gone => {
                    let gone = format!("the upload of {} is gone; it has to begin anew", upload.key);
                    return Err(StorageError::unavailable(gone));
                }
                Standing::Arrived(bytes) if bytes > size => {
                    return Err(mismatch(upload.key, format!("a session with {bytes} bytes of {size}")));
                }
                Standing::Arrived(bytes) => {
                    arrived = bytes;
                    if told < bytes {
                        (told, pauses) = (bytes, self.client.pauses());
                        watch.sent(bytes);
                    } else {
                        pauses.wait(StorageError::unavailable("nothing of what is sent arrives")).await?;
                    }
                }
            }
        }
    }

    async fn send_chunk(&self, upload: &mut Upload<'_>, begin: u64) -> Result<Standing, StorageError> {
        let size = upload.session.size;
        let range = begin..size.min(begin + CHUNK);
        let crc = upload.source.read_until(range.end).await?;
        let whole_crc = (range.end == size).then_some(crc);
        let body = upload.source.body(&range).await?;
        self.client.put_chunk(&upload.session, &range, body, whole_crc, upload.key).await
    }

    /// What an earlier attempt has left of this file.
    async fn left_of<'a>(&self, put: &PutFile<'a>, size: u64) -> Result<Left<'a>, StorageError> {
        let session =
            put.resume.filter(|state| state.0.get("key").and_then(|key| key.as_str()) == Some(put.key));
        let session = session.and_then(|state| self.session_of(state)).filter(|session| session.size == size);
        let Some(session) = session else { return Ok(Left::Nothing) };
        match self.client.ask_session(&session, put.key).await {
            Ok(Standing::Gone) => Ok(Left::Nothing),
            Ok(Standing::Arrived(arrived)) => {
                let source = Source::of(put.file);
                Ok(Left::Session(Upload { session, source, key: put.key }, arrived.min(size)))
            }
            // What it has become may have been deleted or replaced since.
            Ok(Standing::Done(_)) if is_copy(self, put.key, put.file).await? => Ok(Left::Everything),
            Ok(Standing::Done(_)) => Ok(Left::Nothing),
            // One that answers so once may do so for ever, and must not keep the file from being put anew.
            Err(
                error @ (StorageError::Credentials(_)
                | StorageError::Refused(_)
                | StorageError::Mismatch { .. }),
            ) => {
                warn!("what has arrived of {} cannot be asked about, and is sent again: {error}", put.key);
                Ok(Left::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    fn resumption(&self, key: &str, session: &Session) -> Resumption {
        let (endpoint, bucket) = (self.client.endpoint(), self.bucket());
        Resumption(json!({
            "provider": "gcs", "endpoint": endpoint, "bucket": bucket, "key": key,
            "size": session.size, "session": session.uri.as_str(),
        }))
    }

    /// A session of this bucket.
    pub(super) fn session_of(&self, upload: &Resumption) -> Option<Session> {
        let text = |name: &str| upload.0.get(name)?.as_str();
        let here = text("endpoint")? == self.client.endpoint() && text("bucket")? == self.bucket();
        let ours = text("provider")? == "gcs" && here;
        let session =
            || Some(Session { uri: text("session")?.parse().ok()?, size: upload.0.get("size")?.as_u64()? });
        ours.then(session).flatten()
    }
}

/// "OK" is no proof: what is wrong with an object that is to be of this size and checksum.
fn same(object: &Object, size: u64, crc: u32) -> Result<(), String> {
    match object.crc32c() {
        _ if object.size != size => Err(format!("an object of {} bytes, and not {size}", object.size)),
        Some(found) if found != crc => Err(Checksum::Crc32c(found).to_string()),
        _ => Ok(()),
    }
}
