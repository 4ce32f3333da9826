//! Who is tried: how a provider is started, and what it is like when it is reached wrongly.

use std::any::Any;

use e2e::fake_gcs::FakeGcs;
use e2e::gcs::Gcs;
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
    /// Whether it tells of uploads that are not finished; else it ends them by itself.
    pub(crate) tells_unfinished: bool,
    /// Whether it is no more than an emulator, which forgets the content type of what is put at once, and sessions whose
    /// connection breaks.
    pub(crate) is_emulator: bool,
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
    Provider {
        storage,
        wrong_credentials: None,
        wrong_bucket: None,
        tells_unfinished: true,
        is_emulator: false,
        _server: Box::new(folder),
    }
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
        tells_unfinished: true,
        is_emulator: false,
        _server: Box::new(server),
    }
}

pub(crate) async fn gcs() -> Provider {
    let server = Gcs::start().await;
    let with = async |name, value: &str| open(server.settings(&[(name, value)])).await;
    Provider {
        storage: open(server.settings(&[])).await,
        wrong_credentials: Some(with("RECORDING_GCS_CREDENTIALS", &Gcs::wrong_key()).await),
        wrong_bucket: Some(with("RECORDING_GCS_BUCKET", "nowhere").await),
        tells_unfinished: false,
        is_emulator: false,
        _server: Box::new(server),
    }
}

/// A program of others, which asks nobody for credentials.
pub(crate) async fn gcs_emulator() -> Provider {
    let server = FakeGcs::start().await;
    Provider {
        storage: open(server.settings(&[])).await,
        wrong_credentials: None,
        wrong_bucket: Some(open(server.settings(&[("RECORDING_GCS_BUCKET", "nowhere")])).await),
        tells_unfinished: false,
        is_emulator: true,
        _server: Box::new(server),
    }
}
