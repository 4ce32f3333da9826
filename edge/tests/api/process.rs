//! The process itself: how it refuses settings, what it writes to its log, and how it ends.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::support::{SECRET, database, token};

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
        assert_eq!(ended.status.code(), Some(2));
        assert!(told.starts_with(line) && told.lines().count() == 1, "{told}");
        assert!(!told.contains("hunter2") && !told.contains(SECRET));
    }
}

#[tokio::test]
async fn a_token_in_a_query_is_not_logged_and_a_signal_ends_the_process_well() {
    let (url, folder) = (database().await, tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (capture, spool, output) = (at("capture"), at("spool"), at("recordings"));
    let mut process = edge(&[
        ("PORT", "0"),
        ("WEBRTC_UDP_PORT", "0"),
        ("DATABASE_URL", &url),
        ("JWT_SECRET", SECRET),
        ("CAPTURE_DIR", &capture),
        ("SPOOL_URL", &spool),
        ("RECORDING_OUTPUT_DIR", &output),
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
    let path = "/video-calls/x/recording/rec_01ARZ3NDEKTSV4RRFFQ69G5FAV/download";
    let address = format!("http://127.0.0.1:{port}{path}?token={}", token("ann"));
    assert_eq!(reqwest::get(address).await.unwrap().status(), 404);
    let id = Pid::from_raw(i32::try_from(process.id().unwrap()).unwrap());
    kill(id, Signal::SIGTERM).unwrap();
    log.read_to_string(&mut seen).await.unwrap();
    assert!(process.wait().await.unwrap().success(), "{seen}");
    assert!(seen.contains("/video-calls/{callId}/recording/{recordingId}/download"), "{seen}");
    assert!(seen.contains("rec_01ARZ3NDEKTSV4RRFFQ69G5FAV"), "{seen}");
    assert!(!seen.contains(&token("ann")[..40]) && !seen.contains("token="), "{seen}");
}
