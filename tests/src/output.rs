//! A recording's files, downloaded as a client does and held against what the API says of them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::Client;

/// All files of a recording.
pub struct Output {
    /// Films and sound, in the API's order.
    pub media: Vec<File>,
    /// Thumbnails, in the API's order.
    pub pictures: Vec<File>,
    _folder: TempDir,
}

/// One of them.
#[derive(Debug)]
pub struct File {
    /// What the API says of it.
    pub told: Value,
    /// Where its bytes are.
    pub path: PathBuf,
}

impl Output {
    /// Downloads every artifact of a recording.
    ///
    /// # Panics
    /// When one is not served, or is not what the API says of it.
    pub async fn of(client: &Client, recording: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder below /tmp");
        let (mut media, mut pictures) = (Vec::new(), Vec::new());
        for (n, told) in recording["artifacts"].as_array().into_iter().flatten().enumerate() {
            let file = fetch(client, told, folder.path(), n).await;
            match told["kind"].as_str() {
                Some("thumbnail") => pictures.push(file),
                _ => media.push(file),
            }
        }
        Self { media, pictures, _folder: folder }
    }

    /// The one film or sound that there is.
    ///
    /// # Panics
    /// When there is none, or there are several.
    #[must_use]
    pub fn only(&self) -> &File {
        let [file] = self.media.as_slice() else { panic!("{} files instead of one", self.media.len()) };
        file
    }
}

async fn fetch(client: &Client, told: &Value, folder: &Path, n: usize) -> File {
    let text = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("no {name} in {told}"));
    let answer = client.get(text("url")).await.expect(200);
    assert_eq!(answer.header("content-type"), text("contentType"), "{told}");
    assert_eq!(Some(answer.body.len() as u64), told["size"].as_u64(), "{told}");
    assert_eq!(hex::encode(Sha256::digest(&answer.body)), text("sha256"), "{told}");
    let path = folder.join(format!("{n}.{}", ending(text("contentType"))));
    std::fs::write(&path, &answer.body).expect("/tmp has room");
    File { told: told.clone(), path }
}

fn ending(content_type: &str) -> &'static str {
    match content_type.split_once('/') {
        Some((_, "mp4")) => "mp4",
        Some((_, "webm")) => "webm",
        Some(("image", _)) => "jpg",
        _ => "mkv",
    }
}
