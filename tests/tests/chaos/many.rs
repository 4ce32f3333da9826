//! Two workers, fifty recordings at once, and workers that are killed and replaced: each recording is completed once.

use std::sync::Arc;

use e2e::client::TrackKind;
use e2e::fixtures::Fixture;
use serde_json::json;
use tokio::task::JoinSet;

use crate::moments::until;
use crate::result::{assert_tidy, assert_whole};
use crate::seed::Seed;
use crate::uploads::{self, Acks};
use crate::workshop::{Workshop, dismiss};

/// How many recordings there are.
const RECORDINGS: usize = 50;
/// How often a worker is killed and replaced.
const KILLS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_recordings_are_completed_once_each_while_workers_are_killed() {
    let mut seed = Seed::announced();
    let workshop = Workshop::open(&[]).await;
    let mut workers = [workshop.worker("", &[]).await, workshop.worker("", &[]).await];
    let fixtures = [Arc::new(Fixture::load("chrome-webm-audio")), Arc::new(Fixture::load("ff-webm-vp8"))];
    let acks = Arc::new(Acks::new());
    let (mut recorded, mut uploads) = (Vec::new(), JoinSet::new());
    for n in 0..RECORDINGS {
        let client = workshop.system.client(&format!("person-{n}"));
        let (recording, fixture) =
            (client.record(json!({})).await, Arc::clone(&fixtures[usize::from(n % 5 == 0)]));
        recorded.push((client.clone(), recording.clone(), Arc::clone(&fixture)));
        let acks = Arc::clone(&acks);
        uploads.spawn(async move {
            uploads::upload(&client, &recording, TrackKind::Video, &fixture, &acks, None).await;
            uploads::stop(&client, &recording).await;
        });
    }
    while let Some(ended) = uploads.join_next().await {
        ended.unwrap();
    }
    for at in seed.ascending(KILLS, 0..RECORDINGS - 10) {
        let at = i64::try_from(at).unwrap();
        let completed = async || (completions(&workshop).await >= at).then_some(());
        until(&format!("{at} recordings to be completed"), completed).await;
        let worker = &mut workers[seed.within(0..2)];
        worker.kill9();
        *worker = workshop.worker("", &[]).await;
    }
    for (_, recording, _) in &recorded {
        workshop.reaches(recording, "completed").await;
    }
    workshop.all_jobs_end().await;
    dismiss(workers).await;
    assert_tidy(&workshop.system);
    for (client, recording, fixture) in &recorded {
        assert_whole(&workshop.system, client, recording, &[(&client.user, fixture)]).await;
    }
}

async fn completions(workshop: &Workshop) -> i64 {
    let count = sqlx::query_scalar("select count(*) from event where type = 'recording.completed'");
    count.fetch_one(&workshop.system.db).await.expect("the database runs")
}
