//! What other tests stand on: programs and databases that are ended and started again.

use e2e::client::TrackKind;
use e2e::fixtures::Fixture;
use e2e::output::Output;
use e2e::postgres::OwnPostgres;
use e2e::system::System;
use serde_json::json;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn a_cluster_of_its_own_is_stopped_and_goes_on_with_what_it_held() {
    let mut cluster = OwnPostgres::start().await;
    let url = cluster.url();
    let mut connection = PgConnection::connect(&url).await.expect("the cluster runs");
    let made = sqlx::query("create table kept (n int)").execute(&mut connection).await;
    assert!(made.is_ok(), "{made:?}");
    cluster.stop().await;
    assert!(PgConnection::connect(&url).await.is_err());
    cluster.resume().await;
    let mut connection = PgConnection::connect(&url).await.expect("the cluster runs again");
    let kept: i64 =
        sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await.expect("kept");
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn an_edge_that_was_killed_goes_on_with_its_recordings_on_the_same_port() {
    let mut system = System::start().await;
    let ann = system.client("ann");
    let fixture = Fixture::load("chrome-webm-vp8").first(4);
    let recording = ann.record(json!({ "thumbnails": 0 })).await;
    for sequence in 0..2 {
        let blob = fixture.blobs[sequence].clone();
        let put = ann.put_chunk(&recording, TrackKind::Video, sequence as u64, &fixture.mime, blob).await;
        assert_eq!(put.status, 201);
    }
    system.edge.kill9();
    assert!(!system.edge.program().runs());
    system.edge.restart().await;
    for sequence in 1..4 {
        let blob = fixture.blobs[sequence].clone();
        let put = ann.put_chunk(&recording, TrackKind::Video, sequence as u64, &fixture.mime, blob).await;
        assert_eq!(put.status, if sequence == 1 { 200 } else { 201 }, "{}", put.json());
    }
    ann.complete(&recording, TrackKind::Video, 3).await;
    let done = ann.finish(&recording).await;
    assert_eq!(done["tracks"][0]["gaps"], json!([]));
    assert_eq!(Output::of(&ann, &done).await.media.len(), 1);
}

#[tokio::test]
async fn programs_that_are_asked_to_end_do_and_others_take_their_place() {
    let mut system = System::builder().workers(2).start().await;
    assert!(system.edge.term().await.success());
    for mut worker in system.workers.drain(..) {
        assert!(worker.runs() && worker.peak_memory() > 1 << 20);
        assert!(worker.term().await.success(), "{}", worker.log());
    }
    system.edge.restart().await;
    system.spawn_worker().await;
    let ann = system.client("ann");
    let recording = ann.record(json!({ "thumbnails": 0 })).await;
    ann.upload(&recording, TrackKind::Video, &Fixture::load("ff-webm-vp8").first(2)).await;
    ann.finish(&recording).await;
}
