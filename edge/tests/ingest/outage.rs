//! The database goes away in the middle, and comes back. A server of this test's own is stopped and started for it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{database, start};

/// How long the database is away: ARCHITECTURE's ten seconds.
const AWAY: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_live_recordings_are_taken_while_the_database_is_away() {
    let server = Server::start();
    let url = database(&server.url()).await;
    let edge =
        start(url, std::sync::Arc::new(tempfile::tempdir().unwrap()), &[("RECORDING_FINISH_TIMEOUT", "1s")])
            .await;
    let recording = edge.recording().await;
    let stopped = edge.recording().await;
    recording.put("bob", 0, b"before").await.is(201);
    stopped.put("bob", 0, b"before").await.is(201);
    stopped.stop().await;

    server.control("stop");
    let away = Instant::now();
    let mut sequence = 1;
    while away.elapsed() < AWAY {
        recording.put("bob", sequence, b"while away").await.is(201);
        recording.post("ann", sequence, b"while away").await.is(201);
        recording.status("bob").await.is(200);
        sequence += 1;
    }
    let unknown = edge.again(&recording.call, "rec_01ARZ3NDEKTSV4RRFFQ69G5FAV").put("bob", 0, b"x").await;
    unknown.is_problem(503, "database-unavailable");
    assert!(unknown.head.contains("retry-after"), "{unknown:?}");
    recording.put("eve", 0, b"x").await.is_problem(503, "database-unavailable");
    server.control("start");

    stopped.becomes("processing").await;
    recording.complete("bob", sequence - 1).await.is(200);
    recording.stop().await;
    recording.becomes("processing").await;
    let chunks: i64 =
        sqlx::query_scalar("select chunks from track where recording_id = $1 and participant_id = 'bob'")
            .bind(&recording.id)
            .fetch_one(&edge.db)
            .await
            .unwrap();
    assert_eq!(u64::try_from(chunks).unwrap(), sequence);
}

/// A Postgres of its own, which refuses root and so runs as `postgres` when the test is root.
struct Server {
    folder: PathBuf,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ingest-outage").tempdir().unwrap().keep();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port };
        let data = server.folder.join("data");
        run("chmod", &["777", &server.folder.to_string_lossy()]);
        as_postgres(&format!("{}/initdb -D {} -A trust -U postgres", bin(), data.display()));
        server.control("start");
        server
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn control(&self, verb: &str) {
        let (data, folder) = (self.folder.join("data"), self.folder.display());
        let options = format!("-p {} -k {folder} -c listen_addresses=127.0.0.1", self.port);
        as_postgres(&format!(
            "{}/pg_ctl -D {} -w -m fast -l {folder}/log -o '{options}' {verb}",
            bin(),
            data.display()
        ));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control("stop");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where the server's programs are: Debian keeps them out of the path.
fn bin() -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .max()
        .map_or(".".to_owned(), |path| path.display().to_string())
}

fn as_postgres(command: &str) {
    let uid = std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap();
    match uid {
        0 => run("setpriv", &["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh", "-c", command]),
        _ => run("sh", &["-c", command]),
    }
}

#[expect(clippy::disallowed_methods, reason = "the test starts a server")]
fn run(program: &str, arguments: &[&str]) {
    // A server that inherits a pipe would keep it open for ever.
    let status = std::process::Command::new(program)
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
