//! An upload in parts that is begun, looked at and given up: what that takes, keys that may put and get objects need not allow.

use std::path::Path;

use futures::TryStreamExt;

use super::S3Storage;
use crate::storage::{Attributes, PutFile, Storage, StorageError};

/// Tries each action that an upload in parts needs beside those of objects.
pub(super) async fn try_parts(storage: &S3Storage, key: &str) -> Result<(), StorageError> {
    let attributes = Attributes::default();
    // No byte is sent, so no file is read.
    let put = PutFile { key, file: Path::new(""), attributes: &attributes, resume: None };
    let upload = storage.begin(&put, 0).await.map_err(named("CreateMultipartUpload"))?;
    let parts = storage.listed_parts(&upload).await.map_err(named("ListParts"));
    let uploads = storage.unfinished(key).try_next().await.map_err(named("ListMultipartUploads"));
    let aborted = storage.abort(&storage.resumption(key, &upload.id)).await;
    parts?;
    uploads?;
    aborted.map_err(named("AbortMultipartUpload"))
}

/// Not every server names the action that it refuses.
fn named(action: &str) -> impl Fn(StorageError) -> StorageError + '_ {
    move |error| match error {
        StorageError::Credentials(why) => StorageError::Credentials(format!("{action}: {why}")),
        StorageError::Refused(why) => StorageError::Refused(format!("{action}: {why}")),
        error => error,
    }
}
