//! Who is tried: how a provider is started, and what it is like when it is reached wrongly.

use std::any::Any;

use e2e::seaweed::Seaweed;
use shared::env::Env;
use shared::storage::{SharedStorage, StorageSettings};

/// A provider that is ready, and empty.
pub(crate) struct Provider {
    pub(crate) storage: SharedStorage,
    /// The same with credentials that nobody has given out, where it has any.
    pub(crate) wrong_credentials: Option<SharedStorage>,
    /// The same with a bucket that is not there, where it has any.
    pub(crate) wrong_bucket: Option<SharedStorage>,
    /// Ends with the test.
    _server: Box<dyn Any + Send + Sync>,
}

async fn open(settings: StorageSettings) -> SharedStorage {
    settings.open().await.expect("storage opens")
}

pub(crate) async fn local() -> Provider {
    let folder = tempfile::Builder::new().prefix("callreel-storage-").tempdir().expect("a folder below /tmp");
    let env = Env::from_pairs([("RECORDING_OUTPUT_DIR", folder.path())]);
    let storage = open(StorageSettings::from_env(&env).expect("a folder")).await;
    Provider { storage, wrong_credentials: None, wrong_bucket: None, _server: Box::new(folder) }
}

pub(crate) async fn s3() -> Provider {
    seaweed(&[]).await
}

/// As vendors are reached that know no CRC-64/NVME.
pub(crate) async fn s3_without_checksums() -> Provider {
    seaweed(&[("RECORDING_S3_CHECKSUM", "when-required")]).await
}

async fn seaweed(other: &[(&'static str, &'static str)]) -> Provider {
    let server = Seaweed::start().await;
    let with = async |name, value| open(server.settings(&[other, &[(name, value)]].concat())).await;
    Provider {
        storage: open(server.settings(other)).await,
        wrong_credentials: Some(with("RECORDING_S3_SECRET_ACCESS_KEY", "wrong").await),
        wrong_bucket: Some(with("RECORDING_S3_BUCKET", "nowhere").await),
        _server: Box::new(server),
    }
}
