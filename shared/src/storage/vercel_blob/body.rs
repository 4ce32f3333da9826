//! What a call sends: bytes, or a part of a file that is read anew for each attempt.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use reqwest::Body;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

use super::super::StorageError;

/// Read and sent at once; with the parts in flight, the bound of an upload's memory.
const PIECE: usize = 64 * 1024;

/// What is sent.
#[derive(Debug)]
pub(super) enum Payload {
    /// What is in memory anyway.
    Bytes(Bytes),
    /// A part of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Which of its bytes.
        range: Range<u64>,
    },
}

/// A payload on its way.
pub(super) struct Opened {
    pub(super) stream: Body,
    /// Why the stream has ended early, when it was the file.
    pub(super) failure: Failure,
}

/// Where a stream leaves its error: what comes out of the HTTP client no longer tells a bad disk from a bad network.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    pub(super) fn take(&self) -> Option<StorageError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(StorageError::from)
    }

    fn set(&self, error: &io::Error) {
        let copy = io::Error::new(error.kind(), error.to_string());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
    }
}

impl Payload {
    /// How many bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.end - range.start,
        }
    }

    /// A stream from the beginning, and a signal for each piece that the network takes.
    pub(super) async fn open(&self) -> Result<(Opened, watch::Receiver<()>), StorageError> {
        let (moving, moved) = watch::channel(());
        let failure = Failure::default();
        let noted = failure.clone();
        let watched = move |piece: &io::Result<Bytes>| {
            moving.send_replace(());
            if let Err(error) = piece {
                noted.set(error);
            }
        };
        let stream = match self {
            Self::Bytes(bytes) => Body::wrap_stream(pieces(bytes.clone()).inspect(watched)),
            Self::File { path, range } => {
                let mut file = File::open(path).await?;
                file.seek(io::SeekFrom::Start(range.start)).await?;
                Body::wrap_stream(part(file, range.end - range.start).inspect(watched))
            }
        };
        Ok((Opened { stream, failure }, moved))
    }
}

fn pieces(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(bytes, |mut rest| async move {
        let piece = rest.split_to(PIECE.min(rest.len()));
        (!piece.is_empty()).then_some((Ok(piece), rest))
    })
}

/// The next bytes of a file. One that ends before has been changed: an error.
fn part(file: File, size: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, size), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        let wanted = left.min(PIECE as u64);
        let read = (&mut file).take(wanted).read_buf(&mut piece).await?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
        }
        Ok(Some((piece.freeze(), (file, left - read as u64))))
    })
}
