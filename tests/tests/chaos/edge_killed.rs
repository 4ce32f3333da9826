//! The edge is killed, or told to end, while clients upload: they go on with the next one, and nothing that was taken is lost.

use std::path::PathBuf;
use std::sync::Arc;

use e2e::client::{Client, Recording, TrackKind};
use e2e::fixtures::Fixture;
use e2e::system::{Folders, System};
use serde_json::json;
use tokio::task::JoinSet;

use crate::moments::{Hold, until};
use crate::result::{assert_tidy, assert_whole};
use crate::seed::Seed;
use crate::uploads::{self, Acks};
use crate::workshop::{Workshop, dismiss};

/// How often the edge dies while chunks come; it dies once more while it seals.
const KILLS: usize = 5;
/// What the clients upload, in turns.
const FIXTURES: [&str; 5] =
    ["chrome-webm-vp8", "chrome-webm-audio", "ff-webm-vp8", "chrome-webm-vp9", "chrome-webm-vp8-pause"];

/// Recordings with the people who upload to each.
struct Party {
    recordings: Vec<(Recording, Vec<Guest>)>,
    acks: Arc<Acks>,
}

#[derive(Clone)]
struct Guest {
    client: Client,
    fixture: Arc<Fixture>,
}

impl Party {
    /// 20 people: 16 alone in a recording, and two recordings with two.
    async fn invite(system: &System) -> Self {
        let fixtures = FIXTURES.map(|name| Arc::new(Fixture::load(name)));
        let guest = |n: usize| Guest {
            client: system.client(&format!("guest-{n:02}")),
            fixture: Arc::clone(&fixtures[n % fixtures.len()]),
        };
        let mut recordings = Vec::new();
        for n in 0..16 {
            let guest = guest(n);
            recordings.push((guest.client.record(json!({})).await, vec![guest]));
        }
        for n in [16, 18] {
            let (host, other) = (guest(n), guest(n + 1));
            let call = host.client.create_call(&[&other.client.user]).await;
            let recording = host.client.start_recording(&call, &json!({})).await;
            recordings.push((recording, vec![host, other]));
        }
        Self { recordings, acks: Arc::new(Acks::new()) }
    }

    /// Everybody uploads; returns who is under way, and how many chunks there are.
    fn upload(&self) -> (JoinSet<()>, usize) {
        let (mut uploads, mut chunks) = (JoinSet::new(), 0);
        for (recording, guests) in &self.recordings {
            for guest in guests {
                let (recording, guest, acks) = (recording.clone(), guest.clone(), Arc::clone(&self.acks));
                chunks += guest.fixture.blobs.len();
                uploads.spawn(async move {
                    let Guest { client, fixture } = guest;
                    uploads::upload(&client, &recording, TrackKind::Video, &fixture, &acks, None).await;
                });
            }
        }
        (uploads, chunks)
    }

    async fn stop(&self) {
        for (recording, guests) in &self.recordings {
            uploads::stop(&guests[0].client, recording).await;
        }
    }

    async fn assert_whole(&self, system: &System) {
        for (recording, guests) in &self.recordings {
            guests[0].client.wait_final(recording).await;
            let people: Vec<(&str, &Fixture)> =
                guests.iter().map(|guest| (guest.client.user.as_str(), guest.fixture.as_ref())).collect();
            assert_whole(system, &guests[0].client, recording, &people).await;
        }
    }
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("every chunk is taken in the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_again_and_again_loses_no_chunk_that_it_took() {
    let mut seed = Seed::announced();
    let mut system = System::start().await;
    let party = Party::invite(&system).await;
    let (uploads, chunks) = party.upload();
    for at in seed.ascending(KILLS, 1..chunks) {
        party.acks.reach(at.max(party.acks.taken())).await;
        system.edge.kill9();
        system.edge.restart().await;
    }
    all(uploads).await;
    let statuses = party.acks.statuses();
    assert!(statuses.keys().all(|status| matches!(status, 200 | 201 | 503)), "{statuses:?}");

    // Stopped, and dead before it has sealed them.
    party.stop().await;
    system.edge.kill9();
    system.edge.restart().await;
    party.assert_whole(&system).await;
    dismiss(system.workers.drain(..)).await;
    assert_tidy(&system);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_told_to_end_answers_what_it_has_begun() {
    let mut seed = Seed::announced();
    let mut system = System::start().await;
    let party = Party::invite(&system).await;
    let (uploads, chunks) = party.upload();
    for at in seed.ascending(2, 1..chunks / 2) {
        party.acks.reach(at.max(party.acks.taken())).await;
        let status = system.edge.term().await;
        assert!(status.success(), "{status}\n{}", system.edge.program().log());
        system.edge.restart().await;
    }
    all(uploads).await;
    let statuses = party.acks.statuses();
    // Whoever has had a 201 does not ask again, and what was taken was answered: nothing is there already.
    assert_eq!(statuses.get(&200), None, "a chunk was taken and its answer lost: {statuses:?}");
    assert!(statuses.keys().all(|status| matches!(status, 201 | 503)), "{statuses:?}");
    party.stop().await;
    party.assert_whole(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_killed_between_shipping_and_sealing_seals_at_its_next_start() {
    let mut workshop = Workshop::open(&[]).await;
    let (client, fixture) = (workshop.system.client("ann"), Fixture::load("chrome-webm-vp8"));
    let recording = client.record(json!({})).await;
    client.upload(&recording, TrackKind::Video, &fixture).await;
    // The seal writes the tracks' facts first, when everything is in the spool.
    let mut tracks = Hold::with(&workshop.url, "lock table track in share mode").await;
    client.stop(&recording).await;
    let is_segment = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "seg");
    let segments = |folder: PathBuf| Folders::files(&folder).into_iter().filter(is_segment).count();
    let (capture, spool) = (workshop.system.folders.capture(), workshop.system.folders.spool());
    let is_shipped = || segments(capture.clone()) == 0 && segments(spool.clone()) > 0;
    until("all to be in the spool", async || is_shipped().then_some(())).await;
    until("the seal to be under way", async || (tracks.waiting().await > 0).then_some(())).await;
    workshop.system.edge.kill9();
    tracks.release_without_waiters().await;
    assert_eq!(workshop.stage(&recording).await, "stopping");

    workshop.system.edge.restart().await;
    let worker = workshop.worker("", &[]).await;
    workshop.reaches(&recording, "completed").await;
    workshop.all_jobs_end().await;
    dismiss([worker]).await;
    assert_whole(&workshop.system, &client, &recording, &[("ann", &fixture)]).await;
}
