//! The capture's disk goes below its reserve: chunks and new recordings are refused with 507, clients keep what they have, and
//! when there is room again nothing is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use e2e::client::TrackKind;
use e2e::fixtures::Fixture;
use e2e::program::{command, output};
use serde_json::json;
use tempfile::TempDir;

use crate::moments::until;
use crate::result::assert_whole;
use crate::uploads::{self, Acks};
use crate::workshop::{Workshop, dismiss};

const MIB: usize = 1 << 20;
/// What the reserve leaves to recordings: some fixtures.
const ROOM: usize = 32 * MIB;

/// A disk in memory: of the test's own when it may mount one, else a folder in the machine's.
struct Disk {
    folder: TempDir,
    is_mounted: bool,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("callreel-disk-")
            .tempdir_in("/dev/shm")
            .expect("memory has room");
        let mount =
            output(command("mount").args(["-t", "tmpfs", "-o", "size=128m", "callreel"]).arg(folder.path()));
        Self { is_mounted: mount.ok, folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn free(&self) -> usize {
        let told =
            output(command("stat").args(["--file-system", "--format", "%a %S"]).arg(self.path())).stdout;
        told.split_whitespace().map(|number| number.parse::<usize>().expect("stat prints numbers")).product()
    }

    /// Takes all that the reserve leaves, and as much again.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("somebody-else's");
        fs::write(&path, vec![0; 2 * ROOM]).expect("the disk has as much again");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = output(command("umount").arg("--lazy").arg(self.path()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_chunks_and_loses_none() {
    let disk = Disk::new();
    let (capture, reserve) = (disk.path().join("capture"), (disk.free() - ROOM).to_string());
    let settings = [("CAPTURE_DIR", capture.to_str().unwrap()), ("DISK_RESERVE", &reserve)];
    let workshop = Workshop::open(&settings).await;
    let (client, fixture) = (workshop.system.client("ann"), Arc::new(Fixture::load("chrome-webm-vp8")));
    let recording = client.record(json!({})).await;
    let _ = client.get("/readyz").await.expect(200);
    for (n, blob) in (0..5).zip(&fixture.blobs) {
        let _ =
            client.put_chunk(&recording, TrackKind::Video, n, &fixture.mime, blob.clone()).await.expect(201);
    }

    let full = disk.fill();
    until("the edge to see it", async || (client.get("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(client.get("/readyz").await.code(), "not-ready");
    let refused =
        client.put_chunk(&recording, TrackKind::Video, 5, &fixture.mime, fixture.blobs[5].clone()).await;
    assert_eq!(refused.expect(507).code(), "disk-full");
    let call = client.create_call(&[]).await;
    let refused = client.post(&format!("/video-calls/{call}/recording/start"), &json!({})).await;
    assert_eq!(refused.expect(507).code(), "disk-full");

    let acks = Arc::new(Acks::new());
    let (uploader, to, what, noted) =
        (client.clone(), recording.clone(), Arc::clone(&fixture), Arc::clone(&acks));
    let uploading = tokio::spawn(async move {
        uploads::upload(&uploader, &to, TrackKind::Video, &what, &noted, None).await;
    });
    until("the client to be refused", async || acks.statuses().contains_key(&507).then_some(())).await;
    fs::remove_file(full).unwrap();
    uploading.await.unwrap();
    uploads::stop(&client, &recording).await;
    let worker = workshop.worker("", &[]).await;
    client.wait_final(&recording).await;
    assert_whole(&workshop.system, &client, &recording, &[("ann", &fixture)]).await;
    dismiss([worker]).await;
}
