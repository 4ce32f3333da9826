//! An edge that is given up for lost: what had reached the spool becomes a file, and a recording of which nothing had fails and
//! says why. When the edge comes back after all, the recording is processed again, with all of it.

use e2e::client::{Client, Recording, TrackKind};
use e2e::compare::compare;
use e2e::fixtures::Fixture;
use e2e::output::Output;
use e2e::probe::{Reference, demuxer, packets};
use e2e::system::Folders;
use serde_json::json;
use shared::jobs::{Sweep, enqueue};

use crate::moments::until;
use crate::workshop::{Workshop, dismiss};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_edge_had_shipped_becomes_the_recording() {
    let mut workshop = Workshop::open(&[]).await;
    let (client, fixture) = (workshop.system.client("ann"), Fixture::load("chrome-webm-vp8"));
    let recording = client.record(json!({})).await;
    let half = fixture.blobs.len() / 2;
    put(&client, &recording, &fixture, 0..half).await;
    // The first segment is closed by its age.
    let spooled = workshop.system.folders.spool().join(&recording.id);
    until("a segment in the spool", async || (!Folders::files(&spooled).is_empty()).then_some(())).await;
    put(&client, &recording, &fixture, half..fixture.blobs.len()).await;
    workshop.system.edge.kill9();

    overrun(&workshop, &recording).await;
    let worker = workshop.worker("", &[("SWEEP_PATIENCE", "0s")]).await;
    workshop.reaches(&recording, "completed").await;
    dismiss([worker]).await;

    // It does come back. What there was is shown until all of it is there.
    workshop.system.edge.restart().await;
    workshop.reaches(&recording, "mux").await;
    let shown = client.recording(&recording).await;
    let output = Output::of(&client, &shown).await;
    let path = &output.only().path;
    let compared = compare(&Reference::of(&fixture).packets, &packets(path, demuxer(path)));
    assert!(compared.mistimed.is_empty() && compared.foreign == 0, "{compared:?}");
    let shipped: usize = fixture.blobs.iter().take(half).map(bytes::Bytes::len).sum();
    assert!(compared.missing.iter().all(|packet| packet.at + packet.size + 64 > shipped), "{compared:?}");
    assert!(compared.kept > 0 && !compared.missing.is_empty(), "{compared:?}");
    let worker = workshop.worker("", &[]).await;
    workshop.reaches(&recording, "completed").await;
    dismiss([worker]).await;
    is_whole(&client, &recording, &fixture).await;
    let first = workshop.system.folders.recordings().join(shown["outputPath"].as_str().expect("a key"));
    assert!(!first.exists(), "what was replaced is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_edge_is_lost_with_all_of_it_fails_and_says_so_until_it_comes_back() {
    let mut workshop = Workshop::open(&[]).await;
    let (client, fixture) = (workshop.system.client("ann"), Fixture::load("chrome-webm-vp8"));
    let recording = client.record(json!({})).await;
    put(&client, &recording, &fixture, 0..fixture.blobs.len()).await;
    workshop.system.edge.kill9();

    overrun(&workshop, &recording).await;
    let worker = workshop.worker("", &[("SWEEP_PATIENCE", "0s")]).await;
    workshop.reaches(&recording, "failed").await;
    let code: String = sqlx::query_scalar("select error_code from recording where id = $1")
        .bind(&recording.id)
        .fetch_one(&workshop.system.db)
        .await
        .expect("the recording was made");
    assert_eq!(code, "edge-lost");

    workshop.system.edge.restart().await;
    workshop.reaches(&recording, "completed").await;
    dismiss([worker]).await;
    is_whole(&client, &recording, &fixture).await;
    let late =
        client.put_chunk(&recording, TrackKind::Video, 99, &fixture.mime, fixture.blobs[3].clone()).await;
    assert_eq!(late.expect(409).code(), "recording-not-live");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_recording_that_cannot_be_salvaged_does_not_keep_the_others_waiting() {
    let mut workshop = Workshop::open(&[]).await;
    let client = workshop.system.client("ann");
    let (unreadable, other) = (client.record(json!({})).await, client.record(json!({})).await);
    workshop.system.edge.kill9();
    // A file where the recording's folder ought to be.
    std::fs::write(workshop.system.folders.spool().join(&unreadable.id), "").expect("the spool has room");

    overrun(&workshop, &unreadable).await;
    overrun(&workshop, &other).await;
    let worker = workshop.worker("", &[("SWEEP_PATIENCE", "0s")]).await;
    workshop.reaches(&other, "failed").await;
    dismiss([worker]).await;
    assert_eq!(workshop.stage(&unreadable).await, "recording");
}

/// Every packet that was uploaded is in the file.
async fn is_whole(client: &Client, recording: &Recording, fixture: &Fixture) {
    let told = client.recording(recording).await;
    let output = Output::of(client, &told).await;
    let path = &output.only().path;
    let compared = compare(&Reference::of(fixture).packets, &packets(path, demuxer(path)));
    assert!(compared.missing.is_empty() && compared.mistimed.is_empty(), "{compared:?}");
    assert_eq!(compared.foreign, 0, "{compared:?}");
}

async fn put(client: &Client, recording: &Recording, fixture: &Fixture, blobs: std::ops::Range<usize>) {
    for n in blobs {
        let sent =
            client.put_chunk(recording, TrackKind::Video, n as u64, &fixture.mime, fixture.blobs[n].clone());
        let _ = sent.await.expect(201);
    }
}

/// The recording's deadline was long ago, and the sweeper is due.
async fn overrun(workshop: &Workshop, recording: &Recording) {
    let id = &recording.id;
    workshop
        .run(&format!("update recording set deadline_at = now() - interval '1 hour' where id = '{id}'"))
        .await;
    let mut connection = workshop.system.db.acquire().await.expect("the database runs");
    enqueue(&mut connection, &Sweep {}).await.expect("the database runs");
}
