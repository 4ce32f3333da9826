//! Who is tried: how a provider is started, and what it is like when it is reached wrongly.

use e2e::fake_gcs::FakeGcs;
use e2e::gcs::Gcs;
use e2e::seaweed::Seaweed;
use e2e::servers::faults::{Fault, Plan, Refusal};
use e2e::servers::vercel_blob::{StoreSettings, VercelBlobServer};
use futures::TryStreamExt;
use shared::env::Env;
use shared::storage::{SharedStorage, StorageSettings};
use tempfile::TempDir;

/// A provider that is ready, and empty.
pub(crate) struct Provider {
    pub(crate) storage: SharedStorage,
    /// The same with credentials that nobody has given out, where it has any.
    pub(crate) wrong_credentials: Option<SharedStorage>,
    /// The same with a bucket that is not there, where it has any.
    pub(crate) wrong_bucket: Option<SharedStorage>,
    /// Whether it is no more than an emulator, which forgets the content type of what is put at once, and sessions whose
    /// connection breaks.
    pub(crate) is_emulator: bool,
    /// Ends with the test.
    server: Server,
}

/// What a provider is tried on.
#[expect(dead_code, reason = "most are held for no more than to end with the test")]
pub(crate) enum Server {
    Folder(TempDir),
    Seaweed(Seaweed),
    Gcs(Gcs),
    FakeGcs(FakeGcs),
    VercelBlob(VercelBlobServer),
}

impl Provider {
    /// How many uploads are begun and neither finished nor given up, asked of the server where storage itself cannot tell; `None` where
    /// nobody can: of an emulator, and of a service that knows no abort.
    pub(crate) async fn left(&self) -> Option<usize> {
        match &self.server {
            Server::Folder(_) | Server::Seaweed(_) => {
                Some(self.storage.unfinished("").try_collect::<Vec<_>>().await.expect("a list").len())
            }
            Server::Gcs(server) => Some(server.open_sessions()),
            Server::FakeGcs(_) | Server::VercelBlob(_) => None,
        }
    }

    /// No upload is left that somebody would have to give up.
    pub(crate) async fn has_nothing_left(&self) {
        assert!(matches!(self.left().await, None | Some(0)), "{:?} uploads are left", self.left().await);
    }
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
        is_emulator: false,
        server: Server::Folder(folder),
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
        is_emulator: false,
        server: Server::Seaweed(server),
    }
}

pub(crate) async fn gcs() -> Provider {
    let server = Gcs::start().await;
    let with = async |name, value: &str| open(server.settings(&[(name, value)])).await;
    Provider {
        storage: open(server.settings(&[])).await,
        wrong_credentials: Some(with("RECORDING_GCS_CREDENTIALS", &Gcs::wrong_key()).await),
        wrong_bucket: Some(with("RECORDING_GCS_BUCKET", "nowhere").await),
        is_emulator: false,
        server: Server::Gcs(server),
    }
}

/// A program of others, which asks nobody for credentials.
pub(crate) async fn gcs_emulator() -> Provider {
    let server = FakeGcs::start().await;
    Provider {
        storage: open(server.settings(&[])).await,
        wrong_credentials: None,
        wrong_bucket: Some(open(server.settings(&[("RECORDING_GCS_BUCKET", "nowhere")])).await),
        is_emulator: true,
        server: Server::FakeGcs(server),
    }
}

/// A server of the tests' own, which the official client has judged.
pub(crate) async fn vercel_blob() -> Provider {
    vercel_blob_with(Plan::Sound).await
}

/// The same, each of whose answers is torn, an error, or late.
pub(crate) async fn vercel_blob_in_trouble() -> Provider {
    let error = |status, body: &str| Refusal { status, retry_after: None, body: body.to_owned() };
    let unavailable = error(503, r#"{"error": {"code": "service_unavailable", "message": "try again"}}"#);
    let unknown = error(500, r#"{"error": {"code": "unknown_error", "message": "nobody knows"}}"#);
    let first = vec![
        Fault::Torn,
        Fault::Refused(unavailable),
        Fault::Lost(unknown),
        Fault::Refused(error(502, "<html>Bad gateway</html>")),
    ];
    let counted_by = "x-api-blob-request-attempt".to_owned();
    vercel_blob_with(Plan::Each { first, then: Fault::Late { delay_ms: 20 }, counted_by }).await
}

async fn vercel_blob_with(plan: Plan) -> Provider {
    let server = VercelBlobServer::start().await;
    server.faults().set(plan);
    let token = server.token();
    let with = async |token: &str| open(server.settings(&[("BLOB_READ_WRITE_TOKEN", token)])).await;
    Provider {
        storage: with(&token).await,
        wrong_credentials: Some(with(&format!("{token}-wrong")).await),
        wrong_bucket: Some(with(&token.replace(&StoreSettings::default().id, "nowhere")).await),
        is_emulator: false,
        server: Server::VercelBlob(server),
    }
}
