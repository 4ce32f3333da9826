//! The process itself: how it refuses settings, what it writes to its log, and how it ends.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{SECRET, answer, database, token};

#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn edge(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge"));
    command.env_clear().envs(settings.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn wrong_settings_end_the_start_with_one_line_that_names_them() {
    for (settings, line) in [
        (&[("PORT", "hunter2"), ("DATABASE_URL", "postgres://x"), ("JWT_SECRET", SECRET)][..], "PORT wants"),
        (&[("JWT_SECRET", SECRET)][..], "DATABASE_URL is not set"),
    ] {
        let ended = edge(settings).output().await.unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(78));
        assert!(told.starts_with(line) && told.lines().count() == 1, "{told}");
        assert!(!told.contains("hunter2") && !told.contains(SECRET));
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named_by_its_variable() {
    let (url, folder) = (database().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for name in ["CAPTURE_DIR", "SPOOL_URL", "RECORDING_OUTPUT_DIR"] {
        let mut command =
            edge(&[("PORT", "0"), ("WEBRTC_UDP_PORT", "0"), ("DATABASE_URL", &url), ("JWT_SECRET", SECRET)]);
        command.current_dir(&folder).env(name, &file);
        let ended = command.output().await.unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(78), "{told}");
        assert!(told.starts_with(&format!("{name} wants a folder")) && told.lines().count() == 1, "{told}");
    }
}

#[tokio::test]
async fn a_variable_that_nobody_reads_may_hold_anything() {
    use std::os::unix::ffi::OsStrExt;
    let broken = std::ffi::OsStr::from_bytes(b"\xff");
    for (name, line) in
        [("LC_ODD", "DATABASE_URL is not set"), ("DATABASE_URL", "DATABASE_URL wants text in UTF-8")]
    {
        let ended = edge(&[("JWT_SECRET", SECRET)]).env(name, broken).output().await.unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(78));
        assert!(told.starts_with(line) && told.lines().count() == 1, "{told}");
    }
}

/// An edge that runs as a process, with what it has logged so far.
struct Running {
    process: Child,
    log: BufReader<ChildStdout>,
    seen: String,
    base: String,
}

impl Running {
    async fn start(folder: &Path) -> Self {
        let url = database().await;
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (capture, spool, output) = (at("capture"), at("spool"), at("recordings"));
        let mut process = edge(&[
            ("PORT", "0"),
            ("DATABASE_URL", &url),
            ("JWT_SECRET", SECRET),
            ("CAPTURE_DIR", &capture),
            ("SPOOL_URL", &spool),
            ("RECORDING_OUTPUT_DIR", &output),
            ("DISK_RESERVE", "1MiB"),
            ("WEBRTC_UDP_PORT", "0"),
            ("RUST_LOG", "debug"),
            ("LOG_FORMAT", "json"),
        ])
        .spawn()
        .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut seen = String::new();
        let port = loop {
            let begin = seen.len();
            assert_ne!(log.read_line(&mut seen).await.unwrap(), 0, "{seen}");
            if let Some((_, rest)) = seen[begin..].split_once("listening on http://0.0.0.0:") {
                break rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().to_owned();
            }
        };
        Self { process, log, seen, base: format!("http://127.0.0.1:{port}") }
    }

    /// Asks the process to end, and returns all that it has logged.
    async fn end(mut self) -> String {
        let id = Pid::from_raw(i32::try_from(self.process.id().unwrap()).unwrap());
        kill(id, Signal::SIGTERM).unwrap();
        self.log.read_to_string(&mut self.seen).await.unwrap();
        assert!(self.process.wait().await.unwrap().success(), "{}", self.seen);
        self.seen
    }
}

#[tokio::test]
async fn a_token_in_a_query_is_not_logged_and_a_signal_ends_the_process_well() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Running::start(folder.path()).await;
    let path = "/video-calls/x/recording/rec_01ARZ3NDEKTSV4RRFFQ69G5FAV/download";
    let address = format!("{}{path}?token={}", edge.base, token("ann"));
    assert_eq!(reqwest::get(address).await.unwrap().status(), 404);
    let seen = edge.end().await;
    assert!(seen.contains("/video-calls/{callId}/recording/{recordingId}/download"), "{seen}");
    assert!(seen.contains("rec_01ARZ3NDEKTSV4RRFFQ69G5FAV"), "{seen}");
    assert!(!seen.contains(&token("ann")[..40]) && !seen.contains("token="), "{seen}");
}

#[tokio::test]
async fn what_is_logged_of_a_recording_names_it_and_its_call() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Running::start(folder.path()).await;
    let client = reqwest::Client::new();
    let send = async |method: &str, path: &str, body: Value| {
        let request = client.request(method.parse().unwrap(), format!("{}{path}", edge.base));
        let answer = answer(request.bearer_auth(token("ann")).json(&body)).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer.body["data"].clone()
    };
    let call = send("POST", "/video-calls", json!({})).await["id"].as_str().unwrap().to_owned();
    let started = send("POST", &format!("/video-calls/{call}/recording/start"), json!({})).await;
    let recording = started["id"].as_str().unwrap();
    let track = format!("/video-calls/recording/{recording}/participants/ann/video");
    let put = client.put(format!("{}{track}/chunks/0", edge.base)).bearer_auth(token("ann")).body("x");
    assert_eq!(answer(put).await.status, 201);
    let chunk = json!({ "recordingId": recording, "participantId": "ann", "type": "video", "sequence": 1, "chunk": "aGk=" });
    send("POST", "/video-calls/chunks/upload", chunk).await;
    send("POST", &format!("{track}/complete"), json!({ "lastSequence": 1 })).await;
    send("GET", &format!("/video-calls/recording/{recording}/status"), json!({})).await;
    let seen = edge.end().await;
    let lines: Vec<Value> = seen.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for route in [
        "/video-calls/{callId}/recording/start",
        "/video-calls/recording/{recordingId}/participants/{participantId}/{kind}/chunks/{sequence}",
        "/video-calls/chunks/upload",
        "/video-calls/recording/{recordingId}/participants/{participantId}/{kind}/complete",
        "/video-calls/recording/{recordingId}/status",
    ] {
        let line = lines
            .iter()
            .find(|line| line["http.route"] == route)
            .unwrap_or_else(|| panic!("{route}: {seen}"));
        assert_eq!(
            (&line["span"]["recording.id"], &line["span"]["call.id"]),
            (&json!(recording), &json!(call)),
            "{line}"
        );
    }
}
