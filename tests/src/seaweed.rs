//! A real S3 server of a test's own: SeaweedFS, which `tests/run.sh` installs. It checks signatures, multipart rules and
//! checksums as S3 does.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::json;
use shared::env::Env;
use shared::storage::StorageSettings;
use tempfile::TempDir;

use crate::program::{Program, command, free_port};

/// The one bucket that is there at first.
pub const BUCKET: &str = "recordings";
/// The one user, who may do everything.
const ACCESS_KEY_ID: &str = "callreel";
const SECRET_ACCESS_KEY: &str = "a-secret-of-the-tests";
/// What it listens on; each takes two ports, one for its own protocol.
const PARTS: [&str; 5] = ["master", "volume", "filer", "s3", "admin"];

/// A running server.
pub struct Seaweed {
    folder: TempDir,
    port: u16,
    /// What it makes below /tmp, and leaves there when it is killed.
    sockets: Vec<PathBuf>,
    server: Option<Program>,
}

impl Seaweed {
    /// Starts it, empty.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub async fn start() -> Self {
        let folder =
            tempfile::Builder::new().prefix("callreel-seaweed-").tempdir().expect("a folder below /tmp");
        let users = json!({ "identities": [{
            "name": "callreel",
            "credentials": [{ "accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY }],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]});
        std::fs::write(folder.path().join("s3.json"), users.to_string()).expect("the folder was just made");
        std::fs::create_dir(folder.path().join("data")).expect("the folder was just made");
        let mut server = Self { folder, port: free_port(), sockets: Vec::new(), server: None };
        server.resume().await;
        server
    }

    /// Starts it again after [`Self::stop`], on the same port and data. Returns when it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn resume(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut weed = command(program());
        weed.args([
            "-logtostderr=true",
            "mini",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
        ]);
        weed.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false", "-webdav=false"]);
        weed.args([format!("-bucket={BUCKET}").as_str(), "-s3.autoCreateBucket=false"]);
        weed.arg(format!("-dir={}", path("data"))).arg(format!("-s3.config={}", path("s3.json")));
        weed.arg(format!("-s3.localSocket={}", path("s3.sock")));
        weed.arg(format!("-filer.localSocket={}", path("filer.sock")));
        for part in PARTS {
            let port = if part == "s3" { self.port } else { free_port() };
            let inner_port = free_port();
            weed.arg(format!("-{part}.port={port}")).arg(format!("-{part}.port.grpc={inner_port}"));
            self.sockets.push(format!("/tmp/seaweedfs-{part}-grpc-{inner_port}.sock").into());
        }
        let mut server = Program::spawn("seaweedfs", weed.current_dir(self.folder.path()));
        server.line_with("running and ready to use").await;
        self.server = Some(server);
    }

    /// Ends it; what was stored stays.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.term().await;
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where it is reached.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The variables by which edge and worker use it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("RECORDING_STORAGE_PROVIDER", "s3".to_owned()),
            ("RECORDING_S3_ENDPOINT", self.endpoint()),
            ("RECORDING_S3_BUCKET", BUCKET.to_owned()),
            ("RECORDING_S3_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
            ("RECORDING_S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ]
    }

    /// The variables by which edge and worker use it as their backup.
    #[must_use]
    pub fn backup_variables(&self) -> [(&'static str, String); 5] {
        [
            ("RECORDING_STORAGE_BACKUP_PROVIDER", "s3".to_owned()),
            ("RECORDING_STORAGE_BACKUP_S3_ENDPOINT", self.endpoint()),
            ("RECORDING_STORAGE_BACKUP_S3_BUCKET", BUCKET.to_owned()),
            ("RECORDING_STORAGE_BACKUP_S3_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
            ("RECORDING_STORAGE_BACKUP_S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ]
    }

    /// Its settings, with some variables set otherwise.
    ///
    /// # Panics
    /// When they are wrong.
    #[must_use]
    pub fn settings(&self, other: &[(&'static str, &str)]) -> StorageSettings {
        let other = other.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let env = Env::from_pairs(self.variables().into_iter().chain(other));
        StorageSettings::from_env(&env).expect("settings of the test's own")
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        // Killed, as it ends by itself only when every client's connection has: nobody needs its data any more.
        self.server.take();
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/python/bin/weed");
    assert!(program.is_file(), "{} is not there: tests/run.sh storage installs it", program.display());
    program
}
