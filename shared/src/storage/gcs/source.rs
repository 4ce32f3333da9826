//! The file that is sent: a range of it as it goes out, and its checksum up to where it has gone.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use google_cloud_storage::streaming_source::{Seek, SizeHint, StreamingSource};
use reqwest::Body;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;
use tokio_util::io::ReaderStream;

/// Read from the file at once.
pub(super) const BLOCK: usize = 128 * 1024;

/// A file, and the CRC-32C of its beginning.
pub(super) struct Source<'a> {
    path: &'a Path,
    upto: u64,
    crc: u32,
}

impl<'a> Source<'a> {
    pub(super) fn of(path: &'a Path) -> Self {
        Self { path, upto: 0, crc: 0 }
    }

    /// The checksum of the file up to `end`, where it has been read or further.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub(super) async fn read_until(&mut self, end: u64) -> io::Result<u32> {
        if self.upto < end {
            let (path, range, crc) = (self.path.to_owned(), self.upto..end, self.crc);
            let read = tokio::task::spawn_blocking(move || crc32c_of_file(&path, range, crc));
            self.crc = read.await.map_err(io::Error::other)??;
            self.upto = end;
        }
        Ok(self.crc)
    }

    /// A range of it, read as it goes out, and a signal for each piece that the network takes.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) async fn body(&self, range: &Range<u64>) -> io::Result<(Body, watch::Receiver<()>)> {
        let (moving, moved) = watch::channel(());
        let mut file = tokio::fs::File::open(self.path).await?;
        file.seek(SeekFrom::Start(range.start)).await?;
        let blocks = ReaderStream::with_capacity(file.take(range.end - range.start), BLOCK);
        Ok((Body::wrap_stream(blocks.inspect(move |_| moving.send_modify(|()| {}))), moved))
    }
}

/// Bytes for Google's own client, which tell of each piece that it takes.
pub(super) struct Told {
    bytes: Bytes,
    at: usize,
    moving: watch::Sender<()>,
}

impl Told {
    pub(super) fn of(bytes: Bytes) -> (Self, watch::Receiver<()>) {
        let (moving, moved) = watch::channel(());
        (Self { bytes, at: 0, moving }, moved)
    }
}

impl StreamingSource for Told {
    type Error = Infallible;

    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        self.moving.send_modify(|()| {});
        let piece = self.bytes.slice(self.at..self.bytes.len().min(self.at + BLOCK));
        self.at += piece.len();
        (!piece.is_empty()).then_some(Ok(piece))
    }

    async fn size_hint(&self) -> Result<SizeHint, Infallible> {
        Ok(SizeHint::with_exact(self.bytes.len() as u64))
    }
}

impl Seek for Told {
    type Error = Infallible;

    async fn seek(&mut self, offset: u64) -> Result<(), Infallible> {
        self.at = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        Ok(())
    }
}

/// Blocks.
fn crc32c_of_file(path: &Path, range: Range<u64>, before: u32) -> io::Result<u32> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let (mut crc, mut left, mut block) = (before, range.end - range.start, vec![0; BLOCK]);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let part = block.get_mut(..wanted).unwrap_or_default();
        file.read_exact(part)?;
        crc = crc32c::crc32c_append(crc, part);
        left -= wanted as u64;
    }
    Ok(crc)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of parametrised CRC algorithms: of the text `123456789`.
    #[tokio::test]
    async fn a_files_checksum_is_read_once_as_far_as_it_is_asked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"123456789").unwrap();
        let mut source = Source::of(file.path());
        assert_eq!(source.read_until(4).await.unwrap(), crc32c::crc32c(b"1234"));
        assert_eq!(source.read_until(9).await.unwrap(), 0xe306_9283);
        std::fs::write(file.path(), b"").unwrap();
        assert_eq!(source.read_until(9).await.unwrap(), 0xe306_9283);
        let beyond = source.read_until(10).await.unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
