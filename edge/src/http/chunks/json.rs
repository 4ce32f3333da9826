//! Bodies of JSON: a chunk as base64, and small ones.
//!
//! Decisions:
//! - A body is parsed only when it is whole: until then it waits in a file without a name, not in memory, so that 200 slow
//!   clients cost 200 file handles. A permit of [`PARSE_AT_ONCE`] is taken only then; a slow client holds none.
//! - Base64 is strict: padded, of the standard alphabet, without stray bits. What a client did not mean to send is refused
//!   rather than guessed.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use shared::capture::ReceivedBody;
use shared::chunk::checked_sequence;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::body::Arriving;
use super::head::{Medium, mime_type, whole_ms};
use super::problem::Problem;
use crate::ingest::{Ingest, NewChunk};

/// The most bytes of a chunk's JSON beside the base64: ids, names of fields, white space.
const FIELDS_MAX_BYTES: u64 = 16 * 1024;
/// The longest body that waits in memory: enough for a second of audio, and 13 MiB for 200 clients.
const MEMORY_MAX_BYTES: usize = 64 * 1024;
/// How many bodies are parsed at once: each costs its JSON and its bytes in memory, 24 MiB for the largest chunk.
const PARSE_AT_ONCE: usize = 2;
/// The permits for parsing.
static PARSING: Semaphore = Semaphore::const_new(PARSE_AT_ONCE);

/// A chunk within JSON.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChunkUpload<'a> {
    /// The recording.
    #[serde(borrow)]
    #[schema(value_type = String)]
    recording_id: Cow<'a, str>,
    /// The caller's own user id.
    #[serde(borrow)]
    #[schema(value_type = String)]
    participant_id: Cow<'a, str>,
    /// The bytes, base64 with padding.
    #[serde(borrow)]
    #[schema(value_type = String, format = Byte)]
    chunk: Cow<'a, str>,
    /// The medium.
    #[serde(borrow, rename = "type")]
    #[schema(value_type = shared::track::TrackKind)]
    kind: Cow<'a, str>,
    /// The client's time, milliseconds since 1970.
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    timestamp: Option<serde_json::Number>,
    /// Its place in the track, from 0.
    #[schema(value_type = u64)]
    sequence: serde_json::Number,
    /// `MediaRecorder`'s mime type.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    mime_type: Option<Cow<'a, str>>,
}

/// What a chunk's JSON said beside the bytes.
#[derive(Debug)]
pub(super) struct Said {
    recording_id: String,
    participant_id: String,
    kind: String,
    timestamp: Option<serde_json::Number>,
    mime_type: Option<String>,
    sequence: serde_json::Number,
}

impl Said {
    /// The chunk, and whose it is.
    pub(super) fn parts(&self) -> Result<(Medium, NewChunk), Problem> {
        let medium = Medium::parse(&self.recording_id, &self.participant_id, &self.kind)?;
        let chunk = NewChunk {
            kind: medium.kind,
            sequence: self.sequence()?,
            mime: mime_type(self.mime_type.as_deref())?,
            client_timestamp_ms: self.timestamp_ms()?,
        };
        Ok((medium, chunk))
    }

    fn sequence(&self) -> Result<u64, Problem> {
        let number = self.sequence.as_u64();
        let number = number.ok_or_else(|| Problem::Sequence("a sequence is a number from 0".to_owned()))?;
        checked_sequence(number).map_err(|error| Problem::Sequence(error.to_string()))?;
        Ok(number)
    }

    fn timestamp_ms(&self) -> Result<Option<i64>, Problem> {
        let wrong = || Problem::Invalid("timestamp is milliseconds since 1970".to_owned());
        self.timestamp.as_ref().map(|number| whole_ms(number).ok_or_else(wrong)).transpose()
    }
}

/// The most bytes of JSON for a chunk of at most so many bytes.
pub(super) fn max_bytes(chunk_max_bytes: u64) -> u64 {
    chunk_max_bytes.div_ceil(3) * 4 + FIELDS_MAX_BYTES
}

/// A body that is whole.
pub(super) enum Whole {
    Memory(Vec<u8>),
    File(File),
}

/// Takes a body in.
pub(super) async fn collect(mut arriving: Arriving, max: u64, scratch: &Path) -> Result<Whole, Problem> {
    let mut begin = Vec::new();
    while let Some(bytes) = arriving.next().await? {
        if begin.len() + bytes.len() > MEMORY_MAX_BYTES {
            begin.extend_from_slice(&bytes);
            return to_file(arriving, begin, max, scratch).await.map(Whole::File);
        }
        begin.extend_from_slice(&bytes);
    }
    if begin.len() as u64 > max { Err(Problem::TooLarge(max)) } else { Ok(Whole::Memory(begin)) }
}

async fn to_file(mut arriving: Arriving, begin: Vec<u8>, max: u64, scratch: &Path) -> Result<File, Problem> {
    let mut file = tokio::fs::File::from_std(tempfile::tempfile_in(scratch).map_err(unwritten)?);
    let mut length = begin.len() as u64;
    let mut next = Some(Bytes::from(begin));
    while let Some(bytes) = next {
        if length > max {
            return Err(Problem::TooLarge(max));
        }
        file.write_all(&bytes).await.map_err(unwritten)?;
        next = arriving.next().await?;
        length += next.as_ref().map_or(0, |bytes| bytes.len() as u64);
    }
    file.flush().await.map_err(unwritten)?;
    Ok(file.into_std().await)
}

fn unwritten(error: std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            crate::ingest::Refused::DiskFull.into()
        }
        _ => Problem::Internal(anyhow::Error::new(error).context("cannot keep a body")),
    }
}

/// Reads what a chunk's JSON says, and keeps its bytes for the capture.
pub(super) async fn parse(ingest: &Ingest, body: Whole) -> Result<(Said, ReceivedBody), Problem> {
    let _permit = turn().await?;
    let (said, bytes) = aside(move || decode(body)).await?;
    let mut receiving = ingest.receive();
    for part in bytes.chunks(MEMORY_MAX_BYTES) {
        receiving.push(part).await?;
    }
    Ok((said, receiving.finish().await?))
}

/// Reads what a chunk's JSON says, and of its bytes only how many there are and their SHA-256.
pub(super) async fn digest(body: Whole) -> Result<(Said, u64, [u8; 32]), Problem> {
    let _permit = turn().await?;
    aside(move || {
        let (said, bytes) = decode(body)?;
        Ok((said, bytes.len() as u64, Sha256::digest(&bytes).into()))
    })
    .await
}

async fn turn() -> Result<SemaphorePermit<'static>, Problem> {
    PARSING.acquire().await.context("the permits are never closed").map_err(Problem::Internal)
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::Internal(error.into()))?
}

fn decode(body: Whole) -> Result<(Said, Vec<u8>), Problem> {
    let json = match body {
        Whole::Memory(json) => json,
        Whole::File(mut file) => {
            let mut json = Vec::new();
            file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut json)).map_err(unwritten)?;
            json
        }
    };
    let upload: ChunkUpload<'_> = serde_json::from_slice(&json).map_err(|error| unread(&error))?;
    let bytes = STANDARD.decode(upload.chunk.as_bytes()).map_err(|_| Problem::NotBase64)?;
    let said = Said {
        recording_id: upload.recording_id.into_owned(),
        participant_id: upload.participant_id.into_owned(),
        kind: upload.kind.into_owned(),
        timestamp: upload.timestamp,
        mime_type: upload.mime_type.map(Cow::into_owned),
        sequence: upload.sequence,
    };
    Ok((said, bytes))
}

/// JSON that says something else than is wanted is another fault than no JSON.
fn unread(error: &serde_json::Error) -> Problem {
    if error.is_data() { Problem::Invalid(error.to_string()) } else { Problem::Json(error.to_string()) }
}

/// A small body, whole.
pub(super) async fn small<T: DeserializeOwned>(mut arriving: Arriving, max: u64) -> Result<T, Problem> {
    let mut json = Vec::new();
    while let Some(bytes) = arriving.next().await? {
        json.extend_from_slice(&bytes);
        if json.len() as u64 > max {
            return Err(Problem::TooLarge(max));
        }
    }
    serde_json::from_slice(&json).map_err(|error| unread(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(chunk: &str) -> Result<(Said, Vec<u8>), Problem> {
        let json = format!(
            r#"{{"recordingId":"rec_1","participantId":"ann","chunk":"{chunk}","type":"video","timestamp":5,"sequence":7}}"#
        );
        decode(Whole::Memory(json.into_bytes()))
    }

    #[test]
    fn a_chunk_is_strict_base64() {
        assert_eq!(decoded("aGk=").unwrap().1, b"hi");
        assert_eq!(decoded("\\/\\/\\/\\/").unwrap().1, [0xff; 3], "escaped slashes are JSON");
        for bad in ["aGk", "aGl=", "aGk=\\n", " aGk=", "_-_-", "data:video/webm;base64,aGk="] {
            assert!(matches!(decoded(bad), Err(Problem::NotBase64)), "{bad}");
        }
    }

    #[test]
    fn a_sequence_in_json_is_a_whole_number() {
        let (said, _) = decoded("aGk=").unwrap();
        assert_eq!((said.sequence().unwrap(), said.timestamp_ms().unwrap()), (7, Some(5)));
        for bad in ["-1", "1.5", "1048576"] {
            let said = Said { sequence: serde_json::from_str(bad).unwrap(), ..decoded("aGk=").unwrap().0 };
            assert!(said.sequence().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_largest_chunk_fits_in_the_largest_body() {
        assert!(max_bytes(10) > STANDARD.encode([0; 10]).len() as u64);
    }
}
