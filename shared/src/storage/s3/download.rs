//! Bytes on their way out of a bucket. A connection that ends early is made again from where it ended.

use std::io::{self, ErrorKind};
use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;

use super::failure::{failure, status};
use super::{S3Storage, size};
use crate::storage::StorageError;
use crate::storage::ranges::content_range;

/// How often in a row a download may be taken up again without a byte gained.
const FRUITLESS_MAX: u32 = 5;

/// A range of an object that is being read.
pub(super) struct Reading {
    storage: S3Storage,
    key: String,
    body: Body,
    /// Of the version that is read.
    etag: Option<String>,
    at: u64,
    end: u64,
    fruitless: u32,
}

impl Reading {
    /// Asks for a range; `None` when it begins behind the end, as every range of an empty object does.
    pub(super) async fn begin(
        storage: &S3Storage,
        key: &str,
        range: &Range<u64>,
    ) -> Result<Option<Self>, StorageError> {
        let get = storage.client.get_object().bucket(storage.bucket()).key(key);
        let found = match get.range(asked(range)).send().await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(416) => return Ok(None),
            Err(error) => return Err(failure(&error, storage.bucket(), key)),
        };
        let answered = answered(&found).filter(|found| found.start == range.start && found.end <= range.end);
        let Some(Range { end, .. }) = answered else {
            return Err(StorageError::unavailable("another range was answered than was asked for"));
        };
        let (storage, key, etag) = (storage.clone(), key.to_owned(), found.e_tag);
        Ok(Some(Self { storage, key, body: found.body, etag, at: range.start, end, fruitless: 0 }))
    }

    /// The next bytes. At the end the body is asked once more: the SDK then tells if a checksum that came along is another.
    pub(super) async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            match self.body.next().await {
                Some(Ok(block)) if self.at + block.len() as u64 > self.end => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "more came than was asked for"));
                }
                Some(Ok(block)) => {
                    self.at += block.len() as u64;
                    self.fruitless = 0;
                    return Ok(Some((block, self)));
                }
                None if self.at == self.end => return Ok(None),
                Some(Err(error)) if self.at == self.end => return Err(io::Error::other(error)),
                None => self.resume("it ended early".to_owned()).await?,
                Some(Err(error)) => self.resume(error.to_string()).await?,
            }
        }
    }

    /// Asks for the rest, which must be of the same version.
    async fn resume(&mut self, reason: String) -> io::Result<()> {
        self.fruitless += 1;
        if self.fruitless > FRUITLESS_MAX || self.etag.is_none() {
            return Err(io::Error::new(ErrorKind::ConnectionAborted, reason));
        }
        let replaced = || io::Error::new(ErrorKind::InvalidData, "the object was replaced while it was read");
        let rest = self.at..self.end;
        let get = self.storage.client.get_object().bucket(self.storage.bucket()).key(&self.key);
        match get.range(asked(&rest)).set_if_match(self.etag.clone()).send().await {
            Ok(found) if answered(&found) == Some(rest) && found.e_tag == self.etag => {
                self.body = found.body;
                Ok(())
            }
            Ok(_) => Err(replaced()),
            Err(error) if status(&error) == Some(412) => Err(replaced()),
            Err(error) => Err(io::Error::other(failure(&error, self.storage.bucket(), &self.key))),
        }
    }
}

fn asked(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// Which bytes an answer has; without a range, all of them.
fn answered(found: &GetObjectOutput) -> Option<Range<u64>> {
    match found.content_range() {
        Some(range) => content_range(range),
        None => Some(0..size(found.content_length())),
    }
}
