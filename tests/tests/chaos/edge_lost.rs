//! An edge that never comes back: what had reached the spool becomes a file, and a recording of which nothing had fails and says
//! why.

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

    // It does come back in the end, and changes nothing.
    workshop.system.edge.restart().await;
    let told = client.recording(&recording).await;
    let output = Output::of(&client, &told).await;
    let path = &output.only().path;
    let compared = compare(&Reference::of(&fixture).packets, &packets(path, demuxer(path)));
    assert!(compared.mistimed.is_empty() && compared.foreign == 0, "{compared:?}");
    let shipped: usize = fixture.blobs.iter().take(half).map(bytes::Bytes::len).sum();
    assert!(compared.missing.iter().all(|packet| packet.at + packet.size + 64 > shipped), "{compared:?}");
    assert!(compared.kept > 0 && !compared.missing.is_empty(), "{compared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_edge_is_lost_with_all_of_it_fails_and_says_so() {
    let mut workshop = Workshop::open(&[]).await;
    let (client, fixture) = (workshop.system.client("ann"), Fixture::load("chrome-webm-vp8"));
    let recording = client.record(json!({})).await;
    put(&client, &recording, &fixture, 0..3).await;
    workshop.system.edge.kill9();

    overrun(&workshop, &recording).await;
    let worker = workshop.worker("", &[("SWEEP_PATIENCE", "0s")]).await;
    workshop.reaches(&recording, "failed").await;
    dismiss([worker]).await;
    workshop.system.edge.restart().await;
    let told = client.recording(&recording).await;
    assert_eq!((&told["status"], &told["error"]["code"]), (&json!("failed"), &json!("edge-lost")), "{told}");
    let late =
        client.put_chunk(&recording, TrackKind::Video, 3, &fixture.mime, fixture.blobs[3].clone()).await;
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
